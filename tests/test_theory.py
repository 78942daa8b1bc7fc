"""Mean-field theory against adaptive quadrature, closed forms, long iteration and sampled networks."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from signalprop import theory
from signalprop.activations import ACTIVATIONS, Activation, get

SMOOTH_OR_KINKED = sorted(set(ACTIVATIONS) - {"linear"})


def quad_mean(f, q, kinks=()):
    """E f(√q Z) by scipy's adaptive quadrature, cut at 0 and at the kinks."""

    def integrand(z):
        return f(torch.tensor([math.sqrt(q) * z], dtype=torch.float64)).item() * stats.norm.pdf(z)

    edges = sorted({-12.0, 0.0, 12.0} | {k / math.sqrt(q) for k in kinks} | {s / math.sqrt(q) for s in (-3, 3)})
    return sum(integrate.quad(integrand, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for a, b in zip(edges, edges[1:]))


@pytest.mark.parametrize("q", [0.01, 1.0, 60.0])
@pytest.mark.parametrize("name", SMOOTH_OR_KINKED)
def test_both_moments_agree_with_adaptive_quadrature(name, q):
    phi = get(name)
    assert theory.q_map(name, q, 1.0) == pytest.approx(quad_mean(lambda z: phi(z) ** 2, q), rel=1e-9)
    assert theory.chi1(name, 1.0, q) == pytest.approx(quad_mean(lambda z: phi.derivative(z) ** 2, q), rel=1e-9)


def test_a_kink_away_from_zero_is_split():
    shifted = Activation("shifted", lambda z: torch.relu(z - 0.3), (0.3,))
    expected = stats.norm.sf(0.3)  # E 1{Z > 0.3}
    assert theory.chi1(shifted, 1.0, 1.0) == pytest.approx(expected, rel=1e-12)


def test_closed_forms():
    assert theory.chi1("relu", 2.0, 0.7) == pytest.approx(1, rel=1e-12)
    assert theory.chi1("leaky", 2.0, 1.0) == pytest.approx(1 + 0.01**2, rel=1e-12)
    assert theory.chi1("linear", 0.5, 3.0) == pytest.approx(0.5, rel=1e-12)
    # λ²(½ + α² e² Φ(−2)), SELU's χ₁ at its fixed point (0, 1)
    lam, alpha = 1.0507009873554805, 1.6732632423543772
    assert theory.chi1("selu", 1.0, 1.0) == pytest.approx(
        lam**2 * (0.5 + alpha**2 * math.e**2 * stats.norm.cdf(-2)), rel=1e-12
    )
    assert theory.q_star("selu", 1.0) == pytest.approx(1, abs=1e-9)
    assert theory.chi1("tanh", 2.0, 0.0) == pytest.approx(2, rel=1e-12)
    # At q = 0, as in the limit: a kink counts with both its sides.
    assert theory.chi1("selu", 1.0, 0.0) == pytest.approx(lam**2 * (1 + alpha**2) / 2, rel=1e-12)
    assert theory.chi1_star("relu", 1.0) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("name, sigma_w2, sigma_b2", [("sigmoid", 1, 0), ("sigmoid", 50, 0), ("tanh", 2.5, 0.05), ("elu", 1, 0.1)])
def test_q_star_is_where_long_iteration_settles(name, sigma_w2, sigma_b2):
    q = theory.q_trajectory(name, sigma_w2, sigma_b2, q0=1.0, depth=600)[-1]
    assert theory.q_star(name, sigma_w2, sigma_b2) == pytest.approx(q, rel=1e-7)


def test_q_star_without_a_finite_positive_limit():
    assert theory.q_star("tanh", 0.5) == 0
    assert theory.q_star("relu", 1.0) == 0
    assert theory.q_star("relu", 3.0) == math.inf
    assert theory.q_star("relu", 2.0, q0=0.3) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="no finite fixed point"):
        theory.chi1_star("relu", 3.0)


def test_critical_line():
    sigma_w2 = theory.critical_sigma_w2("tanh", 0.05)
    assert theory.chi1_star("tanh", sigma_w2, 0.05) == pytest.approx(1, abs=1e-8)
    assert theory.critical_sigma_w2("tanh", 0.0) == pytest.approx(1, abs=1e-6)
    # By an independent integral: χ₁ = 1 at the sigmoid's critical scale.
    sigma_w2, phi = theory.critical_sigma_w2("sigmoid"), get("sigmoid")
    q = theory.q_star("sigmoid", sigma_w2)
    assert sigma_w2 * quad_mean(lambda z: phi(z) ** 2, q) == pytest.approx(q, rel=1e-8)
    assert sigma_w2 * quad_mean(lambda z: phi.derivative(z) ** 2, q) == pytest.approx(1, rel=1e-8)
    assert theory.critical_sigma_w2("relu") == pytest.approx(2, rel=1e-9)
    assert theory.critical_sigma_w2("leaky") == pytest.approx(2 / 1.0001, rel=1e-9)
    assert theory.critical_sigma_w2("selu") == pytest.approx(1 / theory.chi1("selu", 1.0, 0.0), abs=1e-5)
    with pytest.raises(ValueError, match="does not cross 1 for"):
        theory.critical_sigma_w2("tanh", 0.05, bracket=(0.1, 0.2))
    for name in ("gelu", "silu"):
        with pytest.raises(ValueError, match="jumps over it"):
            theory.critical_sigma_w2(name)


def test_depth_scale():
    assert theory.depth_scale(math.exp(-0.25)) == pytest.approx(4)
    assert theory.depth_scale(math.exp(0.25)) == pytest.approx(4)
    assert theory.depth_scale(1.0) == math.inf
    with pytest.raises(ValueError, match="expected chi1 > 0"):
        theory.depth_scale(0)


def test_log_gradient_slope_is_log_chi1_once_settled_and_negative_when_vanishing():
    q = theory.q_star("sigmoid", 1.0)
    assert theory.log_gradient_slope("sigmoid", 1.0, q0=q) == pytest.approx(math.log(theory.chi1_star("sigmoid", 1.0)))
    assert theory.log_gradient_slope("relu", 1.0) == pytest.approx(math.log(0.5))
    # tanh on its critical line: ‖δ_l‖² by hand from the variances
    q = theory.q_trajectory("tanh", 1.0, depth=3)
    norm2 = [theory.chi1("tanh", 1.0, q[0]) * theory.chi1("tanh", 1.0, q[1]), theory.chi1("tanh", 1.0, q[1]), 1.0]
    assert theory.log_gradient_slope("tanh", 1.0, depth=3) == pytest.approx(-np.polyfit([1, 2, 3], np.log(norm2), 1)[0])


def test_a_sampled_wide_network_follows_the_variance_map():
    generator = torch.Generator().manual_seed(0)
    n = 2000
    a = torch.randn(n, generator=generator, dtype=torch.float64)
    q0, sigma_w2, sigma_b2 = a.square().mean().item(), 2.5, 0.05
    q = sigma_w2 * q0 + sigma_b2
    for _ in range(4):
        z = torch.randn(n, n, generator=generator, dtype=torch.float64) @ a * math.sqrt(sigma_w2 / n)
        z = z + math.sqrt(sigma_b2) * torch.randn(n, generator=generator, dtype=torch.float64)
        assert z.square().mean().item() == pytest.approx(q, rel=0.15)  # sd of a mean of n squares: √(2/n) = 3 %, adds up
        a, q = torch.tanh(z), theory.q_map("tanh", q, sigma_w2, sigma_b2)


def test_bad_input():
    with pytest.raises(ValueError, match="q >= 0"):
        theory.gaussian_mean(torch.sin, -1.0)
    with pytest.raises(ValueError, match="one of .*sigmoid.*'sigmoidd'"):
        theory.chi1("sigmoidd", 1, 1)
