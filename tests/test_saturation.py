"""Saturation against closed forms, quadrature and autograd."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from signalprop import nets, saturation, theory
from signalprop.data import digits
from signalprop.ensemble import Ensemble, propagate, train
from signalprop.probe import layer_report

PHI = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- shares ----------------------------------------------------------------------------------------------


def test_fraction_counts_both_bounds_and_includes_the_edge():
    assert saturation.saturated_fraction(torch.tensor([0.0, 0.04, 0.05, 0.06, 0.5, 0.96, 1.0]), "sigmoid") == 5 / 7
    assert saturation.saturated_fraction(torch.tensor([[-1.0, -0.96], [0.0, 0.97]]), "tanh") == 3 / 4
    assert saturation.saturated_fraction(torch.tensor([0.0, 0.01]), "tanh", tol=0.5) == 0
    assert saturation.saturated_fraction(torch.tensor([-0.5, 0.0, 0.5]), "tanh", tol=0.5) == 2 / 3


def test_fraction_agrees_with_the_layer_report():
    model = nets.mlp([8, 50, 50, 3], "tanh", sigma_w2=9.0, generator=generator())
    x = torch.randn(40, 8, generator=generator(1), dtype=torch.float64)
    column = layer_report(model, x, torch.zeros(40, dtype=torch.long))["saturation"]
    a = torch.tanh(model.fc2(torch.tanh(model.fc1(x))))
    assert column[1] == pytest.approx(saturation.saturated_fraction(a, "tanh"), abs=1e-12)
    assert 0.1 < column[1] < 0.9


@settings(deadline=None, max_examples=30)
@given(name=st.sampled_from(["sigmoid", "tanh"]), q=st.floats(0.05, 100), tol=st.floats(0.01, 0.4))
def test_share_is_the_integral_of_the_gaussian(name, q, tol):
    low, high = {"sigmoid": (0, 1), "tanh": (-1, 1)}[name]
    # Where φ enters the zone, found by bisection and not by the inverse function that the module uses.
    start, end = 0.0, 20.0
    for _ in range(80):
        middle = (start + end) / 2
        inside = PHI[name](torch.tensor(middle, dtype=torch.float64)).item() >= high - tol
        start, end = (start, middle) if inside else (middle, end)
    tail = quad(lambda z: norm.pdf(z, scale=math.sqrt(q)), 0, start, epsabs=1e-12)[0]
    assert saturation.saturated_share(name, q, tol) == pytest.approx(1 - 2 * tail, abs=1e-7)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_share_is_what_a_large_sample_shows(name):
    z = 2.0 * torch.randn(200_000, generator=generator(), dtype=torch.float64)
    share = saturation.saturated_share(name, 4.0)
    sigma = math.sqrt(share * (1 - share) / 200_000)
    assert abs(saturation.saturated_fraction(PHI[name](z), name) - share) < 4 * sigma


def test_no_variance_no_saturation():
    assert saturation.saturated_share("sigmoid", 0.0) == 0.0


@pytest.mark.parametrize(("name", "low"), [("sigmoid", 0.0), ("tanh", -1.0)])
def test_bin_shares_sum_to_one_and_their_ends_are_the_saturated_share(name, low):
    edges = np.linspace(low, 1, round((1 - low) / 0.05) + 1)
    shares = saturation.activation_shares(name, edges, 2.5)
    assert shares.sum() == pytest.approx(1, abs=1e-12)
    assert shares[0] + shares[-1] == pytest.approx(saturation.saturated_share(name, 2.5), abs=1e-12)
    assert shares == pytest.approx(shares[::-1], abs=1e-12)


# --- factor of the norm ----------------------------------------------------------------------------------


def test_critical_sigmoid_by_an_independent_quadrature():
    def expect(f, q):
        return quad(lambda t: f(math.sqrt(q) * t) * norm.pdf(t), -12, 12, points=[0], limit=200)[0]

    sigma_w2 = theory.critical_sigma_w2("sigmoid")
    q = theory.q_star("sigmoid", sigma_w2)
    sigmoid = lambda z: 1 / (1 + math.exp(-z))  # noqa: E731
    assert sigma_w2 * expect(lambda z: sigmoid(z) ** 2, q) == pytest.approx(q, rel=1e-7)
    assert sigma_w2 * expect(lambda z: (sigmoid(z) * sigmoid(-z)) ** 2, q) == pytest.approx(1, rel=1e-7)
    assert sigma_w2 == pytest.approx(103.01, abs=0.01)


def test_factor_is_the_root_of_chi1_and_below_the_bound():
    for s in (0.5, 1.0, 4.0):
        assert saturation.norm_factor("sigmoid", s) ** 2 == pytest.approx(theory.chi1_star("sigmoid", s**2))
        assert saturation.norm_factor("sigmoid", s) < s / 4
    # 0.25 needs all pre-activations at 0, which the sigmoid without its offset reaches.
    assert saturation.norm_factor(lambda z: torch.sigmoid(z) - 0.5, 1.0) == pytest.approx(0.25, rel=1e-9)


@pytest.mark.parametrize(("name", "slope"), [("sigmoid", 1 / (6 * math.sqrt(math.pi))), ("tanh", 4 / (3 * math.sqrt(2 * math.pi)))])
def test_large_weights_reach_the_limit(name, slope):
    errors = [abs(saturation.norm_factor(name, s) ** 2 / (slope * s) - 1) for s in (10.0, 100.0)]
    assert errors[1] < errors[0] and errors[1] < 0.01


@pytest.mark.parametrize(("name", "sigma_w"), [("sigmoid", 1.0), ("sigmoid", 4.0), ("tanh", 3.0)])
def test_measured_factor_meets_theory(name, sigma_w):
    signal = propagate(name, sigma_w**2, depth=12, width=200, members=8, batch=8, generator=generator())
    factors = saturation.measured_factor(signal.gradient)
    assert factors.shape == (8,)
    error = factors.std(ddof=1) / math.sqrt(8)
    assert abs(factors.mean() - saturation.norm_factor(name, sigma_w)) < 5 * error
    assert error < 0.02


def test_measured_factor_of_a_straight_line():
    norms = 3.0 * np.array([[0.5**k for k in range(9, -1, -1)], [2.0**k for k in range(9, -1, -1)]])
    assert saturation.measured_factor(norms**2) == pytest.approx([0.5, 2.0])


def test_saturated_tanh_explodes():
    signal = propagate("tanh", 100.0, members=6, batch=4, generator=generator())
    assert saturation.saturated_fraction(torch.tanh(signal.z[9]), "tanh", tol=0.01) > 0.7
    growth = np.log(signal.gradient[:, 0] / signal.gradient[:, -1])
    assert abs(np.median(growth) - math.log(theory.gradient_profile("tanh", 100.0, depth=20)[0])) < 2


# --- training --------------------------------------------------------------------------------------------


def test_watching_does_not_change_the_training():
    x, y = digits()[:2]
    history = saturation.watch_training(
        x, y, activation="sigmoid", sigma_w2=1.0, depth=2, steps=(0, 3, 20), lr=2.0, width=8, seeds=3, seed=5
    )
    g = generator(5)
    net = Ensemble(3, [64, 8, 8, 10], "sigmoid", 1.0, generator=g)
    train(net, x, y, steps=20, lr=2.0, momentum=0.0, generator=g)
    a = torch.sigmoid(net.preactivations(x)[1]).detach()
    assert history.saturated.shape == history.mean.shape == (3, 3, 2) and history.accuracy.shape == (3, 3)
    assert history.saturated[2, -1, 1] == pytest.approx(saturation.saturated_fraction(a[2], "sigmoid"))
    assert history.mean[:, -1, 1] == pytest.approx(a.mean((1, 2)).numpy())
    assert history.accuracy[:, -1] == pytest.approx(net.accuracy(x, y).numpy())


def test_trained_accuracy_learns_and_is_reproducible():
    x, y = digits()[:2]
    options = dict(activation="tanh", sigma_w2=1.76, sigma_b2=0.05, depth=2, steps=100, seeds=3)
    first = saturation.trained_accuracy(x, y, **options)
    assert first.shape == (3,) and first.min() > 0.7
    assert (first == saturation.trained_accuracy(x, y, **options)).all()
    assert (first != saturation.trained_accuracy(x, y, seed=1, **options)).any()


# --- figure and errors -----------------------------------------------------------------------------------


def test_draw_activations():
    figure, ax = plt.subplots()
    a = torch.tanh(torch.randn(500, generator=generator(), dtype=torch.float64))
    assert saturation.draw_activations(ax, "tanh", a, 1.0) is ax
    (bars,) = (p for p in ax.patches if p.get_label() == "measured")
    assert bars.get_data().values.sum() == pytest.approx(1)
    assert ax.get_xlim() == (-1, 1)
    plt.close(figure)


A = torch.tensor([0.1, 0.9])
X, Y = torch.zeros(4, 2, dtype=torch.float64), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: saturation.saturated_fraction(A, "relu"), "bounded activation.*'relu'"),
        (lambda: saturation.saturated_fraction(A, "sigmoid", tol=0.0), "tol between 0 and 0.5.*got 0.0"),
        (lambda: saturation.saturated_fraction(A, "sigmoid", tol=0.5), "tol between 0 and 0.5.*got 0.5"),
        (lambda: saturation.saturated_fraction(A, "tanh", tol=math.nan), "tol between 0 and 1.0.*got nan"),
        (lambda: saturation.saturated_fraction(A[:0], "tanh"), r"at least one activation.*\(0,\)"),
        (lambda: saturation.saturated_share("gelu", 1.0), "bounded activation.*'gelu'"),
        (lambda: saturation.saturated_share("tanh", -1.0), "q >= 0, got -1.0"),
        (lambda: saturation.saturated_share("tanh", math.nan), "q >= 0, got nan"),
        (lambda: saturation.activation_shares("tanh", [-1, 1], 0.0), "q > 0, got 0.0"),
        (lambda: saturation.activation_shares("sigmoid", [-1, 1], 1.0), "between 0.0 and 1.0"),
        (lambda: saturation.activation_shares("sigmoid", [0.6, 0.4], 1.0), "edges that rise"),
        (
            lambda: saturation.watch_training(X, Y, activation="relu", sigma_w2=1, depth=1, steps=[0], lr=1),
            "bounded activation.*'relu'",
        ),
        (
            lambda: saturation.watch_training(X, Y, activation="tanh", sigma_w2=1, depth=1, steps=[5, 5], lr=1),
            r"steps that rise.*\[5, 5\]",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
