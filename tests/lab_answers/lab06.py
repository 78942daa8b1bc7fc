"""Answers to lab 06: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import copy
import math
import random

import numpy as np
import torch
from scipy import linalg, stats
from torch import nn

F64 = torch.float64

# --- xavier_bound -------------------------------------------------------------------------------------------


def bound(fan_in, fan_out, gain=1.0):
    return gain * math.sqrt(6 / (fan_in + fan_out))


def bound_by_variance(fan_in, fan_out, gain=1.0):
    variance = gain**2 / np.mean([fan_in, fan_out])
    return np.sqrt(3 * variance)


def bound_as_a_tensor(fan_in, fan_out, gain=1.0):
    return gain * torch.sqrt(torch.tensor(6.0) / (fan_in + fan_out))


def bound_by_torch(fan_in, fan_out, gain=1.0):
    """nn.init.xavier_uniform_ divides by the bound's own range; the distribution's parameters give it back."""
    std = gain * (2.0 / float(fan_in + fan_out)) ** 0.5
    return torch.distributions.Uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std).high


def bound_by_logarithms(fan_in, fan_out, gain=1):
    return math.exp(math.log(gain) + (math.log(6) - math.log(fan_in + fan_out)) / 2)


def bound_typed(fan_in, fan_out, gain=1.0):
    return 2.449 * gain / (fan_in + fan_out) ** 0.5


BOUND_CORRECT = [bound, bound_by_variance, bound_as_a_tensor, bound_by_torch, bound_by_logarithms, bound_typed]

BOUND_WRONG = {
    "3 for 6": (lambda i, o, gain=1.0: gain * (3 / (i + o)) ** 0.5, "half of the variance that they need", 0),
    "no root": (lambda i, o, gain=1.0: gain * 6 / (i + o), "The square root is missing", 0),
    "b²": (lambda i, o, gain=1.0: gain**2 * 6 / (i + o), "That is b², the square", 0),
    "root of 6 alone": (lambda i, o, gain=1.0: gain * 6**0.5 / (i + o), "must cover the denominator", 0),
    "gain ignored": (lambda i, o, gain=1.0: bound(i, o), "gain has no effect", 4),
    "gain under the root": (lambda i, o, gain=1.0: (6 * gain / (i + o)) ** 0.5, "gain stands under the root", 4),
    "gain squared": (lambda i, o, gain=1.0: gain * bound(i, o, gain), "gain is squared", 4),
    "gain divides": (lambda i, o, gain=1.0: bound(i, o) / gain, "You divide by gain", 4),
    "standard deviation": (lambda i, o, gain=1.0: gain * (2 / (i + o)) ** 0.5, "the standard deviation of the weights", 0),
    "variance": (lambda i, o, gain=1.0: gain**2 * 2 / (i + o), "That is the variance of the weights", 0),
    "whole width": (lambda i, o, gain=1.0: 2 * bound(i, o, gain), "either that is the whole width", 0),
    "mean of the fans": (lambda i, o, gain=1.0: gain * (6 / ((i + o) / 2)) ** 0.5, "not to their mean", 0),
    "fan_in, 3": (lambda i, o, gain=1.0: gain * (3 / i) ** 0.5, "it keeps the forward variance alone", 2),
    "fan_out, 3": (lambda i, o, gain=1.0: gain * (3 / o) ** 0.5, "it keeps the backward variance alone", 2),
    "He uniform": (lambda i, o, gain=1.0: gain * (6 / i) ** 0.5, "the bound of He's uniform", 0),
    "fan_out, 6": (lambda i, o, gain=1.0: gain * (6 / o) ** 0.5, "Only fan_out has an effect", 0),
    "geometric mean": (lambda i, o, gain=1.0: gain * (3 / (i * o) ** 0.5) ** 0.5, "geometric mean of the fans", 2),
    "product": (lambda i, o, gain=1.0: gain * (6 / (i * o)) ** 0.5, "You multiply the fans", 0),
    "mean of bounds": (lambda i, o, gain=1.0: gain * ((3 / i) ** 0.5 + (3 / o) ** 0.5) / 2, "You average two bounds", 2),
    "mean of variances": (lambda i, o, gain=1.0: gain * (1.5 / i + 1.5 / o) ** 0.5, "You average the two variances", 2),
    "brackets": (lambda i, o, gain=1.0: gain * (6 / i + o) ** 0.5, "A pair of brackets", 0),
    "negative": (lambda i, o, gain=1.0: -bound(i, o, gain), "The bound is negative", 0),
    "integer division": (lambda i, o, gain=1.0: gain * (6 // (2 * (i + o))) ** 0.5, "does // cut", 0),
    "default √2": (lambda i, o, gain=2**0.5: bound(i, o, gain), "set this default", 4),
    "no default": (lambda i, o, gain: bound(i, o, gain), "but yours takes (i, o, gain)", 4),
    "a tensor of weights": (
        lambda i, o, gain=1.0: nn.init.xavier_uniform_(torch.empty(o, i), gain),
        "expected one number, got a tensor",
        0,
    ),
    "gain added": (lambda i, o, gain=1.0: bound(i, o) + gain - 1, "U(−b, b) has the variance b²/3, and", 4),
    "one too many": (lambda i, o, gain=1.0: gain * (6 / (i + o + 1)) ** 0.5, "U(−b, b) has the variance b²/3, and", 0),
    "difference": (lambda i, o, gain=1.0: gain * (6 / max(abs(i - o), 1)) ** 0.5, "U(−b, b) has the variance b²/3, and", 0),
}

# --- he_normal ----------------------------------------------------------------------------------------------


def he(shape, generator, a=0.0):
    return torch.randn(shape, generator=generator) * math.sqrt(2 / (1 + a**2) / math.prod(shape[1:]))


def he_by_kaiming(shape, generator, a=0.0):
    return nn.init.kaiming_normal_(torch.empty(shape, dtype=F64), a=a, generator=generator)


def he_by_kaiming_in_float32(shape, generator, a=0.0):
    w = nn.Parameter(torch.empty(*shape))
    return nn.init.kaiming_normal_(w, a, "fan_in", "leaky_relu", generator)


def he_in_place(shape, generator, a=0.0):
    w = torch.zeros(shape, dtype=F64)
    return w.normal_(0.0, (2 / ((1 + a * a) * w[0].numel())) ** 0.5, generator=generator)


def he_by_torch_normal(shape, generator, a=0.0):
    fan_in = shape[1]
    for n in shape[2:]:
        fan_in *= n
    gain = nn.init.calculate_gain("leaky_relu", a)
    return torch.normal(0.0, gain / fan_in**0.5, shape, generator=generator)


def he_truncated(shape, generator, a=0.0):
    """As TensorFlow's: cut off at two standard deviations, rescaled."""
    std = math.sqrt(2 / ((1 + a**2) * math.prod(shape[1:]))) / 0.87962566103423978
    return nn.init.trunc_normal_(torch.empty(shape, dtype=F64), 0.0, std, -2 * std, 2 * std, generator=generator)


def he_by_numpy(shape, generator, a=0.0):
    """NumPy's generator, seeded from the one that was given."""
    rng = np.random.default_rng(torch.randint(2**31, (), generator=generator).item())
    return rng.normal(0, np.sqrt(2 / ((1 + a**2) * np.prod(shape[1:]))), size=shape)


def he_by_box_muller(shape, generator, a=0.0):
    n = math.prod(shape)
    u = torch.rand(2, n, generator=generator, dtype=F64)
    z = torch.sqrt(-2 * torch.log1p(-u[0])) * torch.cos(2 * math.pi * u[1])
    return (z * math.sqrt(2 * shape[0] / (n * (1 + a**2)))).view(shape)


def he_by_quantiles(shape, generator, a=0.0):
    u = torch.rand(shape, generator=generator, dtype=F64)
    return torch.erfinv(2 * u - 1) * (2 * 2 / ((1 + a**2) * math.prod(shape[1:]))) ** 0.5


def he_by_sums(shape, generator, a=0.0):
    """Sums of twelve uniform numbers, a classic: normal but for the far tails."""
    z = torch.rand(12, *shape, generator=generator, dtype=F64).sum(0) - 6
    return z * math.sqrt(2 / ((1 + a**2) * math.prod(shape[1:])))


def he_row_by_row(shape, generator, a=0.0):
    std = math.sqrt(2 / (1 + a**2) / math.prod(shape[1:]))
    return torch.stack([std * torch.randn(shape[1:], generator=generator) for _ in range(shape[0])])


def he_layer(shape, generator, a=0.0):
    """Through the layers of torch, with requires_grad."""
    kinds = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d}
    layer = nn.utils.skip_init(kinds[len(shape)], shape[1], shape[0], *([shape[2:]] if len(shape) > 2 else []))
    nn.init.kaiming_normal_(layer.weight, a=a, generator=generator)
    return layer.weight


def he_one_by_one(shape, generator, a=0.0):
    std = math.sqrt(2 / (1 + a**2) / math.prod(shape[1:]))
    numbers = [std * torch.randn((), generator=generator).item() for _ in range(math.prod(shape))]
    return torch.tensor(numbers).reshape(shape)


def he_by_random(shape, generator, a=0.0):
    source = random.Random(torch.randint(2**31, (), generator=generator).item())
    std = math.sqrt(2 / (1 + a**2) / math.prod(shape[1:]))
    return np.array([source.gauss(0, std) for _ in range(math.prod(shape))]).reshape(shape)


def he_by_scipy(shape, generator, a=0.0):
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator) % 2**31)
    return stats.norm(scale=math.sqrt(2 / ((1 + a**2) * math.prod(shape[1:])))).rvs(shape, random_state=seed)


HE_CORRECT = [
    he,
    he_by_kaiming,
    he_by_kaiming_in_float32,
    he_in_place,
    he_by_torch_normal,
    he_truncated,
    he_by_numpy,
    he_by_box_muller,
    he_by_quantiles,
    he_by_sums,
    he_row_by_row,
    he_layer,
    he_by_scipy,
]


def scaled(variance, draw=torch.randn):
    """draw(shape), scaled to variance(shape, a)."""

    def he_normal(shape, generator, a=0.0):
        return draw(shape, generator=generator, dtype=F64) * math.sqrt(variance(shape, a))

    return he_normal


def v(shape, a=0.0):
    return 2 / ((1 + a**2) * math.prod(shape[1:]))


def fan(of):
    """He's variance with another fan."""
    return scaled(lambda s, a: 2 / ((1 + a**2) * of(s)))


def reshaped(change):
    """The right weights, changed afterwards: change(w) of the matrix (out, in·kernel)."""

    def he_normal(shape, generator, a=0.0):
        w = torch.randn(shape, generator=generator, dtype=F64).flatten(1)
        return change(w).reshape(shape) * math.sqrt(v(shape, a))

    return he_normal


def uniform_draw(shape, generator, dtype):
    return (2 * torch.rand(shape, generator=generator, dtype=dtype) - 1) * 3**0.5


def laplace_draw(shape, generator, dtype):
    u = torch.rand(shape, generator=generator, dtype=dtype) - 0.5
    return -torch.sign(u) * torch.log1p(-2 * u.abs()) / 2**0.5


def logistic_draw(shape, generator, dtype):
    return torch.logit(torch.rand(shape, generator=generator, dtype=dtype)) * 3**0.5 / math.pi


def signs_draw(shape, generator, dtype):
    return 2.0 * torch.randint(2, shape, generator=generator).to(dtype) - 1


def he_orthogonal(shape, generator, a=0.0):
    w = nn.init.orthogonal_(torch.empty(shape, dtype=F64), generator=generator)
    return w * math.sqrt(v(shape, a)) / w.square().mean().sqrt()


def he_global(shape, generator, a=0.0):
    return torch.randn(shape) * math.sqrt(v(shape, a))


def he_numpy_global(shape, generator, a=0.0):
    return np.random.randn(*shape) * math.sqrt(v(shape, a))


def he_own_seed(shape, generator, a=0.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * math.sqrt(v(shape, a))


def he_reseeded(shape, generator, a=0.0):
    return torch.randn(shape, generator=generator.manual_seed(1)) * math.sqrt(v(shape, a))


def he_initial_seed(shape, generator, a=0.0):
    torch.manual_seed(generator.initial_seed())
    return torch.randn(shape) * math.sqrt(v(shape, a))


def he_fresh_seed(shape, generator, a=0.0):
    generator.seed()
    return he(shape, generator, a)


def he_half_global(shape, generator, a=0.0):
    w = he(shape, generator, a)
    w[1:] = torch.randn(w[1:].shape) * math.sqrt(v(shape, a))
    return w


def he_one_number(shape, generator, a=0.0):
    return torch.full(shape, 1.0, dtype=F64) * torch.randn((), generator=generator) * math.sqrt(v(shape, a))


def he_1d_forgotten(shape, generator, a=0.0):
    return fan(lambda s: math.prod(s[1:]) if len(s) == 4 else s[1])(shape, generator, a)


def he_only_linear(shape, generator, a=0.0):
    out, n = shape
    return torch.randn(out, n, generator=generator) * math.sqrt(2 / (n * (1 + a**2)))


def he_truncated_only(shape, generator, a=0.0):
    std = math.sqrt(v(shape, a))
    return nn.init.trunc_normal_(torch.empty(shape, dtype=F64), 0.0, std, -2 * std, 2 * std, generator=generator)


def he_uniform_kernels(shape, generator, a=0.0):
    return scaled(v, torch.randn if len(shape) == 2 else uniform_draw)(shape, generator, a)


def he_advancing_only_by_seed(shape, generator, a=0.0):
    """The second call negates the first: no new numbers."""
    first = he(shape, torch.Generator().manual_seed(generator.initial_seed()), a)
    used = torch.rand((), generator=generator)
    return first if torch.equal(used, torch.rand((), generator=torch.Generator().manual_seed(generator.initial_seed()))) else -first


HE_WRONG = {
    "fan_out": (fan(lambda s: s[0] * math.prod(s[2:])), "The variance belongs to fan_out", 2),
    "shape[0]": (fan(lambda s: s[0]), "The variance is that of shape[0] alone", 2),
    "1/fan_in": (scaled(lambda s, a: v(s, a) / 2), "Half of the variance is missing", 2),
    "kernel ignored": (fan(lambda s: s[1]), "The kernel's size is missing", 4),
    "Conv1d ignored": (he_1d_forgotten, "The kernel's size is missing", 6),
    "kernel's last side": (fan(lambda s: s[1] * (s[-1] if len(s) > 2 else 1)), "Only one side of the kernel", 4),
    "kernel's first side": (fan(lambda s: s[1] * (s[2] if len(s) > 2 else 1)), "Only one side of the kernel", 4),
    "square kernel": (fan(lambda s: s[1] * (s[2] ** 2 if len(s) == 4 else math.prod(s[2:]))), "kernel to be square", 6),
    "square kernel, last side": (
        fan(lambda s: s[1] * (s[-1] ** 2 if len(s) == 4 else math.prod(s[2:]))),
        "kernel to be square",
        6,
    ),
    "sum": (fan(lambda s: s[1] + (math.prod(s[2:]) if len(s) > 2 else 0)), "in_channels times the kernel's entries; yours", 4),
    "all weights": (fan(math.prod), "by the number of all weights", 2),
    "shape[-1]": (fan(lambda s: s[-1]), "the last entry of the shape alone", 4),
    "a ignored": (lambda shape, generator, a=0.0: he(shape, generator), "a has no effect on the variance", 6),
    "a not squared": (scaled(lambda s, a: v(s) / (1 + a)), "a is not squared", 6),
    "(1 + a)²": (scaled(lambda s, a: v(s) / (1 + a) ** 2), "You square 1 + a", 6),
    "times 1 + a²": (scaled(lambda s, a: v(s) * (1 + a**2)), "You multiply the variance by 1 + a²", 6),
    "1 + a² outside": (scaled(lambda s, a: v(s) / (1 + a**2) ** 2), "1 + a² stands outside", 6),
    "root of 1 + a²": (scaled(lambda s, a: v(s) / math.sqrt(1 + a**2)), "The root of 1 + a² is taken twice", 6),
    "1 − a²": (scaled(lambda s, a: v(s) / abs(1 - a**2)), "1 + a², not 1 − a²", 6),
    "variance for standard deviation": (scaled(lambda s, a: v(s, a) ** 2), "variance as a standard deviation", 2),
    "root twice": (scaled(lambda s, a: v(s, a) ** 0.5), "The root is taken twice:", 2),
    "not scaled": (scaled(lambda s, a: 1), "The variance is 1 for every shape", 2),
    "fan_in outside": (scaled(lambda s, a: 2 * v(s, a) / math.prod(s[1:])), "fan_in stands outside", 2),
    "4/fan_in": (scaled(lambda s, a: 2 * v(s, a)), "the gain √2 is squared once", 2),
    "mean of the fans": (scaled(lambda s, a: v(s, a) * 2 * s[1] / (s[0] + s[1])), "by the mean of the fans", 2),
    "Glorot": (scaled(lambda s, a: v(s, a) * s[1] / (s[0] + s[1])), "That is Glorot's variance", 2),
    "uniform on ±σ": (scaled(lambda s, a: v(s, a) / 3, uniform_draw), "a uniform distribution on ±σ", 0),
    "rand": (scaled(v, torch.rand), "All your weights have the same sign", 0),
    "rand − ½": (
        scaled(v, lambda shape, generator, dtype: torch.rand(shape, generator=generator, dtype=dtype) - 0.5),
        "torch.rand has the variance 1/12",
        0,
    ),
    "√(6/fan_in)": (scaled(lambda s, a: 3 * v(s, a)), "The variance is three times too large", 2),
    "cut off": (he_truncated_only, "at two standard deviations, which", 2),
    "constant": (lambda shape, generator, a=0.0: torch.full(shape, v(shape, a) ** 0.5), "All your weights are equal", 0),
    "zeros": (lambda shape, generator, a=0.0: torch.zeros(shape), "All your weights are equal", 0),
    "one number": (he_one_number, "All your weights are equal", 0),
    "equal rows": (reshaped(lambda w: w[:1].expand_as(w)), "All rows are equal", None),
    "equal columns": (reshaped(lambda w: w[:, :1].expand_as(w)), "repeat each other's size", None),
    "rolled rows": (
        reshaped(lambda w: torch.stack([w[0].roll(i) for i in range(len(w))])),
        "repeat each other's size",
        None,
    ),
    "absolute values": (reshaped(torch.abs), "All your weights have the same sign", 0),
    "shifted": (reshaped(lambda w: w + 0.2), "The mean of your weights is not 0", 6),
    "uniform": (scaled(v, uniform_draw), "Your weights are uniformly distributed", 6),
    "clamped": (
        lambda shape, generator, a=0.0: he(shape, generator, a).clamp(-2 * v(shape, a) ** 0.5, 2 * v(shape, a) ** 0.5),
        "repeat each other's size",
        None,
    ),
    "uniform kernels": (he_uniform_kernels, "not normally distributed", 6),
    "Laplace": (scaled(v, laplace_draw), "not normally distributed", 6),
    "logistic": (scaled(v, logistic_draw), "not normally distributed", 6),
    "signs": (scaled(v, signs_draw), "repeat each other's size", 6),
    "sparse": (
        reshaped(lambda w: w * (w.roll(1, 0) > 0) * 2**0.5),
        "repeat each other's size",
        6,
    ),
    "orthogonal": (he_orthogonal, "rows or columns are orthogonal, or alike", 6),
    "sorted": (reshaped(lambda w: w.flatten().sort().values), "rows or columns are orthogonal, or alike", 6),
    "sorted rows": (reshaped(lambda w: w.sort(1).values), "rows or columns are orthogonal, or alike", 6),
    "random walk": (reshaped(lambda w: (w + w.roll(1, 1)) / 2**0.5), "rows or columns are orthogonal, or alike", 6),
    "product": (
        reshaped(lambda w: w[:, :1] * torch.randn(1, w.shape[1], generator=torch.Generator().manual_seed(1), dtype=F64)),
        "rows or columns are orthogonal, or alike",
        None,
    ),
    "unit rows": (reshaped(lambda w: w / w.norm(dim=1, keepdim=True) * w.shape[1] ** 0.5), "The sizes of your rows", 6),
    "unit columns": (reshaped(lambda w: w / w.norm(dim=0) * w.shape[0] ** 0.5), "The sizes of your rows", 6),
    "global generator": (he_global, "Two generators in the same state gave different weights", 6),
    "NumPy's generator": (he_numpy_global, "Two generators in the same state gave different weights", 6),
    "half global": (he_half_global, "Two generators in the same state gave different weights", 6),
    "fresh seed": (he_fresh_seed, "Two generators in the same state gave different weights", 6),
    "own seed": (he_own_seed, "A second call with the same generator gave the same weights", 6),
    "reseeded": (he_reseeded, "A second call with the same generator gave the same weights", 6),
    "initial seed": (he_initial_seed, "A second call with the same generator gave the same weights", 6),
    "second call negated": (he_advancing_only_by_seed, "of two calls with the same generator depend", 6),
    "transposed": (lambda shape, generator, a=0.0: he(shape, generator, a).transpose(0, 1), "that is asked for, (200, 50)", 0),
    "float16": (lambda shape, generator, a=0.0: he(shape, generator, a).half(), "got float16", 0),
    "only linear": (he_only_linear, "raised ValueError in line 2 of he_only_linear", None),
    "default √5": (lambda shape, generator, a=5**0.5: he(shape, generator, a), "set this default", 6),
    "no default": (lambda shape, generator, a: he(shape, generator, a), "but yours takes (shape, generator, a)", 6),
    "ln": (scaled(lambda s, a: 1 / math.log(math.prod(s[1:]))), "weight must have the variance", 2),
    "fan_in + 1": (fan(lambda s: math.prod(s[1:]) + 1), "fan_in is one too large", 6),
    "fan_in − 1": (fan(lambda s: math.prod(s[1:]) - 1), "fan_in is one too small", 6),
    "7/fan_in": (scaled(lambda s, a: 3.5 * v(s, a)), "weight must have the variance", 2),
}
# --- delta_orthogonal ---------------------------------------------------------------------------------------


def centred(matrix):
    """A kernel with gain·matrix(c, generator) at its centre."""

    def delta_orthogonal(c, k, generator, gain=1.0):
        kernel = torch.zeros(c, c, k, k, dtype=F64)
        kernel[:, :, k // 2, k // 2] = gain * torch.as_tensor(matrix(c, generator), dtype=F64)
        return kernel

    return delta_orthogonal


def gaussian(c, generator):
    return torch.randn(c, c, generator=generator, dtype=F64)


def by_qr(c, generator):
    return torch.linalg.qr(gaussian(c, generator)).Q


def by_qr_with_signs(c, generator):
    q, r = torch.linalg.qr(gaussian(c, generator))
    return q * r.diagonal().sign()


def by_rq(c, generator):
    return torch.linalg.qr(gaussian(c, generator).T).Q.T


def by_scipy(c, generator):
    return linalg.qr(gaussian(c, generator).numpy())[0]


def by_svd(c, generator):
    return torch.linalg.svd(gaussian(c, generator)).U


def by_polar(c, generator):
    u, _, vh = torch.linalg.svd(gaussian(c, generator))
    return u @ vh


def by_eigenvectors(c, generator):
    w = gaussian(c, generator)
    return torch.linalg.eigh(w + w.T).eigenvectors


def first_row_positive(c, generator):
    q = by_qr(c, generator)
    return q * q[0].sign()


def first_column_positive(c, generator):
    q = by_qr(c, generator)
    return q * q[:, :1].sign()


def rotation(c, generator):
    q = by_qr(c, generator)
    q[:, 0] *= torch.linalg.det(q)
    return q


def by_gram_schmidt(c, generator):
    rows = []
    for w in gaussian(c, generator):
        for row in rows:
            w = w - (w @ row) * row
        rows.append(w / w.norm())
    return torch.stack(rows)


def by_householder(c, generator):
    q = torch.eye(c, dtype=F64)
    for n in range(c, 0, -1):
        u = torch.zeros(c, dtype=F64)
        u[c - n :] = torch.randn(n, generator=generator, dtype=F64)
        u[c - n] += u.norm() if u[c - n] > 0 else -u.norm()
        q = q - 2 * torch.outer(q @ u, u) / (u @ u)
    return q


def by_inverse_root(c, generator):
    w = gaussian(c, generator)
    values, vectors = torch.linalg.eigh(w @ w.T)
    return vectors @ torch.diag(values**-0.5) @ vectors.T @ w


def by_stats(c, generator):
    return stats.ortho_group.rvs(c, random_state=torch.randint(2**31, (), generator=generator).item())


def in_float32(c, k, generator, gain=1.0):
    kernel = torch.zeros(c, c, k, k)
    kernel[..., k // 2, k // 2] = gain * torch.linalg.qr(torch.randn(c, c, generator=generator))[0]
    return nn.Parameter(kernel)


def in_numpy(c, k, generator, gain=1.0):
    kernel = np.zeros((c, c, k, k))
    kernel[:, :, (k - 1) // 2, (k - 1) // 2] = gain * np.linalg.qr(gaussian(c, generator).numpy()).Q
    return kernel


def by_torch(c, k, generator, gain=1.0):
    kernel = torch.zeros(c, c, k, k)
    nn.init.orthogonal_(kernel[:, :, k // 2, k // 2], gain, generator)
    return kernel


def by_padding(c, k, generator, gain=1.0):
    matrix = nn.init.orthogonal_(torch.empty(c, c, 1, 1, dtype=F64), gain, generator=generator)
    return nn.functional.pad(matrix, [k // 2] * 4)


def by_outer_product(c, k, generator, gain=1.0):
    spike = torch.zeros(k, k, dtype=F64)
    spike[k // 2, k // 2] = gain
    return by_polar(c, generator)[:, :, None, None] * spike


DELTA_CORRECT = [
    *map(
        centred,
        [
            by_qr,
            by_qr_with_signs,
            by_rq,
            by_scipy,
            by_svd,
            by_polar,
            by_eigenvectors,
            first_row_positive,
            first_column_positive,
            rotation,
            by_inverse_root,
        ],
    ),
    in_float32,
    in_numpy,
    by_torch,
    by_padding,
    by_outer_product,
]
DELTA_CORRECT_SLOW = [centred(by_gram_schmidt), centred(by_householder), centred(by_stats)]


def at(place):
    def delta_orthogonal(c, k, generator, gain=1.0):
        kernel = torch.zeros(c, c, k, k, dtype=F64)
        i, j = place(k)
        kernel[:, :, i, j] = gain * by_qr(c, generator)
        return kernel

    return delta_orthogonal


def same_at_every_tap(c, k, generator, gain=1.0):
    return (gain * by_qr(c, generator))[:, :, None, None].repeat(1, 1, k, k)


def other_at_every_tap(c, k, generator, gain=1.0):
    kernel = torch.stack([by_qr(c, generator) for _ in range(k * k)], -1)
    return gain * kernel.view(c, c, k, k)


def box(c, k, generator, gain=1.0):
    return same_at_every_tap(c, k, generator, gain) / k**2


def whole_kernel(c, k, generator, gain=1.0):
    return nn.init.orthogonal_(torch.empty(c, c, k, k, dtype=F64), gain, generator=generator)


def cross(c, k, generator, gain=1.0):
    kernel = torch.zeros(c, c, k, k, dtype=F64)
    kernel[:, :, k // 2] = (gain * by_qr(c, generator))[:, :, None]
    return kernel


def all_but_the_centre(c, k, generator, gain=1.0):
    kernel = same_at_every_tap(c, k, generator, gain)
    if k > 1:
        kernel[:, :, k // 2, k // 2] = 0
    return kernel


def noisy(c, k, generator, gain=1.0):
    kernel = 0.001 * torch.randn(c, c, k, k, generator=generator, dtype=F64)
    kernel[:, :, k // 2, k // 2] = gain * by_qr(c, generator)
    return kernel


def channels_last(c, k, generator, gain=1.0):
    kernel = torch.zeros(k, k, c, c, dtype=F64)
    kernel[k // 2, k // 2] = gain * by_qr(c, generator)
    return kernel


def with_gain(change):
    return lambda c, k, generator, gain=1.0: centred(by_qr)(c, k, generator, change(c, gain))


def permutation(c, generator):
    return torch.eye(c, dtype=F64)[torch.randperm(c, generator=generator)]


def signed_permutation(c, generator):
    signs = 2.0 * torch.randint(2, (c, 1), generator=generator) - 1
    return permutation(c, generator) * signs


def random_signs(c, generator):
    return torch.diag(2.0 * torch.randint(2, (c,), generator=generator) - 1)


def reflection(c, generator):
    u = torch.randn(c, generator=generator, dtype=F64)
    return torch.eye(c, dtype=F64) - 2 * torch.outer(u, u) / (u @ u)


def plane_rotation(c, generator):
    q, t = torch.eye(c, dtype=F64), 2 * math.pi * torch.rand((), generator=generator, dtype=F64)
    q[0, 0] = q[1, 1] = t.cos()
    q[0, 1], q[1, 0] = -t.sin(), t.sin()
    return q


def small_rotation(c, generator):
    w = 0.1 * gaussian(c, generator)
    return torch.matrix_exp(w - w.T)


def of_uniform_numbers(c, generator):
    return torch.linalg.qr(torch.rand(c, c, generator=generator, dtype=F64)).Q


def fixed(c, generator):
    return by_qr(c, torch.Generator().manual_seed(0))


def fixed_with_signs(c, generator):
    return fixed(c, generator) * (2.0 * torch.randint(2, (c,), generator=generator) - 1)


def cosines(c, generator):
    n = torch.arange(c, dtype=F64)
    q = math.sqrt(2 / c) * torch.cos(math.pi / c * (n[:, None] + 0.5) * n)
    q[:, 0] /= math.sqrt(2)
    return q[torch.randperm(c, generator=generator)] * (2.0 * torch.randint(2, (c,), generator=generator) - 1)


def symmetric(c, generator):
    q = by_qr(c, generator)
    return q @ random_signs(c, generator).to(F64) @ q.T


def fixed_but_shuffled(c, generator):
    return fixed(c, generator)[torch.randperm(c, generator=generator)][:, torch.randperm(c, generator=generator)]


def exponential(c, generator):
    w = 5 * gaussian(c, generator)
    return torch.matrix_exp(w - w.T)


def blocks(c, generator):
    half = c // 2
    return torch.block_diag(by_qr(half, generator), by_qr(c - half, generator))


NOT_ORTHOGONAL = "Your matrix is not orthogonal: its singular values"
EVERY_TAP = "Every tap of the kernel holds numbers"
NOT_UNIFORM = "but not uniformly distributed over"
STUCK_KERNEL = "A second call with the same generator gave the same kernel"
OTHER_KERNEL = "Two generators in the same state gave different kernels"

DELTA_WRONG = {
    "corner": (at(lambda k: (0, 0)), "your matrix sits at [0, 0]", 4),
    "last corner": (at(lambda k: (-1, -1)), "your matrix sits at [2, 2]", 4),
    "before the centre": (at(lambda k: (max(k // 2 - 1, 0), k // 2)), "your matrix sits at [0, 1]", 4),
    "behind the centre": (at(lambda k: (min(k // 2 + 1, k - 1), k // 2)), "your matrix sits at [2, 1]", 4),
    "same at every tap": (same_at_every_tap, EVERY_TAP, 4),
    "others at every tap": (other_at_every_tap, EVERY_TAP, 4),
    "box": (box, EVERY_TAP, 3),
    "whole kernel": (whole_kernel, "The kernel as a whole", 1),
    "a row of taps": (cross, "Some taps beside the centre are not 0", 4),
    "all but the centre": (all_but_the_centre, "The kernel is 0 at its centre", 4),
    "noise": (noisy, EVERY_TAP, 4),
    "Gaussian": (centred(lambda c, g: gaussian(c, g) / c**0.5), NOT_ORTHOGONAL, 3),
    "Gaussian, not scaled": (centred(gaussian), NOT_ORTHOGONAL, 3),
    "unit columns": (centred(lambda c, g: nn.functional.normalize(gaussian(c, g), dim=0)), "Your columns have one length", 3),
    "unit rows": (centred(lambda c, g: nn.functional.normalize(gaussian(c, g), dim=1)), "Your rows have one length", 3),
    "R": (centred(lambda c, g: torch.linalg.qr(gaussian(c, g)).R), "Your matrix is triangular", 3),
    "zeros": (lambda c, k, generator, gain=1.0: torch.zeros(c, c, k, k), "The kernel is 0 everywhere", 0),
    "gain ignored": (with_gain(lambda c, g: 1.0), "gain has no effect: multiply the matrix", 5),
    "gain squared": (with_gain(lambda c, g: g**2), "gain is squared: multiply the matrix", 5),
    "root of gain": (with_gain(lambda c, g: g**0.5), "You multiply by √gain", 5),
    "gain divides": (with_gain(lambda c, g: 1 / g), "You divide by gain", 5),
    "1/√c": (with_gain(lambda c, g: g / c**0.5), "The kernel is √c too small", 5),
    "√c": (with_gain(lambda c, g: g * c**0.5), "The kernel is √c too large", 5),
    "√2": (with_gain(lambda c, g: g * 2**0.5), "There is a √2 too much", 5),
    "1 + gain": (with_gain(lambda c, g: 1 + g), "You add gain", 5),
    "3 gain": (with_gain(lambda c, g: 3 * g), "All singular values of the matrix at the centre", 5),
    "default √2": (lambda c, k, generator, gain=2**0.5: by_torch(c, k, generator, gain), "set this default", 5),
    "no default": (lambda c, k, generator, gain: by_torch(c, k, generator, gain), "yours takes (c, k, generator, gain)", 5),
    "identity": (centred(lambda c, g: torch.eye(c)), "Your matrix is the identity", 5),
    "permutation": (centred(permutation), "as in a permutation", 5),
    "signed permutation": (centred(signed_permutation), "as in a permutation", 5),
    "signs": (centred(random_signs), "the same matrix but for signs", 5),
    "blocks": (centred(blocks), "as in a permutation", 5),
    "plane rotation": (centred(plane_rotation), "as in a permutation", 5),
    "reflection": (centred(reflection), NOT_UNIFORM, 5),
    "small rotation": (centred(small_rotation), NOT_UNIFORM, 5),
    "uniform numbers": (centred(of_uniform_numbers), NOT_UNIFORM, 5),
    "cosines": (centred(cosines), NOT_UNIFORM, 5),
    "symmetric": (centred(symmetric), NOT_UNIFORM, 5),
    "own seed, shuffled": (centred(fixed_but_shuffled), NOT_UNIFORM, 5),
    "exponential": (centred(exponential), NOT_UNIFORM, 5),
    "own seed": (centred(fixed), STUCK_KERNEL, 5),
    "own seed, signs": (centred(fixed_with_signs), "the same matrix but for signs", 5),
    "reseeded": (centred(lambda c, g: by_qr(c, g.manual_seed(3))), STUCK_KERNEL, 5),
    "global generator": (centred(lambda c, g: torch.linalg.qr(torch.randn(c, c))[0]), OTHER_KERNEL, 5),
    "global generator of torch.nn": (
        centred(lambda c, g: nn.init.orthogonal_(torch.empty(c, c))),
        OTHER_KERNEL,
        5,
    ),
    "channels last": (channels_last, "asked for, (6, 6, 3, 3); got a tensor of shape (3, 3, 6, 6)", 0),
    "a matrix": (lambda c, k, generator, gain=1.0: gain * by_qr(c, generator), "got a tensor of shape (6, 6)", 0),
    "half": (lambda c, k, generator, gain=1.0: by_torch(c, k, generator, gain).half(), "got float16", 0),
}

# --- lsuv_ --------------------------------------------------------------------------------------------------


@torch.no_grad()
def lsuv(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight /= layer(x).std()
        x = layer(x)
    return model


def lsuv_with_data(model, x):
    h = x
    for layer in model:
        if hasattr(layer, "weight"):
            layer.weight.data = layer.weight.data / layer(h).data.var(unbiased=False) ** 0.5
        h = layer(h).detach()


def lsuv_new_parameters(model, x):
    for i, layer in enumerate(model):
        if type(layer) is nn.Linear:
            layer.weight = nn.Parameter(layer.weight / model[: i + 1](x).std())


@torch.no_grad()
def lsuv_with_hooks(model, x):
    seen = {}
    for layer in [m for m in model.modules() if isinstance(m, nn.Linear)]:
        handle = layer.register_forward_hook(lambda m, args, out: seen.update(z=out))
        model(x)
        handle.remove()
        layer.weight.mul_(seen["z"].var().rsqrt())


@torch.no_grad()
def lsuv_as_in_the_paper(model, x, tol=0.1, t_max=10):
    for i, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            for _ in range(t_max):
                variance = model[: i + 1](x).var()
                if abs(variance - 1.0) < tol:
                    break
                layer.weight /= variance.sqrt()


def lsuv_in_numpy(model, x):
    h = x.numpy()
    for layer in model:
        if isinstance(layer, nn.Linear):
            w = layer.weight.detach().numpy()  # shares its memory
            w /= np.std(h @ w.T)
            h = h @ w.T
        else:
            h = layer(torch.from_numpy(h)).numpy()


def lsuv_in_float32(model, x):
    model.float()
    lsuv(model, x.float())


def lsuv_bisecting(model, x):
    with torch.no_grad():
        for i, layer in enumerate(model):
            if not isinstance(layer, nn.Linear):
                continue
            start, low, high = layer.weight.clone(), -6.0, 6.0
            for _ in range(12):
                middle = (low + high) / 2
                layer.weight.copy_(start * math.exp(middle))
                low, high = (low, middle) if model[: i + 1](x).var() > 1 else (middle, high)


def lsuv_state_dict(model, x):
    copied = copy.deepcopy(model)
    lsuv(copied, x)
    model.load_state_dict(copied.state_dict())
    return 3


LSUV_CORRECT = [
    lsuv,
    lsuv_with_data,
    lsuv_new_parameters,
    lsuv_with_hooks,
    lsuv_as_in_the_paper,
    lsuv_in_numpy,
    lsuv_in_float32,
    lsuv_bisecting,
    lsuv_state_dict,
]


def dividing_by(divisor, on_with=None, chosen=lambda i, count: True):
    """In order, each weight by divisor(layer, h), and on with on_with(layer, h)."""

    @torch.no_grad()
    def lsuv_(model, x):
        count, i = sum(isinstance(m, nn.Linear) for m in model), 0
        for layer in model:
            old = layer(x)
            if isinstance(layer, nn.Linear):
                if chosen(i, count):
                    layer.weight /= divisor(layer, x)
                i += 1
            x = on_with(layer, x, old) if on_with else layer(x)

    return lsuv_


@torch.no_grad()
def backwards(model, x):
    for i in reversed(range(len(model))):
        if isinstance(model[i], nn.Linear):
            model[i].weight /= model[: i + 1](x).std()


@torch.no_grad()
def behind_the_activation(model, x):
    layers = list(model)
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            j = i + 1
            while j < len(layers) and not isinstance(layers[j], nn.Linear):
                j += 1
            layer.weight /= model[i:j](x).std()
        x = layer(x)


@torch.no_grad()
def new_orthogonal(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight)
            layer.weight /= layer(x).std()
        x = layer(x)


@torch.no_grad()
def and_centres(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight /= layer(x).std()
            if layer.bias is not None:
                layer.bias -= layer(x).mean(0)
        x = layer(x)


@torch.no_grad()
def centred_weights(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight -= layer.weight.mean()
            layer.weight /= layer(x).std()
        x = layer(x)


@torch.no_grad()
def until_nearly(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear):
            while abs(layer(x).std() - 1) > 0.5:
                layer.weight *= 0.9 if layer(x).std() > 1 else 1.1
        x = layer(x)


@torch.no_grad()
def own_batch(model, x):
    lsuv(model, torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=F64))


@torch.no_grad()
def centred_batch(model, x):
    lsuv(model, x - x.mean())


@torch.no_grad()
def in_place_input(model, x):
    x -= x.mean()
    lsuv(model, x)


@torch.no_grad()
def skips_without_bias(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            layer.weight /= layer(x).std()
        x = layer(x)


def on_a_copy(model, x):
    return lsuv(copy.deepcopy(model), x)


def without_no_grad(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight /= layer(x).std()
        x = layer(x)


@torch.no_grad()
def returns_early(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight /= layer(x).std()
        x = layer(x)
        return model


@torch.no_grad()
def weights_on_bias(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight /= layer(x).std()
            if layer.bias is not None:
                layer.bias += 1
        x = layer(x)


def rows(layer, h):
    return layer(h).std(0)[:, None]


def std(layer, h):
    return layer(h).std()


LSUV_WRONG = {
    "variance": (dividing_by(lambda layer, h: layer(h).var()), "You divide by the variance (or twice", 2),
    "multiplied": (dividing_by(lambda layer, h: 1 / layer(h).std()), "You multiply by the standard deviation", 2),
    "fourth root": (dividing_by(lambda layer, h: layer(h).std() ** 0.5), "You take one root too many", 2),
    "old output goes on": (dividing_by(std, lambda layer, h, old: old), "by what it put out in the net as it came", 3),
    "backwards": (backwards, "by what it put out in the net as it came", 3),
    "behind the activation": (behind_the_activation, "You measure behind the activation function", None),
    "input": (dividing_by(lambda layer, h: h.std()), "You measure the layer's input", None),
    "no activation": (
        dividing_by(std, lambda layer, h, old: layer(h) if isinstance(layer, nn.Linear) else h),
        "Your signal skips the activation functions",
        3,
    ),
    "root mean square": (dividing_by(lambda layer, h: layer(h).square().mean().sqrt()), "by the root mean square", 2),
    "variance of each unit": (dividing_by(lambda layer, h: layer(h).var(0).mean().sqrt()), "average the variances of the units", 2),
    "deviation of each unit": (dividing_by(lambda layer, h: layer(h).std(0).mean()), "standard deviations of the units", 2),
    "rows": (dividing_by(rows), "Each unit is scaled by itself", 0),
    "variance of each sample": (
        dividing_by(lambda layer, h: layer(h).var(1).mean().sqrt()),
        "average the variances of the samples",
        2,
    ),
    "one sample": (dividing_by(lambda layer, h: layer(h)[0].std()), "on the first sample alone", 2),
    "not the last": (dividing_by(std, chosen=lambda i, n: i < n - 1), "The last layer is left as it came", 3),
    "not the first": (dividing_by(std, chosen=lambda i, n: i > 0), "The first layer is left as it came", 5),
    "return in the loop": (returns_early, "Only the first layer is scaled", 3),
    "only the last": (dividing_by(std, chosen=lambda i, n: i == n - 1), "Only the last layer is scaled", 2),
    "variance 2": (dividing_by(lambda layer, h: layer(h).std() / 2**0.5), "The variance of each output is 2", 2),
    "norm": (dividing_by(lambda layer, h: layer(h).norm()), "by the norm of the whole output", 2),
    "weight's deviation": (dividing_by(lambda layer, h: layer.weight.std()), "weights by their own standard deviation", 2),
    "weight's norm": (dividing_by(lambda layer, h: layer.weight.norm()), "weights by their own norm", 2),
    "Xavier": (
        dividing_by(lambda layer, h: layer.weight.std() * layer.in_features**0.5),
        "Your weights have the variance 1/fan_in",
        2,
    ),
    "largest entry": (dividing_by(lambda layer, h: layer(h).abs().max()), "by the standard deviation of all entries of the layer's output", 2),
    "mean size": (dividing_by(lambda layer, h: layer(h).abs().mean()), "by the standard deviation of all entries of the layer's output", 2),
    "own batch": (own_batch, "by the standard deviation of all entries of the layer's output", None),
    "centred batch": (centred_batch, "You centre the batch", None),
    "until nearly": (until_nearly, "by the standard deviation of all entries of the layer's output", None),
    "those with a bias": (skips_without_bias, "by the standard deviation of all entries of the layer's output", 3),
    "new orthogonal weights": (new_orthogonal, "a weight is no multiple of what it was", 4),
    "weights without mean": (centred_weights, "a weight is no multiple of what it was", 4),
    "negative": (dividing_by(lambda layer, h: -layer(h).std()), "A weight has changed its sign", 4),
    "biases": (weights_on_bias, "A bias has changed", 4),
    "centred": (and_centres, "A bias has changed", 4),
    "on a copy": (on_a_copy, "no weight of the model has changed, and your function returned a value of type Sequential", 0),
    "nothing": (lambda model, x: model(x), "no weight of the model has changed, and your function returned a tensor", 0),
    "x in place": (in_place_input, "changed its input in place", 0),
    "gradients": (without_no_grad, "a leaf Variable that requires grad", 0),
    "zeros": (dividing_by(lambda layer, h: math.inf), "by the standard deviation of all entries of the layer's output", 0),
}

CORRECT = {
    "xavier_bound": BOUND_CORRECT,
    "he_normal": HE_CORRECT,
    "delta_orthogonal": DELTA_CORRECT,
    "lsuv_": LSUV_CORRECT,
}
CORRECT_SLOW = {"he_normal": [he_one_by_one, he_by_random], "delta_orthogonal": DELTA_CORRECT_SLOW}
WRONG = {"xavier_bound": BOUND_WRONG, "he_normal": HE_WRONG, "delta_orthogonal": DELTA_WRONG, "lsuv_": LSUV_WRONG}
