"""Questions of lab 04, the weight scale: references, known mistakes and verdicts."""

import math

import torch

from .. import evidence as read
from ..judging import Item, Mistake, attempt, choose, close, integer, judge, log_uniform, short, uniform
from ..probes.lab04 import activation
from ..question import Question


# --- lab04.default_linear_variance --------------------------------------------------------------------------

# A formula is right to 1e-7 even in float32, a sum over a fine grid to 1e-4. A sample of 10⁶ uniform numbers
# gives its variance with a standard error of 9e-4: drawn afresh, two samples of 10⁷ for each of seven fan-ins
# pass together once in 10⁷ checks.
EXACT = 1e-4


def default_linear_variance(fan_in):
    """Variance of each weight of a fresh nn.Linear: U(−1/√fan_in, 1/√fan_in) has 1/(3 fan_in)."""
    return 1 / (3 * fan_in)


DEFAULT_MISTAKES = [
    (
        lambda n: 1 / n,
        "1/fan_in is the square of the bound, and Xavier's variance for equal widths: a uniform variable on (−c, c) "
        "has the variance c²/3.",
    ),
    (
        lambda n: 2 / n,
        "2/fan_in is He's variance. The function is called kaiming_uniform_, but its argument a = √5 changes the gain "
        "√(2/(1 + a²)).",
    ),
    (
        lambda n: 6 / n,
        "6/fan_in is the square of He's uniform bound, with a = 0; the default has a = √5, and the variance is a third "
        "of the squared bound.",
    ),
    (
        lambda n: 1 / math.sqrt(n),
        "1/√fan_in is the bound c of the uniform distribution: its variance is c²/3.",
    ),
    (
        lambda n: 1 / math.sqrt(3 * n),
        "That is the standard deviation; the question asks for its square.",
    ),
    (
        lambda n: 1 / (9 * n),
        "You divide by 3 twice: gain²/fan_in, with gain² = 1/3, is the variance already, and the bound is √3 times "
        "the standard deviation.",
    ),
    (
        lambda n: 1 / (9 * n**2),
        "That is the square of the variance: (1/√fan_in)² is 1/fan_in, do not square it once more.",
    ),
    (
        lambda n: 1 / (12 * n),
        "w²/12 is the variance of a uniform variable on an interval of length w; from −c to c the length is 2c.",
    ),
    (
        lambda n: 1 / (3 * math.sqrt(n)),
        "The bound is not squared: the variance is c²/3, with c = 1/√fan_in.",
    ),
    (
        lambda n: 1 / (3 * n**2),
        "The root in the bound is missing: c = 1/√fan_in, not 1/fan_in.",
    ),
    (
        lambda n: 1 / 3,
        "1/3 is σ_w², the variance times fan_in; the question asks for the variance of one weight.",
    ),
    (
        lambda n: n / 3,
        "Your variance grows with fan_in: c² is 1/fan_in, so fan_in belongs below the line.",
    ),
    (
        lambda n: 1 / (2 * n),
        "For U(−c, c) the mean of x² is c²/3: ∫ x² dx = x³/3, not x²/2.",
    ),
    (
        lambda n: 1 / (6 * n),
        "You halve the variance: the ½ of a ReLU layer belongs to χ₁, not to the weights.",
    ),
    (
        lambda n: 2 / (3 * n),
        "You double the variance: the mean of x² over (−c, c) is c²/3, the integral divided by the length 2c.",
    ),
    (
        lambda n: 2 / (3 * n * math.sqrt(n)),
        "That is the integral of x² from −c to c; divide it by the length 2c of the interval.",
    ),
    (
        lambda n: 2 / ((1 + math.sqrt(5)) * n),
        "In the gain √(2/(1 + a²)) the slope a is squared: a = √5 gives gain² = 2/6.",
    ),
    (
        lambda n: 2 / (26 * n),
        "a is √5, so a² is 5, not 25: gain² = 2/(1 + 5).",
    ),
    (
        lambda n: 2 / (5 * n),
        "The 1 in the gain √(2/(1 + a²)) is missing: gain² = 2/(1 + 5).",
    ),
    (
        lambda n: 1 / (math.sqrt(3) * n),
        "That has a √3 in place of the 3: gain² = 1/3, and the variance is gain²/fan_in.",
    ),
    (
        lambda n: 1 / (3 * (n - 1)) if n > 1 else None,
        "The fan-in itself belongs below the line; you have fan_in − 1 there.",
    ),
    (
        lambda n: 1 / (3 * (n + 1)),
        "The fan-in itself belongs below the line; you have fan_in + 1 there.",
    ),
]

DEFAULT_FALLBACK = {
    "small layers": "The weights are uniform on (−c, c) with c = 1/√fan_in: the variance is the mean of x² over this "
    "interval, for every fan_in from 1 on.",
    "wide layers": "The weights are uniform on (−c, c) with c = 1/√fan_in: the variance is the mean of x² over this "
    "interval.",
}


def default_linear_variance_inputs(generator):
    """fan_in = 1, where n − 1 fails, and 100, which a hint can quote; the others at random."""
    small, wide = [(2, 4), (5, 9)], [(11, 60), (200, 900), (2000, 4000)]
    return {"fan_in": [1, *(integer(generator, *r) for r in small), 100, *(integer(generator, *r) for r in wide)]}


def default_linear_variance_judge(inputs, evidence):
    same = close(rtol=EXACT, atol=0)
    items = [
        Item(
            "small layers" if n < 10 else "wide layers",
            attempt(read.number, record, "default_linear_variance(fan_in)"),
            default_linear_variance(n),
            {"fan_in": n},
            quote=f"fan_in = {n}" if n in (1, 100) else None,
        )
        for turn in ("cases", "again")
        for n, record in zip(inputs["fan_in"], evidence[turn], strict=True)
    ]

    def explain(some):
        by_fan_in = {}
        for item in some:
            by_fan_in.setdefault(item.case["fan_in"], []).append(item.got)
        if any(len(got) == 2 and not same(*got) for got in by_fan_in.values()):
            return "Two calls with the same fan_in differ: the variance is asked for, not an estimate from a sample."
        if all(abs(item.got / item.expected - 1) < 0.1 for item in some):
            return "That is close, as an estimate from a sample is; the variance itself is c²/3, to any digit."
        return None

    mistakes = [Mistake(lambda c, m=m: m(c["fan_in"]), hint) for m, hint in DEFAULT_MISTAKES]
    return judge(items, mistakes, DEFAULT_FALLBACK, same, explain)


# --- activation functions with known Gaussian means -----------------------------------------------------------
# Described as data (see labcheck.probes.lab04.activation). With x = rate²·q:
#   E erf(rate √q Z)² = (2/π) arcsin(2x/(1 + 2x)),   E exp(−2x Z²) = 1/√(1 + 4x),
#   E sin(rate √q Z)² = (1 − exp(−2x))/2.


def _slopes(left, right):
    return dict(kind="slopes", left=left, right=right)


def _wave(kind, rate, height, offset=0.0):
    return dict(kind=kind, rate=rate, height=height, offset=offset)


def mean_square(phi, q):
    """E[φ(√q Z)²] in closed form."""
    if phi["kind"] == "slopes":
        return (phi["left"] ** 2 + phi["right"] ** 2) / 2 * q
    x = phi["rate"] ** 2 * q
    wave = 2 / math.pi * math.asin(2 * x / (1 + 2 * x)) if phi["kind"] == "erf" else -math.expm1(-2 * x) / 2
    return phi["offset"] ** 2 + phi["height"] ** 2 * wave


def mean_square_slope(phi, q):
    """E[φ′(√q Z)²] in closed form."""
    if phi["kind"] == "slopes":
        return (phi["left"] ** 2 + phi["right"] ** 2) / 2
    x, top = phi["rate"] ** 2 * q, (phi["height"] * phi["rate"]) ** 2
    return top * (4 / math.pi / math.sqrt(1 + 4 * x) if phi["kind"] == "erf" else (1 + math.exp(-2 * x)) / 2)


def _mean(phi, q):
    """E[φ(√q Z)]."""
    return (phi["right"] - phi["left"]) * math.sqrt(q / (2 * math.pi)) if phi["kind"] == "slopes" else phi["offset"]


def _mean_slope(phi, q):
    """E[φ′(√q Z)]."""
    if phi["kind"] == "slopes":
        return (phi["left"] + phi["right"]) / 2
    x, top = phi["rate"] ** 2 * q, phi["height"] * phi["rate"]
    return top * (2 / math.sqrt(math.pi * (1 + 2 * x)) if phi["kind"] == "erf" else math.exp(-x / 2))


_Z = torch.linspace(-9, 9, 1800, dtype=torch.float64)  # an even number: no point at a kink
_WEIGHTS = torch.softmax(-(_Z**2) / 2, 0)


def _mean_of(f, phi, q, where=None):
    """E f(φ(√q Z)) on a grid, for means without a closed form; the samples with Z < 0 count 0 if where = "right"."""
    weights = _WEIGHTS * (_Z > 0) if where == "right" else _WEIGHTS
    return (f(activation(phi)(math.sqrt(q) * _Z)) * weights).sum().item()


def _mean_square_of_uniform(phi, q):
    """E[φ(√q U)²] with U uniform on (0, 1), by the midpoint rule."""
    u = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    return activation(phi)(math.sqrt(q) * u).square().mean().item()


# --- lab04.variance_after -----------------------------------------------------------------------------------

# 10⁶ samples give E φ² with a standard error of at most 0.19 % here. The worst case is three layers of a
# homogeneous φ on the same samples, where the errors add up to 0.57 %: 3 % is five times that. Every known mistake
# is off by more than 6 % in at least one case.
VARIANCE_TOLERANCE = 0.03


def variance_after(depth, sigma_w2, phi, q0):
    """The variance after `depth` layers q → σ_w² E[φ(√q Z)²], by the trapezoidal rule."""
    z = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    q = q0
    for _ in range(depth):
        q = sigma_w2 * torch.trapezoid(phi(math.sqrt(q) * z) ** 2 * density, z).item()
    return q


def _iterated(layer):
    """What someone returns who repeats q → layer(phi, sigma_w2, q); None where that has no value."""

    def answer(case):
        q = case["q0"]
        try:
            for _ in range(case["depth"]):
                q = layer(case["phi"], case["sigma_w2"], q)
            return float(q)
        except (ValueError, OverflowError, TypeError):  # of a negative q (a complex power), or one too large
            return None

    return answer


_right = _iterated(lambda f, s, q: s * mean_square(f, q))


def _at_depth(depth):
    return lambda c: _right(c | {"depth": depth(c["depth"])})


def _one(c):
    return _right(c | {"depth": 1})


VARIANCE_MISTAKES = [
    (
        _at_depth(lambda d: d + 1),
        "Your loop runs once too often: depth counts the further layers, and depth 0 returns q0.",
    ),
    (
        _at_depth(lambda d: max(d, 1)),
        "Depth 0 means no further layer: return q0 there.",
    ),
    (
        _at_depth(lambda d: max(d - 1, 0)),
        "Your loop runs once too few: q0 is the variance before the first of the depth layers.",
    ),
    (
        _at_depth(lambda d: min(d, 1)),
        "You stop after one layer, whatever depth is: each layer starts from the q of the layer before, so update q in "
        "the loop.",
    ),
    (
        lambda c: c["q0"] * (_one(c) / c["q0"]) ** c["depth"],
        "You raise the first layer's factor to the power of depth; the factor depends on q, so apply the map again and "
        "again.",
    ),
    (
        lambda c: c["depth"] * _one(c),
        "You multiply one layer's result by depth; the layers act one after the other, each on the q of the one before.",
    ),
    (
        _at_depth(lambda d: 0),
        "You return q0, whatever depth is: the new q must be assigned in the loop.",
    ),
    (
        lambda c: math.sqrt(_right(c)),
        "That is the standard deviation √q; return the variance q.",
    ),
    (
        lambda c: _right(c) / (c["sigma_w2"] if c["depth"] else 1),
        "You return E[φ²] of the last layer, the mean square of the activations; its weights are still missing: times "
        "σ_w².",
    ),
    (
        lambda c: _iterated(lambda f, s, q: mean_square(f, q))(c) * c["sigma_w2"],
        "σ_w² acts only once, at the end: it belongs inside the loop, in every layer.",
    ),
    (
        _iterated(lambda f, s, q: mean_square(f, q)),
        "sigma_w2 has no effect: every layer multiplies by σ_w².",
    ),
    (
        _iterated(lambda f, s, q: s**2 * mean_square(f, q)),
        "sigma_w2 is σ_w² already; do not square it.",
    ),
    (
        _iterated(lambda f, s, q: math.sqrt(s) * mean_square(f, q)),
        "You multiply by σ_w, the root of sigma_w2; the variance needs σ_w² itself.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, q) / 2),
        "The factor ½ is ReLU's own value of E[φ²]/q; with a general φ the mean contains it, so do not put it in.",
    ),
    (
        _iterated(lambda f, s, q: s * q),
        "phi has no effect: the next layer sees φ(√q Z), not √q Z.",
    ),
    (
        _iterated(lambda f, s, q: s * _mean(f, q) ** 2),
        "You square the mean of φ; the map needs the mean of the square, which is not 0 where φ is odd.",
    ),
    (
        _iterated(lambda f, s, q: s * (mean_square(f, q) - _mean(f, q) ** 2)),
        "You subtract the square of the mean (var does that); the weights have mean 0, so what counts is E[φ²], mean "
        "included.",
    ),
    (
        _iterated(lambda f, s, q: s * _mean(f, q)),
        "φ enters squared: take the mean of φ², not of φ.",
    ),
    (
        _iterated(lambda f, s, q: s * _mean_of(torch.abs, f, q)),
        "You take the mean of |φ|; the map needs the mean of φ².",
    ),
    (
        _iterated(lambda f, s, q: s * _mean_of(torch.square, f, q, "right")),
        "Half of the Gaussian is missing: Z takes negative values too, so integrate over both sides of 0.",
    ),
    (
        _iterated(lambda f, s, q: mean_square(f, s * q)),
        "You multiply by σ_w² before φ, as if q0 belonged to activations; q0 is the variance of pre-activations, so φ "
        "comes first and σ_w² after it.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, q * q)),
        "q is a variance, so the argument of φ is √q·Z; you use q·Z.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, 1.0)),
        "q has no effect: the argument of φ is √q·Z, not Z.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, math.sqrt(q))),
        "The root of q is taken twice: the argument of φ is √q·Z.",
    ),
    (
        lambda c: _right(c | {"q0": 1.0}),
        "q0 has no effect: you start from 1, start from q0.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, q / 2)),
        "Gauss–Hermite nodes x belong to the weight exp(−x²): as Z they are √2·x, and that √2 is missing.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, 2 * q)),
        "The argument of φ is √2 too large: nodes for the weight exp(−z²/2) are Z already.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, q) * math.sqrt(math.pi)),
        "Gauss–Hermite weights for exp(−x²) add up to √π: divide by √π.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, q / 2) * math.sqrt(math.pi)),
        "Gauss–Hermite quadrature with the weight exp(−x²) needs two corrections, and both are missing: Z = "
        "√2·x, and a division by √π.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, q) * math.sqrt(2 * math.pi)),
        "The density of N(0, 1) has a factor 1/√(2π), and it is missing.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square(f, q) / math.sqrt(2 * math.pi)),
        "The factor 1/√(2π) is applied twice: the weights or the samples contain it already.",
    ),
    (
        _iterated(lambda f, s, q: s * _mean_square_of_uniform(f, q)),
        "Z must be standard normal (torch.randn); yours is uniform on (0, 1).",
    ),
    (
        _iterated(lambda f, s, q: s * activation(f)(math.sqrt(q)) ** 2),
        "You evaluate φ at the one point √q; the map needs the mean over all √q·Z.",
    ),
    (
        _iterated(lambda f, s, q: q + s * mean_square(f, q)),
        "You add the new variance to the old one, as a skip connection would; here it replaces the old one.",
    ),
    (
        _iterated(lambda f, s, q: s * mean_square_slope(f, q)),
        "That is χ₁, with the slope φ′; the variance map has φ itself.",
    ),
]

VARIANCE_FALLBACK = {
    "one layer, odd φ": "One layer maps q to σ_w² times the mean of φ(√q Z)² over Z ~ N(0, 1): check the argument √q·Z, "
    "the square and the Gaussian weights.",
    "one layer, φ with a mean": "Here φ(√q Z) has a mean that is not 0: check that both sides of z = 0 count, and that "
    "you take the mean of φ², nothing subtracted.",
    "depth": "After each layer the new q goes into the next one: check the loop, with depth 0 (q0 itself) and with "
    "depth 2.",
}

_LEAKY = _slopes(0.4, 1.0)
_VARIANCE_FIXED = [
    (
        "φ(z) = erf(z), σ_w² = 3, q0 = 2 and depth 1",
        dict(aspect="one layer, odd φ", depth=1, sigma_w2=3.0, q0=2.0, phi=_wave("erf", 1.0, 1.0)),
    ),
    (
        "φ(z) = z (z > 0) or 0.4 z (z < 0), σ_w² = 3, q0 = 2 and depth 1",
        dict(aspect="one layer, φ with a mean", depth=1, sigma_w2=3.0, q0=2.0, phi=_LEAKY),
    ),
    (
        "φ(z) = z (z > 0) or 0.4 z (z < 0), σ_w² = 3, q0 = 2 and depth 3",
        dict(aspect="depth", depth=3, sigma_w2=3.0, q0=2.0, phi=_LEAKY),
    ),
    (
        "φ(z) = sin(z), σ_w² = 3, q0 = 2 and depth 0",
        dict(aspect="depth", depth=0, sigma_w2=3.0, q0=2.0, phi=_wave("sin", 1.0, 1.0)),
    ),
]


def variance_after_inputs(generator):
    """Four fixed cases, so that hints can name one, and seven random ones; σ_w² and q0 are far from 1."""

    def draw(low, high):
        return uniform(generator, low, high)

    def case(aspect, depth, phi):
        sigma_w2 = draw(*choose(generator, (0.35, 0.6), (1.7, 3.0)))
        q0 = draw(*choose(generator, (0.2, 0.5), (2.0, 4.0)))
        return dict(aspect=aspect, depth=depth, sigma_w2=sigma_w2, q0=q0, phi=phi)

    def wave(aspect, depth, kind, offset=0.0):
        """rate² times the largest q is of order 1: φ is no straight line, and 20 nodes of Gauss–Hermite do."""
        drawn = case(aspect, depth, _wave(kind, 1.0, draw(0.6, 1.5), offset))
        phi, largest = drawn["phi"], drawn["q0"]
        if depth > 1:
            largest = max(largest, drawn["sigma_w2"] * (phi["height"] ** 2 + offset**2))
        return drawn | {"phi": phi | {"rate": math.sqrt(draw(0.4, 0.9) * min(depth, 2) / largest)}}

    def slopes():
        pair = [draw(0.35, 0.6), draw(0.8, 1.3)]
        return _slopes(*(pair if integer(generator, 0, 1) else pair[::-1]))

    odd, mean = "one layer, odd φ", "one layer, φ with a mean"
    return {
        "cases": [fixed for _, fixed in _VARIANCE_FIXED]
        + [
            wave(odd, 1, "erf"),
            wave(odd, 1, "sin"),
            case(mean, 1, slopes()),
            wave(mean, 1, "erf", -draw(0.5, 0.9)),
            case("depth", integer(generator, 2, 3), slopes()),
            wave("depth", integer(generator, 3, 4), "sin"),
            wave("depth", integer(generator, 2, 4), "erf", draw(0.5, 0.9)),
        ]
    }


def variance_after_judge(inputs, evidence):
    same = close(rtol=VARIANCE_TOLERANCE, atol=1e-9)  # the mean of an odd φ is 0, and a mistake
    cases = inputs["cases"]
    quotes = [words for words, _ in _VARIANCE_FIXED]
    if (len(evidence["cases"]), len(evidence["again"])) != (len(cases), 6):
        raise ValueError("expected a record for each case, and six more")
    calls = [*enumerate(evidence["cases"]), *((i % 3, record) for i, record in enumerate(evidence["again"]))]
    items = []
    for i, record in calls:
        got = attempt(read.number, record, "variance_after(depth, sigma_w2, phi, q0)")
        quote = quotes[i] if i < len(quotes) else None
        items.append(Item(cases[i]["aspect"], got, _right(cases[i]), cases[i] | {"number": i}, quote=quote))

    def explain(some):
        by_case = {}
        for item in some:
            by_case.setdefault(item.case["number"], []).append(item.got)
        if any(max(got) - min(got) > 0.02 * abs(got[0]) for got in by_case.values()):
            return (
                "Two calls on the same input differ by more than 2 %: take more samples (10⁶ are enough), or integrate on "
                "a grid."
            )
        scaled = [
            item.got / item.expected
            for item in some
            if item.case["phi"]["kind"] == "slopes" and item.case["depth"] == 1
        ]
        if scaled and scaled[0] > 0 and not same(scaled[0], 1) and all(close(rtol=1e-3)(s, scaled[0]) for s in scaled):
            return (
                f"Where φ has two slopes, one layer gives {short(scaled[0])} times what it must, for every q: E[Z²] must "
                "be 1, and each side has half of it. Check the range and the step of the integral, and its normalisation."
            )
        return None

    mistakes = [Mistake(answer, hint) for answer, hint in VARIANCE_MISTAKES]
    return judge(items, mistakes, VARIANCE_FALLBACK, same, explain)


# --- lab04.critical_sigma_w ---------------------------------------------------------------------------------

# At the critical point of an odd bounded φ the variance falls only like 1/(2l), and just above it χ₁ − 1 is of
# second order: q from 100 layers puts σ_w 2.2 % too high, q from 200 layers 1.2 %. Who sets σ_w = 1/√E[φ′²] and
# q = σ_w² E[φ²] in turn is 4.8 % too high after 200 steps and 1.4 % after 2,000. Grids of 100 points are right to
# 0.01 %, 100 Gauss-Hermite nodes to 0.5 %. The question asks for 2 %. An integral cut at ±2 is off by 2.4 %, every
# known mistake by more than 4.4 % in at least one case.
CRITICAL_TOLERANCE = 0.022


def _root(f, low, high):
    """Where f, negative at `low` and positive at `high`, changes its sign, to 1e-9; 0 < low < high."""
    while high > low * (1 + 1e-9):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if f(middle) > 0 else (middle, high)
    return math.sqrt(low * high)


def critical_sigma_w(phi, dphi):
    """The σ_w at which χ₁(q*) = 1: there q* E[φ′²] = E[φ²], so q* is found first; by the trapezoidal rule."""
    z = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

    def mean(f, q):
        return torch.trapezoid(f(math.sqrt(q) * z) ** 2 * density, z).item()

    q = _root(lambda q: q * mean(dphi, q) - mean(phi, q), 1e-4, 1e3)
    return 1 / math.sqrt(mean(dphi, q))


_TINY, _HUGE = 1e-6, 1e6  # of q


def _crossing(f):
    """Where f(q) turns from negative to positive; None if it is negative at the end, the start if never."""
    return _root(f, _TINY, _HUGE) if f(_HUGE) > 0 else None


def _critical(square=mean_square, slope=mean_square_slope):
    """The σ_w with σ_w² slope(φ, q) = 1 and q = σ_w² square(φ, q), from closed forms; None if there is none.

    There q·slope = square. For an odd bounded φ that is at q → 0, for two slopes everywhere.
    """

    def answer(case):
        phi = case["phi"]
        q = 1.0 if phi["kind"] == "slopes" else _crossing(lambda q: q * slope(phi, q) - square(phi, q))
        return 1 / math.sqrt(slope(phi, q)) if q is not None and slope(phi, q) > 0 else None

    return answer


_critical_sigma_w = _critical()


def _critical_q(phi):
    return _crossing(lambda q: q * mean_square_slope(phi, q) - mean_square(phi, q))


def _where(chi1):
    """The least σ_w above 0.05 at which chi1(phi, σ_w) rises through 1; None if it does not up to 50."""
    grid = [0.05 * 1.1**i for i in range(73)]

    def answer(case):
        above = [chi1(case["phi"], s) > 1 for s in grid]
        if above[0] or not any(above):
            return None
        first = above.index(True)
        return _root(lambda s: chi1(case["phi"], s) - 1, grid[first - 1], grid[first])

    return answer


def _unsettled(layers):
    def chi1(phi, s):
        q = 1.0
        for _ in range(layers):
            q = min(s**2 * mean_square(phi, q), 1e100)
        return s**2 * mean_square_slope(phi, q)

    return _where(chi1)


def _settled(phi, factor):
    """The q with q = factor·E[φ(√q Z)²]; for two slopes any."""
    if phi["kind"] == "slopes":
        return 1.0
    return _root(lambda q: q - factor * mean_square(phi, q), _TINY, _HUGE)


def _constant(value):
    return lambda case: value


def _from_truth(f):
    return lambda case: f(_critical_sigma_w(case))


CRITICAL_MISTAKES = [
    (_from_truth(lambda s: s**2), "That is σ_w²; the question asks for σ_w, its root."),
    (_from_truth(lambda s: 1 / s), "That is 1/σ_w, the root of E[φ′²]: σ_w² E[φ′²] = 1, so the mean goes below the line."),
    (
        _from_truth(math.sqrt),
        "The root is taken once too often, or σ_w is squared twice: both maps have σ_w², and σ_w = 1/√E[φ′²].",
    ),
    (_from_truth(lambda s: s**-2), "That is E[φ′²] at q*; σ_w² is 1 divided by it, and σ_w the root of that."),
    (
        lambda c: math.sqrt(1 / mean_square_slope(c["phi"], 0.0)),
        "That is 1/|φ′(0)|, right only where q* → 0. If φ(0) ≠ 0 the variance settles at q* > 0: solve q* = σ_w² E[φ(√q* "
        "Z)²] too, with E[φ²] and not the variance of φ.",
    ),
    (
        lambda c: 1 / math.sqrt(mean_square_slope(c["phi"], 1.0)),
        "You take χ₁ at q = 1. It must be taken at q*, which depends on σ_w itself through q* = σ_w² E[φ(√q* Z)²]: φ, "
        "not φ′.",
    ),
    (
        lambda c: 1 / math.sqrt(mean_square(c["phi"], 1.0)),
        "That is the scale at which q = 1 stays 1; it keeps the activations, and χ₁ = 1 keeps the gradient.",
    ),
    (
        lambda c: 1 / math.sqrt(mean_square(c["phi"], _critical_q(c["phi"]))) if c["aspect"] == "φ(0) ≠ 0" else None,
        "With q* known, σ_w² is 1/E[φ′²], or q*/E[φ²]; you return the root of 1/E[φ²].",
    ),
    (
        lambda c: _critical_q(c["phi"]) if c["aspect"] == "φ(0) ≠ 0" else None,
        "That is q*; the question asks for σ_w, which is 1/√E[φ′²] there.",
    ),
    (
        _critical(slope=lambda phi, q: _mean_slope(phi, q) ** 2),
        "You square the mean of φ′; χ₁ needs the mean of the square.",
    ),
    (
        _where(lambda phi, s: s**2 * abs(_mean_slope(phi, _settled(phi, s**2)))),
        "φ′ enters χ₁ squared: take the mean of φ′², not of φ′.",
    ),
    (
        _where(lambda phi, s: s**2 * mean_square_slope(phi, _settled(phi, s))),
        "In your variance map the factor is σ_w; it must be σ_w².",
    ),
    (
        _critical(lambda phi, q: mean_square(phi, q / 2), lambda phi, q: mean_square_slope(phi, q / 2)),
        "Gauss–Hermite nodes x belong to the weight exp(−x²): as Z they are √2·x, and that √2 is missing.",
    ),
    (
        _critical(lambda phi, q: mean_square(phi, 2 * q), lambda phi, q: mean_square_slope(phi, 2 * q)),
        "The argument of φ and φ′ is √2 too large: nodes for the weight exp(−z²/2) are Z already.",
    ),
    (
        _critical(lambda phi, q: mean_square(phi, q * q), lambda phi, q: mean_square_slope(phi, q * q)),
        "q is a variance, so the argument of φ and φ′ is √q·Z; you use q·Z.",
    ),
    (
        _from_truth(lambda s: s / math.pi**0.25),
        "Gauss–Hermite weights for exp(−x²) add up to √π: divide by √π.",
    ),
    (
        _from_truth(lambda s: s / (2 * math.pi) ** 0.25),
        "The density of N(0, 1) has a factor 1/√(2π), and it is missing.",
    ),
    (
        _from_truth(lambda s: s * (2 * math.pi) ** 0.25),
        "The factor 1/√(2π) is applied twice: the weights or the samples contain it already.",
    ),
    *(
        (
            lambda c, side=side, share=share: 1 / (share * abs(c["phi"][side])) if c["aspect"] == "two slopes" else None,
            "Both sides of 0 count, each for half of the units: with two slopes E[φ′²] is the mean of their squares.",
        )
        for side in ("left", "right")
        for share in (1, math.sqrt(0.5))
    ),
    (_constant(1.0), "You return 1 for every φ: that is Xavier's scale, critical only where E[φ′²] = 1."),
    (_constant(math.sqrt(2)), "You return √2 for every φ: that is He's scale, critical only where E[φ′²] = ½."),
    (_constant(5 / 3), "You return 5/3 for every φ: that is PyTorch's gain for tanh, and not even critical there."),
    *(
        (
            _unsettled(layers),
            f"Your q has not settled: the answer is that of {layers} layer{'s' if layers > 1 else ''} from q = 1. On the "
            "critical line q falls only like 1/(2l), so take 200 layers or more, or solve for q* directly.",
        )
        for layers in (1, 2, 3, 5, 10, 20)
    ),
]

CRITICAL_FALLBACK = {
    "odd φ": "For a bounded odd φ the variance falls to q* = 0 up to the critical scale, so there χ₁ → σ_w² φ′(0)² = 1, "
    "whatever the sign of φ′(0). Check that q has settled, and the ends of your bracket.",
    "two slopes": "With two slopes χ₁ is the same for every q, and off the critical scale q runs to 0 or to infinity: "
    "check what your code makes of such a q (0/0, ∞ · 0), and the mean of φ′² over both sides.",
    "φ(0) ≠ 0": "Here q* is positive and depends on σ_w: both q* = σ_w² E[φ(√q* Z)²] and σ_w² E[φ′(√q* Z)²] = 1 must "
    "hold. Check the two means, the bracket, and that the integral has enough points (φ′ is narrow where q is large).",
}

_CRITICAL_FIXED = [
    ("φ(z) = erf(z)", dict(aspect="odd φ", phi=_wave("erf", 1.0, 1.0))),
    ("φ(z) = 3 z (z > 0) or z (z < 0)", dict(aspect="two slopes", phi=_slopes(1.0, 3.0))),
    ("φ(z) = 0.5 + 0.5 erf(z/2), much like a sigmoid,", dict(aspect="φ(0) ≠ 0", phi=_wave("erf", 0.5, 0.5, 0.5))),
]


def critical_sigma_w_inputs(generator):
    """Three fixed φ, so that hints can name one, and three random ones; none is critical near 1, √2 or 5/3.

    The random ones have what the fixed ones lack: φ′(0) < 0, the steeper slope on the left, φ(0) < 0.
    """

    def draw(low, high):
        return uniform(generator, low, high)

    def wave(sign, offset):
        """|φ′(0)| is 0.3 to 0.6, or 1.8 to 3; the offset is a share of the height."""
        kind, rate = choose(generator, "erf", "sin"), log_uniform(generator, 0.6, 1.6)
        height = draw(*choose(generator, (0.3, 0.6), (1.8, 3.0))) / rate
        return _wave(kind, rate, sign * height, offset * height)

    left = draw(*choose(generator, (0.3, 0.6), (2.8, 4.0)))
    return {
        "cases": [fixed for _, fixed in _CRITICAL_FIXED]
        + [
            dict(aspect="odd φ", phi=wave(-1, 0.0)),
            dict(aspect="two slopes", phi=_slopes(left, left * draw(0.35, 0.5))),
            dict(aspect="φ(0) ≠ 0", phi=wave(choose(generator, -1, 1), -draw(0.4, 0.6))),
        ]
    }


def critical_sigma_w_judge(inputs, evidence):
    quotes = [words for words, _ in _CRITICAL_FIXED]
    items = [
        Item(
            case["aspect"],
            attempt(read.number, record, "critical_sigma_w(phi, dphi)"),
            _critical_sigma_w(case),
            case,
            quote=quotes[i] if i < len(quotes) else None,
        )
        for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True))
    ]
    same = close(rtol=CRITICAL_TOLERANCE, atol=0)

    def explain(some):
        if any(item.got < 0 for item in some):
            return "σ_w is a standard deviation and can't be negative: φ′ may be, so use |φ′(0)| or the mean of φ′²."
        if len(some) > 2 and max(i.got for i in some) < 1.01 * min(i.got for i in some):
            return "You return nearly the same number for every φ: is it an end of your bracket, or are phi and dphi not used?"
        off = [item for item in some if not same(item.got, item.expected)]
        if len(off) < len(some) and all(i.aspect == "odd φ" and 1 < i.got / i.expected < 1.3 for i in off):
            return (
                "That is a little too high: for an odd φ at its critical scale q falls only like 1/(2l), and yours has not "
                "settled. Take 200 layers at each σ_w, or 2,000 steps if you set σ_w and q in turn."
            )
        return None

    return judge(items, [Mistake(m, hint) for m, hint in CRITICAL_MISTAKES], CRITICAL_FALLBACK, same, explain)


QUESTIONS = (
    Question(
        name="lab04.default_linear_variance",
        signature="default_linear_variance(fan_in)",
        contract=(
            "The variance of each weight of a fresh torch.nn.Linear with fan_in inputs, PyTorch's default: a number, "
            "exact to 1e-4 (a formula, no estimate from a sample). fan_in is an int, 1 or more."
        ),
        aspects={"small layers": 2, "wide layers": 2},
        minutes=10,
        inputs=default_linear_variance_inputs,
        reference=default_linear_variance,
        judge=default_linear_variance_judge,
    ),
    Question(
        name="lab04.variance_after",
        signature="variance_after(depth, sigma_w2, phi, q0)",
        contract=(
            "The pre-activation variance after depth (int, 0 to 4) further layers, each mapping q to σ_w² E[φ(√q Z)²] "
            "with Z ~ N(0, 1), from q0; depth 0 gives q0. No biases. A number, right to within 3 %: an integral on a "
            "grid, Gauss–Hermite with 20 nodes or 10⁶ samples do. sigma_w2 is the variance σ_w², phi maps a tensor to a "
            "tensor of the same shape, elementwise."
        ),
        aspects={"one layer, odd φ": 2, "one layer, φ with a mean": 2, "depth": 3},
        minutes=20,
        inputs=variance_after_inputs,
        reference=variance_after,
        judge=variance_after_judge,
    ),
    Question(
        name="lab04.critical_sigma_w",
        signature="critical_sigma_w(phi, dphi)",
        contract=(
            "The σ_w, not squared, with σ_w² E[φ′(√q Z)²] = 1 at the fixed point q = σ_w² E[φ(√q Z)²], Z ~ N(0, 1), no "
            "biases: a number, right to within 2 %. phi and dphi map a tensor to a tensor of the same shape, "
            "elementwise. φ is bounded and odd (then q → 0), or has one slope on each side of 0 (then any q will do), "
            "or is bounded with φ(0) ≠ 0 (then 0.1 < q < 50). In each case there is one such σ_w, between 0.1 and 20. "
            "Integrals over 200 points, or 100 Gauss–Hermite nodes, are enough, samples are too noisy. If you iterate q "
            "at each σ_w, take 200 layers; if you set σ_w and q in turn, 2,000 steps. A check calls the function six times, "
            "and 5,000 integrals a call are affordable."
        ),
        aspects={"odd φ": 2, "two slopes": 2, "φ(0) ≠ 0": 3},
        minutes=25,
        inputs=critical_sigma_w_inputs,
        reference=critical_sigma_w,
        judge=critical_sigma_w_judge,
    ),
)
