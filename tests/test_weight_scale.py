"""The weight scale against closed forms, autograd, and PyTorch's own initialisation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from signalprop import nets, theory, weight_scale
from signalprop.data import digits
from signalprop.ensemble import Ensemble, propagate
from signalprop.probe import layer_report


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- PyTorch's default -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fan_in, fan_out", [(400, 300), (50, 900)])
def test_default_is_what_torch_draws(fan_in, fan_out):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Linear(fan_in, fan_out, dtype=torch.float64)
    variance = weight_scale.default_linear_variance(fan_in)
    assert variance == pytest.approx(1 / (3 * fan_in))
    # The variance of n uniform numbers has a relative standard error of √(0.8/n).
    for net_values, torch_values in zip(_first_layer(fan_in, fan_out), (layer.weight, layer.bias)):
        for values in (net_values, torch_values):
            tolerance = 4 * math.sqrt(0.8 / values.numel())
            assert values.detach().var().item() == pytest.approx(variance, rel=tolerance)
            assert values.abs().max().item() <= math.sqrt(3 * variance)
            assert values.abs().max().item() > 0.95 * math.sqrt(3 * variance)


def _first_layer(fan_in, fan_out):
    net = weight_scale.default_ensemble(3, [fan_in, fan_out, 2], "relu", generator=generator())
    return net.weights[0], net.biases[0]


def test_default_ensemble_without_biases_and_in_float32():
    net = weight_scale.default_ensemble(2, [30, 20, 2], "relu", biases=False, generator=generator(), dtype=torch.float32)
    assert all((b == 0).all() for b in net.biases)
    assert all(p.dtype == torch.float32 and p.requires_grad for p in net.parameters())
    assert all((w[0] != w[1]).all() for w in net.weights)


def test_default_q_is_the_fixed_point_and_nets_settle_there():
    q = weight_scale.default_relu_q(100)
    assert q == pytest.approx(2 / 500)
    assert theory.q_map("relu", q, 1 / 3, weight_scale.default_linear_variance(100)) == pytest.approx(q, rel=1e-12)
    net = weight_scale.default_ensemble(20, [100] * 13 + [1], "relu", generator=generator())
    measured = weight_scale.trace(net, torch.randn(2, 100, generator=generator(1), dtype=torch.float64)).q[:, 8:12].mean(1)
    assert abs(measured.mean() - q) < 4 * measured.std(ddof=1) / math.sqrt(20)


# --- theory ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(depth=st.integers(0, 40), sigma_w2=st.floats(0.01, 4), q0=st.floats(0.1, 10))
def test_variance_of_relu_and_linear_nets_is_a_power(depth, sigma_w2, q0):
    relu = weight_scale.variance_after(depth, sigma_w2, "relu", q0)
    assert relu == pytest.approx(q0 * (sigma_w2 / 2) ** depth, rel=1e-9)
    assert weight_scale.variance_after(depth, sigma_w2, "linear", q0) == pytest.approx(q0 * sigma_w2**depth, rel=1e-9)


def test_variance_of_a_critical_tanh_net_is_a_power_law():
    for layer, tolerance in ((20, 0.1), (200, 0.015)):
        assert 2 * layer * weight_scale.variance_after(layer - 1, 1.0, "tanh") == pytest.approx(1, rel=tolerance)


def test_variance_with_biases_and_a_callable():
    assert weight_scale.variance_after(1, 2.0, torch.relu, 3.0, sigma_b2=0.5) == pytest.approx(3.5, rel=1e-6)
    assert weight_scale.variance_after(200, 25 / 9, "tanh") == pytest.approx(1.178, abs=5e-4)


@pytest.mark.parametrize("sigma_w", [0.01, 1.0, math.sqrt(2), 50.0])
def test_factor_where_q_has_no_limit(sigma_w):
    assert weight_scale.gradient_factor("relu", sigma_w) == pytest.approx(sigma_w / math.sqrt(2), rel=1e-9)
    assert weight_scale.gradient_factor("linear", sigma_w) == pytest.approx(sigma_w, rel=1e-9)


def test_factor_of_tanh():
    assert weight_scale.gradient_factor("tanh", 0.3) == pytest.approx(0.3, rel=1e-6)
    assert weight_scale.gradient_factor("tanh", 1.0) == pytest.approx(1.0, rel=1e-6)
    assert weight_scale.gradient_factor("tanh", 5 / 3) ** 2 == pytest.approx(1.210, abs=5e-4)
    assert weight_scale.gradient_factor("tanh", 1.5, 0.05) ** 2 == pytest.approx(theory.chi1_star("tanh", 2.25, 0.05))


@pytest.mark.parametrize("width", [20, 200])
def test_log_step_has_the_moments_of_the_factor(width):
    # Samples of (σ_w²/n)·Σ relu(g)², g ~ N(0, 1): a layer, written out.
    g = torch.randn(20_000, width, generator=generator(), dtype=torch.float64)
    logs = (3.0 / width * torch.relu(g).square().sum(1)).log().numpy()
    mean, variance = weight_scale.relu_log_step(3.0, width)
    assert abs(logs.mean() - mean) < 4 * math.sqrt(variance / len(logs))
    assert logs.var() == pytest.approx(variance, rel=0.08)
    assert mean == pytest.approx(math.log(1.5) - 2.5 / width, abs=20 / width**2)


# --- random nets -----------------------------------------------------------------------------------------


def test_mean_squares_follow_the_log_step():
    logs = weight_scale.log_mean_squares("relu", 1.0, width=40, depth=12, members=200, generator=generator())
    assert logs.shape == (200, 12)
    mean, variance = weight_scale.relu_log_step(1.0, 40)
    assert abs(logs[:, -1].mean() - 12 * mean) < 4 * math.sqrt(12 * variance / 200)
    assert np.diff(logs, axis=1).var() == pytest.approx(variance, rel=0.2)


def test_mean_squares_scale_with_the_weights_exactly():
    small, large = (
        weight_scale.log_mean_squares("relu", s, width=10, depth=5, members=4, generator=generator()) for s in (0.5, 8.0)
    )
    assert large - small == pytest.approx(np.tile(math.log(16) * np.arange(1, 6), (4, 1)))


def test_mean_squares_agree_with_propagate():
    q = propagate("tanh", 2.0, width=60, depth=6, members=40, generator=generator()).q
    ln = weight_scale.log_mean_squares("tanh", 2.0, width=60, depth=5, members=40, generator=generator(1))
    difference = np.log(q[:, 1:]).mean(0) - (ln + math.log(2)).mean(0)
    error = np.sqrt((np.log(q[:, 1:]).var(0) + ln.var(0)) / 40)
    assert (abs(difference) < 4 * error + 0.02).all()


def test_trace_is_the_layer_report_of_each_member():
    sizes = [6, 8, 7, 1]
    net = Ensemble(3, sizes, "tanh", 1.5, 0.1, generator=generator())
    x = torch.randn(5, 6, generator=generator(1), dtype=torch.float64)
    t = weight_scale.trace(net, x)
    for i in range(3):
        model = nets.mlp(sizes, "tanh")
        linear = [m for m in model if isinstance(m, nn.Linear)]
        with torch.no_grad():
            for layer, weight, bias in zip(linear, net.weights, net.biases):
                layer.weight.copy_(weight[i])
                layer.bias.copy_(bias[i, 0])
        report = layer_report(model, x, None, loss=lambda out, _: out.sum())
        assert t.q[i] == pytest.approx(report["q"])
        assert t.delta[i] == pytest.approx(report["grad_preact"])
        assert t.weight[i] == pytest.approx(report["grad_weight"])


def test_weight_gradient_of_one_input_is_delta_times_activation():
    net = weight_scale.default_ensemble(4, [9, 9, 9, 1], "relu", generator=generator())
    x = torch.randn(4, 1, 9, generator=generator(1), dtype=torch.float64)
    t = weight_scale.trace(net, x)
    a = [x, *[torch.relu(z) for z in net.preactivations(x)[:-1]]]
    norms = np.stack([v.detach().square().sum((1, 2)).sqrt().numpy() for v in a], 1)
    assert t.weight == pytest.approx(t.delta * norms)


def test_trace_sees_float32_gradients_whose_squares_underflow():
    net = Ensemble(5, [40] * 61 + [1], "relu", 1 / 3, generator=generator(), dtype=torch.float32)
    delta = weight_scale.trace(net, torch.randn(5, 1, 40, generator=generator(1))).delta[:, 0]
    assert (delta > 0).all() and (delta < 1e-20).all()


# --- training --------------------------------------------------------------------------------------------


def test_training_at_two_scales():
    split = digits()
    healthy, small = (
        weight_scale.trained("relu", s, split, depth=6, lrs=[0.01, 0.03], seeds=3) for s in (2.0, 0.05)
    )
    assert healthy.train.shape == (2, 3)
    assert np.median(healthy.best()) > 0.8
    assert np.median(small.best()) < 0.2


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weight_scale.default_linear_variance(0), "fan_in >= 1, got 0"),
        (lambda: weight_scale.default_linear_variance(math.nan), "fan_in >= 1, got nan"),
        (lambda: weight_scale.default_relu_q(0), "fan_in >= 1, got 0"),
        (lambda: weight_scale.variance_after(-1, 1.0, "relu"), "got -1, 1.0, 0.0 and 1.0"),
        (lambda: weight_scale.variance_after(1, -1.0, "relu"), "got 1, -1.0"),
        (lambda: weight_scale.variance_after(1, math.nan, "relu"), "got 1, nan"),
        (lambda: weight_scale.variance_after(1, 1.0, "step"), "'step'"),
        (lambda: weight_scale.relu_log_step(0.0, 10), "sigma_w2 > 0, got 0.0"),
        (
            lambda: weight_scale.log_mean_squares("relu", -1.0, width=2, depth=2, members=2, generator=generator()),
            "got -1.0, 2, 2 and 2",
        ),
        (
            lambda: weight_scale.log_mean_squares("relu", 1.0, width=2, depth=0, members=2, generator=generator()),
            "got 1.0, 2, 0 and 2",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
