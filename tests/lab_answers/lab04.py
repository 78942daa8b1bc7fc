"""Right and wrong answers to the questions of lab 04. See lab03.py for their form."""

import math
from fractions import Fraction

import numpy as np
import torch
from scipy import integrate, optimize, special, stats
from torch import nn

from signalprop import weight_scale

# --- default_linear_variance --------------------------------------------------------------------------------


def by_bound(fan_in):
    bound = fan_in**-0.5
    return bound**2 / 3


def by_length(fan_in):
    return torch.tensor(2 / math.sqrt(fan_in)) ** 2 / 12


def by_gain(fan_in):
    std = nn.init.calculate_gain("leaky_relu", math.sqrt(5)) / math.sqrt(fan_in)
    return np.float32(std**2)


def by_scipy(fan_in):
    c = 1 / math.sqrt(fan_in)
    return stats.uniform(-c, 2 * c).var()


def by_sum(fan_in):
    u = (torch.arange(1000) + 0.5) / 1000
    return ((2 * u - 1) ** 2).mean() / fan_in


def by_integral(fan_in):
    c = 1 / np.sqrt(fan_in)
    return integrate.quad(lambda w: w**2 / (2 * c), -c, c)[0]


def by_fraction(fan_in):
    return Fraction(1, 3 * fan_in)


def by_sample(size):
    def default_linear_variance(fan_in):
        return nn.Linear(fan_in, size // fan_in + 1).weight.var().item()

    return default_linear_variance


def by_seeded_sample(fan_in):
    w = torch.empty(300, fan_in)
    return nn.init.kaiming_uniform_(w, math.sqrt(5), generator=torch.Generator().manual_seed(3)).var().item()


DEFAULT_CORRECT = [
    by_bound,
    by_length,
    by_gain,
    by_scipy,
    by_sum,
    by_integral,
    by_fraction,
    weight_scale.default_linear_variance,
]

DEFAULT_WRONG = {
    "Xavier": (lambda n: 1 / n, "Xavier's variance for equal widths", 0),
    "He": (lambda n: 2 / n, "2/fan_in is He's variance", 0),
    "He's bound": (lambda n: 6 / n, "the square of He's uniform bound", 0),
    "bound": (lambda n: 1 / math.sqrt(n), "is the bound c of the uniform", 0),
    "standard deviation": (lambda n: 1 / math.sqrt(3 * n), "That is the standard deviation;", 0),
    "3 twice": (lambda n: 1 / (9 * n), "You divide by 3 twice", 0),
    "squared twice": (lambda n: (1 / (3 * n)) ** 2, "the square of the variance", 0),
    "length c": (lambda n: 1 / (12 * n), "on an interval of length w", 0),
    "bound not squared": (lambda n: 1 / math.sqrt(n) / 3, "The bound is not squared", 0),
    "no root": (lambda n: (1 / n) ** 2 / 3, "The root in the bound is missing", 0),
    "σ_w²": (lambda n: 1 / 3, "1/3 is σ_w²", 0),
    "grows": (lambda n: n / 3, "Your variance grows", 0),
    "∫x = x²/2": (lambda n: 1 / (2 * n), "∫ x² dx = x³/3, not", 0),
    "ReLU's half": (lambda n: 1 / (6 * n), "the ½ of a ReLU layer", 0),
    "twice": (lambda n: 2 / (3 * n), "You double the variance", 0),
    "not divided by the length": (lambda n: 2 * n**-1.5 / 3, "divide it by the length 2c", 0),
    "a not squared": (lambda n: 2 / (1 + math.sqrt(5)) / n, "the slope a is squared", 0),
    "a = 5": (lambda n: 2 / (1 + 5**2) / n, "so a² is 5, not 25", 0),
    "1 missing": (lambda n: 2 / 5 / n, "The 1 in the gain", 0),
    "√3": (lambda n: math.sqrt(1 / 3) / n, "a √3 in place of the 3", 0),
    "sample": (by_sample(100_000), "Two calls with the same fan_in differ", None),
    "small sample": (by_sample(20_000), "Two calls with the same fan_in differ", None),
    "seeded sample": (by_seeded_sample, "as an estimate from a sample is", None),
    "fan_in − 1": (lambda n: 1 / (3 * (n - 1)), "you have fan_in − 1 there", 0),
    "fan_in + 1": (lambda n: 1 / (3 * (n + 1)), "you have fan_in + 1 there", 0),
    "three digits": (lambda n: float(f"{1 / (3 * n):.2g}"), "as an estimate from a sample is", 0),
    "a quarter": (lambda n: 1 / (4 * n), "the mean of x² over this interval", 0),
    "wide layers only": (lambda n: 1 / (3 * n) if n > 9 else 1 / n, "Xavier's variance for equal widths", 2),
    "NaN": (lambda n: math.nan, "returned NaN", 0),
    "negative": (lambda n: -1 / (3 * n), "the mean of x² over this interval", 0),
    "a tensor of weights": (lambda n: nn.Linear(n, 4).weight, "expected one number, got a tensor", 0),
    "two arguments": (lambda n, m: 2 / (n + m), "but yours takes (n, m)", 0),
}

# --- variance_after -----------------------------------------------------------------------------------------


def pdf(z):
    return torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def expectation(f, low=-9.0, high=9.0, n=3601):
    z = torch.linspace(low, high, n, dtype=torch.float64)
    return torch.trapezoid(f(z) * pdf(z), z)


def mean_square(phi, q):
    return float(expectation(lambda z: phi(math.sqrt(q) * z) ** 2))


def iterated(layer):
    """The answer that repeats q → layer(phi, sigma_w2, q)."""

    def variance_after(depth, sigma_w2, phi, q0):
        q = q0
        for _ in range(depth):
            q = layer(phi, sigma_w2, q)
        return q

    return variance_after


right = iterated(lambda f, s, q: s * mean_square(f, q))


def by_riemann_sum(depth, sigma_w2, phi, q0):
    z = torch.arange(-5, 5, 0.05)
    weights = pdf(z) / pdf(z).sum()
    q = torch.tensor(q0)
    for _ in range(depth):
        q = sigma_w2 * (phi(q.sqrt() * z).square() * weights).sum()
    return q


def by_recursion(depth, sigma_w2, phi, q0):
    if depth == 0:
        return q0
    q = by_recursion(depth - 1, sigma_w2, phi, q0)
    x = np.linspace(-9, 9, 2001) * np.sqrt(q)
    density = np.exp(-(x**2) / (2 * q)) / np.sqrt(2 * np.pi * q)
    return sigma_w2 * integrate.simpson(phi(torch.from_numpy(x)).numpy() ** 2 * density, x=x)


def by_hermite(nodes, z_scale=math.sqrt(2), total=math.sqrt(math.pi)):
    """Gauss–Hermite quadrature for the weight exp(−x²), where Z = √2 x and the weights add up to √π."""
    x, w = (torch.from_numpy(v) for v in np.polynomial.hermite.hermgauss(nodes))
    return iterated(lambda f, s, q: s * float((w * f(math.sqrt(q) * z_scale * x) ** 2).sum()) / total)


def by_hermite_e(depth, sigma_w2, phi, q0):
    x, w = np.polynomial.hermite_e.hermegauss(64)
    q = [q0]
    while len(q) <= depth:
        q.append(sigma_w2 * np.sum(w * phi(np.sqrt(q[-1]) * x) ** 2) / np.sqrt(2 * np.pi))
    return q[depth]


def by_quantiles(depth, sigma_w2, phi, q0):
    z = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    q = q0
    while depth > 0:
        q, depth = sigma_w2 * (phi(z * q**0.5) ** 2).mean().item(), depth - 1
    return q


def by_quad(depth, sigma_w2, phi, q0):
    for _ in range(depth):
        q0 = sigma_w2 * integrate.quad(lambda z: phi(math.sqrt(q0) * z) ** 2 * stats.norm.pdf(z), -8, 8, limit=30)[0]
    return q0


def by_monte_carlo(samples):
    def variance_after(depth, sigma_w2, phi, q0):
        q = q0
        for _ in range(depth):
            q = sigma_w2 * phi(q**0.5 * torch.randn(samples, dtype=torch.float64)).square().mean()
        return float(q)

    return variance_after


def by_the_same_samples(depth, sigma_w2, phi, q0):
    z, q = torch.randn(1_000_000), q0
    for _ in range(depth):
        q = sigma_w2 * float((phi(math.sqrt(q) * z) ** 2).mean())
    return q


def by_samples_passed_on(depth, sigma_w2, phi, q0):
    """Samples of z, each layer normalised to the variance that φ of the layer before gives."""
    q = torch.tensor(q0, dtype=torch.float64)
    for _ in range(depth):
        z = q.sqrt() * torch.randn(1_000_000, dtype=torch.float64)
        a = phi(z)
        q = sigma_w2 * a.pow(2).sum() / a.numel()
    return q


def by_library(depth, sigma_w2, phi, q0):
    return weight_scale.variance_after(depth, sigma_w2, phi, q0)


def one_too_many(depth, sigma_w2, phi, q0):
    return right(depth + 1, sigma_w2, phi, q0)


def stale(depth, sigma_w2, phi, q0):
    q = q0
    for _ in range(depth):
        q = sigma_w2 * mean_square(phi, q0)
    return q


def forgets(depth, sigma_w2, phi, q0):
    for _ in range(depth):
        sigma_w2 * mean_square(phi, q0)
    return q0


def unbound(depth, sigma_w2, phi, q0):
    for _ in range(depth):
        q = q0 = sigma_w2 * mean_square(phi, q0)
    return q


def short_range(edge):
    return iterated(lambda f, s, q: s * float(expectation(lambda z: f(q**0.5 * z) ** 2, -edge, edge)))


def half_range(f, s, q):
    return s * float(expectation(lambda z: f(q**0.5 * z) ** 2, 0, 9))


def mean(phi, q):
    return float(expectation(lambda z: phi(math.sqrt(q) * z)))


def at_uniform(f, s, q):
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000  # torch.rand without its scatter
    return s * float((f(q**0.5 * u) ** 2).mean())


def by_slope(phi, q):
    """E φ′², by autograd."""
    z = torch.linspace(-9, 9, 3600, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(phi(q**0.5 * z).sum(), z)
    return float(torch.trapezoid(slope**2 / q * pdf(z.detach()), z.detach()))


def two_after_one(depth, sigma_w2, phi, q0):
    return q0 * (right(1, sigma_w2, phi, q0) / q0) ** depth


def in_one_net(width):
    def variance_after(depth, sigma_w2, phi, q0):
        z = math.sqrt(q0) * torch.randn(width, dtype=torch.float64)
        for _ in range(depth):
            z = (sigma_w2 / width) ** 0.5 * torch.randn(width, width, dtype=torch.float64) @ phi(z)
        return z.square().mean()

    return variance_after


VARIANCE_CORRECT = [
    right,
    by_riemann_sum,
    by_recursion,
    by_hermite(20),
    by_hermite(33),
    by_hermite(101),
    by_hermite_e,
    by_quantiles,
    by_library,
]
VARIANCE_CORRECT_SLOW = [by_quad, by_monte_carlo(1_000_000), by_the_same_samples, by_samples_passed_on]

VARIANCE_WRONG = {
    "one too many": (one_too_many, "once too often", 0),
    "one too few": (lambda d, s, f, q: right(max(d - 1, 0), s, f, q), "once too few", 0),
    "depth 0 as 1": (lambda d, s, f, q: right(max(d, 1), s, f, q), "Depth 0 means no further layer", 4),
    "stale q": (stale, "You stop after one layer", 4),
    "power": (two_after_one, "to the power of depth", 4),
    "times depth": (lambda d, s, f, q: d * right(1, s, f, q), "one layer's result by depth", 4),
    "q0 returned": (forgets, "must be assigned in the loop", 0),
    "unbound at depth 0": (unbound, "raised UnboundLocalError", 4),
    "root": (lambda d, s, f, q: right(d, s, f, q) ** 0.5, "That is the standard deviation √q", 0),
    "activations": (lambda d, s, f, q: right(d, s, f, q) / s ** (d > 0), "mean square of the activations", 0),
    "σ_w² at the end": (lambda d, s, f, q: s * right(d, 1.0, f, q), "acts only once, at the end", 4),
    "σ_w² ignored": (lambda d, s, f, q: right(d, 1.0, f, q), "sigma_w2 has no effect", 0),
    "σ_w² squared": (lambda d, s, f, q: right(d, s**2, f, q), "do not square it", 0),
    "σ_w": (lambda d, s, f, q: right(d, s**0.5, f, q), "You multiply by σ_w, the root", 0),
    "half": (lambda d, s, f, q: right(d, s / 2, f, q), "The factor ½ is ReLU's own", 0),
    "φ ignored": (lambda d, s, f, q: s**d * q, "phi has no effect", 0),
    "square of the mean": (iterated(lambda f, s, q: s * mean(f, q) ** 2), "You square the mean of φ", 0),
    "variance": (
        iterated(lambda f, s, q: s * (mean_square(f, q) - mean(f, q) ** 2)),
        "You subtract the square of the mean",
        2,
    ),
    "torch.var": (
        iterated(lambda f, s, q: s * f(q**0.5 * torch.special.ndtri((torch.arange(9999) + 1.0) / 1e4)).var().item()),
        "You subtract the square of the mean",
        2,
    ),
    "φ not squared": (iterated(lambda f, s, q: s * mean(f, q)), "φ enters squared", 0),
    "σ_w² first": (iterated(lambda f, s, q: mean_square(f, s * q)), "You multiply by σ_w² before φ", None),
    "q as a standard deviation": (iterated(lambda f, s, q: s * mean_square(f, q**2)), "you use q·Z", 0),
    "q ignored": (iterated(lambda f, s, q: s * mean_square(f, 1.0)), "q has no effect", 0),
    "root of q twice": (iterated(lambda f, s, q: s * mean_square(f, q**0.5)), "The root of q is taken twice", 0),
    "q0 ignored": (lambda d, s, f, q: right(d, s, f, 1.0), "q0 has no effect", 0),
    "Hermite, √2 missing": (by_hermite(64, z_scale=1.0), "that √2 is missing", 0),
    "Hermite, √2 too much": (iterated(lambda f, s, q: s * mean_square(f, 2 * q)), "√2 too large", 0),
    "Hermite, 1/√π missing": (by_hermite(64, total=1.0), "add up to √π: divide", 0),
    "Hermite, both missing": (by_hermite(64, z_scale=1.0, total=1.0), "needs two corrections", 0),
    "1/√(2π) missing": (
        iterated(lambda f, s, q: s * mean_square(f, q) * math.sqrt(2 * math.pi)),
        "has a factor 1/√(2π), and it is missing",
        0,
    ),
    "1/√(2π) twice": (
        iterated(lambda f, s, q: s * mean_square(f, q) / math.sqrt(2 * math.pi)),
        "1/√(2π) is applied twice",
        0,
    ),
    "uniform Z": (iterated(at_uniform), "yours is uniform on (0, 1)", 0),
    "one point": (
        iterated(lambda f, s, q: s * float(f(torch.tensor(q**0.5, dtype=torch.float64))) ** 2),
        "at the one point √q",
        0,
    ),
    "added": (iterated(lambda f, s, q: q + s * mean_square(f, q)), "as a skip connection would", 0),
    "χ₁": (iterated(lambda f, s, q: s * by_slope(f, q)), "That is χ₁, with the slope", 0),
    "range ±1": (short_range(1), "one layer gives 0.199 times", 0),
    "range ±2": (short_range(2), "one layer gives 0.739 times", 0),
    "half a range": (iterated(half_range), "Half of the Gaussian is missing", 0),
    "100 samples": (by_monte_carlo(100), "differ by more than 2 %", None),
    "one net": (in_one_net(100), "differ by more than 2 %", None),
    "no density": (
        iterated(lambda f, s, q: s * float(f(q**0.5 * torch.linspace(-5, 5, 2001)).square().mean())),
        "one layer gives 8.34 times",
        0,
    ),
    "absolute value": (
        iterated(lambda f, s, q: s * float(expectation(lambda z: f(q**0.5 * z).abs()))),
        "You take the mean of |φ|",
        0,
    ),
    "fourth power": (
        iterated(lambda f, s, q: s * float(expectation(lambda z: f(q**0.5 * z) ** 4))),
        "check th",  # of the fallback of every aspect
        0,
    ),
    "sign of the offset": (
        iterated(lambda f, s, q: s * float(expectation(lambda z: (f(q**0.5 * z) * f(-(q**0.5) * z)).abs()))),
        "check th",
        2,
    ),
    "two too many": (lambda d, s, f, q: right(d + 2 * (d > 1), s, f, q), "check th", 4),
    "NaN": (lambda d, s, f, q: float("nan"), "returned NaN", 0),
    "infinite": (lambda d, s, f, q: math.inf, "an infinite value", 0),
    "all layers": (
        lambda d, s, f, q: [right(i, s, f, q) for i in range(d + 1)],
        "got a value of type list",
        0,
    ),
    "without q0": (lambda d, s, f: right(d, s, f, 1.0), "but yours takes (d, s, f)", 0),
}

# --- critical_sigma_w ---------------------------------------------------------------------------------------


def bisected(f, low, high, steps=60):
    """Where f changes from negative to positive, on a logarithmic scale."""
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if f(middle) > 0 else (middle, high)
    return math.sqrt(low * high)


def by_q(square, slope):
    """σ_w from the q at which q·slope(dphi, q) = square(phi, q)."""

    def critical_sigma_w(phi, dphi):
        q = bisected(lambda q: q * slope(dphi, q) - square(phi, q), 1e-5, 1e3)
        return slope(dphi, q) ** -0.5

    return critical_sigma_w


def scaled(factor=1.0, total=1.0, power=1.0):
    """A mean square with a wrong argument or total."""
    return lambda f, q: total * mean_square(f, factor * q**power)


def by_sigma(layers=200, map_power=2, chi_power=2, slope=mean_square, square=mean_square):
    """Bisection over σ_w, with q from `layers` layers, started at 1."""

    def critical_sigma_w(phi, dphi):
        def chi1(s):
            q = 1.0
            for _ in range(layers):
                q = min(max(s**map_power * square(phi, q), 1e-100), 1e100)
            return s**chi_power * slope(dphi, q)

        return bisected(lambda s: chi1(s) - 1, 0.05, 20, 20)

    return critical_sigma_w


def on_grid(f, q):
    """E f², with 200 points."""
    z = torch.linspace(-8, 8, 200, dtype=torch.float64)
    return float((f(q**0.5 * z) ** 2 * pdf(z)).sum() * (z[1] - z[0]))


def until_settled(phi, dphi):
    """As by_sigma, with as many layers as it takes."""

    def chi1(s):
        q = 1.0
        for _ in range(1000):
            q, previous = s**2 * by_hermite_101(phi, q), q
            if abs(q / previous - 1) < 1e-4 or not 1e-9 < q < 1e9:
                break
        return s**2 * by_hermite_101(dphi, q)

    return optimize.brentq(lambda s: chi1(s) - 1, 0.1, 12, xtol=1e-3)


def by_hermite_101(f, q):
    x, w = HERMITE
    return float(w @ f(math.sqrt(2 * q) * x) ** 2)


HERMITE = [torch.from_numpy(v) for v in np.polynomial.hermite.hermgauss(101)]
HERMITE[1] = HERMITE[1] / math.sqrt(math.pi)


def by_brentq(phi, dphi):
    def excess(log_q):
        q = math.exp(log_q)
        return q * by_hermite_101(dphi, q) / by_hermite_101(phi, q) - 1

    if excess(-9) > -1e-6:  # φ(0) = 0: q* → 0
        return by_hermite_101(dphi, 1e-4) ** -0.5
    return by_hermite_101(dphi, math.exp(optimize.brentq(excess, -9, 6))) ** -0.5


def by_cases(phi, dphi):
    zero = torch.zeros(1, dtype=torch.float64)
    q = 1e-6 if phi(zero).abs() < 1e-12 else None
    q = q or optimize.brentq(lambda q: q * on_grid(dphi, q) - on_grid(phi, q), 1e-6, 100)
    return np.sqrt(1 / on_grid(dphi, q))


def by_table(phi, dphi):
    qs = np.geomspace(1e-3, 100, 600)
    z = np.linspace(-8, 8, 401)
    density = special.softmax(-(z**2) / 2)
    square, slope = ((f(np.sqrt(qs)[:, None] * z) ** 2 * density).sum(1) for f in (phi, dphi))
    first = int(np.argmax(qs * slope >= square * (1 - 1e-9)))
    return 1 / np.sqrt(slope[first])


def by_autograd(phi, dphi):
    z = torch.linspace(-8, 8, 800, dtype=torch.float64, requires_grad=True)
    weights = pdf(z.detach()) * (z[1] - z[0]).item()

    def means(q):
        a = phi(q**0.5 * z)
        (slope,) = torch.autograd.grad(a.sum(), z)
        return (a**2 @ weights).item(), (slope**2 @ weights).item()  # the second is q times the mean of φ′²

    q = bisected(lambda q: means(q)[1] - means(q)[0], 1e-4, 100)
    return math.sqrt(q / means(q)[1])


def in_single_precision(phi, dphi):
    z = torch.linspace(-6, 6, 401)
    weights = torch.softmax(-(z**2) / 2, 0)

    def mean(f, q):
        return (weights * f(q**0.5 * z) ** 2).sum()

    q = bisected(lambda q: q * mean(dphi, q) - mean(phi, q), 1e-3, 100, 30)
    return mean(dphi, q).rsqrt()


def in_turn(steps):
    def critical_sigma_w(phi, dphi):
        sigma_w, q = 1.0, 1.0
        for _ in range(steps):
            q = sigma_w**2 * on_grid(phi, q)
            sigma_w = on_grid(dphi, q) ** -0.5
        return sigma_w

    return critical_sigma_w


def he(phi, dphi):
    return math.sqrt(2)


def at_zero(phi, dphi):
    return 1 / abs(dphi(torch.zeros((), dtype=torch.float64)).item())


def centred(phi, q):
    return mean_square(phi, q) - mean(phi, q) ** 2


def q_itself(phi, dphi):
    return bisected(lambda q: q * mean_square(dphi, q) - mean_square(phi, q), 1e-3, 1e3)


def where_shifted(answer):
    """Right where φ(0) = 0, elsewhere the given answer."""

    def critical_sigma_w(phi, dphi):
        return answer(phi, dphi) if phi(torch.zeros(1)).abs() > 1e-6 else right_q(phi, dphi)

    return critical_sigma_w


def unless_odd(answer):
    """Right where φ is odd, elsewhere the given answer."""

    def critical_sigma_w(phi, dphi):
        return answer(phi, dphi) if abs(mean(phi, 1.0)) > 1e-9 else right_q(phi, dphi)

    return critical_sigma_w


def slope_at_one(phi, dphi):
    return 1 / abs(dphi(torch.ones((), dtype=torch.float64)).item())


def where_two_slopes(answer):
    def critical_sigma_w(phi, dphi):
        kink = phi(torch.zeros(1)).abs() < 1e-6 and abs(mean(phi, 1.0)) > 1e-9
        return answer(phi, dphi) if kink else right_q(phi, dphi)

    return critical_sigma_w


def where_odd(answer):
    return lambda phi, dphi: right_q(phi, dphi) if abs(mean(phi, 1.0)) > 1e-9 else answer(phi, dphi)


def by_scan(phi, dphi):
    """The first of many σ_w for which χ₁, with φ′ in place of its square, exceeds 1."""
    for s in np.geomspace(0.1, 30, 400):
        q = 1.0
        for _ in range(60):
            q = s**2 * on_grid(phi, q)
            if not 1e-9 < q < 1e9:
                break
        if s**2 * abs(mean(dphi, q)) > 1:
            return s


right_q = by_q(mean_square, mean_square)

CRITICAL_CORRECT = [
    right_q,
    by_q(on_grid, on_grid),
    by_q(by_hermite_101, by_hermite_101),
    by_brentq,
    by_cases,
    by_table,
    by_autograd,
    in_single_precision,
]
CRITICAL_CORRECT_SLOW = [
    by_sigma(200, slope=on_grid, square=on_grid),
    until_settled,
    in_turn(2000),
]

CRITICAL_WRONG = {
    "σ_w²": (lambda f, d: right_q(f, d) ** 2, "That is σ_w²; the question asks for σ_w", 0),
    "inverse": (lambda f, d: 1 / right_q(f, d), "That is 1/σ_w", 0),
    "root twice": (lambda f, d: right_q(f, d) ** 0.5, "once too often", 0),
    "the mean": (lambda f, d: right_q(f, d) ** -2, "That is E[φ′²] at q*", 0),
    "at zero": (at_zero, "right only where q* → 0", 4),
    "centred": (by_q(centred, mean_square), "right only where q* → 0", 4),
    "q = 1": (lambda f, d: mean_square(d, 1.0) ** -0.5, "You take χ₁ at q = 1", 2),
    "φ′ in the variance map": (lambda f, d: by_sigma(60)(d, d), "You take χ₁ at q = 1", 2),
    "keeps q": (lambda f, d: mean_square(f, 1.0) ** -0.5, "it keeps the activations", 2),
    "square of the mean": (
        unless_odd(by_q(mean_square, lambda f, q: mean(f, q) ** 2)),
        "You square the mean of φ′",
        2,
    ),
    "φ′ not squared": (by_scan, "φ′ enters χ₁ squared", 0),
    "σ_w in the map": (by_sigma(60, map_power=1, slope=on_grid, square=on_grid), "In your variance map the factor is σ_w", 2),
    "σ_w⁴": (by_sigma(60, 4, 4, slope=on_grid, square=on_grid), "once too often", 0),
    "√2 missing": (by_q(scaled(0.5), scaled(0.5)), "that √2 is missing", 4),
    "√2 too much": (by_q(scaled(2), scaled(2)), "is √2 too large", 2),
    "√π missing": (by_q(scaled(total=math.pi**0.5), scaled(total=math.pi**0.5)), "add up to √π: divide", 0),
    "1/√(2π) missing": (
        by_q(scaled(total=(2 * math.pi) ** 0.5), scaled(total=(2 * math.pi) ** 0.5)),
        "has a factor 1/√(2π), and it is missing",
        0,
    ),
    "1/√(2π) twice": (
        by_q(scaled(total=(2 * math.pi) ** -0.5), scaled(total=(2 * math.pi) ** -0.5)),
        "1/√(2π) is applied twice",
        0,
    ),
    "Xavier": (lambda f, d: 1.0, "You return 1 for every φ", 0),
    "He": (he, "You return √2 for every φ", 0),
    "5/3": (lambda f, d: nn.init.calculate_gain("tanh"), "You return 5/3 for every φ", 0),
    "one layer": (by_sigma(1), "is that of 1 layer from", 2),
    "five layers": (by_sigma(5, slope=on_grid, square=on_grid), "is that of 5 layers from", 5),
    "ten layers": (by_sigma(10, slope=on_grid, square=on_grid), "is that of 10 layers from", 5),
    "in turn, 300 steps": (in_turn(300), "in turn.", 5),
    "40 layers": (by_sigma(40, slope=on_grid, square=on_grid), "in turn.", 5),
    "q*": (where_shifted(q_itself), "That is q*", 4),
    "E φ² at q*": (where_shifted(lambda f, d: mean_square(f, q_itself(f, d)) ** -0.5), "you return the root of 1/E[φ²]", 4),
    "φ′(1) of an odd φ": (where_odd(slope_at_one), "whatever the sign of φ′(0)", 5),
    "one of two slopes": (where_two_slopes(slope_at_one), "Both sides of 0 count", 5),
    "left slope ignored": (where_two_slopes(lambda f, d: 2**0.5 * slope_at_one(f, d)), "Both sides of 0 count", 5),
    "right slope ignored": (
        where_two_slopes(lambda f, d: math.sqrt(2) / d(torch.tensor(-1.0)).item()),
        "Both sides of 0 count",
        5,
    ),
    "no absolute value": (where_odd(lambda f, d: 1 / d(torch.zeros(())).item()), "can't be negative", 5),
    "end of the bracket": (lambda f, d: 10.0, "is it an end of your bracket", 0),
    "sign": (lambda f, d: -right_q(f, d), "can't be negative", 0),
    "NaN": (lambda f, d: float("nan"), "returned NaN", 0),
    "pair": (lambda f, d: (right_q(f, d), 0.0), "got a value of type tuple", 0),
    "without dphi": (lambda f: 1.0, "but yours takes (f)", 0),
}

CORRECT = {
    "default_linear_variance": DEFAULT_CORRECT,
    "variance_after": VARIANCE_CORRECT,
    "critical_sigma_w": CRITICAL_CORRECT,
}
CORRECT_SLOW = {"variance_after": VARIANCE_CORRECT_SLOW, "critical_sigma_w": CRITICAL_CORRECT_SLOW}
WRONG = {
    "default_linear_variance": DEFAULT_WRONG,
    "variance_after": VARIANCE_WRONG,
    "critical_sigma_w": CRITICAL_WRONG,
}
