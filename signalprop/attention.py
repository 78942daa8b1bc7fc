"""Attention and transformer blocks: what the scale, the skip connections and the place of the norm do to gradients."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .bands import fit_slope
from .data import Split
from .ensemble import Members

# --- one attention ---------------------------------------------------------------------------------------


def attention(q, k, v, *, causal=True, scale=None):
    """Dot-product attention, softmax(q kᵀ · scale) v [Vaswani et al. 2017].

    Parameters
    ----------
    q, k : tensors (..., time, d)
    v : tensor (..., time, features)
    causal : bool
        Position t attends to positions 0 … t only.
    scale : float, optional
        1/√d by default, so that scores of independent standard normal q and k have variance 1.

    Returns
    -------
    out : tensor (..., time, features)
    weights : tensor (..., time, time)
        Rows sum to 1.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or (causal and q.shape[-2] != k.shape[-2]):
        raise ValueError(f"expected q, k of equal d and k, v of equal length, got {[tuple(t.shape) for t in (q, k, v)]}")
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, -math.inf)
    weights = scores.softmax(-1)
    return weights @ v, weights


def prenorm_block(x, attn, ffn, ln1, ln2):
    """A Pre-LN transformer block: each branch reads a normalised copy, the stream itself stays as it is."""
    x = x + attn(ln1(x))
    return x + ffn(ln2(x))


def postnorm_block(x, attn, ffn, ln1, ln2):
    """A Post-LN transformer block, as in the original transformer: the stream is normalised after each addition."""
    x = ln1(x + attn(x))
    return ln2(x + ffn(x))


class Scores(NamedTuple):
    """What the softmax over random scores looks like, one number for each draw; each of shape (draws,).

    variance : of the scores over the keys
    largest : the largest attention weight
    jacobian : Frobenius norm of ∂weights/∂scores, diag(w) − w wᵀ
    """

    variance: np.ndarray
    largest: np.ndarray
    jacobian: np.ndarray


def random_scores(d, *, keys=16, scaled=True, draws=1000, generator):
    """Scores of one query and `keys` keys with standard normal entries, divided by √d or not.

    Returns
    -------
    Scores
    """
    if d < 1 or keys < 2 or draws < 1:
        raise ValueError(f"expected d >= 1, keys >= 2 and draws >= 1, got {d}, {keys}, {draws}")
    q = torch.randn(draws, 1, d, generator=generator, dtype=torch.float64)
    k = torch.randn(draws, keys, d, generator=generator, dtype=torch.float64)
    scores = (q @ k.mT)[:, 0] / (math.sqrt(d) if scaled else 1)
    w = scores.softmax(-1)
    jacobian = torch.diag_embed(w) - w[:, :, None] * w[:, None]
    return Scores(scores.var(1).numpy(), w.amax(1).numpy(), jacobian.square().sum((1, 2)).sqrt().numpy())


class Reader(Members):
    """E nets of one attention: the last position asks, all positions answer, a linear read-out follows.

    There are no positions: a symbol is found by what it is.

    Attributes
    ----------
    query, key, value : Parameter (members, d, inputs), from N(0, 1/inputs)
    out_weight, out_bias : Parameter (members, classes, d) and (members, 1, classes)
    """

    def __init__(self, members, inputs, d, classes, *, generator):
        if min(members, inputs, d, classes) < 1:
            raise ValueError(f"expected positive sizes, got {members}, {inputs}, {d}, {classes}")
        super().__init__(members, classes)

        def normal(out, inputs):
            w = torch.randn(members, out, inputs, generator=generator, dtype=torch.float64)
            return nn.Parameter(w / math.sqrt(inputs))

        self.query, self.key, self.value = (normal(d, inputs) for _ in range(3))
        self.out_weight = normal(classes, d)
        self.out_bias = nn.Parameter(torch.zeros(members, 1, classes, dtype=torch.float64))

    def read(self, x):
        """What the last position reads, (members, batch, d)."""
        x = x.expand(self.members, *x.shape[-3:])
        query, key, value = (w.mT[:, None] for w in (self.query, self.key, self.value))
        return attention(x[:, :, -1:] @ query, x @ key, x @ value, causal=False)[0][:, :, 0]

    def forward(self, x):
        """Logits of shape (members, batch, classes)."""
        return torch.baddbmm(self.out_bias, self.read(x), self.out_weight.mT)


def reach(model, x, *, generator):
    """Norms of ∂ℒ/∂x at each lag, for a `Reader`; ℒ is a random linear function of what it reads.

    Lag 0, the position that asks, is left out: it has a path of its own through the query. The norms at lags
    1, 2, … are divided by the one at lag 1. See `signalprop.recurrent.reach`.

    Returns
    -------
    array (members, time − 1)
    """
    x = x.expand(model.members, *x.shape[-3:]).clone().requires_grad_()
    out = model.read(x)
    direction = torch.randn(out.shape, generator=generator, dtype=out.dtype)
    (gradient,) = torch.autograd.grad((out * direction).sum(), x)
    norms = gradient.square().sum((1, 3)).sqrt().flip(1)[:, 1:]
    return (norms / norms[:, :1]).numpy()


# --- transformers ----------------------------------------------------------------------------------------

TOKENS = 8  # length of a sequence of the marked-token task, and the number of symbols


def marked(*, train=2000, test=500, generator):
    """Sequences of `TOKENS` random symbols out of `TOKENS`, one of them marked: say which symbol is marked.

    Returns
    -------
    Split
        x of shape (n, TOKENS, TOKENS + 1), float64: one-hot, and the mark. y of shape (n,). Chance is 1/TOKENS.
    """
    n = train + test
    symbols = torch.randint(TOKENS, (n, TOKENS), generator=generator)
    at = torch.randint(TOKENS, (n,), generator=generator)
    x = torch.cat([F.one_hot(symbols, TOKENS), F.one_hot(at, TOKENS)[:, :, None]], 2).double()
    y = symbols[torch.arange(n), at]
    return Split(x[:train], y[:train], x[train:], y[train:])


class Transformer(Members):
    """E transformers, one head, no biases, matrices d × d from N(0, 1/d), as in the analysis of Xiong et al. [2020].

    A block has attention, softmax(x Q (x K)ᵀ/√d) x V, and a feed-forward branch, W₂ ReLU(W₁ x). With norm "pre" a
    last layer norm precedes the read-out. The read-out sees the last position. Layer norms have no gain and bias.

    Parameters
    ----------
    members, inputs, d, classes, depth : int
    norm : {"pre", "post"}
        Where the layer norms sit.

    Attributes
    ----------
    embed : Parameter (members, d, inputs), from N(0, 1): a one-hot input starts with mean square 1
    query, key, value, up, down : ParameterList of shape (members, d, d) each, one for each block
    out_weight : Parameter (members, classes, d)
    """

    def __init__(self, members, inputs, d, classes, depth, *, norm, generator):
        if norm not in ("pre", "post"):
            raise ValueError(f"expected norm 'pre' or 'post', got {norm!r}")
        if min(members, inputs, d, classes, depth) < 1:
            raise ValueError(f"expected positive sizes, got {members}, {inputs}, {d}, {classes}, {depth}")
        super().__init__(members, classes)
        self.norm, self.depth = norm, depth

        def normal(out, inputs):
            w = torch.randn(members, out, inputs, generator=generator, dtype=torch.float64)
            return nn.Parameter(w / math.sqrt(inputs))

        self.embed = nn.Parameter(normal(d, inputs) * math.sqrt(inputs))
        self.query, self.key, self.value, self.up, self.down = (
            nn.ParameterList(normal(d, d) for _ in range(depth)) for _ in range(5)
        )
        self.out_weight = normal(classes, d)

    def stream(self, x):
        """The residual stream before the first block and after each: depth + 1 tensors (members, batch, time, d).

        x is (batch, time, inputs) or (members, batch, time, inputs).
        """
        x = x.expand(self.members, *x.shape[-3:])
        found = [x @ self.embed.mT[:, None]]
        block = prenorm_block if self.norm == "pre" else postnorm_block
        for l in range(self.depth):
            q, k, v, up, down = (w[l].mT[:, None] for w in (self.query, self.key, self.value, self.up, self.down))

            def attn(a):
                return attention(a @ q, a @ k, a @ v, causal=False)[0]

            def ffn(a):
                return torch.relu(a @ up) @ down

            found.append(block(found[-1], attn, ffn, layer_norm, layer_norm))
        return found

    def forward(self, x):
        """Logits of shape (members, batch, classes)."""
        last = self.stream(x)[-1][:, :, -1]
        return (layer_norm(last) if self.norm == "pre" else last) @ self.out_weight.mT


def layer_norm(x):
    """Layer normalisation over the last dimension, without gain and bias."""
    return F.layer_norm(x, x.shape[-1:])


def train(model, split, *, lr, warmup=0, steps=150, batch_size=32, generator):
    """Train every member with Adam, on its own minibatches, in place; the learning rate rises linearly at first.

    Parameters
    ----------
    model : Members
    split : Split
    lr : float
    warmup : int
        Step s < warmup has the learning rate lr·s/warmup.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1, (step + 1) / max(warmup, 1)))
    for _ in range(steps):
        batch = torch.randint(len(split.x), (model.members, batch_size), generator=generator)
        optimiser.zero_grad()
        # Adam works entry by entry: the members' sum trains each of them as if alone.
        model.losses(split.x[batch], split.y[batch]).sum().backward()
        optimiser.step()
        schedule.step()


def trained(norm, *, lr, warmup, depth=12, steps=150, seeds=10, seed=0):
    """Test accuracy of transformers (d = 32) on the marked-token task, trained with Adam on minibatches of 16.

    Returns
    -------
    dict
        "accuracy": array (seeds,); a diverged net counts as chance.
    """
    data = marked(generator=torch.Generator().manual_seed(1000 + seed))
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(seeds, TOKENS + 1, 32, TOKENS, depth, norm=norm, generator=generator)
    train(model, data, lr=lr, warmup=warmup, steps=steps, batch_size=16, generator=generator)
    return {"accuracy": model.accuracy(data.x_test, data.y_test).numpy()}


def exponent(values, sizes):
    """The power of size that a quantity follows: slope of ln(value) against ln(size), for each row of `values`."""
    return fit_slope(np.log(values), np.log(sizes))


class Stream(NamedTuple):
    """A residual stream of Pre-LN form at initialisation, one row for each net.

    q : array (members, depth + 1), mean square of the stream before block 1 and after each block
    gain : array (members, depth + 1), ‖∂(u·x_L)/∂x_l‖² / ‖u‖² for a random u: the factor of the *squared* gradient
        norm from the end to there
    weights : array (members, depth), norm of ∂(u·x_L)/∂W₂ of each block
    """

    q: np.ndarray
    gain: np.ndarray
    weights: np.ndarray


def stream(f, *, depth, width=128, members=20, generator):
    """Send one input through x ← x + W₂ ReLU(W₁ f(x)), depth times, and a gradient back.

    Weights are from N(0, 1/width); the input has mean square 1.

    Parameters
    ----------
    f : callable
        Acts on tensors (members, 1, width): `layer_norm`, or a function that replaces it.

    Returns
    -------
    Stream
    """
    if depth < 1 or width < 2 or members < 1:
        raise ValueError(f"expected depth >= 1, width >= 2 and members >= 1, got {depth}, {width}, {members}")

    def normal(*shape):
        return torch.randn(members, *shape, generator=generator, dtype=torch.float64)

    x = normal(1, width)
    found = [(x / x.square().mean(-1, keepdim=True).sqrt()).requires_grad_()]
    down = []
    for _ in range(depth):
        down.append((normal(width, width) / math.sqrt(width)).requires_grad_())
        hidden = torch.relu(f(found[-1]) @ (normal(width, width) / math.sqrt(width)))
        found.append(found[-1] + hidden @ down[-1])
    u = normal(1, width)
    gradients = torch.autograd.grad((found[-1] * u).sum(), found + down)
    squares = torch.stack([g.square().sum((1, 2)) for g in gradients], 1)
    q = torch.stack([x.detach().square().mean((1, 2)) for x in found], 1)
    gain = squares[:, : depth + 1] / u.square().sum((1, 2))[:, None]
    return Stream(q.numpy(), gain.numpy(), squares[:, depth + 1 :].sqrt().numpy())


def stream_theory(depth, alpha=None):
    """What `stream` tends to in a wide net: (q, gain), each an array (depth + 1,).

    Each block adds ½ E f² to q and multiplies the squared gradient by 1 + ½ E f′². With layer norm E f² = 1 and
    E f′² = 1/q, so that q_l = 1 + l/2 and the product telescopes to q_L/q_l. With f = erf(αx) both are Gaussian
    integrals [Alekseev et al. 2026].

    Parameters
    ----------
    alpha : float, optional
        Of f = erf(αx); layer norm if None.
    """
    q, slopes = [1.0], []
    for _ in range(depth):
        if alpha is None:
            power, slope = 1.0, 1 / q[-1]
        else:
            s = 2 * alpha**2 * q[-1]
            power, slope = 2 / math.pi * math.asin(s / (1 + s)), 4 * alpha**2 / (math.pi * math.sqrt(1 + 2 * s))
        q.append(q[-1] + power / 2)
        slopes.append(1 + slope / 2)
    return np.array(q), np.append(np.cumprod(slopes[::-1])[::-1], 1.0)


# --- rank --------------------------------------------------------------------------------------------------


def residual_share(x):
    """How far the tokens are from being all the same: ‖x − mean over tokens‖ / ‖x‖, over the last two dimensions."""
    return (x - x.mean(-2, keepdim=True)).norm(dim=(-2, -1)) / x.norm(dim=(-2, -1))


class Collapse(NamedTuple):
    """A stack of attentions at initialisation, one row for each net.

    share : array (members, depth + 1), `residual_share` of the tokens before block 1 and after each block
    query, value : arrays (members, depth), norms of the gradient of Q and V of each block
    """

    share: np.ndarray
    query: np.ndarray
    value: np.ndarray


def collapse(*, skip, depth=4, d=64, tokens=16, members=20, generator):
    """Send random tokens through x ← LN(attention(x)), or with a skip x ← LN(x + attention(x)), and a gradient back.

    Matrices are from N(0, 1/d), tokens from N(0, 1). The loss is a random linear function of all outputs.

    Returns
    -------
    Collapse
    """
    if depth < 1 or tokens < 2:
        raise ValueError(f"expected depth >= 1 and tokens >= 2, got {depth} and {tokens}")

    def normal(*shape):
        return torch.randn(members, *shape, generator=generator, dtype=torch.float64)

    x = normal(tokens, d)
    shares, queries, values = [residual_share(x)], [], []
    for _ in range(depth):
        q, k, v = ((normal(d, d) / math.sqrt(d)).requires_grad_() for _ in range(3))
        out, _ = attention(x @ q, x @ k, x @ v, causal=False)
        x = layer_norm(x + out if skip else out)
        shares.append(residual_share(x.detach()))
        queries.append(q)
        values.append(v)
    gradients = torch.autograd.grad((x * normal(tokens, d)).sum(), queries + values)
    norms = torch.stack([g.norm(dim=(1, 2)) for g in gradients], 1).numpy()
    return Collapse(torch.stack(shares, 1).numpy(), norms[:, :depth], norms[:, depth:])


# --- more than one stream ----------------------------------------------------------------------------------


def sinkhorn(matrix, iterations=20):
    """The nearly doubly stochastic matrix that Sinkhorn and Knopp's alternating normalisation ends in.

    Parameters
    ----------
    matrix : tensor (..., n, n), positive

    Raises
    ------
    ValueError
        If an entry is not positive.
    """
    if not (matrix > 0).all():
        raise ValueError("expected a matrix of positive entries")
    for _ in range(iterations):
        matrix = matrix / matrix.sum(-1, keepdim=True)
        matrix = matrix / matrix.sum(-2, keepdim=True)
    return matrix


def mixing_gain(*, doubly_stochastic, streams=4, factors=60, strength=0.3, members=20, generator):
    """Largest absolute row sum of a product of `factors` matrices that mix the streams of a residual net.

    A factor is I + strength·G with standard normal G [as hyper-connections may learn, Zhu et al. 2025]; or, with
    ``doubly_stochastic=True``, Sinkhorn and Knopp's normalisation of exp of the same matrix [Xie et al. 2025].

    Returns
    -------
    array (members,)
    """
    product = torch.eye(streams, dtype=torch.float64).expand(members, -1, -1)
    for _ in range(factors):
        noise = torch.randn(members, streams, streams, generator=generator, dtype=torch.float64)
        factor = torch.eye(streams, dtype=torch.float64) + strength * noise
        product = (sinkhorn(factor.exp()) if doubly_stochastic else factor) @ product
    return product.abs().sum(-1).amax(-1).numpy()
