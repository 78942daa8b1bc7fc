"""Initialisation against closed forms, autograd and PyTorch's own initialisers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import nn

from signalprop import initialization as init
from signalprop import theory
from signalprop.activations import Elementwise
from signalprop.data import digits
from signalprop.jacobians import gaussian_matrices, orthogonal_matrices
from signalprop.nets import mlp


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fan_in", "fan_out", "gain"), [(300, 100, 1.0), (20, 700, 5 / 3)])
def test_xavier_bound_is_that_of_pytorch(fan_in, fan_out, gain):
    weight = torch.empty(fan_out, fan_in, dtype=torch.float64)
    nn.init.xavier_uniform_(weight, gain, generator=generator())
    bound = init.xavier_bound(fan_in, fan_out, gain)
    assert 0.999 * bound < weight.abs().max() <= bound
    assert bound == pytest.approx(math.sqrt(3) * gain * math.sqrt(2 / (fan_in + fan_out)))


@pytest.mark.parametrize(("shape", "a"), [((400, 100), 0.0), ((100, 400), 0.25), ((64, 16, 3, 3), 0.0), ((32, 8, 3, 5), 1.0)])
def test_he_normal_has_the_variance_of_pytorch(shape, a):
    weight = init.he_normal(shape, generator(), a)
    reference = nn.init.kaiming_normal_(torch.empty(shape), a, generator=generator(1))
    assert weight.shape == torch.Size(shape) and weight.dtype == torch.float64
    assert weight.var().item() == pytest.approx(2 / ((1 + a**2) * math.prod(shape[1:])), rel=6 * math.sqrt(2 / weight.numel()))
    assert weight.var().item() == pytest.approx(reference.double().var().item(), rel=9 * math.sqrt(2 / weight.numel()))
    assert (weight == init.he_normal(shape, generator(), a)).all() and (weight != init.he_normal(shape, generator(1), a)).any()


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (5, 4, 3, 3)])
def test_orthogonal_rows_or_columns(shape):
    weight = init.orthogonal(shape, generator(), gain=2.0).flatten(1)
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    assert torch.allclose(gram, 4 * torch.eye(len(gram), dtype=torch.float64), atol=1e-12)


def test_delta_orthogonal_keeps_every_norm():
    kernel = init.delta_orthogonal(5, 3, generator(), gain=1.5)
    centre = kernel[:, :, 1, 1]
    assert kernel.shape == (5, 5, 3, 3) and (kernel != 0).sum() == (centre != 0).sum() == 25
    x = torch.randn(3, 5, 6, 6, generator=generator(1), dtype=torch.float64)
    out = nn.functional.conv2d(x, kernel, padding=1)
    assert torch.allclose(out.square().sum((1, 2, 3)), 2.25 * x.square().sum((1, 2, 3)))


@pytest.mark.parametrize("phi", ["relu", "tanh", "sigmoid", "gelu"])
def test_lsuv_gives_every_layer_unit_variance_in_one_division(phi):
    model, x = mlp([64, 50, 30, 70, 10], phi, sigma_b2=1.0, generator=generator()), 3 * digits().x[:100]
    assert init.lsuv_(model, x, generator=generator()) == [1, 1, 1, 1]
    for module in model:
        x = module(x)
        if isinstance(module, nn.Linear):
            assert x.var().item() == pytest.approx(1, rel=1e-9)
            assert (module.bias == 0).all()
            singular = torch.linalg.svdvals(module.weight)
            assert singular.max().item() == pytest.approx(singular.min().item())  # orthonormal up to its scale


def test_lsuv_reaches_convolutions_and_leaves_good_layers_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Elementwise("relu"), nn.Flatten(), nn.Linear(4 * 36, 5)).double()
    x = torch.randn(50, 3, 6, 6, generator=generator(), dtype=torch.float64)
    init.lsuv_(model, 3 * x, generator=generator())
    assert model[0](3 * x).var().item() == pytest.approx(1) and model(3 * x).var().item() == pytest.approx(1)
    square = nn.Sequential(nn.Linear(40, 40, bias=False)).double()
    unit = torch.randn(200, 40, generator=generator(), dtype=torch.float64)
    assert init.lsuv_(square, unit, generator=generator()) == [0]


# --- scales ----------------------------------------------------------------------------------------------


def test_gains_agree_for_homogeneous_activations_only():
    table = {row.name: row for row in init.gain_table()}
    assert table["relu"].forward == pytest.approx(2) and table["relu"].backward == pytest.approx(2)
    assert table["leaky"].forward == pytest.approx(2 / (1 + 0.01**2), rel=1e-6)
    assert {name for name, row in table.items() if abs(row.factor - 1) < 1e-3} == {"linear", "relu", "leaky"}
    for name, row in table.items():
        assert theory.q_map(name, 1.0, row.forward) == pytest.approx(1)
        assert theory.chi1(name, row.backward, 1.0) == pytest.approx(1)
        assert row.factor**2 == pytest.approx(theory.chi1(name, row.forward, 1.0))


@settings(deadline=None, max_examples=40)
@given(widths=st.lists(st.integers(1, 500), min_size=2, max_size=6))
def test_fan_rules_telescope_and_xavier_is_their_harmonic_mean(widths):
    assert init.rule_factors(widths, "fan_in") == pytest.approx((1, widths[-1] / widths[0]))
    assert init.rule_factors(widths, "fan_out") == pytest.approx((widths[0] / widths[-1], 1))
    there, back = init.rule_factors([*widths, *widths[-2::-1]], "xavier")
    assert there == pytest.approx(back) and there <= 1 + 1e-12  # ∏ 4nm/(n + m)² over a way there and back


@pytest.mark.parametrize("rule", init.RULES)
def test_measured_rule_factors_meet_theory(rule):
    widths = [120, 60, 200, 100]
    for measured, predicted in zip(init.rule_measured(widths, rule, members=60, generator=generator()), init.rule_factors(widths, rule)):
        assert measured.shape == (60,)
        assert abs(measured.mean() - predicted) < 5 * measured.std(ddof=1) / math.sqrt(60)


# --- singular values -------------------------------------------------------------------------------------


def test_spectrum_is_that_of_the_jacobian_by_autograd():
    g = generator(3)
    x = torch.randn(2, 8, 1, generator=g, dtype=torch.float64)
    x = (x * (0.5 / x.square().mean(1, keepdim=True)).sqrt())[1, :, 0]
    weights = [1.2 * gaussian_matrices(2, 8, generator=g)[1] for _ in range(3)]

    def net(a):
        for weight in weights:
            a = torch.tanh(weight @ a)
        return a

    expected = torch.linalg.svdvals(torch.autograd.functional.jacobian(net, x))
    spectrum = init.jacobian_spectrum("tanh", gaussian_matrices, 3, sigma_w2=1.44, q0=0.5, width=8, members=2, generator=generator(3))
    assert spectrum.values[1] == pytest.approx(expected.numpy())
    assert spectrum.condition[1] == pytest.approx((expected[0] / expected[-1]).item())


def test_condition_is_right_below_machine_precision():
    def draw(members, width, *, generator):
        return torch.diag(torch.tensor([1.0, 1e-3], dtype=torch.float64)).expand(members, width, width)

    spectrum = init.jacobian_spectrum("linear", draw, 20, width=2, members=1, generator=generator())
    assert spectrum.condition == pytest.approx(1e60, rel=1e-9)


def test_orthogonal_products_are_isometries_but_not_with_relu():
    options = dict(width=40, members=3, generator=generator())
    assert init.jacobian_spectrum("linear", orthogonal_matrices, 10, **options).values == pytest.approx(np.ones((3, 40)))
    relu = init.jacobian_spectrum("relu", orthogonal_matrices, 10, sigma_w2=2.0, **options)
    assert np.isinf(relu.condition).all() and relu.values.max() > 1.5


def test_layer_singular_values_of_a_linear_net_are_those_of_the_quarter_circle():
    mean = init.layer_singular_values("linear", 2, sigma_w2=1 / 3, width=100, members=5, generator=generator())
    assert mean.shape == (5, 2)
    assert mean == pytest.approx(np.full((5, 2), 8 / (3 * math.pi) / math.sqrt(3)), rel=0.02)


@pytest.mark.parametrize("circular", [False, True])
def test_conv_matrix_is_the_convolution(circular):
    kernel = torch.randn(3, 2, 3, 3, generator=generator(), dtype=torch.float64)
    layer = nn.Conv2d(2, 3, 3, padding=1, bias=False, padding_mode="circular" if circular else "zeros", dtype=torch.float64)
    layer.weight.data = kernel
    x = torch.randn(4, 2, 5, 5, generator=generator(1), dtype=torch.float64)
    assert torch.allclose(x.flatten(1) @ init.conv_matrix(kernel, 5, circular).T, layer(x).flatten(1))


# --- correlations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("c", [-0.5, 0.0, 0.8])
def test_correlation_map_is_the_gaussian_mean(a, c):
    z = torch.randn(2, 400_000, generator=generator(), dtype=torch.float64)
    z[1] = c * z[0] + math.sqrt(1 - c**2) * z[1]
    phi = torch.nn.functional.leaky_relu(z, a)
    assert init.correlation_map(c, a) == pytest.approx(2 / (1 + a**2) * (phi[0] * phi[1]).mean().item(), abs=0.01)


def test_correlations_approach_one_at_the_rate_of_hayou():
    limit = 9 * math.pi**2 / 2
    rates = [depth**2 * (1 - init.correlations(depth)[-1]) for depth in (100, 1000, 10000)]
    assert rates[0] < rates[1] < rates[2] < limit and rates[2] == pytest.approx(limit, rel=0.01)
    assert init.correlations(5, a=1.0, c0=0.3) == pytest.approx([0.3] * 5)


def test_tailored_slope_ends_where_it_should():
    assert init.tailored_slope(20) == pytest.approx(0.181, abs=5e-4)
    assert init.correlations(51, init.tailored_slope(50, 0.8))[-1] == pytest.approx(0.8)


def test_measured_correlation():
    z = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [-2.0, 0.0]]], dtype=torch.float64)
    assert init.measured_correlation(z) == pytest.approx([(0.6 - 1 - 0.6) / 3])


# --- learning in deep linear nets ------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(s=st.floats(0.5, 5), share=st.floats(1e-3, 0.3))
def test_mode_curve_solves_its_equation(s, share):
    t = np.linspace(0, 3 / s, 7)
    solution = solve_ivp(lambda _, u: 2 * u * (s - u), (0, t[-1]), [s * share], t_eval=t, rtol=1e-9, atol=1e-12).y[0]
    assert init.mode_curve(t, s, s * share) == pytest.approx(solution, rel=1e-6)
    assert init.mode_curve(init.mode_time(s, s * share, 0.9 * s), s, s * share) == pytest.approx(0.9 * s)


def test_mode_time_of_the_worked_example():
    assert init.mode_time(3, 0.01, 2.97) == pytest.approx(1.7159, abs=5e-5)
    assert init.chain_time(2, 0.01, 0.99) == pytest.approx(init.mode_time(1, 0.01, 0.99))


def test_modes_are_learned_when_theory_says():
    modes = init.learn_modes([3, 1.5], seeds=5, steps=400, lr=0.01, generator=generator())
    assert modes.u.shape == (401, 5, 2) and modes.u0.shape == (5, 2)
    for k, s in enumerate((3, 1.5)):
        half = (modes.u[:, :, k] >= s / 2).argmax(0) * 0.01
        assert half == pytest.approx([init.mode_time(s, u0, s / 2) for u0 in modes.u0[:, k]], rel=0.06)


def test_learning_modes_is_gradient_descent():
    modes = init.learn_modes([2.0, 1.0], width=3, scale=0.5, seeds=1, lr=0.1, steps=2, generator=generator())
    g = generator()
    first = (0.5 / math.sqrt(3) * torch.randn(1, 3, 2, generator=g, dtype=torch.float64))[0].requires_grad_(True)
    second = (0.5 / math.sqrt(3) * torch.randn(1, 2, 3, generator=g, dtype=torch.float64))[0].requires_grad_(True)
    target = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    for _ in range(2):
        gradients = torch.autograd.grad((second @ first - target).square().sum() / 2, [first, second])
        first, second = (v - 0.1 * gradient for v, gradient in zip((first, second), gradients))
    assert modes.u[2, 0] == pytest.approx((second @ first).diagonal().detach().numpy())


def test_chain_time_solves_its_equation_and_has_the_limit():
    for depth in (1, 2, 3, 7, 50):
        def flow(_, u, depth=depth):
            return depth * u ** (2 - 2 / depth) * (1 - u)

        end = init.chain_time(depth, 0.1, 0.9)
        assert solve_ivp(flow, (0, end), [0.1], rtol=1e-10, atol=1e-12).y[0, -1] == pytest.approx(0.9, rel=1e-6)
    assert 2000 * init.chain_time(2000, 0.1, 0.9) == pytest.approx(init.chain_limit(0.1, 0.9), rel=0.002)
    assert init.chain_limit(0.1, 0.9) == pytest.approx(math.log(81) + 10 - 10 / 9)


def test_chain_steps_follow_autograd_and_the_flow():
    w, step = torch.full((5,), 0.3 ** (1 / 5), dtype=torch.float64, requires_grad=True), 0
    while w.prod() < 0.9:
        (gradient,) = torch.autograd.grad((1 - w.prod()) ** 2 / 2, w)
        w, step = (w - 0.05 * gradient).detach().requires_grad_(True), step + 1
    assert init.chain_steps(5, 0.3, 0.9, 0.05) == step
    assert init.chain_steps(5, 0.3, 0.9, 1e-3) * 1e-3 == pytest.approx(init.chain_time(5, 0.3, 0.9), rel=0.01)
    with pytest.raises(ValueError, match="not learned after 100 steps"):
        init.chain_steps(20, 0.5**20, 0.9, 0.1, limit=100)


def test_deep_linear_steps():
    options = dict(rates=[0.2, 0.5], width=16, outputs=4, seeds=4, steps=60)
    orthogonal, gaussian = (
        init.deep_linear_steps(draw, 12, generator=generator(), **options) for draw in (orthogonal_matrices, gaussian_matrices)
    )
    assert orthogonal.shape == (2, 4) and orthogonal.max() < 60
    assert (np.median(orthogonal, 1) < np.median(gaussian, 1)).all() and (orthogonal[1] < orthogonal[0]).all()
    assert (init.deep_linear_steps(orthogonal_matrices, 12, generator=generator(), **options | {"steps": 3}) == 3).all()


# --- trained nets ----------------------------------------------------------------------------------------


def test_deep_nets_have_the_weights_they_say():
    nets = {k: init.deep_nets(2, activation="tanh", init=k, depth=2, width=32, generator=generator()) for k in init.INITS}
    assert torch.allclose(nets["he"].weights[1], math.sqrt(2) * nets["xavier"].weights[1])
    w = nets["orthogonal"].weights
    assert [tuple(v.shape) for v in w] == [(2, 32, 64), (2, 32, 32), (2, 10, 32)]
    for v in w:
        assert torch.allclose(v @ v.mT, torch.eye(v.shape[1], dtype=torch.float64).expand(2, -1, -1), atol=1e-12)


def test_trained_accuracy_learns_and_is_reproducible():
    options = dict(activation="relu", init="he", depth=2, width=16, lr=0.02, steps=100, seeds=2)
    first = init.trained_accuracy(digits(), **options)
    assert first.shape == (2,) and first.min() > 0.6
    assert (first == init.trained_accuracy(digits(), **options)).all()


def test_first_step_of_adam_depends_on_width_in_the_standard_parametrisation_only():
    x, y = digits().x[:40], digits().y[:40]
    change = {
        (width, mup): np.median([init.first_step_change(width, x, y, lr=0.01, mup=mup, generator=generator(s)) for s in range(5)])
        for width in (64, 256)
        for mup in (False, True)
    }
    assert change[256, False] > 3 * change[64, False]
    assert change[256, True] == pytest.approx(change[64, True], rel=0.2)


def test_first_step_is_that_of_pytorchs_adam():
    x, y = digits().x[:40], digits().y[:40]
    g = generator(4)
    weights = [init.he_normal(shape, g).requires_grad_(True) for shape in ((128, 64), (128, 128))]
    weights.append((torch.randn(10, 128, generator=g, dtype=torch.float64) / 128).requires_grad_(True))
    optimiser = torch.optim.Adam([{"params": [w], "lr": lr} for w, lr in zip(weights, (0.01, 0.005, 0.005))])
    logits = lambda: torch.relu(torch.relu(x @ weights[0].T) @ weights[1].T) @ weights[2].T  # noqa: E731
    before = logits()
    nn.functional.cross_entropy(before, y).backward()
    optimiser.step()
    change = (logits() - before).square().mean().sqrt().item()
    assert init.first_step_change(128, x, y, lr=0.01, mup=True, generator=generator(4)) == pytest.approx(change)


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.xavier_bound(0, 5), "fans >= 1.*got 0, 5"),
        (lambda: init.xavier_bound(5, 5, 0.0), "gain > 0.*0.0"),
        (lambda: init.he_normal((5,), generator()), r"shape \(out, in, \*kernel\).*\(5,\)"),
        (lambda: init.orthogonal((5, 0), generator()), r"positive sizes.*\(5, 0\)"),
        (lambda: init.delta_orthogonal(4, 2, generator()), "odd kernel size.*got 4 and 2"),
        (lambda: init.lsuv_(nn.Linear(2, 2), torch.zeros(3, 2), generator=generator()), "nn.Sequential, got Linear"),
        (lambda: init.lsuv_(nn.Sequential(nn.Linear(2, 2)), torch.zeros(3, 2), generator=generator()), "output of 0 that varies.*0.0"),
        (lambda: init.lsuv_(nn.Sequential(nn.Linear(2, 2)), torch.full((3, 2), math.nan), generator=generator()), "that varies.*nan"),
        (lambda: init.rule_factors([3, 4], "fan_avg"), "rule out of fan_in, fan_out, xavier; got.*'fan_avg'"),
        (lambda: init.rule_factors([3], "fan_in"), r"two or more widths.*\[3\]"),
        (lambda: init.jacobian_spectrum("tanh", gaussian_matrices, 0, generator=generator()), "depth >= 1.*got 0"),
        (lambda: init.layer_singular_values("tanh", 2, q0=0.0, generator=generator()), "q0 > 0.*0.0"),
        (lambda: init.conv_matrix(torch.zeros(2, 2, 2, 2), 4), r"odd k, got \(2, 2, 2, 2\)"),
        (lambda: init.correlation_map(1.1), "between -1 and 1, got 1.1"),
        (lambda: init.tailored_slope(1, 0.9), "got 0.9, depth 1"),
        (lambda: init.mode_time(1.0, 0.5, 0.2), "u0 < u1 < s.*got 0.5, 0.2"),
        (lambda: init.chain_time(2, 0.5, 1.5), "u1 < 1.*1.5"),
        (lambda: init.deep_linear_steps(gaussian_matrices, 1, rates=[0.1], generator=generator()), "depth >= 2.*got 1"),
        (lambda: init.deep_nets(1, activation="relu", init="glorot", depth=1, width=2, generator=generator()), "out of xavier, he, orthogonal; got 'glorot'"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
