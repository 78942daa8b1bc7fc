"""The shared modules: data, nets, ensemble, bands, activations, report, explore."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from signalprop import activations, bands, data, ensemble, explore, nets, report, theory
from signalprop.glue import significant


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# --- data ------------------------------------------------------------------------------------------------


def test_digits_are_the_same_every_time_and_scaled():
    a, b = data.digits(5), data.digits(5)
    assert all(torch.equal(u, v) for u, v in zip(a, b))
    assert a.x.shape == (1400, 69) and a.x_test.shape == (397, 69) and a.x.dtype == torch.float64
    assert a.x[:, :64].square().mean().item() == pytest.approx(1)
    assert a.x[:, :64].mean(0).abs().max() < 1e-12
    assert set(a.y.tolist()) == set(range(data.CLASSES))
    assert not torch.equal(a.y, data.digits(5, seed=1).y)
    with pytest.raises(ValueError, match="got -1"):
        data.digits(-1)


def test_training_and_test_set_do_not_overlap():
    split = data.digits(0, seed=3)
    train = {tuple(row) for row in split.x.tolist()}
    assert sum(tuple(row) in train for row in split.x_test.tolist()) == 0


# --- activations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_derivative_agrees_with_finite_differences(name):
    phi, z = activations.get(name), torch.linspace(-4, 4, 41, dtype=torch.float64) + 0.013
    h = 1e-6
    assert torch.allclose(phi.derivative(z), (phi(z + h) - phi(z - h)) / (2 * h), atol=1e-8)


def test_derivative_works_without_gradients_and_for_constants():
    with torch.no_grad():
        assert activations.get("tanh").derivative(torch.zeros(3)).tolist() == [1, 1, 1]
    assert activations.get(torch.zeros_like).derivative(torch.ones(2)).tolist() == [0, 0]


# --- nets ------------------------------------------------------------------------------------------------


def test_mlp_has_the_variance_it_is_asked_for():
    net = nets.mlp([400, 300, 10], "relu", 2.0, 0.5, rng())
    assert net.fc1.weight.var().item() * 400 == pytest.approx(2, rel=0.02)
    assert net.fc1.bias.var().item() == pytest.approx(0.5, rel=0.3)
    assert [name for name, _ in net.named_children()] == ["fc1", "phi1", "fc2"]
    assert torch.equal(nets.mlp([4, 3], "tanh", generator=rng()).fc1.weight, nets.mlp([4, 3], "tanh", generator=rng()).fc1.weight)


def test_a_net_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    nets.mlp([4, 3, 2], "tanh", generator=rng())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("sizes", [[3], [3, 0], []])
def test_bad_sizes(sizes):
    with pytest.raises(ValueError, match="positive sizes"):
        nets.mlp(sizes, "tanh")


# --- ensemble --------------------------------------------------------------------------------------------


def single(model, member):
    """Member `member` of an ensemble as a plain network."""
    net = nets.mlp(model.sizes, model.activation)
    linear = [m for m in net if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for layer, weight, bias in zip(linear, model.weights, model.biases):
            layer.weight.copy_(weight[member])
            layer.bias.copy_(bias[member, 0])
    return net, linear


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_each_member_trains_like_a_single_model(optimiser):
    split, members, lr = data.digits(), 3, torch.tensor([0.1, 0.01, 0.003])
    model = ensemble.Ensemble(members, [64, 12, 12, 10], "tanh", torch.tensor([0.5, 1.0, 2.0]), 0.1, generator=rng())
    singles = [single(model, i) for i in range(members)]
    history = ensemble.train(
        model, split.x, split.y, steps=30, lr=lr, optimiser=optimiser, batch_size=16, generator=rng(7)
    )
    generator, batches = rng(7), []
    for _ in range(30):
        batches.append(torch.randint(len(split.x), (members, 16), generator=generator))
    for i, (net, linear) in enumerate(singles):
        if optimiser == "sgd":
            opt = torch.optim.SGD(net.parameters(), lr[i].item(), momentum=0.9)
        else:
            opt = torch.optim.Adam(net.parameters(), lr[i].item())
        for step, batch in enumerate(batches):
            loss = F.cross_entropy(net(split.x[batch[i]]), split.y[batch[i]])
            assert loss.item() == pytest.approx(history[step, i].item(), rel=1e-9)
            opt.zero_grad()
            loss.backward()
            opt.step()
        for layer, weight, bias in zip(linear, model.weights, model.biases):
            assert torch.allclose(layer.weight, weight[i], rtol=0, atol=1e-10)
            assert torch.allclose(layer.bias, bias[i, 0], rtol=0, atol=1e-10)


def test_a_layer_scale_of_zero_freezes_a_layer_and_one_changes_nothing():
    split = data.digits()

    def trained(scale):
        model = ensemble.Ensemble(2, [64, 8, 8, 10], "relu", 2.0, generator=rng())
        start = copy.deepcopy(model)
        ensemble.train(model, split.x, split.y, steps=5, lr=0.05, layer_scale=scale, generator=rng(1))
        return start, model

    start, model = trained(torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]))
    _, plain = trained(None)
    assert torch.equal(model.weights[0][0], start.weights[0][0])
    assert not torch.equal(model.weights[0][1], start.weights[0][1])
    assert torch.equal(model.weights[0][1], plain.weights[0][1])


def test_a_diverged_member_counts_as_chance():
    model = ensemble.Ensemble(2, [64, 10], "linear", generator=rng())
    split = data.digits()
    with torch.no_grad():
        model.weights[0][1] = math.nan
    accuracy = model.accuracy(split.x_test, split.y_test)
    assert accuracy[1] == 0.1 and accuracy[0] != 0.1


def test_ensemble_bad_input():
    with pytest.raises(ValueError, match="finite variances"):
        ensemble.Ensemble(2, [3, 2], "relu", -1.0, generator=rng())
    with pytest.raises(ValueError, match="members >= 1"):
        ensemble.Ensemble(0, [3, 2], "relu", generator=rng())
    model = ensemble.Ensemble(1, [3, 2], "relu", generator=rng())
    with pytest.raises(ValueError, match="'sgd' or 'adam'"):
        ensemble.train(model, torch.ones(4, 3), torch.zeros(4).long(), steps=1, lr=1, optimiser="lion", generator=rng())
    with pytest.raises(ValueError, match="as many labels"):
        ensemble.train(model, torch.ones(4, 3), torch.zeros(5).long(), steps=1, lr=1, generator=rng())


# --- random deep nets ----------------------------------------------------------------------------------


def test_propagate_is_the_backward_recursion():
    arguments = dict(width=6, depth=3, members=2, batch=4)
    found = ensemble.propagate("tanh", 1.3, 0.1, **arguments, generator=rng(3))
    # The same draws, by hand: δ_l = φ′(z_l) ∘ (W_{l+1}ᵀ δ_{l+1}).
    g = rng(3)
    net = ensemble.Ensemble(2, [6, 6, 6, 6, 1], "tanh", 1.3, 0.1, generator=g)
    x = torch.randn(2, 4, 6, generator=g, dtype=torch.float64)
    a = (x / x.square().mean(-1, keepdim=True).sqrt()).mT
    weights, zs = [w.detach() for w in net.weights], []
    for w, b in zip(weights[:-1], net.biases):
        zs.append(w @ a + b.detach().mT)
        a = torch.tanh(zs[-1])
    delta = torch.ones(2, 1, 4, dtype=torch.float64)
    for l in (2, 1, 0):
        delta = (1 - torch.tanh(zs[l]) ** 2) * (weights[l + 1].mT @ delta)
        np.testing.assert_allclose(found.gradient[:, l], delta.square().sum((1, 2)).numpy(), rtol=1e-12)
        np.testing.assert_allclose(found.q[:, l], zs[l].square().mean((1, 2)).numpy(), rtol=1e-12)


@pytest.mark.parametrize("activation, sigma_w2, sigma_b2", [("tanh", 2.5, 0.05), ("sigmoid", 4.0, 0.0)])
def test_wide_nets_follow_mean_field_theory(activation, sigma_w2, sigma_b2):
    signals = ensemble.propagate(activation, sigma_w2, sigma_b2, width=200, depth=12, members=10, batch=8, generator=rng())
    slope = -bands.fit_slope(np.log(signals.gradient))
    expected = theory.log_gradient_slope(activation, sigma_w2, sigma_b2, q0=sigma_w2 + sigma_b2, depth=12)
    assert np.median(slope) == pytest.approx(expected, abs=0.06)
    q = theory.q_trajectory(activation, sigma_w2, sigma_b2, sigma_w2 + sigma_b2, 12)
    np.testing.assert_allclose(np.median(signals.q, axis=0), q, rtol=0.1)


def test_gradient_profile():
    np.testing.assert_allclose(theory.gradient_profile("relu", 1.0, depth=4), [1 / 8, 1 / 4, 1 / 2, 1])
    slope = -bands.fit_slope(np.log(theory.gradient_profile("tanh", 2.0, 0.05, depth=9)))
    assert slope == pytest.approx(theory.log_gradient_slope("tanh", 2.0, 0.05, q0=2.05, depth=9))


@pytest.mark.parametrize("change", [{"depth": 0}, {"batch": 0}, {"members": 0}, {"width": 0}])
def test_propagate_refuses(change):
    with pytest.raises(ValueError, match="expected"):
        ensemble.propagate("tanh", 1.0, **{"width": 4, "depth": 3, "members": 2, **change}, generator=rng())


# --- bands -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=40), st.sampled_from([0.5, 0.9, 0.95]))
def test_the_log_band_is_the_band_of_the_logs(values, coverage):
    linear = bands.band(np.log(values), coverage)
    logarithmic = bands.band(values, coverage, log=True)
    for a, b in zip(linear[:3], logarithmic[:3]):
        assert np.exp(a) == pytest.approx(b, rel=1e-9)


def test_band_shapes_zeros_and_errors():
    b = bands.band(np.arange(60.0).reshape(20, 3), log=True)
    assert b.mid.shape == (3,) and b.n == 20 and (b.low < b.mid).all() and (b.mid < b.high).all()
    assert bands.band([0, 0, 0, 1.0], log=True).mid == 0
    for values, message in [([], "at least one seed"), ([1, math.nan], "NaN"), (3.0, "at least one seed")]:
        with pytest.raises(ValueError, match=message):
            bands.band(values)
    with pytest.raises(ValueError, match="negative"):
        bands.band([-1.0, 1.0], log=True)
    with pytest.raises(ValueError, match="coverage"):
        bands.band([1.0], coverage=1)


def test_the_interval_of_the_median_covers_it_as_often_as_it_says():
    samples = np.random.default_rng(0).lognormal(size=(20, 4000))
    b = bands.median_interval(samples, 0.95)
    covered = ((b.low <= 1) & (1 <= b.high)).mean()
    assert 0.95 <= covered < 0.975  # for n = 20 it is exactly .9586
    with pytest.raises(ValueError, match="enough seeds"):
        bands.median_interval(np.arange(5.0))


def test_fit_slope():
    x = np.array([0.0, 1.0, 3.0])
    assert bands.fit_slope(np.stack([2 * x + 1, -x]), x) == pytest.approx([2, -1])
    assert bands.fit_slope(np.arange(5.0) * 3) == pytest.approx(3)
    with pytest.raises(ValueError, match="at least 2"):
        bands.fit_slope([1.0])


# --- report and explore ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, digits, text",
    [
        (0.2364, 3, "0.236"), (1.0, 3, "1.00"), (-0.5, 1, "−0.5"), (12, 3, "12"), (0.99996, 3, "1.00"), (0, 3, "0"),
        (0.0, 3, "0"), (123456.0, 2, "1.2·10⁵"), (2.34e-7, 2, "2.3·10⁻⁷"), (94.99, 3, "95.0"), (99999.0, 2, "1.0·10⁵"),
        (np.float64(0.5), 2, "0.50"), (torch.tensor(2.0), 2, "2.0"), (np.int64(7), 3, "7"), (0.00012, 1, "1·10⁻⁴"),
    ],
)  # fmt: skip
def test_significant(value, digits, text):
    assert significant(value, digits) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, None, [1, 2], torch.ones(2), True])
def test_report_refuses_what_is_not_one_finite_number(value):
    with pytest.raises(ValueError, match="expected a"):
        report("x", value)


def test_an_interactive_figure_links_slider_and_pictures_and_describes_each():
    figure = explore.slider(lambda ax, v: ax.plot([0, v]), [1, 5], "depth", lambda v: f'a line to "{v}"')
    slider, stack = figure.children
    assert [option[0] for option in slider.options] == ["1", "5"] and len(stack.children) == 2
    assert slider.index == stack.selected_index == 1
    assert 'aria-label="a line to &quot;5&quot;"' in stack.children[1].value
    assert repr(figure) == "[interactive figure] depth: 1 to 5"
    both = explore.tabs({"a": figure, "b": figure}, "kind")
    assert both.children[0].options == ("a", "b")
    with pytest.raises(ValueError, match="at least two"):
        explore.slider(lambda ax, v: None, [1], "depth", str)


def test_the_pictures_are_the_same_every_time():
    def draw():
        return explore.slider(lambda ax, v: ax.scatter([0, v], [1, 2]), [1, 2], "n", str).children[1].children[0].value

    assert draw() == draw()
