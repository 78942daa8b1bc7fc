"""The probes: call a student's function on given inputs and return what came, as plain data.

A probe holds no reference and gives no score, so it can run alone in a process that must know no answers.
Evidence consists of dicts with str keys, lists, tensors, floats, ints, str, bool and None.
"""

import importlib


def find(name):
    """The probe of the question `name`: "lab03.dphi" is `labcheck.probes.lab03.dphi`.

    Call it as ``probe(function, inputs)``; it returns the evidence.
    """
    lab, _, question = name.partition(".")
    return getattr(importlib.import_module(f"{__name__}.{lab}"), question)
