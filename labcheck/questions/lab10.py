"""Questions of lab 10, gated recurrence and attention: references, known mistakes and verdicts."""

import itertools
import math

import torch
import torch.nn.functional as F

from .. import evidence as read
from ..judging import Item, Mistake, attempt, choose, close, integer, judge, log_uniform, normal, uniform
from ..probes.lab10 import mapping, norm
from ..question import Question

# Values here are of order 1 to 100: float32 rounding stays below 1e-5 of that, also behind a softmax;
# every mistake changes some value by 1e-3 of its size or more.
SAME = close(rtol=1e-4, atol=1e-5)


def _values(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def _got(record):
    """Words for what a record's function returned."""
    value, kind = record["value"], str(record["type"])[:60]
    if isinstance(value, torch.Tensor) and value.ndim:
        return f"a tensor of shape {tuple(value.shape)}"
    return "None" if kind == "NoneType" else f"a value of type {kind}"


def _remembered(answer):
    """`answer(case)`, computed once for each case."""
    known = {}

    def once(case):
        if case["number"] not in known:
            known[case["number"]] = answer(case)
        return known[case["number"]]

    return once


def _quote(words, got, expected):
    """The words, where three digits show the difference."""
    if isinstance(got, read.Trouble) or SAME(got, expected):
        return None
    return words if (got - expected).abs().max() > 0.01 * (1 + expected.abs().max()) else None


# --- lab10.set_forget_bias ----------------------------------------------------------------------------------

FORGET_BIAS = "set_forget_bias(lstm, value=1.0)"
REST = "everything else"


def set_forget_bias(lstm, value=1.0):
    """Set b_ih + b_hh at the forget gate to value, in every layer and direction of an nn.LSTM, in place."""
    h = lstm.hidden_size
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            if name.startswith("bias_ih"):
                parameter[h : 2 * h] = value
            elif name.startswith("bias_hh"):
                parameter[h : 2 * h] = 0


def _layers(case):
    """The endings of the parameters' names, one for each layer and direction."""
    shape = case["shape"]
    ends = ["", "_reverse"] if shape["bidirectional"] else [""]
    return [f"l{k}{end}" for k in range(shape["num_layers"]) for end in ends]


def _parts(parameters, case):
    """What is compared: the forget gates' b_ih + b_hh, the same of the other gates, and all weights."""
    h = case["shape"]["hidden_size"]
    sums = [parameters[f"bias_ih_{n}"] + parameters[f"bias_hh_{n}"] for n in _layers(case)]
    weights = [parameters[f"weight_{kind}_{n}"].flatten() for n in _layers(case) for kind in ("ih", "hh")]
    return {
        "forget bias": torch.cat([b[h : 2 * h] for b in sums]),
        "other bias": torch.cat([torch.cat([b[:h], b[2 * h :]]) for b in sums]),
        "weight": torch.cat(weights),
    }


def _value(case):
    return 1.0 if case["value"] is None else case["value"]


# The right answer, and what can go wrong with each of its choices, which may be combined.
# Which entries of a bias vector: from the hidden and the input size.
_ENTRIES = {
    "forget gate": (lambda h, n: slice(h, 2 * h), ""),
    "input gate": (
        lambda h, n: slice(0, h),
        "You write into the first quarter, the input gate; PyTorch's order is i, f, g, o, so the forget gate is bias[h:2h].",
    ),
    "candidate": (
        lambda h, n: slice(2 * h, 3 * h),
        "You write into bias[2h:3h], the cell candidate g; PyTorch's order is i, f, g, o, so the forget gate is bias[h:2h].",
    ),
    "output gate": (
        lambda h, n: slice(3 * h, 4 * h),
        "You write into the last quarter, the output gate; PyTorch's order is i, f, g, o, so the forget gate is bias[h:2h].",
    ),
    "all gates": (
        lambda h, n: slice(0, 4 * h),
        "You write into all four gates; only the forget gate, bias[h:2h], is to change.",
    ),
    "half": (
        lambda h, n: slice(h, 4 * h),
        "You write into bias[h:], three gates; the forget gate ends at 2h.",
    ),
    "first half": (
        lambda h, n: slice(0, 2 * h),
        "You write into bias[:2h], the input gate and the forget gate; the forget gate begins at h.",
    ),
    "every fourth": (
        lambda h, n: slice(1, None, 4),
        "You write into every fourth entry; the gates are blocks of h entries, not interleaved.",
    ),
    "input size": (
        lambda h, n: slice(n, 2 * n),
        "You count in steps of input_size; a gate has hidden_size entries.",
    ),
}
# What is written: from the entries' old values in b_ih and b_hh, and value, to the new ones.
_WRITTEN = {
    "sum": (lambda a, b, v: (v, 0), ""),
    "b_ih alone": (
        lambda a, b, v: (v, b),
        "PyTorch adds two bias vectors, and the old b_hh is still there: the sum b_ih + b_hh must be value, so set b_hh to 0 "
        "at the forget gate.",
    ),
    "b_hh alone": (
        lambda a, b, v: (a, v),
        "PyTorch adds two bias vectors, and the old b_ih is still there: the sum b_ih + b_hh must be value, so set b_ih to 0 "
        "at the forget gate.",
    ),
    "both": (
        lambda a, b, v: (v, v),
        "Both bias vectors hold value, and PyTorch adds them: the forget gate gets 2·value.",
    ),
    "added": (lambda a, b, v: (a + v, b), "You add value to the old bias; the sum b_ih + b_hh must be value itself."),
    "added twice": (
        lambda a, b, v: (a + v, b + v),
        "You add value to both bias vectors; their sum must be value, whatever it was before.",
    ),
    "sign": (lambda a, b, v: (-v, 0), "The sign is wrong: a positive bias opens the gate, and yours is −value."),
    "gate": (
        lambda a, b, v: (1 / (1 + math.exp(-v)), 0),
        "You write σ(value), the gate itself; its bias is to be value.",
    ),
    "logarithm": (
        lambda a, b, v: (math.log(abs(v)), 0),
        "You write ln(value); value is the bias itself.",
    ),
    "half": (lambda a, b, v: (v / 2, 0), "Only half of value arrives: one of the two bias vectors is not written."),
    "one": (lambda a, b, v: (1, 0), "value has no effect: 1 is only its default."),
}
# Where: from the ending of a name and the number of layers to whether it is written.
_WHERE = {
    "everywhere": (lambda n, layers: True, ""),
    "layer 0": (
        lambda n, layers: n == "l0",
        "Only bias_ih_l0 and bias_hh_l0 are set: the other layers (l1, …) and the second direction (l0_reverse, …) have "
        "biases of their own.",
    ),
    "layer 0, both directions": (
        lambda n, layers: n.startswith("l0"),
        "Only the first layer is set: an LSTM with num_layers = 2 has bias_ih_l1 and bias_hh_l1, too.",
    ),
    "forward": (
        lambda n, layers: not n.endswith("_reverse"),
        "Only one direction is set: a bidirectional LSTM has a second set of biases, bias_ih_l0_reverse and so on.",
    ),
    "reverse of layer 0 alone": (
        lambda n, layers: not n.endswith("_reverse") or n == "l0_reverse",
        "The second direction is set in the first layer only: each layer of a bidirectional LSTM has both.",
    ),
    "last layer": (
        lambda n, layers: n.startswith(f"l{layers - 1}"),
        "Only the last layer is set; every layer has a forget gate.",
    ),
}


def _combined(entries, written, where):
    """The answer with these three choices, as parts."""

    def answer(case):
        p = {name: tensor.clone() for name, tensor in case["weights"].items()}
        shape = case["shape"]
        at = entries(shape["hidden_size"], shape["input_size"])
        for n in _layers(case):
            if where(n, shape["num_layers"]):
                a, b = p[f"bias_ih_{n}"], p[f"bias_hh_{n}"]
                a[at], b[at] = (torch.as_tensor(x, dtype=a.dtype) for x in written(a[at].clone(), b[at].clone(), _value(case)))
        return _parts(p, case)

    return answer


def _set_weights(kind):
    def answer(case):
        p = {name: tensor.clone() for name, tensor in case["weights"].items()}
        h = case["shape"]["hidden_size"]
        for n in _layers(case):
            p[f"weight_{kind}_{n}"][h : 2 * h] = _value(case)
        return _parts(p, case)

    return answer


def _zeroed(vectors):
    """The right forget bias, but all other entries of some bias vectors at 0."""

    def answer(case):
        p = {name: tensor.clone() for name, tensor in case["weights"].items()}
        h = case["shape"]["hidden_size"]
        for n in _layers(case):
            for vector in vectors:
                p[f"{vector}_{n}"].zero_()
            p[f"bias_ih_{n}"][h : 2 * h], p[f"bias_hh_{n}"][h : 2 * h] = _value(case), 0
        return _parts(p, case)

    return answer


def _forget_bias_mistakes():
    for kind in ("ih", "hh"):
        yield Mistake(_set_weights(kind), f"You write into weight_{kind}, a weight; the forget bias is in bias_ih and bias_hh.")
    yield Mistake(
        _zeroed(["bias_ih", "bias_hh"]),
        "The other gates' biases are all 0 now; they must stay as they were. Write into bias[h:2h] alone.",
    )
    for vector in ("bias_ih", "bias_hh"):
        yield Mistake(
            _zeroed([vector]),
            f"You set all of {vector} to 0; only its forget gate, [h:2h], is to change, as the other gates keep their biases.",
        )
    choices = list(itertools.product(_ENTRIES.values(), _WRITTEN.values(), _WHERE.values()))
    hints = [[hint for _, hint in choice if hint] for choice in choices]
    for count in (1, 2):
        for choice, some in zip(choices, hints):
            if len(some) == count:
                yield Mistake(_combined(*(f for f, _ in choice)), " ".join(some))


FORGET_BIAS_MISTAKES = list(_forget_bias_mistakes())

FORGET_BIAS_FALLBACK = {
    "one layer": "The gates are blocks of h = hidden_size entries in the order i, f, g, o, so the forget gate is bias[h:2h]; "
    "there bias_ih + bias_hh must be value.",
    "several layers": "Each layer k has its own bias_ih_l{k} and bias_hh_l{k}; in every one, entries h to 2h must add up to value.",
    "both directions": "The second direction has its own bias_ih_l{k}_reverse and bias_hh_l{k}_reverse; in every one, entries "
    "h to 2h must add up to value.",
}
FROZEN = "Some parameters no longer take gradients (requires_grad is False), so training would not move them: write under torch.no_grad()."

_FORGET_BIAS_FIXED = [
    ("one layer with bias_ih = 0.5 and bias_hh = 0.25 everywhere, without value,", None),
    ("one layer with bias_ih = 0.5 and bias_hh = 0.25 everywhere and value = 3", 3.0),
]


def set_forget_bias_inputs(generator):
    """Two fixed LSTMs, so that hints can name one, and five random ones; value is far from 0 and 1."""

    def lstm(hidden, layers=1, directions=1, value=None, biases=None):
        inputs = hidden + choose(generator, -1, 1, 2)
        ends = ["", "_reverse"][:directions]
        weights = {}
        for k, end in itertools.product(range(layers), ends):
            fan_in = inputs if k == 0 else hidden * directions
            weights[f"weight_ih_l{k}{end}"] = normal(generator, 4 * hidden, fan_in)
            weights[f"weight_hh_l{k}{end}"] = normal(generator, 4 * hidden, hidden)
            for i, vector in enumerate(("ih", "hh")):
                # never near 0, so that no old bias can be overlooked
                size = 0.2 + 0.8 * torch.rand(4 * hidden, generator=generator, dtype=torch.float64)
                sign = 2 * torch.randint(2, (), generator=generator) - 1
                weights[f"bias_{vector}_l{k}{end}"] = sign * size if biases is None else torch.full_like(size, biases[i])
        shape = dict(input_size=inputs, hidden_size=hidden, num_layers=layers, bidirectional=directions == 2)
        return dict(shape=shape, value=value, weights=weights)

    def value():
        return uniform(generator, 1.7, 5.0)

    return {
        "cases": [lstm(2, value=v, biases=(0.5, 0.25)) for _, v in _FORGET_BIAS_FIXED]
        + [
            lstm(integer(generator, 3, 5), value=-value()),
            lstm(integer(generator, 3, 4), layers=2, value=value()),
            lstm(3, layers=3, value=value()),
            lstm(integer(generator, 2, 4), directions=2, value=value()),
            lstm(3, layers=2, directions=2, value=value()),
        ]
    }


def _lstm_aspect(case):
    shape = case["shape"]
    return "both directions" if shape["bidirectional"] else "several layers" if shape["num_layers"] > 1 else "one layer"


def _lstm_state(record, state, case):
    """The parameters after the call, as tensors by name."""
    if record["outcome"] != "returned":
        read.value(record, FORGET_BIAS)  # says why
    for name in case["weights"]:
        if name not in state["parameters"]:
            raise read.Trouble(f"after the call the LSTM has no tensor {name}; change its values and keep its names.")
    return {name: read.as_tensor(state["parameters"][name], tensor.shape, f"the shape of {name}") for name, tensor in case["weights"].items()}


def set_forget_bias_judge(inputs, evidence):
    items, moved, changed, frozen = [], False, set(), False
    calls = list(zip(inputs["cases"], evidence["cases"], evidence["states"], strict=True))
    for number, (drawn, record, state) in enumerate(calls):
        case = drawn | {"number": number}
        aspect = _lstm_aspect(case)
        found = attempt(_lstm_state, record, state, case)
        if isinstance(found, read.Trouble):
            items.append(Item(aspect, found, None, case))
            if aspect == "one layer":
                items.append(Item(REST, found, None, case))
            continue
        before, got, expected = (_parts(p, case) for p in (case["weights"], found, _right_state(case)))
        words = _FORGET_BIAS_FIXED[number][0] if number < len(_FORGET_BIAS_FIXED) else None
        quote = _quote(words, got["forget bias"], expected["forget bias"])
        items.append(Item(aspect, got["forget bias"], expected["forget bias"], case, "forget bias", quote))
        items += [Item(REST, got[part], expected[part], case, part) for part in ("other bias", "weight")]
        moved |= not SAME(got["forget bias"], before["forget bias"])
        changed |= {name for name in ("other bias", "weight") if not SAME(got[name], before[name])}
        frozen |= not set(case["weights"]) <= set(state["trainable"])

    def explain(some):
        given = [SAME(i.got, i.expected) for i in some if i.part == "forget bias" and i.case["value"] is not None]
        if given and all(given) and any(i.part == "forget bias" and not SAME(i.got, i.expected) for i in some):
            return "Without value the forget bias must be 1: set the default value=1.0."
        return None

    if not moved and not changed:
        returned = next((record for _, record, _ in calls if record["outcome"] == "returned"), None)
        if returned is not None:
            left = read.Trouble(
                f"your function returned {_got(returned)} and left b_ih + b_hh and all weights of lstm as they were; what it "
                "returns does not count: write into the biases of lstm, in place."
            )
            troubles = {item.aspect: item.got for item in items if isinstance(item.got, read.Trouble)}
            return {aspect: troubles.get(aspect, left) for aspect in (*FORGET_BIAS_FALLBACK, REST)}
    words = {"other bias": "biases of other gates", "weight": "weights"}
    also = " and ".join(words[name] for name in words if name in changed)
    rest = f"Only the forget gate's biases may change, and you changed {also}, too: write into bias[h:2h] alone."
    mistakes = [Mistake(_remembered(m.answer), m.hint) for m in FORGET_BIAS_MISTAKES]
    gates = [item for item in items if item.part == "forget bias"]
    if changed and all(SAME(item.got, item.expected) for item in gates):  # then only a mistake that leaves them right can account for the rest
        mistakes = [m for m in mistakes if all(SAME(item.got, m.answer(item.case)["forget bias"]) for item in gates)]
    findings = judge(items, mistakes, FORGET_BIAS_FALLBACK | {REST: rest}, SAME, explain)
    if findings[REST] is None and frozen:
        findings[REST] = FROZEN
    elif findings[REST] is None and not moved:  # nothing was done, so nothing was spared
        findings[REST] = "The forget gate's biases are as they were."
    return findings


def _right_state(case):
    p = {name: tensor.clone() for name, tensor in case["weights"].items()}
    h = case["shape"]["hidden_size"]
    for n in _layers(case):
        p[f"bias_ih_{n}"][h : 2 * h], p[f"bias_hh_{n}"][h : 2 * h] = _value(case), 0
    return p


# --- gradients beside an output -----------------------------------------------------------------------------

# Where the output is wrong, so are the gradients, and advice on them alone would mislead.
OUTPUT_FIRST = "The gradients are those of another function: mend the output first."


def _gradients(y, wanted, dy):
    """The gradients of (y·dy).sum() as one vector, zeros where none arrives."""
    found = [torch.zeros_like(tensor) for tensor in wanted]
    if y.requires_grad:
        gradients = torch.autograd.grad(y, wanted, dy, allow_unused=True)
        found = [zero if g is None else g for zero, g in zip(found, gradients)]
    return torch.cat([g.flatten() for g in found])


def _gradient(record, signature, wanted):
    """All gradients of a case as one vector, in the order of `wanted`, a dict of tensors."""
    found = read.mapping(record, signature)
    return torch.cat([read.as_tensor(found[name], tensor.shape).flatten() for name, tensor in wanted.items()])


def _same_gradient(a, b):
    """Equal within 1e-3 of the largest entry: what is detached changes more, a small constant in a denominator less."""
    return (a - b).abs().max() <= 1e-3 * b.abs().max() + 1e-5


def _judge_with_gradients(items, mistakes, fallback, names):
    """`judge`, where a known mistake accounts for gradients only if the output is wrong, too."""
    wrong = [item for item in items if not isinstance(item.got, read.Trouble) and not SAME(item.got, item.expected)]
    if any(item.part in ("y", "out") for item in wrong):
        return judge(items, mistakes, fallback | {"gradients": OUTPUT_FIRST}, SAME)
    gradients = [item for item in items if item.aspect == "gradients"]
    lost = [name for name in names if any(name in _lost(item, names) for item in wrong if item.part == "gradients")]
    hint = f"The values are right, but the gradient is not, with respect to {', '.join(lost)}: look for .detach(), .data or no_grad."
    others = [item for item in items if item.aspect != "gradients"]
    return judge(others, mistakes, fallback, SAME) | judge(gradients, [], {"gradients": hint}, _same_gradient)


def _lost(item, names):
    """The names of those tensors whose gradient is wrong."""
    sizes = [item.case[name].numel() for name in names]
    pairs = zip(names, item.got.split(sizes), item.expected.split(sizes))
    return [name for name, got, expected in pairs if not _same_gradient(got, expected)]


# --- lab10.attention ----------------------------------------------------------------------------------------

ATTENTION = "attention(q, k, v)"
LAST, BEFORE = "weights of the last position", "weights before it"


def attention(q, k, v):
    """Causal scaled dot-product attention: (out, weights)."""
    weights = _causal(_scores(q, k)).softmax(-1)
    return weights @ v, weights


def _scores(q, k):
    return q @ k.mT / math.sqrt(q.shape[-1])


def _lower(s, diagonal=0):
    return torch.ones(s.shape[-2:], dtype=torch.bool).tril(diagonal)


def _causal(scores, diagonal=0, fill=-math.inf):
    return scores.masked_fill(~_lower(scores, diagonal), fill)


def _softmax_of(scores_of):
    """The answer whose masked scores are scores_of(q, k, v)."""

    def answer(q, k, v):
        weights = scores_of(q, k, v).softmax(-1)
        return weights @ v, weights

    return answer


def _weights(weights_of):
    """The answer whose weights are weights_of(q, k)."""

    def answer(q, k, v):
        weights = weights_of(q, k)
        return weights @ v, weights

    return answer


def _of_output(out):
    """The right weights w, but out(w, q, k, v) as the output."""

    def answer(q, k, v):
        w = attention(q, k, v)[1]
        return out(w, q, k, v), w

    return answer


DIAGONAL = (
    "The diagonal is masked, so position 0 sees nothing at all; position t must see itself: mask the entries above the "
    "diagonal only, triu(1)."
)
NAN_FIRST = "The first row of the weights is NaN: a softmax over scores that are all −∞. " + DIAGONAL
NOT_KEYS = "The weights are NaN where a query meets a later key: there all scores of your softmax are −∞. Take it over the keys, the last axis (dim=-1)."

ATTENTION_MISTAKES = [
    (
        _softmax_of(lambda q, k, v: _causal(q @ k.mT)),
        "The factor 1/√d is missing: the scores q·k have variance d, the softmax saturates, and little gradient gets through.",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(q @ k.mT / math.sqrt(q.shape[-2]))),
        "You divide by √T, the root of the length; the variance of q·k is d, the number of features: divide by √d.",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(q @ k.mT / q.shape[-1])),
        "You divide the scores by d (or twice by √d); their standard deviation is √d, so divide by √d once.",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(q @ k.mT / math.sqrt(v.shape[-1]))),
        "You divide by the root of v's number of features; q and k make the scores: take d from q.",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(q @ k.mT / math.sqrt(q.shape[0]))),
        "You divide by the root of the batch size; the variance of q·k is d, the number of features: q.shape[-1].",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(q @ k.mT * math.sqrt(q.shape[-1]))),
        "You multiply the scores by √d; divide by it.",
    ),
    (
        _weights(lambda q, k: _causal(q @ k.mT).softmax(-1) / math.sqrt(q.shape[-1])),
        "You divide by √d after the softmax: the rows no longer sum to 1. The scores are to be divided, before it.",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(_scores(F.normalize(q, dim=-1), F.normalize(k, dim=-1)))),
        "You normalise q and k to length 1; the scores are q·k/√d of q and k as they come.",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT)),
        "You normalise q and k to length 1; the scores are q·k/√d of q and k as they come.",
    ),
    (
        _weights(lambda q, k: _causal(_scores(q, k)).softmax(-2)),
        "Your columns sum to 1, not the rows: each query distributes weight 1 over the keys, so take the softmax over the "
        "last axis.",
    ),
    (
        _weights(lambda q, k: _scores(q, k).softmax(-2)),
        "The mask is missing, and your columns sum to 1: take the softmax over the keys, the last axis.",
    ),
    (
        _weights(lambda q, k: _scores(q, k).softmax(-2).tril()),
        "Mask before the softmax, and take it over the keys, the last axis: rows must sum to 1.",
    ),
    (
        _weights(lambda q, k: _scores(q, k).softmax(-1).tril()),
        "You mask after the softmax, so the rows no longer sum to 1, and the future still acts through the denominator: put "
        "−∞ in the scores before the softmax.",
    ),
    (
        _softmax_of(lambda q, k, v: _scores(q, k)),
        "The causal mask is missing: a later key changes the output at position 0. Position t sees 0 to t only.",
    ),
    (
        _softmax_of(lambda q, k, v: q @ k.mT),
        "Two things are missing: the factor 1/√d and the causal mask.",
    ),
    (
        _softmax_of(lambda q, k, v: _scores(q, k).masked_fill(~_lower(q @ k.mT).mT, -math.inf)),
        "Your mask is the wrong way round: position t sees itself and the future. Mask the entries above the diagonal.",
    ),
    (
        _softmax_of(lambda q, k, v: _scores(q, k).masked_fill(~_lower(q @ k.mT).mT, -1e9)),
        "Your mask is the wrong way round: position t sees itself and the future. Mask the entries above the diagonal.",
    ),
    (
        _softmax_of(lambda q, k, v: _scores(q, k).masked_fill(_lower(q @ k.mT), -1e9)),
        "Your mask is inverted: it hides 0 to t and shows the future. (masked_fill fills where the mask is True.)",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(_scores(q, k), 1)),
        "Position t sees t + 1, one too many: your mask must hide everything above the main diagonal, triu(1).",
    ),
    (_softmax_of(lambda q, k, v: _causal(_scores(q, k), -1, -1e9)), DIAGONAL),
    (_softmax_of(lambda q, k, v: _scores(q, k) - 1e9 * ~_lower(q @ k.mT, -1)), DIAGONAL),
    (_weights(lambda q, k: _causal(_scores(q, k), -1).softmax(-1).nan_to_num()), DIAGONAL),
    (
        _softmax_of(lambda q, k, v: _causal(_scores(q, k), 0, 0.0)),
        "Masked scores are 0 in your answer, and the softmax gives e⁰ = 1 to them: put −∞ (or −1e9) there.",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(_scores(q, k), 0, 1e-9)),
        "Masked scores are 0 in your answer, and the softmax gives e⁰ = 1 to them: put −∞ (or −1e9) there.",
    ),
    (
        _softmax_of(lambda q, k, v: _causal(_scores(q, k).softmax(-1))),
        "The softmax is taken twice; once is enough.",
    ),
    (
        _weights(lambda q, k: _causal(_scores(q, k)).softmax(-1).softmax(-1)),
        "The softmax is taken twice; once is enough.",
    ),
    (
        _weights(lambda q, k: _scores(k, q).masked_fill(~_lower(q @ k.mT), -math.inf).softmax(-1)),
        "q and k are exchanged: entry (t, s) of the scores is query t times key s, q @ kᵀ.",
    ),
    (
        _weights(lambda q, k: _scores(q, k).tril()),
        "Your weights are the scores themselves: a softmax over the keys must make them positive, with rows that sum to 1.",
    ),
    (
        lambda q, k, v: (attention(q, k, v)[0], _scores(q, k)),
        "You return the scores in place of the weights: return what comes out of the softmax.",
    ),
    (
        lambda q, k, v: (attention(q, k, v)[0], _scores(q, k).tril()),
        "You return the scores in place of the weights: return what comes out of the softmax.",
    ),
    (
        lambda q, k, v: (attention(q, k, v)[0], attention(q, k, v)[1].mT),
        "The weights you return are transposed: entry (t, s) is what position t takes from position s.",
    ),
    (_of_output(lambda w, q, k, v: w.mT @ v), "The output is weightsᵀ v; it must be weights @ v: row t weighs the values for position t."),
    (_of_output(lambda w, q, k, v: v), "The output is v itself: multiply it by the weights."),
    (_of_output(lambda w, q, k, v: _scores(q, k) @ v), "The output is scores @ v; it must be weights @ v."),
    (
        _of_output(lambda w, q, k, v: w @ k if v.shape == k.shape else w @ v.new_zeros(v.shape)),
        "The output is weights @ k; the values are v.",
    ),
    (
        _of_output(lambda w, q, k, v: v + w @ v),
        "A skip connection is in your output: attention alone is weights @ v; the block adds the skip.",
    ),
    (
        _of_output(lambda w, q, k, v: (w @ v) / math.sqrt(q.shape[-1])),
        "Your output is divided by √d: only the scores are.",
    ),
]

ATTENTION_FALLBACK = {
    LAST: "The last position sees all keys, so no mask acts on its row: check q·k/√d and the softmax over the keys.",
    BEFORE: "Row t of the weights is the softmax of q_t·k_s/√d over s = 0 … t, and 0 for later s.",
    "output": "out is weights @ v: for each position the mean of the values, weighted by its row.",
}
LAST_FIRST = "Begin with the last position."
WEIGHTS_FIRST = "The output follows from your weights: mend them first."

_ATTENTION_FIXED = (
    "q = [[[1, 0, 0, 0], [1, 1, 0, 0]]], k = [[[1, 0, 0, 0], [0, 3, 0, 0]]], v = [[[1], [3]]]",
    dict(
        q=_values([[[1, 0, 0, 0], [1, 1, 0, 0]]]),
        k=_values([[[1, 0, 0, 0], [0, 3, 0, 0]]]),
        v=_values([[[1], [3]]]),
        dy=_values([[[1], [2]]]),
    ),
)


def attention_inputs(generator):
    """One fixed case, so that hints can name it, and five random ones, one of a single position.

    Scores are of order 1: larger ones would fail a mask after the softmax with Σw + 1e-9 as the denominator.
    Batch, length and both numbers of features differ from one another, except that v may have as many as q.
    """

    def case(batch, time, d, features):
        q, k, v = (normal(generator, batch, time, n) for n in (d, d, features))
        return dict(q=q, k=k, v=v, dy=normal(generator, batch, time, features))

    same = integer(generator, 8, 9)
    return {
        "cases": [
            _ATTENTION_FIXED[1],
            case(2, integer(generator, 4, 6), integer(generator, 8, 12), 3),
            case(4, 3, integer(generator, 5, 7), 2),
            case(1, 6, same, same),
            case(3, 7, 5, 4),
            case(2, 1, 4, 3),
        ]
    }


def _attention_case(f):
    """What the answer f gives for a case, by part."""

    def answer(case):
        wanted = [case[name].clone().requires_grad_() for name in "qkv"]
        out, weights = f(*wanted)
        gradients = _gradients(out, wanted, case["dy"])
        weights = weights.detach()
        return {"weights[:, -1]": weights[:, -1], "weights[:, :-1]": weights[:, :-1], "out": out.detach(), "gradients": gradients}

    return _remembered(answer)


def _attention_pair(record, case):
    """(out, weights) as they came, of the right shapes; their entries may be NaN."""
    names = "two tensors, out (B, T, features of v) and weights (B, T, T)"
    got = read.value(record, ATTENTION)
    if not isinstance(got, list):
        raise read.Trouble(f"expected {names}; got {_got(record)}.")
    if len(got) != 2:
        raise read.Trouble(f"expected {names}; got {len(got)} values.")
    if not all(isinstance(t, torch.Tensor) and t.ndim for t in got):
        raise read.Trouble(f"expected {names}; got a value of type {str(record['type'])[:60]} that does not hold two such tensors.")
    batch, time, _ = case["q"].shape
    shapes = {"out": (batch, time, case["v"].shape[-1]), "weights": (batch, time, time)}
    if [t.shape for t in got] == list(shapes.values())[::-1] and len(set(shapes.values())) == 2:
        raise read.Trouble("out and weights are exchanged: return out first.")
    for t, (name, shape) in zip(got, shapes.items()):
        if t.shape != shape:
            raise read.Trouble(f"expected {name} of shape {shape}, got {tuple(t.shape)}.")
        if t.dtype not in (torch.float32, torch.float64):
            raise read.Trouble(f"expected {name} with floating-point values (float64), got {str(t.dtype).removeprefix('torch.')}.")
    return got


def _nan_of_weights(weights):
    """The trouble of weights that are NaN in a telling place, or None."""
    nan, future = weights.isnan(), ~_lower(weights)
    if future.any() and nan.eq(future).all():
        return read.Trouble(NOT_KEYS)
    if nan[:, 0].all() and not nan[:, 1:].any():
        return read.Trouble(NAN_FIRST)
    return None


def attention_judge(inputs, evidence):
    items, telling, follows = [], None, True
    calls = zip(inputs["cases"], evidence["cases"], evidence["gradients"], strict=True)
    aspects = (LAST, BEFORE, "output", "gradients")
    for number, (drawn, record, gradients) in enumerate(calls):
        case = drawn | {"number": number}
        pair = attempt(_attention_pair, record, drawn)
        if isinstance(pair, read.Trouble):
            items += [Item(aspect, pair, None, case) for aspect in aspects]
            continue
        out, weights = pair
        telling = telling or _nan_of_weights(weights)
        expected = _attention_case(attention)(case)
        follows &= SAME(out, weights.to(drawn["v"].dtype) @ drawn["v"])
        for aspect, part, got in (
            (LAST, "weights[:, -1]", weights[:, -1]),
            (BEFORE, "weights[:, :-1]", weights[:, :-1]),
            ("output", "out", out),
        ):
            got = attempt(read.as_tensor, got)
            quote = _quote(_ATTENTION_FIXED[0], got, expected[part]) if number == 0 else None
            items.append(Item(aspect, got, expected[part], case, part, quote))
        wanted = {name: drawn[name] for name in "qkv"}
        items.append(Item("gradients", attempt(_gradient, gradients, ATTENTION, wanted), expected["gradients"], case, "gradients"))
    wrong = {i.aspect for i in items if isinstance(i.got, read.Trouble) or not SAME(i.got, i.expected)}
    fallback = dict(ATTENTION_FALLBACK)
    if LAST in wrong:
        fallback[BEFORE] = LAST_FIRST
    if follows and wrong & {LAST, BEFORE}:
        fallback["output"] = WEIGHTS_FIRST
    mistakes = [Mistake(_attention_case(f), text) for f, text in ATTENTION_MISTAKES]
    findings = _judge_with_gradients(items, mistakes, fallback, "qkv")
    if telling:  # it explains all the others
        findings = {aspect: finding and telling for aspect, finding in findings.items()}
    return findings


# --- lab10.prenorm_block ------------------------------------------------------------------------------------

PRENORM = "prenorm_block(x, attn, ffn, ln1, ln2)"
ATTN, FFN, BOTH = "attention branch", "feed-forward branch", "both branches"


def prenorm_block(x, attn, ffn, ln1, ln2):
    """A Pre-LN transformer block."""
    x = x + attn(ln1(x))
    return x + ffn(ln2(x))


def _then(first, second):
    """The block of two steps, each a function of x, its branch and its norm."""
    return lambda x, attn, ffn, ln1, ln2: second(first(x, attn, ln1), ffn, ln2)


def _pre(x, f, ln):
    return x + f(ln(x))


def _post(x, f, ln):
    return ln(x + f(x))


def _stale(x, attn, ffn, ln1, ln2):
    return x + ffn(ln2(x + attn(ln1(x))))


PRENORM_MISTAKES = [
    (
        _then(_post, _post),
        "This is Post-LN: the norm acts on the stream, after the addition. Pre-LN normalises the input of each branch, and "
        "nothing else.",
    ),
    (_then(_post, _pre), "The first half is Post-LN: write x + attn(ln1(x)), not ln1(x + attn(x))."),
    (_then(_pre, _post), "The second half is Post-LN: write x + ffn(ln2(x)), not ln2(x + ffn(x))."),
    (
        _then(lambda x, f, ln: ln(x + f(ln(x))), lambda x, f, ln: ln(x + f(ln(x)))),
        "The norms act twice, on the input of each branch and on the stream after it: leave the stream as it is.",
    ),
    (
        _then(lambda x, f, ln: x + ln(f(x)), lambda x, f, ln: x + ln(f(x))),
        "The norms act on the output of the branches; they belong before them: attn(ln1(x)), ffn(ln2(x)).",
    ),
    (
        _then(lambda x, f, ln: x + f(x), _pre),
        "ln1 is not used: attention must read ln1(x).",
    ),
    (
        _then(_pre, lambda x, f, ln: x + f(x)),
        "ln2 is not used: the feed-forward branch reads the stream as it is, and that grows with depth. Give it ln2(x).",
    ),
    (_then(lambda x, f, ln: x + f(x), lambda x, f, ln: x + f(x)), "No norm is used: the branches read ln1(x) and ln2(x)."),
    (
        _then(lambda x, f, ln: f(ln(x)), _pre),
        "The first skip is missing: with ffn = 0 the block must return x + attn(ln1(x)).",
    ),
    (
        _then(_pre, lambda x, f, ln: f(ln(x))),
        "The second skip is missing: with ffn = 0 your block returns 0, not x + attn(ln1(x)).",
    ),
    (
        _then(lambda x, f, ln: f(ln(x)), lambda x, f, ln: f(ln(x))),
        "Both skips are missing: with attn = ffn = 0 the block must return x.",
    ),
    (
        _then(lambda x, f, ln: ln(x) + f(ln(x)), lambda x, f, ln: ln(x) + f(ln(x))),
        "The skips start behind the norms (x = ln(x) overwrites the stream): add the branch to x itself.",
    ),
    (
        _then(lambda x, f, ln: ln(x) + f(ln(x)), _pre),
        "The first skip starts behind ln1: add attn(ln1(x)) to x itself.",
    ),
    (
        _then(_pre, lambda x, f, ln: ln(x) + f(ln(x))),
        "The second skip starts behind ln2: add ffn(ln2(x)) to x itself, as attention left it.",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: x + attn(ln1(x)) + ffn(ln2(x)),
        "Both branches read the block's input, side by side: ffn must read what attention left, ln2(x + attn(ln1(x))).",
    ),
    (
        _stale,
        "The second sum starts from the block's input again, so attention's part is lost: add ffn(…) to x + attn(ln1(x)).",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: x + ffn(ln2(attn(ln1(x)))),
        "One skip around both branches is not enough: each branch has its own.",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: _pre(_pre(x, ffn, ln2), attn, ln1),
        "The order is wrong: attention comes first, then the feed-forward branch.",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: _pre(_pre(x, ffn, ln1), attn, ln2),
        "attn and ffn are exchanged: x + attn(ln1(x)) comes first.",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: _pre(_pre(x, attn, ln2), ffn, ln1),
        "ln1 and ln2 are exchanged: ln1 belongs to attn, ln2 to ffn.",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: _pre(_pre(x, attn, ln1), ffn, ln1),
        "ln1 is used twice: the feed-forward branch has its own norm, ln2.",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: _pre(_pre(x, attn, ln2), ffn, ln2),
        "ln2 is used twice: attention has its own norm, ln1.",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: _pre(_pre(x, attn, ln1), attn, ln2),
        "attn acts twice and ffn never: the second branch is ffn.",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: _pre(_pre(x, ffn, ln1), ffn, ln2),
        "ffn acts twice and attn never: the first branch is attn.",
    ),
    (lambda x, attn, ffn, ln1, ln2: x + attn(ln1(x)), "The feed-forward branch is missing."),
    (lambda x, attn, ffn, ln1, ln2: x + ffn(ln2(x)), "The attention branch is missing."),
    (lambda x, attn, ffn, ln1, ln2: x, "You return x: neither branch is added."),
    (
        lambda x, attn, ffn, ln1, ln2: ln2(_pre(_pre(x, attn, ln1), ffn, ln2)),
        "The stream is normalised once more at the end; in a Pre-LN net only the read-out does that.",
    ),
    (
        lambda x, attn, ffn, ln1, ln2: x + _pre(_pre(x, attn, ln1), ffn, ln2),
        "x is added once too often: the stream goes in once, and each branch is added to it.",
    ),
]

PRENORM_FALLBACK = {
    ATTN: "With ffn = 0 the block must return x + attn(ln1(x)).",
    FFN: "With attn = 0 the block must return x + ffn(ln2(x)).",
    BOTH: "The second branch acts on what the first left: x ← x + attn(ln1(x)), then x ← x + ffn(ln2(x)).",
}


def _times(factor, n=2):
    """The mapping h ↦ factor·h for one time."""
    zero = torch.zeros(n, n, dtype=torch.float64)
    eye = torch.eye(n, dtype=torch.float64)
    return dict(M=_values([[1]]), A=factor * eye, B=zero, c=torch.zeros(n, dtype=torch.float64))


_PLAIN = dict(gain=_values([1, 1]), bias=_values([0, 0]))
_PRENORM_FIXED = [
    (f"x = [[[1, 3]]], attn(h) = {words[0]}, ffn(h) = {words[1]} and plain layer norms", aspect, a, f)
    for words, aspect, a, f in ((("2h", "0"), ATTN, 2, 0), (("0", "10h"), FFN, 0, 10), (("2h", "10h"), BOTH, 2, 10))
]


def prenorm_block_inputs(generator):
    """Three fixed cases, so that hints can name one, and four random ones; the norms have gains and biases that differ."""

    def zero(time, n):
        return dict(M=torch.zeros(time, time, dtype=torch.float64)) | {key: _times(0, n)[key] for key in "ABc"}

    def branch(time, n):
        A, B = (normal(generator, n, n, scale=1 / math.sqrt(n)) for _ in "AB")
        return dict(M=normal(generator, time, time, scale=0.8), A=A, B=B, c=normal(generator, n, scale=0.5))

    def ln(n, low, high):
        gain = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
        return dict(gain=gain, bias=normal(generator, n, scale=0.5))

    def case(aspect, batch, time, n):
        x = 1 + 2 * normal(generator, batch, time, n)
        attn = zero(time, n) if aspect == FFN else branch(time, n)
        ffn = zero(time, n) if aspect == ATTN else branch(time, n)
        return dict(aspect=aspect, x=x, attn=attn, ffn=ffn, ln1=ln(n, 0.4, 0.8), ln2=ln(n, 1.3, 2.0), dy=normal(generator, batch, time, n))

    fixed = [
        dict(aspect=aspect, x=_values([[[1, 3]]]), attn=_times(a), ffn=_times(f), ln1=_PLAIN, ln2=_PLAIN, dy=_values([[[1, 2]]]))
        for _, aspect, a, f in _PRENORM_FIXED
    ]
    return {
        "cases": fixed
        + [
            case(ATTN, 2, 3, 5),
            case(FFN, 2, 3, 5),
            case(BOTH, 2, integer(generator, 3, 4), 5),
            case(BOTH, 3, 2, integer(generator, 4, 6)),
        ]
    }


def _prenorm_case(f):
    """What the answer f gives for a case, by part."""

    def answer(case):
        x = case["x"].clone().requires_grad_()
        y = f(x, mapping(case["attn"]), mapping(case["ffn"]), norm(case["ln1"]), norm(case["ln2"]))
        return {"y": y.detach(), "gradients": _gradients(y, [x], case["dy"])}

    return _remembered(answer)


def prenorm_block_judge(inputs, evidence):
    items = []
    calls = zip(inputs["cases"], evidence["cases"], evidence["gradients"], strict=True)
    for number, (drawn, record, gradients) in enumerate(calls):
        case = drawn | {"number": number}
        y = attempt(read.tensor, record, PRENORM, drawn["x"].shape)
        if isinstance(y, read.Trouble):
            items += [Item(aspect, y, None, case) for aspect in (drawn["aspect"], "gradients")]
            continue
        expected = _prenorm_case(prenorm_block)(case)
        quote = _quote(_PRENORM_FIXED[number][0], y, expected["y"]) if number < len(_PRENORM_FIXED) else None
        items.append(Item(drawn["aspect"], y, expected["y"], case, "y", quote))
        found = attempt(_gradient, gradients, PRENORM, {"x": drawn["x"]})
        items.append(Item("gradients", found, expected["gradients"], case, "gradients"))
    mistakes = [Mistake(_prenorm_case(f), text) for f, text in PRENORM_MISTAKES]
    return _judge_with_gradients(items, mistakes, PRENORM_FALLBACK, "x")


# --- lab10.baselines ----------------------------------------------------------------------------------------

BASELINES = "baselines(T)"
# 0.167 for 1/6 is off by 0.2 %, and right; T + 19 in place of T + 20 changes a short task by more than 2 %.
BASELINES_TOLERANCE = 3e-3


def baselines(T):
    """(copy, adding): the memoryless losses of the copy task in nats and of the adding task as a mean square."""
    return 10 * math.log(8) / (T + 20), 1 / 6


_L8 = math.log(8)

# By the value that they concern, as functions of T.
BASELINES_MISTAKES = {
    "copy": [
        (lambda T: 30 / (T + 20), "That is in bits (log₂ 8 = 3); PyTorch's cross-entropy is in nats: use the natural logarithm."),
        (lambda T: 10 * math.log10(8) / (T + 20), "You take log₁₀; PyTorch's cross-entropy is in nats: use the natural logarithm."),
        (lambda T: 10 * _L8 / T, "You average over T steps; the sequence has T + 20 in all."),
        (lambda T: 10 * _L8 / (T + 10), "You average over T + 10 steps; the sequence has T + 20: ten symbols, T steps between, ten answers."),
        (lambda T: 10 * _L8 / (T + 19), "The number of steps is off by one: it is T + 20."),
        (lambda T: 10 * _L8 / (T + 21), "The number of steps is off by one: it is T + 20."),
        (lambda T: 20 * _L8 / (T + 20), "You count a guess for 20 steps; symbols are wanted in the last ten only."),
        (lambda T: 10 * math.log(10) / (T + 20), "You guess among 10 symbols; at the end only the 8 data symbols are possible."),
        (lambda T: 10 * math.log(9) / (T + 20), "You guess among 9 symbols; at the end the blank is not possible, only the 8 data symbols."),
        (lambda T: 8 * math.log(10) / (T + 20), "8 and 10 are exchanged: ten symbols are wanted, each one of eight."),
        (lambda T: 8 * _L8 / (T + 20), "You count eight guesses; ten symbols are wanted, each one of eight."),
        (lambda T: _L8 / (T + 20), "The ten is missing: each of ten symbols costs ln 8."),
        (lambda T: _L8, "That is the loss of one guess; the T + 10 steps with a blank cost nothing and belong to the mean, too."),
        (lambda T: 10 * _L8, "That is the sum over a sequence; divide it by its T + 20 steps."),
        (lambda T: (T + 20) * _L8, "That is the cost of a guess in each step, summed; only ten of T + 20 steps need a guess, and the loss is a mean."),
        (lambda T: (T + 10) * _L8 / (T + 20), "You let the blanks be guessed and the symbols be known; it is the other way round."),
        (lambda T: -10 * _L8 / (T + 20), "The sign is wrong: a cross-entropy is positive."),
        (lambda T: math.exp(10 * _L8 / (T + 20)), "That is the perplexity; the cross-entropy itself is its logarithm."),
        (lambda T: 10 * (1 - 1 / 8) / (T + 20), "That is the share of wrong answers; the cross-entropy of a guess among eight is ln 8."),
        (lambda T: 10 * _L8 / 8 / (T + 20), "The mean over eight equally likely symbols is ln 8 already: do not divide by 8."),
    ],
    "adding": [
        (lambda T: 1 / 12, "That is the variance of one number; the sum of two has twice that."),
        (lambda T: 1 / 3, "The best guess is the mean, 1, and its mean squared error the variance of the sum, 2/12; the mean square of one number, or the mean absolute error, is twice that."),
        (lambda T: 7 / 6, "That is the mean square of the sum, the error of the guess 0; the best guess is the mean, 1."),
        (lambda T: 5 / 12, "That is the error of the guess ½; the sum of two numbers has the mean 1."),
        (lambda T: math.sqrt(1 / 6), "That is the root of the mean squared error; the question asks for the mean square."),
        (lambda T: 1.0, "1 is the best guess; the question asks for its mean squared error."),
        (lambda T: T / 12, "Only two of the T numbers are marked: the variance does not grow with T."),
        (lambda T: 1 / (6 * T), "The error is that of one sum at the end: do not divide by T."),
        (lambda T: 1 / (6 * (T + 20)), "The error is that of one sum at the end: do not divide by T + 20."),
        (lambda T: 1 / 144, "Variances of independent numbers add: 1/12 + 1/12. You multiply them."),
        (lambda T: 2.0, "The numbers are uniform on (0, 1), with variance 1/12; yours are standard normal."),
        (lambda T: 2 / 3, "The numbers are uniform on (0, 1), with variance 1/12; on (−1, 1) it would be 1/3."),
        (lambda T: 1 / 24, "You have the variance of the mean of two numbers; that of their sum is four times as large."),
        (lambda T: 0.0, "Without memory the marked numbers are unknown, so the error cannot be 0: it is the variance of their sum."),
    ],
}
SWAPPED = "The two are exchanged: the copy task comes first."

BASELINES_FALLBACK = {
    "copy": "Without memory the blanks are still certain and cost nothing; the last ten of T + 20 steps are a guess among eight, "
    "ln 8 nats each. The loss is the mean over all steps.",
    "adding": "The best guess without memory is the mean of the sum, so the mean squared error is the variance of the sum of two "
    "numbers from U(0, 1).",
}


def baselines_inputs(generator):
    """T = 100, so that hints can name it, a short, a middle and a long task."""
    lengths = (5, 15), (20, 60), (200, 600)  # in longer ones, four decimals of the loss would be too few
    return {"T": [100] + [round(log_uniform(generator, *ends)) for ends in lengths]}


def _pair_of_numbers(record):
    """{"copy": …, "adding": …} as tensors, from a tuple, a list, an array or a tensor of two."""
    got = read.value(record, BASELINES)
    if isinstance(got, torch.Tensor) and got.numel() == 2:
        got = list(got.flatten())
    if not isinstance(got, list):
        raise read.Trouble(f"expected two numbers, (copy, adding); got {_got(record)}.")
    if len(got) != 2:
        raise read.Trouble(f"expected two numbers, (copy, adding); got {len(got)}.")
    return dict(zip(("copy", "adding"), got))


def baselines_judge(inputs, evidence):
    same = close(rtol=BASELINES_TOLERANCE, atol=0)
    items = []
    for T, record in zip(inputs["T"], evidence["cases"], strict=True):
        found = attempt(_pair_of_numbers, record)
        for name, expected in zip(("copy", "adding"), baselines(T)):
            got = found if isinstance(found, read.Trouble) else attempt(read.as_number, found[name])
            items.append(Item(name, got, expected, {"T": T}, name, f"T = {T}" if T == 100 else None))
    mistakes = [Mistake(lambda c: dict(zip(("adding", "copy"), baselines(c["T"]))), SWAPPED)]
    mistakes += [
        Mistake(lambda c, name=name, f=f: {name: f(c["T"])}, hint) for name, some in BASELINES_MISTAKES.items() for f, hint in some
    ]
    return judge(items, mistakes, BASELINES_FALLBACK, same)


QUESTIONS = (
    Question(
        name="lab10.set_forget_bias",
        signature=FORGET_BIAS,
        contract=(
            "Changes an nn.LSTM in place (any number of layers, one direction or both, with biases, float64): afterwards "
            "b_ih + b_hh at the forget gate is value (a float) in every layer and direction. The sums of the other gates "
            "(PyTorch's order i, f, g, o) and all weights stay, and all parameters stay trainable. What is returned does not count."
        ),
        aspects={"one layer": 2, "several layers": 1, "both directions": 1, REST: 2},
        minutes=15,
        inputs=set_forget_bias_inputs,
        reference=set_forget_bias,
        judge=set_forget_bias_judge,
    ),
    Question(
        name="lab10.attention",
        signature=ATTENTION,
        contract=(
            "Causal scaled dot-product attention: (out, weights) with weights = softmax over s ≤ t of q_t·k_s/√d, (B, T, T), and "
            "out = weights @ v, (B, T, features). q and k are float64 tensors (B, T, d), v (B, T, features). Gradients of out "
            "reach q, k and v, which stay as they are."
        ),
        aspects={LAST: 2, BEFORE: 2, "output": 2, "gradients": 1},
        minutes=20,
        inputs=attention_inputs,
        reference=attention,
        judge=attention_judge,
    ),
    Question(
        name="lab10.prenorm_block",
        signature=PRENORM,
        contract=(
            "A Pre-LN transformer block: x ← x + attn(ln1(x)), then x ← x + ffn(ln2(x)), returned. x is a float64 tensor "
            "(B, T, d) that stays as it is; attn, ffn, ln1 and ln2 are functions of such a tensor. Gradients reach x."
        ),
        aspects={ATTN: 2, FFN: 2, BOTH: 2, "gradients": 1},
        minutes=10,
        inputs=prenorm_block_inputs,
        reference=prenorm_block,
        judge=prenorm_block_judge,
    ),
    Question(
        name="lab10.baselines",
        signature=BASELINES,
        contract=(
            "(copy, adding): the best losses without memory of the input, two numbers, for an int T ≥ 1. Copy: ten symbols out "
            "of eight come first and are wanted in the last ten of T + 20 steps, in all others a blank is wanted; cross-entropy "
            "in nats, mean over all steps. Adding: the sum of two marked ones of T numbers from U(0, 1); mean squared error."
        ),
        aspects={"copy": 2, "adding": 2},
        minutes=10,
        inputs=baselines_inputs,
        reference=baselines,
        judge=baselines_judge,
    ),
)
