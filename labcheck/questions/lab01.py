"""The questions of lab 01: gradients, steps and what is left of them."""

import math

import torch
import torch.nn.functional as F

from .. import evidence as read
from ..evidence import Trouble
from ..judging import Item, Mistake, attempt, choose, close, integer, judge, log_uniform, normal, uniform
from ..probes import lab01 as probe
from ..question import Question

# A float32 answer, and the 1e-6 in the factor of torch's clip, are off by some 1e-6; known mistakes by 1e-3 and more.
SAME = close(rtol=1e-5, atol=1e-5)

# --- nets ---------------------------------------------------------------------------------------------------


def layer(generator, out, fan_in, scale=1.5):
    return {
        "weight": normal(generator, out, fan_in, scale=scale / math.sqrt(fan_in)),
        "bias": normal(generator, out, scale=0.5),
    }


def net(generator, sizes, batch, old=False, spare=False, kernel=None):
    """A net and a batch. The sizes differ, so that a mean is no sum and no layer is square."""
    channels, length = kernel or (None, None)
    fans = [channels * (sizes[0] - length + 1), *sizes[1:]] if kernel else sizes
    layers = [layer(generator, out, fan_in) for fan_in, out in zip(fans, fans[1:])]
    shapes = [layers[i][key].shape for i in range(len(layers)) for key in ("weight", "bias")]
    return {
        "kernel": {"weight": normal(generator, channels, 1, length), "bias": normal(generator, channels)} if kernel else None,
        "layers": layers,
        "spare": layer(generator, 3, sizes[0]) if spare else None,
        "old_gradients": [normal(generator, *shape, scale=0.3) for shape in shapes] if old else [],
        **data(generator, sizes, batch),
    }


def data(generator, sizes, batch):
    return {
        "x": normal(generator, batch, sizes[0]),
        "y": torch.randint(sizes[-1], (batch,), generator=generator),
    }


def sizes_of(generator):
    return [integer(generator, 4, 6), integer(generator, 7, 9), integer(generator, 5, 6), 3]


def once(answer):
    """The same function of a case, computed once for each case."""
    found = {}

    def cached(case):
        if id(case) not in found:
            found[id(case)] = answer(case)
        return found[id(case)]

    return cached


def weights_of(model):
    return {name: p for name, p in model.named_parameters() if p.ndim > 1}


# --- lab01.grad_norms ---------------------------------------------------------------------------------------

NORMS = "grad_norms(model, x, y)"


def grad_norms(model, x, y):
    """Reference: the gradients come from autograd.grad, so that old ones play no part."""
    weights = {name: p for name, p in weights_of(model).items() if p.requires_grad}
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(weights.values()), allow_unused=True)
    return {name: g.norm().item() for name, g in zip(weights, gradients) if g is not None}


def norms_inputs(generator):
    def drawn(aspect, **more):
        return {"aspect": aspect} | net(generator, sizes_of(generator), integer(generator, 5, 9), **more)

    return {
        "cases": [
            drawn("norms"),
            drawn("norms"),
            drawn("old gradients", old=True),
            drawn("left out", spare=True),
            _saturated(drawn("left out")),
            drawn("weights only", kernel=(3, 3)),
        ]
    }


def _saturated(case):
    """The units of the second layer at exactly 1 in float64: what is below gets a gradient, and it is exactly 0."""
    case["layers"][1]["bias"] += 100.0
    return case


def _norms_variant(loss=F.cross_entropy, norm=torch.linalg.vector_norm, old=False):
    """What `grad_norms` gives with another loss, norm, or with the old gradients added."""

    def answer(case):
        model = probe.net(case)
        weights = {name: p for name, p in weights_of(model).items() if p.requires_grad}
        total = loss(model(case["x"]), case["y"])
        gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        found = {}
        for (name, p), g in zip(weights.items(), gradients):
            if g is not None:
                g = g + p.grad if old and p.grad is not None else g
                found[name] = float(norm(g))
        return found

    return answer


def summed(z, y):
    return F.cross_entropy(z, y, reduction="sum")


def softmaxed(z, y):
    return F.cross_entropy(torch.softmax(z, 1), y)


NORMS_MISTAKES = [
    (
        _norms_variant(norm=torch.sum),
        "You summed the entries of the gradient, and positive and negative ones cancel: a norm is the root of the sum of squares.",
    ),
    (_norms_variant(norm=lambda g: g.square().sum()), "These are squared norms: take the root of the sum of squares."),
    (
        _norms_variant(norm=lambda g: g.abs().mean()),
        "This is the mean of |g|, which depends on how many entries a layer has: take the root of the sum of squares.",
    ),
    (
        _norms_variant(norm=lambda g: g.square().mean().sqrt()),
        "This is the root of the *mean* square, which depends on how many entries a layer has: take the sum of squares.",
    ),
    (_norms_variant(norm=lambda g: g.abs().sum()), "This is the sum of |g|, the 1-norm; the 2-norm is asked for."),
    (_norms_variant(norm=lambda g: g.abs().max()), "This is the largest |g|; the 2-norm of all entries is asked for."),
    (
        _norms_variant(norm=lambda g: torch.linalg.matrix_norm(g.flatten(1), 2)),
        "This is the largest singular value (the norm of a matrix with ord=2); the root of the sum of all squares is asked for.",
    ),
    (
        _norms_variant(norm=lambda g: g.norm(dim=-1).mean()),
        "You averaged the norms of the rows; take one norm of the whole matrix.",
    ),
    (
        _norms_variant(norm=lambda g: g.norm(dim=1).mean()),
        "You averaged the norms of the rows; take one norm of the whole matrix.",
    ),
    (
        _norms_variant(loss=summed),
        "All norms are as many times too large as the batch has samples: take the mean of the cross-entropy, not the sum.",
    ),
    (
        _norms_variant(loss=softmaxed),
        "`cross_entropy` takes logits and applies the softmax itself: pass it the model's output as it is.",
    ),
    (
        _norms_variant(loss=lambda z, y: z.sum()),
        "Your norms do not depend on the labels: backpropagate the cross-entropy, not the sum of the outputs.",
    ),
    (
        _norms_variant(loss=lambda z, y: F.cross_entropy(z, z.argmax(1))),
        "Your norms do not depend on the labels: the targets of the cross-entropy are y.",
    ),
    (
        _norms_variant(norm=lambda g: 0.0),
        "All norms are exactly 0: the gradients were cleared before you read them. A vanishing gradient is small, not 0.",
    ),
    (
        _norms_variant(old=True),
        "The gradients of an earlier batch were still in the model, and backward() adds to them: clear them first (model.zero_grad()).",
    ),
    (
        lambda case: {n: float(p.detach().norm()) for n, p in weights_of(probe.net(case)).items()},
        "These are the norms of the weights; the norms of their gradients are asked for.",
    ),
]
NORMS_FALLBACK = {
    "norms": "For each weight: the root of the sum of squares of the gradient of F.cross_entropy(model(x), y).",
    "old gradients": (
        "Here the model comes with gradients of an earlier batch. The norms are those of this batch alone: look at what clears them."
    ),
    "left out": (
        "Here one layer is frozen and another takes no part in the output, or some gradients are exactly 0. The norms of the other "
        "weights must be as always."
    ),
    "weights only": "Here a convolution comes first, whose kernel has three axes: the norm is that of all its entries.",
}
NO_BIAS = "Your dict also has {}: only weights are asked for, the parameters with at least two axes."
NO_GRADIENT = "Your dict also has {}, which has no gradient (frozen, or without part in the loss): leave it out."


def norms_judge(inputs, evidence):
    items, extra = [], {"weights only": None, "left out": None}
    for case, record in zip(inputs["cases"], evidence["cases"], strict=True):
        truth = grad_norms(probe.net(case), case["x"], case["y"])
        aspect = case["aspect"]
        got = attempt(read.mapping, record, NORMS, "a dict from names to norms")
        if evidence["moved"] and not isinstance(got, Trouble):
            got = Trouble("your function changed the weights of the model; it is to measure, without a step.")
        if isinstance(got, Trouble):
            items.append(Item(aspect, got, 0.0, case))
            continue
        known = {name: p for name, p in probe.net(case).named_parameters()}
        for name, expected in truth.items():
            value = attempt(read.as_number, got[name]) if name in got else _absent(name, got, expected, known)
            items.append(Item(aspect, value, expected, case, part=name))
        more = [name for name in got if name not in truth]
        if more and aspect in ("norms", "weights only"):
            extra["weights only"] = extra["weights only"] or (
                NO_BIAS.format(more[0])
                if more[0] in known
                else f"Your dict has {more[0]!r}, which is no name of a parameter: use model.named_parameters()."
            )
        elif aspect == "left out":
            vain = [name for name in more if name in known and known[name].ndim > 1]
            extra["left out"] = extra["left out"] or (NO_GRADIENT.format(vain[0]) if vain else None)
    mistakes = [Mistake(once(answer), hint) for answer, hint in NORMS_MISTAKES]
    findings = judge(items, mistakes, NORMS_FALLBACK, SAME, rests_on=dict.fromkeys(NORMS_FALLBACK, ("norms",)))
    return {aspect: found or extra.get(aspect) for aspect, found in findings.items()}


def _absent(name, got, expected, known):
    ours, axes = any(other in known for other in got), known[name].ndim
    if ours and expected == 0:
        return Trouble(
            f"your dict has no entry {name!r}. Its gradient is exactly 0 here, and so is its norm; leave out only weights whose "
            "gradient is None."
        )
    if ours and axes > 2:
        return Trouble(f"your dict has no entry {name!r}. It is the kernel of a convolution, with {axes} axes, and a weight too.")
    names = ", ".join(map(repr, list(got)[:4])) or "none"
    return Trouble(f"expected an entry {name!r}, a name from model.named_parameters(); your dict has {names}.")


# --- lab01.train_step ---------------------------------------------------------------------------------------

STEP = "train_step(model, opt, x, y, max_norm)"


def train_step(model, opt, x, y, max_norm):
    """Reference."""
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    opt.step()
    return loss.item()


def step_inputs(generator):
    def drawn(aspect, share, momentum, **more):
        sizes, batch = sizes_of(generator), integer(generator, 5, 9)
        case = net(generator, sizes, batch, **more) | {"lr": uniform(generator, 0.2, 0.4), "momentum": momentum}
        case["batches"] = [data(generator, sizes, batch) for _ in range(2)]
        # the limit is a share of the smaller of the two gradients' norms: both are clipped, or neither
        norms = [math.hypot(*_all_norms(case, b)) for b in case["batches"]]
        return case | {"aspect": aspect, "max_norm": share * (min(norms) if share < 1 else max(norms))}

    return {
        "cases": [
            drawn("large gradients", uniform(generator, 0.2, 0.3), 0.0),
            drawn("large gradients", uniform(generator, 0.2, 0.3), 0.9),
            drawn("small gradients", uniform(generator, 3, 5), 0.0),
            drawn("old gradients", uniform(generator, 0.2, 0.3), 0.0, old=True),
        ]
    }


def _all_norms(case, batch):
    model = probe.net(case)
    return [g.norm().item() for g in torch.autograd.grad(F.cross_entropy(model(batch["x"]), batch["y"]), list(model.parameters()))]


def _steps(case, step):
    """What a train_step returns and makes of the weights, in both calls."""
    model = probe.net(case)
    opt, found = probe.optimizer(model, case), {}
    for turn, batch in enumerate(case["batches"]):
        found[f"loss {turn + 1}"] = step(model, opt, batch["x"], batch["y"], case["max_norm"])
        for name, p in model.named_parameters():
            found[f"{name} after step {turn + 1}"] = p.detach().clone()
    return found


def _variant(clear="first", loss=F.cross_entropy, clip=torch.nn.utils.clip_grad_norm_, returned=None):
    def step(model, opt, x, y, max_norm):
        if clear == "first":
            opt.zero_grad()
        total = loss(model(x), y)
        total.backward()
        clip(list(model.parameters()), max_norm)
        opt.step()
        if clear == "last":
            opt.zero_grad()
        return returned(model, x, y, total) if returned else total.item()

    return step


def _each(params, limit):
    for p in params:
        torch.nn.utils.clip_grad_norm_([p], limit)


def _squared(params, limit):
    total = sum(p.grad.square().sum() for p in params)
    for p in params:
        p.grad *= min(1, limit / float(total))


def _always(params, limit):
    total = math.sqrt(sum(float(p.grad.square().sum()) for p in params))
    for p in params:
        p.grad *= limit / total


def _largest(params, limit):
    total = max(float(p.grad.norm()) for p in params)
    for p in params:
        p.grad *= min(1, limit / total)


def _none(params, limit):
    pass


def _stands_still(model, opt, x, y, max_norm):
    return F.cross_entropy(model(x), y).item()


def _uphill(model, opt, x, y, max_norm):
    return _variant(loss=lambda z, t: -F.cross_entropy(z, t))(model, opt, x, y, max_norm) * -1


STEP_MISTAKES = [
    (
        _variant(clip=_none),
        "The steps have their full length, as without clipping: clip after backward(), which makes the gradient, and before opt.step(), which uses it.",
    ),
    (
        _variant(clear="never"),
        "The second step also contains the first gradient: backward() adds to what is there. Clear the gradients first (opt.zero_grad()).",
    ),
    (
        _variant(clear="last"),
        "You clear the gradients at the end, and your first step contains those with which the model came: clear them before backward().",
    ),
    (
        _variant(clear="last", clip=_none),
        "You clear the gradients at the end, too late for those with which the model came, and nothing is clipped: opt.zero_grad() first, the clip between backward() and step().",
    ),
    (
        _variant(clear="never", clip=_none),
        "The gradients of the first call are still there in the second, and nothing is clipped: opt.zero_grad() first, the clip between backward() and step().",
    ),
    (
        _stands_still,
        "The weights do not move: are the gradients cleared between backward() and step(), or is the step missing?",
    ),
    (
        _variant(clip=torch.nn.utils.clip_grad_value_),
        "Each entry is cut off at ±max_norm, which turns the gradient: scale all gradients by one factor, max_norm/‖g‖.",
    ),
    (
        _variant(clip=_each),
        "Each tensor is clipped by itself, which turns the gradient: ‖g‖ is the norm of all gradients together, and the factor one for all.",
    ),
    (_variant(clip=_squared), "You compare and divide by the squared norm: take the root of the sum of all squares."),
    (
        _variant(clip=_always),
        "A gradient below max_norm is made longer: the factor is min(1, max_norm/‖g‖).",
    ),
    (_variant(clip=_largest), "The norm of the largest tensor is taken for ‖g‖: it is the norm of all gradients together."),
    (
        _variant(loss=summed),
        "The loss is a sum over the batch; take the mean of the cross-entropy.",
    ),
    (_variant(loss=softmaxed), "`cross_entropy` takes logits and applies the softmax itself: pass it the model's output as it is."),
    (_uphill, "The step goes uphill: check the sign."),
    (
        _variant(returned=lambda model, x, y, total: F.cross_entropy(model(x), y).item()),
        "The loss is that *after* the step: return the loss from which the step was computed.",
    ),
    (
        _variant(returned=lambda model, x, y, total: total.item() * len(y)),
        "The loss is a sum over the batch; return its mean.",
    ),
    (
        _variant(returned=lambda model, x, y, total: total.item() / len(y)),
        "The mean loss is divided by the batch size once more.",
    ),
    (
        _variant(returned=lambda model, x, y, total: math.hypot(*(float(p.grad.norm()) for p in model.parameters()))),
        "A norm of the gradient is returned; return the loss.",
    ),
]
STEP_FALLBACK = {
    "loss": "Return the mean cross-entropy F.cross_entropy(model(x), y) of this batch, before the step.",
    "large gradients": (
        "Here ‖g‖ is above max_norm. The weights after the call are those of one step of `opt` with the gradient times max_norm/‖g‖."
    ),
    "small gradients": "Here ‖g‖ is below max_norm. The weights after the call are those of one step of `opt` with the gradient as it is.",
    "old gradients": "Gradients of an earlier batch, or of your first call, are in the model here. The step must not depend on them.",
}


def step_judge(inputs, evidence):
    items = []
    for case, steps in zip(inputs["cases"], evidence["cases"], strict=True):
        truth, start = _steps(case, train_step), dict(probe.net(case).named_parameters())
        weights = [{name: attempt(read.as_tensor, step["weights"][name], p.shape) for name, p in start.items()} for step in steps]
        truth["loss 2"] = _second_loss(case, weights[0])
        moved = any(not torch.equal(got, start[name]) for step in steps for name, got in step["weights"].items())
        for turn, step, after in zip((1, 2), steps, weights, strict=True):
            loss = attempt(read.number, step["record"], STEP)
            if turn == 1 or case["aspect"] != "old gradients":  # old gradients cost their own points, and not the loss's too
                items.append(Item("loss", loss, truth[f"loss {turn}"], case, part=f"loss {turn}"))
            aspect = "old gradients" if turn == 2 and case["aspect"] == "large gradients" else case["aspect"]
            trouble = _failed(step["record"]) or (loss if isinstance(loss, Trouble) and not moved else None)
            for name, got in after.items():
                part = f"{name} after step {turn}"
                items.append(Item(aspect, trouble or got, truth[part], case, part=part))
    mistakes = [Mistake(once(lambda case, step=step: _steps(case, step)), hint) for step, hint in STEP_MISTAKES]
    plain = ("small gradients", "large gradients")
    return judge(items, mistakes, STEP_FALLBACK, SAME, rests_on={"large gradients": plain[:1], "old gradients": plain})


def _second_loss(case, weights):
    """The loss of the second batch with the weights that the first step left: a wrong step does not spoil the loss."""
    model, batch = probe.net(case), case["batches"][1]
    if not any(isinstance(value, Trouble) for value in weights.values()):
        model.load_state_dict(weights)
    return F.cross_entropy(model(batch["x"]), batch["y"]).item()


def _failed(record):
    """The trouble with a call that did not come to its end; a missing or odd loss does not spoil the weights."""
    if record["outcome"] == "returned" and not record.get("changed"):
        return None
    return attempt(read.value, record, STEP)


# --- lab01.update_ratios ------------------------------------------------------------------------------------

RATIOS = "update_ratios(before, after)"


def update_ratios(before, after):
    """Reference."""
    return {name: ((after[name] - w).norm() / w.norm()).item() for name, w in before.items()}


def ratios_inputs(generator):
    def drawn(aspect, scale):
        shapes = [(integer(generator, 3, 5), integer(generator, 6, 8)) for _ in range(3)]
        shapes = shapes[:1] * 3 if aspect == "any order" else shapes
        before = {f"fc{i}.weight": normal(generator, *shape, scale=uniform(generator, 0.3, 0.8)) for i, shape in enumerate(shapes, 1)}
        after = {name: w + normal(generator, *w.shape, scale=scale * uniform(generator, 0.1, 1)) for name, w in before.items()}
        if aspect == "any order":  # no shape may give a wrong pair away
            after = dict(reversed(after.items()))
        return {"aspect": aspect, "before": before, "after": after}

    return {
        "cases": [
            drawn("ratios", 0.3),
            drawn("ratios", 0.3),
            drawn("tiny steps", log_uniform(generator, 1e-7, 1e-5)),
            drawn("any order", 0.3),
        ]
    }


def _ratio_variant(ratio):
    return lambda case: {name: float(ratio(w, case["after"][name])) for name, w in case["before"].items()}


def _by_position(case):
    pairs = zip(case["before"].items(), case["after"].values())
    return {name: float((a - w).norm() / w.norm()) if a.shape == w.shape else None for (name, w), a in pairs}


def _in_float32(w, a):
    return (a.float() - w.float()).norm() / w.float().norm()


RATIOS_MISTAKES = [
    (_ratio_variant(lambda w, a: (a - w).norm() / a.norm()), "You divide by the norm of the new weights; divide by that of the old ones, `before`."),
    (
        _ratio_variant(lambda w, a: (a.norm() - w.norm()).abs() / w.norm()),
        "This is the change of the norm, which is 0 where a weight only turns: take the norm of the change, ‖after − before‖.",
    ),
    (_ratio_variant(lambda w, a: (a.norm() - w.norm()) / w.norm()), "This is the change of the norm, which is 0 where a weight only turns: take the norm of the change, ‖after − before‖."),
    (_ratio_variant(lambda w, a: ((a - w).norm() / w.norm()) ** 2), "This is the squared ratio: take the root of both sums of squares."),
    (_ratio_variant(lambda w, a: (a - w).norm()), "This is ‖after − before‖ alone: divide it by ‖before‖."),
    (_ratio_variant(lambda w, a: ((a - w) / w).abs().mean()), "This is the mean of the entries' ratios, which one entry near 0 can rule: take the ratio of two norms."),
    (_ratio_variant(lambda w, a: (a - w).abs().mean() / w.abs().mean()), "This is a ratio of means of absolute values; take the ratio of Frobenius norms."),
    (_ratio_variant(lambda w, a: (a - w).abs().sum() / w.abs().sum()), "This is a ratio of 1-norms; take the ratio of Frobenius norms."),
    (_ratio_variant(lambda w, a: (a - w).abs().max() / w.abs().max()), "This is a ratio of largest entries; take the ratio of Frobenius norms."),
    (
        _ratio_variant(lambda w, a: torch.linalg.matrix_norm(a - w, 2) / torch.linalg.matrix_norm(w, 2)),
        "These are norms with ord=2 of a matrix, its largest singular value; the Frobenius norm is asked for.",
    ),
    (_ratio_variant(lambda w, a: w.norm() / (a - w).norm()), "The ratio is upside down: it is ‖after − before‖/‖before‖."),
    (_ratio_variant(lambda w, a: a.norm() / w.norm()), "This is ‖after‖/‖before‖: subtract `before` from `after` first."),
    (_ratio_variant(lambda w, a: (a - w).norm() / w.numel() ** 0.5), "You divide by the root of the number of entries; divide by ‖before‖."),
    (
        _ratio_variant(_in_float32),
        "In float32 the difference of two nearly equal weights keeps few digits: subtract in float64, in which they come.",
    ),
    (
        _by_position,
        "Here the names of `after` come in another order than those of `before`: look each up by its name, not by its place.",
    ),
]
RATIOS_FALLBACK = {
    "ratios": "For each name: the Frobenius norm of after − before, divided by the Frobenius norm of before.",
    "tiny steps": "Here the steps are tiny, about 1e-6 of the weights: compute in float64, round nothing, and add nothing to the ratio.",
    "any order": "Here the names of `after` come in another order than those of `before`. The ratio of a name is made of its own two tensors.",
}
# ‖after − before‖ of tiny steps is a difference of nearly equal numbers: 1e-16/1e-7 of it is lost in float64
RATIOS_SAME = close(rtol=1e-5, atol=0)


def ratios_judge(inputs, evidence):
    items = []
    for case, record in zip(inputs["cases"], evidence["cases"], strict=True):
        got = attempt(read.mapping, record, RATIOS, "a dict from names to ratios")
        for name, expected in update_ratios(case["before"], case["after"]).items():
            if isinstance(got, Trouble):
                value = got
            elif set(got) - set(case["before"]):
                value = Trouble("expected the names of `before` as keys, and no others.")
            else:
                value = attempt(read.as_number, got[name]) if name in got else _missing(name, got)
            items.append(Item(case["aspect"], value, expected, case, part=name))
    mistakes = [Mistake(once(answer), hint) for answer, hint in RATIOS_MISTAKES]
    return judge(items, mistakes, RATIOS_FALLBACK, RATIOS_SAME, rests_on=dict.fromkeys(RATIOS_FALLBACK, ("ratios",)))


def _missing(name, got):
    return Trouble(f"expected an entry for each name of `before`; your dict has none for {name!r}.")


# --- lab01.lost_update_depth --------------------------------------------------------------------------------

LOST = "lost_update_depth(w, lr, g, factor)"


def lost_update_depth(w, lr, g, factor, dtype=torch.float32):
    """Reference: try every depth."""
    weight, d = torch.tensor(w, dtype=dtype), 0
    while weight - torch.tensor(lr * g * factor**d, dtype=dtype) != weight:
        d += 1
    return d


def half_gap(w):
    """Half the distance from w to the next float32 number away from 0; towards 0 it is the same but for powers of two."""
    return 2.0 ** (math.frexp(abs(w))[1] - 25)


def exact_depth(case, limit=None):
    """The depth as a real number, at which lr·|g|·factor^d meets a limit; half the gap at w by default."""
    limit = half_gap(case["w"]) if limit is None else limit
    return math.log(case["lr"] * abs(case["g"]) / limit) / -math.log(case["factor"])


_LOST_FIXED = [
    ("w = 0.12, lr = 0.1, g = 0.3 and factor = 0.9", dict(aspect="slow decay", w=0.12, lr=0.1, g=0.3, factor=0.9)),
    ("w = 0.9, lr = 0.01, g = 0.5 and factor = 0.25", dict(aspect="fast decay", w=0.9, lr=0.01, g=0.5, factor=0.25)),
    ("w = 3, lr = 0.001, g = 1e-5 and factor = 0.5", dict(aspect="lost at once", w=3.0, lr=0.001, g=1e-5, factor=0.5)),
]


def lost_inputs(generator):
    """No case near an edge: float32 throughout, or float64 and one rounding, give the same depth."""

    def drawn(aspect, low, high, signs=None):
        while True:
            power = integer(generator, -6, 2)
            of_w, of_g = signs or (choose(generator, -1, 1), choose(generator, -1, 1))
            case = {
                "aspect": aspect,
                "w": of_w * (1 if signs else uniform(generator, 1.5, 1.95)) * 2.0**power,
                "lr": log_uniform(generator, 0.002, 0.5),
                "g": of_g * log_uniform(generator, 0.02, 2),
                "factor": uniform(generator, low, high),
            }
            limits = (half_gap(case["w"]), half_gap(case["w"]) / 2)[: 2 if signs else 1]  # above and below a power of two
            if all(0.1 < exact_depth(case, limit) % 1 < 0.9 and exact_depth(case, limit) > 3 for limit in limits):
                return case

    return {
        "cases": [dict(case) for _, case in _LOST_FIXED]
        + [
            drawn("slow decay", 0.88, 0.95),
            drawn("slow decay", 0.88, 0.95),
            drawn("fast decay", 0.15, 0.5),
            drawn("fast decay", 0.15, 0.5),
            drawn("lost at once", 0.2, 0.8) | {"lr": 0.003, "g": 1e-9},
            *(drawn("powers of two", 0.88, 0.95, signs) for signs in ((1, 1), (1, -1), (-1, 1))),
        ]
    }


def _first(case, limit):
    return max(0, math.ceil(exact_depth(case, limit)))


def _added(c):
    return lost_update_depth(c["w"], c["lr"], -c["g"], c["factor"])


def _with_size_of_g(c):
    return lost_update_depth(c["w"], c["lr"], abs(c["g"]), c["factor"])


def _rounded_once(c):
    """The weight is rounded to float32 only after the update was taken from it."""
    weight, d = torch.tensor(c["w"], dtype=torch.float64), 0
    while (weight - c["lr"] * c["g"] * c["factor"] ** d).float() != weight.float():
        d += 1
    return d


def _power_of_two(w):
    return math.frexp(abs(w))[0] == 0.5


POWER = (
    "A power of two has two gaps: the next number towards 0 is half as far as the next one away from 0, so it matters to which side "
    "the update moves w. Try w − update == w."
)
LOST_MISTAKES = [
    (lambda c: lost_update_depth(c["w"], c["lr"], c["g"], c["factor"], torch.float64), "This is the depth for float64 (Python's own float): convert the weight and the update to torch.float32 first."),
    (lambda c: lost_update_depth(c["w"], c["lr"], c["g"], c["factor"], torch.float16), "This is the depth for float16; float32 is asked for."),
    (lambda c: lost_update_depth(c["w"], c["lr"], c["g"], c["factor"], torch.bfloat16), "This is the depth for bfloat16; float32 is asked for."),
    (lambda c: lost_update_depth(c["w"], c["lr"], c["g"], c["factor"]) + 1, "One too many: d = 0 is the last layer itself, with the update lr·g."),
    (
        lambda c: lost_update_depth(c["w"], c["lr"], c["g"], c["factor"]) - 1,
        "One too few: the answer is the first depth at which nothing changes, not the last at which something does.",
    ),
    (
        lambda c: max(0, lost_update_depth(c["w"], c["lr"], c["g"], c["factor"]) - 1),
        "One too few: the answer is the first depth at which nothing changes, not the last at which something does.",
    ),
    (lambda c: max(1, lost_update_depth(c["w"], c["lr"], c["g"], c["factor"])), "The search starts at d = 1; where even the last layer's update is lost, the answer is 0."),
    (lambda c: lost_update_depth(c["w"], 1.0, c["g"], c["factor"]), "The learning rate has no effect: the update is lr·g·factor^d."),
    (lambda c: lost_update_depth(c["w"], c["lr"], 1.0, c["factor"]), "The gradient g has no effect: the update is lr·g·factor^d."),
    (lambda c: _first(c, 2.0**-150), "You wait until the update itself is 0. It is lost much earlier: when w − update is rounded to w."),
    (lambda c: _first(c, half_gap(1.5)), "You compare with a fixed limit; what is lost depends on how large w is."),
    (lambda c: _first(c, 2.0**-23), "You compare with a fixed limit; what is lost depends on how large w is."),
    (lambda c: _first(c, 2.0**-23 * abs(c["w"])), "You compare the update with eps·|w|. The numbers around w are a gap apart that is the same between two powers of two; try w − update == w."),
    (lambda c: _first(c, 2.0**-24 * abs(c["w"])), "You compare the update with half of eps·|w|. The gap around w is the same between two powers of two; try w − update == w."),
    (lambda c: _first(c, 2 * half_gap(c["w"])), "You compare the update with the gap at w. It is rounded away from half the gap on."),
    (_rounded_once, "You round only the difference: a weight is stored in float32, so round w first, then subtract."),
    (_added, "Your update is added; the new weight is w − lr·g·factor^d, and at a power of two the direction matters."),
    (_with_size_of_g, "The sign of g has no effect. At a power of two it matters: the number next to w is nearer on the side of 0."),
    (lambda c: _first(c, half_gap(c["w"])), POWER),
    (lambda c: _first(c, half_gap(c["w"]) / (2 if _power_of_two(c["w"]) else 1)), POWER),
    (lambda c: exact_depth(c), "The depth is a whole number of layers: round up."),
    (lambda c: lost_update_depth(c["w"], c["lr"], c["g"], c["factor"] ** 2), "The update shrinks by factor² per layer: factor multiplies the gradient once for each layer."),
    (lambda c: lost_update_depth(c["w"], c["lr"], c["g"], c["factor"] ** 0.5), "The update shrinks by the root of factor per layer: factor multiplies the gradient itself once for each layer."),
]
LOST_FALLBACK = {
    "slow decay": "Try d = 0, 1, 2, …: the first d at which float32(w) − float32(lr·g·factor^d) equals float32(w) is the answer.",
    "fast decay": "Try d = 0, 1, 2, …: the first d at which float32(w) − float32(lr·g·factor^d) equals float32(w) is the answer.",
    "lost at once": "Here even the update of the last layer, lr·g, is lost: the answer is 0.",
    "powers of two": "Here w is a power of two: the next number is nearer on the side of 0 than on the other. Try w − update == w.",
}


def lost_judge(inputs, evidence):
    quotes = [words for words, _ in _LOST_FIXED]
    items = []
    for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True)):
        got = attempt(read.number, record, LOST)
        truth = lost_update_depth(case["w"], case["lr"], case["g"], case["factor"])
        items.append(Item(case["aspect"], got, float(truth), case, quote=quotes[i] if i < len(quotes) else None))

    def explain(some):
        if len({item.got for item in some}) == 1 and len(some) > 3:
            return "Your answer is the same for every input: it must depend on w, lr, g and factor."
        return None

    mistakes = [Mistake(once(answer), hint) for answer, hint in LOST_MISTAKES]
    plain = ("slow decay", "fast decay")
    rests_on = {"fast decay": plain[:1], "powers of two": plain}
    return judge(items, mistakes, LOST_FALLBACK, close(rtol=0, atol=1e-6), explain, rests_on=rests_on)


QUESTIONS = (
    Question(
        name="lab01.grad_norms",
        signature=NORMS,
        contract=(
            "For each weight of the model (a parameter with at least two axes; no bias), by its name in model.named_parameters(): "
            "the 2-norm of the gradient of the mean cross-entropy (nats) of one batch, a number. Weights without a gradient "
            "(frozen, or without part in the output) are left out; a gradient that is exactly 0 has the norm 0. model maps x, float64 "
            "(batch, features), to logits (batch, classes); y is int64 (batch,). The model may hold gradients of an earlier batch; its "
            "weights stay as they are."
        ),
        aspects={"norms": 3, "weights only": 1, "old gradients": 1, "left out": 1},
        minutes=15,
        inputs=norms_inputs,
        reference=grad_norms,
        judge=norms_judge,
    ),
    Question(
        name="lab01.train_step",
        signature=STEP,
        contract=(
            "One training step: clears the gradients, backpropagates the mean cross-entropy (nats) of model(x) and y, multiplies all "
            "gradients by min(1, max_norm/‖g‖) with ‖g‖ the 2-norm of all of them together, lets opt step. Returns the loss before the "
            "step, a number. model and opt are an nn.Module in float64 and its torch.optim.Optimizer; x is (batch, features), y int64 "
            "(batch,), max_norm > 0. The model may hold gradients of an earlier batch."
        ),
        aspects={"loss": 1, "large gradients": 3, "small gradients": 1, "old gradients": 2},
        minutes=15,
        inputs=step_inputs,
        reference=train_step,
        judge=step_judge,
    ),
    Question(
        name="lab01.update_ratios",
        signature=RATIOS,
        contract=(
            "For each name in `before`: ‖after − before‖/‖before‖ with Frobenius norms, a number. before and after are dicts from the same "
            "names, in any order, to float64 tensors (out, in), which stay as they are; no tensor of `before` is 0."
        ),
        aspects={"ratios": 3, "tiny steps": 1, "any order": 1},
        minutes=10,
        inputs=ratios_inputs,
        reference=update_ratios,
        judge=ratios_judge,
    ),
    Question(
        name="lab01.lost_update_depth",
        signature=LOST,
        contract=(
            "The first depth d = 0, 1, 2, … (0 is the last layer) at which float32(w) − float32(lr·g·factor^d), computed in float32, equals "
            "float32(w): an int. w, lr, g and factor are floats; w and g may be negative, neither is 0; lr > 0 and 0 < factor < 1."
        ),
        aspects={"fast decay": 2, "slow decay": 1, "powers of two": 1, "lost at once": 1},
        minutes=15,
        inputs=lost_inputs,
        reference=lost_update_depth,
        judge=lost_judge,
    ),
)
