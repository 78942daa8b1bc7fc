"""Gradient clipping and loss scaling: what they do to a step, and to which nets that helps."""

import copy
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import erf
from scipy.stats import norm as normal

from .recurrent import VALUES, Rnn, recall

# --- clipping the gradients of one model ------------------------------------------------------------------


def clip_(params, max_norm):
    """Scale the gradients of `params`, in place and by one factor, so that their joint norm is at most `max_norm`.

    g ← g · min(1, θ/‖g‖), ‖g‖ the 2-norm of all gradients together [Pascanu et al. 2013, Algorithm 1].

    Parameters
    ----------
    params : iterable of tensors
        Those without a gradient are skipped.
    max_norm : float
        θ > 0.

    Returns
    -------
    tensor of shape ()
        ‖g‖ before clipping.

    Raises
    ------
    ValueError
        If `max_norm` is not positive.
    """
    if not max_norm > 0:
        raise ValueError(f"expected max_norm > 0, got {max_norm}")
    gradients = [p.grad for p in params if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    total = torch.stack([g.norm() for g in gradients]).norm()
    factor = torch.clamp(max_norm / total, max=1)  # θ/0 = inf, and min(1, inf) = 1
    for g in gradients:
        g.mul_(factor)
    return total


def agc(W, G, lam=0.01, eps=1e-3):
    """Adaptive gradient clipping: each unit's gradient has at most `lam` times the norm of its weights.

    G_i ← G_i · min(1, λ max(‖W_i‖, ε)/‖G_i‖) for each row i, the weights into one unit [Brock et al. 2021].

    Parameters
    ----------
    W, G : tensors of shape (..., out, in), or (n,)
        Weights and their gradient. A vector counts as one row.
    lam : float
        λ > 0.
    eps : float
        ε > 0: without it, weights that start at 0 would stay there.

    Returns
    -------
    tensor of the shape of G

    Raises
    ------
    ValueError
        If the shapes differ, or λ or ε is not positive.
    """
    if W.shape != G.shape or W.ndim < 1:
        raise ValueError(f"expected weights and gradient of the same shape, got {tuple(W.shape)} and {tuple(G.shape)}")
    if not (lam > 0 and eps > 0):
        raise ValueError(f"expected lam > 0 and eps > 0, got {lam} and {eps}")
    limit = lam * W.norm(dim=-1, keepdim=True).clamp(min=eps)
    return G * torch.clamp(limit / G.norm(dim=-1, keepdim=True), max=1)


def value_cosine(share):
    """Cosine between a Gaussian gradient and the same clipped by value, where `share` of the entries are left alone.

    With entries g ~ N(0, 1) and limit κ, share = P(|g| < κ). By Stein's lemma E[g clip(g)] = share, and
    E[clip(g)²] = share − 2κ n(κ) + κ² (1 − share) with n the normal density. As share → 0 the clipped gradient
    is its sign, and the cosine √(2/π).

    Raises
    ------
    ValueError
        If `share` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"expected a share between 0 and 1, got {share}")
    kappa = normal.ppf((1 + share) / 2)
    return share / math.sqrt(share - 2 * kappa * normal.pdf(kappa) + kappa**2 * (1 - share))


# --- clipping the gradients of many nets ------------------------------------------------------------------


def norms(gradients):
    """Joint norm of each member's gradients: tensors of shape (members, …) -> (members,)."""
    return torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)


CLIPPERS = ("none", "norm", "tensor", "value", "adaptive", "normalise")


def clipper(name, threshold=None):
    """A function (gradients, parameters) that clips each member of an ensemble by itself, in place.

    ===========  ===============================================================================
    none         nothing
    norm         the joint norm is at most `threshold`
    tensor       the norm of each tensor is at most `threshold`, one by one
    value        each entry lies between −`threshold` and `threshold`
    adaptive     `agc` with λ = `threshold`
    normalise    the joint norm becomes 1, whether it was larger or smaller; takes no threshold
    ===========  ===============================================================================

    Both arguments of the function are lists of tensors of shape (members, …).

    Raises
    ------
    ValueError
        If the name is unknown, or the threshold is not positive, missing, or too much.
    """
    if name not in CLIPPERS:
        raise ValueError(f"expected a clipper out of {', '.join(CLIPPERS)}; got {name!r}")
    if name in ("none", "normalise"):
        if threshold is not None:
            raise ValueError(f"expected no threshold for {name!r}, got {threshold}")
    elif threshold is None or not threshold > 0:
        raise ValueError(f"expected a threshold > 0 for {name!r}, got {threshold}")

    def scale(gradients, factors):
        for g in gradients:
            g.mul_(factors.view(-1, *[1] * (g.ndim - 1)))

    def clip(gradients, parameters):
        if name == "norm":
            scale(gradients, torch.clamp(threshold / norms(gradients), max=1))
        elif name == "normalise":
            scale(gradients, 1 / norms(gradients))
        for g, p in zip(gradients, parameters):
            if name == "tensor":
                scale([g], torch.clamp(threshold / norms([g]), max=1))
            elif name == "value":
                g.clamp_(-threshold, threshold)
            elif name == "adaptive":
                g.copy_(agc(p, g, threshold))

    return clip


def copies(model, times):
    """Give all of `times` blocks of an ensemble's members the weights of the first block, in place."""
    if model.members % times:
        raise ValueError(f"expected a number of members that {times} divides, got {model.members}")
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p[: model.members // times].repeat(times, *[1] * (p.ndim - 1)))
    return model


def train(model, x, y, *, steps, lr, clip=None, batch_size=16, generator):
    """Train every member by plain SGD, with any clipper between the gradient and the step.

    Parameters
    ----------
    model : Members
    x, y : tensors of shape (n, …) and (n,)
    lr : float or tensor of shape (members,)
    clip : callable, optional
        See `clipper`.
    generator : torch.Generator
        Draws each member's minibatches.

    Returns
    -------
    tensor of shape (steps, members)
        Norm of each member's gradient before clipping; not finite once it has diverged.
    """
    if steps < 1 or batch_size < 1:
        raise ValueError(f"expected steps >= 1 and batch_size >= 1, got {steps} and {batch_size}")
    parameters = list(model.parameters())
    lr = torch.as_tensor(lr, dtype=parameters[0].dtype).expand(model.members)
    rates = [lr.view(-1, *[1] * (p.ndim - 1)) for p in parameters]
    history = []
    for _ in range(steps):
        batch = torch.randint(len(x), (model.members, batch_size), generator=generator)
        loss = model.losses(x[batch], y[batch]).sum()
        gradients = [g.clone() for g in torch.autograd.grad(loss, parameters)]
        with torch.no_grad():
            history.append(norms(gradients))
            if clip is not None:
                clip(gradients, parameters)
            torch._foreach_mul_(gradients, rates)
            torch._foreach_sub_(parameters, gradients)
    return torch.stack(history)


# --- recall by a recurrent net ----------------------------------------------------------------------------

class Recalled(NamedTuple):
    """What `remember` measures.

    accuracy : array (seeds,), share of right answers on 500 new sequences; a diverged net counts as chance
    norms : array (steps, seeds), norm of the gradient before clipping; inf once a net has diverged
    radius : array (seeds,), spectral radius of W_h after training; inf if the net has diverged
    """

    accuracy: np.ndarray
    norms: np.ndarray
    radius: np.ndarray


def remember(radius, name, threshold=None, *, lr, lag=40, steps=250, seeds=12, seed=0):
    """Train tanh RNNs of 32 units on the recall task by clipped SGD, on minibatches of 16.

    Seeds start from the same weights and see the same minibatches, whatever the clipper and the learning rate.

    Parameters
    ----------
    radius : float
        W_h starts as a random orthogonal matrix times this number: all its eigenvalues have this modulus.
    name, threshold
        Of the `clipper`.
    lr : float
    lag : int
        Distractors between the first symbol and the answer.

    Returns
    -------
    Recalled
    """
    data = recall(lag, generator=torch.Generator().manual_seed(1000 + seed))
    generator = torch.Generator().manual_seed(seed)
    shape = (data.x.shape[-1], 32, VALUES)
    model = Rnn(seeds, *shape, init="orthogonal", sigma_w2=radius**2, generator=generator)
    norms = train(model, data.x, data.y, steps=steps, lr=lr, clip=clipper(name, threshold), generator=generator)
    weight = model.weight_h.detach()
    finite = weight.isfinite().all(-1).all(-1)
    moduli = torch.linalg.eigvals(torch.where(finite[:, None, None], weight, 0.0)).abs().amax(1)
    return Recalled(
        model.accuracy(data.x_test, data.y_test).numpy(),
        norms.nan_to_num(nan=math.inf, posinf=math.inf).numpy(),
        torch.where(finite, moduli, math.inf).numpy(),
    )


# --- the cliff --------------------------------------------------------------------------------------------


def cliff(w, b, steps=50):
    """Error of one recurrent unit after `steps` steps [Pascanu et al. 2013, Fig. 6].

    x ← w σ(x) + b from x = 0.5; the error is (σ(x) − 0.7)².

    Parameters
    ----------
    w, b : tensors of one shape

    Returns
    -------
    tensor of that shape
    """
    x = torch.full_like(w, 0.5)
    for _ in range(steps):
        x = w * torch.sigmoid(x) + b
    return (torch.sigmoid(x) - 0.7) ** 2


def slope_and_curvature(w, b):
    """Of `cliff`: norm of the gradient, and largest absolute eigenvalue of the Hessian, each of the shape of w (n,)."""
    p = torch.stack([w, b]).detach().requires_grad_(True)
    (g,) = torch.autograd.grad(cliff(*p).sum(), p, create_graph=True)
    rows = [torch.autograd.grad(g[i].sum(), p, retain_graph=True)[0] for i in (0, 1)]
    hessian = torch.stack(rows).permute(2, 0, 1)
    return g.detach().norm(dim=0), torch.linalg.eigvalsh(hessian).abs().amax(1)


def descend(start, *, lr, steps, clip=None):
    """Gradient descent on the cliff from many starts at once.

    Parameters
    ----------
    start : tensor (n, 2)
        (w, b) of each.
    clip : callable, optional
        See `clipper`; each start is a member.

    Returns
    -------
    tensor (steps + 1, n, 2)
        Where each was.
    """
    path = [start]
    for _ in range(steps):
        p = path[-1].clone().requires_grad_(True)
        (g,) = torch.autograd.grad(cliff(p[:, 0], p[:, 1]).sum(), p)
        if clip is not None:
            clip([g], [p])
        path.append((p - lr * g).detach())
    return torch.stack(path)


# --- the length of a step ---------------------------------------------------------------------------------


def cosh_steps(x, lr, max_norm=math.inf, tolerance=1e-3, limit=200_000):
    """Steps of (clipped) gradient descent on f(x) = 2 cosh x until |x| < `tolerance`; inf if it never comes.

    f'' = f ≤ 2 + |f'|: this f is (L₀, L₁)-smooth with L₀ = 2 and L₁ = 1 [Zhang et al. 2020].

    Parameters
    ----------
    x : float
        Where it starts, |x| <= 700.
    """
    if not abs(x) <= 700:
        raise ValueError(f"expected a start between -700 and 700, got {x}")
    for step in range(limit + 1):
        if abs(x) < tolerance:
            return step
        if abs(x) > 700:  # cosh 710 is no finite number any more
            return math.inf
        g = 2 * math.sinh(x)
        x -= lr * math.copysign(min(abs(g), max_norm), g)
    return math.inf


def sharpness(model, x, target, *, lrs, steps, every, generator):
    """Full-batch gradient descent on the squared error, and the largest Hessian eigenvalue on the way.

    Parameters
    ----------
    model : Members
        Trained in place; the loss is ½ Σ (output − target)², meant over the inputs.
    x, target : tensors (n, in) and (n, classes)
    lrs : tensor (members,)
    every : int
        Steps between two looks. Each look takes ten power iterations from where the last one ended.
    generator : torch.Generator
        Draws the first direction of the power iteration.

    Returns
    -------
    array (looks, members)
        At steps 0, `every`, 2·`every`, … up to `steps`.
    """
    parameters = list(model.parameters())
    rates = [lrs.view(-1, *[1] * (p.ndim - 1)) for p in parameters]
    v = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    seen = []
    for step in range(steps + 1):
        look = step % every == 0
        loss = (model(x) - target).square().sum(-1).mean(-1).sum() / 2
        gradients = torch.autograd.grad(loss, parameters, create_graph=look)
        if look:
            for _ in range(10):
                length = norms(v)
                v = [u / length.view(-1, *[1] * (u.ndim - 1)) for u in v]
                product = torch.autograd.grad(gradients, parameters, v, retain_graph=True)
                top = sum((a * b).flatten(1).sum(1) for a, b in zip(v, product))
                v = list(product)
            seen.append(top.numpy())
        with torch.no_grad():
            for p, g, rate in zip(parameters, gradients, rates):
                p.sub_(rate * g)
    return np.stack(seen)


# --- float16 ----------------------------------------------------------------------------------------------


def scaled_step(gradients, scale, max_norm=None):
    """What loss scaling makes of true gradients: times `scale`, to float16, back, divided by `scale`, clipped.

    Parameters
    ----------
    gradients : list of tensors
        In float32 or float64.
    scale : float
        Factor on the loss, > 0.
    max_norm : float, optional
        Limit for the joint norm, in the units of the true gradients.

    Returns
    -------
    list of tensors in the type of `gradients`, or None
        None if an entry overflows: the step is to be skipped and the scale lowered.

    Raises
    ------
    ValueError
        If `scale` or `max_norm` is not positive.
    """
    if not scale > 0 or max_norm is not None and not max_norm > 0:
        raise ValueError(f"expected scale > 0 and max_norm > 0 or None, got {scale} and {max_norm}")
    halves = [(g * scale).half() for g in gradients]
    if not all(h.isfinite().all() for h in halves):
        return None
    result = [h.to(g.dtype) / scale for h, g in zip(halves, gradients)]
    if max_norm is not None:
        factor = torch.clamp(max_norm / torch.stack([g.norm() for g in result]).norm(), max=1)
        result = [g * factor for g in result]
    return result


def zero_share(std, scale=1.0):
    """Share of Gaussian gradients that float16 rounds to 0 after scaling: P(|g|·scale ≤ 2⁻²⁵), averaged over `std`.

    2⁻²⁵ is half of the smallest number of the format; it is rounded to even, to 0.

    Parameters
    ----------
    std : array_like
        Standard deviations, > 0; all weigh the same.
    """
    std = np.asarray(std, dtype=float)
    if not ((std > 0).all() and scale > 0):
        raise ValueError(f"expected positive standard deviations and scale, got {std.min()} and {scale}")
    return float(erf(2.0**-25 / (scale * std * math.sqrt(2))).mean())


def spreads(gradient):
    """Standard deviations of a weight gradient's entries, if each is a row's scale times a column's.

    Parameters
    ----------
    gradient : tensor (out, in)

    Returns
    -------
    array (out, in)
        Row rms × column rms / rms.
    """
    square = gradient.square()
    return (square.mean(1, keepdim=True) * square.mean(0) / square.mean()).sqrt().numpy()


def half_backward(model, x, y, scales):
    """Run a float16 copy of a classifier forward and back, with the loss multiplied by each of `scales`.

    Parameters
    ----------
    model : nn.Module
    x, y : tensors (n, in) and (n,)
    scales : sequence of float

    Returns
    -------
    tuple of arrays (scales,)
        Share of zeros in the gradient of the first parameter, among the inputs that are not 0 everywhere; and
        whether any gradient of the net overflows.
    """
    half = copy.deepcopy(model).half()
    parameters, live = list(half.parameters()), (x != 0).any(0)
    loss = F.cross_entropy(half(x.half()).double(), y)
    zeros, overflow = [], []
    for scale in scales:
        gradients = torch.autograd.grad(loss * scale, parameters, retain_graph=True)
        zeros.append((gradients[0][:, live] == 0).double().mean().item())
        overflow.append(not all(g.isfinite().all() for g in gradients))
    return np.array(zeros), np.array(overflow)
