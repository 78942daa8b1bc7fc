"""Attention and transformers against torch, closed forms and autograd."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from signalprop import attention as a
from signalprop.ensemble import train as train_members


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# --- one attention ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_that_of_torch(causal):
    q, k, v = randn(2, 3, 7, 5), randn(2, 3, 7, 5, seed=1), randn(2, 3, 7, 4, seed=2)
    out, weights = a.attention(q, k, v, causal=causal)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert out.numpy() == pytest.approx(expected.numpy(), abs=1e-12)
    assert weights.sum(-1).numpy() == pytest.approx(np.ones((2, 3, 7)))
    assert (weights @ v).numpy() == pytest.approx(out.numpy(), abs=1e-12)
    assert (weights.triu(1) == 0).all() == causal


def test_attention_scale_and_fewer_queries():
    q, k, v = randn(1, 5), randn(7, 5, seed=1), randn(7, 4, seed=2)
    out, weights = a.attention(q, k, v, causal=False, scale=2.0)
    assert weights[0].numpy() == pytest.approx(torch.softmax(2 * k @ q[0], 0).numpy())
    assert out.shape == (1, 4)


@pytest.mark.parametrize("block, post", [(a.prenorm_block, False), (a.postnorm_block, True)])
def test_blocks_are_those_of_torch(block, post):
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=not post).double()
    with torch.no_grad():
        for i, p in enumerate(layer.parameters()):
            p.add_(0.1 * randn(*p.shape, seed=i))
    x = randn(3, 5, 8)
    ours = block(
        x,
        lambda u: layer.self_attn(u, u, u, need_weights=False)[0],
        lambda u: layer.linear2(torch.relu(layer.linear1(u))),
        layer.norm1,
        layer.norm2,
    )
    assert ours.detach().numpy() == pytest.approx(layer(x).detach().numpy(), abs=1e-10)


def test_softmax_jacobian_is_that_of_autograd():
    scores = a.random_scores(9, keys=6, scaled=True, draws=3, generator=generator())
    g = generator()
    q, k = (torch.randn(3, n, 9, generator=g, dtype=torch.float64) for n in (1, 6))
    s = (q @ k.mT)[:, 0] / 3
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda z: z.softmax(-1), s[i])
        assert scores.jacobian[i] == pytest.approx(jacobian.norm().item())
        assert scores.largest[i] == pytest.approx(s[i].softmax(-1).max().item())
        assert scores.variance[i] == pytest.approx(s[i].var().item())


def test_scores_have_variance_d_or_one():
    for d in (4, 64):
        for scaled, expected in ((False, d), (True, 1)):
            variance = a.random_scores(d, scaled=scaled, draws=4000, generator=generator()).variance
            assert variance.mean() == pytest.approx(expected, rel=5 * math.sqrt(2 / d + 2 / 15) / math.sqrt(4000))


# --- reader ----------------------------------------------------------------------------------------------


def test_reader_is_one_attention_and_members_do_not_interact():
    model = a.Reader(2, 5, 6, 3, generator=generator())
    x = randn(2, 4, 7, 5, seed=1)
    logits = model(x)
    q, k, v = (x[1] @ w[1].mT for w in (model.query, model.key, model.value))
    expected = F.scaled_dot_product_attention(q, k, v)[:, -1] @ model.out_weight[1].mT + model.out_bias[1]
    assert logits[1].detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-12)
    (gradient,) = torch.autograd.grad(logits[1].sum(), model.key)
    assert (gradient[0] == 0).all() and (gradient[1] != 0).any()
    assert model(x[0]).shape == (2, 4, 3)


def test_reach_of_uniform_attention_is_flat():
    model = a.Reader(3, 5, 6, 3, generator=generator())
    with torch.no_grad():
        model.key.zero_()
    # Without keys every position has the weight 1/time, and no path but through its value.
    x = randn(4, 9, 5)
    assert a.reach(model, x, generator=generator()) == pytest.approx(np.ones((3, 8)))


# --- transformers ----------------------------------------------------------------------------------------


def test_marked_task():
    data = a.marked(train=300, test=100, generator=generator())
    assert data.x.shape == (300, 8, 9) and data.x_test.shape == (100, 8, 9)
    assert (data.x[..., :8].sum(-1) == 1).all() and (data.x[..., 8].sum(1) == 1).all()
    position = data.x[..., 8].argmax(1)
    assert (data.x[torch.arange(300), position, :8].argmax(-1) == data.y).all()
    assert set(position.tolist()) == set(range(8))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformer_by_hand(norm):
    model = a.Transformer(2, 9, 6, 4, 2, norm=norm, generator=generator())
    x = randn(3, 8, 9, seed=1)

    def ln(u):
        u = u - u.mean(-1, keepdim=True)
        return u / (u.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    member, u = 1, x @ model.embed[1].T
    for l in range(2):

        def attn(s):
            scores = (s @ model.query[l][member].T) @ (s @ model.key[l][member].T).mT / math.sqrt(6)
            return scores.softmax(-1) @ (s @ model.value[l][member].T)

        def ffn(s):
            return torch.relu(s @ model.up[l][member].T) @ model.down[l][member].T

        u = u + attn(ln(u)) if norm == "pre" else ln(u + attn(u))
        u = u + ffn(ln(u)) if norm == "pre" else ln(u + ffn(u))
    last = ln(u[:, -1]) if norm == "pre" else u[:, -1]
    assert model(x)[1].detach().numpy() == pytest.approx((last @ model.out_weight[1].T).detach().numpy(), abs=1e-12)
    assert len(model.stream(x)) == 3


def test_transformer_starts_at_mean_square_one():
    model = a.Transformer(4, 9, 256, 8, 1, norm="pre", generator=generator())
    x = a.marked(train=16, test=1, generator=generator()).x
    x[..., -1] = 0
    assert model.stream(x)[0].square().mean().item() == pytest.approx(1, rel=0.1)


def test_members_train_as_if_alone():
    data = a.marked(train=64, test=16, generator=generator())
    together = a.Transformer(2, 9, 6, 8, 1, norm="pre", generator=generator())
    alone = a.Transformer(2, 9, 6, 8, 1, norm="pre", generator=generator())
    with torch.no_grad():
        for p in alone.parameters():
            p[1] = 0.0  # another neighbour
    for model in (together, alone):
        a.train(model, data, lr=1e-2, steps=5, batch_size=4, generator=generator(3))
    for p, q in zip(together.parameters(), alone.parameters()):
        assert p[0].detach().numpy() == pytest.approx(q[0].detach().numpy(), abs=1e-12)


def test_training_without_warmup_is_the_shared_trainer():
    data = a.marked(train=64, test=16, generator=generator())
    ours, theirs = (a.Transformer(2, 9, 6, 8, 1, norm="post", generator=generator()) for _ in range(2))
    a.train(ours, data, lr=3e-3, steps=6, batch_size=4, generator=generator(3))
    train_members(theirs, data.x, data.y, lr=3e-3, steps=6, batch_size=4, optimiser="adam", generator=generator(3))
    for p, q in zip(ours.parameters(), theirs.parameters()):
        assert p.detach().numpy() == pytest.approx(q.detach().numpy(), abs=1e-9)


def test_warmup_starts_small():
    data = a.marked(train=64, test=16, generator=generator())
    moved = []
    for warmup in (0, 50):
        model = a.Transformer(1, 9, 6, 8, 1, norm="post", generator=generator())
        before = model.embed.detach().clone()
        a.train(model, data, lr=1e-2, warmup=warmup, steps=1, batch_size=8, generator=generator(3))
        moved.append((model.embed - before).abs().max().item())
    assert moved[0] == pytest.approx(1e-2, rel=1e-3) and moved[1] == pytest.approx(1e-2 / 50, rel=1e-3)


def test_trained_learns_and_is_reproducible():
    accuracy = a.trained("pre", lr=3e-2, warmup=0, depth=1, steps=60, seeds=2)["accuracy"]
    assert accuracy.shape == (2,) and (accuracy > 0.4).all()
    options = dict(lr=1e-2, warmup=2, depth=1, steps=3, seeds=2)
    assert (a.trained("pre", **options)["accuracy"] == a.trained("pre", **options)["accuracy"]).all()


def test_exponent_of_a_power():
    sizes = np.array([2, 4, 8, 32])
    assert a.exponent(np.stack([3 * sizes**-0.5, sizes**2.0]), sizes) == pytest.approx([-0.5, 2])


# --- stream ----------------------------------------------------------------------------------------------


def test_stream_gain_is_the_jacobian():
    s = a.stream(torch.tanh, depth=3, width=4, members=1, generator=generator(7))
    g = generator(7)

    def normal(*shape):
        return torch.randn(1, *shape, generator=g, dtype=torch.float64)

    x = normal(1, 4)
    x = x / x.square().mean().sqrt()
    blocks = []
    for _ in range(3):
        down = normal(4, 4) / 2
        blocks.append((normal(4, 4) / 2, down))
    u = normal(1, 4)[0]

    def through(start, blocks):
        for up, down in blocks:
            start = start + torch.relu(torch.tanh(start) @ up[0]) @ down[0]
        return start

    for l in range(4):
        at = through(x[0], blocks[:l])
        jacobian = torch.autograd.functional.jacobian(lambda v: through(v, blocks[l:])[0], at)[:, 0]
        assert s.gain[0, l] == pytest.approx(((u[0] @ jacobian).square().sum() / u.square().sum()).item())
        assert s.q[0, l] == pytest.approx(at.square().mean().item())
    hidden = torch.relu(torch.tanh(through(x[0], blocks[:2])) @ blocks[2][0][0])
    assert s.weights[0, 2] == pytest.approx((hidden.norm() * u.norm()).item())


def test_stream_meets_theory():
    for f, alpha in ((a.layer_norm, None), (torch.erf, 1.0)):
        s = a.stream(f, depth=8, width=128, members=30, generator=generator())
        q, gain = a.stream_theory(8, alpha)
        assert s.q.mean(0) == pytest.approx(q, rel=0.08)
        assert s.gain.mean(0) == pytest.approx(gain, rel=0.2)


def test_stream_theory_telescopes_with_layer_norm():
    q, gain = a.stream_theory(20)
    assert q == pytest.approx(1 + np.arange(21) / 2) and gain == pytest.approx(q[-1] / q)


def test_stream_theory_of_erf_by_quadrature():
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    q, gain = a.stream_theory(3, alpha=0.7)
    erf = np.vectorize(math.erf)
    for l in range(3):
        z = math.sqrt(q[l]) * nodes
        assert q[l + 1] - q[l] == pytest.approx((weights * erf(0.7 * z) ** 2).sum() / 2, rel=1e-6)
        slope = 2 * 0.7 / math.sqrt(math.pi) * np.exp(-((0.7 * z) ** 2))
        assert gain[l] / gain[l + 1] == pytest.approx(1 + (weights * slope**2).sum() / 2, rel=1e-6)


# --- rank and streams ------------------------------------------------------------------------------------


def test_residual_share():
    tokens = randn(1, 6).expand(5, 6)
    assert a.residual_share(tokens).item() == pytest.approx(0, abs=1e-12)
    centred = randn(3, 5, 6) - randn(3, 5, 6).mean(-2, keepdim=True)
    assert a.residual_share(centred).numpy() == pytest.approx(np.ones(3))
    assert a.residual_share(torch.tensor([[1.0, 3.0], [3.0, 1.0]])).item() == pytest.approx(math.sqrt(4 / 20))


def test_equal_tokens_give_no_gradient_to_queries_and_keys():
    x = randn(1, 6).expand(5, 6)
    q, k, v = (randn(6, 6, seed=i).requires_grad_() for i in range(3))
    out, weights = a.attention(x @ q, x @ k, x @ v, causal=False)
    gradients = torch.autograd.grad((out * randn(5, 6, seed=9)).sum(), (q, k, v))
    assert gradients[0].norm() < 1e-12 and gradients[1].norm() < 1e-12 and gradients[2].norm() > 1


def test_attention_alone_collapses_and_a_skip_prevents_it():
    plain, skip = (a.collapse(skip=skip, d=32, members=5, generator=generator()) for skip in (False, True))
    assert plain.share.shape == (5, 5) and plain.query.shape == plain.value.shape == (5, 4)
    assert (plain.share[:, -1] < 1e-3).all() and (skip.share[:, -1] > 0.4).all()
    assert (plain.query[:, -1] < 1e-2 * plain.query[:, 0]).all() and (skip.query[:, -1] > 0.2 * skip.query[:, 0]).all()


def test_sinkhorn_and_the_gain_of_a_product():
    m = a.sinkhorn(randn(3, 4, 4).exp())
    assert m.sum(-1).numpy() == pytest.approx(np.ones((3, 4)), abs=1e-6)
    assert m.sum(-2).numpy() == pytest.approx(np.ones((3, 4)), abs=1e-6)
    assert a.mixing_gain(doubly_stochastic=True, members=3, generator=generator()) == pytest.approx(np.ones(3), abs=1e-5)
    one = a.mixing_gain(doubly_stochastic=False, factors=1, members=1, generator=generator())[0]
    assert one == pytest.approx((torch.eye(4) + 0.3 * randn(1, 4, 4)[0]).abs().sum(1).max().item())
    free = [np.median(a.mixing_gain(doubly_stochastic=False, factors=f, members=40, generator=generator())) for f in (10, 60)]
    assert free[1] > 10 * free[0] > 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: a.attention(randn(3, 4), randn(3, 5), randn(3, 4)), "equal d"),
        (lambda: a.attention(randn(2, 4), randn(3, 4), randn(3, 4)), "expected q, k"),
        (lambda: a.attention(randn(3, 4), randn(3, 4), randn(2, 4)), "equal length"),
        (lambda: a.random_scores(0, generator=generator()), "d >= 1.*got 0"),
        (lambda: a.Reader(1, 0, 1, 1, generator=generator()), "positive sizes"),
        (lambda: a.Transformer(1, 1, 4, 2, 1, norm="both", generator=generator()), "'pre' or 'post', got 'both'"),
        (lambda: a.Transformer(1, 1, 4, 2, 0, norm="pre", generator=generator()), "positive sizes"),
        (lambda: a.stream(torch.tanh, depth=0, generator=generator()), "depth >= 1.*got 0"),
        (lambda: a.collapse(skip=True, tokens=1, generator=generator()), "tokens >= 2.*1"),
        (lambda: a.sinkhorn(torch.zeros(2, 2)), "positive entries"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
