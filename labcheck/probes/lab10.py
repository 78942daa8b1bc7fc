"""Probes of lab 10, gated recurrence and attention."""

import numpy as np
import torch
from torch import nn

from .calling import attempt, guard, plain

# --- set_forget_bias ----------------------------------------------------------------------------------------


def set_forget_bias(function, inputs):
    """Call the student's ``set_forget_bias(lstm, value)`` for every case; without value where it is None.

    Evidence: "cases", one record for each case (see `attempt`); what the function returns does not count. "states", for
    each case a dict of the "parameters" after the call, by name, and of those names that are "trainable"; None where the
    function did not return.
    """
    calls = [_forget_bias(function, case) for case in inputs["cases"]]
    return {"cases": [record for record, _ in calls], "states": [state for _, state in calls]}


def _forget_bias(function, case):
    with torch.random.fork_rng(devices=[]):  # a new layer draws from the global generator
        lstm = nn.LSTM(**case["shape"], batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            parameter.copy_(case["weights"][name])
    record = attempt(function, lstm, *([] if case["value"] is None else [case["value"]]))
    if record["outcome"] != "returned":
        return record, None
    found = {name: getattr(lstm, name, None) for name in case["weights"]}
    found = {name: tensor for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}
    trainable = [name for name, tensor in found.items() if tensor.requires_grad]
    return record, {"parameters": {name: plain(tensor) for name, tensor in found.items()}, "trainable": trainable}


# --- attention, prenorm_block -------------------------------------------------------------------------------


def attention(function, inputs):
    """Call the student's ``attention(q, k, v)`` for every case; evidence as in `_calls`, of the first returned value."""

    def arguments(case):
        return case["q"], case["k"], case["v"]

    return _calls(function, inputs["cases"], arguments, ("q", "k", "v"), lambda y: y[0] if isinstance(y, (tuple, list)) and y else None)


def prenorm_block(function, inputs):
    """Call the student's ``prenorm_block(x, attn, ffn, ln1, ln2)`` for every case; evidence as in `_calls`."""

    def arguments(case):
        return case["x"], mapping(case["attn"]), mapping(case["ffn"]), norm(case["ln1"]), norm(case["ln2"])

    return _calls(function, inputs["cases"], arguments, ("x",), lambda y: y)


def mapping(weights):
    """h ↦ M (h A + tanh(h B)) + c for h of shape (batch, time, n): M mixes times, A and B features."""

    def f(t):
        M, A, B, c = (weights[key].to(t.dtype) for key in "MABc")
        return M @ (t @ A + torch.tanh(t @ B)) + c

    return _for_arrays_too(f)


def norm(weights):
    """Layer norm over the last dimension, with a gain and a bias."""

    def f(t):
        gain, bias = (weights[key].to(t.dtype) for key in ("gain", "bias"))
        centred = t - t.mean(-1, keepdim=True)
        return gain * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() + bias

    return _for_arrays_too(f)


def _for_arrays_too(f):
    return lambda h: f(torch.as_tensor(h)).numpy() if isinstance(h, np.ndarray) else f(h)


def _calls(function, cases, arguments, names, output):
    """Call ``function(*arguments(case))``, and once more for gradients.

    Evidence: "cases", one record for each case; "gradients", one record for each case, or None where the function did not
    return: a dict of the gradients of (y·dy).sum() with respect to the tensors of these names, zeros where none arrives.
    y is the `output` of what the function returns.
    """

    def gradients(case, record):
        if record["outcome"] != "returned" or record["changed"]:
            return None
        wanted = {name: case[name].clone().requires_grad_() for name in names}
        return guard(function, lambda: _gradients(output(function(*arguments(case | wanted))), wanted, case["dy"]))

    records = [attempt(function, *arguments(case)) for case in cases]
    return {"cases": records, "gradients": list(map(gradients, cases, records))}


def _gradients(y, wanted, dy):
    found = {name: torch.zeros_like(tensor) for name, tensor in wanted.items()}
    if isinstance(y, torch.Tensor) and y.requires_grad and y.shape == dy.shape:
        gradients = torch.autograd.grad(y, list(wanted.values()), dy.to(y), allow_unused=True)
        found |= {name: gradient for name, gradient in zip(wanted, gradients) if gradient is not None}
    return found


# --- baselines ----------------------------------------------------------------------------------------------


def baselines(function, inputs):
    """Call the student's ``baselines(T)`` for every T.

    Evidence: "cases", one record for each T.
    """
    return {"cases": [attempt(function, T) for T in inputs["T"]]}
