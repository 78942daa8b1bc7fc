"""The weight scale: what too small and too large initial weights do to the signal, the gradient and the training."""

import math
from typing import NamedTuple

import numpy as np
import torch

from . import jacobians, theory
from .activations import get
from .ensemble import Ensemble, sweep

# --- PyTorch's default -----------------------------------------------------------------------------------


def default_linear_variance(fan_in):
    """Variance of the weights and biases of a fresh `torch.nn.Linear`: 1/(3 fan_in), so σ_w² = 1/3.

    Both are drawn from U(−1/√fan_in, 1/√fan_in). (In PyTorch's source this is ``kaiming_uniform_(a=√5)``.)

    Raises
    ------
    ValueError
        If fan_in is below 1.
    """
    if not fan_in >= 1:
        raise ValueError(f"expected fan_in >= 1, got {fan_in}")
    return 1 / (3 * fan_in)


def default_relu_q(width):
    """The q at which a ReLU net of PyTorch's default layers settles: 2/(5·width), from its biases alone.

    It solves q = (1/3)(q/2) + 1/(3·width). Without biases q falls to 0.
    """
    return 1.2 * default_linear_variance(width)


def default_ensemble(members, sizes, activation, *, biases=True, generator, dtype=torch.float64):
    """E nets whose layers are drawn as `torch.nn.Linear` draws them.

    Parameters
    ----------
    members, sizes, activation
        As in `signalprop.ensemble.Ensemble`.
    biases : bool
        Draw the biases as PyTorch does; else they start at 0.
    generator : torch.Generator
        Where the randomness comes from.

    Returns
    -------
    Ensemble
    """
    net = Ensemble(members, sizes, activation, 0.0, generator=generator, dtype=dtype)
    with torch.no_grad():
        for weight, bias in zip(net.weights, net.biases):
            bound = math.sqrt(3 * default_linear_variance(weight.shape[-1]))
            weight.uniform_(-bound, bound, generator=generator)
            if biases:
                bias.uniform_(-bound, bound, generator=generator)
    return net


# --- theory ----------------------------------------------------------------------------------------------


def variance_after(depth, sigma_w2, activation, q0=1.0, sigma_b2=0.0):
    """Pre-activation variance after `depth` more layers, from variance q0, in mean-field theory.

    Parameters
    ----------
    depth : int
        0 or more; 0 gives q0.
    sigma_w2, sigma_b2 : float
        W_ij ~ N(0, sigma_w2/fan_in), b_i ~ N(0, sigma_b2).
    activation : str or callable
        See `signalprop.activations.get`.

    Raises
    ------
    ValueError
        If depth, a variance or q0 is negative.
    """
    if depth < 0 or not min(sigma_w2, sigma_b2, q0) >= 0:
        raise ValueError(
            f"expected depth, sigma_w2, sigma_b2 and q0 >= 0, got {depth}, {sigma_w2}, {sigma_b2} and {q0}"
        )
    return float(theory.q_trajectory(activation, sigma_w2, sigma_b2, q0, depth + 1)[-1])


def gradient_factor(activation, sigma_w, sigma_b2=0.0):
    """√χ₁ in the limit of many layers: the factor of the gradient *norm* per layer towards the input.

    Unlike `theory.chi1_star` it also covers nets whose q grows without bound: there χ₁ is taken at q = 1e12.
    """
    q = theory.q_star(activation, sigma_w**2, sigma_b2)
    return math.sqrt(theory.chi1(activation, sigma_w**2, min(q, 1e12)))


def relu_log_step(sigma_w2, width):
    """Mean and variance of ln(‖a_{l+1}‖²/‖a_l‖²) over random ReLU layers without biases, n = width.

    The mean is near ln(σ_w²/2) − 5/(2n), the variance near 5/n; see `jacobians.log_factor_moments`.
    """
    if not sigma_w2 > 0:
        raise ValueError(f"expected sigma_w2 > 0, got {sigma_w2}")
    mean, variance = jacobians.log_factor_moments(width)
    return math.log(sigma_w2 / 2) + mean, variance


# --- random nets -----------------------------------------------------------------------------------------


def log_mean_squares(activation, sigma_w2, *, width, depth, members, generator):
    """ln of the mean square activation in each layer of random nets without biases, one input for each net.

    The weights of a layer are drawn when it is reached and then dropped, so that deep and wide nets fit.

    Returns
    -------
    array (members, depth)
        Of layers 1 … depth; the input has mean square 1. −inf where all units are 0.
    """
    if not (sigma_w2 >= 0 and width >= 1 and depth >= 1 and members >= 1):
        raise ValueError(
            f"expected sigma_w2 >= 0, width, depth and members >= 1, got {sigma_w2}, {width}, {depth} and {members}"
        )
    phi, std = get(activation), math.sqrt(sigma_w2 / width)
    a = torch.randn(members, width, 1, generator=generator, dtype=torch.float64)
    a = a / a.square().mean(1, keepdim=True).sqrt()
    logs = []
    for _ in range(depth):
        a = phi(std * torch.randn(members, width, width, generator=generator, dtype=torch.float64) @ a)
        logs.append(a.square().mean((1, 2)).log())
    return torch.stack(logs, 1).numpy()


class Trace(NamedTuple):
    """What `trace` measures, one column for each layer, the read-out last.

    q : array (members, layers), mean of z² over batch and units
    delta : array (members, layers), norm ‖∂ℒ/∂z_l‖ over batch and units
    weight : array (members, layers), norm ‖∂ℒ/∂W_l‖
    """

    q: np.ndarray
    delta: np.ndarray
    weight: np.ndarray


def trace(net, x):
    """One forward and one backward pass through every member of an ensemble; ℒ is the sum of the outputs.

    Parameters
    ----------
    net : Ensemble
    x : tensor (batch, in) or (members, batch, in)

    Returns
    -------
    Trace
        Norms, not squared.
    """
    z = net.preactivations(x)
    gradients = torch.autograd.grad(z[-1].sum(), [*z, *net.weights])
    # Squares of float32 gradients would underflow long before the gradients do.
    delta, weight = (
        torch.stack([g.double().square().sum((1, 2)).sqrt() for g in part], 1).numpy()
        for part in (gradients[: len(z)], gradients[len(z) :])
    )
    q = torch.stack([v.detach().double().square().mean((1, 2)) for v in z], 1).numpy()
    return Trace(q, delta, weight)


# --- training --------------------------------------------------------------------------------------------

# From far too small for any net to far too large for most.
LRS = [1e-12, 1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]


def trained(activation, sigma_w2, split, *, depth, lrs=LRS, seeds=10, seed=0):
    """Train nets of width 32 that start at one weight scale: 300 steps of SGD on minibatches of 16, momentum 0.9.

    Parameters
    ----------
    activation : str or callable
    sigma_w2 : float
        Weight scale of every layer; biases start at 0.
    split : Split
        From `signalprop.data`.
    depth : int
        Hidden layers.
    lrs : sequence of float
        Every learning rate trains `seeds` nets.
    seed : int
        Of the initial weights and of the minibatches.

    Returns
    -------
    Sweep
    """
    sizes = [split.x.shape[1], *[32] * depth, int(split.y.max()) + 1]
    return sweep(
        lambda members, generator: Ensemble(members, sizes, activation, sigma_w2, generator=generator),
        split, lrs=lrs, seeds=seeds, seed=seed, steps=300, batch_size=16,
    )  # fmt: skip
