"""Train many seeds and configurations of one net at once.

The members' weights are stacked, so that one batched matrix product moves all of them. Members never
interact: each sees its own minibatches, and the sum of their losses has a gradient that is block-diagonal.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .activations import ACTIVATIONS, get
from .progress import progress as bar


class Members(torch.nn.Module):
    """E nets of the same shape that train side by side: the base of every ensemble.

    A subclass defines ``forward(x)``. It maps x of shape (batch, …), the same inputs for all, or
    (members, batch, …), each member its own, to logits of shape (members, batch, classes). Every parameter has a
    leading dimension `members`, and a member's logits depend on its own slice only.

    Parameters
    ----------
    members : int
        E.
    classes : int
    """

    def __init__(self, members, classes):
        super().__init__()
        self.members, self.classes = members, classes

    def losses(self, x, y):
        """Mean cross-entropy of each member in nats, shape (members,); y is (batch,) or (members, batch)."""
        logits = self(x)
        return F.cross_entropy(logits.mT, y.expand(self.members, -1), reduction="none").mean(1)

    @torch.no_grad()
    def accuracy(self, x, y):
        """Share of right answers of each member, shape (members,). A diverged member counts as chance, 1/classes."""
        logits = self(x)
        hits = (logits.argmax(-1) == y).double().mean(-1)
        finite = logits.isfinite().all(-1).all(-1)
        return torch.where(finite, hits, 1 / self.classes)


NORMS = (None, "batch", "layer", "rms")
EPS = 1e-5  # added to the variance, or to the mean square, under the root


def normalise(z, norm):
    """Normalise pre-activations without gain and bias.

    "batch": each unit to mean 0 and variance 1 over the batch at hand [Ioffe and Szegedy 2015]; "layer": each
    input to mean 0 and variance 1 over the units [Ba et al. 2016]; "rms": each input to mean square 1 over the
    units [Zhang and Sennrich 2019]; None: as it is.

    Parameters
    ----------
    z : tensor (members, batch, units)
    norm : {None, "batch", "layer", "rms"}

    Returns
    -------
    tensor of the shape of z

    Raises
    ------
    ValueError
        If the norm is unknown, or a batch of one input is to be normalised over the batch.
    """
    if norm == "batch":
        if z.shape[1] < 2:
            raise ValueError(f"expected two or more inputs to normalise over the batch, got {z.shape[1]}")
        members, batch, units = z.shape
        flat = z.transpose(0, 1).reshape(batch, members * units)
        return F.batch_norm(flat, None, None, training=True, eps=EPS).view(batch, members, units).transpose(0, 1)
    if norm == "layer":
        return F.layer_norm(z, z.shape[-1:], eps=EPS)
    if norm == "rms":
        return z * (z.square().mean(-1, keepdim=True) + EPS).rsqrt()
    if norm is None:
        return z
    raise ValueError(f"expected norm to be one of {', '.join(map(repr, NORMS))}; got {norm!r}")


class Ensemble(Members):
    """E fully connected nets.

    Parameters
    ----------
    members : int
        E.
    sizes : sequence of int
        Features of the input, of each hidden layer, and of the output.
    activation : str or callable
        See `signalprop.activations.get`.
    sigma_w2, sigma_b2 : float or tensor of shape (members,)
        Scale of the initial weights and biases, as in `signalprop.nets.init_`.
    norm : {None, "batch", "layer", "rms"}
        How each hidden layer is normalised, see `normalise`: z = gain · normalise(W a) + b. The gain starts at 1.
        The read-out is not normalised.
    generator : torch.Generator
        Where the randomness comes from.

    Attributes
    ----------
    weights : ParameterList of shape (members, out, in) each
    biases : ParameterList of shape (members, 1, out) each
    gains : ParameterList of shape (members, 1, out) each
        One for each hidden layer; empty without a norm.
    """

    def __init__(self, members, sizes, activation, sigma_w2=1.0, sigma_b2=0.0, *, norm=None, generator, dtype=torch.float64):
        if members < 1 or len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"expected members >= 1 and two or more positive sizes, got {members}, {list(sizes)}")
        if norm not in NORMS:
            raise ValueError(f"expected norm to be one of {', '.join(map(repr, NORMS))}; got {norm!r}")
        super().__init__(members, sizes[-1])
        self.sizes, self.activation, self.norm = tuple(sizes), get(activation), norm
        std_w, std_b = (
            torch.as_tensor(v, dtype=dtype).broadcast_to(members).sqrt()[:, None, None] for v in (sigma_w2, sigma_b2)
        )
        if not (torch.isfinite(std_w).all() and torch.isfinite(std_b).all()):
            raise ValueError(f"expected finite variances >= 0, got sigma_w2 = {sigma_w2}, sigma_b2 = {sigma_b2}")

        def normal(*shape):
            return torch.randn(members, *shape, generator=generator, dtype=dtype)

        self.weights, self.biases, self.gains = (torch.nn.ParameterList() for _ in range(3))
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:]):
            self.weights.append(normal(fan_out, fan_in) * std_w / math.sqrt(fan_in))
            self.biases.append(normal(1, fan_out) * std_b)
        if norm is not None:
            self.gains.extend(torch.ones(members, 1, n, dtype=dtype) for n in sizes[1:-1])

    def preactivations(self, x):
        """What enters φ in every layer, and the logits: a list of z, each (members, batch, features).

        x is (batch, in) or (members, batch, in). With a norm, z is what comes out of it.
        """
        a, z = x.expand(self.members, -1, -1), []
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            if layer < len(self.gains):
                z.append(normalise(a @ weight.mT, self.norm) * self.gains[layer] + bias)
            else:
                z.append(torch.baddbmm(bias, a, weight.mT))
            a = self.activation(z[-1])
        return z

    def forward(self, x):
        """Logits of shape (members, batch, classes)."""
        return self.preactivations(x)[-1]

    def layers(self):
        """The parameters of each layer, a list of lists, the read-out last."""
        return [[w, b, *self.gains[i : i + 1]] for i, (w, b) in enumerate(zip(self.weights, self.biases))]


class Signals(NamedTuple):
    """What `propagate` measures in random nets.

    z : list over the hidden layers of tensors (members, batch, width), the pre-activations: what enters φ
    q : array (members, depth), mean of z² over batch and units
    gradient : array (members, depth), *squared* norm ‖∂ℒ/∂z_l‖², summed over batch and units
    """

    z: list
    q: np.ndarray
    gradient: np.ndarray


def propagate(
    activation, sigma_w2, sigma_b2=0.0, *, width=200, depth=20, members=20, batch=1, norm=None, generator
):
    """Send random inputs forward and a gradient back through random nets at initialisation.

    Each net has `depth` hidden layers of `width` units and a random linear read-out to one number. The loss ℒ is
    the sum of that number over the batch. Each net gets inputs of its own, Gaussian, scaled to mean square 1, so
    that layer 1 has q = σ_w² + σ_b² on average.

    With batch normalisation ℒ is a sum with random weights, N(0, 1) for each input: a gradient that is the same
    for all inputs is what this norm takes away.

    Parameters
    ----------
    activation, sigma_w2, sigma_b2
        As in `signalprop.nets.mlp`.
    members : int
        Nets to draw.
    norm : {None, "batch", "layer", "rms"}
        As in `Ensemble`.
    generator : torch.Generator
        Where the randomness comes from.

    Returns
    -------
    Signals
        float64.
    """
    if depth < 1 or batch < 1:
        raise ValueError(f"expected depth >= 1 and batch >= 1, got {depth} and {batch}")
    sizes = [width] * (depth + 1) + [1]
    net = Ensemble(members, sizes, activation, sigma_w2, sigma_b2, norm=norm, generator=generator)
    x = torch.randn(members, batch, width, generator=generator, dtype=torch.float64)
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    *hidden, out = net.preactivations(x)
    if norm == "batch":
        out = out * torch.randn(out.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad(out.sum(), hidden)
    hidden = [z.detach() for z in hidden]
    q = torch.stack([z.square().mean((1, 2)) for z in hidden], 1)
    return Signals(hidden, q.numpy(), torch.stack([g.square().sum((1, 2)) for g in gradients], 1).numpy())


def train(
    model,
    x,
    y,
    *,
    steps,
    lr,
    optimiser="sgd",
    momentum=0.9,
    eps=1e-8,
    batch_size=32,
    layer_scale=None,
    clip=None,
    generator,
    progress=False,
):
    """Train every member on its own minibatches of (x, y), in place.

    Parameters
    ----------
    model : Members
    x, y : tensors of shape (n, …) and (n,)
    lr : float or tensor of shape (members,)
        Learning rate of each member.
    optimiser : {"sgd", "adam"}
        SGD with `momentum`, or Adam with β = (0.9, 0.999) and `eps` [Kingma and Ba 2015].
    layer_scale : tensor of shape (layers,) or (members, layers), optional
        For an `Ensemble`: factor on each layer's gradient after the backward pass; the forward pass and the
        backward pass through the other layers stay as they are. 0 freezes a layer.
    clip : float, optional
        Each member's gradient is scaled down to this norm if it is larger (all its parameters together, after
        `layer_scale`), by the formula of `torch.nn.utils.clip_grad_norm_`.
    generator : torch.Generator
        Draws the minibatches.
    progress : bool
        Draw a progress bar on stderr.

    Returns
    -------
    tensor of shape (steps, members)
        Minibatch loss of each member before each step, in nats; not finite once a member has diverged.

    Raises
    ------
    ValueError
        If the optimiser is unknown, `clip` is not positive, or shapes do not fit.
    """
    if optimiser not in ("sgd", "adam"):
        raise ValueError(f"expected optimiser 'sgd' or 'adam', got {optimiser!r}")
    if len(x) != len(y):
        raise ValueError(f"expected as many labels as inputs, got {len(y)} and {len(x)}")
    if steps < 1 or batch_size < 1:
        raise ValueError(f"expected steps >= 1 and batch_size >= 1, got {steps} and {batch_size}")
    if clip is not None and not clip > 0:
        raise ValueError(f"expected clip > 0 or None, got {clip}")
    members, dtype = model.members, next(model.parameters()).dtype
    if x.is_floating_point() and x.dtype != dtype:
        raise ValueError(f"expected x of the model's type {dtype}, got {x.dtype}")
    if isinstance(model, Ensemble) and x.shape[1:] != model.sizes[:1]:
        raise ValueError(f"expected x of shape (n, {model.sizes[0]}), got {tuple(x.shape)}")
    lr = _per_member(lr, members, "lr", dtype)
    scale = None
    if layer_scale is not None:
        if not isinstance(model, Ensemble):
            raise ValueError(f"expected an Ensemble with layer_scale, got {type(model).__name__}")
        scale = _per_member(layer_scale, members, "layer_scale", dtype, len(model.weights))
    batches = (torch.randint(len(x), (members, batch_size), generator=generator) for _ in range(steps))
    plain = type(model) is Ensemble and model.norm is None and all(p.requires_grad for p in model.parameters())
    run = (_by_hand if plain else _by_autograd)(
        model, x, y, batches, lr, scale, clip, optimiser=optimiser, momentum=momentum, eps=eps
    )
    return torch.stack(list(bar(run, steps, "training") if progress else run))


def _per_member(value, members, name, dtype, *more):
    """`value` as a tensor of shape (members, *more)."""
    value = torch.as_tensor(value, dtype=dtype)
    try:
        return value.broadcast_to(members, *more)
    except RuntimeError:
        shape = (members, *more)
        raise ValueError(f"expected {name} to fit the shape {shape}, got {tuple(value.shape)}") from None


def _by_autograd(model, x, y, batches, lr, scale, clip, **settings):
    """Train any `Members` by batched autograd; yields the losses (members,) before each step."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    update = _Update(parameters, [_column(lr, p) for p in parameters], **settings)
    if scale is not None:
        layer_of = {id(p): l for l, layer in enumerate(model.layers()) for p in layer}
        scale = [_column(scale[:, layer_of[id(p)]], p) for p in parameters]
    for batch in batches:
        losses = model.losses(x[batch], y[batch])
        gradients = torch.autograd.grad(losses.sum(), parameters)
        with torch.no_grad():
            # The fused kernels walk through memory as it lies.
            gradients = [g.contiguous() for g in gradients]
            if scale is not None:
                gradients = torch._foreach_mul(gradients, scale)
            if clip is not None:
                _clip_(gradients, clip)
            update(gradients)
        yield losses.detach()


class _Update:
    """SGD with momentum or Adam on a list of tensors, by PyTorch's fused kernels.

    Those know only one learning rate. If `lr` is not a number but a list of tensors that broadcast to the
    parameters, they move tensors of zeros at the rate 1, which are then added times `lr`.
    """

    def __init__(self, parameters, lr, *, optimiser, momentum, eps):
        def zeros():
            return [torch.zeros_like(p, memory_format=torch.contiguous_format) for p in parameters]

        self.parameters, self.lr, self.momentum, self.eps = parameters, lr, momentum, eps
        self.moved = parameters if isinstance(lr, float) else zeros()
        self.first = [] if optimiser == "sgd" and momentum == 0 else zeros()
        self.second = zeros() if optimiser == "adam" else None
        self.steps = torch.zeros(())

    def __call__(self, gradients):
        """One step; gradients and, if `lr` is a number, parameters must be contiguous."""
        direct = self.moved is self.parameters
        common = {"lr": self.lr if direct else 1.0, "weight_decay": 0.0, "maximize": False}
        if self.second is None:
            sgd = {"momentum": self.momentum, "dampening": 0.0, "nesterov": False, "is_first_step": False}
            torch._fused_sgd_(self.moved, gradients, self.first, **sgd, **common)
        else:
            self.steps += 1
            steps, adam = [self.steps] * len(gradients), {"beta1": 0.9, "beta2": 0.999, "eps": self.eps}
            torch._fused_adam_(self.moved, gradients, self.first, self.second, [], steps, amsgrad=False, **adam, **common)
        if not direct:
            torch._foreach_addcmul_(self.parameters, self.moved, self.lr)
            torch._foreach_zero_(self.moved)


def _clip_(gradients, clip):
    """Scale each member's gradient to the norm `clip` where it is larger; a list of (members, …), in place."""
    norms = torch.stack([torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in gradients], 1)
    factor = (clip / (torch.linalg.vector_norm(norms, dim=1) + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(_column(factor, g))


def _column(value, like):
    """`value` (members,) with as many dimensions as the tensor `like`."""
    return value.view(-1, *[1] * (like.ndim - 1))


# --- plain nets, by hand ---------------------------------------------------------------------------------
#
# The same steps as by autograd, without a graph. What makes them fast: results go into memory that is there
# already; a layer is updated while its gradient is in the cache; and a chunk of members does some steps before
# the next chunk, so that its weights stay in the cache too. The chunks change nothing but rounding, and not a bit
# on one thread with layers of 16, 32, 48, … units.

_CACHE = 4e6  # bytes of weights and activations in a chunk of members
_STEPS = 32  # of a chunk before the next one
_PAD = 32  # numbers; the kernels round the last few of a tensor differently if they do not fill a vector


@torch.no_grad()
def _by_hand(model, x, y, batches, lr, scale, clip, **settings):
    """What `_by_autograd` does, for an `Ensemble` without norm."""
    first = next(batches)
    batches = itertools.chain([first], batches)
    numbers = sum(p[0].numel() for p in model.parameters()) + first.shape[1] * sum(model.sizes)
    most = max(1, int(_CACHE / (numbers * lr.element_size())))
    edges = np.linspace(0, model.members, math.ceil(model.members / most) + 1).round().astype(int).tolist()
    chunks = [_Chunk(model, slice(*e), first.shape[1], lr, scale, clip, settings) for e in itertools.pairwise(edges)]
    while block := list(itertools.islice(batches, _STEPS)):
        losses = lr.new_empty(len(block), model.members)
        for chunk in chunks:
            for t, batch in enumerate(block):
                losses[t, chunk.rows] = chunk.step(x, y, batch[chunk.rows])
        yield from losses
    for chunk in chunks:
        for weight, bias, layer in zip(model.weights, model.biases, chunk.layers):
            weight[chunk.rows], bias[chunk.rows] = layer.weight, layer.bias


class _Chunk:
    """Some members of a plain ensemble, and the memory for one step."""

    def __init__(self, model, rows, batch_size, lr, scale, clip, settings):
        self.rows, self.clip, (self.phi, self.dphi) = rows, clip, _activation(model.activation)
        self.scale = None if scale is None else [_column(s, model.weights[0]) for s in scale[rows].T]
        rate = lr[0].item() if (lr == lr[0]).all() else lr[rows]
        members = rows.stop - rows.start
        # Only for its norm is a gradient needed after its layer's update; else all go to the same place.
        largest = max(w[rows].numel() + b[rows].numel() for w, b in zip(model.weights, model.biases))
        scratch = lr.new_zeros(largest + _PAD) if clip is None else None
        self.layers = [_Layer(w[rows], b[rows], rate, scratch, settings) for w, b in zip(model.weights, model.biases)]
        self.x, *self.z = (lr.new_empty(members, batch_size, n) for n in model.sizes)
        # ∂ℒ/∂a of two neighbours is needed at a time.
        spare = {n: [lr.new_empty(members, batch_size, n) for _ in range(2)] for n in model.sizes}
        self.delta = [spare[n][l % 2] for l, n in enumerate(model.sizes)]
        self.minus_one = lr.new_full((members, 1, batch_size), -1.0)

    def step(self, x, y, batch):
        """One step on x[batch] and y[batch]; returns the losses before it."""
        torch.index_select(x, 0, batch.flatten(), out=self.x.view(-1, x.shape[1]))
        a, memory = [self.x], [None]
        for layer, z in zip(self.layers, self.z):
            torch.baddbmm(layer.bias, a[-1], layer.weight.mT, out=z)
            if layer is not self.layers[-1]:
                value, remembered = self.phi(z)
                a.append(value)
                memory.append(remembered)
        # Softmax over the classes is far faster when they are not the innermost dimension.
        y = y[batch].unsqueeze(1)
        logp = torch.log_softmax(z.mT, 1)
        losses = logp.gather(1, y).mean((1, 2)).neg_()
        delta = logp.exp_().scatter_add_(1, y, self.minus_one).div_(y.shape[-1]).mT
        for l, layer in reversed(list(enumerate(self.layers))):
            torch.bmm(delta.mT, a[l], out=layer.dw)
            torch.sum(delta, 1, keepdim=True, out=layer.db)
            if self.scale is not None:
                layer.dw.mul_(self.scale[l])
                layer.db.mul_(self.scale[l])
            if l > 0:
                delta = self.dphi(torch.bmm(delta, layer.weight, out=self.delta[l]), memory[l])
            if self.clip is None:
                layer.update([layer.gradient])
        if self.clip is not None:
            _clip_([g for layer in self.layers for g in (layer.dw, layer.db)], self.clip)
            for layer in self.layers:
                layer.update([layer.gradient])
        return losses


class _Layer:
    """Weights and biases of one layer side by side, so that one call updates both; their gradient likewise."""

    def __init__(self, weight, bias, lr, scratch, settings):
        n, total = weight.numel(), weight.numel() + bias.numel()
        size = _PAD * math.ceil(total / _PAD)

        def parts(flat):
            return flat[:n].view_as(weight), flat[n:total].view_as(bias)

        flat = weight.new_zeros(size)
        self.gradient = torch.zeros_like(flat) if scratch is None else scratch[:size]
        (self.weight, self.bias), (self.dw, self.db) = parts(flat), parts(self.gradient)
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        if not isinstance(lr, float):
            rate = torch.zeros_like(flat)
            for part in parts(rate):
                part.copy_(_column(lr, part).expand_as(part))
            lr = [rate]
        self.update = _Update([flat], lr, **settings)


def _activation(phi):
    """φ and its backward pass: z → (a, what to remember), and (∂ℒ/∂a, what was remembered) → ∂ℒ/∂z."""
    if phi.name in _IN_PLACE and phi == ACTIVATIONS[phi.name]:
        forward, backward = _IN_PLACE[phi.name]
        return lambda z: (forward(z),) * 2, backward

    def forward(z):
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            a = phi(z)
        return a.detach(), (z, a)

    def backward(grad, memory):
        z, a = memory
        return torch.autograd.grad(a, z, grad)[0] if a.requires_grad else grad.zero_()  # else φ is constant

    return forward, backward


def _tanh_(z):
    np.tanh(z.numpy(), out=z.numpy())  # as accurate as PyTorch's, and three to six times as fast
    return z


# φ whose derivative can be read off its value: a = φ(z) in place of z, and φ′ · ∂ℒ/∂a in place of ∂ℒ/∂a.
_aten = torch.ops.aten
_IN_PLACE = {
    "linear": (lambda z: z, lambda grad, a: grad),
    "sigmoid": (torch.sigmoid_, lambda grad, a: _aten.sigmoid_backward.grad_input(grad, a, grad_input=grad)),
    "tanh": (_tanh_, lambda grad, a: _aten.tanh_backward.grad_input(grad, a, grad_input=grad)),
    "relu": (torch.relu_, lambda grad, a: _aten.threshold_backward.grad_input(grad, a, 0, grad_input=grad)),
}


# --- learning rates ---------------------------------------------------------------------------------------


class Sweep(NamedTuple):
    """What `sweep` measures; a diverged net counts as chance.

    lrs : array (rates,)
    train, test : arrays (rates, seeds), share of right answers on the whole training and test set
    loss : array (rates, seeds), loss of the last minibatch in nats, not finite where a net has diverged
    """

    lrs: np.ndarray
    train: np.ndarray
    test: np.ndarray
    loss: np.ndarray

    def _best(self):
        # By the median training accuracy; among equals, the lower median loss.
        loss = np.median(np.nan_to_num(self.loss, nan=np.inf), 1)
        return max(range(len(self.lrs)), key=lambda i: (np.median(self.train[i]), -loss[i]))

    @property
    def best_lr(self):
        """The learning rate with the best median training accuracy; among equals, the one with the lower loss."""
        return float(self.lrs[self._best()])

    def best(self, on="train"):
        """Accuracies at `best_lr` on the training or the test set, an array (seeds,)."""
        if on not in ("train", "test"):
            raise ValueError(f"expected on 'train' or 'test', got {on!r}")
        return getattr(self, on)[self._best()]


def sweep(build, split, *, lrs, seeds=10, seed=0, steps=300, **training):
    """Train nets at several learning rates, all at once.

    Seed j starts from the same weights at every rate.

    Parameters
    ----------
    build : callable
        ``build(members, generator)`` returns `Members`.
    split : Split
        From `signalprop.data`.
    lrs : sequence of float
    seeds : int
        Nets at each rate.
    seed : int
        Of the initial weights and of the minibatches.
    training
        Goes to `train`.

    Returns
    -------
    Sweep
    """
    lrs = np.asarray(lrs, dtype=float)
    if lrs.ndim != 1 or len(lrs) < 1 or seeds < 1:
        raise ValueError(f"expected one or more learning rates and seeds >= 1, got {lrs.tolist()} and {seeds}")
    generator = torch.Generator().manual_seed(seed)
    model = build(len(lrs) * seeds, generator)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p[:seeds].repeat(len(lrs), *[1] * (p.ndim - 1)))
    rates = torch.from_numpy(lrs).repeat_interleave(seeds)
    history = train(model, split.x, split.y, steps=steps, lr=rates, generator=generator, **training)
    results = model.accuracy(split.x, split.y), model.accuracy(split.x_test, split.y_test), history[-1]
    return Sweep(lrs, *(r.numpy().reshape(len(lrs), seeds) for r in results))
