"""Questions of lab 09, gradient clipping: references, known mistakes and verdicts."""

import math

import torch

from .. import evidence as read
from ..evidence import Trouble
from ..judging import Item, Mistake, attempt, choose, close, integer, judge, log_uniform, normal, uniform
from ..question import Question


def _values(numbers, dtype=torch.float64):
    return torch.tensor(numbers, dtype=dtype)


def _flat(tensors):
    return torch.cat([t.to(torch.float64).flatten() for t in tensors])


# --- lab09.clip_ --------------------------------------------------------------------------------------------

CLIP = "clip_(params, max_norm)"

# Where a gradient is clipped its norm is at least 0.4, so a factor θ/(‖g‖ + 1e-5) is off by 2.5e-5 at most, and float32
# arithmetic by less. Every mistake changes something by 1e-2 or more.
CLIP_RTOL = 1e-4
# Some add a small number under the root (1e-12), which shows where the norm is 0 or 1e-8.
NORM_ATOL = 1e-5


def clip_(params, max_norm):
    """Scale all gradients, in place, by min(1, max_norm/‖g‖); returns the joint norm ‖g‖ before."""
    grads = [p.grad for p in params if p.grad is not None]
    total = math.sqrt(sum(float((g**2).sum()) for g in grads))
    if total > max_norm:
        for g in grads:
            g *= max_norm / total
    return total


def _present(case):
    return [g for g in case["grads"] if g is not None]


def _sizes(case):
    return [g.norm().item() for g in _present(case)]


def _joint(case):
    return math.hypot(*_sizes(case))


def _factor(case, norm):
    return min(1.0, case["max_norm"] / norm) if norm else 1.0


def _scaled(case, factor):
    return _flat(_present(case)) * factor


def _by_norm(measure):
    """Who takes `measure(case)` for the joint norm: the gradients, and the norm."""
    return lambda c: {"g": _scaled(c, _factor(c, measure(c))), "norm": measure(c)}


def _gradients(answer):
    return lambda c: {"g": answer(c)}


def _number(answer):
    return lambda c: {"norm": answer(c)}


def _until_none(case):
    kept = []
    for g in case["grads"]:
        if g is None:
            break
        kept.append(g)
    return kept


def _stopped(case):
    """Who leaves the loop at the first parameter without a gradient."""
    kept = _until_none(case)
    norm = math.hypot(*(g.norm().item() for g in kept))
    factor = _factor(case, norm)
    rest = _present(case)[len(kept) :]
    return {"g": _flat([*(g * factor for g in kept), *rest]), "norm": norm}


def _each(case):
    return _flat([g * _factor(case, g.norm().item()) for g in _present(case)])


def _spectral(case):
    return math.hypot(*(torch.linalg.matrix_norm(g, 2).item() if g.ndim == 2 else g.norm().item() for g in _present(case)))


def _weight_norm(case):
    return math.hypot(*(w.norm().item() for w in case["weights"]))


def _rms(case):
    g = _flat(_present(case))
    return g.square().mean().sqrt().item()


def _ratio(case):
    return case["max_norm"] / _joint(case) if _joint(case) else 1.0


NOTHING = (
    "No gradient changes. Multiply each p.grad in place, as in p.grad.mul_(factor): g = p.grad followed by g = g * factor "
    "only makes a new tensor."
)
WEIGHTS = "The weights changed: scale the gradients, p.grad, and leave p itself alone."
ZERO_NAN = (
    "where all gradients are 0, yours become NaN, as θ/0 is infinite and 0·∞ is NaN: use the factor min(1, θ/‖g‖), or "
    "scale only if ‖g‖ > θ."
)

CLIP_MISTAKES = [
    Mistake(
        _by_norm(lambda c: _joint(c) ** 2),
        "The square root is missing: 25 is the squared norm, and the norm is 5.",
    ),
    Mistake(
        _by_norm(lambda c: max(_sizes(c))),
        "You take the largest tensor's norm for the joint norm, the 2-norm of all gradients as one vector: the root of the "
        "sum of their squared norms.",
    ),
    Mistake(
        _by_norm(lambda c: sum(_sizes(c))),
        "You add up the norms of the tensors; norms add in squares: ‖g‖² = Σ‖g_i‖².",
    ),
    Mistake(
        _by_norm(lambda c: sum(_sizes(c)) / len(_sizes(c))),
        "You take the mean of the tensors' norms; the joint norm is the root of the sum of their squares.",
    ),
    Mistake(
        _by_norm(lambda c: _flat(_present(c)).abs().sum().item()),
        "That is the 1-norm, the sum of all |g|; the threshold is for the 2-norm.",
    ),
    Mistake(
        _by_norm(lambda c: _flat(_present(c)).abs().max().item()),
        "That is the largest entry (the norm with p = ∞); the threshold is for the 2-norm of all entries.",
    ),
    Mistake(
        _by_norm(_rms),
        "You divide the sum of squares by the number of entries: that is the root mean square, not the norm.",
    ),
    Mistake(
        _by_norm(_spectral),
        "For a matrix torch.linalg.norm(g, 2) is the spectral norm, the largest singular value. Take the norm of all "
        "entries: g.norm(), or flatten first.",
    ),
    Mistake(
        _by_norm(lambda c: _sizes(c)[-1]),
        "Only the last gradient counts in your norm: add the squares up over all parameters, in a variable that the loop "
        "does not overwrite.",
    ),
    Mistake(
        _by_norm(lambda c: _sizes(c)[0]),
        "Only the first gradient counts in your norm: add the squares up over all parameters, and return after the loop.",
    ),
    Mistake(
        _by_norm(_weight_norm),
        "You measure the weights; the norm of the gradients, p.grad, is asked for.",
    ),
    Mistake(
        _stopped,
        "You stop at the first parameter without a gradient; skip it and go on (continue, not break or return).",
    ),
    # the gradients alone
    Mistake(
        _gradients(_each),
        "Each tensor is clipped by itself, so the joint norm may still exceed max_norm and the direction changes: use one "
        "factor, max_norm/‖g‖, for all.",
    ),
    Mistake(
        _gradients(lambda c: _flat(_present(c)).clamp(-c["max_norm"], c["max_norm"])),
        "You clamp each entry to ±max_norm, which is clipping by value: the direction changes, and n entries may still have "
        "a norm of max_norm·√n.",
    ),
    Mistake(
        _gradients(lambda c: _scaled(c, _ratio(c))),
        "You scale always, so a gradient below the threshold grows: the factor is min(1, max_norm/‖g‖).",
    ),
    Mistake(
        _gradients(lambda c: _scaled(c, max(1.0, _ratio(c)))),
        "You scale where the norm is below max_norm and leave the large gradients: the comparison (or the max) is the wrong "
        "way round.",
    ),
    Mistake(
        _gradients(lambda c: _scaled(c, max(1.0, 1 / _ratio(c)))),
        "The factor is upside down, ‖g‖/max_norm: large gradients grow. It must be max_norm/‖g‖.",
    ),
    Mistake(
        _gradients(lambda c: _scaled(c, _factor(c, _joint(c)) ** 2)),
        "The factor is applied twice, so the norm ends at max_norm²/‖g‖.",
    ),
    Mistake(
        _gradients(lambda c: _scaled(c, min(1.0, 1 / _joint(c)) if _joint(c) else 1.0)),
        "max_norm has no effect: you clip at 1.",
    ),
    Mistake(
        _gradients(lambda c: _scaled(c, 1 / _joint(c) if _joint(c) > c["max_norm"] else 1.0)),
        "The clipped gradient has norm 1: the factor max_norm is missing.",
    ),
    Mistake(
        _gradients(lambda c: _scaled(c, c["max_norm"] if _joint(c) > c["max_norm"] else 1.0)),
        "You multiply by max_norm without dividing by ‖g‖.",
    ),
    Mistake(
        _gradients(lambda c: _scaled(c, 0.0 if _joint(c) > c["max_norm"] else 1.0)),
        "Large gradients become 0, which skips the step: scale them down to max_norm.",
    ),
    Mistake(
        _gradients(lambda c: _scaled(c, _factor(c, _joint(c) ** 2))),
        "You return the right norm but scale by the squared one: the factor is max_norm/‖g‖, with the root.",
    ),
    Mistake(
        _gradients(lambda c: _flat([g * (_factor(c, _joint(c)) if i == 0 else 1) for i, g in enumerate(_present(c))])),
        "Only the first gradient is scaled: go through all parameters.",
    ),
    # the norm alone
    Mistake(
        _number(lambda c: min(_joint(c), c["max_norm"])),
        "You return the norm after clipping, which never exceeds max_norm and so says nothing; return the norm before.",
    ),
    Mistake(
        _number(lambda c: _factor(c, _joint(c))),
        "You return the factor; return the norm before clipping.",
    ),
    Mistake(
        _number(_ratio),
        "You return max_norm/‖g‖; return the norm before clipping.",
    ),
    Mistake(
        _number(lambda c: c["max_norm"]),
        "You return max_norm itself; return the norm before clipping.",
    ),
    Mistake(
        _number(lambda c: float(_joint(c) > c["max_norm"])),
        "You return whether the gradient was clipped; return its norm before.",
    ),
]

CLIP_FALLBACK = {
    "large gradients": "Where ‖g‖ > max_norm every gradient is multiplied by the same number, max_norm/‖g‖, with ‖g‖ the "
    "2-norm of all gradients together. Check the norm, and that each p.grad is scaled exactly once.",
    "small gradients": "Where ‖g‖ ≤ max_norm nothing may change, be the gradient tiny or 0: the factor is min(1, max_norm/‖g‖).",
    "norm": "Return the joint norm as it was before clipping, the root of the sum of the squares of all entries of all "
    "gradients: a number.",
    "unused parameter": "A parameter whose grad is None took no part in the loss: skip it, and treat the others as if it were "
    "not there.",
}

_CLIP_FIXED = "p.grad = (3, 0) and (0, 4), max_norm = 1,"


def clip_inputs(generator):
    """A fixed case, so that hints can name it, and random ones.

    The tensors of a case have similar norms, and the threshold lies on the far side of the sum, of the maximum or of
    the square of them in some case.
    """

    def draw(low, high):
        return uniform(generator, low, high)

    def case(aspect, max_norm, ratio, *shapes, unused=(), spread=(0.6, 1.4)):
        grads = []
        for shape in shapes:
            g = normal(generator, *shape)
            grads.append(g / g.norm() * draw(*spread))
        size = math.hypot(*(g.norm().item() for g in grads))
        grads = [g * (ratio * max_norm / size) for g in grads]
        for place, shape in unused:
            grads.insert(place, None)
            shapes = (*shapes[:place], shape, *shapes[place:])
        return dict(aspect=aspect, max_norm=max_norm, grads=grads, weights=[normal(generator, *s) for s in shapes])

    zeros = case("small gradients", draw(0.5, 2), 0.5, (3, 2), (4,))
    return {
        "cases": [
            dict(
                aspect="large gradients",
                max_norm=1.0,
                grads=[_values([3.0, 0.0]), _values([0.0, 4.0])],
                weights=[_values([1.0, -2.0]), _values([0.5, 3.0])],
            ),
            case("large gradients", draw(0.2, 0.4), draw(3, 10), (4, 3), (4,), (2, 4)),
            case("large gradients", draw(3, 6), draw(3, 10), (5, 2), (3, 2, 2, 2), (7,)),
            case("large gradients", draw(2, 4), draw(1.3, 1.5), (3, 4), (5,), (2, 3), (4, 2), spread=(0.95, 1.05)),
            case("large gradients", draw(0.2, 0.3), draw(2, 3), (3, 2), (2, 3)),  # below 1, and yet too long
            case("small gradients", draw(3, 6), draw(0.8, 0.9), (4, 3), (6,), (2, 5), spread=(0.9, 1.1)),
            case("small gradients", draw(0.3, 0.6), draw(0.5, 0.9), (3, 5), (3,)),
            case("small gradients", 1.0, log_uniform(generator, 1e-9, 1e-7), (2, 6), (4,)),
            zeros | {"grads": [torch.zeros_like(g) for g in zeros["grads"]]},
            case("unused parameter", draw(2, 3), draw(2, 4), (3, 2), (4,), (2, 3), unused=[(1, (5,))]),
            case("unused parameter", draw(0.3, 0.5), draw(3, 5), (2, 3), (5,), unused=[(0, (3, 3)), (3, (2,))]),
        ]
    }


def _clipped(case, state):
    """The gradients after the call as one vector, and whether any gradient or weight changed."""
    shapes = [w.shape for w in case["weights"]]
    moved, found = False, []
    for before, after, shape in zip(case["grads"], state["grads"], shapes, strict=True):
        if before is None and after is None:
            continue
        if after is None:
            raise Trouble("after your function some p.grad is None: scale the gradients, and keep them.")
        if after.isnan().any() and not any(g.any() for g in _present(case)):
            raise Trouble(ZERO_NAN)
        if not after.isfinite().all():
            raise Trouble("after your function some p.grad is infinite or NaN: look for a division by zero.")
        after = read.as_tensor(after, shape)
        if before is None:  # zeros are as good as none
            if after.any():
                raise Trouble("a parameter whose grad was None has a gradient after your function; leave it alone.")
            continue
        moved = moved or not torch.equal(before, after)
        found.append(after)
    return _flat(found), moved


def _weights_changed(case, state):
    pairs = zip(case["weights"], state["weights"], strict=True)
    return not all(isinstance(b, torch.Tensor) and torch.equal(a, b) for a, b in pairs)


def clip_judge(inputs, evidence):
    calls = list(zip(inputs["cases"], evidence["cases"], evidence["states"], strict=True))
    norms = [attempt(read.number, record, CLIP) for _, record, _ in calls]
    states = [norm if state is None else attempt(_clipped, case, state) for (case, _, state), norm in zip(calls, norms)]
    if any(state is None and not isinstance(norm, Trouble) for (_, _, state), norm in zip(calls, norms)):
        raise ValueError("a call that returned has no state")
    moved = any(isinstance(state, Trouble) or state[1] for state in states)
    items = []
    for i, ((case, _, _), norm, state) in enumerate(zip(calls, norms, states)):
        g = state if isinstance(state, Trouble) else state[0]
        if isinstance(norm, Trouble) and not moved:
            g = norm  # it did nothing at all
        truth = _joint(case)
        after = _scaled(case, _factor(case, truth))
        extra = case["aspect"] == "unused parameter"
        quote = _CLIP_FIXED if i == 0 else None
        items.append(Item(case["aspect"], g, after, case, part="g", quote=quote))
        items.append(Item(case["aspect"] if extra else "norm", norm, truth, case, part="norm", quote=quote))

    def same(a, b):
        # the norm is a number, the gradients a vector
        return close(CLIP_RTOL, 0 if isinstance(a, torch.Tensor) else NORM_ATOL)(a, b)

    findings = judge(items, CLIP_MISTAKES, CLIP_FALLBACK, same)
    spoilt = {case["aspect"] for case, _, state in calls if state is not None and _weights_changed(case, state)}
    for aspect in ("large gradients", "small gradients", "unused parameter"):
        if isinstance(findings[aspect], Trouble):
            continue
        if aspect in spoilt:
            findings[aspect] = WEIGHTS
        elif not moved:
            findings[aspect] = WEIGHTS if spoilt else NOTHING
    return findings


# --- lab09.agc ----------------------------------------------------------------------------------------------

AGC = "agc(W, G, lam=0.01, eps=1e-3)"
LAM, EPS = 0.01, 1e-3

# Where a row is clipped its gradient has a norm of 0.015 or more, so +1e-5 in the denominator changes it by less than
# 7e-4. Every mistake changes some entry by 1e-2 or more, as a part of it.
AGC_SAME = close(rtol=1e-3, atol=1e-12)


def agc(W, G, lam=LAM, eps=EPS):
    """G_i · min(1, λ max(‖W_i‖, ε)/‖G_i‖) for each row i."""
    rows = []
    for w, g in zip(W, G):
        limit, size = lam * max(float(w.norm()), eps), float(g.norm())
        rows.append(g * (limit / size) if size > limit else g)
    return torch.stack(rows)


def _rows(x):
    return x.norm(dim=1, keepdim=True)


def _limited(G, limit, size=None):
    """G scaled to `limit` where its size (by default the row's norm) exceeds it."""
    size = _rows(G) if size is None else size
    return torch.where(size > limit, G * limit / size, G)


def _floored(W, eps):
    return _rows(W).clamp(min=eps)


def _without_floor(W, G, lam, eps):
    return _limited(G, lam * _rows(W))


def _skip_small(W, G, lam, eps):
    return torch.where(_rows(W) < eps, G, _limited(G, lam * _rows(W)))


def _always(W, G, lam, eps):
    return G * lam * _floored(W, eps) / _rows(G).clamp(min=1e-12)  # rows of 0 stay so


AGC_MISTAKES = [
    Mistake(
        lambda W, G, lam, eps: G,
        "Nothing is clipped: you return G as it came.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * max(W.norm().item(), eps), G.norm()),
        "All rows have the same factor, from the norms of the whole matrices: AGC compares the norms row by row, for each unit "
        "by itself (dim=1, keepdim=True).",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * max(W.norm().item(), eps)),
        "Each row's gradient is compared with the norm of the whole W; compare it with the norm of its own row, ‖W_i‖.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * _floored(W, eps), G.norm()),
        "You compare ‖W_i‖ with the norm of the whole G; compare it with the norm of its own row, ‖G_i‖.",
    ),
    Mistake(
        lambda W, G, lam, eps: agc(W.T, G.T, lam, eps).T,
        "You take norms of columns; a unit's weights are a row of W: dim=1.",
    ),
    Mistake(
        _without_floor,
        "The floor ε is missing: a unit whose weights are 0 would have gradient 0 for ever. Use max(‖W_i‖, ε).",
    ),
    Mistake(
        _skip_small,
        "Rows with ‖W_i‖ < ε are left unclipped: for them the limit is λε.",
    ),
    Mistake(
        lambda W, G, lam, eps: torch.where(_rows(W) == 0, G, agc(W, G, lam, eps)),
        "Rows with W_i = 0 are left unclipped: for them the limit is λε.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * torch.where(_rows(W) == 0, torch.full_like(_rows(W), eps), _rows(W))),
        "ε replaces only a norm of exactly 0; it is a floor for every ‖W_i‖: max(‖W_i‖, ε).",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * (_rows(W) + eps)),
        "You add ε to ‖W_i‖; it is a floor: max(‖W_i‖, ε).",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * (_rows(W) ** 2 + eps**2).sqrt()),
        "You add ε² under the root; ε is a floor: max(‖W_i‖, ε).",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * (_rows(W) ** 2 + eps).sqrt()),
        "You add ε under the root; it is a floor: max(‖W_i‖, ε).",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, (lam * _rows(W)).clamp(min=eps)),
        "The floor ε is applied to λ‖W_i‖; it belongs to ‖W_i‖, so that the smallest limit is λε.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * _rows(W).clamp(max=eps)),
        "You take the smaller of ‖W_i‖ and ε, and a floor is the larger: max(‖W_i‖, ε), or clamp(min=eps).",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * _rows(W), _rows(G).clamp(min=eps)),
        "The floor ε is on ‖G_i‖; it belongs to ‖W_i‖.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, torch.full_like(_rows(W), lam)),
        "The weights have no effect: your limit is λ for every row. It must be λ max(‖W_i‖, ε).",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, _floored(W, eps)),
        "λ has no effect: the limit is λ max(‖W_i‖, ε).",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, _floored(W, eps) / lam),
        "You divide by λ; the limit is λ max(‖W_i‖, ε).",
    ),
    Mistake(
        _always,
        "You scale every row to its limit, so small gradients grow: the factor is min(1, limit/‖G_i‖).",
    ),
    Mistake(
        lambda W, G, lam, eps: _always(W, G, lam, eps) if (_rows(G) > lam * _floored(W, eps)).any() else G,
        "As soon as one row exceeds its limit you scale all rows: each row decides for itself.",
    ),
    Mistake(
        lambda W, G, lam, eps: torch.maximum(_always(W, G, lam, eps).abs(), G.abs()) * G.sign(),
        "The comparison is the wrong way round: rows below the limit grow, and rows above it stay.",
    ),
    Mistake(
        lambda W, G, lam, eps: torch.clamp(G, -lam * _floored(W, eps), lam * _floored(W, eps)),
        "You clamp each entry to the limit, which turns the row: multiply the row by limit/‖G_i‖.",
    ),
    Mistake(
        lambda W, G, lam, eps: torch.where(_rows(G) > lam * _floored(W, eps), torch.zeros_like(G), G),
        "Rows above the limit become 0: scale them down to the limit.",
    ),
    Mistake(
        lambda W, G, lam, eps: torch.where(_rows(G) > lam * _floored(W, eps), G * lam, G),
        "Rows above the limit are multiplied by λ alone; the factor is λ max(‖W_i‖, ε)/‖G_i‖.",
    ),
    Mistake(
        lambda W, G, lam, eps: torch.where(_rows(G) > lam * _floored(W, eps), G * lam / _rows(G), G),
        "Rows above the limit end with norm λ; they must end with λ max(‖W_i‖, ε).",
    ),
    Mistake(
        lambda W, G, lam, eps: torch.where(
            _rows(G) > lam * _floored(W, eps), G * _floored(W, eps) / _rows(G), G
        ),
        "Rows above the limit end with norm max(‖W_i‖, ε); the factor λ is missing there.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * _floored(W, eps) ** 2, _rows(G) ** 2),
        "You compare and divide by squared norms: take the roots.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(
            G, lam * W.abs().sum(1, keepdim=True).clamp(min=eps), G.abs().sum(1, keepdim=True)
        ),
        "Your norms are sums of absolute values (1-norm); AGC has the 2-norm.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(
            G, lam * W.abs().amax(1, keepdim=True).clamp(min=eps), G.abs().amax(1, keepdim=True)
        ),
        "Your norms are the largest entries of the rows; AGC has the 2-norm.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * W.square().mean(1, keepdim=True).sqrt().clamp(min=eps)),
        "‖W_i‖ is divided by √n in your answer: take the norm of the row, not its root mean square.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(G, lam * W.abs().clamp(min=eps), G.abs()),
        "You clip entry by entry; AGC compares the norms of whole rows.",
    ),
    Mistake(
        lambda W, G, lam, eps: agc(G, W, lam, eps),
        "You clip W by the norms of G: G is to be clipped, by the norms of W.",
    ),
    Mistake(
        lambda W, G, lam, eps: agc(W, G, eps, lam),
        "lam and eps are swapped.",
    ),
    Mistake(
        lambda W, G, lam, eps: agc(W, G, LAM, EPS),
        "lam and eps have no effect: 0.01 and 1e-3 are only their defaults.",
    ),
    Mistake(
        lambda W, G, lam, eps: agc(W, G, LAM, eps),
        "lam has no effect: 0.01 is only its default.",
    ),
    Mistake(
        lambda W, G, lam, eps: agc(W, G, lam, EPS),
        "eps has no effect: 1e-3 is only its default.",
    ),
    Mistake(
        lambda W, G, lam, eps: _limited(_limited(G, lam * _floored(W, eps)), lam * max(W.norm().item(), eps), G.norm()),
        "You clip by rows, and then once more by the whole matrix; rows alone are asked for.",
    ),
]

AGC_FALLBACK = {
    "rows": "Row i of G is multiplied by min(1, λ max(‖W_i‖, ε)/‖G_i‖), with 2-norms of the rows: check which rows change, and "
    "that each ends with the norm λ‖W_i‖.",
    "floor": "Where ‖W_i‖ < ε the limit is λε, and above it λ‖W_i‖: check rows of W that are 0 and rows just below ε.",
    "defaults": "agc(W, G) must mean lam = 0.01 and eps = 1e-3.",
}

_AGC_ROWS = dict(
    aspect="rows",
    W=_values([[3.0, 4.0], [0.6, 0.8], [0.0, 2.0]]),
    G=_values([[6.0, 8.0], [0.3, 0.4], [0.1, 0.0]]),
    lam=0.1,
    eps=0.01,
)
_AGC_FLOOR = dict(
    aspect="floor", W=_values([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]]), G=_values([[3.0, 4.0], [0.6, 0.8], [0.1, 0.0]]), lam=0.1, eps=0.01
)
_AGC_DEFAULTS = dict(
    aspect="defaults", W=_values([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]]), G=_values([[3.0, 4.0], [0.6, 0.8], [0.1, 0.0]]), lam=None, eps=None
)
_AGC_FIXED = [
    ("W = [[3, 4], [0.6, 0.8], [0, 2]], G = [[6, 8], [0.3, 0.4], [0.1, 0]], lam = 0.1 and eps = 0.01", _AGC_ROWS),
    ("W = [[0, 0], [3, 4], [0, 2]], G = [[3, 4], [0.6, 0.8], [0.1, 0]], lam = 0.1 and eps = 0.01", _AGC_FLOOR),
    ("W = [[0, 0], [3, 4], [0, 2]], G = [[3, 4], [0.6, 0.8], [0.1, 0]] and no more", _AGC_DEFAULTS),
]


def agc_inputs(generator):
    """Three fixed cases, so that hints can name one, and random ones with rows on both sides of every limit."""

    def draw(low, high):
        return uniform(generator, low, high)

    def matrix(sizes, width):
        rows = normal(generator, len(sizes), width)
        return rows / _rows(rows) * _values(sizes)[:, None]

    def case(aspect, width, weights, lam, eps, ratios):
        """Rows of W with the norms `weights`, and of G with `ratios` times the limit."""
        known = (LAM, EPS) if lam is None else (lam, eps)
        order = torch.randperm(len(weights), generator=generator).tolist()
        limits = [known[0] * max(w, known[1]) for w in weights]
        W, G = matrix(weights, width), matrix([r * limit for r, limit in zip(ratios, limits)], width)
        return dict(aspect=aspect, W=W[order], G=G[order], lam=lam, eps=eps)

    def above():
        return draw(1.5, 6)

    def below():
        return draw(0.3, 0.8)

    eps = draw(0.3, 0.6)
    return {
        "cases": [fixed for _, fixed in _AGC_FIXED]
        + [
            case("rows", 3, [draw(0.3, 0.8), draw(1.5, 3), draw(0.3, 3), draw(4, 6), draw(0.3, 0.8), draw(1.5, 3)],
                 draw(0.1, 0.3), 0.01, [above(), above(), 0.0, above(), below(), below()]),
            case("rows", 7, [draw(1.5, 3), draw(0.3, 0.8), draw(0.3, 0.8), draw(4, 6)],
                 draw(0.3, 0.6), 0.02, [above(), below(), above(), below()]),
            # all rows below their limits but one, which alone is above that of the whole matrix
            case("rows", 4, [draw(0.3, 0.4), draw(4, 5), draw(4, 5)], draw(0.3, 0.5), 0.02, [draw(3, 4), draw(0.1, 0.2), draw(0.1, 0.2)]),
            case("rows", 5, [draw(0.3, 3), draw(0.3, 3), draw(4, 6)], draw(0.1, 0.3), 0.02, [below(), below(), below()]),
            # the rows with a small W have gradients between λ‖W‖ and λε, then above both
            case("floor", 5, [0.0, 0.0, draw(0.2, 0.4) * eps, draw(0.2, 0.4) * eps, draw(1.5, 3) * eps, draw(1.5, 3) * eps],
                 draw(0.2, 0.5), eps, [above(), below(), above(), draw(0.6, 0.8), above(), below()]),
            case("floor", 3, [0.0, draw(2, 4), draw(0.2, 0.5) * eps, draw(0.2, 0.5) * eps], draw(0.2, 0.5), eps,
                 [above(), below(), draw(0.7, 0.8), above()]),
            case("defaults", 4, [draw(1.5, 3), 0.0, draw(4, 6), draw(1.5, 3), draw(2e-4, 5e-4)], None, None,
                 [above(), draw(2e3, 1e5), above(), below(), draw(2e3, 1e5)]),
        ]
    }  # fmt: skip


def agc_judge(inputs, evidence):
    def arguments(case):
        return case["W"], case["G"], *((LAM, EPS) if case["lam"] is None else (case["lam"], case["eps"]))

    quotes = [words for words, _ in _AGC_FIXED]
    items = [
        Item(
            case["aspect"],
            attempt(read.tensor, record, AGC, case["G"].shape),
            agc(*arguments(case)),
            case,
            quote=quotes[i] if i < len(quotes) else None,
        )
        for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True))
    ]

    def explain(some):
        # what is wrong without a floor at work is wrong everywhere
        wrong = {item.aspect for item in some if not AGC_SAME(item.got, item.expected)}
        return next((AGC_FALLBACK[aspect] for aspect in ("rows", "floor") if aspect in wrong), None)

    mistakes = [Mistake(lambda c, m=m: m.answer(*arguments(c)), m.hint) for m in AGC_MISTAKES]
    findings = judge(items, mistakes, AGC_FALLBACK, AGC_SAME, explain)
    if all(isinstance(f, Trouble) for f in findings.values()) and not all(f.blank for f in findings.values()):
        # a wrong signature explains what the calls with all four arguments gave
        signature = next((item.got for item, r in zip(items, evidence["cases"]) if r["outcome"] == "signature"), None)
        return dict.fromkeys(findings, signature) if signature else findings
    return findings


# --- lab09.scaled_step --------------------------------------------------------------------------------------

STEP = "scaled_step(grads, scale, clip)"
HALF_MAX = 65504.0

# The scale is a power of two, so the product is exact in float32 and the cast to float16 has one right result, with
# PyTorch, NumPy and float64 alike. What remains is float32 arithmetic in the clip factor (1e-6) and a +1e-5 beside a
# norm of 0.23 or more. Rounding to float16 changes an entry by 2⁻¹¹ = 5e-4 at most, and some entry by more than 1e-4.
STEP_RTOL = 5e-5


def scaled_step(grads, scale, clip):
    """True gradients × scale in float16, back in float32, unscaled, clipped to joint norm `clip`; None on overflow."""
    halves = [(g * scale).to(torch.float16) for g in grads]
    if not all(bool(h.isfinite().all()) for h in halves):
        return None
    back = [h.to(torch.float32) / scale for h in halves]
    return _clip_list(back, clip)


def _norm(grads):
    return math.sqrt(sum(float(g.double().square().sum()) for g in grads))


def _clip_list(grads, clip, measure=_norm):
    total = measure(grads)
    return [g * (clip / total) for g in grads] if total > clip else list(grads)


def _halves(grads, scale):
    return [(g * scale).half() for g in grads]


def _finite(tensors):
    return all(bool(t.isfinite().all()) for t in tensors)


def _usual(grads, scale, clip, **parts):
    """The reference, with other parts where they are given."""
    halves = parts.get("halves", _halves)(grads, scale)
    if parts.get("overflow", lambda halves, grads, scale: not _finite(halves))(halves, grads, scale):
        return None
    back = parts.get("back", lambda halves, scale: [h.float() / scale for h in halves])(halves, scale)
    return parts.get("clipped", _clip_list)(back, clip)


def _variant(**parts):
    return lambda grads, scale, clip: _usual(grads, scale, clip, **parts)


def _clip_before_unscaling(grads, scale, clip):
    halves = _halves(grads, scale)
    return [g / scale for g in _clip_list([h.float() for h in halves], clip)] if _finite(halves) else None


def _clip_at_the_start(grads, scale, clip):
    return _usual(_clip_list(grads, clip), scale, math.inf)


def _first_or_last(index):
    return _variant(overflow=lambda halves, grads, scale: not _finite([halves[index]]))


def _saturated(grads, scale):
    return [(g * scale).clamp(-HALF_MAX, HALF_MAX).half() for g in grads]


def _each_skipped(grads, scale, clip):
    halves = [torch.where(h.isfinite(), h, torch.zeros_like(h)) for h in _halves(grads, scale)]
    return _clip_list([h.float() / scale for h in halves], clip)


def _whole_skipped(grads, scale, clip):
    halves = _halves(grads, scale)
    return _usual(grads, scale, clip) if _finite(halves) else [torch.zeros_like(g) for g in grads]


def _unscaled_instead(grads, scale, clip):
    return _usual(grads, scale, clip) if _finite(_halves(grads, scale)) else _clip_list(grads, clip)


def _half_sum(grads, scale):
    return torch.stack([h.sum() for h in _halves(grads, scale)]).sum()


def _underflows(halves, grads):
    return any(bool(((h == 0) & (g != 0)).any()) for h, g in zip(halves, grads))


# The scale is a power of two, so both orders round alike, and nobody can tell which of the two it was.
UNDERFLOW = (
    "The small gradients underflow in spite of the scale: multiply by it before you cast to float16, and go back with "
    ".float() before you divide."
)

STEP_MISTAKES = [
    Mistake(
        lambda g, s, c: _clip_list(g, c),
        "Nothing passes through float16 in your answer: multiply by the scale, cast with .half(), and go back with .float().",
    ),
    Mistake(
        _variant(halves=lambda g, s: [x * s for x in g]),
        "The cast to float16 is missing: multiply by the scale, then .half(), then .float().",
    ),
    Mistake(
        _variant(halves=lambda g, s: [(x * s).bfloat16() for x in g]),
        "That is bfloat16, with the range of float32 and fewer digits; the question is about float16, .half().",
    ),
    Mistake(
        _variant(halves=lambda g, s: [x.half() * s for x in g]),
        UNDERFLOW,
    ),
    Mistake(
        _variant(halves=lambda g, s: [x.half() for x in g], back=lambda h, s: [x.float() for x in h]),
        "The scale has no effect: without it, what is below 2⁻²⁵ becomes 0 in float16.",
    ),
    Mistake(
        _variant(back=lambda h, s: [(x / s).float() for x in h]),
        UNDERFLOW,
    ),
    Mistake(
        _variant(back=lambda h, s: [x.float() for x in h]),
        "The division by the scale is missing: the step would be `scale` times too long.",
    ),
    Mistake(
        _variant(back=lambda h, s: [x.float() / s / s for x in h]),
        "You divide by the scale twice.",
    ),
    Mistake(
        _variant(back=lambda h, s: [x.float() * s for x in h]),
        "You multiply by the scale on the way back; divide by it.",
    ),
    Mistake(
        _variant(halves=lambda g, s: [(x / s).half() for x in g], back=lambda h, s: [x.float() * s for x in h]),
        "You divide by the scale and then multiply, which loses the small gradients all the more: multiply first.",
    ),
    Mistake(
        _clip_before_unscaling,
        "You clip before you unscale, so the threshold is `scale` times too small: divide by the scale first, then clip.",
    ),
    Mistake(
        _clip_at_the_start,
        "You clip the true gradient, before float16; a real backward pass has only the rounded one. Clip at the end.",
    ),
    Mistake(
        _variant(clipped=lambda back, c: back),
        "The clipping is missing: the joint norm of what you return exceeds `clip`.",
    ),
    Mistake(
        _variant(clipped=lambda back, c: [_clip_list([g], c)[0] for g in back]),
        "Each tensor is clipped by itself: use one factor for all, from their joint norm.",
    ),
    Mistake(
        _variant(clipped=lambda back, c: [g.clamp(-c, c) for g in back]),
        "You clamp each entry (clipping by value): scale all gradients by one factor.",
    ),
    Mistake(
        _variant(clipped=lambda back, c: [g * (c / _norm(back)) if _norm(back) else g for g in back]),
        "You scale to norm `clip` always, so smaller gradients grow: the factor is min(1, clip/‖g‖).",
    ),
    Mistake(
        _variant(clipped=lambda back, c: _clip_list(back, c, lambda b: _norm(b) ** 2)),
        "The root is missing in the norm that you clip by.",
    ),
    Mistake(
        _variant(clipped=lambda back, c: _clip_list(back, c, lambda b: max(_norm([g]) for g in b))),
        "You clip by the largest tensor's norm; take the joint norm of all.",
    ),
    Mistake(
        _variant(clipped=lambda back, c: _clip_list(back, c, lambda b: sum(_norm([g]) for g in b))),
        "You clip by the sum of the tensors' norms; norms add in squares.",
    ),
    # overflow
    Mistake(
        _variant(overflow=lambda h, g, s: not _finite([x.half() for x in g])),
        "You look for an overflow before the scaling; it is the product with the scale that overflows float16.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: False),
        "An entry became infinite (or NaN) in float16, and you returned gradients all the same: return None, so that the step "
        "is skipped.",
    ),
    Mistake(
        _first_or_last(-1),
        "You look for an overflow in the last tensor only: any entry of any tensor counts.",
    ),
    Mistake(
        _first_or_last(0),
        "You look for an overflow in the first tensor only: any entry of any tensor counts.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: any(bool(x.isinf().any()) for x in h)),
        "A NaN passes your test for an overflow: torch.isfinite finds both, infinite and NaN.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: any(bool(x.isnan().any()) for x in h)),
        "An infinite entry passes your test, which looks for NaN alone: torch.isfinite finds both.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: any(bool(((x == math.inf) | x.isnan()).any()) for x in h)),
        "−∞ passes your test for an overflow: an entry may overflow with either sign.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: any(bool((x == math.inf).any()) for x in h)),
        "−∞ and NaN pass your test for an overflow: torch.isfinite finds all three.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: all(not x.isfinite().all() for x in h)),
        "You return None only if every tensor overflows: one entry of one tensor is enough.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: all(not x.isfinite().any() for x in h)),
        "You return None only if all entries overflow: one is enough.",
    ),
    Mistake(
        _variant(halves=_saturated),
        "You clamp to the largest float16, 65504, so an overflow goes unseen and the step has a wrong direction: return None.",
    ),
    Mistake(
        _each_skipped,
        "You replace the entries that overflowed by 0 and make the step without them: return None, for the whole step.",
    ),
    Mistake(
        _whole_skipped,
        "On an overflow you return zeros; return None, so that the caller can skip the step and lower the scale.",
    ),
    Mistake(
        _unscaled_instead,
        "On an overflow you return the true gradients, which a float16 backward pass does not have: return None.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: not _half_sum(g, s).isfinite()),
        "You test a sum in float16, and the sum overflows although no entry does: test the entries, with torch.isfinite.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: not all(bool(x.sum().isfinite()) for x in h)),
        "You test the sum of a tensor in float16, and it overflows although no entry does: test the entries.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: not all(bool(x.norm().isfinite()) for x in h)),
        "You test a norm in float16, and it overflows although no entry does: test the entries, with torch.isfinite.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: not _finite(h) or _underflows(h, g)),
        "You return None where an entry underflows to 0, too; that goes unnoticed in a real pass. Only inf and NaN count.",
    ),
    Mistake(
        _variant(overflow=lambda h, g, s: _finite(h)),
        "The test is the wrong way round: you return None where all is finite.",
    ),
]

STEP_FALLBACK = {
    "underflow": "In order: multiply by the scale, cast to float16, cast back to float32, divide by the scale. What "
    "survives has float16's rounding, and what is too small even after scaling is 0.",
    "clipping": "After unscaling, all gradients are multiplied by min(1, clip/‖g‖), ‖g‖ their joint norm in float32; where all "
    "are 0 they stay 0.",
    "overflow": "Return None if, and only if, some entry of the scaled gradients is infinite or NaN in float16, whose largest "
    "number is 65504.",
}


def _floats(*rows):
    return [_values(row, torch.float32) for row in rows]


_STEP_FIXED = [
    (
        "grads = [(1e-8, −3e-8), (0.5,)], scale = 1024 and clip = 1000",
        dict(aspect="underflow", grads=_floats([1e-8, -3e-8], [0.5]), scale=1024.0, clip=1000.0),
    ),
    (
        "grads = [(3, 0), (0, 4)], scale = 256 and clip = 1",
        dict(aspect="clipping", grads=_floats([3.0, 0.0], [0.0, 4.0]), scale=256.0, clip=1.0),
    ),
]


def step_inputs(generator):
    """Two fixed cases, so that hints can name one, and random ones.

    Scales are powers of two. No scaled entry lies between 60000 and 70000, where it is a matter of rounding whether it
    overflows.
    """

    def draw(low, high):
        return uniform(generator, low, high)

    def power(low, high):
        return 2.0 ** integer(generator, low, high)

    def tensor(low, high, *shape):
        """Entries of either sign, uniform in the logarithm of their size."""
        u = torch.rand(shape, generator=generator, dtype=torch.float64)
        sign = torch.where(torch.rand(shape, generator=generator, dtype=torch.float64) < 0.5, -1.0, 1.0)
        return (sign * low * (high / low) ** u).float()

    def mixed():
        return [tensor(0.05, 0.5, 3, 4), tensor(1e-9, 1e-7, 2, 5), tensor(1e-4, 0.5, 6)]

    def case(aspect, grads, scale, ratio):
        """With clip = the joint norm times `ratio`."""
        return dict(aspect=aspect, grads=grads, scale=scale, clip=ratio * _norm(grads))

    def loose():
        """A threshold, as a multiple of the norm, that is at work nowhere, not even while the gradients are scaled."""
        return draw(3, 10) * 2.0**24

    def spiked(entry, places, ratio, scale):
        """None of these overflows but one entry, `entry` after scaling, in each of the tensors `places`."""
        grads = [tensor(0.05, 0.5, 2, 3), tensor(0.05, 0.5, 4), tensor(0.05, 0.5, 3)]
        clip = ratio * _norm(grads)
        for i in places:
            grads[i].view(-1)[integer(generator, 0, grads[i].numel() - 1)] = entry / scale
        return dict(aspect="overflow", grads=grads, scale=scale, clip=clip)

    def top(high, scale, *signs):
        """Entries from 40000 to `high` after scaling, which do not overflow; but their sum or their norm would."""
        flip = choose(generator, -1.0, 1.0)
        grads = [tensor(4e4 / scale, high / scale, len(s)).abs() * flip * _values(s, torch.float32) for s in signs]
        return case("overflow", grads, scale, loose())

    some = choose(generator, 0, 1, 2)
    return {
        "cases": [fixed for _, fixed in _STEP_FIXED]
        + [
            case("underflow", mixed(), power(10, 14), loose()),
            case("underflow", [tensor(1e-10, 1e-8, 4, 2), tensor(0.05, 0.2, 3)], power(15, 16), loose()),
            case("underflow", mixed(), 1.0, loose()),
            case("clipping", [2 * g for g in mixed()], power(8, 12), 1 / draw(2, 8)),
            case("clipping", [0.7 * g for g in mixed()], power(8, 12), 1 / draw(2, 4)),  # below 1, and yet too long
            case("clipping", [4 * g for g in mixed()], power(8, 12), 1 / draw(1.2, 1.4)),
            # float16 rounds every entry down, so the norm of what arrives is not that of the true gradient
            case("clipping", [tensor(1.0, 1.0, *shape) * (1 + draw(0.2, 0.45) / 1024) for shape in ((2, 3), (4,))],
                 power(4, 10), 1 / draw(2, 4)),
            case("clipping", [tensor(1.0, 2.0, 3, 2), tensor(1.0, 2.0, 6), tensor(1.0, 2.0, 5)], power(4, 10), draw(1.15, 1.3)),
            dict(aspect="clipping", grads=[tensor(1e-9, 1e-8, 3, 2), tensor(1e-9, 1e-8, 2)], scale=1.0, clip=draw(0.5, 2)),
            spiked(draw(1e5, 1e6), [0], draw(0.1, 0.5), power(8, 12)),
            spiked(-draw(7e4, 9e4), [1], draw(2, 5), power(4, 12)),
            spiked(draw(7e4, 9e4), [2], draw(2, 5), power(4, 12)),
            spiked(-draw(1e5, 1e6), [2], draw(0.1, 0.5), power(4, 12)),
            spiked(draw(1e5, 1e6), [0, 1, 2], draw(0.1, 0.5), power(4, 12)),
            spiked(math.nan, [some], draw(0.1, 0.5), power(4, 10)),
            spiked(draw(1e5, 1e6), [some], draw(0.1, 0.5), 1.0),  # it overflows before the scaling, too
            case("overflow", [tensor(0.5, 2.0, 2, 3), tensor(0.5, 2.0, 4)], power(18, 22), draw(2, 5)),
            top(6e4, power(8, 12), [1, 1, 1, 1], [1, 1, 1]),
            top(6e4, power(1, 3), [1, -1, 1, -1], [-1, 1, -1, 1]),
            top(4.5e4, power(4, 8), [1, 1], [1, 1]),
        ]
    }  # fmt: skip


NONE = torch.empty(0, dtype=torch.float64)  # stands for None; no list of gradients is that short


def _step(record, case, silent):
    """What was returned as one vector, `NONE` for None. `silent`: every call returned None."""
    if record["outcome"] == "returned" and record["type"] == "NoneType" and not silent:
        if record["changed"]:
            read.value(record | {"type": "list"}, STEP)  # says so
        return NONE
    got = read.value(record, STEP)
    expected = "expected None, or a list with one tensor for each of grads, of its shape; got a value of type"
    if isinstance(got, torch.Tensor):
        raise Trouble(f"{expected} {record['type']} and shape {tuple(got.shape)}.")
    if not isinstance(got, list):
        raise Trouble(f"{expected} {record['type']}.")
    shapes = [tuple(g.shape) if isinstance(g, torch.Tensor) else None for g in got]
    if shapes != [tuple(g.shape) for g in case["grads"]]:
        said = ", ".join("no tensor" if shape is None else str(shape) for shape in shapes[:5])
        raise Trouble(f"{expected} {record['type']}" + (f" with {said}." if said else " without entries."))
    kinds = {g.dtype for g in got} - {torch.float32, torch.float64}
    if kinds:
        kind = str(kinds.pop()).removeprefix("torch.")
        raise Trouble(f"expected gradients in float32, got {kind}: go back with .float() before you divide by the scale.")
    if not _finite(got) and _finite(case["grads"]) and scaled_step(case["grads"], case["scale"], case["clip"]) is not None:
        raise Trouble("returned an infinite value or NaN although nothing overflows: look for 0/0, or 0·∞ where all are 0.")
    return _flat(got)


def _vector(step):
    return NONE if step is None else _flat(step)


def step_judge(inputs, evidence):
    def arguments(case):
        return case["grads"], case["scale"], case["clip"]

    def same(a, b):
        return a.shape == b.shape and torch.allclose(a, b, rtol=STEP_RTOL, atol=0, equal_nan=True)

    calls = list(zip(inputs["cases"], evidence["cases"], strict=True))
    silent = all(r["outcome"] == "returned" and r["type"] == "NoneType" for _, r in calls)
    quotes = [words for words, _ in _STEP_FIXED]
    items = []
    for i, (case, record) in enumerate(calls):
        got, expected = attempt(_step, record, case, silent), _vector(scaled_step(*arguments(case)))
        comparable = not isinstance(got, Trouble) and got.shape == expected.shape
        quote = quotes[i] if i < len(quotes) and comparable else None
        items.append(Item(case["aspect"], got, expected, case, part="step", quote=quote))

    def explain(some):
        wrong = [item for item in some if not same(item.got, item.expected)]
        if wrong and all(len(item.expected) and not len(item.got) for item in wrong):
            return "You return None although nothing overflows: only an entry that is inf or NaN in float16 is a reason."
        # what is wrong without clipping and overflow is wrong everywhere
        return STEP_FALLBACK["underflow"] if any(item.aspect == "underflow" for item in wrong) else None

    mistakes = [Mistake(lambda c, m=m: _vector(m.answer(*arguments(c))), m.hint) for m in STEP_MISTAKES]
    return judge(items, mistakes, STEP_FALLBACK, same, explain)


QUESTIONS = (
    Question(
        name="lab09.clip_",
        signature=CLIP,
        contract=(
            "Scales p.grad of all params, in place and by one factor, min(1, max_norm/‖g‖), with ‖g‖ the 2-norm of all "
            "gradients together; returns ‖g‖ before clipping, a number. params is a list of nn.Parameter in float64; those "
            "whose grad is None are skipped. max_norm > 0, in units of the gradient. The weights stay as they are."
        ),
        aspects={"large gradients": 2, "small gradients": 2, "norm": 2, "unused parameter": 1},
        minutes=20,
        inputs=clip_inputs,
        reference=clip_,
        judge=clip_judge,
    ),
    Question(
        name="lab09.agc",
        signature=AGC,
        contract=(
            "Row i of G times min(1, λ max(‖W_i‖, ε)/‖G_i‖), with 2-norms of rows: a new float64 tensor (out, in). W and G are "
            "float64 (out, in), weights and their gradient, and stay as they are; lam > 0 has the units of G/W, eps > 0 those of W. "
            "Rows of G and of W may be 0."
        ),
        aspects={"rows": 3, "floor": 2, "defaults": 1},
        minutes=15,
        inputs=agc_inputs,
        reference=agc,
        judge=agc_judge,
    ),
    Question(
        name="lab09.scaled_step",
        signature=STEP,
        contract=(
            "The true gradients times scale, cast to float16, back to float32, divided by scale, then clipped by one factor to "
            "joint norm `clip`: a list of float32 tensors like grads. None instead if any entry is inf or NaN in float16. grads is a "
            "list of float32 tensors, which stay as they are; scale is a power of two, clip > 0 is in units of the true gradient."
        ),
        aspects={"underflow": 3, "clipping": 2, "overflow": 2},
        minutes=20,
        inputs=step_inputs,
        reference=scaled_step,
        judge=step_judge,
    ),
)
