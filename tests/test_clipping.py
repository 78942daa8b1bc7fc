"""Clipping against PyTorch's own, closed forms and autograd."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm as normal

from signalprop import clipping, nets
from signalprop.data import digits
from signalprop.ensemble import Ensemble
from signalprop.ensemble import train as ensemble_train


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def with_gradients(scale=1.0):
    params = [torch.nn.Parameter(randn(3, 4)), torch.nn.Parameter(randn(5, seed=1)), torch.nn.Parameter(randn(2))]
    for i, p in enumerate(params[:2]):  # the third is unused
        p.grad = scale * randn(*p.shape, seed=10 + i)
    return params


# --- one model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 3.0, 1e3])
def test_clip_is_pytorchs(max_norm):
    ours, theirs = with_gradients(), with_gradients()
    before = clipping.clip_(iter(ours), max_norm)
    assert before.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, max_norm).item(), rel=1e-12)
    for a, b, was in zip(ours[:2], theirs[:2], with_gradients()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=0)  # PyTorch adds 1e-6 to the norm
        torch.testing.assert_close(a.detach(), was.detach(), rtol=0, atol=0)


def test_clip_of_a_known_gradient():
    p = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    p.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert clipping.clip_([p], 1.0).item() == 5
    assert p.grad.tolist() == pytest.approx([0.6, 0.8])
    assert clipping.clip_([p], 2.0).item() == pytest.approx(1) and p.grad.tolist() == pytest.approx([0.6, 0.8])


def test_nothing_to_clip():
    p = torch.nn.Parameter(torch.ones(2))
    assert clipping.clip_([p], 1.0).item() == 0 and p.grad is None
    p.grad = torch.zeros(2)
    clipping.clip_([p], 1.0)
    assert p.grad.tolist() == [0, 0]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 100), lam=st.floats(1e-3, 1.0))
def test_agc_is_a_loop_over_rows(seed, lam):
    w, g = randn(4, 6, seed=seed), 0.3 * randn(4, 6, seed=seed + 1)
    w[1], g[2] = 0, 0
    out = clipping.agc(w, g, lam)
    for i in range(4):
        limit = lam * max(math.sqrt((w[i] ** 2).sum()), 1e-3)
        size = math.sqrt((g[i] ** 2).sum())
        expected = g[i] * limit / size if size > limit else g[i]
        torch.testing.assert_close(out[i], expected)
    assert out[1].abs().max() > 0  # a unit that starts at 0 still moves
    torch.testing.assert_close(clipping.agc(torch.stack([w, 2 * w]), torch.stack([g, g]), lam)[1], clipping.agc(2 * w, g, lam))


def test_agc_leaves_small_gradients_and_takes_vectors():
    w = randn(3, 5)
    torch.testing.assert_close(clipping.agc(w, 1e-3 * w), 1e-3 * w, rtol=0, atol=0)
    torch.testing.assert_close(clipping.agc(w[0], w[0]), 0.01 * w[0])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_value_cosine_by_quadrature(share):
    kappa = normal.ppf((1 + share) / 2)
    clip = lambda g: max(-kappa, min(kappa, g))  # noqa: E731
    product, square = (
        quad(lambda g: f(g) * normal.pdf(g), -12, 12, points=[-kappa, kappa])[0]
        for f in (lambda g: g * clip(g), lambda g: clip(g) ** 2)
    )
    assert clipping.value_cosine(share) == pytest.approx(product / math.sqrt(square), rel=1e-8)


def test_value_cosine_of_a_sample_and_its_limit():
    g = randn(200_000)
    limit = g.abs().quantile(0.5)
    assert torch.cosine_similarity(g, g.clamp(-limit, limit), dim=0).item() == pytest.approx(clipping.value_cosine(0.5), abs=2e-3)
    assert clipping.value_cosine(1e-3) == pytest.approx(math.sqrt(2 / math.pi), abs=1e-3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: clipping.clip_([], 0), "max_norm > 0"),
        (lambda: clipping.clip_([], math.nan), "max_norm > 0"),
        (lambda: clipping.agc(torch.ones(2, 3), torch.ones(3, 2)), "same shape"),
        (lambda: clipping.agc(torch.ones(2), torch.ones(2), lam=0), "lam > 0"),
        (lambda: clipping.agc(torch.ones(2), torch.ones(2), eps=0), "eps > 0"),
        (lambda: clipping.value_cosine(1), "between 0 and 1"),
        (lambda: clipping.clipper("length", 1), "out of none, norm"),
        (lambda: clipping.clipper("norm"), "threshold > 0"),
        (lambda: clipping.clipper("none", 1.0), "no threshold"),
        (lambda: clipping.scaled_step([], 0), "scale > 0"),
        (lambda: clipping.scaled_step([], 1, max_norm=0), "max_norm > 0"),
        (lambda: clipping.zero_share([1.0, 0.0]), "positive"),
        (lambda: clipping.cosh_steps(1e3, 0.1), "between -700 and 700"),
    ],
)
def test_bad_input_says_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- many nets -------------------------------------------------------------------------------------------


def stacked():
    """Two members: one whose gradient is large, one whose is small."""
    scale = torch.tensor([10.0, 0.001], dtype=torch.float64)
    return [scale.view(2, 1, 1) * randn(2, 3, 4), scale.view(2, 1, 1) * randn(2, 1, 3, seed=1)]


def clipped(name, threshold=None):
    gradients, parameters = stacked(), [randn(2, 3, 4, seed=2), randn(2, 1, 3, seed=3)]
    clipping.clipper(name, threshold)(gradients, parameters)
    return gradients


def test_each_clipper_on_a_large_and_a_small_gradient():
    before = clipping.norms(stacked())
    assert before.tolist() == pytest.approx([math.sqrt(sum((g[m] ** 2).sum() for g in stacked())) for m in (0, 1)])
    large, small = clipping.norms(clipped("norm", 1.0)).tolist()
    assert large == pytest.approx(1) and small == before[1].item()
    assert clipping.norms(clipped("normalise")).tolist() == pytest.approx([1, 1])
    assert clipping.norms(clipped("none")).tolist() == before.tolist()
    assert [g[0].norm().item() for g in clipped("tensor", 1.0)] == pytest.approx([1, 1])
    assert max(g.abs().max().item() for g in clipped("value", 0.5)) == 0.5
    for g, p, was in zip(clipped("adaptive", 0.1), [randn(2, 3, 4, seed=2), randn(2, 1, 3, seed=3)], stacked()):
        torch.testing.assert_close(g, clipping.agc(p, was, 0.1))


def test_only_value_and_tensor_turn_the_gradient():
    flat = lambda gradients: torch.cat([g[0].flatten() for g in gradients])  # noqa: E731
    cosine = {n: torch.cosine_similarity(flat(stacked()), flat(clipped(n, t)), dim=0).item() for n, t in
              (("norm", 1.0), ("normalise", None), ("value", 0.5), ("tensor", 1.0))}
    assert cosine["norm"] == pytest.approx(1) and cosine["normalise"] == pytest.approx(1)
    assert cosine["value"] < 0.95 and cosine["tensor"] < 0.95


@pytest.mark.parametrize("clip", [None, 0.3])
def test_training_is_that_of_the_ensemble(clip):
    data = digits()
    ours = Ensemble(3, [64, 8, 10], "tanh", 4.0, generator=generator())
    theirs = copy.deepcopy(ours)
    options = dict(steps=5, lr=torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), batch_size=16)
    rule = None if clip is None else clipping.clipper("norm", clip)
    history = clipping.train(ours, data.x, data.y, clip=rule, generator=generator(1), **options)
    ensemble_train(theirs, data.x, data.y, clip=clip, momentum=0.0, generator=generator(1), **options)
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert history.shape == (5, 3) and (history > 0.3).any()


def test_copies_repeat_the_first_block():
    model = clipping.copies(Ensemble(6, [4, 3], "tanh", generator=generator()), 2)
    torch.testing.assert_close(model.weights[0][:3], model.weights[0][3:])
    assert not torch.equal(model.weights[0][0], model.weights[0][1])
    with pytest.raises(ValueError, match="4 divides"):
        clipping.copies(model, 4)


def test_remember_without_a_clipped_step_is_remember():
    options = dict(lr=0.05, lag=5, steps=6, seeds=3)
    plain, high, low = (clipping.remember(0.7, *way, **options) for way in (("none",), ("norm", 1e3), ("norm", 1e-3)))
    for a, b in zip(plain, high):
        assert np.array_equal(a, b)
    assert (plain.norms < 1e3).all() and (low.norms > 1e-3).all() and not np.array_equal(plain.norms, low.norms)
    assert plain.accuracy.shape == (3,) and plain.norms.shape == (6, 3)
    # Steps of length lr · 0.001 hardly move the eigenvalues away from where they started.
    assert low.radius == pytest.approx(0.7, abs=6 * 0.05 * 1e-3)
    assert (np.abs(plain.radius - 0.7) > np.abs(low.radius - 0.7)).all()


def test_remember_counts_a_diverged_net_as_chance():
    run = clipping.remember(0.7, "none", lr=1e308, lag=2, steps=3, seeds=2)
    assert run.accuracy.tolist() == [0.25, 0.25]
    assert run.radius.tolist() == [math.inf] * 2 and run.norms[-1].tolist() == [math.inf] * 2


# --- cliff and step length -------------------------------------------------------------------------------


def test_cliff_by_hand():
    sigmoid = lambda z: 1 / (1 + math.exp(-z))  # noqa: E731
    x = 5.0 * sigmoid(5.0 * sigmoid(0.5) - 2.0) - 2.0
    w, b = torch.tensor([5.0], dtype=torch.float64), torch.tensor([-2.0], dtype=torch.float64)
    assert clipping.cliff(w, b, steps=2).item() == pytest.approx((sigmoid(x) - 0.7) ** 2, rel=1e-12)


def test_slope_and_curvature_by_differences():
    w, b, h = torch.tensor([4.5, 6.0], dtype=torch.float64), torch.tensor([-2.2, -2.9], dtype=torch.float64), 1e-5
    slope, curvature = clipping.slope_and_curvature(w, b)
    f = clipping.cliff
    gw, gb = (f(w + h, b) - f(w - h, b)) / (2 * h), (f(w, b + h) - f(w, b - h)) / (2 * h)
    assert slope.numpy() == pytest.approx(torch.hypot(gw, gb).numpy(), rel=1e-5)
    h = 1e-4
    ww, bb = (f(w + h, b) - 2 * f(w, b) + f(w - h, b)) / h**2, (f(w, b + h) - 2 * f(w, b) + f(w, b - h)) / h**2
    wb = (f(w + h, b + h) - f(w + h, b - h) - f(w - h, b + h) + f(w - h, b - h)) / (4 * h * h)
    for i in (0, 1):
        eigenvalues = np.linalg.eigvalsh([[ww[i], wb[i]], [wb[i], bb[i]]])
        assert curvature[i].item() == pytest.approx(np.abs(eigenvalues).max(), rel=1e-3)


def test_descend_takes_steps_of_the_given_length():
    start = torch.tensor([[6.0, -3.0], [4.5, -2.2]], dtype=torch.float64)
    path = clipping.descend(start, lr=0.5, steps=20, clip=clipping.clipper("normalise"))
    assert path.shape == (21, 2, 2) and torch.equal(path[0], start)
    assert (path[1:] - path[:-1]).norm(dim=-1).numpy() == pytest.approx(0.5)
    slow = clipping.descend(start, lr=0.01, steps=20)
    errors = clipping.cliff(slow[:, 1, 0], slow[:, 1, 1])
    assert (errors[1:] < errors[:-1]).all()


def test_cosh_steps():
    assert clipping.cosh_steps(10, 0.25) == math.inf
    assert clipping.cosh_steps(10, 1e-9, limit=10) == math.inf
    assert clipping.cosh_steps(0, 0.1) == 0
    # Steps of 1 down to x = 1, then the linear rate 1 − 2η of f'' = 2.
    assert clipping.cosh_steps(10, 0.25, 4.0) <= 10 + math.log(1e-3) / math.log(0.5) + 1
    # A small step follows the flow: lr · steps = ½ ln(tanh(x/2)/tanh(end/2)).
    flow = math.log(math.tanh(5) / math.tanh(0.5e-3)) / 2
    assert clipping.cosh_steps(10, 1e-4 / 4) * 1e-4 / 4 == pytest.approx(flow, rel=0.01)


def test_sharpness_of_a_linear_net_is_that_of_its_inputs():
    x, target = randn(30, 4), randn(30, 2, seed=1)
    net = Ensemble(2, [4, 2], "linear", generator=generator())
    lrs = torch.tensor([0.1, 0.2], dtype=torch.float64)
    seen = clipping.sharpness(net, x, target, lrs=lrs, steps=10, every=5, generator=generator(2))
    with_bias = torch.cat([x, torch.ones(30, 1, dtype=x.dtype)], 1)
    top = torch.linalg.eigvalsh(with_bias.T @ with_bias / 30)[-1].item()
    assert seen.shape == (3, 2)
    assert seen[-1] == pytest.approx(top, rel=1e-2)


# --- float16 ---------------------------------------------------------------------------------------------


def test_scaling_rescues_what_underflows():
    g = [torch.tensor([1e-8, 1.0], dtype=torch.float64)]
    assert clipping.scaled_step(g, 1)[0].tolist() == [0, 1]
    rescued = clipping.scaled_step(g, 2.0**12)[0]
    assert rescued.dtype == torch.float64 and rescued.tolist() == pytest.approx([1e-8, 1], rel=1e-2)
    assert clipping.scaled_step(g, 2.0**17) is None
    assert clipping.scaled_step([torch.tensor([math.nan])], 1) is None


def test_clipping_comes_after_unscaling():
    g = [torch.tensor([3.0, 4.0], dtype=torch.float64)]
    assert clipping.scaled_step(g, 1024, max_norm=1.0)[0].tolist() == pytest.approx([0.6, 0.8], rel=1e-3)
    assert clipping.scaled_step(g, 1024, max_norm=6.0)[0].tolist() == [3, 4]


def test_zero_share_of_a_sample():
    std = 2.0**-24
    g = std * randn(200_000)
    for scale in (1, 8):
        assert ((g * scale).half() == 0).double().mean().item() == pytest.approx(clipping.zero_share(std, scale), abs=4e-3)
    assert clipping.zero_share([std, 8 * std]) == pytest.approx((clipping.zero_share(std) + clipping.zero_share(8 * std)) / 2)


def test_spreads_of_a_product():
    row, column = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 0.1])
    assert clipping.spreads(torch.outer(row, column)) == pytest.approx(torch.outer(row, column).numpy())


def test_half_backward_loses_and_overflows():
    data = digits()
    model = nets.mlp([64, *[16] * 5, 10], "sigmoid", 1.0, generator=generator())
    zeros, overflow = clipping.half_backward(model, data.x[:64], data.y[:64], [1.0, 2.0**10, 2.0**24])
    assert zeros[0] > 2 * zeros[1] and overflow.tolist() == [False, False, True]
    assert next(model.parameters()).dtype == torch.float64
