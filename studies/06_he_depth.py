"""Which initial weights train a plain deep net: ReLU nets at Xavier's and at He's scale (10, 22 and 30 hidden layers),
and tanh nets with Gaussian and with orthogonal weights (50 hidden layers), each at three or four learning
rates. 30 configurations of ten deep nets take minutes; the chapter trains two nets of two of them again."""

from signalprop.data import digits
from signalprop.initialization import trained_accuracy

SEEDS = 10
CONFIGURATIONS = [
    {"activation": "relu", "init": init, "depth": depth, "width": 64, "lr": lr}
    for depth in (30, 22, 10)
    for init in ("xavier", "he")
    for lr in (0.001, 0.003, 0.01, 0.03)
] + [
    {"activation": "tanh", "init": init, "depth": 50, "width": 32, "lr": lr}
    for init in ("xavier", "orthogonal")
    for lr in (0.0003, 0.001, 0.003)
]
SUBSET = [c for c in CONFIGURATIONS if c["depth"] == 30 and c["lr"] == 0.001]


def run(configuration, seeds):
    return {"accuracy": trained_accuracy(digits(), **configuration, seeds=seeds)}
