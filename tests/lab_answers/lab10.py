"""Answers to lab 10: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import copy
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# --- set_forget_bias ----------------------------------------------------------------------------------------


def by_names(lstm, value=1.0):
    h = lstm.hidden_size
    for name, p in lstm.named_parameters():
        if "bias" in name:
            p.data[h : 2 * h].fill_(value if "ih" in name else 0.0)
    return lstm


@torch.no_grad()
def by_chunks(lstm, value=1.0):
    for name, p in lstm.named_parameters():
        if name.startswith("bias"):
            p.chunk(4)[1].fill_(value / 2)


def by_all_weights(lstm, value=1.0):
    with torch.no_grad():
        for weights in lstm.all_weights:
            b_ih, b_hh = weights[2], weights[3]
            b_hh.view(4, -1)[1] = value
            b_ih.view(4, -1)[1] = 0


def by_difference(lstm, value=1.0):
    """b_ih makes up for what b_hh holds."""
    n = lstm.hidden_size
    for k in range(lstm.num_layers):
        for end in ("", "_reverse") if lstm.bidirectional else ("",):
            b_ih, b_hh = getattr(lstm, f"bias_ih_l{k}{end}"), getattr(lstm, f"bias_hh_l{k}{end}")
            b_ih.data[n : n + n] = value - b_hh.data[n : n + n]


def by_new_parameters(lstm, value=1.0):
    for name in [name for name, _ in lstm.named_parameters() if "bias" in name]:
        new = getattr(lstm, name).detach().clone()
        new[lstm.hidden_size : 2 * lstm.hidden_size] = value if "hh" in name else 0
        setattr(lstm, name, nn.Parameter(new))
    return None


def by_merging(lstm, value=1.0):
    """All of b_hh goes into b_ih, whose sum with it stays."""
    with torch.no_grad():
        for name, p in lstm.named_parameters():
            if name.startswith("bias_ih"):
                other = getattr(lstm, name.replace("ih", "hh"))
                p += other
                other.zero_()
                i, f, g, o = p.split(lstm.hidden_size)
                f[:] = value


def by_numpy(lstm, value=1.0):
    for name, p in lstm.named_parameters():
        if name[:4] == "bias":
            b = p.detach().numpy().reshape(4, -1)
            b[1] = value if name[5:7] == "ih" else 0


def by_state_dict(lstm, value=1.0):
    state = lstm.state_dict()
    for name, b in state.items():
        if "bias" in name:
            q = len(b) // 4
            state[name] = torch.cat([b[:q], torch.full((q,), float(value)) * ("bias_ih" in name), b[2 * q :]])
    lstm.load_state_dict(state)


def by_loops(lstm, value=1.0):
    with torch.no_grad():
        for name, p in lstm.named_parameters():
            if "bias" in name:
                for j in range(p.shape[0] // 4, p.shape[0] // 2):
                    p[j] = float(value) * 0.25 if "ih" in name else 0.75 * value


def by_init(lstm, value=1.0):
    for name, p in lstm.named_parameters():
        if "bias" in name:
            h = len(p) // 4
            nn.init.constant_(p[h : 2 * h], value if "hh" in name else 0)


def by_the_missing_part(lstm, value=1.0):
    parameters = dict(lstm.named_parameters())
    for name in parameters:
        if "bias_ih" in name:
            b_ih, b_hh = parameters[name], parameters[name.replace("ih", "hh")]
            forget = torch.zeros_like(b_ih)
            forget[lstm.hidden_size : 2 * lstm.hidden_size] = 1
            b_ih.data += forget * (value - b_ih.data - b_hh.data)


SET_FORGET_BIAS_CORRECT = [
    by_names,
    by_chunks,
    by_all_weights,
    by_difference,
    by_new_parameters,
    by_merging,
    by_numpy,
    by_state_dict,
    by_loops,
    by_init,
    by_the_missing_part,
]


def writing(start=1, stop=2, ih=lambda v, old: v, hh=lambda v, old: 0 * v, where=lambda name: True, size="hidden_size"):
    """An answer that writes ih(value, old) and hh(value, old) into the blocks from start to stop of the bias vectors."""

    @torch.no_grad()
    def set_forget_bias(lstm, value=1.0):
        h = getattr(lstm, size)
        for name, p in lstm.named_parameters():
            if name.startswith("bias") and where(name):
                old = p[start * h : stop * h]
                old.copy_(torch.as_tensor((ih if "ih" in name else hh)(value, old.clone())))

    return set_forget_bias


def keep(v, old):
    return old


def then(first, second):
    """The first answer, and something else on top."""

    def set_forget_bias(lstm, value=1.0):
        first(lstm, value)
        with torch.no_grad():
            second(lstm, value)

    return set_forget_bias


def writes_weights(kind):
    @torch.no_grad()
    def set_forget_bias(lstm, value=1.0):
        for name, p in lstm.named_parameters():
            if name.startswith(f"weight_{kind}"):
                p[lstm.hidden_size : 2 * lstm.hidden_size] = value

    return set_forget_bias


@torch.no_grad()
def zero_first(lstm, value=1.0):
    for name, p in lstm.named_parameters():
        if "bias" in name:
            p.zero_()
            if "ih" in name:
                p[lstm.hidden_size : 2 * lstm.hidden_size] = value


@torch.no_grad()
def zero_b_hh(lstm, value=1.0):
    for name, p in lstm.named_parameters():
        if "bias_ih" in name:
            p[lstm.hidden_size : 2 * lstm.hidden_size] = value
        elif "bias_hh" in name:
            p.zero_()


def without_no_grad(lstm, value=1.0):
    for name, p in lstm.named_parameters():
        if "bias" in name:
            p[lstm.hidden_size : 2 * lstm.hidden_size] = value if "ih" in name else 0


def interleaved(lstm, value=1.0):
    for name, p in lstm.named_parameters():
        if "bias" in name:
            p.data[1::4] = value if "ih" in name else 0


def frozen(lstm, value=1.0):
    for p in lstm.parameters():
        p.requires_grad_(False)
    without_no_grad(lstm, value)


def frozen_biases(lstm, value=1.0):
    by_names(lstm, value)
    for name, p in lstm.named_parameters():
        if "bias" in name:
            p.requires_grad = False


def a_copy(lstm, value=1.0):
    lstm = copy.deepcopy(lstm)
    by_names(lstm, value)
    return lstm


def on_clones(lstm, value=1.0):
    for name, p in lstm.named_parameters():
        if "bias" in name:
            p = p.detach().clone()
            p[lstm.hidden_size : 2 * lstm.hidden_size] = value


def attributes_of_the_module(lstm, value=1.0):
    lstm.bias_f = torch.full((lstm.hidden_size,), value)


def starts_anew(lstm, value=1.0):
    with torch.no_grad():
        for p in lstm.parameters():
            p.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(0))
    by_names(lstm, value)


def resized(lstm, value=1.0):
    lstm.bias_ih_l0.data = torch.full((lstm.hidden_size,), value, dtype=torch.float64)


def only_one_layer(lstm, value=1.0):
    assert lstm.num_layers == 1 and not lstm.bidirectional
    by_names(lstm, value)


def scale_biases(lstm, value=1.0):
    with torch.no_grad():
        for name, p in lstm.named_parameters():
            if "bias" in name:
                p[lstm.hidden_size : 2 * lstm.hidden_size] *= value + 1


@torch.no_grad()
def clamped(lstm, value=1.0):
    by_names(lstm, min(max(value, 0.0), 1.6))


SET_FORGET_BIAS_WRONG = {
    "input gate": (writing(0, 1), "first quarter, the input gate", 0),
    "cell candidate": (writing(2, 3), "the cell candidate g", 0),
    "output gate": (writing(3, 4), "the output gate", 0),
    "all gates": (writing(0, 4), "You write into all four gates", 4),
    "three gates": (writing(1, 4), "You write into bias[h:], three gates", 4),
    "first half": (writing(0, 2), "You write into bias[:2h]", 4),
    "interleaved": (interleaved, "every fourth entry", 0),
    "input size": (writing(size="input_size"), "You count in steps of input_size", None),
    "weight_hh": (writes_weights("hh"), "You write into weight_hh", 0),
    "weight_ih": (writes_weights("ih"), "You write into weight_ih", 0),
    "b_ih alone": (writing(hh=keep), "the old b_hh is still there", 2),
    "b_hh alone": (writing(ih=keep, hh=lambda v, old: v), "the old b_ih is still there", 2),
    "both": (writing(hh=lambda v, old: v), "PyTorch adds them: the forget gate gets 2·value", 2),
    "added": (writing(ih=lambda v, old: old + v, hh=keep), "You add value to the old bias", 2),
    "added to both": (writing(ih=lambda v, old: old + v, hh=lambda v, old: old + v), "You add value to both", 2),
    "sign": (writing(ih=lambda v, old: -v), "The sign is wrong", 2),
    "sigmoid": (writing(ih=lambda v, old: 1 / (1 + math.exp(-v))), "the gate itself; its bias", 2),
    "logarithm": (writing(ih=lambda v, old: math.log(abs(v))), "You write ln(value)", 2),
    "half": (writing(ih=lambda v, old: v / 2), "Only half of value arrives", 2),
    "value ignored": (writing(ih=lambda v, old: 1.0), "value has no effect", 2),
    "first layer": (writing(where=lambda n: n.endswith("_l0")), "Only bias_ih_l0 and bias_hh_l0 are set", 4),
    "first layer, both directions": (writing(where=lambda n: "_l0" in n), "Only the first layer is set", 4),
    "one direction": (writing(where=lambda n: "reverse" not in n), "Only one direction is set", 5),
    "second direction of one layer": (
        writing(where=lambda n: "reverse" not in n or "l0" in n),
        "is set in the first layer only",
        5,
    ),
    "zero all biases": (zero_first, "The other gates' biases are all 0 now", 4),
    "zero b_hh": (zero_b_hh, "You set all of bias_hh to 0", 4),
    "no no_grad": (without_no_grad, "raised RuntimeError in line 4", 0),
    "frozen": (frozen, "no longer take gradients", 4),
    "frozen biases": (frozen_biases, "no longer take gradients", 4),
    "a copy": (a_copy, "returned a value of type LSTM and left b_ih + b_hh", 0),
    "clones": (on_clones, "returned None and left b_ih + b_hh", 0),
    "a new attribute": (attributes_of_the_module, "returned None and left b_ih + b_hh", 0),
    "new weights": (starts_anew, "you changed biases of other gates and weights, too", 4),
    "orthogonal weights": (
        then(by_names, lambda lstm, v: lstm.weight_hh_l0.mul_(0.5)),
        "you changed weights, too",
        4,
    ),
    "chrono": (
        then(by_names, lambda lstm, v: [p[: len(p) // 4].fill_(-v / 2) for n, p in lstm.named_parameters() if "bias" in n]),
        "you changed biases of other gates, too",
        4,
    ),
    "another shape": (resized, "expected the shape of bias_ih_l0", 0),
    "one layer only": (only_one_layer, "raised AssertionError", 4),
    "default 0": (lambda lstm, value=0.0: by_names(lstm, value) and None, "set the default value=1.0", 4),
    "no default": (lambda lstm, value: None, "but yours takes (lstm, value)", 0),
    "scaled": (scale_biases, "The gates are blocks of h = hidden_size entries", 2),
    "clamped": (clamped, "The gates are blocks of h = hidden_size entries", 2),
}

# --- attention ----------------------------------------------------------------------------------------------


def by_masked_fill(q, k, v):
    T, d = q.shape[1:]
    scores = torch.einsum("btd,bsd->bts", q, k) / d**0.5
    scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
    weights = F.softmax(scores, dim=2)
    return torch.bmm(weights, v), weights


def with_a_large_number(q, k, v):
    """In float32, with −1e9 added; q is scaled first."""
    q, k, v = q.float(), k.float(), v.float()
    q = q / math.sqrt(q.size(-1))
    scores = q @ k.transpose(-2, -1) - 1e9 * torch.triu(torch.ones(q.size(1), q.size(1)), diagonal=1)
    weights = torch.softmax(scores, -1)
    return [weights @ v, weights]


def by_library(q, k, v):
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    T = q.shape[-2]
    bias = torch.full((T, T), -torch.inf, dtype=q.dtype).triu(1)
    return out, torch.softmax(torch.baddbmm(bias, q, k.mT, alpha=q.shape[-1] ** -0.5), -1)


def weights_by_library(q, k, v):
    """Weights from the library, too, with the identity as the values."""
    eye = torch.eye(q.shape[1], dtype=q.dtype).expand(len(q), -1, -1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True), F.scaled_dot_product_attention(q, k, eye, is_causal=True)


def in_loops(q, k, v):
    B, T, d = q.shape
    rows, outs = [], []
    for b in range(B):
        for t in range(T):
            scores = torch.stack([q[b, t] @ k[b, s] for s in range(t + 1)]) / math.sqrt(d)
            w = (scores - scores.max()).exp()
            w = w / w.sum()
            rows.append(torch.cat([w, w.new_zeros(T - t - 1)]))
            outs.append(sum(w[s] * v[b, s] for s in range(t + 1)))
    return torch.stack(outs).reshape(B, T, -1), torch.stack(rows).reshape(B, T, T)


def renormalised(q, k, v):
    """Masked after the softmax, and renormalised."""
    w = ((q @ k.transpose(1, 2)) * q.shape[2] ** -0.5).softmax(-1).tril()
    w = w / w.sum(-1, keepdim=True)
    return w @ v, w


def renormalised_with_care(q, k, v):
    w = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1).tril()
    w = w / (w.sum(-1, keepdim=True) + 1e-9)
    return w @ v, w


def row_by_row(q, k, v):
    outs, rows = [], []
    for t in range(q.shape[1]):
        w = F.softmax((q[:, t : t + 1] * k[:, : t + 1]).sum(-1) / math.sqrt(q.shape[2]), 1)
        outs.append((w[..., None] * v[:, : t + 1]).sum(1))
        rows.append(F.pad(w, (0, q.shape[1] - t - 1)))
    return torch.stack(outs, 1), torch.stack(rows, 1)


def by_exp(q, k, v):
    e = torch.exp(q @ k.mT / math.sqrt(q.shape[-1])) * torch.tril(torch.ones(q.shape[1], q.shape[1], dtype=q.dtype))
    weights = e / e.sum(2, keepdim=True)
    return weights @ v, weights


class Attended(NamedTuple):
    out: torch.Tensor
    weights: torch.Tensor


def by_log_of_the_mask(q, k, v):
    mask = torch.ones(q.shape[1], q.shape[1], dtype=q.dtype).tril()
    log_weights = torch.log_softmax(q / math.sqrt(q.shape[-1]) @ k.mT + mask.log(), -1)
    return Attended(log_weights.exp() @ v, log_weights.exp())


def with_where(q, k, v):
    t = torch.arange(q.shape[1])
    scores = torch.where(t[:, None] >= t, (k @ q.mT).mT / q.shape[-1] ** 0.5, -1e4)
    return scores.softmax(-1) @ v, scores.softmax(-1)


ATTENTION_CORRECT = [
    by_masked_fill,
    with_a_large_number,
    by_library,
    weights_by_library,
    in_loops,
    renormalised,
    renormalised_with_care,
    row_by_row,
    by_exp,
    by_log_of_the_mask,
    with_where,
]


def from_scores(scores, fill=-math.inf, diagonal=1, dim=-1, after=lambda w, q: w):
    """The answer with these scores, masked from this diagonal on."""

    def attention(q, k, v):
        s = scores(q, k)
        w = after(s.masked_fill(torch.ones(s.shape[1:]).triu(diagonal).bool(), fill).softmax(dim), q)
        return w @ v, w

    return attention


def right_scores(q, k):
    return q @ k.mT / q.shape[-1] ** 0.5


def output(out, weights=lambda w, q, k: w):
    """Right weights w inside, with this output, and returned as weights(w, q, k)."""

    def attention(q, k, v):
        w = by_masked_fill(q, k, v)[1]
        return out(w, q, k, v), weights(w, q, k)

    return attention


def masked_after(q, k, v):
    w = right_scores(q, k).softmax(-1).tril()
    return w @ v, w


def unmasked_output(q, k, v):
    return right_scores(q, k).softmax(-1) @ v, by_masked_fill(q, k, v)[1]


def unmasked_weights(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True), right_scores(q, k).softmax(-1)


def library_without_mask(q, k, v):
    return F.scaled_dot_product_attention(q, k, v), by_masked_fill(q, k, v)[1]


def scales_in_place(q, k, v):
    q /= q.shape[-1] ** 0.5
    w = (q @ k.mT).masked_fill(torch.ones(q.shape[1], q.shape[1]).triu(1).bool(), -1e9).softmax(-1)
    return w @ v, w


def in_numpy(q, k, v):
    q, k, v = q.detach().numpy(), k.detach().numpy(), v.detach().numpy()
    e = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[2])) * np.tri(q.shape[1])
    w = e / e.sum(2, keepdims=True)
    return w @ v, w


def inverted(q, k, v):
    s = right_scores(q, k)
    w = s.masked_fill(torch.ones(s.shape[1:]).tril().bool(), -1e9).softmax(-1)
    return w @ v, w


def transposed_mask(q, k, v):
    s = right_scores(q, k)
    w = s.masked_fill(torch.ones(s.shape[1:]).tril(-1).bool(), -math.inf).softmax(-1)
    return w @ v, w


def times_the_mask(q, k, v):
    w = right_scores(q, k).tril().softmax(-1)
    return w @ v, w


def linear_weights(q, k, v):
    w = right_scores(q, k).abs().tril()
    w = w / w.sum(-1, keepdim=True)
    return w @ v, w


def self_attended(q, k, v):
    return by_masked_fill(q, q, v)


def windowed(q, k, v):
    """Sees the last three positions only."""
    s = right_scores(q, k)
    t = torch.arange(q.shape[1])
    w = s.masked_fill((t[:, None] < t) | (t[:, None] > t + 2), -math.inf).softmax(-1)
    return w @ v, w


def only_the_output(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def squeezed(q, k, v):
    out, w = by_masked_fill(q, k, v)
    return out.squeeze(), w.squeeze()


def diagonal_without_nan(q, k, v):
    w = right_scores(q, k).masked_fill(torch.ones(q.shape[1], q.shape[1]).triu(0).bool(), -math.inf).softmax(-1).nan_to_num(0.0)
    return w @ v, w


def detached(*names):
    def attention(q, k, v):
        given = {"q": q, "k": k, "v": v}
        return by_masked_fill(**{name: t.detach() if name in names else t for name, t in given.items()})

    return attention


def unit_length(q, k, v):
    return by_masked_fill(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v)


ATTENTION_WRONG = {
    "no scale": (from_scores(lambda q, k: q @ k.mT), "The factor 1/√d is missing: the scores", 0),
    "√T": (from_scores(lambda q, k: q @ k.mT / q.shape[1] ** 0.5), "You divide by √T", 0),
    "√B": (from_scores(lambda q, k: q @ k.mT / len(q) ** 0.5), "the root of the batch size", 0),
    "d": (from_scores(lambda q, k: q @ k.mT / q.shape[-1]), "You divide the scores by d", 0),
    "scaled, then by the library": (
        lambda q, k, v: by_masked_fill(q / q.shape[-1] ** 0.5, k, v),
        "You divide the scores by d",
        0,
    ),
    "√ of v's features": (
        lambda q, k, v: from_scores(lambda q, k: q @ k.mT / v.shape[-1] ** 0.5)(q, k, v),
        "You divide by the root of v's",
        0,
    ),
    "times √d": (from_scores(lambda q, k: q @ k.mT * q.shape[-1] ** 0.5), "You multiply the scores by √d", 0),
    "scaled after the softmax": (
        from_scores(lambda q, k: q @ k.mT, after=lambda w, q: w / q.shape[-1] ** 0.5),
        "You divide by √d after the softmax",
        0,
    ),
    "unit length": (unit_length, "You normalise q and k to length 1", 0),
    "columns": (from_scores(right_scores, dim=-2), "Your columns sum to 1, not the rows", 0),
    "columns, masked after": (
        from_scores(right_scores, fill=0, diagonal=99, dim=-2, after=lambda w, q: w.tril()),
        "Mask before the softmax, and take it over the keys",
        0,
    ),
    "batch": (from_scores(right_scores, dim=0), "NaN where a query meets a later key", 0),
    "masked after": (masked_after, "You mask after the softmax", 2),
    "no mask": (from_scores(right_scores, diagonal=99), "The causal mask is missing", 2),
    "no mask, no scale": (from_scores(lambda q, k: q @ k.mT, diagonal=99), "Two things are missing", 0),
    "mask transposed": (transposed_mask, "Your mask is the wrong way round", 0),
    "mask inverted": (inverted, "Your mask is inverted", 0),
    "one too many": (from_scores(right_scores, diagonal=2), "Position t sees t + 1", 2),
    "diagonal, −∞": (from_scores(right_scores, diagonal=0), "The diagonal is masked, so position 0", 0),
    "diagonal, −1e9": (from_scores(right_scores, fill=-1e9, diagonal=0), "The diagonal is masked, so position 0", 0),
    "diagonal, 0": (diagonal_without_nan, "The diagonal is masked, so position 0", 0),
    "mask of zeros": (from_scores(right_scores, fill=0.0), "Masked scores are 0 in your answer", 2),
    "mask of 1e-9": (from_scores(right_scores, fill=1e-9), "Masked scores are 0 in your answer", 2),
    "times the mask": (times_the_mask, "Masked scores are 0 in your answer", 2),
    "mask of −10": (from_scores(right_scores, fill=-10.0), "Row t of the weights is the softmax", 2),
    "softmax twice": (from_scores(right_scores, after=lambda w, q: w.softmax(-1)), "The softmax is taken twice", 0),
    "softmax twice, masked last": (
        from_scores(lambda q, k: right_scores(q, k).masked_fill(torch.ones(q.shape[1], q.shape[1]).triu(1).bool(), -1e9).softmax(-1)),
        "The softmax is taken twice",
        0,
    ),
    "q and k exchanged": (from_scores(lambda q, k: right_scores(k, q)), "q and k are exchanged", 0),
    "keys from q": (self_attended, "The last position sees all keys", 0),
    "absolute scores": (linear_weights, "The last position sees all keys", 0),
    "window of three": (windowed, "The last position sees all keys", 0),
    "scores as weights": (output(lambda w, q, k, v: w @ v, lambda w, q, k: right_scores(q, k)), "You return the scores in place", 3),
    "weights transposed": (output(lambda w, q, k, v: w @ v, lambda w, q, k: w.mT), "The weights you return are transposed", 3),
    "weights transposed inside": (output(lambda w, q, k, v: w.mT @ v), "The output is weightsᵀ v", 4),
    "unmasked output": (unmasked_output, "The causal mask is missing", 4),
    "library without mask": (library_without_mask, "The causal mask is missing", 4),
    "unmasked weights": (unmasked_weights, "The causal mask is missing", 5),
    "v": (output(lambda w, q, k, v: v), "The output is v itself", 4),
    "scores times v": (output(lambda w, q, k, v: right_scores(q, k) @ v), "The output is scores @ v", 4),
    "keys for values": (output(lambda w, q, k, v: w @ k), "expected out of shape (1, 2, 1), got (1, 2, 4)", 0),
    "a skip": (output(lambda w, q, k, v: v + w @ v), "A skip connection is in your output", 4),
    "scaled output": (output(lambda w, q, k, v: (w @ v) / q.shape[-1] ** 0.5), "Your output is divided by √d", 4),
    "centred output": (output(lambda w, q, k, v: w @ v - (w @ v).mean(-1, keepdim=True)), "out is weights @ v: for each", 4),
    "exchanged": (lambda q, k, v: by_masked_fill(q, k, v)[::-1], "out and weights are exchanged", 0),
    "only the output": (only_the_output, "got a tensor of shape (1, 2, 1)", 0),
    "only the weights": (lambda q, k, v: by_masked_fill(q, k, v)[1], "got a tensor of shape (1, 2, 2)", 0),
    "three values": (lambda q, k, v: (*by_masked_fill(q, k, v), right_scores(q, k)), "got 3 values", 0),
    "squeezed": (squeezed, "expected out of shape (1, 2, 1), got (2,)", 0),
    "in place": (scales_in_place, "changed its input in place", 0),
    "half precision": (lambda q, k, v: by_masked_fill(q.half(), k.half(), v.half()), "floating-point values (float64), got float16", 0),
    "NumPy": (in_numpy, "with respect to q, k, v: look for .detach()", 6),
    "q detached": (detached("q"), "with respect to q: look for .detach()", 6),
    "softmax detached": (detached("q", "k"), "with respect to q, k: look for .detach()", 6),
    "values detached": (detached("v"), "with respect to v: look for .detach()", 6),
}

# --- prenorm_block ------------------------------------------------------------------------------------------


def in_two_lines(x, attn, ffn, ln1, ln2):
    h = ln1(x)
    h = attn(h)
    y = torch.add(x, h)
    return y + ffn(ln2(y))


def in_one_line(x, attn, ffn, ln1, ln2):
    return (y := attn(ln1(x)) + x) + ffn(ln2(y))


def on_a_copy(x, attn, ffn, ln1, ln2):
    x = x.clone()
    for f, ln in ((attn, ln1), (ffn, ln2)):
        x += f(ln(x))
    return x


def in_float32(x, attn, ffn, ln1, ln2):
    x = x.float()
    x = x + attn(ln1(x))
    return x + ffn(ln2(x))


class Skip(nn.Module):
    def __init__(self, f, ln):
        super().__init__()
        self.f, self.ln = f, ln

    def forward(self, x):
        return x + self.f(self.ln(x))


def with_modules(x, attn, ffn, ln1, ln2):
    return nn.Sequential(Skip(attn, ln1), Skip(ffn, ln2))(x)


def summed(x, attn, ffn, ln1, ln2):
    a = attn(ln1(x))
    return torch.stack([x, a, ffn(ln2(x + a))]).sum(0)


def token_by_token(x, attn, ffn, ln1, ln2):
    """The norms act on each token by itself, so they may be applied so."""
    a = attn(torch.stack([ln1(x[:, t]) for t in range(x.shape[1])], 1))
    x = x + a
    return x + ffn(torch.stack([ln2(row) for row in x.unbind(1)], 1))


PRENORM_BLOCK_CORRECT = [in_two_lines, in_one_line, on_a_copy, in_float32, with_modules, summed, token_by_token]


def pre(x, f, ln):
    return x + f(ln(x))


def post(x, f, ln):
    return ln(x + f(x))


def bare(x, f, ln):
    return x + f(x)


def no_skip(x, f, ln):
    return f(ln(x))


def normed_skip(x, f, ln):
    return ln(x) + f(ln(x))


def behind(x, f, ln):
    return x + ln(f(x))


def twice(x, f, ln):
    return ln(x + f(ln(x)))


def sandwich(x, f, ln):
    return x + ln(f(ln(x)))


def steps(first, second):
    return lambda x, attn, ffn, ln1, ln2: second(first(x, attn, ln1), ffn, ln2)


def in_place(x, attn, ffn, ln1, ln2):
    x += attn(ln1(x))
    x += ffn(ln2(x))
    return x


def stale(x, attn, ffn, ln1, ln2):
    y = x + attn(ln1(x))
    return x + ffn(ln2(y))


def one_skip(x, attn, ffn, ln1, ln2):
    return x + ffn(ln2(attn(ln1(x))))


def without_gradients(x, attn, ffn, ln1, ln2):
    with torch.no_grad():
        return in_two_lines(x, attn, ffn, ln1, ln2)


def branches_detached(x, attn, ffn, ln1, ln2):
    x = x + attn(ln1(x)).detach()
    return x + ffn(ln2(x)).detach()


def norms_detached(x, attn, ffn, ln1, ln2):
    x = x + attn(ln1(x.detach()))
    return x + ffn(ln2(x))


def loud(x, attn, ffn, ln1, ln2):
    x = x + 0.5 * attn(ln1(x))
    return x + 0.5 * ffn(ln2(x))


def relu_at_the_end(x, attn, ffn, ln1, ln2):
    return torch.relu(in_two_lines(x, attn, ffn, ln1, ln2))


PRENORM_BLOCK_WRONG = {
    "post-LN": (steps(post, post), "This is Post-LN", 0),
    "post-LN first": (steps(post, pre), "The first half is Post-LN", 0),
    "post-LN second": (steps(pre, post), "The second half is Post-LN", 0),
    "norms twice": (steps(twice, twice), "The norms act twice", 0),
    "norm behind the branch": (steps(behind, behind), "The norms act on the output of the branches", 0),
    "no ln1": (steps(bare, pre), "ln1 is not used", 2),
    "no ln2": (steps(pre, bare), "ln2 is not used", 2),
    "no norm": (steps(bare, bare), "No norm is used", 0),
    "no first skip": (steps(no_skip, pre), "The first skip is missing", 0),
    "no second skip": (steps(pre, no_skip), "The second skip is missing", 0),
    "no skip": (steps(no_skip, no_skip), "Both skips are missing", 0),
    "skips behind the norms": (steps(normed_skip, normed_skip), "The skips start behind the norms", 0),
    "first skip behind ln1": (steps(normed_skip, pre), "The first skip starts behind ln1", 0),
    "second skip behind ln2": (steps(pre, normed_skip), "The second skip starts behind ln2", 0),
    "side by side": (
        lambda x, attn, ffn, ln1, ln2: x + attn(ln1(x)) + ffn(ln2(x)),
        "Both branches read the block's input",
        4,
    ),
    "stale x": (stale, "The second sum starts from the block's input", 2),
    "one skip": (one_skip, "One skip around both branches", None),
    "order": (lambda x, attn, ffn, ln1, ln2: pre(pre(x, ffn, ln2), attn, ln1), "The order is wrong", 4),
    "branches exchanged": (lambda x, attn, ffn, ln1, ln2: in_two_lines(x, ffn, attn, ln1, ln2), "attn and ffn are exchanged", 0),
    "norms exchanged": (lambda x, attn, ffn, ln1, ln2: in_two_lines(x, attn, ffn, ln2, ln1), "ln1 and ln2 are exchanged", 0),
    "ln1 twice": (lambda x, attn, ffn, ln1, ln2: in_two_lines(x, attn, ffn, ln1, ln1), "ln1 is used twice", 2),
    "ln2 twice": (lambda x, attn, ffn, ln1, ln2: in_two_lines(x, attn, ffn, ln2, ln2), "ln2 is used twice", 2),
    "attn twice": (
        lambda x, attn, ffn, ln1, ln2: in_two_lines(x, attn, attn, ln1, ln2),
        "attn acts twice and ffn never",
        0,
    ),
    "ffn twice": (lambda x, attn, ffn, ln1, ln2: in_two_lines(x, ffn, ffn, ln1, ln2), "ffn acts twice and attn never", 0),
    "no feed-forward branch": (lambda x, attn, ffn, ln1, ln2: x + attn(ln1(x)), "The feed-forward branch is missing", 2),
    "no attention": (lambda x, attn, ffn, ln1, ln2: x + ffn(ln2(x)), "The attention branch is missing", 2),
    "x": (lambda x, attn, ffn, ln1, ln2: x, "You return x", 0),
    "a last norm": (
        lambda x, attn, ffn, ln1, ln2: ln2(in_two_lines(x, attn, ffn, ln1, ln2)),
        "The stream is normalised once more at the end",
        0,
    ),
    "x once more": (lambda x, attn, ffn, ln1, ln2: x + in_two_lines(x, attn, ffn, ln1, ln2), "x is added once too often", 0),
    "difference": (
        lambda x, attn, ffn, ln1, ln2: pre(x, attn, ln1) - ffn(ln2(pre(x, attn, ln1))),
        "The second branch acts on what the first left",
        2,
    ),
    "sandwich": (steps(sandwich, sandwich), "The second branch acts on what the first left", 0),
    "half of each branch": (loud, "The second branch acts on what the first left", 0),
    "relu": (relu_at_the_end, "The second branch acts on what the first left", 0),
    "in place": (in_place, "changed its input in place", 0),
    "a pair": (lambda x, attn, ffn, ln1, ln2: (x, in_two_lines(x, attn, ffn, ln1, ln2)), "a number or a tensor, got a value of type tuple", 0),
    "flattened": (lambda x, attn, ffn, ln1, ln2: in_two_lines(x, attn, ffn, ln1, ln2)[0], "expected the shape of the input, (1, 1, 2), got (1, 2)", 0),
    "no gradients": (without_gradients, "with respect to x: look for .detach()", 6),
    "branches detached": (branches_detached, "with respect to x: look for .detach()", 6),
    "norms detached": (norms_detached, "with respect to x: look for .detach()", 6),
}

# --- baselines ----------------------------------------------------------------------------------------------

L8 = math.log(8)


class Pair(NamedTuple):
    copy: float
    adding: float


def by_cross_entropy(T):
    """The loss of a predictor that is certain of blanks and guesses among the eight symbols."""
    target = torch.cat([torch.zeros(T + 10, dtype=torch.long), torch.arange(10) % 8 + 1])
    logits = torch.full((T + 20, 9), -100.0)
    logits[: T + 10, 0] = 0
    logits[T + 10 :, 1:] = 0
    return F.cross_entropy(logits, target), torch.tensor(2 / 12)


def by_integral(T):
    u = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    return np.array([10 * np.log(8.0) / (20 + T), (u[:, None] + u - 1).square().mean().item()])


BASELINES_CORRECT = [
    lambda T: (10 * math.log(8) / (T + 20), 1 / 6),
    lambda T: [30 * math.log(2) / (20 + T), 2 * (1 / 3 - 1 / 4)],
    lambda T: torch.tensor([10 * L8 / (T + 20), 1 / 6]),
    lambda T: (np.float32(10 * np.log(8) / (T + 20)), np.float64(0.1667)),
    lambda T: (torch.log(torch.tensor(8.0)) / ((T + 20) / 10), 0.167),
    lambda T: Pair(copy=-sum(math.log(1 / 8) for _ in range(10)) / (T + 20), adding=2 * (1 - 0) ** 2 / 12),
    lambda T: (round(10 * math.log(8) / (T + 20), 4), Fraction(1, 6)),
    by_cross_entropy,
    by_integral,
]


def copy_is(f):
    return lambda T: (f(T), 1 / 6)


def adding_is(f):
    return lambda T: (10 * L8 / (T + 20), f(T))


BASELINES_WRONG = {
    "bits": (copy_is(lambda T: 10 * math.log2(8) / (T + 20)), "That is in bits", 2),
    "log10": (copy_is(lambda T: 10 * math.log10(8) / (T + 20)), "You take log₁₀", 2),
    "T": (copy_is(lambda T: 10 * L8 / T), "You average over T steps", 2),
    "T + 10": (copy_is(lambda T: 10 * L8 / (T + 10)), "You average over T + 10 steps", 2),
    "T + 19": (copy_is(lambda T: 10 * L8 / (T + 19)), "is off by one", 2),
    "T + 21": (copy_is(lambda T: 10 * L8 / (T + 21)), "is off by one", 2),
    "T + 30": (copy_is(lambda T: 10 * L8 / (T + 30)), "Without memory the blanks are still certain", 2),
    "twenty guesses": (copy_is(lambda T: 20 * L8 / (T + 20)), "You count a guess for 20 steps", 2),
    "alphabet of 10": (copy_is(lambda T: 10 * math.log(10) / (T + 20)), "You guess among 10 symbols", 2),
    "alphabet of 9": (copy_is(lambda T: 10 * math.log(9) / (T + 20)), "You guess among 9 symbols", 2),
    "8 and 10": (copy_is(lambda T: 8 * math.log(10) / (T + 20)), "8 and 10 are exchanged", 2),
    "eight guesses": (copy_is(lambda T: 8 * L8 / (T + 20)), "You count eight guesses", 2),
    "one symbol": (copy_is(lambda T: L8 / (T + 20)), "The ten is missing", 2),
    "one guess": (copy_is(lambda T: L8), "That is the loss of one guess", 2),
    "sum": (copy_is(lambda T: 10 * L8), "That is the sum over a sequence", 2),
    "sum of all steps": (copy_is(lambda T: (T + 20) * L8), "That is the cost of a guess in each step", 2),
    "blanks guessed": (copy_is(lambda T: (T + 10) * L8 / (T + 20)), "You let the blanks be guessed", 2),
    "sign": (copy_is(lambda T: -10 * L8 / (T + 20)), "The sign is wrong", 2),
    "perplexity": (copy_is(lambda T: 8 ** (10 / (T + 20))), "That is the perplexity", 2),
    "error rate": (copy_is(lambda T: 10 * 7 / 8 / (T + 20)), "the share of wrong answers", 2),
    "divided by 8": (copy_is(lambda T: 10 * L8 / 8 / (T + 20)), "ln 8 already", 2),
    "uniform over nine everywhere": (copy_is(lambda T: math.log(9)), "Without memory the blanks are still certain", 2),
    "rounded": (copy_is(lambda T: round(10 * L8 / (T + 20), 1)), "Without memory the blanks are still certain", 2),
    "T = 100 by heart": (lambda T: (0.17329, 1 / 6), "Without memory the blanks are still certain", 2),
    "one number": (adding_is(lambda T: 1 / 12), "That is the variance of one number", 2),
    "absolute error": (adding_is(lambda T: 1 / 3), "or the mean absolute error, is twice that", 2),
    "guess 0": (adding_is(lambda T: 7 / 6), "the error of the guess 0", 2),
    "guess 1/2": (adding_is(lambda T: 1 / 6 + 1 / 4), "the error of the guess ½", 2),
    "root": (adding_is(lambda T: 6**-0.5), "That is the root of the mean", 2),
    "the guess itself": (adding_is(lambda T: 1), "1 is the best guess", 2),
    "all numbers": (adding_is(lambda T: T / 12), "Only two of the T numbers", 2),
    "divided by T": (adding_is(lambda T: 1 / 6 / T), "do not divide by T.", 2),
    "divided by T + 20": (adding_is(lambda T: 1 / 6 / (T + 20)), "do not divide by T + 20.", 2),
    "product": (adding_is(lambda T: 1 / 12**2), "Variances of independent numbers add", 2),
    "normal numbers": (adding_is(lambda T: 2), "yours are standard normal", 2),
    "U(-1, 1)": (adding_is(lambda T: 2 / 3), "on (−1, 1) it would be 1/3", 2),
    "mean of two": (adding_is(lambda T: 1 / 24), "the variance of the mean of two", 2),
    "0": (adding_is(lambda T: 0.0), "so the error cannot be 0", 2),
    "0.176": (adding_is(lambda T: 0.176), "The best guess without memory is the mean of the sum", 2),
    "unbiased": (adding_is(lambda T: T / (T - 1) / 6), "The best guess without memory is the mean of the sum", 2),
    "exchanged": (lambda T: (1 / 6, 10 * L8 / (T + 20)), "The two are exchanged", 0),
    "one value": (lambda T: 10 * L8 / (T + 20), "expected two numbers, (copy, adding); got a value of type float", 0),
    "three": (lambda T: (10 * L8 / (T + 20), 1 / 6, T), "expected two numbers, (copy, adding); got 3", 0),
    "dict": (lambda T: {"copy": 10 * L8 / (T + 20), "adding": 1 / 6}, "expected two numbers, (copy, adding); got a value of type dict", 0),
    "per symbol": (lambda T: (torch.full((10,), L8 / (T + 20)), 1 / 6), "expected one number, got a tensor of shape (10,)", 2),
    "infinite": (copy_is(lambda T: math.inf), "an infinite value", 2),
}

CORRECT = {
    "set_forget_bias": SET_FORGET_BIAS_CORRECT,
    "attention": ATTENTION_CORRECT,
    "prenorm_block": PRENORM_BLOCK_CORRECT,
    "baselines": BASELINES_CORRECT,
}
CORRECT_SLOW = {}
WRONG = {
    "set_forget_bias": SET_FORGET_BIAS_WRONG,
    "attention": ATTENTION_WRONG,
    "prenorm_block": PRENORM_BLOCK_WRONG,
    "baselines": BASELINES_WRONG,
}
