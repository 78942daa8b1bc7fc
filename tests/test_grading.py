"""A class is graded: nothing that was not earned, nothing honest lost, no neighbour touched, nothing left behind."""

import csv
import io
import json
import socket
import sys
from pathlib import Path

import hostile
import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labcheck import questions
from labcheck.__main__ import main
from labcheck.grading import marking, notebooks, reports, runner, sandbox
from tools.paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux" or bool(sandbox.missing()), reason="the sandbox does not work here")

DPHI = """
import torch
def dphi(name, z):
    z = z.clone().requires_grad_()
    phi = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "silu": torch.nn.functional.silu,
           "leaky": torch.nn.functional.leaky_relu, "elu": torch.nn.functional.elu, "gelu": torch.nn.functional.gelu}[name]
    return torch.autograd.grad(phi(z).sum(), z)[0]
"""
CHI1 = """
def chi1(dphi, sigma_w, q):
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weight = torch.exp(-z**2 / 2) / (2 * torch.pi) ** 0.5
    return float(sigma_w**2 * torch.trapezoid(dphi(q**0.5 * z) ** 2 * weight, z))
"""
SATURATED = """
def saturated_fraction(a, name, tol=0.05):
    low, high = (0, 1) if name == "sigmoid" else (-1, 1)
    return ((a < low + tol) | (a > high - tol)).double().mean()
"""
NAMES = ("lab03.dphi", "lab03.chi1", "lab03.saturated_fraction")
ANSWERS = dict(zip(NAMES, (DPHI, CHI1, SATURATED)))
MOST = {q.name: q.max_points for q in questions.of("lab03")}


def notebook(*sources):
    """The bytes of a notebook with these cells, and one that calls a check, by which the lab is known."""
    cells = [new_code_cell(source) for source in (*sources, "from labcheck import check\ncheck('lab03.dphi', None)")]
    return nbformat.writes(new_notebook(cells=cells)).encode()


HONEST = notebook(*ANSWERS.values())


@pytest.fixture(scope="module")
def marker():
    made = marking.Marker(12345)
    yield made
    made.close()


def about(record):
    """A record as a batch writes it."""
    return record | {"student": "Ada", "number": "1", "submission": "ada.ipynb", "size": 1}


def points(record):
    return {m["question"]: m["points"] for m in record["questions"]}


def descendants(pid):
    """All processes below one; bubblewrap puts some between."""
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {*below, *(deeper for child in below for deeper in descendants(child))}


@pytest.fixture
def honest_neighbours(marker):
    """Grade an honest notebook before and after; nothing may be left of the one between."""
    assert points(marker.mark(HONEST)) == MOST
    zygote, alive = marker.zygote, descendants(marker.zygote.process.pid)
    yield
    assert points(marker.mark(HONEST)) == MOST
    assert marker.zygote is zygote, "the process that all are forked from did not survive"
    assert descendants(zygote.process.pid) == alive


@pytest.fixture
def impatient(monkeypatch):
    """The limits, scaled down: the tests wait for many of them."""
    monkeypatch.setattr(runner, "CPU_SECONDS", 1.5)
    monkeypatch.setattr(runner, "IDLE_SECONDS", 1.5)


# --- hostile code ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hostile.DEADLY)
def test_what_kills_a_cell_costs_that_cell_alone(name, marker, honest_neighbours, impatient):
    code, told = hostile.DEADLY[name]
    record = marker.mark(notebook(hostile.START, DPHI, code, CHI1, SATURATED))
    assert points(record) == MOST
    assert any(cell["incident"] and told in cell["said"] for cell in record["cells"].values()), record["cells"]
    assert reports.attention(record)


@pytest.mark.parametrize("name", hostile.DEADLY)
def test_what_kills_an_answer_costs_that_answer_alone(name, marker, honest_neighbours, impatient):
    body = "\n".join("    " + line for line in hostile.DEADLY[name][0].splitlines())
    record = marker.mark(notebook(hostile.START, DPHI, f"def chi1(dphi, sigma_w, q):\n{body}", SATURATED))
    assert points(record) == MOST | {"lab03.chi1": 0}
    (lost,) = [m for m in record["questions"] if m["question"] == "lab03.chi1"]
    assert lost["hints"] and (lost["problem"] or name in ("deep recursion", "lock"))


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Things that student code must not reach, and what to do them harm with."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (tmp_path / "class").mkdir()
    (tmp_path / "class/a.ipynb").write_bytes(HONEST)
    monkeypatch.setenv("LABCHECK_SECRET", "1")
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as local:
        tcp.bind(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        local.bind(str(tmp_path / "sock"))
        for listener in (tcp, local):
            listener.listen()
        for each in (tcp, udp, local):
            each.setblocking(False)
        before = _seen(tmp_path)
        yield dict(outside=str(outside), port=port, sock=str(tmp_path / "sock"), root=str(ROOT))
        assert _seen(tmp_path) == before
        for listener in (tcp, local):
            with pytest.raises(BlockingIOError):
                listener.accept()
        with pytest.raises(BlockingIOError):
            udp.recv(10)


def _seen(folder):
    return {
        str(p): (p.stat().st_mode, p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", hostile.VAIN)
def test_what_reaches_out_comes_to_nothing(name, marker, honest_neighbours, world):
    code = hostile.VAIN[name].format(**world)
    record = marker.mark(notebook(hostile.START, DPHI, code, CHI1, SATURATED))
    assert "escaped" not in json.dumps(record["cells"]), record["cells"]
    assert points(record) == MOST, record["cells"]


def test_the_tests_would_see_an_escape(marker):
    record = marker.mark(notebook(hostile.START, "denied(lambda: 1)"))
    assert "escaped" in json.dumps(record["cells"])


@pytest.mark.parametrize("name", hostile.FORGED)
def test_forged_answers_earn_nothing(name, marker, honest_neighbours):
    record = marker.mark(notebook(hostile.FORGED[name]))
    assert points(record) == dict.fromkeys(MOST, 0), record["questions"]


def test_a_patch_of_torch_reaches_only_its_author(marker, honest_neighbours):
    record = marker.mark(notebook("import torch\ntorch.sigmoid = torch.tanh = torch.relu = lambda z: 0 * z", *ANSWERS.values()))
    assert points(record)["lab03.dphi"] < MOST["lab03.dphi"]


def test_no_references_in_the_child(marker):
    record = marker.mark(notebook("import sys\nraise ValueError(*sorted(m for m in sys.modules if 'labcheck.questions' in m))"))
    assert record["cells"]["1"]["said"] == "the cell raised ValueError in line 2."


# --- honest accidents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hostile.ACCIDENTS)
def test_accidents_cost_nothing(name, marker, honest_neighbours):
    record = marker.mark(notebook(hostile.ACCIDENTS[name], DPHI, hostile.ACCIDENTS[name], CHI1, SATURATED, hostile.ACCIDENTS[name]))
    assert points(record) == MOST, record["cells"]


def cells_of(content):
    return json.loads(content)["cells"]


def changed(change):
    data = json.loads(HONEST)
    change(data)
    return json.dumps(data).encode()


FILES = {
    "reordered": notebook(SATURATED, CHI1, DPHI),
    "all twice": notebook(*ANSWERS.values(), *ANSWERS.values()),
    "a first attempt": notebook("def chi1(dphi, sigma_w, q):\n    return 1", *ANSWERS.values()),
    "used before it is there": notebook("def chi1(dphi, s, q):\n    return half(dphi, s, q)\nx = helper()", DPHI, SATURATED,
                                        CHI1.replace("chi1", "half"), "def helper(): return 1"),
    "byte order mark": b"\xef\xbb\xbf" + HONEST,
    "UTF-16": HONEST.decode().encode("utf-16"),
    "Latin-1": HONEST.replace(b"import torch", "# \u00fc\\nimport torch".encode("latin-1")),
    "format 99": changed(lambda d: d.update(nbformat=99)),
    "no format": changed(lambda d: d.pop("nbformat")),
    "format 3": json.dumps({
        "nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": s.splitlines(True)} for s in
                                                 (*ANSWERS.values(), "check('lab03.dphi', None)")]}]}).encode(),
    "an answer in a text cell": changed(lambda d: d["cells"][1].update(cell_type="markdown")),
    "odd cells": changed(lambda d: d["cells"].extend([None, 3, {"cell_type": "code"}, {"cell_type": "code", "source": 5}])),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_odd_files_are_graded(name, marker, honest_neighbours):
    assert points(marker.mark(FILES[name])) == MOST


def test_200_mb_of_outputs(marker, honest_neighbours):
    empty, full = b'"outputs": []', b'"outputs": [{"output_type": "stream", "text": "' + b"x" * 200_000_000 + b'"}]'
    assert empty in HONEST
    assert points(marker.mark(HONEST.replace(empty, full, 1))) == MOST


BROKEN = {
    "empty": (b"", "is empty"),
    "truncated": (HONEST[: len(HONEST) // 2], "was cut off"),
    "a list": (b"[1, 2]", "no notebook"),
    "no cells": (b'{"nbformat": 4}', "no list of cells"),
    "deep": (b"[" * 200_000, "not JSON"),
    "binary": (bytes(range(256)) * 100, "not JSON"),
    "no lab": (nbformat.writes(new_notebook(cells=[new_markdown_cell("hello")])).encode(), "no lab is recognised"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_get_a_reason(name, marker):
    content, reason = BROKEN[name]
    record = marker.mark(content)
    assert record["points"] == 0 and any(reason in sentence for sentence in reports.attention(record)), record["remarks"]


def test_a_deleted_answer_is_missed_by_name(marker, honest_neighbours):
    record = marker.mark(notebook(DPHI, CHI1.replace("chi1", "chi_1"), SATURATED))
    assert points(record) == MOST | {"lab03.chi1": 0}
    assert any("defines no chi1" in sentence for sentence in reports.attention(record))
    assert "chi_1" in record["questions"][1]["hints"][0]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text().map(str.encode) | st.integers(0, len(HONEST)).map(lambda n: HONEST[:n]))
def test_no_bytes_break_the_reader(content):
    try:
        assert notebooks.parse(content).sha256
    except notebooks.Unreadable as error:
        assert str(error)


def test_blank_labs_and_solutions(marker):
    for lab in questions.LABS:
        (blank,), (solved,) = (sorted((ROOT / place).glob(f"{lab}_*.ipynb")) for place in ("labs", "solutions"))
        record = marker.mark(blank.read_bytes())
        assert record["lab"] == lab and record["points"] == 0 and not reports.attention(record)
        assert {m["status"] for m in record["questions"]} == {"not attempted"}
        record = marker.mark(solved.read_bytes())
        assert record["points"] == record["max_points"] == sum(q.max_points for q in questions.of(lab)), record["questions"]
        assert not reports.attention(record)


# --- what is said ---------------------------------------------------------------------------------------------

LEAKS = {
    "a message": "def chi1(dphi, s, q): raise ValueError(f'the input is {q!r} <b>')",
    "a class": "def chi1(dphi, s, q): raise type(f'Input{q!r}'.replace('.', '_'), (Exception,), {})",
    "a type": "def chi1(dphi, s, q): return type(f'Input{q!r}'.replace('.', '_'), (), {})()",
    "a name": "def chi1(dphi, s, q): return eval(f'input_{q!r}'.replace('.', '_'))",
    "a string": "def chi1(dphi, s, q): return f'the input is {q!r}'",
    "a key": "def chi1(dphi, s, q): return {f'q{q!r}': 1.0}",
    "a signature": (
        "def chi1(dphi, s, q, r): pass\nimport torch\nseen = []\n"
        "def saturated_fraction(a, name, tol):\n    chi1.__defaults__ = (float(a.flatten()[0]),)\n    return 0"
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_what_is_said_does_not_carry_inputs(name, marker):
    record = about(marker.mark(notebook(LEAKS[name])))
    said = json.dumps(record, ensure_ascii=False) + reports.feedback(record, "html") + reports.feedback(record, "md")
    cases = questions.get("lab03.chi1").draw(marking.seed_of(12345, "lab03.chi1"))["cases"]
    for case in cases:
        digits = repr(float(case["q"])).replace(".", "")[:6].lstrip("0")
        if len(digits) > 4:
            assert digits not in said.replace(".", "").replace("_", "")
    assert "<b>" not in said and "the input is" not in said


def test_names_of_the_own_source_are_shown(marker):
    record = marker.mark(notebook("def chi1(dphi, s, q): return sigma", "def saturated_fraction(a): return 0"))
    hints = {m["question"]: m["hints"] for m in record["questions"]}
    assert hints["lab03.chi1"] == ["your function raised NameError in line 1 of chi1: name 'sigma' is not defined."]
    assert "but yours takes (a)" in hints["lab03.saturated_fraction"][0]


EVIL = "<script>alert(1)</script>| `x` [a](b) =cmd"


def test_names_and_messages_are_data(marker, tmp_path):
    record = marker.mark(notebook(f"raise ValueError({EVIL!r})", "def chi1(*a): return 1"))
    record |= {"student": EVIL, "number": "", "submission": f"{EVIL}.ipynb", "size": 1}
    for m in record["questions"]:
        m["checks"] = ""
    page = reports.feedback(record, "html")
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "<script>" not in reports.feedback(record, "md").replace("\\<", "")
    assert "<script>" not in reports.summary([record])
    rows = list(csv.reader(io.StringIO(reports.marks_csv([record | {"student": "=1+1"}]))))
    assert rows[1][0] == "'=1+1"


# --- the borrowed package ---------------------------------------------------------------------------------------


def test_answers_may_not_use_the_course(marker):
    record = marker.mark(notebook(hostile.FORGED["the course's package"]))
    assert all("belongs to the course" in m["hints"][0] for m in record["questions"] if m["question"] != "lab03.saturated_fraction")


def test_every_question_says_what_is_allowed(capsys):
    assert main(["list", "--json"]) == 0
    assert all("torch" in q["allowed"] and "signalprop" in q["allowed"] for q in json.loads(capsys.readouterr().out))
