"""Training accuracy against depth for sigmoid and ReLU nets without a norm, with batch norm and with layer norm.

Five learning rates for every net, up to 40 layers: minutes of computing. Plain fully connected nets of width 32 on
digits, Xavier's scale for the sigmoid and He's for ReLU, 250 steps of SGD with momentum 0.9 on minibatches of 32.
Accuracy is taken with the statistics of the whole training or test set as one batch.
"""

import itertools

from signalprop import normalization
from signalprop.data import digits

SEEDS = 10
LRS = [0.001, 0.005, 0.02, 0.1, 0.5]
CONFIGURATIONS = [
    {"activation": activation, "norm": norm, "depth": depth}
    for activation, norm, depth in itertools.product(normalization.SCALE, (None, "batch", "layer"), (5, 10, 20, 40))
] + [{"activation": "relu", "norm": "rms", "depth": depth} for depth in (5, 10, 20)]
SUBSET = [{"activation": "sigmoid", "norm": norm, "depth": 40} for norm in (None, "batch")]


def run(configuration, seeds):
    """Accuracies at the learning rate with the best median training accuracy, and that rate."""
    activation, norm, depth = (configuration[key] for key in ("activation", "norm", "depth"))
    result = normalization.trained(activation, norm, depth, digits(), lrs=LRS, steps=250, seeds=seeds)
    return {"train": result.best("train"), "test": result.best("test"), "lr": [result.best_lr] * seeds}
