"""The layer report: what every layer of a network does to the signal and to its gradient.

One forward and one backward pass of any `nn.Module`; afterwards the model is as it was.
"""

import html
import math
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from .activations import BOUNDS, near_bound
from .glue import significant

PAIRS_FROM = 256

# By the name of the torch function, without the "_" of an in-place one.
_RECTIFIERS = {
    *("relu", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu"),
    *("gelu", "silu", "mish", "hardswish", "softplus"),
}
_CHANNELS_FIRST = (_ConvNd, _NormBase, nn.GroupNorm, nn.PReLU)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
# Parameters in these children belong to the parent, which uses them without calling the child.
_NEVER_CALLED = (nn.ParameterList, nn.ParameterDict, NonDynamicallyQuantizableLinear)


def layer_report(model, x, y, loss=nn.functional.cross_entropy, lr=1.0):
    """One row per call of a layer, in the order in which the layers finish.

    A layer is a module that owns parameters itself: linear, convolutional, recurrent, normalisation and
    embedding layers, and any module of your own. z is its output (for a linear or convolutional layer the
    pre-activation), ℒ the loss. The first axis of z counts the samples.

    ============== ====================================================================================
    column         meaning (no unit; NaN where it does not apply)
    ============== ====================================================================================
    name           qualified name; ``name#2`` is the second call of the same module
    kind           class of the module
    units          features of z: channels of a convolution, else the size of the last axis
    q              mean of z² over samples, positions and units: mean-field theory's q
    preact_var     variance of z over the samples, averaged over positions and units; it falls below q
                   when the samples come to resemble each other, or when z has a mean. NaN for one sample
    correlation    mean cosine between the z of two different samples (pairs from the first 256 samples).
                   NaN for one sample; a sample with z = 0 is left out
    saturation     share of the outputs of the sigmoid or tanh that follows within 0.05 of a bound
    dead           share of the units of the ReLU-like activation that follows whose output is exactly 0
                   for every sample (and position)
    grad_preact    ‖δ‖, Frobenius norm of δ = ∂ℒ/∂z over the whole batch. Where a layer returns several
                   tensors (output and state of an LSTM), the norm over all of them
    grad_ratio     ‖δ‖ over the ‖δ‖ of the last row: a ratio of norms, so mean-field's √χ₁ per layer
    grad_weight    ‖∂ℒ/∂W‖, Frobenius norm over the module's own parameters that are trained, biases (a
                   parameter with "bias" in its name, or named "b") left out. A parameter that is used
                   several times has one gradient, the total, and every row of it shows that total. NaN
                   if all are frozen or do not reach the loss
    update_ratio   lr · ‖∂ℒ/∂W‖ / ‖W‖, over the same parameters: the relative change that one plain SGD
                   step makes
    ============== ====================================================================================

    The z of a recurrent layer cannot be seen from outside: its q, preact_var and correlation are NaN, and
    its δ is taken at the state h that it returns.

    An activation is known by the torch function that computes it (`torch.tanh`, `F.relu`, `nn.GELU`, …;
    not ``x.clamp(min=0)``). It follows a layer if no other layer or activation lies between the two. If it
    follows several, as after a residual sum, it counts for the one that finished last. The activations
    inside a layer of your own count for that layer.

    The batch statistics and the dropout masks are those of the mode that `model` is in; a call draws from
    torch's current random state. Parameters, buffers, gradients, hooks, flags and that random state are
    left as they were, also when an error is raised. Plain Python attributes that `forward` sets are not
    watched.

    Parameters
    ----------
    model : nn.Module
        Called once, as ``model(x)``.
    x : Tensor
        A batch, shape (batch, …), floating or integer.
    y : any
        What ``loss(model(x), y)`` needs.
    loss : callable
        Returns a tensor with one element.
    lr : float
        Learning rate of `update_ratio`, > 0.

    Returns
    -------
    LayerReport
        A loss that is inf or NaN is no error: `LayerReport.loss` says so, and the columns of the forward
        pass show where the signal overflowed.

    Raises
    ------
    ValueError
        If the model has no (initialised) parameters or calls no layer, x is not a finite, non-empty tensor
        or does not fit the model, y does not fit the loss, or the loss has no single, differentiable value.
    """
    _check(model, x, lr)
    # Leaving inference mode also switches gradients on.
    with torch.inference_mode(False), _unchanged(model, x):
        recorder = _Recorder(model)
        with recorder:
            try:
                # A copy: the first operation of the model may work in place.
                output = model(x.detach().clone())
            except Exception as error:
                raise ValueError(
                    f"expected an x that the model can process, got shape {tuple(x.shape)} and {x.dtype}: {error}"
                ) from error
        if not recorder.rows:
            raise ValueError("expected a model that calls a module with parameters; its forward pass called none")
        try:
            value = loss(output, y)
        except Exception as error:
            raise ValueError(
                f"expected a y that the loss can compare with the output {_describe(output)}, "
                f"got {_describe(y)}: {error}"
            ) from error
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise ValueError(f"expected a loss that returns a tensor with one element, got {_describe(value)}")
        if not value.requires_grad:
            raise ValueError("expected a loss that can be differentiated; this one depends on no layer's output")
        return recorder.report(value, lr)


def _check(model, x, lr):
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected an nn.Module, got {type(model).__name__}")
    parameters = list(model.parameters())
    if not parameters:
        raise ValueError("expected a model with parameters, got one that has none")
    if any(is_lazy(p) for p in parameters):
        raise ValueError("expected initialised parameters, got a lazy module: run the model once before")
    if not isinstance(x, torch.Tensor):
        raise ValueError(f"expected x as a tensor, got {type(x).__name__}")
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"expected x of shape (batch, …) with at least one sample, got shape {tuple(x.shape)}")
    bad = x.numel() - int(torch.isfinite(x).sum())
    if bad:
        raise ValueError(f"expected a finite x, got {bad} entries of {x.numel()} that are NaN or infinite")
    if not 0 < lr < math.inf:
        raise ValueError(f"expected a finite learning rate lr > 0, got {lr}")


@contextmanager
def _unchanged(model, x):
    """Puts parameters, buffers and torch's random state back on leaving."""
    tensors = [x, *model.parameters(), *model.buffers()]
    devices = {t.device for t in tensors if t.device.type != "cpu"}
    # The pass works on copies of the buffers; the originals are not even written to.
    buffers = [(m, dict(m._buffers)) for m in model.modules() if m._buffers]
    copies = {b: b.detach().clone() for b in model.buffers()}
    parameters = [(p, p.detach().clone()) for p in model.parameters()]
    with torch.random.fork_rng(list(devices), device_type=next(iter(devices)).type if devices else "cuda"):
        try:
            for module, own in buffers:
                module._buffers.update((name, copies[b]) for name, b in own.items() if b is not None)
            yield
        finally:
            for module, own in buffers:
                module._buffers.clear()
                module._buffers.update(own)
            with torch.no_grad():
                for p, before in parameters:
                    if not torch.equal(p, before):  # nn.Embedding(max_norm=…) rescales in its forward pass
                        p.copy_(before)


class _Row:
    """What is known of one call of a layer."""

    def __init__(self, module):
        self.module = module
        self.axis = 1 if isinstance(module, _CHANNELS_FIRST) else -1
        self.near_bound = []  # one entry for each output of a bounded activation
        self.always_zero = []  # one entry for each unit of a ReLU-like activation

    def credit(self, name, a):
        if name in BOUNDS:
            self.near_bound.append(near_bound(a, name).flatten())
        else:
            self.always_zero.append((_units_last(a, self.axis) == 0).all(dim=0))


class _Recorder(TorchFunctionMode):
    """While active, keeps the output of every layer and credits activations to the layers before them."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.rows = []
        # Node of the autograd graph → index of the row whose output it is; −1 for an activation.
        self.nodes = {}
        # The row of the layer that is running, if no other layer can run inside it.
        self.running = None

    def __enter__(self):
        self.calls = {}
        self.handles = []
        layers = {module: name for name, module in self.model.named_modules() if _is_layer(name, module)}
        for module, name in layers.items():
            innermost = sum(m in layers for m in module.modules()) == 1
            if innermost and not isinstance(module, nn.PReLU):  # PReLU is the activation of the layer before
                self.handles.append(module.register_forward_pre_hook(self._begin))
            self.handles.append(module.register_forward_hook(self._hook(name or "(model)", module)))
        return super().__enter__()

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()
        return super().__exit__(*error)

    def _begin(self, module, args):
        self.running = _Row(module)

    def _hook(self, name, module):
        weights = [p for n, p in _own_parameters(module) if not _is_bias(n)]

        def keep(module, args, output):
            row, self.running = self.running or _Row(module), None
            outputs = []

            def pass_on_a_copy(z):
                if not z.is_floating_point():
                    return z
                if not z.requires_grad:  # everything before is frozen: let the gradient end here
                    z = z.detach().requires_grad_(True)
                outputs.append(z)
                copy = z.clone()  # an activation that works in place must not overwrite z
                if copy.grad_fn is not None:
                    self.nodes[copy.grad_fn] = len(self.rows)
                return copy

            output = tree_map_only(torch.Tensor, pass_on_a_copy, output)
            if outputs:
                call = self.calls[name] = self.calls.get(name, 0) + 1
                row.name = name if call == 1 else f"{name}#{call}"
                row.outputs, row.weights = outputs, weights
                self.rows.append(row)
            return output

        return keep

    def __torch_function__(self, func, types, args=(), kwargs=None):
        a = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").rstrip("_")
        if name in BOUNDS or name in _RECTIFIERS:
            row = self.running or self._source(a)
            if row is not None:
                row.credit(name, a.detach())
            if a.grad_fn is not None:
                self.nodes[a.grad_fn] = -1
        return a

    def _source(self, a):
        """Row of the last finished layer that reaches a with no layer or activation between, or None."""
        source, seen, todo = -1, {None}, [a.grad_fn]
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            if node in self.nodes:
                source = max(source, self.nodes[node])
            else:
                todo += [parent for parent, _ in node.next_functions]
        return self.rows[source] if source >= 0 else None

    def report(self, loss, lr):
        rows = self.rows
        wanted = {t: None for row in rows for t in (*row.outputs, *row.weights) if t.requires_grad}
        gradients = dict(zip(wanted, torch.autograd.grad(loss, list(wanted), allow_unused=True)))
        columns = {name: [] for name in COLUMNS}
        for row in rows:
            z = row.outputs[0].detach()
            weights = [w for w in row.weights if gradients.get(w) is not None]
            grad_weight = _norm([gradients[w] for w in weights])
            q, preact_var, correlation = (
                (math.nan,) * 3 if isinstance(row.module, _RECURRENT) else _batch_statistics(z)
            )
            values = {
                "name": row.name,
                "kind": type_before_parametrizations(row.module).__name__,
                "units": _units_last(z, row.axis).shape[-1],
                "q": q,
                "preact_var": preact_var,
                "correlation": correlation,
                "saturation": _share(row.near_bound),
                "dead": _share(row.always_zero),
                "grad_preact": _norm([g for t in row.outputs if (g := gradients[t]) is not None]),
                "grad_weight": grad_weight,
                "update_ratio": _ratio(lr * grad_weight, _norm(weights)),
            }
            for name, value in values.items():
                columns[name].append(value)
        last = columns["grad_preact"][-1]
        columns["grad_ratio"] = [_ratio(norm, last) for norm in columns["grad_preact"]]
        return LayerReport(columns, loss.item())


def _is_layer(name, module):
    helper = isinstance(module, _NEVER_CALLED) or "parametrizations" in name.split(".")
    return not helper and any(True for _ in _own_parameters(module))


def _own_parameters(module):
    yield from module.named_parameters(recurse=False)
    for name, child in module.named_children():
        if name == "parametrizations" or isinstance(child, _NEVER_CALLED):
            yield from child.named_parameters(prefix=name)


def _is_bias(name):
    return "bias" in name or name == "b"


def _units_last(z, axis):
    """z as a matrix (samples and positions, units)."""
    if z.ndim < 2:
        return z.reshape(-1, 1)
    return z.movedim(axis, -1).flatten(0, -2)


def _share(flags):
    return torch.cat(flags).double().mean().item() if flags else math.nan


def _ratio(numerator, denominator):
    if denominator == 0:
        return math.inf if numerator > 0 else math.nan
    return numerator / denominator


def _norm(tensors):
    """Norm over several tensors together, where the squares would underflow or overflow, too."""
    return math.hypot(*map(_norm_of_one, tensors)) if tensors else math.nan


def _norm_of_one(t):
    t = t.detach().to_dense().cpu().double()
    largest = t.abs().max().item() if t.numel() else 0.0
    if largest == 0 or not math.isfinite(largest):
        return largest
    return largest * torch.linalg.vector_norm(t / largest).item()


def _batch_statistics(z):
    """q, variance over the samples, mean cosine over pairs of samples."""
    z = z.cpu().double()
    z = z.reshape(len(z) if z.ndim else 1, -1)
    q = (z**2).mean().item()
    if len(z) < 2:
        return q, math.nan, math.nan
    return q, z.var(dim=0, correction=0).mean().item(), _mean_cosine(z[:PAIRS_FROM])


def _mean_cosine(z):
    largest = z.abs().amax(dim=1, keepdim=True)
    z = (z / largest)[(largest > 0).flatten()]
    n = len(z)
    if n < 2:
        return math.nan
    z = z / z.norm(dim=1, keepdim=True)
    # The sum of all n² cosines is ‖Σ z‖²; n of them are of a sample with itself.
    return ((z.sum(dim=0) ** 2).sum().item() - n) / (n * (n - 1))


def _describe(value):
    if isinstance(value, torch.Tensor):
        return f"of shape {tuple(value.shape)} and {value.dtype}"
    return type(value).__name__


COLUMNS = (
    *("name", "kind", "units", "q", "preact_var", "correlation", "saturation", "dead"),
    *("grad_preact", "grad_ratio", "grad_weight", "update_ratio"),
)
_TEXT = ("name", "kind")
# Between −1 and 1: printed with three decimals, so that 1e-17 reads as 0.
_FIXED = ("correlation", "saturation", "dead")


class LayerReport:
    """The columns of `layer_report`, one entry per call of a layer.

    ``report["grad_preact"]`` is an array of shape (rows,); "name" and "kind" are lists of str. The printed
    table rounds (a preact_var below 2·10⁻¹⁶ q shows as 0), the arrays do not.

    Attributes
    ----------
    columns : tuple of str
    loss : float
        The value that was differentiated.
    """

    columns = COLUMNS

    def __init__(self, columns, loss):
        self.loss = loss
        self._columns = {
            name: list(columns[name]) if name in _TEXT else np.array(columns[name]) for name in self.columns
        }

    def __len__(self):
        return len(self._columns["name"])

    def __getitem__(self, column):
        try:
            return self._columns[column]
        except (KeyError, TypeError):
            raise ValueError(f"expected one of {', '.join(self.columns)}; got {column!r}") from None

    def to_dict(self):
        """Column name → array (list of str for "name" and "kind"), as `pandas.DataFrame` takes it."""
        return dict(self._columns)

    def __repr__(self):
        table = [self.columns, *self._cells()]
        widths = [max(map(len, column)) for column in zip(*table)]
        lines = [
            "  ".join(
                cell.ljust(width) if name in _TEXT else cell.rjust(width)
                for name, cell, width in zip(self.columns, line, widths)
            ).rstrip()
            for line in table
        ]
        return "\n".join([*lines, self._summary()])

    def _repr_html_(self):
        head = "".join(f'<th scope="col">{name}</th>' for name in self.columns)
        body = "\n".join(
            f'<tr><th scope="row">{html.escape(name)}</th>'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            + "</tr>"
            for name, *cells in self._cells()
        )
        return (
            f'<table class="dataframe">\n<caption>{self._summary()}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
        )

    def _summary(self):
        if math.isfinite(self.loss):
            return f"loss = {_number(self.loss)}"
        return f"loss = {self.loss}: not finite, so the gradients mean nothing"

    def _cells(self):
        for values in zip(*self._columns.values()):
            row = dict(zip(self.columns, values))
            # What is left of the variance of equal samples is rounding noise, other on every processor.
            if row["preact_var"] < np.finfo(float).eps * row["q"]:
                row["preact_var"] = np.float64(0)
            yield [_cell(name, value) for name, value in row.items()]


def _cell(name, value):
    if name in _TEXT:
        return value
    if name in _FIXED and math.isfinite(value):
        return f"{value:z.3f}".replace("-", "−")
    return _number(value.item())


def _number(value):
    if math.isnan(value):
        return "–"
    return significant(value) if math.isfinite(value) else str(value)
