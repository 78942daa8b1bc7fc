"""Skip connections: the stream h ← h + F(h), what it does to signals and gradients, and which schemes train deep."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import binom

from . import data, theory
from .activations import get
from .ensemble import EPS, NORMS, Members, normalise, sweep, train

SCHEMES = ("plain", "looks linear", "residual", "scaled", "rezero", "fixup", "highway")
PLAIN = ("plain", "looks linear")


# --- blocks ----------------------------------------------------------------------------------------------


def highway(x, H, WT, bT):
    """A highway layer, T ⊙ H(x) + (1 − T) ⊙ x with the gate T = σ(W_T x + b_T) [Srivastava et al. 2015].

    Parameters
    ----------
    x : tensor (..., n)
    H : callable
        The transformation; maps x to a tensor of the same shape.
    WT : tensor (..., n, n)
        Weights of the gate, (out, in).
    bT : tensor (..., n)
        Bias of the gate. Where it is very negative the layer carries x.

    Raises
    ------
    ValueError
        If H changes the shape.
    """
    transformed = H(x)
    if transformed.shape != x.shape:
        raise ValueError(f"expected H to keep the shape {tuple(x.shape)}, got {tuple(transformed.shape)}")
    gate = torch.sigmoid(x @ WT.mT + bT)
    return gate * transformed + (1 - gate) * x


def rezero_forward(x, branches, alphas):
    """x ← x + α_l F_l(x) for every block [Bachlechner et al. 2021; SkipInit, De and Smith 2020].

    Parameters
    ----------
    x : tensor
    branches : sequence of callables
        F_l, each maps a tensor to one of the same shape.
    alphas : sequence of float or of scalar tensors
        One for each block; they start at 0, so that the net is the identity.

    Raises
    ------
    ValueError
        If there are not as many alphas as branches, or a branch changes the shape.
    """
    if len(branches) != len(alphas):
        raise ValueError(f"expected one alpha for each branch, got {len(alphas)} and {len(branches)}")
    for branch, alpha in zip(branches, alphas):
        added = branch(x)
        if added.shape != x.shape:
            raise ValueError(f"expected a branch to keep the shape {tuple(x.shape)}, got {tuple(added.shape)}")
        x = x + alpha * added
    return x


def crelu(x):
    """ReLU of x and of −x side by side: (..., n) to (..., 2n). Nothing is lost: the difference of the halves is x."""
    return torch.cat([torch.relu(x), torch.relu(-x)], -1)


def looks_linear(weight):
    """[W, −W]: after `crelu` it acts as W alone, [W, −W] crelu(x) = W x [Balduzzi et al. 2017].

    weight is (..., out, in), the result (..., out, 2·in).
    """
    return torch.cat([weight, -weight], -1)


# --- the nets --------------------------------------------------------------------------------------------


class ResidualNet(Members):
    """E nets of one width: an input layer, `depth` weight layers in blocks, and a read-out.

    The input layer makes the stream h_0 = W x + b. Each block l has a branch F_l of `layers` weight layers, each
    W φ(N(u)) + b (pre-activation order: norm, activation, weights [He et al. 2016b]). The read-out sees φ(N(h_L)).

    ===============  ====================================================================================
    scheme           a block
    ===============  ====================================================================================
    "plain"          F(h)
    "looks linear"   F(h) with φ = `crelu` and weights `looks_linear` of an orthogonal matrix
    "residual"       h + η_l F(h), with η given by `scale`
    "scaled"         h + F(h)/√L, with L blocks
    "rezero"         h + α_l F(h), α_l a learned scalar that starts at 0
    "fixup"          h + F(h), where the last weights of each branch start at 0, and the others are multiplied
                     by L^(−1/(2m−2)), m = `layers` [Zhang et al. 2019, without its scalar biases and factors]
    "highway"        `highway`, with gate weights that start at 0 and gate biases at `carry_bias`
    ===============  ====================================================================================

    Parameters
    ----------
    members, features, classes : int
        Nets, inputs and outputs of each.
    scheme : str
    depth : int
        Weight layers between input layer and read-out; a multiple of `layers`.
    layers : int
        Weight layers in each block. Fixup needs two or more.
    scale : float or sequence of float
        η, for "residual" only: one for all branches, or one for each.
    carry_bias : float
        For "highway".
    norm : {None, "batch", "layer", "rms"}
        N, see `signalprop.ensemble.normalise`; with a learned gain (1) and shift (0).
    activation, sigma_w2
        φ, and the weight scale in the blocks, W_ij ~ N(0, σ_w²/n). The input layer and the read-out have σ_w² = 1.
        All biases start at 0.
    activation_last : bool
        φ(N(W u + b)) in place of W φ(N(u)) + b: a branch then ends in its activation.
    generator : torch.Generator

    Raises
    ------
    ValueError
        For an unknown scheme or norm, a depth that is no multiple of `layers`, Fixup with one layer per block, or
        scales that do not fit.
    """

    def __init__(
        self,
        members,
        features,
        classes,
        scheme,
        *,
        depth,
        width=32,
        layers=1,
        scale=1.0,
        carry_bias=-2.0,
        norm=None,
        activation="relu",
        sigma_w2=2.0,
        activation_last=False,
        generator,
    ):
        if scheme not in SCHEMES:
            raise ValueError(f"expected a scheme out of {', '.join(SCHEMES)}; got {scheme!r}")
        if norm not in NORMS:
            raise ValueError(f"expected norm to be one of {', '.join(map(repr, NORMS))}; got {norm!r}")
        if depth < 1 or layers < 1 or depth % layers:
            raise ValueError(f"expected a depth that is a multiple of layers >= 1, got {depth} and {layers}")
        if scheme == "fixup" and layers < 2:
            raise ValueError(f"expected two or more layers per block for fixup, got {layers}")
        if scheme != "residual" and np.any(np.asarray(scale) != 1):
            raise ValueError(f"expected a scale only with the scheme 'residual', got {scale} with {scheme!r}")
        super().__init__(members, classes)
        self.scheme, self.norm, self.layers, self.blocks = scheme, norm, layers, depth // layers
        self.activation_last = activation_last
        self.activation = crelu if scheme == "looks linear" else get(activation)
        self.scales = [1 / math.sqrt(self.blocks)] * self.blocks if scheme == "scaled" else _each(scale, self.blocks)

        def normal(fan_out, fan_in, variance):
            return torch.randn(members, fan_out, fan_in, generator=generator, dtype=torch.float64) * math.sqrt(variance / fan_in)

        def constant(value, *shape):
            return torch.full((members, *shape), float(value), dtype=torch.float64)

        self.weights, self.biases, self.gains, self.shifts, self.alphas, self.gates, self.gate_biases = (
            torch.nn.ParameterList() for _ in range(7)
        )
        self.weights.append(normal(width, features, 1.0))
        for j in range(depth):
            weight = normal(width, width, sigma_w2)
            if scheme == "looks linear":
                weight = looks_linear(torch.linalg.qr(weight)[0])
            elif scheme == "fixup":
                weight *= 0 if j % layers == layers - 1 else self.blocks ** (-1 / (2 * layers - 2))
            self.weights.append(weight)
        self.weights.append(normal(classes, width, 1.0))
        if scheme == "looks linear":
            self.weights[-1] = looks_linear(self.weights[-1].detach())
        self.biases.extend(constant(0, 1, n) for n in [width] * (depth + 1) + [classes])
        if norm is not None:  # of every layer in the blocks, and of the read-out's input
            self.gains.extend(constant(1, 1, width) for _ in range(depth + 1))
            self.shifts.extend(constant(0, 1, width) for _ in range(depth + 1))
        if scheme == "rezero":
            self.alphas.extend(constant(0, 1, 1) for _ in range(self.blocks))
        if scheme == "highway":
            self.gates.extend(constant(0, width, width) for _ in range(self.blocks))
            self.gate_biases.extend(constant(carry_bias, 1, width) for _ in range(self.blocks))

    def _normalised(self, index, u, frozen):
        if self.norm is None:
            return u
        if frozen and self.norm == "batch":
            mean, variance = u.mean(1, keepdim=True).detach(), u.var(1, unbiased=False, keepdim=True).detach()
            u = (u - mean) * (variance + EPS).rsqrt()
        else:
            u = normalise(u, self.norm)
        return u * self.gains[index] + self.shifts[index]

    def branch(self, block, h, frozen=False):
        """F of one block, times its scale: what is added to the stream. Shapes (members, batch, width).

        With `frozen`, no gradient flows through the statistics of a batch norm: as in a net at test time.
        """
        for j in range(block * self.layers, (block + 1) * self.layers):
            weight, bias = self.weights[j + 1], self.biases[j + 1]
            if self.activation_last:
                h = self.activation(self._normalised(j, torch.baddbmm(bias, h, weight.mT), frozen))
            else:
                h = torch.baddbmm(bias, self.activation(self._normalised(j, h, frozen)), weight.mT)
        if self.scheme == "rezero":
            return self.alphas[block] * h
        return h if self.scales[block] == 1 else self.scales[block] * h

    def block(self, block, h, frozen=False):
        """What one block makes of the stream."""
        if self.scheme in PLAIN:
            return self.branch(block, h, frozen)
        if self.scheme == "highway":
            return highway(h, lambda x: self.branch(block, x, frozen), self.gates[block], self.gate_biases[block])
        return h + self.branch(block, h, frozen)

    def stream(self, x, *, without=(), frozen=False):
        """h_0, …, h_L: a list of tensors (members, batch, width).

        Parameters
        ----------
        x : tensor (batch, features) or (members, batch, features)
        without : collection of int
            Blocks to delete, counted from 0: the stream passes them by.
        frozen : bool
            See `branch`.
        """
        h = [torch.baddbmm(self.biases[0], x.expand(self.members, -1, -1), self.weights[0].mT)]
        for l in range(self.blocks):
            h.append(h[-1] if l in without else self.block(l, h[-1], frozen))
        return h

    def forward(self, x, *, without=()):
        """Logits of shape (members, batch, classes); see `stream`."""
        h = self.stream(x, without=without)[-1]
        a = self.activation(self._normalised(self.blocks * self.layers, h, frozen=False))
        return torch.baddbmm(self.biases[-1], a, self.weights[-1].mT)


def _each(value, count):
    values = [float(v) for v in (value if np.ndim(value) else [value] * count)]
    if len(values) != count:
        raise ValueError(f"expected one scale, or one for each of {count} blocks, got {len(values)}")
    return values


# --- what theory says ------------------------------------------------------------------------------------


def growth(scales):
    """∏(1 + η_l²), cumulated: the stream's second moment after 0, 1, …, L blocks, in units of the first.

    For branches that keep the second moment and do not correlate with the stream, as W φ(h) with He's weights
    and ReLU. The same product over the blocks above multiplies the *squared* gradient norm.

    Parameters
    ----------
    scales : sequence of float, shape (L,)

    Returns
    -------
    array (L + 1,)
    """
    return np.cumprod(np.concatenate([[1.0], 1 + np.square(np.asarray(scales, dtype=float))]))


def growth_activation_last(scales):
    """The stream's second moment where branches end in their activation, h + η_l ReLU(W h) with He's weights, in
    units of the first; 0, 1, …, L blocks, from a stream of mean 0.

    Such a branch has the mean √(q/π) in every unit, so that the branches add up: with m the mean of the stream,
    q ← (1 + η²) q + 2 η m √(q/π) and m ← m + η √(q/π).

    Returns
    -------
    array (L + 1,)
    """
    q, mean = [1.0], 0.0
    for s in scales:
        step = s * math.sqrt(q[-1] / math.pi)
        q.append((1 + s * s) * q[-1] + 2 * mean * step)
        mean += step
    return np.array(q)


def batch_norm_scales(blocks):
    """How strongly each branch W φ(BN(h)) passes gradients on, with ReLU and He's weights: the η_l that `growth` and
    `path_lengths` need.

    Every branch adds 2 Var[ReLU(Z)] = 1 − 1/π to the variance of the stream over the batch, and the next batch norm
    divides by it: η_l² = 1/(1 + (1 − 1/π) l) for l = 0, …, L − 1, in a stream that starts with variance 1.
    """
    return 1 / np.sqrt(1 + (1 - 1 / math.pi) * np.arange(blocks))


def highway_factor(carry_bias):
    """(1 − t)² + t² with t = σ(b): what a highway layer of constant gate does to second moments and *squared*
    gradient norms, when its transformation keeps them."""
    t = 1 / (1 + math.exp(-carry_bias))
    return (1 - t) ** 2 + t**2


def tanh_growth(depth, q0=1.0):
    """Second moments and *squared* gradient norms in a stream h + W tanh(h), σ_w² = 1 [Yang and Schoenholz 2017].

    q ← q + E tanh(√q Z)², and the squared gradient is multiplied by 1 + E tanh′(√q Z)² on its way back.

    Returns
    -------
    q, gradient : arrays (depth + 1,)
        gradient[l] is ‖∂ℒ/∂h_l‖²/‖∂ℒ/∂h_L‖².
    """
    q, factors = [float(q0)], []
    for _ in range(depth):
        factors.append(1 + theory.chi1("tanh", 1.0, q[-1]))
        q.append(q[-1] + theory.q_map("tanh", q[-1], 1.0))
    return np.array(q), np.append(np.cumprod(factors[::-1])[::-1], 1.0)


def path_share(n, low, high):
    """P(low ≤ K ≤ high) for K ~ Binomial(n, ½): the share of the 2ⁿ paths through n blocks that take low to high
    branches [Veit et al. 2016].

    Raises
    ------
    ValueError
        If n < 1 or low > high.
    """
    if n < 1 or low > high:
        raise ValueError(f"expected n >= 1 and low <= high, got n = {n}, low = {low}, high = {high}")
    return float(binom.cdf(high, n, 0.5) - binom.cdf(low - 1, n, 0.5))


def path_lengths(scales):
    """Share of the squared gradient that paths through k branches carry, k = 0, …, L: ∏(1 − p_l + p_l s^k) with
    p_l = η_l²/(1 + η_l²). For equal scales this is Binomial(L, p).

    Returns
    -------
    array (L + 1,)
        Sums to 1.
    """
    shares = np.ones(1)
    for p in (s**2 / (1 + s**2) for s in scales):
        shares = np.convolve(shares, [1 - p, p])
    return shares


def shattering(depth, scales=None, *, centred):
    """Correlation of the gradients of two orthogonal inputs at h_0 of ReLU nets, after 0, 1, …, depth blocks.

    With c the correlation of the two streams, both units of a pair are active with probability
    (1 − arccos(c)/π)/2. Their branch gradients then have the correlation 1 − arccos(c)/π, and their branches
    κ(c) = (√(1 − c²) + (π − arccos c) c)/π [arc-cosine kernels, Cho and Saul 2009].

    Parameters
    ----------
    scales : sequence of float, optional
        η_l of a residual net; None for a plain one.
    centred : bool
        Whether a batch norm keeps c at 0. Then a plain net has 2^−L [Balduzzi et al. 2017].

    Returns
    -------
    array (depth + 1,)
    """
    c, correlation = 0.0, [1.0]
    for l in range(depth):
        both, kappa = 1 - math.acos(c) / math.pi, (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi
        old, new = (0.0, 1.0) if scales is None else (1.0, scales[l] ** 2)
        correlation.append(correlation[-1] * (old + new * both) / (old + new))
        if not centred:
            c = min((old * c + new * kappa) / (old + new), 1.0)
    return np.array(correlation)


# --- what is measured ------------------------------------------------------------------------------------


class StreamSignals(NamedTuple):
    """What `stream_signals` measures in random nets, after 0, 1, …, L blocks.

    h : list of tensors (members, batch, width), the stream
    q : array (members, L + 1), its mean square over batch and units
    gradient : array (members, L + 1), *squared* norm ‖∂ℒ/∂h_l‖², summed over batch and units
    """

    h: list
    q: np.ndarray
    gradient: np.ndarray


def stream_signals(scheme, *, depth, width=128, members=20, batch=16, generator, **options):
    """Send Gaussian inputs of mean square 1 through random nets, and a random gradient back from the last block.

    ℒ = Σ r·h_L over units and inputs, with r ~ N(0, 1) of its own for each.

    Parameters
    ----------
    options
        Go to `ResidualNet`.

    Returns
    -------
    StreamSignals
    """
    net = ResidualNet(members, width, 1, scheme, depth=depth, width=width, generator=generator, **options)
    x = torch.randn(members, batch, width, generator=generator, dtype=torch.float64)
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    h = net.stream(x)
    gradients = torch.autograd.grad(h[-1], h, torch.randn(h[-1].shape, generator=generator, dtype=torch.float64))
    h = [v.detach() for v in h]
    q = torch.stack([v.square().mean((1, 2)) for v in h], 1)
    return StreamSignals(h, q.numpy(), torch.stack([g.square().sum((1, 2)) for g in gradients], 1).numpy())


def path_gradients(branches, x, cotangent):
    """The gradient with respect to x, split by the number of branches that a path takes.

    A net of L blocks h + F_l(h) has 2^L paths. Their gradients are sums over the paths of equal length, and a
    block either passes a gradient by or sends it through its branch: G_k ← G_k + J_lᵀ G_{k−1}, from the last block
    to the first. That takes L² products in place of 2^L.

    Parameters
    ----------
    branches : sequence of callables
        F_1, …, F_L; each maps a tensor to one of the same shape.
    x : tensor
        Input of the first block.
    cotangent : tensor of the shape of x
        ∂ℒ/∂h_L.

    Returns
    -------
    tensor (L + 1, *x.shape)
        Entry k is the sum over all paths through k branches; the sum of all entries is ∂ℒ/∂x. Entry 0 is `cotangent`.

    Raises
    ------
    ValueError
        If the shapes of x and the cotangent differ.
    """
    if x.shape != cotangent.shape:
        raise ValueError(f"expected a cotangent of shape {tuple(x.shape)}, got {tuple(cotangent.shape)}")
    pullbacks, h = [], x
    with torch.no_grad():
        for branch in branches:
            added, pullback = torch.func.vjp(branch, h)
            pullbacks.append(pullback)
            h = h + added
        paths = torch.zeros(len(pullbacks) + 1, *x.shape, dtype=x.dtype)
        paths[0] = cotangent
        for used, pullback in enumerate(reversed(pullbacks), start=1):
            paths[1 : used + 1] += torch.func.vmap(pullback)(paths[:used])[0]
    return paths


def path_profile(scheme, *, depth, width=128, members=20, batch=1, generator, **options):
    """‖G_k‖² of `path_gradients` in random nets: an array (members, L + 1), for k = 0, …, L branches.

    Inputs, the gradient at the last block and `options` as in `stream_signals`.
    """
    net = ResidualNet(members, width, 1, scheme, depth=depth, width=width, generator=generator, **options)
    x = torch.randn(members, batch, width, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        h = net.stream(x / x.square().mean(-1, keepdim=True).sqrt())
    branches = [lambda u, l=l: net.branch(l, u) for l in range(net.blocks)]
    paths = path_gradients(branches, h[0], torch.randn(h[0].shape, generator=generator, dtype=torch.float64))
    return paths.square().sum((-1, -2)).T.numpy()


def gradient_correlation(scheme, *, depth, width=128, members=20, batch=64, generator, **options):
    """Correlation of the gradients at h_0 that different inputs cause, one number for each random net.

    The inputs are orthogonal, and every input gets the same random gradient at the last block. Statistics of a
    batch norm count as constants, so that each input has a gradient of its own.

    Returns
    -------
    array (members,)
        The mean of ⟨g_i, g_j⟩ over pairs of inputs, divided by the mean of ‖g_i‖².

    Raises
    ------
    ValueError
        If there are fewer than two inputs, or more than `width`: then they cannot be orthogonal.
    """
    if not 2 <= batch <= width:
        raise ValueError(f"expected a batch of 2 to {width} orthogonal inputs, got {batch}")
    net = ResidualNet(members, width, 1, scheme, depth=depth, width=width, generator=generator, **options)
    x = torch.randn(members, width, batch, generator=generator, dtype=torch.float64)
    h = net.stream(torch.linalg.qr(x)[0].mT * math.sqrt(width), frozen=True)
    same = torch.randn(members, 1, width, generator=generator, dtype=torch.float64).expand_as(h[-1])
    (g,) = torch.autograd.grad(h[-1], h[0], same)
    own = g.square().sum((1, 2))
    return ((g.sum(1).square().sum(1) - own) / ((batch - 1) * own)).numpy()


def conv_gradients(x, y, *, depth, skip=False, channels=8, members=10, generator):
    """Gradient in random convolutional nets with batch norm: *squared* norms ‖∂ℒ/∂z_l‖², an array (members, depth).

    A 3×3 convolution, then `depth` layers of batch norm, ReLU and a 3×3 convolution with He's weights (z is what the
    batch norm gets), then batch norm, ReLU, the mean over the image, and a linear read-out with cross-entropy.

    Parameters
    ----------
    x, y : tensors (n, 64) and (n,)
        Digits, 8×8 pixels.
    skip : bool
        Whether every two layers have a skip connection.
    """
    images = x.view(-1, 1, 8, 8).expand(-1, members, -1, -1)
    classes = int(y.max()) + 1

    def convolve(a, fan_in):
        shape = (members * channels, fan_in, 3, 3)
        weight = torch.randn(shape, generator=generator, dtype=x.dtype) * math.sqrt(2 / (9 * fan_in))
        return F.conv2d(a, weight, padding=1, groups=members)

    h, z, kept = convolve(images, 1), [], None
    h.requires_grad_()
    for l in range(depth):
        if l % 2 == 0:
            kept = h
        z.append(h)
        h = convolve(torch.relu(F.batch_norm(h, None, None, training=True)), channels)
        if skip and l % 2:
            h = h + kept
    a = torch.relu(F.batch_norm(h, None, None, training=True)).mean((2, 3)).view(-1, members, channels)
    read_out = torch.randn(members, channels, classes, generator=generator, dtype=x.dtype) / math.sqrt(channels)
    logits = torch.einsum("bmc,mck->mbk", a, read_out)
    loss = F.cross_entropy(logits.flatten(0, 1), y.repeat(members)) * members
    gradients = torch.autograd.grad(loss, z)
    return torch.stack([g.unflatten(1, (members, -1)).square().sum((0, 2, 3, 4)) for g in gradients], 1).numpy()


# --- training --------------------------------------------------------------------------------------------

LRS = (0.001, 0.003, 0.01, 0.03, 0.1)
# Under its name in the text: what `ResidualNet` is given.
NETS = {
    "plain": {"scheme": "plain"},
    "plain + BN": {"scheme": "plain", "norm": "batch"},
    "looks linear": {"scheme": "looks linear"},
    "skip": {"scheme": "residual"},
    "skip + BN": {"scheme": "residual", "norm": "batch"},
    "skip, 1/√L": {"scheme": "scaled"},
    "ReZero": {"scheme": "rezero"},
    "Fixup": {"scheme": "fixup", "layers": 2},
    **{f"highway, b = −{b}": {"scheme": "highway", "carry_bias": -float(b)} for b in (1, 2, 3, 4)},
}


def build(net, depth):
    """A function of (members, generator) that draws nets named in `NETS`, of width 32 for digits."""
    if net not in NETS:
        raise ValueError(f"expected a net out of {'; '.join(NETS)}; got {net!r}")
    return lambda members, generator: ResidualNet(members, 64, data.CLASSES, depth=depth, generator=generator, **NETS[net])


def trained(net, depth, *, lrs=LRS, seeds=10, seed=0, steps=200):
    """Digits, SGD with momentum 0.9 on minibatches of 32, at each learning rate: a `signalprop.ensemble.Sweep`."""
    return sweep(build(net, depth), data.digits(), lrs=lrs, seeds=seeds, seed=seed, steps=steps)


def fit(net, depth, *, lr, seeds=10, seed=1, steps=200):
    """As `trained` at one learning rate; returns the `ResidualNet` itself, to take it apart."""
    generator = torch.Generator().manual_seed(seed)
    model, split = build(net, depth)(seeds, generator), data.digits()
    train(model, split.x, split.y, steps=steps, lr=lr, generator=generator)
    return model


@torch.no_grad()
def accuracy_without(model, x, y, blocks):
    """Accuracy of each member with some of its blocks deleted, an array (members,); `blocks` counts from 0.

    Raises
    ------
    ValueError
        If there is no such block.
    """
    if missing := set(blocks) - set(range(model.blocks)):
        raise ValueError(f"expected blocks from 0 to {model.blocks - 1}, got {sorted(missing)}")
    return (model(x, without=blocks).argmax(-1) == y).double().mean(1).numpy()
