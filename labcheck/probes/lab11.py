"""Probes of lab 11, the clinic."""

import torch
from torch import nn

from .calling import attempt, plain

MODULES = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def diagnose(function, inputs):
    """Call the student's ``diagnose(model, x, y)`` for every case, each on a fresh model.

    Evidence: "cases", one record for each case (see `attempt`), and "weights", for each case the list of the
    model's parameters after the call.
    """
    records, after = [], []
    for case in inputs["cases"]:
        model = network(case)
        parameters = list(model.parameters())
        records.append(attempt(function, model, case["x"], case["y"]))
        after.append([plain(p) for p in parameters])
    return {"cases": records, "weights": after}


def network(case):
    """A case's network, an nn.Sequential in float64 whose gradients hold numbers of an earlier batch."""
    layers = []
    with torch.no_grad():
        for weight, bias in zip(case["weights"], case["biases"]):
            linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], dtype=torch.float64)
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
            layers.append(linear)
    names = case["activations"]
    model = nn.Sequential(*(m for pair in zip(layers, (MODULES[n]() for n in names)) for m in pair), layers[-1])
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    return model


def repair(function, inputs):
    """Call the student's ``repair(report)`` for every report.

    Evidence: "cases", one record for each report.
    """
    return {"cases": [attempt(function, report) for report in inputs["reports"]]}
