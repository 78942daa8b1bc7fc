"""Answers to lab 05: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import decimal
import math

import numpy as np
import torch
import torch.nn.functional as F

# --- dead_fraction ------------------------------------------------------------------------------------------


def dead_by_all(a):
    return (a == 0).all(0).float().mean()


def dead_by_max(a):
    return (a.max(dim=0).values == 0).double().mean().item()


def dead_by_sum(a):
    return int((a.sum(0) == 0).sum()) / a.shape[1]


def dead_in_numpy(a):
    return np.mean(~a.numpy().any(axis=0))


def dead_in_a_loop(a):
    samples, units = a.shape
    return sum(all(a[i, j] <= 0 for i in range(samples)) for j in range(units)) / units


def dead_by_count(a):
    return 1 - torch.count_nonzero(torch.count_nonzero(a, dim=0)) / a.size(1)


def dead_by_norm(a):
    return torch.tensor([float(torch.linalg.vector_norm(unit.float()) == 0) for unit in a.T]).mean()


def dead_by_allclose(a):
    return np.float32(np.mean([np.allclose(unit, 0) for unit in a.numpy().T]))


DEAD_CORRECT = [
    dead_by_all, dead_by_max, dead_by_sum, dead_in_numpy, dead_in_a_loop, dead_by_count, dead_by_norm, dead_by_allclose,
]
DEAD_WRONG = {
    "sparsity": (lambda a: (a == 0).double().mean(), "the sparsity", None),
    "any": (lambda a: (a == 0).any(0).double().mean(), "0 for at least one sample", None),
    "samples": (lambda a: (a == 0).all(1).double().mean(), "count samples for which all units are 0", None),
    "count": (lambda a: (a == 0).all(0).sum(), "the number of dead units", None),
    "by samples": (lambda a: (a == 0).all(0).sum() / len(a), "divide by the number of samples", None),
    "alive": (lambda a: (a != 0).any(0).double().mean(), "the share of units that are alive", None),
    "per cent": (lambda a: 100 * (a == 0).all(0).double().mean(), "in per cent", None),
    "below 1e-4": (lambda a: (a < 1e-4).all(0).double().mean(), "Small activations count as dead", 4),
    "mean below 1e-3": (lambda a: (a.mean(0) < 1e-3).double().mean(), "Small activations count as dead", 4),
    "isclose": (lambda a: torch.isclose(a, torch.zeros_like(a), atol=1e-5).all(0).double().mean(), "Small activations count as dead", 4),
    "below 1e-6": (lambda a: (a.amax(0) < 1e-6).sum() / a.shape[1], "Small activations count as dead", 4),
    "mean below 1e-6": (lambda a: np.mean(a.numpy().mean(0) < 1e-6), "Small activations count as dead", 4),
    "constant": (lambda a: (a.std(0) == 0).double().mean(), "the same positive activation", None),
    "last sample": (lambda a: float((a[-1] == 0).double().mean()), "one sample only", None),
    "first sample": (lambda a: (a[0] == 0).double().mean(), "one sample only", None),
    "per unit": (lambda a: (a == 0).double().mean(0), "expected one number", 0),
    "bool": (lambda a: (a == 0).all(), "expected a real number", 0),
    "in place": (lambda a: (a.clamp_(min=1e-3) <= 1e-3).all(0).double().mean(), "changed its input in place", None),
    "last sample left out": (lambda a: (a[:-1] == 0).all(0).double().mean(), "You leave a sample out", None),
    "first sample left out": (lambda a: (a[1:] == 0).all(0).double().mean(), "You leave a sample out", None),
    # no known mistakes
    "one more": (lambda a: ((a == 0).all(0).sum() + 1) / a.shape[1], "in which every entry is 0, and divide", None),
    "half": (lambda a: (a == 0).all(0).double().mean() / 2, "in which every entry is 0, and divide", None),
    "odd columns": (lambda a: (a[:, 1:] == 0).all(0).double().mean(), "in which every entry is 0, and divide", None),
}

# --- elu ----------------------------------------------------------------------------------------------------


def elu_by_where(z, alpha=1.0):
    return torch.where(z > 0, z, alpha * (torch.exp(z) - 1)), torch.where(z > 0, 1.0, alpha * torch.exp(z))


def elu_by_library(z, alpha=1.0):
    x = z.clone().requires_grad_()
    value = F.elu(x, alpha)
    value.sum().backward()
    return value, x.grad


def elu_by_expm1(z, alpha=1.0):
    value = torch.relu(z) + alpha * torch.expm1(torch.minimum(z, torch.zeros_like(z)))
    return [value, torch.where(z < 0, value + alpha, torch.ones_like(z))]


def elu_in_numpy(z, alpha=1.0):
    z = z.numpy()
    e = np.exp(np.minimum(z, 0))
    return np.where(z >= 0, z, alpha * (e - 1)), np.where(z >= 0, 1.0, alpha * e)


def elu_in_a_loop(z, alpha=1.0):
    value = [x if x > 0 else alpha * (math.exp(x) - 1) for x in z.flatten().tolist()]
    slope = [1.0 if x > 0 else alpha * math.exp(x) for x in z.flatten().tolist()]
    return torch.tensor(value).reshape(z.shape), torch.tensor(slope).reshape(z.shape)


def elu_stacked(z, alpha=1.0):
    x = z.clone().requires_grad_()
    value = x.clamp(min=0) + alpha * (x.clamp(max=0).exp() - 1)
    return torch.stack([value, torch.autograd.grad(value.sum(), x)[0]])


def elu_by_indices(z, alpha=1.0):
    value, slope, below = z.clone(), torch.ones_like(z), z < 0
    value[below] = alpha * torch.expm1(z[below])
    slope[below] = value[below] + alpha
    return value, slope


def elu_in_float32(z, alpha=1.0):
    return elu_by_where(z.float(), alpha)


def elu_with(value=lambda z, a: a * (torch.exp(z) - 1), slope=lambda z, a: a * torch.exp(z), above=1.0):
    def answer(z, alpha=1.0):
        return torch.where(z > 0, z, value(z, alpha)), torch.where(z > 0, above, slope(z, alpha))

    return answer


def elu_by_masks(z, alpha=1.0):
    up, down = (z > 0).double(), (z <= 0).double()
    return up * z + down * alpha * (torch.exp(z) - 1), up + down * alpha * torch.exp(z)


ELU_CORRECT = [elu_by_where, elu_by_library, elu_by_expm1, elu_in_numpy, elu_in_a_loop, elu_stacked, elu_by_indices, elu_in_float32]
ELU_WRONG = {
    "swapped": (lambda z, alpha=1.0: elu_by_where(z, alpha)[::-1], "The two results are swapped", 0),
    "alpha ignored": (lambda z, alpha=1.0: elu_by_where(z), "alpha has no effect: for", 0),
    "alpha ignored in value": (elu_with(value=lambda z, a: torch.exp(z) - 1), "alpha has no effect on the value", 2),
    "alpha ignored in slope": (elu_with(slope=lambda z, a: torch.exp(z)), "alpha has no effect on the slope", None),
    "no minus 1": (elu_with(value=lambda z, a: a * torch.exp(z)), "lacks the −1", 2),
    "bracket": (elu_with(value=lambda z, a: a * torch.exp(z) - 1), "the 1 is inside the bracket", 2),
    "sign": (elu_with(value=lambda z, a: a * (1 - torch.exp(z))), "has the wrong sign", 2),
    "minus z": (elu_with(value=lambda z, a: a * (torch.exp(-z) - 1)), "the exponent is z, not −z", None),
    "alpha in exponent": (elu_with(value=lambda z, a: torch.exp(a * z) - 1), "not in the exponent", 2),
    "slope is value": (elu_with(slope=lambda z, a: a * (torch.exp(z) - 1)), "the −1 of the value is constant", 2),
    "slope is value + 1": (elu_with(slope=lambda z, a: a * (torch.exp(z) - 1) + 1), "value + alpha, not value + 1", 2),
    "ReLU's slope": (elu_with(slope=lambda z, a: 0.0 * z), "Your slope is ReLU's", None),
    "leaky slope": (elu_with(slope=lambda z, a: torch.full_like(z, a)), "that of a leaky ReLU", 2),
    "ReLU's value": (elu_with(value=lambda z, a: 0.0 * z), "Your value is ReLU's", 2),
    "alpha above": (lambda z, alpha=1.0: (elu_by_where(z, alpha)[0], alpha * torch.exp(z.clamp(max=0))), "the slope is 1, without alpha", 2),
    "slope z above": (lambda z, alpha=1.0: (elu_by_where(z, alpha)[0], torch.where(z > 0, z, alpha * torch.exp(z))), "For z > 0 the slope is 1.", None),
    "masks": (elu_by_masks, "is not finite for |z| up to 1000", 4),
    "value only": (lambda z, alpha=1.0: F.elu(z, alpha), "expected 2 values, value, slope", 0),
    "sums": (lambda z, alpha=1.0: tuple(t.sum() for t in elu_by_where(z, alpha)), "returned one number for an input", 0),
    # no known mistakes
    "softer": (elu_with(value=lambda z, a: a * (torch.exp(z / 2) - 1)), "The value is z for z > 0 and", None),
    "steeper": (elu_with(slope=lambda z, a: a * torch.exp(2 * z)), "The slope is 1 for z > 0 and", None),
}

# --- selu ---------------------------------------------------------------------------------------------------

L, A = 1.0507009873554805, 1.6732632423543772


def selu_by_where(z):
    return L * torch.where(z > 0, z, A * (z.exp() - 1)), L * torch.where(z > 0, 1.0, A * z.exp())


def selu_by_library(z):
    x = z.clone().requires_grad_()
    value = torch.selu(x)
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]


def selu_with_four_digits(z):
    return torch.where(z > 0, 1.051 * z, 1.051 * 1.673 * torch.expm1(z)), torch.where(z > 0, 1.051, 1.051 * 1.673 * z.exp())


def selu_of_elu(z):
    value = F.elu(z, A)
    return 1.0507 * value, 1.0507 * torch.where(z > 0, torch.ones_like(z), value + A)


def selu_in_numpy(z):
    z = z.numpy().astype(np.float32)
    e = np.exp(np.minimum(z, 0))
    return np.where(z > 0, L * z, L * A * (e - 1)), np.where(z > 0, L, L * A * e)


def selu_with(value=lambda z: L * A * (z.exp() - 1), slope=lambda z: L * A * z.exp(), above=L, steep=L):
    return lambda z: (torch.where(z > 0, above * z, value(z)), torch.where(z > 0, steep, slope(z)))


def selu_by_elu(z):
    return [L * part for part in elu_by_indices(z, A)]


SELU_CORRECT = [selu_by_where, selu_by_library, selu_with_four_digits, selu_of_elu, selu_in_numpy, selu_by_elu]
SELU_WRONG = {
    "swapped": (lambda z: selu_by_where(z)[::-1], "The two results are swapped", 0),
    "no lambda": (selu_with(lambda z: A * (z.exp() - 1), lambda z: A * z.exp(), 1.0, 1.0), "λ is missing altogether", 0),
    "no lambda in value": (selu_with(value=lambda z: A * (z.exp() - 1), above=1.0), "λ is missing in the value", 2),
    "no lambda in slope": (selu_with(slope=lambda z: A * z.exp(), steep=1.0), "λ is missing in the slope", None),
    "no lambda above, value": (selu_with(above=1.0), "For z > 0 the value lacks λ", 2),
    "no lambda above, slope": (selu_with(steep=1.0), "For z > 0 the slope lacks λ", 2),
    "no lambda below, value": (selu_with(value=lambda z: A * (z.exp() - 1)), "For z < 0 the value lacks λ", 2),
    "no lambda below, slope": (selu_with(slope=lambda z: A * z.exp()), "For z < 0 the slope lacks λ", None),
    "constants swapped": (selu_with(lambda z: L * A * (z.exp() - 1), lambda z: L * A * z.exp(), A, A), "λ and α are swapped", 0),
    "no alpha in value": (selu_with(value=lambda z: L * (z.exp() - 1)), "is missing in the value, for z < 0", 2),
    "no alpha in slope": (selu_with(slope=lambda z: L * z.exp()), "is missing in the slope, for z < 0", None),
    "no minus 1": (selu_with(value=lambda z: L * A * z.exp()), "lacks the −1", 2),
    "bracket": (selu_with(value=lambda z: L * (A * z.exp() - 1)), "the 1 is inside the bracket", 2),
    "slope is value": (selu_with(slope=lambda z: L * A * (z.exp() - 1)), "has no slope", 2),
    "ReLU's slope": (selu_with(slope=lambda z: 0 * z), "Your slope is 0 for z < 0", None),
    "masks": (
        lambda z: (
            L * ((z > 0) * z + (z <= 0) * A * (z.exp() - 1)),
            L * ((z > 0) + (z <= 0) * A * z.exp()),
        ),
        "is not finite for |z| up to 1000",
        4,
    ),
    # no known mistakes
    "two digits": (selu_with(value=lambda z: 1.1 * 1.7 * (z.exp() - 1), above=1.1), "with λ = 1.0507010 and α", 2),
    "GELU": (lambda z: (F.gelu(z), selu_by_where(z)[1]), "with λ = 1.0507010 and α", 2),
    "slope of tanh": (lambda z: (selu_by_where(z)[0], 1 - torch.tanh(z) ** 2), "The slope is λ for z > 0", 2),
}

# --- deep_recipe --------------------------------------------------------------------------------------------


def recipe(activation, sigma_w2):
    return lambda: {"activation": activation, "sigma_w2": sigma_w2}


RECIPE_CORRECT = [
    recipe("selu", 1.0),
    recipe("relu", 2),
    recipe("tanh", torch.tensor(1.2)),
    recipe("leaky", np.float32(2.0)),
    recipe("elu", decimal.Decimal("1.3")),
]
RECIPE_CORRECT_SLOW = [
    recipe("tanh", 1),
    recipe("tanh", np.float64(1.5)),
    recipe("gelu", 2.35),
    recipe("silu", 2.8),
    recipe("mish", 1.8),
    recipe("relu", np.int64(2)),
    recipe("linear", 1.0),
]
RECIPE_WRONG = {
    "sigmoid": (recipe("sigmoid", 1.0), "unable to learn, so take another activation", 1),
    "sigmoid, critical": (recipe("sigmoid", 100.0), "all inputs look alike", 3),
    "softplus": (recipe("softplus", 2.0), "all inputs look alike", 3),
    "tanh, small": (recipe("tanh", 0.3), "take a larger σ_w²", 1),
    "ReLU, LeCun": (recipe("relu", 1.0), "take a larger σ_w²", 1),
    "ReLU, default": (recipe("relu", 1 / 3), "take a larger σ_w²", 1),
    "ReLU, large": (recipe("relu", 8.0), "take a smaller σ_w²", 1),
    "ReLU, half-way": (recipe("relu", 1.5), "a factor near 1 is not near enough", 3),
    "standard deviation": (recipe("relu", 2**0.5), "a factor near 1 is not near enough", 3),
    "sigmoid, huge": (recipe("sigmoid", 1000), "take a smaller σ_w²", 1),
    "SELU, default": (recipe("selu", 1 / 3), "take a larger σ_w²", 1),
    "He for GELU": (recipe("gelu", 2.0), "a factor near 1 is not near enough", 3),
    "variance of one weight": (recipe("tanh", 1 / 64), "take a larger σ_w²", 1),
    "underflow": (recipe("relu", 1e-300), "take a larger σ_w²", 1),
    "beyond the limit": (recipe("relu", 1e300), "expected sigma_w2 above 0 and at most", 0),
    "other name": (recipe("ReLU", 2.0), "as 'activation', got 'ReLU'", 0),
    "not a name": (recipe(torch.nn.ReLU(), 2.0), "got a value of another type", 0),
    "other key": (lambda: {"activation": "relu", "sigma_w": 2.0}, "expected the keys", 0),
    "more keys": (lambda: {"activation": "relu", "sigma_w2": 2.0, "depth": 20}, "expected the keys", 0),
    "negative": (recipe("relu", -2.0), "expected sigma_w2 above 0 and at most", 0),
    "zero": (recipe("relu", 0), "expected sigma_w2 above 0 and at most", 0),
    "infinite": (recipe("relu", math.inf), "returned an infinite value", 0),
    "NaN": (recipe("relu", math.nan), "returned NaN", 0),
    "bool": (recipe("relu", True), "expected a real number", 0),
    "text": (recipe("relu", "2"), "sigma_w2: expected a number", 0),
    "tuple": (lambda: ("relu", 2.0), 'a dict like {"activation"', 0),
}

CORRECT = {"dead_fraction": DEAD_CORRECT, "elu": ELU_CORRECT, "selu": SELU_CORRECT, "deep_recipe": RECIPE_CORRECT}
CORRECT_SLOW = {"deep_recipe": RECIPE_CORRECT_SLOW}
WRONG = {"dead_fraction": DEAD_WRONG, "elu": ELU_WRONG, "selu": SELU_WRONG, "deep_recipe": RECIPE_WRONG}
