"""A folder of submissions becomes marks: from any platform, through any interruption, into the teacher's own sheet."""

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path

import hostile
import pytest
from test_grading import CHI1, DPHI, HONEST, MOST, SATURATED, notebook

from labcheck import questions
from labcheck.__main__ import main
from labcheck.grading import batch, doctor, exports, marking, reports, sandbox, submissions
from tools.paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux" or bool(sandbox.missing()), reason="the sandbox does not work here")

BLANK = notebook(*[f"def {q.function}(*a):\n    raise NotImplementedError" for q in questions.of("lab03")])
PART = notebook(DPHI, "def chi1(dphi, sigma_w, q):\n    return 1", SATURATED)
KINDS = {"right": (HONEST, sum(MOST.values())), "part": (PART, sum(MOST.values()) - MOST["lab03.chi1"]), "blank": (BLANK, 0),
         "cut": (HONEST[:200], 0), "loop": (notebook("import os\nos._exit(1)", DPHI), MOST["lab03.dphi"])}  # fmt: skip


def a_class(folder, count):
    """Notebooks of all kinds in a folder; returns the points that each is to get, by file name."""
    folder.mkdir(exist_ok=True)
    expected = {}
    for i in range(count):
        kind = list(KINDS)[i % len(KINDS)]
        name = f"{kind}{i:03}.ipynb"
        (folder / name).write_bytes(KINDS[kind][0])
        expected[name] = KINDS[kind][1]
    return expected


def earned(folder):
    return {name: r["points"] for name, r in batch.Results(folder).records().items()}


# --- submissions ----------------------------------------------------------------------------------------------

LAYOUTS = {
    "flat": {"ada.ipynb": ("ada", ""), "Bo Li.ipynb": ("Bo Li", "")},
    "folders": {"ada/lab03.ipynb": ("ada", ""), "bo/deep/er/my lab.ipynb": ("bo", "")},
    "nbgrader": {"submitted/ada/ps1/lab03.ipynb": ("ada", ""), "submitted/bo/ps1/lab03.ipynb": ("bo", ""), "source/ps1/lab03.ipynb": None},
    "moodle": {
        "Ada Lovelace_1234567_assignsubmission_file_/lab03.ipynb": ("Ada Lovelace", "1234567"),
        "Bo_Li_7654321_assignsubmission_file_/lab03.ipynb": ("Bo_Li", "7654321"),
        "Cy_1111111_assignsubmission_file_lab03.ipynb": ("Cy", "1111111"),
    },
    "canvas": {
        "lovelaceada_12345_6789012_lab03-2.ipynb": ("lovelaceada", "12345"),
        "libo_LATE_54321_6789013_lab03.ipynb": ("libo", "54321"),
    },
    "litter": {"ada.ipynb": ("ada", ""), "__MACOSX/._ada.ipynb": None, ".ipynb_checkpoints/ada-checkpoint.ipynb": None, "notes.txt": None},
}  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_whose_notebook_it_is(layout, zipped, tmp_path):
    place = tmp_path / "in"
    for name in LAYOUTS[layout]:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    if zipped:
        place = shutil.make_archive(tmp_path / "all", "zip", place)
    found = submissions.find(place, tmp_path / "unpacked")
    assert sorted((s.student, s.number) for s in found) == sorted(who for who in LAYOUTS[layout].values() if who)
    assert all(s.path.read_bytes() == b"{}" for s in found)


def test_a_damaged_zip_loses_only_what_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for name in ("ada.ipynb", "bo.ipynb"):
            file.writestr(name, name * 100)
    content = (tmp_path / "all.zip").read_bytes().replace(b"ada.ipynb" * 50, b"zzz.ipynb" * 50)
    (tmp_path / "all.zip").write_bytes(content)
    ada, bo = submissions.find(tmp_path / "all.zip", tmp_path / "unpacked")
    assert bo.path.read_text() == "bo.ipynb" * 100
    record = marking.Marker(1).mark(ada.path.read_bytes(), "lab03")
    assert not record["questions"] and "the file" in record["remarks"][0]


def test_a_zip_with_a_password_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        file.writestr("ada.ipynb", "{}")
    content = bytearray((tmp_path / "all.zip").read_bytes())
    content[6] |= 1  # the flag "encrypted", where the member begins and in the table of contents
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "all.zip").write_bytes(content)
    with pytest.raises(submissions.NoSubmissions, match="password"):
        submissions.find(tmp_path / "all.zip", tmp_path / "unpacked")


def test_a_zip_writes_nothing_outside(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        for name in ("../../up.ipynb", "/abs.ipynb", "a\\..\\..\\win.ipynb", "ok.ipynb"):
            file.writestr(name, "{}")
    found = submissions.find(tmp_path / "evil.zip", tmp_path / "deep/unpacked")
    assert len(found) == 4
    assert all((tmp_path / "deep/unpacked") in s.path.parents for s in found)
    assert {p.name for p in tmp_path.iterdir()} == {"evil.zip", "deep"}


@pytest.mark.parametrize(("make", "words"), [
    (lambda p: None, "there is none"), (lambda p: p.mkdir(), "found none"), (lambda p: p.write_text("x"), "expected a folder or a zip file"),
])  # fmt: skip
def test_nothing_to_grade(make, words, tmp_path):
    make(tmp_path / "in")
    with pytest.raises(submissions.NoSubmissions, match=words):
        submissions.find(tmp_path / "in", tmp_path / "out")


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of 20, graded by the command."""
    place = tmp_path_factory.mktemp("class")
    expected = a_class(place / "in", 20)
    assert main(["grade", str(place / "in"), "--out", str(place / "out"), "--workers", "2"]) == 0
    return place, expected


def test_everyone_gets_what_they_earned(graded):
    place, expected = graded
    assert earned(place / "out") == expected


def test_the_files(graded):
    place, expected = graded
    rows = list(csv.DictReader(io.StringIO((place / "out/marks.csv").read_text("utf-8-sig"))))
    assert {r["submission"]: int(r["points"]) for r in rows} == expected
    assert all(r["attention"] for r in rows if r["submission"].startswith(("cut", "loop")))
    assert not any(r["attention"] for r in rows if r["submission"].startswith(("right", "part", "blank")))
    pages = sorted(p.name for p in (place / "out/feedback").iterdir())
    assert pages == sorted(f"{name.removesuffix('.ipynb')}.{form}" for name in expected for form in ("html", "md"))
    page = (place / "out/feedback/part001.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and 'lang="en"' in page and "not yet" in page
    summary = (place / "out/summary.html").read_text()
    assert "8 of them need your attention" in summary and "Median" in summary
    for line in (place / "out/results.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert all(m["seed"] == marking.seed_of(batch.Results(place / "out").batch()["seed"], m["question"]) for m in record["questions"])


def test_a_second_run_grades_only_what_is_new(graded, capfd):
    place, expected = graded
    copy = place / "again"
    shutil.copytree(place / "in", copy / "in")
    assert main(["grade", str(copy / "in"), "--out", str(copy / "out"), "--lab", "lab03"]) == 0
    lines = (copy / "out/results.jsonl").read_text()
    assert main(["grade", str(copy / "in"), "--out", str(copy / "out"), "--lab", "lab03"]) == 0
    assert (copy / "out/results.jsonl").read_text() == lines
    (copy / "in/right000.ipynb").write_bytes(BLANK)  # handed in again
    (copy / "in/new.ipynb").write_bytes(HONEST)
    assert main(["grade", str(copy / "in"), "--out", str(copy / "out"), "--lab", "lab03"]) == 0
    assert "19 of 21 submissions are graded already" in capfd.readouterr().err
    assert earned(copy / "out") == expected | {"right000.ipynb": 0, "new.ipynb": sum(MOST.values())}


@pytest.mark.parametrize(("arguments", "words"), [
    (["grade", "{in}", "--out", "{out}", "--lab", "lab04"], "results for another lab"),
    (["grade", "{out}", "--out", "{out}"], "expected notebooks"),
    (["grade", "{in}", "--out", "{out}", "--lab", "lab99"], "lab99"),
    (["regrade", "{in}"], "expected the results of labcheck grade"),
    (["regrade", "{out}", "--question", "lab03.dhpi"], "lab03.dphi"),
    (["replay", "{out}", "nobody", "lab03.dphi"], "expected one submission of 'nobody'"),
    (["replay", "{out}", "right000", "lab04.x"], "has no marks for 'lab04.x'"),
    (["release", "lab99", "--out", "{in}/x"], "expected one of"),
    (["release", "lab03", "--out", "{in}"], "holds files"),
])  # fmt: skip
def test_what_can_be_mended_is_said(graded, arguments, words, capfd):
    place, _ = graded
    given = [a.replace("{in}", str(place / "in")).replace("{out}", str(place / "out")) for a in arguments]
    assert main(given) == 2
    assert words in capfd.readouterr().err


def test_without_a_sandbox_grading_refuses(graded, monkeypatch, capfd):
    place, _ = graded
    monkeypatch.setattr(sandbox, "missing", lambda: ["confine does not work here"])
    assert main(["grade", str(place / "in"), "--out", str(place / "none")]) == 2
    assert "--unsafe" in capfd.readouterr().err and not (place / "none").exists()


AN_OLD_KERNEL = """
import errno, sys, pyseccomp
from labcheck.__main__ import main
if __name__ == "__main__":  # workers inherit the rules
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), 444)  # landlock_create_ruleset
    rules.load()
    rules.add_rule(pyseccomp.ERRNO(errno.EINVAL), "prctl", pyseccomp.Arg(0, pyseccomp.EQ, 22))  # PR_SET_SECCOMP
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "seccomp")
    rules.load()
    sys.exit(main(sys.argv[1:]))
"""


def test_a_kernel_without_the_layers_needs_unsafe(tmp_path):
    expected = a_class(tmp_path / "in", 5)
    (tmp_path / "old.py").write_text(AN_OLD_KERNEL)
    command = [sys.executable, str(tmp_path / "old.py"), "grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "confine does not work here" in done.stderr and "deny_system_calls does not work here" in done.stderr
    assert "--unsafe" in done.stderr and not (tmp_path / "out").exists()
    done = subprocess.run([*command, "--unsafe"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert earned(tmp_path / "out") == expected
    done = subprocess.run([*command[:2], "doctor"], capture_output=True, text=True)
    assert done.returncode == 2 and "✗ Landlock: does not work here" in done.stdout and "refuses" in done.stdout


def test_replay_reproduces_a_verdict(graded, capfd):
    place, _ = graded
    assert main(["replay", str(place / "out"), "part001", "lab03.chi1"]) == 0
    said = capfd.readouterr().out
    assert "0 of 6 points" in said and "This is the logged verdict." in said
    logged = [m for m in batch.Results(place / "out").records()["part001.ipynb"]["questions"] if m["question"] == "lab03.chi1"]
    assert logged[0]["hints"][0] in said


def test_regrade_after_a_mended_check(graded, monkeypatch, tmp_path):
    place, expected = graded
    out = tmp_path / "out"
    shutil.copytree(place / "out", out)
    results, lines = batch.Results(out), (out / "results.jsonl").read_bytes()
    old = {name: {m["question"]: m["seed"] for m in r["questions"]} for name, r in results.records().items()}
    assert main(["regrade", str(out), "--question", "lab03.chi1"]) == 0
    assert (out / "results.jsonl").read_bytes() == lines, "nothing has changed, so nothing is graded again"
    text = lines.decode().replace(batch.checks_hash(), "0" * 16)  # as if the marks came from an earlier version
    (out / "results.jsonl").write_text(text)
    (out / "batch.json").write_text((out / "batch.json").read_text().replace(batch.checks_hash(), "0" * 16))
    assert main(["grade", str(place / "in"), "--out", str(out)]) == 2
    assert main(["regrade", str(out), "--question", "lab03.chi1"]) == 0
    new = results.records()
    for name, record in new.items():
        for m in record["questions"]:
            assert (m["checks"] == batch.checks_hash()) == (m["question"] == "lab03.chi1")
            assert m["seed"] == old[name][m["question"]]
    assert earned(out) == expected
    assert main(["regrade", str(out)]) == 0 and results.batch()["checks"] == batch.checks_hash()
    assert main(["grade", str(place / "in"), "--out", str(out)]) == 0


def test_two_graders_do_not_write_to_one_folder(graded):
    place, _ = graded
    results = batch.Results(place / "out")
    with results.locked(), pytest.raises(batch.Changed, match="another labcheck"), batch.Results(place / "out").locked():
        pass


# --- 200 submissions of all labs ------------------------------------------------------------------------------------


def cells_of(folder, lab):
    (path,) = (ROOT / folder).glob(f"{lab}_*.ipynb")
    return json.loads(path.read_text(encoding="utf-8"))


def without(content, question):
    """A notebook in which the answer to one question gives nothing back."""
    changed = json.loads(json.dumps(content))
    for cell in changed["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith((f"def {question.function}(", f"class {question.function}(")):
            cell["source"] = f"def {question.function}(*given, **named):\n    given"
            return changed
    raise AssertionError(f"no answer to {question.name}")


NEEDS = {"lab05.elu": 5}  # points of other answers that the solution builds on this one: selu calls elu


def test_two_hundred_submissions(tmp_path):
    """Blank, right, wrong and hostile notebooks of all labs at once: each gets what it earned, and nothing else."""
    folder, expected = tmp_path / "in", {}
    folder.mkdir()

    def hand_in(name, content, points):
        (folder / f"{name}.ipynb").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        expected[f"{name}.ipynb"] = points

    for lab in questions.LABS:
        solved, most = cells_of("solutions", lab), sum(q.max_points for q in questions.of(lab))
        for i in range(4):
            hand_in(f"{lab}-right{i}", solved | {"i": i}, most)
            hand_in(f"{lab}-blank{i}", cells_of("labs", lab) | {"i": i}, 0)
        for q in questions.of(lab):
            hand_in(f"{lab}-without-{q.function}", without(solved, q), most - q.max_points - NEEDS.get(q.name, 0))
    for i, (name, code) in enumerate(hostile.FORGED.items()):
        hand_in(f"forged{i:02}", notebook(code), 0)
    for i, (name, (code, _)) in enumerate(hostile.DEADLY.items()):
        hand_in(f"deadly{i:02}", notebook(hostile.START, DPHI, code, SATURATED), MOST["lab03.dphi"] + MOST["lab03.saturated_fraction"])
    for i, (name, code) in enumerate(hostile.ACCIDENTS.items()):
        hand_in(f"accident{i:02}", notebook(code, DPHI, CHI1, SATURATED), sum(MOST.values()))
    for i in range(200 - len(expected)):
        hand_in(f"part{i:02}", notebook(DPHI, f"x = {i}"), MOST["lab03.dphi"])
    assert len(expected) == 200
    assert main(["grade", str(folder), "--out", str(tmp_path / "out"), "--workers", "2"]) == 0
    found = earned(tmp_path / "out")
    assert {name: (found[name], points) for name, points in expected.items() if found[name] != points} == {}


# --- interruptions ------------------------------------------------------------------------------------------------


class Scripted:
    """An executor that marks in this process with a marker that costs nothing, and dies as told."""

    def __init__(self, dies):
        self.dies, self.broken = dies, False

    def __call__(self, workers):
        self.broken = False
        return self

    def submit(self, function, seed, safe, checks, source, lab, only):
        future = Future()
        self.broken = self.broken or self.dies(source)
        if self.broken:
            future.set_exception(BrokenExecutor())
        else:
            future.set_result(marking.unmarked("lab03", source))
        return future

    def shutdown(self, wait):
        pass


def prepared(tmp_path, count=8):
    a_class(tmp_path / "in", count)
    results = batch.Results(tmp_path / "out")
    results.begin(tmp_path / "in", None)
    return results, submissions.find(tmp_path / "in", tmp_path / "u")


def test_a_notebook_that_kills_its_worker_is_alone_to_blame(tmp_path):
    results, found = prepared(tmp_path)
    with results.locked():
        batch.grade(found, results, Scripted(lambda source: "right000" in source), 4)
    died = {name for name, r in results.records().items() if "died 3 times" in r["remarks"][0]}
    assert died == {"right000.ipynb"} and len(results.records()) == 8


def test_a_grader_that_always_dies_blames_nobody(tmp_path):
    results, found = prepared(tmp_path)
    with results.locked(), pytest.raises(OSError, match="died on each notebook"):
        batch.grade(found, results, Scripted(lambda source: True), 2)
    assert not results.records()


def test_a_worker_that_dies_by_chance_costs_nobody_anything(tmp_path):
    results, found = prepared(tmp_path)
    chance = random.Random(0)
    with results.locked():
        batch.grade(found, results, Scripted(lambda source: chance.random() < 0.2), 4)
    assert not any("died" in r["remarks"][0] for r in results.records().values()) and len(results.records()) == 8


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    results, found = prepared(tmp_path)
    import resource

    room = 700 * 3  # bytes: a few records, and a part of one
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with results.locked():
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, old[1]))
            with pytest.raises(OSError):
                batch.grade(found, results, Scripted(lambda source: False), 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    first = results.records()
    assert 0 < len(first) < 8
    with results.locked():
        batch.grade(found, results, Scripted(lambda source: False), 4)
    lines = results.lines.read_text().splitlines()
    assert len(lines) == 8 and {json.loads(line)["submission"] for line in lines} == {s.name for s in found}


KILLS, SHARDS = 50, 5


@pytest.mark.parametrize("shard", range(SHARDS))
def test_killed_at_any_moment_a_second_run_finishes(shard, tmp_path):
    """SIGKILL at random moments, again and again: nothing is graded twice, nothing lost, nothing left alive."""
    chance, results, folder = random.Random(shard), batch.Results(tmp_path / "out"), tmp_path / "in"
    expected = a_class(folder, 10)
    command = ["grade", str(folder), "--out", str(tmp_path / "out"), "--workers", "2"]
    for _ in range(KILLS // SHARDS):
        before = len(results.records())
        pid = _start(command)
        # some kills come before the first record, some between two, some in the middle of one
        wanted, since = before + chance.choice((0, 0, 1, 1, 2)), time.monotonic()
        while len(results.records()) < wanted and not _ended(pid) and time.monotonic() - since < 60:
            time.sleep(0.01)
        time.sleep(chance.random() * (0.3 if wanted > before else 4))
        if not _ended(pid):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        _nothing_lives()
        if len(results.records()) == len(expected):  # all are graded: begin again with other files
            for path in folder.iterdir():
                path.write_bytes(path.read_bytes() + b" ")
            shutil.rmtree(tmp_path / "out")
    assert main(command) == 0
    lines = [json.loads(line) for line in results.lines.read_text().splitlines()]
    assert len(lines) == len({r["submission"] for r in lines}) == len(expected)
    assert earned(tmp_path / "out") == expected


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    expected = a_class(folder, 30)
    command = [sys.executable, "-m", "labcheck", "grade", str(folder), "--out", str(out), "--workers", "1"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
    while not (out / "results.jsonl").exists() or not (out / "results.jsonl").stat().st_size:
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does
    said = started.communicate(timeout=60)[1]
    assert started.returncode == 130 and "Run the same command again to go on" in said and "Traceback" not in said
    assert 0 < len(earned(out)) < len(expected) and (out / "marks.csv").exists()
    _nothing_lives()
    assert main(command[3:]) == 0
    assert earned(out) == expected


def _start(command):
    pid = os.fork()
    if not pid:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        try:
            main(command)
        finally:
            os._exit(0)
    return pid


def _ended(pid):
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True


def _nothing_lives():
    """No process that runs student code is left of the killed ones; orphans get a moment to notice."""
    for _ in range(100):
        left = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if b"labcheck.grading.zygote" in _read(pid, "cmdline") and _orphan(pid)]
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"still alive: {left}")


def _read(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _orphan(pid):
    """Whether a process stems from none of the tests that run now."""
    mine = {os.getpid(), os.getppid()} - {1}
    pid = int(pid)
    while pid > 1:
        if pid in mine:
            return False
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        if not fields or fields[0] == b"Z":
            return False
        pid = int(fields[1])
    return True


# --- sheets -----------------------------------------------------------------------------------------------------


def records(*students):
    return [
        {"student": name, "number": number, "submission": f"{name}.ipynb", "lab": "lab03", "points": p, "max_points": 18, "remarks": [],
         "questions": [{"question": "lab03.chi1", "points": p, "max_points": 18, "hints": ["Take <the> root."], "problem": None,
                        "aspects": {"all": [p, 18, ""]}}], "cells": {}}
        for name, number, p in students
    ]  # fmt: skip


MOODLE = (
    "\ufeffIdentifier,Full name,Email address,Status,Grade,Maximum grade,Grade can be changed,Last modified (grade),Feedback comments\r\n"
    'Participant 11,Ada Lovelace,ada@x.org,Submitted,,10.00,Yes,-,\r\n'
    'Participant 12,"Li, Bo",bo@x.org,Submitted,,10.00,Yes,-,\r\n'
    "Participant 13,Cy Twombly,cy@x.org,No submission,,10.00,Yes,-,\r\n"
)


def test_moodle_sheet():
    text, left = exports.moodle(records(("Ada Lovelace", "11", 9), ("Li, Bo", "", 18)), MOODLE)
    assert text.startswith("\ufeff") and text.count("\r\n") == 4
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert [r["Grade"] for r in rows] == ["5.00", "10.00", ""]
    assert "&lt;the&gt;" in rows[0]["Feedback comments"] and not rows[2]["Feedback comments"]
    assert left == ["13 Cy Twombly"]


CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Lab 02 (501),Lab 03 (502)\n"
    "    Points Possible,,,,,10.00,36.00\n"
    '"Lovelace, Ada",12345,s1,ada,A,7,\n"Li, Bo",54321,s2,bo,A,,\n"Student, Test",99,,t,A,,\n'
)


def test_canvas_sheet():
    text, left = exports.canvas(records(("lovelaceada", "12345", 9), ("libo", "", 18)), CANVAS, assignment="Lab 03")
    rows = list(csv.reader(io.StringIO(text)))
    assert [r[6] for r in rows[1:]] == ["36.00", "18.00", "36.00", ""] and rows[2][5] == "7"
    assert len(left) == 1
    with pytest.raises(exports.NoMatch, match=r"Lab 02 \(501\); Lab 03 \(502\)"):
        exports.canvas(records(("libo", "", 1)), CANVAS)


@pytest.mark.parametrize(("who", "words"), [
    ([("Nobody", "", 1), ("Ada Lovelace", "11", 2)], "Nobody: no line of the sheet matches"),
    ([("Ada Lovelace", "", 1), ("Ada Lovelace", "11", 2)], "the same line of the sheet as Ada Lovelace"),
])  # fmt: skip
def test_sheets_refuse_with_a_list(who, words):
    with pytest.raises(exports.NoMatch, match=words):
        exports.moodle(records(*who), MOODLE)


def test_two_lines_of_one_name():
    with pytest.raises(exports.NoMatch, match="2 lines of the sheet match"):
        exports.moodle(records(("Ada Lovelace", "", 1)), MOODLE.replace("Cy Twombly", "Ada Lovelace"))


@pytest.mark.parametrize(("text", "words"), [("", "got none"), ("a,b\n1,2\n", "expected a column"), ("Name,Grade\nx\n", "as many cells")])
def test_odd_sheets(text, words):
    with pytest.raises(exports.NoMatch, match=words):
        exports.moodle(records(("x", "", 1)), text)


def test_exporting_from_the_command_line(graded, tmp_path, capfd):
    place, expected = graded
    sheet = tmp_path / "sheet.csv"
    lines = ["Identifier;Full name;Grade;Maximum grade"]
    lines += [f"Participant {i};{name.removesuffix('.ipynb')};;100,00" for i, name in enumerate(expected)]
    sheet.write_text("\n".join([*lines, "Participant 99;absent;;100,00\n"]))
    assert main(["export", str(place / "out"), "--moodle", str(sheet)]) == 0
    said = capfd.readouterr().out
    assert "4 could not be graded" in said and "cut003.ipynb" in said and "5 in the sheet have no marks here" in said
    rows = list(csv.DictReader(io.StringIO((place / "out/sheet.csv").read_text()), delimiter=";"))
    assert {f"{r['Full name']}.ipynb": float(r["Grade"] or -1) for r in rows} == pytest.approx(
        {name: -1 if name.startswith("cut") else round(100 * p / 18, 2) for name, p in expected.items()} | {"absent.ipynb": -1}
    )
    sheet.write_text("Full name;Grade\nsomebody;\n")
    assert main(["export", str(place / "out"), "--moodle", str(sheet), "--out", str(tmp_path / "no.csv")]) == 2
    assert "right000: no line of the sheet matches" in capfd.readouterr().err and not (tmp_path / "no.csv").exists()
    assert main(["export", str(place / "out"), "--gradescope", str(tmp_path / "gs")]) == 0
    result = json.loads((tmp_path / "gs/right000/results.json").read_text())
    assert result["score"] == 18 == sum(t["score"] for t in result["tests"])
    assert main(["export", str(place / "out"), "--feedback", str(tmp_path / "back.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "back.zip") as back:
        assert sorted(back.namelist()) == sorted(name.replace(".ipynb", ".html") for name in expected)
        (page,) = (place / "out/feedback").glob("right000*.html")
        assert back.read("right000.html").decode() == page.read_text(encoding="utf-8")


def test_feedback_goes_back_by_the_name_of_what_was_handed_in(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "feedback", lambda record, form: f"{record['student']} as {form}")
    some = records(("Ada Lovelace", "1234567", 1), ("libo", "54321", 2))
    handed_in = ["Ada Lovelace_1234567_assignsubmission_file_/lab03.ipynb", "libo_LATE_54321_6789013_lab03.ipynb"]
    for record, name in zip(some, handed_in):
        record.update(submission=name)
    exports.write_feedback(some, tmp_path / "back.zip")
    with zipfile.ZipFile(tmp_path / "back.zip") as back:
        assert back.namelist() == [name.replace(".ipynb", ".html") for name in handed_in]
        assert [back.read(name).decode() for name in back.namelist()] == ["Ada Lovelace as html", "libo as html"]


# --- the rest -----------------------------------------------------------------------------------------------------


def test_files_of_feedback_never_share_a_name():
    some = records(("Ada", "1", 1), ("ada", "1", 2), ("A/da", "", 3), ("A da", "", 4), ("..", "", 5))
    for i, r in enumerate(some):
        r["submission"] = f"{i}.ipynb"
    names = list(reports.keys(some).values())
    assert len({name.casefold() for name in names}) == 5 and not any("/" in name or name.startswith(".") for name in names)


def test_equal_answers_are_listed_but_not_short_or_common_ones():
    def with_answers(name, **digests):
        return {**records((name, "", 1))[0], "answers": {"lab03.dphi": None, "lab03.chi1": None} | {k.replace("_", ".", 1): v for k, v in digests.items()}}

    some = [with_answers("a", lab03_dphi="x", lab03_chi1="y"), with_answers("b", lab03_dphi="x", lab03_chi1="y"), with_answers("c")]
    assert reports.equal(some) == [(["a", "b"], ["lab03.chi1", "lab03.dphi"])]
    common = [with_answers(name, lab03_dphi="x") for name in "abcd"]
    assert reports.equal(common) == []


def test_fingerprints_see_through_comments_only():
    from labcheck.grading.words import Words

    def of(source):
        return Words([(1, source)]).fingerprint("chi1")

    commented = CHI1.replace("    z =", '    """What it does."""\n    # a comment\n    z =').replace("), q", "),    q")
    assert of(CHI1) == of(commented) is not None
    assert of(CHI1) != of(CHI1.replace("4001", "4002"))
    assert of("def chi1(a): return a") is None


def test_release(tmp_path):
    assert main(["release", "lab03", "--out", str(tmp_path / "handout"), "--packages", "course @ git+https://x.org/c"]) == 0
    names = {p.name for p in (tmp_path / "handout").iterdir()}
    assert names == {"lab03_saturation.ipynb", "README.md", "requirements.txt"}
    text = "".join(p.read_text() for p in (tmp_path / "handout").iterdir())
    assert "BEGIN SOLUTION" not in text and "torch==" in text and "git+https://x.org/c" in text and "18 points" in text


def test_a_handout_brings_the_packages_that_its_notebook_imports(tmp_path):
    assert main(["release", "lab03", "--out", str(tmp_path)]) == 0
    assert "./course-packages.zip" in (tmp_path / "requirements.txt").read_text().splitlines()
    with zipfile.ZipFile(tmp_path / "course-packages.zip") as packed:
        packed.extractall(tmp_path / "unpacked")
    assert not [*(tmp_path / "unpacked").rglob("solutions")] and [*(tmp_path / "unpacked").rglob("studies/*.json")]
    place = tmp_path / "unpacked/vanishing-gradients"
    code = "import labcheck, signalprop; print(labcheck.__file__, signalprop.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=place, env=os.environ | {"PYTHONPATH": str(place)}, capture_output=True, text=True)
    assert found.stdout.count(str(place)) == 2, found.stderr


def test_doctor_tries_each_layer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctor.examine()
    assert not list(tmp_path.iterdir())  # a try that a layer stops halfway leaves nothing behind
    assert "read references" in found["Landlock"] and "open a UDP socket" in found["seccomp"] and "take much memory" in found["limits"]
    assert not found["still possible"]
    assert set(found["all"]) >= set(found["Landlock"]) | set(found["seccomp"])
    assert found["bubblewrap"] is None or "reach a server" in found["bubblewrap"]


def test_doctor_notices_a_missing_layer(monkeypatch, capsys):
    real = doctor._tried
    monkeypatch.setattr(doctor, "_tried", lambda layers, *wrap: None if "Landlock" in layers else real(layers, *wrap))
    assert main(["doctor"]) == 2
    assert "✗ Landlock" in capsys.readouterr().out


def test_a_dask_cluster_grades_the_same_and_survives_a_killed_worker(graded, tmp_path):
    distributed = pytest.importorskip("distributed")
    place, expected = graded
    os.environ["PYTHONPATH"] = str(ROOT)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        killed = []

        def kill_once(record):
            if not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        from labcheck.grading import cluster as clusters

        results = batch.Results(tmp_path / "out")
        results.begin(place / "in", None)
        executor, threads = clusters.at(cluster.scheduler_address)
        with results.locked():
            batch.grade(submissions.find(place / "in", tmp_path), results, executor, threads, done=kill_once, local=False)
    assert killed and threads == 2 and earned(tmp_path / "out") == expected
    assert len(results.lines.read_text().splitlines()) == len(expected)


def test_no_cluster(graded, capfd):
    pytest.importorskip("distributed")
    place, _ = graded
    from labcheck.grading import cluster

    with pytest.raises(cluster.NoCluster, match="no Dask scheduler answers"):
        cluster.at("tcp://127.0.0.1:9", seconds=1)
