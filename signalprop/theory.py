"""Mean-field theory of signal propagation in wide random networks.

A layer is z = W a + b, a = φ(z), with W_ij ~ N(0, σ_w²/fan_in) and b_i ~ N(0, σ_b²). In a wide net each
pre-activation z is Gaussian with mean 0 and variance q, and q maps to the next layer's q in closed form
[Poole et al. 2016; Schoenholz et al. 2017].

χ₁ multiplies the *squared* gradient norm per layer. The norm itself is multiplied by √χ₁.
"""

import math

import numpy as np
import torch
from scipy.optimize import brentq

from .activations import get

_EDGE = 12.0  # P(|Z| > 12) is 4e-33
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


def gaussian_mean(f, q=1.0, kinks=()):
    """E f(√q Z) with Z ~ N(0, 1), as a float.

    The line is cut into panels that shrink geometrically towards every kink (and towards 0), with
    Gauss-Legendre nodes in each. A kink therefore never falls between two nodes. Plain Gauss-Hermite
    quadrature with 201 nodes puts a node on the kink at 0 and gives SELU's χ₁ as 1.169 in place of 1.072.

    Parameters
    ----------
    f : callable
        float64 tensor of shape (n,) to tensor of shape (n,).
    q : float
        Variance of the argument, q >= 0.
    kinks : sequence of float
        Points, in units of the argument of f, where f is not smooth.

    Raises
    ------
    ValueError
        If q is negative or not finite.
    """
    if not (q >= 0 and math.isfinite(q)):
        raise ValueError(f"expected a finite variance q >= 0, got {q}")
    scale = math.sqrt(q)
    if scale == 0:  # the limit q → 0: at a kink in 0, the mean of both sides
        return f(torch.tensor([-1e-300, 1e-300], dtype=torch.float64)).mean().item()
    centres = {0.0} | {k / scale for k in kinks if abs(k) < _EDGE * scale}
    steps = _EDGE * 2.0 ** -np.arange(0, 24, 1.0)
    edges = {-_EDGE, _EDGE} | centres
    for c in centres:
        edges |= {e for e in np.concatenate([c - steps, c + steps]) if abs(e) < _EDGE}
    edges = np.array(sorted(edges))
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    z = (middle[:, None] + half[:, None] * _NODES).ravel()
    weights = (half[:, None] * _WEIGHTS).ravel() * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    values = f(torch.from_numpy(scale * z)).detach().numpy()
    return float(np.dot(values, weights))


def q_map(activation, q, sigma_w2, sigma_b2=0.0):
    """The next layer's pre-activation variance: σ_w² E[φ(√q Z)²] + σ_b² [Poole et al. 2016]."""
    phi = get(activation)
    return sigma_w2 * gaussian_mean(lambda z: phi(z) ** 2, q, phi.kinks) + sigma_b2


def q_trajectory(activation, sigma_w2, sigma_b2=0.0, q0=1.0, depth=30):
    """Pre-activation variance of layers 1 to `depth`, as an array of shape (depth,).

    `q0` is the variance of the first layer's pre-activations. Stops growing at 1e300.
    """
    q = [float(q0)]
    while len(q) < depth:
        q.append(min(q_map(activation, q[-1], sigma_w2, sigma_b2), 1e300))
    return np.array(q[:depth])


def q_star(activation, sigma_w2, sigma_b2=0.0, q0=1.0):
    """The variance q* that the layers settle at, started from q0; 0 or inf if they have no other limit.

    The variance map is monotone for the activations of this course, so the layers move from q0 in one
    direction until the first fixed point; it is bracketed on a logarithmic grid and solved with Brent's
    method, which also works on the critical line, where iteration converges only like 1/depth.
    """

    def drift(q):
        return q_map(activation, q, sigma_w2, sigma_b2) - q

    start = drift(q0)
    if abs(start) <= 1e-12 * q0:
        return float(q0)
    factor = 10**0.1 if start > 0 else 10**-0.1
    q = q0
    while 1e-12 < q < 1e12:
        q, previous = q * factor, q
        if drift(q) * start <= 0:
            return float(brentq(drift, *sorted((previous, q)), xtol=1e-15, rtol=1e-12))
    return 0.0 if start < 0 else math.inf


def chi1(activation, sigma_w2, q):
    """χ₁ = σ_w² E[φ′(√q Z)²]: the factor of the *squared* gradient norm per layer.

    [Schoenholz et al. 2017]. At q = 0 this is σ_w² φ′(0)²; at a kink, with the mean of φ′² over both sides.
    """
    phi = get(activation)
    return sigma_w2 * gaussian_mean(lambda z: phi.derivative(z) ** 2, q, phi.kinks)


def chi1_star(activation, sigma_w2, sigma_b2=0.0, q0=1.0):
    """χ₁ at the fixed point q*; see `q_star` and `chi1`."""
    q = q_star(activation, sigma_w2, sigma_b2, q0)
    if not math.isfinite(q):
        raise ValueError(f"q has no finite fixed point from q0 = {q0} at sigma_w2 = {sigma_w2}")
    return chi1(activation, sigma_w2, q)


def depth_scale(chi):
    """ξ = 1/|ln χ₁|: the number of layers in which the squared gradient norm changes by a factor e."""
    if chi <= 0:
        raise ValueError(f"expected chi1 > 0, got {chi}")
    return math.inf if chi == 1 else 1 / abs(math.log(chi))


def gradient_profile(activation, sigma_w2, sigma_b2=0.0, *, depth, q0=None):
    """‖∂ℒ/∂z_l‖²/‖∂ℒ/∂z_L‖² of the layers l = 1 … L, L = depth: *squared* norms, the last entry is 1.

    ‖∂ℒ/∂z_l‖² = χ₁(q_l) ‖∂ℒ/∂z_{l+1}‖² [Schoenholz et al. 2017], along the variances that start at q_1 = q0,
    so it holds before q settles, too. By default q0 = σ_w² + σ_b², as for inputs of mean square 1.
    """
    q = q_trajectory(activation, sigma_w2, sigma_b2, sigma_w2 + sigma_b2 if q0 is None else q0, depth)
    factors = [chi1(activation, sigma_w2, v) for v in q[:-1]]
    return np.append(np.cumprod(factors[::-1])[::-1], 1.0)


def log_gradient_slope(activation, sigma_w2, sigma_b2=0.0, q0=1.0, depth=30, first=1):
    """Least-squares slope of ln‖∂ℒ/∂z_l‖² over the layers l = first … depth, per layer *towards the input*.

    Once q has settled it is ln χ₁: negative where the gradient vanishes. See `gradient_profile`.
    """
    profile = gradient_profile(activation, sigma_w2, sigma_b2, depth=depth, q0=q0)
    return -float(np.polyfit(np.arange(first, depth + 1), np.log(profile[first - 1 :]), 1)[0])


def critical_sigma_w2(activation, sigma_b2=0.0, bracket=(0.05, 200.0)):
    """The σ_w² with χ₁(q*) = 1, where the squared gradient norm is kept [Schoenholz et al. 2017].

    Where q grows without bound, χ₁ is taken at q = 1e12: a ReLU net has no other fixed points than 0, ∞ and,
    at its critical scale, all between.

    Raises
    ------
    ValueError
        If χ₁ − 1 has the same sign at both ends of `bracket`, or jumps over 0 (GELU, SiLU: q repels).
    """

    def excess(sigma_w2):
        q = min(q_star(activation, sigma_w2, sigma_b2), 1e12)
        return chi1(activation, sigma_w2, q) - 1

    low, high = bracket
    if excess(low) * excess(high) > 0:
        raise ValueError(f"chi1 does not cross 1 for sigma_w2 between {low} and {high}")
    critical = float(brentq(excess, low, high, xtol=1e-10))
    if abs(excess(critical)) > 1e-6:
        raise ValueError(f"chi1 does not cross 1, it jumps over it at sigma_w2 = {critical:.4g}")
    return critical
