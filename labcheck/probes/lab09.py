"""Probes of lab 09, gradient clipping."""

import inspect

from torch import nn

from .calling import accepts, attempt, guard, plain


def clip_(function, inputs):
    """Call the student's ``clip_(params, max_norm)`` for every case, on new parameters with the case's gradients.

    Evidence: "cases", one record for each case (see `attempt`); "states", for each case a dict of the "grads" (a tensor
    or None for each parameter) and the "weights" after the call, or None where the function did not return.
    """
    calls = [_clip(function, case) for case in inputs["cases"]]
    return {"cases": [record for record, _ in calls], "states": [state for _, state in calls]}


def _clip(function, case):
    # `attempt` would copy the parameters, and a copy has no gradient
    if not callable(function) or inspect.isclass(function):
        return {"outcome": "not a function", "type": "class" if inspect.isclass(function) else type(function).__name__}, None
    if not accepts(function, 2):
        return {"outcome": "signature", "message": str(inspect.signature(function))[:200]}, None
    params = [nn.Parameter(weight.clone()) for weight in case["weights"]]
    for p, grad in zip(params, case["grads"]):
        p.grad = None if grad is None else grad.clone()
    record = guard(function, lambda: function(list(params), case["max_norm"]))
    if record["outcome"] != "returned":
        return record, None
    return record, {"grads": [plain(p.grad) for p in params], "weights": [plain(p) for p in params]}


def agc(function, inputs):
    """Call the student's ``agc(W, G, lam, eps)`` for every case; as ``agc(W, G)`` where they are None.

    Evidence: "cases", one record for each case.
    """

    def call(case):
        given = [] if case["lam"] is None else [case["lam"], case["eps"]]
        return attempt(function, case["W"], case["G"], *given)

    return {"cases": [call(case) for case in inputs["cases"]]}


def scaled_step(function, inputs):
    """Call the student's ``scaled_step(grads, scale, clip)`` for every case.

    Evidence: "cases", one record for each case; None is a possible answer, with "type" "NoneType".
    """

    def call(case):
        record = attempt(function, case["grads"], case["scale"], case["clip"])
        if record["outcome"] == "returned" and any(g.isnan().any() for g in case["grads"]):
            record["changed"] = False  # NaN differs from NaN, so a comparison tells nothing
        return record

    return {"cases": [call(case) for case in inputs["cases"]]}
