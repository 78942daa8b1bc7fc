"""Weight updates: how far a step moves each layer, and what becomes of a layer that it hardly moves.

Layers are counted from the input: l = 1 is the first, l = L the last hidden one, l = L + 1 the read-out.
"""

import bisect
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from . import bands, ensemble, theory
from .activations import get

# --- one step --------------------------------------------------------------------------------------------


def update_ratios(before, after):
    """‖w_after − w_before‖ / ‖w_before‖ for each named tensor: the relative change that a step has made.

    Parameters
    ----------
    before, after : mapping of str to tensor
        For instance two copies of ``dict(model.named_parameters())``. Copy ``before`` (``.detach().clone()``):
        a state_dict shares its memory with the model. Integer tensors are left out.

    Returns
    -------
    dict of str to float
        Frobenius norms, no unit, in the order of ``before``. Weights that were all 0 give inf, or 0 if they
        have not moved.

    Raises
    ------
    ValueError
        If names or shapes differ, a value is no tensor, or a weight is not finite.
    """
    if set(before) != set(after):
        raise ValueError(f"expected the same names before and after, got {sorted(set(before) ^ set(after))} in one only")
    ratios = {}
    for name, old in before.items():
        new = after[name]
        if not (isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor)):
            raise ValueError(f"expected tensors, got {type(old).__name__} and {type(new).__name__} for {name!r}")
        if old.shape != new.shape:
            raise ValueError(f"expected equal shapes, got {tuple(old.shape)} and {tuple(new.shape)} for {name!r}")
        if not old.is_floating_point():
            continue
        old, new = old.detach().double(), new.detach().double()
        if not (old.isfinite().all() and new.isfinite().all()):
            raise ValueError(f"expected finite weights, got inf or NaN in {name!r}")
        moved, size = (new - old).norm().item(), old.norm().item()
        ratios[name] = moved / size if size else (math.inf if moved else 0.0)
    return ratios


def adam_share(gradient, eps=1e-8):
    """|g|/(|g| + ε): the share of its learning rate by which Adam moves a weight whose gradient is constant.

    1 for any |g| far above ε, |g|/ε far below [Kingma and Ba 2015].

    Parameters
    ----------
    gradient : array_like
    eps : float
        Adam's ε > 0.
    """
    if not eps > 0:
        raise ValueError(f"expected eps > 0, got {eps}")
    size = np.abs(np.asarray(gradient, dtype=float))
    return (size / (size + eps))[()]


class LayerNorms(NamedTuple):
    """What `layer_norms` measures; arrays of shape (members, layers), `loss` of shape (members,)."""

    loss: np.ndarray
    delta: np.ndarray
    input: np.ndarray
    gradient: np.ndarray
    weight: np.ndarray

    def update_ratio(self, lr):
        """lr·‖∂ℒ/∂W‖/‖W‖: the relative change that one plain SGD step makes, shape (members, layers)."""
        return lr * self.gradient / self.weight


def layer_norms(net, x, y):
    """Frobenius norms of every member and layer, for the mean cross-entropy ℒ of one batch.

    `delta` is ‖∂ℒ/∂z_l‖ and `input` is ‖a_{l−1}‖, both over the whole batch; `gradient` is ‖∂ℒ/∂W_l‖ and
    `weight` is ‖W_l‖. For a single sample `gradient` = `delta`·`input` exactly. Norms, not squared.

    Parameters
    ----------
    net : Ensemble
    x, y : tensors of shape (batch, in) and (batch,)

    Returns
    -------
    LayerNorms
        Layers 1 … L + 1.
    """
    if len(x) != len(y):
        raise ValueError(f"expected as many labels as inputs, got {len(y)} and {len(x)}")
    z = net.preactivations(x)
    losses = F.cross_entropy(z[-1].flatten(0, 1), y.repeat(net.members), reduction="none").view(net.members, -1).mean(1)
    gradients = torch.autograd.grad(losses.sum(), [*z, *net.weights])
    inputs = [x.expand(net.members, -1, -1), *map(net.activation, z[:-1])]

    def norms(tensors):
        return torch.stack([t.detach().norm(dim=(1, 2)) for t in tensors], 1).numpy()

    return LayerNorms(
        losses.detach().numpy(), norms(gradients[: len(z)]), norms(inputs), norms(gradients[len(z) :]), norms(net.weights)
    )


class NormProfile(NamedTuple):
    """Mean-field norms of the hidden layers 1 … L, each relative to layer L; arrays of shape (L,)."""

    delta: np.ndarray
    input: np.ndarray
    gradient: np.ndarray


def norm_profile(activation, sigma_w2, sigma_b2=0.0, *, depth):
    """What mean-field theory predicts for `layer_norms` of a random net whose inputs have mean square 1.

    ‖δ_l‖² = χ₁(q_l) ‖δ_{l+1}‖², and E a_{l−1}² = E φ(√q_{l−1} Z)², along the variances that start at
    q_1 = σ_w² + σ_b² [Schoenholz et al. 2017]. The weight gradient is their product. These are *norms*: the
    square roots are taken.
    """
    phi = get(activation)
    q = theory.q_trajectory(phi, sigma_w2, sigma_b2, sigma_w2 + sigma_b2, depth)
    delta = np.sqrt(theory.gradient_profile(phi, sigma_w2, sigma_b2, depth=depth))
    inputs = np.sqrt([1.0, *(theory.gaussian_mean(lambda z: phi(z) ** 2, v, phi.kinks) for v in q[:-1])])
    inputs = inputs / inputs[-1]
    return NormProfile(delta, inputs, delta * inputs)


def draw_ratios(ax, ratios):
    """Draw update ratios against the layer on a log axis, with the limits of three number formats.

    A dotted line is half the gap at w = 1: about where a step no longer changes a typical weight.

    Parameters
    ----------
    ax : Axes
    ratios : array of shape (nets, layers)

    Returns
    -------
    Axes
    """
    bands.draw(ax, np.arange(1, ratios.shape[1] + 1), ratios, log=True)
    across = ax.get_yaxis_transform()
    for dtype, side in [(torch.bfloat16, "bottom"), (torch.float16, "top"), (torch.float32, "top")]:
        limit, name = half_gap(1.0, dtype), str(dtype).removeprefix("torch.")
        ax.axhline(limit, color="0.4", linestyle=":", linewidth=1)
        ax.text(0.99, limit, name, transform=across, ha="right", va=side, fontsize=9, color="0.3")
    ax.set(yscale="log", xlabel="layer l", ylabel="update ratio ‖ΔW‖/‖W‖")
    ax.minorticks_off()
    return ax


# --- training with a dose --------------------------------------------------------------------------------


def attenuation(rho, hidden):
    """The dose ρ as factors on the layers' gradients: ρ^(L + 1 − l) for l = 1 … L + 1, with L = `hidden`.

    The read-out keeps its gradient, the last hidden layer gets a factor ρ, the first one ρ^L.

    Returns
    -------
    tensor of shape (hidden + 1,)
        `layer_scale` of `signalprop.ensemble.train`.
    """
    if not 0 <= rho <= 1 or hidden < 1:
        raise ValueError(f"expected 0 <= rho <= 1 and hidden >= 1, got {rho} and {hidden}")
    return rho ** torch.arange(hidden, -1, -1, dtype=torch.float64)


def frozen(layers, hidden):
    """The control: 0 for the first `layers` layers, 1 for the rest, as `attenuation` has it."""
    if not 0 <= layers <= hidden + 1:
        raise ValueError(f"expected between 0 and {hidden + 1} layers, got {layers}")
    return (torch.arange(1, hidden + 2) > layers).double()


class Trained(NamedTuple):
    """Nets after training: `accuracy` on the test set, shape (seeds,); `moved` is ‖W_after − W_before‖/‖W_before‖
    over the whole training, shape (seeds, layers)."""

    net: ensemble.Ensemble
    accuracy: np.ndarray
    moved: np.ndarray


def trained(split, *, hidden, width=32, activation="relu", sigma_w2=2.0, seeds=20, seed=0, steps=160, **settings):
    """Train `seeds` nets of L = `hidden` hidden layers; `settings` go to `signalprop.ensemble.train`.

    Calls with the same `seed` and shape start from the same weights and see the same minibatches: their
    results are paired.

    Parameters
    ----------
    split : Split
        From `signalprop.data`.

    Returns
    -------
    Trained
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [split.x.shape[1], *[width] * hidden, 10]
    net = ensemble.Ensemble(seeds, sizes, activation, sigma_w2, generator=generator)
    start = [w.detach().clone() for w in net.weights]
    ensemble.train(net, split.x, split.y, steps=steps, generator=generator, **settings)
    moved = [(w.detach() - s).norm(dim=(1, 2)) / s.norm(dim=(1, 2)) for w, s in zip(net.weights, start)]
    return Trained(net, net.accuracy(split.x_test, split.y_test).numpy(), torch.stack(moved, 1).numpy())


# --- number formats --------------------------------------------------------------------------------------


def half_gap(w, dtype=torch.float32):
    """Half the distance from |w| to the next larger number of a format, in units of w.

    A weight that gets an update of a smaller size is rounded back to itself. For a power of two the next
    number on the other side is half as far away.

    Raises
    ------
    ValueError
        If w is not finite in this format.
    """
    info, w = torch.finfo(dtype), abs(_rounded(w, dtype))
    # |w| = m·2^e with ½ ≤ m < 1; below the smallest normal number the spacing no longer shrinks.
    power = 2.0 ** (math.frexp(w)[1] - 1) if w else 0.0
    return max(power, info.smallest_normal) * info.eps / 2


def lost_update_depth(w, lr, g, factor, dtype=torch.float32):
    """The first depth d = 0, 1, 2, … at which a step leaves the weight as it was: w − lr·g·factor^d = w.

    d counts layers below the one with gradient g; `factor` is what each of them multiplies the gradient by
    (the norm's factor, √χ₁). The weight and the update are numbers of the format, and so is their difference
    (rounded to nearest, ties to even).

    Parameters
    ----------
    w, lr, g : float
    factor : float
        0 < factor < 1.
    dtype : torch.dtype
        A floating-point format.

    Raises
    ------
    ValueError
        If the factor is not between 0 and 1, or w or lr·g is not finite in the format.
    """
    weight = torch.tensor(_rounded(w, dtype), dtype=dtype)
    return _first_depth(lambda update: weight - update == weight, lr * g, factor, dtype)


def underflow_depth(g, factor, dtype=torch.float32):
    """The first depth d = 0, 1, 2, … at which the gradient g·factor^d is rounded to 0; see `lost_update_depth`."""
    return _first_depth(lambda gradient: gradient == 0, g, factor, dtype)


def _first_depth(is_lost, start, factor, dtype):
    if not 0 < factor < 1:
        raise ValueError(f"expected 0 < factor < 1, got {factor}")
    start = _finite(start, dtype)
    if start == 0:
        return 0
    # Beyond `limit` everything is rounded to 0, so that nothing is left to look at.
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    limit = max(math.ceil((math.log(smallest) - math.log(4 * abs(start))) / math.log(factor)), 0)
    # What is lost at one depth is lost at every larger one.
    return bisect.bisect_left(
        range(limit + 1), True, key=lambda d: bool(is_lost(torch.tensor(start * factor**d, dtype=dtype)))
    )


def _rounded(value, dtype):
    return torch.tensor(_finite(value, dtype), dtype=dtype).item()


def _finite(value, dtype):
    value = float(value)
    if not (math.isfinite(value) and abs(value) <= torch.finfo(dtype).max):
        raise ValueError(f"expected a number that is finite in {dtype}, got {value}")
    return value
