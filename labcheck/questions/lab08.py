"""Questions of lab 08, residual nets: references, known mistakes and verdicts."""

import math

import torch
import torch.nn.functional as F
from torch import nn, relu, sigmoid

from .. import evidence as read
from ..judging import Item, Mistake, attempt, choose, close, integer, judge, normal, uniform
from ..probes.lab08 import mapping
from ..question import Question

# Outputs and gradients here are of order 1 to 10: float32 rounding stays below 1e-5 of that, and every mistake
# changes some entry by 1e-2 or more.
SAME = close(rtol=1e-4, atol=1e-5)


def _gradients(y, wanted, dy):
    """The gradients of (y·dy).sum() by name, zeros where none arrives."""
    found = {name: torch.zeros_like(tensor) for name, tensor in wanted.items()}
    if y.requires_grad:
        gradients = torch.autograd.grad(y, list(wanted.values()), dy, allow_unused=True)
        found |= {name: g for name, g in zip(wanted, gradients) if g is not None}
    return found


def _answer(y, wanted, dy):
    """What is compared: the output, and all gradients as one vector; and the sizes of its parts, by name."""
    found = _gradients(y, wanted, dy)
    flat = torch.cat([g.flatten() for g in found.values()])
    return {"y": y.detach(), "gradients": flat, "sizes": {name: g.shape for name, g in found.items()}}


def _remembered(answer):
    """`answer(case)`, computed once for each case."""
    known = {}

    def once(case):
        if case["number"] not in known:
            known[case["number"]] = answer(case)
        return known[case["number"]]

    return once


def _values(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# --- lab08.Block --------------------------------------------------------------------------------------------

BLOCK = "class Block(din, dout)"


class Block(nn.Module):
    """y = relu(shortcut(x) + f2(relu(f1(x)))), with a projection as the shortcut where the widths differ."""

    def __init__(self, din, dout):
        super().__init__()
        self.f1 = nn.Linear(din, dout)
        self.f2 = nn.Linear(dout, dout)
        self.proj = None if din == dout else nn.Linear(din, dout)

    def forward(self, x):
        shortcut = x if self.proj is None else self.proj(x)
        return relu(shortcut + self.f2(relu(self.f1(x))))


def _block_case(forward):
    """From y = forward(x, shortcut(x), f1, f2) to what a block like that gives for a case: "y" and the gradients."""

    def answer(case):
        x = case["x"].clone().requires_grad_()
        wanted = {"x": x}
        for name in ("f1", "f2", "proj"):
            if name in case:
                wanted[f"{name}.weight"] = case[name]["weight"].clone().requires_grad_()
                if case["has bias"][name]:
                    wanted[f"{name}.bias"] = case[name]["bias"].clone().requires_grad_()

        def layer(name):
            return lambda h: F.linear(h, wanted[f"{name}.weight"], wanted.get(f"{name}.bias"))

        shortcut = layer("proj")(x) if "proj" in case else x
        y = forward(x, shortcut, layer("f1"), layer("f2"))
        return None if y is None else _answer(y, wanted, case["dy"])

    return _remembered(answer)


def _right(x, s, f1, f2):
    return relu(s + f2(relu(f1(x))))


def _at_equal_widths(forward):
    return lambda x, s, f1, f2: forward(x, s, f1, f2) if s is x else None


def _padded(x, s, f1, f2):
    branch = f2(relu(f1(x)))
    return relu(F.pad(x, (0, branch.shape[1] - x.shape[1])) + branch)  # a negative number of zeros cuts


BLOCK_MISTAKES = [
    (
        lambda x, s, f1, f2: s + relu(f2(relu(f1(x)))),
        "The last ReLU comes before the addition, so the branch is never negative and the stream can only grow: add "
        "first, relu(shortcut(x) + …).",
    ),
    (
        lambda x, s, f1, f2: relu(s + relu(f2(relu(f1(x))))),
        "The branch has a ReLU of its own behind f2, so it can add but never subtract: the last ReLU belongs after the "
        "addition alone.",
    ),
    (
        lambda x, s, f1, f2: relu(f2(relu(f1(x)))),
        "The shortcut is missing: with all weights of f1 and f2 at 0 your block returns 0, and a residual block must "
        "then return relu(shortcut(x)).",
    ),
    (
        lambda x, s, f1, f2: relu(s),
        "The branch has no effect: you return relu(shortcut(x)) alone; add f2(relu(f1(x))) to the shortcut first.",
    ),
    (
        lambda x, s, f1, f2: f2(relu(f1(x))),
        "You return the branch alone: the shortcut and the last ReLU are missing.",
    ),
    (
        lambda x, s, f1, f2: s + f2(relu(f1(x))),
        "The ReLU after the addition is missing: y = relu(shortcut(x) + f2(relu(f1(x)))) is never negative.",
    ),
    (
        lambda x, s, f1, f2: s + f2(relu(f1(relu(x)))),
        "Your ReLUs stand before the layers: that is the pre-activation order; this block is post-activation, with one "
        "ReLU after f1 and one after the addition.",
    ),
    (
        lambda x, s, f1, f2: relu(s + f2(f1(x))),
        "The ReLU between f1 and f2 is missing: without it the two layers are a single linear one.",
    ),
    (
        lambda x, s, f1, f2: s + f2(f1(x)),
        "Both ReLUs are missing, the one between f1 and f2 and the one after the addition: your block is linear.",
    ),
    (
        _at_equal_widths(lambda x, s, f1, f2: relu(s + f1(relu(f1(x))))),
        "f1 acts twice and f2 never: the second layer of the branch is f2.",
    ),
    (
        _at_equal_widths(lambda x, s, f1, f2: relu(s + f2(relu(f2(x))))),
        "f2 acts twice and f1 never: they must be two layers with weights of their own, the first of them f1.",
    ),
    (
        _at_equal_widths(lambda x, s, f1, f2: relu(s + f1(relu(f2(x))))),
        "f1 and f2 have changed places: f1 acts on x, f2 on relu(f1(x)).",
    ),
    (
        lambda x, s, f1, f2: relu(relu(f1(x)) + f2(relu(f1(x)))),
        "Your shortcut starts behind f1; it must carry the block's own input x.",
    ),
    (
        lambda x, s, f1, f2: relu(f1(x) + f2(relu(f1(x)))),
        "Your shortcut starts behind f1; it must carry the block's own input x.",
    ),
    (lambda x, s, f1, f2: relu(s - f2(relu(f1(x)))), "The branch is subtracted; add it to the shortcut."),
    (lambda x, s, f1, f2: relu(f2(relu(f1(x))) - s), "The shortcut is subtracted; add it to the branch."),
    (
        lambda x, s, f1, f2: relu(relu(s) + f2(relu(f1(x)))),
        "You apply a ReLU to the shortcut: it must pass x, or proj(x), as it is.",
    ),
    (
        lambda x, s, f1, f2: relu(s * f2(relu(f1(x)))),
        "You multiply the branch and the shortcut; a residual block adds them.",
    ),
    (
        lambda x, s, f1, f2: relu(s + f2(relu(f1(x)))) / 2,
        "Your sum is halved: add the branch and the shortcut, without a mean.",
    ),
    (
        lambda x, s, f1, f2: relu(s + f2(relu(f1(x)))) / math.sqrt(2),
        "Your sum is divided by √2; this block has no such factor.",
    ),
    (lambda x, s, f1, f2: relu(s + f1(x)), "f2 has no effect: the branch is f2(relu(f1(x))), with two layers."),
    (lambda x, s, f1, f2: relu(s + relu(f1(x))), "f2 has no effect: the branch is f2(relu(f1(x))), with two layers."),
    (lambda x, s, f1, f2: relu(2 * s + f2(relu(f1(x)))), "The shortcut is added twice."),
    (
        lambda x, s, f1, f2: s + relu(s + f2(relu(f1(x)))),
        "The shortcut is added once more behind the last ReLU; the ReLU is the last thing that the block does.",
    ),
    (
        lambda x, s, f1, f2: s + relu(f1(x)),
        "Your branch has one layer and ends in a ReLU: it must be f2(relu(f1(x))), and the last ReLU follows the addition.",
    ),
    (
        _padded,
        "Where the widths differ you fill x up with zeros, or cut it: use the projection proj(x).",
    ),
]
# Looked for where every output is right, and only there.
BLOCK_CUTS = [
    (
        lambda x, s, f1, f2: _right(x, s, f1, f2).detach(),
        "The output is right, but no gradient passes: no_grad, .detach(), .data or NumPy cuts it off.",
    ),
    (
        lambda x, s, f1, f2: relu(s.detach() + f2(relu(f1(x)))),
        "The output is right, but no gradient passes through the shortcut: that is what it is for. Remove .detach(), "
        ".data or no_grad.",
    ),
    (
        lambda x, s, f1, f2: relu(s + f2(relu(f1(x))).detach()),
        "The output is right, but no gradient passes through the branch, so f1 and f2 cannot learn. Remove .detach(), "
        ".data or no_grad.",
    ),
    (
        lambda x, s, f1, f2: relu(s + f2(relu(f1(x.detach())))),
        "The output is right, but the branch passes no gradient to x: it works on a detached copy.",
    ),
]

BLOCK_FALLBACK = {
    "equal widths": "Where din == dout, y = relu(x + f2(relu(f1(x)))): two linear layers with a ReLU between them, plus x "
    "itself, and a ReLU after the sum. Nothing else.",
    "different widths": "Where din != dout, y = relu(proj(x) + f2(relu(f1(x)))): two linear layers with a ReLU between "
    "them, plus proj(x), and a ReLU after the sum. Nothing else.",
    "gradients and input": "Gradients must reach x through the shortcut and through the branch, and every weight.",
}

OVERWRITTEN = (
    "your forward overwrote its input x (x += …, or an in-place ReLU on x): the caller loses its tensor, and autograd "
    "fails. Write x = x + …"
)
# Where the output is wrong, so are the gradients, and advice on them alone would mislead.
OUTPUT_FIRST = "The gradients are those of another function: mend the output first."

_BLOCK_FIXED = [
    (
        "x = [[1, 2]] with f1 = I and f2 = −½ I",
        dict(
            f1=dict(weight=_values([[1, 0], [0, 1]]), bias=torch.zeros(2, dtype=torch.float64)),
            f2=dict(weight=_values([[-0.5, 0], [0, -0.5]]), bias=torch.zeros(2, dtype=torch.float64)),
        ),
    ),
    (
        "x = [[1, 2]] with f1 = [[1, 0], [0, 1], [1, 1]], f2 = −½ I and proj = [[2, 0], [0, 2], [1, 1]]",
        dict(
            f1=dict(weight=_values([[1, 0], [0, 1], [1, 1]]), bias=torch.zeros(3, dtype=torch.float64)),
            f2=dict(weight=-0.5 * torch.eye(3, dtype=torch.float64), bias=torch.zeros(3, dtype=torch.float64)),
            proj=dict(weight=_values([[2, 0], [0, 2], [1, 1]]), bias=torch.zeros(3, dtype=torch.float64)),
        ),
    ),
]


def block_inputs(generator):
    """Two fixed cases, so that hints can name one, and four random ones: equal widths, a wider and a narrower output.

    Biases are large enough to matter, and a batch is never as large as a layer is wide.
    """

    def layer(fan_in, fan_out):
        return dict(weight=normal(generator, fan_out, fan_in, scale=1.2 / math.sqrt(fan_in)), bias=normal(generator, fan_out, scale=0.5))

    def case(din, dout, batch):
        layers = dict(f1=layer(din, dout), f2=layer(dout, dout)) | ({} if din == dout else dict(proj=layer(din, dout)))
        return dict(din=din, dout=dout, x=normal(generator, batch, din), dy=normal(generator, batch, dout)) | layers

    fixed = [
        dict(din=2, dout=dout, x=_values([[1, 2]]), dy=torch.ones(1, dout, dtype=torch.float64)) | layers
        for dout, (_, layers) in zip((2, 3), _BLOCK_FIXED)
    ]
    same = integer(generator, 4, 5)
    return {
        "cases": fixed
        + [
            case(same, same, 3),
            case(6, 6, 8),
            case(integer(generator, 3, 5), 7, 6),
            case(integer(generator, 6, 8), 4, 5),
        ]
    }


def _aspect(case):
    return "equal widths" if case["din"] == case["dout"] else "different widths"


def _block_value(record, case):
    """What came back for a case; every way in which it cannot be used gets its sentence."""
    found = read.mapping(record, BLOCK)
    name = f"Block({case['din']}, {case['dout']})"
    match found.get("problem"):
        case None:
            return found
        case "no module":
            raise read.Trouble("expected a subclass of nn.Module: begin with class Block(nn.Module).")
        case "no forward":
            raise read.Trouble("your class has no method forward(self, x): is its name misspelt?")
        case "no tensor" if found["type"] == "NoneType":
            raise read.Trouble("your forward returned None: is a return statement missing?")
        case "no tensor":
            raise read.Trouble(f"expected forward to return one tensor, got a value of type {str(found['type'])[:60]}.")
        case "needless projection":
            raise read.Trouble(
                f"{name} has a projection: where din == dout the shortcut is x itself, so proj must be None, "
                "nn.Identity() or not there."
            )
        case "no layer" if found["layer"] == "proj":
            raise read.Trouble(
                f"{name} has no projection: x has din entries and the branch dout, so where they differ proj must be "
                "nn.Linear(din, dout)."
            )
        case "no layer":
            what = "nothing" if found["type"] == "NoneType" else f"a value of type {str(found['type'])[:60]}"
            raise read.Trouble(f"expected an nn.Linear as the attribute {str(found['layer'])[:10]}, found {what}.")
        case "shape":
            layer, got = str(found["layer"])[:10], tuple(int(n) for n in found["shape"])
            sizes = "dout, dout" if layer == "f2" else "din, dout"
            raise read.Trouble(
                f"in {name} the weight of {layer} has shape {got}, expected {tuple(case[layer]['weight'].shape)}: "
                f"{layer} is nn.Linear({sizes}), and its weight is (out, in)."
            )
    raise read.Trouble("the check could not read what came back from your class.")


def _block_output(got, case):
    """The output y as a tensor."""
    shape = case["dy"].shape
    if isinstance(got, torch.Tensor) and got.ndim == 2 and got.shape[1] in (case["din"] + case["dout"], 2 * case["dout"]):
        raise read.Trouble(
            "your output is as wide as shortcut and branch side by side: a residual block adds them (to concatenate is "
            "DenseNet's way)."
        )
    return read.as_tensor(got, shape, "the shape (batch, dout)")


def block_judge(inputs, evidence):
    items, total = [], "gradients and input"
    calls = list(zip(inputs["cases"], evidence["cases"], evidence["gradients"], strict=True))
    for number, (drawn, record, gradients) in enumerate(calls):
        layers = [name for name in ("f1", "f2", "proj") if name in drawn]
        found = attempt(_block_value, record, drawn)
        if isinstance(found, read.Trouble):
            items += [Item(aspect, found, None, drawn) for aspect in (_aspect(drawn), total)]
            continue
        case = drawn | {"number": number, "has bias": {name: bool(found["bias"][name]) for name in layers}}
        expected = _block_case(_right)(case)
        quote = _BLOCK_FIXED[number][0] if number < len(_BLOCK_FIXED) else None
        y = attempt(_block_output, found["y"], drawn)
        items.append(Item(_aspect(drawn), y, expected["y"], case, "y", quote))
        if isinstance(y, read.Trouble):
            items.append(Item(total, y, None, case))
        elif found["changed"]:
            items.append(Item(total, read.Trouble(OVERWRITTEN), None, case))
        else:
            items.append(_gradient_item(total, gradients, BLOCK, expected, case))

    return _judge_with_gradients(items, _block_case, BLOCK_MISTAKES, BLOCK_CUTS, BLOCK_FALLBACK, total)


def _judge_with_gradients(items, of_a_case, mistakes, cuts, fallback, gradients):
    """`judge` with the mistakes, and the hint for the aspect `gradients`, that fit what was found."""
    wrong = [item for item in items if not isinstance(item.got, read.Trouble) and not SAME(item.got, item.expected)]
    if any(item.part == "y" for item in wrong):
        hint, known = OUTPUT_FIRST, mistakes
    else:
        lost = sorted({name for item in wrong for name in _parts_wrong(item)})
        hint, known = f"{fallback[gradients]} Yours is wrong for {', '.join(lost)}: look for .detach(), .data or no_grad.", cuts
    return judge(items, [Mistake(of_a_case(forward), text) for forward, text in known], fallback | {gradients: hint}, SAME)


def _parts_wrong(item):
    sizes = {name: math.prod(shape) for name, shape in item.case["sizes"].items()}
    pairs = zip(sizes, item.got.split(list(sizes.values())), item.expected.split(list(sizes.values())))
    return [name for name, got, expected in pairs if not SAME(got, expected)]


def _gradient_item(aspect, record, signature, expected, case):
    """All gradients of a case as one vector, or the trouble of reading them."""
    try:
        found = read.mapping(record, signature)
        got = torch.cat([read.as_tensor(found[name], shape).flatten() for name, shape in expected["sizes"].items()])
    except read.Trouble as trouble:
        in_place = "a leaf Variable that requires grad" in str(trouble)  # x itself, with values that did not change
        got = read.Trouble(OVERWRITTEN) if in_place else trouble
    return Item(aspect, got, expected["gradients"], case | {"sizes": expected["sizes"]}, "gradients")


# --- lab08.highway ------------------------------------------------------------------------------------------

HIGHWAY = "highway(x, H, WT, bT)"


def highway(x, H, WT, bT):
    """T·H(x) + (1 − T)·x with T = σ(x WT + bT)."""
    gate = sigmoid(x @ WT + bT)
    return gate * H(x) + (1 - gate) * x


# From x, the function H, H(x), WT and bT.
HIGHWAY_MISTAKES = [
    (lambda x, H, h, W, b: x, "You return x: where the gate is open, H(x) must come through."),
    (lambda x, H, h, W, b: h, "You return H(x): where the gate is closed, x must come through."),
    (
        lambda x, H, h, W, b: _mix(sigmoid(x @ W + b), x, h),
        "T and 1 − T are exchanged: a closed gate (bT far below 0) must copy x, and yours returns H(x).",
    ),
    (
        lambda x, H, h, W, b: _mix(torch.tanh(x @ W + b), h, x),
        "Your gate is a tanh: it is 0 where it should be ½, and can be negative. A gate between 0 and 1 needs the "
        "logistic sigmoid.",
    ),
    (
        lambda x, H, h, W, b: _mix(sigmoid(x @ W.T + b), h, x),
        "WT is transposed: the gate is σ(x @ WT + bT), with WT as it comes (F.linear and nn.Linear transpose it).",
    ),
    (lambda x, H, h, W, b: _mix(sigmoid(x @ W), h, x), "bT has no effect: add it to x @ WT, inside the sigmoid."),
    (
        lambda x, H, h, W, b: _mix(sigmoid(b).expand_as(x), h, x),
        "WT has no effect: the gate depends on x, T = σ(x @ WT + bT).",
    ),
    (lambda x, H, h, W, b: _mix(sigmoid(x @ W - b), h, x), "bT has the wrong sign: it is added to x @ WT."),
    (lambda x, H, h, W, b: _mix(sigmoid(x @ W) + b, h, x), "bT is added behind the sigmoid; it belongs inside."),
    (
        lambda x, H, h, W, b: _mix(x @ W + b, h, x),
        "The sigmoid is missing: x @ WT + bT is not a share between 0 and 1.",
    ),
    (
        lambda x, H, h, W, b: _mix(sigmoid(sigmoid(x @ W + b)), h, x),
        "The sigmoid is applied twice, so your gate never closes.",
    ),
    (
        lambda x, H, h, W, b: _mix(sigmoid(h @ W + b), h, x),
        "Your gate is computed from H(x); it looks at the input, T = σ(x @ WT + bT).",
    ),
    (
        lambda x, H, h, W, b: _mix(relu(x @ W + b), h, x),
        "Your gate is a ReLU, which knows no upper bound; use the logistic sigmoid.",
    ),
    (
        lambda x, H, h, W, b: _mix(torch.softmax(x @ W + b, -1), h, x),
        "Your gate is a softmax, so that its entries share 1 among them; each has a sigmoid of its own.",
    ),
    (
        lambda x, H, h, W, b: _mix((x @ W + b > 0).to(x), h, x),
        "Your gate is either 0 or 1; T takes all values between them: use the sigmoid itself.",
    ),
    (
        lambda x, H, h, W, b: _mix(F.hardsigmoid(x @ W + b), h, x),
        "Your gate is the hard sigmoid, made of straight lines; use torch.sigmoid.",
    ),
    (
        lambda x, H, h, W, b: _mix(sigmoid(x @ W + b).mean(-1, keepdim=True).expand_as(x), h, x),
        "Your gate is one number for each row; each entry has a gate of its own.",
    ),
    (
        lambda x, H, h, W, b: x + sigmoid(x @ W + b) * h,
        "x is carried in full: multiply it by 1 − T, so that the two shares add up to 1.",
    ),
    (lambda x, H, h, W, b: sigmoid(x @ W + b) * h, "The carried part (1 − T)·x is missing."),
    (lambda x, H, h, W, b: (1 - sigmoid(x @ W + b)) * x, "The transformed part T·H(x) is missing."),
    (
        lambda x, H, h, W, b: sigmoid(x @ W + b) * h + 1 - sigmoid(x @ W + b),
        "The share 1 − T is added as it is: it must be multiplied by x.",
    ),
    (
        lambda x, H, h, W, b: sigmoid(x @ W + b) * h - (1 - sigmoid(x @ W + b)) * x,
        "The carried part is subtracted; add (1 − T)·x.",
    ),
    (
        lambda x, H, h, W, b: H(sigmoid(x @ W + b) * x) + (1 - sigmoid(x @ W + b)) * x,
        "The gate acts on the input of H; it multiplies the output, T·H(x).",
    ),
    (
        lambda x, H, h, W, b: _mix(sigmoid(x @ W + b), H(h), x),
        "H is applied twice: the transformed part is T·H(x).",
    ),
    (lambda x, H, h, W, b: x + h, "Your layer has no gate: that is a residual block; weigh H(x) by T and x by 1 − T."),
]
# Looked for where every output is right, and only there.
HIGHWAY_CUTS = [
    (
        lambda x, H, h, W, b: highway(x, H, W, b).detach(),
        "The output is right, but no gradient passes: no_grad, .detach(), .data or NumPy cuts it off.",
    ),
    (
        lambda x, H, h, W, b: _mix(sigmoid(x @ W + b).detach(), h, x),
        "The output is right, but no gradient passes through the gate, so WT and bT cannot learn: remove .detach(), "
        ".data or no_grad.",
    ),
    (
        lambda x, H, h, W, b: _mix(sigmoid(x @ W + b), h.detach(), x),
        "The output is right, but no gradient passes through H(x): remove .detach(), .data or no_grad.",
    ),
    (
        lambda x, H, h, W, b: _mix(sigmoid(x @ W + b), h, x.detach()),
        "The output is right, but no gradient passes through the carry: remove .detach(), .data or no_grad.",
    ),
]

HIGHWAY_FALLBACK = {
    "closed gate": "With bT far below 0 the gate T is 0, and the layer copies x.",
    "open gate": "With bT far above 0 the gate T is 1, and the layer returns H(x).",
    "in between": "The gate is T = σ(x @ WT + bT), one for each entry of x, and the layer returns T·H(x) + (1 − T)·x.",
    "gradients": "Gradients must reach x, WT and bT, through the gate, through H(x) and through the carry.",
}


def _mix(gate, one, other):
    return gate * one + (1 - gate) * other


_TEN = dict(A=torch.zeros(2, 2, dtype=torch.float64), B=torch.zeros(2, 2, dtype=torch.float64), c=_values([10, 10]))
_NO_WEIGHTS = torch.zeros(2, 2, dtype=torch.float64)
_HIGHWAY_FIXED = [
    (
        "x = [[1, 2]], H(x) = 10 everywhere, WT = 0 and bT = −40",
        dict(aspect="closed gate", x=_values([[1, 2]]), dy=_values([[1, 1]]), H=_TEN, WT=_NO_WEIGHTS, bT=_values([-40, -40])),
    ),
    (
        "x = [[1, 2]], H(x) = 10 everywhere, WT = 0 and bT = 40",
        dict(aspect="open gate", x=_values([[1, 2]]), dy=_values([[1, 1]]), H=_TEN, WT=_NO_WEIGHTS, bT=_values([40, 40])),
    ),
    (
        "x = [[1, 2]], H(x) = 10 everywhere, WT = [[0, 2], [0, 0]] and bT = [−1, 1]",
        dict(
            aspect="in between",
            x=_values([[1, 2]]),
            dy=_values([[1, 1]]),
            H=_TEN,
            WT=_values([[0, 2], [0, 0]]),
            bT=_values([-1, 1]),
        ),
    ),
]


def _draw_mapping(generator, n):
    scale = 0.8 / math.sqrt(n)
    return dict(A=normal(generator, n, n, scale=scale), B=normal(generator, n, n, scale=scale), c=normal(generator, n))


def highway_inputs(generator):
    """Three fixed cases, so that hints can name one, and four random ones; WT is not symmetric, H no symmetric function."""

    def case(aspect, n, batch, bias):
        return dict(
            aspect=aspect,
            x=normal(generator, batch, n, scale=1.5),
            dy=normal(generator, batch, n),
            H=_draw_mapping(generator, n),
            WT=normal(generator, n, n, scale=1 / math.sqrt(n)),
            bT=bias,
        )

    def between(n, batch):
        sign = 1 - 2 * torch.randint(2, (n,), generator=generator)
        return case("in between", n, batch, sign * (0.5 + torch.rand(n, generator=generator, dtype=torch.float64)))

    return {
        "cases": [fixed for _, fixed in _HIGHWAY_FIXED]
        + [
            case("closed gate", 4, 3, normal(generator, 4) - 50),
            case("open gate", 4, 3, normal(generator, 4) + 50),
            between(4, 3),
            between(3, integer(generator, 5, 7)),
        ]
    }


def _highway_output(record, case):
    try:
        return read.tensor(record, HIGHWAY, case["x"].shape)
    except read.Trouble as trouble:
        if record.get("error") == "TypeError" and "function" in str(record["message"]):
            raise read.Trouble(f"{trouble} H is a function: call it, H(x).") from None
        raise


def _highway_case(forward):
    def answer(case):
        wanted = {name: case[name].clone().requires_grad_() for name in ("x", "WT", "bT")}
        H = mapping(case["H"])
        y = forward(wanted["x"], H, H(wanted["x"]), wanted["WT"], wanted["bT"])
        return _answer(y, wanted, case["dy"])

    return _remembered(answer)


def highway_judge(inputs, evidence):
    right = _highway_case(lambda x, H, h, W, b: highway(x, H, W, b))
    items = _items(inputs, evidence, right, _highway_output, HIGHWAY, _HIGHWAY_FIXED)
    return _judge_with_gradients(items, _highway_case, HIGHWAY_MISTAKES, HIGHWAY_CUTS, HIGHWAY_FALLBACK, "gradients")


def _items(inputs, evidence, right, output, signature, fixed):
    """Two items for each case, its output and its gradients."""
    items = []
    calls = zip(inputs["cases"], evidence["cases"], evidence["gradients"], strict=True)
    for number, (drawn, record, gradients) in enumerate(calls):
        case = drawn | {"number": number}
        expected, y = right(case), attempt(output, record, drawn)
        quote = fixed[number][0] if number < len(fixed) else None
        items.append(Item(drawn["aspect"], y, expected["y"], case, "y", quote))
        if isinstance(y, read.Trouble):
            items.append(Item("gradients", y, None, case))
        else:
            items.append(_gradient_item("gradients", gradients, signature, expected, case))
    return items


# --- lab08.rezero_forward -----------------------------------------------------------------------------------

REZERO = "rezero_forward(x, branches, alphas)"


def rezero_forward(x, branches, alphas):
    """x ← x + α f(x) for every branch in turn."""
    for f, alpha in zip(branches, alphas, strict=True):
        x = x + alpha * f(x)
    return x


def _chain(step):
    """A forward pass that makes x ← step(x, f, α) for every branch in turn."""

    def forward(x, branches, alphas):
        for f, alpha in zip(branches, alphas):
            x = step(x, f, alpha)
        return x

    return forward


def _parallel(x, branches, alphas):
    return x + sum(alpha * f(x) for f, alpha in zip(branches, alphas))


def _from_the_input(x, branches, alphas):
    h = x
    for f, alpha in zip(branches, alphas):
        h = x + alpha * f(h)
    return h


def _composed(x, branches, alphas):
    h = x
    for f, alpha in zip(branches, alphas):
        h = alpha * f(h)
    return x + h


def _last_alone(x, branches, alphas):
    return x + alphas[-1] * branches[-1](x)


REZERO_MISTAKES = [
    (lambda x, fs, a: x + 0 * a.sum(), "You return x unchanged: no branch has an effect."),
    (_chain(lambda x, f, a: a * f(x)), "The skip connection is missing: each block gives x + α f(x), not α f(x)."),
    (_chain(lambda x, f, a: x + f(x)), "alphas has no effect: multiply each branch by its own α."),
    (_chain(lambda x, f, a: f(x)), "You chain the branches alone: each block gives x + α f(x)."),
    (_chain(lambda x, f, a: a * (x + f(x))), "α multiplies the stream as well; it belongs to the branch alone, x + α f(x)."),
    (_chain(lambda x, f, a: a * x + f(x)), "α multiplies the stream; it belongs to the branch, x + α f(x)."),
    (
        _chain(lambda x, f, a: (1 - a) * x + a * f(x)),
        "You weigh the stream by 1 − α, like a gate; here the stream passes in full, x + α f(x).",
    ),
    (_chain(lambda x, f, a: x - a * f(x)), "The branch is subtracted; add it, x + α f(x)."),
    (_chain(lambda x, f, a: x + f(a * x)), "α acts on the input of the branch; it multiplies the output, α f(x)."),
    (_chain(lambda x, f, a: x + a + f(x)), "α is added; it multiplies the branch, x + α f(x)."),
    (_chain(lambda x, f, a: x + (1 + a) * f(x)), "The branch has the factor 1 + α; it must be α, so that α = 0 leaves x."),
    (_chain(lambda x, f, a: x + a.abs() * f(x)), "α loses its sign: a negative α subtracts its branch."),
    (_chain(lambda x, f, a: x + a**2 * f(x)), "α is squared; the branch has the factor α itself."),
    (_chain(lambda x, f, a: x + sigmoid(a) * f(x)), "α passes a sigmoid; the branch has the factor α itself."),
    (_chain(lambda x, f, a: x + torch.tanh(a) * f(x)), "α passes a tanh; the branch has the factor α itself."),
    (_chain(lambda x, f, a: relu(x + a * f(x))), "You apply a ReLU behind the addition; a block here gives x + α f(x)."),
    (
        _parallel,
        "All branches act on the first x: each must act on what the block before it left, x ← x + α f(x).",
    ),
    (
        _from_the_input,
        "Each block adds its branch to the first x, so that the earlier ones are lost: add it to what the block before "
        "left.",
    ),
    (_composed, "You add x once, behind the last branch; each block has a skip connection of its own."),
    (_last_alone, "Only the last branch counts: the loop must keep what it has, x = x + α f(x)."),
    (
        lambda x, fs, a: rezero_forward(x, fs[:1], a[:1]),
        "Only the first branch has an effect: is the return inside the loop?",
    ),
    (
        lambda x, fs, a: rezero_forward(x, fs[:-1], a[:-1]),
        "The last branch is left out: the loop must run over all of them.",
    ),
    (lambda x, fs, a: rezero_forward(x, fs[1:], a[1:]), "The first branch is left out: count from 0."),
    (
        lambda x, fs, a: rezero_forward(x, fs[::-1], a.flip(0)),
        "The branches act in the wrong order: begin with branches[0].",
    ),
    (
        lambda x, fs, a: rezero_forward(x, fs[::-1], a),
        "The branches act in the wrong order: begin with branches[0]; the order of the α's is right.",
    ),
    (
        lambda x, fs, a: rezero_forward(x, fs, a.flip(0)),
        "The α's are in the wrong order: branches[i] belongs to alphas[i].",
    ),
    (lambda x, fs, a: rezero_forward(x, fs, a[:1].expand_as(a)), "All branches get the first α: branches[i] belongs to alphas[i]."),
    (lambda x, fs, a: rezero_forward(x, fs, a[-1:].expand_as(a)), "All branches get the last α: branches[i] belongs to alphas[i]."),
    (lambda x, fs, a: rezero_forward(x, fs, a.roll(1)), "The α's are shifted by one: branches[i] belongs to alphas[i]."),
    (lambda x, fs, a: rezero_forward(x, fs, a.roll(-1)), "The α's are shifted by one: branches[i] belongs to alphas[i]."),
    (lambda x, fs, a: rezero_forward(x, fs, a.sum().expand_as(a)), "Each branch gets the sum of all α's: branches[i] belongs to alphas[i]."),
    (lambda x, fs, a: rezero_forward(x, fs, a.mean().expand_as(a)), "Each branch gets the mean of all α's: branches[i] belongs to alphas[i]."),
    (
        lambda x, fs, a: rezero_forward(x, fs, a.cumprod(0)),
        "The α's are multiplied up along the net: each branch has its own α alone.",
    ),
]
# Looked for where every output is right, and only there.
REZERO_CUTS = [
    (
        lambda x, fs, a: rezero_forward(x, fs, a.detach()),
        "The output is right, but no gradient reaches the α's, so they stay at 0 for ever: .item(), float(), .tolist(), "
        ".detach() and .data cut it off.",
    ),
    (
        lambda x, fs, a: rezero_forward(x, fs, a).detach(),
        "The output is right, but no gradient passes: no_grad, .detach(), .data or NumPy cuts it off.",
    ),
    (
        lambda x, fs, a: rezero_forward(x.detach(), fs, a),
        "The output is right, but no gradient reaches x: .detach(), .data or no_grad cuts it off.",
    ),
    (
        _chain(lambda x, f, a: x + a * f(x.detach())),
        "The output is right, but no gradient passes through the branches to the blocks before them: remove .detach() or "
        ".data.",
    ),
    (
        _chain(lambda x, f, a: x + a * f(x) if a != 0 else x),
        "Branches whose α is 0 are left out. The output is the same, but then this α has no gradient and stays at 0 for "
        "ever.",
    ),
]

REZERO_FALLBACK = {
    "one block": "One block gives x + α f(x): the stream passes as it is, and the branch is multiplied by α.",
    "several blocks": "The blocks act one after the other, x ← x + α_i f_i(x), from i = 0 to the last.",
    "gradients": "Gradients must reach x and every α, also those that are 0.",
}

_EYE = torch.eye(2, dtype=torch.float64)
_ITSELF = dict(A=_EYE, B=_NO_WEIGHTS, c=_values([0, 0]))
_REZERO_FIXED = [
    (
        "x = [[1, 2]], one branch f(x) = 10 and α = 0.5",
        dict(aspect="one block", x=_values([[1, 2]]), dy=_values([[1, 1]]), branches=[_TEN], alphas=_values([0.5])),
    ),
    (
        "x = [[1, 2]], the branches f₀(x) = 10 and f₁(x) = x, and alphas = [0.1, 2]",
        dict(
            aspect="several blocks",
            x=_values([[1, 2]]),
            dy=_values([[1, 1]]),
            branches=[_TEN, _ITSELF],
            alphas=_values([0.1, 2]),
        ),
    ),
]


def rezero_inputs(generator):
    """Two fixed cases, so that hints can name one, and four random ones: α's of either sign, and all of them 0."""

    def case(aspect, n, batch, blocks, start=False):
        size = 0.3 + 0.7 * torch.rand(blocks, generator=generator, dtype=torch.float64)
        alphas = size * (1 - 2 * torch.randint(2, (blocks,), generator=generator))
        return dict(
            aspect=aspect,
            x=normal(generator, batch, n),
            dy=normal(generator, batch, n),
            branches=[_draw_mapping(generator, n) for _ in range(blocks)],
            alphas=torch.zeros_like(alphas) if start else alphas,
        )

    return {
        "cases": [fixed for _, fixed in _REZERO_FIXED]
        + [
            case("one block", 3, 4, 1),
            case("several blocks", 3, 4, 3),
            case("several blocks", 4, 3, integer(generator, 4, 6)),
            case("several blocks", 4, 2, 3, start=True),
        ]
    }


def _rezero_case(forward):
    def answer(case):
        x, alphas = (case[key].clone().requires_grad_() for key in ("x", "alphas"))
        y = forward(x, [mapping(f) for f in case["branches"]], alphas)
        return _answer(y, {"x": x, "alphas": alphas}, case["dy"])

    return _remembered(answer)


def rezero_judge(inputs, evidence):
    def output(record, case):
        return read.tensor(record, REZERO, case["x"].shape)

    items = _items(inputs, evidence, _rezero_case(rezero_forward), output, REZERO, _REZERO_FIXED)
    return _judge_with_gradients(items, _rezero_case, REZERO_MISTAKES, REZERO_CUTS, REZERO_FALLBACK, "gradients")


# --- lab08.path_share ---------------------------------------------------------------------------------------

PATH_SHARE = "path_share(n, low, high)"
# Exact integers, SciPy, the recursion in float64 and logarithms of the gamma function agree to 1e-10. The normal
# approximation is off by 1e-5 or more, logarithms in float32 by 1e-4.
SHARE_TOLERANCE = 1e-6


def path_share(n, low, high):
    """Share of the 2ⁿ paths through n blocks that take low to high branches, both included."""
    return sum(math.comb(n, k) for k in range(low, high + 1)) / 2**n


def _normal_cdf(z):
    return (1 + math.erf(z / math.sqrt(2))) / 2


def _bell(n, low, high):
    mean, deviation = n / 2, math.sqrt(n) / 2
    return _normal_cdf((high - mean) / deviation) - _normal_cdf((low - mean) / deviation)


def _counted(n, low, high):
    count = sum(math.comb(n, k) for k in range(low, high + 1))
    return float(count) if n < 1000 else None


PATH_SHARE_MISTAKES = [
    (
        lambda n, a, b: path_share(n, a, b - 1),
        "The paths of length high are missing: range(low, high) stops before high.",
    ),
    (
        lambda n, a, b: path_share(n, a + 1, b),
        "The paths of length low are missing: of a cumulated share, subtract the one up to low − 1.",
    ),
    (lambda n, a, b: path_share(n, a + 1, b - 1), "The paths of length low and of length high are both missing."),
    (lambda n, a, b: path_share(n, a, b + 1), "The paths of length high + 1 are counted, too."),
    (lambda n, a, b: path_share(n, a - 1, b) if a else None, "The paths of length low − 1 are counted, too."),
    (lambda n, a, b: path_share(n + 1, a, b), "That is the share for n + 1 blocks: n blocks have n branches."),
    (lambda n, a, b: path_share(n - 1, a, b), "That is the share for n − 1 blocks: n blocks have n branches."),
    (lambda n, a, b: path_share(2 * n, a, b), "That is the share for 2n blocks; a path takes or skips each of n."),
    (_counted, "That is the number of paths; divide it by the number of all paths, 2ⁿ."),
    (
        lambda n, a, b: (b - a + 1) / (n + 1),
        "You count the lengths, not the paths: there are C(n, k) paths of length k, most of them near n/2.",
    ),
    (
        lambda n, a, b: (b - a + 1) / 2**n,
        "You count one path for each length: there are C(n, k) ways to choose the k branches that a path takes.",
    ),
    (
        lambda n, a, b: path_share(n, a, a) + (path_share(n, b, b) if b > a else 0),
        "Only the lengths low and high count in your answer; add up all lengths from low to high.",
    ),
    (lambda n, a, b: path_share(n, b, b), "That is the share of length high alone; add up all lengths from low to high."),
    (lambda n, a, b: path_share(n, a, a), "That is the share of length low alone; add up all lengths from low to high."),
    (lambda n, a, b: path_share(n, 0, b), "low has no effect: leave out the paths that are shorter than low."),
    (lambda n, a, b: path_share(n, a, n), "high has no effect: leave out the paths that are longer than high."),
    (lambda n, a, b: 1 - path_share(n, a, b), "That is the share of the other paths, shorter than low or longer than high."),
    (lambda n, a, b: 100 * path_share(n, a, b), "That is in percent; return a share between 0 and 1."),
    (
        lambda n, a, b: 2 * path_share(n, a, b),
        "That is twice the share: there are 2ⁿ paths, since each of the n branches is taken or skipped.",
    ),
    (
        lambda n, a, b: path_share(n, a, b) / 2,
        "That is half the share: there are 2ⁿ paths, since each of the n branches is taken or skipped.",
    ),
    (
        _bell,
        "You take the area under a normal density from low to high; it is an approximation, and asked for is the exact "
        "sum over the lengths.",
    ),
    (
        lambda n, a, b: _bell(n, a - 0.5, b + 0.5),
        "You take a normal approximation; asked for is the exact sum over the lengths.",
    ),
    (
        lambda n, a, b: sum(k * math.comb(n, k) for k in range(a, b + 1)) / 2**n,
        "Each path is counted as often as it is long; count every path once.",
    ),
    (
        lambda n, a, b: sum(k * math.comb(n, k) for k in range(a, b + 1)) / (n * 2 ** (n - 1)),
        "Each path is counted as often as it is long; count every path once.",
    ),
    (
        lambda n, a, b: _permuted(n, a, b),
        "You count the orders in which k branches can be chosen; a path has only one: C(n, k), without the factor k!.",
    ),
    (lambda n, a, b: math.log(path_share(n, a, b)), "That is the logarithm of the share; take its exponential."),
]


def _permuted(n, low, high):
    return float(sum(math.perm(n, k) for k in range(low, high + 1)) / 2**n) if n < 100 else None


PATH_SHARE_FALLBACK = {
    "few blocks": "Each of the 2ⁿ paths takes or skips each of the n branches, and C(n, k) of them take k: add up C(n, k)/2ⁿ "
    "from k = low to high, both included.",
    "many blocks": "With many blocks, too, the share is the sum of C(n, k)/2ⁿ from k = low to k = high.",
    "ends": "Lengths run from 0 (every branch skipped) to n (every branch taken), low and high both count, and low may "
    "equal high.",
}

_PATH_SHARE_FIXED = [
    ("n = 4, low = 1 and high = 2", dict(aspect="few blocks", n=4, low=1, high=2)),
    ("n = 54, low = 19 and high = 30", dict(aspect="many blocks", n=54, low=19, high=30)),
    ("n = 3, low = 0 and high = 3", dict(aspect="ends", n=3, low=0, high=3)),
]


def path_share_inputs(generator):
    """Three fixed cases, so that hints can name one, and random ones; a range is never symmetric about n/2."""

    def case(aspect, n, below, above):
        """From `below` to `above`, in standard deviations √n/2 from the mean n/2."""
        low, high = (n / 2 + s * math.sqrt(n) / 2 for s in (-below, above))
        low, high = max(1, math.ceil(low)), min(n - 1, math.floor(high))
        return dict(aspect=aspect, n=n, low=low, high=high if low + high != n else high - 1)

    def draw(low, high):
        return uniform(generator, low, high)

    n = integer(generator, 5, 9)
    return {
        "cases": [fixed for _, fixed in _PATH_SHARE_FIXED]
        + [
            case("few blocks", integer(generator, 8, 14), draw(1.2, 1.6), draw(0.5, 0.8)),
            case("few blocks", integer(generator, 15, 24), draw(0.4, 0.8), draw(1.2, 1.8)),
            case("many blocks", integer(generator, 300, 700), draw(0.2, 0.6), draw(1.0, 1.5)),
            case("many blocks", integer(generator, 1900, 2000), draw(1.0, 1.5), draw(0.2, 0.6)),
            dict(aspect="ends", n=n, low=0, high=integer(generator, 1, 2)),
            dict(aspect="ends", n=n, low=n - integer(generator, 1, 2), high=n),
            dict(aspect="ends", n=n, low=choose(generator, 2, 3), high=3),
            dict(aspect="ends", n=n, low=2, high=2),
        ]
    }


def _share(record):
    try:
        return read.number(record, PATH_SHARE)
    except read.Trouble as trouble:
        if record.get("error") in ("OverflowError", "RecursionError", "MemoryError"):
            raise read.Trouble(
                f"{trouble} n may be as large as 2000: C(n, k) and 2ⁿ do not fit in a float, but Python's integers hold "
                "them exactly; divide one integer by the other."
            ) from None
        raise


def path_share_judge(inputs, evidence):
    items = [
        Item(
            case["aspect"],
            attempt(_share, record),
            path_share(case["n"], case["low"], case["high"]),
            case,
            quote=_PATH_SHARE_FIXED[i][0] if i < len(_PATH_SHARE_FIXED) else None,
        )
        for i, (case, record) in enumerate(zip(inputs["cases"], evidence["cases"], strict=True))
    ]
    same = close(SHARE_TOLERANCE, SHARE_TOLERANCE)

    usable = [item for item in items if not isinstance(item.got, read.Trouble)]
    wrong = [item for item in usable if not same(item.got, item.expected)]

    def explain(some):
        if all(abs(item.got - item.expected) < 0.02 for item in wrong):
            return (
                "Your answer is close, but not to within 10⁻⁶: float32, rounding, sampling and approximations lose digits. "
                "Python's integers are exact; divide one by another at the end."
            )
        if {item.case["aspect"] for item in wrong} == {"many blocks"}:
            return (
                "For many blocks factors such as 0.5ⁿ vanish, and others overflow. Python's integers are exact; divide one "
                "by another at the end."
            )
        return None

    mistakes = [
        Mistake(lambda c, answer=answer: answer(c["n"], c["low"], c["high"]), hint) for answer, hint in PATH_SHARE_MISTAKES
    ]
    return judge(items, mistakes, PATH_SHARE_FALLBACK, same, explain)


QUESTIONS = (
    Question(
        name="lab08.Block",
        signature=BLOCK,
        contract=(
            "An nn.Module, built as Block(din, dout): y = relu(shortcut(x) + f2(relu(f1(x)))), from x (batch, din) to y "
            "(batch, dout). Attributes: f1 = nn.Linear(din, dout), f2 = nn.Linear(dout, dout) and, only where din != dout, "
            "proj = nn.Linear(din, dout); where din == dout the shortcut is x itself and proj is None, nn.Identity() or not "
            "there. Each layer may have a bias or not. x stays as it is; gradients reach x and all weights."
        ),
        aspects={"equal widths": 3, "different widths": 3, "gradients and input": 2},
        minutes=20,
        inputs=block_inputs,
        reference=Block,
        judge=block_judge,
    ),
    Question(
        name="lab08.highway",
        signature=HIGHWAY,
        contract=(
            "T·H(x) + (1 − T)·x, entry by entry, with the gate T = σ(x @ WT + bT): a float64 tensor (batch, n), like x. H is a "
            "function, tensor (batch, n) to tensor (batch, n); WT is (n, n), used as x @ WT, and bT (n,). Gradients must reach x, "
            "WT and bT; x stays as it is."
        ),
        aspects={"closed gate": 1, "open gate": 1, "in between": 2, "gradients": 2},
        minutes=10,
        inputs=highway_inputs,
        reference=highway,
        judge=highway_judge,
    ),
    Question(
        name="lab08.rezero_forward",
        signature=REZERO,
        contract=(
            "x ← x + α_i f_i(x) for each branch in order: a float64 tensor (batch, n), like x. branches is a list of functions, "
            "each tensor (batch, n) to tensor (batch, n); alphas is a 1-d tensor, one α for each. Gradients must reach x and "
            "alphas; x stays as it is."
        ),
        aspects={"one block": 1, "several blocks": 3, "gradients": 2},
        minutes=10,
        inputs=rezero_inputs,
        reference=rezero_forward,
        judge=rezero_judge,
    ),
    Question(
        name="lab08.path_share",
        signature=PATH_SHARE,
        contract=(
            "Share, from 0 to 1 and exact to within 10⁻⁶, of the 2ⁿ paths through n residual blocks that take low to high "
            "branches, both included: a number. Ints with 1 ≤ n ≤ 2000 and 0 ≤ low ≤ high ≤ n."
        ),
        aspects={"few blocks": 2, "many blocks": 2, "ends": 1},
        minutes=15,
        inputs=path_share_inputs,
        reference=path_share,
        judge=path_share_judge,
    ),
)
