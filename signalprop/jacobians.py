"""The product of Jacobians: what depth (or time) does to a gradient.

An error sent back through many layers, or many time steps, is multiplied by one Jacobian for each. This module
has the scalar chain, the Jacobian of a recurrent net, products of random matrices, and the spread of the
gradient norm in random deep nets.
"""

import math

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import digamma, expit, polygamma
from scipy.stats import binom

from .bands import fit_slope

# --- one unit --------------------------------------------------------------------------------------------


def chain_factor(w, y=1.0):
    """|σ′(w y)·w|: what one step back through a logistic unit multiplies an error by.

    Parameters
    ----------
    w : array_like
        Weight of the connection.
    y : array_like
        Activity that comes in over it.

    Returns
    -------
    ndarray or float
        Shape of `w` and `y` broadcast; no unit [Hochreiter and Schmidhuber 1997, §3.1].
    """
    w, y = np.asarray(w, dtype=float), np.asarray(y, dtype=float)
    out = expit(w * y)
    return (out * (1 - out) * np.abs(w))[()]


def strongest_weight(y=1.0):
    """The weight w > 0 at which `chain_factor` is largest: w = coth(w y/2)/y [ibid., §3.1].

    Raises
    ------
    ValueError
        If y is not a finite positive number.
    """
    if not (math.isfinite(y) and y > 0):
        raise ValueError(f"expected a finite activity y > 0, got {y}")
    # With net = w y the condition is net·tanh(net/2) = 1, whatever y is.
    return brentq(lambda net: net * math.tanh(net / 2) - 1, 1, 2, xtol=1e-14) / y


def latch_slope(w):
    """The slope w(1 − x*²) of x → tanh(w x) at its positive fixed point x*, for w > 1.

    A unit that keeps one bit rests at x*; the slope is what each step multiplies a gradient by there.
    """
    if not (math.isfinite(w) and w > 1):
        raise ValueError(f"expected a finite weight w > 1 (below, 0 is the only fixed point), got {w}")
    # With u = w x the fixed point solves tanh(u)/u = 1/w; u lies below w and above 0.
    u = brentq(lambda u: w * math.tanh(u) - u, math.sqrt(1 - 1 / w) / 2, w, xtol=1e-14)
    return w / math.cosh(u) ** 2


# --- matrices --------------------------------------------------------------------------------------------


def jacobian(W, U, xs, h0):
    """∂h_T/∂h_0 of the recurrent net h_t = tanh(W h_{t−1} + U x_t), t = 1 … T.

    It is J_T ⋯ J_2 J_1 with J_t = diag(1 − h_t²) W: later factors multiply from the left.

    Parameters
    ----------
    W : tensor of shape (n, n)
    U : tensor of shape (n, inputs)
    xs : tensor of shape (T, inputs)
    h0 : tensor of shape (n,)

    Returns
    -------
    tensor of shape (n, n)
        Entry (i, j) is ∂h_T,i/∂h_0,j; the identity for T = 0.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """
    n = h0.shape[0] if h0.ndim == 1 else -1
    if W.shape != (n, n) or U.ndim != 2 or U.shape[0] != n or xs.ndim != 2 or xs.shape[1] != U.shape[1]:
        raise ValueError(
            "expected W (n, n), U (n, inputs), xs (T, inputs) and h0 (n,), got "
            + ", ".join(str(tuple(v.shape)) for v in (W, U, xs, h0))
        )
    h, product = h0, torch.eye(n, dtype=W.dtype, device=W.device)
    for x in xs:
        h = torch.tanh(W @ h + U @ x)
        product = (1 - h**2)[:, None] * (W @ product)
    return product


def gaussian_matrices(count, width, *, generator):
    """Square matrices with independent entries N(0, 1/width): float64, shape (count, width, width)."""
    return torch.randn(count, width, width, generator=generator, dtype=torch.float64) / math.sqrt(width)


def orthogonal_matrices(count, width, *, generator):
    """Random orthogonal matrices (uniform over the group): float64, shape (count, width, width)."""
    q, r = torch.linalg.qr(gaussian_matrices(count, width, generator=generator))
    # Without this the signs that QR picks would make the draw uneven.
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]


def spectral_radius(W):
    """The largest modulus of an eigenvalue of each matrix: shape (..., n, n) to (...)."""
    return torch.linalg.eigvals(W).abs().amax(-1)


def power_norms(W, times):
    """Spectral norms (largest singular values) of the powers W^t.

    Parameters
    ----------
    W : tensor of shape (count, n, n)
    times : sequence of int
        t >= 0, in increasing order.

    Returns
    -------
    ndarray of shape (count, len(times))
    """
    times = list(times)
    if W.ndim != 3 or W.shape[-1] != W.shape[-2]:
        raise ValueError(f"expected matrices of shape (count, n, n), got {tuple(W.shape)}")
    if not times or times[0] < 0 or any(b <= a for a, b in zip(times, times[1:])):
        raise ValueError(f"expected increasing times t >= 0, got {times}")
    power, norms, at = torch.eye(W.shape[-1], dtype=W.dtype).expand_as(W), [], 0
    for t in times:
        for _ in range(t - at):
            power = W @ power
        at = t
        norms.append(torch.linalg.matrix_norm(power, 2))
    return torch.stack(norms, 1).numpy()


def product_singular_values(draw, depth, count, width, *, generator):
    """Singular values of products of `depth` independent random matrices, in decreasing order.

    Parameters
    ----------
    draw : callable
        `gaussian_matrices` or `orthogonal_matrices`.

    Returns
    -------
    ndarray of shape (count, width)
        float64 resolves values down to about 1e-16 of the largest.
    """
    if depth < 1:
        raise ValueError(f"expected depth >= 1, got {depth}")
    product = draw(count, width, generator=generator)
    for _ in range(depth - 1):
        product = draw(count, width, generator=generator) @ product
    return torch.linalg.svdvals(product).numpy()


# --- deep random nets ------------------------------------------------------------------------------------


def log_factor_moments(width):
    """Mean and variance of ln f, where f is one He-scaled ReLU layer's factor of the squared length.

    Each of the n units is active with probability ½, and k active units pass f = (2/n)·χ²_k. So
    E f = 1, Var f = 5/n exactly, and ln f has a mean near −5/(2n) and a variance near 5/n. The sums over k are
    carried out here. A layer with no active unit (probability 2⁻ⁿ) is left out.

    Parameters
    ----------
    width : int
        n >= 2.

    Returns
    -------
    mean, variance : float
    """
    if width < 2:
        raise ValueError(f"expected width >= 2, got {width}")
    k = np.arange(1, width + 1)
    p = binom.pmf(k, width, 0.5)
    p = p / p.sum()
    means = digamma(k / 2) + math.log(4 / width)  # E ln χ²_k = ψ(k/2) + ln 2
    mean = float(p @ means)
    return mean, float(p @ (polygamma(1, k / 2) + means**2)) - mean**2


def decay_rate(norms):
    """Least-squares slope of ln(norm) against the layer, in nats per layer.

    Parameters
    ----------
    norms : array_like of shape (..., layers)
        Gradient norms (not squared) of consecutive layers, in the order of the forward pass.

    Returns
    -------
    ndarray of shape (...), or float
        Positive where the gradient shrinks on its way to the input. A wide random net with a settled variance q
        has −2·decay_rate = ln χ₁, for χ₁ multiplies the *squared* norm.

    Raises
    ------
    ValueError
        If there are fewer than two layers, or a norm is zero, negative or not finite: a straight line through
        ln 0 does not exist, and leaving the layer out would hide a dead one.
    """
    norms = np.asarray(norms, dtype=float)
    if norms.ndim == 0 or norms.shape[-1] < 2:
        raise ValueError(f"expected the norms of at least two layers, got shape {norms.shape}")
    wrong = ~(np.isfinite(norms) & (norms > 0))
    if wrong.any():
        raise ValueError(f"expected finite norms > 0, got {norms[wrong][0]} at index {tuple(map(int, np.argwhere(wrong)[0]))}")
    return fit_slope(np.log(norms))[()]
