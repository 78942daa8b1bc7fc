"""Saturation: how many units sit near a bound of their activation, and what that does to the gradient."""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logit, ndtr

from . import style, theory
from .activations import BOUNDS, near_bound
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
    _bounds(name, tol)
    if a.numel() == 0:
        raise ValueError(f"expected at least one activation, got shape {tuple(a.shape)}")
    return near_bound(a, name, tol).double().mean().item()


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


def activation_shares(name, edges, q):
    """Probability that a = φ(√q Z), Z ~ N(0, 1), falls between each pair of neighbouring edges.

    Parameters
    ----------
    edges : array_like of shape (n + 1,)
        In rising order, between the bounds of φ; a bound itself is allowed.
    q : float
        Variance of the pre-activations, > 0.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If the activation has no bounds, q <= 0, or the edges do not rise between the bounds.
    """
    low, high = _bounds(name)
    edges = np.asarray(edges, dtype=float)
    if not q > 0:
        raise ValueError(f"expected a variance q > 0, got {q}")
    if len(edges) < 2 or edges[0] < low or edges[-1] > high or (np.diff(edges) <= 0).any():
        raise ValueError(f"expected two or more edges that rise between {low} and {high}, got {edges}")
    z = logit(edges) if name == "sigmoid" else logit((edges + 1) / 2) / 2
    return np.diff(ndtr(z / math.sqrt(q)))


def draw_activations(ax, name, a, q):
    """Draw a histogram of the activations `a`, in bins of 0.05, with the theory for z ~ N(0, q).

    The outermost bins, which hold the saturated units, are shaded.

    Parameters
    ----------
    ax : matplotlib Axes
    name : {"sigmoid", "tanh"}
    a : Tensor
        Any shape.
    q : float
        Variance of the pre-activations in theory, > 0.

    Returns
    -------
    Axes
    """
    low, high = _bounds(name)
    edges = np.linspace(low, high, round((high - low) / 0.05) + 1)
    ax.stairs(np.histogram(a, edges)[0] / a.numel(), edges, fill=True, alpha=0.6, label="measured")
    style.theory(ax, (edges[1:] + edges[:-1]) / 2, activation_shares(name, edges, q))
    for start in (low, high - 0.05):
        ax.axvspan(start, start + 0.05, color=style.ORANGE, alpha=0.25, linewidth=0, zorder=0)
    ax.set(xlim=(low, high), xlabel=f"activation {name}(z)", ylabel="share of units per bin of 0.05")
    return ax


def norm_factor(activation, sigma_w, sigma_b2=0.0):
    """√χ₁ at the fixed point q*: the factor of the gradient *norm* per layer [Schoenholz et al. 2017]."""
    return math.sqrt(theory.chi1_star(activation, sigma_w**2, sigma_b2))


def measured_factor(gradient, first=5):
    """Factor of the gradient norm per layer *towards the input*, one for each seed.

    exp of minus the least-squares slope of ln(norm) over the layers `first` … depth; the first layers are
    left out because q has not settled there.

    Parameters
    ----------
    gradient : array (seeds, depth), positive
        *Squared* norms, as `signalprop.ensemble.propagate` returns them.
    """
    return np.exp(-fit_slope(np.log(gradient[:, first - 1 :])) / 2)


class History(NamedTuple):
    """State of every seed at the steps where `watch_training` looked.

    steps : list of int
    saturated : array (seeds, steps, hidden layers), share of units within 0.05 of a bound
    mean : array (seeds, steps, hidden layers), mean activation
    accuracy : array (seeds, steps), on all of x
    """

    steps: list
    saturated: np.ndarray
    mean: np.ndarray
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
    _bounds(activation)
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
            near = [near_bound(v, activation).double().mean((1, 2)) for v in a]
            mean = [v.mean((1, 2)) for v in a]
            records.append((torch.stack(near, 1), torch.stack(mean, 1), net.accuracy(x, y)))
    return History(steps, *(torch.stack(column, 1).numpy() for column in zip(*records)))


def trained_accuracy(x, y, *, activation, sigma_w2, sigma_b2, depth, steps=300, lr=0.05, momentum=0.0, seeds=10, seed=0):
    """Training accuracy of nets of width 32 after `steps` SGD steps on minibatches of 16.

    Returns
    -------
    array (seeds,)
        Share of right answers on all of x; a diverged net counts as chance.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [x.shape[1], *[32] * depth, int(y.max()) + 1]
    net = Ensemble(seeds, sizes, activation, sigma_w2, sigma_b2, generator=generator)
    train(net, x, y, steps=steps, lr=lr, momentum=momentum, batch_size=16, generator=generator)
    return net.accuracy(x, y).numpy()


def _bounds(name, tol=0.05):
    if name not in BOUNDS:
        raise ValueError(f"expected a bounded activation ({', '.join(BOUNDS)}), got {name!r}")
    low, high = BOUNDS[name]
    if not 0 < tol < (high - low) / 2:
        raise ValueError(f"expected tol between 0 and {(high - low) / 2} for {name}, got {tol}")
    return low, high
