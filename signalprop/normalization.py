"""Normalisation: batch norm forward and backward, layer norm, RMSNorm, and the gradient factor of each.

In a wide plain net a normalised layer multiplies the *squared* gradient norm by χ_BN = E[φ′²]/Var[φ] (batch norm)
or by χ_LN = E[φ′²]/E[φ²] (layer norm, RMSNorm), whatever the scale of the weights; z ~ N(0, 1).
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from . import theory
from .activations import get
from .ensemble import Ensemble, normalise, sweep, train


def bn_forward(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    """Batch normalisation: y = γ (x − μ)/√(v + ε) + β, for each feature [Ioffe and Szegedy 2015].

    In training μ and v are the mean and the *biased* variance (divided by m) of the batch, and the running
    estimates move towards μ and the *unbiased* variance (divided by m − 1), as in `torch.nn.BatchNorm1d`.
    Otherwise μ and v are the running estimates.

    Parameters
    ----------
    x : tensor (m, features)
    gamma, beta, running_mean, running_var : tensors (features,)
    training : bool
    momentum : float
        Weight of the new batch in the running estimates, in [0, 1].
    eps : float

    Returns
    -------
    y : tensor (m, features)
    running_mean, running_var : tensors (features,)
        The new estimates; what was passed in stays as it is.

    Raises
    ------
    ValueError
        If x is no matrix, a shape does not fit, or a batch to train on has fewer than two rows.
    """
    _check(x, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var)
    if training:
        m = _rows(x)
        mean = x.mean(0)
        var = (x - mean).square().mean(0)
        with torch.no_grad():
            running_mean = (1 - momentum) * running_mean + momentum * mean
            running_var = (1 - momentum) * running_var + momentum * var * m / (m - 1)
    else:
        mean, var = running_mean, running_var
    return gamma * (x - mean) / (var + eps).sqrt() + beta, running_mean, running_var


def bn_backward(dy, x, gamma, eps=1e-5):
    """Gradients of batch normalisation in training.

    With x̂ = (x − μ)/s and s = √(v + ε):
    ∂ℒ/∂x = (γ/s) (dy − mean(dy) − x̂ mean(dy x̂)), ∂ℒ/∂γ = Σ dy x̂, ∂ℒ/∂β = Σ dy, over the batch.

    Parameters
    ----------
    dy : tensor (m, features)
        ∂ℒ/∂y.
    x : tensor (m, features)
        What the forward pass normalised.
    gamma : tensor (features,)
    eps : float

    Returns
    -------
    dx : tensor (m, features)
    dgamma, dbeta : tensors (features,)

    Raises
    ------
    ValueError
        As in `bn_forward`, or if dy and x differ in shape.
    """
    _check(x, gamma=gamma)
    _rows(x)
    if dy.shape != x.shape:
        raise ValueError(f"expected dy of the shape of x, {tuple(x.shape)}; got {tuple(dy.shape)}")
    centred = x - x.mean(0)
    scale = (centred.square().mean(0) + eps).sqrt()
    unit = centred / scale
    dx = gamma / scale * (dy - dy.mean(0) - unit * (dy * unit).mean(0))
    return dx, (dy * unit).sum(0), dy.sum(0)


def layer_norm(x, eps=1e-5):
    """(x − mean)/√(variance + ε) of each row over its features [Ba et al. 2016]; no gain, no bias.

    x is (…, features), with two or more features.
    """
    _features(x)
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def rms_norm(x, eps=1e-5):
    """x/√(mean square + ε) of each row over its features [Zhang and Sennrich 2019]; no gain.

    x is (…, features), with two or more features.
    """
    _features(x)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def _moments(activation):
    """(E[φ′²], E[φ], E[φ²]) for z ~ N(0, 1)."""
    phi = get(activation)
    functions = (lambda z: phi.derivative(z) ** 2, phi, lambda z: phi(z) ** 2)
    return tuple(theory.gaussian_mean(f, 1.0, phi.kinks) for f in functions)


def chi_bn(activation):
    """E[φ′²]/Var[φ] at q = 1: the factor of the *squared* gradient norm per layer with batch norm.

    For a wide net and a large batch; π/(π − 1) for ReLU [Yang et al. 2019]. At least 1, and 1 only if φ is linear.
    """
    slope, mean, square = _moments(activation)
    variance = square - mean**2
    if variance <= 1e-15 * max(square, 1e-300):
        raise ValueError("expected an activation that is not constant")
    return slope / variance


def chi_ln(activation):
    """E[φ′²]/E[φ²] at q = 1: the factor of the *squared* gradient norm per layer with layer norm or RMSNorm."""
    slope, _, square = _moments(activation)
    if square == 0:
        raise ValueError("expected an activation that is not 0 everywhere")
    return slope / square


def degree_shares(activation, degrees=8):
    """How E[φ²] splits over the Hermite polynomials He_k/√k!: the shares of k = 0 … degrees − 1.

    φ = Σ c_k He_k/√k! with c_k = E[φ(Z) He_k(Z)]/√k!; the shares are c_k²/E[φ²]. The share of k = 0 is the constant
    part. As E[φ′²] = Σ k c_k², `chi_ln` is the mean degree, and `chi_bn` the mean degree without the constant.

    Returns
    -------
    ndarray (degrees,)
        Sums to less than 1 if φ has higher degrees, too.
    """
    if degrees < 1:
        raise ValueError(f"expected degrees >= 1, got {degrees}")
    phi, kinks = get(activation), get(activation).kinks
    square = theory.gaussian_mean(lambda z: phi(z) ** 2, 1.0, kinks)
    shares = []
    for k in range(degrees):
        c = theory.gaussian_mean(lambda z: phi(z) * _hermite(z, k), 1.0, kinks)
        shares.append(c**2 / square)
    return np.array(shares)


def _hermite(z, k):
    """He_k(z)/√k!: orthonormal under N(0, 1)."""
    low, high = torch.zeros_like(z), torch.ones_like(z)
    for j in range(k):
        low, high = high, (z * high - j**0.5 * low) / (j + 1) ** 0.5
    return high


def kurtosis(z):
    """E[z⁴]/E[z²]² of each net, (members,): 3 for Gaussian z, more if a few inputs stand out.

    z is (members, batch, units) with mean 0 over the batch.
    """
    return (z.pow(4).mean((1, 2)) / z.square().mean((1, 2)) ** 2).numpy()


def effective_rank(z):
    """(tr G)²/tr(G²) of the Gram matrix G = z zᵀ of each net, (members,).

    The number of directions that the inputs of a batch take up: 1 if all are parallel, at most min(batch, units).
    It is never larger than the rank. z is (members, batch, units).
    """
    gram = z @ z.mT
    return (gram.diagonal(dim1=1, dim2=2).sum(1) ** 2 / gram.square().sum((1, 2))).numpy()


def jacobian_values(activation, *, width=24, batch=24, members=10, generator):
    """Singular values of one batch-normalised layer, z → BN(W φ(z)), as a map of the whole batch.

    Parameters
    ----------
    activation
        See `signalprop.activations.get`.
    members : int
        Independent draws of z (standard normal, then batch-normalised) and of W ~ N(0, 1/width).

    Returns
    -------
    ndarray (members, batch·width), in falling order
    """
    phi, values = get(activation), []
    for _ in range(members):
        z, weight = (torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (batch, width))

        def layer(z, weight=weight):
            return normalise((phi(z) @ weight.T)[None] / width**0.5, "batch")[0]

        z = normalise(z[None], "batch")[0]
        jacobian = torch.autograd.functional.jacobian(layer, z, vectorize=True)
        values.append(torch.linalg.svdvals(jacobian.reshape(batch * width, -1)))
    return torch.stack(values).numpy()


class Gradients(NamedTuple):
    """Norms (not squared) of the gradient in each hidden layer, arrays (members, layers).

    preactivations : ‖∂ℒ/∂z_l‖ over batch and units, with respect to what enters φ
    weights : ‖∂ℒ/∂W_l‖
    """

    preactivations: np.ndarray
    weights: np.ndarray


def gradient_norms(model, x, y):
    """`Gradients` of the mean cross-entropy of an `Ensemble` on the batch (x, y)."""
    *hidden, logits = model.preactivations(x)
    target = y.expand(model.members, -1)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum") / target.shape[1]
    gradients = torch.autograd.grad(loss, [*hidden, *list(model.weights)[:-1]])
    norms = torch.stack([g.square().sum((1, 2)).sqrt() for g in gradients], 1).numpy()
    return Gradients(norms[:, : len(hidden)], norms[:, len(hidden) :])


class NoisyEnsemble(Ensemble):
    """Batch-normalised nets whose normalised pre-activations are shifted and scaled at random in every step.

    z becomes z·exp(noise·ξ) + noise·ξ′ with ξ, ξ′ ~ N(0, 1), drawn for each unit in each forward pass: the mean and
    the scale that a layer hands on jump all the time [after Santurkar et al. 2018]. `accuracy` is without noise.

    Parameters
    ----------
    noise : float
        >= 0.
    generator : torch.Generator
        Of the initial weights and of the noise.
    """

    def __init__(self, *args, noise, generator, **kwargs):
        if not noise >= 0:
            raise ValueError(f"expected noise >= 0, got {noise}")
        super().__init__(*args, norm="batch", generator=generator, **kwargs)
        self.noise, self.generator = noise, generator

    def preactivations(self, x):
        a, z = x.expand(self.members, -1, -1), []
        for weight, bias, gain in zip(self.weights, self.biases, self.gains):
            z.append(normalise(a @ weight.mT, "batch") * gain + bias)
            if self.training:
                scale, shift = self.noise * torch.randn(2, *gain.shape, generator=self.generator, dtype=gain.dtype)
                z[-1] = z[-1] * scale.exp() + shift
            a = self.activation(z[-1])
        z.append(torch.baddbmm(self.biases[-1], a, self.weights[-1].mT))
        return z

    def accuracy(self, x, y):
        self.eval()
        try:
            return super().accuracy(x, y)
        finally:
            self.train()


SCALE = {"sigmoid": 1.0, "relu": 2.0}  # σ_w²: Xavier's and He's
KINDS = ("plain", "batch", "noisy")


def trained(activation, norm, depth, split, *, lrs, steps, batch_size=32, momentum=0.9, seeds=10, seed=0):
    """Train nets of width 32 with one kind of norm at several learning rates; σ_w² is that of `SCALE`.

    Returns
    -------
    signalprop.ensemble.Sweep
        A batch norm uses the statistics of the minibatch in training, and of the whole set when it is evaluated.
    """
    _known(activation)

    def build(members, generator):
        sizes = [split.x.shape[1], *[32] * depth, int(split.y.max()) + 1]
        return Ensemble(members, sizes, activation, SCALE[activation], norm=norm, generator=generator)

    options = dict(steps=steps, batch_size=batch_size, momentum=momentum)
    return sweep(build, split, lrs=lrs, seeds=seeds, seed=seed, **options)


def build(kind, activation, *, depth=10, width=64, members, noise=0.5, inputs=64, classes=10, generator):
    """A plain net, a batch-normalised one, or a `NoisyEnsemble`; σ_w² is that of `SCALE`.

    Raises
    ------
    ValueError
        For an unknown kind or another activation.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a kind out of {', '.join(KINDS)}; got {kind!r}")
    _known(activation)
    sizes = [inputs, *[width] * depth, classes]
    if kind == "noisy":
        return NoisyEnsemble(members, sizes, activation, SCALE[activation], noise=noise, generator=generator)
    norm = "batch" if kind == "batch" else None
    return Ensemble(members, sizes, activation, SCALE[activation], norm=norm, generator=generator)


def steps_to(losses, threshold=0.7, window=10):
    """Steps until the mean minibatch loss of the last `window` steps is below `threshold`, for each member.

    Parameters
    ----------
    losses : tensor (steps, members)
        As `signalprop.ensemble.train` returns it.

    Returns
    -------
    ndarray (members,)
        steps + 1 where it never was.
    """
    if len(losses) < window or window < 1:
        raise ValueError(f"expected {window} or more steps and a window >= 1, got {len(losses)} steps")
    means = losses.unfold(0, window, 1).mean(-1)
    below = (means < threshold).numpy()
    return np.where(below.any(0), below.argmax(0) + window, len(losses) + 1)


def race(kind, activation, lr, split, *, steps=200, seeds=10, seed=0, **options):
    """Train one kind of net (see `build`) with plain SGD, minibatches of 32.

    Returns
    -------
    accuracy : array (seeds,), on the training set
    steps : array (seeds,), see `steps_to`
    """
    generator = torch.Generator().manual_seed(seed)
    model = build(kind, activation, members=seeds, generator=generator, **options)
    losses = train(model, split.x, split.y, steps=steps, lr=lr, momentum=0.0, generator=generator)
    return model.accuracy(split.x, split.y).numpy(), steps_to(losses)


def drift(kind, activation, lr, split, *, after=50, layer=5, seeds=10, seed=0, **options):
    """How far the distribution of a layer's input jumps in one training step, for each seed.

    The root mean square over the units of `layer` of the change of the unit's mean pre-activation, on the first
    256 training inputs, in the step that follows `after` steps of plain SGD.

    Returns
    -------
    array (seeds,)
    """
    generator = torch.Generator().manual_seed(seed)
    model = build(kind, activation, members=seeds, generator=generator, **options)
    means = []
    for steps in (after, 1):
        train(model, split.x, split.y, steps=steps, lr=lr, momentum=0.0, generator=generator)
        with torch.no_grad():
            means.append(model.preactivations(split.x[:256])[layer - 1].mean(1))
    return (means[1] - means[0]).square().mean(1).sqrt().numpy()


def _known(activation):
    if activation not in SCALE:
        raise ValueError(f"expected an activation out of {', '.join(SCALE)}; got {activation!r}")


def _check(x, **vectors):
    if x.ndim != 2:
        raise ValueError(f"expected x of shape (batch, features), got {tuple(x.shape)}")
    for name, vector in vectors.items():
        if vector.shape != x.shape[1:]:
            raise ValueError(f"expected {name} of shape {tuple(x.shape[1:])}, got {tuple(vector.shape)}")


def _rows(x):
    if len(x) < 2:
        raise ValueError(f"expected two or more inputs in a batch to train on, got {len(x)}")
    return len(x)


def _features(x):
    if x.ndim < 1 or x.shape[-1] < 2:
        raise ValueError(f"expected x of shape (…, features) with two or more features, got {tuple(x.shape)}")
