"""Small data sets that travel with the course: no downloads, and the same split for everyone."""

from typing import NamedTuple

import torch
from sklearn.datasets import load_digits


class Split(NamedTuple):
    """Training and test set: `x` of shape (n, features), float64; `y` of shape (n,), int64."""

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


CLASSES = 10


def digits(noise_inputs=0, seed=0):
    """scikit-learn's 8×8 handwritten digits: 1,400 for training, 397 for testing, 10 classes.

    Pixels are centred with the training mean of each, then all are divided by one number, so that the mean
    square of the training inputs is 1 (a layer with σ_w² = 1 then starts at q = 1).

    Parameters
    ----------
    noise_inputs : int
        Standard normal inputs appended to the 64 pixels, to make features matter: random features of the
        pixels alone are good enough for a linear read-out.
    seed : int
        Of the split and of the noise.

    Raises
    ------
    ValueError
        If `noise_inputs` is negative.
    """
    if noise_inputs < 0:
        raise ValueError(f"expected noise_inputs >= 0, got {noise_inputs}")
    pixels, labels = load_digits(return_X_y=True)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    x, y = torch.from_numpy(pixels)[order], torch.from_numpy(labels).long()[order]
    train, test = slice(0, 1400), slice(1400, None)
    x = x - x[train].mean(0)
    x = x / x[train].square().mean().sqrt()
    noise = torch.randn(len(x), noise_inputs, generator=generator, dtype=torch.float64)
    x = torch.cat([x, noise], dim=1)
    return Split(x[train], y[train], x[test], y[test])
