"""Train many seeds and configurations of one fully connected net at once.

The members' weights are stacked, so that one batched matrix product moves all of them. Members never
interact: each sees its own minibatches, and the sum of their losses has a gradient that is block-diagonal.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .activations import get


class Ensemble(torch.nn.Module):
    """E fully connected nets of the same shape.

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
    generator : torch.Generator
        Where the randomness comes from.

    Attributes
    ----------
    weights : ParameterList of shape (members, out, in) each
    biases : ParameterList of shape (members, 1, out) each
    """

    def __init__(self, members, sizes, activation, sigma_w2=1.0, sigma_b2=0.0, *, generator, dtype=torch.float64):
        super().__init__()
        if members < 1 or len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"expected members >= 1 and two or more positive sizes, got {members}, {list(sizes)}")
        self.members, self.sizes, self.activation = members, tuple(sizes), get(activation)
        std_w, std_b = (
            torch.as_tensor(v, dtype=dtype).broadcast_to(members).sqrt()[:, None, None] for v in (sigma_w2, sigma_b2)
        )
        if not (torch.isfinite(std_w).all() and torch.isfinite(std_b).all()):
            raise ValueError(f"expected finite variances >= 0, got sigma_w2 = {sigma_w2}, sigma_b2 = {sigma_b2}")

        def normal(*shape):
            return torch.randn(members, *shape, generator=generator, dtype=dtype)

        self.weights, self.biases = torch.nn.ParameterList(), torch.nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:]):
            self.weights.append(normal(fan_out, fan_in) * std_w / math.sqrt(fan_in))
            self.biases.append(normal(1, fan_out) * std_b)

    def preactivations(self, x):
        """z of every layer, a list of (members, batch, features); x is (batch, in) or (members, batch, in)."""
        a, z = x.expand(self.members, -1, -1), []
        for weight, bias in zip(self.weights, self.biases):
            z.append(torch.baddbmm(bias, a, weight.mT))
            a = self.activation(z[-1])
        return z

    def forward(self, x):
        """Logits of shape (members, batch, out)."""
        return self.preactivations(x)[-1]

    def losses(self, x, y):
        """Mean cross-entropy of each member in nats, shape (members,); y is (batch,) or (members, batch)."""
        logits = self(x)
        y = y.expand(self.members, -1)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view_as(y).mean(1)

    @torch.no_grad()
    def accuracy(self, x, y):
        """Share of right answers of each member, shape (members,). A diverged member counts as chance, 1/classes."""
        logits = self(x)
        hits = (logits.argmax(-1) == y).double().mean(-1)
        finite = logits.isfinite().all(-1).all(-1)
        return torch.where(finite, hits, 1 / self.sizes[-1])


class Signals(NamedTuple):
    """What `propagate` measures in random nets.

    z : list over the hidden layers of tensors (members, batch, width), the pre-activations
    q : array (members, depth), mean of z² over batch and units
    gradient : array (members, depth), *squared* norm ‖∂ℒ/∂z_l‖², summed over batch and units
    """

    z: list
    q: np.ndarray
    gradient: np.ndarray


def propagate(activation, sigma_w2, sigma_b2=0.0, *, width=200, depth=20, members=20, batch=1, generator):
    """Send random inputs forward and a gradient back through random nets at initialisation.

    Each net has `depth` hidden layers of `width` units and a random linear read-out to one number. The loss ℒ is
    the sum of that number over the batch. Each net gets inputs of its own, Gaussian, scaled to mean square 1, so
    that layer 1 has q = σ_w² + σ_b² on average.

    Parameters
    ----------
    activation, sigma_w2, sigma_b2
        As in `signalprop.nets.mlp`.
    members : int
        Nets to draw.
    generator : torch.Generator
        Where the randomness comes from.

    Returns
    -------
    Signals
        float64.
    """
    if depth < 1 or batch < 1:
        raise ValueError(f"expected depth >= 1 and batch >= 1, got {depth} and {batch}")
    net = Ensemble(members, [width] * (depth + 1) + [1], activation, sigma_w2, sigma_b2, generator=generator)
    x = torch.randn(members, batch, width, generator=generator, dtype=torch.float64)
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    *hidden, out = net.preactivations(x)
    gradients = torch.autograd.grad(out.sum(), hidden)
    hidden = [z.detach() for z in hidden]
    q = torch.stack([z.square().mean((1, 2)) for z in hidden], 1)
    return Signals(hidden, q.numpy(), torch.stack([g.square().sum((1, 2)) for g in gradients], 1).numpy())


def train(model, x, y, *, steps, lr, optimiser="sgd", momentum=0.9, eps=1e-8, batch_size=32, layer_scale=None, generator):
    """Train every member on its own minibatches of (x, y), in place.

    Parameters
    ----------
    model : Ensemble
    x, y : tensors of shape (n, in) and (n,)
    lr : float or tensor of shape (members,)
        Learning rate of each member.
    optimiser : {"sgd", "adam"}
        SGD with `momentum`, or Adam with β = (0.9, 0.999) and `eps` [Kingma and Ba 2015].
    layer_scale : tensor of shape (layers,) or (members, layers), optional
        Factor on each layer's gradient after the backward pass; the forward pass and the backward pass
        through the other layers stay as they are. 0 freezes a layer.
    generator : torch.Generator
        Draws the minibatches.

    Returns
    -------
    tensor of shape (steps, members)
        Minibatch loss of each member before each step, in nats; not finite once a member has diverged.

    Raises
    ------
    ValueError
        If the optimiser is unknown or shapes do not fit.
    """
    if optimiser not in ("sgd", "adam"):
        raise ValueError(f"expected optimiser 'sgd' or 'adam', got {optimiser!r}")
    if len(x) != len(y):
        raise ValueError(f"expected as many labels as inputs, got {len(y)} and {len(x)}")
    members, layers, dtype = model.members, len(model.weights), model.weights[0].dtype
    lr = torch.as_tensor(lr, dtype=dtype).broadcast_to(members)
    scale = torch.ones(layers, dtype=dtype) if layer_scale is None else torch.as_tensor(layer_scale, dtype=dtype)
    scale = scale.broadcast_to(members, layers)
    # One factor per layer and parameter, of shape (members, 1, 1).
    scales = [scale[:, i, None, None] for i in range(layers)] * 2
    parameters = [*model.weights, *model.biases]
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters] if optimiser == "adam" else None
    descend, history = [-lr[:, None, None]] * len(parameters), []
    for step in range(1, steps + 1):
        batch = torch.randint(len(x), (members, batch_size), generator=generator)
        losses = model.losses(x[batch], y[batch])
        history.append(losses.detach())
        gradients = torch.autograd.grad(losses.sum(), parameters)
        with torch.no_grad():
            gradients = torch._foreach_mul(gradients, scales)
            if optimiser == "sgd":
                torch._foreach_mul_(first, momentum)
                torch._foreach_add_(first, gradients)
                updates = first
            else:
                torch._foreach_lerp_(first, gradients, 0.1)
                torch._foreach_mul_(second, 0.999)
                torch._foreach_addcmul_(second, gradients, gradients, 0.001)
                denominator = torch._foreach_sqrt(torch._foreach_div(second, 1 - 0.999**step))
                torch._foreach_add_(denominator, eps)
                updates = torch._foreach_div(torch._foreach_div(first, 1 - 0.9**step), denominator)
            torch._foreach_addcmul_(parameters, updates, descend)
    return torch.stack(history)
