"""Scales, SELU's constants, learned slopes and dead units against closed forms, quadrature and autograd."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom, norm

from signalprop import activation_choice as choice
from signalprop import theory
from signalprop.activations import ACTIVATIONS
from signalprop.data import Split, digits
from signalprop.ensemble import Ensemble, train


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def expect(f):
    """E f(Z) by another quadrature than the module's."""
    return sum(quad(lambda z: f(z) * norm.pdf(z), *ends, epsabs=1e-12)[0] for ends in ((-12, 0), (0, 12)))


def scalar(name):
    phi = choice.prelu(0.25) if name == "prelu" else ACTIVATIONS[name]
    return lambda z: phi(torch.tensor(z, dtype=torch.float64)).item()


# --- scales ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sigma_w2"), [("linear", 1.0), ("relu", 2.0), ("leaky", 2 / 1.0001), ("prelu", 2 / 1.0625), ("selu", 1.0)]
)
def test_preserving_scale_in_closed_form(name, sigma_w2):
    assert choice.preserving_sigma_w2(name) == pytest.approx(sigma_w2, rel=1e-6)  # PyTorch's SELU constants have 7 digits


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "silu", "elu"])
def test_scale_factor_and_slope_by_another_quadrature(name):
    phi, step = scalar(name), 1e-5
    slope = lambda z: (phi(z + step) - phi(z - step)) / (2 * step)  # noqa: E731
    second = expect(lambda z: phi(z) ** 2)
    assert choice.preserving_sigma_w2(name) == pytest.approx(1 / second, rel=1e-8)
    assert choice.preserving_factor(name) ** 2 == pytest.approx(expect(lambda z: slope(z) ** 2) / second, rel=1e-5)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "silu", "elu", "selu", "relu", "softplus"])
def test_slope_is_the_derivative_of_the_variance_map(name):
    sigma_w2, step = choice.preserving_sigma_w2(name), 1e-4
    difference = theory.q_map(name, 1 + step, sigma_w2) - theory.q_map(name, 1 - step, sigma_w2)
    assert choice.q_slope(name) == pytest.approx(difference / (2 * step), rel=1e-6)


@settings(deadline=None, max_examples=20)
@given(slope=st.floats(-1, 1))
def test_forward_and_backward_agree_for_every_rectifier(slope):
    phi = choice.prelu(slope)
    assert choice.preserving_sigma_w2(phi) == pytest.approx(2 / (1 + slope**2))
    assert choice.preserving_factor(phi) == pytest.approx(1)
    assert choice.q_slope(phi) == pytest.approx(1)


def test_gelu_repels_and_selu_attracts():
    assert choice.q_slope("gelu") > 1.1 and choice.q_slope("selu") < 0.9


def test_own_scale():
    assert choice.own_sigma_w2("relu") == pytest.approx(2)
    for name in ("sigmoid", "tanh"):
        assert theory.chi1_star(name, choice.own_sigma_w2(name)) == pytest.approx(1, abs=1e-6)
    assert choice.SCALES["own"]("gelu") == choice.preserving_sigma_w2("gelu")
    assert [choice.SCALES[name]("gelu") for name in ("default", "xavier", "he")] == [1 / 3, 1, 2]


def test_log_growth():
    assert choice.log_growth("relu", 1.0, 11) == pytest.approx(10 * math.log(0.5))
    assert choice.log_growth("prelu", 1.0, 11) == pytest.approx(10 * math.log(1.0625 / 2))
    assert choice.log_growth("relu", 2.0, 11) == pytest.approx(0)


# --- untrained nets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "softplus"])
def test_one_layer_meets_theory(name):
    layer = choice.one_layer(name, choice.preserving_sigma_w2(name), generator=generator(1))
    for measured, expected in ((layer.forward, 1), (layer.backward, choice.preserving_factor(name))):
        assert measured.shape == (20,)
        error = measured.std(ddof=1) / math.sqrt(20)
        assert error < 0.02 and abs(measured.mean() - expected) < 4 * error


def test_the_backward_factor_is_what_autograd_says():
    """The same draws, through PyTorch's own GELU and its backward pass."""
    layer = choice.one_layer("gelu", 2.0, width=12, nets=1, batch=3, generator=generator(2))
    g = generator(2)
    z = torch.randn(1, 3, 12, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 12, 12, generator=g, dtype=torch.float64) * math.sqrt(2 / 12)
    behind = torch.randn(1, 3, 12, generator=g, dtype=torch.float64)
    out = F.gelu(z) @ weight.mT
    out.backward(behind)
    assert layer.backward == pytest.approx((z.grad.norm() / behind.norm()).item(), rel=1e-12)
    assert layer.forward == pytest.approx((out.square().mean() / z.square().mean()).item(), rel=1e-12)


def test_paths_start_at_q0_and_follow_theory():
    paths = choice.q_paths("tanh", 1.5, q0=4.0, depth=12, width=200, nets=30, generator=generator(3))
    assert paths.shape == (30, 12) and paths[:, 0] == pytest.approx(4.0)
    expected = theory.q_trajectory("tanh", 1.5, q0=4.0, depth=12)
    error = paths.std(0, ddof=1) / math.sqrt(30)
    assert (abs(paths.mean(0) - expected)[1:] < 4 * error[1:]).all() and error.max() < 0.05


def test_selu_paths_meet_and_gelu_paths_part():
    spread = {}
    for name in ("selu", "gelu"):
        paths = choice.q_paths(name, choice.preserving_sigma_w2(name), depth=30, generator=generator(4))
        spread[name] = np.log(paths[:, -1]).std()
    assert spread["selu"] < 0.5 and spread["gelu"] > 2


# --- SELU ------------------------------------------------------------------------------------------------


def test_selu_constants():
    alpha, scale = choice.selu_constants()
    phi = lambda z: scale * (z if z > 0 else alpha * math.expm1(z))  # noqa: E731
    assert expect(phi) == pytest.approx(0, abs=1e-9)
    assert expect(lambda z: phi(z) ** 2) == pytest.approx(1, abs=1e-9)
    z = torch.tensor([-2.0, -0.1, 0.7], dtype=torch.float64)
    assert [phi(v) for v in z.tolist()] == pytest.approx(F.selu(z).tolist(), rel=1e-6)


def test_selu_gradient_grows():
    assert choice.selu_chi1() == pytest.approx(theory.chi1("selu", 1.0, 1.0), rel=1e-6)
    assert choice.selu_chi1() == pytest.approx(choice.preserving_factor("selu") ** 2, rel=1e-6)


# --- PReLU and training ----------------------------------------------------------------------------------


def test_prelu_is_torchs_prelu():
    nets = choice.PReLU(3, [5, 7, 6, 4], 1.5, slope=0.3, generator=generator(5))
    x, y = torch.randn(9, 5, generator=generator(6), dtype=torch.float64), torch.arange(9) % 4
    gradient = torch.autograd.grad(nets.losses(x, y).sum(), nets.slopes)[0]
    for e in range(3):
        slopes = torch.full((2,), 0.3, dtype=torch.float64, requires_grad=True)
        a = x
        for i in range(2):
            a = F.prelu(F.linear(a, nets.weights[i][e], nets.biases[i][e, 0]), slopes[i : i + 1])
        logits = F.linear(a, nets.weights[2][e], nets.biases[2][e, 0])
        assert torch.allclose(logits, nets(x)[e], rtol=1e-12)
        F.cross_entropy(logits, y).backward()
        assert torch.allclose(slopes.grad, gradient[e], rtol=1e-10)


def test_prelu_trains_its_slopes_and_members_stay_apart():
    split = digits()
    small = Split(split.x[:200], split.y[:200], split.x_test[:50], split.y_test[:50])
    result = choice.trained("prelu", 1.9, small, depth=2, lrs=[0.02, 1e6], seeds=3, steps=60)
    assert np.median(result.train[0]) > 0.8 and result.train[1] == pytest.approx(0.1, abs=0.1)
    nets = choice.builder("prelu", 1.9, depth=2)(3, generator(7))
    train(nets, small.x, small.y, steps=20, lr=torch.tensor([0.0, 0.02, 0.02]), generator=generator(8))
    slopes = nets.slopes.detach()
    assert (slopes[0] == 0.25).all() and (slopes[1:] != 0.25).all()


def test_builder_builds_what_it_says():
    nets = choice.builder("elu", 1.0, depth=3, width=8, inputs=5, classes=4)(2, generator())
    assert isinstance(nets, Ensemble) and nets.sizes == (5, 8, 8, 8, 4) and nets.activation.name == "elu"


# --- dead units ------------------------------------------------------------------------------------------


def test_dead_fraction():
    a = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0]])
    assert choice.dead_fraction(a) == 0.25  # and not the share of zeros, which is 3/4
    assert choice.dead_fraction(a[:1]) == 0.75
    assert choice.dead_fraction(torch.stack([a, a + 1])).tolist() == [0.25, 0.0]
    assert choice.dead_fraction(torch.full((3, 2), math.nan)) == 0.0


def test_born_dead_probability():
    assert choice.born_dead_probability(1, 1) == pytest.approx(0.5)
    assert choice.born_dead_probability(64, 100) == pytest.approx(100 * 2.0**-64)  # no rounding to 0
    assert choice.born_dead_probability(2, 3) == pytest.approx(1 - (3 / 4) ** 3)


@pytest.mark.parametrize(("width", "depth"), [(2, 3), (3, 8), (4, 20)])
def test_born_dead_meets_the_formula(width, depth):
    first, every = choice.born_dead(digits().x[:5], width=width, depth=depth, nets=2000, generator=generator(9))
    assert first.shape == every.shape == (2000, depth)
    low, high = binom.interval(0.9999, 2000, choice.born_dead_probability(width, depth))
    assert low <= first[:, -1].sum() <= high
    assert (first >= every).all() and first[:, -1].sum() > every[:, -1].sum()
    assert (np.diff(first.astype(int), axis=1) >= 0).all()  # the dead stay dead


def test_a_leaky_net_is_not_born_dead():
    first, _ = choice.born_dead(digits().x[:1], width=2, depth=20, nets=200, slope=0.01, generator=generator(9))
    assert not first.any()


def test_asymmetric_initialisation():
    weight, bias = choice.asymmetric(4000, 3, 5, generator(10))
    v = torch.cat([weight, bias], 2)
    assert weight.shape == (4000, 3, 5) and bias.shape == (4000, 3, 1)
    # One entry of six has mean 2/3, the others 0.
    assert v.mean((0, 1)).tolist() == pytest.approx([1 / 9] * 6, abs=0.02)
    others = 5 / 6 * choice.ASYMMETRIC**2 / 5 + 1 / 6 * 0.5
    assert v.square().mean().item() == pytest.approx(others, rel=0.03)
    assert choice.ASYMMETRIC == pytest.approx(0.6007, abs=5e-5)


def test_asymmetric_nets_die_less_often():
    x = digits().x[:1]
    dead = {
        init: choice.born_dead(x, width=4, depth=10, nets=1000, init=init, generator=generator(11))[0][:, -1].mean()
        for init in ("he", "asymmetric")
    }
    assert dead["asymmetric"] < dead["he"] / 2


def test_hidden_units_before_training_are_those_of_the_net():
    split = digits()
    found = choice.hidden_units("relu", split, lrs=[0.1], depth=2, width=6, steps=0, seeds=2, seed=3)
    net = Ensemble(2, [64, 6, 6, 10], "relu", choice.own_sigma_w2("relu"), generator=generator(3))
    a = torch.relu(net.preactivations(split.x)[0]), torch.relu(net.preactivations(split.x)[1])
    assert found.zeros[0, 1] == pytest.approx(np.mean([(v[1] == 0).double().mean().item() for v in a]))
    assert found.dead[0, 1] == pytest.approx(np.mean([choice.dead_fraction(v[1].detach()) for v in a]))
    means = [(v[1].mean(0).square().sum() / v[1].square().mean(0).sum()).item() for v in a]
    assert found.offset[0, 1] == pytest.approx(np.mean(means))
    assert found.accuracy[0].tolist() == net.accuracy(split.x, split.y).tolist()
    assert 0.3 < found.zeros.mean() < 0.7 and not found.diverged.any()


def test_hidden_units_that_diverge_are_counted():
    found = choice.hidden_units("elu", digits(), lrs=[0.01, 1e9], depth=2, width=6, steps=10, seeds=2)
    assert found.diverged.tolist() == [[False, False], [True, True]] and (found.accuracy[1] == 0.1).all()


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choice.preserving_sigma_w2("swishy"), "expected a callable or one of.*'swishy'"),
        (lambda: choice.dead_fraction(torch.zeros(3)), r"\(…, batch, units\), got shape \(3,\)"),
        (lambda: choice.dead_fraction(torch.zeros(0, 4)), r"got shape \(0, 4\)"),
        (lambda: choice.born_dead_probability(0, 3), "width >= 1 and depth >= 1, got 0 and 3"),
        (lambda: choice.born_dead_probability(3, 0), "got 3 and 0"),
        (lambda: choice.born_dead(torch.zeros(1, 2), width=2, depth=2, init="rai", generator=generator()), "'asymmetric', got 'rai'"),
        (lambda: choice.q_paths("relu", 2.0, q0=0.0, generator=generator()), "q0 > 0 and depth >= 1, got 0.0"),
        (lambda: choice.q_paths("relu", 2.0, depth=0, generator=generator()), "got 1.0 and 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
