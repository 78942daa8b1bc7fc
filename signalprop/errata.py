"""Experiments of well-known teaching material, to be run again with many seeds (the page *Errata of the field*)."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def gradient_curve(nets, *, depth, width=200, sigma_w2=1.0, centred=False, points=256, generator):
    """dy/dx along a line of inputs, for ReLU nets with one input and one output.

    The set-up of notebook 11.1 of *Understanding Deep Learning*, after [Balduzzi et al. 2017]: `points` inputs from
    −2 to 2, weights and biases drawn from N(0, σ_w²/width), those of the first layer too.

    Parameters
    ----------
    nets, depth, width, points : int
        Nets to draw, hidden layers, units in each, inputs.
    sigma_w2 : float
        σ_w²: 1 is Glorot's scale, 2 is He's.
    centred : bool
        Whether each unit's mean over the inputs is taken off before its ReLU, as batch normalisation does. The
        mean counts as a constant: the derivative is that of one input.
    generator : torch.Generator

    Returns
    -------
    ndarray of shape (nets, points)
    """
    spread = math.sqrt(sigma_w2 / width)

    def normal(*shape):
        return spread * torch.randn(nets, *shape, generator=generator, dtype=torch.float64)

    x = -2 + 4 / points * torch.arange(points, dtype=torch.float64)
    h = x.expand(nets, points)[:, :, None].requires_grad_()
    a, fan_in = h, 1
    for _ in range(depth):
        z = a @ normal(fan_in, width) + normal(1, width)
        a, fan_in = torch.relu(z - z.mean(1, keepdim=True).detach() if centred else z), width
    (a @ normal(width, 1)).sum().backward()
    return h.grad[:, :, 0].numpy()


def autocorrelation(curves, lag):
    """How much curves resemble themselves, shifted by `lag` points: near 1 if they are smooth, near 0 if noise.

    Each curve's mean is taken off first: without, any curve that keeps its sign resembles itself.

    Parameters
    ----------
    curves : ndarray of shape (nets, points)
    lag : int

    Returns
    -------
    ndarray of shape (nets,)

    Raises
    ------
    ValueError
        If `lag` is not from 0 to points − 1, or a curve is flat.
    """
    curves = np.asarray(curves, dtype=float)
    if not 0 <= lag < curves.shape[1]:
        raise ValueError(f"expected a lag from 0 to {curves.shape[1] - 1}, got {lag}")
    curves = curves - curves.mean(1, keepdims=True)
    power = (curves**2).sum(1)
    if not (power > 0).all():
        raise ValueError("expected curves that vary: the autocorrelation of a flat one is not defined")
    return (curves[:, : curves.shape[1] - lag] * curves[:, lag:]).sum(1) / power


def shortcut_gradients(nets, *, shortcut, generator):
    """Mean absolute gradient of each weight matrix of tiny GELU nets, with or without shortcut connections.

    The example of chapter 4 of *Build a Large Language Model (From Scratch)*: five linear layers of sizes
    3-3-3-3-3-1 at PyTorch's default initialisation, a GELU after each, the input (1, 0, −1), and the squared
    distance of the output from 0 as the loss. A shortcut adds a layer's input to its output where the sizes agree.

    Returns
    -------
    gradients : ndarray of shape (nets, 5)
    outputs : ndarray of shape (nets,)
    """
    sizes = (3, 3, 3, 3, 3, 1)
    a = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).expand(nets, 1, 3)
    weights = []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        bound = 1 / math.sqrt(fan_in)

        def uniform(*shape):
            return bound * (2 * torch.rand(nets, *shape, generator=generator, dtype=torch.float64) - 1)

        weights.append(uniform(fan_in, fan_out).requires_grad_())
        out = F.gelu(a @ weights[-1] + uniform(1, fan_out))
        a = a + out if shortcut and fan_in == fan_out else out
    a.square().sum().backward()
    return torch.stack([w.grad.abs().mean((1, 2)) for w in weights], 1).numpy(), a.detach()[:, 0, 0].numpy()


def product_logs(products, *, factors=100, size=4, generator):
    """log10 of the largest entry (in absolute value) of products of Gaussian matrices.

    Returns
    -------
    ndarray of shape (products,)
    """
    total, logs = torch.eye(size, dtype=torch.float64).expand(products, size, size), torch.zeros(products, dtype=torch.float64)
    for _ in range(factors):
        total = torch.randn(products, size, size, generator=generator, dtype=torch.float64) @ total
        largest = total.abs().amax((1, 2))
        logs, total = logs + largest.log10(), total / largest[:, None, None]  # so that nothing overflows
    return logs.numpy()


def steps_to_learn(losses, *, window=50, below):
    """The first step after which the mean of the last `window` minibatch losses is below `below`; inf if never.

    Parameters
    ----------
    losses : array of shape (steps, members)

    Returns
    -------
    ndarray of shape (members,)
    """
    losses = np.asarray(losses, dtype=float)
    total = np.cumsum(np.vstack([np.zeros(losses.shape[1]), losses]), axis=0)
    means = (total[window:] - total[:-window]) / window
    learned = means < below
    return np.where(learned.any(0), learned.argmax(0) + window, np.inf)


def always_negative(preactivations):
    """The share of units whose pre-activation is negative for every input: "dead", if a ReLU follows.

    Parameters
    ----------
    preactivations : tensor of shape (members, inputs, units)

    Returns
    -------
    ndarray of shape (members,)
    """
    return (preactivations < 0).all(1).double().mean(-1).numpy()


def mean_correlation(x):
    """The mean cosine between two different inputs of a batch, of shape (members, inputs, units), for each member."""
    unit = F.normalize(x, dim=-1)
    n = x.shape[1]
    return ((unit.sum(1).square().sum(-1) - n) / (n * (n - 1))).numpy()
