"""Answers to lab 02: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import math
import statistics

import numpy as np
import torch
from scipy import special, stats

# --- jacobian -----------------------------------------------------------------------------------------------


def run(W, U, xs, h0):
    h = h0
    for x in xs:
        h = torch.tanh(W @ h + U @ x)
    return h


def by_product(W, U, xs, h0):
    h, J = h0, torch.eye(h0.shape[0], dtype=W.dtype)
    for x in xs:
        h = torch.tanh(W @ h + U @ x)
        J = (1 - h**2)[:, None] * W @ J
    return J


def from_the_last_step(W, U, xs, h0):
    states = [h0]
    for x in xs:
        states.append((W @ states[-1] + U @ x).tanh())
    J = torch.eye(len(h0)).double()
    for h in states[:0:-1]:
        J = J @ (torch.diag(1 - h * h) @ W)
    return J


def with_multi_dot(W, U, xs, h0):
    factors, h = [], h0
    for t in range(xs.shape[0]):
        z = W.mv(h) + U.mv(xs[t])
        factors.insert(0, torch.diag(1 / torch.cosh(z) ** 2).mm(W))
        h = z.tanh()
    if len(factors) > 1:
        return torch.linalg.multi_dot(factors)
    return factors[0] if factors else torch.eye(len(h0))


def by_functional(W, U, xs, h0):
    return torch.autograd.functional.jacobian(lambda h: run(W, U, xs, h), h0)


def by_jacrev(W, U, xs, h0):
    return torch.func.jacrev(run, argnums=3)(W, U, xs, h0)


def by_jacfwd(W, U, xs, h0):
    return torch.func.jacfwd(lambda h: run(W, U, xs, h))(h0)


def by_rows(W, U, xs, h0):
    h0 = h0.requires_grad_()
    h = run(W, U, xs, h0)
    return torch.stack([torch.autograd.grad(h[i], h0, retain_graph=True)[0] for i in range(len(h0))])


def by_backward(W, U, xs, h0):
    rows = []
    for i in range(len(h0)):
        start = torch.nn.Parameter(h0.clone())
        run(W, U, xs, start)[i].backward()
        rows.append(start.grad)
    return torch.vstack(rows)


def by_central_difference(W, U, xs, h0):
    J = torch.zeros(len(h0), len(h0), dtype=torch.float64)
    for j in range(len(h0)):
        e = torch.zeros_like(h0)
        e[j] = 1e-5
        J[:, j] = (run(W, U, xs, h0 + e) - run(W, U, xs, h0 - e)) / 2e-5
    return J


def by_forward_difference(W, U, xs, h0):
    steps = 1e-6 * torch.eye(len(h0), dtype=h0.dtype)
    return torch.stack([(run(W, U, xs, h0 + s) - run(W, U, xs, h0)) / 1e-6 for s in steps], dim=1)


def in_numpy(W, U, xs, h0):
    W, U, xs, h = (v.numpy() for v in (W, U, xs, h0))
    J = np.identity(len(h))
    for x in xs:
        h = np.tanh(np.dot(W, h) + np.dot(U, x))
        J = np.einsum("i,ik,kj->ij", 1 - h**2, W, J)
    return J


def in_float32(W, U, xs, h0):
    return by_product(W.float(), U.float(), xs.float(), h0.float())


def recursive(W, U, xs, h0):
    if len(xs) == 0:
        return torch.eye(len(h0), dtype=torch.float64)
    h = torch.tanh(W @ h0 + U @ xs[0])
    return recursive(W, U, xs[1:], h) @ torch.diag_embed(1 - h.pow(2)) @ W


def with_rows_as_states(W, U, xs, h0):
    h, J = h0[None], torch.eye(len(h0)).to(W)
    for x in xs[:, None]:
        h = torch.tanh(h @ W.T + x @ U.T)
        J = J @ (W.T * (1 - h**2))  # of row vectors: the transpose
    return J.T


def factors(W, U, xs, h0):
    out, h = [], h0
    for x in xs:
        h = torch.tanh(W @ h + U @ x)
        out.append((1 - h**2)[:, None] * W)
    return out


def product(matrices, n):
    J = torch.eye(n, dtype=torch.float64)
    for M in matrices:
        J = M @ J
    return J


def stepwise(factor):
    """J ← factor(h_t, h_{t−1}, z_t, W) @ J."""

    def jacobian(W, U, xs, h0):
        h, J = h0, torch.eye(len(h0), dtype=h0.dtype)
        for x in xs:
            z, before = W @ h + U @ x, h
            h = torch.tanh(z)
            J = factor(h, before, z, W) @ J
        return J

    return jacobian


def combined(combine):
    def jacobian(W, U, xs, h0):
        some = factors(W, U, xs, h0)
        return combine(some) if some else torch.eye(len(h0))

    return jacobian


def reversed_order(W, U, xs, h0):
    return product(factors(W, U, xs, h0)[::-1], len(h0))


def with_h_at_w_transposed(W, U, xs, h0):
    h, J = h0, torch.eye(len(h0)).double()
    for x in xs:
        h = torch.tanh(h @ W + U @ x)
        J = torch.diag(1 - h**2) @ W @ J
    return J


def slopes_of_h0(W, U, xs, h0):
    J = torch.eye(len(h0)).double()
    for x in xs:
        J = torch.diag(1 - torch.tanh(W @ h0 + U @ x) ** 2) @ W @ J
    return J


def detached(W, U, xs, h0):
    h = h0
    for x in xs:
        last, h = h.detach(), None
        h = torch.tanh(W @ last + U @ x)
    return torch.autograd.functional.jacobian(lambda v: torch.tanh(W @ v + U @ xs[-1]), last) if len(xs) else torch.eye(len(h0))


def up_to_the_pre_activation(W, U, xs, h0):
    def last(h):
        for x in xs:
            z = W @ h + U @ x
            h = torch.tanh(z)
        return z if len(xs) else h

    return torch.autograd.functional.jacobian(last, h0)


def from_the_first_pre_activation(W, U, xs, h0):
    if len(xs) == 0:
        return torch.eye(len(h0))
    z1 = W @ h0 + U @ xs[0]
    return torch.func.jacrev(lambda z: run(W, U, xs[1:], torch.tanh(z)))(z1)


def starts_with_zeros(W, U, xs, h0):
    J = torch.zeros_like(W)
    for F in factors(W, U, xs, h0):
        J = F @ J
    return J


def starts_with_the_first(W, U, xs, h0):
    some = factors(W, U, xs, h0)
    J = some[0]
    for F in some[1:]:
        J = F @ J
    return J


def no_step_is_w(W, U, xs, h0):
    return by_product(W, U, xs, h0) if len(xs) else W.clone()


def no_step_is_ones(W, U, xs, h0):
    return by_product(W, U, xs, h0) if len(xs) else torch.ones_like(W)


def norms_of_factors(W, U, xs, h0):
    return math.prod(torch.linalg.matrix_norm(F, 2).item() for F in factors(W, U, xs, h0))


def changes_h0(W, U, xs, h0):
    J = by_product(W, U, xs, h0)
    h0.copy_(run(W, U, xs, h0) + 1)
    return J


def with_respect_to_h1(W, U, xs, h0):
    return product(factors(W, U, xs, h0)[1:], len(h0))


JACOBIAN_CORRECT = [
    by_product,
    from_the_last_step,
    with_multi_dot,
    by_functional,
    by_jacrev,
    by_jacfwd,
    by_rows,
    by_central_difference,
    by_forward_difference,
    in_numpy,
    in_float32,
    recursive,
    with_rows_as_states,
]

# (answer, a piece of the hint, the points it still earns; None where that depends on the draw)
JACOBIAN_WRONG = {
    "order": (reversed_order, "later ones multiply from the left", 3),
    "transposed": (lambda *a: by_product(*a).T, "That is the transpose", 1),
    "transposed factors": (lambda *a: reversed_order(*a).T, "You multiply transposed factors", 1),
    "slopes on the columns": (stepwise(lambda h, b, z, W: (1 - h**2) * W), "The slopes are on the wrong side", 1),
    "slopes on the right by diag": (
        stepwise(lambda h, b, z, W: W @ torch.diag(1 - h**2)),
        "The slopes are on the wrong side",
        1,
    ),
    "factors transposed": (stepwise(lambda h, b, z, W: W.T * (1 - h**2)), "You multiply transposed factors", 1),
    "slope one behind": (stepwise(lambda h, b, z, W: torch.diag(1 - b**2) @ W), "The slope is one step behind", 1),
    "slope from z": (stepwise(lambda h, b, z, W: torch.diag(1 - z**2) @ W), "you put in the pre-activation z", 1),
    "tanh twice": (stepwise(lambda h, b, z, W: torch.diag(1 - h.tanh() ** 2) @ W), "tanh is applied twice", 1),
    "no square": (stepwise(lambda h, b, z, W: torch.diag(1 - h) @ W), "1 − h², not 1 − h.", 1),
    "h² alone": (stepwise(lambda h, b, z, W: torch.diag(h**2) @ W), "you use h² alone", 1),
    "plus": (stepwise(lambda h, b, z, W: torch.diag(1 + h**2) @ W), "A sign is wrong in the slope", 1),
    "sigmoid's slope": (stepwise(lambda h, b, z, W: torch.diag(h * (1 - h)) @ W), "the slope of the sigmoid", 1),
    "elementwise diag": (stepwise(lambda h, b, z, W: torch.diag(1 - h**2) * W), "keeps only the diagonal of W", 1),
    "no slopes": (lambda W, U, xs, h0: torch.linalg.matrix_power(W, len(xs)), "the weights alone", 1),
    "no W": (stepwise(lambda h, b, z, W: torch.diag(1 - h**2)), "the slopes alone", 1),
    "first factor missing": (with_respect_to_h1, "One factor is missing: J_1", 1),
    "last factor missing": (lambda *a: product(factors(*a)[:-1], len(a[3])), "One factor is missing: J_T", 1),
    "first input skipped": (lambda W, U, xs, h0: by_product(W, U, xs[1:], h0), "x_1 is not used", 1),
    "last input skipped": (
        lambda W, U, xs, h0: torch.func.jacrev(run, 3)(W, U, xs[: max(len(xs) - 1, 0)], h0),
        "One factor is missing: J_T",
        1,
    ),
    "slope of h0 counts": (
        lambda W, U, xs, h0: by_product(W, U, xs, h0) @ torch.diag(1 - h0**2) @ W,
        "one factor too many",
        0,
    ),
    "to z_T": (up_to_the_pre_activation, "you stop at the pre-activation z_T", 1),
    "from z_1": (from_the_first_pre_activation, "you differentiate with respect to z_1", 1),
    "no inputs": (lambda W, U, xs, h0: by_product(W, 0 * U, xs, h0), "The inputs have no effect", 1),
    "inputs reversed": (lambda W, U, xs, h0: by_product(W, U, xs.flip(0), h0), "The inputs come in the wrong order", 3),
    "first input always": (
        lambda W, U, xs, h0: by_product(W, U, xs[:1].expand(xs.shape), h0),
        "You use the first input x_1 in every step",
        3,
    ),
    "h0 ignored": (lambda W, U, xs, h0: by_product(W, U, xs, 0 * h0), "h0 has no effect", 1),
    "state not carried on": (slopes_of_h0, "The state is not carried on", 3),
    "last factor to the power T": (
        combined(lambda f: torch.linalg.matrix_power(f[-1], len(f))),
        "one factor to the power T",
        3,
    ),
    "first factor to the power T": (
        combined(lambda f: torch.linalg.matrix_power(f[0], len(f))),
        "one factor to the power T",
        3,
    ),
    "last step alone": (detached, "That is J_T, the last step alone", 3),
    "first step alone": (combined(lambda f: f[0]), "That is J_1, the first step alone", 3),
    "entry by entry": (combined(lambda f: torch.stack(f).prod(0)), "The factors are multiplied entry by entry", 3),
    "sum": (combined(lambda f: torch.stack(f).sum(0)), "The factors are added", 3),
    "Wᵀ throughout": (lambda W, U, xs, h0: by_functional(W.T, U, xs, h0), "You use Wᵀ where the recursion has W", 1),
    "Wᵀ in the states": (with_h_at_w_transposed, "The states are computed with Wᵀ", 1),
    "diagonal only": (lambda *a: torch.diag(torch.diag(by_product(*a))), "Only the diagonal of the Jacobian", 1),
    "absolute": (lambda *a: by_product(*a).abs(), "All entries are positive", 1),
    "sign": (lambda *a: -by_product(*a), "Every entry has the wrong sign", 0),
    "starts with zeros": (starts_with_zeros, "start the product with the identity matrix", 0),
    "starts with J_1": (starts_with_the_first, "raised IndexError", 6),
    "W where T = 0": (no_step_is_w, "the Jacobian is the identity matrix", 6),
    "ones where T = 0": (no_step_is_ones, "the Jacobian is the identity matrix", 6),
    "product of norms": (norms_of_factors, "A product of norms is only a bound", 0),
    "singular values": (lambda *a: torch.linalg.svdvals(by_product(*a)), "is only one vector", 0),
    "gradient of the sum": (lambda *a: by_product(*a).sum(0), "is only one vector", 0),
    "list of factors": (factors, "got a value of type list", 0),
    "stack of factors": (lambda *a: torch.zeros(0, 3, 3) if not len(a[2]) else torch.stack(factors(*a)), "got (0, 3, 3)", 0),
    "in place": (changes_h0, "changed its input in place", 0),
    # in no list: the fallback
    "logistic net": (
        lambda W, U, xs, h0: torch.func.jacrev(
            lambda h: [h := torch.sigmoid(W @ h + U @ x) for x in xs][-1] if len(xs) else h
        )(h0),
        "Compare with finite differences",
        1,
    ),
    "square root of the slope": (
        stepwise(lambda h, b, z, W: torch.diag((1 - h**2).sqrt()) @ W),
        "Compare with finite differences",
        1,
    ),
    "average of the slopes": (
        stepwise(lambda h, b, z, W: (1 - h**2).mean() * W),
        "Compare with finite differences",
        1,
    ),
    "slope of the step before, but for the first": (
        lambda W, U, xs, h0: product(factors(W, U, xs, h0)[:1] + factors(W, U, xs, h0)[:-1], len(h0)),
        "Compare with finite differences",
        3,
    ),
    "spectral norm taken out": (
        lambda *a: by_product(*a) / torch.linalg.matrix_norm(by_product(*a), 2),
        "Compare with finite differences",
        1,
    ),
}

# --- chain_factor -------------------------------------------------------------------------------------------


def by_sigmoid(w, y):
    s = torch.sigmoid(w * y)
    return torch.abs(s * (1 - s) * w)


def by_autograd(w, y):
    z = (w * y).requires_grad_()
    torch.sigmoid(z).sum().backward()
    return (z.grad * w).abs()


def by_chain_rule(w, y):
    # the derivative of σ(w y) with respect to y
    w, y = torch.broadcast_tensors(w, y)
    y = y.clone().requires_grad_()
    return torch.autograd.grad(torch.sigmoid(w * y).sum(), y)[0].abs()


def by_cosh(w, y):
    return w.abs() / (2 * torch.cosh(w * y / 2)) ** 2


def by_tanh(w, y):
    return (1 - torch.tanh(w * y / 2) ** 2) / 4 * w.abs()


def by_even_exponential(w, y):
    e = torch.exp(-(w * y).abs())
    return w.abs() * e / (1 + e) ** 2


def by_naive_exponential(w, y):
    s = 1 / (1 + torch.exp(-w * y))
    return (w * s * (1 - s)).abs()


def by_logs(w, y):
    z = w * y
    return torch.exp(torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z) + w.abs().log())


def by_difference(w, y):
    z = w * y
    return ((torch.sigmoid(z + 1e-5) - torch.sigmoid(z - 1e-5)) / 2e-5 * w).abs()


def by_expit(w, y):
    w, y = w.numpy(), y.numpy()
    return np.abs(special.expit(w * y) * special.expit(-w * y) * w)


def by_float32(w, y):
    return by_sigmoid(w.float(), y.float())


def in_a_loop(w, y):
    w, y = torch.broadcast_tensors(w, y)
    out = []
    for a, b in zip(w.flatten().tolist(), y.flatten().tolist()):
        e = math.exp(-abs(a * b))
        out.append(abs(a) * e / (1 + e) ** 2)
    return torch.tensor(out).view(w.shape)


def by_clamping(w, y):
    z = (w * y).clamp(-50, 50)
    return torch.exp(-z) / (1 + torch.exp(-z)) ** 2 * torch.sqrt(w**2)


def slope(z):
    return torch.sigmoid(z) * torch.sigmoid(-z)


def with_math_exp(w, y):
    w, y = torch.broadcast_tensors(w, y)
    one = lambda z: math.exp(-z) / (1 + math.exp(-z)) ** 2
    return torch.tensor([one(a * b) * abs(a) for a, b in zip(w.flatten().tolist(), y.flatten().tolist())]).view(w.shape)


def outer(w, y):
    return by_sigmoid(w.reshape(-1, 1), y.reshape(1, -1))


def shape_of_w(w, y):
    return by_sigmoid(w, y).flatten()[: w.numel()].reshape(w.shape)


def in_place(w, y):
    w *= y
    return slope(w)


sg = torch.sigmoid

CHAIN_CORRECT = [
    by_sigmoid,
    by_autograd,
    by_chain_rule,
    by_cosh,
    by_tanh,
    by_even_exponential,
    by_naive_exponential,
    by_logs,
    by_difference,
    by_expit,
    by_float32,
    in_a_loop,
    by_clamping,
]

CHAIN_WRONG = {
    "no absolute value": (lambda w, y: slope(w * y) * w, "The absolute value is missing", 4),
    "negative cut off": (lambda w, y: torch.relu(slope(w * y) * w), "You set negative factors to 0", 4),
    "sign": (lambda w, y: -by_sigmoid(w, y), "Every value has the wrong sign", 1),
    "times y": (lambda w, y: (slope(w * y) * y).abs(), "You multiply by y", 1),
    "times w y": (lambda w, y: (slope(w * y) * w * y).abs(), "There is a factor y too many", 1),
    "w missing": (lambda w, y: slope(w * y), "The factor w is missing", 1),
    "slope at y": (lambda w, y: (slope(y) * w).abs(), "You take the slope at y", 1),
    "slope at w": (lambda w, y: (slope(w) * w).abs() + 0 * y, "You take the slope at w;", 0),
    "slope at w + y": (lambda w, y: (slope(w + y) * w).abs(), "You take the slope at w + y", 1),
    "value": (lambda w, y: (sg(w * y) * w).abs(), "You use the value σ(w y)", 0),
    "σ twice": (lambda w, y: (slope(sg(w * y)) * w).abs(), "σ is applied twice", 0),
    "z(1 − z)": (lambda w, y: (w * y * (1 - w * y) * w).abs(), "you put w y in its place", 0),
    "tanh": (lambda w, y: ((1 - torch.tanh(w * y) ** 2) * w).abs(), "That is the slope of tanh", 1),
    "1 − σ": (lambda w, y: ((1 - sg(w * y)) * w).abs(), "One factor is missing: σ′", 0),
    "1 − σ²": (lambda w, y: ((1 - sg(w * y) ** 2) * w).abs(), "1 − σ² is no slope", 0),
    "σ²": (lambda w, y: (sg(w * y) ** 2 * w).abs(), "You use σ²", 0),
    "σ(1 + σ)": (lambda w, y: (sg(w * y) * (1 + sg(w * y)) * w).abs(), "A sign is wrong: σ′", 0),
    "bound": (lambda w, y: w.abs() / 4 + 0 * y, "|w|/4 is only the bound", 0),
    "squared": (lambda w, y: by_sigmoid(w, y) ** 2, "That is the square of the factor", 1),
    "w squared": (lambda w, y: slope(w * y) * w**2, "The weight is squared", 1),
    "root": (lambda w, y: by_sigmoid(w, y).sqrt(), "That is the root of the factor", 1),
    "slope squared": (lambda w, y: slope(w * y) ** 2 * w.abs(), "The slope is squared", 1),
    "rescaled": (lambda w, y: 4 * by_sigmoid(w, y), "4 times too large", 1),
    "logarithm": (lambda w, y: w.abs().log() - (w * y).abs() - 2 * torch.log1p(torch.exp(-(w * y).abs())), "That is the logarithm of the factor", 0),
    "exponential overflows": (
        lambda w, y: torch.exp(w * y) / (1 + torch.exp(w * y)) ** 2 * w.abs(),
        "an exponential overflows there",
        4,
    ),
    "math.exp overflows": (with_math_exp, "large arguments: your function raised OverflowError", 4),
    "mean": (lambda w, y: by_sigmoid(w, y).mean(), "expected one factor for each entry", 0),
    "shape of w": (shape_of_w, "expected one factor for each entry", 4),
    "outer": (outer, "expected one factor for each entry", 0),
    "in place": (in_place, "changed its input in place", 0),
    "a list": (lambda w, y: by_sigmoid(w, y).tolist(), "got a value of type list", 0),
    "ReLU": (lambda w, y: (w * y > 0) * w.abs(), "That is the slope of ReLU", 0),
    # in no list: the fallback
    "normal density": (
        lambda w, y: torch.exp(-((w * y) ** 2) / 2) / math.sqrt(2 * math.pi) * w.abs(),
        "The factor is σ′(z)·w at z = w y",
        1,
    ),
    "bias of 1": (lambda w, y: (slope(w * y + 1) * w).abs(), "The factor is σ′(z)·w at z = w y", 1),
    "y squared inside": (lambda w, y: (slope(w * y**2) * w).abs(), "The factor is σ′(z)·w at z = w y", 1),
    "a floor below the slope": (
        lambda w, y: torch.where((w * y).abs() > 50, 0.01, slope(w * y)) * w.abs(),
        "For |w y| of several hundred σ′ is 0",
        4,
    ),
}

# --- decay_rate ---------------------------------------------------------------------------------------------


def by_sums(norms):
    x, y = torch.arange(len(norms), dtype=norms.dtype), torch.log(norms)
    return ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()


def by_polyfit(norms):
    return np.polyfit(np.arange(1, len(norms) + 1), np.log(norms.numpy()), 1)[0]


def by_linregress(norms):
    return stats.linregress(range(len(norms)), norms.log()).slope


def by_lstsq(norms):
    A = torch.stack([torch.ones(len(norms)), torch.arange(len(norms))], dim=1).double()
    return torch.linalg.lstsq(A, norms.log()[:, None]).solution[1, 0]


def by_normal_equations_in_float32(norms):
    x = torch.arange(1.0, len(norms) + 1)
    A = torch.stack([x, torch.ones_like(x)], 1)
    return torch.linalg.solve(A.T @ A, A.T @ torch.log(norms.float()))[0]


def by_covariance(norms):
    pair = torch.stack([torch.arange(len(norms)).double(), norms.log()])
    c = torch.cov(pair)
    return (c[0, 1] / c[0, 0]).item()


def by_statistics(norms):
    return statistics.linear_regression(list(range(len(norms))), [math.log(v) for v in norms.tolist()]).slope


def towards_the_input(norms):
    return -by_polyfit(norms.flip(0))


def by_log10(norms):
    return np.polynomial.Polynomial.fit(np.arange(len(norms)), np.log10(norms), 1).convert().coef[1] * np.log(10)


def from_squares(norms):
    return 0.5 * by_sums(norms**2)


def after_normalising(norms):
    return np.float32(by_sums(norms / norms[-1]))


def by_textbook_formula(norms):
    n, x, y = len(norms), np.arange(len(norms)), np.log(norms.numpy())
    return (n * (x * y).sum() - x.sum() * y.sum()) / (n * (x**2).sum() - x.sum() ** 2)


def fit(x, y):
    return np.polyfit(np.asarray(x, dtype=float), np.asarray(y, dtype=float), 1)[0]


def layers(v):
    return np.arange(1, len(v) + 1)


def ratios(v):
    return (v[1:] / v[:-1]).numpy()


def variance_by_torch(v):
    x, y = torch.arange(len(v)).double(), v.log()
    return ((x - x.mean()) * (y - y.mean())).mean() / x.var()


def variance_by_numpy(v):
    x, y = np.arange(len(v)), np.log(v.numpy())
    return np.cov(x, y)[0, 1] / np.var(x)


def weighted(v):
    return np.polyfit(layers(v), np.log(v), 1, w=np.sqrt(layers(v)))[0]


DECAY_CORRECT = [
    by_sums,
    by_polyfit,
    by_linregress,
    by_lstsq,
    by_normal_equations_in_float32,
    by_covariance,
    by_statistics,
    towards_the_input,
    by_log10,
    from_squares,
    after_normalising,
    by_textbook_formula,
]

DECAY_WRONG = {
    "sign": (lambda v: -by_sums(v), "The sign is wrong", 0),
    "reversed": (lambda v: by_sums(v.flip(0)), "The sign is wrong", 0),
    "absolute": (lambda v: abs(by_sums(v)), "The sign is lost", 0),
    "log10": (lambda v: fit(layers(v), np.log10(v)), "in decades per layer", 0),
    "log2": (lambda v: fit(layers(v), np.log2(v)), "in factors of 2 per layer", 0),
    "ends": (lambda v: math.log(v[-1] / v[0]) / (len(v) - 1), "first and the last norm count in your answer; the mean", 2),
    "mean of differences": (lambda v: v.log().diff().mean(), "first and the last norm count in your answer; the mean", 2),
    "ends over L": (lambda v: math.log(v[-1] / v[0]) / len(v), "L layers have L − 1 steps", 0),
    "ends, whole net": (lambda v: math.log(v[-1] / v[0]), "over the whole net, from its two ends", 0),
    "mean ratio": (lambda v: ratios(v).mean(), "That is the mean ratio of neighbouring", 0),
    "log of the mean ratio": (lambda v: np.log(ratios(v).mean()), "the logarithm of the mean ratio", 2),
    "mean relative change": (lambda v: ratios(v).mean() - 1, "the mean relative change", 0),
    "median of differences": (lambda v: np.median(np.log(ratios(v))), "the median of the steps", 2),
    "Theil and Sen": (lambda v: stats.theilslopes(np.log(v))[0], "the median of the slopes of all pairs", 2),
    "squared": (lambda v: by_sums(v**2), "twice the one asked for", 0),
    "root": (lambda v: by_sums(v.sqrt()), "half the one asked for", 0),
    "no logarithm": (lambda v: fit(layers(v), v), "The logarithm is missing", 0),
    "factor": (lambda v: by_sums(v).exp(), "e to the rate", 0),
    "inverse factor": (lambda v: (-by_sums(v)).exp(), "e to minus the rate", 0),
    "intercept": (lambda v: np.polyfit(layers(v), np.log(v), 1)[1], "That is the intercept", 0),
    "intercept from 0": (lambda v: np.polyfit(layers(v) - 1, np.log(v), 1)[1], "That is the intercept", 0),
    "depth from 0 to 1": (lambda v: fit(np.linspace(0, 1, len(v)), np.log(v)), "against the layer number", 0),
    "depth l/L": (lambda v: fit(layers(v) / len(v), np.log(v)), "against the layer number", 0),
    "axes swapped": (lambda v: fit(np.log(v), layers(v)), "The axes are swapped", 0),
    "through the origin": (lambda v: (layers(v) * np.log(v.numpy())).sum() / (layers(v) ** 2).sum(), "through the origin", 0),
    "through the first layer": (
        lambda v: np.linalg.lstsq(layers(v)[:, None] - 1.0, np.log(v / v[0]), rcond=None)[0][0],
        "through the first layer",
        2,
    ),
    "var of torch": (variance_by_torch, "Your rate is off by L/(L − 1)", 0),
    "var of numpy": (variance_by_numpy, "Your rate is off by L/(L − 1)", 0),
    "correlation": (lambda v: np.corrcoef(layers(v), np.log(v))[0, 1], "the correlation coefficient", 0),
    "R²": (lambda v: stats.linregress(layers(v), np.log(v)).rvalue ** 2, "the quality of the fit", 0),
    "first layer left out": (lambda v: by_sums(v[1:]), "The first layer is left out", 2),
    "last layer left out": (lambda v: by_sums(v[:-1]), "The last layer is left out", 2),
    "log-log": (lambda v: fit(np.log(layers(v)), np.log(v)), "the logarithm of the layer number", 0),
    "log1p": (lambda v: by_sums(torch.exp(torch.log1p(v))), "You use ln(1 + norm)", 0),
    "1e-12 added": (lambda v: by_sums(v + 1e-12), "Something is added to the norms", 5),
    "1e-8 added": (lambda v: by_sums(v + 1e-8), "Something is added to the norms", 5),
    "floor": (lambda v: by_sums(v.clamp(min=1e-12)), "Small norms are raised to a floor", 5),
    "polyfit's pair": (lambda v: np.polyfit(layers(v), np.log(v), 1), "got a tensor of shape (2,)", 0),
    "one per layer": (lambda v: v.log().diff(), "expected one number, got a tensor of shape (3,)", 0),
    "in place": (lambda v: by_sums(v.div_(v[-1] * 2)), "changed its input in place", 0),
    # in no list: the fallback
    "weighted": (weighted, "The slope is Σ(x − x̄)(y − ȳ)/Σ(x − x̄)²", 2),
    "parabola": (lambda v: np.polyfit(layers(v), np.log(v), 2)[1], "The slope is Σ(x − x̄)(y − ȳ)/Σ(x − x̄)²", 2),
    "0.01 added": (lambda v: by_sums(v + 0.01), "Something is added to the norms", 0),
    "relative to the next": (lambda v: 1 - (v[:-1] / v[1:]).mean(), "The slope is Σ(x − x̄)(y − ȳ)/Σ(x − x̄)²", 0),
    "half a log": (lambda v: fit(layers(v) + layers(v) % 2, np.log(v)), "The slope is Σ(x − x̄)(y − ȳ)/Σ(x − x̄)²", 0),
    "rounded": (lambda v: float(round(float(by_sums(v)))), "The slope is Σ(x − x̄)(y − ȳ)/Σ(x − x̄)²", None),
}

CORRECT = {"jacobian": JACOBIAN_CORRECT, "chain_factor": CHAIN_CORRECT, "decay_rate": DECAY_CORRECT}
CORRECT_SLOW = {"jacobian": [by_backward]}
WRONG = {"jacobian": JACOBIAN_WRONG, "chain_factor": CHAIN_WRONG, "decay_rate": DECAY_WRONG}
