"""Questions of lab 11, the clinic: references, known mistakes and verdicts."""

import functools
import math

import torch
import torch.nn.functional as F

from .. import evidence as read
from ..judging import Mistake, attempt, choose, integer, normal, short, uniform
from ..question import Question

# --- lab11.diagnose -----------------------------------------------------------------------------------------

SYMPTOMS = ("vanishing", "exploding", "saturated", "dead", "alike")
FACTOR = 50  # of the gradient norm, over all layers
SHARE = 0.5  # of a layer's entries or units
NEAR = 0.05  # distance of a saturated activation to a bound
ALIKE = 0.95  # mean cosine
MARGIN = 3  # every network is at least this factor from every threshold, so that rounding cannot matter
PHI = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


def signals(case):
    """The pre-activations and activations of every hidden layer, and the logits, by the case's weights."""
    a, zs, activations = case["x"], [], []
    layers = list(zip(case["weights"], case["biases"]))
    for (weight, bias), name in zip(layers, case["activations"]):
        zs.append(a @ weight.T + bias)
        a = PHI[name](zs[-1])
        activations.append(a)
    return zs, activations, a @ layers[-1][0].T + layers[-1][1]


def cosine(rows):
    """Mean cosine between two different rows."""
    rows = F.normalize(rows, dim=1)
    n = len(rows)
    return ((rows @ rows.T).sum().item() - n) / (n * (n - 1))


def measure(case):
    """What the criteria, and the known mistakes, compare: a dict of numbers, or of lists over the layers."""
    case = case | {"weights": [w.clone().requires_grad_() for w in case["weights"]]}
    zs, activations, logits = signals(case)
    weights, loss = case["weights"], F.cross_entropy(logits, case["y"])
    wanted = [zs[0], zs[-1], activations[0], activations[-1], logits, weights[0], weights[-2], weights[-1]]
    norms = [g.norm().item() for g in torch.autograd.grad(loss, wanted)]
    names = ["z_first", "z_last", "a_first", "a_last", "logits", "w_first", "w_hidden", "w_last"]
    zs, activations = [z.detach() for z in zs], [a.detach() for a in activations]
    bounded = [
        a if name not in BOUNDS else torch.minimum(a - BOUNDS[name][0], BOUNDS[name][1] - a)
        for a, name in zip(activations, case["activations"])
    ]
    return dict(zip(names, norms)) | {
        "activations": case["activations"],
        "saturated": [
            (d < NEAR).double().mean().item() if name in BOUNDS else 0.0
            for d, name in zip(bounded, case["activations"])
        ],
        "above": [(a.abs() > 1 - NEAR).double().mean().item() for a in activations],
        "high": [(a > 1 - NEAR).double().mean().item() for a in activations],
        "low": [(a < NEAR).double().mean().item() for a in activations],
        "dead": [
            (a == 0).all(0).double().mean().item() if name == "relu" else 0.0
            for a, name in zip(activations, case["activations"])
        ],
        "zeros": [(a == 0).double().mean().item() for a in activations],
        "ever": [(a == 0).any(0).double().mean().item() for a in activations],
        "rows": [(a == 0).all(1).double().mean().item() for a in activations],
        "cosine": cosine(zs[-1]),
        "cosine_a": cosine(activations[-1]),
        "cosine_x": cosine(case["x"]),
        "cosine_first": cosine(zs[0]),
        "cosine_logits": cosine(logits.detach()),
    }


def ratio(m, first="z_first", last="z_last"):
    return m[first] / m[last] if m[last] else math.nan


def symptoms(m, **instead):
    """Which symptoms the measurements `m` show: a dict of symptom to 0.0 or 1.0; `instead` gives other answers."""
    r = instead.pop("ratio", ratio(m))
    found = {
        "vanishing": r < 1 / FACTOR,
        "exploding": r > FACTOR,
        "saturated": max(m["saturated"]) > SHARE,
        "dead": max(m["dead"]) > SHARE,
        "alike": m["cosine"] > ALIKE,
    } | instead
    return {symptom: float(found[symptom]) for symptom in SYMPTOMS}


def clear(m):
    """Whether the measurements are far from every threshold: by `MARGIN` in the ratio, the odds, and 1 − cosine."""
    if not all(math.isfinite(v) for v in (ratio(m), m["cosine"])) or not min(m["z_first"], m["w_last"]) > 1e-12:
        return False
    far = [abs(abs(math.log(ratio(m))) - math.log(FACTOR)) > math.log(MARGIN)]
    far += [not 1 / (1 + MARGIN) < share < MARGIN / (1 + MARGIN) for share in m["saturated"] + m["dead"]]
    far += [max(m["rows"]) < SHARE]  # else one who reduces over the units could be right
    rest = 1 - m["cosine"]
    far += [not (1 - ALIKE) / MARGIN < rest < (1 - ALIKE) * MARGIN]
    return all(far)


def diagnose(model, x, y):
    """The `SYMPTOMS` that a network shows, a set."""
    zs, found, a, last = [], set(), x, model[-1]
    for module in model[:-1]:
        before, a = a, module(a)
        if isinstance(module, torch.nn.Linear):
            zs.append(a)
            continue
        values = a.detach()
        name = type(module).__name__.lower()
        if name == "relu" and (values == 0).all(0).double().mean() > SHARE:
            found.add("dead")
        if name in BOUNDS:
            low, high = BOUNDS[name]
            if ((values < low + NEAR) | (values > high - NEAR)).double().mean() > SHARE:
                found.add("saturated")
    first, final = torch.autograd.grad(F.cross_entropy(last(a), y), [zs[0], zs[-1]])
    r = (first.norm() / final.norm()).item()
    if r < 1 / FACTOR:
        found.add("vanishing")
    if r > FACTOR:
        found.add("exploding")
    if cosine(zs[-1].detach()) > ALIKE:
        found.add("alike")
    return found


ROWS = 36


def _plain(generator, activation, depth, w2, x=None):
    """A net at initialisation: weights N(0, w2/fan-in), no biases, and standard normal inputs."""
    names = activation if isinstance(activation, list) else [activation] * depth
    depth = len(names)
    features, width, classes = integer(generator, 12, 16), integer(generator, 20, 28), choose(generator, 4, 6)
    sizes = [features] + [width] * depth + [classes]
    weights = [normal(generator, o, i, scale=math.sqrt(w2 / i)) for i, o in zip(sizes, sizes[1:])]
    x = normal(generator, ROWS, features)
    y = torch.randint(classes, (ROWS,), generator=generator)
    return dict(activations=names, weights=weights, biases=[torch.zeros(len(w), dtype=torch.float64) for w in weights], x=x, y=y)


def _same_inputs(generator, case, spread):
    """The case with inputs that are nearly the same."""
    shared = normal(generator, 1, case["x"].shape[1])
    return case | {"x": shared + spread * case["x"]}


def _times(case, layer, factor):
    """The case with one layer's weights multiplied."""
    weights = list(case["weights"])
    weights[layer] = weights[layer] * factor
    return case | {"weights": weights}


def _kill(generator, case, layer, share):
    """The case with biases that leave so many units of one ReLU layer at 0 for every row."""
    z, biases = signals(case)[0][layer], list(case["biases"])
    chosen = torch.randperm(z.shape[1], generator=generator) < share * z.shape[1]
    down = z.amax(0).clamp(min=0) + 0.2 * z.std()
    biases[layer] = torch.where(chosen, biases[layer] - down, biases[layer])
    return case | {"biases": biases}


def _healthy(generator):
    net = _plain(generator, "tanh", integer(generator, 4, 6), uniform(generator, 2.2, 2.8))
    return _times(net, -1, choose(generator, 1 / 200, 200))  # the read-out's scale is no part of the ratio


def _sparse(generator):
    # two thirds of the entries are 0, and few units are dead
    depth = integer(generator, 3, 4)
    net = _plain(generator, "relu", depth, uniform(generator, 1.8, 2.2))
    biases = list(net["biases"])
    for layer in range(depth):
        z = signals(net | {"biases": biases})[0][layer]
        biases[layer] = -z.quantile(0.68, dim=0)
    return net | {"biases": biases}


def _mild(generator, activation):
    # the ratio is between 1/50 and 50, its square is not
    low, high = {"tanh": (0.34, 0.42), "relu": (4.8, 5.8)}[activation]
    return _plain(generator, activation, 6, uniform(generator, low, high))


def _nearly(m):
    # closer than that would be within the margin
    return abs(math.log(ratio(m))) > 2.4


def _uneven(generator):
    # the gradient explodes as far as the last hidden layer but one; the last makes up for it
    net = _plain(generator, "relu", 6, uniform(generator, 24, 32))
    return _times(net, 5, 1 / 60)


def _small_weights(generator):
    net = _plain(generator, "tanh", integer(generator, 9, 11), uniform(generator, 0.15, 0.25))
    # biases that all logits share, and no hidden layer
    return net | {"biases": net["biases"][:-1] + [normal(generator, len(net["biases"][-1]))]}


def _centred(generator):
    # rows of weights that sum to 0: nothing that the inputs share gets through, though the activations are all near ½
    net = _plain(generator, "sigmoid", integer(generator, 5, 7), 1.0)
    return net | {"weights": [w - w.mean(1, keepdim=True) for w in net["weights"]]}


def _one_saturated(generator):
    depth = integer(generator, 4, 6)
    net = _plain(generator, "tanh", depth, uniform(generator, 1.0, 1.3))
    layer, biases = integer(generator, 1, depth - 2), list(net["biases"])
    biases[layer] = torch.full_like(biases[layer], 6.0)  # more of them at the upper bound
    return _times(net | {"biases": biases}, layer, uniform(generator, 12, 16))


def _raw_inputs(generator):
    # the first layer only, before ReLUs
    net = _plain(generator, ["sigmoid"] + ["relu"] * integer(generator, 3, 4), 0, 2.0)
    biases = [torch.full_like(net["biases"][0], -6.0), *net["biases"][1:]]  # more of them at the lower bound
    return net | {"x": net["x"] * uniform(generator, 15, 25), "biases": biases}


def _one_dead(generator):
    depth = integer(generator, 4, 5)
    net = _plain(generator, "relu", depth, uniform(generator, 1.8, 2.4))
    return _kill(generator, net, integer(generator, 1, depth - 2), 0.8)


def _many_dead(generator):
    net = _plain(generator, "relu", 3, uniform(generator, 1.8, 2.4))
    for layer in range(3):
        net = _kill(generator, net, layer, 0.75)
    return net


def _alike(generator):
    net = _plain(generator, "tanh", integer(generator, 3, 5), uniform(generator, 1.0, 1.3))
    return _same_inputs(generator, net, 0.1)


def _alike_at_last(generator):
    # biases that all inputs share, in the last hidden layer only. Its ReLUs are all active and the read-out is nearly 0,
    # so the gradients of the rows cancel there, and nowhere else: their sum says nothing about their norm.
    net = _plain(generator, "relu", integer(generator, 4, 5), uniform(generator, 1.8, 2.2))
    biases = list(net["biases"])
    biases[-2] = torch.full_like(biases[-2], 20.0)
    classes = len(biases[-1])
    return _times(net | {"biases": biases, "y": torch.arange(ROWS) % classes}, -1, 1e-4)


def _alike_saturated(generator):
    # biases of about ±2 saturate most units of the first layer, and not by much: tanh 2 = 0.96
    net = _plain(generator, "tanh", integer(generator, 3, 4), 1.1)
    biases = list(net["biases"])
    width = len(biases[0])
    chosen = torch.randperm(width, generator=generator) < 0.85 * width
    biases[0] = torch.where(chosen, 2.1 * normal(generator, width).sign(), biases[0])
    return _times(net | {"biases": biases}, 0, 0.07)


def _vanishing_saturated(generator):
    net = _plain(generator, "tanh", integer(generator, 7, 9), uniform(generator, 0.32, 0.45))
    return net | {"x": net["x"] * uniform(generator, 30, 60)}


def _exploding_saturated(generator):
    net = _plain(generator, "tanh", 10, uniform(generator, 60, 100))
    return _same_inputs(generator, net, 0.1)  # a chaotic net makes inputs differ that are alike


def _changing_dead(generator, low, high):
    return _kill(generator, _plain(generator, "relu", 6, uniform(generator, low, high)), integer(generator, 0, 2), 0.8)


def _dead_after_saturated(generator):
    # the large weights make up for the flat slope of the saturated layer
    return _kill(generator, _times(_raw_inputs(generator), 1, 8), 2, 0.8)


# What is drawn, with the symptoms that the network must have, and what makes a known mistake visible in it.
KINDS = (
    (_healthy, set()),
    (_sparse, set()),
    (lambda g: _mild(g, "tanh"), set(), _nearly),
    (lambda g: _mild(g, "relu"), set(), _nearly),
    (_uneven, set()),
    (_small_weights, {"vanishing"}),
    (_centred, {"vanishing"}),
    (lambda g: _plain(g, "relu", 6, uniform(g, 16, 26)), {"exploding"}, lambda m: ratio(m) < 450),
    (_one_saturated, {"saturated"}),
    (_raw_inputs, {"saturated"}, lambda m: m["high"][0] < 0.9 * SHARE),
    (lambda g: _plain(g, "sigmoid", integer(g, 4, 5), uniform(g, 350, 500)), {"saturated"}),
    (_one_dead, {"dead"}),
    (_many_dead, {"dead"}),
    (_dead_after_saturated, {"saturated", "dead"}),
    (_alike, {"alike"}, lambda m: m["cosine"] < 0.994),
    (_alike_at_last, {"alike"}),
    (lambda g: _plain(g, "sigmoid", integer(g, 6, 8), uniform(g, 0.8, 1.2)), {"vanishing", "alike"}),
    (_alike_saturated, {"saturated", "alike"}),
    (
        _vanishing_saturated,
        {"vanishing", "saturated"},
        lambda m: ratio(m, "a_first", "a_last") > 1.1 / FACTOR and m["high"][0] < 0.97 * SHARE,
    ),
    (_exploding_saturated, {"exploding", "saturated"}),
    (lambda g: _changing_dead(g, 0.1, 0.16), {"vanishing", "dead"}),
    (lambda g: _changing_dead(g, 25, 40), {"exploding", "dead"}),
)


def _drawn(generator, kind, wanted, visible=lambda m: True):
    for _ in range(1000):
        case = kind(generator)
        m = measure(case)
        if clear(m) and {symptom for symptom, present in symptoms(m).items() if present} == wanted and visible(m):
            return case
    raise RuntimeError(f"no network with {wanted} in 1000 draws")


def diagnose_inputs(generator):
    """One network of each kind, in random order."""
    cases = [_drawn(generator, *kind) for kind in KINDS]
    return {"cases": [cases[i] for i in torch.randperm(len(cases), generator=generator).tolist()]}


def _mean(values):
    return sum(values) / len(values)


def _of(m, values, *kinds):
    """The largest of `values`, one for each layer, over the layers with one of these activations."""
    return max((v for v, name in zip(values, m["activations"]) if name in kinds), default=0.0)


def _one_only(*order):
    def answer(m):
        first = next((symptom for symptom in order if symptoms(m)[symptom]), None)
        return {symptom: float(symptom == first) for symptom in SYMPTOMS}

    return answer


_SATURATION_KINDS = "The bounds are 0 and 1 for a sigmoid, −1 and 1 for tanh; a ReLU has none."
_ONE_ONLY = "You name one symptom where a network has two: test each criterion by itself (if, not elif, and no early return)."
_WEIGHT_GRADIENTS = (
    "You compare gradients with respect to weights; the criterion asks for those with respect to the "
    "pre-activations z, before the activation function. The two differ by the size of each layer's input."
)

_WHERE = "Compare the pre-activations of the last hidden layer, which are what the network makes of the inputs"
_SIGMOIDS = f"Sigmoid layers are missed: a sigmoid near 0 is saturated too. {_SATURATION_KINDS}"
_EVERY_ROW = (
    "A unit is dead only if it is 0 for every row of x: neither single zeros count nor units that are 0 for some row, so take "
    ".all(dim=0) over the batch first."
)
_ANY_LAYER = "layer is enough, whichever it is: compare the share of each layer by itself with ½."

DIAGNOSE_FALLBACK = {
    "vanishing": "It counts where the norm of ∂ℒ/∂z in the first hidden layer is below 1/50 of that in the last hidden layer.",
    "exploding": "It counts where the norm of ∂ℒ/∂z in the first hidden layer is above 50 times that in the last hidden layer.",
    "saturated": "It counts where, in some layer of sigmoid or tanh units, more than half of the entries of a lie within 0.05 of a bound.",
    "dead": "It counts where, in some ReLU layer, more than half of the units (columns of a) are 0 for every row of x.",
    "alike": "It counts where the mean cosine between different rows of z (rows are inputs, columns units) in the last hidden layer is above 0.95.",
}

# Each is compared with all networks, for all symptoms or for one: the first that gives the same answers counts.
DIAGNOSE_MISTAKES = [
    *(
        Mistake(lambda m, symptom=symptom: symptoms(m) | {symptom: 0.0}, f"“{symptom}” is never named. {criterion}")
        for symptom, criterion in DIAGNOSE_FALLBACK.items()
    ),
    *(
        Mistake(lambda m, symptom=symptom: symptoms(m) | {symptom: 1.0}, f"“{symptom}” is always named. {criterion}")
        for symptom, criterion in DIAGNOSE_FALLBACK.items()
    ),
    Mistake(
        lambda m: symptoms(m, ratio=1 / ratio(m)),
        "Vanishing and exploding are exchanged: the ratio is that of the first hidden layer over the last, because the "
        "gradient travels from the last layer to the first.",
    ),
    Mistake(lambda m: symptoms(m, ratio=ratio(m, "w_first", "w_last")), _WEIGHT_GRADIENTS),
    Mistake(lambda m: symptoms(m, ratio=ratio(m, "w_first", "w_hidden")), _WEIGHT_GRADIENTS),
    Mistake(
        lambda m: symptoms(m, ratio=ratio(m, "a_first", "a_last")),
        "You compare gradients with respect to the activations a; the criterion asks for those with respect to the "
        "pre-activations z, which have met the slope φ′ as well.",
    ),
    Mistake(
        lambda m: symptoms(m, ratio=ratio(m, "z_first", "logits")),
        "You divide by the gradient at the logits; divide by that at the last hidden layer, one Linear layer before.",
    ),
    Mistake(
        lambda m: symptoms(m, ratio=ratio(m) ** 2),
        "You compare the ratio of the squared norms with 50; the criterion is about the norms themselves.",
    ),
    Mistake(
        lambda m: symptoms(m, ratio=math.sqrt(ratio(m))),
        "You take a root too many: compare the ratio of the norms with 50, not its root.",
    ),
    *(
        Mistake(_one_only(*order), _ONE_ONLY)
        for order in (
            SYMPTOMS,
            SYMPTOMS[::-1],
            ("saturated", "dead", "vanishing", "exploding", "alike"),
            ("dead", "saturated", "alike", "vanishing", "exploding"),
            ("dead", "saturated", "vanishing", "exploding", "alike"),
            ("vanishing", "exploding", "alike", "saturated", "dead"),
            ("vanishing", "exploding", "dead", "saturated", "alike"),
            ("saturated", "dead", "alike", "vanishing", "exploding"),
        )
    ),
    Mistake(
        lambda m: symptoms(m, saturated=_of(m, m["above"], "tanh", "sigmoid", "relu") > SHARE),
        f"You compare |a| with 0.95 in every layer. {_SATURATION_KINDS}",
    ),
    Mistake(
        lambda m: symptoms(m, saturated=_of(m, m["above"], "tanh", "sigmoid") > SHARE),
        _SIGMOIDS,
    ),
    Mistake(
        lambda m: symptoms(m, saturated=_of(m, m["high"], "tanh", "sigmoid") > SHARE),
        "You count the upper bound only; a unit near its lower bound is saturated too.",
    ),
    Mistake(
        lambda m: symptoms(m, saturated=max(_of(m, m["saturated"], "tanh", "sigmoid"), _of(m, m["zeros"], "relu")) > SHARE),
        f"You count ReLUs at 0 as saturated. {_SATURATION_KINDS}",
    ),
    Mistake(
        lambda m: symptoms(m, saturated=max(m["low"][i] + m["high"][i] for i in range(len(m["low"]))) > SHARE),
        f"You use the sigmoid's bounds 0 and 1 in every layer. {_SATURATION_KINDS}",
    ),
    Mistake(
        lambda m: symptoms(m, saturated=_of(m, m["saturated"], "tanh") > SHARE),
        _SIGMOIDS,
    ),
    Mistake(
        lambda m: symptoms(m, saturated=_of(m, m["saturated"], "sigmoid") > SHARE),
        "Layers of tanh are left out of your count of saturated activations.",
    ),
    *(
        Mistake(
            lambda m, pick=pick: symptoms(m, saturated=pick(m["saturated"]) > SHARE),
            f"One saturated {_ANY_LAYER}",
        )
        for pick in (_mean, lambda v: v[0], lambda v: v[-1], min)
    ),
    Mistake(
        lambda m: symptoms(m, saturated=_mean([s for s, n in zip(m["saturated"], m["activations"]) if n in BOUNDS] or [0]) > SHARE),
        f"One saturated {_ANY_LAYER}",
    ),
    Mistake(
        lambda m: symptoms(m, dead=_of(m, m["zeros"], "relu") > SHARE),
        _EVERY_ROW,
    ),
    Mistake(
        lambda m: symptoms(m, dead=_of(m, m["ever"], "relu") > SHARE),
        _EVERY_ROW,
    ),
    Mistake(
        lambda m: symptoms(m, dead=max(m["dead"]) > 0),
        "A few dead units are no disease: more than half of a layer's units must be dead.",
    ),
    *(
        Mistake(
            lambda m, pick=pick: symptoms(m, dead=pick(m["dead"]) > SHARE),
            f"One dead {_ANY_LAYER}",
        )
        for pick in (_mean, lambda v: v[0], lambda v: v[-1], min)
    ),
    Mistake(
        lambda m: symptoms(m, alike=m["cosine_x"] > ALIKE),
        f"You compare the inputs where they enter. {_WHERE}.",
    ),
    Mistake(
        lambda m: symptoms(m, alike=m["cosine_first"] > ALIKE),
        f"You compare the inputs where they enter. {_WHERE}.",
    ),
    Mistake(
        lambda m: symptoms(m, alike=m["cosine_a"] > ALIKE),
        "You compare activations a; the criterion is about pre-activations z. Activations of a sigmoid or a ReLU "
        "are never negative, so they look alike sooner.",
    ),
    Mistake(
        lambda m: symptoms(m, alike=m["cosine_logits"] > ALIKE),
        "You compare the logits; the criterion is about the last hidden layer, one Linear layer before.",
    ),
]

_SIGNATURE = "diagnose(model, x, y)"


def _named(record):
    """The names in a returned set, list or tuple."""
    got = read.value(record, _SIGNATURE)
    if isinstance(got, torch.Tensor):
        raise read.Trouble(f"expected a set of names, got a tensor of shape {tuple(got.shape)}.")
    if not isinstance(got, list) or not all(isinstance(name, str) for name in got):
        raise read.Trouble(f"expected a set of names, got a value of type {record['type']}.")
    if unknown := sorted(set(got) - set(SYMPTOMS)):
        raise read.Trouble(f"expected names out of {', '.join(SYMPTOMS)}; got {unknown[0][:40]!r}.")
    return got


def _unchanged(before, after):
    # to the rounding of float32, in case that someone computes in it
    if not isinstance(after, torch.Tensor) or after.shape != before.shape:
        return False
    return torch.allclose(after.double(), before, rtol=1e-6, atol=1e-9)


def diagnose_judge(inputs, evidence):
    found, measured = [], [measure(case) for case in inputs["cases"]]
    for case, record, after in zip(inputs["cases"], evidence["cases"], evidence["weights"], strict=True):
        got = attempt(_named, record)
        if isinstance(got, read.Trouble):
            return dict.fromkeys(SYMPTOMS, got)
        before = [p for layer in zip(case["weights"], case["biases"]) for p in layer]
        if not all(_unchanged(*pair) for pair in zip(before, after, strict=True)):
            return dict.fromkeys(SYMPTOMS, read.Trouble("your function changed the weights of the model; leave them as they are."))
        found.append({symptom: float(symptom in got) for symptom in SYMPTOMS})
    expected = [symptoms(m) for m in measured]

    def known(*some):
        def fits(mistake):
            answers = map(mistake.answer, measured)
            return all(answer[symptom] == got[symptom] for answer, got in zip(answers, found) for symptom in some)

        return next((mistake.hint for mistake in DIAGNOSE_MISTAKES if fits(mistake)), None)

    def example(symptom):
        m, wanted = next((m, e[symptom]) for m, e, got in zip(measured, expected, found) if e[symptom] != got[symptom])
        value = {
            "saturated": f"the largest share of saturated entries in a layer is {short(max(m['saturated']))}",
            "dead": f"the largest share of dead units in a layer is {short(max(m['dead']))}",
            "alike": f"the mean cosine is {short(m['cosine'])}",
        }.get(symptom, f"the ratio of the norms is {short(ratio(m))}")
        verb = "is missing" if wanted else "is named without reason"
        kinds = ", ".join(dict.fromkeys(m["activations"]))
        return (
            f"“{symptom}” {verb} for a network of {len(m['activations'])} hidden layers ({kinds}) in which {value}. "
            + DIAGNOSE_FALLBACK[symptom]
        )

    wrong = [symptom for symptom in SYMPTOMS if any(e[symptom] != got[symptom] for e, got in zip(expected, found))]
    everything = known(*SYMPTOMS) if wrong else None
    return {s: (everything or known(s) or example(s)) if s in wrong else None for s in SYMPTOMS}


# --- lab11.repair -------------------------------------------------------------------------------------------

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky", "elu", "selu", "gelu", "silu", "softplus", "mish", "linear")
FIELDS = ("activation", "sigma_w2", "norm", "skip", "clip", "lr")
WORDS = {"activation": ACTIVATIONS, "norm": (None, "batch", "layer"), "skip": (None, "unscaled", "scaled")}
LIMITS = {"sigma_w2": (0, 1e4), "lr": (0, 1e3), "clip": (0, 1e6)}  # beyond them nothing is trained
TARGET = 0.6  # training accuracy; chance is 0.1, the sick stay below 0.4, half remedies below 0.55, and those for the cause above 0.65
MOST = 2  # fields that may be changed
STEPS = 80
SEEDS = 5


@functools.lru_cache(maxsize=512)
def trained(depth, activation, sigma_w2, norm, skip, clip, lr):
    """Median training accuracy of nets of width 32 on the digits, by the recipe's fields."""
    from signalprop import diagnose, ensemble

    recipe = diagnose.Recipe(depth, 32, activation, sigma_w2, norm=norm, skip=skip, lr=lr, clip=clip)
    generator, digits = torch.Generator().manual_seed(0), _digits()
    net = diagnose.Network(recipe, SEEDS, generator=generator)
    ensemble.train(net, digits.x, digits.y, steps=STEPS, generator=generator, **recipe.training())
    return net.accuracy(digits.x, digits.y).median().item()


@functools.cache
def _digits():
    from signalprop import data

    return data.digits()


def _net(cause, depth, activation, sigma_w2, skip=None, lr=0.02):
    return dict(
        causes=[cause] if cause else [],
        depth=depth,
        activation=activation,
        sigma_w2=sigma_w2,
        norm=None,
        skip=skip,
        clip=None,
        lr=lr,
    )


SIGMOID = _net("flat activation", 9, "sigmoid", 1.0)
SMALL = (_net("weights too small", 8, "tanh", 0.2), _net("weights too small", 6, "relu", 0.25))
LARGE = (_net("weights too large", 8, "tanh", 36.0), _net("weights too large", 8, "relu", 10.0))
DOUBLING = _net("unscaled skips", 13, "relu", 2.0, skip="unscaled", lr=0.05)
FAST = (
    _net("learning rate too large", 5, "relu", 2.0, lr=2.0),
    _net("learning rate too large", 4, "tanh", 1.0, lr=3.0),
    _net("learning rate too large", 6, "relu", 2.0, skip="scaled", lr=0.5),
)
HEALTHY = (_net(None, 5, "tanh", 1.0), _net(None, 8, "relu", 2.0, skip="scaled"))

# Aspect, patients, and the sets of fields that may have to stay: one of each is drawn, so that no remedy alone is
# allowed everywhere.
WARDS = (
    ("vanishing", (SIGMOID,), (["activation"], ["activation", "norm"])),
    ("vanishing", SMALL, (["skip"], ["skip", "norm"])),
    ("exploding", LARGE, (["sigma_w2"], ["skip", "norm"])),
    ("exploding", (DOUBLING,), (["skip"], ["norm"], ["activation", "norm"])),
    ("large steps", FAST, ([], ["skip", "norm"])),
    ("large steps", FAST, (["lr"], ["lr", "norm"])),
    ("restraint", HEALTHY, ([],)),
)


def repair_inputs(generator):
    """A report from each ward."""
    return {"reports": [choose(generator, *nets) | {"keep": choose(generator, *keeps)} for _, nets, keeps in WARDS]}


def repair(report):
    """A recipe for a report: what the chapter prescribes, or its second choice where that has to stay."""
    recipe = {field: report[field] for field in FIELDS}

    def allowed(*fields):
        return not set(fields) & set(report["keep"])

    for cause in report["causes"]:
        if cause == "learning rate too large":
            recipe |= {"lr": 0.02} if allowed("lr") else {"clip": 0.1}
        elif cause == "unscaled skips":
            recipe |= {"skip": "scaled"} if allowed("skip") else {"norm": "layer"}
        elif cause == "flat activation":
            recipe |= {"activation": "tanh"} if allowed("activation") else {"skip": "scaled"}
        elif allowed("sigma_w2"):
            recipe["sigma_w2"] = {"tanh": 1.0, "relu": 2.0}[report["activation"]]
        else:
            recipe["norm"] = "layer"
    return recipe


def _recipe(record, report):
    """The six fields of a returned recipe, checked; numbers as floats."""
    if record["outcome"] == "returned":
        record = record | {"changed": False}  # a report that was made into the recipe does no harm
    got = read.value(record, "repair(report)")
    if isinstance(got, torch.Tensor):
        raise read.Trouble(f"expected a dict, got a tensor of shape {tuple(got.shape)}.")
    if not isinstance(got, dict):
        raise read.Trouble(f"expected a dict, got a value of type {record['type']}.")
    recipe = {}
    for field in FIELDS:
        if field not in got:
            raise read.Trouble(f"the recipe has no field {field!r}; expected {', '.join(FIELDS)}.")
        value = got[field]
        if field in WORDS:
            value = None if _is_false(value) and None in WORDS[field] else value
            if value not in WORDS[field] if value is None or isinstance(value, str) else True:
                shown = repr(value[:40]) if isinstance(value, str) else "None" if value is None else "a value of another type"
                raise read.Trouble(f"{field} must be one of {', '.join(map(repr, WORDS[field]))}; got {shown}.")
        elif not (field == "clip" and (value is None or _is_false(value))):
            try:
                value = read.as_number(value)
            except read.Trouble as trouble:
                raise read.Trouble(f"{field}: {trouble}") from None
            low, high = LIMITS[field]
            if not low < value <= high:
                raise read.Trouble(f"{field} must be above {low} and at most {high:g}; got {short(value)}.")
            if math.isclose(value, report[field] or 0, rel_tol=1e-6):
                value = report[field]  # not a change, but the rounding of float32
        else:
            value = None
        recipe[field] = value
    if isinstance(got.get("depth"), torch.Tensor) and got["depth"].numel() == 1 and got["depth"].item() != report["depth"]:
        raise read.Trouble("the depth is given: a recipe cannot change it.")
    return recipe


def _is_false(value):
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.numel() == 1 and not value.item()


def _patient(report):
    """A report in words."""
    lr = f"{report['lr']:g}"
    skips = f", {report['skip']} skips" if report["skip"] else ""
    cause = ", ".join(report["causes"]) or "healthy"
    keep = f"; must stay: {', '.join(report['keep'])}" if report["keep"] else ""
    return f"{cause} ({report['depth']} layers of {report['activation']}, σ_w² = {report['sigma_w2']:g}{skips}, lr = {lr}{keep})"


def _why(report, recipe, changed):
    """Why a recipe does not train, as far as its changes tell."""
    cause = report["causes"][0]
    vanishing = cause in ("flat activation", "weights too small")
    if not changed:
        return "The recipe is that of the report: something has to change."
    if vanishing and set(changed) <= {"clip", "lr"}:
        if "clip" in changed:
            return "Clipping multiplies a gradient by at most 1, so it cannot bring back one that vanishes."
        return "A learning rate multiplies all layers alike; what is lost between the layers stays lost."
    if cause == "flat activation" and recipe["activation"] == "sigmoid" and set(changed) <= {"sigma_w2", "norm"}:
        if recipe["norm"] is None:
            return "A sigmoid's slope is at most 1/4; no scale of the weights makes up for it without saturation."
        return "Layer norm leaves the sigmoid's slope at 1/4 or less; a way around the layers is needed, or a norm over the batch."
    if cause == "learning rate too large":
        if recipe["clip"] is not None and recipe["lr"] == report["lr"]:
            return f"A clipped step moves the weights by up to lr · clip, here {short(recipe['lr'] * recipe['clip'])}: is that too much, or too little?"
        if changed == ["lr"]:
            if recipe["lr"] > 0.05:
                return "The steps are still too large; healthy nets of this kind train at 0.01 to 0.05."
            return f"The steps are now so small that {STEPS} of them do not get far; healthy nets train at 0.01 to 0.05."
        return "The steps are as large as they were: lower the learning rate, or bound the step by clipping."
    if set(changed) <= {"clip", "lr"}:
        return "Smaller steps leave the factor from layer to layer as it is; change what makes it larger than 1."
    if "sigma_w2" in changed or "activation" in changed:
        return (
            f"σ_w² = {recipe['sigma_w2']:g} with {recipe['activation']} does not carry the signal through: "
            "each activation has a critical scale of its own, 2 for ReLU and 1 for tanh."
        )
    return "Ask which factor the cause changes, the slope, the weights or the step, and choose a remedy for that one."


def repair_judge(inputs, evidence):
    wards, findings = [], dict.fromkeys(("vanishing", "exploding", "large steps", "restraint"))
    for (aspect, *_), report, record in zip(WARDS, inputs["reports"], evidence["cases"], strict=True):
        recipe = attempt(_recipe, record, report)
        changed = [] if isinstance(recipe, read.Trouble) else [f for f in FIELDS if recipe[f] != report[f]]
        wards.append((aspect, report, recipe, changed))
    cured, excess = 0, []
    for aspect, report, recipe, changed in wards:
        if isinstance(recipe, read.Trouble):
            findings[aspect] = findings[aspect] or recipe
            continue
        if not report["causes"]:
            if changed:
                excess.append(f"A report without causes: nothing needs repair, and your recipe changes {', '.join(changed)}.")
            continue
        hint = None
        if kept := [field for field in changed if field in report["keep"]]:
            hint = f"Your recipe changes {kept[0]}, which is on the report's list of fields that must stay (keep)."
        else:
            accuracy = trained(report["depth"], *(recipe[field] for field in FIELDS))
            if accuracy < TARGET:
                hint = f"Your recipe reaches a training accuracy of {accuracy:.2f}; {TARGET} is asked for. {_why(report, recipe, changed)}"
        if hint:
            findings[aspect] = findings[aspect] or f"{_patient(report)}: {hint}"
            continue
        cured += 1
        if len(changed) > MOST:
            excess.append(
                f"{_patient(report)}: your recipe changes {len(changed)} fields ({', '.join(changed)}); {MOST} at most may change."
            )
    if findings["restraint"] is None:
        if excess:
            findings["restraint"] = excess[0]
        elif not cured:
            troubles = [r for _, _, r, _ in wards if isinstance(r, read.Trouble)]
            findings["restraint"] = troubles[0] if troubles else "Changing little counts once one sick net trains."
    return findings


QUESTIONS = (
    Question(
        name="lab11.diagnose",
        signature=_SIGNATURE,
        contract=(
            "The set of symptoms that a network shows, out of “vanishing”, “exploding”, “saturated”, “dead” and “alike”, as "
            "str; a list or tuple will do. model: nn.Sequential of Linear layers, each hidden one followed by nn.Sigmoid, "
            "nn.Tanh or nn.ReLU, float64, its weights to be left as they are; x (n, features), y (n,) class indices, ℒ the "
            "mean cross-entropy. z_l, a_l: what enters and leaves the activation of hidden layer l, L the last hidden one. "
            "vanishing: ‖∂ℒ/∂z_1‖/‖∂ℒ/∂z_L‖ < 1/50, norms over batch and units; exploding: above 50; saturated: in some "
            "sigmoid or tanh layer more than half of the entries of a lie within 0.05 of a bound (0 and 1, −1 and 1); dead: "
            "in some ReLU layer more than half of the units are 0 for every row of x; alike: the mean cosine between "
            "different rows of z_L is above 0.95."
        ),
        aspects={"vanishing": 1, "exploding": 1, "saturated": 2, "dead": 2, "alike": 2},
        minutes=30,
        inputs=diagnose_inputs,
        reference=diagnose,
        judge=diagnose_judge,
    ),
    Question(
        name="lab11.repair",
        signature="repair(report)",
        contract=(
            "A recipe, a dict with the six fields activation (a name of signalprop.activations), sigma_w2 (above 0), norm "
            "(None, “batch” or “layer”), skip (None, “unscaled” or “scaled”), clip (None, or a norm above 0) and lr (above "
            "0). report: a dict with the same fields as they are, and depth (int), causes (list of names; empty if healthy) "
            "and keep (list of fields that must stay). At most two fields may change, and none without a cause. The recipe is "
            f"trained: width 32, digits, {STEPS} steps of SGD with momentum 0.9; the median training accuracy of {SEEDS} nets must "
            f"be at least {TARGET}. Healthy nets of this kind train at lr from 0.01 to 0.05."
        ),
        aspects={"vanishing": 2, "exploding": 2, "large steps": 2, "restraint": 2},
        minutes=25,
        inputs=repair_inputs,
        reference=repair,
        judge=repair_judge,
    ),
)
