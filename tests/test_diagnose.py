"""The clinic: many nets at once are the same nets as single modules, and each rule of the diagnosis can fail."""

import math

import numpy as np
import pytest
import torch

from signalprop import data, diagnose
from signalprop.diagnose import Chart, Recipe

DIGITS = data.digits()
X, Y = DIGITS.x[:64], DIGITS.y[:64]


def network(recipe, members=2, seed=0):
    return diagnose.Network(recipe, members, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("skip", [None, "unscaled", "scaled"])
def test_a_member_is_the_single_module(norm, skip):
    net = network(Recipe(depth=4, width=6, activation="tanh", norm=norm, skip=skip, bias=0.1))
    with torch.no_grad():  # so that gains and biases matter
        for p in [*net.gains, *net.shifts, *net.biases]:
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype) / 3)
    for k in range(2):
        single = net.single(k)
        torch.testing.assert_close(single(X), net(X)[k], rtol=1e-10, atol=1e-10)


def test_the_weight_scale_and_the_biases_are_those_of_the_recipe():
    net = network(Recipe(depth=3, width=200, sigma_w2=3.0, bias=-2.0), members=1)
    assert net.weights[1].var().item() * 200 == pytest.approx(3, rel=0.02)
    assert all((bias == -2).all() for bias in net.biases)


def test_the_gain_is_that_of_autograd():
    model = network(Recipe(depth=3, width=8, activation="tanh")).single(0)
    zs = []
    handles = [layer.register_forward_hook(lambda m, i, z: zs.append(z) or z.retain_grad()) for layer in model.fc]
    torch.nn.functional.cross_entropy(model(X), Y).backward()
    for handle in handles:
        handle.remove()
    expected = math.log(zs[0].grad.norm() / zs[2].grad.norm())
    assert diagnose.examine(model, X, Y).log_gain == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("activation, slope", [("linear", 1.0), ("relu", 0.5), ("sigmoid", 1 / 16)])
def test_the_slope_is_the_mean_square_of_the_derivative(activation, slope):
    # Small weights: the sigmoid is met at 0, where its slope is ¼.
    chart = diagnose.examine(network(Recipe(6, 200, activation, sigma_w2=0.1)).single(0), X, Y)
    assert chart.slope == pytest.approx(slope, rel=0.15)
    assert chart.sigma_w2 == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("skip", [None, "unscaled", "scaled"])
def test_a_path_around_the_layers_is_found(norm, skip):
    model = network(Recipe(6, 16, norm=norm, skip=skip)).single(0)
    before = [p.clone() for p in model.parameters()]
    chart = diagnose.examine(model, X, Y)
    assert chart.skip == (skip is not None)
    assert chart.norm == (norm == "batch")
    assert math.isnan(chart.slope) == (skip is not None or norm is not None)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before)), "the examination changes nothing"


def chart(**changes):
    healthy = dict(report=None, log_gain=0.0, sigma_w2=2.0, slope=0.5, correlation=0.3, dead=0.0, update=1e-3, skip=False, norm=False)
    return Chart(**{**healthy, **changes})


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, set()),
        ({"log_gain": -5.0}, {"weights too small"}),
        ({"log_gain": -3.5}, set()),
        ({"log_gain": -5.0, "slope": 0.05, "sigma_w2": 1.0}, {"flat activation"}),
        ({"log_gain": -5.0, "slope": 0.05, "sigma_w2": 0.1}, {"flat activation", "weights too small"}),
        ({"log_gain": 5.0}, {"weights too large"}),
        ({"log_gain": 5.0, "norm": True, "slope": math.nan}, {"batch norm without skips"}),
        ({"log_gain": 5.0, "skip": True, "slope": math.nan}, {"unscaled skips"}),
        ({"log_gain": 5.0, "skip": True, "norm": True, "slope": math.nan}, {"weights too large"}),
        ({"correlation": 0.99}, {"collapsed inputs"}),
        ({"correlation": 0.99, "dead": 0.5}, {"collapsed inputs"}),
        ({"dead": 0.8, "correlation": 0.5}, set()),
        ({"dead": 1.0, "log_gain": -math.inf, "slope": math.nan, "correlation": math.nan}, {"dead units"}),
        ({"update": 0.5}, {"learning rate too large"}),
        ({"update": 0.5, "log_gain": 5.0}, {"weights too large"}),
    ],
)
def test_each_rule(changes, expected):
    assert diagnose.causes(chart(**changes)) == expected
    assert expected <= set(diagnose.CAUSES)


def test_the_prescription_fits_the_cause():
    sick = Recipe(10, activation="sigmoid", sigma_w2=0.1, norm=None, lr=1.0)
    assert diagnose.prescribe(sick, set()) == sick
    both = diagnose.prescribe(sick, {"flat activation", "weights too small"})
    assert both.activation == "tanh" and both.sigma_w2 == pytest.approx(1, abs=1e-6)
    assert diagnose.prescribe(Recipe(sigma_w2=9.0), {"weights too large"}).sigma_w2 == pytest.approx(2)
    assert diagnose.prescribe(Recipe(activation="gelu"), {"weights too small"}).norm == "layer"
    assert diagnose.prescribe(Recipe(bias=-2.0), {"dead units"}).bias == 0
    assert diagnose.prescribe(Recipe(norm="batch"), {"batch norm without skips"}).skip == "unscaled"
    assert diagnose.prescribe(Recipe(skip="unscaled"), {"unscaled skips"}).skip == "scaled"
    assert diagnose.prescribe(Recipe(), {"collapsed inputs"}).skip == "scaled"
    assert diagnose.prescribe(sick, {"learning rate too large"}).lr == pytest.approx(0.01)


def test_remedies_are_applied_in_their_order():
    """The scale is that of the activation that the net ends up with, in whichever order they are named."""
    sick = Recipe(20, activation="sigmoid", sigma_w2=1.0)
    for chosen in (["ReLU", "scale"], ["scale", "ReLU"]):
        assert diagnose.treat(sick, chosen).sigma_w2 == pytest.approx(2)
    assert diagnose.treat(sick, ["scale"]).sigma_w2 == pytest.approx(103, rel=1e-3)
    assert diagnose.treat(sick, []) == sick


def test_a_treatment_goes_on_until_nothing_is_found():
    recipes = diagnose.treatment(Recipe(30, sigma_w2=1 / 3), X, Y, seeds=3)
    assert [diagnose.describe_change(a, b) for a, b in zip(recipes, recipes[1:])] == ["σ_w² = 2", "skips scaled"]
    assert diagnose.common_causes(recipes[-1], X, Y, seeds=3)[0] == set()
    assert diagnose.treatment(Recipe(4), X, Y, seeds=3) == [Recipe(4)]


def test_a_trial_measures_before_and_after():
    result = diagnose.trial(Recipe(4, 16, lr=3.0), DIGITS, seeds=3, steps=60)
    assert (result["sick"] == 1).all() and result["train"].shape == (3,)
    assert np.median(result["treated"]) > np.median(result["train"]) + 0.3
    well = diagnose.trial(Recipe(3, 16), DIGITS, seeds=2, steps=5)
    assert (well["sick"] == 0).all() and (well["train"] == well["treated"]).all()


def test_the_training_is_that_of_the_recipe():
    """Clipping and the optimiser reach the trainer: a clip that is far too small leaves the net where it was."""
    free, tied = (diagnose.trained(Recipe(3, 16, clip=clip), DIGITS, seeds=2, steps=60).train for clip in (None, 1e-9))
    assert np.median(free) > np.median(tied) + 0.3
    adam = diagnose.trained(Recipe(3, 16, lr=1e-3, optimiser="adam"), DIGITS, seeds=2, steps=60)
    sgd = diagnose.trained(Recipe(3, 16, lr=1e-3), DIGITS, seeds=2, steps=60)
    assert np.median(adam.train) > np.median(sgd.train)


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: Recipe(depth=1), "depth >= 2"),
        (lambda: Recipe(norm="group"), "got 'group'"),
        (lambda: Recipe(skip="half"), "'half'"),
        (lambda: Recipe(lr=0), "lr > 0"),
        (lambda: Recipe(activation="swisch"), "got 'swisch'"),
        (lambda: diagnose.prescribe(Recipe(), {"flu"}), "got flu"),
        (lambda: diagnose.treat(Recipe(), ["prayer"]), "got prayer"),
        (lambda: diagnose.examine(torch.nn.Linear(64, 10).double(), X, Y), "three or more linear layers, got 1"),
    ],
)
def test_bad_input_says_what_was_expected(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()
