"""Questions of lab 07, normalisation: references, known mistakes and verdicts."""

import math

import torch

from .. import evidence as read
from ..judging import Item, Mistake, attempt, choose, close, integer, judge, normal, short, uniform
from ..question import Question

# float32, one-pass variances and any algebraic form are right within this: their error is below 1e-5 on these
# inputs. Every known mistake is off by more than 1e-2 somewhere.
TOLERANCE = 1e-4

# Of the largest entry of a column; finite differences with steps down to 1e-7 are right within this, too.
GRADIENT_TOLERANCE = 1e-3


def _numbers(rows):
    return torch.tensor(rows, dtype=torch.float64)


def _away_from(generator, n, low, high):
    """n numbers with sizes from `low` to `high`, and random signs."""
    sizes = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
    return sizes * (2 * torch.randint(2, (n,), generator=generator) - 1)


def _spread(generator, *shape, dim):
    """Normal numbers, moved and scaled to mean 0 and mean square 1 over `dim`, so that no draw is degenerate."""
    z = normal(generator, *shape)
    z = z - z.mean(dim, keepdim=True)
    return z / z.square().mean(dim, keepdim=True).sqrt()


def _columns(generator, m, mean, scale):
    """A batch (m, D) whose columns have these means and (biased) standard deviations."""
    return mean + scale * _spread(generator, m, len(mean), dim=0)


# --- lab07.bn_forward ---------------------------------------------------------------------------------------

BN_SIGNATURE = "bn_forward(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5)"
BN_DEFAULTS = (True, 0.1, 1e-5)


def bn_forward(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    """Batch normalisation, (m, D) to (m, D); in training the running estimates change in place."""
    mean, var = running_mean, running_var
    if training:
        mean, var = x.mean(0), x.var(0, correction=0)
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (x.var(0) - running_var)
    return gamma * (x - mean) / torch.sqrt(var + eps) + beta


def _bn_options(case):
    """training, momentum and eps of a case."""
    return (*case["options"], *BN_DEFAULTS[len(case["options"]) :])


def _bn_statistics(case):
    """Mean and biased variance of the batch, or the running estimates at evaluation."""
    if _bn_options(case)[0]:
        return case["x"].mean(0), case["x"].var(0, correction=0)
    return case["running_mean"], case["running_var"]


def _bn_truth(case):
    x, gamma, beta = case["x"], case["gamma"], case["beta"]
    mean, var = case["running_mean"].clone(), case["running_var"].clone()
    return {"y": bn_forward(x, gamma, beta, mean, var, *case["options"]), "running_mean": mean, "running_var": var}


def _bn_y(change, only=None):
    """The answer of someone who gets y wrong; `change` maps x, γ, β, mean, variance, ε and the case to y.

    `only` says in which mode: True in training, False at evaluation, None in both.
    """

    def answer(case):
        training, _, eps = _bn_options(case)
        if only not in (None, training):
            return _bn_truth(case)
        mean, var = _bn_statistics(case)
        return _bn_truth(case) | {"y": change(case["x"], case["gamma"], case["beta"], mean, var, eps, case)}

    return answer


def _bn_running(change, part=None, everywhere=False):
    """The answer of someone who gets the running estimates wrong in training; `everywhere`: in both modes.

    `change` maps the old estimate, the new one of the batch, momentum, m and the case's variance to the result; `part`
    says which of the two estimates, None both.
    """

    def answer(case):
        training, momentum, _ = _bn_options(case)
        truth = _bn_truth(case)
        if not (training or everywhere):
            return truth
        x = case["x"]
        if len(x) < 2:
            return {}
        for name, new in (("running_mean", x.mean(0)), ("running_var", x.var(0))):
            if part in (None, name):
                truth[name] = change(case[name], new, momentum, len(x))
        return truth

    return answer


def _normalised(x, mean, var, eps):
    return (x - mean) / torch.sqrt(var + eps)


def _rows(x):
    return x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)


def _bn_in_mode(mode):
    """The answer of someone for whom training is `mode(training)`."""

    def answer(case):
        training, momentum, eps = _bn_options(case)
        if len(case["x"]) < 2:
            return {}
        return _bn_truth(case | {"options": [mode(training), momentum, eps]})

    return answer


def _bn_batch(x):
    return x.mean(0), x.var(0, correction=0)


def _lerp(old, new, weight):
    return (1 - weight) * old + weight * new


def _bn_updated(case):
    truth = _bn_truth(case)
    return truth["running_mean"], truth["running_var"]


BN_MISTAKES = [
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * _normalised(x, *_rows(x), eps) + b, only=True),
        "Each row of your output is normalised: that is layer norm. Batch norm normalises each column (feature) over "
        "the batch, dim 0.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * _normalised(x, *_rows(x), eps) + b),
        "Each row of your output is normalised: that is layer norm. Batch norm normalises each column (feature) over "
        "the batch, dim 0.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * _normalised(x, x.mean(), x.var(correction=0), eps) + b, only=True),
        "You take one mean and one variance over all entries; each column (feature) has its own, over the batch.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * _normalised(x, *_bn_updated(c), eps) + b, only=True),
        "In training you normalise with the running estimates after their update; use the mean and the variance of "
        "the batch itself.",
    ),
    Mistake(
        _bn_y(
            lambda x, g, b, mean, var, eps, c: g * _normalised(x, c["running_mean"], c["running_var"], eps) + b,
            only=True,
        ),
        "In training you normalise with the running estimates; use the mean and the variance of the batch itself.",
    ),
    *(
        Mistake(
            _bn_y(lambda x, g, b, mean, var, eps, c, f=f: g * (x - mean) / f(x.var(0), eps) + b, only=True),
            "You normalise with the unbiased variance (divided by m − 1). The batch is normalised with the biased one "
            "(divided by m); only the running estimate gets the unbiased one.",
        )
        for f in (lambda var, eps: torch.sqrt(var + eps), lambda var, eps: torch.sqrt(var) + eps)
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * _normalised(x, *_bn_batch(x), eps) + b, only=False),
        "At evaluation the output still depends on what else is in the batch: use the running estimates when "
        "training=False.",
    ),
    Mistake(
        _bn_in_mode(lambda training: True),
        "At evaluation the output still depends on what else is in the batch: when training=False, use the running "
        "estimates and leave them alone.",
    ),
    Mistake(
        _bn_y(
            lambda x, g, b, mean, var, eps, c: g * _normalised(x, mean, var * len(x) / max(len(x) - 1, 1), eps) + b,
            only=False,
        ),
        "At evaluation running_var needs no factor m/(m − 1): it holds the unbiased variance already.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * (x - mean) / (torch.sqrt(var) + eps) + b),
        "ε belongs under the root: √(v + ε), not √v + ε. On a nearly constant feature your output is far too large.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * (x - mean) / torch.sqrt(var) + b),
        "eps has no effect: divide by √(v + ε).",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * _normalised(x, mean, var, eps**2) + b),
        "ε is squared: divide by √(v + ε), not by √(v + ε²).",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * _normalised(x, mean, var, BN_DEFAULTS[2]) + b),
        "eps has no effect: 1e-5 is only its default.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * (x - mean) / (var + eps) + b),
        "The root is missing: divide by √(v + ε), not by v + ε.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * (x - mean) * torch.sqrt(var + eps) + b),
        "You multiply by √(v + ε); divide by it.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * (x - mean) + b),
        "The mean is subtracted, but the division by √(v + ε) is missing.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * x / torch.sqrt(var + eps) + b),
        "The mean is not subtracted: x̂ = (x − μ)/√(v + ε).",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * (x - mean / torch.sqrt(var + eps)) + b),
        "Parentheses are missing: all of x − μ is divided by √(v + ε), not μ alone.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: _normalised(x, mean, var, eps)),
        "gamma and beta have no effect: return γ·x̂ + β.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: _normalised(x, mean, var, eps) + b),
        "gamma has no effect: return γ·x̂ + β.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * _normalised(x, mean, var, eps)),
        "beta has no effect: return γ·x̂ + β.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: b * _normalised(x, mean, var, eps) + g),
        "gamma and beta are swapped: return γ·x̂ + β.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: g * (_normalised(x, mean, var, eps) + b)),
        "γ multiplies x̂ alone, not β: return γ·x̂ + β.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: _normalised(x, mean, var, eps), only=False),
        "At evaluation gamma and beta have no effect: γ·x̂ + β in both modes.",
    ),
    Mistake(
        _bn_y(lambda x, g, b, mean, var, eps, c: x, only=False),
        "At evaluation you return x as it is; normalise it with the running estimates, then γ·x̂ + β.",
    ),
    # --- the running estimates
    Mistake(
        _bn_running(lambda old, new, momentum, m: old, everywhere=True),
        "It is unchanged after a training step. An assignment like `running_mean = …` only gives a local name to a new "
        "tensor; change the tensor that was passed, with `running_mean[:] = …`, .mul_, .copy_ or the like.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: _lerp(old, new * (m - 1) / m, momentum), part="running_var"),
        "You store the biased variance (divided by m); PyTorch keeps the unbiased one in running_var (divided by m − 1).",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: _lerp(old, new * m / (m - 1), momentum), part="running_var"),
        "The factor m/(m − 1) is applied twice: x.var(0) divides by m − 1 already.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: _lerp(old, new * ((m - 1) / m) ** 2, momentum), part="running_var"),
        "The correction is the wrong way round: the unbiased variance is m/(m − 1) times the biased one.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: _lerp(old, new.sqrt(), momentum), part="running_var"),
        "running_var holds a variance, not a standard deviation.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: _lerp(old, (new * (m - 1) / m).sqrt(), momentum), part="running_var"),
        "running_var holds a variance, not a standard deviation.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: _lerp(old, new, 1 - momentum)),
        "momentum and 1 − momentum are swapped: here, as in PyTorch, momentum is the weight of the new batch.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: old + momentum * new),
        "The old estimate must shrink by 1 − momentum before momentum times the new one is added; yours only grows.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: (1 - momentum) * old + new),
        "The batch's statistic must be multiplied by momentum before it is added.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: (1 - momentum) * old),
        "The old estimate shrinks, but the batch's statistic is not added to it.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: new),
        "The old estimate is overwritten by the batch's statistic: mix them, with weights 1 − momentum and momentum.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: (old + new) / 2),
        "Old and new count half each; the weights are 1 − momentum and momentum.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: _lerp(old, new, BN_DEFAULTS[1])),
        "momentum has no effect: 0.1 is only its default.",
    ),
    Mistake(
        _bn_running(lambda old, new, momentum, m: _lerp(old, new, momentum), everywhere=True),
        "The running estimates change at evaluation, too; leave them alone when training=False.",
    ),
]
# Two slips at once, the weights of the estimates and the kind of variance; and what fits only where nothing else does.
BN_MISTAKES += [
    *(
        Mistake(
            _bn_running(lambda old, new, momentum, m, f=f: f(old, new * (m - 1) / m, momentum), part="running_var"),
            hint + " It should also be the unbiased variance (divided by m − 1).",
        )
        for f, hint in (
            (
                lambda old, new, momentum: _lerp(old, new, 1 - momentum),
                "momentum and 1 − momentum are swapped: here, as in PyTorch, momentum is the weight of the new batch.",
            ),
            (
                lambda old, new, momentum: new,
                "The old estimate is overwritten by the batch's statistic: mix them, with weights 1 − momentum and "
                "momentum.",
            ),
            (
                lambda old, new, momentum: old + momentum * new,
                "The old estimate must shrink by 1 − momentum before momentum times the new one is added; yours only "
                "grows.",
            ),
        )
    ),
    Mistake(
        _bn_in_mode(lambda training: not training),
        "The two modes are swapped: the batch's statistics belong to training=True, the running estimates to "
        "training=False.",
    ),
]

BN_FALLBACK = {
    "training": "In training μ and v are the mean and the biased variance (divided by m) of each column of x, and "
    "y = γ·(x − μ)/√(v + ε) + β.",
    "evaluation": "At evaluation y = γ·(x − running_mean)/√(running_var + ε) + β, for a batch of any size, and the "
    "running estimates stay as they are.",
    "running mean": "In training running_mean becomes (1 − momentum)·running_mean + momentum·μ, in place.",
    "running variance": "In training running_var becomes (1 − momentum)·running_var + momentum·v·m/(m − 1), in place.",
}

_BN_X = _numbers([[1, 10], [3, 14], [4, 12], [8, 20]])
_BN_QUOTED = "x = [[1, 10], [3, 14], [4, 12], [8, 20]], γ = [2, 0.5], β = [1, −1]"
_BN_FIXED = [
    (
        _BN_QUOTED + ", running_mean = [0, 0], running_var = [1, 1], training,",
        dict(x=_BN_X, gamma=_numbers([2, 0.5]), beta=_numbers([1, -1]), running_mean=_numbers([0, 0]))
        | dict(running_var=_numbers([1, 1]), options=[]),
    ),
    (
        _BN_QUOTED + ", running_mean = [2, 11], running_var = [4, 9], training=False,",
        dict(x=_BN_X, gamma=_numbers([2, 0.5]), beta=_numbers([1, -1]), running_mean=_numbers([2, 11]))
        | dict(running_var=_numbers([4, 9]), options=[False]),
    ),
]


def bn_forward_inputs(generator):
    """Two fixed cases, so that hints can name one, and seven random ones.

    The last feature of a random case has a variance of the size of ε, m is small and never D, γ is never 1, and
    momentum is far from 1/2. The last case is a batch of one at evaluation.
    """

    def case(m, D, *options):
        eps = _bn_options({"options": options})[2]
        tiny = math.sqrt(eps) * uniform(generator, 0.5, 1)
        mean = _away_from(generator, D, 3, 8)
        scale = 1 + 2 * torch.rand(D, generator=generator, dtype=torch.float64)
        running_mean = _away_from(generator, D, 0.5, 2)
        running_var = _numbers([choose(generator, 0.5, 2.0) * uniform(generator, 0.8, 1.3) for _ in range(D)])
        mean[-1], scale[-1] = tiny * uniform(generator, 5, 10), tiny
        if options and not options[0]:
            running_mean[-1], running_var[-1] = mean[-1] - 2 * tiny, eps * uniform(generator, 0.3, 1)
        return dict(
            x=_columns(generator, m, mean, scale) if m > 1 else mean[None],
            gamma=_away_from(generator, D, 1.3, 2.5),
            beta=_away_from(generator, D, 0.5, 2),
            running_mean=running_mean,
            running_var=running_var,
            options=list(options),
        )

    def momentum():
        return choose(generator, uniform(generator, 0.2, 0.35), uniform(generator, 0.65, 0.8))

    def eps():
        return 10 ** uniform(generator, -3, -1)

    return {
        "cases": [fixed for _, fixed in _BN_FIXED]
        + [
            case(integer(generator, 4, 6), 3),
            case(3, integer(generator, 4, 5), True, momentum()),
            case(integer(generator, 4, 6), 3, True, momentum(), eps()),
            case(6, 3, False),
            case(3, integer(generator, 4, 5), False, momentum()),
            case(integer(generator, 4, 6), 3, False, momentum(), eps()),
            case(1, 4, False),
        ]
    }


def _bn_read_y(record, shape):
    if record["outcome"] == "returned":
        kind, got = str(record["type"])[:60], record["value"]
        if isinstance(got, list):
            raise read.Trouble(
                f"expected one tensor, y, got a value of type {kind} with {len(got)} entries. Return y alone: the running "
                "estimates are changed in place."
            )
        if kind == "NoneType":
            raise read.Trouble("your function returned None; return y, in both modes.")
        if record["changed"]:
            raise read.Trouble(
                "your function changed x, gamma or beta in place; of its inputs only the running estimates may change. "
                "x -= μ and x[:] = … change x itself: give the result a new name."
            )
    if record["outcome"] == "raised" and any(w in str(record["message"]) for w in ("shape", "size", "broadcast")):
        try:
            read.value(record, BN_SIGNATURE)
        except read.Trouble as trouble:
            raise read.Trouble(
                f"{trouble} gamma, beta and the running estimates have one entry for each feature, (D,): take mean and "
                "variance over the batch, dim 0, without keepdim."
            ) from None
    return read.tensor(record, BN_SIGNATURE, shape)


def _bn_read_estimate(record, name, shape):
    try:
        return read.as_tensor(record[name], shape, "the shape that was passed")
    except read.Trouble as trouble:
        raise read.Trouble(f"{name} after the call: {trouble}") from None


def bn_forward_judge(inputs, evidence):
    items, last = [], []
    for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True)):
        training = _bn_options(case)[0]
        truth = _bn_truth(case)
        quote = _BN_FIXED[i][0] if i < len(_BN_FIXED) else None
        y = attempt(_bn_read_y, record, case["x"].shape)
        found = [Item("training" if training else "evaluation", y, truth["y"], case, "y", quote)]
        estimates = {}
        for name in ("running_mean", "running_var"):
            if record["outcome"] == "returned":
                estimates[name] = attempt(_bn_read_estimate, record, name, case[name].shape)
            else:
                estimates[name] = y
        old = [not isinstance(e, read.Trouble) and torch.equal(e, case[name]) for name, e in estimates.items()]
        for name, got in estimates.items():
            if isinstance(y, read.Trouble) and all(old):  # nothing was done: say why once
                got = y
            aspect = name.replace("_", " ").replace("var", "variance") if training else "evaluation"
            found.append(Item(aspect, got, truth[name], case, name, quote))
        if len(case["x"]) == 1:
            last = found
        else:
            items += found

    same = close(TOLERANCE, TOLERANCE / 10)

    def explain(some):
        wrong = [item for item in some if not same(item.got, item.expected)]
        given = max(len(item.case["options"]) for item in wrong)
        if all(not i.case["options"] and same(i.got, _bn_truth(i.case | {"options": [False]})[i.part]) for i in wrong):
            return "Where training is passed you are right: set its default, True."
        if given < 3 and all(item.part == "y" for item in wrong):
            return "Where eps is passed you are right: set its default, 1e-5."
        if given < 2 and all(item.part != "y" for item in wrong):
            return "Where momentum is passed you are right: set its default, 0.1."
        return None

    findings = judge(items, BN_MISTAKES, BN_FALLBACK, same, explain)
    if findings["evaluation"] is None:  # a batch of one, where all others are right
        finding = judge(last, [], BN_FALLBACK, same)["evaluation"]
        if finding is not None:
            kind = read.Trouble if isinstance(finding, read.Trouble) else str
            findings["evaluation"] = kind(f"right for m ≥ 3, but not for a batch of one at evaluation: {finding}")
    return findings


# --- lab07.bn_backward --------------------------------------------------------------------------------------

BACK_SIGNATURE = "bn_backward(dy, x, gamma, eps=1e-5)"
BACK_PARTS = {"dx": (0, 1), "dgamma": (1,), "dbeta": (1,)}


def bn_backward(dy, x, gamma, eps=1e-5):
    """dx (m, D), dgamma (D,) and dbeta (D,) of batch normalisation in training."""
    s = torch.sqrt(x.var(0, correction=0) + eps)
    unit = (x - x.mean(0)) / s
    dx = gamma / s * (dy - dy.mean(0) - unit * (dy * unit).mean(0))
    return dx, (dy * unit).sum(0), dy.sum(0)


def _back_eps(case):
    return 1e-5 if case["eps"] is None else case["eps"]


def _back_truth(case):
    return dict(zip(BACK_PARTS, bn_backward(case["dy"], case["x"], case["gamma"], _back_eps(case))))


def _back(scale=None, **change):
    """The answer of someone whose `dx`, `dgamma` or `dbeta` is another function of the values below.

    `scale` is the s that they use in all of them, a function of x and ε.
    """

    def answer(case):
        dy, x, gamma, eps = case["dy"], case["x"], case["gamma"], _back_eps(case)
        s = (scale or _back_scale)(x, eps)
        v = dict(dy=dy, x=x, gamma=gamma, m=len(x), s=s, c=x - x.mean(0), hat=(x - x.mean(0)) / s)
        rule = _BACK_RULE | change
        return {part: rule[part](_Values(v)) for part in BACK_PARTS}

    return answer


class _Values:
    def __init__(self, values):
        self.__dict__.update(values)


def _back_scale(x, eps):
    return torch.sqrt(x.var(0, correction=0) + eps)


_BACK_RULE = {
    "dx": lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.hat * (v.dy * v.hat).mean(0)),
    "dgamma": lambda v: (v.dy * v.hat).sum(0),
    "dbeta": lambda v: v.dy.sum(0),
}

BACK_MISTAKES = [
    Mistake(
        _back(scale=lambda x, eps: x.var(0, correction=0).sqrt() + eps),
        "ε belongs under the root: s = √(v + ε), not √v + ε.",
    ),
    Mistake(_back(scale=lambda x, eps: x.var(0, correction=0).sqrt()), "eps has no effect: s = √(v + ε)."),
    Mistake(_back(scale=lambda x, eps: _back_scale(x, 1e-5)), "eps has no effect: 1e-5 is only its default."),
    Mistake(
        _back(scale=lambda x, eps: torch.sqrt(x.var(0) + eps)),
        "s has the unbiased variance (divided by m − 1); the forward pass divides by m.",
    ),
    Mistake(
        _back(scale=lambda x, eps: x.var(0, correction=0) + eps),
        "The root is missing: x̂ = (x − μ)/s with s = √(v + ε), not v + ε.",
    ),
    Mistake(
        lambda case: _back_truth(case | {"dy": case["x"], "x": case["dy"]}),
        "dy and x are swapped: dy is the first argument, x the second.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * v.dy),
        "dx = γ·dy/s treats μ and s as constants. They depend on every x: subtract mean(dy) and x̂·mean(dy·x̂). "
        "Each column of dx must sum to 0.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.hat * (v.dy * v.hat).mean(0))),
        "The path through the mean is missing: dx is orthogonal to x̂, as it should be, but its columns do not sum to 0.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0))),
        "The path through the scale s is missing: the columns of dx sum to 0, as they should, but dx is not orthogonal "
        "to x̂.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) + v.hat * (v.dy * v.hat).mean(0))),
        "The term with x̂·mean(dy·x̂) has the wrong sign: it is subtracted, so that dx is orthogonal to x̂.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy + v.dy.mean(0) - v.hat * (v.dy * v.hat).mean(0))),
        "mean(dy) has the wrong sign: it is subtracted, so that each column of dx sums to 0.",
    ),
    Mistake(
        _back(dx=lambda v: -_BACK_RULE["dx"](v)),
        "Every value of dx has the wrong sign.",
    ),
    Mistake(
        _back(dx=lambda v: _BACK_RULE["dx"](v) / v.gamma),
        "gamma has no effect on dx: the gradient passes y = γ·x̂ + β first, which multiplies it by γ.",
    ),
    Mistake(
        _back(dx=lambda v: (v.gamma * v.dy - v.dy.mean(0) - v.hat * (v.dy * v.hat).mean(0)) / v.s),
        "γ multiplies all three terms of dx, not dy alone.",
    ),
    Mistake(
        _back(dx=lambda v: _BACK_RULE["dx"](v) * v.s),
        "The factor 1/s is missing in dx.",
    ),
    Mistake(
        _back(dx=lambda v: _BACK_RULE["dx"](v) / v.s),
        "dx is divided by s twice: its factor is γ/s, not γ/s².",
    ),
    Mistake(
        _back(dx=lambda v: _BACK_RULE["dx"](v) * v.s**2),
        "dx is multiplied by s; its factor is γ/s.",
    ),
    Mistake(
        _back(dx=lambda v: _BACK_RULE["dx"](v) / v.m),
        "dx is m times too small: the mean over the batch belongs to the two subtracted terms alone.",
    ),
    Mistake(
        _back(dx=lambda v: _BACK_RULE["dx"](v) * v.m),
        "dx is m times too large: m·dy − Σdy − x̂·Σ(dy·x̂) still has to be divided by m.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.sum(0) - v.hat * (v.dy * v.hat).sum(0))),
        "The two subtracted terms are means over the batch, not sums: a factor 1/m is missing in both.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.sum(0) - v.hat * (v.dy * v.hat).mean(0))),
        "The first subtracted term is the mean of dy over the batch, not the sum.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.hat * (v.dy * v.hat).sum(0))),
        "The last term has the mean of dy·x̂ over the batch, not the sum.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - (v.dy * v.hat).mean(0))),
        "In the last term of dx the factor x̂ is missing: x̂·mean(dy·x̂).",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.c * (v.dy * v.c).mean(0))),
        "The last term of dx needs x̂ = (x − μ)/s in both places; you use x − μ.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.x * (v.dy * v.x).mean(0))),
        "The last term of dx needs x̂ = (x − μ)/s in both places; you use the raw x.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.x * (v.dy * v.hat).mean(0))),
        "The last term of dx needs x̂ = (x − μ)/s in both places; you use the raw x.",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.hat * v.dy.mean(0))),
        "The last term of dx is x̂·mean(dy·x̂), with a product under the mean; you use x̂·mean(dy).",
    ),
    Mistake(
        _back(dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.hat * v.dy * v.hat)),
        "The last term of dx is x̂·mean(dy·x̂): the mean over the batch is missing in it.",
    ),
    Mistake(
        _back(
            dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(1, True) - v.hat * (v.dy * v.hat).mean(1, True)),
        ),
        "Your means run over the features; they must run over the batch, dim 0.",
    ),
    Mistake(
        _back(dgamma=lambda v: v.dy.sum(0), dbeta=lambda v: (v.dy * v.hat).sum(0)),
        "dgamma and dbeta are swapped: return dx, dgamma, dbeta.",
    ),
    Mistake(
        _back(dgamma=lambda v: (v.dy * v.hat).mean(0), dbeta=lambda v: v.dy.mean(0)),
        "γ and β act on every row, so their gradients are sums over the batch; you take the mean.",
    ),
    Mistake(
        _back(dgamma=lambda v: (v.dy * v.hat).mean(0)),
        "γ acts on every row, so its gradient is the sum over the batch; you take the mean.",
    ),
    Mistake(
        _back(dbeta=lambda v: v.dy.mean(0)),
        "β acts on every row, so its gradient is the sum over the batch; you take the mean.",
    ),
    Mistake(
        _back(dgamma=lambda v: (v.dy * v.x).sum(0)),
        "dγ = Σ dy·x̂ over the batch; you use the raw x in place of x̂.",
    ),
    Mistake(
        _back(dgamma=lambda v: (v.dy * v.c).sum(0)),
        "dγ = Σ dy·x̂ over the batch; you use x − μ, without the division by s.",
    ),
    Mistake(
        _back(dgamma=lambda v: (v.dy * v.hat).sum(0) * v.gamma),
        "dγ = Σ dy·x̂ has no factor γ: y = γ·x̂ + β, and its derivative by γ is x̂.",
    ),
    Mistake(
        _back(dgamma=lambda v: v.hat.sum(0)),
        "dy is missing in dγ = Σ dy·x̂.",
    ),
    Mistake(
        _back(dgamma=lambda v: v.dy.sum(0)),
        "x̂ is missing in dγ = Σ dy·x̂: what you return is dβ.",
    ),
    Mistake(
        _back(dbeta=lambda v: v.dy.sum(0) * v.gamma),
        "dβ = Σ dy has no factor γ: y = γ·x̂ + β, and its derivative by β is 1.",
    ),
    Mistake(
        _back(dbeta=lambda v: _BACK_RULE["dx"](v).sum(0)),
        "dβ = Σ dy; you sum dx, whose columns always sum to 0.",
    ),
]

BACK_FALLBACK = {
    "dx": "dx = (γ/s)·(dy − mean(dy) − x̂·mean(dy·x̂)), with the means over the batch, x̂ = (x − μ)/s and s = √(v + ε).",
    "dgamma": "dγ = Σ dy·x̂ over the batch, one number for each feature.",
    "dbeta": "dβ = Σ dy over the batch, one number for each feature.",
}

_BACK_FIXED = [
    (
        "x = [[1, 10], [3, 14], [4, 12], [8, 20]], dy = [[1, 0], [2, 1], [0, −1], [1, 3]], γ = [2, 0.5]",
        dict(x=_BN_X, dy=_numbers([[1, 0], [2, 1], [0, -1], [1, 3]]), gamma=_numbers([2, 0.5]), eps=None),
    ),
]


def bn_backward_inputs(generator):
    """A fixed case, so that hints can name it, and five random ones.

    The last feature of a random case has a variance of the size of ε. dy has a mean and a part along x̂ that are far
    from 0, m is small and never D, γ is never 1.
    """

    def case(m, D, eps=None):
        tiny = math.sqrt(1e-5 if eps is None else eps) * uniform(generator, 0.5, 1)
        mean = _away_from(generator, D, 3, 8)
        scale = 2 * torch.exp(0.4 * (2 * torch.rand(D, generator=generator, dtype=torch.float64) - 1))
        mean[-1], scale[-1] = tiny * uniform(generator, 5, 10), tiny
        hat = _spread(generator, m, D, dim=0)
        noise = _spread(generator, m, D, dim=0)
        dy = _away_from(generator, D, 0.5, 1.5) + _away_from(generator, D, 0.5, 1.5) * hat + noise
        return dict(x=mean + scale * hat, dy=dy, gamma=_away_from(generator, D, 1.3, 2.5), eps=eps)

    def eps():
        return 10 ** uniform(generator, -3, -1)

    return {
        "cases": [fixed for _, fixed in _BACK_FIXED]
        + [
            case(integer(generator, 4, 6), 3),
            case(4, 5),
            case(integer(generator, 4, 6), 3, eps()),
            case(4, integer(generator, 5, 6), eps()),
            case(7, 2, eps()),
        ]
    }


def _back_read(record):
    """The three returned values, plain data."""
    got = read.value(record, BACK_SIGNATURE)
    kind = str(record["type"])[:60]
    if not isinstance(got, list):
        shape = f" and shape {tuple(got.shape)}" if isinstance(got, torch.Tensor) and got.ndim else ""
        raise read.Trouble(f"expected three values, dx, dgamma and dbeta, got a value of type {kind}{shape}.")
    if len(got) != 3:
        raise read.Trouble(
            f"expected three values, dx, dgamma and dbeta, got a value of type {kind} with {len(got)} entries."
        )
    return dict(zip(BACK_PARTS, got))


def _back_same(a, b):
    """Whether two gradients agree, measured by the largest entry of each column (of all, for a vector)."""
    if a.shape != b.shape:
        return False
    size = b.abs().amax(0) if b.ndim > 1 else b.abs().max()
    return bool(((a - b).abs() <= GRADIENT_TOLERANCE * size + 1e-6).all())


def bn_backward_judge(inputs, evidence):
    items = []
    for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True)):
        parts = attempt(_back_read, record)
        for part, expected in _back_truth(case).items():
            got = parts if isinstance(parts, read.Trouble) else attempt(_back_part, parts[part], part, expected.shape)
            items.append(Item(part, got, expected, case, part, _BACK_FIXED[i][0] if i < len(_BACK_FIXED) else None))
    return judge(items, BACK_MISTAKES, BACK_FALLBACK, _back_same, _back_explain)


def _back_part(got, part, shape):
    try:
        return read.as_tensor(got, shape, f"the shape of {'x' if part == 'dx' else 'gamma'}")
    except read.Trouble as trouble:
        raise read.Trouble(f"{part}: {trouble}") from None


def _back_explain(some):
    wrong = [item for item in some if not _back_same(item.got, item.expected)]
    if all(item.case["eps"] is None for item in wrong) and any(item.case["eps"] is not None for item in some):
        return "Where eps is passed you are right: set its default, 1e-5."
    if any(item.part != "dx" for item in some):
        return None
    for item in wrong:
        factor = (item.got * item.expected).sum(0) / item.expected.square().sum(0)
        if not _back_same(item.got, factor * item.expected):
            break
    else:
        return (
            "dx points the right way in every column, but its length is wrong: the factor in front is γ/s, with "
            "s = √(v + ε)."
        )

    def left(direction):  # the largest part of dx along a direction that it must not have, over the length of dx
        return max(
            float(((i.got * direction(i)).sum(0).abs() / (i.got.norm(dim=0) * direction(i).norm(dim=0) + 1e-12)).max())
            for i in wrong
        )

    to_mean = left(lambda i: torch.ones_like(i.got))
    if to_mean > 0.01:
        return (
            "A shift of all inputs does not change y, so each column of dx must sum to 0; yours does not. Check the "
            "path through the mean, and that every mean is over the batch."
        )
    return (
        "The columns of your dx sum to 0, as they must. Check the path through the scale s: up to ε, dx must also be "
        "orthogonal to x̂."
    )


# --- lab07.layer_norm, lab07.rms_norm -----------------------------------------------------------------------


def layer_norm(x, eps=1e-5):
    """(x − mean)/√(variance + ε) over the last axis, with the biased variance."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps)


def rms_norm(x, eps=1e-6):
    """x/√(mean square + ε) over the last axis."""
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)


def _over(x, dims, correction=0):
    """Mean and variance over some axes, with the axes kept."""
    if math.prod(x.shape[d] for d in dims) <= correction:
        return None
    return x.mean(dims, keepdim=True), x.var(dims, correction=correction, keepdim=True)


def _batch_axis(x):
    return _over(x, (0,)) if x.ndim > 1 else None


def _all_axes(x):
    return _over(x, tuple(range(x.ndim)))


def _all_but_first(x):
    return _over(x, tuple(range(min(1, x.ndim - 1), x.ndim)))


def _last(x):
    return _over(x, (-1,))


def _ln(statistics=_last, scale=lambda var, eps: torch.sqrt(var + eps), shift=True):
    """A layer norm with other statistics, or another scale; None where they do not exist."""

    def answer(x, eps):
        found = statistics(x)
        if found is None:
            return None
        mean, var = found
        return (x - mean if shift else x) / scale(var, eps)

    return answer


def _rms(dims=lambda x: (-1,), scale=lambda square, eps: torch.sqrt(square + eps), total=torch.mean):
    def answer(x, eps):
        if dims(x) is None:
            return None
        return x / scale(total(x.square(), dims(x), keepdim=True), eps)

    return answer


def _outside(value, eps):
    return value.sqrt() + eps


def _no_eps(value, eps):
    return value.sqrt()


def _no_root(value, eps):
    return value + eps


_NORM_EPS = [
    (_outside, "ε belongs under the root, not outside of it: where x varies little your output is far too large."),
    (_no_eps, "eps has no effect: add it under the root."),
    (lambda value, eps: torch.sqrt(value + eps**2), "ε is squared; add ε itself under the root."),
    (lambda value, eps: torch.sqrt(value.clamp(min=eps)), "ε is added under the root; it is no lower limit."),
    (lambda value, eps: value.sqrt().clamp(min=eps), "ε is added under the root; it is no lower limit."),
]

LN_MISTAKES = [Mistake(_ln(scale=scale), hint) for scale, hint in _NORM_EPS] + [
    Mistake(_ln(scale=lambda var, eps: torch.sqrt(var + 1e-5)), "eps has no effect: 1e-5 is only its default."),
    *(
        Mistake(_ln(statistics, scale), hint)
        for statistics, hint in (
            (
                _batch_axis,
                "You normalise over the batch: layer norm uses the last axis, and gives each row the same answer "
                "whatever else is in the batch.",
            ),
            (
                _all_axes,
                "You take one mean and one variance over all entries; each row has its own, over the last axis alone.",
            ),
            (
                _all_but_first,
                "You normalise over all axes but the first; layer norm uses the last axis alone, whatever stands before "
                "it.",
            ),
            (
                lambda x: _over(x, (-1,), correction=1),
                "You use the unbiased variance (divided by D − 1); layer norm divides by D.",
            ),
        )
        for scale in (lambda var, eps: torch.sqrt(var + eps), _outside, _no_eps)
    ),
    *(
        Mistake(lambda x, eps, f=f: f(x, eps), "The mean is not subtracted from x: only the spread is right.")
        for f in (_ln(shift=False), _ln(shift=False, scale=_outside))
    ),
    *(
        Mistake(
            _ln(scale=lambda var, eps, f=f: f(var, eps)),
            "The root is missing: divide by √(variance + ε). The output must not change when x is rescaled.",
        )
        for f in (_no_root, lambda var, eps: var)
    ),
    Mistake(rms_norm, "The mean is not subtracted at all: that is RMSNorm. Layer norm centres each row first."),
    Mistake(
        lambda x, eps: x - x.mean(-1, keepdim=True),
        "The mean is subtracted, but the division by √(variance + ε) is missing.",
    ),
    *(
        Mistake(
            lambda x, eps, f=f: f(x - x.mean(-1, keepdim=True), eps),
            "Your rows have length 1. Divide by the root of the mean square, not of the sum: rows then have length √D.",
        )
        for f in (
            lambda c, eps: c / torch.sqrt(c.square().sum(-1, keepdim=True) + eps),
            lambda c, eps: c / (c.norm(dim=-1, keepdim=True) + eps),
            lambda c, eps: c / c.norm(dim=-1, keepdim=True),
        )
    ),
    Mistake(
        lambda x, eps: (x - x.mean(-1, keepdim=True)) * torch.sqrt(_last(x)[1] + eps),
        "You multiply by √(variance + ε); divide by it.",
    ),
    Mistake(
        lambda x, eps: x - x.mean(-1, keepdim=True) / torch.sqrt(_last(x)[1] + eps),
        "Parentheses are missing: all of x − mean is divided by √(variance + ε).",
    ),
    Mistake(
        lambda x, eps: (x - x.mean(-1, keepdim=True)) / ((x - x.mean(-1, keepdim=True)).abs().mean(-1, keepdim=True) + eps),
        "You divide by the mean distance from the mean; layer norm divides by the root of the mean square.",
    ),
]

RMS_MISTAKES = [Mistake(_rms(scale=scale), hint) for scale, hint in _NORM_EPS] + [
    Mistake(_rms(scale=lambda square, eps: torch.sqrt(square + 1e-6)), "eps has no effect: 1e-6 is only its default."),
    *(
        Mistake(
            _rms(scale=scale, total=torch.sum),
            "Your rows have length 1. Divide by the root of the mean square, not of the sum: rows then have length √D.",
        )
        for scale in (lambda square, eps: torch.sqrt(square + eps), _outside, _no_eps)
    ),
    *(
        Mistake(_ln(scale=scale), "You subtract the mean: that is layer norm. RMSNorm leaves it in, and divides by the rms.")
        for scale in (lambda var, eps: torch.sqrt(var + eps), _outside, _no_eps)
    ),
    Mistake(
        _ln(shift=False),
        "You divide by the standard deviation; RMSNorm divides by the root of the mean square, without subtracting a mean.",
    ),
    Mistake(
        _ln(lambda x: _over(x, (-1,), correction=1), shift=False),
        "You divide by the standard deviation; RMSNorm divides by the root of the mean square, without subtracting a mean.",
    ),
    Mistake(
        lambda x, eps: (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.square().mean(-1, keepdim=True) + eps),
        "You divide by the rms, as you should, but you subtract the mean first; RMSNorm leaves it in.",
    ),
    *(
        Mistake(_rms(dims, scale), hint)
        for dims, hint in (
            (
                lambda x: (0,) if x.ndim > 1 else None,
                "You normalise over the batch: RMSNorm uses the last axis, and gives each row the same answer whatever "
                "else is in the batch.",
            ),
            (
                lambda x: tuple(range(x.ndim)),
                "You take one mean square over all entries; each row has its own, over the last axis alone.",
            ),
            (
                lambda x: tuple(range(min(1, x.ndim - 1), x.ndim)),
                "You normalise over all axes but the first; RMSNorm uses the last axis alone, whatever stands before it.",
            ),
        )
        for scale in (lambda square, eps: torch.sqrt(square + eps), _outside, _no_eps)
    ),
    Mistake(
        _rms(total=lambda square, dims, keepdim: square.sum(dims, keepdim=keepdim) / (square.shape[-1] - 1)),
        "The mean square divides by D, not by D − 1: no mean is estimated here.",
    ),
    *(
        Mistake(
            _rms(scale=scale),
            "The root is missing: divide by √(mean square + ε). The output must not change when x is rescaled.",
        )
        for scale in (_no_root, lambda square, eps: square)
    ),
    Mistake(
        _rms(scale=lambda square, eps: 1 / torch.sqrt(square + eps)),
        "You multiply by the rms; divide by it.",
    ),
    *(
        Mistake(
            lambda x, eps, f=f: x / f(x, eps),
            "You divide by the mean of |x|; RMSNorm squares before the mean and takes the root after it.",
        )
        for f in (
            lambda x, eps: x.abs().mean(-1, keepdim=True) + eps,
            lambda x, eps: torch.sqrt(x.abs().mean(-1, keepdim=True) ** 2 + eps),
        )
    ),
    Mistake(
        lambda x, eps: x / torch.sqrt(x.mean(-1, keepdim=True) ** 2 + eps),
        "You square the mean; RMSNorm takes the mean of the squares.",
    ),
]

NORM_FALLBACK = {
    "layer_norm": {
        "rows": "Each row has its own mean and its own biased variance, over the last axis: (x − mean)/√(variance + ε).",
        "any shape": "Whatever stands before it, the last axis alone is normalised: dim=-1, with keepdim=True.",
        "eps": "ε is added to the variance under the root, and it is 1e-5 unless another one is passed.",
    },
    "rms_norm": {
        "rows": "Each row has its own mean square, over the last axis: x/√(mean square + ε).",
        "any shape": "Whatever stands before it, the last axis alone is normalised: dim=-1, with keepdim=True.",
        "eps": "ε is added to the mean square under the root, and it is 1e-6 unless another one is passed.",
    },
}

_NORM_FIXED = [
    ("x = [[1, 2, 6], [10, 30, 20]]", dict(aspect="rows", eps=None, x=_numbers([[1, 2, 6], [10, 30, 20]]))),
    (
        "x = [[0.003, 0.001, −0.001], [0.02, 0.01, 0.03]] and ε = 1e-4",
        dict(aspect="eps", eps=1e-4, x=_numbers([[0.003, 0.001, -0.001], [0.02, 0.01, 0.03]])),
    ),
]


def _norm_inputs(default, spread_of):
    """Inputs of a norm over the last axis; `spread_of` makes rows that its ε acts on."""

    def inputs(generator):
        def rows(aspect, *shape):
            """Rows with means far from 0, and with scales that differ from row to row and from 1."""
            lead = torch.Size(shape[:-1])
            mean = _away_from(generator, lead.numel(), 2, 5).reshape(*lead, 1)
            steps = torch.randperm(lead.numel(), generator=generator).reshape(*lead, 1)
            scale = 1.5 + uniform(generator, 0, 0.5) + 3 * steps / max(lead.numel(), 1)
            return dict(aspect=aspect, eps=None, x=mean + scale * _spread(generator, *shape, dim=-1))

        def small(eps, *shape):
            """Rows whose variance, or mean square, is 1/4 to 1 times ε."""
            size = 0.5 + 0.5 * torch.rand((*shape[:-1], 1), generator=generator, dtype=torch.float64)
            return dict(
                aspect="eps",
                eps=eps,
                x=size * math.sqrt(default if eps is None else eps) * spread_of(generator, shape),
            )

        def eps():
            return 10 ** uniform(generator, -3, -1)

        m, D = integer(generator, 4, 6), integer(generator, 7, 9)
        return {
            "cases": [fixed for _, fixed in _NORM_FIXED]
            + [
                rows("rows", m, 3),
                rows("rows", 3, D),
                rows("any shape", D),
                rows("any shape", 1, 4),
                rows("any shape", 4, 4),
                rows("any shape", 2, 3, 5),
                rows("any shape", 2, 1, 4, 3),
                small(None, m, 3),
                small(eps(), m, 3),
                small(eps(), 2, D),
            ]
        }

    return inputs


def _norm_judge(function, default, mistakes):
    name = function.__name__
    signature = f"{name}(x, eps={default:g})".replace("1e-0", "1e-")

    def explain(some):
        wrong = [item for item in some if not same(item.got, item.expected)]
        if any(i.aspect == "eps" for i in wrong) and all(i.case["eps"] is None for i in wrong):
            return f"Where eps is passed you are right: its default must be {default:g}.".replace("1e-0", "1e-")
        return None

    def described(items, findings):
        """The findings, with a word on the output itself where no known mistake accounts for the rows."""
        general = [a for a, f in findings.items() if isinstance(f, str) and f.endswith(NORM_FALLBACK[name][a])]
        if "rows" not in general:
            return findings
        item = next(i for i in items if i.aspect == "rows" and not same(i.got, i.expected))
        row, expected = item.got[0], item.expected[0]
        finding = (
            f"{findings['rows']} The first row of your output has mean {short(row.mean())} and mean square "
            f"{short(row.square().mean())}; expected {short(expected.mean().abs())} and {short(expected.square().mean())}."
        )
        return findings | dict.fromkeys(general, finding)

    same = close(TOLERANCE, TOLERANCE)

    def eps_of(case):
        return default if case["eps"] is None else case["eps"]

    def verdict(inputs, evidence):
        quotes = [words for words, _ in _NORM_FIXED]
        items, first = [], None
        for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True)):
            x = case["x"]
            got = attempt(read.tensor, record, signature, x.shape)
            if isinstance(got, read.Trouble) and i == 0:
                first = got
            elif isinstance(got, read.Trouble) and not got.blank and first is None and x.ndim != 2:
                got = read.Trouble(f"works for a matrix, but not for x of shape {tuple(x.shape)}: {got}")
            quote = quotes[i] if i < len(quotes) else None
            items.append(Item(case["aspect"], got, function(x, eps_of(case)), case, quote=quote))
        said = [Mistake(lambda c, m=m: m.answer(c["x"], eps_of(c)), m.hint) for m in mistakes]
        findings = described(items, judge(items, said, NORM_FALLBACK[name], same, explain))
        if first is not None:  # say it once
            findings = {aspect: first if isinstance(f, read.Trouble) else f for aspect, f in findings.items()}
        return findings

    return verdict


def _centred_rows(generator, shape):
    """Rows with variance 1, five to ten times as far from 0."""
    return uniform(generator, 5, 10) + _spread(generator, *shape, dim=-1)


def _unit_rows(generator, shape):
    """Rows with mean square 1 and mean 1/2."""
    return 0.5 + math.sqrt(0.75) * _spread(generator, *shape, dim=-1)


QUESTIONS = (
    Question(
        name="lab07.bn_forward",
        signature=BN_SIGNATURE,
        contract=(
            "Batch norm of x, float64 tensor (m, D): returns y (m, D) alone. gamma, beta, running_mean and running_var are "
            "tensors (D,). In training y uses the batch's mean and biased variance, and running_mean and running_var "
            "move in place, with weight momentum, to the batch's mean and unbiased variance; at evaluation y uses the "
            "running estimates, for any m, and they stay. x, gamma and beta stay unchanged."
        ),
        aspects={"training": 3, "evaluation": 2, "running mean": 1, "running variance": 2},
        minutes=20,
        inputs=bn_forward_inputs,
        reference=bn_forward,
        judge=bn_forward_judge,
    ),
    Question(
        name="lab07.bn_backward",
        signature=BACK_SIGNATURE,
        contract=(
            "The gradients (dx, dgamma, dbeta), of shapes (m, D), (D,) and (D,), of batch norm in training, from "
            "dy = ∂ℒ/∂y and x, float64 tensors (m, D), and gamma, tensor (D,)."
        ),
        aspects={"dx": 4, "dgamma": 2, "dbeta": 1},
        minutes=25,
        inputs=bn_backward_inputs,
        reference=bn_backward,
        judge=bn_backward_judge,
    ),
    Question(
        name="lab07.layer_norm",
        signature="layer_norm(x, eps=1e-5)",
        contract=(
            "(x − mean)/√(variance + ε) over the last axis, with the biased variance and without gain and bias: "
            "float64 tensor (…, D) to a tensor of the same shape."
        ),
        aspects={"rows": 2, "any shape": 1, "eps": 1},
        minutes=10,
        inputs=_norm_inputs(1e-5, _centred_rows),
        reference=layer_norm,
        judge=_norm_judge(layer_norm, 1e-5, LN_MISTAKES),
    ),
    Question(
        name="lab07.rms_norm",
        signature="rms_norm(x, eps=1e-6)",
        contract=(
            "x/√(mean square + ε) over the last axis, without gain: float64 tensor (…, D) to a tensor of the same shape."
        ),
        aspects={"rows": 2, "any shape": 1, "eps": 1},
        minutes=5,
        inputs=_norm_inputs(1e-6, _unit_rows),
        reference=rms_norm,
        judge=_norm_judge(rms_norm, 1e-6, RMS_MISTAKES),
    ),
)
