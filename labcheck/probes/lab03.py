"""Probes of lab 03, saturation."""

import numpy as np
import torch

from .calling import attempt


def dphi(function, inputs):
    """Call the student's ``dphi(name, z)`` for every name in inputs["names"] and every tensor in inputs["z"].

    Evidence: for each name, a list of records (see `attempt`), one for each z.
    """
    return {name: [attempt(function, name, z) for z in inputs["z"]] for name in inputs["names"]}


def chi1(function, inputs):
    """Call the student's ``chi1(dphi, sigma_w, q)`` for every case, twice.

    Evidence: "cases" and "again", one record for each case; the two differ if the answer is random.
    """

    def calls():
        return [attempt(function, slope(case), case["sigma_w"], case["q"]) for case in inputs["cases"]]

    return {"cases": calls(), "again": calls()}


def slope(case):
    """The φ′ of a case, as a function of z: level + height·exp(−rate·z²), and a factor `left` where z < 0.

    Takes and returns a tensor, a NumPy array or a number. At z = 0 exactly, φ′² is the mean of its two
    one-sided values, so that a quadrature node at the kink does no harm.
    """

    def dphi(z):
        t = torch.as_tensor(z, dtype=torch.float64) if isinstance(z, (int, float)) else torch.as_tensor(z)
        bump = case["level"] + case["height"] * torch.exp(-case["rate"] * t**2)
        factor = torch.ones_like(bump)
        factor[t < 0] = case["left"]
        factor[t == 0] = ((1 + case["left"] ** 2) / 2) ** 0.5
        result = bump * factor
        if isinstance(z, torch.Tensor):
            return result
        return result.numpy() if isinstance(z, np.ndarray) else result.item()

    return dphi


def saturated_fraction(function, inputs):
    """Call the student's ``saturated_fraction(a, name, tol)`` for every case; without tol where it is None.

    Evidence: "cases", one record for each case.
    """
    return {
        "cases": [
            attempt(function, case["a"], case["name"], *([] if case["tol"] is None else [case["tol"]]))
            for case in inputs["cases"]
        ]
    }
