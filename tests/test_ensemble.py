"""The ensemble trainer against loops over single models, and `propagate` against the backward recursion."""

import copy
import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from signalprop import activations, bands, data, ensemble, theory
from signalprop.ensemble import Ensemble, Members, normalise, propagate, sweep, train
from signalprop.progress import progress


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def split():
    return data.digits()


class Bias(nn.Module):
    """What a normalisation without bias lacks."""

    def __init__(self, units):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(units, dtype=torch.float64))

    def forward(self, z):
        return z + self.bias


class ByAutograd(Ensemble):
    """The same net, but not by the path for plain ones."""


def single(model, member):
    """Member `member` of an ensemble in PyTorch's own modules, and its parameters in the order of the ensemble's."""
    layers, linears, after = [], [], []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(model.sizes)):
        last = i == len(model.sizes) - 2
        plain = last or model.norm is None
        linears.append(nn.Linear(fan_in, fan_out, bias=plain, dtype=torch.float64))
        layers.append(linears[-1])
        if not plain:
            norm = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "rms": nn.RMSNorm}[model.norm]
            after.append([norm(fan_out, eps=1e-5, dtype=torch.float64)])
            after[-1] += [Bias(fan_out)] if model.norm == "rms" else []
            layers += after[-1]
        if not last:
            layers.append(activations.Elementwise(model.activation))
    biases = [chain[-1].bias for chain in after] + [linear.bias for linear in linears if linear.bias is not None]
    parameters = [linear.weight for linear in linears] + biases + [chain[0].weight for chain in after]
    with torch.no_grad():
        for mine, theirs in zip(parameters, model.parameters(), strict=True):
            mine.copy_(theirs[member].view_as(mine))
    return nn.Sequential(*layers), parameters


def trained_alone(model, member, split, lr, steps, *, batch_size=16, optimiser="sgd", eps=1e-8, clip=None):
    """Parameters and losses of one member, trained in the way of a textbook."""
    net, parameters = single(model, member)
    if optimiser == "sgd":
        optimiser = torch.optim.SGD(parameters, lr, momentum=0.9)
    else:
        optimiser = torch.optim.Adam(parameters, lr, eps=eps)
    generator, losses = rng(7), []
    for _ in range(steps):
        batch = torch.randint(len(split.x), (model.members, batch_size), generator=generator)[member]
        loss = F.cross_entropy(net(split.x[batch]), split.y[batch])
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()
    return parameters, losses


def assert_like_single_models(model, split, lrs, steps=30, **settings):
    start = copy.deepcopy(model)
    history = train(model, split.x, split.y, steps=steps, lr=lrs, batch_size=16, generator=rng(7), **settings)
    for member, lr in enumerate(lrs.tolist()):
        parameters, losses = trained_alone(start, member, split, lr, steps, **settings)
        np.testing.assert_allclose(history[:, member], losses, rtol=0, atol=1e-12)
        for mine, theirs in zip(parameters, model.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs[member].view_as(mine), rtol=0, atol=1e-12)


RATES = torch.tensor([0.1, 0.03, 0.01], dtype=torch.float64)
SIGMAS = torch.tensor([0.5, 1.0, 2.0])


# --- training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Ensemble, ByAutograd])
@pytest.mark.parametrize("optimiser, rates", [("sgd", RATES), ("adam", RATES / 10), ("adam", torch.full((3,), 0.01))])
def test_each_member_trains_like_a_single_model(kind, optimiser, rates, split):
    model = kind(3, [64, 12, 9, 10], "tanh", SIGMAS, 0.1, generator=rng())
    assert_like_single_models(model, split, rates.double(), optimiser=optimiser)


@pytest.mark.parametrize("activation", [*activations.ACTIVATIONS, torch.sin, torch.zeros_like])
def test_every_activation_trains_like_a_single_model(activation, split):
    model = Ensemble(3, [64, 12, 12, 10], activation, SIGMAS, 0.1, generator=rng())
    assert_like_single_models(model, split, RATES, steps=20)


@pytest.mark.parametrize("norm", ["batch", "layer", "rms"])
@pytest.mark.parametrize("optimiser, rates", [("sgd", RATES), ("adam", RATES / 10)])
def test_normalised_nets_train_like_pytorchs(norm, optimiser, rates, split):
    model = Ensemble(3, [64, 12, 9, 10], "relu", SIGMAS, 0.1, norm=norm, generator=rng())
    # Adam divides a gradient's rounding by √v + ε, and some gradients are almost 0 behind a norm.
    assert_like_single_models(model, split, rates, optimiser=optimiser, **({"eps": 1e-4} if optimiser == "adam" else {}))


@pytest.mark.parametrize("kind", [Ensemble, ByAutograd])
def test_clipping_is_pytorchs(kind, split):
    # Chosen so that some steps of every member are clipped and some are not.
    model = kind(3, [64, 12, 9, 10], "relu", SIGMAS, 0.1, generator=rng())
    free = copy.deepcopy(model)
    assert_like_single_models(model, split, RATES, clip=2.0)
    train(free, split.x, split.y, steps=30, lr=RATES, batch_size=16, generator=rng(7))
    assert not torch.allclose(free.weights[0], model.weights[0])


@pytest.mark.parametrize(
    "settings",
    [{}, {"optimiser": "adam"}, {"momentum": 0.0}, {"clip": 0.5}, {"optimiser": "adam", "lr": RATES / 20, "eps": 1e-3}],
)
def test_by_hand_is_what_autograd_does(settings, split):
    doses = torch.tensor([[0.1, 0.0, 2.0], [1.0, 1.0, 1.0], [0.0, 0.5, 1.0]])
    found = []
    for kind in (Ensemble, ByAutograd):
        model = kind(3, [64, 17, 12, 10], "sigmoid", SIGMAS, 0.1, generator=rng())
        arguments = {"lr": 0.01, "layer_scale": doses, "steps": 40, **settings}
        history = train(model, split.x, split.y, **arguments, generator=rng(1))
        found.append([history, *(p.detach() for p in model.parameters())])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on more, the product of a chunk of one member is cut into pieces
    yield
    torch.set_num_threads(threads)


DOSED = {"lr": torch.linspace(0.001, 0.1, 5), "layer_scale": torch.tensor([0.5, 1, 2])}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [{}, {"optimiser": "adam"}, {"clip": 0.5}, DOSED])
def test_chunks_do_not_change_a_bit(dtype, settings, split, monkeypatch, one_thread):
    found, used = [], set()
    step = ensemble._Chunk.step
    monkeypatch.setattr(ensemble._Chunk, "step", lambda self, *batch: used.add(self.x.shape[0]) or step(self, *batch))
    # The products' rounding depends on how a matrix lies in memory; widths of 16·k lie well in any chunk.
    for sizes, same in [([64, 16, 48, 10], True), ([64, 17, 33, 10], False)]:
        for cache in (1e9, 1, 1.2e5):
            monkeypatch.setattr(ensemble, "_CACHE", cache)
            model = Ensemble(5, sizes, "tanh", 1.0, 0.1, generator=rng(), dtype=dtype)
            history = train(model, split.x.to(dtype), split.y, **{"lr": 0.01, **settings}, steps=35, generator=rng(1))
            found.append([history, *model.parameters()])
        for others in found[1:]:
            for mine, theirs in zip(found[0], others, strict=True):
                assert torch.equal(mine, theirs) or not same
                torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-3)
        found.clear()
    assert {1, 5} < used


def test_one_thread_and_two_give_the_same_bits():
    code = """
import torch
from signalprop import data
from signalprop.ensemble import Ensemble, train
split, found = data.digits(), []
for threads in (1, 2):
    torch.set_num_threads(threads)
    for norm in (None, "layer"):
        g = torch.Generator().manual_seed(0)
        model = Ensemble(8, [64, 64, 64, 10], "relu", 2.0, norm=norm, generator=g)
        train(model, split.x, split.y, steps=3, lr=0.01, optimiser="adam", generator=g)
        found.append(list(model.parameters()))
print(all(torch.equal(a, b) for one, two in zip(found[:2], found[2:]) for a, b in zip(one, two, strict=True)))
"""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == "True"


def test_a_layer_scale_of_zero_freezes_a_layer_and_one_changes_nothing(split):
    for norm in (None, "layer"):
        found = []
        for scale in (torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]), None):
            model = Ensemble(2, [64, 8, 8, 10], "relu", 2.0, norm=norm, generator=rng())
            start = copy.deepcopy(model)
            train(model, split.x, split.y, steps=5, lr=0.05, layer_scale=scale, generator=rng(1))
            found.append(model)
        scaled, plain = found
        for before, after in zip(start.layers()[0], scaled.layers()[0], strict=True):
            assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
        assert all(torch.equal(a[1], b[1]) for a, b in zip(scaled.parameters(), plain.parameters()))
        assert [len(layer) for layer in plain.layers()] == ([2, 2, 2] if norm is None else [3, 3, 2])


def test_parameters_without_gradient_stay(split):
    model = Ensemble(2, [64, 8, 10], "relu", 2.0, generator=rng())
    model.weights[0].requires_grad_(False)
    start = copy.deepcopy(model)
    train(model, split.x, split.y, steps=3, lr=0.1, generator=rng(1))
    assert torch.equal(model.weights[0], start.weights[0]) and not torch.equal(model.biases[0], start.biases[0])


class Gate(Members):
    """logits = s·x Wᵀ with a number s for each member, and weights that do not lie in order."""

    def __init__(self, members, generator):
        super().__init__(members, 10)
        self.scale = nn.Parameter(torch.ones(members, dtype=torch.float64))
        self.weight = nn.Parameter(torch.randn(members, 64, 10, generator=generator, dtype=torch.float64).mT / 8)

    def forward(self, x):
        return self.scale[:, None, None] * (x @ self.weight.mT)


@pytest.mark.parametrize("settings", [{"optimiser": "sgd"}, {"optimiser": "adam"}, {"clip": 0.1}])
def test_any_members_train(settings, split):
    model = Gate(3, rng())
    assert not model.weight.is_contiguous()
    start = copy.deepcopy(model)
    train(model, split.x, split.y, steps=20, lr=RATES, batch_size=16, generator=rng(7), **settings)
    for member, lr in enumerate(RATES.tolist()):
        scale, weight = (p[member].detach().clone().requires_grad_() for p in (start.scale, start.weight))
        kind = torch.optim.Adam if settings.get("optimiser") == "adam" else torch.optim.SGD
        optimiser = kind([scale, weight], lr, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
        generator = rng(7)
        for _ in range(20):
            batch = torch.randint(len(split.x), (3, 16), generator=generator)[member]
            optimiser.zero_grad()
            F.cross_entropy(scale * (split.x[batch] @ weight.T), split.y[batch]).backward()
            if "clip" in settings:
                nn.utils.clip_grad_norm_([scale, weight], settings["clip"])
            optimiser.step()
        torch.testing.assert_close(model.scale[member], scale, rtol=0, atol=1e-12)
        torch.testing.assert_close(model.weight[member], weight, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="expected an Ensemble with layer_scale, got Gate"):
        train(model, split.x, split.y, steps=1, lr=0.1, layer_scale=torch.ones(2), generator=rng())


def test_losses_and_forward_take_shared_and_own_inputs(split):
    model = Ensemble(3, [64, 8, 10], "relu", 2.0, generator=rng())
    x, y = split.x[:6], split.y[:6]
    torch.testing.assert_close(model(x), model(x.expand(3, -1, -1)), rtol=0, atol=1e-13)
    for member in range(3):
        expected = F.cross_entropy(single(model, member)[0](x), y)
        assert model.losses(x, y)[member].item() == pytest.approx(expected.item(), rel=1e-12)
        assert model.losses(x, y.expand(3, -1))[member].item() == pytest.approx(expected.item(), rel=1e-12)
    hits = (model(x).argmax(-1) == y).double().mean(1)
    torch.testing.assert_close(model.accuracy(x, y), hits)


def test_a_diverged_member_counts_as_chance_and_leaves_the_others_alone(split):
    rates = torch.tensor([0.05, 1e200], dtype=torch.float64)
    found = []
    for lr in (rates, rates[:1].repeat(2)):
        model = Ensemble(2, [64, 12, 12, 10], "relu", 2.0, generator=rng())
        history = train(model, split.x, split.y, steps=20, lr=lr, generator=rng(1))
        found.append((model.accuracy(split.x_test, split.y_test), history, model))
    (accuracy, history, _), (healthy, plain, _) = found
    assert accuracy[1] == 0.1 and not history[-1, 1].isfinite()
    assert accuracy[0] == healthy[0] > 0.3
    torch.testing.assert_close(history[:, 0], plain[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"optimiser": "lion"}, "'sgd' or 'adam', got 'lion'"),
        ({"y": torch.zeros(5).long()}, "as many labels as inputs, got 5 and 4"),
        ({"x": torch.ones(4, 2, dtype=torch.float64)}, r"shape \(n, 3\), got \(4, 2\)"),
        ({"x": torch.ones(4, 3)}, "float64, got torch.float32"),
        ({"steps": 0}, "steps >= 1"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"clip": 0.0}, "clip > 0 or None, got 0.0"),
        ({"clip": math.nan}, "clip > 0"),
        ({"lr": torch.ones(3)}, r"lr to fit the shape \(2,\), got \(3,\)"),
        ({"layer_scale": torch.ones(3)}, r"layer_scale to fit the shape \(2, 2\), got \(3,\)"),
    ],
)
def test_train_refuses(change, message):
    model = Ensemble(2, [3, 4, 2], "relu", generator=rng())
    arguments = {"x": torch.ones(4, 3, dtype=torch.float64), "y": torch.zeros(4).long(), "steps": 1, "lr": 0.1} | change
    with pytest.raises(ValueError, match=message):
        train(model, arguments.pop("x"), arguments.pop("y"), **arguments, generator=rng())


def test_ensemble_refuses():
    with pytest.raises(ValueError, match="finite variances"):
        Ensemble(2, [3, 2], "relu", -1.0, generator=rng())
    with pytest.raises(ValueError, match="members >= 1"):
        Ensemble(0, [3, 2], "relu", generator=rng())
    with pytest.raises(ValueError, match="'rms'; got 'group'"):
        Ensemble(1, [3, 2, 2], "relu", norm="group", generator=rng())


# --- normalisation ---------------------------------------------------------------------------------------


def test_normalise_is_pytorchs_for_each_member():
    z = torch.randn(3, 16, 12, generator=rng(), dtype=torch.float64) * 5 + 1
    alone = {
        "batch": nn.BatchNorm1d(12, dtype=torch.float64),
        "layer": nn.LayerNorm(12, dtype=torch.float64),
        "rms": nn.RMSNorm(12, eps=1e-5, dtype=torch.float64),
    }
    for norm, module in alone.items():
        torch.testing.assert_close(normalise(z, norm), torch.stack([module(m) for m in z]), rtol=0, atol=1e-13)
    assert normalise(z, None) is z
    with pytest.raises(ValueError, match="two or more inputs to normalise over the batch, got 1"):
        normalise(z[:, :1], "batch")
    with pytest.raises(ValueError, match="got 'group'"):
        normalise(z, "group")


# --- sweep -----------------------------------------------------------------------------------------------


def small(members, generator):
    return Ensemble(members, [64, 8, 10], "relu", 2.0, generator=generator)


def test_sweep_finds_the_rate_that_trains(split):
    found = sweep(small, split, lrs=[1e-5, 0.1, 1e200], seeds=4, steps=60)
    assert found.train.shape == found.test.shape == found.loss.shape == (3, 4) and found.lrs.tolist() == [1e-5, 0.1, 1e200]
    assert found.best_lr == 0.1 and (found.best() > 0.5).all()
    np.testing.assert_array_equal(found.best("test"), found.test[1])
    assert (found.train[2] == 0.1).all() and not np.isfinite(found.loss[2]).any() and (found.loss[1] < found.loss[0]).all()
    again = sweep(small, split, lrs=[1e-5, 0.1, 1e200], seeds=4, steps=60)
    np.testing.assert_array_equal(found.train, again.train)
    assert (sweep(small, split, lrs=[0.1], seeds=4, steps=60, seed=1).train != found.train[1]).any()


def test_a_seed_starts_from_the_same_weights_at_every_rate(split):
    found = sweep(small, split, lrs=[0.0, 0.0], seeds=3, steps=1)
    np.testing.assert_array_equal(found.train[0], found.train[1])
    assert len(set(found.train[0])) == 3


def test_the_best_rate_is_chosen_on_the_training_set_then_by_loss():
    train = np.array([[0.5, 0.5], [0.9, 0.9], [0.9, 0.9], [0.2, 0.9]])
    loss = np.array([[1, 1], [0.3, 0.3], [0.2, 0.2], [np.nan, 0]])
    found = ensemble.Sweep(np.array([1.0, 2.0, 3.0, 4.0]), train, 1 - train, loss)
    assert found.best_lr == 3.0
    np.testing.assert_allclose(found.best("test"), 0.1)
    with pytest.raises(ValueError, match="'train' or 'test', got 'loss'"):
        found.best("loss")


@pytest.mark.parametrize("change", [{"lrs": []}, {"lrs": 0.1}, {"seeds": 0}])
def test_sweep_refuses(change, split):
    with pytest.raises(ValueError, match="one or more learning rates and seeds >= 1"):
        sweep(small, split, **{"lrs": [0.1], "seeds": 2, "steps": 1} | change)


# --- progress --------------------------------------------------------------------------------------------


def test_a_bar_is_drawn_on_stderr_and_only_when_asked(split, capsys):
    for asked in (False, True):
        train(small(2, rng()), split.x, split.y, steps=3, lr=0.1, generator=rng(1), progress=asked)
        out, err = capsys.readouterr()
        assert out == "" and (("3/3" in err) == asked) and (err == "" or err.endswith("\n"))
    assert list(progress(iter("ab"), 2, "letters")) == ["a", "b"]
    assert "letters" in capsys.readouterr().err
    assert list(progress([], 0, "nothing")) == []


# --- random deep nets ------------------------------------------------------------------------------------


def test_propagate_is_the_backward_recursion():
    arguments = dict(width=6, depth=3, members=2, batch=4)
    found = propagate("tanh", 1.3, 0.1, **arguments, generator=rng(3))
    # The same draws, by hand: δ_l = φ′(z_l) ∘ (W_{l+1}ᵀ δ_{l+1}).
    g = rng(3)
    net = Ensemble(2, [6, 6, 6, 6, 1], "tanh", 1.3, 0.1, generator=g)
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
    signals = propagate(activation, sigma_w2, sigma_b2, width=200, depth=12, members=10, batch=8, generator=rng())
    slope = -bands.fit_slope(np.log(signals.gradient))
    expected = theory.log_gradient_slope(activation, sigma_w2, sigma_b2, q0=sigma_w2 + sigma_b2, depth=12)
    assert np.median(slope) == pytest.approx(expected, abs=0.06)
    q = theory.q_trajectory(activation, sigma_w2, sigma_b2, sigma_w2 + sigma_b2, 12)
    np.testing.assert_allclose(np.median(signals.q, axis=0), q, rtol=0.1)


@pytest.mark.parametrize("change", [{"depth": 0}, {"batch": 0}, {"members": 0}, {"width": 0}])
def test_propagate_refuses(change):
    with pytest.raises(ValueError, match="expected"):
        propagate("tanh", 1.0, **{"width": 4, "depth": 3, "members": 2, **change}, generator=rng())


@pytest.mark.parametrize("norm", ["batch", "layer", "rms"])
def test_propagate_through_a_norm_is_the_gradient_of_pytorchs(norm):
    found = propagate("tanh", 1.3, 0.1, width=6, depth=3, members=2, batch=4, norm=norm, generator=rng(3))
    g = rng(3)
    net = Ensemble(2, [6, 6, 6, 6, 1], "tanh", 1.3, 0.1, norm=norm, generator=g)
    x = torch.randn(2, 4, 6, generator=g, dtype=torch.float64)
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    factor = torch.randn(2, 4, 1, generator=g, dtype=torch.float64) if norm == "batch" else torch.ones(2, 4, 1)
    for member in range(2):
        a, zs = x[member], []
        for module in single(net, member)[0]:
            if isinstance(module, activations.Elementwise):
                zs.append(a)
                a.retain_grad()
            a = module(a)
        (a * factor[member]).sum().backward()
        for l, z in enumerate(zs):
            assert found.gradient[member, l] == pytest.approx(z.grad.square().sum().item(), rel=1e-10)
            assert found.q[member, l] == pytest.approx(z.square().mean().item(), rel=1e-10)


def test_batch_norm_multiplies_the_squared_gradient_of_relu_nets():
    # By π/(π − 1) per layer towards the input [Yang et al. 2019].
    signals = propagate("relu", 2.0, width=200, depth=16, batch=64, norm="batch", members=6, generator=rng())
    factor = np.exp(-bands.fit_slope(np.log(signals.gradient[:, 2:])))
    assert np.median(factor) == pytest.approx(math.pi / (math.pi - 1), rel=0.05)
