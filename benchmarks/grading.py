"""How fast is `labcheck grade`, beside nbgrader and otter-grader on the same questions and the same notebooks?

    python benchmarks/grading.py [copies] [rounds] [class]

Installs nbgrader 0.9.6 and otter-grader 7.0.0, each into a virtual environment of its own below _build/graders (once; this
needs the network). Then, in each of `rounds` (3), each grader marks `copies` (8) notebooks with the right answers to lab 06,
one after the other, so that a busy machine is busy for all. Last, labcheck alone marks a class of `class` (500) whole
notebooks of lab 06 on one core and on two, and the process that hands out the work is timed without any work being done.
Prints notebooks a minute with the start included, and ratios.
"""

import concurrent.futures
import copy
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "_build/graders"
LAB, STUDENT = "lab06", "student"
os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def solution():
    (path,) = (ROOT / "solutions").glob(f"{LAB}_*.ipynb")
    return path


def parts():
    """The imports of the lab, and the pairs of a question and its answer."""
    from labcheck import questions

    cells = [c.source for c in nbformat.read(solution(), 4).cells if c.cell_type == "code"]
    imports = next(source for source in cells if source.startswith("import math"))
    answers = [(q, next(s for s in cells if s.startswith(f"def {q.function}("))) for q in questions.of(LAB)]
    return imports, answers


def run(*command, cwd):
    path = f"{Path(command[0]).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls a program of its environment
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, env=os.environ | {"PATH": path})
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def environment(name, package):
    """The folder of programs of a virtual environment with a grader and the course."""
    place = PLACE / name
    if not (place / "ready").exists():
        print(f"installing {package}", flush=True)
        run(sys.executable, "-m", "venv", place, cwd=ROOT)
        run(place / "bin/python", "-m", "pip", "install", "--quiet", package, "ipykernel", "torch==2.13.0", "-e", ROOT, cwd=ROOT)
        (place / "ready").touch()
    return place / "bin"


def fresh(name):
    folder = PLACE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def tests(question):
    return f"assert check({question.name!r}, {question.function}).passed"


def for_nbgrader(copies):
    """A course with the questions as hidden tests; returns the command that grades it, and where."""
    bin, folder = environment("nbgrader", "nbgrader==0.9.6"), fresh("nbgrader-course")
    imports, answers = parts()

    def cell(source, id, **more):
        kind = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3, "grade_id": id}
        return new_code_cell(source, metadata={"nbgrader": kind | more})

    cells = [new_code_cell(imports)]
    for i, (question, source) in enumerate(answers):
        head = source.splitlines()[0]
        cells.append(cell(f"{head}\n    ### BEGIN SOLUTION\n    pass\n    ### END SOLUTION", f"answer{i}", solution=True))
        cells.append(cell(f"### BEGIN HIDDEN TESTS\n{tests(question)}\n### END HIDDEN TESTS", f"test{i}", grade=True, locked=True, points=1))
    (folder / f"source/{LAB}").mkdir(parents=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / f"source/{LAB}/{LAB}.ipynb")
    (folder / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = 'course'\n")
    run(bin / "nbgrader", "generate_assignment", LAB, "--create", cwd=folder)
    released = nbformat.read(folder / f"release/{LAB}/{LAB}.ipynb", 4)
    for c in released.cells:
        id = c.metadata.get("nbgrader", {}).get("grade_id", "")
        if id.startswith("answer"):
            c.source = answers[int(id.removeprefix("answer"))][1]
    for i in range(copies):
        place = folder / f"submitted/{STUDENT}{i}/{LAB}"
        place.mkdir(parents=True)
        nbformat.write(released, place / f"{LAB}.ipynb")

    def grade():
        shutil.rmtree(folder / "autograded", ignore_errors=True)
        run(bin / "nbgrader", "autograde", LAB, "--create", "--force", cwd=folder)
        check = "import sqlite3; print(*[r[0] for r in sqlite3.connect('gradebook.db').execute('select auto_score from grade')])"
        scores = run(sys.executable, "-c", check, cwd=folder).split()
        assert len(scores) == copies * len(answers) and set(map(float, scores)) == {1.0}, scores

    return grade


def plain(folder, copies):
    """The same notebooks without hidden tests; each is made unlike the others by a comment."""
    imports, answers = parts()
    for i in range(copies):
        cells = [new_code_cell(f"# {STUDENT} {i}\n{imports}"), *(new_code_cell(source) for _, source in answers)]
        nbformat.write(new_notebook(cells=cells), folder / f"{STUDENT}{i}.ipynb")


def for_otter(copies):
    bin, folder = environment("otter", "otter-grader==7.0.0"), fresh("otter-course")
    (folder / "tests").mkdir()
    for i, (question, _) in enumerate(parts()[1]):
        case = {"code": f">>> from labcheck import check\n>>> {tests(question)}", "hidden": False, "locked": False}
        suite = {"cases": [case], "scored": True, "setup": "", "teardown": "", "type": "doctest"}
        test = {"name": f"q{i}", "points": 1, "suites": [suite]}
        (folder / f"tests/q{i}.py").write_text(f"OK_FORMAT = True\ntest = {test!r}\n")
    run(bin / "otter", "generate", "-t", "tests", "-o", "autograder.zip", "--no-environment", cwd=folder)
    plain(folder, copies)
    for i in range(copies):
        (folder / f"out{i}").mkdir()

    def grade():
        for i in range(copies):
            run(bin / "otter", "run", "-a", "autograder.zip", "-o", f"out{i}", f"{STUDENT}{i}.ipynb", cwd=folder)
            result = json.loads((folder / f"out{i}/results.json").read_text())
            assert sum(t.get("score", 0) for t in result["tests"]) == len(parts()[1]), result

    return grade


def for_labcheck(copies, whole=False, workers=1):
    folder = fresh("labcheck-class")
    if whole:
        content = json.loads(solution().read_text())
        for i in range(copies):
            content["cells"][0]["source"] = f"# {STUDENT} {i}"
            (folder / f"{STUDENT}{i}.ipynb").write_text(json.dumps(content))
    else:
        plain(folder, copies)

    def grade():
        shutil.rmtree(PLACE / "results", ignore_errors=True)
        command = [sys.executable, "-m", "labcheck", "grade", folder, "--lab", LAB, "--out", PLACE / "results", "--workers", workers]
        run("taskset", "--cpu-list", f"0-{workers - 1}", *command, cwd=folder)
        records = list(map(json.loads, (PLACE / "results/results.jsonl").read_text().splitlines()))
        assert len(records) == copies and all(r["points"] == r["max_points"] for r in records)
        return records

    return grade


def minutes(grade):
    start = time.monotonic()
    found = grade()
    return (time.monotonic() - start) / 60, found


def memory():
    """MB that a child takes for itself, beside what it shares with the process it is forked from."""
    from labcheck import wire
    from labcheck.grading import runner

    with runner.Zygote() as zygote:
        child = runner.Child(zygote)
        child.ask(wire.dumps({"cells": [{"number": 1, "source": "import torch; x = torch.ones(10)"}]}), cells=[1])
        with open(f"/proc/{child.pid}/smaps_rollup") as file:
            kilobytes = {line.split()[0]: int(line.split()[1]) for line in file if line.endswith("kB\n")}
        child.end()
    return (kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]) / 1024


class Canned:
    """An executor whose workers have the records already."""

    def __init__(self, records):
        self.records = {Path(r["submission"]).name: r for r in records}

    def submit(self, function, seed, safe, checks, source, lab, only):
        future = concurrent.futures.Future()
        future.set_result(copy.deepcopy(self.records[Path(source).name]))
        return future

    def shutdown(self, wait):
        pass


def handing_out(records):
    """Seconds that handing out one submission takes, writing its record and its pages included."""
    from labcheck.grading import batch, reports, submissions

    folder = fresh("handing-out")
    results, start = batch.Results(folder), time.process_time()
    found = submissions.find(PLACE / "labcheck-class", folder / "unpacked")
    results.begin(PLACE / "labcheck-class", LAB)
    with results.locked():
        batch.grade(found, results, lambda workers: Canned(records), 2)
        reports.write_all(results)
    return (time.process_time() - start) / len(records)


def main(copies=8, rounds=3, size=500):
    copies, rounds, size = int(copies), int(rounds), int(size)
    PLACE.mkdir(parents=True, exist_ok=True)
    graders = {"nbgrader 0.9.6": for_nbgrader(copies), "otter-grader 7.0.0": for_otter(copies), "labcheck": for_labcheck(copies)}
    rates = {name: [] for name in graders}
    for _ in range(rounds):
        for name, grade in graders.items():
            rates[name].append(copies / minutes(grade)[0])
    print(f"{copies} notebooks with four answers each, {rounds} rounds: notebooks a minute, start included")
    for name, found in rates.items():
        ratio = [mine / other for mine, other in zip(rates["labcheck"], found)]
        print(f"  {name:20} {statistics.median(found):7.1f} ({min(found):.1f} to {max(found):.1f}); labcheck is {statistics.median(ratio):.1f} times as fast")
    took, records = minutes(for_labcheck(size, whole=True))
    steady = statistics.median(r["seconds"] for r in records)
    print(f"a class of {size} whole notebooks on one core: {size / took:.0f} a minute, start included")
    for name in list(graders)[:2]:
        print(f"  {size / took / statistics.median(rates[name]):.0f} times as many as {name}")
    print(f"  in steady state {60 / steady:.0f} a minute; {sum(r['student_seconds'] for r in records) / sum(r['seconds'] for r in records):.0%} of the time in student code's process")
    print(f"  memory of a child beside what it shares: {memory():.0f} MB")
    if len(os.sched_getaffinity(0)) > 1:
        two, _ = minutes(for_labcheck(size, whole=True, workers=2))
        print(f"  on two cores {size / two:.0f} a minute, {took / two:.2f} times as many")
    print(f"  handing out, writing records and pages: {1000 * handing_out(records):.1f} ms for each")


if __name__ == "__main__":
    main(*sys.argv[1:])
