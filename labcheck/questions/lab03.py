"""Questions of lab 03, saturation: references, known mistakes and verdicts."""

import math

import torch
import torch.nn.functional as F

from .. import evidence as read
from ..judging import Item, Mistake, attempt, choose, close, judge, short, uniform
from ..question import Question


# --- lab03.dphi ---------------------------------------------------------------------------------------------

PHI = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky": lambda z: F.leaky_relu(z, 0.01),
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
}

# float32 (1e-7), central differences and one-sided differences with a step up to 1e-4 (5e-5) are right within
# this. The derivative of GELU's tanh approximation is not: it is off by up to 9e-4, and the question asks for
# the erf form.
DPHI_TOLERANCE = 1e-4


def _gaussian_cdf(z):
    return (1 + torch.erf(z / math.sqrt(2))) / 2


def _gaussian_pdf(z):
    return torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def dphi(name, z):
    """φ′(z), elementwise, at the pre-activation z; the slope at a kink is 0."""
    if name == "sigmoid":
        s = torch.sigmoid(z)
        return s * (1 - s)
    if name == "tanh":
        return 1 - torch.tanh(z) ** 2
    if name == "relu":
        return (z > 0).to(z.dtype)
    if name == "leaky":
        return 0.01 + 0.99 * (z > 0).to(z.dtype)
    if name == "elu":
        return torch.exp(z.clamp(max=0))
    if name == "silu":
        s = torch.sigmoid(z)
        return s + z * s * (1 - s)
    if name == "gelu":
        return _gaussian_cdf(z) + z * _gaussian_pdf(z)
    raise ValueError(f"expected one of {', '.join(PHI)}; got {name!r}")


def _autograd(phi):
    def slope(z):
        z = z.clone().requires_grad_()
        return torch.autograd.grad(phi(z).sum(), z)[0]

    return slope


def _step(left, right):
    return lambda z: torch.where(z > 0, right, left).to(z.dtype)


_sigmoid, _tanh = torch.sigmoid, torch.tanh

DPHI_MISTAKES = {
    "sigmoid": [
        Mistake(
            lambda z: z * (1 - z),
            "a(1 − a) is the slope only where a is already the output σ(z); you put the pre-activation z in its place.",
        ),
        Mistake(lambda z: 1 - _sigmoid(z), "One factor is missing: σ′ = σ(1 − σ), and you return 1 − σ."),
        Mistake(lambda z: _sigmoid(z) * (1 + _sigmoid(z)), "A sign is wrong: σ′ = σ(1 − σ), and you return σ(1 + σ)."),
        Mistake(lambda z: 1 - _sigmoid(z) ** 2, "1 − a² is the slope of tanh; σ has another one."),
    ],
    "tanh": [
        Mistake(lambda z: 1 - _tanh(z), "The square is missing: the slope is 1 − tanh², even in z and never above 1."),
        Mistake(
            lambda z: 1 - z**2,
            "1 − a² is the slope only where a is already the output tanh(z); you put the pre-activation z in its place.",
        ),
        Mistake(lambda z: _tanh(z) * (1 - _tanh(z)), "a(1 − a) is the slope of the sigmoid; tanh has another one."),
        Mistake(lambda z: 1 + _tanh(z) ** 2, "A sign is wrong: the slope of tanh falls as |z| grows, yours rises."),
    ],
    "relu": [
        Mistake(_step(1.0, 1.0), "Your mask is 1 everywhere: relu(z) ≥ 0 always holds. Ask for z > 0."),
        Mistake(_step(1.0, 0.0), "Your mask is the wrong way round: ReLU lets z > 0 through, so the slope is 1 there."),
    ],
    "leaky": [
        Mistake(_step(0.0, 1.0), "The slope on the left is 0, as for plain ReLU; a leaky ReLU lets 0.01 through."),
        Mistake(_step(0.1, 1.0), "The slope on the left is 0.1; this leaky ReLU has 0.01, PyTorch's default."),
        Mistake(_step(0.2, 1.0), "The slope on the left is 0.2; this leaky ReLU has 0.01, PyTorch's default."),
        Mistake(_step(1.0, 1.0), "The slope is 1 everywhere: where z < 0 it must be 0.01."),
        Mistake(_step(1.0, 0.01), "The two sides are swapped: 0.01 belongs to z < 0, 1 to z > 0."),
        Mistake(
            lambda z: torch.where(z > 0, 1.0, 0.01 * z),
            "Where z < 0 you return the value 0.01 z; the slope there is the constant 0.01.",
        ),
        Mistake(_step(-0.01, 1.0), "The slope on the left has the wrong sign: 0.01 z rises with z."),
    ],
    "elu": [
        Mistake(
            lambda z: torch.where(z > 0, 1.0, torch.exp(z) - 1),
            "Where z < 0 you return ELU itself, e^z − 1; its slope is e^z, which is ELU(z) + 1 and positive.",
        ),
        Mistake(torch.exp, "e^z is right where z < 0, but where z > 0 the slope is 1: the mask is missing."),
        Mistake(_step(0.0, 1.0), "The slope where z < 0 is 0 in your answer, as for ReLU; ELU's is e^z."),
        Mistake(
            lambda z: torch.where(z > 0, 1.0, -torch.exp(z)),
            "Where z < 0 the sign is wrong: ELU rises everywhere, so its slope is +e^z.",
        ),
        Mistake(
            lambda z: torch.where(z > 0, 1.0, torch.exp(-z)),
            "Where z < 0 the exponent has the wrong sign: the slope e^z falls to 0 on the left, yours grows.",
        ),
        Mistake(_step(1.0, 1.0), "The slope is 1 everywhere: where z < 0 it must be e^z."),
    ],
    "silu": [
        Mistake(
            _sigmoid,
            "The product rule has two terms: (zσ)′ = σ + zσ(1 − σ), and you dropped the second. The slope exceeds 1 "
            "for large z and is negative on the far left.",
        ),
        Mistake(
            lambda z: z * _sigmoid(z) * (1 - _sigmoid(z)),
            "The product rule has two terms, and you dropped the first: the derivative of z times σ(z).",
        ),
        Mistake(
            lambda z: _sigmoid(z) + _sigmoid(z) * (1 - _sigmoid(z)),
            "In the second term of the product rule the factor z is missing: it is z σ′(z).",
        ),
        Mistake(
            lambda z: _sigmoid(z) - z * _sigmoid(z) * (1 - _sigmoid(z)),
            "The second term of the product rule has the wrong sign: it is added.",
        ),
    ],
    "gelu": [
        Mistake(
            _autograd(lambda z: F.gelu(z, approximate="tanh")),
            "This is the slope of the tanh approximation of GELU; the question asks for the exact form with erf.",
        ),
        Mistake(
            _autograd(lambda z: z * torch.sigmoid(1.702 * z)),
            "This is the slope of the approximation z σ(1.702 z); the question asks for the exact form with erf.",
        ),
        Mistake(
            _gaussian_cdf,
            "The product rule has two terms: (zΦ)′ = Φ + zΦ′, and you dropped the second; Φ′ is the Gaussian density.",
        ),
        Mistake(
            lambda z: z * _gaussian_pdf(z),
            "The product rule has two terms, and you dropped the first: the derivative of z times Φ(z).",
        ),
        Mistake(
            lambda z: _gaussian_cdf(z) + _gaussian_pdf(z),
            "In the second term of the product rule the factor z is missing: it is z Φ′(z).",
        ),
        Mistake(
            lambda z: _gaussian_cdf(z) - z * _gaussian_pdf(z),
            "The second term of the product rule has the wrong sign: it is added.",
        ),
        Mistake(
            lambda z: _gaussian_cdf(z) + z * torch.exp(-(z**2) / 2),
            "The density in the second term lacks its factor 1/√(2π).",
        ),
        Mistake(
            lambda z: (1 + torch.erf(z)) / 2 + z * torch.exp(-(z**2)) / math.sqrt(math.pi),
            "Φ(z) = (1 + erf(z/√2))/2: the √2 inside erf is missing.",
        ),
    ],
}

DPHI_FACTS = {
    "sigmoid": "The slope of σ is positive, even in z, and at most 1/4.",
    "tanh": "The slope of tanh is positive, even in z, and at most 1.",
    "relu": "The slope of ReLU is 0 where z < 0 and 1 where z > 0.",
    "leaky": "The slope of this leaky ReLU is 0.01 where z < 0 and 1 where z > 0.",
    "elu": "ELU is z where z > 0 and e^z − 1 where z < 0; take the derivative of each branch.",
    "silu": "SiLU is z·σ(z): use the product rule.",
    "gelu": "GELU is z·Φ(z), with Φ(z) = (1 + erf(z/√2))/2: use the product rule.",
}


def _dphi_mistakes(name):
    phi = PHI[name]
    yield from DPHI_MISTAKES[name]
    yield Mistake(phi, "This is the activation φ(z) itself; the question asks for its slope φ′(z).")
    yield Mistake(
        lambda z: dphi(name, phi(z)), "You take the slope at the activation φ(z); take it at the pre-activation z."
    )
    yield Mistake(lambda z: -dphi(name, z), "Every value has the wrong sign.")
    for other in PHI:
        if other != name:
            yield Mistake(
                lambda z, other=other: dphi(other, z), f"This is the slope of {other}: are two names mixed up?"
            )


def dphi_inputs(generator):
    """One fixed z, so that hints can name a point, and random ones of other shapes; none is near the kink at 0."""
    fixed = torch.tensor([-3.0, -2.0, -1.5, -0.5, 0.5, 1.5, 2.0, 3.0], dtype=torch.float64)

    def draw(*shape):
        size = 0.1 + 3.9 * torch.rand(shape, generator=generator, dtype=torch.float64)
        return size * (2 * torch.randint(2, shape, generator=generator) - 1)

    return {"names": list(PHI), "z": [fixed, draw(4, 5), draw(2, 3, 4)]}


def dphi_judge(inputs, evidence):
    return {name: _dphi_finding(name, inputs["z"], evidence[name]) for name in PHI}


def _dphi_finding(name, zs, records):
    answers = []
    for z, record in zip(zs, records, strict=True):
        try:
            answers.append(read.tensor(record, "dphi(name, z)", z.shape))
        except read.Trouble as trouble:
            if answers and not _dphi_wrong(name, zs[0], answers[0]).any():
                return read.Trouble(
                    f"right for z of shape {tuple(zs[0].shape)}, but not for shape {tuple(z.shape)}: {trouble} "
                    "Work on all entries at once."
                )
            return trouble
    z, got = (torch.cat([t.flatten() for t in tensors]) for tensors in (zs, answers))
    if not _dphi_wrong(name, z, got).any():
        return None
    hints = (m.hint for m in _dphi_mistakes(name) if torch.allclose(m.answer(z), got, rtol=1e-4, atol=DPHI_TOLERANCE))
    hint = next(hints, DPHI_FACTS[name])
    z, got = zs[0], answers[0]
    error = (got - dphi(name, z)).abs()
    if error.max() <= DPHI_TOLERANCE:
        return hint
    worst = error.argmax()
    expected = dphi(name, z)[worst]
    return f"at z = {short(z[worst])} the check expects {short(expected)} and got {short(got[worst])}. {hint}"


def _dphi_wrong(name, z, got):
    return (got - dphi(name, z)).abs() > DPHI_TOLERANCE


# --- lab03.chi1 ---------------------------------------------------------------------------------------------

# 10⁶ samples of these slopes have a standard error of at most 0.13 %, so a Monte Carlo answer of that size is
# right; the nearest known mistake is off by more than 5 % in at least one case.
CHI1_TOLERANCE = 0.01


def chi1(dphi, sigma_w, q):
    """σ_w² E[φ′(√q Z)²], Z ~ N(0, 1), as a float, by the trapezoidal rule."""
    z = torch.linspace(-10, 10, 2000, dtype=torch.float64)  # an even number: no node at a kink
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return sigma_w**2 * torch.trapezoid(dphi(math.sqrt(q) * z) ** 2 * density, z).item()


def _chi1_mean_square(case, q):
    """E[φ′(√q Z)²] of a case, in closed form: E exp(−k q Z²) = 1/√(1 + 2 k q)."""
    c, a, k = case["level"], case["height"], case["rate"]
    bump = c**2 + 2 * c * a / math.sqrt(1 + 2 * k * q) + a**2 / math.sqrt(1 + 4 * k * q)
    return bump * (1 + case["left"] ** 2) / 2


def _chi1_mean(case, q):
    bump = case["level"] + case["height"] / math.sqrt(1 + 2 * case["rate"] * q)
    return bump * (1 + case["left"]) / 2


def _chi1_uniform(case, q):
    """E[φ′(√q U)²] with U uniform on (0, 1), by the midpoint rule."""
    u = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    return ((case["level"] + case["height"] * torch.exp(-case["rate"] * q * u**2)) ** 2).mean().item()


def _chi1_truth(case):
    return case["sigma_w"] ** 2 * _chi1_mean_square(case, case["q"])


_m2, _m1 = _chi1_mean_square, _chi1_mean

# The answers are functions of the case, σ_w and q.
CHI1_MISTAKES = [
    Mistake(
        lambda c, s, q: math.sqrt(s**2 * _m2(c, q)),
        "That is √χ₁, the factor of the gradient norm; χ₁ itself multiplies the squared norm, so take no root.",
    ),
    Mistake(
        lambda c, s, q: s * _m2(c, q),
        "σ_w is a standard deviation and enters squared: multiply by σ_w².",
    ),
    Mistake(
        lambda c, s, q: s**4 * _m2(c, q),
        "σ_w is squared twice: sigma_w is the standard deviation, and χ₁ has σ_w², not σ_w⁴.",
    ),
    Mistake(
        lambda c, s, q: _m2(c, q),
        "sigma_w has no effect: multiply the mean by σ_w².",
    ),
    Mistake(
        lambda c, s, q: s**2 * _m1(c, q) ** 2,
        "You square the mean of φ′; χ₁ needs the mean of the square, which is larger unless φ′ is constant.",
    ),
    Mistake(
        lambda c, s, q: s**2 * _m1(c, q),
        "φ′ enters squared: take the mean of φ′², not of φ′.",
    ),
    Mistake(
        lambda c, s, q: s**2 * _m2(c, q**2),
        "q is a variance, so the argument of φ′ is √q·Z; you use q·Z.",
    ),
    Mistake(
        lambda c, s, q: s**2 * _m2(c, 1.0),
        "q has no effect: the argument of φ′ is √q·Z, not Z.",
    ),
    Mistake(
        lambda c, s, q: s**2 * _m2(c, math.sqrt(q)),
        "The root of q is taken twice: the argument of φ′ is √q·Z.",
    ),
    Mistake(
        lambda c, s, q: s**2 * _m2(c, q / 2),
        "Gauss–Hermite nodes x belong to the weight exp(−x²): as Z they are √2·x, and that √2 is missing.",
    ),
    Mistake(
        lambda c, s, q: s**2 * _m2(c, 2 * q),
        "The argument of φ′ is √2 too large: nodes for the weight exp(−z²/2) are Z already.",
    ),
    Mistake(
        lambda c, s, q: math.sqrt(math.pi) * s**2 * _m2(c, q),
        "Gauss–Hermite weights for exp(−x²) add up to √π: divide by √π.",
    ),
    Mistake(
        lambda c, s, q: math.sqrt(math.pi) * s**2 * _m2(c, q / 2),
        "Gauss–Hermite quadrature with the weight exp(−x²) needs two corrections, and both are missing: Z = "
        "√2·x, and a division by √π.",
    ),
    Mistake(
        lambda c, s, q: math.sqrt(2 * math.pi) * s**2 * _m2(c, q),
        "The density of N(0, 1) has a factor 1/√(2π), and it is missing.",
    ),
    Mistake(
        lambda c, s, q: s**2 * _m2(c, q) / math.sqrt(2 * math.pi),
        "The factor 1/√(2π) is applied twice: the weights or the samples contain it already.",
    ),
    Mistake(
        lambda c, s, q: s**2 * _chi1_uniform(c, q),
        "Z must be standard normal (torch.randn); yours is uniform on (0, 1).",
    ),
    Mistake(
        lambda c, s, q: s**2 * (c["level"] + c["height"] * math.exp(-c["rate"] * q)) ** 2,
        "You evaluate φ′ at the one point √q; χ₁ needs the mean over all √q·Z.",
    ),
]

CHI1_FALLBACK = {
    "constant slope": "With a constant φ′ the mean of the square is φ′² itself, whatever q is: check σ_w² and whether "
    "your Gaussian weights add up to 1.",
    "two slopes": "φ′ has one value on each side of 0, and Z is on either side half of the time: check the mean of "
    "the square, and that both sides count.",
    "smooth slope": "φ′ falls with |z|, so here the spread √q matters: check the argument √q·Z and the Gaussian weights.",
}

_CHI1_FIXED = [
    (
        "φ′(z) = 0.5, σ_w = 3 and q = 2",
        dict(aspect="constant slope", level=0.5, height=0.0, rate=0.0, left=1.0, sigma_w=3.0, q=2.0),
    ),
    (
        "φ′(z) = 1 (z > 0) or 0.2 (z < 0), σ_w = 1.5 and q = 2",
        dict(aspect="two slopes", level=1.0, height=0.0, rate=0.0, left=0.2, sigma_w=1.5, q=2.0),
    ),
    (
        "φ′(z) = 0.1 + 0.9 exp(−z²/2), σ_w = 1.5 and q = 2",
        dict(aspect="smooth slope", level=0.1, height=0.9, rate=0.5, left=1.0, sigma_w=1.5, q=2.0),
    ),
]


def chi1_inputs(generator):
    """Three fixed cases, so that hints can name one, and four random ones; q is far from 1, where roots hide."""

    def draw(low, high):
        return uniform(generator, low, high)

    def case(aspect, q, **slope):
        sigma_w = draw(*choose(generator, (0.3, 0.7), (1.4, 3.0)))
        return dict(aspect=aspect, height=0.0, rate=0.0, left=1.0, sigma_w=sigma_w, q=q) | slope

    def bump(q, rate):
        return case("smooth slope", q, level=draw(0.05, 0.2), height=draw(0.7, 0.9), rate=rate)

    return {
        "cases": [fixed for _, fixed in _CHI1_FIXED]
        + [
            case("constant slope", draw(0.2, 3), level=draw(0.3, 0.8)),
            case("two slopes", draw(0.2, 3), level=draw(0.6, 1.2), left=draw(0.05, 0.3)),
            bump(draw(2, 3), draw(0.3, 0.4)),
            bump(draw(0.2, 0.4), draw(0.8, 1.2)),
        ]
    }


def chi1_judge(inputs, evidence):
    same = close(rtol=CHI1_TOLERANCE, atol=0)
    calls = list(zip(inputs["cases"], evidence["cases"], evidence["again"], strict=True))
    quotes = [words for words, _ in _CHI1_FIXED]
    items = []
    for turn in (1, 2):  # every call must be within 1 %, the first and the second
        for i, call in enumerate(calls):
            got = attempt(read.number, call[turn], "chi1(dphi, sigma_w, q)")
            quote = quotes[i] if i < len(quotes) else None
            items.append(Item(call[0]["aspect"], got, _chi1_truth(call[0]), call[0] | {"number": i}, quote=quote))

    def explain(some):
        by_case = {}
        for item in some:
            by_case.setdefault(item.case["number"], []).append(item.got)
        if any(len(got) == 2 and abs(got[0] - got[1]) > CHI1_TOLERANCE / 2 * abs(got[0]) for got in by_case.values()):
            return (
                "Two calls on the same input differ by more than 0.5 %, too much for an error of 1 %: take more "
                "samples (10⁶ are enough), or integrate on a grid."
            )
        total = [item.got / item.expected for item in some if item.aspect == "constant slope"]
        if total and not same(total[0], 1) and all(same(t, total[0]) for t in total):
            return (
                f"With a constant φ′ your answer is {short(total[0])} times what it must be, for every σ_w: the Gaussian "
                "weights must add up to 1. Check the range and the step of the integral, and its normalisation."
            )
        return None

    mistakes = [Mistake(lambda c, m=m: m.answer(c, c["sigma_w"], c["q"]), m.hint) for m in CHI1_MISTAKES]
    return judge(items, mistakes, CHI1_FALLBACK, same, explain)


# --- lab03.saturated_fraction -------------------------------------------------------------------------------

BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
DEFAULT_TOL = 0.05
SHARE_TOLERANCE = 1e-6  # a share of at most 72 entries: one entry more or less is 1e-2, float32 rounding 1e-7


def saturated_fraction(a, name, tol=DEFAULT_TOL):
    """Share of the entries of a that lie within tol of a bound of the activation, as a float."""
    low, high = BOUNDS[name]
    return ((a - low < tol) | (high - a < tol)).double().mean().item()


def _share(mask):
    return mask.double().mean().item()


def _units(combine):
    def answer(a, name, tol):
        low, high = BOUNDS[name]
        return _share(combine((a - low < tol) | (high - a < tol), 0))

    return answer


def _slope_at(a, name):
    return a * (1 - a) if name == "sigmoid" else 1 - a**2


SATURATION_MISTAKES = [
    Mistake(
        lambda a, n, t: _share(a > BOUNDS[n][1] - t),
        "Only the upper bound counts in your answer; a unit near the lower bound is saturated too.",
    ),
    Mistake(
        lambda a, n, t: _share(a < BOUNDS[n][0] + t),
        "Only the lower bound counts in your answer; a unit near the upper bound is saturated too.",
    ),
    Mistake(
        lambda a, n, t: _share(a.abs() > 1 - t),
        "You use tanh's bounds −1 and 1 for both; the sigmoid's lower bound is 0, so |a| says nothing about "
        "it.",
    ),
    Mistake(
        lambda a, n, t: _share((a < t) | (a > 1 - t)),
        "You use the sigmoid's bounds 0 and 1 for both; tanh's lower bound is −1.",
    ),
    Mistake(
        lambda a, n, t: _share((a.abs() < t) | ((a - 1).abs() < t)),
        "You use the sigmoid's bounds 0 and 1 for both; tanh's lower bound is −1.",
    ),
    Mistake(
        lambda a, n, t: saturated_fraction(a, n, t) * a.numel(),
        "That is the number of saturated entries; divide it by the number of all entries.",
    ),
    Mistake(
        lambda a, n, t: saturated_fraction(a, n, t) * a.numel() / a.shape[0],
        "You divide by the number of rows; divide by the number of all entries, a.numel().",
    ),
    Mistake(
        lambda a, n, t: saturated_fraction(a, n, t) * 100,
        "That is in percent; return a share between 0 and 1.",
    ),
    Mistake(
        lambda a, n, t: 1 - saturated_fraction(a, n, t),
        "That is the share of the entries that are not saturated.",
    ),
    Mistake(
        _units(torch.all),
        "You count units that are saturated for every sample; count single entries.",
    ),
    Mistake(
        _units(torch.any),
        "You count units that are saturated for at least one sample; count single entries.",
    ),
    Mistake(
        lambda a, n, t: _share(_slope_at(a, n) < t),
        "You compare the slope φ′ with tol; the question compares the distance of a to a bound.",
    ),
    Mistake(
        lambda a, n, t: _share(_slope_at(a, n) < t * (0.25 if n == "sigmoid" else 1)),
        "You compare the slope φ′, as a share of its maximum, with tol; the question compares the distance of "
        "a to a bound.",
    ),
    Mistake(
        lambda a, n, t: saturated_fraction(a, n),
        "tol has no effect: 0.05 is only its default.",
    ),
    Mistake(
        lambda a, n, t: saturated_fraction(a, n, t * (BOUNDS[n][1] - BOUNDS[n][0])),
        "tol is a distance in units of a, not a share of the range between the bounds.",
    ),
    Mistake(
        lambda a, n, t: saturated_fraction(a, n, t / 2),
        "Your zones are half as wide as they must be: tol is the distance to either bound.",
    ),
    Mistake(
        lambda a, n, t: 0.0,
        "Your answer is 0 whatever a is. No entry is near both bounds at once, so the two conditions need | "
        "(or), not & (and); and a holds activations already, so do not apply φ once more.",
    ),
]

SATURATION_FALLBACK = {
    "sigmoid": "The sigmoid's bounds are 0 and 1: count the entries whose distance to either is below tol.",
    "tanh": "The bounds of tanh are −1 and 1: count the entries whose distance to either is below tol.",
    "tolerance": "Everything within tol of a bound counts, for every tol that is passed.",
}


def _fixed(rows):
    return torch.tensor(rows, dtype=torch.float64)


_SATURATION_FIXED = [
    (
        "a = [[0.01, 0.30, 0.98, 0.60], [0.04, 0.50, 0.10, 0.70]], sigmoid",
        dict(aspect="sigmoid", name="sigmoid", tol=None, a=_fixed([[0.01, 0.3, 0.98, 0.6], [0.04, 0.5, 0.1, 0.7]])),
    ),
    (
        "a = [[−0.99, −0.40, 0.98, 0.20], [−0.97, 0.01, 0.60, 0.92]], tanh",
        dict(aspect="tanh", name="tanh", tol=None, a=_fixed([[-0.99, -0.4, 0.98, 0.2], [-0.97, 0.01, 0.6, 0.92]])),
    ),
    (
        "a = [[0.15, 0.50, 0.88, 0.60], [0.23, 0.30, 0.70, 0.04]], sigmoid, tol = 0.2",
        dict(aspect="tolerance", name="sigmoid", tol=0.2, a=_fixed([[0.15, 0.5, 0.88, 0.6], [0.23, 0.3, 0.7, 0.04]])),
    ),
]


def saturated_fraction_inputs(generator):
    """Three fixed cases, so that hints can name one, and seven random ones; no entry lies at a distance of tol."""

    def case(aspect, name, tol, *shape):
        low, high = BOUNDS[name]
        u = torch.rand(shape, generator=generator, dtype=torch.float64)
        a = low + (high - low) * torch.sin(math.pi / 2 * u) ** 2  # many entries near both bounds
        distance = torch.minimum(a - low, high - a)
        edge = (distance - (DEFAULT_TOL if tol is None else tol)).abs() < 1e-3
        return dict(aspect=aspect, name=name, tol=tol, a=torch.where(edge, (low + high) / 2, a))

    small, large = uniform(generator, 0.08, 0.12), uniform(generator, 0.17, 0.24)
    return {
        "cases": [fixed for _, fixed in _SATURATION_FIXED]
        + [
            case("sigmoid", "sigmoid", None, 40),
            case("sigmoid", "sigmoid", None, 3, 4, 6),
            case("tanh", "tanh", None, 40),
            case("tanh", "tanh", None, 3, 4, 6),
            case("tolerance", "sigmoid", small, 8, 9),
            case("tolerance", "tanh", small, 8, 9),
            case("tolerance", "tanh", large, 8, 9),
        ]
    }


def saturated_fraction_judge(inputs, evidence):
    def arguments(case):
        return case["a"], case["name"], DEFAULT_TOL if case["tol"] is None else case["tol"]

    quotes = [words for words, _ in _SATURATION_FIXED]
    items = [
        Item(
            case["aspect"],
            attempt(read.number, record, "saturated_fraction(a, name, tol=0.05)"),
            saturated_fraction(*arguments(case)),
            case,
            quote=quotes[i] if i < len(quotes) else None,
        )
        for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True))
    ]
    same = close(SHARE_TOLERANCE, SHARE_TOLERANCE)

    def explain(some):
        explicit = [item for item in some if item.case["tol"] is not None]
        if explicit and all(same(item.got, item.expected) for item in explicit):
            return "Without tol the answer must be that for tol = 0.05: set this default."
        return None

    mistakes = [Mistake(lambda c, m=m: m.answer(*arguments(c)), m.hint) for m in SATURATION_MISTAKES]
    return judge(items, mistakes, SATURATION_FALLBACK, same, explain)


QUESTIONS = (
    Question(
        name="lab03.dphi",
        signature="dphi(name, z)",
        contract=(
            "φ′(z), elementwise at the pre-activation z: float64 tensor of any shape to a tensor of the same shape. "
            'Names: "sigmoid", "tanh", "relu", "leaky" (slope 0.01), "elu" (α = 1), "silu", "gelu" (exact, with erf).'
        ),
        aspects=dict.fromkeys(PHI, 1),
        minutes=20,
        inputs=dphi_inputs,
        reference=dphi,
        judge=dphi_judge,
    ),
    Question(
        name="lab03.chi1",
        signature="chi1(dphi, sigma_w, q)",
        contract=(
            "χ₁ = σ_w² E[φ′(√q Z)²] with Z ~ N(0, 1), to within 1 %: a number. dphi maps a tensor z to φ′(z), "
            "sigma_w is a standard deviation and q a variance."
        ),
        aspects=dict.fromkeys(CHI1_FALLBACK, 2),
        minutes=20,
        inputs=chi1_inputs,
        reference=chi1,
        judge=chi1_judge,
    ),
    Question(
        name="lab03.saturated_fraction",
        signature="saturated_fraction(a, name, tol=0.05)",
        contract=(
            'The share, from 0 to 1, of the entries of a within tol of a bound of the activation: 0 or 1 for "sigmoid", '
            '−1 or 1 for "tanh". a is a float64 tensor of any shape, tol a distance in the units of a.'
        ),
        aspects={"sigmoid": 2, "tanh": 2, "tolerance": 1},
        minutes=10,
        inputs=saturated_fraction_inputs,
        reference=saturated_fraction,
        judge=saturated_fraction_judge,
    ),
)
