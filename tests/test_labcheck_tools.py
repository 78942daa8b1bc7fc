"""The parts around the checks: plain data, its bytes, judging, and the command line."""

import json
import struct
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
import torch

from labcheck import __main__ as command
from labcheck import questions, wire
from labcheck.evidence import Trouble
from labcheck.judging import Item, Mistake, close, judge
from labcheck.probes.calling import attempt, guard, plain
from tools import answers, paths

# --- plain data ---------------------------------------------------------------------------------------------


def test_nested_values_become_plain_data():
    value = {"a": (1, 2.5), "b": [np.float32(3), {"c": {"y", "x"}}], "t": torch.ones(2, requires_grad=True)}
    got = plain(value)
    assert got["a"][0].item() == 1 and got["a"][1].dtype == torch.float64 and got["b"][0].item() == 3
    assert got["b"][1]["c"] == ["x", "y"] and not got["t"].requires_grad
    assert wire.loads(wire.dumps(got))["b"][1] == {"c": ["x", "y"]}


def test_what_is_no_plain_data_is_left_out():
    deep = [[[[[1]]]]]
    assert plain(Decimal("0.5")).item() == plain(Fraction(1, 2)).item() == 0.5
    assert plain(object()) is None and plain({1: 2}) is None and plain([0] * 1001) is None
    assert plain(torch.zeros(100_001)) is None and plain({1, "a"}) is None
    assert plain(deep) == [[[[None]]]]
    loop = []
    loop.append(loop)
    assert plain(loop) == [[[[None]]]]


def test_changes_inside_lists_and_dicts_are_seen_and_undone():
    def spoil(xs, named):
        xs[0].zero_()
        named["g"] += 1
        return 1.0

    xs, named = [torch.ones(2)], {"g": torch.ones(3)}
    record = attempt(spoil, xs, named)
    assert record["changed"] and xs[0].sum() == 2 and named["g"].sum() == 3
    assert attempt(lambda xs: xs.append(1) or 1.0, [torch.ones(2)])["changed"]
    assert not attempt(lambda xs, named: 1.0, xs, named)["changed"]


def test_the_line_of_an_exception_in_a_class_names_the_method():
    class Block:
        def __init__(self):
            self.x = 1

        def forward(self):
            return self.x / 0

    record = guard(Block, lambda: Block().forward())
    assert (record["where"], record["line"]) == ("forward", 2)


# --- bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", wire.DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (2, 3)])
def test_tensors_survive(dtype, shape):
    t = (torch.randn(shape) * 3).to(dtype)
    back = wire.loads(wire.dumps({"t": t, "n": [1, None, True, "ü", float("inf")]}))
    assert back["t"].dtype == dtype and torch.equal(back["t"], t) and back["n"] == [1, None, True, "ü", float("inf")]


@pytest.mark.parametrize("t", [torch.arange(6).view(2, 3).T, torch.ones(1).expand(5), torch.ones(()).expand(1)])
def test_a_tensor_with_strides_of_its_own_survives(t):
    assert torch.equal(wire.loads(wire.dumps(t)), t) and torch.equal(wire.loads(wire.dumps(plain(t))), t)


@pytest.mark.parametrize("data", [object(), {1: 2}, {"": 2}, (1, 2), {"f": len}, np.float64(1), torch.nn.Parameter(torch.ones(1))])
def test_other_data_is_refused(data):
    with pytest.raises(TypeError, match="expected plain data"):
        wire.dumps(data)


def header(text, rest=b""):
    return struct.pack("<Q", len(text)) + text.encode() + rest


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"123",
        header("{"),
        header("[]"),
        header('{"data": 1}'),
        header('{"data": {"": 0}, "tensors": []}'),
        header('{"data": {"": 0}, "tensors": [["float64", [2]]]}', b"12345678"),
        header('{"data": {"": 0}, "tensors": [["float64", [-1, -1]]]}', b"12345678"),
        header('{"data": {"": 0}, "tensors": [["object", [1]]]}', b"12345678"),
        header('{"data": 1, "tensors": []}', b"more"),
        header("[" * 100_000),
        struct.pack("<Q", 2**63),
    ],
)
def test_spoilt_bytes_are_refused(content):
    with pytest.raises(ValueError, match="expected the bytes of labcheck.wire.dumps"):
        wire.loads(content)


# --- judging ------------------------------------------------------------------------------------------------

MISTAKES = [
    Mistake(lambda case: {"sum": case["x"] - case["y"]}, "A sign is wrong."),
    Mistake(lambda case: {"sum": 0.0, "product": 0.0}, "All is 0."),
]


def items(add, multiply):
    cases = [{"x": 2.0, "y": 3.0}, {"x": 5.0, "y": 7.0}]
    for case, quote in zip(cases, ("x = 2, y = 3", None)):
        yield Item("addition", add(case["x"], case["y"]), case["x"] + case["y"], case, "sum", quote)
        yield Item("multiplication", multiply(case["x"], case["y"]), case["x"] * case["y"], case, "product", quote)


def findings(add, multiply, explain=None):
    fallback = {"addition": "Add.", "multiplication": "Multiply."}
    return judge(list(items(add, multiply)), MISTAKES, fallback, close(), explain)


def add(x, y):
    return x + y


def multiply(x, y):
    return x * y


def test_judge_finds_what_is_right():
    assert findings(add, multiply) == {"addition": None, "multiplication": None}


def test_judge_names_the_mistake_of_one_part():
    found = findings(lambda x, y: x - y, multiply)
    assert found == {
        "addition": "for x = 2, y = 3 the check expects sum = 5 and got −1. A sign is wrong.",
        "multiplication": None,
    }


def test_judge_names_a_mistake_common_to_all_parts():
    found = findings(lambda x, y: 0.0, lambda x, y: 0.0)
    assert all(text.endswith("All is 0.") for text in found.values())


def test_judge_falls_back_explains_and_passes_trouble_on():
    assert findings(add, lambda x, y: x * y + 1)["multiplication"].endswith("Multiply.")
    assert findings(add, lambda x, y: x * y + 1, lambda some: "Because.")["multiplication"].endswith("Because.")
    trouble = Trouble("it raised")
    assert findings(lambda x, y: trouble, multiply) == {"addition": trouble, "multiplication": None}


def test_judge_prefers_a_known_mistake_of_one_aspect_to_an_explanation():
    found = findings(lambda x, y: x - y, lambda x, y: x * y + 1, lambda some: "Because.")
    assert found["addition"].endswith("A sign is wrong.")
    assert found["multiplication"].endswith("Because.")


def test_judge_sends_nobody_after_a_second_cause_where_the_first_is_unknown():
    def found(add, multiply):
        fallback = {"multiplication": "Multiply.", "addition": "Add."}
        return judge(list(items(add, multiply)), MISTAKES, fallback, rests_on={"multiplication": ("addition",)})

    both = found(lambda x, y: x + y + 1, lambda x, y: x * y + 1)
    assert both["multiplication"] == both["addition"] and both["addition"].endswith("Add.")
    assert found(add, lambda x, y: x * y + 1)["multiplication"].endswith("Multiply.")
    known = found(lambda x, y: x - y, lambda x, y: x * y + 1)
    assert known["addition"].endswith("A sign is wrong.") and known["multiplication"].endswith("Multiply.")


def test_judge_quotes_the_worst_entry_of_a_tensor():
    expected, got = torch.zeros(2, 3), torch.tensor([[0, 0, 0], [0, 0.5, 0]])
    found = judge([Item("a", got, expected, {}, quote="the case")], [], {"a": "Look again."})
    assert found["a"] == "for the case the check expects [1, 1] 0 and got 0.5. Look again."
    assert judge([Item("a", torch.zeros(3), expected, {})], [], {"a": "Look again."})["a"] == "Look again."


def test_close_refuses_nan_and_other_shapes():
    same = close()
    assert same(1.0, torch.tensor(1.0)) and not same(float("nan"), float("nan")) and not same(torch.ones(1), torch.ones(()))


# --- the command line ---------------------------------------------------------------------------------------

RIGHT = """
import torch

def saturated_fraction(a, name, tol=0.05):
    low = {"sigmoid": 0, "tanh": -1}[name]
    return ((a < low + tol) | (a > 1 - tol)).double().mean()
"""


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def labcheck(capsys):
    """Run the command in this process; only the answer's file gets one of its own."""

    def run(*arguments):
        code = command.main([str(a) for a in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def tried(labcheck, tmp_path):
    def run(text, *options):
        file = tmp_path / "answer.py"
        file.write_text(text, encoding="utf-8")
        return labcheck("try", "lab03.saturated_fraction", file, *options)

    return run


def test_list_names_every_question(labcheck):
    done = labcheck("list", "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == 0
    assert [row["question"] for row in rows] == [q.name for lab in questions.LABS for q in questions.of(lab)]
    assert all(row["points"] == sum(row["aspects"].values()) > 0 and row["minutes"] > 0 and row["contract"] for row in rows)
    assert "lab03.chi1: 6 points, 20 minutes" in labcheck("list").stdout


def test_a_right_answer_passes(tried):
    done = tried("print(1)\n" + RIGHT, "--json", "--seed", "7")
    expected = {"question": "lab03.saturated_fraction", "points": 5, "max_points": 5, "status": "passed", "hints": [], "seed": 7}
    assert done.returncode == 0 and json.loads(done.stdout) == expected
    assert "✓ passed: lab03.saturated_fraction, 5 of 5 points" in tried(RIGHT).stdout


def test_a_wrong_answer_fails_with_its_hint(tried):
    done = tried(RIGHT.replace(".mean()", ".sum()"), "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["points"] == 0 and "number of saturated entries" in report["hints"][0]


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("x = 1", "expected answer.py to define saturated_fraction; it defines x"),
        ("x =", "answer.py raised SyntaxError"),
        ("1 / 0", "answer.py raised ZeroDivisionError when it was run: division by zero"),
        ("import sys; sys.exit(0)", "answer.py ended the program"),
        ("import os; os._exit(0)", "answer.py ended the program before the check was done"),
        ("while True: print('x' * 10000)", "printed more than 100,000"),
        ("raise NotImplementedError", "raised NotImplementedError"),
    ],
)
def test_a_file_that_cannot_run(tried, text, piece):
    done = tried(text, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"], report["points"], report["max_points"]) == (2, "error", 0, 5)
    assert piece in report["hints"][0]


def test_a_function_that_ends_the_process_earns_nothing(tried):
    done = tried("import os\n\ndef saturated_fraction(a, name, tol=0.05):\n    os._exit(0)\n")
    assert done.returncode == 2 and "ended the program" in done.stderr


def test_the_process_of_the_answer_holds_no_questions(tried):
    spy = "import sys\nraise RuntimeError(sorted(m for m in sys.modules if m.startswith(('labcheck.q', 'signalprop'))))\n"
    assert "RuntimeError when it was run: []" in tried(spy).stderr


def test_unknown_names_and_files(labcheck, tmp_path):
    done = labcheck("try", "lab03.ch1", tmp_path / "none.py", "--json")
    assert done.returncode == 2 and "did you mean 'lab03.chi1'" in json.loads(done.stdout)["hints"][0]
    done = labcheck("try", "lab03.chi1", tmp_path / "none.py")
    assert done.returncode == 2 and "there is none at" in done.stderr and not done.stdout


def test_the_command_itself():
    command = [sys.executable, "-m", "labcheck", "list", "--json"]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def test_an_endless_loop_in_a_file_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "SECONDS", 8)
    file = tmp_path / "answer.py"
    file.write_text(RIGHT.replace("return", "while True: pass\n    return"))
    verdict = command.try_file(questions.get("lab03.saturated_fraction"), file, 1)
    assert verdict.status == "error" and "more than 8 s" in verdict.hints[0]


# --- the table of answers -----------------------------------------------------------------------------------


def test_the_table_of_answers_is_up_to_date_and_full():
    answers.check()
    for row in answers.load():
        assert row["passed"] == row["correct"] >= 3 and row["caught"] == row["own hint"] == row["wrong"] >= 3, row


def test_the_table_shows_what_a_check_gets_wrong(monkeypatch):
    known = answers.known("lab03")
    right, wrong = known.CORRECT["chi1"][0], known.WRONG["chi1"]
    label, (answer, piece, points) = next(iter(wrong.items()))
    planted = {label: (answer, piece, points), "in truth right": (right, "nothing", 0), "other hint": (answer, "no such hint", 0)}
    monkeypatch.setattr(known, "CORRECT", {"chi1": [right, answer]})
    monkeypatch.setattr(known, "CORRECT_SLOW", {})
    monkeypatch.setattr(known, "WRONG", {"chi1": planted})
    row = answers.row(questions.get("lab03.chi1"), seeds=1)
    assert row == {"question": "lab03.chi1", "correct": 2, "passed": 1, "wrong": 3, "caught": 2, "own hint": 1}
    with pytest.raises(paths.Trouble, match="lab03.chi1"):
        answers.check()
