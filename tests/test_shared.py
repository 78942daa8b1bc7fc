"""The shared modules: data, nets, bands, activations, report, explore, style."""

import itertools
import math

import numpy as np
import pytest
import torch
from colorspacious import cspace_convert, deltaE
from hypothesis import given, settings
from hypothesis import strategies as st

from matplotlib.colors import to_rgb

from signalprop import activations, bands, data, explore, nets, report, style, theory
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


# --- theory ----------------------------------------------------------------------------------------------


def test_gradient_profile():
    np.testing.assert_allclose(theory.gradient_profile("relu", 1.0, depth=4), [1 / 8, 1 / 4, 1 / 2, 1])
    slope = -bands.fit_slope(np.log(theory.gradient_profile("tanh", 2.0, 0.05, depth=9)))
    assert slope == pytest.approx(theory.log_gradient_slope("tanh", 2.0, 0.05, q0=2.05, depth=9))


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


# --- style -----------------------------------------------------------------------------------------------

OKABE_ITO = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", style.THEORY]


def nearest(colors, deficiency=None):
    """The smallest difference between two colours, as people with a colour-vision deficiency see them [Machado et al.
    2009], in units of CAM02-UCS, where about 1 is just seen."""
    seen = [to_rgb(color) for color in colors]
    if deficiency:
        space = {"name": "sRGB1+CVD", "cvd_type": deficiency, "severity": 100}
        seen = [np.clip(cspace_convert(color, space, "sRGB1"), 0, 1) for color in seen]
    return min(deltaE(a, b, input_space="sRGB1") for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("deficiency", [None, "protanomaly", "deuteranomaly", "tritanomaly"])
def test_colour_blind_readers_tell_the_colours_apart(deficiency):
    """Better than the palette that is known for it, theory's black among them."""
    found = nearest([*style.COLORS, style.THEORY], deficiency)
    assert found > 14
    assert deficiency is None or found > nearest(OKABE_ITO, deficiency)


def test_two_colours_that_only_differ_by_hue_are_noticed():
    assert nearest(["#c25100", "#7a5c00"], "protanomaly") < 5 < 15 < nearest(["#c25100", "#7a5c00"])


def test_lines_are_seen_on_white_paper():
    """A contrast of 3:1 [WCAG 2.2, 1.4.11]; the theory's line can be read as text, 4.5:1."""

    def contrast(color):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(color)]
        return 1.05 / (0.05 + np.dot([0.2126, 0.7152, 0.0722], linear))

    assert contrast("#ffffff") == pytest.approx(1) and contrast("#777777") == pytest.approx(4.48, abs=0.01)
    assert min(map(contrast, style.COLORS)) >= 3 and contrast(style.THEORY) >= 4.5
