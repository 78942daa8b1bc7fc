"""Answers to lab 08: correct ones, written in different ways, and wrong ones with a piece of the hint they get."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special, stats
from torch import nn, relu, sigmoid

# --- Block --------------------------------------------------------------------------------------------------


class WithNone(nn.Module):
    def __init__(self, din, dout):
        super().__init__()
        self.f1, self.f2 = nn.Linear(din, dout), nn.Linear(dout, dout)
        self.proj = nn.Linear(din, dout) if din != dout else None

    def forward(self, x):
        shortcut = x if self.proj is None else self.proj(x)
        return relu(shortcut + self.f2(relu(self.f1(x))))


class WithIdentity(nn.Module):
    def __init__(self, din, dout):
        super(WithIdentity, self).__init__()
        self.f1 = nn.Linear(din, dout)
        self.f2 = nn.Linear(dout, dout)
        self.relu = nn.ReLU(inplace=True)
        self.proj = nn.Identity() if din == dout else nn.Linear(din, dout, bias=False)

    def forward(self, x):
        out = self.f2(self.relu(self.f1(x)))
        out += self.proj(x)
        return self.relu(out)


class WithoutAttribute(nn.Module):
    def __init__(self, din, dout, activation=F.relu):
        super().__init__()
        self.f1 = nn.Linear(din, dout, bias=False)
        self.f2 = nn.Linear(dout, dout, bias=False)
        self.activation = activation
        if din != dout:
            self.proj = nn.Linear(din, dout, bias=False)

    def forward(self, x):
        h = self.f2(self.activation(self.f1(x)))
        return self.activation(h + (self.proj(x) if hasattr(self, "proj") else x))


class WithSequential(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.f1, self.f2 = nn.Linear(n_in, n_out), nn.Linear(n_out, n_out)
        self.proj = nn.Sequential(*[nn.Linear(n_in, n_out)] * (n_in != n_out))
        self.branch = nn.Sequential(self.f1, nn.ReLU(), self.f2)

    def forward(self, x):
        return (self.proj(x) + self.branch(x)).clamp(min=0)


class Lazy(nn.Module):
    def __init__(self, din, dout):
        super().__init__()
        self.f1, self.f2 = nn.LazyLinear(dout), nn.LazyLinear(dout)
        self.proj = nn.LazyLinear(dout) if din != dout else nn.Identity()

    def forward(self, x):
        return torch.relu_(self.f2(self.f1(x).relu_()) + self.proj(x))


class MyLinear(nn.Linear):
    pass


class ByHand(nn.Module):
    def __init__(self, din, dout):
        super().__init__()
        self.same = din == dout
        self.f1 = MyLinear(din, dout, dtype=torch.float64)
        self.f2 = MyLinear(dout, dout, dtype=torch.float64)
        if not self.same:
            self.proj = MyLinear(din, dout, dtype=torch.float64)

    def forward(self, x):
        zero = torch.zeros(1)
        h = torch.maximum(x @ self.f1.weight.T + self.f1.bias, zero)
        h = torch.addmm(self.f2.bias, h, self.f2.weight.mT)
        h = h + x if self.same else F.linear(x, self.proj.weight, self.proj.bias) + h
        return torch.where(h > 0, h, 0.0)


class InFloat32(WithNone):
    def forward(self, x):
        def apply(layer, h):
            return F.linear(h, layer.weight.float(), layer.bias.float())

        x = x.float()
        shortcut = x if self.proj is None else apply(self.proj, x)
        return relu(shortcut + apply(self.f2, relu(apply(self.f1, x))))


BLOCK_CORRECT = [WithNone, WithIdentity, WithoutAttribute, WithSequential, Lazy, ByHand, InFloat32]


def with_forward(forward):
    """A block whose layers are right, with another forward(self, x, shortcut)."""

    class Block(WithNone):
        def forward(self, x):
            return forward(self, x, x if self.proj is None else self.proj(x))

    return Block


def with_layers(build):
    """A block whose forward is right, with other layers; build(self, din, dout)."""

    class Block(WithNone):
        def __init__(self, din, dout):
            super().__init__(din, dout)
            build(self, din, dout)

    return Block


def branch(b, x):
    return b.f2(relu(b.f1(x)))


def in_place(b, x, s):
    x += branch(b, x)
    return relu(x)


def overwriting(b, x, s):
    h = branch(b, x)
    s += h
    return torch.relu_(s)


def relu_on_input(b, x, s):
    y = relu(s + branch(b, x))
    torch.relu_(x)
    return y


def without_gradient(b, x, s):
    with torch.no_grad():
        return relu(s + branch(b, x))


def without_gradient_of_the_branch(b, x, s):
    with torch.no_grad():
        h = branch(b, x)
    return relu(s + h)


def always_projects(b, din, dout):
    b.proj = nn.Linear(din, dout)


def no_projection(b, din, dout):
    b.proj = None


def swapped_f1(b, din, dout):
    b.f1 = nn.Linear(dout, din)


def bottleneck(b, din, dout):
    b.f1, b.f2 = nn.Linear(din, dout), nn.Linear(din, dout)


def one_layer_twice(b, din, dout):
    if din == dout:
        b.f1 = b.f2


def other_names(b, din, dout):
    b.fc1, b.fc2 = b.f1, b.f2
    del b.f1, b.f2


def bare_weight(b, din, dout):
    del b.f1
    b.f1 = nn.Parameter(torch.randn(dout, din))


def pads(b, x, s):
    h = branch(b, x)
    return relu(F.pad(x, (0, h.shape[1] - x.shape[1])) + h)


def only_where_wider(b, x, s):
    h = branch(b, x)
    return relu(s + h) if h.shape[1] >= x.shape[1] else relu(h)


class NoModule:
    def __init__(self, din, dout):
        self.f1, self.f2, self.proj = nn.Linear(din, dout), nn.Linear(dout, dout), None

    def forward(self, x):
        return x


class NoSuper(nn.Module):
    def __init__(self, din, dout):
        self.f1 = nn.Linear(din, dout)

    def forward(self, x):
        return x


class Misspelt(nn.Module):
    def __init__(self, din, dout):
        super().__init__()
        self.f1, self.f2 = nn.Linear(din, dout), nn.Linear(dout, dout)
        self.proj = nn.Linear(din, dout) if din != dout else None

    def foward(self, x):
        return x


class OneWidth(nn.Module):
    def __init__(self, width):
        super().__init__()

    def forward(self, x):
        return x


def with_batch_norm(b, x, s):
    h = b.f1(x)
    return relu(s + b.f2(relu((h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt())))


BLOCK_WRONG = {
    "ReLU before the addition": (with_forward(lambda b, x, s: s + relu(branch(b, x))), "so the branch is never negative", 0),
    "ReLU before and after": (with_forward(lambda b, x, s: relu(s + relu(branch(b, x)))), "it can add but never subtract", 0),
    "shortcut missing": (with_forward(lambda b, x, s: relu(branch(b, x))), "The shortcut is missing: with all weights", 0),
    "branch missing": (with_forward(lambda b, x, s: relu(s)), "The branch has no effect", 0),
    "branch alone": (with_forward(lambda b, x, s: branch(b, x)), "You return the branch alone", 0),
    "no last ReLU": (with_forward(lambda b, x, s: s + branch(b, x)), "The ReLU after the addition is missing", 0),
    "pre-activation": (with_forward(lambda b, x, s: s + branch(b, relu(x))), "that is the pre-activation order", 0),
    "no ReLU between": (with_forward(lambda b, x, s: relu(s + b.f2(b.f1(x)))), "The ReLU between f1 and f2 is missing", 0),
    "no ReLU at all": (with_forward(lambda b, x, s: s + b.f2(b.f1(x))), "Both ReLUs are missing", 0),
    "f1 twice": (
        with_forward(lambda b, x, s: relu(s + (b.f1 if s is x else b.f2)(relu(b.f1(x))))),
        "f1 acts twice",
        3,
    ),
    "f2 twice": (with_layers(one_layer_twice), "f2 acts twice", 3),
    "layers exchanged": (
        with_forward(lambda b, x, s: relu(s + (b.f1(relu(b.f2(x))) if s is x else branch(b, x)))),
        "f1 and f2 have changed places",
        3,
    ),
    "shortcut behind f1": (
        with_forward(lambda b, x, s: relu(b.f1(x) + branch(b, x))),
        "Your shortcut starts behind f1",
        0,
    ),
    "shortcut behind f1 and ReLU": (
        with_forward(lambda b, x, s: relu(relu(b.f1(x)) + branch(b, x))),
        "Your shortcut starts behind f1",
        0,
    ),
    "branch subtracted": (with_forward(lambda b, x, s: relu(s - branch(b, x))), "The branch is subtracted", 0),
    "shortcut subtracted": (with_forward(lambda b, x, s: relu(branch(b, x) - s)), "The shortcut is subtracted", 0),
    "ReLU on the shortcut": (with_forward(lambda b, x, s: relu(relu(s) + branch(b, x))), "a ReLU to the shortcut", 0),
    "product": (with_forward(lambda b, x, s: relu(s * branch(b, x))), "You multiply the branch and the shortcut", 0),
    "mean": (with_forward(lambda b, x, s: relu((s + branch(b, x)) / 2)), "Your sum is halved", 0),
    "divided by √2": (with_forward(lambda b, x, s: relu(s + branch(b, x)) / 2**0.5), "Your sum is divided by √2", 0),
    "f2 forgotten": (with_forward(lambda b, x, s: relu(s + relu(b.f1(x)))), "f2 has no effect", 0),
    "f2 forgotten, no ReLU": (with_forward(lambda b, x, s: relu(s + b.f1(x))), "f2 has no effect", 0),
    "shortcut twice": (with_forward(lambda b, x, s: relu(s + s + branch(b, x))), "The shortcut is added twice", 0),
    "shortcut behind the last ReLU": (
        with_forward(lambda b, x, s: s + relu(s + branch(b, x))),
        "added once more behind the last ReLU",
        0,
    ),
    "one layer, ReLU first": (with_forward(lambda b, x, s: s + relu(b.f1(x))), "Your branch has one layer and ends", 0),
    "padded": (with_forward(pads), "you fill x up with zeros", 3),
    "concatenated": (
        with_forward(lambda b, x, s: relu(torch.cat([s, branch(b, x)], -1))),
        "as wide as shortcut and branch side by side",
        0,
    ),
    "concatenated with x": (
        with_forward(lambda b, x, s: relu(torch.cat([x, branch(b, x)], 1))),
        "as wide as shortcut and branch side by side",
        0,
    ),
    "in place": (with_forward(lambda b, x, s: in_place(b, x, s) if s is x else relu(s + branch(b, x))), "overwrote its input x", 6),
    "in place, ReLU too": (with_forward(overwriting), "overwrote its input x", 6),
    "in place, on the side": (with_forward(relu_on_input), "overwrote its input x", 6),
    "always projects": (with_layers(always_projects), "has a projection: where din == dout", 3),
    "never projects": (with_layers(no_projection), "has no projection: x has din entries", 3),
    "f1 the wrong way round": (with_layers(swapped_f1), "the weight of f1 has shape", 3),
    "f2 from din": (with_layers(bottleneck), "the weight of f2 has shape", 3),
    "other names": (with_layers(other_names), "as the attribute f1, found nothing", 0),
    "weights without a layer": (with_layers(bare_weight), "as the attribute f1, found a value of type Parameter", 0),
    "no nn.Module": (NoModule, "expected a subclass of nn.Module", 0),
    "no super().__init__()": (NoSuper, "raised AttributeError in line 2 of Block.__init__: cannot assign module", 0),
    "forward misspelt": (Misspelt, "has no method forward", 0),
    "one width": (OneWidth, "but yours takes (width)", 0),
    "forward returns None": (with_forward(lambda b, x, s: print(end="")), "your forward returned None", 0),
    "returns two": (with_forward(lambda b, x, s: (relu(s + branch(b, x)), s)), "one tensor, got a value of type tuple", 0),
    "a mean": (with_forward(lambda b, x, s: relu(s + branch(b, x)).mean(0)), "expected the shape (batch, dout)", 0),
    "a function": (lambda din, dout: WithNone(din, dout), "got a function; pass the class itself", 0),
    "an instance": (WithNone(4, 4), "got a value of type WithNone; pass the class itself", 0),
    "cut off": (with_forward(without_gradient), "right, but no gradient passes: no_grad", 6),
    "shortcut cut off": (with_forward(lambda b, x, s: relu(s.detach() + branch(b, x))), "no gradient passes through the shortcut", 6),
    "shortcut cut off by .data": (
        with_forward(lambda b, x, s: relu(s.data + branch(b, x))),
        "no gradient passes through the shortcut",
        6,
    ),
    "branch cut off": (with_forward(without_gradient_of_the_branch), "no gradient passes through the branch", 6),
    "branch from a copy": (with_forward(lambda b, x, s: relu(s + branch(b, x.detach()))), "on a detached copy", 6),
    "bias of f2 dropped": (
        with_forward(lambda b, x, s: relu(s + relu(b.f1(x)) @ b.f2.weight.T)),
        "a ReLU after the sum. Nothing else",
        0,
    ),
    # no listed mistake fits these
    "f2 cut off": (
        with_forward(lambda b, x, s: relu(s + F.linear(relu(b.f1(x)), b.f2.weight.data, b.f2.bias))),
        "Yours is wrong for f2.weight:",
        6,
    ),
    "leaky ReLU": (with_forward(lambda b, x, s: F.leaky_relu(s + branch(b, x), 0.1)), "a ReLU after the sum. Nothing else", 0),
    "tanh between": (with_forward(lambda b, x, s: relu(s + b.f2(torch.tanh(b.f1(x))))), "a ReLU after the sum. Nothing else", 0),
    "normalised": (with_forward(with_batch_norm), "a ReLU after the sum. Nothing else", 0),
    "a third layer": (
        with_layers(lambda b, din, dout: setattr(b, "f2", nn.Sequential(b.f2, nn.ReLU(), nn.Linear(dout, dout)))),
        "as the attribute f2, found a value of type Sequential",
        0,
    ),
    "no shortcut where it narrows": (with_forward(only_where_wider), "The shortcut is missing: with all weights", 3),
}

# --- highway ------------------------------------------------------------------------------------------------


def by_formula(x, H, WT, bT):
    T = sigmoid(x @ WT + bT)
    return T * H(x) + (1 - T) * x


def by_lerp(x, H, WT, bT):
    return torch.lerp(x, H(x), torch.addmm(bT, x, WT).sigmoid())


def by_linear(x, H, WT, bT):
    T = sigmoid(F.linear(x, WT.T, bT))
    return x + T * (H(x) - x)


def by_logsigmoid(x, H, WT, bT):
    z = torch.einsum("bi,ij->bj", x, WT) + bT
    return F.logsigmoid(z).exp() * H(x) + F.logsigmoid(-z).exp() * x


def by_rows(x, H, WT, bT):
    rows = []
    for row in x:
        h, out = H(row), []
        for j in range(len(row)):
            z = sum(row[i] * WT[i, j] for i in range(len(row))) + bT[j]
            t = 1 / (1 + torch.exp(-z))
            out.append(t * h[j] + (1 - t) * row[j])
        rows.append(torch.stack(out))
    return torch.stack(rows)


def by_tanh(x, H, WT, bT):
    T = (1 + torch.tanh((x @ WT + bT) / 2)) / 2
    return T * H(x) + (1 - T) * x


def highway_in_float32(x, H, WT, bT):
    x = x.float()
    T = 1 / (1 + torch.exp(-(x @ WT.float() + bT.float())))
    return T * H(x) + (1 - T) * x


def gated(gate, combine=lambda T, x, h: T * h + (1 - T) * x):
    """A highway layer with another gate(x, W, b), or another combination of T, x and H(x)."""
    return lambda x, H, WT, bT: combine(gate(x, WT, bT), x, H(x))


def gate(x, W, b):
    return sigmoid(x @ W + b)


def carries_in_place(x, H, WT, bT):
    T, h = gate(x, WT, bT), H(x)
    x *= 1 - T
    return x + T * h


def by_numpy(x, H, WT, bT):
    x = x.numpy()
    T = special.expit(x @ WT.numpy() + bT.numpy())
    return T * H(x) + (1 - T) * x


HIGHWAY_CORRECT = [by_formula, by_lerp, by_linear, by_logsigmoid, by_rows, by_tanh, highway_in_float32]
HIGHWAY_WRONG = {
    "gates exchanged": (gated(gate, lambda T, x, h: T * x + (1 - T) * h), "T and 1 − T are exchanged", 0),
    "sign in the sigmoid": (gated(lambda x, W, b: sigmoid(-(x @ W + b))), "T and 1 − T are exchanged", 0),
    "tanh": (gated(lambda x, W, b: torch.tanh(x @ W + b)), "Your gate is a tanh", 1),
    "WT transposed": (gated(lambda x, W, b: sigmoid(F.linear(x, W, b))), "WT is transposed", 2),
    "bias forgotten": (gated(lambda x, W, b: sigmoid(x @ W)), "bT has no effect", 0),
    "weights forgotten": (gated(lambda x, W, b: sigmoid(b).expand_as(x)), "WT has no effect", 2),
    "bias subtracted": (gated(lambda x, W, b: sigmoid(x @ W - b)), "bT has the wrong sign", 0),
    "bias outside": (gated(lambda x, W, b: sigmoid(x @ W) + b), "bT is added behind the sigmoid", 0),
    "no sigmoid": (gated(lambda x, W, b: x @ W + b), "The sigmoid is missing", 0),
    "sigmoid twice": (gated(lambda x, W, b: sigmoid(gate(x, W, b))), "The sigmoid is applied twice", 0),
    "gate from H": (lambda x, H, W, b: gate(H(x), W, b) * H(x) + (1 - gate(H(x), W, b)) * x, "computed from H(x)", 2),
    "ReLU gate": (gated(lambda x, W, b: relu(x @ W + b)), "Your gate is a ReLU", 1),
    "softmax gate": (gated(lambda x, W, b: torch.softmax(x @ W + b, -1)), "Your gate is a softmax", 0),
    "hard gate": (gated(lambda x, W, b: gate(x, W, b).round()), "Your gate is either 0 or 1", 2),
    "hard sigmoid": (gated(lambda x, W, b: F.hardsigmoid(x @ W + b)), "the hard sigmoid", 2),
    "one gate per row": (gated(lambda x, W, b: gate(x, W, b).mean(1, keepdim=True)), "one number for each row", 2),
    "full carry": (gated(gate, lambda T, x, h: x + T * h), "x is carried in full", 1),
    "no carry": (gated(gate, lambda T, x, h: T * h), "The carried part (1 − T)·x is missing", 1),
    "no transform": (gated(gate, lambda T, x, h: (1 - T) * x), "The transformed part T·H(x) is missing", 1),
    "x forgotten": (gated(gate, lambda T, x, h: T * h + (1 - T)), "it must be multiplied by x", 1),
    "carry subtracted": (gated(gate, lambda T, x, h: T * h - (1 - T) * x), "The carried part is subtracted", 1),
    "gate inside H": (lambda x, H, W, b: H(gate(x, W, b) * x) + (1 - gate(x, W, b)) * x, "on the input of H", None),
    "H twice": (lambda x, H, W, b: by_formula(x, lambda u: H(H(u)), W, b), "H is applied twice", None),
    "residual block": (lambda x, H, W, b: x + H(x), "Your layer has no gate", 0),
    "H as a tensor": (lambda x, H, W, b: gate(x, W, b) * H + (1 - gate(x, W, b)) * x, "H is a function: call it", 0),
    "in place": (carries_in_place, "changed its input in place", 1),  # a closed gate leaves x as it is
    "NumPy": (lambda x, H, W, b: by_numpy(x.detach(), H, W.detach(), b.detach()), "right, but no gradient passes: no_grad", 4),
    "NumPy, no detach": (by_numpy, "raised RuntimeError in line 2 of by_numpy", 4),
    "gate cut off": (gated(lambda x, W, b: gate(x, W, b).data), "no gradient passes through the gate", 4),
    "H cut off": (gated(gate, lambda T, x, h: torch.lerp(x, h.detach(), T)), "no gradient passes through H(x)", 4),
    "carry cut off": (gated(gate, lambda T, x, h: T * h + (1 - T) * x.detach()), "no gradient passes through the carry", 4),
    "sum over the batch": (lambda x, H, W, b: by_formula(x, H, W, b).sum(0), "expected the shape of the input, (1, 2), got (2,)", 0),
    "two values": (lambda x, H, W, b: (by_formula(x, H, W, b), gate(x, W, b)), "got a value of type tuple", 0),
    # no listed mistake fits these
    "carry squared": (gated(gate, lambda T, x, h: T * h + (1 - T) ** 2 * x), "one for each entry of x, and the layer returns", 2),
    "cosine": (gated(gate, lambda T, x, h: T * h + (1 - T**2).sqrt() * x), "one for each entry of x, and the layer returns", 2),
    "gate of one sample": (
        gated(lambda x, W, b: gate(x[:1], W, b).expand_as(x)),
        "one for each entry of x, and the layer returns",
        2,
    ),
    "bias counted twice": (gated(lambda x, W, b: sigmoid(x @ W + 2 * b)), "one for each entry of x, and the layer returns", 2),
    "gate's input cut off": (
        gated(lambda x, W, b: gate(x.detach(), W, b)),
        "through the carry. Yours is wrong for x:",
        4,
    ),
    "bias cut off": (gated(lambda x, W, b: gate(x, W, b.data)), "through the carry. Yours is wrong for bT:", 4),
    "nothing": (lambda x, H, W, b: x.clone(), "You return x: where the gate is open", 1),
    "H alone": (lambda x, H, W, b: H(x), "You return H(x): where the gate is closed", 1),
}

# --- rezero_forward -----------------------------------------------------------------------------------------


def by_zip(x, branches, alphas):
    for f, alpha in zip(branches, alphas):
        x = x + alpha * f(x)
    return x


def by_index(x, branches, alphas):
    h = x.clone()
    for i in range(len(branches)):
        h += alphas[i] * branches[i](h)
    return h


def by_reduce(x, branches, alphas):
    return functools.reduce(lambda h, block: torch.add(h, block[1] * block[0](h)), zip(branches, alphas.unbind()), x)


def by_recursion(x, branches, alphas):
    if len(branches) == 0:
        return x
    return by_recursion(torch.addcmul(x, alphas[0], branches[0](x)), branches[1:], alphas[1:])


def by_list(x, branches, alphas):
    stream = [x]
    for l, f in enumerate(branches):
        stream.append(stream[-1] + f(stream[-1]) * alphas[l].view(1, 1))
    return stream[-1]


def rezero_in_float32(x, branches, alphas):
    return by_zip(x.float(), branches, alphas.float()).double()


def chain(step):
    def rezero_forward(x, branches, alphas):
        for f, alpha in zip(branches, alphas):
            x = step(x, f, alpha)
        return x

    return rezero_forward


def by_indices(pick):
    """Blocks with other indices: pick(n) gives pairs (branch, alpha)."""

    def rezero_forward(x, branches, alphas):
        for i, j in pick(len(branches)):
            x = x + alphas[j] * branches[i](x)
        return x

    return rezero_forward


def parallel(x, branches, alphas):
    return x + sum(a * f(x) for f, a in zip(branches, alphas))


def adds_to_the_input(x, branches, alphas):
    h = x
    for f, a in zip(branches, alphas):
        h = x + a * f(h)
    return h


def composes(x, branches, alphas):
    h = x
    for f, a in zip(branches, alphas):
        h = a * f(h)
    return x + h


def forgets_to_keep(x, branches, alphas):
    for f, a in zip(branches, alphas):
        h = x + a * f(x)
    return h


def returns_in_the_loop(x, branches, alphas):
    for f, a in zip(branches, alphas):
        x = x + a * f(x)
        return x


def in_place_stream(x, branches, alphas):
    for f, a in zip(branches, alphas):
        x += a * f(x)
    return x


def without_grad(x, branches, alphas):
    with torch.no_grad():
        return by_zip(x, branches, alphas)


def by_numpy_branches(x, branches, alphas):
    x = x.detach().numpy()
    for f, a in zip(branches, alphas.tolist()):
        x = x + a * f(x)
    return torch.from_numpy(x)


REZERO_CORRECT = [by_zip, by_index, by_reduce, by_recursion, by_list, rezero_in_float32]
REZERO_WRONG = {
    "identity": (lambda x, fs, a: x, "You return x unchanged", 0),
    "no skip": (chain(lambda x, f, a: a * f(x)), "The skip connection is missing", 0),
    "no α": (chain(lambda x, f, a: x + f(x)), "alphas has no effect", 0),
    "branches alone": (chain(lambda x, f, a: f(x)), "You chain the branches alone", 0),
    "α times all": (chain(lambda x, f, a: a * (x + f(x))), "α multiplies the stream as well", 0),
    "α times the stream": (chain(lambda x, f, a: a * x + f(x)), "α multiplies the stream; it belongs", 0),
    "gate": (chain(lambda x, f, a: torch.lerp(x, f(x), a)), "You weigh the stream by 1 − α", 0),
    "subtracted": (chain(lambda x, f, a: x - a * f(x)), "The branch is subtracted; add it, x", 0),
    "α inside": (chain(lambda x, f, a: x + f(a * x)), "α acts on the input of the branch", None),
    "α added": (chain(lambda x, f, a: x + a + f(x)), "α is added", 0),
    "1 + α": (chain(lambda x, f, a: x + (1 + a) * f(x)), "The branch has the factor 1 + α", 0),
    "|α|": (chain(lambda x, f, a: x + a.abs() * f(x)), "α loses its sign", None),
    "α²": (chain(lambda x, f, a: x + a * a * f(x)), "α is squared", 0),
    "sigmoid of α": (chain(lambda x, f, a: x + sigmoid(a) * f(x)), "α passes a sigmoid", 0),
    "tanh of α": (chain(lambda x, f, a: x + torch.tanh(a) * f(x)), "α passes a tanh", 0),
    "ReLU after": (chain(lambda x, f, a: relu(x + a * f(x))), "You apply a ReLU behind the addition", None),
    "parallel": (parallel, "All branches act on the first x", 1),
    "always from x": (adds_to_the_input, "Each block adds its branch to the first x", 1),
    "one skip": (composes, "You add x once", 1),
    "not kept": (forgets_to_keep, "Only the last branch counts", 1),
    "return in the loop": (returns_in_the_loop, "is the return inside the loop", 1),
    "last left out": (by_indices(lambda n: [(i, i) for i in range(max(n - 1, 1))]), "The last branch is left out", 1),
    "last left out, one too": (by_indices(lambda n: [(i, i) for i in range(n - 1)]), "The last branch is left out", 0),
    "first left out": (by_indices(lambda n: [(i, i) for i in range(min(n - 1, 1), n)]), "The first branch is left out", 1),
    "backwards": (by_indices(lambda n: [(i, i) for i in reversed(range(n))]), "in the wrong order: begin with branches[0].", 1),
    "branches backwards": (by_indices(lambda n: [(n - 1 - i, i) for i in range(n)]), "the order of the α's is right", 1),
    "alphas backwards": (by_indices(lambda n: [(i, n - 1 - i) for i in range(n)]), "The α's are in the wrong order", 1),
    "first α": (by_indices(lambda n: [(i, 0) for i in range(n)]), "All branches get the first α", 1),
    "last α": (by_indices(lambda n: [(i, n - 1) for i in range(n)]), "All branches get the last α", 1),
    "shifted": (by_indices(lambda n: [(i, i - 1) for i in range(n)]), "The α's are shifted by one", 1),
    "sum of the α's": (lambda x, fs, a: by_zip(x, fs, [a.sum()] * len(a)), "the sum of all α's", 1),
    "mean of the α's": (lambda x, fs, a: by_zip(x, fs, [a.mean()] * len(a)), "the mean of all α's", 1),
    "cumulated": (lambda x, fs, a: by_zip(x, fs, a.cumprod(0)), "The α's are multiplied up", 1),
    "item": (chain(lambda x, f, a: x + a.item() * f(x)), "no gradient reaches the α's", 4),
    "tolist": (lambda x, fs, a: by_zip(x, fs, a.tolist()), "no gradient reaches the α's", 4),
    "no_grad": (without_grad, "right, but no gradient passes: no_grad", 4),
    "NumPy": (by_numpy_branches, "right, but no gradient passes: no_grad", 4),
    "x cut off": (lambda x, fs, a: by_zip(x.data, fs, a), "no gradient reaches x:", 4),
    "branches cut off": (chain(lambda x, f, a: x + a * f(x.detach())), "through the branches to the blocks before them", 4),
    "zeros skipped": (chain(lambda x, f, a: x + a * f(x) if a != 0 else x), "Branches whose α is 0 are left out", 4),
    "in place": (in_place_stream, "changed its input in place", 0),
    "all states": (lambda x, fs, a: list(itertools.accumulate(fs, lambda h, f: h + f(h), initial=x)), "got a value of type list", 0),
    "no loop": (lambda x, fs, a: x + a * fs(x), "raised TypeError", 0),
    # no listed mistake fits these
    "twice": (chain(lambda x, f, a: x + a * f(x) + a * f(x)), "The blocks act one after the other", 0),
    "cubed": (chain(lambda x, f, a: x + a**3 * f(x)), "The blocks act one after the other", 0),
    "scaled by depth": (lambda x, fs, a: by_zip(x, fs, a / len(a) ** 0.5), "The blocks act one after the other", 1),
    "two steps at once": (lambda x, fs, a: parallel(parallel(x, fs[:2], a[:2]), fs[2:], a[2:]), "The blocks act one after the other", 1),
    "only the first α learns": (
        lambda x, fs, a: by_zip(x, fs, [a[0], *a[1:].detach()]),
        "Gradients must reach x and every α",
        4,
    ),
}

# --- path_share ---------------------------------------------------------------------------------------------


def by_comb(n, low, high):
    return sum(math.comb(n, k) for k in range(low, high + 1)) / 2**n


def by_fraction(n, low, high):
    return sum(Fraction(math.comb(n, k), 2**n) for k in range(low, high + 1))


def by_cdf(n, low, high):
    return stats.binom.cdf(high, n, 0.5) - stats.binom.cdf(low - 1, n, 0.5)


def by_pmf(n, low, high):
    return torch.tensor(stats.binom(n, 0.5).pmf(np.arange(low, high + 1)).sum())


def by_lgamma(n, low, high):
    k = torch.arange(low, high + 1, dtype=torch.float64)
    n = torch.tensor(float(n), dtype=torch.float64)
    return (torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1) - n * math.log(2)).exp().sum()


def by_beta(n, low, high):
    upper = special.betainc(low, n - low + 1, 0.5) if low else 1.0
    return upper - (special.betainc(high + 1, n - high, 0.5) if high < n else 0.0)


def by_convolution(n, low, high):
    shares = np.ones(1)
    for _ in range(n):
        shares = np.convolve(shares, [0.5, 0.5])
    return shares[low : high + 1].sum()


def by_steps(n, low, high):
    count, total = 1, 0
    for k in range(high + 1):
        total += count if k >= low else 0
        count = count * (n - k) // (k + 1)
    return total / (1 << n)


def by_factorials(n, low, high):
    f = math.factorial
    return float(sum(f(n) // (f(k) * f(n - k)) for k in range(low, high + 1)) / 2**n)


def by_complement(n, low, high):
    below = sum(math.comb(n, k) for k in range(low))
    above = sum(math.comb(n, k) for k in range(high + 1, n + 1))
    return 1 - (below + above) / 2**n


def by_pascal(n, low, high):
    row = [1.0]
    for _ in range(n):
        row = [(a + b) / 2 for a, b in zip([0.0, *row], [*row, 0.0])]
    return math.fsum(row[low : high + 1])


def by_logs(n, low, high):
    total = 0.0
    for k in range(low, high + 1):
        total += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
    return total


def normal_cdf(z):
    return stats.norm.cdf(z)


def bell(n, low, high, widen=0.0):
    mean, deviation = n / 2, n**0.5 / 2
    return normal_cdf((high + widen - mean) / deviation) - normal_cdf((low - widen - mean) / deviation)


def in_float32_logs(n, low, high):
    k, n = torch.arange(low, high + 1).float(), torch.tensor(float(n))
    return (torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1) - n * math.log(2)).exp().sum()


def by_floats(n, low, high):
    return sum(math.comb(n, k) * 0.5**n for k in range(low, high + 1))


def by_scipy_comb(n, low, high):
    return special.comb(n, np.arange(low, high + 1)).sum() / 2.0**n


def by_scipy_comb_and_half(n, low, high):
    return special.comb(n, np.arange(low, high + 1)).sum() * 0.5**n


@functools.cache
def pascal(n, k):
    return 1 if k in (0, n) else pascal(n - 1, k - 1) + pascal(n - 1, k)


def by_recursive_pascal(n, low, high):
    pascal.cache_clear()
    return sum(pascal(n, k) for k in range(low, high + 1)) / 2**n


def simulated(n, low, high):
    k = torch.distributions.Binomial(n, torch.tensor(0.5)).sample((20_000,))
    return ((k >= low) & (k <= high)).double().mean()


def by_float_recursion(n, low, high):
    share, total = 0.5**n, 0.0
    for k in range(high + 1):
        total += share if k >= low else 0.0
        share *= (n - k) / (k + 1)
    return total


def count(n, low, high):
    return sum(math.comb(n, k) for k in range(low, high + 1))


def permutations(n, low, high):
    return sum(math.perm(n, k) for k in range(low, high + 1)) / 2**n


PATH_SHARE_CORRECT = [
    by_comb,
    by_fraction,
    by_cdf,
    by_pmf,
    by_lgamma,
    by_beta,
    by_steps,
    by_complement,
    by_logs,
]
PATH_SHARE_WRONG = {
    "high left out": (lambda n, a, b: by_comb(n, a, b - 1), "range(low, high) stops before high", 0),
    "low left out": (lambda n, a, b: stats.binom.cdf(b, n, 0.5) - stats.binom.cdf(a, n, 0.5), "The paths of length low are missing", 0),
    "both left out": (lambda n, a, b: by_comb(n, a + 1, b - 1), "are both missing", 0),
    "one too many": (lambda n, a, b: by_comb(n, a, b + 1), "of length high + 1 are counted", 0),
    "one too many below": (lambda n, a, b: by_comb(n, max(a - 1, 0), b), "of length low − 1 are counted", 0),
    "n + 1": (lambda n, a, b: by_comb(n + 1, a, b), "That is the share for n + 1 blocks", 0),
    "n − 1": (lambda n, a, b: by_comb(n - 1, a, b), "That is the share for n − 1 blocks", None),
    "2n": (lambda n, a, b: by_comb(2 * n, a, b), "That is the share for 2n blocks", 0),
    "number of lengths": (lambda n, a, b: (b - a + 1) / (n + 1), "You count the lengths, not the paths", None),
    "one path a length": (lambda n, a, b: Fraction(b - a + 1, 2**n), "You count one path for each length", 0),
    "the two ends": (lambda n, a, b: by_comb(n, a, a) + by_comb(n, b, b) * (b > a), "Only the lengths low and high count", None),
    "high alone": (lambda n, a, b: by_comb(n, b, b), "the share of length high alone", None),
    "low alone": (lambda n, a, b: by_comb(n, a, a), "the share of length low alone", None),
    "low ignored": (lambda n, a, b: stats.binom.cdf(b, n, 0.5), "low has no effect", None),
    "high ignored": (lambda n, a, b: stats.binom.sf(a - 1, n, 0.5), "high has no effect", None),
    "the other paths": (lambda n, a, b: 1 - by_comb(n, a, b), "That is the share of the other paths", 0),
    "percent": (lambda n, a, b: 100 * by_comb(n, a, b), "That is in percent", 0),
    "2^(n−1)": (lambda n, a, b: 2 * by_comb(n, a, b), "That is twice the share", 0),
    "2^(n+1)": (lambda n, a, b: by_comb(n, a, b) / 2, "That is half the share", 0),
    "normal density": (bell, "You take the area under a normal density", 0),
    "normal density, corrected": (lambda n, a, b: bell(n, a, b, 0.5), "You take a normal approximation", 0),
    "weighted with the length": (
        lambda n, a, b: sum(k * math.comb(n, k) for k in range(a, b + 1)) / 2**n,
        "Each path is counted as often as it is long",
        0,
    ),
    "weighted share": (
        lambda n, a, b: sum(k * math.comb(n, k) for k in range(a, b + 1)) / (n * 2 ** (n - 1)),
        "Each path is counted as often as it is long",
        None,
    ),
    "logarithm": (lambda n, a, b: math.log(by_comb(n, a, b)), "That is the logarithm of the share", 0),
    "count": (count, "That is the number of paths", 0),
    "permutations": (permutations, "You count the orders", 0),
    "floats": (by_floats, "raised OverflowError in line 2 of by_floats", 3),
    "2.0 ** n": (by_scipy_comb, "raised OverflowError in line 2 of by_scipy_comb", 3),
    "comb in floats": (by_scipy_comb_and_half, "returned NaN", 3),
    "recursion": (by_recursive_pascal, "raised RecursionError", 3),
    "underflow": (by_float_recursion, "factors such as 0.5ⁿ vanish", 3),
    "float32": (in_float32_logs, "close, but not to within 10⁻⁶", None),
    "rounded": (lambda n, a, b: round(by_comb(n, a, b), 2), "close, but not to within 10⁻⁶", None),
    "20,000 random paths": (simulated, "close, but not to within 10⁻⁶", None),
    # no listed mistake fits these
    "p = 0.4": (lambda n, a, b: stats.binom.cdf(b, n, 0.4) - stats.binom.cdf(a - 1, n, 0.4), "from k = low to high, both included", None),
    "Poisson": (lambda n, a, b: stats.poisson.cdf(b, n / 2) - stats.poisson.cdf(a - 1, n / 2), "from k = low to high, both included", 0),
    "2^n − 1": (lambda n, a, b: count(n, a, b) / (2**n - 1), "from k = low to high, both included", None),
    "no single length": (lambda n, a, b: by_comb(n, a, b) if a < b else 0.0, "range(low, high) stops before high", 4),
    "no length 0": (lambda n, a, b: by_comb(n, max(a, 1), b), "The paths of length low are missing", 4),
}


CORRECT = {
    "Block": BLOCK_CORRECT,
    "highway": HIGHWAY_CORRECT,
    "rezero_forward": REZERO_CORRECT,
    "path_share": PATH_SHARE_CORRECT,
}
CORRECT_SLOW = {"path_share": [by_convolution, by_factorials, by_pascal]}
WRONG = {"Block": BLOCK_WRONG, "highway": HIGHWAY_WRONG, "rezero_forward": REZERO_WRONG, "path_share": PATH_SHARE_WRONG}
