"""The check of a class: what the tests of test_labcheck.py ask of functions, asked of lab08.Block."""

import sys

import pytest
import torch
from lab_answers import lab08
from torch import nn

import labcheck.notebook
from labcheck import check, questions, wire


def module(init="super().__init__()", forward=None, base="nn.Module"):
    """A class Block made from the bodies of its methods."""
    lines = [f"class Block({base}):", "    def __init__(self, din, dout):", f"        {init}"]
    if forward is not None:
        lines += ["    def forward(self, x):", f"        {forward}"]
    place = {"nn": nn, "torch": torch, "sys": sys}
    exec("\n".join(lines), place)
    return place["Block"]


LAYERS = (
    "super().__init__(); self.f1 = nn.Linear(din, dout); self.f2 = nn.Linear(dout, dout); "
    "self.proj = nn.Linear(din, dout) if din != dout else None"
)
BODIES = ["raise NotImplementedError", "pass", "...", '"""A stub."""', "return None"]


class Empty(nn.Module):
    pass


@pytest.mark.parametrize(
    "blank",
    [Empty]
    + [module(body, body) for body in BODIES]
    + [module(forward=body) for body in BODIES]
    + [module(LAYERS, body) for body in BODIES]
    + [module('super().__init__(); raise NotImplementedError("write your answer here")', "return x")],
)
def test_blank_class_is_not_attempted(blank):
    result = check("lab08.Block", blank)
    assert (result.status, result.points, result.hints) == ("not attempted", 0, [])


@pytest.mark.parametrize("body", ["return x", "return -x", "return x[x]"])
def test_a_short_forward_is_an_attempt(body):
    result = check("lab08.Block", module(LAYERS, body))
    assert result.status in ("failed", "error") and result.hints


def test_an_unwritten_case_loses_only_its_own_points():
    class Block(lab08.WithNone):
        def __init__(self, din, dout):
            if din != dout:
                raise NotImplementedError
            super().__init__(din, dout)

    result = check("lab08.Block", Block)
    assert result.points == 3 and result.hints == ["different widths, gradients and input: not attempted yet."]


@pytest.mark.parametrize(
    ("answer", "piece"),
    [
        (None, "expected a class Block(din, dout), got a value of type NoneType"),
        (0.25, "got a value of type float"),
        (lambda din, dout: None, "got a function; pass the class itself"),
        (lab08.WithNone(2, 2), "got a value of type WithNone; pass the class itself"),
        (module("self.f1 = nn.Linear(din, dout)", "return x", base="object"), "expected a subclass of nn.Module"),
        (module(LAYERS), "has no method forward"),
        (module(LAYERS, "print(end='')"), "your forward returned None"),
        (module(LAYERS, "return [x]"), "one tensor, got a value of type list"),
        (module(LAYERS, "return torch.zeros(7, 7)"), "got (7, 7)"),
        (module(LAYERS, "return torch.zeros(1, device='meta').expand(10**9)"), "got"),
        (module(LAYERS, "raise KeyError('swish')"), "raised KeyError in line 2 of Block.forward"),
        (module(LAYERS, "sys.exit()"), "your class ended the program"),
        (module("super().__init__(); sys.exit()", "return x"), "your class ended the program"),
        (module("super().__init__(); din / 0", "return x"), "raised ZeroDivisionError in line 2 of Block.__init__"),
        (module(LAYERS, "return self.f3(x)"), "raised AttributeError in line 2 of Block.forward"),
        (module("super().__init__(); self.f1 = 3; self.f2 = 4", "return x"), "f1, found a value of type int"),
    ],
)
def test_trouble_is_named_and_earns_no_points(answer, piece):
    result = check("lab08.Block", answer)
    assert (result.status, result.points) == ("error", 0), result
    assert result.hints and all(piece in hint for hint in result.hints), result


def test_an_endless_class_is_stopped(monkeypatch):
    monkeypatch.setattr(labcheck.notebook, "SECONDS", 0.2)
    result = check("lab08.Block", module("while True: pass", "return x"))
    assert result.status == "error" and "endless loop" in result.hints[0]


def test_the_check_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert check("lab08.Block", lab08.WithNone).passed
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("short", ["Block", "highway", "rezero_forward"])
def test_evidence_without_gradients_earns_nothing_for_them(short):
    question = questions.get(f"lab08.{short}")
    inputs = question.inputs(torch.Generator().manual_seed(0))
    evidence = question.evidence(question.reference, inputs)
    total = question.max_points
    assert question.verdict(inputs, evidence).points == total
    for forged in (
        [None] * len(inputs["cases"]),
        [{"outcome": "returned", "type": "dict", "value": {}, "changed": False}] * len(inputs["cases"]),
        [{"outcome": "not attempted"}] * len(inputs["cases"]),
    ):
        assert question.verdict(inputs, evidence | {"gradients": forged}).points < total
    for fewer in ([], evidence["gradients"][:-1]):
        assert question.verdict(inputs, evidence | {"gradients": fewer}).points == 0


def test_a_claimed_bias_must_be_used():
    question = questions.get("lab08.Block")
    inputs = question.inputs(torch.Generator().manual_seed(0))
    evidence = wire.loads(wire.dumps(question.evidence(lab08.WithNone, inputs)))
    for record in evidence["cases"]:
        record["value"]["bias"] = {name: torch.tensor(False) for name in ("f1", "f2", "proj")}
    assert question.verdict(inputs, evidence).points == 0
