"""Residual nets against single modules, closed forms, brute force over paths, and autograd."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binom
from torch import nn

from signalprop import residual
from signalprop.data import digits
from signalprop.ensemble import train


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


# --- blocks ----------------------------------------------------------------------------------------------


def test_highway_mixes_by_its_gate_and_carries_where_the_bias_is_low():
    x, WT, bT = randn(7, 5), randn(5, 5, seed=1), randn(5, seed=2)
    gate = nn.Linear(5, 5, dtype=torch.float64)
    gate.weight.data, gate.bias.data = WT, bT
    t = torch.sigmoid(gate(x))
    assert torch.allclose(residual.highway(x, torch.tanh, WT, bT), t * torch.tanh(x) + (1 - t) * x, atol=1e-14)
    assert torch.allclose(residual.highway(x, torch.tanh, 0 * WT, bT * 0 - 50), x, atol=1e-14)
    assert torch.allclose(residual.highway(x, torch.tanh, 0 * WT, bT * 0 + 50), torch.tanh(x), atol=1e-14)


def test_rezero_is_the_identity_at_zero_and_a_residual_net_at_one():
    x, branches = randn(3, 4), [torch.tanh, torch.sin]
    assert torch.equal(residual.rezero_forward(x, branches, [0.0, 0.0]), x)
    h = x + torch.tanh(x)
    assert torch.allclose(residual.rezero_forward(x, branches, [1.0, 2.0]), h + 2 * torch.sin(h))


def test_looks_linear_is_linear():
    W, x = randn(4, 6), randn(9, 6, seed=1)
    assert residual.crelu(x).min() >= 0
    assert torch.allclose(residual.crelu(x) @ residual.looks_linear(W).mT, x @ W.mT, atol=1e-14)


# --- the nets --------------------------------------------------------------------------------------------


class Single(nn.Module):
    """Member `e` of a `ResidualNet`, built from PyTorch's own modules."""

    def __init__(self, net, e, norm, scheme, activation_last=False):
        super().__init__()
        self.net, self.scheme, self.last = net, scheme, activation_last
        self.linears = nn.ModuleList()
        for w, b in zip(net.weights, net.biases):
            linear = nn.Linear(w.shape[2], w.shape[1], dtype=torch.float64)
            linear.weight.data, linear.bias.data = w[e].detach().clone(), b[e, 0].detach().clone()
            self.linears.append(linear)
        width = net.weights[0].shape[1]
        made = {
            None: nn.Identity,
            "batch": lambda: nn.BatchNorm1d(width, dtype=torch.float64),
            "layer": lambda: nn.LayerNorm(width, dtype=torch.float64),
        }[norm]
        self.norms = nn.ModuleList(made() for _ in self.linears[1:])
        for layer, gain, shift in zip(self.norms, net.gains, net.shifts):
            layer.weight.data, layer.bias.data = gain[e, 0].detach().clone(), shift[e, 0].detach().clone()
        self.e = e

    def phi(self, u):
        return residual.crelu(u) if self.scheme == "looks linear" else torch.relu(u)

    def forward(self, x):
        net, e = self.net, self.e
        h = self.linears[0](x)
        for block in range(net.blocks):
            u = h
            for j in range(block * net.layers, (block + 1) * net.layers):
                if self.last:
                    u = self.phi(self.norms[j](self.linears[j + 1](u)))
                else:
                    u = self.linears[j + 1](self.phi(self.norms[j](u)))
            if self.scheme in ("plain", "looks linear"):
                h = u
            elif self.scheme == "scaled":
                h = h + u / math.sqrt(net.blocks)
            elif self.scheme == "rezero":
                h = h + net.alphas[block][e] * u
            elif self.scheme == "highway":
                t = torch.sigmoid(F.linear(h, net.gates[block][e], net.gate_biases[block][e, 0]))
                h = t * u + (1 - t) * h
            else:
                h = h + net.scales[block] * u
        return self.linears[-1](self.phi(self.norms[-1](h)))


CASES = [(scheme, None, {}) for scheme in residual.SCHEMES if scheme != "fixup"] + [
    ("fixup", None, {"layers": 2}),
    ("fixup", None, {"layers": 3}),
    ("plain", "batch", {}),
    ("residual", "batch", {"layers": 2}),
    ("residual", "layer", {}),
    ("residual", None, {"scale": [0.5, 0.1, 0.2, 0.3, 0.4, 0.6]}),
    ("residual", "batch", {"activation_last": True}),
]


@pytest.mark.parametrize(("scheme", "norm", "options"), CASES, ids=str)
def test_every_member_is_the_net_that_single_modules_make(scheme, norm, options):
    net = residual.ResidualNet(3, 8, 4, scheme, depth=6, width=5, norm=norm, generator=rng(), **options)
    with torch.no_grad():  # no parameter may hide behind its initial value
        for i, p in enumerate(net.parameters()):
            p += 0.1 * randn(*p.shape, seed=i)
    x = randn(10, 8, seed=1)
    logits = net(x)
    assert logits.shape == (3, 10, 4)
    for e in range(3):
        single = Single(net, e, norm, scheme, options.get("activation_last", False))(x)
        assert torch.allclose(logits[e], single, rtol=1e-9, atol=1e-10)


def test_initial_scales():
    net = residual.ResidualNet(50, 40, 10, "residual", depth=2, width=60, generator=rng())
    for weight, variance in zip(net.weights, (1 / 40, 2 / 60, 2 / 60, 1 / 60)):
        assert weight.var().item() == pytest.approx(variance, rel=0.03)
    fixup = residual.ResidualNet(50, 40, 10, "fixup", depth=12, width=60, layers=3, generator=rng())
    assert fixup.weights[3].abs().max() == 0 == fixup.weights[6].abs().max()
    assert fixup.weights[1].var().item() == pytest.approx(2 / 60 * 4 ** (-2 / 4), rel=0.03)  # L^(−1/(2m−2)), L = 4, m = 3
    linear = residual.ResidualNet(2, 8, 4, "looks linear", depth=3, width=6, generator=rng())
    W = linear.weights[2][0, :, :6]
    assert torch.allclose(W @ W.mT, torch.eye(6, dtype=torch.float64), atol=1e-12)
    assert torch.equal(linear.weights[2][:, :, 6:], -linear.weights[2][:, :, :6])


@pytest.mark.parametrize(("scheme", "layers"), [("rezero", 1), ("fixup", 2)])
def test_branches_that_start_at_zero_pass_no_gradient_to_their_weights(scheme, layers):
    net = residual.ResidualNet(2, 8, 4, scheme, depth=4, layers=layers, generator=rng())
    x, y = randn(6, 8), torch.arange(6) % 4
    h = net.stream(x)
    assert all(torch.equal(v, h[0]) for v in h)
    net.losses(x, y).sum().backward()
    moved = [w.grad.abs().max() > 0 for w in net.weights[1:-1]]
    assert moved == ([False] * 4 if scheme == "rezero" else [False, True] * 2)
    assert all(a.grad.abs().max() > 0 for a in net.alphas)


def test_deleted_blocks_are_passed_by():
    net = residual.ResidualNet(2, 8, 4, "plain", depth=4, generator=rng())
    x = randn(6, 8)
    h = net.stream(x, without=[1, 2])
    assert torch.equal(h[1], h[2]) and torch.equal(h[2], h[3])
    assert torch.equal(h[4], net.block(3, h[1]))
    y = torch.arange(6) % 4
    assert residual.accuracy_without(net, x, y, []).tolist() == net.accuracy(x, y).tolist()
    right = (net(x, without=[0]).argmax(-1) == y).double().mean(1)
    assert residual.accuracy_without(net, x, y, [0]).tolist() == right.tolist()


def test_frozen_statistics_keep_inputs_apart():
    net = residual.ResidualNet(1, 8, 4, "plain", depth=3, norm="batch", generator=rng())
    x = randn(6, 8).requires_grad_()
    for frozen in (True, False):
        h = net.stream(x, frozen=frozen)[-1]
        (g,) = torch.autograd.grad(h[0, 0].sum(), x)
        assert (g[1:].abs().max() == 0) == frozen
    assert torch.allclose(net.stream(x, frozen=True)[-1], net.stream(x)[-1], atol=1e-12)


# --- theory ----------------------------------------------------------------------------------------------


def test_growth_is_a_product():
    assert residual.growth([1.0] * 10)[-1] == 2**10
    assert residual.growth([]).tolist() == [1.0]
    assert residual.growth([0.5, 2.0]) == pytest.approx([1, 1.25, 6.25])
    assert residual.growth([1000**-0.5] * 1000)[-1] == pytest.approx(math.e, rel=1e-3)


def test_share_of_paths_by_counting():
    lengths = [sum(path) for path in itertools.product((0, 1), repeat=10)]
    for low, high in ((0, 10), (3, 5), (7, 7), (-2, 1)):
        assert residual.path_share(10, low, high) == pytest.approx(sum(low <= k <= high for k in lengths) / 1024)


def test_path_lengths():
    assert residual.path_lengths([0.3] * 20) == pytest.approx(binom.pmf(np.arange(21), 20, 0.09 / 1.09))
    a, b = 4 / 5, 1 / 10  # p for η = 2 and 1/3
    assert residual.path_lengths([2, 1 / 3]) == pytest.approx([(1 - a) * (1 - b), a * (1 - b) + b * (1 - a), a * b])
    assert residual.path_lengths([0, 0]).tolist() == [1, 0, 0]


def test_shattering_in_closed_form():
    assert residual.shattering(8, centred=True) == pytest.approx(0.5 ** np.arange(9))
    assert residual.shattering(8, np.ones(8), centred=True) == pytest.approx(0.75 ** np.arange(9))
    c = 1 / math.pi  # κ(0)
    assert residual.shattering(2, centred=False)[2] == pytest.approx(0.5 * (1 - math.acos(c) / math.pi))
    assert residual.shattering(300, [0.0] * 300, centred=False) == pytest.approx(1)


def test_batch_norm_scales_are_the_variance_that_relu_adds():
    a = torch.relu(randn(1_000_000))
    added = 2 * a.var().item()
    assert residual.batch_norm_scales(4) == pytest.approx(1 / np.sqrt(1 + added * np.arange(4)), rel=2e-3)


# --- theory against nets ----------------------------------------------------------------------------------

SCALES = [1.0, 0.3, 0.7, 0.2, 0.5, 1.0, 0.1, 0.4]


@pytest.mark.parametrize(
    ("scheme", "options", "q", "gradient"),
    [
        ("residual", {"scale": SCALES}, residual.growth(SCALES)[-1], residual.growth(SCALES)[-1]),
        ("highway", {"carry_bias": -1.0}, residual.highway_factor(-1) ** 8, residual.highway_factor(-1) ** 8),
        ("residual", {"norm": "batch"}, 9, residual.growth(residual.batch_norm_scales(8))[-1]),
        ("residual", {"scale": SCALES, "activation_last": True}, residual.growth_activation_last(SCALES)[-1], None),
        ("residual", {"activation": "tanh", "sigma_w2": 1.0}, residual.tanh_growth(8)[0][-1], residual.tanh_growth(8)[1][0]),
    ],
    ids=str,
)
def test_streams_follow_theory(scheme, options, q, gradient):
    s = residual.stream_signals(scheme, depth=8, width=100, members=20, batch=64, generator=rng(3), **options)
    # 20 nets of width 100: the mean of a product of 8 factors scatters by a few per cent.
    assert (s.q[:, -1] / s.q[:, 0]).mean() == pytest.approx(q, rel=0.1)
    if gradient is not None:
        assert (s.gradient[:, 0] / s.gradient[:, -1]).mean() == pytest.approx(gradient, rel=0.1)


def test_gradients_shatter_as_in_theory():
    def median(scheme, **options):
        return np.median(residual.gradient_correlation(scheme, depth=4, width=100, batch=64, generator=rng(), **options))

    assert median("plain") == pytest.approx(residual.shattering(4, centred=False)[-1], abs=0.03)
    assert median("plain", norm="batch") == pytest.approx(2**-4, abs=0.015)
    scales = residual.batch_norm_scales(4)
    assert median("residual", norm="batch") == pytest.approx(residual.shattering(4, scales, centred=True)[-1], abs=0.04)
    assert median("looks linear") == pytest.approx(1, abs=1e-12)


# --- paths -----------------------------------------------------------------------------------------------


def test_paths_against_all_of_them():
    matrices = [randn(3, 3, seed=i) for i in range(4)]  # linear branches: their Jacobians are known
    x, cotangent = randn(2, 3, seed=9), randn(2, 3, seed=10)
    expected = torch.zeros(5, 2, 3, dtype=torch.float64)
    for path in itertools.product((0, 1), repeat=4):
        g = cotangent
        for taken, matrix in reversed(list(zip(path, matrices))):
            g = g @ matrix if taken else g
        expected[sum(path)] += g
    paths = residual.path_gradients([lambda h, m=m: h @ m.mT for m in matrices], x, cotangent)
    assert torch.allclose(paths, expected, atol=1e-12)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_paths_add_up_to_the_gradient(norm):
    net = residual.ResidualNet(2, 8, 4, "scaled", depth=7, norm=norm, generator=rng())
    h = net.stream(randn(6, 8))
    cotangent = randn(*h[-1].shape, seed=1)
    paths = residual.path_gradients([lambda u, l=l: net.branch(l, u) for l in range(7)], h[0].detach(), cotangent)
    (gradient,) = torch.autograd.grad(h[-1], h[0], cotangent)
    assert torch.allclose(paths.sum(0), gradient, rtol=1e-9, atol=1e-9)
    assert torch.equal(paths[0], cotangent)
    assert (paths[1:].abs().amax((1, 2, 3)) > 0).all()


def test_the_gradient_follows_the_binomial():
    squares = residual.path_profile("residual", depth=10, width=100, scale=0.5, generator=rng())
    shares = np.median(squares / squares.sum(1, keepdims=True), 0)
    assert shares[:6] == pytest.approx(residual.path_lengths([0.5] * 10)[:6], abs=0.04)


# --- convolutions ----------------------------------------------------------------------------------------


def test_convolutional_gradients_of_one_net_and_of_members():
    x, y = digits().x[:16], digits().y[:16]
    one = residual.conv_gradients(x, y, depth=4, channels=3, members=1, generator=rng())
    generator = rng()

    def convolve(a, channels):
        conv = nn.Conv2d(channels, 3, 3, padding=1, bias=False, dtype=torch.float64)
        conv.weight.data = torch.randn(3, channels, 3, 3, generator=generator, dtype=torch.float64) * math.sqrt(2 / (9 * channels))
        return conv(a)

    z = [convolve(x.view(-1, 1, 8, 8), 1)]
    for _ in range(4):
        z.append(convolve(torch.relu(nn.BatchNorm2d(3, dtype=torch.float64)(z[-1])), 3))
    a = torch.relu(nn.BatchNorm2d(3, dtype=torch.float64)(z[-1])).mean((2, 3))
    read_out = torch.randn(1, 3, 10, generator=generator, dtype=torch.float64)[0] / math.sqrt(3)
    gradients = torch.autograd.grad(F.cross_entropy(a @ read_out, y), z[:4])
    assert one[0] == pytest.approx([g.square().sum().item() for g in gradients], rel=1e-8)
    several = residual.conv_gradients(x, y, depth=4, channels=3, members=5, skip=True, generator=rng())
    assert several.shape == (5, 4) and (several > 0).all()


# --- training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", residual.NETS)
def test_every_net_of_the_study_learns(net):
    model = residual.build(net, 4)(2, rng())
    split = digits()
    before = model.losses(split.x, split.y)
    train(model, split.x, split.y, steps=50, lr=0.02, generator=rng(1))
    assert (model.losses(split.x, split.y) < 0.8 * before).all()


def test_a_fit_is_what_the_sweep_trains():
    sweep = residual.trained("skip, 1/√L", 4, lrs=[0.01], seeds=3, seed=5, steps=10)
    model = residual.fit("skip, 1/√L", 4, lr=0.01, seeds=3, seed=5, steps=10)
    assert sweep.train[0] == pytest.approx(model.accuracy(digits().x, digits().y).numpy())


# --- bad input -------------------------------------------------------------------------------------------


def net(scheme="residual", **options):
    return residual.ResidualNet(2, 8, 4, scheme, **{"depth": 4, "generator": rng()} | options)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: net("resnet"), "a scheme out of plain, .*; got 'resnet'"),
        (lambda: net(norm="group"), "got 'group'"),
        (lambda: net(depth=5, layers=2), "a multiple of layers >= 1, got 5 and 2"),
        (lambda: net("fixup"), "two or more layers per block for fixup, got 1"),
        (lambda: net("scaled", scale=0.5), "only with the scheme 'residual', got 0.5 with 'scaled'"),
        (lambda: net(scale=[1.0, 2.0]), "one for each of 4 blocks, got 2"),
        (lambda: residual.highway(randn(2, 3), lambda x: x[:, :2], randn(3, 3), randn(3)), "keep the shape"),
        (lambda: residual.rezero_forward(randn(2, 3), [torch.tanh], [0, 0]), "got 2 and 1"),
        (lambda: residual.rezero_forward(randn(2, 3), [lambda x: x[:, :2]], [0]), "keep the shape"),
        (lambda: residual.path_share(5, 4, 3), "got n = 5, low = 4, high = 3"),
        (lambda: residual.path_share(0, 0, 0), "expected n >= 1"),
        (lambda: residual.path_gradients([torch.tanh], randn(2, 3), randn(3)), r"a cotangent of shape \(2, 3\), got \(3,\)"),
        (lambda: residual.gradient_correlation("plain", depth=2, width=8, batch=9, generator=rng()), "2 to 8 .*got 9"),
        (lambda: residual.accuracy_without(net(), randn(2, 8), torch.zeros(2), [4]), r"from 0 to 3, got \[4\]"),
        (lambda: residual.build("resnet", 4), "got 'resnet'"),
    ],
)
def test_bad_input_says_what_was_expected(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()
