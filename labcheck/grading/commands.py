"""The commands for teachers: grade, export, regrade, replay, release, doctor."""

import sys
from pathlib import Path

DONE, TROUBLE, STOPPED = 0, 2, 130
COMMANDS = ("grade", "regrade", "replay", "export", "release", "doctor")


class Stop(Exception):
    """A command can't go on; the message says why, and what to do."""


def add(commands):
    """Describe the commands to argparse."""
    p = commands.add_parser("grade", help="grade a class: a folder or a zip file of notebooks")
    p.add_argument("submissions", help="notebooks, folders of them, a Moodle or Canvas zip, or an nbgrader course")
    p.add_argument("--out", required=True, help="folder for the results; give it again to go on where it was")
    p.add_argument("--lab", help="such as lab06; recognised from each notebook where it is left out")
    _workers(p)
    p = commands.add_parser("regrade", help="grade questions again, on the same inputs, after a check was mended")
    p.add_argument("results", help="folder of labcheck grade --out")
    p.add_argument("--question", action="append", help="such as lab06.he_normal; all where it is left out; may be repeated")
    _workers(p)
    p = commands.add_parser("replay", help="reproduce one verdict from its logged seed")
    p.add_argument("results")
    p.add_argument("student", help="name, number or file of the submission")
    p.add_argument("question")
    p.add_argument("--unsafe", action="store_true", help="run student code even where it can't be confined")
    p = commands.add_parser("export", help="fill the marks into the sheet of a learning platform, or pack the feedback for it")
    p.add_argument("results")
    form = p.add_mutually_exclusive_group(required=True)
    form.add_argument("--moodle", metavar="SHEET.csv", help="a grading worksheet")
    form.add_argument("--canvas", metavar="SHEET.csv", help="a gradebook")
    form.add_argument("--gradescope", metavar="FOLDER", help="write a results.json for each submission")
    form.add_argument("--feedback", metavar="FILE.zip", help="pack the pages of feedback as Moodle and Canvas take them back")
    p.add_argument("--lab", help="which lab, where the results hold several")
    p.add_argument("--assignment", help="Canvas: the heading of the column, or how it begins")
    p.add_argument("--out", help="the filled sheet; by default in the folder of the results, by the name of the sheet")
    p = commands.add_parser("release", help="write what students get for one lab")
    p.add_argument("lab")
    p.add_argument("--out", required=True, help="a new folder")
    p.add_argument("--packages", help="where students install the course's packages from, in words that pip understands; by default from a file in the handout")
    commands.add_parser("doctor", help="try which layers of the sandbox work on this machine")


def _workers(p):
    p.add_argument("--workers", type=int, help="processes; as many as there are cores by default")
    p.add_argument("--dask", metavar="ADDRESS", help="send the work to this Dask scheduler, such as tcp://host:8786")
    p.add_argument("--unsafe", action="store_true", help="run student code even where it can't be confined")


def run(given):
    """Run one of the commands; returns the exit code."""
    if given.command == "doctor":
        from . import doctor

        text, ready = doctor.report()
        print(text)
        return DONE if ready else TROUBLE
    if sys.platform != "linux":
        from .doctor import ELSEWHERE

        print(ELSEWHERE, file=sys.stderr)
        return TROUBLE
    try:
        import py_landlock  # noqa: F401 - what "grading" adds to the installation
        import pyseccomp  # noqa: F401
        import tqdm  # noqa: F401
    except (ImportError, RuntimeError) as error:
        print(f"labcheck: {error}; install what grading needs: python -m pip install 'vanishing-gradients[grading]'", file=sys.stderr)
        return TROUBLE
    from .. import questions
    from . import batch, cluster, exports, submissions

    try:
        return {"grade": _grade, "regrade": _regrade, "replay": _replay, "export": _export, "release": _release}[given.command](given)
    except (
        Stop, batch.Changed, cluster.NoCluster, exports.NoMatch, submissions.NoSubmissions, questions.Unknown, OSError,
    ) as error:  # fmt: skip
        print(f"labcheck: {error}", file=sys.stderr)
        return TROUBLE
    except KeyboardInterrupt:
        return STOPPED


def _grade(given):
    from .. import questions
    from . import batch, submissions

    if given.lab is not None and given.lab not in questions.LABS:
        questions.of(given.lab)  # raises, and names the labs
    results = batch.Results(given.out)
    _confined(given)
    results.folder.mkdir(parents=True, exist_ok=True)
    found = submissions.find(given.submissions, results.folder / "submissions")
    results.begin(given.submissions, given.lab)
    return _work(given, found, results, None)


def _regrade(given):
    from .. import questions
    from . import batch, submissions

    results = batch.Results(given.results)
    place = results.batch()["submissions"]
    names = given.question or [q.name for lab in questions.LABS for q in questions.of(lab)]
    for name in names:
        questions.get(name)
    _confined(given)
    found = submissions.find(place, results.folder / "submissions")
    records = results.records()
    gone = [name for name in records if name not in {s.name for s in found}]
    if gone:
        raise Stop(f"expected the submissions where they were, in {place}; missing: {', '.join(gone[:5])}")
    code = _work(given, found, results, names)
    if code == DONE and all(m["checks"] == batch.checks_hash() for r in results.records().values() for m in r["questions"]):
        results.regraded()
    return code


def _confined(given):
    from . import sandbox

    reasons = sandbox.missing()
    if reasons and not given.unsafe:
        raise Stop(
            f"student code can't be confined on this machine ({'; '.join(reasons)}). labcheck doctor says more. "
            "With --unsafe it is run all the same: it can then read and change what you can."
        )


def _work(given, found, results, only):
    import tqdm

    from . import batch, cluster, reports

    executor, workers = (batch.here, given.workers) if not given.dask else cluster.at(given.dask)
    with results.locked():
        todo = batch.unfinished(found, results.records(), only)
        if len(todo) < len(found) and only is None:
            print(f"{len(found) - len(todo)} of {len(found)} submissions are graded already", file=sys.stderr)
        stopped = False
        with tqdm.tqdm(total=len(todo), unit=" submissions", dynamic_ncols=True, disable=not todo) as bar:
            try:
                batch.grade(
                    found, results, executor, workers, not given.unsafe, only, lambda record: bar.update(), local=not given.dask
                )
            except KeyboardInterrupt:
                stopped = True
        records = reports.write_all(results)
    if stopped:
        print(f"\nstopped; {len(records)} submissions are graded. Run the same command again to go on.", file=sys.stderr)
        return STOPPED
    troubled = sum(bool(reports.attention(r)) for r in records)
    print(f"{len(records)} submissions graded, {troubled} to look at: {results.folder / 'summary.html'}")
    return DONE


def _replay(given):
    from . import batch, submissions
    from .marking import Marker
    from ..question import SHOWN

    results = batch.Results(given.results)
    about = results.batch()
    records = [r for r in results.records().values() if given.student in (r["student"], r["number"], r["submission"])]
    if len(records) != 1:
        names = ", ".join(r["submission"] for r in records or list(results.records().values())[:10])
        raise Stop(f"expected one submission of {given.student!r}, found {len(records)}; there are: {names}")
    (record,) = records
    logged = next((m for m in record["questions"] if m["question"] == given.question), None)
    if logged is None:
        raise Stop(f"{record['submission']} has no marks for {given.question!r}; it has {', '.join(m['question'] for m in record['questions'])}")
    _confined(given)
    found = {s.name: s for s in submissions.find(about["submissions"], results.folder / "submissions")}
    if record["submission"] not in found:
        raise Stop(f"{record['submission']} is not in {about['submissions']} any more")
    marker = Marker(about["seed"], not given.unsafe)
    try:
        content = found[record["submission"]].path.read_bytes()
        again = marker.mark(content, record["lab"], [given.question], {given.question: logged["seed"]})
    finally:
        marker.close()
    (marks,) = again["questions"]
    symbol, word = SHOWN[marks["status"]]
    print(f"{symbol} {word}: {given.question}, {marks['points']} of {marks['max_points']} points, seed {marks['seed']}")
    for hint in marks["hints"]:
        print(f"  - {hint}")
    if again["sha256"] != record["sha256"]:
        print("The file has changed since it was graded.")
    same = all(marks[key] == logged[key] for key in ("points", "aspects", "hints", "status"))
    print("This is the logged verdict." if same else f"The logged verdict was another one: {logged['points']} points.")
    return DONE if same else 1


def _export(given):
    from . import batch, exports

    results = batch.Results(given.results)
    results.batch()
    records = list(results.records().values())
    if given.gradescope:
        paths = exports.write_gradescope(exports.best(records, given.lab), given.gradescope)
        print(f"wrote {len(paths)} files results.json in {given.gradescope}")
        return DONE
    if given.feedback:
        chosen = [r for r in records if given.lab in (None, r["lab"])]
        exports.write_feedback(chosen, given.feedback)
        print(f"wrote {len(chosen)} pages of feedback into {given.feedback}")
        return DONE
    sheet = Path(given.moodle or given.canvas)
    try:
        with sheet.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise Stop(f"expected {sheet} in UTF-8, as the platform exports it") from None
    if given.moodle:
        text, left = exports.moodle(records, text, given.lab)
    else:
        text, left = exports.canvas(records, text, given.lab, given.assignment)
    target = Path(given.out) if given.out else results.folder / sheet.name
    if target.resolve() == sheet.resolve():
        raise Stop("expected another name for the filled sheet than that of the empty one: name it with --out")
    with target.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
    print(f"wrote {target}")
    if ungraded := [r["submission"] for r in records if not r["questions"]]:
        print(f"{len(ungraded)} could not be graded, and their students keep their cells (see summary.html): {'; '.join(ungraded[:20])}")
    if left:
        print(f"{len(left)} in the sheet have no marks here, and keep their cells: {'; '.join(left[:20])}")
    return DONE


def _release(given):
    from . import release

    try:
        paths = release.release(given.lab, given.out, given.packages)
    except release.NoRelease as error:
        raise Stop(error) from None
    for path in paths:
        print(f"wrote {path}")
    return DONE
