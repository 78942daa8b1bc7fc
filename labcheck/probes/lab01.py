"""Probes of lab 01, gradients and weight updates."""

import torch
from torch import nn

from .calling import attempt, plain


class Net(nn.Module):
    """A tanh net from given weights. `spare` takes no part in the output, and a frozen layer gets no gradient.

    With a `kernel`, a convolution of the features comes first.
    """

    def __init__(self, case):
        super().__init__()
        if case["kernel"] is not None:
            self.conv = _convolution(case["kernel"])
        linear = [_linear(layer) for layer in case["layers"]]
        self.body = nn.Sequential(*[module for layer in linear[:-1] for module in (layer, nn.Tanh())])
        self.head = linear[-1]
        if case["spare"] is not None:
            self.spare = _linear(case["spare"])
            self.body[0].requires_grad_(False)

    def forward(self, x):
        if hasattr(self, "conv"):
            x = torch.tanh(self.conv(x[:, None])).flatten(1)
        return self.head(self.body(x))


def _convolution(layer):
    out, _, length = layer["weight"].shape
    made = nn.utils.skip_init(nn.Conv1d, 1, out, length, dtype=torch.float64)
    return _filled(made, layer)


def _linear(layer):
    out, fan_in = layer["weight"].shape
    return _filled(nn.utils.skip_init(nn.Linear, fan_in, out, dtype=torch.float64), layer)


def _filled(made, layer):
    made.weight = nn.Parameter(layer["weight"].clone())
    made.bias = nn.Parameter(layer["bias"].clone())
    return made


def net(case):
    """The net of a case, with the gradients of an earlier batch still in it, if the case has some."""
    model = Net(case)
    for parameter, old in zip(model.parameters(), case["old_gradients"]):
        parameter.grad = old.clone()
    return model


def optimizer(model, case):
    return torch.optim.SGD(model.parameters(), lr=case["lr"], momentum=case["momentum"])


def grad_norms(function, inputs):
    """Call the student's ``grad_norms(model, x, y)`` on the net of every case.

    Evidence: "cases", one record for each case; "moved", whether some weight of the model is not what it was.
    """
    records, moved = [], False
    for case in inputs["cases"]:
        model = net(case)
        records.append(attempt(function, model, case["x"], case["y"]))
        moved |= any(not torch.equal(a, b) for a, b in zip(model.parameters(), net(case).parameters()))
    return {"cases": records, "moved": moved}


def train_step(function, inputs):
    """Call the student's ``train_step(model, opt, x, y, max_norm)`` twice on the net of every case.

    Evidence: "cases", for each case two dicts: "record", and "weights", all parameters after the call by name.
    """
    found = []
    for case in inputs["cases"]:
        model = net(case)
        opt, steps = optimizer(model, case), []
        for batch in case["batches"]:
            record = attempt(function, model, opt, batch["x"], batch["y"], case["max_norm"])
            steps.append({"record": record, "weights": {name: plain(p) for name, p in model.named_parameters()}})
        found.append(steps)
    return {"cases": found}


def update_ratios(function, inputs):
    """Call the student's ``update_ratios(before, after)`` for every case.

    Evidence: "cases", one record for each case.
    """
    return {"cases": [attempt(function, case["before"], case["after"]) for case in inputs["cases"]]}


def lost_update_depth(function, inputs):
    """Call the student's ``lost_update_depth(w, lr, g, factor)`` for every case.

    Evidence: "cases", one record for each case.
    """
    return {"cases": [attempt(function, *(case[key] for key in ("w", "lr", "g", "factor"))) for case in inputs["cases"]]}
