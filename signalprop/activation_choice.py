"""Choosing an activation: what it does to the variance, to the gradient, and to units that die."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import ndtr

from . import theory
from .activations import BOUNDS, Activation, get
from .ensemble import Ensemble, Members, sweep, train

SLOPE = 0.25  # PReLU's initial slope [He et al. 2015]


def prelu(slope):
    """z for z > 0, slope·z below, with a slope that stays fixed: an `Activation`."""
    return Activation("prelu", lambda z: F.leaky_relu(z, slope), (0.0,))


def _get(activation):
    return prelu(SLOPE) if isinstance(activation, str) and activation == "prelu" else get(activation)


# --- scales ----------------------------------------------------------------------------------------------


def _moments(activation):
    phi = _get(activation)
    second = theory.gaussian_mean(lambda z: phi(z) ** 2, 1.0, phi.kinks)
    return phi, second


def preserving_sigma_w2(activation):
    """The σ_w² that keeps E z² = 1 from layer to layer: 1/E[φ(Z)²], Z ~ N(0, 1). He's 2 for ReLU."""
    return 1 / _moments(activation)[1]


def preserving_factor(activation):
    """Factor of the gradient *norm* per layer where E z² = 1 is kept: √(E[φ′(Z)²]/E[φ(Z)²]).

    1 if φ(cz) = cφ(z) for c > 0 (linear, ReLU, leaky ReLU): then φ(z) = zφ′(z), and φ′ depends on the sign alone.
    """
    phi, second = _moments(activation)
    slope = theory.gaussian_mean(lambda z: phi.derivative(z) ** 2, 1.0, phi.kinks)
    return math.sqrt(slope / second)


def q_slope(activation):
    """Slope of the variance map at the fixed point 1 of `preserving_sigma_w2`: E[Z φφ′]/E[φ²].

    A small error in q is multiplied by it in each layer. Below 1 the fixed point attracts, above 1 it repels.
    """
    phi, second = _moments(activation)
    return theory.gaussian_mean(lambda z: z * phi(z) * phi.derivative(z), 1.0, phi.kinks) / second


def own_sigma_w2(activation):
    """The weight scale that fits an activation, by name.

    For the bounded ones (sigmoid, tanh) the critical one, χ₁(q*) = 1. The unbounded ones of this course settle at no
    such point with 0 < q* < ∞: they get the scale that keeps E z² = 1.
    """
    if activation in BOUNDS:
        return theory.critical_sigma_w2(activation)
    return preserving_sigma_w2(activation)


SCALES = {"default": lambda _: 1 / 3, "xavier": lambda _: 1.0, "he": lambda _: 2.0, "own": own_sigma_w2}
"""σ_w² of an activation by the name of an initialisation: PyTorch's default, Xavier's, He's, `own_sigma_w2`."""


def log_growth(activation, sigma_w2, depth):
    """Σ ln χ₁ over the layers 2 … depth, along the variances that start at q = σ_w²: ln(‖δ_1‖²/‖δ_L‖²)."""
    return math.log(theory.gradient_profile(_get(activation), sigma_w2, depth=depth)[0])


# --- untrained nets --------------------------------------------------------------------------------------


class Layer(NamedTuple):
    """What `one_layer` measures, arrays (nets,).

    forward : mean z² behind the layer over mean z² before it
    backward : factor of the gradient *norm*, ‖∂ℒ/∂z_l‖/‖∂ℒ/∂z_{l+1}‖
    """

    forward: np.ndarray
    backward: np.ndarray


def one_layer(activation, sigma_w2, *, width=200, nets=20, batch=32, generator):
    """Send Gaussian pre-activations with E z² = 1 through one layer, and a random gradient back.

    Returns
    -------
    Layer
        float64.
    """
    phi = _get(activation)
    z = torch.randn(nets, batch, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(nets, width, width, generator=generator, dtype=torch.float64) * math.sqrt(sigma_w2 / width)
    behind = torch.randn(nets, batch, width, generator=generator, dtype=torch.float64)
    before = phi.derivative(z) * (behind @ weight)
    forward = (phi(z) @ weight.mT).square().mean((1, 2)) / z.square().mean((1, 2))
    return Layer(forward.numpy(), (before.norm(dim=(1, 2)) / behind.norm(dim=(1, 2))).numpy())


def q_paths(activation, sigma_w2, *, q0=1.0, depth=50, width=128, nets=20, generator):
    """Mean z² of each layer in random nets, each with one Gaussian input of its own: array (nets, depth).

    Parameters
    ----------
    q0 : float
        Mean square of the first layer's pre-activations, the same in every net; > 0.

    Raises
    ------
    ValueError
        If q0 is not positive or depth < 1.
    """
    if not q0 > 0 or depth < 1:
        raise ValueError(f"expected q0 > 0 and depth >= 1, got {q0} and {depth}")
    phi = _get(activation)
    z = torch.randn(nets, 1, width, generator=generator, dtype=torch.float64)
    z *= (q0 / z.square().mean(2, keepdim=True)).sqrt()
    paths = [z.square().mean((1, 2))]
    for _ in range(depth - 1):
        weight = torch.randn(nets, width, width, generator=generator, dtype=torch.float64)
        z = math.sqrt(sigma_w2 / width) * phi(z) @ weight.mT
        paths.append(z.square().mean((1, 2)))
    return torch.stack(paths, 1).numpy()


# --- SELU ------------------------------------------------------------------------------------------------


def selu_constants():
    """(α, λ) of SELU, from its two conditions E φ(Z) = 0 and E φ(Z)² = 1 [Klambauer et al. 2017]."""
    # E[e^{kZ}; Z < 0] = e^{k²/2} Φ(−k).
    one, two = math.exp(0.5) * float(ndtr(-1)), math.exp(2) * float(ndtr(-2))
    alpha = 1 / (math.sqrt(2 * math.pi) * (0.5 - one))
    return alpha, 1 / math.sqrt(0.5 + alpha**2 * (two - 2 * one + 0.5))


def selu_chi1():
    """χ₁ of SELU at q = 1, σ_w² = 1: λ²(½ + α²e²Φ(−2)), the factor of the *squared* gradient norm."""
    alpha, scale = selu_constants()
    return scale**2 * (0.5 + alpha**2 * math.exp(2) * float(ndtr(-2)))


# --- training --------------------------------------------------------------------------------------------


class PReLU(Members):
    """E fully connected nets whose negative slope is learned, one for each hidden layer [He et al. 2015].

    Parameters
    ----------
    members, sizes, sigma_w2, generator
        As in `signalprop.ensemble.Ensemble`; biases start at 0.
    slope : float
        Initial slope.

    Attributes
    ----------
    slopes : Parameter of shape (members, hidden layers)
    """

    def __init__(self, members, sizes, sigma_w2, slope=SLOPE, *, generator):
        super().__init__(members, sizes[-1])
        net = Ensemble(members, sizes, "linear", sigma_w2, generator=generator)
        self.weights, self.biases = net.weights, net.biases
        self.slopes = torch.nn.Parameter(torch.full((members, len(sizes) - 2), slope, dtype=torch.float64))

    def forward(self, x):
        """Logits of shape (members, batch, classes)."""
        a = x.expand(self.members, -1, -1)
        for weight, bias, slope in zip(self.weights, self.biases, self.slopes.unbind(1)):
            z = torch.baddbmm(bias, a, weight.mT)
            a = torch.where(z > 0, z, slope[:, None, None] * z)
        return torch.baddbmm(self.biases[-1], a, self.weights[-1].mT)


def builder(activation, sigma_w2, *, depth, width=32, inputs=64, classes=10):
    """A function ``build(members, generator)`` for `signalprop.ensemble.sweep`.

    `activation` is a name; "prelu" gives nets that learn their slopes.
    """
    sizes = [inputs, *[width] * depth, classes]
    if activation == "prelu":
        return lambda members, generator: PReLU(members, sizes, sigma_w2, generator=generator)
    return lambda members, generator: Ensemble(members, sizes, activation, sigma_w2, generator=generator)


def trained(activation, sigma_w2, split, *, depth, lrs, seeds=10, steps=300, seed=0):
    """Train nets of width 32 with SGD (momentum 0.9, minibatches of 32) at several learning rates: a `Sweep`."""
    build = builder(activation, sigma_w2, depth=depth)
    return sweep(build, split, lrs=lrs, seeds=seeds, seed=seed, steps=steps)


# --- dead units ------------------------------------------------------------------------------------------


def dead_fraction(a):
    """Share of units whose output is 0 for every sample.

    A rectifier that is 0 for one input is at rest; one that is 0 for all of them gets no gradient.

    Parameters
    ----------
    a : tensor of shape (…, batch, units)
        Activations, the outputs of φ.

    Returns
    -------
    float, or array of shape (…) if `a` has leading dimensions

    Raises
    ------
    ValueError
        If `a` has fewer than two dimensions or no entry.
    """
    if a.ndim < 2 or a.numel() == 0:
        raise ValueError(f"expected activations of shape (…, batch, units), got shape {tuple(a.shape)}")
    share = (a == 0).all(-2).double().mean(-1)
    return share.item() if a.ndim == 2 else share.numpy()


def born_dead_probability(width, depth):
    """Probability that a random ReLU net passes nothing on, for one given input: 1 − (1 − 2^−N)^L.

    L hidden ReLU layers of N units, weights symmetric about 0, no biases. Each unit is negative with probability
    ½, so a layer that still gets a signal is all zero with probability 2^−N [Lu et al. 2020, who count the
    read-out as a layer: their exponent is one less than their number of layers].

    Raises
    ------
    ValueError
        If width or depth is below 1.
    """
    if width < 1 or depth < 1:
        raise ValueError(f"expected width >= 1 and depth >= 1, got {width} and {depth}")
    return -math.expm1(depth * math.log1p(-(2.0**-width)))


# Beta(2, 1) has mean ⅔ and mean square ½; with this scale E a² cannot grow: σ²/2 + ⅔σ√(2/π) + ½ = 1.
ASYMMETRIC = math.sqrt(1 + 8 / (9 * math.pi)) - math.sqrt(8 / (9 * math.pi))


def asymmetric(nets, fan_out, fan_in, generator):
    """Randomised asymmetric initialisation [Lu et al. 2020]: weights (nets, out, in) and biases (nets, out, 1).

    Of the fan_in weights and the bias of each unit, one chosen at random is drawn from Beta(2, 1), which is
    positive; the others are N(0, 0.6007²/fan_in).
    """
    v = torch.randn(nets, fan_out, fan_in + 1, generator=generator, dtype=torch.float64) * (ASYMMETRIC / math.sqrt(fan_in))
    which = torch.randint(fan_in + 1, (nets, fan_out, 1), generator=generator)
    # The larger of two uniform numbers is Beta(2, 1).
    positive = torch.rand(nets, fan_out, 2, generator=generator, dtype=torch.float64).amax(2, keepdim=True)
    v.scatter_(2, which, positive)
    return v[..., :-1], v[..., -1:]


def born_dead(x, *, width, depth, nets=3000, init="he", slope=0.0, generator):
    """Which random rectifier nets pass nothing on, and from which layer.

    Parameters
    ----------
    x : tensor of shape (batch, in)
    width, depth : int
        Units of a hidden layer, hidden layers.
    nets : int
        Nets to draw.
    init : {"he", "asymmetric"}
        Gaussian weights of variance 2/fan_in without biases, or `asymmetric`.
    slope : float
        Of the negative side: 0 for ReLU.

    Returns
    -------
    (first, every) : bool arrays (nets, depth)
        Whether, at layer l or before, a layer was all zero for the first input, and for every input of x.

    Raises
    ------
    ValueError
        If `init` is unknown.
    """
    if init not in ("he", "asymmetric"):
        raise ValueError(f"expected init 'he' or 'asymmetric', got {init!r}")
    a = x.to(torch.float64).mT.expand(nets, -1, -1)
    layers = []
    for _ in range(depth):
        fan_in = a.shape[1]
        if init == "he":
            weight = torch.randn(nets, width, fan_in, generator=generator, dtype=torch.float64) * math.sqrt(2 / fan_in)
            bias = 0.0
        else:
            weight, bias = asymmetric(nets, width, fan_in, generator)
        a = F.leaky_relu(weight @ a + bias, slope)
        layers.append((a == 0).all(1))  # (nets, batch)
    dead = torch.stack(layers, 2)
    first = dead[:, 0].cummax(1).values
    return first.numpy(), dead.cummax(2).values.all(1).numpy()


class Hidden(NamedTuple):
    """What `hidden_units` finds over all hidden layers and the training set, arrays (rates, seeds).

    accuracy : share of right answers; a diverged net counts as chance
    dead : share of hidden units that are 0 for every input
    zeros : share of hidden outputs that are 0
    offset : share of the outputs' mean square that is the units' means: Σ (E a)²/Σ E a²
    diverged : bool, whether a logit is not finite. The units of such a net may be NaN: neither 0 nor dead.
    """

    accuracy: np.ndarray
    dead: np.ndarray
    zeros: np.ndarray
    offset: np.ndarray
    diverged: np.ndarray


def hidden_units(activation, split, *, lrs, depth=5, width=32, steps=150, seeds=10, seed=0):
    """Train nets as `trained` does, at the scale of `own_sigma_w2`, and look at their hidden units.

    Parameters
    ----------
    activation : str
        Any but "prelu".
    steps : int
        0 looks at the untrained nets.

    Returns
    -------
    Hidden
    """
    generator = torch.Generator().manual_seed(seed)
    model = builder(activation, own_sigma_w2(activation), depth=depth, width=width)(len(lrs) * seeds, generator)
    if steps:
        rates = torch.tensor(lrs, dtype=torch.float64).repeat_interleave(seeds)
        train(model, split.x, split.y, steps=steps, lr=rates, generator=generator)
    with torch.no_grad():
        *hidden, logits = model.preactivations(split.x)
        a = [model.activation(z) for z in hidden]
        offset = [v.mean(1).square().mean(1) / v.square().mean((1, 2)) for v in a]
    columns = (
        model.accuracy(split.x, split.y).numpy(),
        np.mean([dead_fraction(v) for v in a], axis=0),
        np.mean([(v == 0).double().mean((1, 2)).numpy() for v in a], axis=0),
        torch.stack(offset).mean(0).numpy(),
        ~logits.isfinite().all(-1).all(-1).numpy(),
    )
    return Hidden(*(c.reshape(len(lrs), seeds) for c in columns))
