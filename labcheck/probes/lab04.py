"""Probes of lab 04, the weight scale."""

import math

import numpy as np
import torch

from .calling import attempt


def default_linear_variance(function, inputs):
    """Call the student's ``default_linear_variance(fan_in)`` for every fan-in, twice.

    Evidence: "cases" and "again", one record for each fan-in; the two differ if the answer is random.
    """

    def calls():
        return [attempt(function, fan_in) for fan_in in inputs["fan_in"]]

    return {"cases": calls(), "again": calls()}


def variance_after(function, inputs):
    """Call the student's ``variance_after(depth, sigma_w2, phi, q0)`` for every case.

    Evidence: "cases", one record for each case, and "again", the first three twice more; they differ if the answer
    is random. With one repetition, an answer off by 14 % agrees with itself to 2 % in all three cases once in 4,000.
    """

    def calls(cases):
        return [
            attempt(function, case["depth"], case["sigma_w2"], activation(case["phi"]), case["q0"]) for case in cases
        ]

    return {"cases": calls(inputs["cases"]), "again": calls(inputs["cases"][:3] * 2)}


def critical_sigma_w(function, inputs):
    """Call the student's ``critical_sigma_w(phi, dphi)`` for every activation function.

    Evidence: "cases", one record for each.
    """
    return {"cases": [attempt(function, activation(case["phi"]), slope(case["phi"])) for case in inputs["cases"]]}


def activation(shape):
    """φ, as a function of z, from its description:

    "slopes": right·z where z > 0, left·z where z < 0,
    "erf", "sin": offset + height·erf(rate·z), offset + height·sin(rate·z).
    """
    if shape["kind"] == "slopes":
        return _elementwise(lambda t: torch.where(t > 0, shape["right"] * t, shape["left"] * t))
    wave = {"erf": torch.erf, "sin": torch.sin}[shape["kind"]]
    return _elementwise(lambda t: shape["offset"] + shape["height"] * wave(shape["rate"] * t))


def slope(shape):
    """φ′, as a function of z. At a kink φ′² is the mean of both sides, so that a grid point there does no harm.

    The middle of a grid may be off 0 by rounding, so the kink is 1e-9 wide.
    """
    if shape["kind"] == "slopes":
        left, right = shape["left"], shape["right"]
        kink = math.sqrt((left**2 + right**2) / 2)

        def slopes(t):
            t = t if t.is_floating_point() else t.double()
            result = torch.where(t > 0, torch.full_like(t, right), torch.full_like(t, left))
            return torch.where(t.abs() < 1e-9, torch.full_like(t, kink), result)

        return _elementwise(slopes)
    top, rate = shape["height"] * shape["rate"], shape["rate"]
    if shape["kind"] == "erf":
        return _elementwise(lambda t: 2 / math.sqrt(math.pi) * top * torch.exp(-((rate * t) ** 2)))
    return _elementwise(lambda t: top * torch.cos(rate * t))


def _elementwise(function):
    """The same for a tensor, a NumPy array or a number."""

    def applied(z):
        if isinstance(z, torch.Tensor):
            return function(z)
        result = function(torch.as_tensor(np.asarray(z, dtype=np.float64)))
        return result.numpy() if isinstance(z, np.ndarray) else result.item()

    return applied
