"""Answers to lab 11: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import copy
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from signalprop.probe import layer_report

# --- diagnose -----------------------------------------------------------------------------------------------

BOUNDS = {nn.Sigmoid: (0.0, 1.0), nn.Tanh: (-1.0, 1.0)}


def passes(model, x, y):
    """Pre-activations z, activations a, the modules between them, logits; and ∂ℒ/∂z, ∂ℒ/∂a, ∂ℒ/∂logits."""
    zs, activations, modules, h = [], [], [], x
    for module in model:
        h = module(h)
        if isinstance(module, nn.Linear):
            zs.append(h)
        else:
            activations.append(h)
            modules.append(module)
    logits = zs.pop()
    gradients = torch.autograd.grad(F.cross_entropy(logits, y), [*zs, *activations, logits])
    n = len(zs)
    return (
        [z.detach() for z in zs],
        [a.detach() for a in activations],
        modules,
        logits.detach(),
        gradients[:n],
        gradients[n : 2 * n],
        gradients[-1],
    )


def saturated_shares(activations, modules, tol=0.05):
    shares = []
    for a, module in zip(activations, modules):
        if type(module) in BOUNDS:
            low, high = BOUNDS[type(module)]
            shares.append(((a < low + tol) | (a > high - tol)).double().mean().item())
    return shares


def dead_shares(activations, modules):
    return [(a == 0).all(0).double().mean().item() for a, m in zip(activations, modules) if isinstance(m, nn.ReLU)]


def mean_cosine(z):
    cosines = [F.cosine_similarity(z[i], z[j], dim=0).item() for i, j in itertools.combinations(range(len(z)), 2)]
    return sum(cosines) / len(cosines)


def variant(**instead):
    """A correct answer, but for the parts given: functions of what `passes` returns."""

    def diagnose(model, x, y):
        found = passes(model, x, y)
        zs, activations, modules, _, dz, _, _ = found
        parts = {
            "ratio": lambda *_: (dz[0].norm() / dz[-1].norm()).item(),
            "saturated": lambda *_: max(saturated_shares(activations, modules), default=0) > 0.5,
            "dead": lambda *_: max(dead_shares(activations, modules), default=0) > 0.5,
            "alike": lambda *_: fast_cosine(zs[-1]) > 0.95,
        } | instead
        ratio = parts["ratio"](*found)
        names = {name for name in ("saturated", "dead", "alike") if parts[name](*found)}
        return names | ({"vanishing"} if ratio < 1 / 50 else {"exploding"} if ratio > 50 else set())

    return diagnose


def fast_cosine(z):
    u = z / z.norm(dim=1, keepdim=True)
    c = u @ u.T
    return c[~torch.eye(len(z), dtype=torch.bool)].mean().item()


in_one_pass = variant()


def by_the_layer_report(model, x, y):
    report = layer_report(model, x, y)
    norms, found = report["grad_preact"][:-1], set()
    if norms[0] < norms[-1] / 50:
        found |= {"vanishing"}
    if norms[0] > norms[-1] * 50:
        found |= {"exploding"}
    if np.nanmax(np.append(report["saturation"], 0)) > 0.5:
        found |= {"saturated"}
    if np.nanmax(np.append(report["dead"], 0)) > 0.5:
        found |= {"dead"}
    if report["correlation"][-2] > 0.95:
        found |= {"alike"}
    return found


def with_hooks(model, x, y):
    zs, found, handles = [], set(), []

    def after_linear(module, inputs, output):
        output.retain_grad()
        zs.append(output)

    def after_activation(module, inputs, output):
        a = output.detach()
        if isinstance(module, nn.ReLU):
            if (a.max(dim=0).values <= 0).float().mean() > 0.5:
                found.add("dead")
        else:
            low = 0 if isinstance(module, nn.Sigmoid) else -1
            if (torch.minimum(a - low, 1 - a) < 0.05).float().mean() > 0.5:
                found.add("saturated")

    for module in model:
        hook = after_linear if isinstance(module, nn.Linear) else after_activation
        handles.append(module.register_forward_hook(hook))
    model.zero_grad()
    nn.CrossEntropyLoss()(model(x), y).backward()
    for handle in handles:
        handle.remove()
    first, last = zs[0].grad.square().sum(), zs[-2].grad.square().sum()
    if first < last / 2500:
        found.add("vanishing")
    elif first > 2500 * last:
        found.add("exploding")
    if mean_cosine(zs[-2].detach()) >= 0.95:
        found.add("alike")
    return found


def by_hand(model, x, y):
    """NumPy, forward and backward written out; a sorted list."""
    slopes = {
        nn.Sigmoid: lambda z, a: a * (1 - a),
        nn.Tanh: lambda z, a: 1 - a**2,
        nn.ReLU: lambda z, a: (z > 0) * 1.0,
    }
    phi = {nn.Sigmoid: lambda z: 1 / (1 + np.exp(-z)), nn.Tanh: np.tanh, nn.ReLU: lambda z: np.maximum(z, 0)}
    linears = [m for m in model if isinstance(m, nn.Linear)]
    kinds = [type(m) for m in model if not isinstance(m, nn.Linear)]
    a, zs, activations = x.numpy(), [], []
    with np.errstate(over="ignore"):
        for linear, kind in zip(linears, kinds):
            z = a @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
            a = phi[kind](z)
            zs.append(z)
            activations.append(a)
    logits = a @ linears[-1].weight.detach().numpy().T + linears[-1].bias.detach().numpy()
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    delta = (p - np.eye(p.shape[1])[y.numpy()]) / len(p)
    norms = []
    for i in reversed(range(len(zs))):
        delta = delta @ linears[i + 1].weight.detach().numpy() * slopes[kinds[i]](zs[i], activations[i])
        norms.insert(0, np.linalg.norm(delta))
    log_gain = np.log(norms[0]) - np.log(norms[-1])
    found = []
    if log_gain < -np.log(50):
        found.append("vanishing")
    if log_gain > np.log(50):
        found.append("exploding")
    for a, kind in zip(activations, kinds):
        if kind is nn.ReLU and np.mean(np.all(a == 0, axis=0)) > 0.5:
            found.append("dead")
        if kind is nn.Tanh and np.mean(np.abs(a) > 0.95) > 0.5:
            found.append("saturated")
        if kind is nn.Sigmoid and np.mean(np.abs(a - 0.5) > 0.45) > 0.5:
            found.append("saturated")
    u = zs[-1] / np.linalg.norm(zs[-1], axis=1, keepdims=True)
    if (u.sum(0) @ u.sum(0) - len(u)) / (len(u) * (len(u) - 1)) > 0.95:
        found.append("alike")
    return sorted(set(found))


def in_float32(model, x, y):
    return in_one_pass(copy.deepcopy(model).float(), x.float(), y)


def in_float32_in_place(model, x, y):
    return in_one_pass(model.float(), x.float(), y)


def as_a_tuple_with_summed_loss(model, x, y):
    model.zero_grad(set_to_none=True)
    h, kept = x.clone(), []
    for module in model:
        h = module(h)
        if isinstance(module, nn.Linear):
            h.retain_grad()
        kept.append(h)
    F.nll_loss(F.log_softmax(h, 1), y, reduction="sum").backward()
    zs = kept[0:-1:2]
    gain = zs[0].grad.pow(2).mean().sqrt() / zs[-1].grad.pow(2).mean().sqrt()
    names = [gain < 0.02, gain > 50]
    sick = [False, False]
    for module, a in zip(model[1::2], kept[1::2]):
        a = a.detach()
        if isinstance(module, nn.ReLU):
            sick[1] |= int((a.count_nonzero(0) == 0).sum()) * 2 > a.shape[1]
        else:
            slack = a * (1 - a) < 0.0475 if isinstance(module, nn.Sigmoid) else a.abs() > 0.95
            sick[0] |= slack.double().mean().item() > 0.5
    alike = torch.cosine_similarity(zs[-1][:, None], zs[-1][None], dim=2).mean() > 0.95  # the diagonal counts little
    return tuple(
        name for name, is_so in zip(("vanishing", "exploding", "saturated", "dead", "alike"), [*names, *sick, alike]) if is_so
    )


def first_only(*order):
    def diagnose(model, x, y):
        found = in_one_pass(model, x, y)
        return {next(name for name in order if name in found)} if found else set()

    return diagnose


def weight_gradients(last):
    def ratio(model, x, y):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        linears = [m for m in model if isinstance(m, nn.Linear)]
        return (linears[0].weight.grad.norm() / linears[last].weight.grad.norm()).item()

    return with_ratio(ratio)


def with_ratio(ratio):
    return lambda model, x, y: variant(ratio=lambda *_: ratio(model, x, y))(model, x, y)


def trains_it(model, x, y):
    found = in_one_pass(model, x, y)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    optimiser.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimiser.step()
    return found


def zeroes_the_weights(model, x, y):
    found = in_one_pass(model, x, y)
    with torch.no_grad():
        model[0].weight.zero_()
    return found


def relu_of(measure, compare=lambda share: share > 0.5):
    """dead, with another measure of each ReLU layer."""

    def dead(zs, activations, modules, *_):
        return any(compare(measure(a)) for a, m in zip(activations, modules) if isinstance(m, nn.ReLU))

    return variant(dead=dead)


def saturated_if(entries, *kinds):
    """saturated, with another mask of entries, over layers of some kinds."""

    def saturated(zs, activations, modules, *_):
        return any(entries(a).double().mean() > 0.5 for a, m in zip(activations, modules) if isinstance(m, kinds or nn.Module))

    return variant(saturated=saturated)


def over_layers(pick):
    def saturated(zs, activations, modules, *_):
        shares = saturated_shares(activations, modules)
        return bool(shares) and pick(shares) > 0.5

    return variant(saturated=saturated)


def dead_over_layers(pick):
    def dead(zs, activations, modules, *_):
        shares = dead_shares(activations, modules)
        return bool(shares) and pick(shares) > 0.5

    return variant(dead=dead)


def alike_if(choose):
    return variant(alike=lambda *found: fast_cosine(choose(*found)) > 0.95)


alike_by_distance = variant(alike=lambda zs, *_: torch.cdist(zs[-1], zs[-1]).mean() < 0.5)


def mean(values):
    return sum(values) / len(values)


DIAGNOSE_CORRECT = [
    in_one_pass,
    by_hand,
    in_float32,
    in_float32_in_place,
    as_a_tuple_with_summed_loss,
    lambda model, x, y: frozenset(in_one_pass(model, x, y)),
]
DIAGNOSE_SLOW = [with_hooks, by_the_layer_report]

# (answer, a piece of the hint, the points it still earns; None where that depends on the draw)
DIAGNOSE_WRONG = {
    "exchanged": (variant(ratio=lambda z, a, m, o, dz, *_: (dz[-1].norm() / dz[0].norm()).item()), "exchanged", 6),
    "weight gradients": (weight_gradients(-1), "gradients with respect to weights", None),
    "weight gradients, last hidden": (weight_gradients(-2), "gradients with respect to weights", None),
    "activation gradients": (
        variant(ratio=lambda z, a, m, o, dz, da, _: (da[0].norm() / da[-1].norm()).item()),
        "with respect to the activations a",
        7,
    ),
    "over the logits": (
        variant(ratio=lambda z, a, m, o, dz, da, do: (dz[0].norm() / do.norm()).item()),
        "gradient at the logits",
        None,
    ),
    "squared norms": (
        variant(ratio=lambda z, a, m, o, dz, *_: (dz[0].square().sum() / dz[-1].square().sum()).item()),
        "the ratio of the squared norms",
        6,
    ),
    "a root too many": (
        variant(ratio=lambda z, a, m, o, dz, *_: (dz[0].norm() / dz[-1].norm()).sqrt().item()),
        "a root too many",
        6,
    ),
    "one symptom only": (first_only("vanishing", "exploding", "saturated", "dead", "alike"), "You name one symptom", None),
    "one symptom only, units first": (
        first_only("dead", "saturated", "vanishing", "exploding", "alike"),
        "You name one symptom",
        None,
    ),
    "|a| everywhere": (saturated_if(lambda a: a.abs() > 0.95), "You compare |a| with 0.95 in every layer", 6),
    "|a| of bounded units": (saturated_if(lambda a: a.abs() > 0.95, nn.Tanh, nn.Sigmoid), "Sigmoid layers are missed", 6),
    "upper bound only": (saturated_if(lambda a: a > 0.95, nn.Tanh, nn.Sigmoid), "the upper bound only", 6),
    "0 and 1 everywhere": (saturated_if(lambda a: (a < 0.05) | (a > 0.95)), "bounds 0 and 1 in every layer", 6),
    "sigmoids forgotten": (saturated_if(lambda a: a.abs() > 0.95, nn.Tanh), "Sigmoid layers are missed", 6),
    "mean over layers": (over_layers(mean), "One saturated layer is enough", 6),
    "first layer": (over_layers(lambda v: v[0]), "One saturated layer is enough", 6),
    "zeros": (relu_of(lambda a: (a == 0).double().mean()), "A unit is dead only if it is 0 for every row", 6),
    "any row": (relu_of(lambda a: (a == 0).any(0).double().mean()), "A unit is dead only if it is 0 for every row", 6),
    "rows": (relu_of(lambda a: (a == 0).all(1).double().mean()), "“dead” is never named", 6),
    "one dead unit": (relu_of(lambda a: (a == 0).all(0).double().mean(), lambda share: share > 0), "A few dead units are no disease", 6),
    "all dead": (relu_of(lambda a: (a == 0).all(0).double().mean(), lambda share: share == 1), "“dead” is never named", 6),
    "dead, mean over layers": (dead_over_layers(mean), "One dead layer is enough", 6),
    "dead, last layer": (dead_over_layers(lambda v: v[-1]), "One dead layer is enough", 6),
    "inputs": (lambda model, x, y: variant(alike=lambda *_: fast_cosine(x) > 0.95)(model, x, y), "where they enter", 6),
    "first hidden layer": (alike_if(lambda zs, *_: zs[0]), "where they enter", 6),
    "activations": (alike_if(lambda zs, activations, *_: activations[-1]), "You compare activations a", 6),
    "units": (alike_if(lambda zs, *_: zs[-1].T), "(rows are inputs, columns units)", 6),
    "logits": (alike_if(lambda zs, a, m, logits, *_: logits), "You compare the logits", 6),
    "trains the model": (trains_it, "changed the weights of the model", 0),
    "zeroes a weight": (zeroes_the_weights, "changed the weights of the model", 0),
    "unknown name": (lambda model, x, y: {"Vanishing"}, "expected names out of", 0),
    "a string": (lambda model, x, y: "vanishing", "expected a set of names, got a value of type str", 0),
    "a dict": (lambda model, x, y: {"vanishing": True}, "expected a set of names, got a value of type dict", 0),
    # in no list of mistakes: only that the sets differ is known
    "no saturation": (variant(saturated=lambda *_: False), "“saturated” is never named", 6),
    "the loss itself": (with_ratio(lambda model, x, y: F.cross_entropy(model(x), y).item()), "the ratio of the norms is", None),
    "alike by distance": (alike_by_distance, "(rows are inputs, columns units)", 6),
    "slope instead of saturation": (saturated_if(lambda a: (a - a.mean()).abs() > 0.45), "share of saturated entries in a layer is", 6),
}

# --- repair -------------------------------------------------------------------------------------------------

FIELDS = ("activation", "sigma_w2", "norm", "skip", "clip", "lr")
CRITICAL = {"tanh": 1.0, "relu": 2.0, "selu": 1.0}


def fields(report):
    return {field: report[field] for field in FIELDS}


def by_cause(report):
    """One remedy for each cause, another where a field has to stay."""
    keep, recipe = report["keep"], fields(report)
    match report["causes"]:
        case ["learning rate too large"]:
            recipe.update({"clip": 0.1} if "lr" in keep else {"lr": 0.01})
        case ["unscaled skips"]:
            recipe.update({"clip": 1.0} if "skip" in keep else {"skip": "scaled"})
        case ["weights too large"] | ["weights too small"]:
            recipe.update({"norm": "batch"} if "sigma_w2" in keep else {"sigma_w2": CRITICAL[report["activation"]]})
        case ["flat activation"]:
            recipe["skip"] = "unscaled"
    return recipe


def skips_first(report):
    """Scaled skips for whatever is wrong between the layers, else the norm, else the scale; the report is made the recipe."""
    cause, keep = (report["causes"] or [None])[0], report["keep"]
    if cause is None:
        return report
    if cause == "learning rate too large":
        if "lr" in keep:
            report["clip"] = 0.05
        else:
            report["lr"] = 0.03
    elif "skip" not in keep:
        report["skip"] = "scaled"
        if "sigma_w2" not in keep and cause == "weights too large":
            report["sigma_w2"] = 1
    elif "norm" not in keep:
        report["norm"] = "batch"
    else:
        report["sigma_w2"] = 2 if report["activation"] == "relu" else 1
    return report


def norms_first(report):
    recipe = {k: v for k, v in report.items() if k not in ("causes", "keep")}
    for cause in report["causes"]:
        if "rate" in cause:
            recipe["lr"], recipe["clip"] = (report["lr"], 0.1) if "lr" in report["keep"] else (np.float32(0.02), 1.0)
        elif "norm" not in report["keep"]:
            recipe["norm"] = "batch"
        elif "skip" not in report["keep"]:
            recipe["skip"] = "scaled"
            if "large" in cause:
                recipe["sigma_w2"] = torch.tensor(1.0)
        else:
            recipe["sigma_w2"] = np.float64(CRITICAL[recipe["activation"]])
    return recipe


def new_activation(report):
    """tanh at its critical scale where the activation is free."""
    recipe, keep = dict(report), set(report["keep"])
    causes = set(report["causes"])
    if "learning rate too large" in causes:
        recipe["lr" if "lr" not in keep else "clip"] = 0.02 if "lr" not in keep else 0.1
    elif causes and not {"activation", "sigma_w2"} & keep:
        recipe |= {"activation": "tanh", "sigma_w2": 1.0}
    elif causes and "skip" not in keep:
        recipe["skip"] = "scaled"
        recipe["norm"] = "layer" if "norm" not in keep else None
    elif causes:
        recipe |= {"norm": "layer"}
    return recipe


def he_relu(report):
    """ReLU at He's scale where both are free, by hand-made false for nothing."""
    recipe, keep = fields(report), report["keep"]
    if report["clip"] is None:
        recipe["clip"] = False
    if report["causes"] == ["learning rate too large"]:
        if "lr" in keep:
            recipe["clip"] = 0.1
        else:
            recipe["lr"] = report["lr"] / 100
    elif report["causes"] == ["unscaled skips"]:
        recipe["activation" if "activation" not in keep else "skip"] = "tanh" if "activation" not in keep else "scaled"
    elif report["causes"]:
        if "activation" in keep:
            recipe["skip"] = "scaled"
        elif "sigma_w2" in keep:
            recipe["norm"] = "batch"
        else:
            recipe["activation"], recipe["sigma_w2"] = "relu", 2
    return recipe


def by_trial(report):
    """Train candidates with the course's own package and take the first that learns."""
    from labcheck.questions.lab11 import trained

    if not report["causes"]:
        return fields(report)
    candidates = [{"lr": 0.02}, {"clip": 0.1}, {"sigma_w2": 1.0}, {"sigma_w2": 2.0}, {"skip": "scaled"}, {"norm": "batch"}]
    for change in candidates:
        recipe = fields(report) | change
        changed = [f for f in FIELDS if recipe[f] != report[f]]
        if changed and not set(changed) & set(report["keep"]):
            if trained(report["depth"], *(recipe[f] for f in FIELDS)) > 0.65:
                return recipe


def but(**changes):
    """by_cause, with the same changes to every recipe; a change may be a function of the report."""

    def repair(report):
        return by_cause(report) | {k: v(report) if callable(v) else v for k, v in changes.items()}

    return repair


def only_for(cause, change):
    """by_cause, but for one cause: there another change to the report."""

    def repair(report):
        if cause not in report["causes"]:
            return by_cause(report)
        return fields(report) | (change(report) if callable(change) else change)

    return repair


def everything(report):
    if not report["causes"] or not report["keep"]:
        return by_cause(report)
    return {"activation": "tanh", "sigma_w2": 1.0, "norm": "layer", "skip": "scaled", "clip": 1.0, "lr": 0.02}


def ignoring_keep(report):
    return by_cause(report | {"keep": []})


def without(field):
    def repair(report):
        recipe = by_cause(report)
        del recipe[field]
        return recipe

    return repair


def choked(report):
    return {"clip": 1e-9} | ({"norm": "layer"} if "skip" in report["keep"] else {"skip": "scaled"})


REPAIR_CORRECT = [by_cause, skips_first, norms_first, new_activation, he_relu]

REPAIR_WRONG = {
    "nothing changed": (fields, "something has to change", 0),
    "everything changed": (everything, "fields that must stay (keep)", None),
    "keep ignored": (ignoring_keep, "fields that must stay (keep)", None),
    "healthy ones changed": (
        lambda report: by_cause(report) | ({} if report["causes"] else {"norm": "layer"}),
        "nothing needs repair",
        6,
    ),
    "every learning rate made round": (
        lambda r: by_cause(r) | ({} if r["causes"] and "rate" not in str(r["causes"]) or "lr" in r["keep"] else {"lr": 0.03}),
        "nothing needs repair",
        6,
    ),
    "three changes": (
        lambda report: by_cause(report) | ({"lr": 0.03, "clip": 5.0} if report["causes"] == ["flat activation"] else {}),
        "2 at most may change",
        6,
    ),
    "clipping for the vanishing": (only_for("flat activation", {"clip": 1.0}), "it cannot bring back one that vanishes", 6),
    "learning rate for the vanishing": (only_for("flat activation", {"lr": 1.0}), "multiplies all layers alike", 6),
    "scale for the sigmoid": (only_for("flat activation", {"sigma_w2": 2.0}), "slope is at most 1/4", 6),
    "critical scale for the sigmoid": (only_for("flat activation", {"sigma_w2": 103.0}), "slope is at most 1/4", 6),
    "small learning rate for the exploding": (
        only_for("unscaled skips", {"lr": 0.001}),
        "Smaller steps leave the factor",
        6,
    ),
    "tight clipping for the exploding": (only_for("unscaled skips", {"clip": 0.01}), "Smaller steps leave the factor", 6),
    "smaller weights in place of larger": (
        only_for("weights too small", lambda r: {"sigma_w2": r["sigma_w2"] / 2}),
        "each activation has a critical scale of its own",
        6,
    ),
    "another activation at the same scale": (
        only_for("weights too small", {"activation": "silu"}),
        "each activation has a critical scale of its own",
        6,
    ),
    "loose clipping": (only_for("learning rate too large", {"clip": 100.0}), "moves the weights by up to", None),
    "still too fast": (
        lambda r: by_cause(r) | ({"lr": r["lr"] / 1.5} if "rate" in str(r["causes"]) and "lr" not in r["keep"] else {}),
        "The steps are still too large",
        6,
    ),
    "far too slow": (
        lambda r: by_cause(r) | ({"lr": 1e-6} if "rate" in str(r["causes"]) and "lr" not in r["keep"] else {}),
        "steps are now so small",
        6,
    ),
    "scale for large steps": (only_for("learning rate too large", {"activation": "linear"}), "as large as they were", 6),
    "no lr": (without("lr"), "has no field 'lr'", 0),
    "lr 0": (but(lr=0), "lr must be above 0", 0),
    "unknown activation": (but(activation="swish"), "activation must be one of", 0),
    "skip True": (but(skip=True), "skip must be one of", 0),
    "norm by its class": (but(norm="LayerNorm"), "norm must be one of", 0),
    "clip as text": (but(clip="1"), "clip: expected a number", 0),
    "another depth": (but(depth=3), "the depth is given", 0),
    "a list": (lambda report: list(by_cause(report).items()), "expected a dict, got a value of type list", 0),
    # in no list of mistakes
    "the right remedy, choked": (only_for("unscaled skips", choked), "Ask which factor", 6),
}

CORRECT = {"diagnose": DIAGNOSE_CORRECT, "repair": REPAIR_CORRECT}
CORRECT_SLOW = {"diagnose": DIAGNOSE_SLOW, "repair": [by_trial]}
WRONG = {"diagnose": DIAGNOSE_WRONG, "repair": REPAIR_WRONG}
