"""The verdicts of lab 04: closed forms against integrals, and the reach of the known mistakes."""

import math

import pytest
import torch

from labcheck import questions
from labcheck.probes.lab04 import activation, slope
from labcheck.questions import lab04
from signalprop import theory


def drawn(name, seed):
    return questions.get(name).inputs(torch.Generator().manual_seed(seed))


def shapes(seed):
    names = ("lab04.variance_after", "lab04.critical_sigma_w")
    return [case["phi"] for name in names for case in drawn(name, seed)["cases"]]


@pytest.mark.parametrize("seed", range(5))
def test_closed_forms_are_the_integrals(seed):
    for shape in shapes(seed):
        phi, dphi = activation(shape), slope(shape)
        for q in (0.3, 2.5):
            assert lab04.mean_square(shape, q) == pytest.approx(theory.gaussian_mean(lambda z: phi(z) ** 2, q), rel=1e-9)
            slopes = theory.gaussian_mean(lambda z: dphi(z) ** 2, q)
            assert lab04.mean_square_slope(shape, q) == pytest.approx(slopes, rel=1e-9)
            assert lab04._mean(shape, q) == pytest.approx(theory.gaussian_mean(phi, q), rel=1e-9, abs=1e-12)
            assert lab04._mean_slope(shape, q) == pytest.approx(theory.gaussian_mean(dphi, q), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_slope_is_the_derivative_of_the_activation(seed):
    z = torch.tensor([-2.3, -0.4, 0.7, 1.9], dtype=torch.float64, requires_grad=True)
    for shape in shapes(seed):
        (expected,) = torch.autograd.grad(activation(shape)(z).sum(), z)
        assert torch.allclose(slope(shape)(z.detach()), expected, rtol=1e-12)


def test_activations_take_tensors_arrays_and_numbers():
    for shape in shapes(0):
        for function in (activation(shape), slope(shape)):
            values = function(torch.tensor([-1.0, 0.5], dtype=torch.float64))
            assert function(0.5) == pytest.approx(values[1].item(), rel=1e-12)
            assert function(values.numpy() * 0 + 0.5)[0] == pytest.approx(values[1].item(), rel=1e-12)
            assert function(torch.tensor([-1.0, 0.5])).dtype == torch.float32
            assert function(torch.tensor(1)).is_floating_point()


def test_a_grid_point_near_a_kink_does_no_harm():
    z = torch.linspace(-8, 8, 201, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    for shape in shapes(0):
        if shape["kind"] == "slopes":
            for q in (1e-4, 1, 1e4):
                mean = torch.trapezoid(slope(shape)(math.sqrt(q) * z) ** 2 * density, z).item()
                assert mean == pytest.approx(lab04.mean_square_slope(shape, q), rel=1e-9)


def test_critical_scales_are_those_of_the_theory():
    for case in drawn("lab04.critical_sigma_w", 0)["cases"]:
        if case["aspect"] == "φ(0) ≠ 0":
            expected = math.sqrt(theory.critical_sigma_w2(activation(case["phi"])))
            assert lab04._critical_sigma_w(case) == pytest.approx(expected, rel=1e-6)


def test_critical_scales_and_variances_lie_where_the_contract_says():
    for seed in range(200):
        for case in drawn("lab04.critical_sigma_w", seed)["cases"]:
            assert 0.1 < lab04._critical_sigma_w(case) < 10
            if case["aspect"] == "φ(0) ≠ 0":
                assert 0.1 < lab04._critical_q(case["phi"]) < 50


def test_every_draw_has_both_signs():
    # so that an answer that is right for one of them only loses points on every seed
    for seed in range(40):
        shapes = {}
        for case in drawn("lab04.critical_sigma_w", seed)["cases"]:
            shapes.setdefault(case["aspect"], []).append(case["phi"])
        assert [shape["height"] > 0 for shape in shapes["odd φ"]] == [True, False]
        assert [shape["offset"] > 0 for shape in shapes["φ(0) ≠ 0"]] == [True, False]
        assert [shape["right"] > shape["left"] for shape in shapes["two slopes"]] == [True, False]


@pytest.mark.parametrize("value", [0, 1, -1.0, 1e-320, 1e308, -1e308])
@pytest.mark.parametrize("short", ["default_linear_variance", "variance_after", "critical_sigma_w"])
def test_one_number_for_all_earns_nothing(short, value):
    question = questions.get(f"lab04.{short}")
    verdict = question.check(lambda *arguments: value, 0)
    assert (verdict.points, verdict.status) == (0, "failed")


MISTAKES = {
    "lab04.variance_after": (lab04.VARIANCE_MISTAKES, lab04._right, lab04.VARIANCE_TOLERANCE),
    "lab04.critical_sigma_w": (lab04.CRITICAL_MISTAKES, lab04._critical_sigma_w, lab04.CRITICAL_TOLERANCE),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_every_known_mistake_is_visible(name):
    # visible: in at least one case off by twice the tolerance, or without any value
    mistakes, truth, tolerance = MISTAKES[name]
    for seed in range(40):
        cases = drawn(name, seed)["cases"]
        for answer, hint in mistakes:
            values = [(answer(case), truth(case)) for case in cases]
            off = [math.inf if got is None else abs(got / expected - 1) for got, expected in values]
            assert max(off) > 2 * tolerance, (seed, hint)
