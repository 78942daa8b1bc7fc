import math

import numpy as np
import pytest
import torch
from scipy.special import lambertw

from signalprop import jacobians as J
from signalprop import theory


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- one unit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w, y", [(0.7, 1.0), (-3.0, 0.4), (12.0, 0.9), (0.0, 1.0)])
def test_chain_factor_is_the_derivative_that_autograd_finds(w, y):
    out = torch.tensor(y, dtype=torch.float64, requires_grad=True)
    torch.sigmoid(w * out).backward()
    assert J.chain_factor(w, y) == pytest.approx(abs(out.grad.item()), rel=1e-13)


def test_chain_factor_broadcasts_and_survives_huge_weights():
    values = J.chain_factor([[0.0], [4.0], [1e4]], [0.5, 1.0])
    assert values.shape == (3, 2) and np.isfinite(values).all()
    assert values[2] == pytest.approx([0, 0])


def test_strongest_weight_is_where_the_paper_says():
    w = J.strongest_weight()
    assert w == pytest.approx(1 / math.tanh(w / 2), rel=1e-12)
    assert w == pytest.approx(1.5434046, abs=1e-7)
    # Nothing on a fine grid is larger, and y only rescales.
    grid = np.linspace(0, 50, 200001)
    assert J.chain_factor(grid).max() <= J.chain_factor(w) < 0.224
    assert J.strongest_weight(0.2) == pytest.approx(w / 0.2)
    assert J.chain_factor(J.strongest_weight(0.2), 0.2) == pytest.approx(J.chain_factor(w) / 0.2)


def test_a_unit_that_feeds_itself_stays_below_lambert_w_of_1_over_e():
    # With y = σ(w y) the factor is (1 − y)·ln(y/(1 − y)), largest at W(1/e).
    y = np.linspace(0.5, 1 - 1e-6, 200001)
    w = np.log(y / (1 - y)) / y
    assert J.chain_factor(w, y).max() == pytest.approx(lambertw(1 / math.e).real, abs=1e-9)


@pytest.mark.parametrize("y", [0.0, -1.0, math.inf, math.nan])
def test_strongest_weight_refuses(y):
    with pytest.raises(ValueError, match="y > 0"):
        J.strongest_weight(y)


@pytest.mark.parametrize("w", [1.0001, 1.1, 1.5, 3.0, 20.0])
def test_latch_slope_is_the_slope_at_the_fixed_point(w):
    # Bisection on the map itself: above x* it moves down, below it moves up.
    low, high = 1e-9, 1.0
    for _ in range(200):
        x = (low + high) / 2
        low, high = (x, high) if math.tanh(w * x) > x else (low, x)
    assert J.latch_slope(w) == pytest.approx(w * (1 - x * x), rel=1e-6, abs=1e-13)
    assert J.latch_slope(w) < 1


@pytest.mark.parametrize("w", [1.0, 0.5, math.inf])
def test_latch_slope_refuses(w):
    with pytest.raises(ValueError, match="w > 1"):
        J.latch_slope(w)


# --- matrices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_jacobian_agrees_with_autograd(steps):
    g = generator(steps)
    W, U = (torch.randn(5, k, generator=g, dtype=torch.float64) for k in (5, 3))
    xs, h0 = torch.randn(steps, 3, generator=g, dtype=torch.float64), torch.randn(5, generator=g, dtype=torch.float64)

    def last(h):
        for x in xs:
            h = torch.tanh(W @ h + U @ x)
        return h

    expected = torch.autograd.functional.jacobian(last, h0)
    torch.testing.assert_close(J.jacobian(W, U, xs, h0), expected, rtol=1e-10, atol=1e-12)


def test_jacobian_of_zero_input_is_the_matrix_power():
    W = J.gaussian_matrices(1, 6, generator=generator())[0]
    zero = torch.zeros(6, dtype=torch.float64)
    product = J.jacobian(W, torch.zeros(6, 2, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64), zero)
    torch.testing.assert_close(product, torch.linalg.matrix_power(W, 4))


@pytest.mark.parametrize(
    "shapes",
    [((4, 5), (4, 2), (3, 2), (4,)), ((4, 4), (5, 2), (3, 2), (4,)), ((4, 4), (4, 2), (3, 1), (4,)), ((4, 4), (4, 2), (3, 2), (4, 1))],
)
def test_jacobian_refuses_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match=r"expected W \(n, n\)"):
        J.jacobian(*(torch.zeros(s) for s in shapes))


def test_power_norms_agree_with_matrix_power():
    W = J.gaussian_matrices(3, 8, generator=generator())
    expected = [[torch.linalg.svdvals(torch.linalg.matrix_power(w, t))[0].item() for t in (0, 1, 4, 9)] for w in W]
    np.testing.assert_allclose(J.power_norms(W, [0, 1, 4, 9]), expected, rtol=1e-10)
    # The claim: in the long run a step multiplies the norm by the spectral radius.
    a, b = J.power_norms(W / J.spectral_radius(W)[:, None, None], [400, 480]).T
    assert (np.abs(np.log(b / a)) < 0.5).all()


@pytest.mark.parametrize("times", [[], [-1, 2], [3, 3], [2, 1]])
def test_power_norms_refuses_times(times):
    with pytest.raises(ValueError, match="increasing times"):
        J.power_norms(torch.eye(2)[None], times)


def test_power_norms_refuses_a_single_matrix():
    with pytest.raises(ValueError, match=r"\(count, n, n\)"):
        J.power_norms(torch.eye(2), [1])


def test_orthogonal_products_are_isometries_and_gaussian_ones_are_not():
    one = J.product_singular_values(J.orthogonal_matrices, 12, 2, 20, generator=generator())
    np.testing.assert_allclose(one, 1, rtol=1e-12)
    other = J.product_singular_values(J.gaussian_matrices, 12, 2, 20, generator=generator())
    assert other.shape == (2, 20) and (other[:, 0] > 1).all() and (np.median(other, axis=1) < 0.1).all()
    with pytest.raises(ValueError, match="depth >= 1"):
        J.product_singular_values(J.gaussian_matrices, 0, 2, 20, generator=generator())


def test_orthogonal_matrices_have_uniform_signs():
    # Without the correction of QR's signs all diagonal entries lean to one side.
    trace = J.orthogonal_matrices(2000, 3, generator=generator()).diagonal(dim1=1, dim2=2).sum(1)
    assert abs(trace.mean().item()) < 4 / math.sqrt(2000)  # uniform: mean 0, variance 1


# --- deep random nets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 400])
def test_log_factor_moments(width):
    mean, variance = J.log_factor_moments(width)
    # Leading order in 1/n …
    assert mean == pytest.approx(-5 / (2 * width), rel=8 / width)
    assert variance == pytest.approx(5 / width, rel=8 / width)
    # … and the sums themselves against draws.
    z = torch.randn(200_000 // width, width, 5, generator=generator(), dtype=torch.float64)
    logs = (2 * torch.relu(z) ** 2).mean(1).log().flatten().numpy()
    assert mean == pytest.approx(logs.mean(), abs=4 * logs.std() / math.sqrt(logs.size))
    assert variance == pytest.approx(logs.var(), rel=5 * math.sqrt(2 / logs.size))


def test_log_factor_moments_refuses():
    with pytest.raises(ValueError, match="width >= 2"):
        J.log_factor_moments(1)


# --- the slope -------------------------------------------------------------------------------------------


def test_decay_rate_of_a_geometric_sequence():
    layers = np.arange(10)
    assert J.decay_rate(3e-40 * np.exp(0.7 * layers)) == pytest.approx(0.7)
    np.testing.assert_allclose(J.decay_rate([[1, 2, 4], [9, 3, 1]]), [math.log(2), -math.log(3)])


@pytest.mark.parametrize("norms", [[1.0, 0.0], [1.0, -2.0, 3.0], [1.0, math.nan], [math.inf, 1.0], [1.0], 2.0])
def test_decay_rate_refuses(norms):
    with pytest.raises(ValueError, match="expected"):
        J.decay_rate(norms)
