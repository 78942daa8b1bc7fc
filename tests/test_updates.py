"""Weight updates: against autograd, exact arithmetic and every number of a small format."""

import math
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from signalprop import data, ensemble, nets, probe, updates

FORMATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    return data.digits()


# --- update ratios ---------------------------------------------------------------------------------------


def test_update_ratios_by_hand():
    before = {"w": torch.tensor([[3.0, 0.0], [0.0, 4.0]]), "b": torch.zeros(2), "still": torch.zeros(3), "n": torch.tensor(7)}
    after = {"w": torch.tensor([[3.0, 0.3], [0.4, 4.0]]), "b": torch.ones(2), "still": torch.zeros(3), "n": torch.tensor(8)}
    ratios = updates.update_ratios(before, after)
    assert list(ratios) == ["w", "b", "still"]
    assert ratios["w"] == pytest.approx(0.1) and ratios["b"] == math.inf and ratios["still"] == 0


def test_update_ratios_of_a_step_agree_with_the_layer_report(digits):
    model = nets.mlp([64, 20, 20, 10], "tanh", generator=generator())
    x, y = digits.x[:32], digits.y[:32]
    expected = probe.layer_report(model, x, y, lr=0.3)["update_ratio"]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.3)
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimiser.step()
    ratios = updates.update_ratios(before, dict(model.named_parameters()))
    np.testing.assert_allclose([r for name, r in ratios.items() if "weight" in name], expected, rtol=1e-9)


@pytest.mark.parametrize(
    "before, after, message",
    [
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}, "same names"),
        ({"a": torch.ones(2)}, {"a": torch.ones(3)}, "equal shapes"),
        ({"a": 1.0}, {"a": torch.ones(1)}, "expected tensors"),
        ({"a": torch.ones(1)}, {"a": torch.tensor([math.nan])}, "finite weights"),
        ({"a": torch.tensor([math.inf])}, {"a": torch.ones(1)}, "finite weights"),
    ],
)
def test_update_ratios_refuses(before, after, message):
    with pytest.raises(ValueError, match=message):
        updates.update_ratios(before, after)


@pytest.mark.parametrize("eps", [1e-8, 1e-3])
def test_adam_share_is_what_torch_does(eps):
    g = torch.tensor([1.0, -1e-3, 1e-8, 1e-11, 0.0], dtype=torch.float64)
    w = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([w], lr=0.01, eps=eps)
    for _ in range(3):
        w.grad = g.clone()
        optimiser.step()
    np.testing.assert_allclose(w.detach().abs().numpy(), 0.03 * updates.adam_share(g, eps), rtol=1e-9)
    assert updates.adam_share(eps, eps) == 0.5
    with pytest.raises(ValueError, match="eps > 0"):
        updates.adam_share(1.0, 0)


# --- norms in random nets --------------------------------------------------------------------------------


def test_layer_norms_agree_with_the_layer_report(digits):
    net = ensemble.Ensemble(3, [64, 12, 12, 10], "tanh", 1.5, 0.1, generator=generator())
    x, y = digits.x[:16], digits.y[:16]
    norms = updates.layer_norms(net, x, y)
    for member in range(3):
        model = nets.mlp([64, 12, 12, 10], "tanh")
        for layer, (name, module) in enumerate((n, m) for n, m in model.named_children() if n.startswith("fc")):
            module.weight.data, module.bias.data = net.weights[layer].data[member], net.biases[layer].data[member, 0]
        report = probe.layer_report(model, x, y, lr=0.1)
        assert norms.loss[member] == pytest.approx(report.loss)
        np.testing.assert_allclose(norms.delta[member], report["grad_preact"], rtol=1e-9)
        np.testing.assert_allclose(norms.gradient[member], report["grad_weight"], rtol=1e-9)
        np.testing.assert_allclose(norms.update_ratio(0.1)[member], report["update_ratio"], rtol=1e-9)
    a1 = torch.tanh(net.preactivations(x)[0]).detach()
    np.testing.assert_allclose(norms.input[:, 0], x.norm().item())
    np.testing.assert_allclose(norms.input[:, 1], a1.norm(dim=(1, 2)))
    with pytest.raises(ValueError, match="as many labels"):
        updates.layer_norms(net, x, y[:3])


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_weight_gradient_of_one_sample_is_error_times_input(digits, activation):
    net = ensemble.Ensemble(4, [64, 9, 9, 9, 10], activation, generator=generator())
    norms = updates.layer_norms(net, digits.x[:1], digits.y[:1])
    np.testing.assert_allclose(norms.gradient, norms.delta * norms.input, rtol=1e-12)


def test_norm_profile_closed_forms():
    relu = updates.norm_profile("relu", 1.0, depth=5)
    np.testing.assert_allclose(relu.delta, 0.5 ** (np.arange(4, -1, -1) / 2))
    # The inputs: mean square 1, then q₁/2 = ½, and half as much in each layer after that.
    np.testing.assert_allclose(relu.input, relu.input[0] * 0.5 ** (np.arange(5) / 2))
    np.testing.assert_allclose(relu.gradient, 1)
    linear = updates.norm_profile("linear", 0.25, depth=4)
    np.testing.assert_allclose(linear.delta, 0.5 ** np.arange(3, -1, -1.0))


@pytest.mark.parametrize("activation, sigma_w2", [("relu", 1.0), ("sigmoid", 1.0), ("tanh", 0.5)])
def test_wide_nets_follow_the_profile(digits, activation, sigma_w2):
    net = ensemble.Ensemble(8, [64, *[200] * 8, 10], activation, sigma_w2, generator=generator())
    norms = updates.layer_norms(net, digits.x[:32], digits.y[:32])
    profile = updates.norm_profile(activation, sigma_w2, depth=8)
    # From layer 2 on: layer 1 has another fan-in, and with it another width of its input.
    for kind in ("delta", "input", "gradient"):
        values = getattr(norms, kind)[:, 1:8]
        measured = np.median(values / values[:, -1:], axis=0)
        np.testing.assert_allclose(measured, getattr(profile, kind)[1:], rtol=0.3, err_msg=kind)


def test_draw_ratios_marks_the_formats():
    ax = plt.figure().subplots()
    assert updates.draw_ratios(ax, np.full((3, 4), 1e-3)) is ax
    assert [t.get_text() for t in ax.texts] == ["bfloat16", "float16", "float32"]
    assert ax.lines[-1].get_ydata()[0] == 2.0**-24
    plt.close("all")


# --- training with a dose --------------------------------------------------------------------------------


def test_attenuation_and_frozen():
    assert updates.attenuation(0.5, 3).tolist() == [0.125, 0.25, 0.5, 1]
    assert updates.attenuation(0, 2).tolist() == [0, 0, 1]
    assert updates.frozen(2, 3).tolist() == [0, 0, 1, 1]
    for bad in [(-0.1, 3), (1.1, 3), (math.nan, 3), (0.5, 0)]:
        with pytest.raises(ValueError, match="rho"):
            updates.attenuation(*bad)
    for layers in (-1, 5):
        with pytest.raises(ValueError, match="between 0 and 4 layers"):
            updates.frozen(layers, 3)


def test_trained_is_paired_and_frozen_layers_stay(digits):
    arguments = dict(hidden=2, width=8, seeds=3, steps=5, lr=0.1)
    full, again = updates.trained(digits, **arguments), updates.trained(digits, **arguments)
    rest = updates.trained(digits, **arguments, layer_scale=updates.frozen(1, 2))
    np.testing.assert_array_equal(full.moved, again.moved)
    assert full.accuracy.shape == (3,) and full.moved.shape == (3, 3) and (full.moved > 0).all()
    assert (rest.moved[:, 0] == 0).all() and (rest.moved[:, 1:] > 0).all()
    # Paired: the first layer that was not trained is where both started.
    start = ensemble.Ensemble(3, [64, 8, 8, 10], "relu", 2.0, generator=generator())
    torch.testing.assert_close(rest.net.weights[0], start.weights[0], rtol=0, atol=0)
    expected = (full.net.weights[0] - start.weights[0]).norm(dim=(1, 2)) / start.weights[0].norm(dim=(1, 2))
    np.testing.assert_allclose(full.moved[:, 0], expected.detach())
    other = updates.trained(digits, **arguments, seed=1)
    assert (other.moved != full.moved).all()


def test_one_dosed_step_moves_a_layer_by_its_dose(digits):
    arguments = dict(hidden=3, width=8, seeds=2, steps=1, lr=0.1)
    full = updates.trained(digits, **arguments)
    dosed = updates.trained(digits, **arguments, layer_scale=updates.attenuation(0.1, 3))
    np.testing.assert_allclose(dosed.moved / full.moved, [[1e-3, 1e-2, 0.1, 1]] * 2, rtol=1e-6)


# --- number formats --------------------------------------------------------------------------------------


def all_float16():
    bits = torch.arange(2**15, dtype=torch.int32).to(torch.int16)
    values = bits.view(torch.float16).double()
    return values[values.isfinite()]


def test_half_gap_of_every_float16():
    values = all_float16()
    expected = (values[1:] - values[:-1]) / 2
    assert [updates.half_gap(w, torch.float16) for w in values[:-1].tolist()] == expected.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(w=st.floats(-1e30, 1e30))
@settings(deadline=None, max_examples=100)
def test_half_gap_is_half_way_to_the_next_number(dtype, w):
    rounded = torch.tensor(w, dtype=dtype).abs()
    gap = torch.nextafter(rounded, torch.tensor(math.inf, dtype=dtype)).item() - rounded.item()
    assert updates.half_gap(w, dtype) == gap / 2


def stays(w, update, dtype):
    """w − update rounds to w, decided with fractions from the neighbours of w."""
    w, update = (torch.tensor(v, dtype=dtype) for v in (w, update))
    size = 16 if dtype == torch.bfloat16 else torch.finfo(dtype).bits
    integer = {16: torch.int16, 32: torch.int32, 64: torch.int64}[size]
    bits = w.abs().view(integer).item()
    exact = abs(Fraction(w.item()) - Fraction(update.item()))
    here = Fraction(w.abs().item())
    up, down = (Fraction(torch.tensor(bits + i, dtype=integer).view(dtype).item()) for i in (1, -1))
    if (w > 0) != (Fraction(w.item()) - Fraction(update.item()) > 0):
        return False
    above, below = (here + up) / 2, (here + down) / 2
    return below < exact < above or (exact in (above, below) and bits % 2 == 0)


@pytest.mark.parametrize("dtype", FORMATS)
@given(
    w=st.floats(0.01, 100) | st.sampled_from([1.0, 0.5, 1.5, 2.0]),
    lr=st.sampled_from([1e-3, 0.1, 0.5, 1.0]),
    g=st.floats(0.01, 10) | st.sampled_from([1.0, 0.25]),
    factor=st.floats(0.1, 0.9) | st.sampled_from([0.5, 0.25]),
    sign=st.sampled_from([-1, 1]),
)
@settings(deadline=None, max_examples=60)
def test_lost_update_depth_against_exact_arithmetic(dtype, w, lr, g, factor, sign):
    found = updates.lost_update_depth(w, lr, sign * g, factor, dtype)
    d = 0
    while not stays(w, lr * sign * g * factor**d, dtype):
        d += 1
    assert found == d
    # The sign of the weight mirrors everything.
    assert updates.lost_update_depth(-w, lr, -sign * g, factor, dtype) == d


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("factor", [0.236, 0.7, 0.97])
def test_lost_update_depth_closed_form(dtype, factor):
    closed = math.ceil(math.log(0.01 / updates.half_gap(0.1, dtype)) / math.log(1 / factor))
    assert updates.lost_update_depth(0.1, 0.1, 0.1, factor, dtype) == closed


def test_ties_go_to_even():
    # float32: half the gap at 1 is 2^-24, below 1 the gap is half as large.
    assert updates.lost_update_depth(1.0, 1.0, -1.0, 0.5) == 24  # 1 is even
    assert updates.lost_update_depth(1.0, 1.0, 1.0, 0.5) == 25
    odd = 1 + 2.0**-23
    assert updates.lost_update_depth(odd, 1.0, 1.0, 0.5) == 25
    assert updates.lost_update_depth(odd, 1.0, -1.0, 0.5) == 25


def test_float16_loses_a_step_between_1_2048_and_1_4096_of_the_weight():
    values = all_float16()
    normal = values[values >= torch.finfo(torch.float16).smallest_normal][:-1]
    ratio = normal / torch.tensor([updates.half_gap(w, torch.float16) for w in normal.tolist()])
    assert ratio.min() == 2048 and 4090 < ratio.max() < 4096
    assert updates.lost_update_depth(1.5, 1.0, 1.5 / 2500, 0.9, torch.float16) > 0  # kept, though 2,500 times smaller


@pytest.mark.parametrize("dtype, power", [(torch.float32, 149), (torch.bfloat16, 133), (torch.float16, 24)])
def test_underflow_depth(dtype, power):
    # 2^-(power + 1) is half the smallest number: a tie, and 0 is even.
    assert updates.underflow_depth(1.0, 0.5, dtype) == power + 1
    assert updates.underflow_depth(0.0, 0.5, dtype) == 0


def test_edges():
    assert updates.lost_update_depth(1.0, 0.1, 0.0, 0.5) == 0
    assert updates.lost_update_depth(1.0, 0.1, 1e-20, 0.5) == 0
    assert updates.lost_update_depth(0.0, 1.0, 1.0, 0.5) == 150  # at 0 every step counts until it is 0 itself


@pytest.mark.parametrize("factor", [0.0, 1.0, -0.5, math.nan])
def test_depths_refuse_a_factor(factor):
    for call in (lambda: updates.lost_update_depth(1, 0.1, 1, factor), lambda: updates.underflow_depth(1, factor)):
        with pytest.raises(ValueError, match="0 < factor < 1"):
            call()


@pytest.mark.parametrize("w, g", [(math.inf, 1.0), (1.0, math.nan), (7e4, 1.0), (1.0, 1e6)])
def test_depths_refuse_what_the_format_cannot_hold(w, g):
    with pytest.raises(ValueError, match="finite in torch.float16"):
        updates.lost_update_depth(w, 1.0, g, 0.5, torch.float16)
