"""Probes of lab 06, initialisation."""

import torch
from torch import nn

from .calling import attempt, guard

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "sigmoid": nn.Sigmoid}


def xavier_bound(function, inputs):
    """Call the student's ``xavier_bound(fan_in, fan_out, gain)`` for every case; without gain where it is None.

    Evidence: "cases", one record for each case (see `attempt`).
    """
    return {"cases": [attempt(function, c["fan_in"], c["fan_out"], *_given(c["gain"])) for c in inputs["cases"]]}


def he_normal(function, inputs):
    """Call the student's ``he_normal(shape, generator, a)`` for every case; without a where it is None.

    Evidence: "cases", for each a dict: the record of the "first" call and, where the case says "again" (None
    elsewhere), of the "next" call with the same generator, and of a "repeat" of the first with a generator in the
    state that it had.
    """

    def calls(case):
        def call(generator):
            return attempt(function, tuple(case["shape"]), generator, *_given(case["a"]))

        generator = _generator(case["seed"])
        first = call(generator)
        if not case["again"]:
            return {"first": first, "next": None, "repeat": None}
        return {"first": first, "next": call(generator), "repeat": call(_generator(case["seed"]))}

    with torch.random.fork_rng(devices=[]):  # around all calls: between them the global numbers go on
        return {"cases": [calls(case) for case in inputs["cases"]]}


def delta_orthogonal(function, inputs):
    """Call the student's ``delta_orthogonal(c, k, generator, gain)`` for every case; without gain where it is None.

    Evidence: "cases", one record for each case. "draws", one record (see `guard`) of a list of inputs["draws"] 1×1
    kernels with inputs["channels"] channels, from one generator, or of one tensor where all are alike; "repeat", the
    same of its first two.
    """
    size, seed = inputs["channels"], inputs["seed"]

    def draws(count):
        generator = _generator(seed)
        return _stacked([function(size, 1, generator, 1.0) for _ in range(count)])

    with torch.random.fork_rng(devices=[]):
        cases = [
            attempt(function, c["c"], c["k"], _generator(c["seed"]), *_given(c["gain"])) for c in inputs["cases"]
        ]
        counts = {"draws": inputs["draws"], "repeat": 2}
        return {"cases": cases} | {name: guard(function, lambda n=n: draws(n)) for name, n in counts.items()}


def _stacked(tensors):
    """One tensor in the place of many of one kind: quicker to write and to read."""
    alike = len({(type(t), getattr(t, "dtype", None), getattr(t, "shape", None)) for t in tensors}) == 1
    return torch.stack(tensors) if alike and type(tensors[0]) is torch.Tensor else tensors


def lsuv_(function, inputs):
    """Call the student's ``lsuv_(model, x)`` for every case, on a fresh model.

    Evidence: "cases", for each a dict: the "record" of the call, and the record of the "weights" and "biases" that the
    linear layers have afterwards (None where the call did not return).
    """
    return {"cases": [_lsuv(function, case) for case in inputs["cases"]]}


def _lsuv(function, case):
    linear = [i for i, layer in enumerate(case["layers"]) if "weight" in layer]
    with torch.random.fork_rng(devices=[]):
        model = sequential(case["layers"])
        record = attempt(function, model, case["x"])
    if record["outcome"] != "returned":
        return {"record": record, "weights": None, "biases": None}
    return {
        "record": record,
        "weights": guard(function, lambda: [model[i].weight for i in linear]),
        "biases": guard(function, lambda: [getattr(model[i], "bias", None) for i in linear]),
    }


def sequential(layers):
    """The `nn.Sequential` of a list of {"weight", "bias"} (a linear layer) and {"activation"}, in float64."""
    return nn.Sequential(
        *(_linear(**layer) if "weight" in layer else ACTIVATIONS[layer["activation"]]() for layer in layers)
    )


def _linear(weight, bias):
    fan_out, fan_in = weight.shape
    layer = nn.Linear(fan_in, fan_out, bias=bias is not None, dtype=torch.float64)  # quicker than skip_init
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _given(argument):
    return [] if argument is None else [argument]
