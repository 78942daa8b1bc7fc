"""The questions of lab 05: activations and what they need."""

import functools

import torch

from .. import evidence as read
from ..evidence import Trouble
from ..judging import Item, Mistake, attempt, close, integer, judge, short, uniform
from ..question import Question

# --- lab05.dead_fraction ------------------------------------------------------------------------------------

DEAD = "dead_fraction(a)"


# The largest activation of a unit is then above 1e-8, so that isclose with its defaults is right, and up to 1.2e-7.
TINY = 6e-8


def dead_fraction(a):
    """Reference."""
    return (a == 0).all(dim=0).double().mean().item()


def _activations(generator, samples, dead, alive, scale=1.0):
    """Activations of a ReLU layer: dead units, units that rest on all samples but one, busy ones, and two that never change
    (where activations are not tiny: a small number of mistakes at a time, or their answers agree by chance)."""
    units = dead + alive
    a = torch.rand(samples, units, generator=generator, dtype=torch.float64) + 0.1
    a[torch.rand(a.shape, generator=generator) < 0.4] = 0
    for unit in range(units):
        resting = unit < dead or unit % 2 == 0
        if resting:
            a[:, unit] = 0
        if unit >= dead:
            a[(unit - dead) // 2 % samples, unit] = uniform(generator, 0.2, 2)  # no sample may be left out
    if alive and scale == 1:
        a[:, -2:] = uniform(generator, 0.2, 2)
    return scale * a[:, torch.randperm(units, generator=generator)]


_DEAD_FIXED = {
    "quote": "a = [[0, 1, 0], [0, 2, 3]]",
    "aspect": "dead units",
    "a": torch.tensor([[0, 1, 0], [0, 2, 3]], dtype=torch.float64),
}


def dead_inputs(generator):
    def drawn(aspect, samples=None, **more):
        return {"aspect": aspect, "quote": None, "a": _activations(generator, samples or integer(generator, 3, 4), **more)}

    def some():
        return {"dead": integer(generator, 2, 4), "alive": integer(generator, 10, 12)}

    return {
        "cases": [
            _DEAD_FIXED | {"a": _DEAD_FIXED["a"].clone()},
            drawn("dead units", **some()),
            drawn("dead units", **some()),
            drawn("tiny activations", scale=TINY, **some()),
            drawn("none or all", dead=0, alive=integer(generator, 6, 9)),
            drawn("none or all", dead=integer(generator, 6, 9), alive=0),
        ]
    }


def _share(values):
    return float(torch.as_tensor(values, dtype=torch.float64).mean())


DEAD_MISTAKES = [
    Mistake(
        lambda c: _share((c["a"] == c["a"][0]).all(0)),
        "A unit with the same positive activation for all samples is not dead: it passes its gradient on. Compare with 0.",
    ),
    Mistake(
        lambda c: _share(c["a"] == 0),
        "This is the share of zeros, the sparsity; for a ReLU net one half of them is normal. A unit is dead if it is 0 for *all* samples.",
    ),
    Mistake(
        lambda c: _share((c["a"] == 0).any(0)),
        "You count the units that are 0 for at least one sample; a unit is dead if it is 0 for *all* samples.",
    ),
    Mistake(
        lambda c: _share((c["a"] == 0).all(1)),
        "You count samples for which all units are 0: the rows of a are samples, the columns units.",
    ),
    Mistake(lambda c: float((c["a"] == 0).all(0).sum()), "This is the number of dead units; divide it by the number of units."),
    Mistake(
        lambda c: float((c["a"] == 0).all(0).sum()) / len(c["a"]),
        "You divide by the number of samples; divide by the number of units, a.shape[1].",
    ),
    Mistake(lambda c: 1 - dead_fraction(c["a"]), "This is the share of units that are alive; return one minus it."),
    Mistake(lambda c: 100 * dead_fraction(c["a"]), "This is in per cent; return a share between 0 and 1."),
    *(
        Mistake(
            lambda c, tol=tol: _share((c["a"].abs() < tol).all(0)),
            "Small activations count as dead in your answer. A dead unit is exactly 0, and a small one may still learn.",
        )
        for tol in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    ),
    *(
        Mistake(
            lambda c, tol=tol: _share(c["a"].mean(0) < tol),
            "Small activations count as dead in your answer. A dead unit is exactly 0, and a small one may still learn.",
        )
        for tol in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    ),
    *(
        Mistake(
            lambda c, rows=rows: _share((c["a"][rows] == 0).all(0)),
            "You leave a sample out: a unit that is active there, and only there, is not dead.",
        )
        for rows in (slice(None, -1), slice(1, None))
    ),
    *(
        Mistake(lambda c, row=row: _share(c["a"][row] == 0), "You look at one sample only; a unit is dead if it is 0 for *all* samples.")
        for row in (0, -1)
    ),
]
_DEAD = "Count the columns of a in which every entry is 0, and divide by the number of columns."
DEAD_FALLBACK = {"dead units": _DEAD, "tiny activations": _DEAD, "none or all": _DEAD}


def dead_judge(inputs, evidence):
    items = [
        Item(c["aspect"], attempt(read.number, record, DEAD), dead_fraction(c["a"]), c, quote=c["quote"])
        for c, record in zip(inputs["cases"], evidence["cases"], strict=True)
    ]
    # a share of some 10 units: 1e-4 is far below one of them, and far above the rounding of float32
    return judge(items, DEAD_MISTAKES, DEAD_FALLBACK, close(rtol=0, atol=1e-4), apart=False)


# --- lab05.elu and lab05.selu -------------------------------------------------------------------------------

ELU = "elu(z, alpha=1.0)"
SELU = "selu(z)"
LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772
PARTS = ("value", "slope")
EXTREME = (-1000.0, -750.0, -100.0, 100.0, 710.0, 1000.0)  # e^710 is infinite in float64


def elu(z, alpha=1.0):
    """Reference."""
    below = torch.exp(z.clamp(max=0))
    return torch.where(z > 0, z, alpha * (below - 1)), torch.where(z > 0, 1.0, alpha * below)


def selu(z):
    """Reference."""
    value, slope = elu(z, ALPHA)
    return LAMBDA * value, LAMBDA * slope


def _z(generator, *shape):
    """Pre-activations of both signs, some of them small, none at the kink."""
    z = 0.1 + 2.9 * torch.rand(shape, generator=generator, dtype=torch.float64)
    z *= 1 - 2 * torch.randint(2, shape, generator=generator)
    z.view(-1)[:4] = torch.tensor([-2.0, -0.005, 0.005, 2.0])
    return z.view(-1)[torch.randperm(z.numel(), generator=generator)].view(shape)


def elu_inputs(generator):
    def drawn(alpha, *shape):
        return {"aspect": None, "z": _z(generator, *shape), "alpha": alpha}

    return {
        "cases": [
            drawn(None, 7),
            drawn(uniform(generator, 0.2, 0.7), 3, 4),
            drawn(uniform(generator, 1.4, 2.5), 2, 3, 2),
            {"aspect": "large arguments", "z": torch.tensor(EXTREME, dtype=torch.float64), "alpha": uniform(generator, 1.4, 2.5)},
        ]
    }


def selu_inputs(generator):
    return {
        "cases": [
            {"aspect": None, "z": _z(generator, 7)},
            {"aspect": None, "z": _z(generator, 3, 4)},
            {"aspect": "large arguments", "z": torch.tensor(EXTREME, dtype=torch.float64)},
        ]
    }


def _mistake(hint, value=None, slope=None):
    """A mistake in value, slope or both: from z, its e^z at negative z, and alpha."""

    def answer(case):
        z, alpha = case["z"], case["alpha"]
        e = torch.exp(z.clamp(max=0))
        return {part: f(z, e, alpha) for part, f in (("value", value), ("slope", slope)) if f}

    return Mistake(answer, hint)


def _below(f, above=1.0):
    return lambda z, e, a: torch.where(z > 0, torch.as_tensor(above, dtype=z.dtype), f(z, e, a))


def _value(f):
    return lambda z, e, a: torch.where(z > 0, z, f(z, e, a))


ELU_MISTAKES = [
    _mistake("The two results are swapped: return the value first, then the slope.", _below(lambda z, e, a: a * e), _value(lambda z, e, a: a * (e - 1))),
    _mistake("alpha has no effect: for z < 0 the value is alpha·(e^z − 1) and the slope alpha·e^z.", _value(lambda z, e, a: e - 1), _below(lambda z, e, a: e)),
    _mistake("alpha has no effect on the value: for z < 0 it is alpha·(e^z − 1).", value=_value(lambda z, e, a: e - 1)),
    _mistake("alpha has no effect on the slope: for z < 0 it is alpha·e^z.", slope=_below(lambda z, e, a: e)),
    _mistake("For z < 0 the value lacks the −1: alpha·(e^z − 1), which is 0 at z = 0.", value=_value(lambda z, e, a: a * e)),
    _mistake("For z < 0 the value is alpha·(e^z − 1); the 1 is inside the bracket.", value=_value(lambda z, e, a: a * e - 1)),
    _mistake("For z < 0 the value has the wrong sign: alpha·(e^z − 1) is negative.", value=_value(lambda z, e, a: a * (1 - e))),
    _mistake("For z < 0 the exponent is z, not −z.", value=_value(lambda z, e, a: a * (torch.exp(-z.clamp(max=0)) - 1))),
    _mistake("alpha stands before the bracket, not in the exponent.", value=_value(lambda z, e, a: torch.exp(a * z.clamp(max=0)) - 1)),
    _mistake("For z < 0 the slope is alpha·e^z: the −1 of the value is constant and has no slope.", slope=_below(lambda z, e, a: a * (e - 1))),
    _mistake("For z < 0 the slope is value + alpha, not value + 1.", slope=_below(lambda z, e, a: a * (e - 1) + 1)),
    _mistake("Your slope is ReLU's, 0 for z < 0: there ELU still has the slope alpha·e^z.", slope=_below(lambda z, e, a: 0 * e)),
    _mistake("Your slope is that of a leaky ReLU: for z < 0 it is alpha·e^z.", slope=_below(lambda z, e, a: a + 0 * e)),
    _mistake("For z > 0 the slope is 1.", slope=lambda z, e, a: torch.where(z > 0, z, a * e)),
    _mistake("For z > 0 the slope is 1, without alpha.", slope=lambda z, e, a: torch.where(z > 0, a, a * e)),
    _mistake("Your value is ReLU's, 0 for z < 0; ELU's is alpha·(e^z − 1).", value=_value(lambda z, e, a: 0 * e)),
]
_SCALED = "SELU multiplies everything by λ = 1.0507, both sides of 0 and the slope as well."
SELU_MISTAKES = [
    _mistake(
        "The two results are swapped: return the value first, then the slope.",
        lambda z, e, a: torch.where(z > 0, LAMBDA, LAMBDA * ALPHA * e),
        lambda z, e, a: torch.where(z > 0, LAMBDA * z, LAMBDA * ALPHA * (e - 1)),
    ),
    _mistake(f"λ is missing altogether. {_SCALED}", _value(lambda z, e, a: ALPHA * (e - 1)), _below(lambda z, e, a: ALPHA * e)),
    _mistake(f"λ is missing in the value. {_SCALED}", value=_value(lambda z, e, a: ALPHA * (e - 1))),
    _mistake(f"λ is missing in the slope. {_SCALED}", slope=_below(lambda z, e, a: ALPHA * e)),
    _mistake(f"For z > 0 the value lacks λ. {_SCALED}", value=_value(lambda z, e, a: LAMBDA * ALPHA * (e - 1))),
    _mistake(f"For z > 0 the slope lacks λ. {_SCALED}", slope=_below(lambda z, e, a: LAMBDA * ALPHA * e)),
    _mistake(f"For z < 0 the value lacks λ. {_SCALED}", value=lambda z, e, a: torch.where(z > 0, LAMBDA * z, ALPHA * (e - 1))),
    _mistake(f"For z < 0 the slope lacks λ. {_SCALED}", slope=lambda z, e, a: torch.where(z > 0, LAMBDA, ALPHA * e)),
    _mistake(
        "λ and α are swapped: λ = 1.0507 multiplies everything, α = 1.6733 the bracket.",
        lambda z, e, a: ALPHA * torch.where(z > 0, z, LAMBDA * (e - 1)),
        lambda z, e, a: ALPHA * torch.where(z > 0, 1.0, LAMBDA * e),
    ),
    _mistake("α = 1.6733 is missing in the value, for z < 0.", value=lambda z, e, a: LAMBDA * torch.where(z > 0, z, e - 1)),
    _mistake("α = 1.6733 is missing in the slope, for z < 0.", slope=lambda z, e, a: LAMBDA * torch.where(z > 0, 1.0, e)),
    _mistake("For z < 0 the value lacks the −1: λα(e^z − 1).", value=lambda z, e, a: LAMBDA * torch.where(z > 0, z, ALPHA * e)),
    _mistake("For z < 0 the value is λα(e^z − 1); the 1 is inside the bracket.", value=lambda z, e, a: LAMBDA * torch.where(z > 0, z, ALPHA * e - 1)),
    _mistake("For z < 0 the slope is λα·e^z: the −1 of the value is constant and has no slope.", slope=lambda z, e, a: LAMBDA * torch.where(z > 0, 1.0, ALPHA * (e - 1))),
    _mistake("Your slope is 0 for z < 0; there SELU has the slope λα·e^z.", slope=lambda z, e, a: torch.where(z > 0, LAMBDA, 0.0)),
]
_LARGE = (
    "Look at |z| of 1000. Values that overflow must not reach the result: multiplying by a mask of 0 turns ∞ into NaN, and "
    "torch.where, or exp of z.clamp(max=0), does not."
)
ELU_FALLBACK = {
    "value": "The value is z for z > 0 and alpha·(e^z − 1) for z < 0.",
    "slope": "The slope is 1 for z > 0 and alpha·e^z for z < 0.",
    "large arguments": _LARGE,
}
SELU_FALLBACK = {
    "value": "The value is λz for z > 0 and λα(e^z − 1) for z < 0, with λ = 1.0507010 and α = 1.6732632.",
    "slope": "The slope is λ for z > 0 and λα·e^z for z < 0.",
    "large arguments": _LARGE,
}


def _pair_judge(inputs, evidence, signature, truth, mistakes, fallback, same):
    items = []
    for case, record in zip(inputs["cases"], evidence["cases"], strict=True):
        got = attempt(_pair, record, signature, case["z"])
        for part, expected in zip(PARTS, truth(case)):
            value = got if isinstance(got, Trouble) else attempt(_finite, got[part], part, case["z"])
            items.append(Item(case["aspect"] or part, value, expected, case | {"alpha": case.get("alpha") or 1.0}, part=part))
    if all(isinstance(item.got, Trouble) for item in items):
        return dict.fromkeys(fallback, items[0].got)
    findings = judge(items, mistakes, fallback, same)
    if findings["large arguments"] and any(findings[part] for part in PARTS):
        findings["large arguments"] = findings["value"] or findings["slope"]  # what is wrong there is wrong here
    return findings


def _pair(record, signature, z):
    """Value and slope; one tensor that holds both is as good as a tuple."""
    got = read.value(record, signature)
    if isinstance(got, torch.Tensor) and got.shape == (2, *z.shape):
        return dict(zip(PARTS, got))
    return read.parts(record, signature, PARTS)


def _finite(got, part, z):
    if isinstance(got, torch.Tensor) and got.shape == z.shape and z.abs().max() > 500 and not got.double().isfinite().all():
        raise Trouble(f"the {part} is not finite for |z| up to 1000. {_LARGE}")
    return read.as_tensor(got, z.shape)


def elu_judge(inputs, evidence):
    def truth(case):
        return elu(case["z"], 1.0 if case["alpha"] is None else case["alpha"])

    return _pair_judge(inputs, evidence, ELU, truth, ELU_MISTAKES, ELU_FALLBACK, close(rtol=1e-4, atol=1e-6))


def selu_judge(inputs, evidence):
    # four digits of both constants are off by up to 5e-4, three digits by more than 2e-3
    same = close(rtol=1e-3, atol=1e-6)
    return _pair_judge(inputs, evidence, SELU, lambda c: selu(c["z"]), SELU_MISTAKES, SELU_FALLBACK, same)


# --- lab05.deep_recipe --------------------------------------------------------------------------------------

RECIPE = "deep_recipe()"
ACTIVATIONS = ("linear", "sigmoid", "tanh", "relu", "leaky", "elu", "selu", "gelu", "silu", "softplus", "mish")
DEPTH, WIDTH, STEPS, RATE, NETS = 20, 64, 200, 0.004, 3
# Scales that keep the signal reach 0.75 and more; half measures (ReLU at σ_w² = 1.5 or 3, GELU at 2) stay below 0.6. At width 32
# ReLUs die: He's scale reaches only 0.6 there, and is hard to tell from half measures.
TARGET = 0.65
KEPT = 50  # factor by which the gradient may shrink or grow over all layers
LARGEST = 1e4


@functools.lru_cache(maxsize=512)
def trained(activation, sigma_w2):
    """Gradient ratio at the start and training accuracy in the end: medians over `NETS` nets."""
    from signalprop import ensemble, updates

    generator, digits = torch.Generator().manual_seed(0), _digits()
    net = ensemble.Ensemble(NETS, [64, *[WIDTH] * DEPTH, 10], activation, sigma_w2, generator=generator)
    delta = torch.from_numpy(updates.layer_norms(net, digits.x[:128], digits.y[:128]).delta)
    ratio = (delta[:, 0] / delta[:, DEPTH - 1]).nan_to_num(nan=0.0).median().item()  # 0/0 where it vanishes altogether
    ensemble.train(net, digits.x, digits.y, steps=STEPS, lr=RATE, generator=generator)
    return ratio, net.accuracy(digits.x, digits.y).median().item()


@functools.cache
def _digits():
    from signalprop import data

    return data.digits()


def deep_recipe():
    """Reference: SELU at the scale that it is made for."""
    return {"activation": "selu", "sigma_w2": 1.0}


def _read_recipe(record):
    got = read.mapping(record, RECIPE, 'a dict like {"activation": "sigmoid", "sigma_w2": 1.0}')
    if set(got) != {"activation", "sigma_w2"}:
        names = ", ".join(map(repr, list(got)[:5])) or "none"
        raise Trouble(f"expected the keys 'activation' and 'sigma_w2', got {names}.")
    name, sigma_w2 = got["activation"], got["sigma_w2"]
    if not isinstance(name, str) or name not in ACTIVATIONS:
        shown = repr(name[:30]) if isinstance(name, str) else "a value of another type"
        raise Trouble(f"expected one of {', '.join(ACTIVATIONS)} as 'activation', got {shown}.")
    try:
        number = read.as_number(sigma_w2)
    except Trouble as trouble:
        raise Trouble(f"sigma_w2: {trouble}") from None
    if not 0 < number <= LARGEST:
        raise Trouble(f"expected sigma_w2 above 0 and at most {LARGEST:g}, got {short(number)}.")
    return name, number


def recipe_judge(inputs, evidence):
    recipe = attempt(_read_recipe, evidence["recipe"])
    if isinstance(recipe, Trouble):
        return {"recipe": recipe, "gradient": recipe, "training": recipe}
    name, sigma_w2 = recipe
    ratio, accuracy = trained(name, float(f"{sigma_w2:.6g}"))
    gradient = training = None
    if not 1 / KEPT < ratio < KEPT:
        if ratio < 1:
            cure = (
                "a σ_w² that mends it leaves a sigmoid net unable to learn, so take another activation"
                if name == "sigmoid"
                else "take a larger σ_w², or a steeper activation"
            )
            gradient = f"At the start layer 1 has {short(ratio)} of the gradient norm of layer {DEPTH}: it vanishes; {cure}."
        else:
            gradient = f"At the start layer 1 has {short(ratio)} times the gradient norm of layer {DEPTH}: it explodes; take a smaller σ_w²."
    if not accuracy >= TARGET:
        training = f"The nets reach a training accuracy of {accuracy:.2f}; {TARGET} is asked for. "
        if gradient:
            training += "First mend the gradient."
        elif name in ("sigmoid", "softplus"):
            training += (
                "The gradient gets through, and yet they do not learn: with an activation far from mean 0, all inputs look alike "
                "to the upper layers. Take another one."
            )
        else:
            training += "Over 20 layers a factor near 1 is not near enough: which σ_w² keeps the variance of this activation, or its χ₁ at 1?"
    return {"recipe": None, "gradient": gradient, "training": training}


QUESTIONS = (
    Question(
        name="lab05.dead_fraction",
        signature=DEAD,
        contract=(
            "Share of the units that are exactly 0 for every sample, a number from 0 to 1. a: activations of a ReLU layer, "
            "float64 (samples, units), none negative; it stays as it is."
        ),
        aspects={"dead units": 3, "tiny activations": 1, "none or all": 1},
        minutes=10,
        inputs=dead_inputs,
        reference=dead_fraction,
        judge=dead_judge,
    ),
    Question(
        name="lab05.elu",
        signature=ELU,
        contract=(
            "ELU and its slope, two float64 tensors of the shape of z: z and 1 for z > 0, alpha·(e^z − 1) and alpha·e^z for z < 0; "
            "at z = 0 anything. z: float64 tensor of any shape, |z| up to 1000, which stays as it is; alpha > 0, a float. All finite."
        ),
        aspects={"value": 2, "slope": 2, "large arguments": 1},
        minutes=15,
        inputs=elu_inputs,
        reference=elu,
        judge=elu_judge,
    ),
    Question(
        name="lab05.selu",
        signature=SELU,
        contract=(
            "SELU and its slope, two float64 tensors of the shape of z: λ times ELU with α, λ = 1.0507010 and α = 1.6732632 (four digits "
            "will do); at z = 0 anything. z: float64 tensor of any shape, |z| up to 1000, which stays as it is. All finite."
        ),
        aspects={"value": 2, "slope": 2, "large arguments": 1},
        minutes=5,
        inputs=selu_inputs,
        reference=selu,
        judge=selu_judge,
    ),
    Question(
        name="lab05.deep_recipe",
        signature=RECIPE,
        contract=(
            f"A dict {{'activation': name, 'sigma_w2': number}} with which a plain net of {DEPTH} hidden layers trains. name is one of "
            f"{', '.join(ACTIVATIONS)}; weights are normal with variance sigma_w2/fan-in (0 < sigma_w2 ≤ {LARGEST:g}), biases 0. The check trains "
            f"{NETS} nets of width {WIDTH} on the digits: {STEPS} steps of SGD, learning rate {RATE}, momentum 0.9, batches of 32. At the start the "
            f"median norm of ∂ℒ/∂z in layer 1 must be within a factor of {KEPT} of that in layer {DEPTH}; in the end the median training "
            f"accuracy must be at least {TARGET}."
        ),
        aspects={"recipe": 1, "gradient": 2, "training": 3},
        minutes=20,
        inputs=lambda generator: {},
        reference=deep_recipe,
        judge=recipe_judge,
    ),
)
