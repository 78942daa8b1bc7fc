"""The signal propagation playground: a random net that runs in the page, forward and backward, as its settings move.

The arithmetic is in ``web/propagation.js``, the view in ``web/playground.js``, and the settings with their limits in
``web/controls.json``. It is an anywidget, so it is the same in Jupyter, in Colab and on the site, and needs no kernel.
`by_autograd` computes the same in PyTorch.
"""

import json
from pathlib import Path

import anywidget
import numpy as np
import torch
import torch.nn.functional as F
import traitlets

from .activations import get, near_bound

WEB = Path(__file__).parent / "web"
CONTROLS = json.loads((WEB / "controls.json").read_text(encoding="utf-8"))


def module():
    """The two scripts as one: a widget is sent as a single module, which can import no neighbour."""
    arithmetic, view = ((WEB / name).read_text(encoding="utf-8") for name in ("propagation.js", "playground.js"))
    line = next(line for line in view.splitlines(keepends=True) if line.startswith("import "))
    return arithmetic + view.replace(line, "")


def checked(settings):
    """All settings as the scripts hold them, from those that are given.

    Raises
    ------
    ValueError
        If a setting is unknown or out of its limits.
    """
    unknown = settings.keys() - CONTROLS.keys()
    if unknown:
        raise ValueError(f"expected settings out of {', '.join(CONTROLS)}; got {', '.join(sorted(unknown))}")
    complete = {name: control["start"] for name, control in CONTROLS.items()}
    for name, value in settings.items():
        control = CONTROLS[name]
        if "choices" in control:
            if str(value) not in control["choices"]:
                raise ValueError(f"{name}: expected one of {', '.join(control['choices'])}; got {value!r}")
            complete[name] = str(value)
            continue
        low, high = control["low"], control["high"]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"{name}: expected a number from {low} to {high}; got {value!r}")
        if control["step"] == 1 and value != int(value):
            raise ValueError(f"{name}: expected a whole number; got {value!r}")
        complete[name] = value
    return complete


class Playground(anywidget.AnyWidget):
    """A random net whose signal and gradient are computed in the browser, with the mean-field theory over them.

    Parameters
    ----------
    **settings
        Where it starts: ``depth`` (2 to 100 layers), ``width`` (16, 32, 64 or 128 units), ``phi`` (an activation of
        `signalprop.activations`), ``sigma_w`` and ``sigma_b`` (weights have variance σ_w²/N, biases σ_b²), ``norm``
        (none, batch, layer, rms), ``skip`` (none, identity, scaled) and ``seed``. `CONTROLS` holds them all.

    Attributes
    ----------
    settings : dict
        What is shown now. Assign a dict of some settings to it to move the playground; the others start afresh.

    Raises
    ------
    ValueError
        If a setting is unknown or out of its limits.

    Notes
    -----
    Theory: Poole et al. 2016, Schoenholz et al. 2017; with skip connections, Yang and Schoenholz 2017.
    """

    _esm = module()
    _css = (WEB / "playground.css").read_text(encoding="utf-8")
    controls = traitlets.Unicode(json.dumps(CONTROLS), read_only=True).tag(sync=True)  # text: their order stays
    settings = traitlets.Dict().tag(sync=True)

    def __init__(self, **settings):
        super().__init__(settings=checked(settings))

    @traitlets.validate("settings")
    def _complete(self, proposal):
        return checked(proposal["value"])

    def __repr__(self):
        return "[playground] " + ", ".join(f"{name} {value}" for name, value in self.settings.items())


# --- the same net in PyTorch -----------------------------------------------------------------------------


def random_net(settings, generator, examples=16):
    """The random numbers of one net, in units of their scales; each example has mean square 1.

    Returns
    -------
    dict
        float64: ``weights`` (depth, N, N), ``biases`` (depth, N), ``inputs`` and ``direction`` (examples, N).
    """
    depth, n = settings["depth"], int(settings["width"])

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = normal(examples, n)
    inputs = inputs / inputs.square().mean(1, keepdim=True).sqrt()
    return {"weights": normal(depth, n, n), "biases": normal(depth, n), "inputs": inputs, "direction": normal(examples, n)}


def by_autograd(settings, net):
    """What the playground shows of a net, by float64 autograd.

    Layer l is z_l = W_l x_{l−1} + b_l and f = φ(norm(z_l)); x_l is f, or x_{l−1} + s f with a skip connection (s = 1,
    or 1/√L). The loss is ℒ = Σ v·x_L over the examples, with v the ``direction``.

    Parameters
    ----------
    settings : dict
        All settings, as `checked` returns them.
    net : dict
        As `random_net` returns it.

    Returns
    -------
    dict
        ``variance``, ``saturated`` and ``gradient``, each a list with an entry for each layer: the mean of z²; the
        share of units within 0.05 of a bound (sigmoid, tanh) or with a slope below 0.1 (all others); and
        ‖∂ℒ/∂x_l‖ / ‖∂ℒ/∂x_L‖, over all examples.
    """
    n, depth, phi = int(settings["width"]), settings["depth"], get(settings["phi"])
    scale = depth**-0.5 if settings["skip"] == "scaled" else 1.0
    x = net["inputs"]
    streams, variance, saturated = [], [], []
    for weight, bias in zip(net["weights"], net["biases"]):
        z = F.linear(x, settings["sigma_w"] / n**0.5 * weight, settings["sigma_b"] * bias)
        variance.append(z.square().mean().item())
        z = _normalised(z, settings["norm"])
        f = phi(z)
        flat = near_bound(f, phi.name) if phi.name in ("sigmoid", "tanh") else phi.derivative(z).abs() < 0.1
        saturated.append(flat.double().mean().item())
        x = f if settings["skip"] == "none" else x + scale * f
        streams.append(x.requires_grad_())
    gradients = torch.autograd.grad((net["direction"] * x).sum(), streams)
    norms = [g.norm().item() for g in gradients]
    return {"variance": variance, "saturated": saturated, "gradient": [g / norms[-1] for g in norms]}


def _normalised(z, norm):
    if norm == "batch":
        return F.batch_norm(z, None, None, training=True)
    if norm == "layer":
        return F.layer_norm(z, z.shape[1:])
    return F.rms_norm(z, z.shape[1:], eps=1e-5) if norm == "rms" else z


def measure(nets=20, *, generator, **settings):
    """`by_autograd` over random nets: a dict of arrays (nets, depth). `settings` as for `Playground`."""
    settings = checked(settings)
    runs = [by_autograd(settings, random_net(settings, generator)) for _ in range(nets)]
    return {quantity: np.array([run[quantity] for run in runs]) for quantity in runs[0]}
