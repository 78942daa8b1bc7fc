"""Normalisation against torch, autograd, closed forms and finite differences of its own claims."""

import math

import numpy as np
import pytest
import torch

from signalprop import normalization as N
from signalprop import theory
from signalprop.activations import ACTIVATIONS
from signalprop.data import digits
from signalprop.ensemble import Ensemble, propagate, train


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# --- forward and backward --------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [2, 3, 50])
@pytest.mark.parametrize("momentum", [0.1, 1.0])
def test_forward_is_that_of_torch(m, momentum):
    layer = torch.nn.BatchNorm1d(7, eps=1e-3, momentum=momentum, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(normal(7, seed=1))
        layer.bias.copy_(normal(7, seed=2))
        layer.running_mean.copy_(normal(7, seed=3))
        layer.running_var.copy_(normal(7, seed=4).square())
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    for step in range(3):
        x = 3 * normal(m, 7, seed=10 + step) + 1
        y, mean, var = N.bn_forward(x, layer.weight, layer.bias, mean, var, True, momentum, 1e-3)
        torch.testing.assert_close(y, layer(x), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(mean, layer.running_mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(var, layer.running_var, rtol=1e-12, atol=1e-12)
    layer.eval()
    x = normal(m, 7, seed=20)
    y, same_mean, same_var = N.bn_forward(x, layer.weight, layer.bias, mean, var, False, momentum, 1e-3)
    torch.testing.assert_close(y, layer(x), rtol=1e-10, atol=1e-10)
    assert torch.equal(same_mean, mean) and torch.equal(same_var, var)


def test_forward_leaves_its_arguments_alone():
    arguments = [normal(8, 3), torch.ones(3).double(), torch.zeros(3).double(), torch.zeros(3).double(), torch.ones(3).double()]
    copies = [a.clone() for a in arguments]
    N.bn_forward(*arguments)
    assert all(torch.equal(a, b) for a, b in zip(arguments, copies))


@pytest.mark.parametrize("m", [2, 3, 20])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.5])
def test_backward_is_that_of_autograd(m, eps):
    x, dy = normal(m, 5, seed=1).requires_grad_(), normal(m, 5, seed=2)
    gamma, beta = normal(5, seed=3).requires_grad_(), normal(5, seed=4).requires_grad_()
    zeros = torch.zeros(5, dtype=torch.float64)
    y = N.bn_forward(x, gamma, beta, zeros, zeros, eps=eps)[0]
    expected = torch.autograd.grad(y, (x, gamma, beta), dy)
    found = N.bn_backward(dy, x.detach(), gamma.detach(), eps)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_backward_is_a_projection_and_a_pair_passes_nothing():
    x, dy, one = normal(9, 4), normal(9, 4, seed=1), torch.ones(4, dtype=torch.float64)
    dx = N.bn_backward(dy, x, one, 0.0)[0]
    assert dx.sum(0).abs().max() < 1e-12
    assert (dx * x).sum(0).abs().max() < 1e-12
    assert N.bn_backward(dy[:2], x[:2], one, 0.0)[0].abs().max() < 1e-12
    # Twice the projection, with the scale taken out, is the projection.
    scale = x.std(0, correction=0)
    torch.testing.assert_close(N.bn_backward(dx, x, one, 0.0)[0] * scale, dx, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
def test_layer_norm_and_rms_norm_are_those_of_torch(eps):
    x = 2 * normal(4, 6, 11) + 1
    torch.testing.assert_close(N.layer_norm(x, eps), torch.nn.functional.layer_norm(x, (11,), eps=eps))
    torch.testing.assert_close(N.rms_norm(x, eps), torch.nn.functional.rms_norm(x, (11,), eps=eps))
    torch.testing.assert_close(N.rms_norm(x - x.mean(-1, keepdim=True), eps), N.layer_norm(x, eps))


# --- the gradient factors --------------------------------------------------------------------------------


def test_chi_in_closed_form():
    assert N.chi_bn("relu") == pytest.approx(math.pi / (math.pi - 1), rel=1e-10)
    assert N.chi_ln("relu") == pytest.approx(1, rel=1e-10)
    assert N.chi_bn("linear") == pytest.approx(1, rel=1e-10) and N.chi_ln("linear") == pytest.approx(1, rel=1e-10)
    # A cubic, by the moments of the Gaussian: E[(1 + 3z²)²] = 1 + 6 + 27, Var[1 + z + z³] = 1 + 6 + 15.
    assert N.chi_bn(lambda z: 1 + z + z**3) == pytest.approx(34 / 22, rel=1e-10)
    assert N.chi_ln(lambda z: 1 + z + z**3) == pytest.approx(34 / 23, rel=1e-10)


def test_an_affine_change_of_the_activation():
    for name in ("sigmoid", "gelu"):
        phi = ACTIVATIONS[name].phi
        assert N.chi_bn(lambda z, phi=phi: 5 * phi(z) - 2) == pytest.approx(N.chi_bn(name), rel=1e-9)
    assert N.chi_bn("tanh") == pytest.approx(N.chi_ln("tanh"), rel=1e-12)  # odd: no constant part
    assert N.chi_ln("sigmoid") < 0.2 < 1 < N.chi_bn("sigmoid")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_batch_norm_never_shrinks(name):
    assert N.chi_bn(name) >= 1 - 1e-10
    assert N.chi_bn(name) >= N.chi_ln(name) - 1e-10


def test_degree_shares():
    shares = N.degree_shares("relu", 5)
    assert shares == pytest.approx([1 / math.pi, 1 / 2, 1 / (2 * math.pi), 0, 1 / (24 * math.pi)], abs=1e-12)
    assert N.degree_shares("linear", 3) == pytest.approx([0, 1, 0], abs=1e-12)
    shares, degree = N.degree_shares("sigmoid", 30), np.arange(30)
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    assert (degree * shares).sum() == pytest.approx(N.chi_ln("sigmoid"), rel=1e-3)
    assert (degree * shares).sum() / shares[1:].sum() == pytest.approx(N.chi_bn("sigmoid"), rel=1e-3)


def test_the_factor_in_random_nets():
    def factor(norm, name, batch, width=128):
        s = propagate(name, 1.0, width=width, depth=12, members=6, batch=batch, norm=norm, generator=generator())
        return (s.gradient[:, 3] / s.gradient[:, -1]) ** (1 / 8)

    for norm, name, chi in (("batch", "relu", N.chi_bn("relu")), ("layer", "sigmoid", N.chi_ln("sigmoid"))):
        values = factor(norm, name, 64 if norm == "batch" else 8)
        assert np.median(values) == pytest.approx(chi, rel=0.08)
    assert np.median(factor("batch", "linear", 8)) == pytest.approx(6 / 5, rel=0.08)


# --- instruments -----------------------------------------------------------------------------------------


def test_kurtosis():
    assert N.kurtosis(normal(2, 400, 200)) == pytest.approx([3, 3], rel=0.05)
    z = torch.zeros(1, 16, 3, dtype=torch.float64)
    z[0, 0] = 1.0  # one input carries everything
    assert N.kurtosis(z) == pytest.approx([16])


def test_effective_rank():
    one = normal(1, 9, 1) @ normal(1, 1, 5, seed=1)
    assert N.effective_rank(one) == pytest.approx([1])
    orthonormal = torch.linalg.qr(normal(8, 4)).Q[None]
    assert N.effective_rank(orthonormal) == pytest.approx([4])
    z = normal(3, 6, 10, seed=2)
    values = torch.linalg.svdvals(z).square()
    assert N.effective_rank(z) == pytest.approx((values.sum(1) ** 2 / values.square().sum(1)).numpy())


def test_jacobian_values():
    values = N.jacobian_values("tanh", width=6, batch=5, members=3, generator=generator())
    assert values.shape == (3, 30) and (np.diff(values) <= 1e-12).all()
    # Each of the 6 units loses the 2 directions that its batch norm takes away (all but ε of the second).
    assert (values[:, -12:] < 1e-3).all() and (values[:, -13] > 1e-3).all()


def test_gradient_norms_are_those_of_autograd():
    x, y = digits()[:2]
    x, y = x[:20], y[:20]
    net = Ensemble(3, [64, 8, 7, 10], "relu", 2.0, norm="batch", generator=generator())
    result = N.gradient_norms(net, x, y)
    assert result.preactivations.shape == result.weights.shape == (3, 2)
    net.losses(x, y).sum().backward()
    for l in range(2):
        assert result.weights[:, l] == pytest.approx(net.weights[l].grad.square().sum((1, 2)).sqrt().numpy())
        # ‖δ‖ of the layer's bias is the norm of the sum of δ over the batch.
        assert (result.preactivations[:, l] * math.sqrt(20) >= net.biases[l].grad.norm(dim=(1, 2)).numpy() - 1e-12).all()
    g = 1e-6
    with torch.no_grad():
        before = net.losses(x, y)
        net.weights[1][0] += g * net.weights[1].grad[0]
    rise = (net.losses(x, y) - before)[0].item() / g
    assert rise == pytest.approx(result.weights[0, 1] ** 2, rel=1e-3)


def test_steps_to():
    losses = torch.tensor([[1.0, 1.0, math.nan]] * 3 + [[0.0, 1.0, math.nan]] * 5, dtype=torch.float64)
    assert N.steps_to(losses, threshold=0.5, window=2).tolist() == [5, 9, 9]
    assert N.steps_to(losses, threshold=2.0, window=2).tolist() == [2, 2, 9]


# --- noise and training ----------------------------------------------------------------------------------


def test_noise_is_in_the_training_alone():
    x, y = digits()[:2]
    options = dict(depth=3, width=16, members=4)
    noisy = N.build("noisy", "relu", noise=0.5, generator=generator(), **options)
    clean = N.build("batch", "relu", generator=generator(), **options)
    assert (noisy(x) - noisy(x)).abs().max() > 0.1
    assert noisy.accuracy(x, y).tolist() == clean.accuracy(x, y).tolist()
    assert noisy.training
    noisy.eval()
    torch.testing.assert_close(noisy(x), clean(x))


def test_noise_has_the_size_it_says():
    noisy = N.build("noisy", "sigmoid", depth=1, width=2000, members=2, noise=0.5, generator=generator())
    z = noisy.preactivations(digits().x[:50])[0]
    mean, scale = z.mean(1).flatten(), z.std(1, correction=0).flatten()
    assert mean.std().item() == pytest.approx(0.5, rel=0.05)
    assert scale.log().std().item() == pytest.approx(0.5, rel=0.05)


def test_race_and_drift():
    split = digits()
    options = dict(depth=2, width=16, seeds=3)
    accuracy, steps = N.race("batch", "sigmoid", 1.0, split, steps=120, **options)
    assert accuracy.min() > 0.8 and steps.max() <= 120
    again = N.race("batch", "sigmoid", 1.0, split, steps=120, **options)
    assert (again[0] == accuracy).all() and (again[1] == steps).all()
    accuracy, steps = N.race("plain", "relu", 1e5, split, steps=30, **options)
    assert accuracy.max() < 0.2 and (steps == 31).all()
    jumps = {kind: N.drift(kind, "sigmoid", 0.1, split, after=5, layer=2, noise=0.3, **options) for kind in N.KINDS}
    # Two draws of N(0, 0.3²) differ by 0.3 √2.
    assert jumps["noisy"] == pytest.approx([0.3 * math.sqrt(2)] * 3, rel=0.5)
    assert jumps["batch"].max() < 0.05 and 0 < jumps["plain"].min()


def test_trained_sweeps():
    result = N.trained("relu", "layer", 2, digits(), lrs=[0.0, 0.05], steps=60, seeds=2)
    assert result.train.shape == (2, 2) and result.best_lr == 0.05 and result.best().min() > 0.6


def test_a_norm_makes_the_scale_of_the_weights_irrelevant():
    x, y = digits()[:2]
    net = Ensemble(2, [64, 12, 12, 10], "relu", 2.0, norm="batch", generator=generator())
    logits, before = net(x).detach(), N.gradient_norms(net, x, y).weights
    with torch.no_grad():
        for weight in list(net.weights)[:-1]:
            weight.mul_(3)
    torch.testing.assert_close(net(x).detach(), logits, rtol=1e-3, atol=1e-3)
    assert N.gradient_norms(net, x, y).weights == pytest.approx(before / 3, rel=1e-3)


# --- errors ----------------------------------------------------------------------------------------------

X, V = normal(4, 3), torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: N.bn_forward(X[0], V, V, V, V), r"\(batch, features\), got \(3,\)"),
        (lambda: N.bn_forward(X, V[:2], V, V, V), r"gamma of shape \(3,\), got \(2,\)"),
        (lambda: N.bn_forward(X, V, V, V, V[:1]), r"running_var of shape \(3,\), got \(1,\)"),
        (lambda: N.bn_forward(X[:1], V, V, V, V), "two or more inputs.*got 1"),
        (lambda: N.bn_backward(X[:2], X, V), r"shape of x, \(4, 3\); got \(2, 3\)"),
        (lambda: N.bn_backward(X[:1], X[:1], V), "two or more inputs.*got 1"),
        (lambda: N.layer_norm(X[:, :1]), r"two or more features, got \(4, 1\)"),
        (lambda: N.rms_norm(torch.tensor(1.0)), r"two or more features, got \(\)"),
        (lambda: N.chi_bn(lambda z: z * 0 + 2), "not constant"),
        (lambda: N.chi_ln(lambda z: z * 0), "not 0 everywhere"),
        (lambda: N.degree_shares("relu", 0), "degrees >= 1, got 0"),
        (lambda: N.steps_to(torch.zeros(5, 2)), "10 or more steps.*got 5"),
        (lambda: N.build("none", "relu", members=1, generator=generator()), "kind out of plain.*'none'"),
        (lambda: N.build("plain", "tanh", members=1, generator=generator()), "sigmoid, relu; got 'tanh'"),
        (lambda: N.trained("tanh", None, 1, digits(), lrs=[0.1], steps=1), "sigmoid, relu; got 'tanh'"),
        (lambda: N.NoisyEnsemble(1, [2, 2, 2], "relu", noise=-1.0, generator=generator()), "noise >= 0, got -1.0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bn_eval_takes_a_single_input():
    y = N.bn_forward(X[:1], V, 0 * V, 0 * V, V, training=False)[0]
    torch.testing.assert_close(y, X[:1] / math.sqrt(1 + 1e-5))


def test_theory_and_chi_ln_agree():
    # With layer norm q is 1 and the weights' scale is 1/E[φ²]: the same number from mean-field theory.
    for name in ("relu", "sigmoid", "tanh"):
        scale = 1 / theory.q_map(name, 1.0, 1.0)
        assert N.chi_ln(name) == pytest.approx(theory.chi1(name, scale, 1.0), rel=1e-12)


def test_training_quietens_the_gradient():
    x, y = digits()[:2]
    net = Ensemble(4, [64, *[24] * 20, 10], "relu", 2.0, norm="batch", generator=generator())
    before = N.gradient_norms(net, x[:200], y[:200]).weights
    train(net, x, y, steps=1, lr=0.3, momentum=0.0, generator=generator(1))
    after = N.gradient_norms(net, x[:200], y[:200]).weights
    assert np.median(after[:, 0] / before[:, 0]) < 0.5
    assert np.median(after[:, -1] / before[:, -1]) == pytest.approx(1, abs=0.3)
