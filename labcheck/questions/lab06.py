"""Questions of lab 06, initialisation: references, known mistakes and verdicts."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .. import evidence as read
from ..judging import Item, Mistake, attempt, choose, close, integer, judge, log_uniform, normal, short, uniform
from ..question import Question


def _first_trouble(found):
    return next((f for f in found if isinstance(f, read.Trouble)), None)


def _weights(record, signature, shape):
    """The returned tensor as float64, of the shape that was asked for."""
    return _as_weights(read.tensor(record, signature), shape)


def _as_weights(got, shape):
    if not isinstance(got, torch.Tensor) or got.shape != torch.Size(shape):
        what = f"a tensor of shape {tuple(got.shape)}" if isinstance(got, torch.Tensor) else "none"
        raise read.Trouble(f"expected a tensor of the shape that is asked for, {tuple(shape)}; got {what}.")
    return read.as_tensor(got, shape)


# --- lab06.xavier_bound -------------------------------------------------------------------------------------

# float32 rounding is 1e-7 and a √6 typed with four digits 2e-4 away; the small fans show every mistake by 1 %.
BOUND_TOLERANCE = 1e-3


def xavier_bound(fan_in, fan_out, gain=1.0):
    """gain·√(6/(fan_in + fan_out)), as a float."""
    return gain * math.sqrt(6 / (fan_in + fan_out))


# The answers are functions of fan_in, fan_out and gain.
BOUND_MISTAKES = [
    Mistake(
        lambda i, o, g: g * math.sqrt(3 / (i + o)),
        "Your weights have half of the variance that they need: Var U(−b, b) = b²/3 must be 2 gain²/(fan_in + fan_out), "
        "twice one over the sum of the fans.",
    ),
    Mistake(
        lambda i, o, g: g * 6 / (i + o),
        "The square root is missing: 6/(fan_in + fan_out) is the square of a bound.",
    ),
    Mistake(
        lambda i, o, g: g**2 * 6 / (i + o),
        "That is b², the square of the bound: take its root.",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt(6) / (i + o),
        "The root must cover the denominator, too: with both fans doubled the bound shrinks by √2, yours by 2.",
    ),
    Mistake(lambda i, o, g: math.sqrt(6 / (i + o)), "gain has no effect: multiply the bound by it."),
    Mistake(
        lambda i, o, g: math.sqrt(g * 6 / (i + o)),
        "gain stands under the root: it multiplies the bound itself, so the variance has gain².",
    ),
    Mistake(
        lambda i, o, g: g**2 * math.sqrt(6 / (i + o)),
        "gain is squared: it multiplies the bound, and enters only the variance as gain².",
    ),
    Mistake(lambda i, o, g: math.sqrt(6 / (i + o)) / g, "You divide by gain; multiply by it."),
    Mistake(
        lambda i, o, g: g * math.sqrt(2 / (i + o)),
        "That is the standard deviation of the weights; a uniform distribution reaches √3 times as far.",
    ),
    Mistake(
        lambda i, o, g: g**2 * 2 / (i + o),
        "That is the variance of the weights; the bound b follows from b²/3 = variance.",
    ),
    Mistake(
        lambda i, o, g: 2 * g * math.sqrt(6 / (i + o)),
        "Twice too large: either that is the whole width 2b, or you took the variance of U(−b, b) to be b²/12, which is "
        "that of an interval of length b; this one has length 2b.",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt(12 / (i + o)),
        "The bound is √2 too large: the 6 belongs to the sum of the fans, not to their mean.",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt(3 / i),
        "That is right for equal fans only: it keeps the forward variance alone, and fan_out has no effect.",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt(3 / o),
        "That is right for equal fans only: it keeps the backward variance alone, and fan_in has no effect.",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt(6 / i),
        "That is the bound of He's uniform distribution, with fan_in alone; Glorot's has fan_in + fan_out.",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt(6 / o),
        "Only fan_out has an effect; Glorot's bound has fan_in + fan_out.",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt(3 / math.sqrt(i * o)),
        "You take the geometric mean of the fans; Glorot's compromise has their sum.",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt(6 / (i * o)),
        "You multiply the fans; Glorot's compromise has their sum.",
    ),
    Mistake(
        lambda i, o, g: g * (math.sqrt(3 / i) + math.sqrt(3 / o)) / 2,
        "You average two bounds; the fans are added first, under the root.",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt((3 / i + 3 / o) / 2),
        "You average the two variances 1/fan_in and 1/fan_out; Glorot's compromise is 2/(fan_in + fan_out).",
    ),
    Mistake(
        lambda i, o, g: g * math.sqrt(6 / i + o),
        "A pair of brackets is missing: 6 is divided by the whole sum, 6/(fan_in + fan_out).",
    ),
    Mistake(
        lambda i, o, g: -g * math.sqrt(6 / (i + o)),
        "The bound is negative: U(−b, b) needs b > 0.",
    ),
    Mistake(
        lambda i, o, g: 0.0,
        "The bound is 0, so every weight would be: does // cut the quotient off?",
    ),
]

BOUND_FALLBACK = {
    "equal fans": "U(−b, b) has the variance b²/3, and with fan_in = fan_out = n it must be 1/n.",
    "unequal fans": "U(−b, b) has the variance b²/3, and it must be 2/(fan_in + fan_out).",
    "gain": "U(−b, b) has the variance b²/3, and it must be 2 gain²/(fan_in + fan_out), with gain 1 where none is given.",
}

_BOUND_FIXED = [
    ("fan_in = fan_out = 300", dict(aspect="equal fans", fan_in=300, fan_out=300, gain=1.0)),
    ("fan_in = 100 and fan_out = 50", dict(aspect="unequal fans", fan_in=100, fan_out=50, gain=1.0)),
    ("fan_in = 30, fan_out = 120 and no gain", dict(aspect="gain", fan_in=30, fan_out=120, gain=None)),
    ("fan_in = 100, fan_out = 50 and gain = 3", dict(aspect="gain", fan_in=100, fan_out=50, gain=3.0)),
]


def xavier_bound_inputs(generator):
    """Four fixed cases, so that hints can name one, and eight random ones, some with small fans and some with large."""

    def fan(low, high):
        return round(log_uniform(generator, low, high))

    def case(aspect, fan_in, fan_out, gain):
        return dict(aspect=aspect, fan_in=fan_in, fan_out=fan_out, gain=gain)

    narrow, wide = fan(5, 15), fan(200, 1000)
    return {
        "cases": [fixed for _, fixed in _BOUND_FIXED]
        + [case("equal fans", n, n, 1.0) for n in (narrow, wide)]
        + [
            case("unequal fans", fan(5, 15), fan(30, 90), 1.0),
            case("unequal fans", fan(30, 90), fan(5, 15), 1.0),
            case("unequal fans", fan(500, 1000), fan(60, 200), 1.0),
            case("gain", fan(20, 30), fan(60, 90), uniform(generator, 0.3, 0.7)),
            case("gain", fan(60, 90), fan(20, 30), uniform(generator, 1.4, 2.5)),
            case("gain", fan(5, 15), fan(30, 90), None),
        ]
    }


def xavier_bound_judge(inputs, evidence):
    def answer(of):
        return lambda c: of(c["fan_in"], c["fan_out"], 1.0 if c["gain"] is None else c["gain"])

    quotes = [words for words, _ in _BOUND_FIXED]
    items = [
        Item(
            case["aspect"],
            attempt(read.number, record, "xavier_bound(fan_in, fan_out, gain=1.0)"),
            answer(xavier_bound)(case),
            case,
            quote=quotes[i] if i < len(quotes) else None,
        )
        for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True))
    ]
    same = close(BOUND_TOLERANCE, 1e-9)

    def explain(some):
        with_gain = [item for item in some if item.case["gain"] is not None]
        if len(with_gain) < len(some) and all(same(item.got, item.expected) for item in with_gain):
            return "Without gain the answer must be that for gain = 1: set this default."
        return None

    mistakes = [Mistake(answer(m.answer), m.hint) for m in BOUND_MISTAKES]
    return judge(items, mistakes, BOUND_FALLBACK, same, explain)


# --- lab06.he_normal ----------------------------------------------------------------------------------------

HE = "he_normal(shape, generator, a=0.0)"

# A right answer fails by chance in fewer than 1 of 10⁶ checks. Over the tests below, with N ≥ 8,000 weights in each of
# 10 cases and about 100,000 together (tests/test_lab06.py measures how far right answers stay from these limits):
# variance: N·s²/σ² is χ²; P(above 1 + 2u + 2u²), P(below 1 − 2u) ≤ exp(−N u²) [Laurent and Massart 2000, lemma 1].
#   10 %: u = 0.0477 and 0.05, so 1.3e-8 + 2e-9 for each case, 1.5e-7 together. Known mistakes are
#   off by 15 % or more, another five standard errors.
# mean: normal, 6.5 standard errors: 8e-11 for each case.
# shape: P(Kolmogorov distance > e) ≤ 2 exp(−2Ne²) [Massart 1990], below 1e-12 at e = 0.0125. The weights are
#   standardised first (less than 0.003 more), and a normal distribution cut off at two standard deviations, rescaled, is
#   accepted; its distance is 0.0167. The uniform distribution's is 0.057. Limit: 0.035.
#   Fourth moment: 3 (cut off: 2.37, uniform: 1.8) ± 0.016. Limits: 2.2 and 3.3, more than ten standard deviations. In each
#   case alone: 2.1 and 4.2, more than eight (a mean of z⁴ over 8,000 weights scatters by 0.11, cut off by 0.03).
# independence: correlations 7 standard errors (3e-12 each); ‖AᵀA‖² and the scatter of the norms of rows and of columns
#   more than eight standard deviations; a repeated magnitude needs two equal draws of 24 bits: 1 in 1,000 weights.
VARIANCE_TOLERANCE = 0.10
MEAN_LIMIT, CORRELATION_LIMIT = 6.5, 7.0
SHAPE_LIMIT, FOURTH_MOMENT, FOURTH_OF_A_CASE = 0.035, (2.2, 3.3), (2.1, 4.2)
GRAM_LIMITS = (0.9, 1.1)  # over the mean for independent weights; orthogonal matrices are near 0.8
NORM_SCATTER = (0.8, 3.2)  # m·Var(|row|²/m): 2, cut-off normal 1.4, uniform 0.8, rows of equal norm 0
EQUAL_NORMS = 0.3
DISTINCT = 0.97


def he_normal(shape, generator, a=0.0):
    """Weights W ~ N(0, 2/((1 + a²) fan_in)), a float64 tensor."""
    std = math.sqrt(2 / ((1 + a**2) * math.prod(shape[1:])))
    return std * torch.randn(*shape, generator=generator, dtype=torch.float64)


def _variance(shape, a):
    return 2 / ((1 + a**2) * math.prod(shape[1:]))


def _kernel(shape):
    return math.prod(shape[2:])


_v = _variance

# The answers are the variances of the weights, from the shape and a.
HE_MISTAKES = [
    Mistake(
        lambda s, a: _v(s, a) * s[1] / s[0],
        "The variance belongs to fan_out: in the layout (out, in, …) fan_in is built from shape[1], not from shape[0].",
    ),
    Mistake(
        lambda s, a: _v(s, a) / 2,
        "Half of the variance is missing: 1/fan_in is for linear layers, and ReLU throws away half of the second moment.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * _kernel(s),
        "The kernel's size is missing: each output of a convolution sums in_channels times the kernel's entries, and that "
        "is fan_in.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * _kernel(s) * s[1] / s[0],
        "The variance is that of shape[0] alone: fan_in is in_channels times the kernel's entries, without shape[0].",
    ),
    Mistake(
        lambda s, a: _v(s, a) * _kernel(s) / s[-1] if len(s) > 2 else None,
        "Only one side of the kernel counts in your fan_in: multiply by all of shape[2:].",
    ),
    Mistake(
        lambda s, a: _v(s, a) * _kernel(s) / s[2] if len(s) > 2 else None,
        "Only one side of the kernel counts in your fan_in: multiply by all of shape[2:].",
    ),
    Mistake(
        lambda s, a: _v(s, a) * _kernel(s) / s[2] ** 2 if len(s) == 4 else None,
        "You take the kernel to be square: fan_in has shape[2]·shape[3], the product of its two sides.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * _kernel(s) / s[-1] ** 2 if len(s) == 4 else None,
        "You take the kernel to be square: fan_in has shape[2]·shape[3], the product of its two sides.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * s[1] * _kernel(s) / (s[1] + _kernel(s)) if len(s) > 2 else None,
        "fan_in is a product, in_channels times the kernel's entries; yours is a sum.",
    ),
    Mistake(
        lambda s, a: _v(s, a) / s[0],
        "You divide by the number of all weights; one output sums only fan_in of them, without shape[0].",
    ),
    Mistake(
        lambda s, a: _v(s, a) * math.prod(s[1:]) / s[-1] if len(s) > 2 else None,
        "Your fan_in is the last entry of the shape alone.",
    ),
    Mistake(lambda s, a: _v(s, 0), "a has no effect on the variance: divide it by 1 + a²."),
    Mistake(
        lambda s, a: _v(s, 0) / (1 + a),
        "a is not squared: its share of the second moment is a², so the variance has 1 + a².",
    ),
    Mistake(
        lambda s, a: _v(s, 0) / (1 + a) ** 2,
        "You square 1 + a; the variance has 1 + a².",
    ),
    Mistake(
        lambda s, a: _v(s, 0) * (1 + a**2),
        "You multiply the variance by 1 + a²; a slope on the left lets more through, so divide.",
    ),
    Mistake(
        lambda s, a: _v(s, 0) / (1 + a**2) ** 2,
        "1 + a² stands outside of the root, so it acts twice: the variance, not the standard deviation, is divided by it.",
    ),
    Mistake(
        lambda s, a: _v(s, 0) / math.sqrt(1 + a**2),
        "The root of 1 + a² is taken twice: the variance itself is divided by 1 + a².",
    ),
    Mistake(
        lambda s, a: _v(s, 0) / abs(1 - a**2) if abs(1 - a**2) > 0.1 else None,
        "A sign is wrong: 1 + a², not 1 − a².",
    ),
    Mistake(
        lambda s, a: _v(s, a) ** 2,
        "You use the variance as a standard deviation: take its root first.",
    ),
    Mistake(
        lambda s, a: math.sqrt(_v(s, a)),
        "The root is taken twice: torch.randn is multiplied by the standard deviation √variance.",
    ),
    Mistake(lambda s, a: 1.0, "The variance is 1 for every shape: multiply torch.randn by the standard deviation."),
    Mistake(
        lambda s, a: 2 * _v(s, a) / math.prod(s[1:]),
        "fan_in stands outside of the root: divide under it.",
    ),
    Mistake(
        lambda s, a: 2 * _v(s, a),
        "The variance is twice too large: the gain √2 is squared once, in the variance.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * 2 * s[1] / (s[0] + s[1]),
        "You divide by the mean of the fans; He's variance has fan_in alone.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * s[1] / (s[0] + s[1]),
        "That is Glorot's variance, with the sum of the fans; He's has fan_in alone.",
    ),
    Mistake(
        lambda s, a: _v(s, a) / 3,
        "Your weights spread too little: a uniform distribution on ±σ has the variance σ²/3. Use a normal one (torch.randn).",
    ),
    Mistake(
        lambda s, a: _v(s, a) / 12,
        "Your weights spread too little: torch.rand has the variance 1/12. Use torch.randn.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * 3,
        "The variance is three times too large: √(6/fan_in) is the bound of a uniform distribution, not a standard "
        "deviation.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * math.prod(s[1:]) / (math.prod(s[1:]) + 1),
        "Your fan_in is one too large: the bias is no input.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * math.prod(s[1:]) / (math.prod(s[1:]) - 1),
        "Your fan_in is one too small: divide by the number of inputs itself.",
    ),
    Mistake(
        lambda s, a: _v(s, a) * 0.7737,
        "You cut the normal distribution off at two standard deviations, which takes 23 % of its variance: rescale it, or "
        "do not cut.",
    ),
]

HE_FALLBACK = {
    "linear layers": "For shape (out, in) and a = 0 every weight must have the variance 2/in.",
    "convolutions": "For a = 0 every weight must have the variance 2/fan_in, and for shape (out, in, …) fan_in is in times the "
    "number of the kernel's entries, whatever the kernel's shape.",
    "slope a": "Every weight must have the variance 2/((1 + a²) fan_in), and a is 0 where it is not given.",
}

_HE_FIXED = [
    ("shape = (200, 50)", dict(aspect="linear layers", shape=[200, 50], a=0.0, again=True)),
    ("shape = (80, 16, 3, 3)", dict(aspect="convolutions", shape=[80, 16, 3, 3], a=0.0, again=True)),
    ("shape = (300, 60) and a = 0.5", dict(aspect="slope a", shape=[300, 60], a=0.5, again=False)),
]


def he_normal_inputs(generator):
    """Three fixed cases, so that hints can name one, and seven random ones; 8,000 weights or more in each, out far from
    in, a fan_in so small (and odd) that one more or less shows, kernels that are not square, slopes far from 0 and 1."""

    def draw(low, high):
        return integer(generator, low, high)

    def case(aspect, a, *shape):
        return dict(aspect=aspect, shape=list(shape), a=a, again=False)

    kernel = choose(generator, (3, 5), (5, 3), (2, 7), (7, 2))
    cases = [fixed for _, fixed in _HE_FIXED] + [
        case("linear layers", 0.0, draw(40, 60), draw(220, 300)),
        case("linear layers", 0.0, draw(1700, 2600), 5),
        case("convolutions", 0.0, draw(12, 16), draw(48, 60), *kernel),
        case("convolutions", 0.0, draw(60, 80), draw(24, 30), choose(generator, 7, 9)),
        case("slope a", None, draw(40, 60), draw(220, 300)),
        case("slope a", uniform(generator, 0.6, 0.8), draw(40, 60), draw(220, 300)),
        case("slope a", uniform(generator, 1.3, 1.6), draw(80, 100), draw(14, 18), 3, 3),
    ]
    return {"cases": [c | {"seed": integer(generator, 0, 2**31 - 1)} for c in cases]}


def he_normal_judge(inputs, evidence):
    cases = inputs["cases"]
    records = list(zip(cases, evidence["cases"], strict=True))
    draws = [attempt(_weights, record["first"], HE, case["shape"]) for case, record in records]
    pairs = [
        tuple(attempt(_weights, record[turn], HE, case["shape"]) for turn in ("next", "repeat"))
        for case, record in records
        if case["again"]
    ]
    if all(isinstance(draw, read.Trouble) for draw in draws):
        return dict.fromkeys([*HE_FALLBACK, "randomness"], draws[0])

    def answer(of):
        return lambda c: of(c["shape"], 0.0 if c["a"] is None else c["a"])

    quotes = [words for words, _ in _HE_FIXED]
    items = [
        Item(
            case["aspect"],
            draw if isinstance(draw, read.Trouble) else draw.var().item(),
            answer(_variance)(case),
            case,
            "variance",
            quotes[i] if i < len(quotes) else None,
        )
        for i, (case, draw) in enumerate(zip(cases, draws))
    ]
    same = close(VARIANCE_TOLERANCE, 1e-12)

    def explain(some):
        given = [item for item in some if item.case["a"] is not None]
        if len(given) < len(some) and all(same(item.got, item.expected) for item in given):
            return "Without a the answer must be that for a = 0: set this default."
        return None

    mistakes = [Mistake(answer(m.answer), m.hint) for m in HE_MISTAKES]
    findings = judge(items, mistakes, HE_FALLBACK, same, explain)
    usable = [draw for draw in draws if not isinstance(draw, read.Trouble)]
    firsts = [draw for case, draw in zip(cases, draws) if case["again"]]
    dependent = _dependent(usable)
    if dependent:  # then a variance says little
        findings = {aspect: dependent if type(finding) is str else finding for aspect, finding in findings.items()}
    needed = [draw for case, draw in zip(cases, draws) if case["a"] is not None]
    random = _first_trouble(needed) or _first_trouble(sum(pairs, ()))
    random = random or dependent or _not_repeatable(firsts, pairs) or _not_normal(usable)
    if random == _UNIFORM and type(findings["linear layers"]) is str:
        random = findings["linear layers"]  # one hint for both
    return findings | {"randomness": random}


def _dependent(draws):
    """A hint where the weights of a tensor have something to do with each other, or None."""
    if all((w == w.flatten()[0]).all() for w in draws):
        return (
            "All your weights are equal: every unit of the layer computes the same and receives the same gradient, for "
            "ever. Draw each weight by itself."
        )
    if all((w >= 0).all() for w in draws) or all((w <= 0).all() for w in draws):
        return "All your weights have the same sign: they need the mean 0. torch.rand draws from 0 to 1, torch.randn N(0, 1)."
    if all((w == w[:1]).all() for w in draws):
        return "All rows are equal: every unit of the layer computes the same. Draw each weight by itself."
    if any(w.abs().unique().numel() < DISTINCT * w.numel() for w in draws):
        return (
            "Many of your weights repeat each other's size: draw each weight by itself, from a normal distribution, and do "
            "not clamp it."
        )
    for w in map(_standard, draws):
        n, m = w.shape
        gram = w @ w.T if n < m else w.T @ w
        ratio = (gram**2).sum() / (n * m * (n + m + 1))
        if not GRAM_LIMITS[0] < ratio < GRAM_LIMITS[1]:
            return "Your weights depend on each other (rows or columns are orthogonal, or alike): draw each weight by itself."
        if abs(_correlation(w.flatten()[1:], w.flatten()[:-1])) * math.sqrt(w.numel()) > CORRELATION_LIMIT:
            return "Each of your weights depends on the one before: draw each weight by itself."
    return None


def _not_repeatable(firsts, pairs):
    """A hint where the numbers do not come from the generator, or None."""
    for first, (following, again) in zip(firsts, pairs, strict=True):
        if not _same_numbers(first, again):
            return (
                "Two generators in the same state gave different weights: draw all random numbers from generator, and from "
                "it alone, as in torch.randn(shape, generator=generator)."
            )
        if _same_numbers(first, following):
            return (
                "A second call with the same generator gave the same weights: draw from the generator as it is, without a "
                "seed of your own."
            )
        if abs(_correlation(first.flatten(), following.flatten())) * math.sqrt(first.numel()) > CORRELATION_LIMIT:
            return "The weights of two calls with the same generator depend on each other; each call must draw new numbers."
    return None


_UNIFORM = "Your weights are uniformly distributed; the question asks for a normal distribution (torch.randn)."


def _not_normal(draws):
    """A hint where some weights do not look like normal numbers of mean 0 and one variance, whatever it is; or None."""
    if any(abs(w.mean()) * math.sqrt(w.numel()) > MEAN_LIMIT * w.std() for w in draws):
        return "The mean of your weights is not 0."
    standard = [_standard(w) for w in draws]
    z = torch.cat([w.flatten() for w in standard])
    scatter = [
        torch.cat([((w**2).mean(axis) - 1) ** 2 * w.shape[axis] for w in standard]).mean().item() for axis in (0, 1)
    ]
    if min(scatter) > EQUAL_NORMS:  # below, the shape is off as well, for that reason
        fourth = [(w**4).mean() for w in standard]
        odd = not FOURTH_MOMENT[0] < (z**4).mean() < FOURTH_MOMENT[1]
        odd = odd or not FOURTH_OF_A_CASE[0] < min(fourth) <= max(fourth) < FOURTH_OF_A_CASE[1]
        if odd or _distance(torch.special.ndtr(z)) > SHAPE_LIMIT:
            if _distance((z / math.sqrt(12) + 0.5).clamp(0, 1)) < SHAPE_LIMIT / 2:
                return _UNIFORM
            return "Your weights are not normally distributed, though they may have the right variance: use torch.randn."
    if not NORM_SCATTER[0] < min(scatter) <= max(scatter) < NORM_SCATTER[1]:
        return (
            "The sizes of your rows, or of your columns, are not those of independent weights: give every weight the same "
            "variance, and rescale nothing afterwards."
        )
    return None


def _standard(w):
    """A weight as a matrix (out, in·kernel) of mean 0 and variance 1."""
    return ((w - w.mean()) / w.std()).flatten(1)


def _same_numbers(a, b):
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5 * a.abs().max().item())


def _correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return ((a * b).sum() / ((a**2).sum() * (b**2).sum()).sqrt()).item()


def _distance(u):
    """Kolmogorov distance of a sample from the uniform distribution on (0, 1)."""
    u, n = u.sort().values, u.numel()
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    return max((steps[1:] - u).max().item(), (u - steps[:-1]).max().item())


# --- lab06.delta_orthogonal ---------------------------------------------------------------------------------

DELTA = "delta_orthogonal(c, k, generator, gain=1.0)"

# float32 and a Gram–Schmidt by hand are right within this; the matrices of known mistakes are off by 0.1 and more.
ORTHOGONAL_TOLERANCE = 1e-3
ZERO_TOLERANCE = 1e-5  # of the largest entry

# "Uniformly distributed" is tested on powers of the entries, which no sign convention changes, in 300 matrices of 16
# channels. A right answer fails by chance in fewer than 1 of 10⁶ checks:
# mean over matrices of q_ij²: 1/16, within 0.066. Var q² = 30/(256·18), and by Bernstein's inequality the chance is at most
#   2 exp(−300·0.066²/(2(Var q² + 0.066/3))) = 2e-10 for each entry, 6e-8 together.
# mean over matrices of Σ_i q_ij⁴, for each column and each row: 3/18. Its standard error follows from E q⁸ =
#   105/(16·18·20·22) and E q⁴r⁴ = 9/(16·18·20·22). The sum is bounded from below by 1/16, so the lower tail is light:
#   7 standard errors there, 10 above (tests/test_lab06.py measures how far right answers stay from these limits).
# mean over matrices of Σ_i q_ii²: 1, within 0.15, 7.8 standard errors: 1e-11, by Chernoff's bound with the moments that
#   tests/test_lab06.py measures.
# a repeated magnitude, in one matrix or in two, needs two equal draws of 24 bits: 1 in 1,000 entries.
CHANNELS, DRAWS = 16, 300
ENTRY_LIMIT = 0.066
DIAGONAL_LIMIT = 0.15
FOURTH_LIMITS = (7.0, 10.0)


def delta_orthogonal(c, k, generator, gain=1.0):
    """A kernel (c, c, k, k), float64: zero but for a random orthogonal matrix times gain at its centre."""
    kernel = torch.zeros(c, c, k, k, dtype=torch.float64)
    matrix = torch.empty(c, c, dtype=torch.float64)
    kernel[:, :, k // 2, k // 2] = nn.init.orthogonal_(matrix, gain, generator=generator)
    return kernel


# The answers are what gain turns into, from c, k and gain.
GAIN_MISTAKES = [
    Mistake(lambda c, k, g: 1.0, "gain has no effect: multiply the matrix by it."),
    Mistake(lambda c, k, g: g**2, "gain is squared: multiply the matrix by gain itself, once."),
    Mistake(lambda c, k, g: math.sqrt(g), "You multiply by √gain: every singular value must be gain itself."),
    Mistake(lambda c, k, g: 1 / g, "You divide by gain; multiply by it."),
    Mistake(
        lambda c, k, g: g / math.sqrt(c),
        "The kernel is √c too small: an orthogonal matrix already keeps norms, so its entries need no 1/√c.",
    ),
    Mistake(
        lambda c, k, g: g * math.sqrt(c),
        "The kernel is √c too large: the columns of an orthogonal matrix have norm 1.",
    ),
    Mistake(
        lambda c, k, g: g * math.sqrt(2),
        "There is a √2 too much: all the scale is in gain, whatever the activation.",
    ),
    Mistake(lambda c, k, g: g / k**2, "The numbers are k² too small: one tap does all the work, so there is nothing to divide by."),
    Mistake(lambda c, k, g: g + 1, "You add gain; multiply by it."),
]
GAIN_FALLBACK = {"gain": "All singular values of the matrix at the centre must be gain, and 1 where gain is not given."}

_DELTA_FIXED = [
    ("c = 6, k = 3 and no gain", dict(c=6, k=3, gain=None)),
    ("c = 5, k = 3 and gain = 2", dict(c=5, k=3, gain=2.0)),
]


def delta_orthogonal_inputs(generator):
    """Two fixed cases, so that hints can name one, and five random ones; c is never k."""

    def case(c, k, gain):
        return dict(c=c, k=k, gain=gain)

    small, large = uniform(generator, 0.3, 0.7), uniform(generator, 1.5, 3)
    cases = [fixed for _, fixed in _DELTA_FIXED] + [
        case(integer(generator, 4, 6), 3, 1.0),
        case(integer(generator, 8, 12), 5, small),
        case(integer(generator, 4, 6), 7, large),
        case(integer(generator, 8, 12), 3, large),
        case(integer(generator, 8, 12), 7, None),
    ]
    return {
        "cases": [c | {"seed": integer(generator, 0, 2**31 - 1)} for c in cases],
        "seed": integer(generator, 0, 2**31 - 1),
        "channels": CHANNELS,
        "draws": DRAWS,
    }


def delta_orthogonal_judge(inputs, evidence):
    cases = inputs["cases"]
    kernels = [
        attempt(_weights, record, DELTA, (c["c"], c["c"], c["k"], c["k"]))
        for c, record in zip(cases, evidence["cases"], strict=True)
    ]
    draws, again = (_draws(evidence, name, n) for name, n in (("draws", inputs["draws"]), ("repeat", 2)))
    trouble = _first_trouble(kernels)
    needed = [kernel for case, kernel in zip(cases, kernels) if case["gain"] is not None]
    if _first_trouble(needed):
        return dict.fromkeys(("centre", "orthogonal", "gain", "randomness"), trouble)

    usable = [kernel for kernel in kernels if not isinstance(kernel, read.Trouble)]
    items = []
    for i, (case, kernel) in enumerate(zip(cases, kernels)):
        known = not isinstance(kernel, read.Trouble)
        got = _heaviest(kernel)[0].norm().item() / math.sqrt(case["c"]) if known else kernel
        expected = 1.0 if case["gain"] is None else case["gain"]
        quote = _DELTA_FIXED[i][0] if i < len(_DELTA_FIXED) else None
        items.append(Item("gain", got, expected, case, "singular value", quote))

    def answer(of):
        return lambda c: of(c["c"], c["k"], 1.0 if c["gain"] is None else c["gain"])

    same = close(ORTHOGONAL_TOLERANCE, 1e-9)

    def explain(some):
        given = [item for item in some if item.case["gain"] is not None]
        if len(given) < len(some) and all(same(item.got, item.expected) for item in given):
            return "Without gain the answer must be that for gain = 1: set this default."
        return None

    mistakes = [Mistake(answer(m.answer), m.hint) for m in GAIN_MISTAKES]
    centre, orthogonal = _off_centre(usable), _not_orthogonal(usable)
    gain = judge(items, mistakes, GAIN_FALLBACK, same, explain)["gain"]
    random = _first_trouble((draws, again)) or _not_repeated(draws, again) or (None if orthogonal else _not_uniform(draws))
    if any(not kernel.any() for kernel in usable):
        random = orthogonal = centre
    elif centre and orthogonal and all(_orthogonal(kernel.flatten(1)) for kernel in usable):
        centre = orthogonal = (
            "The kernel as a whole, a matrix of shape (c, c·k²), has orthogonal rows. That does not make the layer keep "
            "norms, for the taps act on different pixels: the matrix at the centre must be orthogonal, and all else 0."
        )
    return {"centre": centre, "orthogonal": orthogonal, "gain": orthogonal or gain, "randomness": random}


def _draws(evidence, name, count):
    """The tensor (count, c, c) of the drawn 1×1 kernels, or a `Trouble`."""

    def matrices():
        got, size = read.value(evidence[name], DELTA), (CHANNELS, CHANNELS, 1, 1)
        if not isinstance(got, (list, torch.Tensor)) or len(got) != count:
            raise ValueError("expected a list of as many kernels as were drawn")
        return torch.stack([_as_weights(kernel, size)[:, :, 0, 0] for kernel in got])

    return attempt(matrices)


def _heaviest(kernel):
    """The tap, a matrix, with the largest norm, and its place."""
    k = kernel.shape[-1]
    place = divmod(int((kernel**2).sum((0, 1)).argmax()), k)
    return kernel[:, :, place[0], place[1]], place


def _off_centre(kernels):
    """A hint where something is not 0 outside of the centre, or nothing is at the centre; or None."""
    hints = [_misplaced(kernel) for kernel in kernels]
    return next((hint for hint in hints if hint), None)


def _misplaced(kernel):
    k = kernel.shape[-1]
    size = kernel.abs().amax((0, 1))
    if not size.any():
        return "The kernel is 0 everywhere: the layer would let nothing through."
    taps = size > ZERO_TOLERANCE * size.max()
    middle, count = k // 2, int(taps.sum())
    if count == 1 and taps[middle, middle]:
        return None
    if count == 1:
        row, column = _heaviest(kernel)[1]
        return (
            f"With k = {k} your matrix sits at [{row}, {column}] of the kernel: every layer shifts the image, and at the "
            f"border pixels are lost. The centre is [k//2, k//2] = [{middle}, {middle}]."
        )
    if not taps[middle, middle]:
        return "The kernel is 0 at its centre and not around it; it must be the other way round."
    if count == k * k:
        return (
            "Every tap of the kernel holds numbers, and their outputs add up: the layer does not keep norms. All taps but "
            "the centre must be 0."
        )
    return "Some taps beside the centre are not 0: kernel[:, :, k//2, k//2] is the only one that may be filled."


def _orthogonal(matrix):
    """Whether the rows are orthogonal and of one length."""
    gram = matrix @ matrix.T
    gram = gram / gram.diagonal().mean().clamp(min=1e-300)
    return torch.allclose(gram, torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=ORTHOGONAL_TOLERANCE)


def _not_orthogonal(kernels):
    """A hint where the heaviest tap is no multiple of an orthogonal matrix, or None."""
    taps = [_heaviest(kernel)[0] for kernel in kernels]
    if all(_orthogonal(tap) for tap in taps):
        return None
    if all(torch.equal(tap, tap.triu()) or torch.equal(tap, tap.tril()) for tap in taps):
        return "Your matrix is triangular: of the two factors of a QR decomposition take Q, not R."
    for axis, what in ((0, "columns"), (1, "rows")):
        if all(tap.norm(dim=axis).sub(tap.norm(dim=axis).mean()).abs().max() < 1e-3 * tap.abs().max() for tap in taps):
            return f"Your {what} have one length, but they are not orthogonal to each other."
    widest = max((torch.linalg.svdvals(tap)[0] / tap.norm() * math.sqrt(len(tap))).item() for tap in taps)
    return (
        f"Your matrix is not orthogonal: its singular values, which must all be equal, reach {short(widest)} times their "
        "root mean square. A Gaussian matrix keeps norms only on average; take the Q of its QR decomposition."
    )


def _not_repeated(draws, again):
    """A hint where these matrices (draws, c, c) do not come from the generator, or None."""
    if not _same_numbers(draws[:2], again):
        return (
            "Two generators in the same state gave different kernels: draw all random numbers from generator, and from it "
            "alone."
        )
    if all(_same_numbers(matrix, torch.eye(CHANNELS, dtype=torch.float64)) for matrix in draws):
        return "Your matrix is the identity: orthogonal, but not random. Draw one from generator."
    if _same_numbers(draws[0], draws[1]):
        return (
            "A second call with the same generator gave the same kernel: draw from the generator as it is, without a seed "
            "of your own."
        )
    if _same_numbers(draws[0].abs(), draws[1].abs()):
        return "Two calls give the same matrix but for signs: the whole matrix must be random."
    return None


def _not_uniform(draws):
    """A hint where these orthogonal matrices (draws, c, c) do not look uniformly distributed up to signs, or None."""
    n, c = draws.shape[:2]
    q = draws / draws.norm(dim=(1, 2), keepdim=True).clamp(min=1e-300) * math.sqrt(c)
    if (q.abs() < 1e-4).double().mean() > 0.3:
        return (
            "Most entries of your matrix are 0, as in a permutation: it must be uniformly distributed over all orthogonal "
            "matrices. Take the Q of a Gaussian matrix."
        )
    eighth = (105 + 9 * (c - 1)) / ((c + 2) * (c + 4) * (c + 6))
    error = math.sqrt((eighth - (3 / (c + 2)) ** 2) / n)
    fourth = torch.cat([((q**4).sum(axis).mean(0) - 3 / (c + 2)) / error for axis in (1, 2)])
    odd = (
        ((q**2).mean(0) - 1 / c).abs().max() > ENTRY_LIMIT
        or abs((q**2).diagonal(dim1=1, dim2=2).sum(1).mean() - 1) > DIAGONAL_LIMIT
        or fourth.min() < -FOURTH_LIMITS[0]
        or fourth.max() > FOURTH_LIMITS[1]
        or draws.abs().unique().numel() < DISTINCT * draws.numel()
    )
    if odd:
        return (
            "Your matrix is random, but not uniformly distributed over the orthogonal matrices: some are preferred. The Q of "
            "a matrix of normal numbers (torch.randn) is uniform."
        )
    return None


# --- lab06.lsuv_ --------------------------------------------------------------------------------------------

LSUV = "lsuv_(model, x)"
PHI = {"tanh": torch.tanh, "relu": torch.relu, "gelu": F.gelu, "sigmoid": torch.sigmoid}

# In the logarithm of the variance: 0.1 either way, as the question says, and a little more because a variance with N − 1
# or N in its denominator may have decided (N ≥ 500). Every known mistake is off by 0.2 in some layer.
LOG_VARIANCE_TOLERANCE = 0.108
MISTAKE_TOLERANCE = 0.01
PROPORTIONAL = 1e-4  # float32 rounding is 1e-7


@torch.no_grad()
def lsuv_(model, x):
    """Scale the weight of each linear layer in place, in order, until its output on x has variance 1."""
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight /= layer(x).std()
        x = layer(x)


def _layers(case):
    """The linear layers of a case, each with the names of the activations behind it."""
    found = []
    for layer in case["layers"]:
        if "weight" in layer:
            found.append(dict(weight=layer["weight"], bias=layer["bias"], phis=[]))
        else:
            found[-1]["phis"].append(layer["activation"])
    return found


def _behind(layer, z):
    for name in layer["phis"]:
        z = PHI[name](z)
    return z


def _log_variances(case, weights, biases=None):
    """ln Var of the output of each linear layer, with these weights: a tensor, one entry for each layer.

    A bias acts on what goes on, but does not count in the variance: a wrong one costs the aspect that asks for it alone.
    """
    a, found = case["x"], []
    for i, (layer, weight) in enumerate(zip(_layers(case), weights, strict=True)):
        z = a @ weight.T
        found.append(math.log(min(max(z.var().item(), 1e-30), 1e30)))
        a = _behind(layer, z if biases is None or biases[i] is None else z + biases[i])
    return torch.tensor(found, dtype=torch.float64)


def _parts(logs):
    return {"first": logs[0], "deeper": logs[1:]}


def _sequential(divisor, phi=True, chosen=lambda i, count: True):
    """What someone gets who divides each weight, in order, by divisor(z, a, weight, layer)."""

    def answer(case):
        a, layers, weights = case["x"], _layers(case), []
        for i, layer in enumerate(layers):
            weight = layer["weight"]
            if chosen(i, len(layers)):
                weight = weight / divisor(a @ weight.T, a, weight, layer)
            weights.append(weight)
            a = a @ weight.T
            a = _behind(layer, a) if phi else a
        return _parts(_log_variances(case, weights))

    return answer


def _from_the_start(case):
    """Every divisor is measured in the net as it came, as it also is by someone who goes from the last layer to the first."""
    a, weights = case["x"], []
    for layer in _layers(case):
        z = a @ layer["weight"].T
        weights.append(layer["weight"] / z.std())
        a = _behind(layer, z)
    return _parts(_log_variances(case, weights))


def _on_a_centred_batch(case):
    a, weights = case["x"] - case["x"].mean(), []
    for layer in _layers(case):
        weights.append(layer["weight"] / (a @ layer["weight"].T).std())
        a = _behind(layer, a @ weights[-1].T)
    return _parts(_log_variances(case, weights))


def _xavier_like(case):
    weights = [layer["weight"] for layer in _layers(case)]
    return _parts(_log_variances(case, [w / w.std() / math.sqrt(w.shape[1]) for w in weights]))


LSUV_MISTAKES = [
    Mistake(
        lambda case: _parts(_log_variances(case, [layer["weight"] for layer in _layers(case)])),
        "The weights have the size that they came with.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.var()),
        "You divide by the variance (or twice by the standard deviation): a weight that is divided by s divides the "
        "variance of the output by s², so take the standard deviation, once.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: 1 / z.std()),
        "You multiply by the standard deviation; divide by it.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std().sqrt()),
        "You take one root too many: divide by the standard deviation, the square root of the variance.",
    ),
    Mistake(
        _from_the_start,
        "Every layer is scaled by what it put out in the net as it came: go forward, and once a layer is scaled, send its "
        "new output on to the next.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: _behind(layer, z).std()),
        "You measure behind the activation function; the variance of the linear layer's own output must be 1.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: a.std()),
        "You measure the layer's input; its output must have variance 1.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std(), phi=False),
        "Your signal skips the activation functions on its way: a layer must see what the activations before it put out.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.square().mean().sqrt()),
        "You divide by the root mean square; the variance is that about the mean, and these outputs have a mean.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.var(0).mean().sqrt()),
        "You average the variances of the units, each about its own mean; take the variance over all entries together, "
        "z.var().",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std(0).mean()),
        "You average the standard deviations of the units, each about its own mean; take that of all entries together, "
        "z.std().",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std(0)[:, None]),
        "Each unit is scaled by itself; scale the weight of a layer by one number, so that the variance over all entries "
        "of its output is 1.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.var(1).mean().sqrt()),
        "You average the variances of the samples, each about its own mean; take the variance over all entries together, "
        "z.var().",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std(1).mean()),
        "You average the standard deviations of the samples, each about its own mean; take that of all entries together, "
        "z.std().",
    ),
    Mistake(
        _on_a_centred_batch,
        "You centre the batch before you measure: take x as it is, with its mean.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z[0].std()),
        "You measure on the first sample alone; use the whole batch.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std(), chosen=lambda i, count: i < count - 1),
        "The last layer is left as it came; it is scaled, too.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std(), chosen=lambda i, count: i > 0),
        "The first layer is left as it came; it is scaled, too.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std(), chosen=lambda i, count: i == 0),
        "Only the first layer is scaled: is there a return, or a break, inside the loop?",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std(), chosen=lambda i, count: i == count - 1),
        "Only the last layer is scaled.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std(), chosen=lambda i, count: i < count - 1 and i % 2 == 0),
        "Every other linear layer is left as it came: not every one has an activation behind it.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.std() / math.sqrt(2)),
        "The variance of each output is 2: that is He's factor for the weights, and LSUV asks for an output of variance 1.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: z.norm()),
        "You divide by the norm of the whole output; divide by its standard deviation.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: w.std()),
        "You divide the weights by their own standard deviation; that of the layer's output on x must be 1.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: torch.linalg.matrix_norm(w, 2)),
        "You divide the weights by their own norm; measure the layer's output on x instead.",
    ),
    Mistake(
        _sequential(lambda z, a, w, layer: w.norm()),
        "You divide the weights by their own norm; measure the layer's output on x instead.",
    ),
    Mistake(
        _xavier_like,
        "Your weights have the variance 1/fan_in, whatever x is; measure the layer's output on x instead.",
    ),
]

LSUV_FALLBACK = {
    "first layer": "Divide the weight by the standard deviation of all entries of the layer's output on x.",
    "deeper layers": "Divide each weight by the standard deviation of all entries of the layer's output, measured on what the "
    "scaled layers before it, and their activations, make of x.",
}


def lsuv_inputs(generator):
    """Five nets: linear layers in a row, an activation at the end, no biases in some layers. The variances are far from 1,
    and the means of all outputs, of units and of samples are far from 0 and from each other."""

    def weight(fan_out, fan_in):
        q = nn.init.orthogonal_(torch.empty(fan_out, fan_in, dtype=torch.float64), generator=generator)
        scale = log_uniform(generator, *choose(generator, (0.2, 0.45), (2.2, 5.0)))
        return scale * (q + 1.5 / fan_in)

    def case(*names):
        widths = [integer(generator, 18, 40) for _ in range(names.count("linear") + 1)]
        layers, i = [], 0
        for name in names:
            if name == "linear":
                bias = None if i == 1 else torch.zeros(widths[i + 1], dtype=torch.float64)
                layers.append(dict(weight=weight(widths[i + 1], widths[i]), bias=bias))
                i += 1
            else:
                layers.append(dict(activation=name))
        brightness = uniform(generator, 0.8, 1.2) + normal(generator, 40, 1, scale=0.8)
        x = brightness + normal(generator, 40, widths[0], scale=uniform(generator, 0.8, 1.2))
        return dict(layers=layers, x=x)

    return {
        "cases": [
            case("linear", "tanh", "linear", "tanh", "linear", "tanh", "linear"),
            case("linear", "relu", "linear", "relu", "linear", "relu", "linear"),
            case("linear", "linear", "gelu", "linear"),
            case("linear", "tanh", "linear", "relu", "linear", "linear", "tanh"),
            case("linear", "gelu", "linear", "sigmoid", "linear"),
        ]
    }


def lsuv_judge(inputs, evidence):
    cases = inputs["cases"]
    nets = [attempt(_net, case, record) for case, record in zip(cases, evidence["cases"], strict=True)]
    aspects = [*LSUV_FALLBACK, "nothing else changes"]
    if trouble := _first_trouble(nets):
        return dict.fromkeys(aspects, trouble)
    if all(
        torch.equal(weight, layer["weight"])
        for case, (weights, _) in zip(cases, nets)
        for weight, layer in zip(weights, _layers(case))
    ):
        returned = _returned(evidence["cases"][0]["record"])
        sentence = f"no weight of the model has changed, and your function returned {returned}: scale each weight in place."
        return dict.fromkeys(aspects, read.Trouble(sentence))

    items = []
    for case, net in zip(cases, nets):
        got, zero = _parts(_log_variances(case, *net)), torch.zeros((), dtype=torch.float64)
        for aspect, part in zip(LSUV_FALLBACK, ("first", "deeper")):
            items.append(Item(aspect, got[part], zero.expand_as(got[part]), case, part))

    def same(got, expected):  # a mistake must be met more closely than the aim, the logarithm 0, or many would fit
        return close(0, LOG_VARIANCE_TOLERANCE if not expected.any() else MISTAKE_TOLERANCE)(got, expected)

    findings = judge(items, LSUV_MISTAKES, LSUV_FALLBACK, same)
    wrong = next((item.case for item in items if not same(item.got, item.expected)), None)
    if wrong is not None:
        number = next(i for i, case in enumerate(cases) if case is wrong)
        shown = ", ".join(short(math.exp(v)) for v in _log_variances(wrong, *nets[number]).tolist())
        names = " → ".join("linear" if "weight" in layer else layer["activation"] for layer in wrong["layers"])
        found = f"in the net {names} the outputs of the linear layers have the variances {shown}; each must be within 0.1 of 1."
        findings = {aspect: finding and f"{found} {finding}" for aspect, finding in findings.items()}
    changes = (_changed(case, net) for case, net in zip(cases, nets))
    return findings | {"nothing else changes": next((change for change in changes if change), None)}


def _net(case, record):
    """Weights and biases (None where there is none) of the linear layers after the call."""
    call = record["record"]
    if call["outcome"] == "returned":  # whatever it returns: what counts is the model
        call = {**call, "type": "", "value": True}
    read.value(call, LSUV)
    weights, biases = (read.value(record[name], LSUV) for name in ("weights", "biases"))
    layers = _layers(case)
    if not (isinstance(weights, list) and isinstance(biases, list) and len(weights) == len(biases) == len(layers)):
        raise ValueError("expected a weight and a bias for each layer")
    found = []
    for weight, bias, layer in zip(weights, biases, layers):
        weight = read.as_tensor(weight, layer["weight"].shape, "a weight of the shape that it had")
        bias = None if bias is None else read.as_tensor(bias, layer["weight"].shape[:1], "a bias of the shape that it had")
        found.append((weight, bias))
    return [w for w, _ in found], [b for _, b in found]


def _returned(call):
    value, kind = call["value"], str(call["type"])[:60]
    if kind == "NoneType":
        return "None"
    if isinstance(value, torch.Tensor) and value.ndim:
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a value of type {kind}"


def _changed(case, net):
    """A hint where more than one factor for each weight has changed, or None."""
    for layer, weight, bias in zip(_layers(case), *net, strict=True):
        before = layer["weight"]
        if not weight.any():
            return "A weight is 0 afterwards."
        factor = ((weight * before).sum() / (before**2).sum()).item()
        if (weight - factor * before).norm() > PROPORTIONAL * weight.norm():
            rows = (weight * before).sum(1, keepdim=True) / (before**2).sum(1, keepdim=True)
            if (weight - rows * before).norm() <= PROPORTIONAL * weight.norm():
                return "The rows of a weight have got different factors: multiply the whole weight by one number."
            return (
                "Afterwards a weight is no multiple of what it was: do not draw new weights or subtract a mean; multiply the "
                "one that is there by one number."
            )
        if factor < 0:
            return "A weight has changed its sign: its factor must be positive."
        if (bias is None) != (layer["bias"] is None) or bias is not None and bias.any():
            return "A bias has changed: the biases are 0, and stay so."
    return None


QUESTIONS = (
    Question(
        name="lab06.xavier_bound",
        signature="xavier_bound(fan_in, fan_out, gain=1.0)",
        contract=(
            "The number b for which weights drawn from U(−b, b) have Glorot's variance, 2 gain²/(fan_in + fan_out). fan_in and "
            "fan_out are ints, gain is a float."
        ),
        aspects={"equal fans": 2, "unequal fans": 2, "gain": 1},
        minutes=8,
        inputs=xavier_bound_inputs,
        reference=xavier_bound,
        judge=xavier_bound_judge,
    ),
    Question(
        name="lab06.he_normal",
        signature=HE,
        contract=(
            "Independent normal weights with mean 0 and variance 2/((1 + a²) fan_in): a tensor of this shape, float32 or "
            "float64. shape is a tuple, (out, in) of a linear layer or (out, in, k) and (out, in, kh, kw) of a convolution; a "
            "is the slope of the activation for z < 0. Every random number comes from generator, a torch.Generator, used as "
            "it is. A normal distribution cut off at two standard deviations or more, rescaled to this variance, is accepted."
        ),
        aspects={"linear layers": 2, "convolutions": 2, "slope a": 2, "randomness": 2},
        minutes=20,
        inputs=he_normal_inputs,
        reference=he_normal,
        judge=he_normal_judge,
    ),
    Question(
        name="lab06.delta_orthogonal",
        signature=DELTA,
        contract=(
            "A kernel of shape (c, c, k, k), float32 or float64, with odd k: 0 but for gain times a random orthogonal matrix at "
            "its centre, orthogonal to within 0.001, uniformly distributed (signs of rows and columns by any convention). Every "
            "random number comes from generator, a torch.Generator, used as it is."
        ),
        aspects={"centre": 2, "orthogonal": 2, "gain": 1, "randomness": 1},
        minutes=15,
        inputs=delta_orthogonal_inputs,
        reference=delta_orthogonal,
        judge=delta_orthogonal_judge,
    ),
    Question(
        name="lab06.lsuv_",
        signature=LSUV,
        contract=(
            "In place: multiplies the weight of each nn.Linear in model, an nn.Sequential of linear layers and activations in "
            "float64, by one positive number, so that the variance over all entries of its output on x is within 0.1 of 1. x is "
            "a float64 tensor (batch, features) and stays unchanged; biases, where there are any, are 0 and stay so. The "
            "returned value does not count."
        ),
        aspects={"first layer": 1, "deeper layers": 3, "nothing else changes": 2},
        minutes=20,
        inputs=lsuv_inputs,
        reference=lsuv_,
        judge=lsuv_judge,
    ),
)
