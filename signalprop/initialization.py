"""Initialisation: scales that keep the variance, matrices that keep every direction, and what both do to learning."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.optimize import brentq
from torch import nn

from . import theory
from .activations import ACTIVATIONS, get
from .ensemble import Ensemble, train
from .jacobians import gaussian_matrices, orthogonal_matrices

# --- weights ---------------------------------------------------------------------------------------------


def xavier_bound(fan_in, fan_out, gain=1.0):
    """Half-width of Glorot's uniform distribution: W_ij ~ U[−bound, bound] has variance 2 gain²/(fan_in + fan_out).

    bound = gain·√(6/(fan_in + fan_out)) [Glorot and Bengio 2010, eq. 16]; it is √3 times the standard deviation.

    Raises
    ------
    ValueError
        If a fan is below 1 or the gain is not positive.
    """
    if fan_in < 1 or fan_out < 1 or not gain > 0:
        raise ValueError(f"expected fans >= 1 and gain > 0, got {fan_in}, {fan_out} and {gain}")
    return gain * math.sqrt(6 / (fan_in + fan_out))


def he_normal(shape, generator, a=0.0):
    """Weights W ~ N(0, 2/((1 + a²) fan_in)) for a layer in front of a (leaky) ReLU [He et al. 2015, eq. 10 and 15].

    Parameters
    ----------
    shape : sequence of int
        (out, in) of a linear layer, (out, in, *kernel) of a convolution; fan_in is in times the kernel's size.
    generator : torch.Generator
    a : float
        Slope of the activation for z < 0; 0 is ReLU, 1 is linear.

    Returns
    -------
    tensor of that shape, float64

    Raises
    ------
    ValueError
        If the shape has fewer than two entries, or one below 1.
    """
    _check_shape(shape)
    std = math.sqrt(2 / ((1 + a**2) * math.prod(shape[1:])))
    return std * torch.randn(*shape, generator=generator, dtype=torch.float64)


def orthogonal(shape, generator, gain=1.0):
    """A random orthogonal weight tensor, times `gain` [Saxe et al. 2014].

    Seen as a matrix (out, in·kernel), its rows or its columns, whichever are fewer, are orthonormal.

    Parameters
    ----------
    shape : sequence of int
        (out, in), or (out, in, *kernel).

    Returns
    -------
    tensor of that shape, float64
    """
    _check_shape(shape)
    return nn.init.orthogonal_(torch.empty(*shape, dtype=torch.float64), gain, generator=generator)


def delta_orthogonal(c, k, generator, gain=1.0):
    """A convolution kernel that is zero except for an orthogonal matrix at its centre [Xiao et al. 2018].

    With stride 1 and padding k//2 the layer keeps the norm of every input, whatever the padding holds.

    Parameters
    ----------
    c : int
        Channels, in and out.
    k : int
        Odd size of the square kernel.

    Returns
    -------
    tensor of shape (c, c, k, k), float64

    Raises
    ------
    ValueError
        If k is even (it has no centre), or c or k is below 1.
    """
    if c < 1 or k < 1 or k % 2 == 0:
        raise ValueError(f"expected c >= 1 and an odd kernel size k >= 1, got {c} and {k}")
    kernel = torch.zeros(c, c, k, k, dtype=torch.float64)
    kernel[:, :, k // 2, k // 2] = orthogonal((c, c), generator, gain)
    return kernel


@torch.no_grad()
def lsuv_(model, x, *, generator, tol=0.1, iterations=10):
    """Layer-sequential unit-variance initialisation, in place [Mishkin and Matas 2016].

    Each linear or convolution layer gets orthonormal weights and no bias. Its weights are then divided by the
    standard deviation of its output on the batch x, until the variance is within `tol` of 1.

    Parameters
    ----------
    model : nn.Sequential
    x : tensor (batch, …)
        What the first module takes.

    Returns
    -------
    list of int
        Divisions that each layer took.

    Raises
    ------
    ValueError
        If the model is not an `nn.Sequential`, or a layer's output is constant or not finite.
    """
    if not isinstance(model, nn.Sequential):
        raise ValueError(f"expected an nn.Sequential, got {type(model).__name__}")
    taken = []
    for name, module in model.named_children():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            nn.init.orthogonal_(module.weight, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
            taken.append(0)
            while not abs((variance := module(x).var().item()) - 1) <= tol and taken[-1] < iterations:
                if not (variance > 0 and math.isfinite(variance)):
                    raise ValueError(f"expected an output of {name} that varies, got variance {variance}")
                module.weight /= math.sqrt(variance)
                taken[-1] += 1
        x = module(x)
    return taken


# --- scales ----------------------------------------------------------------------------------------------


class Gain(NamedTuple):
    """Two answers to "which σ_w² for this activation?", for pre-activations of variance 1.

    name : str
    forward : float, the σ_w² that keeps the variance of the pre-activations: 1/E φ(Z)²
    backward : float, the σ_w² that keeps the squared gradient norm: 1/E φ′(Z)²
    factor : float, of the gradient *norm* per layer if the forward answer is taken: √(forward/backward)
    """

    name: str
    forward: float
    backward: float
    factor: float


def gain_table(names=tuple(ACTIVATIONS)):
    """A `Gain` for each activation (names as in `signalprop.activations.get`)."""
    rows = []
    for name in names:
        phi = get(name)
        square = theory.gaussian_mean(lambda z: phi(z) ** 2, 1.0, phi.kinks)
        slope = theory.gaussian_mean(lambda z: phi.derivative(z) ** 2, 1.0, phi.kinks)
        rows.append(Gain(phi.name, 1 / square, 1 / slope, math.sqrt(slope / square)))
    return rows


RULES = {
    "fan_in": lambda fan_in, fan_out: 1 / fan_in,
    "fan_out": lambda fan_in, fan_out: 1 / fan_out,
    "xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
}


def rule_factors(widths, rule):
    """What a linear net does to variances, from its first to its last layer and back.

    Parameters
    ----------
    widths : sequence of int
        Units of each layer, the input first.
    rule : {"fan_in", "fan_out", "xavier"}
        Var W = 1/fan_in, 1/fan_out, or 2/(fan_in + fan_out).

    Returns
    -------
    forward, backward : float
        ∏ fan_in·Var W for the variance of the units and ∏ fan_out·Var W for the variance of the gradient
        [Glorot and Bengio 2010].

    Raises
    ------
    ValueError
        If the rule is unknown, or there are fewer than two widths.
    """
    variances = _rule_variances(widths, rule)
    return (
        math.prod(n * v for n, v in zip(widths[:-1], variances)),
        math.prod(n * v for n, v in zip(widths[1:], variances)),
    )


def rule_measured(widths, rule, *, members=20, batch=16, generator):
    """`rule_factors`, measured in random linear nets: two arrays (members,)."""
    variances = _rule_variances(widths, rule)
    net = Ensemble(members, widths, "linear", generator=generator)
    with torch.no_grad():
        for weight, fan_in, variance in zip(net.weights, widths, variances):
            weight.mul_(math.sqrt(fan_in * variance))
    x = torch.randn(members, batch, widths[0], generator=generator, dtype=torch.float64).requires_grad_(True)
    out = net(x)
    direction = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(out, x, direction)
    sizes = [v.detach().square().mean((1, 2)) for v in (out, x, gradient, direction)]
    return (sizes[0] / sizes[1]).numpy(), (sizes[2] / sizes[3]).numpy()


def _rule_variances(widths, rule):
    if rule not in RULES or len(widths) < 2:
        raise ValueError(f"expected two or more widths and a rule out of {', '.join(RULES)}; got {list(widths)}, {rule!r}")
    return [RULES[rule](fan_in, fan_out) for fan_in, fan_out in zip(widths[:-1], widths[1:])]


# --- singular values -------------------------------------------------------------------------------------


class Spectrum(NamedTuple):
    """Singular values of the input-output Jacobians of random nets.

    values : array (members, width), in decreasing order; float64 resolves them down to about 1e-16 of the largest
    condition : array (members,), largest over smallest. The smallest is found from the inverse, and so it is
        right far below 1e-16. inf if a unit has φ′ = 0.
    """

    values: np.ndarray
    condition: np.ndarray


def jacobian_spectrum(activation, draw, depth, *, sigma_w2=1.0, q0=1.0, width=100, members=20, generator):
    """Singular values of ∂a_L/∂x = D_L W_L ⋯ D_1 W_1 with D_l = diag(φ′(z_l)), in square nets without biases.

    Parameters
    ----------
    activation
        See `signalprop.activations.get`.
    draw : callable
        `gaussian_matrices` or `orthogonal_matrices` of `signalprop.jacobians`; multiplied by σ_w.
    q0 : float
        Mean square of the (Gaussian) input.

    Returns
    -------
    Spectrum
    """
    jacobian = torch.eye(width, dtype=torch.float64)
    inverse, regular = jacobian.repeat(members, 1, 1), torch.ones(members, dtype=torch.bool)
    for slope, weight in _random_layers(activation, draw, depth, sigma_w2, q0, width, members, generator):
        jacobian = slope * (weight @ jacobian)
        regular &= (slope != 0).all(1).squeeze(1)
        inverse[regular] = inverse[regular] @ (torch.linalg.inv(weight[regular]) / slope[regular].mT)
    values = torch.linalg.svdvals(jacobian)
    condition = torch.full((members,), math.inf, dtype=torch.float64)
    condition[regular] = values[regular, 0] * torch.linalg.matrix_norm(inverse[regular], 2)
    return Spectrum(values.numpy(), condition.numpy())


def layer_singular_values(activation, depth, *, sigma_w2=1.0, q0=1.0, width=200, members=20, generator):
    """Mean singular value of the layer Jacobians diag(φ′(z_l)) W_l of Gaussian nets: an array (members, depth)."""
    layers = _random_layers(activation, gaussian_matrices, depth, sigma_w2, q0, width, members, generator)
    return torch.stack([torch.linalg.svdvals(slope * weight).mean(1) for slope, weight in layers], 1).numpy()


def _random_layers(activation, draw, depth, sigma_w2, q0, width, members, generator):
    """φ′(z_l) as a column (members, width, 1), and W_l (members, width, width), layer by layer."""
    if depth < 1 or not q0 > 0:
        raise ValueError(f"expected depth >= 1 and q0 > 0, got {depth} and {q0}")
    phi, sigma_w = get(activation), math.sqrt(sigma_w2)
    a = torch.randn(members, width, 1, generator=generator, dtype=torch.float64)
    a = a * (q0 / a.square().mean(1, keepdim=True)).sqrt()
    for _ in range(depth):
        weight = sigma_w * draw(members, width, generator=generator)
        z = weight @ a
        a = phi(z)
        yield phi.derivative(z), weight


def conv_matrix(kernel, size, circular=False):
    """A convolution (stride 1, padding k//2) as a matrix.

    Parameters
    ----------
    kernel : tensor (out, in, k, k)
        k odd.
    size : int
        The input is size × size.
    circular : bool
        Padding with the other side, in place of zeros.

    Returns
    -------
    tensor of shape (out·size², in·size²)
    """
    k = kernel.shape[-1]
    if kernel.ndim != 4 or kernel.shape[2] != k or k % 2 == 0:
        raise ValueError(f"expected a kernel (out, in, k, k) with odd k, got {tuple(kernel.shape)}")
    pixels = kernel.shape[1] * size**2
    basis = torch.eye(pixels, dtype=kernel.dtype).view(pixels, -1, size, size)
    basis = F.pad(basis, [k // 2] * 4, mode="circular" if circular else "constant")
    return F.conv2d(basis, kernel).flatten(1).T


# --- correlations ----------------------------------------------------------------------------------------


def correlation_map(c, a=0.0):
    """The next layer's correlation of two inputs, for a leaky ReLU of slope a at He's scale.

    c + (1 − a)²/(π(1 + a²))·(√(1 − c²) − c·arccos c) [Cho and Saul 2009 for a = 0; Zhang et al. 2022].
    """
    if not -1 <= c <= 1:
        raise ValueError(f"expected a correlation between -1 and 1, got {c}")
    return c + (1 - a) ** 2 / (math.pi * (1 + a**2)) * (math.sqrt(1 - c * c) - c * math.acos(c))


def correlations(depth, a=0.0, c0=0.0):
    """Correlation of two inputs in layers 1 … depth, an array; `c0` is that of layer 1."""
    c = [float(c0)]
    while len(c) < depth:
        c.append(min(correlation_map(c[-1], a), 1.0))
    return np.array(c[:depth])


def tailored_slope(depth, end=0.9):
    """The slope a of a leaky ReLU that takes two uncorrelated inputs to the correlation `end` in `depth` maps.

    [Zhang et al. 2022]; 0 < end < 1. The initial scale is He's for this slope, 2/(1 + a²).

    Raises
    ------
    ValueError
        If even the ReLU ends below `end`.
    """
    if depth < 1 or not 0 < end < 1 or correlations(depth + 1)[-1] < end:
        raise ValueError(f"expected 0 < end < 1, no more than a ReLU net of this depth reaches; got {end}, depth {depth}")
    return brentq(lambda a: correlations(depth + 1, a)[-1] - end, 0, 1, xtol=1e-12)


def measured_correlation(z):
    """Mean correlation (cosine) between the inputs of a batch: z (members, batch, width) to an array (members,)."""
    unit = z / z.square().sum(-1, keepdim=True).sqrt()
    batch = z.shape[1]
    return ((unit @ unit.mT).sum((1, 2)).sub(batch) / (batch * (batch - 1))).numpy()


# --- learning in deep linear nets ------------------------------------------------------------------------


def mode_curve(t, s, u0):
    """Strength u(t) of one mode of a two-layer linear net with balanced weights [Saxe et al. 2014].

    u̇ = 2u(s − u): a sigmoid from u0 to the target's strength s; t is steps times learning rate.
    """
    growth = np.expm1(2 * s * np.asarray(t, dtype=float))
    return s * (growth + 1) / (growth + s / u0)


def mode_time(s, u0, u1):
    """When `mode_curve` passes u1: ln[u1(s − u0)/(u0(s − u1))]/(2s) [Saxe et al. 2014]."""
    if not 0 < u0 < u1 < s:
        raise ValueError(f"expected 0 < u0 < u1 < s, got {u0}, {u1} and {s}")
    return math.log(u1 * (s - u0) / (u0 * (s - u1))) / (2 * s)


class Modes(NamedTuple):
    """What `learn_modes` saw.

    u : array (steps + 1, seeds, modes), strength of each mode before the first and after each step
    u0 : array (seeds, modes), the strength that the growing part of each mode starts from
    """

    u: np.ndarray
    u0: np.ndarray


def learn_modes(strengths, *, width=32, scale=0.05, seeds=20, lr=0.01, steps=600, generator):
    """Gradient descent on ½‖W₂W₁ − diag(strengths)‖² from small random weights N(0, scale²/width).

    Mode α has the input weights W₁[:, α] and the output weights W₂[α, :]. While it is small, their sum grows and
    their difference decays; so it follows `mode_curve` from u0 = ‖W₁[:, α] + W₂[α, :]‖²/4.

    Returns
    -------
    Modes
    """
    target = torch.diag(torch.as_tensor(strengths, dtype=torch.float64))
    first, second = (
        scale / math.sqrt(width) * torch.randn(seeds, *shape, generator=generator, dtype=torch.float64)
        for shape in ((width, len(strengths)), (len(strengths), width))
    )
    u0, u = (first + second.mT).square().sum(1) / 4, []
    for _ in range(steps + 1):
        product = second @ first
        u.append(product.diagonal(dim1=1, dim2=2))
        error = target - product
        first, second = first + lr * second.mT @ error, second + lr * error @ first.mT
    return Modes(torch.stack(u).numpy(), u0.numpy())


def chain_time(depth, u0, u1):
    """Time (steps times learning rate) in which w^depth learns to be 1, from strength u0 to u1.

    A chain of `depth` equal weights w with loss ½(1 − w^depth)² has u̇ = depth·u^(2 − 2/depth)·(1 − u) for its
    strength u = w^depth under gradient flow [Saxe et al. 2014].
    """
    if depth < 1 or not 0 < u0 < u1 < 1:
        raise ValueError(f"expected depth >= 1 and 0 < u0 < u1 < 1, got {depth}, {u0} and {u1}")
    low, high = math.log(u0), math.log(u1)  # smooth in ln u
    return quad(lambda v: math.exp(v * (2 / depth - 1)) / -math.expm1(v), low, high)[0] / depth


def chain_limit(u0, u1):
    """depth·`chain_time` for depth → ∞: ln[u1(1 − u0)/(u0(1 − u1))] + 1/u0 − 1/u1."""
    return math.log(u1 * (1 - u0) / (u0 * (1 - u1))) + 1 / u0 - 1 / u1


def chain_steps(depth, u0, u1, lr, limit=10**6):
    """Steps of gradient descent that the chain of `chain_time` takes until w^depth >= u1.

    Raises
    ------
    ValueError
        If it is not there after `limit` steps.
    """
    w = u0 ** (1 / depth)
    for step in range(limit):
        u = w**depth
        if u >= u1:
            return step
        w += lr * (1 - u) * u / w
    raise ValueError(f"not learned after {limit} steps: depth {depth}, u0 = {u0}, lr = {lr}")


def deep_linear_steps(draw, depth, *, rates, width=32, outputs=10, seeds=10, steps=200, goal=0.1, generator):
    """How long a deep linear net takes to learn a linear map of whitened inputs, by full-batch gradient descent.

    The loss is ½‖R W_{depth−1} ⋯ W_1 − T‖² with W from `draw`, a read-out R and a target T that are random rows of
    orthogonal matrices. Seed j is the same net at every rate.

    Parameters
    ----------
    draw : callable
        `gaussian_matrices` or `orthogonal_matrices`.
    depth : int
        Layers, with the read-out; >= 2.
    rates : sequence of float
        The learning rate is rate/depth.
    goal : float
        Share of the first loss at which the net has learned.

    Returns
    -------
    array (rates, seeds)
        Steps; `steps` for a net that did not get there.
    """
    if depth < 2 or min(rates) <= 0:
        raise ValueError(f"expected depth >= 2 and rates > 0, got {depth} and {list(rates)}")
    readout, target = (orthogonal_matrices(seeds, width, generator=generator)[:, :outputs] for _ in range(2))
    weights = [readout] + [draw(seeds, width, generator=generator) for _ in range(depth - 1)]
    weights = [w.repeat(len(rates), 1, 1).requires_grad_(True) for w in weights]
    target = target.repeat(len(rates), 1, 1)
    lr = torch.as_tensor(rates, dtype=torch.float64).repeat_interleave(seeds)[:, None, None] / depth
    reached, first = torch.full((len(lr),), float(steps)), None
    for step in range(steps):
        out = weights[0]
        for weight in weights[1:]:
            out = out @ weight
        loss = (out - target).square().sum((1, 2)) / 2
        first = loss.detach() if first is None else first
        reached = torch.where((loss <= goal * first) & (reached == steps), step, reached)
        if (reached < steps).all():
            break
        gradients = torch.autograd.grad(loss.sum(), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients):
                weight -= lr * gradient
    return reached.numpy().reshape(len(rates), seeds)


# --- trained nets ----------------------------------------------------------------------------------------

INITS = {"xavier": 1.0, "he": 2.0, "orthogonal": 1.0}


def deep_nets(members, *, activation, init, depth, width, generator):
    """Nets for the digits, 64 inputs and 10 classes, an `Ensemble` with `depth` hidden layers.

    `init` is "xavier" or "he" (Gaussian, σ_w² = 1 or 2) or "orthogonal" (every layer, σ_w² = 1).
    """
    if init not in INITS:
        raise ValueError(f"expected an init out of {', '.join(INITS)}; got {init!r}")
    net = Ensemble(members, [64, *[width] * depth, 10], activation, INITS[init], generator=generator)
    if init == "orthogonal":
        with torch.no_grad():
            for weight in net.weights:
                for w in weight:
                    w.copy_(orthogonal(w.shape, generator))
    return net


def trained_accuracy(split, *, activation, init, depth, width, lr, steps=1000, seeds=10, seed=0):
    """Training accuracy after SGD with momentum 0.9 on minibatches of 32, an array (seeds,).

    Share of right answers on the whole training set; a diverged net counts as chance.
    """
    generator = torch.Generator().manual_seed(seed)
    net = deep_nets(seeds, activation=activation, init=init, depth=depth, width=width, generator=generator)
    train(net, split.x, split.y, steps=steps, lr=lr, generator=generator)
    return net.accuracy(split.x, split.y).numpy()


def first_step_change(width, x, y, *, lr, mup, generator):
    """Root mean square change of the logits in the first step of Adam: what a learning rate means at this width.

    A ReLU net with two hidden layers and no biases. The standard parametrisation is He's, one learning rate for
    all layers. With ``mup=True`` the read-out has variance 1/width², and the hidden and the read-out layer
    have the learning rate lr·64/width [Yang et al. 2021, Table 3]: at width 64 the rates are the same.

    Returns
    -------
    float
    """
    shapes = [(width, x.shape[1]), (width, width), (int(y.max()) + 1, width)]
    weights = [he_normal(shape, generator) for shape in shapes[:2]]
    weights.append(torch.randn(shapes[2], generator=generator, dtype=torch.float64) / (width if mup else math.sqrt(width)))
    layers = [w.requires_grad_(True) for w in weights]

    def logits(layers):
        return torch.relu(torch.relu(x @ layers[0].T) @ layers[1].T) @ layers[2].T

    before = logits(layers)
    gradients = torch.autograd.grad(F.cross_entropy(before, y), layers)
    rates = (lr, lr * 64 / width, lr * 64 / width) if mup else (lr, lr, lr)
    with torch.no_grad():
        # Adam's first step: both its averages hold this one gradient.
        after = logits([w - rate * g / (g.abs() + 1e-8) for w, rate, g in zip(layers, rates, gradients)])
        return (after - before).square().mean().sqrt().item()


def _check_shape(shape):
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"expected a shape (out, in, *kernel) of positive sizes, got {tuple(shape)}")
