"""The networks of the course, as plain `nn.Module`s."""

from collections import OrderedDict

import torch
from torch import nn

from .activations import Elementwise


def init_(layer, sigma_w2=1.0, sigma_b2=0.0, generator=None):
    """Draw W_ij ~ N(0, σ_w²/fan_in) and b_i ~ N(0, σ_b²) in place; returns the layer.

    σ_w² = 1 is Xavier's scale for equal widths, 2 is He's, 1/3 is the variance of PyTorch's default.
    """
    if sigma_w2 < 0 or sigma_b2 < 0:
        raise ValueError(f"expected variances >= 0, got sigma_w2 = {sigma_w2}, sigma_b2 = {sigma_b2}")
    fan_in = layer.weight[0].numel()
    with torch.no_grad():
        layer.weight.normal_(0, (sigma_w2 / fan_in) ** 0.5, generator=generator)
        if layer.bias is not None:
            layer.bias.normal_(0, sigma_b2**0.5, generator=generator)
    return layer


def mlp(sizes, activation, sigma_w2=1.0, sigma_b2=0.0, generator=None, dtype=torch.float64):
    """A fully connected net: linear layers "fc1", "fc2", … with `activation` between them, none after the last.

    Parameters
    ----------
    sizes : sequence of int
        Features of the input, of each hidden layer, and of the output: len(sizes) − 1 linear layers.
    activation : str or callable
        See `signalprop.activations.get`.
    sigma_w2, sigma_b2 : float
        W_ij ~ N(0, sigma_w2/fan_in), b_i ~ N(0, sigma_b2), in every layer.
    generator : torch.Generator, optional
        Where the randomness comes from.

    Returns
    -------
    nn.Sequential
        Maps (batch, sizes[0]) to (batch, sizes[-1]).
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"expected at least two positive sizes, got {list(sizes)}")
    layers = OrderedDict()
    for i, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:]), start=1):
        if i > 1:
            layers[f"phi{i - 1}"] = Elementwise(activation)
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=dtype)
        layers[f"fc{i}"] = init_(layer, sigma_w2, sigma_b2, generator)
    return nn.Sequential(layers)
