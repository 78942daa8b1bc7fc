"""Digits accuracy of ReLU and tanh nets of 10 and 20 layers (tanh also of 40) by the scale of their initial weights.

300 steps of SGD at twelve learning rates, ten seeds each: 26 configurations, which take minutes. The chapter trains
five of them again, with other seeds, at the learning rate that was best here.
"""

from signalprop import weight_scale
from signalprop.data import digits

SEEDS = 10
SCALES = {"relu": [1 / 3, 2 / 3, 1.0, 2.0, 4.0, 9.0], "tanh": [1 / 3, 2 / 3, 1.0, 25 / 9, 9.0, 36.0]}  # σ_w²
CONFIGURATIONS = [
    {"activation": activation, "sigma_w2": sigma_w2, "depth": depth}
    for depth in (10, 20)
    for activation in SCALES
    for sigma_w2 in SCALES[activation]
]
CONFIGURATIONS += [{"activation": "tanh", "sigma_w2": sigma_w2, "depth": 40} for sigma_w2 in (1.0, 25 / 9)]
SUBSET = [
    {"activation": activation, "sigma_w2": sigma_w2, "depth": 10}
    for activation, sigma_w2 in (("relu", 1 / 3), ("relu", 2.0), ("relu", 9.0), ("tanh", 1.0), ("tanh", 36.0))
]


def run(configuration, seeds):
    result = weight_scale.trained(
        configuration["activation"], configuration["sigma_w2"], digits(), depth=configuration["depth"], seeds=seeds
    )
    return {"train": result.best("train"), "test": result.best("test"), "lr": [result.best_lr] * seeds}
