"""Probes of lab 05, activations."""

from .calling import attempt


def dead_fraction(function, inputs):
    """Call the student's ``dead_fraction(a)`` for every case.

    Evidence: "cases", one record for each case.
    """
    return {"cases": [attempt(function, case["a"]) for case in inputs["cases"]]}


def elu(function, inputs):
    """Call the student's ``elu(z, alpha)`` for every case; without alpha where it is None.

    Evidence: "cases", one record for each case.
    """
    return {
        "cases": [
            attempt(function, case["z"], *([] if case["alpha"] is None else [case["alpha"]])) for case in inputs["cases"]
        ]
    }


def selu(function, inputs):
    """Call the student's ``selu(z)`` for every case.

    Evidence: "cases", one record for each case.
    """
    return {"cases": [attempt(function, case["z"]) for case in inputs["cases"]]}


def deep_recipe(function, inputs):
    """Call the student's ``deep_recipe()``. Evidence: "recipe", one record."""
    return {"recipe": attempt(function)}
