"""The activation functions of the course, by name, with what theory must know about each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Activation:
    """An elementwise non-linearity φ.

    Attributes
    ----------
    name : str
    phi : callable
        Tensor to tensor of the same shape.
    kinks : tuple of float
        Where φ or φ′ jumps; integrals are split there.
    """

    name: str
    phi: Callable
    kinks: tuple = ()

    def __call__(self, z):
        return self.phi(z)

    def derivative(self, z):
        """φ′(z), elementwise, same shape and dtype as z."""
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            phi = self.phi(z)
            if not phi.requires_grad:  # φ is constant
                return torch.zeros_like(z)
            return torch.autograd.grad(phi.sum(), z)[0]


ACTIVATIONS = {
    a.name: a
    for a in (
        Activation("linear", lambda z: z * 1.0),
        Activation("sigmoid", torch.sigmoid),
        Activation("tanh", torch.tanh),
        Activation("relu", torch.relu, (0.0,)),
        Activation("leaky", lambda z: F.leaky_relu(z, 0.01), (0.0,)),
        Activation("elu", F.elu, (0.0,)),
        Activation("selu", F.selu, (0.0,)),
        Activation("gelu", F.gelu),
        Activation("silu", F.silu),
        Activation("softplus", F.softplus),
        Activation("mish", F.mish),
    )
}

# The bounded ones: a unit near a bound is saturated.
BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


def near_bound(a, name, tol=0.05):
    """Which activations are saturated: a boolean tensor of the shape of `a`, true within `tol` of a bound.

    `name` is a key of `BOUNDS`; `tol` is in units of a.
    """
    low, high = BOUNDS[name]
    return (a <= low + tol) | (a >= high - tol)


def get(activation):
    """The `Activation` for a name, an `Activation`, or any elementwise callable (then taken as smooth).

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if isinstance(activation, Activation):
        return activation
    if callable(activation):
        return Activation(getattr(activation, "__name__", "custom"), activation)
    try:
        return ACTIVATIONS[activation]
    except (KeyError, TypeError):
        names = ", ".join(ACTIVATIONS)
        raise ValueError(f"expected a callable or one of {names}; got {activation!r}") from None


class Elementwise(torch.nn.Module):
    """An activation as a module, so that it can stand in an `nn.Sequential`."""

    def __init__(self, activation):
        super().__init__()
        self.activation = get(activation)

    def forward(self, z):
        return self.activation(z)

    def extra_repr(self):
        return self.activation.name
