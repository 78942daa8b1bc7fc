"""Answers to lab 01: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# --- grad_norms ---------------------------------------------------------------------------------------------


def by_backward(model, x, y):
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    return {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None and p.ndim > 1}


def by_backward_with_zeros(model, x, y):
    model.zero_grad(set_to_none=False)
    nn.CrossEntropyLoss()(model(x), y).backward()
    found = {}
    for name, p in model.named_parameters():
        if "weight" in name and p.grad is not None:
            found[name] = float(torch.sqrt(torch.sum(p.grad**2)))
    return found


def by_autograd(model, x, y):
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and p.dim() >= 2]
    loss = -torch.log_softmax(model(x), 1)[torch.arange(len(y)), y].mean()
    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    return {n: np.linalg.norm(g.numpy().ravel()) for (n, _), g in zip(named, gradients) if g is not None}


def by_hand(model, x, y):
    for p in model.parameters():
        p.grad = None
    (F.nll_loss(torch.log_softmax(model(x), -1), y, reduction="sum") / x.shape[0]).backward()
    return {
        n: math.sqrt(sum(g**2 for g in p.grad.flatten().tolist()))
        for n, p in model.named_parameters()
        if not n.endswith("bias") and p.grad is not None
    }


def by_hooks(model, x, y):
    caught = {}
    handles = [
        p.register_hook(lambda g, n=n: caught.__setitem__(n, g.norm().item()))
        for n, p in model.named_parameters()
        if p.ndim > 1 and p.requires_grad
    ]
    F.cross_entropy(model(x), y).backward()
    for handle in handles:
        handle.remove()
    return caught


def without_zeros(model, x, y):
    weights = dict(model.named_parameters())
    gradients = torch.func.grad(lambda w: F.cross_entropy(torch.func.functional_call(model, w, x), y))(weights)
    return {
        n: torch.linalg.norm(g).item() for n, g in gradients.items() if g.ndim > 1 and weights[n].requires_grad and g.any()
    }


def with_a_step(model, x, y):
    found = by_backward(model, x, y)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return found


def in_float32(model, x, y):
    return {n: torch.tensor(float(v), dtype=torch.float32) for n, v in by_backward(model, x, y).items()}


def norms_with(norm=lambda g: g.norm(), loss=F.cross_entropy, clear=True, keep=lambda n, p: p.ndim > 1 and p.grad is not None):
    def answer(model, x, y):
        if clear:
            model.zero_grad()
        loss(model(x), y).backward()
        return {n: float(norm(p.grad if p.grad is not None else torch.zeros(1))) for n, p in model.named_parameters() if keep(n, p)}

    return answer


def cleared_at_the_end(model, x, y):
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    model.zero_grad(set_to_none=False)
    return {n: p.grad.norm().item() for n, p in model.named_parameters() if p.grad is not None and p.ndim > 1}


def without_none(model, x, y):
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    return {n: p.grad.norm().item() for n, p in model.named_parameters() if p.ndim > 1}


def as_list(model, x, y):
    return list(by_backward(model, x, y).values())


def by_position(model, x, y):
    return {f"layer {i}": v for i, v in enumerate(by_backward(model, x, y).values(), 1)}


def without_graph(model, x, y):
    with torch.no_grad():
        loss = F.cross_entropy(model(x), y)
    loss.backward()
    return by_backward(model, x, y)


def of_weights(model, x, y):
    return {n: p.detach().norm().item() for n, p in model.named_parameters() if n in by_backward(model, x, y)}


def relative(model, x, y):
    norms = {n: float(v) for n, v in by_backward(model, x, y).items()}
    last = list(norms.values())[-1]
    return {n: v / last for n, v in norms.items()}


NORMS_CORRECT = [by_backward, by_backward_with_zeros, by_autograd, by_hand, by_hooks, in_float32]
NORMS_WRONG = {
    "sum of entries": (norms_with(lambda g: g.sum()), "positive and negative ones cancel", 0),
    "squared": (norms_with(lambda g: (g * g).sum()), "These are squared norms", 0),
    "mean |g|": (norms_with(lambda g: g.abs().mean()), "This is the mean of |g|", 0),
    "rms": (norms_with(lambda g: (g * g).mean() ** 0.5), "root of the *mean* square", 0),
    "1-norm": (norms_with(lambda g: g.abs().sum()), "the 1-norm", 0),
    "maximum": (norms_with(lambda g: g.abs().max()), "the largest |g|", 0),
    "spectral": (norms_with(lambda g: torch.linalg.matrix_norm(g, 2) if g.ndim > 1 else g.norm()), "ord=2", 0),
    "mean of rows": (norms_with(lambda g: g.norm(dim=1).mean()), "averaged the norms of the rows", 0),
    "summed loss": (norms_with(loss=nn.CrossEntropyLoss(reduction="sum")), "as the batch has samples", 0),
    "softmax twice": (norms_with(loss=lambda z, y: F.cross_entropy(z.softmax(1), y)), "takes logits", 0),
    "sum of outputs": (norms_with(loss=lambda z, y: z.sum()), "not the sum of the outputs", 0),
    "own prediction": (norms_with(loss=lambda z, y: F.cross_entropy(z, z.argmax(1))), "the targets of the cross-entropy are y", 0),
    "cleared": (cleared_at_the_end, "cleared before you read them", 0),
    "not cleared": (norms_with(clear=False), "backward() adds to them", 5),
    "weights": (of_weights, "norms of the weights", 0),
    "biases too": (norms_with(keep=lambda n, p: p.grad is not None), "only weights are asked for", 5),
    "no kernels": (norms_with(keep=lambda n, p: p.ndim == 2 and p.grad is not None), "It is the kernel of a convolution", 5),
    "no zeros": (without_zeros, "leave out only weights whose gradient is None", 5),
    "a step": (with_a_step, "changed the weights of the model", 0),
    "without gradient too": (norms_with(keep=lambda n, p: p.ndim > 1), "which has no gradient", 5),
    "None not handled": (without_none, "raised AttributeError", 5),
    "list": (as_list, "a dict from names to norms, got a value of type list", 0),
    "names made up": (by_position, "a name from model.named_parameters(); your dict has 'layer 1'", 0),
    "no graph": (without_graph, "raised RuntimeError", 0),
    # no known mistakes
    "relative": (relative, "the root of the sum of squares of the gradient of", 0),
    "negative loss share": (norms_with(loss=lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1)), "the root of the sum of squares of the gradient of", 0),
    "half": (norms_with(lambda g: g.norm() / 2), "the root of the sum of squares of the gradient of", 0),
    "clipped": (norms_with(lambda g: g.norm().clamp(max=0.05)), "the root of the sum of squares of the gradient of", None),
}

# --- train_step ---------------------------------------------------------------------------------------------


def by_library(model, opt, x, y, max_norm):
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    opt.step()
    return loss


def by_loop(model, opt, x, y, max_norm):
    loss = nn.CrossEntropyLoss()(model(x), y)
    model.zero_grad()
    loss.backward()
    total = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None))
    if total > max_norm:
        for p in model.parameters():
            if p.grad is not None:
                p.grad.mul_(max_norm / (total + 1e-6))
    opt.step()
    return loss.item()


def by_gradients(model, opt, x, y, max_norm):
    params = [p for group in opt.param_groups for p in group["params"]]
    loss = F.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, params)
    factor = torch.clamp(max_norm / torch.cat([g.flatten() for g in gradients]).norm(), max=1.0)
    for p, g in zip(params, gradients):
        p.grad = g * factor
    opt.step()
    return float(loss.detach())


def with_zeros(model, opt, x, y, max_norm):
    opt.zero_grad(set_to_none=False)
    loss = (-model(x).log_softmax(1).gather(1, y[:, None])).mean()
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    for p in model.parameters():
        p.grad = p.grad * min(1.0, max_norm / float(norm))
    opt.step()
    return np.float64(loss.item())


def cleared_after(model, opt, x, y, max_norm):
    loss = by_library(model, opt, x, y, max_norm)
    opt.zero_grad()
    return loss.detach().numpy()


def cleared_only_after(model, opt, x, y, max_norm):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    opt.step()
    opt.zero_grad()
    return loss.item()


def cleared_after_without_clip(model, opt, x, y, max_norm):
    return cleared_only_after(model, opt, x, y, math.inf)


def step_with(clear="first", clip="middle", how=nn.utils.clip_grad_norm_, loss=F.cross_entropy, step=True, end=None):
    def answer(model, opt, x, y, max_norm):
        if clip == "first":
            how([p for p in model.parameters() if p.grad is not None], max_norm)
        if clear == "first":
            opt.zero_grad()
        total = loss(model(x), y)
        total.backward()
        if clip == "middle":
            how(list(model.parameters()), max_norm)
        if clear == "middle":
            opt.zero_grad()
        if step:
            opt.step()
        if clip == "last":
            how(list(model.parameters()), max_norm)
        return end(model, x, y, total) if end else total.item()

    return answer


def each(params, limit):
    for p in params:
        p.grad *= min(1, limit / float(p.grad.norm()))


def squared(params, limit):
    total = float(sum((p.grad**2).sum() for p in params))
    for p in params:
        p.grad *= min(1, limit / total)


def always(params, limit):
    total = float(torch.cat([p.grad.flatten() for p in params]).norm())
    for p in params:
        p.grad *= limit / total


def largest(params, limit):
    total = max(float(p.grad.norm()) for p in params)
    for p in params:
        p.grad *= min(1, limit / total)


def half_of_the_limit(params, limit):
    nn.utils.clip_grad_norm_(params, limit / 2)


def without_biases(params, limit):
    nn.utils.clip_grad_norm_([p for p in params if p.ndim > 1], limit)


def scales_weights(model, opt, x, y, max_norm):
    loss = by_library(model, opt, x, y, max_norm)
    with torch.no_grad():
        for p in model.parameters():
            p *= 0.99
    return loss


def without_graph_step(model, opt, x, y, max_norm):
    opt.zero_grad()
    with torch.no_grad():
        loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    return loss.item()


def two_steps(model, opt, x, y, max_norm):
    loss = by_library(model, opt, x, y, max_norm)
    opt.step()
    return loss


def nothing_returned(model, opt, x, y, max_norm):
    by_library(model, opt, x, y, max_norm)
    x.sum()


def new_optimizer(model, opt, x, y, max_norm):
    return by_library(model, torch.optim.SGD(model.parameters(), lr=0.1), x, y, max_norm)


STEP_CORRECT = [by_library, by_loop, by_gradients, with_zeros, cleared_after]
STEP_WRONG = {
    "clip before backward": (step_with(clip="first"), "as without clipping", None),
    "clip after step": (step_with(clip="last"), "as without clipping", None),
    "no clip": (step_with(clip="never"), "as without clipping", None),
    "zero_grad missing": (step_with(clear="never"), "Clear the gradients first", None),
    "zero_grad and clip missing": (step_with(clear="never", clip="never"), "are still there in the second, and nothing is clipped", None),
    "zero_grad at the end": (cleared_only_after, "You clear the gradients at the end, and your first step", 5),
    "zero_grad at the end, no clip": (cleared_after_without_clip, "too late for those with which the model came", None),
    "zero_grad before step": (step_with(clear="middle"), "The weights do not move", None),
    "no step": (step_with(step=False), "The weights do not move", None),
    "by value": (step_with(how=nn.utils.clip_grad_value_), "Each entry is cut off", None),
    "each tensor": (step_with(how=each), "Each tensor is clipped by itself", None),
    "squared norm": (step_with(how=squared), "divide by the squared norm", None),
    "always": (step_with(how=always), "is made longer", None),
    "largest": (step_with(how=largest), "The norm of the largest tensor", None),
    "summed loss": (step_with(loss=lambda z, y: F.cross_entropy(z, y, reduction="sum")), "The loss is a sum over the batch; take", None),
    "softmax twice": (step_with(loss=lambda z, y: F.cross_entropy(z.softmax(1), y)), "takes logits", None),
    "loss after": (step_with(end=lambda m, x, y, t: F.cross_entropy(m(x), y).item()), "*after* the step", 6),
    "loss times N": (step_with(end=lambda m, x, y, t: t.item() * len(x)), "The loss is a sum over the batch; return", 6),
    "loss by N": (step_with(end=lambda m, x, y, t: t.item() / len(x)), "once more", 6),
    "returns norm": (
        step_with(end=lambda m, x, y, t: math.sqrt(sum(float((p.grad**2).sum()) for p in m.parameters()))),
        "A norm of the gradient is returned",
        6,
    ),
    "no graph": (without_graph_step, "raised RuntimeError", 0),
    "nothing returned": (nothing_returned, "returned None", 6),
    "logits": (step_with(end=lambda m, x, y, t: m(x)), "expected one number", 6),
    # no known mistakes
    "half of the limit": (step_with(how=half_of_the_limit), "with the gradient times max_norm/‖g‖", None),
    "biases not clipped": (step_with(how=without_biases), "with the gradient times max_norm/‖g‖", None),
    "weights shrunk": (scales_weights, "of `opt` with the gradient as it is", 1),
    "two steps": (two_steps, "of `opt` with the gradient as it is", 1),
    "own optimiser": (new_optimizer, "of `opt` with the gradient as it is", 1),
}

# --- update_ratios ------------------------------------------------------------------------------------------


def ratios_by_norm(before, after):
    return {name: torch.norm(after[name] - before[name]) / torch.norm(before[name]) for name in after}


def ratios_in_numpy(before, after):
    return {n: np.linalg.norm(after[n].numpy() - w.numpy()) / np.linalg.norm(w.numpy()) for n, w in before.items()}


def ratios_by_squares(before, after):
    found = {}
    for name, w in before.items():
        change = sum((a - b) ** 2 for a, b in zip(after[name].flatten().tolist(), w.flatten().tolist()))
        found[name] = math.sqrt(change / sum(b**2 for b in w.flatten().tolist()))
    return found


def ratios_by_matrix_norm(before, after):
    return {n: float(torch.linalg.matrix_norm(w - after[n]) / torch.linalg.matrix_norm(w)) for n, w in before.items()}


def ratios_by_dist(before, after):
    return {n: np.float32(torch.dist(after[n], w) / torch.dist(w, torch.zeros_like(w))) for n, w in before.items()}


def ratios_with(ratio):
    return lambda before, after: {n: float(ratio(w, after[n])) for n, w in before.items()}


def ratios_zipped(before, after):
    return {
        n: (float((a - w).norm() / w.norm()) if a.shape == w.shape else 0.0) for (n, w), a in zip(before.items(), after.values())
    }


def ratios_rounded(before, after):
    return {n: round(float((after[n] - w).norm() / w.norm()), 7) for n, w in before.items()}


def ratios_of_float32(before, after):
    return {n: float((after[n].float() - w.float()).norm() / w.float().norm()) for n, w in before.items()}


def ratios_in_place(before, after):
    return {n: float(after[n].sub_(w).norm() / w.norm()) for n, w in before.items()}


RATIOS_CORRECT = [ratios_by_norm, ratios_in_numpy, ratios_by_squares, ratios_by_matrix_norm, ratios_by_dist]
RATIOS_WRONG = {
    "by after": (ratios_with(lambda w, a: (a - w).norm() / a.norm()), "divide by that of the old ones", None),
    "change of norm": (ratios_with(lambda w, a: abs(a.norm() - w.norm()) / w.norm()), "which is 0 where a weight only turns", None),
    "signed change of norm": (ratios_with(lambda w, a: a.norm() / w.norm() - 1), "which is 0 where a weight only turns", None),
    "squared": (ratios_with(lambda w, a: ((a - w) ** 2).sum() / (w**2).sum()), "This is the squared ratio", 0),
    "absolute": (ratios_with(lambda w, a: (a - w).norm()), "‖after − before‖ alone", 0),
    "mean of ratios": (ratios_with(lambda w, a: ((a - w) / w).abs().mean()), "mean of the entries' ratios", 0),
    "ratio of means": (ratios_with(lambda w, a: (a - w).abs().mean() / w.abs().mean()), "ratio of means", 0),
    "1-norms": (ratios_with(lambda w, a: (a - w).norm(p=1) / w.norm(p=1)), "ratio of means", 0),
    "largest": (ratios_with(lambda w, a: (a - w).abs().max() / w.abs().max()), "ratio of largest entries", 0),
    "spectral": (ratios_with(lambda w, a: torch.linalg.norm(a - w, 2) / torch.linalg.norm(w, 2)), "its largest singular value", 0),
    "upside down": (ratios_with(lambda w, a: w.norm() / (a - w).norm()), "upside down", 0),
    "no difference": (ratios_with(lambda w, a: a.norm() / w.norm()), "subtract `before` from `after`", 0),
    "by root of size": (ratios_with(lambda w, a: (a - w).norm() / w.numel() ** 0.5), "root of the number of entries", 0),
    "zipped": (ratios_zipped, "not by its place", 4),
    "rounded": (ratios_rounded, "compute in float64, round nothing", None),
    "float32": (ratios_of_float32, "keeps few digits", 4),
    "in place": (ratios_in_place, "changed its input in place", 0),
    "list": (lambda b, a: list(ratios_by_norm(b, a).values()), "a dict from names to ratios, got a value of type list", 0),
    # no known mistakes
    "plus epsilon": (ratios_with(lambda w, a: (a - w).norm() / (w.norm() + 0.01)), "the Frobenius norm of after − before, divided by", None),
    "log": (ratios_with(lambda w, a: torch.log10((a - w).norm() / w.norm())), "the Frobenius norm of after − before, divided by", 0),
    "half": (ratios_with(lambda w, a: (a - w).norm() / w.norm() / 2), "the Frobenius norm of after − before, divided by", 0),
}

# --- lost_update_depth --------------------------------------------------------------------------------------


def depth_in_torch(w, lr, g, factor):
    weight, d = torch.tensor(w, dtype=torch.float32), 0
    while not torch.equal(weight - torch.tensor(lr * g * factor**d, dtype=torch.float32), weight):
        d += 1
    return d


def depth_in_numpy(w, lr, g, factor):
    weight, update, d = np.float32(w), np.float32(lr) * np.float32(g), 0
    while weight - update != weight:
        update = np.float32(update * np.float32(factor))
        d += 1
    return np.int64(d)


def depth_at_once(w, lr, g, factor):
    d = torch.arange(2000, dtype=torch.float64)
    update = (lr * g * factor**d).float()
    weight = torch.tensor(w).float()
    return (weight - update == weight).nonzero()[0, 0]


def depth_in_closed_form(w, lr, g, factor):
    here = np.float32(w)
    there = np.nextafter(here, np.float32(-math.copysign(math.inf, g)))
    half = abs(float(here) - float(there)) / 2
    return max(0, math.ceil(math.log(half / (lr * abs(g))) / math.log(factor)))


def depth_recursive(w, lr, g, factor):
    if torch.tensor([w]).float().sub(torch.tensor([lr * g]).float()).eq(torch.tensor([w]).float()).item():
        return 0
    return 1 + depth_recursive(w, lr, g * factor, factor)


def depth_as_float(w, lr, g, factor):
    return float(depth_in_torch(w, lr, g, factor))


def depth_with(dtype=torch.float32, start=0, shift=0, rate=lambda lr: lr, grad=lambda g: g, factor=lambda f: f, lost=None):
    lost = lost or (lambda weight, update: weight - update == weight)

    def answer(w, lr, g, f):
        weight, d = torch.tensor(w, dtype=dtype), start
        while not lost(weight, torch.tensor(rate(lr) * grad(g) * factor(f) ** d, dtype=dtype)):
            d += 1
        return d + shift

    return answer


def below(limit):
    return lambda weight, update: bool(abs(update.double()) <= limit(weight.double()))


def depth_rounded_once(w, lr, g, factor):
    return next(d for d in range(9999) if np.float32(w - lr * g * factor**d) == np.float32(w))


def depth_not_rounded(w, lr, g, factor):
    return math.log(float(np.spacing(np.float32(abs(w)))) / 2 / (lr * abs(g))) / math.log(factor)


def depth_by_spacing(w, lr, g, factor):
    half = float(np.spacing(np.float32(abs(w)))) / 2
    return max(0, math.ceil(math.log(half / (lr * abs(g))) / math.log(factor)))


def depth_by_spacing_below(w, lr, g, factor):
    here = np.float32(abs(w))
    half = float(here - np.nextafter(here, np.float32(0))) / 2
    return max(0, math.ceil(math.log(half / (lr * abs(g))) / math.log(factor)))


LOST_CORRECT = [depth_in_torch, depth_in_numpy, depth_at_once, depth_in_closed_form, depth_recursive, depth_as_float]
LOST_WRONG = {
    "float64": (depth_with(torch.float64), "the depth for float64", None),
    "Python floats": (lambda w, lr, g, f: next(d for d in range(9999) if w - lr * g * f**d == w), "the depth for float64", None),
    "float16": (depth_with(torch.float16), "the depth for float16", None),
    "bfloat16": (depth_with(torch.bfloat16), "the depth for bfloat16", None),
    "one too many": (depth_with(shift=1), "One too many", 0),
    "one too few": (depth_with(shift=-1), "One too few", 0),
    "from 1": (depth_with(start=1), "The search starts at d = 1", 4),
    "no learning rate": (depth_with(rate=lambda lr: 1.0), "The learning rate has no effect", None),
    "no gradient": (depth_with(grad=lambda g: 1.0), "The gradient g has no effect", None),
    "update is 0": (depth_with(lost=lambda w, u: bool(u == 0)), "You wait until the update itself is 0", None),
    "machine epsilon": (depth_with(lost=below(lambda w: 2.0**-23)), "You compare with a fixed limit", None),
    "eps times w": (depth_with(lost=below(lambda w: abs(w) * 2.0**-23)), "You compare the update with eps·|w|", None),
    "half eps times w": (depth_with(lost=below(lambda w: abs(w) * 2.0**-24)), "half of eps·|w|", None),
    "whole gap": (depth_with(lost=below(lambda w: float(np.spacing(np.float32(abs(w)))))), "from half the gap", None),
    "gap above": (depth_by_spacing, "A power of two has two gaps", 4),
    "gap below": (depth_by_spacing_below, "A power of two has two gaps", 4),
    "added": (depth_with(grad=lambda g: -g), "Your update is added", 4),
    "rounded once": (depth_rounded_once, "You round only the difference", None),
    "size of g": (depth_with(grad=abs), "The sign of g has no effect", 4),
    "not rounded": (depth_not_rounded, "round up", None),
    "factor squared": (depth_with(factor=lambda f: f * f), "by factor² per layer", None),
    "root of factor": (depth_with(factor=lambda f: f**0.5), "by the root of factor", None),
    "None": (lambda w, lr, g, f: None if g > 0 else None, "returned None", 0),
    "list": (lambda w, lr, g, f: [depth_in_torch(w, lr, g, f)], "got a value of type list", 0),
    # no known mistakes
    "constant": (lambda w, lr, g, f: 12, "the same for every input", 0),
    "five more": (lambda w, lr, g, f: 5 + depth_in_torch(w, lr, g, f), "the first d at which float32(w)", None),
}

CORRECT = {"grad_norms": NORMS_CORRECT, "train_step": STEP_CORRECT, "update_ratios": RATIOS_CORRECT, "lost_update_depth": LOST_CORRECT}
CORRECT_SLOW = {}
WRONG = {"grad_norms": NORMS_WRONG, "train_step": STEP_WRONG, "update_ratios": RATIOS_WRONG, "lost_update_depth": LOST_WRONG}
