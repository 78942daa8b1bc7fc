"""Probes of lab 02, depth."""

from .calling import attempt


def jacobian(function, inputs):
    """Call the student's ``jacobian(W, U, xs, h0)`` for every case.

    Evidence: "cases", one record (see `attempt`) for each case.
    """
    return {"cases": [attempt(function, c["W"], c["U"], c["xs"], c["h0"]) for c in inputs["cases"]]}


def chain_factor(function, inputs):
    """Call the student's ``chain_factor(w, y)`` for every case.

    Evidence: "cases", one record for each case.
    """
    return {"cases": [attempt(function, c["w"], c["y"]) for c in inputs["cases"]]}


def decay_rate(function, inputs):
    """Call the student's ``decay_rate(norms)`` for every case.

    Evidence: "cases", one record for each case.
    """
    return {"cases": [attempt(function, c["norms"]) for c in inputs["cases"]]}
