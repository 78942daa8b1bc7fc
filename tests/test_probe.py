"""The layer report against hand-written formulas, closed forms, autograd's own hooks, and its own promises."""

import copy
import gc
import html.parser
import math
import warnings
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from signalprop import nets
from signalprop.probe import LayerReport, layer_report

NUMBERS = LayerReport.columns[2:]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def labels(n, classes=3, seed=1):
    return torch.randint(0, classes, (n,), generator=generator(seed))


def build(make, seed=0):
    """A float64 model whose default initialisation is drawn from a seed, and no global state changed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return make().double()


def mean_square(output, _=None):
    return (output**2).mean()


def assert_same(a, b, columns=NUMBERS, rtol=0.0):
    assert len(a) == len(b)
    for name in columns:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, err_msg=name)


class Net(nn.Module):
    """Named layers and a forward pass written as a function of the module and x."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


# --- against formulas written by hand -----------------------------------------------------------------


def test_two_layers_by_hand():
    net = nets.mlp([4, 6, 3], "tanh", 9.0, 0.5, generator())
    x, y, lr = draw(10, 4), labels(10), 0.3
    report = layer_report(net, x, y, lr=lr)

    w1, b1, w2, b2 = (p.detach().numpy() for p in net.parameters())
    z1 = x.numpy() @ w1.T + b1
    a1 = np.tanh(z1)
    z2 = a1 @ w2.T + b2
    p = np.exp(z2) / np.exp(z2).sum(axis=1, keepdims=True)
    d2 = (p - np.eye(3)[y.numpy()]) / 10
    d1 = (d2 @ w2) * (1 - a1**2)
    g1, g2 = d1.T @ x.numpy(), d2.T @ a1
    norm = np.linalg.norm
    cosines = [
        [z[i] @ z[j] / norm(z[i]) / norm(z[j]) for i in range(10) for j in range(10) if i != j] for z in (z1, z2)
    ]
    expected = {
        "units": [6, 3],
        "q": [np.mean(z1**2), np.mean(z2**2)],
        "preact_var": [z1.var(axis=0).mean(), z2.var(axis=0).mean()],
        "correlation": [np.mean(c) for c in cosines],
        "saturation": [np.mean(np.abs(a1) >= 0.95), math.nan],
        "dead": [math.nan, math.nan],
        "grad_preact": [norm(d1), norm(d2)],
        "grad_ratio": [norm(d1) / norm(d2), 1.0],
        "grad_weight": [norm(g1), norm(g2)],
        "update_ratio": [lr * norm(g1) / norm(w1), lr * norm(g2) / norm(w2)],
    }
    assert 0 < expected["saturation"][0] < 1
    assert report["name"] == ["fc1", "fc2"] and report["kind"] == ["Linear", "Linear"]
    assert set(expected) == set(NUMBERS)
    for name, values in expected.items():
        np.testing.assert_allclose(report[name], values, rtol=1e-10, err_msg=name)
    assert report.loss == pytest.approx(-np.log(p[range(10), y.numpy()]).mean(), rel=1e-12)


def scaled_identities(c, depth, width=5):
    net = nn.Sequential(*(nn.Linear(width, width, bias=False, dtype=torch.float64) for _ in range(depth)))
    for layer in net:
        layer.weight.data = c * torch.eye(width, dtype=torch.float64)
    return net


@pytest.mark.parametrize("c", [1.0, 0.5, 2.0])
def test_a_chain_of_scaled_identities_is_exact(c):
    depth, x = 7, draw(3, 5)
    report = layer_report(scaled_identities(c, depth), x, None, lambda out, _: out.sum())
    to_the_end = np.arange(depth - 1, -1, -1.0)
    np.testing.assert_allclose(report["grad_ratio"], c**to_the_end, rtol=1e-15)
    np.testing.assert_allclose(report["q"], (x**2).mean().item() * c ** (2 * np.arange(1, depth + 1)), rtol=1e-14)


def test_norms_whose_squares_would_underflow():
    report = layer_report(scaled_identities(1e-50, 6), draw(3, 5), None, lambda out, _: out.sum())
    np.testing.assert_allclose(report["grad_ratio"], 1e-50 ** np.arange(5, -1, -1.0), rtol=1e-12)
    np.testing.assert_allclose(report["correlation"], report["correlation"][0], rtol=1e-9)
    assert np.isfinite(report["update_ratio"]).all()


def test_variance_and_correlation_of_equal_samples():
    x = draw(1, 4).expand(6, 4)
    report = layer_report(nets.mlp([4, 5, 3], "tanh", generator=generator()), x, labels(6))
    assert (report["q"] > 0.01).all()
    np.testing.assert_allclose(report["preact_var"], 0, atol=1e-30)
    np.testing.assert_allclose(report["correlation"], 1, rtol=1e-12)


def test_correlation_of_orthogonal_and_of_zero_samples():
    identity = scaled_identities(1.0, 1, 4)
    x = torch.diag(torch.tensor([1.0, 1e-3, 20.0, 0.0], dtype=torch.float64))
    assert abs(layer_report(identity, x, None, mean_square)["correlation"][0]) < 1e-15
    x[3, :2] = torch.tensor([1.0, 0.0])  # cosine 1 with one of three others: 1 of 6 pairs
    assert layer_report(identity, x, None, mean_square)["correlation"][0] == pytest.approx(1 / 6, rel=1e-12)


def test_correlation_uses_the_first_256_samples():
    net, x = nets.mlp([4, 5], "tanh", generator=generator()), draw(300, 4)
    changed = x.clone()
    changed[256:] = 1.0
    first, other, cut = (layer_report(net, v, None, mean_square) for v in (x, changed, x[:256]))
    assert first["correlation"] == other["correlation"] == cut["correlation"]
    assert first["q"] != other["q"]


def test_saturation_counts_outputs_near_a_bound():
    logit = lambda p: math.log(p / (1 - p))  # noqa: E731
    identity = scaled_identities(1.0, 1, 8)[0]
    x = torch.tensor([[logit(p) for p in (0.049, 0.051, 0.949, 0.951, 0.5, 1e-9, 0.9999, 0.3)]], dtype=torch.float64)
    for phi, share in [("sigmoid", 4 / 8), ("tanh", np.mean(np.abs(np.tanh(x.numpy())) >= 0.95))]:
        report = layer_report(nn.Sequential(identity, getattr(nn, phi.title())()), x, None, mean_square)
        assert report["saturation"][0] == share
        assert 0 < share < 1


def test_dead_units_and_dead_channels():
    net = nets.mlp([4, 10, 3], "relu", generator=generator())
    net.fc1.bias.data[:4] = -1000
    net.fc1.bias.data[4:] = 1000
    assert layer_report(net, draw(8, 4), labels(8))["dead"][0] == 0.4
    net.fc1.bias.data[4] = 0  # silent for some samples only
    silent = (net.fc1(draw(8, 4))[:, 4] <= 0).double().mean().item()
    assert 0 < silent < 1
    assert layer_report(net, draw(8, 4), labels(8))["dead"][0] == 0.4

    conv = build(lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)))
    conv[0].bias.data[:] = 1000
    conv[0].bias.data[:2] = -1000
    report = layer_report(conv, draw(2, 1, 5, 5), labels(2))
    assert report["dead"][0] == 0.25
    assert list(report["units"]) == [8, 3]


# --- which activation follows which layer -------------------------------------------------------------

BOUNDED = [
    *(nn.Sigmoid(), nn.Tanh(), torch.sigmoid, torch.tanh, F.sigmoid, F.tanh),
    *(torch.Tensor.sigmoid, torch.Tensor.tanh, torch.sigmoid_, torch.Tensor.tanh_),
]
RECTIFIERS = [
    *(nn.ReLU(), nn.ReLU(inplace=True), F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu),
    *(torch.Tensor.relu_, nn.LeakyReLU(), nn.LeakyReLU(inplace=True), F.leaky_relu),
    *(nn.RReLU(), nn.PReLU(dtype=torch.float64), nn.ELU(), F.elu, nn.SELU(), nn.CELU(), nn.GELU(), F.gelu),
    *(nn.SiLU(), F.silu, nn.Mish(), nn.Hardswish(), nn.Softplus(), F.softplus),
]


def label(phi):
    return str(phi) if isinstance(phi, nn.Module) else phi.__name__


@pytest.mark.parametrize("phi", BOUNDED, ids=label)
def test_bounded_activations_are_seen(phi):
    net = build(lambda: Net(lambda m, x: m.out(phi(m.fc(x))), fc=nn.Linear(4, 5), out=nn.Linear(5, 3)))
    report = layer_report(net, 10 * draw(8, 4), labels(8))
    assert 0 < report["saturation"][0] < 1
    assert np.isnan(report["saturation"][1]) and np.isnan(report["dead"]).all()


@pytest.mark.parametrize("phi", RECTIFIERS, ids=label)
def test_rectifiers_are_seen(phi):
    net = build(lambda: Net(lambda m, x: m.out(phi(m.fc(x))), fc=nn.Linear(4, 5), out=nn.Linear(5, 3)))
    report = layer_report(net, draw(8, 4), labels(8))
    assert 0 <= report["dead"][0] <= 1
    assert np.isnan(report["dead"][1:]).all() and np.isnan(report["saturation"]).all()


@pytest.mark.parametrize(
    "one, other",
    [
        (nn.ReLU(), nn.ReLU(inplace=True)),
        (nn.ReLU(), torch.relu_),
        (nn.Tanh(), torch.tanh),
        (nn.Sigmoid(), lambda z: torch.sigmoid(input=z)),
        (nn.LeakyReLU(0.2), lambda z: F.leaky_relu(z, 0.2, inplace=True)),
    ],
)
def test_module_function_and_in_place_give_the_same_report(one, other):
    def net(phi):
        run = lambda m, x: m.c(phi(m.norm(phi(m.b(phi(m.a(x)))))))  # noqa: E731
        return build(lambda: Net(run, a=nn.Linear(4, 6), b=nn.Linear(6, 6), norm=nn.LayerNorm(6), c=nn.Linear(6, 3)))

    x, y = 3 * draw(8, 4), labels(8)
    reports = layer_report(net(one), x, y), layer_report(net(other), x, y)
    assert_same(*reports)
    assert np.isfinite(reports[0]["q"]).all()


def test_prelu_is_a_layer_and_the_activation_of_the_layer_before():
    report = layer_report(build(lambda: nn.Sequential(nn.Linear(4, 5), nn.PReLU(5, 0.0))), draw(8, 4), None, mean_square)
    assert report["kind"] == ["Linear", "PReLU"]
    assert report["dead"][0] >= 0 and np.isnan(report["dead"][1])


def test_an_activation_counts_for_the_layer_that_feeds_it():
    def gated(m, x):
        gate, candidate = m.gate(x), m.candidate(x)
        return torch.sigmoid(gate) * torch.relu(candidate)

    net = build(lambda: Net(gated, gate=nn.Linear(4, 5), candidate=nn.Linear(4, 5)))
    net.gate.bias.data[:] = 100
    report = layer_report(net, draw(8, 4), None, mean_square)
    assert report["saturation"][0] == 1 and np.isnan(report["saturation"][1])
    assert np.isnan(report["dead"][0]) and report["dead"][1] >= 0


def test_an_activation_after_a_sum_counts_for_the_last_layer():
    net = build(lambda: Net(lambda m, x: torch.tanh(m.a(x) + m.b(x)), a=nn.Linear(4, 5), b=nn.Linear(4, 5)))
    report = layer_report(net, draw(8, 4), None, mean_square)
    assert np.isnan(report["saturation"][0]) and report["saturation"][1] >= 0


def test_only_the_first_activation_counts_and_none_of_the_loss():
    net = build(lambda: Net(lambda m, x: m.b(torch.tanh(torch.relu(m.a(x)))), a=nn.Linear(4, 5), b=nn.Linear(5, 3)))
    report = layer_report(net, draw(8, 4), None, lambda out, _: torch.sigmoid(out).sum())
    assert report["dead"][0] >= 0
    assert np.isnan(report["saturation"]).all()


def test_several_activations_of_one_layer_are_pooled():
    def gates(m, x):
        a, b = m.fc(x).chunk(2, dim=1)
        return torch.sigmoid(a) * torch.tanh(b)

    net = build(lambda: Net(gates, fc=nn.Linear(4, 8)))
    net.fc.bias.data[:4] = 100
    net.fc.bias.data[4:] = 0
    net.fc.weight.data *= 0.1
    assert layer_report(net, draw(8, 4), None, mean_square)["saturation"][0] == 0.5


class HandWritten(nn.Module):
    """A layer of one's own, activation included; its bias is called b."""

    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.W = nn.Parameter(draw(fan_out, fan_in))
        self.b = nn.Parameter(draw(fan_out))

    def forward(self, x):
        return torch.tanh(x @ self.W.T + self.b)


def test_activations_inside_a_layer_of_ones_own():
    net = nn.Sequential(HandWritten(4, 5), HandWritten(5, 3))
    net[0].b.data[:] = 100
    net[1].W.data[:] = 0
    net[1].b.data[:] = 0
    report = layer_report(net, draw(8, 4), labels(8))
    assert list(report["saturation"]) == [1, 0]
    assert report["kind"] == ["HandWritten", "HandWritten"]
    assert report["update_ratio"][1] == math.inf  # W = 0 with a gradient
    (gradient,) = torch.autograd.grad(F.cross_entropy(net(draw(8, 4)), labels(8)), [net[1].W])
    assert report["grad_weight"][1] == pytest.approx(gradient.norm().item(), rel=1e-12)  # without b


# --- against autograd's own hooks ---------------------------------------------------------------------


def oracle(model, x, y, loss):
    """δ of each module by full backward hooks, weight gradients by backward(); on a copy."""
    model = copy.deepcopy(model)
    deltas = {}
    for name, module in model.named_modules():
        keep = lambda _, __, gradients, name=name: deltas.update({name: gradients[0].norm().item()})  # noqa: E731
        module.register_full_backward_hook(keep)
    with torch.random.fork_rng([]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # x requires no gradient
        loss(model(x), y).backward()
    weights = {
        name: math.sqrt(sum((p.grad**2).sum().item() for n, p in module.named_parameters() if "bias" not in n))
        for name, module in model.named_modules()
        if name in deltas
    }
    return deltas, weights


def assert_agrees_with_autograd(model, x, y=None, loss=mean_square):
    report = layer_report(model, x, y, loss)
    deltas, weights = oracle(model, x, y, loss)
    assert len(report) > 0
    for i, name in enumerate(report["name"]):
        assert report["grad_preact"][i] == pytest.approx(deltas[name], rel=1e-9), name
        assert report["grad_weight"][i] == pytest.approx(weights[name], rel=1e-9), name
    # Where they are NaN (one sample), these comparisons are False, too.
    assert not (report["preact_var"] > report["q"] * (1 + 1e-12)).any()
    assert not (np.abs(report["correlation"]) > 1 + 1e-9).any()
    return report


sizes = st.integers(1, 6)
settings.register_profile("probe", deadline=None, max_examples=30, derandomize=True, database=None)
quick = settings.get_profile("probe")
PHI = st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.LeakyReLU, nn.PReLU])
NORM = st.sampled_from([None, nn.BatchNorm1d, nn.LayerNorm])


@quick
@given(st.lists(sizes, min_size=2, max_size=8), st.integers(1, 9), PHI, NORM, st.booleans(), st.booleans())
def test_any_mlp(widths, batch, phi, norm, dropout, training):
    def make():
        layers = []
        for fan_in, fan_out in zip(widths[:-1], widths[1:]):
            layers.append(nn.Linear(fan_in, fan_out))
            layers += [norm(fan_out)] if norm else []
            layers.append(phi())
            layers += [nn.Dropout(0.3)] if dropout else []
        return nn.Sequential(*layers).train(training and batch > 1)

    report = assert_agrees_with_autograd(build(make), draw(batch, widths[0]))
    assert report["kind"].count("Linear") == len(widths) - 1
    linear = [i for i, kind in enumerate(report["kind"]) if kind == "Linear"]
    assert list(report["units"][linear]) == widths[1:]
    assert np.isnan(report["correlation"]).all() or batch > 1


@quick
@given(st.sampled_from([1, 2, 3]), st.lists(sizes, min_size=2, max_size=4), st.integers(1, 3), PHI, st.booleans())
def test_any_convolutional_net(dims, channels, batch, phi, norm):
    conv = getattr(nn, f"Conv{dims}d")
    batch_norm = getattr(nn, f"BatchNorm{dims}d")

    def make():
        layers = []
        for fan_in, fan_out in zip(channels[:-1], channels[1:]):
            layers += [conv(fan_in, fan_out, 3, padding=1), *([batch_norm(fan_out)] if norm else []), phi()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * 3**dims, 3))

    x = draw(batch, channels[0], *[3] * dims)
    report = assert_agrees_with_autograd(build(make), x, labels(batch), F.cross_entropy)
    assert list(report["units"][:-1]) == [c for c in channels[1:] for _ in range(1 + norm + (phi is nn.PReLU))]


@quick
@given(st.sampled_from([nn.RNN, nn.LSTM, nn.GRU]), sizes, sizes, sizes, st.integers(1, 2), st.booleans())
def test_any_recurrent_net(kind, batch, steps, hidden, layers, both_ways):
    def run(m, x):
        return m.out(m.rnn(x)[0][:, -1])

    def make():
        rnn = kind(3, hidden, layers, batch_first=True, bidirectional=both_ways)
        return Net(run, rnn=rnn, out=nn.Linear(hidden * (1 + both_ways), 3))

    report = assert_agrees_with_autograd(build(make), draw(batch, steps, 3), labels(batch), F.cross_entropy)
    assert list(report["units"]) == [hidden * (1 + both_ways), 3]
    for name in ("q", "preact_var", "correlation"):
        assert np.isnan(report[name][0])
    assert report["q"][1] > 0


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.BatchNorm2d(4), nn.LayerNorm(5), nn.RMSNorm(5)]
)
def test_norm_layers(norm):
    net = build(lambda: nn.Sequential(nn.Conv2d(2, 4, 1), norm, nn.ReLU(), nn.Flatten(), nn.Linear(100, 3)))
    report = assert_agrees_with_autograd(net, draw(3, 2, 5, 5), labels(3), F.cross_entropy)
    assert report["units"][1] == (5 if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)) else 4)
    assert report["q"][1] == pytest.approx(1, abs=0.02)


def test_transformer_block_in_eval_mode():
    # Without hooks PyTorch would take a fused path that no layer report could look into.
    net = build(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    report = layer_report(net, draw(3, 7, 8), None, lambda out, _: (out**3).mean())
    assert report["name"] == ["self_attn", "norm1", "linear1", "linear2", "norm2"]
    assert report["dead"][2] >= 0
    deltas, weights = oracle(net, draw(3, 7, 8), None, lambda out, _: (out**3).mean())
    # The output projection belongs to the attention layer, which never calls it as a module.
    np.testing.assert_allclose(report["grad_weight"], [weights[n] for n in report["name"]], rtol=1e-9)
    np.testing.assert_allclose(report["grad_preact"], [deltas[n] for n in report["name"]], rtol=1e-9)


# --- kinds of modules that need care ------------------------------------------------------------------


def test_the_state_of_an_lstm_counts_as_output():
    def last_state(m, x):
        _, (h, _) = m.rnn(x)
        return m.out(h[-1])

    def last_output(m, x):
        return m.out(m.rnn(x)[0][:, -1])

    def net(run):
        return build(lambda: Net(run, rnn=nn.LSTM(3, 4, batch_first=True), out=nn.Linear(4, 2)))

    x, y = draw(5, 6, 3), labels(5, 2)
    report = layer_report(net(last_state), x, y)
    assert report["grad_preact"][0] > 0
    assert_same(report, layer_report(net(last_output), x, y), rtol=1e-12)


def test_packed_sequences():
    def run(m, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 4, 1]), batch_first=True)
        output, _ = nn.utils.rnn.pad_packed_sequence(m.rnn(packed)[0], batch_first=True)
        return m.out(output.sum(dim=1))

    net = build(lambda: Net(run, rnn=nn.GRU(3, 4, batch_first=True), out=nn.Linear(4, 2)))
    report = layer_report(net, draw(3, 6, 3), labels(3, 2))
    assert report["name"] == ["rnn", "out"] and (report["grad_preact"] > 0).all()


def test_a_cell_has_one_row_for_each_time_step():
    def run(m, x):
        h = x.new_zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            h = m.cell(x[:, t], h)
        return h

    net = build(lambda: Net(run, cell=nn.RNNCell(3, 4)))
    x = draw(5, 3, 3)
    report = layer_report(net, x, None, lambda h, _: h.sum())
    assert report["name"] == ["cell", "cell#2", "cell#3"]
    # ∂ℒ/∂h_t = diag(1 − h_{t+1}²) applied to ∂ℒ/∂h_{t+1}, then W_hh, by hand.
    with torch.no_grad():
        states = [torch.zeros(5, 4, dtype=torch.float64)]
        for t in range(3):
            states.append(net.cell(x[:, t], states[-1]))
        delta, norms = torch.ones(5, 4, dtype=torch.float64), []
        for h in reversed(states[1:]):
            norms.insert(0, delta.norm().item())
            delta = (delta * (1 - h**2)) @ net.cell.weight_hh
    np.testing.assert_allclose(report["grad_preact"], norms, rtol=1e-12)
    assert len(set(report["grad_weight"])) == 1


def test_a_shared_layer_has_a_row_for_each_call_and_one_gradient():
    net = build(lambda: Net(lambda m, x: m.fc(torch.tanh(m.fc(x))), fc=nn.Linear(4, 4, bias=False)))
    x = draw(6, 4)
    report = layer_report(net, x, None, lambda out, _: out.sum())
    w = net.fc.weight.detach()
    a = torch.tanh(x @ w.T)
    d2 = torch.ones(6, 4, dtype=torch.float64)
    d1 = (d2 @ w) * (1 - a**2)
    total = (d1.T @ x + d2.T @ a).norm().item()
    assert report["name"] == ["fc", "fc#2"]
    np.testing.assert_allclose(report["grad_preact"], [d1.norm(), d2.norm()], rtol=1e-12)
    np.testing.assert_allclose(report["grad_weight"], [total, total], rtol=1e-12)
    np.testing.assert_allclose(report["saturation"][0], (a.abs() >= 0.95).double().mean())


def test_integer_input_and_an_embedding():
    def make():
        return Net(
            lambda m, x: m.out(torch.tanh(m.fc(m.embed(x)).mean(dim=1))),
            embed=nn.Embedding(9, 4, sparse=True),
            fc=nn.Linear(4, 5),
            out=nn.Linear(5, 3),
        )

    net, tokens = build(make), torch.randint(0, 3, (6, 7), generator=generator())  # each token many times
    report = layer_report(net, tokens, labels(6))
    net.embed.sparse = False
    dense = assert_agrees_with_autograd(net, tokens, labels(6), F.cross_entropy)
    assert_same(report, dense, rtol=1e-12)
    assert report["name"] == ["embed", "fc", "out"]


def test_frozen_layers_still_show_the_gradient_of_the_signal():
    x, y = draw(8, 4), labels(8)
    net = nets.mlp([4, 6, 6, 3], "tanh", generator=generator())
    free = layer_report(net, x, y)
    net.fc1.requires_grad_(False)
    net.fc2.weight.requires_grad_(False)
    part = layer_report(net, x, y)
    net.requires_grad_(False)
    frozen = layer_report(net, x, y)
    still = [name for name in NUMBERS if name not in ("grad_weight", "update_ratio")]
    assert_same(free, part, still)
    assert_same(free, frozen, still)
    assert list(np.isnan(part["grad_weight"])) == [True, True, False]
    assert np.isnan(frozen["grad_weight"]).all() and np.isnan(frozen["update_ratio"]).all()
    assert np.isfinite(free["grad_weight"]).all()


def test_a_layer_that_is_partly_frozen():
    net = build(lambda: Net(lambda m, x: m.cell(x, torch.tanh(x)), cell=nn.RNNCell(4, 4)))
    net.cell.weight_ih.requires_grad_(False)
    report = layer_report(net, draw(8, 4), None, mean_square)
    (gradient,) = torch.autograd.grad(mean_square(net(draw(8, 4))), [net.cell.weight_hh])
    assert report["grad_weight"][0] == pytest.approx(gradient.norm().item(), rel=1e-12)
    ratio = (gradient.norm() / net.cell.weight_hh.norm()).item()
    assert report["update_ratio"][0] == pytest.approx(ratio, rel=1e-12)


def test_a_layer_that_does_not_reach_the_loss():
    def run(m, x):
        m.aside(x)
        return m.out(x)

    net = build(lambda: Net(run, aside=nn.Linear(4, 5), never=nn.Linear(4, 5), out=nn.Linear(4, 3)))
    report = layer_report(net, draw(8, 4), labels(8))
    assert report["name"] == ["aside", "out"]
    for name in ("grad_preact", "grad_ratio", "grad_weight", "update_ratio"):
        assert np.isnan(report[name][0]) and report[name][1] > 0
    assert report["q"][0] > 0


def test_a_part_that_runs_under_no_grad():
    def run(m, x):
        with torch.no_grad():
            h = m.backbone(x)
        return m.head(h)

    report = layer_report(build(lambda: Net(run, backbone=nn.Linear(4, 5), head=nn.Linear(5, 3))), draw(8, 4), labels(8))
    assert np.isnan(report["grad_preact"][0]) and report["grad_preact"][1] > 0


def test_parametrised_weights():
    net = build(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    plain = layer_report(net, draw(8, 4), labels(8))
    nn.utils.parametrizations.weight_norm(net[0])
    report = layer_report(net, draw(8, 4), labels(8))
    assert report["name"] == plain["name"] and report["kind"] == plain["kind"]
    np.testing.assert_allclose(report["grad_preact"], plain["grad_preact"], rtol=1e-12)
    own = [net[0].parametrizations.weight.original0, net[0].parametrizations.weight.original1]
    gradients = torch.autograd.grad(F.cross_entropy(net(draw(8, 4)), labels(8)), own)
    expected = math.hypot(*(g.norm().item() for g in gradients))
    assert report["grad_weight"][0] == pytest.approx(expected, rel=1e-12)


def test_parameters_of_the_model_itself():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterList([draw(5, 4), draw(3, 5)])

        def forward(self, x):
            for w in self.weights:
                x = torch.tanh(x @ w.T)
            return x

    report = layer_report(Bare(), draw(8, 4), labels(8))
    assert 0 < report["saturation"][0] < 1
    assert report["name"] == ["(model)"] and report["kind"] == ["Bare"] and list(report["units"]) == [3]
    assert report["grad_weight"][0] > 0
    assert layer_report(nn.Linear(4, 3), torch.ones(2, 4), labels(2))["name"] == ["(model)"]


def test_a_single_sample_has_no_pairs():
    report = layer_report(nets.mlp([4, 5, 3], "tanh", generator=generator()), draw(1, 4), labels(1))
    assert np.isnan(report["correlation"]).all() and np.isnan(report["preact_var"]).all()
    assert (report["q"] > 0).all() and (report["grad_preact"] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions(dtype):
    net = nets.mlp([4, 6, 3], "tanh", generator=generator())
    exact = layer_report(net, draw(8, 4), labels(8))
    rounded = layer_report(net.to(dtype), draw(8, 4).to(dtype), labels(8))
    for name in ("q", "grad_preact", "grad_weight"):
        np.testing.assert_allclose(rounded[name], exact[name], rtol=10 * torch.finfo(dtype).eps)


# --- it leaves nothing behind -------------------------------------------------------------------------


def everything(model, x):
    """All that a call must not change, as comparable plain data; tensors by identity and by bits."""

    def tensor(t):
        return None if t is None else (id(t), t._version, t.dtype, t.detach().numpy().tobytes())

    return {
        "state": {k: tensor(v) for k, v in model.state_dict(keep_vars=True).items()},
        "buffers": {k: tensor(b) for k, b in model.named_buffers()},
        "grad": {k: tensor(p.grad) for k, p in model.named_parameters()},
        "requires_grad": {k: p.requires_grad for k, p in model.named_parameters()},
        "training": {k: m.training for k, m in model.named_modules()},
        "hooks": {k: (list(m._forward_hooks), list(m._forward_pre_hooks)) for k, m in model.named_modules()},
        "more hooks": {k: (len(m._backward_hooks), len(m._backward_pre_hooks)) for k, m in model.named_modules()},
        "attributes": {k: sorted(vars(m)) for k, m in model.named_modules()},
        "x": (x._version, x.requires_grad, x.grad, x.detach().numpy().tobytes()),
        "random": torch.get_rng_state().numpy().tobytes(),
        "grad mode": torch.is_grad_enabled(),
        "modes": torch._C._len_torch_function_stack(),
    }


def awkward_model():
    """Everything that changes by itself in a forward pass: running statistics, masks, power iteration."""
    head = nn.Sequential(nn.Dropout(0.5), nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3)))
    net = build(
        lambda: nn.Sequential(
            nn.ReLU(inplace=True), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.RReLU(), head
        )
    )
    net[2].eps_seen = 0
    net.register_buffer("spare", torch.tensor([math.nan]))
    net[2].eval()
    net[2].register_buffer("unsaved", torch.ones(2), persistent=False)
    norm = nn.BatchNorm1d(3, dtype=torch.float64)
    net.append(norm)  # in training mode
    F.cross_entropy(copy.deepcopy(net)(draw(8, 4)), labels(8))
    for p in list(net.parameters())[:3]:
        p.grad = torch.full_like(p, 0.1)
    net[1].bias.requires_grad_(False)
    return net


def broken(out, _):
    raise RuntimeError("no loss today")


@pytest.mark.parametrize("loss", [F.cross_entropy, broken])
def test_nothing_is_left_behind(loss):
    net, x, y = awkward_model(), draw(8, 4), labels(8)
    before = everything(net, x)
    if loss is broken:
        with pytest.raises(ValueError, match="no loss today"):
            layer_report(net, x, y, loss)
    else:
        layer_report(net, x, y, loss)
    after = everything(net, x)
    for what in before:
        assert before[what] == after[what], what


def test_nothing_is_left_behind_by_a_forward_pass_that_raises():
    net, x = awkward_model(), draw(8, 4)
    net.append(nn.Linear(7, 2, dtype=torch.float64))  # does not fit
    before = everything(net, x)
    with pytest.raises(ValueError, match=r"expected an x that the model can process, got shape \(8, 4\)") as caught:
        layer_report(net, x, labels(8))
    assert isinstance(caught.value.__cause__, RuntimeError)
    after = everything(net, x)
    for what in before:
        assert before[what] == after[what], what


def test_weights_that_the_forward_pass_rescales_are_put_back():
    net = build(lambda: nn.Sequential(nn.Embedding(5, 4, max_norm=0.1), nn.Flatten(), nn.Linear(8, 3)))
    before = net[0].weight.detach().clone()
    report = layer_report(net, torch.tensor([[0, 1], [2, 3]]), labels(2))
    assert torch.equal(net[0].weight, before)
    assert report["q"][0] == pytest.approx(0.1**2 / 4, rel=1e-3)  # the rescaled rows are what was seen


def test_a_graph_that_was_built_before_still_works():
    net, x = awkward_model(), draw(8, 4)
    value = F.cross_entropy(net(x.clone()), labels(8))
    layer_report(net, x, labels(8))
    value.backward()


def test_x_and_its_graph_are_left_alone():
    x = draw(8, 4).requires_grad_()
    inside = (x * 2).exp()
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3, dtype=torch.float64))
    values = inside.detach().clone()
    layer_report(net, inside, labels(8))
    assert x.grad is None and torch.equal(inside, values)
    inside.sum().backward()


def test_hooks_of_the_user_run_and_stay():
    net, calls = nets.mlp([4, 6, 3], "tanh", generator=generator()), []
    net.fc2.register_forward_hook(lambda m, a, z: calls.append("forward") or 2 * z)
    net.fc2.register_forward_pre_hook(lambda m, a: calls.append("pre"))
    net.fc2.register_full_backward_hook(lambda m, i, o: calls.append("backward"))
    doubled = layer_report(net, draw(8, 4), labels(8))
    assert calls == ["pre", "forward", "backward"]
    with torch.no_grad():
        z = net(draw(8, 4))
    assert doubled["q"][1] == pytest.approx((z**2).mean().item(), rel=1e-12)
    assert calls[3:] == ["pre", "forward"]


def test_no_reference_is_kept():
    net, x = nets.mlp([4, 6, 3], "relu", generator=generator()), draw(8, 4)
    alive = [weakref.ref(net), weakref.ref(net.fc1.weight), weakref.ref(x)]
    gc.disable()  # no reference cycle may keep the model alive until the next collection either
    try:
        report = layer_report(net, x, labels(8))
        del net, x
        assert [r() for r in alive] == [None] * 3
    finally:
        gc.enable()
    assert len(report) == 2


def test_random_masks_are_those_of_the_current_state():
    net, x, y = awkward_model(), draw(8, 4), labels(8)
    first, second = layer_report(net, x, y), layer_report(net, x, y)
    assert_same(first, second)
    with torch.random.fork_rng([]):
        value = F.cross_entropy(copy.deepcopy(net)(x.clone()), y).item()
        assert first.loss == value
        torch.rand(1)
        assert layer_report(net, x, y).loss != value


def test_batch_norm_uses_the_statistics_of_its_mode():
    net, x = build(lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))), draw(8, 4)
    net[0].bias.data += 5
    training = layer_report(net, x, None, mean_square)
    evaluating = layer_report(net.eval(), x, None, mean_square)
    assert training["q"][1] == pytest.approx(1, abs=0.01)
    assert evaluating["q"][1] == pytest.approx(evaluating["q"][0], rel=1e-4)  # fresh running statistics: 0 and 1
    assert evaluating["q"][1] > 10


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_may_be_off_around_the_call(off):
    net, x, y = nets.mlp([4, 6, 3], "tanh", generator=generator()), draw(8, 4), labels(8)
    expected = layer_report(net, x, y)
    with off():
        assert_same(layer_report(net, x, y), expected)
        assert_same(layer_report(net, x.clone(), y), expected)
        assert not torch.is_grad_enabled()


# --- errors -------------------------------------------------------------------------------------------

LINEAR = nn.Linear(4, 3)
X, Y = torch.ones(2, 4), torch.tensor([0, 1])


class CallsNoLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return x @ self.fc.weight.T


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((lambda x: x, X, Y), "expected an nn.Module, got function"),
        ((nn.ReLU(), X, Y), "expected a model with parameters, got one that has none"),
        ((nn.LazyLinear(3), X, Y), "expected initialised parameters, got a lazy module"),
        ((CallsNoLayer(), X, Y), "calls a module with parameters; its forward pass called none"),
        ((LINEAR, [[1.0]], Y), "expected x as a tensor, got list"),
        ((LINEAR, torch.tensor(1.0), Y), r"expected x of shape \(batch, …\) .* got shape \(\)"),
        ((LINEAR, torch.ones(0, 4), Y), r"at least one sample, got shape \(0, 4\)"),
        ((LINEAR, torch.tensor([[1.0, math.nan, math.inf, 0.0]]), Y), "finite x, got 2 entries of 4"),
        ((LINEAR, torch.ones(2, 5), Y), r"x that the model can process, got shape \(2, 5\) and torch.float32: mat1"),
        ((LINEAR, X.double(), Y), r"got shape \(2, 4\) and torch.float64"),
        ((LINEAR, X, torch.tensor([0, 1, 2])), r"output of shape \(2, 3\) and torch.float32, got of shape \(3,\)"),
        ((LINEAR, X, torch.tensor([0, 3])), r"expected a y that the loss can compare"),
        ((LINEAR, X, None), "expected a y that the loss can compare .* got NoneType"),
        ((LINEAR, X, Y, lambda out, y: out), r"tensor with one element, got of shape \(2, 3\)"),
        ((LINEAR, X, Y, lambda out, y: 1.0), "tensor with one element, got float"),
        ((LINEAR, X, Y, lambda out, y: out.argmax().double()), "expected a loss that can be differentiated"),
        ((LINEAR, X, Y, F.cross_entropy, 0.0), "learning rate lr > 0, got 0.0"),
        ((LINEAR, X, Y, F.cross_entropy, math.nan), "learning rate lr > 0, got nan"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(arguments, message):
    with pytest.raises(ValueError, match=message):
        layer_report(*arguments)
    assert not LINEAR._forward_hooks


def test_a_loss_that_is_not_finite_is_reported():
    report = layer_report(scaled_identities(1e100, 4, 1), draw(3, 1), None, lambda out, _: (out**2).sum())
    assert report.loss == math.inf
    assert np.isfinite(report["q"][0]) and np.isinf(report["q"][1])
    assert "loss = inf: not finite" in repr(report) and "loss = inf: not finite" in report._repr_html_()


# --- how it reads -------------------------------------------------------------------------------------


@pytest.fixture
def report():
    columns = {name: [0.5, math.nan] for name in LayerReport.columns}
    columns |= {"name": ["a<b>", "out"], "kind": ["Linear", "Mine"], "units": [12, 3]}
    columns |= {"correlation": [-1e-17, -0.25], "grad_preact": [1.23456e-9, 0.0], "grad_ratio": [math.inf, 1.0]}
    return LayerReport(columns, 2.3026)


def test_text(report):
    assert repr(report) == (
        "name  kind    units      q  preact_var  correlation  saturation   dead"
        "  grad_preact  grad_ratio  grad_weight  update_ratio\n"
        "a<b>  Linear     12  0.500       0.500        0.000       0.500  0.500"
        "    1.23·10⁻⁹         inf        0.500         0.500\n"
        "out   Mine        3      –           –       −0.250           –      –"
        "            0        1.00            –             –\n"
        "loss = 2.30"
    )


def test_rounding_noise_prints_as_zero():
    x = draw(1, 16).expand(6, 16) * (1 + 1e-15 * draw(6, 1))
    report = layer_report(nets.mlp([16, 5], "tanh", generator=generator()), x, labels(6))
    assert 0 < report["preact_var"][0] < 1e-25
    assert repr(report).splitlines()[1].split()[4] == "0"


def test_html_is_a_table_with_headers_and_escaped_names(report):
    text = report._repr_html_()
    tags, cells = [], []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes)))

        def handle_data(self, data):
            cells.append(data)

    Parser().feed(text)
    assert tags[0] == ("table", {"class": "dataframe"})
    assert tags.count(("th", {"scope": "col"})) == 12 and tags.count(("th", {"scope": "row"})) == 2
    assert sum(tag == "td" for tag, _ in tags) == 22
    assert not any(tag == "b" for tag, _ in tags)
    assert "a<b>" in cells and "1.23·10⁻⁹" in cells and "loss = 2.30" in cells


def test_columns(report):
    assert len(report) == 2
    assert report["name"] == ["a<b>", "out"]
    assert isinstance(report["q"], np.ndarray) and report["q"].shape == (2,)
    assert list(report.to_dict()) == list(LayerReport.columns)
    assert report.to_dict()["units"].dtype.kind == "i"
    with pytest.raises(ValueError, match="expected one of name, kind, .* got 'gradient'"):
        report["gradient"]
