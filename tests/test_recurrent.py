"""Recurrent nets against torch.nn, closed forms and autograd."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from signalprop import recurrent as r
from signalprop.ensemble import train


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# --- tasks -----------------------------------------------------------------------------------------------


def test_recall_wants_the_first_symbol_and_distractors_are_other_symbols():
    data = r.recall(7, train=60, test=40, generator=generator())
    assert data.x.shape == (60, 8, 8) and data.x_test.shape == (40, 8, 8) and data.x.dtype == torch.float64
    symbols = data.x.argmax(-1)
    assert (data.x.sum(-1) == 1).all()
    assert (symbols[:, 0] == data.y).all() and (symbols[:, 1:] >= 4).all()
    assert set(data.y.tolist()) == {0, 1, 2, 3} and set(symbols[:, 1:].flatten().tolist()) == {4, 5, 6, 7}


def test_copy_repeats_the_symbols_at_the_end():
    x, y = r.copy(30, 50, generator=generator())
    assert x.shape == y.shape == (50, 50)
    assert (y[:, -10:] == x[:, :10]).all() and (y[:, :-10] == 0).all()
    assert ((x[:, :10] >= 1) & (x[:, :10] <= 8)).all()
    assert (x[:, 39] == 9).all() and (x == 9).sum() == 50 and (x[:, 10:] % 9 == 0).all()


def test_adding_marks_one_number_in_each_half():
    x, y = r.adding(11, 4000, generator=generator())
    marks = x[..., 1]
    assert (marks[:, :5].sum(1) == 1).all() and (marks[:, 5:].sum(1) == 1).all()
    assert y == pytest.approx((x[..., 0] * marks).sum(1))
    assert y.var().item() == pytest.approx(1 / 6, abs=0.02)


@pytest.mark.parametrize("lag", [1, 100, 300])
def test_baselines_are_what_a_memoryless_guess_costs(lag):
    _, y = r.copy(lag, 3, generator=generator())
    # Certain of the blanks; among the last ten, one of the eight symbols at random.
    logits = torch.full((*y.shape, 9), -1e9, dtype=torch.float64)
    logits[:, :-10, 0] = 0
    logits[:, -10:, 1:] = 0
    assert F.cross_entropy(logits.flatten(0, 1), y.flatten()).item() == pytest.approx(r.baselines(lag).copy)
    assert r.baselines(lag).adding == pytest.approx(2 * (1 / 3 - 1 / 4))


# --- cells against torch.nn ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tanh", "relu", "lstm", "gru"])
def test_cells_and_their_gradients_are_those_of_torch(name):
    shape = dict(members=2, inputs=3, units=5, classes=4, generator=generator())
    model = {
        "tanh": lambda: r.Rnn(**shape),
        "relu": lambda: r.Rnn(**shape, init="identity"),
        "lstm": lambda: r.Lstm(**shape, forget=1.5, input=-0.5),
        "gru": lambda: r.Gru(**shape, update=0.7),
    }[name]()
    theirs = {
        "tanh": lambda: torch.nn.RNN(3, 5, batch_first=True),
        "relu": lambda: torch.nn.RNN(3, 5, nonlinearity="relu", batch_first=True),
        "lstm": lambda: torch.nn.LSTM(3, 5, batch_first=True),
        "gru": lambda: torch.nn.GRU(3, 5, batch_first=True),
    }[name]().double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(0.1 * randn(*p.shape, seed=i))  # so that no bias is left at 0
    x = randn(2, 6, 7, 3, seed=1)
    logits = model(x)
    (ours,) = torch.autograd.grad(logits[1].sum(), model.weight_h)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(model.weight_x[1])
        theirs.weight_hh_l0.copy_(model.weight_h[1])
        theirs.bias_ih_l0.copy_(model.bias[1, :, 0])
        theirs.bias_hh_l0.zero_()
        if name == "gru":
            theirs.bias_hh_l0[10:] = model.bias_n[1, :, 0]
    expected = theirs(x[1])[0][:, -1] @ model.out_weight[1].detach().T + model.out_bias[1].detach()
    assert logits[1].detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-12)
    expected.sum().backward()
    assert ours[1].numpy() == pytest.approx(theirs.weight_hh_l0.grad.numpy(), abs=1e-12)
    assert (ours[0] == 0).all()  # members never interact


def test_initial_weights():
    w = r.Rnn(30, 8, 32, 4, sigma_w2=2.0, generator=generator()).weight_h
    assert w.var().item() * 32 == pytest.approx(2, rel=0.03)
    w = r.Rnn(3, 8, 16, 4, init="orthogonal", sigma_w2=4.0, generator=generator()).weight_h.detach()
    assert (w @ w.mT).numpy() == pytest.approx(np.broadcast_to(4 * np.eye(16), (3, 16, 16)), abs=1e-12)
    model = r.Lstm(30, 8, 32, 4, forget=2.0, input=torch.linspace(-1, 1, 32), generator=generator())
    assert model.weight_h.var().item() == pytest.approx(1 / (3 * 32), rel=0.03)
    i, f, g, o = model.bias[:, :, 0].detach().chunk(4, -1)
    assert (f == 2).all() and (g == 0).all() and (o == 0).all() and i[5].numpy() == pytest.approx(np.linspace(-1, 1, 32))


# --- biases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}, {"proj_size": 2}])
def test_set_forget_bias_sets_the_sum_and_nothing_else(options):
    lstm = torch.nn.LSTM(3, 5, **options)
    before = {name: p.detach().clone() for name, p in lstm.named_parameters()}
    r.set_forget_bias(lstm, 3.0)
    for name, p in lstm.named_parameters():
        changed = p.detach() != before[name]
        if name.startswith("bias"):
            assert not changed[:5].any() and not changed[10:].any()
        else:
            assert not changed.any()
        if name.startswith("bias_ih"):
            assert (p + dict(lstm.named_parameters())[name.replace("_ih", "_hh")])[5:10].tolist() == [3.0] * 5


def test_set_forget_bias_takes_one_value_for_each_unit():
    lstm = torch.nn.LSTM(3, 4)
    r.set_forget_bias(lstm, torch.arange(4.0))
    assert (lstm.bias_ih_l0 + lstm.bias_hh_l0)[4:8].tolist() == [0, 1, 2, 3]


def test_a_forget_bias_of_twenty_keeps_the_cell():
    lstm = torch.nn.LSTM(2, 3).double()
    r.set_forget_bias(lstm, 20.0)
    with torch.no_grad():
        for name, p in lstm.named_parameters():
            if name.startswith("weight"):
                p.zero_()
    c0 = torch.full((1, 1, 3), 0.5, dtype=torch.float64, requires_grad=True)
    _, (_, c) = lstm(torch.zeros(100, 1, 2, dtype=torch.float64), (torch.zeros_like(c0), c0))
    (kept,) = torch.autograd.grad(c.sum(), c0)
    assert kept.flatten().tolist() == pytest.approx([1 / (1 + math.exp(-20))] * 3 * 1, abs=1e-6)


def test_half_life():
    for b in (-1.0, 0.0, 1.0, 5.0):
        assert (1 / (1 + math.exp(-b))) ** r.half_life(b) == pytest.approx(0.5)
    assert r.half_life(0.0) == pytest.approx(1)


def test_chrono_biases_are_logs_of_uniform_lags():
    lags = r.chrono_bias(101, 200, 50, generator=generator()).exp()
    assert lags.shape == (200, 50) and 1 <= lags.min() < 1.1 and 99.9 < lags.max() <= 100
    assert lags.mean().item() == pytest.approx(50.5, rel=0.02)


# --- reach -----------------------------------------------------------------------------------------------


def test_reach_of_an_rnn_is_the_product_of_jacobians():
    model = r.Rnn(2, 3, 4, 2, sigma_w2=1.5, generator=generator())
    x = randn(1, 6, 3, seed=1)
    measured = r.reach(model, x, generator=generator(5))
    for member in range(2):
        w, h, jacobians = model.weight_h[member].detach(), torch.zeros(4, dtype=torch.float64), []
        for t in range(6):
            h = torch.tanh(model.weight_x[member].detach() @ x[0, t] + w @ h)
            jacobians.append((1 - h**2)[:, None] * w)
        delta = torch.randn(2, 1, 4, generator=generator(5), dtype=torch.float64)[member, 0]
        norms = [delta.norm()]
        for jacobian in reversed(jacobians[1:]):
            delta = jacobian.T @ delta
            norms.append(delta.norm())
        assert measured[member] == pytest.approx((torch.stack(norms) / norms[0]).numpy(), rel=1e-10)


def test_a_linear_orthogonal_net_reaches_everywhere():
    model = r.Rnn(3, 4, 8, 2, init="orthogonal", generator=generator())
    model.activation = lambda z: z
    assert r.reach(model, randn(2, 50, 4), generator=generator()) == pytest.approx(np.ones((3, 50)))


def test_leak_is_the_product_of_forget_gates():
    model = r.Lstm(2, 3, 4, 2, forget=1.0, generator=generator())
    with torch.no_grad():
        model.weight_x.zero_()
        model.weight_h.zero_()
    sigma = 1 / (1 + math.exp(-1))
    assert r.leak(model, randn(2, 9, 3)) == pytest.approx(np.tile(sigma ** np.arange(9), (2, 1)))
    # With gates that no state reaches, the memory is the only path: the full gradient is the leak.
    full = r.reach(model, randn(2, 9, 3), generator=generator())
    assert full == pytest.approx(np.tile(sigma ** np.arange(9), (2, 1)))


def test_leak_of_a_gru_and_of_gates_that_move():
    model = r.Gru(1, 3, 4, 2, update=2.0, generator=generator())
    x = randn(1, 5, 3)
    theirs = torch.nn.GRU(3, 4, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(model.weight_x[0])
        theirs.weight_hh_l0.copy_(model.weight_h[0])
        theirs.bias_ih_l0.copy_(model.bias[0, :, 0])
        theirs.bias_hh_l0.zero_()
        h = torch.cat([torch.zeros(1, 1, 4, dtype=torch.float64), theirs(x)[0]], 1)[0, :-1]
        gate = (x[0] @ theirs.weight_ih_l0[4:8].T + h @ theirs.weight_hh_l0[4:8].T + 2.0).sigmoid()
    products = torch.cat([torch.ones(1, 4, dtype=torch.float64), gate.flip(0)[:4].cumprod(0)])
    assert r.leak(model, x)[0] == pytest.approx(products.square().mean(1).sqrt().numpy())


# --- training --------------------------------------------------------------------------------------------


def test_every_net_of_the_study_can_be_built_and_learns_a_short_lag():
    for name, build in r.nets(10).items():
        assert build(2, generator()).units == 32, name
    result = r.remember(r.nets(3)["tanh, orthogonal"], 3, lrs=(1e-2, 0.0), steps=60, seeds=2)
    assert result["lr"].tolist() == [1e-2] * 2 and (result["accuracy"] > 0.95).all()


def test_a_net_without_memory_stays_at_chance():
    model = r.Rnn(4, 8, 8, 4, generator=generator())
    model.weight_h.requires_grad_(False).zero_()
    data = r.recall(2, train=400, test=400, generator=generator())
    train(model, data.x, data.y, steps=100, lr=1e-2, optimiser="adam", generator=generator())
    assert (model.accuracy(data.x_test, data.y_test) < 0.35).all()


# --- linear recurrence -----------------------------------------------------------------------------------


def test_the_ring_meets_its_closed_forms():
    modulus = r.ring(200_000, 0.9, 0.999, generator=generator())
    assert 0.9 <= modulus.min() and modulus.max() <= 0.999
    assert modulus.square().mean().item() == pytest.approx((0.9**2 + 0.999**2) / 2, rel=1e-3)
    assert (1 / (1 - modulus**2)).mean().item() == pytest.approx(r.ring_gain(0.9, 0.999), rel=0.02)


def test_the_gain_is_what_white_input_shows():
    steps, lam = 4000, 0.9
    x, state, total = randn(steps, 50), torch.zeros(50, dtype=torch.float64), 0.0
    for t in range(steps):
        state = lam * state + x[t]
        total += state.square().mean().item() * (t >= 100)
    assert total / (steps - 100) == pytest.approx(1 / (1 - lam**2), rel=0.03)
    assert r.ring_gain(lam, lam + 1e-9) == pytest.approx(1 / (1 - lam**2), rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: r.recall(0, generator=generator()), "lag >= 1, got 0"),
        (lambda: r.copy(0, 1, generator=generator()), "lag >= 1.*got 0"),
        (lambda: r.adding(1, 1, generator=generator()), "length >= 2.*got 1"),
        (lambda: r.baselines(0), "lag >= 1, got 0"),
        (lambda: r.Rnn(1, 1, 0, 1, generator=generator()), "positive sizes.*0"),
        (lambda: r.Rnn(1, 1, 1, 1, init="zero", generator=generator()), "'identity', got 'zero'"),
        (lambda: r.set_forget_bias(torch.nn.GRU(2, 2), 1.0), r"torch.nn.LSTM with biases, got GRU"),
        (lambda: r.set_forget_bias(torch.nn.LSTM(2, 2, bias=False), 1.0), "with biases"),
        (lambda: r.chrono_bias(2, 4, generator=generator()), "longest >= 3, got 2"),
        (lambda: r.leak(r.Rnn(1, 2, 3, 4, generator=generator()), torch.zeros(1, 2, 2).double()), "gates, got Rnn"),
        (lambda: r.ring(3, 0.9, 1.0, generator=generator()), "r_max < 1"),
        (lambda: r.ring_gain(0.5, 0.5), "r_min < r_max"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
