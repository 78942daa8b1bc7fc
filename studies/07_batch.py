"""Batch norm and layer norm with minibatches of 2 to 32 inputs: the same number of inputs, so more steps if smaller.

Minibatches of 2 need 3,200 steps: too long for a notebook. ReLU nets at He's scale, four hidden layers of 32 units,
6,400 inputs drawn from the digits, SGD without momentum, the best of five learning rates. Accuracy is taken with the
statistics of the whole training or test set as one batch.
"""

import itertools

from signalprop import normalization
from signalprop.data import digits

SEEDS = 10
LRS = [0.01, 0.03, 0.1, 0.3, 1.0]
CONFIGURATIONS = [
    {"norm": norm, "batch_size": batch_size}
    for norm, batch_size in itertools.product(("batch", "layer"), (2, 4, 8, 16, 32))
]
SUBSET = [{"norm": norm, "batch_size": 32} for norm in ("batch", "layer")]


def run(configuration, seeds):
    """Accuracies at the learning rate with the best median training accuracy, and that rate."""
    norm, size = configuration["norm"], configuration["batch_size"]
    options = dict(steps=6400 // size, batch_size=size, momentum=0.0)
    result = normalization.trained("relu", norm, 4, digits(), lrs=LRS, seeds=seeds, **options)
    return {"train": result.best("train"), "test": result.best("test"), "lr": [result.best_lr] * seeds}
