"""Recurrent nets: how far back a gradient reaches, and what they can learn to remember.

All nets of this module are ensembles (`signalprop.ensemble.Members`): E of them train side by side. They read
sequences, (batch, time, features) for all or (members, batch, time, features) for each its own, and give logits
from the last state.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .data import Split
from .ensemble import Members, sweep

# --- tasks -----------------------------------------------------------------------------------------------

VALUES = 4  # what is to be recalled is one of so many symbols; so many others are distractors


def recall(lag, *, train=1000, test=500, generator):
    """The recall task: say at the end which symbol came first.

    The first symbol is one of `VALUES` values, and `lag` distractors follow, which are other symbols. Chance is
    1/`VALUES`.

    Parameters
    ----------
    lag : int
        Distractors, >= 1.
    train, test : int
        Sequences to draw.
    generator : torch.Generator

    Returns
    -------
    Split
        x of shape (n, 1 + lag, 2·VALUES), one-hot, float64; y of shape (n,), the value.
    """
    if lag < 1:
        raise ValueError(f"expected lag >= 1, got {lag}")
    n = train + test
    y = torch.randint(VALUES, (n,), generator=generator)
    noise = torch.randint(VALUES, 2 * VALUES, (n, lag), generator=generator)
    x = F.one_hot(torch.cat([y[:, None], noise], 1), 2 * VALUES).double()
    return Split(x[:train], y[:train], x[train:], y[train:])


def copy(lag, n, *, generator):
    """The copy task of Arjovsky et al. [2016]: repeat ten symbols after `lag` blanks.

    Ten symbols out of eight, lag − 1 blanks (0), a marker (9), ten blanks; wanted are lag + 10 blanks and then
    the ten symbols.

    Returns
    -------
    tuple of tensors (n, lag + 20), int64
        Input symbols (0 … 9) and wanted symbols (0 … 8).
    """
    if lag < 1 or n < 1:
        raise ValueError(f"expected lag >= 1 and n >= 1, got {lag} and {n}")
    symbols = torch.randint(1, 9, (n, 10), generator=generator)
    blanks = torch.zeros(n, lag + 10, dtype=torch.long)
    x = torch.cat([symbols, blanks], 1)
    x[:, lag + 9] = 9
    return x, torch.cat([blanks, symbols], 1)


def adding(length, n, *, generator):
    """The adding task of Hochreiter and Schmidhuber [1997]: sum the two numbers that are marked.

    Returns
    -------
    tuple of tensors, float64
        x of shape (n, length, 2): a number from U(0, 1), and 1 where it is marked (once in each half), else 0.
        y of shape (n,), the sum.
    """
    if length < 2 or n < 1:
        raise ValueError(f"expected length >= 2 and n >= 1, got {length} and {n}")
    numbers = torch.rand(n, length, generator=generator, dtype=torch.float64)
    half = length // 2
    first = torch.randint(half, (n,), generator=generator)
    second = torch.randint(half, length, (n,), generator=generator)
    marks = torch.zeros_like(numbers)
    marks[torch.arange(n), first] = marks[torch.arange(n), second] = 1
    return torch.stack([numbers, marks], -1), (numbers * marks).sum(1)


class Baselines(NamedTuple):
    """What a net without memory can reach: `copy` in nats per symbol, `adding` in mean squared error."""

    copy: float
    adding: float


def baselines(lag):
    """The best losses without any memory of the input, for the copy and the adding task [Arjovsky et al. 2016].

    Copy: blanks are certain, and ten of lag + 20 symbols are a guess among eight, 10 ln 8/(lag + 20). Adding: the
    mean is the best guess, and the sum of two uniform numbers has variance 2/12, whatever the length.
    """
    if lag < 1:
        raise ValueError(f"expected lag >= 1, got {lag}")
    return Baselines(10 * math.log(8) / (lag + 20), 1 / 6)


# --- nets ------------------------------------------------------------------------------------------------


class Recurrent(Members):
    """E recurrent nets of one layer; the base of `Rnn`, `Lstm` and `Gru`.

    All weights start as in PyTorch, U(−1/√units, 1/√units), all biases at 0.

    Attributes
    ----------
    weight_x : Parameter (members, gates·units, inputs)
    weight_h : Parameter (members, gates·units, units)
    bias : Parameter (members, gates·units, 1)
    out_weight, out_bias : Parameter (members, classes, units) and (members, 1, classes)
        The read-out of the last h.
    """

    GATES = 1

    def __init__(self, members, inputs, units, classes, *, generator):
        if min(members, inputs, units, classes) < 1:
            raise ValueError(f"expected positive sizes, got {members}, {inputs}, {units}, {classes}")
        super().__init__(members, classes)
        self.units = units

        def uniform(*shape):
            u = torch.rand(members, *shape, generator=generator, dtype=torch.float64)
            return nn.Parameter((2 * u - 1) / math.sqrt(units))

        self.weight_x = uniform(self.GATES * units, inputs)
        self.weight_h = uniform(self.GATES * units, units)
        self.bias = nn.Parameter(torch.zeros(members, self.GATES * units, 1, dtype=torch.float64))
        self.out_weight = uniform(classes, units)
        self.out_bias = nn.Parameter(torch.zeros(members, 1, classes, dtype=torch.float64))

    def start(self, batch):
        """The first state, zeros."""
        return torch.zeros(self.members, batch, self.units, dtype=self.bias.dtype)

    def weight(self):
        """What (x, 1, h) is multiplied with in each step: (members, columns, inputs + 1 + units)."""
        return torch.cat([self.weight_x, self.bias, self.weight_h], -1)

    def step(self, z, state):
        """One time step: z (members, batch, columns) and the state before -> the state after, and what was kept.

        What was kept: the share of each unit's memory, (members, batch, units), or None where no gate says so.
        """
        raise NotImplementedError

    @staticmethod
    def output(state):
        """h, what the read-out sees of a state: (members, batch, units)."""
        return state

    @staticmethod
    def memory(state):
        """What carries the memory: h, or the cell of an LSTM; (members, batch, units)."""
        return state

    def unroll(self, x):
        """(state, kept) after each step, one by one."""
        x = F.pad(x.expand(self.members, *x.shape[-3:]), (0, 1), value=1.0)
        weight, state = self.weight().mT, self.start(x.shape[1])
        for t in range(x.shape[2]):
            state, kept = self.step(torch.cat([x[:, :, t], self.output(state)], -1) @ weight, state)
            yield state, kept

    def forward(self, x):
        """Logits of shape (members, batch, classes)."""
        for state, _ in self.unroll(x):
            pass
        return torch.baddbmm(self.out_bias, self.output(state), self.out_weight.mT)


class Rnn(Recurrent):
    """h ← φ(W_x x + W_h h + b).

    Parameters
    ----------
    init : {"gaussian", "orthogonal", "identity"}
        W_h: N(0, σ_w²/units); a random orthogonal matrix times σ_w [Saxe et al. 2014]; or the identity with
        φ = ReLU and input weights N(0, 0.001²), the IRNN [Le et al. 2015]. The first two have φ = tanh.
    sigma_w2 : float
    """

    def __init__(self, members, inputs, units, classes, *, init="gaussian", sigma_w2=1.0, generator):
        if init not in ("gaussian", "orthogonal", "identity"):
            raise ValueError(f"expected init 'gaussian', 'orthogonal' or 'identity', got {init!r}")
        super().__init__(members, inputs, units, classes, generator=generator)
        self.activation = torch.relu if init == "identity" else torch.tanh
        with torch.no_grad():
            if init == "identity":
                self.weight_h.copy_(torch.eye(units))
                self.weight_x.normal_(0, 0.001, generator=generator)
                return
            w = self.weight_h.normal_(generator=generator)
            if init == "orthogonal":
                q, r = torch.linalg.qr(w)
                # The signs make the distribution uniform over all orthogonal matrices.
                w.copy_(q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None] * math.sqrt(sigma_w2))
            else:
                w.mul_(math.sqrt(sigma_w2 / units))

    def step(self, z, state):
        return self.activation(z), None


class Lstm(Recurrent):
    """LSTM with forget gate; gates in PyTorch's order i, f, g, o, and one bias vector. A state is (h, c).

    Parameters
    ----------
    forget : float, or tensor (units,) or (members, units)
        Bias of the forget gate.
    input : the same
        Bias of the input gate. The chrono initialisation has −forget.
    """

    GATES = 4

    def __init__(self, members, inputs, units, classes, *, forget=0.0, input=0.0, generator):
        super().__init__(members, inputs, units, classes, generator=generator)
        with torch.no_grad():
            gates = self.bias.view(members, 4, units)
            gates[:, 0], gates[:, 1] = torch.as_tensor(input), torch.as_tensor(forget)

    def start(self, batch):
        zeros = super().start(batch)
        return zeros, zeros

    def step(self, z, state):
        i, f, g, o = z.chunk(4, -1)
        kept = f.sigmoid()
        c = kept * state[1] + i.sigmoid() * g.tanh()
        return (o.sigmoid() * c.tanh(), c), kept

    @staticmethod
    def output(state):
        return state[0]

    @staticmethod
    def memory(state):
        return state[1]


class Gru(Recurrent):
    """GRU in PyTorch's form: h ← z h + (1 − z) n; gates in the order r, z, n [Cho et al. 2014].

    Parameters
    ----------
    update : float
        Bias of z. z is the share of the old state that is kept, as a forget gate has it.

    Attributes
    ----------
    bias_n : Parameter (members, units, 1)
        The bias beside W_h h in n, which r multiplies.
    """

    GATES = 3

    def __init__(self, members, inputs, units, classes, *, update=0.0, generator):
        super().__init__(members, inputs, units, classes, generator=generator)
        self.bias_n = nn.Parameter(torch.zeros(members, units, 1, dtype=torch.float64))
        with torch.no_grad():
            self.bias.view(members, 3, units)[:, 1] = update

    def weight(self):
        # Columns r, z, and the two parts of n apart, as r multiplies only the second.
        two = 2 * self.units
        from_x, from_h = F.pad(self.weight_x, (0, 0, 0, self.units)), self.weight_h
        from_h = torch.cat([from_h[:, :two], torch.zeros_like(from_h[:, two:]), from_h[:, two:]], 1)
        return torch.cat([from_x, torch.cat([self.bias, self.bias_n], 1), from_h], -1)

    def step(self, z, state):
        r, kept, n, from_h = z.chunk(4, -1)
        kept = kept.sigmoid()
        n = torch.tanh(n + r.sigmoid() * from_h)
        return n + kept * (state - n), kept


# --- initial biases --------------------------------------------------------------------------------------


def set_forget_bias(lstm, value):
    """Set the forget gate's bias of every layer and direction of a `torch.nn.LSTM`, in place.

    PyTorch adds two bias vectors (`bias_ih`, `bias_hh`), each with the gates in the order i, f, g, o. Their sum
    at the forget gate becomes `value`; the other biases stay.

    Parameters
    ----------
    lstm : torch.nn.LSTM
    value : float or tensor (hidden_size,)

    Raises
    ------
    ValueError
        If it is no LSTM, or has no biases.
    """
    if not isinstance(lstm, nn.LSTM) or not lstm.bias:
        raise ValueError(f"expected a torch.nn.LSTM with biases, got {lstm}")
    with torch.no_grad():
        for name, bias in lstm.named_parameters():
            if name.startswith("bias"):
                forget = bias[lstm.hidden_size : 2 * lstm.hidden_size]
                forget.copy_(torch.as_tensor(value if name.startswith("bias_ih") else 0.0).expand_as(forget))


def chrono_bias(longest, *shape, generator):
    """ln U(1, longest − 1): forget biases whose memories span the lags up to `longest` [Tallec and Ollivier 2018].

    The input gate's bias is set to the negative. Returns a float64 tensor of the given shape.
    """
    if longest < 3:
        raise ValueError(f"expected longest >= 3, got {longest}")
    return torch.log(1 + (longest - 2) * torch.rand(*shape, generator=generator, dtype=torch.float64))


def half_life(bias):
    """Steps after which a cell whose forget gate sits at σ(bias) has lost half: ln ½ / ln σ(bias)."""
    return math.log(2) / math.log1p(math.exp(-bias))


# --- training --------------------------------------------------------------------------------------------


def nets(lag):
    """The nets that the recall task is put to: {name: build(members, generator)}, 32 units each.

    "LSTM, chrono" has biases for lags up to `lag`. PyTorch's default `nn.RNN` has the weight variance 1/(3 units).
    """
    shape = (2 * VALUES, 32, VALUES)

    def rnn(**options):
        return lambda members, generator: Rnn(members, *shape, **options, generator=generator)

    def lstm(bias):
        return lambda members, generator: Lstm(members, *shape, forget=bias, generator=generator)

    def chrono(members, generator):
        bias = chrono_bias(lag, members, 32, generator=generator)
        return Lstm(members, *shape, forget=bias, input=-bias, generator=generator)

    return {
        "tanh, PyTorch": rnn(sigma_w2=1 / 3),
        "tanh, σ_w = 1": rnn(),
        "tanh, orthogonal": rnn(init="orthogonal"),
        "IRNN": rnn(init="identity"),
        **{f"LSTM, b = {bias}": lstm(bias) for bias in (0, 1, 3, 5)},
        "LSTM, chrono": chrono,
        "GRU": lambda members, generator: Gru(members, *shape, generator=generator),
    }


RATES = {"adam": (2e-3, 1e-2), "sgd": (0.1, 0.3, 1.0)}  # learning rates that are tried


def remember(build, lag, *, optimiser="adam", lrs=None, steps=300, seeds=10, seed=0):
    """Train nets on the recall task, on minibatches of 16, gradients clipped to norm 1; SGD without momentum.

    Parameters
    ----------
    build : callable
        See `signalprop.ensemble.sweep`.
    lag : int
    optimiser : {"adam", "sgd"}
    lrs : sequence of float, optional
        `RATES` of the optimiser by default. The one with the best median training accuracy counts.

    Returns
    -------
    dict
        "accuracy", array (seeds,), share of right answers on new sequences; "lr", the learning rate, once for
        each seed.
    """
    data = recall(lag, generator=torch.Generator().manual_seed(1000 + seed))
    how = dict(steps=steps, batch_size=16, optimiser=optimiser, momentum=0.0, clip=1.0)
    result = sweep(build, data, lrs=RATES[optimiser] if lrs is None else lrs, seeds=seeds, seed=seed, **how)
    return {"accuracy": result.best("test"), "lr": np.full(seeds, result.best_lr)}


# --- gradient reach --------------------------------------------------------------------------------------


def reach(model, x, *, generator):
    """How the gradient fades with the lag: norms of ∂ℒ/∂(memory at T − lag), for lag = 0, 1, ….

    ℒ is a random linear function of the last h, drawn for each sequence from N(0, 1). The memory is h, or the
    cell c of an LSTM. All paths count, those through the gates included.

    Parameters
    ----------
    model : Recurrent
    x : tensor (batch, time, inputs) or (members, batch, time, inputs)

    Returns
    -------
    array (members, time)
        Norms over batch and units, divided by the norm at lag 0.
    """
    states = [state for state, _ in model.unroll(x)]
    h = model.output(states[-1])
    direction = torch.randn(h.shape, generator=generator, dtype=h.dtype)
    gradients = torch.autograd.grad((h * direction).sum(), [model.memory(s) for s in states])
    norms = torch.stack([g.square().sum((1, 2)).sqrt() for g in reversed(gradients)], 1)
    return (norms / norms[:, :1]).numpy()


@torch.no_grad()
def leak(model, x):
    """The reach along the memory alone, gates held fixed: products of the forget gates of an LSTM (z of a GRU).

    Returns
    -------
    array (members, time)
        Root mean square over batch and units of ∏ f over the last `lag` steps, for lag = 0, 1, ….
    """
    kept = [kept for _, kept in model.unroll(x)]
    if kept[0] is None:
        raise ValueError(f"expected a net with gates, got {type(model).__name__}")
    products = [torch.ones_like(kept[0])]
    for f in reversed(kept[1:]):
        products.append(products[-1] * f)
    return torch.stack([p.square().mean((1, 2)).sqrt() for p in products], 1).numpy()


# --- linear recurrence -----------------------------------------------------------------------------------


def ring(n, r_min, r_max, *, generator):
    """Moduli |λ| of a linear recurrent unit's diagonal, uniform over a ring [Orvieto et al. 2023].

    ν = −½ ln(u (r_max² − r_min²) + r_min²) with u from U(0, 1), and |λ| = exp(−ν).

    Returns
    -------
    tensor (n,), float64
    """
    if not 0 <= r_min < r_max < 1:
        raise ValueError(f"expected 0 <= r_min < r_max < 1, got {r_min} and {r_max}")
    u = torch.rand(n, generator=generator, dtype=torch.float64)
    return torch.exp(0.5 * torch.log(u * (r_max**2 - r_min**2) + r_min**2))


def ring_gain(r_min, r_max):
    """E 1/(1 − |λ|²) over the ring: how much such a recurrence enlarges the variance of white input.

    ln((1 − r_min²)/(1 − r_max²)) / (r_max² − r_min²) [Orvieto et al. 2023]. The factor γ = √(1 − |λ|²) on the
    input undoes it.
    """
    if not 0 <= r_min < r_max < 1:
        raise ValueError(f"expected 0 <= r_min < r_max < 1, got {r_min} and {r_max}")
    return math.log((1 - r_min**2) / (1 - r_max**2)) / (r_max**2 - r_min**2)
