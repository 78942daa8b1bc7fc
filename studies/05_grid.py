"""Digits accuracy of nine activations by depth and initialisation, and of five nets of 50 layers.

300 steps of SGD at five or six learning rates, ten seeds each: 92 configurations, which take minutes. The chapter trains
five of them again, with other seeds, at the learning rate that was best here.
"""

from signalprop import activation_choice
from signalprop.data import digits

SEEDS = 10
ACTIVATIONS = ["sigmoid", "tanh", "relu", "leaky", "prelu", "elu", "selu", "gelu", "silu"]
CONFIGURATIONS = [
    {"activation": activation, "init": init, "depth": depth}
    for depth in (5, 10, 20)
    for init in ("default", "xavier", "own")
    for activation in ACTIVATIONS
]
CONFIGURATIONS += [{"activation": a, "init": "he", "depth": depth} for depth in (5, 10, 20) for a in ("gelu", "silu")]
CONFIGURATIONS += [{"activation": a, "init": "own", "depth": 50} for a in ("tanh", "relu", "selu", "gelu")]
CONFIGURATIONS += [{"activation": "gelu", "init": "he", "depth": 50}]
SUBSET = [
    {"activation": activation, "init": init, "depth": 10}
    for activation, init in (("tanh", "default"), ("relu", "default"), ("relu", "own"), ("selu", "xavier"), ("gelu", "he"))
]


def run(configuration, seeds):
    activation, depth = configuration["activation"], configuration["depth"]
    sigma_w2 = activation_choice.SCALES[configuration["init"]](activation)
    lrs = [0.003, 0.01, 0.03, 0.1, 0.3] if depth < 50 else [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03]
    result = activation_choice.trained(activation, sigma_w2, digits(), depth=depth, lrs=lrs, seeds=seeds)
    return {"train": result.best("train"), "test": result.best("test"), "lr": [result.best_lr] * seeds}
