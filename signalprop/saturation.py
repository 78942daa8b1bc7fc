"""Saturation: how many units sit near a bound of their activation, and what that does to the gradient."""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtr

from . import theory
from .activations import BOUNDS, get
from .bands import fit_slope
from .ensemble import Ensemble, train


def saturated_fraction(a, name, tol=0.05):
    """Share of the entries of `a` that lie within `tol` of a bound of the activation, in [0, 1].

    Parameters
    ----------
    a : Tensor
        Activations (outputs of φ, not pre-activations), any shape with at least one entry.
    name : {"sigmoid", "tanh"}
        Which bounds: (0, 1) or (−1, 1).
    tol : float
        Distance in units of a; above 0 and below half the distance between the bounds.

    Raises
    ------
    ValueError
        If the activation has no bounds, `tol` is out of range, or `a` is empty.
    """
    low, high = _bounds(name, tol)
    if a.numel() == 0:
        raise ValueError(f"expected at least one activation, got shape {tuple(a.shape)}")
    return ((a <= low + tol) | (a >= high - tol)).double().mean().item()


def saturated_share(name, q, tol=0.05):
    """Probability that φ(√q Z), Z ~ N(0, 1), lies within `tol` of a bound: 2Φ(−z₀/√q).

    z₀ is where φ comes within `tol` of its upper bound: ln((1 − tol)/tol) for the sigmoid,
    artanh(1 − tol) for tanh. Both activations are symmetric about the middle of their range.

    Parameters
    ----------
    q : float
        Variance of the pre-activations, >= 0.

    Raises
    ------
    ValueError
        For q < 0, and as in `saturated_fraction`.
    """
    _bounds(name, tol)
    if not q >= 0:
        raise ValueError(f"expected a variance q >= 0, got {q}")
    edge = math.log((1 - tol) / tol) if name == "sigmoid" else math.atanh(1 - tol)
    return float(2 * ndtr(-edge / math.sqrt(q))) if q > 0 else 0.0


def activation_density(name, a, q):
    """Probability density of a = φ(√q Z), Z ~ N(0, 1), at `a` strictly between the bounds of φ.

    Parameters
    ----------
    a : array_like
    q : float
        Variance of the pre-activations, > 0.

    Returns
    -------
    ndarray
        Shape of `a`; integrates to 1 between the bounds.

    Raises
    ------
    ValueError
        If the activation has no bounds, q <= 0, or an entry of `a` is not between the bounds.
    """
    low, high = _bounds(name)
    a = np.asarray(a, dtype=float)
    if not q > 0:
        raise ValueError(f"expected a variance q > 0, got {q}")
    if not ((a > low) & (a < high)).all():
        raise ValueError(f"expected activations between {low} and {high}, got {a.min()} to {a.max()}")
    z, slope = (np.log(a / (1 - a)), a * (1 - a)) if name == "sigmoid" else (np.arctanh(a), 1 - a**2)
    return np.exp(-(z**2) / (2 * q)) / np.sqrt(2 * math.pi * q) / slope


def norm_factor(activation, sigma_w, sigma_b2=0.0):
    """√χ₁ at the fixed point q*: the factor of the gradient *norm* per layer [Schoenholz et al. 2017]."""
    return math.sqrt(theory.chi1_star(activation, sigma_w**2, sigma_b2))


def gradient_profile(activation, sigma_w, depth, sigma_b2=0.0):
    """Mean-field ‖∂L/∂z_l‖ / ‖∂L/∂z_depth‖ (norms) for l = 1 … depth, as an array of shape (depth,).

    For inputs of mean square 1, so that the first layer has q = σ_w² + σ_b². It follows q layer by layer,
    so it also holds before q has settled.
    """
    q = theory.q_trajectory(activation, sigma_w**2, sigma_b2, sigma_w**2 + sigma_b2, depth)
    log_steps = [0.5 * math.log(theory.chi1(activation, sigma_w**2, v)) for v in q[:-1]]
    return np.exp(np.append(np.cumsum(log_steps[::-1])[::-1], 0.0))


class Signal(NamedTuple):
    """What `propagate` measures in nets at initialisation.

    activations : list over layers of tensors (seeds, batch, width)
    grad_norm : array (seeds, depth), ‖∂L/∂z_l‖ (Frobenius norm over the batch)
    """

    activations: list
    grad_norm: np.ndarray


def propagate(activation, sigma_w, *, depth=20, width=200, seeds=20, batch=32, generator):
    """Send Gaussian inputs of mean square 1 through random nets, and a gradient back.

    The nets have `depth` hidden layers of `width` units, no biases, and a random linear read-out whose
    output is the loss.

    Parameters
    ----------
    activation : str or callable
        See `signalprop.activations.get`.
    sigma_w : float
        W_ij ~ N(0, σ_w²/fan_in).
    generator : torch.Generator
        Where the randomness comes from.

    Returns
    -------
    Signal
    """
    net = Ensemble(seeds, [width] * (depth + 1) + [1], activation, sigma_w**2, generator=generator)
    x = torch.randn(seeds, batch, width, generator=generator, dtype=torch.float64)
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    *hidden, output = net.preactivations(x)
    gradients = torch.autograd.grad(output.sum(), hidden)
    grad_norm = torch.stack([torch.linalg.vector_norm(g, dim=(1, 2)) for g in gradients], dim=1).numpy()
    return Signal([get(activation)(z.detach()) for z in hidden], grad_norm)


def measured_factor(grad_norm, first=5):
    """Factor of the gradient norm per layer *towards the input*, one for each seed.

    exp of minus the least-squares slope of ln(norm) over the layers `first` … depth; the first layers are
    left out because q has not settled there.

    Parameters
    ----------
    grad_norm : array (seeds, depth), positive
    """
    return np.exp(-fit_slope(np.log(grad_norm[:, first - 1 :])))


class History(NamedTuple):
    """State of every seed at the steps where `watch_training` looked.

    steps : list of int
    saturated : array (seeds, steps, hidden layers), share of units within 0.05 of a bound
    mean : array (seeds, steps, hidden layers), mean activation
    loss : array (seeds, steps), cross-entropy on all of x, in nats
    accuracy : array (seeds, steps), on all of x
    """

    steps: list
    saturated: np.ndarray
    mean: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray


def watch_training(x, y, *, activation, sigma_w2, depth, steps, lr, width=32, seeds=20, seed=0):
    """Train `seeds` nets with plain SGD (minibatches of 32) and look at their hidden units at each of `steps`.

    Parameters
    ----------
    x, y : tensors of shape (n, in) and (n,)
    activation : {"sigmoid", "tanh"}
    depth : int
        Hidden layers, of `width` units each.
    steps : sequence of int
        When to look, in rising order; 0 is the initial state.
    seed : int
        Of the initial weights and of the minibatches.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If the activation has no bounds, or `steps` does not rise from 0 or above.
    """
    low, high = _bounds(activation)
    steps = list(steps)
    if not steps or steps[0] < 0 or any(b <= a for a, b in zip(steps, steps[1:])):
        raise ValueError(f"expected steps that rise from 0 or above, got {steps}")
    generator = torch.Generator().manual_seed(seed)
    sizes = [x.shape[1], *[width] * depth, int(y.max()) + 1]
    net = Ensemble(seeds, sizes, activation, sigma_w2, generator=generator)
    records, done = [], 0
    for step in steps:
        # Without momentum, training in pieces is training in one go.
        if step > done:
            train(net, x, y, steps=step - done, lr=lr, momentum=0.0, generator=generator)
            done = step
        with torch.no_grad():
            a = [net.activation(z) for z in net.preactivations(x)[:-1]]
            near = [((v <= low + 0.05) | (v >= high - 0.05)).double().mean((1, 2)) for v in a]
            mean = [v.mean((1, 2)) for v in a]
            records.append((torch.stack(near, 1), torch.stack(mean, 1), net.losses(x, y), net.accuracy(x, y)))
    return History(steps, *(torch.stack(column, 1).numpy() for column in zip(*records)))


def trained_accuracy(x, y, *, activation, sigma_w2, sigma_b2, depth, steps=300, lr=0.05, momentum=0.0, seeds=10, seed=0):
    """Training accuracy of nets of width 32 after `steps` SGD steps on minibatches of 32.

    Returns
    -------
    array (seeds,)
        Share of right answers on all of x; a diverged net counts as chance.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [x.shape[1], *[32] * depth, int(y.max()) + 1]
    net = Ensemble(seeds, sizes, activation, sigma_w2, sigma_b2, generator=generator)
    train(net, x, y, steps=steps, lr=lr, momentum=momentum, generator=generator)
    return net.accuracy(x, y).numpy()


def crossing(depths, values, level=0.5):
    """Depth at which `values` first falls through `level`, by linear interpolation between the depths.

    Parameters
    ----------
    depths, values : array_like of shape (n,)
        `depths` in rising order.

    Raises
    ------
    ValueError
        If `values` does not start at or above `level` and fall below it.
    """
    depths, values = np.asarray(depths, dtype=float), np.asarray(values, dtype=float)
    below = np.flatnonzero(values < level)
    if len(below) == 0 or below[0] == 0:
        raise ValueError(f"expected values that start at or above {level} and fall below it, got {values}")
    i = below[0]
    t = (values[i - 1] - level) / (values[i - 1] - values[i])
    return float(depths[i - 1] + t * (depths[i] - depths[i - 1]))


def _bounds(name, tol=0.05):
    if name not in BOUNDS:
        raise ValueError(f"expected a bounded activation ({', '.join(BOUNDS)}), got {name!r}")
    low, high = BOUNDS[name]
    if not 0 < tol < (high - low) / 2:
        raise ValueError(f"expected tol between 0 and {(high - low) / 2} for {name}, got {tol}")
    return low, high
