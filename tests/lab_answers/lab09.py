"""Answers to lab 09: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import math

import numpy as np
import torch
from torch import nn

from signalprop import clipping

# --- clip_ --------------------------------------------------------------------------------------------------


def grads_of(params):
    return [p.grad for p in params if p.grad is not None]


def joint(params):
    return math.sqrt(sum(float(g.square().sum()) for g in grads_of(params)))


def by_list_of_norms(params, max_norm):
    grads = grads_of(params)
    total = torch.stack([g.norm() for g in grads]).norm()
    for g in grads:
        g.mul_(torch.clamp(max_norm / (total + 1e-6), max=1.0))
    return total


def by_one_vector(params, max_norm):
    total = torch.cat([g.flatten() for g in grads_of(params)]).norm().item()
    if total >= max_norm:
        for p in params:
            if p.grad is not None:
                p.grad *= max_norm / total
    return total


def by_new_gradients(params, max_norm):
    total = joint(params)
    factor = min(1.0, max_norm / max(total, 1e-12))
    for p in params:
        if p.grad is not None:
            p.grad = p.grad * factor
    return np.float64(total)


def through_data(params, max_norm):
    total = 0.0
    for p in params:
        if p.grad is None:
            continue
        total += p.grad.data.norm(2).item() ** 2
    total = total**0.5
    coefficient = max_norm / (total + 1e-6)
    if coefficient < 1:
        for p in params:
            if p.grad is not None:
                p.grad.data.mul_(coefficient)
    return total


def by_numpy(params, max_norm):
    arrays = [g.numpy() for g in grads_of(params)]  # they share their memory with the gradients
    total = np.linalg.norm(np.concatenate([a.ravel() for a in arrays]))
    if total > max_norm:
        for a in arrays:
            a *= max_norm / total
    return total


def norm_in_float32(params, max_norm):
    total = torch.cat([g.float().view(-1) for g in grads_of(params)]).norm()
    for g in grads_of(params):
        g.copy_(g * torch.minimum(torch.tensor(1.0), max_norm / total))
    return torch.tensor([total])


def with_foreach(params, max_norm):
    grads = grads_of(params)
    total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    if total > max_norm:
        torch._foreach_mul_(grads, (max_norm / total).item())
    return total


def with_zeros_for_none(params, max_norm):
    for p in params:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    return nn.utils.clip_grad_norm_(params, max_norm)


def with_root_floor(params, max_norm):
    total = math.sqrt(sum((g**2).sum().item() for g in grads_of(params)) + 1e-12)
    for g in grads_of(params):
        g /= max(1.0, total / max_norm)
    return total


def clip_with(norm, factor=None, answer=None, change=None):
    """clip_ with its parts: norm(grads), factor(norm, max_norm), what to return, and what to do with each gradient."""

    def clip_(params, max_norm):
        grads = grads_of(params)
        total = norm(grads)
        f = factor(total, max_norm) if factor else min(1.0, max_norm / total) if total else 1.0
        for g in grads:
            change(g, f) if change else g.mul_(f)
        return answer(total, f, max_norm) if answer else total

    return clip_


def root(grads):
    return math.sqrt(sum(float(g.square().sum()) for g in grads))


def each_by_itself(params, max_norm):
    total = joint(params)
    for p in params:
        if p.grad is not None:
            nn.utils.clip_grad_norm_([p], max_norm)
    return total


def by_value(params, max_norm):
    total = joint(params)
    nn.utils.clip_grad_value_(params, max_norm)
    return total


def scales_the_weights(params, max_norm):
    total = joint(params)
    with torch.no_grad():
        for p in params:
            p.mul_(min(1, max_norm / total) if total else 1)
    return total


def scales_both(params, max_norm):
    scales_the_weights(params, max_norm)
    return by_one_vector(params, max_norm)


def steps_too(params, max_norm):
    total = by_one_vector(params, max_norm)
    for p in params:
        if p.grad is not None:
            p.data -= 0.1 * p.grad
    return total


def rebinds(params, max_norm):
    total = joint(params)
    for g in grads_of(params):
        g = g * min(1, max_norm / (total + 1e-6))
    return total


def stops_at_none(params, max_norm):
    kept = []
    for p in params:
        if p.grad is None:
            break
        kept.append(p)
    return clip_with(root)(kept, max_norm)


def none_not_skipped(params, max_norm):
    return clip_with(root)([nn.Parameter(p.detach()) if p.grad is None else p for p in params if p.grad.norm() >= 0], max_norm)


def without_return(params, max_norm):
    by_one_vector(params, max_norm)


def last_norm(params, max_norm):
    for p in params:
        total = 0.0
        if p.grad is not None:
            total = total + (p.grad**2).sum()
            kept = total
    total = kept.sqrt()
    return clip_with(lambda grads: float(total))(params, max_norm)


def weights_norm(params, max_norm):
    total = math.sqrt(sum(float(p.detach().square().sum()) for p in params))
    return clip_with(lambda grads: total)(params, max_norm)


def only_the_first(params, max_norm):
    total = joint(params)
    grads_of(params)[0].mul_(min(1.0, max_norm / total) if total else 1.0)
    return total


def nan_at_zero(params, max_norm):
    total = torch.cat([g.flatten() for g in grads_of(params)]).norm()
    for g in grads_of(params):
        if not total > max_norm:
            g *= max_norm / total * total / max_norm
        else:
            g *= max_norm / total
    return total


def squares_in_place(params, max_norm):
    total = sum(g.pow_(2).sum() for g in grads_of(params)) ** 0.5
    return clip_with(lambda grads: float(total))(params, max_norm)


def in_the_loop(params, max_norm):
    total = 0.0
    for g in grads_of(params):  # clips by the norm that it knows so far
        total += float(g.square().sum())
        g *= min(1.0, max_norm / math.sqrt(total)) if total else 1.0
    return math.sqrt(total)


def removes(params, max_norm):
    total = joint(params)
    for p in params:
        if total > max_norm:
            p.grad = None
    return total


def float_division(params, max_norm):
    total = joint(params)
    factor = max_norm / total
    for g in grads_of(params):
        if factor < 1:
            g *= factor
    return total


CLIP_CORRECT = [
    nn.utils.clip_grad_norm_,
    clipping.clip_,
    by_list_of_norms,
    by_one_vector,
    by_new_gradients,
    through_data,
    by_numpy,
    norm_in_float32,
    with_foreach,
    with_zeros_for_none,
    with_root_floor,
    lambda params, max_norm: nn.utils.clip_grad_norm_(iter(params), max_norm, foreach=False),
]


def spectral(grads):
    return math.hypot(*(torch.linalg.norm(g, 2) if g.ndim == 2 else g.norm() for g in grads))


def over(size):
    return lambda total, max_norm: size(total, max_norm) if total > max_norm else 1.0


# (answer, a piece of the hint, the points it still earns; None where that depends on the draw)
CLIP_WRONG = {
    "each by itself": (each_by_itself, "Each tensor is clipped by itself, so", 4),
    "by value": (by_value, "You clamp each entry to ±max_norm", 4),
    "root missing": (clip_with(lambda gs: root(gs) ** 2), "25 is the squared norm", 0),
    "root missing, as returned alone": (clip_with(root, answer=lambda t, f, m: t**2), "25 is the squared norm", 4),
    "root missing, factor alone": (
        clip_with(root, lambda t, m: min(1, m / t**2) if t else 1),
        "but scale by the squared one",
        2,
    ),
    "norm after": (clip_with(root, answer=lambda t, f, m: t * f), "You return the norm after clipping", 4),
    "weights scaled": (scales_the_weights, "The weights changed", 2),
    "weights scaled, too": (scales_both, "The weights changed", 4),
    "makes the step": (steps_too, "The weights changed", 2),
    "largest tensor": (clip_with(lambda gs: max(g.norm().item() for g in gs)), "the largest tensor's norm", 2),
    "sum of norms": (clip_with(lambda gs: sum(g.norm().item() for g in gs)), "You add up the norms of the tensors", 0),
    "mean of norms": (clip_with(lambda gs: np.mean([g.norm().item() for g in gs])), "the mean of the tensors' norms", 2),
    "1-norm": (clip_with(lambda gs: sum(g.abs().sum().item() for g in gs)), "That is the 1-norm", 0),
    "∞-norm": (lambda p, m: nn.utils.clip_grad_norm_(p, m, norm_type=math.inf), "the norm with p = ∞", 2),
    "root mean square": (
        clip_with(lambda gs: torch.cat([g.flatten() for g in gs]).square().mean().sqrt().item()),
        "the root mean square, not the norm",
        2,
    ),
    "spectral norm": (clip_with(spectral), "the spectral norm, the largest singular value", 2),
    "last tensor": (last_norm, "Only the last gradient counts in your norm", 2),
    "first tensor": (clip_with(lambda gs: gs[0].norm().item()), "Only the first gradient counts in your norm", 2),
    "norm of the weights": (weights_norm, "You measure the weights", None),
    "stops at None": (stops_at_none, "You stop at the first parameter without", 6),
    "None not skipped": (none_not_skipped, "raised AttributeError", 6),
    "always scaled": (clip_with(root, lambda t, m: m / t if t else 1), "You scale always", 5),
    "minimum and maximum mixed up": (
        clip_with(root, lambda t, m: max(1, m / t) if t else 1),
        "You scale where the norm is below max_norm",
        2,
    ),
    "factor upside down": (clip_with(root, lambda t, m: max(1, t / m)), "The factor is upside down", 4),
    "factor twice": (clip_with(root, lambda t, m: min(1, m / t) ** 2 if t else 1), "The factor is applied twice", 4),
    "max_norm ignored": (clip_with(root, lambda t, m: min(1, 1 / t) if t else 1), "max_norm has no effect", 2),
    "norm becomes 1": (clip_with(root, over(lambda t, m: 1 / t)), "The clipped gradient has norm 1", 4),
    "times max_norm": (clip_with(root, over(lambda t, m: m)), "without dividing by ‖g‖", 4),
    "zeros": (clip_with(root, over(lambda t, m: 0)), "Large gradients become 0", 4),
    "only the first": (only_the_first, "Only the first gradient is scaled", 4),
    "nothing changes": (rebinds, "No gradient changes", 2),
    "returns the factor": (clip_with(root, answer=lambda t, f, m: f), "You return the factor", 4),
    "returns the ratio": (clip_with(root, answer=lambda t, f, m: m / t if t else 1), "You return max_norm/‖g‖", 4),
    "returns max_norm": (clip_with(root, answer=lambda t, f, m: m), "You return max_norm itself", 4),
    "returns a bool": (clip_with(root, answer=lambda t, f, m: float(t > m)), "You return whether", 4),
    "returns nothing": (without_return, "returned None", 4),
    "returns norms": (clip_with(root, answer=lambda t, f, m: [t, t * f]), "a value of type list", 4),
    "NaN at zero": (nan_at_zero, "yours become NaN", 5),
    "division by zero": (float_division, "raised ZeroDivisionError", None),
    "gradients removed": (removes, "some p.grad is None", 4),
    # no known mistakes
    "squares in place": (squares_in_place, "Check the norm, and that each p.grad is scaled exactly once", None),
    "clips on the way": (in_the_loop, "Check the norm, and that each p.grad is scaled exactly once", None),
    "half the norm": (clip_with(lambda gs: root(gs) / 2), "Check the norm, and that each p.grad is scaled exactly once", None),
    "θ/(1 + ‖g‖)": (
        clip_with(root, lambda t, m: min(1, m / (1 + t))),
        "Check the norm, and that each p.grad is scaled exactly once",
        None,
    ),
    "root of the factor": (
        clip_with(root, lambda t, m: min(1, m / t) ** 0.5 if t else 1),
        "Check the norm, and that each p.grad is scaled exactly once",
        4,
    ),
}

# --- agc ----------------------------------------------------------------------------------------------------


def length(x):
    return x.norm(dim=1, keepdim=True)


def by_where(W, G, lam=0.01, eps=1e-3):
    limit = lam * length(W).clamp(min=eps)
    size = length(G)
    return torch.where(size > limit, G * (limit / size.clamp(min=1e-6)), G)


def by_minimum(W, G, lam=0.01, eps=0.001):
    limit = lam * torch.maximum(torch.linalg.vector_norm(W, dim=-1), torch.tensor(eps, dtype=W.dtype))
    factor = torch.clamp(limit / (torch.linalg.vector_norm(G, dim=-1) + 1e-6), max=1)
    return factor[:, None] * G


def by_rows(W, G, lam=0.01, eps=1e-3):
    out = G.clone()
    for i in range(len(W)):
        limit = lam * max(W[i].norm().item(), eps)
        size = math.sqrt(sum(x * x for x in G[i].tolist()))
        if size >= limit:
            out[i] *= limit / size
    return out


def in_numpy(W, G, lam=0.01, eps=1e-3):
    W, G = W.numpy(), G.numpy()
    ratio = np.linalg.norm(G, axis=1) / np.maximum(np.linalg.norm(W, axis=1), eps)
    return G / np.maximum(1, ratio / lam)[:, None]


def in_float32(W, G, lam=0.01, eps=1e-3):
    return by_where(W.float(), G.float(), lam, eps)


def by_transposes(W, G, lam=0.01, eps=1e-3):
    scale = torch.diag((lam * W.norm(dim=1).clamp_min(eps) / G.norm(dim=1)).nan_to_num(1, 1).clamp(max=1))
    return scale @ G


def by_renorm(W, G, lam=0.01, eps=1e-3):
    return torch.stack([torch.renorm(g[None], 2, 0, lam * max(float(w.norm()), eps))[0] for w, g in zip(W, G)])


def by_comprehension(W, G, lam=0.01, eps=1e-3):
    def unit(w, g):
        limit = lam * max(eps, math.hypot(*w))
        size = math.hypot(*g)
        return [x * min(1, limit / size) if size else x for x in g]

    return torch.tensor([unit(w, g) for w, g in zip(W.tolist(), G.tolist())])


AGC_CORRECT = [clipping.agc, by_where, by_minimum, by_rows, in_numpy, in_float32, by_transposes, by_renorm, by_comprehension]


def agc_with(limit=None, size=None, above=None, below=None):
    """agc with its parts: the limit of (W, lam, eps), the size of G, and what becomes of G above the limit and below."""

    def agc(W, G, lam=0.01, eps=1e-3):
        t = limit(W, lam, eps) if limit else lam * length(W).clamp(min=eps)
        s = size(G) if size else length(G)
        return torch.where(s > t, above(G, t, s) if above else G * t / s, below(G, t, s) if below else G)

    return agc


def default(lam, eps):
    return lambda W, G, lam=lam, eps=eps: by_where(W, G, lam, eps)


def no_defaults(W, G, lam, eps):
    return by_where(W, G, lam, eps)


def overwrites(W, G, lam=0.01, eps=1e-3):
    G *= torch.clamp(lam * length(W).clamp(min=eps) / length(G), max=1).nan_to_num(1)
    return G


def shape_of_factor(W, G, lam=0.01, eps=1e-3):
    return torch.clamp(lam * length(W).clamp(min=eps) / length(G), max=1)


def nan_rows(W, G, lam=0.01, eps=1e-3):
    unit = G / length(G)
    return unit * torch.minimum(length(G), lam * length(W).clamp(min=eps))


def broadcast_wrong(W, G, lam=0.01, eps=1e-3):
    return G * torch.clamp(lam * W.norm(dim=1).clamp(min=eps) / G.norm(dim=1), max=1)


def gathers(W, G, lam=0.01, eps=1e-3):
    limit = lam * length(W).clamp(min=eps)
    return torch.where((length(G) > limit).any(), G * limit / length(G).clamp(min=1e-9), G)


AGC_WRONG = {
    "layer-wise": (agc_with(lambda W, l, e: l * W.norm().clamp(min=e), lambda G: G.norm()), "All rows have the same factor", 0),
    "floor missing": (agc_with(lambda W, l, e: l * length(W)), "The floor ε is missing", 3),
    "weights ignored": (agc_with(lambda W, l, e: l), "The weights have no effect", 0),
    "norm of the whole W": (
        agc_with(lambda W, l, e: l * W.norm().clamp(min=e)),
        "compare it with the norm of its own row, ‖W_i‖",
        0,
    ),
    "norm of the whole G": (agc_with(size=lambda G: G.norm()), "compare it with the norm of its own row, ‖G_i‖", 0),
    "columns": (
        agc_with(lambda W, l, e: l * W.norm(dim=0).clamp(min=e), lambda G: G.norm(dim=0)),
        "You take norms of columns",
        0,
    ),
    "small W unclipped": (
        lambda W, G, lam=0.01, eps=1e-3: torch.where(length(W) < eps, G, by_where(W, G, lam, eps)),
        "Rows with ‖W_i‖ < ε are left unclipped",
        3,
    ),
    "zero W unclipped": (
        lambda W, G, lam=0.01, eps=1e-3: torch.where(length(W) == 0, G, by_where(W, G, lam, eps)),
        "Rows with W_i = 0 are left unclipped",
        3,
    ),
    "floor only at 0": (
        agc_with(lambda W, l, e: l * torch.where(length(W) == 0, e, length(W))),
        "ε replaces only a norm of exactly 0",
        3,
    ),
    "ε added": (agc_with(lambda W, l, e: l * (length(W) + e)), "You add ε to ‖W_i‖", 0),
    "ε² under the root": (agc_with(lambda W, l, e: l * (W.square().sum(1, True) + e**2).sqrt()), "You add ε² under", None),
    "ε under the root": (agc_with(lambda W, l, e: l * (W.square().sum(1, True) + e).sqrt()), "You add ε under", 0),
    "floor on the limit": (agc_with(lambda W, l, e: (l * length(W)).clamp(min=e)), "The floor ε is applied to λ‖W_i‖", None),
    "ceiling": (agc_with(lambda W, l, e: l * length(W).clamp(max=e)), "You take the smaller of ‖W_i‖ and ε", 0),
    "floor on G": (
        agc_with(lambda W, l, e: l * length(W), lambda G: length(G).clamp(min=1e-3)),
        "The floor ε is missing",
        3,
    ),
    "λ missing": (agc_with(lambda W, l, e: length(W).clamp(min=e)), "λ has no effect", 0),
    "divided by λ": (agc_with(lambda W, l, e: length(W).clamp(min=e) / l), "You divide by λ", 0),
    "always scaled": (agc_with(below=lambda G, t, s: G * t / s.clamp(min=1e-12)), "You scale every row to its limit", 0),
    "wrong way round": (
        agc_with(above=lambda G, t, s: G, below=lambda G, t, s: G * t / s.clamp(min=1e-12)),
        "The comparison is the wrong way round",
        0,
    ),
    "clamped": (
        lambda W, G, lam=0.01, eps=1e-3: G.clamp(-lam * length(W).clamp(min=eps), lam * length(W).clamp(min=eps)),
        "You clamp each entry to the limit",
        0,
    ),
    "zeroed": (agc_with(above=lambda G, t, s: 0 * G), "Rows above the limit become 0", 0),
    "times λ": (
        lambda W, G, lam=0.01, eps=1e-3: torch.where(length(G) > lam * length(W).clamp(min=eps), G * lam, G),
        "multiplied by λ alone",
        0,
    ),
    "to λ": (
        lambda W, G, lam=0.01, eps=1e-3: torch.where(length(G) > lam * length(W).clamp(min=eps), G * lam / length(G), G),
        "Rows above the limit end with norm λ;",
        0,
    ),
    "to the weight's norm": (
        lambda W, G, lam=0.01, eps=1e-3: torch.where(
            length(G) > lam * length(W).clamp(min=eps), G * length(W).clamp(min=eps) / length(G), G
        ),
        "the factor λ is missing there",
        0,
    ),
    "squares": (
        agc_with(lambda W, l, e: l * length(W).clamp(min=e) ** 2, lambda G: length(G) ** 2),
        "You compare and divide by squared norms",
        0,
    ),
    "1-norms": (
        agc_with(lambda W, l, e: l * W.abs().sum(1, True).clamp(min=e), lambda G: G.abs().sum(1, True)),
        "sums of absolute values",
        0,
    ),
    "∞-norms": (
        agc_with(lambda W, l, e: l * W.abs().amax(1, True).clamp(min=e), lambda G: G.abs().amax(1, True)),
        "the largest entries of the rows",
        0,
    ),
    "root mean square of W": (
        agc_with(lambda W, l, e: l * W.square().mean(1, keepdim=True).sqrt().clamp(min=e)),
        "‖W_i‖ is divided by √n",
        0,
    ),
    "by entries": (
        agc_with(lambda W, l, e: l * W.abs().clamp(min=e), torch.abs, lambda G, t, s: G.sign() * t),
        "You clip entry by entry",
        0,
    ),
    "W and G swapped": (lambda W, G, lam=0.01, eps=1e-3: by_where(G, W, lam, eps), "You clip W by the norms of G", 0),
    "lam and eps swapped": (lambda W, G, lam=1e-3, eps=0.01: by_where(W, G, eps, lam), "lam and eps are swapped", 1),
    "lam and eps ignored": (lambda W, G, lam=0.01, eps=1e-3: by_where(W, G), "lam and eps have no effect", 1),
    "lam ignored": (lambda W, G, lam=0.01, eps=1e-3: by_where(W, G, eps=eps), "lam has no effect", 1),
    "eps ignored": (lambda W, G, lam=0.01, eps=1e-3: by_where(W, G, lam), "eps has no effect", None),
    "nothing clipped": (lambda W, G, lam=0.01, eps=1e-3: G.clone(), "Nothing is clipped", 0),
    "default of lam": (default(0.1, 1e-3), "agc(W, G) must mean", 5),
    "default of eps": (default(0.01, 1e-6), "agc(W, G) must mean", 5),
    "no defaults": (no_defaults, "but yours takes (W, G, lam, eps)", 5),
    "in place": (overwrites, "changed its input in place", 0),
    "the factor": (shape_of_factor, "expected the shape of the input, (3, 2), got (3, 1)", 0),
    "NaN for rows of zeros": (nan_rows, "returned NaN", 3),
    "keepdim missing": (broadcast_wrong, "raised RuntimeError", None),
    "returns a tuple": (lambda W, G, lam=0.01, eps=1e-3: (W, G), "a value of type tuple", 0),
    "all rows if any": (gathers, "As soon as one row exceeds", 0),
    # no known mistakes
    "limit halved": (agc_with(lambda W, l, e: l * length(W).clamp(min=e) / 2), "check which rows change", 0),
    "subtracts": (agc_with(above=lambda G, t, s: G - t * G.sign()), "check which rows change", 0),
    "λ squared": (agc_with(lambda W, l, e: l**2 * length(W).clamp(min=e)), "check which rows change", 0),
    "floor at 2ε": (agc_with(lambda W, l, e: l * length(W).clamp(min=2 * e)), "check rows of W that are 0", 3),
    "floor at ε/2": (agc_with(lambda W, l, e: l * length(W).clamp(min=e / 2)), "check rows of W that are 0", 3),
}

# --- scaled_step --------------------------------------------------------------------------------------------


def total_of(grads):
    return math.sqrt(sum(float(g.double().square().sum()) for g in grads))


def plainly(grads, scale, clip):
    out = []
    for g in grads:
        half = (g * scale).half()
        if not torch.isfinite(half).all():
            return None
        out.append(half.float() / scale)
    norm = torch.cat([g.flatten() for g in out]).norm()
    factor = torch.clamp(clip / (norm + 1e-6), max=1.0)
    return [g * factor for g in out]


def by_library(grads, scale, clip):
    params = [nn.Parameter(torch.zeros_like(g)) for g in grads]
    for p, g in zip(params, grads):
        p.grad = (scale * g).to(torch.float16).to(torch.float32).div_(scale)
    total = nn.utils.clip_grad_norm_(params, clip)
    if not total.isfinite():
        return None
    return tuple(p.grad for p in params)


def numpy_step(grads, scale, clip):
    halves = [(g.numpy() * np.float32(scale)).astype(np.float16) for g in grads]
    if any(np.isinf(h).any() or np.isnan(h).any() for h in halves):
        return None
    back = [h.astype(np.float32) / np.float32(scale) for h in halves]
    norm = np.sqrt(sum((b.astype(float) ** 2).sum() for b in back))
    return [b * min(1, clip / norm) if norm > 0 else b for b in back]


def in_float64(grads, scale, clip):
    halves = [(g.double() * scale).half().double() for g in grads]
    if not all(h.abs().max() < math.inf for h in halves):
        return
    back = [h * (1 / scale) for h in halves]
    norm = math.hypot(*(b.norm() for b in back))
    return [b / max(1, norm / clip) for b in back]


def by_limit(grads, scale, clip):
    if any(not (g * scale).abs().max().item() <= 65504 for g in grads):
        return None
    back = [torch.ldexp((g * scale).half().float(), torch.tensor(-int(math.log2(scale)))) for g in grads]
    total = total_of(back)
    return back if total <= clip else [clip / total * b for b in back]


def by_finiteness_at_the_end(grads, scale, clip):
    back = [(g * scale).half().float() / scale for g in grads]
    norm = torch.stack([b.norm() for b in back]).norm()
    if norm > clip or norm.isnan():
        back = [b * clip / norm for b in back]
    return back if all(b.isfinite().all() for b in back) else None


def by_one_vector_step(grads, scale, clip):
    half = torch.cat([g.reshape(-1) for g in grads]).mul(scale).type(torch.half)
    if half.float().abs().sum().isfinite():
        v = half.float() / scale
        if v.norm() > clip:
            v = v * (clip / v.norm())
        return [part.view(g.shape) for part, g in zip(v.split([g.numel() for g in grads]), grads)]
    return None


STEP_CORRECT = [
    clipping.scaled_step,
    plainly,
    by_library,
    numpy_step,
    in_float64,
    by_limit,
    by_finiteness_at_the_end,
    by_one_vector_step,
]


def finite(tensors):
    return all(bool(t.isfinite().all()) for t in tensors)


def clipped(grads, clip):
    total = total_of(grads)
    return [g * min(1, clip / total) if total else g for g in grads]


def step_with(halves=None, overflow=None, back=None, end=None):
    """scaled_step with its parts: (grads, scale) to float16, the test of (halves, grads, scale), back, and the clipping."""

    def scaled_step(grads, scale, clip):
        h = halves(grads, scale) if halves else [(g * scale).half() for g in grads]
        if overflow(h, grads, scale) if overflow else not finite(h):
            return None
        b = back(h, scale) if back else [x.float() / scale for x in h]
        return end(b, clip) if end else clipped(b, clip)

    return scaled_step


def clip_first(grads, scale, clip):
    h = [(g * scale).half().float() for g in grads]
    return [g / scale for g in clipped(h, clip)] if finite(h) else None


def instead(answer):
    """A right answer, but `answer(grads, scale, clip)` on an overflow."""
    return lambda grads, scale, clip: plainly(grads, scale, clip) or answer(grads, scale, clip)


def without_the_bad(grads, scale, clip):
    h = [(g * scale).half() for g in grads]
    return clipped([x.nan_to_num(0, 0, 0).float() / scale for x in h], clip)


def kept_finite(grads, scale, clip):
    h = [(g * scale).half() for g in grads]
    return clipped([x.float() / scale if x.isfinite().all() else torch.zeros_like(x, dtype=torch.float32) for x in h], clip)


def overwrites_grads(grads, scale, clip):
    for g in grads:
        g *= scale
    return step_with(halves=lambda gs, s: [g.half() for g in gs])(grads, scale, clip)


def always_none(grads, scale, clip):
    step = plainly(grads, scale, clip)
    if step is None:
        return None
    step = [g for g in step]


def divides_by_norm(grads, scale, clip):
    step = step_with(end=lambda b, c: b)(grads, scale, clip)
    return step and [g * min(1.0, clip / float(torch.cat([x.flatten() for x in step]).norm().item())) for g in step]


def nan_of_zeros(grads, scale, clip):
    step = step_with(end=lambda b, c: b)(grads, scale, clip)
    if step is None:
        return None
    norm = torch.tensor(total_of(step))
    return [torch.minimum(norm, torch.tensor(clip)) * (g / norm).float() for g in step]


def raises_on_overflow(grads, scale, clip):
    step = plainly(grads, scale, clip)
    if step is None:
        raise OverflowError("inf in float16")
    return step


def any_overflow(test):
    return lambda h, grads, scale: any(bool(test(x).any()) for x in h)


STEP_WRONG = {
    "clips before unscaling": (clip_first, "You clip before you unscale", 5),
    "scales after the cast": (
        step_with(lambda gs, s: [g.half() * s for g in gs]),
        "underflow in spite of the scale",
        None,
    ),
    "unscales in float16": (
        step_with(back=lambda h, s: [(x / s).float() for x in h]),
        "underflow in spite of the scale",
        None,
    ),
    "no float16, no scale": (lambda gs, s, c: clipped(gs, c), "Nothing passes through float16", 0),
    "no float16": (step_with(lambda gs, s: [g * s for g in gs]), "The cast to float16 is missing", 0),
    "bfloat16": (step_with(lambda gs, s: [(g * s).bfloat16() for g in gs]), "That is bfloat16", 0),
    "scale ignored": (
        step_with(lambda gs, s: [g.half() for g in gs], back=lambda h, s: [x.float() for x in h]),
        "The scale has no effect",
        0,
    ),
    "not unscaled": (step_with(back=lambda h, s: [x.float() for x in h]), "The division by the scale is missing", 0),
    "unscaled twice": (step_with(back=lambda h, s: [x.float() / s / s for x in h]), "You divide by the scale twice", 0),
    "multiplied twice": (step_with(back=lambda h, s: [x.float() * s for x in h]), "You multiply by the scale on the way back", 0),
    "divided, then multiplied": (
        step_with(lambda gs, s: [(g / s).half() for g in gs], back=lambda h, s: [x.float() * s for x in h]),
        "You divide by the scale and then multiply",
        0,
    ),
    "clips first of all": (lambda gs, s, c: step_with(end=lambda b, _: b)(clipped(gs, c), s, c), "You clip the true gradient", None),
    "not clipped": (step_with(end=lambda b, c: b), "The clipping is missing", 5),
    "clipped one by one": (step_with(end=lambda b, c: [clipped([g], c)[0] for g in b]), "Each tensor is clipped by itself:", 5),
    "clipped by value": (step_with(end=lambda b, c: [g.clamp(-c, c) for g in b]), "You clamp each entry (clipping by value)", 5),
    "always clipped": (
        step_with(end=lambda b, c: [g * c / total_of(b) if total_of(b) else g for g in b]),
        "You scale to norm `clip` always",
        0,
    ),
    "clipped by the square": (
        step_with(end=lambda b, c: [g * min(1, c / total_of(b) ** 2) if total_of(b) else g for g in b]),
        "The root is missing in the norm",
        None,
    ),
    "clipped by the largest": (
        step_with(end=lambda b, c: [g * min(1, c / max(x.norm() for x in b)) if total_of(b) else g for g in b]),
        "You clip by the largest tensor's norm",
        5,
    ),
    "clipped by the sum": (
        step_with(end=lambda b, c: [g * min(1, c / sum(x.norm() for x in b)) if total_of(b) else g for g in b]),
        "You clip by the sum of the tensors' norms",
        5,
    ),
    "overflow before scaling": (
        step_with(overflow=lambda h, gs, s: not finite([g.half() for g in gs])),
        "You look for an overflow before the scaling",
        5,
    ),
    "overflow unseen": (step_with(overflow=lambda h, gs, s: False), "and you returned gradients all the same", 5),
    "last tensor alone": (step_with(overflow=lambda h, gs, s: not finite(h[-1:])), "in the last tensor only", 5),
    "first tensor alone": (step_with(overflow=lambda h, gs, s: not finite(h[:1])), "in the first tensor only", 5),
    "isinf": (step_with(overflow=any_overflow(torch.isinf)), "A NaN passes your test", 5),
    "isnan": (step_with(overflow=any_overflow(torch.isnan)), "which looks for NaN alone", 5),
    "+∞ or NaN": (step_with(overflow=any_overflow(lambda x: x.isposinf() | x.isnan())), "−∞ passes your test", 5),
    "+∞": (step_with(overflow=any_overflow(torch.isposinf)), "−∞ and NaN pass your test", 5),
    "every tensor": (step_with(overflow=lambda h, gs, s: all(not x.isfinite().all() for x in h)), "only if every tensor overflows", 5),
    "every entry": (step_with(overflow=lambda h, gs, s: not any(x.isfinite().any() for x in h)), "only if all entries overflow", 5),
    "saturates": (step_with(lambda gs, s: [(g * s).clamp(-65504, 65504).half() for g in gs]), "You clamp to the largest float16", 5),
    "bad entries skipped": (without_the_bad, "You replace the entries that overflowed by 0", 5),
    "zeros": (instead(lambda gs, s, c: [0 * g.nan_to_num(0) for g in gs]), "On an overflow you return zeros", 5),
    "true gradients": (instead(lambda gs, s, c: clipped(gs, c)), "On an overflow you return the true gradients", 5),
    "sum in float16": (
        step_with(overflow=lambda h, gs, s: not sum(x.sum() for x in h).isfinite()),
        "You test a sum in float16",
        None,
    ),
    "norm in float16": (step_with(overflow=lambda h, gs, s: not all(x.norm().isfinite() for x in h)), "You test a norm in float16", None),
    "None on underflow": (
        step_with(overflow=lambda h, gs, s: not finite(h) or any(((x == 0) & (g != 0)).any() for x, g in zip(h, gs))),
        "where an entry underflows to 0, too",
        None,
    ),
    "test the wrong way round": (step_with(overflow=lambda h, gs, s: finite(h)), "where all is finite", 0),
    "None always": (always_none, "returned None: is a return", 0),
    "float16 returned": (step_with(end=lambda b, c: [g.half() for g in clipped(b, c)]), "expected gradients in float32, got float16", 0),
    "one vector": (
        lambda gs, s, c: (lambda step: step and torch.cat([g.flatten() for g in step]))(plainly(gs, s, c)),
        "got a value of type Tensor and shape (3,)",
        None,
    ),
    "list of None": (instead(lambda gs, s, c: [None for _ in gs]), "with no tensor, no tensor", 5),
    "in place": (overwrites_grads, "changed its input in place", 0),
    "division by zero": (divides_by_norm, "raised ZeroDivisionError", 5),
    "NaN of zeros": (nan_of_zeros, "or 0·∞ where all are 0", 5),
    "raises on overflow": (raises_on_overflow, "raised OverflowError", 5),
    # no known mistakes
    "tensors that overflow are zeros": (kept_finite, "Return None if, and only if", 5),
    "scale + 1": (step_with(lambda gs, s: [(g * (s + 1)).half() for g in gs]), "survives has float16's rounding", 0),
    "norm of the true gradients": (
        lambda gs, s, c: step_with(end=lambda b, c: [g * min(1, c / total_of(gs)) for g in b])(gs, s, c),
        "all gradients are multiplied by min(1, clip",
        5,
    ),
    "half of the threshold": (step_with(end=lambda b, c: clipped(b, c / 2)), "all gradients are multiplied by min(1, clip", 5),
    "None above 30000": (
        step_with(overflow=any_overflow(lambda x: ~(x.abs() < 30000))),
        "only an entry that is inf or NaN in float16 is a reason",
        None,
    ),
    "tiny values cut": (
        step_with(back=lambda h, s: [torch.where(x.abs() < 6e-5, 0, x.float() / s) for x in h]),
        "survives has float16's rounding",
        None,
    ),
}

CORRECT = {"clip_": CLIP_CORRECT, "agc": AGC_CORRECT, "scaled_step": STEP_CORRECT}
CORRECT_SLOW = {}
WRONG = {"clip_": CLIP_WRONG, "agc": AGC_WRONG, "scaled_step": STEP_WRONG}
