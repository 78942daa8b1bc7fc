"""Answers to lab 03: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import integrate, special

# --- dphi ---------------------------------------------------------------------------------------------------

PHI = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky": F.leaky_relu,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
}


def by_autograd(name, z):
    x = z.detach().clone().requires_grad_()
    PHI[name](x).sum().backward()
    return x.grad


def by_autograd_on_z(name, z):
    z.requires_grad_()
    return torch.autograd.grad(PHI[name](z).sum(), z)[0]


def by_vmap(name, z):
    return torch.vmap(torch.func.grad(PHI[name]))(z.flatten()).reshape(z.shape)


def by_central_difference(name, z):
    return (PHI[name](z + 1e-5) - PHI[name](z - 1e-5)) / 2e-5


def by_forward_difference(name, z):
    return (PHI[name](z + 1e-5) - PHI[name](z)) / 1e-5


def in_float32(name, z):
    return by_autograd(name, z.float())


def in_numpy(name, z):
    z = z.numpy()
    if name == "sigmoid":
        return special.expit(z) * special.expit(-z)
    if name == "tanh":
        return 1 / np.cosh(z) ** 2
    if name == "relu":
        return np.heaviside(z, 0.5)
    if name == "leaky":
        return np.where(z >= 0, 1.0, 0.01)
    if name == "elu":
        return np.minimum(1, np.exp(z))
    if name == "silu":
        s = special.expit(z)
        return s * (1 + z * (1 - s))
    return special.ndtr(z) + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def in_a_loop(name, z):
    def one(x):
        s = 1 / (1 + math.exp(-x))
        return {
            "sigmoid": s - s**2,
            "tanh": (1 - math.tanh(x)) * (1 + math.tanh(x)),
            "relu": 1.0 if x > 0 else 0.0,
            "leaky": 1.0 if x > 0 else 0.01,
            "elu": 1.0 if x > 0 else math.exp(x),
            "silu": x * s + s * (1 - x * s),
            "gelu": 0.5 * math.erfc(-x / math.sqrt(2)) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
        }[name]

    return torch.tensor([one(x) for x in z.flatten().tolist()], dtype=z.dtype).view(z.shape)


def only(name, wrong):
    """A correct answer for every activation but one."""

    def dphi(asked, z):
        return wrong(z) if asked == name else by_autograd(asked, z)

    return dphi


def slope_of(phi):
    def slope(z):
        x = z.clone().requires_grad_()
        return torch.autograd.grad(phi(x).sum(), x)[0]

    return slope


def flattened(name, z):
    return by_autograd(name, z).flatten()


def transposed(name, z):
    return by_autograd(name, z).T if z.ndim == 2 else by_autograd(name, z)


def only_for_vectors(name, z):
    result = torch.zeros_like(z)
    for i in range(len(z)):
        result[i] = by_autograd(name, z[i]) if z[i] > -100 else 0.0
    return result


def relu_in_place(z):
    z[z < 0] = 0
    z[z > 0] = 1
    return z.clone()


s, t = torch.sigmoid, torch.tanh


def cdf(z):
    return (1 + torch.erf(z / 2**0.5)) / 2


def pdf(z):
    return torch.exp(-(z**2) / 2) / (2 * math.pi) ** 0.5


DPHI_CORRECT = [
    by_autograd,
    by_autograd_on_z,
    by_central_difference,
    by_forward_difference,
    in_float32,
    in_numpy,
    in_a_loop,
]

# (answer, a piece of the hint, the points it still earns; None where that depends on the draw)
DPHI_WRONG = {
    "φ itself": (lambda n, z: PHI[n](z), "the activation φ(z) itself", 0),
    "sign": (lambda n, z: -by_autograd(n, z), "Every value has the wrong sign", 0),
    # relu and leaky ReLU keep the sign of z, so for them alone this is right
    "at the activation": (lambda n, z: by_autograd(n, PHI[n](z)), "take it at the pre-activation", 2),
    "mean": (lambda n, z: by_autograd(n, z).mean(), "without a mean or a sum", 0),
    "flattened": (flattened, "of the input, (4, 5), got (20,)", 0),
    "transposed": (transposed, "expected the shape of the input, (4, 5), got (5, 4)", 0),
    "only for vectors": (only_for_vectors, "but not for shape (4, 5): your function raised RuntimeError", 0),
    "two names swapped": (
        lambda n, z: by_autograd({"silu": "gelu", "gelu": "silu"}.get(n, n), z),
        "are two names mixed up",
        5,
    ),
    "sigmoid of z": (only("sigmoid", lambda z: z * (1 - z)), "a(1 − a) is the slope only where a", 6),
    "sigmoid, factor": (only("sigmoid", lambda z: 1 - s(z)), "One factor is missing", 6),
    "sigmoid, sign": (only("sigmoid", lambda z: s(z) * (1 + s(z))), "you return σ(1 + σ)", 6),
    "sigmoid by tanh's formula": (only("sigmoid", lambda z: 1 - s(z) ** 2), "1 − a² is the slope of tanh;", 6),
    "tanh, square": (only("tanh", lambda z: 1 - t(z)), "The square is missing", 6),
    "tanh of z": (only("tanh", lambda z: 1 - z**2), "1 − a² is the slope only where a", 6),
    "tanh by the sigmoid's formula": (only("tanh", lambda z: t(z) * (1 - t(z))), "is the slope of the sigmoid;", 6),
    "tanh, sign": (only("tanh", lambda z: 1 + t(z) ** 2), "the slope of tanh falls as |z| grows", 6),
    "relu, >= 0": (only("relu", lambda z: (torch.relu(z) >= 0).to(z)), "relu(z) ≥ 0 always holds", 6),
    "relu, inverted": (only("relu", lambda z: (z < 0).to(z)), "Your mask is the wrong way round", 6),
    "relu, bool": (only("relu", lambda z: z > 0), "expected floating-point values (float64), got bool", 6),
    "relu, int": (only("relu", lambda z: (z > 0).long()), "expected floating-point values (float64), got int64", 6),
    "relu in place": (only("relu", relu_in_place), "changed its input in place", 6),
    "leaky, 0": (only("leaky", lambda z: (z > 0).to(z)), "as for plain ReLU; a leaky", 6),
    "leaky, 0.1": (only("leaky", slope_of(lambda z: F.leaky_relu(z, 0.1))), "on the left is 0.1;", 6),
    "leaky, 0.2": (only("leaky", slope_of(lambda z: F.leaky_relu(z, 0.2))), "on the left is 0.2;", 6),
    "leaky, 0.3": (only("leaky", slope_of(lambda z: F.leaky_relu(z, 0.3))), "The slope of this leaky ReLU is", 6),
    "leaky, 1": (only("leaky", torch.ones_like), "where z < 0 it must be 0.01", 6),
    "leaky, swapped": (only("leaky", slope_of(lambda z: -F.leaky_relu(-z))), "The two sides are swapped", 6),
    "leaky, value": (only("leaky", lambda z: torch.where(z > 0, 1, 0.01 * z)), "you return the value 0.01 z", 6),
    "leaky, sign": (only("leaky", slope_of(lambda z: F.leaky_relu(z, -0.01))), "0.01 z rises with z", 6),
    "elu, value": (only("elu", lambda z: torch.where(z > 0, 1, F.elu(z))), "you return ELU itself", 6),
    "elu, no mask": (only("elu", torch.exp), "the mask is missing", 6),
    "elu, 0": (only("elu", lambda z: (z > 0).to(z)), "The slope where z < 0 is 0", 6),
    "elu, sign": (only("elu", lambda z: torch.where(z > 0, 1, -torch.exp(z))), "ELU rises everywhere", 6),
    "elu, exponent": (only("elu", lambda z: torch.where(z > 0, 1, torch.exp(-z))), "the exponent has the wrong", 6),
    "elu, 1": (only("elu", torch.ones_like), "where z < 0 it must be e^z", 6),
    "silu, second term": (only("silu", s), "(zσ)′ = σ + zσ(1 − σ), and you dropped", 6),
    "silu, first term": (only("silu", lambda z: z * s(z) * s(-z)), "the derivative of z times σ(z)", 6),
    "silu, z missing": (only("silu", lambda z: s(z) + s(z) * s(-z)), "it is z σ′(z)", 6),
    "silu, sign": (only("silu", lambda z: s(z) - z * s(z) * s(-z)), "the wrong sign: it is added", 6),
    "gelu, tanh form": (
        only("gelu", slope_of(lambda z: F.gelu(z, approximate="tanh"))),
        "the slope of the tanh approximation",
        6,
    ),
    "gelu, sigmoid form": (only("gelu", slope_of(lambda z: z * s(1.702 * z))), "z σ(1.702 z)", 6),
    "gelu, second term": (only("gelu", cdf), "(zΦ)′ = Φ + zΦ′, and you dropped", 6),
    "gelu, first term": (only("gelu", lambda z: z * pdf(z)), "the derivative of z times Φ(z)", 6),
    "gelu, z missing": (only("gelu", lambda z: cdf(z) + pdf(z)), "it is z Φ′(z)", 6),
    "gelu, density": (only("gelu", lambda z: cdf(z) + z * torch.exp(-(z**2) / 2)), "lacks its factor 1/√(2π)", 6),
    "gelu, erf(z)": (
        only("gelu", slope_of(lambda z: z * (1 + torch.erf(z)) / 2)),
        "the √2 inside erf is missing",
        6,
    ),
    "gelu, something else": (only("gelu", lambda z: z**3), "GELU is z·Φ(z)", 6),
}

# --- chi1 ---------------------------------------------------------------------------------------------------


def expectation(f, low=-9.0, high=9.0, n=3601):
    z = torch.linspace(low, high, n, dtype=torch.float64)
    return torch.trapezoid(f(z) * pdf(z), z)


def by_trapezoid(dphi, sigma_w, q):
    return sigma_w**2 * expectation(lambda z: dphi(q**0.5 * z) ** 2)


def by_riemann_sum(dphi, sigma_w, q):
    z = torch.arange(-8, 8, 0.01)
    return (sigma_w**2 * (dphi(math.sqrt(q) * z) ** 2 * pdf(z)).sum() * 0.01).item()


def over_x(dphi, sigma_w, q):
    x = np.linspace(-9, 9, 4001) * np.sqrt(q)
    density = np.exp(-(x**2) / (2 * q)) / np.sqrt(2 * np.pi * q)
    return sigma_w**2 * integrate.simpson(dphi(torch.from_numpy(x)).numpy() ** 2 * density, x=x)


def by_quad(dphi, sigma_w, q):
    def integrand(z):
        return dphi(torch.tensor(math.sqrt(q) * z, dtype=torch.float64)).item() ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    return sigma_w**2 * integrate.quad(integrand, -math.inf, math.inf)[0]


def by_quad_on_floats(dphi, sigma_w, q):
    def integrand(z):
        return dphi(np.sqrt(q) * z) ** 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

    return sigma_w**2 * integrate.quad(integrand, -10, 10)[0]


def by_hermite(nodes, z_scale=math.sqrt(2), total=math.sqrt(math.pi)):
    """Gauss–Hermite quadrature for the weight exp(−x²), where Z = √2 x and the weights add up to √π."""
    x, w = (torch.from_numpy(v) for v in np.polynomial.hermite.hermgauss(nodes))

    def chi1(dphi, sigma_w, q):
        return sigma_w**2 * (w * dphi(math.sqrt(q) * z_scale * x) ** 2).sum() / total

    return chi1


def by_hermite_e(dphi, sigma_w, q):
    x, w = np.polynomial.hermite_e.hermegauss(64)
    return sigma_w**2 * np.sum(w * dphi(np.sqrt(q) * x) ** 2) / np.sqrt(2 * np.pi)


def by_quantiles(dphi, sigma_w, q):
    z = torch.special.ndtri((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)
    return sigma_w**2 * (dphi(z * q**0.5) ** 2).mean()


def by_monte_carlo(samples):
    def chi1(dphi, sigma_w, q):
        return float(sigma_w**2 * (dphi(q**0.5 * torch.randn(samples, dtype=torch.float64)) ** 2).mean())

    return chi1


def by_seeded_monte_carlo(dphi, sigma_w, q):
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    return sigma_w**2 * dphi(math.sqrt(q) * z).square().mean()


def square_of_mean(dphi, sigma_w, q):
    return sigma_w**2 * expectation(lambda z: dphi(q**0.5 * z)) ** 2


def uniform(dphi, sigma_w, q):
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000  # torch.rand without its scatter
    return sigma_w**2 * (dphi(q**0.5 * u) ** 2).mean()


def short_range(edge):
    return lambda dphi, sigma_w, q: sigma_w**2 * expectation(lambda z: dphi(q**0.5 * z) ** 2, -edge, edge)


def without_density(dphi, sigma_w, q):
    return sigma_w**2 * (dphi(q**0.5 * torch.linspace(-5, 5, 2001)) ** 2).mean()


CHI1_CORRECT = [
    by_trapezoid,
    by_riemann_sum,
    over_x,
    by_hermite(20),
    by_hermite(33),
    by_hermite(101),
    by_hermite_e,
    by_quantiles,
]
CHI1_CORRECT_SLOW = [by_quad, by_quad_on_floats, by_monte_carlo(1_000_000), by_seeded_monte_carlo]

CHI1_WRONG = {
    "root": (lambda d, s, q: by_trapezoid(d, s, q) ** 0.5, "That is √χ₁", 0),
    "sigma_w not squared": (lambda d, s, q: by_trapezoid(d, s**0.5, q), "a standard deviation and enters squared", 0),
    "sigma_w squared twice": (lambda d, s, q: by_trapezoid(d, s**2, q), "σ_w is squared twice", 0),
    "sigma_w ignored": (lambda d, s, q: by_trapezoid(d, 1.0, q), "sigma_w has no effect", 0),
    "square of the mean": (square_of_mean, "You square the mean", 2),
    "φ′ not squared": (lambda d, s, q: s**2 * expectation(lambda z: d(q**0.5 * z)), "take the mean of φ′², not", 0),
    "q as a standard deviation": (lambda d, s, q: by_trapezoid(d, s, q**2), "you use q·Z", 4),
    "q ignored": (lambda d, s, q: by_trapezoid(d, s, 1.0), "q has no effect", 4),
    "root of q twice": (lambda d, s, q: by_trapezoid(d, s, q**0.5), "The root of q is taken twice", 4),
    "Hermite, √2 missing": (by_hermite(64, z_scale=1.0), "that √2 is missing", 4),
    "Hermite, √2 too much": (lambda d, s, q: by_trapezoid(d, s, 2 * q), "√2 too large", 4),
    "Hermite, 1/√π missing": (by_hermite(64, total=1.0), "add up to √π: divide", 0),
    "Hermite, both missing": (by_hermite(64, z_scale=1.0, total=1.0), "needs two corrections", 0),
    "1/√(2π) missing": (
        lambda d, s, q: by_trapezoid(d, s, q) * (2 * math.pi) ** 0.5,
        "has a factor 1/√(2π), and it is missing",
        0,
    ),
    "1/√(2π) twice": (lambda d, s, q: by_trapezoid(d, s, q) / (2 * math.pi) ** 0.5, "1/√(2π) is applied twice", 0),
    "uniform Z": (uniform, "yours is uniform on (0, 1)", 2),
    "one point": (lambda d, s, q: s**2 * d(torch.tensor(q**0.5, dtype=torch.float64)) ** 2, "at the one point √q", 2),
    "range ±1": (short_range(1), "answer is 0.683 times", 0),
    "range ±2": (short_range(2), "answer is 0.954 times", None),
    "half a range": (lambda d, s, q: s**2 * expectation(lambda z: d(q**0.5 * z) ** 2, 0, 9), "answer is 0.5 times", 0),
    "no density": (without_density, "so here the spread √q matters", 4),
    "300 samples": (by_monte_carlo(300), "Two calls on the same input differ", None),
    "NaN": (lambda d, s, q: float("nan"), "returned NaN", 0),
    "infinite": (lambda d, s, q: math.inf, "an infinite value", 0),
    "not averaged": (
        lambda d, s, q: s**2 * d(q**0.5 * torch.randn(100)) ** 2,
        "expected one number, got a tensor of shape (100,)",
        0,
    ),
}

# --- saturated_fraction -------------------------------------------------------------------------------------

BOUNDS = {"sigmoid": (0, 1), "tanh": (-1, 1)}


def near(a, name, tol):
    low, high = BOUNDS[name]
    return (a < low + tol) | (a > high - tol)


def by_distance(a, name, tol=0.05):
    return torch.stack([(a - bound).abs() for bound in BOUNDS[name]]).amin(0).lt(tol).double().mean().item()


def by_mask(a, name, tol=0.05):
    return near(a, name, tol).float().mean()


def by_count(a, name, tol=0.05):
    return near(a, name, tol).sum() / a.numel()


def by_numpy(a, name, tol=0.05):
    low, high = BOUNDS[name]
    return np.mean(np.isclose(a, low, rtol=0, atol=tol) | np.isclose(a, high, rtol=0, atol=tol))


def by_loop(a, name, tol=0.05):
    low, high = BOUNDS[name]
    entries = a.flatten().tolist()
    return sum(1 for x in entries if x - low <= tol or high - x <= tol) / len(entries)


def by_rescaling(a, name, tol=0.05):
    if name == "tanh":
        a, tol = (a + 1) / 2, tol / 2
    return 1.0 - ((a >= tol) & (a <= 1 - tol)).double().mean()


def by_centre(a, name, tol=0.05):
    centre, radius = (0.5, 0.5) if name == "sigmoid" else (0.0, 1.0)
    return float(((a - centre).abs() > radius - tol).numpy().mean())


def slope(a, name):
    return a * (1 - a) if name == "sigmoid" else 1 - a**2


def share(mask):
    return mask.double().mean().item()


def phi(a, name):
    return torch.sigmoid(a) if name == "sigmoid" else torch.tanh(a)


def clamps(a, name, tol=0.05):
    a.clamp_(-0.5, 0.5)
    return 0.3


SATURATED_FRACTION_CORRECT = [by_distance, by_mask, by_count, by_numpy, by_loop, by_rescaling, by_centre]

SATURATED_FRACTION_WRONG = {
    "upper bound": (lambda a, n, tol=0.05: share(a > BOUNDS[n][1] - tol), "Only the upper bound counts", 0),
    "lower bound": (lambda a, n, tol=0.05: share(a < BOUNDS[n][0] + tol), "Only the lower bound counts", 0),
    "tanh's bounds": (lambda a, n, tol=0.05: share(a.abs() > 1 - tol), "You use tanh's bounds", 2),
    "the sigmoid's bounds": (lambda a, n, tol=0.05: by_mask(a, "sigmoid", tol), "You use the sigmoid's bounds", 2),
    "the sigmoid's bounds, distance": (
        lambda a, n, tol=0.05: by_distance(a, "sigmoid", tol),
        "You use the sigmoid's bounds",
        2,
    ),
    "and": (
        lambda a, n, tol=0.05: share((a < BOUNDS[n][0] + tol) & (a > BOUNDS[n][1] - tol)),
        "0 whatever a is",
        0,
    ),
    "count": (lambda a, n, tol=0.05: near(a, n, tol).sum(), "the number of saturated entries", 0),
    "rows": (lambda a, n, tol=0.05: near(a, n, tol).sum() / len(a), "You divide by the number of rows", 0),
    "percent": (lambda a, n, tol=0.05: 100 * by_mask(a, n, tol), "That is in percent", 0),
    "unsaturated": (lambda a, n, tol=0.05: 1 - by_mask(a, n, tol), "that are not saturated", 0),
    "units, all": (lambda a, n, tol=0.05: share(near(a, n, tol).all(0)), "for every sample", 0),
    "units, any": (lambda a, n, tol=0.05: share(near(a, n, tol).any(0)), "for at least one sample", 0),
    "per unit": (lambda a, n, tol=0.05: near(a, n, tol).double().mean(0), "expected one number, got a tensor", 0),
    "slope": (lambda a, n, tol=0.05: share(slope(a, n) < tol), "You compare the slope φ′ with tol", None),
    "relative slope": (
        lambda a, n, tol=0.05: share(slope(a, n) < tol * (0.25 if n == "sigmoid" else 1)),
        "as a share of its maximum",
        None,
    ),
    "tol ignored": (lambda a, n, tol=0.05: by_mask(a, n, 0.05), "tol has no effect", 4),
    "share of the range": (
        lambda a, n, tol=0.05: by_mask(a, n, tol * (BOUNDS[n][1] - BOUNDS[n][0])),
        "not a share of the range",
        None,
    ),
    "half of tol": (lambda a, n, tol=0.05: by_mask(a, n, tol / 2), "half as wide", 0),
    "activation twice": (lambda a, n, tol=0.05: by_mask(phi(a, n), n, tol), "0 whatever a is", 0),
    "default 0.01": (lambda a, n, tol=0.01: by_mask(a, n, tol), "set this default", 1),
    "no default": (lambda a, n, tol: by_mask(a, n, tol), "but yours takes (a, n, tol)", 1),
    "in place": (clamps, "changed its input in place", 0),
    "something else": (lambda a, n, tol=0.05: a.std(), "count the entries whose distance", 0),
}

CORRECT = {"dphi": DPHI_CORRECT, "chi1": CHI1_CORRECT, "saturated_fraction": SATURATED_FRACTION_CORRECT}
CORRECT_SLOW = {"dphi": [by_vmap], "chi1": CHI1_CORRECT_SLOW}
WRONG = {"dphi": DPHI_WRONG, "chi1": CHI1_WRONG, "saturated_fraction": SATURATED_FRACTION_WRONG}
