"""Name the sickness of a network from what can be measured in it, and prescribe a remedy (chapter 11).

A `Recipe` says in plain data how a fully connected net is built and trained. `Network` builds many seeds of one
recipe at once, `Network.single` one of them as a plain module for the instruments. `examine` measures,
`diagnose` names the causes, `prescribe` changes the recipe.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from . import theory
from .activations import Elementwise, get
from .ensemble import EPS, sweep
from .probe import LayerReport, layer_report
from .residual import ResidualNet

SCHEMES = {None: "plain", "unscaled": "residual", "scaled": "scaled"}  # a recipe's skip, as a residual net's scheme
NORM_LAYERS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}

CAUSES = {
    "flat activation": "the slope of the activation is small, whatever the weights",
    "weights too small": "the weight scale is too small for this activation",
    "weights too large": "the weight scale is too large for this activation",
    "dead units": "units of a ReLU-like activation are 0 for every input",
    "batch norm without skips": "batch normalisation in a deep plain net makes the gradient explode",
    "unscaled skips": "the residual stream doubles at every block",
    "collapsed inputs": "the gradient is fine, but all inputs look alike in the last layer",
    "learning rate too large": "a step changes a layer by a large share of its weights",
}


@dataclass(frozen=True)
class Recipe:
    """How a fully connected net is built and trained, as plain data.

    Attributes
    ----------
    depth, width : int
        Hidden layers, and units of each.
    activation : str
        See `signalprop.activations.get`.
    sigma_w2 : float
        W_ij ~ N(0, sigma_w2/fan_in), in every layer.
    bias : float
        What all biases start at.
    norm : {None, "batch", "layer"}
        Normalises what enters the activation.
    skip : {None, "unscaled", "scaled"}
        Residual blocks h + s·Wφ(h) between the first layer and the read-out; "scaled" has s = 1/√(depth − 1).
    lr, optimiser, clip
        For `signalprop.ensemble.train`.
    """

    depth: int = 10
    width: int = 32
    activation: str = "relu"
    sigma_w2: float = 2.0
    bias: float = 0.0
    norm: str | None = None
    skip: str | None = None
    lr: float = 0.01
    optimiser: str = "sgd"
    clip: float | None = None

    def __post_init__(self):
        get(self.activation)
        if self.depth < 2 or self.width < 1:
            raise ValueError(f"expected depth >= 2 and width >= 1, got {self.depth} and {self.width}")
        for field, allowed in (("norm", (None, *NORM_LAYERS)), ("skip", tuple(SCHEMES))):
            if getattr(self, field) not in allowed:
                raise ValueError(f"expected {field} in {allowed}, got {getattr(self, field)!r}")
        if self.sigma_w2 < 0 or self.lr <= 0:
            raise ValueError(f"expected sigma_w2 >= 0 and lr > 0, got {self.sigma_w2} and {self.lr}")

    def training(self):
        """The keyword arguments of `signalprop.ensemble.train`."""
        return {"lr": self.lr, "optimiser": self.optimiser, "clip": self.clip}

    def but(self, **changes):
        """The same recipe with some changes."""
        return replace(self, **changes)


class Network(ResidualNet):
    """Many seeds of the net that a recipe describes; biases, if any, are those of `signalprop.residual.ResidualNet`.

    Parameters
    ----------
    recipe : Recipe
    members : int
        Seeds.
    features, classes : int
        Of the data.
    generator : torch.Generator
    """

    def __init__(self, recipe, members, features=64, classes=10, *, generator):
        super().__init__(
            members,
            features,
            classes,
            SCHEMES[recipe.skip],
            depth=recipe.depth - 1,
            width=recipe.width,
            norm=recipe.norm,
            activation=recipe.activation,
            sigma_w2=recipe.sigma_w2,
            generator=generator,
        )
        self.recipe = recipe
        with torch.no_grad():
            for weight in (self.weights[0], self.weights[-1]):
                weight.mul_(math.sqrt(recipe.sigma_w2))
            for bias in self.biases:
                bias.fill_(recipe.bias)

    def single(self, member):
        """One seed as a plain module, float64, with the weights as they are now."""
        return _Single(self, member)


class _Single(nn.Module):
    def __init__(self, net, member):
        super().__init__()
        self.scale = None if net.scheme == "plain" else net.scales[0]
        self.phi = Elementwise(net.activation)
        self.fc, self.norm = nn.ModuleList(), nn.ModuleList()
        with torch.no_grad():
            for weight, bias in zip(net.weights, net.biases):
                layer = nn.utils.skip_init(nn.Linear, weight.shape[2], weight.shape[1], dtype=torch.float64)
                layer.weight.copy_(weight[member])
                layer.bias.copy_(bias[member, 0])
                self.fc.append(layer)
            for gain, shift in zip(net.gains, net.shifts):
                layer = NORM_LAYERS[net.norm](gain.shape[2], dtype=torch.float64, eps=EPS)
                layer.weight.copy_(gain[member, 0])
                layer.bias.copy_(shift[member, 0])
                self.norm.append(layer)

    def forward(self, x):
        z = self.fc[0](x)
        for i, layer in enumerate(self.fc[1:]):
            f = layer(self.phi(self.norm[i](z) if self.norm else z))
            z = f if self.scale is None or i == len(self.fc) - 2 else z + self.scale * f
        return z


# --- the examination -------------------------------------------------------------------------------------


class Chart(NamedTuple):
    """What `examine` found.

    report : LayerReport
    log_gain : float
        ln of the gradient norm at the first layer over that at the last hidden one, ‖∂ℒ/∂z‖. Below 0 the
        gradient vanishes, above 0 it explodes; −inf where nothing arrives.
    sigma_w2 : float
        Median weight scale of the hidden layers but the first, fan-in · mean W².
    slope : float
        Median over layers of the mean squared slope E[φ′²] that the gradient met; NaN in a net with skips or norms.
    correlation : float
        Mean cosine between two inputs in the last hidden layer.
    dead : float
        Largest share of dead units in a layer; 0 if no activation can die.
    update : float
        Largest update ratio ‖ΔW‖/‖W‖ of one SGD step.
    skip, norm : bool
        Whether a path leads around the layers, and whether layers are normalised over the batch.
    """

    report: LayerReport
    log_gain: float
    sigma_w2: float
    slope: float
    correlation: float
    dead: float
    update: float
    skip: bool
    norm: bool


def examine(model, x, y, lr=0.01):
    """Measure what a diagnosis needs, with `signalprop.probe.layer_report` and one cut.

    Parameters
    ----------
    model : nn.Module
        A feed-forward net with three or more linear layers.
    x, y : tensors
        A batch; the loss is the mean cross-entropy.
    lr : float
        Learning rate of the updates.

    Returns
    -------
    Chart

    Raises
    ------
    ValueError
        If the model has fewer than three linear layers.
    """
    report = layer_report(model, x, y, lr=lr)
    rows = [i for i, kind in enumerate(report["kind"]) if kind == "Linear"]
    if len(rows) < 3:
        raise ValueError(f"expected a net with three or more linear layers, got {len(rows)}")
    weights = [model.get_submodule(report["name"][i].split("#")[0]).weight.detach() for i in rows]
    delta = report["grad_preact"][rows]
    skip = _leads_around(model, report["name"][rows[len(rows) // 2]].split("#")[0], report["name"][rows[0]], x, y)
    norm = any("BatchNorm" in kind for kind in report["kind"])
    normed = any("Norm" in kind for kind in report["kind"])
    hidden = weights[1:-1]
    # ‖δ_l‖² = E[φ′²] · (‖W‖²/out) · ‖δ_{l+1}‖², where nothing but W and φ lies between two layers.
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = (delta[:-2] / delta[1:-1]) ** 2 / [w.square().sum().item() / w.shape[0] for w in hidden]
        log_gain = float(np.log(delta[0] / delta[-2])) if delta[-2] > 0 else -math.inf
    return Chart(
        report,
        log_gain,
        float(np.median([w.square().mean().item() * w.shape[1] for w in hidden])),
        math.nan if skip or normed or not np.isfinite(slopes).all() else float(np.median(slopes)),
        float(report["correlation"][rows[-2]]),
        float(np.nanmax(np.append(report["dead"], 0.0))),
        float(np.nanmax(report["update_ratio"][rows])),
        skip,
        norm,
    )


def _leads_around(model, middle, first, x, y):
    """Whether a gradient still reaches the first layer once the middle one is cut: then a path leads around it."""
    cut = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in cut.get_submodule(middle).parameters(recurse=False):
            parameter.zero_()
    report = layer_report(cut, x, y)
    return bool(report["grad_preact"][report["name"].index(first)] > 0)


TOTAL = math.log(50)  # a gradient that changes by less than this factor over all layers is left alone
FLAT = 0.15  # E[φ′²]: the sigmoid has at most 1/16, a ReLU ½, a GELU near 0 a quarter
DEAD = 0.75  # share of a layer; inputs that look alike already make about half of the ReLUs constant
ALIKE = 0.95  # mean cosine
LARGE_STEP = 0.1  # ‖ΔW‖/‖W‖ in one step


def diagnose(model, x, y, lr=0.01):
    """The causes that the measurements point to.

    Parameters
    ----------
    model, x, y, lr
        As in `examine`.

    Returns
    -------
    set of str
        Keys of `CAUSES`; empty for a net that looks healthy.
    """
    return causes(examine(model, x, y, lr))


def causes(chart):
    """The diagnosis of a `Chart`, a set of keys of `CAUSES`."""
    if chart.dead > DEAD and not chart.correlation < ALIKE or chart.dead > 0.95:
        return {"dead units"}
    if chart.log_gain < -TOTAL:
        if chart.slope < FLAT:
            return {"flat activation"} | ({"weights too small"} if chart.sigma_w2 < 0.5 else set())
        return {"weights too small"}
    if chart.log_gain > TOTAL:
        if chart.skip and not chart.norm:
            return {"unscaled skips"}
        return {"batch norm without skips"} if chart.norm and not chart.skip else {"weights too large"}
    if chart.correlation > ALIKE:
        return {"collapsed inputs"}
    return {"learning rate too large"} if chart.update > LARGE_STEP else set()


def prescribe(recipe, found):
    """A recipe with the remedy for each cause.

    Parameters
    ----------
    recipe : Recipe
    found : set of str
        Keys of `CAUSES`.

    Raises
    ------
    ValueError
        For a cause that is not in `CAUSES`.
    """
    if unknown := set(found) - set(CAUSES):
        raise ValueError(f"expected causes out of {', '.join(CAUSES)}; got {', '.join(sorted(unknown))}")
    if "flat activation" in found:
        recipe = recipe.but(activation="tanh", sigma_w2=theory.critical_sigma_w2("tanh"))
    elif {"weights too small", "weights too large"} & set(found):
        try:
            recipe = recipe.but(sigma_w2=theory.critical_sigma_w2(recipe.activation))
        except ValueError:  # no scale is critical: let a norm hold the variance, whatever the scale
            recipe = recipe.but(norm="layer")
    if "dead units" in found:
        recipe = recipe.but(bias=0.0)
    if "batch norm without skips" in found:
        recipe = recipe.but(skip="unscaled")
    if {"unscaled skips", "collapsed inputs"} & set(found):
        recipe = recipe.but(skip="scaled")
    if "learning rate too large" in found:
        recipe = recipe.but(lr=recipe.lr / 100)
    return recipe


# --- the ablation ----------------------------------------------------------------------------------------

REMEDIES = {
    "ReLU": lambda recipe: recipe.but(activation="relu"),
    "scale": lambda recipe: recipe.but(sigma_w2=theory.critical_sigma_w2(recipe.activation)),
    "batch norm": lambda recipe: recipe.but(norm="batch"),
    "skips": lambda recipe: recipe.but(skip="scaled"),
    "clipping": lambda recipe: recipe.but(clip=1.0),
    "Adam": lambda recipe: recipe.but(optimiser="adam"),
}
RATES = {"sgd": (0.003, 0.03, 0.3), "adam": (0.0003, 0.003, 0.03)}


def treat(recipe, remedies):
    """A recipe with some of the `REMEDIES`, in their order: the scale is that of the activation then chosen."""
    if unknown := set(remedies) - set(REMEDIES):
        raise ValueError(f"expected remedies out of {', '.join(REMEDIES)}; got {', '.join(sorted(unknown))}")
    for name, remedy in REMEDIES.items():
        if name in remedies:
            recipe = remedy(recipe)
    return recipe


def trained(recipe, split, *, lrs=None, seeds=10, seed=0, steps=150):
    """Train a recipe; its own learning rate, or a sweep over `lrs`.

    Returns
    -------
    signalprop.ensemble.Sweep
    """
    settings = recipe.training()
    settings.pop("lr")

    def build(members, generator):
        return Network(recipe, members, split.x.shape[1], generator=generator)

    return sweep(build, split, lrs=lrs or [recipe.lr], seeds=seeds, seed=seed, steps=steps, **settings)


def common_causes(recipe, x, y, *, seeds=10, seed=0):
    """The causes that at least half of the seeds show at initialisation, and the share of seeds with any cause.

    Returns
    -------
    set of str, float
    """
    net = Network(recipe, seeds, x.shape[1], generator=torch.Generator().manual_seed(seed))
    found = [diagnose(net.single(k), x, y, recipe.lr) for k in range(seeds)]
    common = {cause for cause in CAUSES if sum(cause in each for each in found) >= seeds / 2}
    return common, sum(map(bool, found)) / seeds


def treatment(recipe, x, y, *, rounds=3, **seeds):
    """Diagnose, prescribe, and examine again, until nothing is found or `rounds` are over.

    Returns
    -------
    list of Recipe
        The recipe as it came, and after each round that changed it.
    """
    recipes = [recipe]
    for _ in range(rounds):
        found, _ = common_causes(recipes[-1], x, y, **seeds)
        changed = prescribe(recipes[-1], found)
        if changed == recipes[-1]:
            break
        recipes.append(changed)
    return recipes


def trial(recipe, split, *, seeds=10, seed=0, steps=150):
    """Train a recipe as it is, and again after its `treatment`.

    The examination takes the first 128 training inputs.

    Returns
    -------
    dict of arrays (seeds,)
        "train": training accuracy as it is; "treated": training accuracy after the treatment, the same as "train"
        where nothing was prescribed; "sick": the share of seeds with a cause, the same number for each seed.
    """
    x, y = split.x[:128], split.y[:128]
    cured = treatment(recipe, x, y, seeds=seeds, seed=seed)[-1]
    before = trained(recipe, split, seeds=seeds, seed=seed, steps=steps).train[0]
    after = before if cured == recipe else trained(cured, split, seeds=seeds, seed=seed, steps=steps).train[0]
    _, sick = common_causes(recipe, x, y, seeds=seeds, seed=seed)
    return {"train": before, "treated": after, "sick": np.full(seeds, sick)}


def describe_change(before, after):
    """What differs between two recipes, in words: "σ_w² = 2, skips scaled"; "nothing" if they are the same."""
    words = {
        "activation": lambda v: str(v),
        "sigma_w2": lambda v: f"σ_w² = {v:.3g}",
        "bias": lambda v: f"biases {v:g}",
        "norm": lambda v: f"{v} norm",
        "skip": lambda v: f"skips {v}",
        "lr": lambda v: f"lr {v:g}",
        "optimiser": lambda v: str(v),
        "clip": lambda v: f"clip {v:g}",
    }
    changed = [word(getattr(after, key)) for key, word in words.items() if getattr(before, key) != getattr(after, key)]
    return ", ".join(changed) or "nothing"
