"""Plain nets, batch norm, and batch norm with noise behind it, at six learning rates.

Thirty-six configurations of 10 nets each are too many for a notebook. Ten hidden layers of 64 units, Xavier's scale
for the sigmoid and He's for ReLU, 200 steps of SGD without momentum on minibatches of 32 digits.
"""

import itertools

from signalprop import normalization
from signalprop.data import digits

SEEDS = 10
NOISE = {"sigmoid": 0.5, "relu": 0.25}
CONFIGURATIONS = [
    {"activation": activation, "kind": kind, "lr": lr}
    for activation, kind, lr in itertools.product(NOISE, normalization.KINDS, (0.01, 0.03, 0.1, 0.3, 1.0, 3.0))
]
SUBSET = [{"activation": "sigmoid", "kind": kind, "lr": 0.3} for kind in ("plain", "noisy")]


def run(configuration, seeds):
    """Training accuracy, and the step at which the minibatch loss fell below 0.7 nats (201: never)."""
    activation, kind, lr = (configuration[key] for key in ("activation", "kind", "lr"))
    accuracy, steps = normalization.race(kind, activation, lr, digits(), noise=NOISE[activation], seeds=seeds)
    return {"accuracy": accuracy, "steps": steps}
