"""Answers to lab 07: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import math

import numpy as np
import torch
import torch.nn.functional as F

# --- bn_forward ---------------------------------------------------------------------------------------------


def in_torch(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    if training:
        mean, var = x.mean(dim=0), x.var(dim=0, unbiased=False)
        m = x.shape[0]
        running_mean.mul_(1 - momentum).add_(momentum * mean)
        running_var.mul_(1 - momentum).add_(momentum * var * m / (m - 1))
    else:
        mean, var = running_mean, running_var
    return gamma * (x - mean) / torch.sqrt(var + eps) + beta


def by_library(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    return F.batch_norm(x, running_mean, running_var, gamma, beta, training, momentum, eps)


def by_module(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    layer = torch.nn.BatchNorm1d(x.shape[1], eps=eps, momentum=momentum, dtype=x.dtype).train(training)
    layer.weight, layer.bias = torch.nn.Parameter(gamma), torch.nn.Parameter(beta)
    layer.running_mean, layer.running_var = running_mean, running_var
    return layer(x)


def by_slices(X, g, b, rm, rv, train=True, rho=0.1, epsilon=1e-5):
    if not train:
        return g * (X - rm) * (rv + epsilon) ** -0.5 + b
    mu = X.mean(0, keepdim=True)
    centred = X - mu
    rm[:] = (1 - rho) * rm + rho * mu
    rv[:] = rv - rho * (rv - centred.pow(2).sum(0) / (len(X) - 1))
    return centred * torch.rsqrt((centred**2).mean(0) + epsilon) * g + b


def by_one_pass(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    if training:
        mean, var = x.mean(0), (x**2).mean(0) - x.mean(0) ** 2
        running_mean.lerp_(mean, momentum)
        running_var.copy_(torch.lerp(running_var, x.var(0), momentum))
    else:
        mean, var = running_mean, running_var
    scale = gamma / (var + eps).sqrt()
    return x * scale + (beta - mean * scale)


def in_numpy(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    x, gamma, beta, rm, rv = (t.numpy() for t in (x, gamma, beta, running_mean, running_var))
    mean, var = (x.mean(0), x.var(0)) if training else (rm, rv)
    y = gamma * (x - mean) / np.sqrt(var + eps) + beta
    if training:
        rm *= 1 - momentum
        rm += momentum * mean
        rv[...] = (1 - momentum) * rv + momentum * x.var(0, ddof=1)
    return y


def in_loops(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    m, d = x.shape
    y = torch.empty(m, d, dtype=torch.float64)
    for j in range(d):
        column = [float(v) for v in x[:, j]]
        mean, var = float(running_mean[j]), float(running_var[j])
        if training:
            mean = math.fsum(column) / m
            squares = math.fsum((v - mean) ** 2 for v in column)
            var = squares / m
            running_mean[j] = (1 - momentum) * running_mean[j] + momentum * mean
            running_var[j] = (1 - momentum) * running_var[j] + momentum * squares / (m - 1)
        for i in range(m):
            y[i, j] = float(gamma[j]) * (column[i] - mean) / math.sqrt(var + eps) + float(beta[j])
    return y


def in_float32(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    x = x.float()
    mean, var = (x.mean(0), x.var(0, correction=0)) if training else (running_mean.float(), running_var.float())
    if training:
        running_mean.data = (1 - momentum) * running_mean.data + momentum * mean
        running_var.data = (1 - momentum) * running_var.data + momentum * x.var(0)
    return gamma.float() * (x - mean) / (var + eps).sqrt() + beta.float()


def in_float32_one_pass(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    """The least accurate of the reasonable ones."""
    x, m = x.float(), len(x)
    mean, var = running_mean.float(), running_var.float()
    if training:
        mean, var = x.mean(0), x.square().mean(0) - x.mean(0).square()
        running_mean.lerp_(mean.double(), momentum)
        running_var.lerp_(var.double() * m / (m - 1), momentum)
    return (gamma * (x - mean) / (var + eps).sqrt() + beta).float()


def with_grad(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    x.requires_grad_(), gamma.requires_grad_()
    return in_torch(x, gamma, beta, running_mean, running_var, training, momentum, eps)


def moments(x):
    return x.mean(0), x.var(0, correction=0)


def root(var, eps):
    return (var + eps).sqrt()


def bn(
    output=lambda x, g, b, mean, var, eps: g * (x - mean) / root(var, eps) + b,
    statistics=lambda x, rm, rv: moments(x),
    evaluation=lambda x, rm, rv: (rm, rv),
    mean_rule=lambda old, new, momentum, m: (1 - momentum) * old + momentum * new,
    var_rule=lambda old, new, momentum, m: (1 - momentum) * old + momentum * new * m / (m - 1),
    late=False,
    eval_output=None,
    defaults=(True, 0.1, 1e-5),
):
    """A batch norm with one thing changed; var_rule gets the biased variance."""

    def bn_forward(x, gamma, beta, running_mean, running_var, training=defaults[0], momentum=defaults[1], eps=defaults[2]):
        m = len(x)

        def update():
            mean, var = moments(x)
            running_mean.copy_(mean_rule(running_mean, mean, momentum, m))
            running_var.copy_(var_rule(running_var, var, momentum, m))

        if training and not late:
            update()
        mean, var = (statistics if training else evaluation)(x, running_mean, running_var)
        function = output if training or eval_output is None else eval_output
        y = function(x, gamma, beta, mean, var, eps)
        if training and late:
            update()
        return y

    return bn_forward


def bn_unchanged(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    return in_torch(x, gamma, beta, running_mean.clone(), running_var.clone(), training, momentum, eps)


def bn_rebound(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    if training:
        mean, var = moments(x)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * x.var(0)
    else:
        mean, var = running_mean, running_var
    return gamma * (x - mean) / root(var, eps) + beta


def bn_var_rebound(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    return in_torch(x, gamma, beta, running_mean, running_var.clone(), training, momentum, eps)


def bn_returns_three(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    running_mean, running_var = running_mean.clone(), running_var.clone()
    y = in_torch(x, gamma, beta, running_mean, running_var, training, momentum, eps)
    return y, running_mean, running_var


def bn_rows_updated(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    mean, var = running_mean, running_var
    if training:
        mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
        running_mean.mul_(1 - momentum).add_(momentum * mean)
        running_var.mul_(1 - momentum).add_(momentum * var)
    return gamma * (x - mean) / root(var, eps) + beta


def bn_keepdim(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    mean, var = x.mean(0, keepdim=True), x.var(0, correction=0, keepdim=True)
    if training:
        running_mean.mul_(1 - momentum).add_(momentum * mean)
        running_var.mul_(1 - momentum).add_(momentum * var)
        return gamma * (x - mean) / root(var, eps) + beta
    return gamma * (x - running_mean) / root(running_var, eps) + beta


def bn_in_place(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    y = in_torch(x, gamma, beta, running_mean, running_var, training, momentum, eps)
    x -= x.mean(0)
    return y


def bn_always_updates(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    old = running_mean.clone(), running_var.clone()
    y = in_torch(x, gamma, beta, running_mean, running_var, True, momentum, eps)
    return y if training else gamma * (x - old[0]) / root(old[1], eps) + beta


def bn_no_return(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    in_torch(x, gamma, beta, running_mean, running_var, training, momentum, eps)


def bn_only_training(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    if training:
        return in_torch(x, gamma, beta, running_mean, running_var, training, momentum, eps)


def bn_not_for_one(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    correction = len(x) / (len(x) - 1)
    if training:
        mean, var = moments(x)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * correction, momentum)
    else:
        mean, var = running_mean, running_var
    return gamma * (x - mean) / root(var, eps) + beta


def bn_one_shifted(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    if len(x) == 1:
        return beta + 0 * x
    return in_torch(x, gamma, beta, running_mean, running_var, training, momentum, eps)


def bn_swapped(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    return in_torch(x, gamma, beta, running_mean, running_var, not training, momentum, eps)


def bn_flag_ignored(x, gamma, beta, running_mean, running_var, training=True, momentum=0.1, eps=1e-5):
    if len(x) == 1:
        return beta.expand_as(x)
    return in_torch(x, gamma, beta, running_mean, running_var, True, momentum, eps)


def bn_eps_in_var(old, new, momentum, m):
    return (1 - momentum) * old + momentum * (new * m / (m - 1) + 0.5)


BN_FORWARD_CORRECT = [
    in_torch,
    by_library,
    by_module,
    by_slices,
    by_one_pass,
    in_numpy,
    in_loops,
    in_float32,
    in_float32_one_pass,
    with_grad,
]

# (answer, a piece of the hint, the points it still earns; None where that depends on the draw)
BN_FORWARD_WRONG = {
    "layer norm": (
        bn(output=lambda x, g, b, mean, var, eps: g * F.layer_norm(x, x.shape[1:], eps=eps) + b),
        "that is layer norm. Batch norm",
        3,
    ),
    "layer norm in training": (
        bn(output=lambda x, g, b, mean, var, eps: g * F.layer_norm(x, x.shape[1:], eps=eps) + b, eval_output=bn.__defaults__[0]),
        "that is layer norm. Batch norm",
        5,
    ),
    "layer norm, estimates too": (bn_rows_updated, "variance over the batch, dim 0, without keepdim", 2),
    "keepdim": (bn_keepdim, "variance over the batch, dim 0, without keepdim", 2),
    "biased running_var": (bn(var_rule=lambda old, new, rho, m: (1 - rho) * old + rho * new), "You store the biased", 6),
    "batch at evaluation": (bn(evaluation=lambda x, rm, rv: moments(x)), "At evaluation the output still depends", 6),
    "flag ignored": (bn_flag_ignored, "At evaluation the output still depends", 6),
    "eps outside": (bn(lambda x, g, b, mean, var, eps: g * (x - mean) / (var.sqrt() + eps) + b), "not √v + ε", 3),
    "gamma and beta ignored": (bn(lambda x, g, b, mean, var, eps: (x - mean) / root(var, eps)), "gamma and beta have no effect: return", 3),
    "rebound": (bn_rebound, "only gives a local name", 5),
    "unchanged": (bn_unchanged, "only gives a local name", 5),
    "running_var rebound": (bn_var_rebound, "only gives a local name", 6),
    "gamma ignored": (bn(lambda x, g, b, mean, var, eps: (x - mean) / root(var, eps) + b), "gamma has no effect: return", 3),
    "beta ignored": (bn(lambda x, g, b, mean, var, eps: g * (x - mean) / root(var, eps)), "beta has no effect: return γ", 3),
    "gamma, beta swapped": (bn(lambda x, g, b, mean, var, eps: b * (x - mean) / root(var, eps) + g), "gamma and beta are swapped", 3),
    "gamma times beta": (bn(lambda x, g, b, mean, var, eps: g * ((x - mean) / root(var, eps) + b)), "multiplies x̂ alone, not β", 3),
    "no affine at evaluation": (
        bn(eval_output=lambda x, g, b, mean, var, eps: (x - mean) / root(var, eps)),
        "At evaluation gamma and beta have no effect",
        6,
    ),
    "x at evaluation": (bn(eval_output=lambda x, g, b, mean, var, eps: x), "you return x as it is", 6),
    "unbiased in y": (bn(statistics=lambda x, rm, rv: (x.mean(0), x.var(0))), "You normalise with the unbiased", 5),
    "eps ignored": (bn(lambda x, g, b, mean, var, eps: g * (x - mean) / var.sqrt() + b), "eps has no effect: divide by", 3),
    "eps fixed": (bn(lambda x, g, b, mean, var, eps: g * (x - mean) / root(var, 1e-5) + b), "1e-5 is only its default", 3),
    "eps squared": (bn(lambda x, g, b, mean, var, eps: g * (x - mean) / root(var, eps**2) + b), "ε is squared", 3),
    "no root": (bn(lambda x, g, b, mean, var, eps: g * (x - mean) / (var + eps) + b), "The root is missing", 3),
    "multiplied": (bn(lambda x, g, b, mean, var, eps: g * (x - mean) * root(var, eps) + b), "You multiply by", 3),
    "not divided": (bn(lambda x, g, b, mean, var, eps: g * (x - mean) + b), "but the division by", 3),
    "not centred": (bn(lambda x, g, b, mean, var, eps: g * x / root(var, eps) + b), "The mean is not subtracted", 3),
    "parentheses": (bn(lambda x, g, b, mean, var, eps: g * (x - mean / root(var, eps)) + b), "Parentheses are missing", 3),
    "one mean for all": (bn(statistics=lambda x, rm, rv: (x.mean(), x.var(correction=0))), "over all entries; each column", 5),
    "running in training": (bn(statistics=lambda x, rm, rv: (rm, rv), late=True), "In training you normalise with the running estimates; use", 5),
    "updated in training": (bn(statistics=lambda x, rm, rv: (rm, rv)), "estimates after their update", 5),
    "modes swapped": (bn_swapped, "The two modes are swapped", 0),
    "corrected at evaluation": (
        bn(evaluation=lambda x, rm, rv: (rm, rv * len(x) / max(len(x) - 1, 1))),
        "needs no factor m/(m − 1)",
        6,
    ),
    "momentum swapped": (
        bn(
            mean_rule=lambda old, new, rho, m: rho * old + (1 - rho) * new,
            var_rule=lambda old, new, rho, m: rho * old + (1 - rho) * new * m / (m - 1),
        ),
        "momentum and 1 − momentum are swapped",
        5,
    ),
    "momentum swapped, biased": (
        bn(var_rule=lambda old, new, rho, m: rho * old + (1 - rho) * new),
        "momentum and 1 − momentum are swapped",
        6,
    ),
    "only grows": (
        bn(
            mean_rule=lambda old, new, rho, m: old + rho * new,
            var_rule=lambda old, new, rho, m: old + rho * new * m / (m - 1),
        ),
        "yours only grows",
        5,
    ),
    "new not weighted": (bn(mean_rule=lambda old, new, rho, m: (1 - rho) * old + new), "must be multiplied by momentum", 7),
    "new missing": (bn(mean_rule=lambda old, new, rho, m: (1 - rho) * old), "statistic is not added to it", 7),
    "overwritten": (
        bn(mean_rule=lambda old, new, rho, m: new, var_rule=lambda old, new, rho, m: new * m / (m - 1)),
        "is overwritten by the batch",
        5,
    ),
    "half each": (bn(mean_rule=lambda old, new, rho, m: (old + new) / 2), "Old and new count half each", 7),
    "momentum fixed": (
        bn(
            mean_rule=lambda old, new, rho, m: 0.9 * old + 0.1 * new,
            var_rule=lambda old, new, rho, m: 0.9 * old + 0.1 * new * m / (m - 1),
        ),
        "momentum has no effect: 0.1",
        5,
    ),
    "corrected twice": (
        bn(var_rule=lambda old, new, rho, m: (1 - rho) * old + rho * new * (m / (m - 1)) ** 2),
        "is applied twice",
        6,
    ),
    "correction upside down": (
        bn(var_rule=lambda old, new, rho, m: (1 - rho) * old + rho * new * (m - 1) / m),
        "The correction is the wrong way round",
        6,
    ),
    "standard deviation": (
        bn(var_rule=lambda old, new, rho, m: (1 - rho) * old + rho * (new * m / (m - 1)).sqrt()),
        "not a standard deviation",
        6,
    ),
    "always updated": (bn_always_updates, "change at evaluation, too", 6),
    "default momentum 0.9": (bn(defaults=(True, 0.9, 1e-5)), "set its default, 0.1", 5),
    "default eps 1e-3": (bn(defaults=(True, 0.1, 1e-3)), "set its default, 1e-5", 3),
    "default training False": (bn(defaults=(False, 0.1, 1e-5)), "set its default, True", 2),
    "three values": (bn_returns_three, "Return y alone", 0),
    "no return": (bn_no_return, "return y, in both modes", 3),
    "only training": (bn_only_training, "return y, in both modes", 6),
    "not for one": (bn_not_for_one, "but not for a batch of one at evaluation: your function raised ZeroDivisionError", 6),
    "wrong for one": (bn_one_shifted, "for a batch of any size", 6),
    "in place": (bn_in_place, "changed x, gamma or beta in place", 3),
    "something else in training": (
        bn(lambda x, g, b, mean, var, eps: g * torch.tanh(x - mean) + b, eval_output=bn.__defaults__[0]),
        "In training μ and v are the mean",
        5,
    ),
    "something else in running_var": (bn(var_rule=bn_eps_in_var), "In training running_var becomes", 6),
    "something else in running_mean": (
        bn(mean_rule=lambda old, new, rho, m: (1 - rho) * old - rho * new),
        "In training running_mean becomes",
        7,
    ),
    "something else at evaluation": (
        bn(evaluation=lambda x, rm, rv: (rm, rv**2)),
        "for a batch of any size",
        6,
    ),
}

# --- bn_backward --------------------------------------------------------------------------------------------


def by_formula(dy, x, gamma, eps=1e-5):
    m = len(x)
    s = torch.sqrt(x.var(0, correction=0) + eps)
    unit = (x - x.mean(0)) / s
    dgamma, dbeta = (dy * unit).sum(0), dy.sum(0)
    return gamma / (m * s) * (m * dy - dbeta - unit * dgamma), dgamma, dbeta


def by_steps(dy, x, gamma, eps=1e-5):
    """The graph of the 2015 paper, node by node."""
    m = x.shape[0]
    centred = x - x.mean(0)
    var = (centred**2).mean(0)
    inverse = 1 / torch.sqrt(var + eps)
    dhat = dy * gamma
    dvar = (dhat * centred).sum(0) * -0.5 * inverse**3
    dmean = -(dhat * inverse).sum(0) - dvar * 2 * centred.sum(0) / m
    dx = dhat * inverse + dvar * 2 * centred / m + dmean / m
    return [dx, (dy * centred * inverse).sum(0), dy.sum(0)]


def by_autograd(dy, x, gamma, eps=1e-5):
    x = x.detach().clone().requires_grad_()
    gamma, beta = gamma.clone().requires_grad_(), torch.zeros_like(gamma).requires_grad_()
    y = gamma * (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + eps) + beta
    y.backward(dy)
    return x.grad, gamma.grad, beta.grad


def by_library_backward(dy, x, gamma, eps=1e-5):
    values = x.requires_grad_(), gamma.requires_grad_(), torch.zeros_like(gamma, requires_grad=True)
    y = F.batch_norm(x, None, None, gamma, values[2], training=True, eps=eps)
    return torch.autograd.grad(y, values, dy)


def by_native(dy, x, gamma, eps=1e-5):
    mean, inverse = x.mean(0), torch.rsqrt(x.var(0, correction=0) + eps)
    return torch.ops.aten.native_batch_norm_backward(dy, x, gamma, None, None, mean, inverse, True, eps, [True] * 3)


def by_projection(dy, x, gamma, eps=1e-5):
    """The Jacobian of each column as a matrix, in NumPy."""
    dy, x, gamma = (t.numpy() for t in (dy, x, gamma))
    m, d = x.shape
    dx, unit = np.zeros((m, d)), np.zeros((m, d))
    for j in range(d):
        s = math.sqrt(x[:, j].var() + eps)
        unit[:, j] = (x[:, j] - x[:, j].mean()) / s
        dx[:, j] = gamma[j] / s * (np.eye(m) - 1 / m - np.outer(unit[:, j], unit[:, j]) / m) @ dy[:, j]
    return dx, np.einsum("ij,ij->j", dy, unit), dy.sum(0)


def by_float32(dy, x, gamma, eps=1e-5):
    return tuple(by_formula(dy.float(), x.float(), gamma.float(), eps))


def by_float32_one_pass(dy, x, gamma, eps=1e-5):
    dy, x = dy.float(), x.float()
    s = (x.square().mean(0) - x.mean(0).square() + eps).sqrt()
    unit = (x - x.mean(0)) / s
    g = dy * gamma.float()
    return (g - g.mean(0) - unit * (g * unit).mean(0)) / s, (dy * unit).sum(0), dy.sum(0)


def by_differences(dy, x, gamma, eps=1e-5, step=1e-7):
    def loss(x, gamma, beta):
        return (dy * F.batch_norm(x, None, None, gamma, beta, True, 0.1, eps)).sum()

    values = [x, gamma, torch.zeros_like(gamma)]
    gradients = []
    for k, value in enumerate(values):
        gradient = torch.zeros(value.numel(), dtype=value.dtype)
        for i in range(value.numel()):
            side = torch.zeros(value.numel(), dtype=value.dtype)
            side[i] = step
            up = [v + side.view_as(v) if j == k else v for j, v in enumerate(values)]
            gradient[i] = (loss(*up) - loss(*values)) / step
        gradients.append(gradient.view_as(value))
    return gradients


class Back:
    """What a backward pass is made of."""

    def __init__(self, dy, x, gamma, eps, scale):
        self.dy, self.x, self.gamma, self.m = dy, x, gamma, len(x)
        self.centred = x - x.mean(0)
        self.var = self.centred.square().mean(0)
        self.s = scale(self.var, eps)
        self.unit = self.centred / self.s


def back(
    dx=lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.unit * (v.dy * v.unit).mean(0)),
    dgamma=lambda v: (v.dy * v.unit).sum(0),
    dbeta=lambda v: v.dy.sum(0),
    scale=root,
    default=1e-5,
):
    """A backward pass with one thing changed."""

    def bn_backward(dy, x, gamma, eps=default):
        v = Back(dy, x, gamma, eps, scale)
        return dx(v), dgamma(v), dbeta(v)

    return bn_backward


def good(v):
    return back.__defaults__[0](v)


def back_unbiased(dy, x, gamma, eps=1e-5):
    m = len(x)
    return back(scale=lambda var, eps: root(var * m / (m - 1), eps))(dy, x, gamma, eps)


def back_in_place(dy, x, gamma, eps=1e-5):
    result = by_formula(dy, x, gamma, eps)
    dy *= gamma
    return result


BN_BACKWARD_CORRECT = [
    by_formula,
    by_steps,
    by_autograd,
    by_library_backward,
    by_native,
    by_projection,
    by_float32,
    by_float32_one_pass,
    by_differences,
]

MEAN_PATH, SCALE_PATH = "The path through the mean is missing", "The path through the scale s is missing"
BN_BACKWARD_WRONG = {
    "constants": (back(lambda v: v.gamma * v.dy / v.s), "treats μ and s as constants", 3),
    "mean path missing": (back(lambda v: v.gamma / v.s * (v.dy - v.unit * (v.dy * v.unit).mean(0))), MEAN_PATH, 3),
    "scale path missing": (back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0))), SCALE_PATH, 3),
    "dgamma with x": (back(dgamma=lambda v: (v.dy * v.x).sum(0)), "you use the raw x in place of x̂", 5),
    "sign of the scale's term": (
        back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) + v.unit * (v.dy * v.unit).mean(0))),
        "The term with x̂·mean(dy·x̂) has the wrong sign",
        3,
    ),
    "sign of the mean": (
        back(lambda v: v.gamma / v.s * (v.dy + v.dy.mean(0) - v.unit * (v.dy * v.unit).mean(0))),
        "mean(dy) has the wrong sign",
        3,
    ),
    "sign": (back(lambda v: -good(v)), "Every value of dx has the wrong sign", 3),
    "gamma missing": (back(lambda v: good(v) / v.gamma), "gamma has no effect on dx", 3),
    "gamma once": (
        back(lambda v: (v.gamma * v.dy - v.dy.mean(0) - v.unit * (v.dy * v.unit).mean(0)) / v.s),
        "γ multiplies all three terms",
        3,
    ),
    "1/s missing": (back(lambda v: good(v) * v.s), "The factor 1/s is missing", 3),
    "1/s twice": (back(lambda v: good(v) / v.s), "dx is divided by s twice", 3),
    "times s": (back(lambda v: good(v) * v.s**2), "dx is multiplied by s", 3),
    "1/m": (back(lambda v: good(v) / v.m), "dx is m times too small", 3),
    "m": (back(lambda v: good(v) * v.m), "dx is m times too large", 3),
    "sums": (back(lambda v: v.gamma / v.s * (v.dy - v.dy.sum(0) - v.unit * (v.dy * v.unit).sum(0))), "a factor 1/m is missing in both", 3),
    "sum of dy": (back(lambda v: v.gamma / v.s * (v.dy - v.dy.sum(0) - v.unit * (v.dy * v.unit).mean(0))), "The first subtracted term is", 3),
    "sum of dy·x̂": (back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.unit * (v.dy * v.unit).sum(0))), "The last term has the mean", 3),
    "x̂ missing": (back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - (v.dy * v.unit).mean(0))), "the factor x̂ is missing: x̂·", 3),
    "centred for x̂": (back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.centred * (v.dy * v.centred).mean(0))), "you use x − μ.", 3),
    "x for x̂": (back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.x * (v.dy * v.x).mean(0))), "you use the raw x.", 3),
    "mean of dy only": (back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.unit * v.dy.mean(0))), "with a product under the mean", 3),
    "no mean": (back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.unit**2 * v.dy)), "the mean over the batch is missing in it", 3),
    "means over features": (
        back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(1, True) - v.unit * (v.dy * v.unit).mean(1, True))),
        "Your means run over the features",
        3,
    ),
    "eps outside": (back(scale=lambda var, eps: var.sqrt() + eps), "not √v + ε", 1),
    "eps ignored": (back(scale=lambda var, eps: var.sqrt()), "eps has no effect: s =", 1),
    "eps fixed": (back(scale=lambda var, eps: root(var, 1e-5)), "1e-5 is only its default", 1),
    "default eps": (back(default=1e-8), "set its default, 1e-5", 1),
    "unbiased": (back_unbiased, "s has the unbiased variance", 1),
    "no root": (back(scale=lambda var, eps: var + eps), "The root is missing", 1),
    "swapped": (back(dgamma=lambda v: v.dy.sum(0), dbeta=lambda v: (v.dy * v.unit).sum(0)), "dgamma and dbeta are swapped", 4),
    "means": (back(dgamma=lambda v: (v.dy * v.unit).mean(0), dbeta=lambda v: v.dy.mean(0)), "their gradients are sums", 4),
    "mean for dgamma": (back(dgamma=lambda v: (v.dy * v.unit).mean(0)), "γ acts on every row", 5),
    "mean for dbeta": (back(dbeta=lambda v: v.dy.mean(0)), "β acts on every row", 6),
    "dgamma, centred": (back(dgamma=lambda v: (v.dy * v.centred).sum(0)), "without the division by s", 5),
    "dgamma times gamma": (back(dgamma=lambda v: v.gamma * (v.dy * v.unit).sum(0)), "has no factor γ: y = γ·x̂ + β, and its derivative by γ", 5),
    "dgamma without dy": (back(dgamma=lambda v: v.unit.sum(0)), "dy is missing in", 5),
    "dgamma without x̂": (back(dgamma=lambda v: v.dy.sum(0)), "what you return is dβ", 5),
    "dbeta times gamma": (back(dbeta=lambda v: v.gamma * v.dy.sum(0)), "has no factor γ: y = γ·x̂ + β, and its derivative by β", 6),
    "dbeta from dx": (back(dbeta=lambda v: good(v).sum(0)), "you sum dx", 6),
    "keepdim": (back(dgamma=lambda v: (v.dy * v.unit).sum(0, keepdim=True)), "dgamma: expected the shape of gamma", 5),
    "dbeta None": (back(dbeta=lambda v: None), "dbeta: expected a tensor, got nothing", 6),
    "not summed": (back(dgamma=lambda v: v.dy * v.unit), "dgamma: expected the shape of gamma", 5),
    "dx alone": (lambda dy, x, gamma, eps=1e-5: by_formula(dy, x, gamma, eps)[0], "got a value of type Tensor and shape (4, 2)", 0),
    "dx and dgamma": (lambda dy, x, gamma, eps=1e-5: by_formula(dy, x, gamma, eps)[:2], "of type tuple with 2 entries", 0),
    "in place": (back_in_place, "changed its input in place", 0),
    "arguments swapped": (lambda dy, x, gamma, eps=1e-5: by_formula(x, dy, gamma, eps), "dy is the first argument", 0),
    "mean over features": (
        back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(1, True) - v.unit * (v.dy * v.unit).mean(0))),
        "A shift of all inputs does not change y",
        3,
    ),
    "another direction": (
        back(lambda v: v.gamma / v.s * (v.dy - v.dy.mean(0) - v.unit * (v.dy * v.unit).mean(0) / 2)),
        "dx must also be orthogonal to x̂",
        3,
    ),
    "another factor": (back(lambda v: good(v) * v.gamma), "but its length is wrong", 3),
    "another dgamma": (back(dgamma=lambda v: (v.dy * v.unit**2).sum(0)), "dγ = Σ dy·x̂ over the batch, one", 5),
    "another dbeta": (back(dbeta=lambda v: v.dy.abs().sum(0)), "dβ = Σ dy over the batch, one", 6),
}

# --- layer_norm, rms_norm -----------------------------------------------------------------------------------


def ln_in_torch(x, eps=1e-5):
    var, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(var + eps)


def ln_by_library(x, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def ln_by_module(x, eps=1e-5):
    return torch.nn.LayerNorm(x.shape[-1], eps=eps, elementwise_affine=False)(x)


def ln_by_batch_norm(x, eps=1e-5):
    rows = x.reshape(-1, x.shape[-1])
    return F.batch_norm(rows.T, None, None, training=True, eps=eps).T.reshape(x.shape) if rows.shape[-1] > 1 else 0 * x


def ln_in_numpy(x, eps=1e-5):
    x = x.numpy()
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt((x**2).mean(axis=-1, keepdims=True) - mean**2 + eps)


def ln_in_loops(x, eps=1e-5):
    def one(row):
        mean = sum(row) / len(row)
        s = math.sqrt(sum((v - mean) ** 2 for v in row) / len(row) + eps)
        return [(v - mean) / s for v in row]

    return torch.tensor([one(row) for row in x.reshape(-1, x.shape[-1]).tolist()], dtype=x.dtype).view_as(x)


def ln_in_float32(x, eps=1e-5):
    x = x.float()
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / (x.square().mean(-1, keepdim=True) - mean.square() + eps).sqrt()


def ln_by_recursion(x, eps=1e-5):
    if x.ndim > 1:
        return torch.stack([ln_by_recursion(row, eps) for row in x])
    return (x - x.mean()) / (x.std(correction=0) ** 2 + eps) ** 0.5


def rms_in_torch(x, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def rms_by_library(x, eps=1e-6):
    return F.rms_norm(x, x.shape[-1:], eps=eps)


def rms_by_norm(x, eps=1e-6):
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) ** 2 / x.shape[-1] + eps).sqrt()


def rms_by_scaling(x, eps=1e-6):
    d = x.size(-1)
    return math.sqrt(d) * x / torch.sqrt((x * x).sum(-1, keepdim=True) + d * eps)


def rms_in_numpy(x, eps=1e-6):
    x = x.numpy()
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)


def rms_in_loops(x, eps=1e-6):
    rows = x.reshape(-1, x.shape[-1]).tolist()
    rows = [[v / math.sqrt(sum(u * u for u in row) / len(row) + eps) for v in row] for row in rows]
    return torch.tensor(rows, dtype=torch.float64).reshape(x.shape)


def rms_in_float32(x, eps=1e-6):
    return rms_in_torch(x.float(), eps)


def last(x):
    return x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)


def over(dims):
    def statistics(x):
        axes = dims(x)
        return x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)

    return statistics


def ln(statistics=last, output=lambda x, mean, var, eps: (x - mean) / root(var, eps), default=1e-5):
    def layer_norm(x, eps=default):
        return output(x, *statistics(x), eps)

    return layer_norm


def rms(output=lambda x, square, eps: x / root(square, eps), default=1e-6, dims=lambda x: -1):
    def rms_norm(x, eps=default):
        return output(x, x.square().mean(dims(x), keepdim=True), eps)

    return rms_norm


def in_place(function):
    def changed(x, eps=1e-5):
        y = function(x, eps)
        x -= x.mean(-1, keepdim=True)
        return y

    return changed


def ln_over_1(x, eps=1e-5):
    return (x - x.mean(1, keepdim=True)) / root(x.var(1, correction=0, keepdim=True), eps)


def ln_without_keepdim(x, eps=1e-5):
    return (x - x.mean(-1)) / root(x.var(-1, correction=0), eps)


def rms_over_1(x, eps=1e-6):
    return x / root(x.square().mean(1, keepdim=True), eps)


def first(x):
    return 0


def every(x):
    return tuple(range(x.ndim))


def after_first(x):
    return tuple(range(min(1, x.ndim - 1), x.ndim))


LAYER_NORM_CORRECT = [
    ln_in_torch,
    ln_by_library,
    ln_by_module,
    ln_by_batch_norm,
    ln_in_numpy,
    ln_in_loops,
    ln_in_float32,
    ln_by_recursion,
]
LAYER_NORM_WRONG = {
    "over the batch": (ln(over(first)), "You normalise over the batch", 0),
    "root missing": (ln(output=lambda x, mean, var, eps: (x - mean) / (var + eps)), "The root is missing", 0),
    "L2 norm": (lambda x, eps=1e-5: F.normalize(x - x.mean(-1, keepdim=True), dim=-1, eps=eps), "Your rows have length 1", 0),
    "L2 norm, eps inside": (
        lambda x, eps=1e-5: (x - x.mean(-1, True)) / root((x - x.mean(-1, True)).square().sum(-1, True), eps),
        "Your rows have length 1",
        0,
    ),
    "rms norm": (lambda x, eps=1e-5: rms_in_torch(x, eps), "that is RMSNorm", 0),
    "unbiased": (lambda x, eps=1e-5: (x - x.mean(-1, True)) / root(x.var(-1, keepdim=True), eps), "divided by D − 1", 0),
    "unbiased std plus eps": (
        lambda x, eps=1e-5: (x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + eps),
        "divided by D − 1",
        0,
    ),
    "std plus eps": (ln(output=lambda x, mean, var, eps: (x - mean) / (var.sqrt() + eps)), "ε belongs under the root", 3),
    "eps ignored": (ln(output=lambda x, mean, var, eps: (x - mean) / var.sqrt()), "eps has no effect: add it", 3),
    "eps fixed": (ln(output=lambda x, mean, var, eps: (x - mean) / root(var, 1e-5)), "1e-5 is only its default", 3),
    "eps squared": (ln(output=lambda x, mean, var, eps: (x - mean) / root(var, eps**2)), "ε is squared", 3),
    "clamped": (ln(output=lambda x, mean, var, eps: (x - mean) / var.clamp(min=eps).sqrt()), "it is no lower limit", 3),
    "default 1e-6": (ln(default=1e-6), "its default must be", 3),
    "not centred": (ln(output=lambda x, mean, var, eps: x / root(var, eps)), "only the spread is right", 0),
    "not divided": (ln(output=lambda x, mean, var, eps: x - mean), "but the division by", 0),
    "multiplied": (ln(output=lambda x, mean, var, eps: (x - mean) * root(var, eps)), "You multiply by", 0),
    "parentheses": (ln(output=lambda x, mean, var, eps: x - mean / root(var, eps)), "Parentheses are missing", 0),
    "mean distance": (
        lambda x, eps=1e-5: (x - last(x)[0]) / ((x - last(x)[0]).abs().mean(-1, True) + eps),
        "mean distance from the mean",
        0,
    ),
    "over all": (lambda x, eps=1e-5: F.layer_norm(x, x.shape, eps=eps), "over all entries", 0),
    "all but the first": (lambda x, eps=1e-5: F.layer_norm(x, x.shape[1:] or x.shape, eps=eps), "over all axes but the first", 3),
    "dim 1": (ln_over_1, "works for a matrix, but not for x of shape", 3),
    "keepdim": (ln_without_keepdim, "raised RuntimeError", 0),
    "in place": (in_place(ln_in_torch), "changed its input in place", 0),
    "no default": (lambda x, eps: ln_in_torch(x, eps), "but yours takes (x, eps)", 0),
    "something else": (lambda x, eps=1e-5: torch.softmax(x, -1), "The first row of your output has mean", 0),
    "median": (
        lambda x, eps=1e-5: (x - x.median(-1, keepdim=True).values) / root(last(x)[1], eps),
        "The first row of your output has mean",
        0,
    ),
    "eps elsewhere": (ln(output=lambda x, mean, var, eps: (x - mean + eps) / root(var, eps)), "and it is 1e-5 unless", 3),
    "vectors alone": (
        lambda x, eps=1e-5: ln_in_torch(x, eps) if x.ndim < 3 else ln_in_torch(x, eps).mT.reshape(x.shape),
        "Whatever stands before it",
        3,
    ),
}

RMS_NORM_CORRECT = [
    rms_in_torch,
    rms_by_library,
    rms_by_norm,
    rms_by_scaling,
    rms_in_numpy,
    rms_in_loops,
    rms_in_float32,
]
RMS_NORM_WRONG = {
    "over the batch": (rms(dims=first), "You normalise over the batch", 0),
    "L2 norm": (lambda x, eps=1e-6: F.normalize(x, dim=-1, eps=eps), "Your rows have length 1", 0),
    "L2 norm, eps outside": (lambda x, eps=1e-6: x / (x.norm(dim=-1, keepdim=True) + eps), "Your rows have length 1", 0),
    "root missing": (rms(lambda x, square, eps: x / (square + eps)), "The root is missing", 0),
    "layer norm": (lambda x, eps=1e-6: F.layer_norm(x, x.shape[-1:], eps=eps), "that is layer norm", 0),
    "standard deviation": (lambda x, eps=1e-6: x / root(last(x)[1], eps), "You divide by the standard deviation", 0),
    "unbiased deviation": (lambda x, eps=1e-6: x / root(x.var(-1, keepdim=True), eps), "You divide by the standard deviation", 0),
    "centred": (rms(lambda x, square, eps: (x - x.mean(-1, True)) / root(square, eps)), "but you subtract the mean first", 0),
    "D − 1": (rms(lambda x, square, eps: x / root(square * x.shape[-1] / (x.shape[-1] - 1), eps)), "not by D − 1", 0),
    "rms plus eps": (rms(lambda x, square, eps: x / (square.sqrt() + eps)), "ε belongs under the root", 3),
    "eps ignored": (rms(lambda x, square, eps: x / square.sqrt()), "eps has no effect: add it", 3),
    "library's default": (lambda x, eps=1e-6: F.rms_norm(x, x.shape[-1:]), "eps has no effect: add it", 3),
    "eps fixed": (rms(lambda x, square, eps: x / root(square, 1e-6)), "1e-6 is only its default", 3),
    "eps squared": (rms(lambda x, square, eps: x / root(square, eps**2)), "ε is squared", 3),
    "clamped": (rms(lambda x, square, eps: x / square.clamp(min=eps).sqrt()), "it is no lower limit", 3),
    "default 1e-5": (rms(default=1e-5), "its default must be", 3),
    "multiplied": (rms(lambda x, square, eps: x * root(square, eps)), "You multiply by the rms", 0),
    "mean of |x|": (lambda x, eps=1e-6: x / (x.abs().mean(-1, True) + eps), "You divide by the mean of |x|", 0),
    "square of the mean": (lambda x, eps=1e-6: x / root(x.mean(-1, True) ** 2, eps), "You square the mean", 0),
    "over all": (rms(dims=every), "over all entries", 0),
    "all but the first": (rms(dims=after_first), "over all axes but the first", 3),
    "dim 1": (rms_over_1, "works for a matrix, but not for x of shape", 3),
    "keepdim": (lambda x, eps=1e-6: x / root(x.square().mean(-1), eps), "raised RuntimeError", 0),
    "in place": (in_place(rms_in_torch), "changed its input in place", 0),
    "scaled twice": (lambda x, eps=1e-6: 2 * rms_in_torch(x, eps), "The first row of your output has mean", 0),
    "largest": (lambda x, eps=1e-6: x / (x.abs().amax(-1, True) + eps), "The first row of your output has mean", 0),
    "eps elsewhere": (rms(lambda x, square, eps: (x + eps) / root(square, eps)), "and it is 1e-6 unless", 3),
    "vectors alone": (
        lambda x, eps=1e-6: rms_in_torch(x, eps) if x.ndim < 3 else rms_in_torch(x, eps).mT.reshape(x.shape),
        "Whatever stands before it",
        3,
    ),
}

CORRECT = {
    "bn_forward": BN_FORWARD_CORRECT,
    "bn_backward": BN_BACKWARD_CORRECT,
    "layer_norm": LAYER_NORM_CORRECT,
    "rms_norm": RMS_NORM_CORRECT,
}
CORRECT_SLOW = {}
WRONG = {
    "bn_forward": BN_FORWARD_WRONG,
    "bn_backward": BN_BACKWARD_WRONG,
    "layer_norm": LAYER_NORM_WRONG,
    "rms_norm": RMS_NORM_WRONG,
}
