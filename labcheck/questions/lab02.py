"""Questions of lab 02, depth: references, known mistakes and verdicts."""

import math
from functools import reduce

import torch

from .. import evidence as read
from ..judging import Item, Mistake, attempt, close, integer, judge, normal, uniform
from ..question import Question


def _f64(*values):
    return torch.tensor(values, dtype=torch.float64)


# --- lab02.jacobian -----------------------------------------------------------------------------------------

JACOBIAN_SIGNATURE = "jacobian(W, U, xs, h0)"

# As a share of the largest entry. float32 (1e-6) and finite differences with a step up to 1e-5 (3e-5) are right
# within this; every known mistake is off by more than 1e-2 in some case.
JACOBIAN_TOLERANCE = 1e-4


def jacobian(W, U, xs, h0):
    """∂h_T/∂h_0 of h_t = tanh(W h_{t−1} + U x_t), an (n, n) tensor."""
    h, product = h0, torch.eye(len(h0), dtype=h0.dtype)
    for x in xs:
        h = torch.tanh(W @ h + U @ x)
        product = torch.diag(1 - h**2) @ W @ product
    return product


def _states(W, U, xs, h0):
    """h_0 … h_T, and the pre-activations z_1 … z_T."""
    hs, zs = [h0], []
    for x in xs:
        zs.append(W @ hs[-1] + U @ x)
        hs.append(torch.tanh(zs[-1]))
    return hs, zs


def _chain(factors, n):
    """F_T ⋯ F_2 F_1."""
    return reduce(lambda product, factor: factor @ product, factors, torch.eye(n, dtype=torch.float64))


def _by(slope, wrong=None):
    """A product of factors diag(slope) W, or of `wrong(slope, W)`.

    `slope` is a function of h_t, h_{t−1} and z_t.
    """
    wrong = wrong or (lambda d, W: d[:, None] * W)

    def answer(W, U, xs, h0):
        hs, zs = _states(W, U, xs, h0)
        return _chain([wrong(slope(h, before, z), W) for h, before, z in zip(hs[1:], hs, zs)], len(h0))

    return answer


def _factors(W, U, xs, h0):
    hs, _ = _states(W, U, xs, h0)
    return [(1 - h**2)[:, None] * W for h in hs[1:]]


def _of_factors(combine):
    """An answer made from J_1 … J_T where T > 0; without a step it is right."""

    def answer(W, U, xs, h0):
        factors = _factors(W, U, xs, h0)
        return combine(factors, len(h0)) if factors else torch.eye(len(h0), dtype=torch.float64)

    return answer


def _true(h, before, z):
    return 1 - h**2


def _ends(first, last):
    """The product without W at its right end, or without the slope at its left end."""

    def answer(W, U, xs, h0):
        hs, _ = _states(W, U, xs, h0)
        slopes = [1 - h**2 for h in hs[1:]]
        product = torch.eye(len(h0), dtype=torch.float64)
        for t, d in enumerate(slopes):
            product = product if first and t == 0 else W @ product
            product = product if last and t == len(slopes) - 1 else d[:, None] * product
        return product

    return answer


def _stuck(W, U, xs, h0):
    """h is never carried on: each state is computed from h_0."""
    return _chain([(1 - torch.tanh(W @ h0 + U @ x) ** 2)[:, None] * W for x in xs], len(h0))


def _with_start(W, U, xs, h0):
    """One factor too many: h_0's own slope counts as a step."""
    hs, _ = _states(W, U, xs, h0)
    return _chain([(1 - h**2)[:, None] * W for h in hs], len(h0))


def _one_late(W, U, xs, h0):
    """The first step is left out altogether: the recursion starts at x_2."""
    return jacobian(W, U, xs[1:], h0)


# Functions of W, U, xs and h0.
JACOBIAN_MISTAKES = [
    (
        _of_factors(lambda f, n: _chain(f[::-1], n)),
        "The factors are in the wrong order: later ones multiply from the left, J_T ⋯ J_2 J_1.",
    ),
    (
        lambda *c: jacobian(*c).T,
        "That is the transpose: entry [i, j] is the derivative of component i of h_T with respect to component j of h_0.",
    ),
    (
        lambda *c: _of_factors(lambda f, n: _chain(f[::-1], n))(*c).T,
        "You multiply transposed factors, J_Tᵀ ⋯ J_1ᵀ; it is J_T ⋯ J_1, without a transpose.",
    ),
    (
        _by(_true, lambda d, W: W * d),
        "The slopes are on the wrong side, W·diag(1 − h²): they scale the rows of W, diag(1 − h²)·W, because tanh "
        "comes after W.",
    ),
    (
        _by(lambda h, before, z: 1 - before**2),
        "The slope is one step behind: it belongs to the new state h_t, and you take 1 − h² at h_{t−1}.",
    ),
    (
        _by(lambda h, before, z: 1 - z**2),
        "1 − h² wants the state h = tanh(z), and you put in the pre-activation z; 1 − z² even becomes negative.",
    ),
    (
        _by(lambda h, before, z: 1 - torch.tanh(h) ** 2),
        "tanh is applied twice: h_t is tanh(z_t) already, so the slope is 1 − h_t².",
    ),
    (_by(lambda h, before, z: 1 - h), "The square is missing: the slope of tanh is 1 − h², not 1 − h."),
    (_by(lambda h, before, z: h**2), "The slope of tanh is 1 − h²; you use h² alone."),
    (_by(lambda h, before, z: 1 + h**2), "A sign is wrong in the slope: it is 1 − h² and never above 1."),
    (_by(lambda h, before, z: h * (1 - h)), "h(1 − h) is the slope of the sigmoid; that of tanh is 1 − h²."),
    (
        _by(_true, lambda d, W: torch.diag(d) * W),
        "diag(1 − h²) * W is the elementwise product and keeps only the diagonal of W: use @, or (1 − h²)[:, None] * W.",
    ),
    (
        _by(lambda h, before, z: torch.ones_like(h)),
        "That is the product of the weights alone: each factor also has the slopes of tanh, diag(1 − h²).",
    ),
    (
        _by(_true, lambda d, W: torch.diag(d)),
        "That is the product of the slopes alone: each factor also has the matrix W.",
    ),
    (
        lambda W, U, xs, h0: _chain(_factors(W, U, xs, h0)[1:], len(h0)),
        "One factor is missing: J_1, of the first step, belongs to the product, too.",
    ),
    (
        lambda W, U, xs, h0: _chain(_factors(W, U, xs, h0)[:-1], len(h0)),
        "One factor is missing: J_T, of the last step, belongs to the product, too.",
    ),
    (_one_late, "The first input x_1 is not used: with T rows in xs there are T steps."),
    (
        lambda W, U, xs, h0: jacobian(W, U, xs[:-1], h0),
        "The last input x_T is not used: with T rows in xs there are T steps.",
    ),
    (_with_start, "There is one factor too many: h_0 is given, so its slope does not count; the first factor has h_1."),
    (
        _ends(False, True),
        "The slope of the last step is missing: you stop at the pre-activation z_T, and h_T = tanh(z_T).",
    ),
    (
        _ends(True, False),
        "The last W on the way back, from z_1 to h_0, is missing: you differentiate with respect to z_1.",
    ),
    (
        lambda W, U, xs, h0: jacobian(W, torch.zeros_like(U), xs, h0),
        "The inputs have no effect on your answer: U x_t belongs inside tanh and changes the slopes.",
    ),
    (
        lambda W, U, xs, h0: jacobian(W, U, xs * 0 + xs[:1], h0) if len(xs) else None,
        "You use the first input x_1 in every step; step t has x_t.",
    ),
    (
        lambda W, U, xs, h0: jacobian(W, U, xs.flip(0), h0),
        "The inputs come in the wrong order: x_1 is the first row of xs.",
    ),
    (
        lambda W, U, xs, h0: jacobian(W, U, xs, torch.zeros_like(h0)),
        "h0 has no effect on your answer: the first state is tanh(W h_0 + U x_1).",
    ),
    (_stuck, "The state is not carried on: in step t, W multiplies h_{t−1}, and yours multiplies h_0 every time."),
    (
        _of_factors(lambda f, n: _chain(f[-1:] * len(f), n)),
        "That is one factor to the power T; the slopes change from step to step, so every step has its own J_t.",
    ),
    (
        _of_factors(lambda f, n: _chain(f[:1] * len(f), n)),
        "That is one factor to the power T; the slopes change from step to step, so every step has its own J_t.",
    ),
    (
        _of_factors(lambda f, n: f[-1]),
        "That is J_T, the last step alone: multiply the factors of all steps.",
    ),
    (
        _of_factors(lambda f, n: f[0]),
        "That is J_1, the first step alone: multiply the factors of all steps.",
    ),
    (
        _of_factors(lambda f, n: reduce(torch.mul, f)),
        "The factors are multiplied entry by entry: use the matrix product @.",
    ),
    (
        _of_factors(lambda f, n: sum(f)),
        "The factors are added: the chain rule multiplies them, J_T ⋯ J_1.",
    ),
    (
        lambda W, U, xs, h0: jacobian(W.T, U, xs, h0),
        "You use Wᵀ where the recursion has W: h @ W is Wᵀh, write W @ h (or h @ W.T).",
    ),
    (
        lambda W, U, xs, h0: _chain(
            [(1 - h**2)[:, None] * W for h in _states(W.T, U, xs, h0)[0][1:]], len(h0)
        ),
        "The states are computed with Wᵀ: h @ W is Wᵀh, write W @ h (or h @ W.T).",
    ),
    (
        lambda *c: jacobian(*c).diag().diag(),
        "Only the diagonal of the Jacobian is there: component i of h_T depends on every component of h_0.",
    ),
    (lambda *c: jacobian(*c).abs(), "All entries are positive: the Jacobian keeps its signs, so take no absolute value."),
    (lambda *c: -jacobian(*c), "Every entry has the wrong sign."),
    (
        lambda *c: torch.zeros_like(c[0]),
        "All entries are 0: start the product with the identity matrix, and see that the graph is not cut (detach, no_grad).",
    ),
]

JACOBIAN_FALLBACK = {
    "no step": "Without a step h_T is h_0 itself, so the Jacobian is the identity matrix.",
    "one step": "For one step the answer is diag(1 − h_1²) W with h_1 = tanh(W h_0 + U x_1).",
    "many steps": "Compare with finite differences: move one component of h_0 by 1e-6, run the net, and divide the "
    "change of h_T by 1e-6; that is one column.",
}

_W, _U = _f64([0.9, 1.2], [-0.3, 0.6]), _f64([0.8], [-0.6])
_XS, _H0 = _f64([0.5], [-1.0], [0.7]), _f64(0.5, -0.6)
_MATRICES = "W = [[0.9, 1.2], [−0.3, 0.6]], U = [[0.8], [−0.6]], h0 = [0.5, −0.6] and "
_JACOBIAN_QUOTES = [
    _MATRICES + "no x (T = 0)",
    _MATRICES + "xs = [[0.5]]",
    _MATRICES + "xs = [[0.5], [−1], [0.7]]",
]


def jacobian_inputs(generator):
    """Three fixed cases, so that hints can name one, and six random ones: n ≠ m, W not normal, slopes far from 1."""

    def case(aspect, n, m, steps):
        W = normal(generator, n, n, scale=1.1 / math.sqrt(n))
        # W + 0.5·(its upper part) is farther from a normal matrix, so that a wrong order or side shows.
        return dict(
            aspect=aspect,
            W=W + 0.5 * W.triu(1),
            U=normal(generator, n, m, scale=0.7 / math.sqrt(m)),
            xs=normal(generator, steps, m),
            h0=1.6 * torch.rand(n, generator=generator, dtype=torch.float64) - 0.8,
        )

    fixed = [
        dict(aspect=aspect, W=_W, U=_U, xs=_XS[:steps], h0=_H0)
        for aspect, steps in (("no step", 0), ("one step", 1), ("many steps", 3))
    ]
    return {
        "cases": fixed
        + [
            case("no step", 4, 2, 0),
            case("one step", 4, 2, 1),
            case("one step", 3, 5, 1),
            case("many steps", 3, 2, 2),
            case("many steps", 4, 3, integer(generator, 3, 4)),
            case("many steps", 5, 2, integer(generator, 5, 6)),
        ]
    }


def _read_jacobian(record, n):
    got = read.tensor(record, JACOBIAN_SIGNATURE)
    if got.shape != (n, n):
        expected = f"expected the Jacobian, of shape (n, n) = ({n}, {n})"
        if got.numel() == 1:
            raise read.Trouble(f"{expected}, got one number. A product of norms is only a bound: multiply the matrices.")
        if got.numel() == n:
            raise read.Trouble(
                f"{expected}, got {tuple(got.shape)}. The gradient of one number, such as h_T.sum(), is only one vector: "
                "each component of h_T has a row of its own."
            )
        raise read.Trouble(f"{expected}, got {tuple(got.shape)}.")
    return got


def _same_jacobian(a, b):
    return a.shape == b.shape and bool((a - b).abs().max() <= JACOBIAN_TOLERANCE * b.abs().max())


def jacobian_judge(inputs, evidence):
    def arguments(case):
        return case["W"], case["U"], case["xs"], case["h0"]

    items = [
        Item(
            case["aspect"],
            attempt(_read_jacobian, record, len(case["h0"])),
            jacobian(*arguments(case)),
            case,
            quote=_JACOBIAN_QUOTES[i] if i < len(_JACOBIAN_QUOTES) else None,
        )
        for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True))
    ]
    mistakes = [Mistake(lambda c, answer=answer: answer(*arguments(c)), hint) for answer, hint in JACOBIAN_MISTAKES]
    return judge(items, mistakes, JACOBIAN_FALLBACK, _same_jacobian)


# --- lab02.chain_factor -------------------------------------------------------------------------------------

CHAIN_SIGNATURE = "chain_factor(w, y)"

# float32 (1e-7 of 1 − σ, times |w| ≤ 20: 2e-6) and central differences are right within this.
CHAIN_TOLERANCE = 1e-5


def chain_factor(w, y):
    """|σ′(w y)·w|, elementwise, w and y broadcast."""
    return (torch.sigmoid(w * y) * torch.sigmoid(-w * y) * w).abs()


_sigmoid = torch.sigmoid


def _slope(z):
    return _sigmoid(z) * _sigmoid(-z)


def _log_slope(z):
    return torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z)


# Functions of w and y.
CHAIN_MISTAKES = [
    (
        lambda w, y: _slope(w * y) * w,
        "The absolute value is missing: with w < 0 the factor is negative in your answer, and the size is asked for.",
    ),
    (
        lambda w, y: (_slope(w * y) * w).clamp(min=0),
        "You set negative factors to 0; the absolute value turns them positive.",
    ),
    (lambda w, y: -(_slope(w * y) * w).abs(), "Every value has the wrong sign: an absolute value is never negative."),
    (
        lambda w, y: (_slope(w * y) * y).abs(),
        "You multiply by y: that is the derivative with respect to the weight. The error goes back through the weight, "
        "so multiply by w.",
    ),
    (
        lambda w, y: (_slope(w * y) * w * y).abs(),
        "There is a factor y too many: y belongs inside σ′ only.",
    ),
    (lambda w, y: _slope(w * y) + 0 * w, "The factor w is missing: you return σ′(w y) alone."),
    (lambda w, y: (_slope(y) * w).abs(), "You take the slope at y; the unit receives w y, so it is σ′(w y)."),
    (lambda w, y: (_slope(w) * w).abs() + 0 * y, "You take the slope at w; the unit receives w y, so it is σ′(w y)."),
    (lambda w, y: (_slope(w + y) * w).abs(), "You take the slope at w + y; the unit receives the product w y."),
    (
        lambda w, y: (_sigmoid(w * y) * w).abs(),
        "You use the value σ(w y); an error is multiplied by the slope σ′ = σ(1 − σ).",
    ),
    (
        lambda w, y: (_slope(_sigmoid(w * y)) * w).abs(),
        "σ is applied twice: σ′ at the argument z is σ(z)(1 − σ(z)), with z = w y.",
    ),
    (
        lambda w, y: (w * y * (1 - w * y) * w).abs(),
        "a(1 − a) is the slope only where a is already the output σ(w y); you put w y in its place.",
    ),
    (
        lambda w, y: ((1 - torch.tanh(w * y) ** 2) * w).abs(),
        "That is the slope of tanh; the logistic function has σ(1 − σ), at most 1/4.",
    ),
    (lambda w, y: ((1 - _sigmoid(w * y)) * w).abs(), "One factor is missing: σ′ = σ(1 − σ), and you have 1 − σ."),
    (lambda w, y: ((1 - _sigmoid(w * y) ** 2) * w).abs(), "1 − σ² is no slope of the logistic function: σ′ = σ(1 − σ)."),
    (lambda w, y: (_sigmoid(w * y) ** 2 * w).abs(), "You use σ²: the slope is σ(1 − σ)."),
    (
        lambda w, y: (_sigmoid(w * y) * (1 + _sigmoid(w * y)) * w).abs(),
        "A sign is wrong: σ′ = σ(1 − σ), and you have σ(1 + σ).",
    ),
    (
        lambda w, y: w.abs() / 4 + 0 * y,
        "|w|/4 is only the bound, from the largest slope; the slope falls when w y moves away from 0.",
    ),
    (lambda w, y: (_slope(w * y) * w) ** 2, "That is the square of the factor."),
    (lambda w, y: _slope(w * y) * w**2, "The weight is squared: multiply by |w| once."),
    (lambda w, y: (_slope(w * y) * w).abs().sqrt(), "That is the root of the factor."),
    (lambda w, y: (_slope(w * y) ** 2 * w).abs(), "The slope is squared: multiply by σ′ once."),
    (lambda w, y: 4 * (_slope(w * y) * w).abs(), "Your factor is 4 times too large: σ′ is at most 1/4, do not rescale it."),
    (lambda w, y: w.abs().log() + _log_slope(w * y), "That is the logarithm of the factor."),
    (lambda w, y: (w * y > 0) * w.abs(), "That is the slope of ReLU, 0 or 1; the logistic function has σ(1 − σ)."),
]

CHAIN_FALLBACK = {
    "positive weights": "The factor is σ′(z)·w at z = w y, with σ′(z) = σ(z)(1 − σ(z)).",
    "signs": "The factor is a size: |σ′(w y)|·|w|. σ′ is even, so the sign of y has no effect.",
    "shapes": "Every entry of w meets every entry of y that broadcasting pairs it with: use elementwise operations.",
    "large arguments": "For |w y| of several hundred σ′ is 0 to every digit, and the factor with it.",
}

_CHAIN_FIXED = [
    ("w = [0.5, 1.5, 3, 8] and y = 0.6", "positive weights", _f64(0.5, 1.5, 3, 8), torch.tensor(0.6)),
    ("w = [−4, −1.5, 2, −0.5] and y = 0.6", "signs", _f64(-4, -1.5, 2, -0.5), torch.tensor(0.6)),
    ("w = 2.5 and y = [0.2, 0.5, 1.2, 2]", "shapes", torch.tensor(2.5), _f64(0.2, 0.5, 1.2, 2)),
    ("w = [10, −10, 20, −20] and y = 50", "large arguments", _f64(10, -10, 20, -20), torch.tensor(50.0)),
]


def chain_factor_inputs(generator):
    """Four fixed cases, so that hints can name one, and random ones; |w y| is at most 6, or at least 300."""

    def draw(low, high, *shape):
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    def signs(*shape):
        return 2.0 * torch.randint(2, shape, generator=generator) - 1

    mixed = draw(0.5, 6, 3, 5) * signs(3, 5)
    mixed[0, 0] = -mixed[0, 0].abs()
    cases = [
        dict(aspect="positive weights", w=draw(0.4, 6, 6), y=draw(0.2, 0.9, 6)),
        dict(aspect="positive weights", w=draw(3, 20, 2, 4), y=draw(0.02, 0.2, 2, 4)),
        dict(aspect="signs", w=mixed, y=draw(0.2, 0.9, 3, 5)),
        dict(aspect="signs", w=-draw(0.5, 4, 4), y=-draw(0.3, 1.4, 4)),
        dict(aspect="shapes", w=draw(0.5, 4, 3, 1), y=draw(0.2, 1.4, 2)),
        dict(aspect="shapes", w=draw(0.5, 4, 5), y=draw(0.2, 1.4, 4, 1)),
        dict(aspect="large arguments", w=signs(6) * draw(3, 10, 6), y=_f64(*[100.0] * 6)),
        dict(aspect="large arguments", w=_f64(-1, 1) * draw(8, 10, 2), y=signs(2) * draw(90, 100, 2)),
    ]
    fixed = [dict(aspect=aspect, w=w.double(), y=y.double()) for _, aspect, w, y in _CHAIN_FIXED]
    return {"cases": fixed + cases}


def _read_chain(record, case):
    shape = torch.broadcast_shapes(case["w"].shape, case["y"].shape)
    got = read.value(record, CHAIN_SIGNATURE)
    if isinstance(got, torch.Tensor) and got.is_floating_point() and not got.isfinite().all():
        if case["aspect"] == "large arguments":
            raise read.Trouble(
                "returned NaN or ∞ where |w y| is several hundred: an exponential overflows there. torch.sigmoid does "
                "not, and σ′(z) is even in z."
            )
    got = read.tensor(record, CHAIN_SIGNATURE)
    if got.shape != shape:
        given = "" if shape == (4,) else f" for w of shape {tuple(case['w'].shape)} and y of shape {tuple(case['y'].shape)}"
        raise read.Trouble(f"expected one factor for each entry, shape {tuple(shape)}{given}, got {tuple(got.shape)}.")
    return got


def chain_factor_judge(inputs, evidence):
    items = [
        Item(
            case["aspect"],
            attempt(_read_chain, record, case),
            chain_factor(case["w"], case["y"]),
            case,
            quote=_CHAIN_FIXED[i][0] if i < len(_CHAIN_FIXED) else None,
        )
        for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True))
    ]
    mistakes = [Mistake(lambda c, answer=answer: answer(c["w"], c["y"]), hint) for answer, hint in CHAIN_MISTAKES]
    return judge(items, mistakes, CHAIN_FALLBACK, close(CHAIN_TOLERANCE, CHAIN_TOLERANCE))


# --- lab02.decay_rate ---------------------------------------------------------------------------------------

DECAY_SIGNATURE = "decay_rate(norms)"

# float32 throughout, normal equations and all, is off by up to 1e-4; a slope is at least 0.1 in size.
DECAY_RTOL, DECAY_ATOL = 1e-3, 2e-4


def decay_rate(norms):
    """Least-squares slope of ln(norms) against the layer, as a float."""
    x = torch.arange(len(norms), dtype=torch.float64)
    x = x - x.mean()
    return ((x @ torch.log(norms)) / (x @ x)).item()


def _slope_against(x, y):
    x, y = x - x.mean(), y - y.mean()
    return ((x @ y) / (x @ x)).item()


def _index(norms, start=0):
    return torch.arange(start, start + len(norms), dtype=torch.float64)


def _mean_ratio(norms):
    return (norms[1:] / norms[:-1]).mean().item()


def _intercept(norms, start):
    return torch.log(norms).mean().item() - decay_rate(norms) * _index(norms, start).mean().item()


def _through_origin(x, y):
    return ((x @ y) / (x @ x)).item()


def _log_ratios(norms):
    return torch.log(norms[1:] / norms[:-1])


def _correlation(norms):
    return torch.corrcoef(torch.stack([_index(norms), torch.log(norms)]))[0, 1].item()


def _pair_slopes(norms):
    y, n = torch.log(norms), len(norms)
    return torch.stack([(y[j] - y[i]) / (j - i) for i in range(n) for j in range(i + 1, n)])


# Of an even number of values NumPy takes the mean of the middle two, torch the lower one.
_MEDIANS = (lambda t: t.quantile(0.5), torch.median)
_EPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 2**-23, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15, 2**-52, 1e-16, 1e-20)

# Functions of the norms.
DECAY_MISTAKES = [
    (
        lambda v: -decay_rate(v),
        "The sign is wrong: norms come from the input to the output layer, and the rate is positive where they rise in "
        "that order, that is where the gradient vanishes towards the input.",
    ),
    (lambda v: abs(decay_rate(v)), "The sign is lost: the rate is negative where the gradient grows towards the input."),
    (lambda v: decay_rate(v) / math.log(10), "That is in decades per layer (log10); use the natural logarithm."),
    (lambda v: decay_rate(v) / math.log(2), "That is in factors of 2 per layer (log2); use the natural logarithm."),
    (
        lambda v: ((v[-1] / v[0]).log() / (len(v) - 1)).item(),
        "Only the first and the last norm count in your answer; the mean of the differences of the logarithms is no "
        "more than that. Fit a line to all layers.",
    ),
    (
        lambda v: ((v[-1] / v[0]).log() / len(v)).item(),
        "Only the first and the last norm count in your answer, and L layers have L − 1 steps between them. Fit a "
        "line to all layers.",
    ),
    (lambda v: (v[-1] / v[0]).log().item(), "That is the change over the whole net, from its two ends; fit a line to all layers."),
    (_mean_ratio, "That is the mean ratio of neighbouring norms; fit a line to their logarithms instead."),
    (
        lambda v: math.log(_mean_ratio(v)),
        "That is the logarithm of the mean ratio, which one large ratio rules; fit a line to the logarithms instead.",
    ),
    (lambda v: _mean_ratio(v) - 1, "That is the mean relative change; fit a line to the logarithms instead."),
    *(
        (
            lambda v, median=median: median(_log_ratios(v)).item(),
            "That is the median of the steps between neighbours; the least-squares slope is asked for.",
        )
        for median in _MEDIANS
    ),
    *(
        (
            lambda v, median=median: median(_pair_slopes(v)).item(),
            "That is the median of the slopes of all pairs; the least-squares slope is asked for.",
        )
        for median in _MEDIANS
    ),
    (
        lambda v: _pair_slopes(v).mean().item(),
        "That is the mean of the slopes of all pairs; the least-squares slope is asked for.",
    ),
    (
        lambda v: 2 * decay_rate(v),
        "Your rate is twice the one asked for: it is that of the squared norm. Do not square the norms.",
    ),
    (
        lambda v: decay_rate(v) / 2,
        "Your rate is half the one asked for: the norms are not squared, so take no root.",
    ),
    (lambda v: _slope_against(_index(v), v), "The logarithm is missing: you fit a line to the norms themselves."),
    (lambda v: math.exp(decay_rate(v)), "That is the factor per layer, e to the rate; return the rate itself."),
    (lambda v: math.exp(-decay_rate(v)), "That is the factor per layer, e to minus the rate; return the rate itself."),
    (lambda v: _intercept(v, 0), "That is the intercept of the line; return its slope (np.polyfit gives the slope first)."),
    (lambda v: _intercept(v, 1), "That is the intercept of the line; return its slope (np.polyfit gives the slope first)."),
    (
        lambda v: decay_rate(v) * (len(v) - 1),
        "That is the change over the whole net: against the layer number 1, 2, 3 … the slope is per layer.",
    ),
    (
        lambda v: decay_rate(v) * len(v),
        "That is the change over the whole net: against the layer number 1, 2, 3 … the slope is per layer.",
    ),
    (
        lambda v: _slope_against(torch.log(v), _index(v)),
        "The axes are swapped: the layer is x and the logarithm is y.",
    ),
    (
        lambda v: 1 / decay_rate(v),
        "That is the number of layers for a factor e; the rate is its inverse.",
    ),
    *(
        (
            lambda v, start=start: _through_origin(_index(v, start), torch.log(v)),
            "Your line is forced through the origin: give it an intercept, or subtract the means of x and y.",
        )
        for start in (0, 1)
    ),
    (
        lambda v: _through_origin(_index(v), torch.log(v / v[0])),
        "Your line is forced through the first layer: give it an intercept, or subtract the means of x and y.",
    ),
    *(
        (
            lambda v, power=power: decay_rate(v) * (len(v) / (len(v) - 1)) ** power,
            "Your rate is off by L/(L − 1): covariance and variance must both divide by L, or both by L − 1 (torch.var "
            "and torch.cov divide by L − 1, torch.mean and np.var by L).",
        )
        for power in (1, -1)
    ),
    (_correlation, "That is the correlation coefficient; the slope also has the ratio of the spreads of y and x."),
    (lambda v: _correlation(v) ** 2, "That is R², the quality of the fit; the slope is asked for."),
    (lambda v: decay_rate(v[1:]), "The first layer is left out: all entries of norms count."),
    (lambda v: decay_rate(v[:-1]), "The last layer is left out: all entries of norms count."),
    (
        lambda v: _slope_against(_index(v, 1).log(), torch.log(v)),
        "You take the logarithm of the layer number, too: only the norms have one.",
    ),
    (
        lambda v: _slope_against(_index(v), torch.log1p(v)),
        "You use ln(1 + norm): small norms vanish in the 1. Take ln(norm).",
    ),
    *(
        (
            lambda v, eps=eps: decay_rate(v + eps),
            "Something is added to the norms before the logarithm: they are positive, and smaller ones are lost in it.",
        )
        for eps in _EPS
    ),
    *(
        (
            lambda v, eps=eps: decay_rate(v.clamp(min=eps)),
            "Small norms are raised to a floor before the logarithm: they are positive, so there is nothing to guard.",
        )
        for eps in _EPS
    ),
]

DECAY_FALLBACK = {
    "straight line": "Here ln(norm) is a straight line over the layers, and its slope is ln(second norm / first norm).",
    "scattered": "The slope is Σ(x − x̄)(y − ȳ)/Σ(x − x̄)², with x the layer and y = ln(norm), over all layers.",
    "tiny norms": "These norms go down to 1e-25, and their logarithms are all that counts: add nothing to them, round nothing off.",
}

_DECAY_FIXED = [
    ("norms = [0.1, 0.2, 0.4, 0.8]", "straight line", _f64(0.1, 0.2, 0.4, 0.8)),
    ("norms = [0.01, 0.05, 0.02, 0.4, 1.2]", "scattered", _f64(0.01, 0.05, 0.02, 0.4, 1.2)),
    ("norms = [1e-25, 1e-18, 1e-9, 1e-5]", "tiny norms", _f64(1e-25, 1e-18, 1e-9, 1e-5)),
]


def decay_rate_inputs(generator):
    """Three fixed cases, so that hints can name one, and seven random ones; norms rise and fall towards the output."""

    def case(aspect, layers, slope, start, noise):
        x = torch.arange(layers, dtype=torch.float64)
        logs = math.log(start) + slope * x + noise * normal(generator, layers)
        # The scatter may not undo the slope: a rate near 0 would hide a wrong sign.
        found = _slope_against(x, logs)
        return dict(aspect=aspect, norms=torch.exp(logs + (slope - found) * x))

    def draw(low, high):
        return uniform(generator, low, high)

    return {
        "cases": [dict(aspect=aspect, norms=norms) for _, aspect, norms in _DECAY_FIXED]
        + [
            case("straight line", 6, draw(0.2, 0.6), draw(0.01, 0.1), 0),
            case("straight line", 5, -draw(0.2, 0.6), draw(2, 9), 0),
            case("scattered", integer(generator, 7, 12), draw(0.3, 0.8), draw(0.01, 0.05), 0.6),
            case("scattered", integer(generator, 5, 9), -draw(0.2, 0.5), draw(1, 5), 0.6),
            case("scattered", 3, draw(0.3, 0.8), draw(0.2, 3), 0.4),
            case("tiny norms", integer(generator, 8, 10), draw(4, 4.5), 10 ** -draw(23, 24), 0.5),
            case("tiny norms", integer(generator, 8, 10), -draw(4, 4.5), 10 ** -draw(6, 7), 0.5),
        ]
    }


def decay_rate_judge(inputs, evidence):
    items = [
        Item(
            case["aspect"],
            attempt(read.number, record, DECAY_SIGNATURE),
            decay_rate(case["norms"]),
            case,
            quote=_DECAY_FIXED[i][0] if i < len(_DECAY_FIXED) else None,
        )
        for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True))
    ]
    mistakes = [Mistake(lambda c, answer=answer: answer(c["norms"]), hint) for answer, hint in DECAY_MISTAKES]
    return judge(items, mistakes, DECAY_FALLBACK, close(DECAY_RTOL, DECAY_ATOL))


QUESTIONS = (
    Question(
        name="lab02.jacobian",
        signature=JACOBIAN_SIGNATURE,
        contract=(
            "∂h_T/∂h_0 of h_t = tanh(W h_{t−1} + U x_t), t = 1 … T: an (n, n) tensor with ∂h_T,i/∂h_0,j at [i, j], the "
            "identity for T = 0. Float64 tensors W (n, n), U (n, m), xs (T, m) with x_1 first, h0 (n,). Autograd is allowed."
        ),
        aspects={"no step": 1, "one step": 2, "many steps": 4},
        minutes=20,
        inputs=jacobian_inputs,
        reference=jacobian,
        judge=jacobian_judge,
    ),
    Question(
        name="lab02.chain_factor",
        signature=CHAIN_SIGNATURE,
        contract=(
            "|σ′(w y)·w|, elementwise, for the logistic function σ: w and y are float64 tensors of any shapes that "
            "broadcast, and the result has the broadcast shape. It must be finite for |w y| up to 1000."
        ),
        aspects={"positive weights": 2, "signs": 1, "shapes": 1, "large arguments": 1},
        minutes=10,
        inputs=chain_factor_inputs,
        reference=chain_factor,
        judge=chain_factor_judge,
    ),
    Question(
        name="lab02.decay_rate",
        signature=DECAY_SIGNATURE,
        contract=(
            "The least-squares slope of ln(norms) against the layer, in nats per layer: a number, positive where the "
            "gradient vanishes towards the input. norms is a float64 tensor (L,) of positive gradient norms (not "
            "squared), from the input to the output layer, L ≥ 2, as small as 1e-25."
        ),
        aspects={"straight line": 2, "scattered": 3, "tiny norms": 1},
        minutes=15,
        inputs=decay_rate_inputs,
        reference=decay_rate,
        judge=decay_rate_judge,
    ),
)
