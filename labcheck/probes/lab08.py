"""Probes of lab 08, residual nets."""

import contextlib
import inspect

import numpy as np
import torch
from torch import nn

from .calling import accepts, attempt, guard, is_blank

# --- Block --------------------------------------------------------------------------------------------------


def Block(author, inputs):
    """Build the student's ``Block(din, dout)`` for every case, load the case's weights, and send x through it.

    Evidence: "cases", one record for each case (see `attempt`). Its value is a dict: a "problem" (with what the
    sentence about it needs), or the output "y", whether x was "changed" in place, and which layers have a "bias".
    "gradients", one record for each case, or None without a usable output: a dict of the gradients of (y·dy).sum() by
    name ("x", "f1.weight", …), zeros where none arrives.
    """
    records = [_block(author, case) for case in inputs["cases"]]
    return {"cases": [forward for forward, _ in records], "gradients": [gradients for _, gradients in records]}


def _block(author, case):
    if not inspect.isclass(author):
        kind = "function" if inspect.isroutine(author) else type(author).__name__
        return {"outcome": "not a function", "type": kind}, None
    if issubclass(author, nn.Module) and _unwritten(author, "__init__") and _unwritten(author, "forward"):
        return {"outcome": "not attempted"}, None
    if not accepts(author, 2):
        return {"outcome": "signature", "message": str(inspect.signature(author))[:200]}, None
    built = {}

    def forward():
        with torch.random.fork_rng(devices=[]):  # new layers draw from the global generator
            block, layers, problem = _build(author, case)
        if problem:
            return problem
        built.update(block=block, layers=layers)
        x = case["x"].clone()
        y = block(x)
        if not isinstance(y, torch.Tensor):
            return {"problem": "no tensor", "type": type(y).__name__}
        bias = {name: _bias(layer) is not None for name, layer in layers.items()}
        built["usable"] = y.shape == case["dy"].shape and torch.equal(x, case["x"])
        return {"y": y, "changed": not torch.equal(x, case["x"]), "bias": bias}

    record = guard(author, forward)
    if not built.get("usable"):
        return record, None
    return record, guard(author, lambda: _block_gradients(built["block"], built["layers"], case))


def _unwritten(author, method):
    own = getattr(author, method, None)
    if own in (object.__init__, nn.Module.__init__, nn.Module.forward, None):
        return True
    try:
        return is_blank(own) and own(*range(own.__code__.co_argcount)) is None  # `return x` looks blank, too
    except Exception:
        return False


def _build(author, case):
    """The block with the case's weights, its layers by name, and the first problem, if there is one."""
    block = author(case["din"], case["dout"])
    if not isinstance(block, nn.Module):
        return None, None, {"problem": "no module"}
    built = any(hasattr(block, name) for name in ("f1", "f2", "proj"))
    if author.forward is nn.Module.forward and built:
        return None, None, {"problem": "no forward"}
    if _unwritten(author, "forward") or _unwritten(author, "__init__") and not built:
        raise NotImplementedError
    if not built:  # a forward that is still the stub says so
        with contextlib.suppress(AttributeError):
            block(case["x"].clone())
    block = block.double()
    if any(isinstance(p, nn.UninitializedParameter) for p in block.parameters()):  # nn.LazyLinear
        block(case["x"].clone())
    layers, problem = _layers(block, case)
    for name, layer in layers.items():
        with torch.no_grad():
            layer.weight.copy_(case[name]["weight"])
            if _bias(layer) is not None:
                layer.bias.copy_(case[name]["bias"])
    return block, layers, problem


def _layers(block, case):
    """f1, f2 and, where the widths differ, proj; and the first problem with one."""
    din, dout = case["din"], case["dout"]
    shapes = {"f1": (dout, din), "f2": (dout, dout)} | ({"proj": (dout, din)} if din != dout else {})
    layers = {}
    for name, shape in shapes.items():
        layer = getattr(block, name, None)
        while isinstance(layer, nn.Sequential) and len(layer) == 1:
            layer = layer[0]
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, torch.Tensor):
            return {}, {"problem": "no layer", "layer": name, "type": type(layer).__name__}
        if weight.shape != shape:
            return {}, {"problem": "shape", "layer": name, "shape": list(weight.shape)}
        layers[name] = layer
    proj = getattr(block, "proj", None)
    if din == dout and (isinstance(proj, torch.Tensor) or isinstance(proj, nn.Module) and any(True for _ in proj.parameters())):
        return {}, {"problem": "needless projection"}
    return layers, None


def _bias(layer):
    bias = getattr(layer, "bias", None)
    return bias if isinstance(bias, torch.Tensor) else None


def _block_gradients(block, layers, case):
    x = case["x"].clone().requires_grad_()
    wanted = {"x": x}
    for name, layer in layers.items():
        wanted[f"{name}.weight"] = layer.weight
        if _bias(layer) is not None:
            wanted[f"{name}.bias"] = layer.bias
    return _gradients(block(x), wanted, case["dy"])


# --- highway, rezero_forward --------------------------------------------------------------------------------


def highway(function, inputs):
    """Call the student's ``highway(x, H, WT, bT)`` for every case; evidence as in `_calls`, for x, WT and bT."""

    def arguments(case):
        return case["x"], mapping(case["H"]), case["WT"], case["bT"]

    return _calls(function, inputs["cases"], arguments, ("x", "WT", "bT"))


def rezero_forward(function, inputs):
    """Call the student's ``rezero_forward(x, branches, alphas)`` for every case; evidence as in `_calls`, for x and
    alphas."""

    def arguments(case):
        return case["x"], [mapping(f) for f in case["branches"]], case["alphas"]

    return _calls(function, inputs["cases"], arguments, ("x", "alphas"))


def mapping(weights):
    """h ↦ h A + tanh(h B) + c for the last axis of h, a tensor or a NumPy array of any floating-point type."""

    def f(h):
        t = torch.as_tensor(h)
        A, B, c = (weights[key].to(t.dtype) for key in "ABc")
        result = t @ A + torch.tanh(t @ B) + c
        return result.numpy() if isinstance(h, np.ndarray) else result

    return f


def _calls(function, cases, arguments, names):
    """Call ``function(*arguments(case))``, and once more for gradients.

    Evidence: "cases", one record for each case; "gradients", one record for each case, or None without a usable output:
    a dict of the gradients of (y·dy).sum() with respect to the tensors of these names, zeros where none arrives.
    """

    def gradients(case, record):
        y = record["value"] if record["outcome"] == "returned" and not record["changed"] else None
        if not isinstance(y, torch.Tensor) or y.shape != case["dy"].shape:
            return None
        wanted = {name: case[name].clone().requires_grad_() for name in names}
        return guard(function, lambda: _gradients(function(*arguments(case | wanted)), wanted, case["dy"]))

    records = [attempt(function, *arguments(case)) for case in cases]
    return {"cases": records, "gradients": list(map(gradients, cases, records))}


def _gradients(y, wanted, dy):
    """The gradients of (y·dy).sum() by name, zeros where none arrives."""
    found = {name: torch.zeros_like(tensor) for name, tensor in wanted.items()}
    live = {name: tensor for name, tensor in wanted.items() if tensor.requires_grad}
    if isinstance(y, torch.Tensor) and y.requires_grad:
        gradients = torch.autograd.grad(y, list(live.values()), dy.to(y), allow_unused=True)
        for name, gradient in zip(live, gradients):
            if gradient is not None:
                found[name].copy_(gradient)
    return found


# --- path_share ---------------------------------------------------------------------------------------------


def path_share(function, inputs):
    """Call the student's ``path_share(n, low, high)`` for every case.

    Evidence: "cases", one record for each case.
    """
    return {"cases": [attempt(function, c["n"], c["low"], c["high"]) for c in inputs["cases"]]}
