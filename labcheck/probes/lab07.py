"""Probes of lab 07, normalisation."""

import inspect

import torch

from .calling import accepts, attempt, guard, plain


def bn_forward(function, inputs):
    """Call the student's ``bn_forward(x, gamma, beta, running_mean, running_var, …)`` for every case.

    The last arguments, "options", are training, momentum and eps as far as the case gives them.

    Evidence: "cases", one record for each case (see `attempt`). "changed" tells of x, gamma and beta alone; where the
    function returned, "running_mean" and "running_var" are the running estimates afterwards.
    """
    return {"cases": [_bn_forward(function, case) for case in inputs["cases"]]}


def _bn_forward(function, case):
    if not callable(function) or inspect.isclass(function):
        return attempt(function)
    names = ("x", "gamma", "beta", "running_mean", "running_var")
    given = {name: case[name].clone() for name in names}
    arguments = [*given.values(), *case["options"]]
    if not accepts(function, len(arguments)):
        return {"outcome": "signature", "message": str(inspect.signature(function))[:200]}
    record = guard(function, lambda: function(*arguments))
    if record["outcome"] == "returned":
        kept = (given[name].dtype == case[name].dtype and torch.equal(given[name], case[name]) for name in names[:3])
        record["changed"] = not all(kept)
        record["running_mean"], record["running_var"] = plain(given["running_mean"]), plain(given["running_var"])
    return record


def bn_backward(function, inputs):
    """Call the student's ``bn_backward(dy, x, gamma, eps)`` for every case; without eps where it is None.

    Evidence: "cases", one record for each case.
    """
    return {
        "cases": [attempt(function, case["dy"], case["x"], case["gamma"], *_eps(case)) for case in inputs["cases"]]
    }


def layer_norm(function, inputs):
    """Call the student's ``layer_norm(x, eps)`` for every case; without eps where it is None.

    Evidence: "cases", one record for each case.
    """
    return {"cases": [attempt(function, case["x"], *_eps(case)) for case in inputs["cases"]]}


rms_norm = layer_norm


def _eps(case):
    return [] if case["eps"] is None else [case["eps"]]
