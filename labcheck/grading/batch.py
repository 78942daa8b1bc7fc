"""Grade a folder of submissions: in parallel, so that it can be stopped at any moment and goes on where it was."""

import errno
import fcntl
import functools
import hashlib
import json
import multiprocessing
import os
import secrets
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from .sandbox import ROOT
from .zygote import end_with

TRIES = 3  # for a submission whose worker died
HOPELESS = 5  # after so many of them, and no success, it is not the submissions


class Changed(Exception):
    """The results in a folder do not belong to this batch; the message says what to do."""


@functools.cache
def checks_hash():
    """Hash of the code that gives the marks: the checks, and what they import, but not this package."""
    digest, grader = hashlib.sha256(), Path(__file__).parent
    for package in ("labcheck", "signalprop"):
        for path in sorted(p for p in (ROOT / package).rglob("*.py") if grader not in p.parents):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


class Results:
    """A folder of results. ``results.jsonl`` is only ever appended to; the last line of a submission counts.

    Parameters
    ----------
    folder : path
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.lines = self.folder / "results.jsonl"
        self.about = self.folder / "batch.json"

    def begin(self, place, lab):
        """Start a batch, or go on with the one that is there.

        Raises
        ------
        Changed
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        now = {"submissions": str(Path(place).resolve()), "lab": lab, "checks": checks_hash()}
        if not self.about.exists():
            self._set(now | {"seed": secrets.randbits(63)})
        batch = self.batch()
        for key, what in (("submissions", "submissions"), ("lab", "lab"), ("checks", "version of the checks")):
            if batch[key] != now[key]:
                cure = "run labcheck regrade, or choose another folder" if key == "checks" else "choose another folder"
                raise Changed(f"{self.folder} holds results for another {what} ({batch[key]}, now {now[key]}): {cure}")

    def batch(self):
        """What the batch is: where its submissions are, the lab if one was given, the hash of the checks, the seed.

        Raises
        ------
        Changed
            If there is no batch here.
        """
        try:
            return json.loads(self.about.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Changed(f"expected the results of labcheck grade, there are none in {self.folder}") from None

    def regraded(self):
        """Say that all marks come from the present checks."""
        self._set(self.batch() | {"checks": checks_hash()})

    def _set(self, batch):
        write(self.about, json.dumps(batch, indent=1))

    @contextmanager
    def locked(self):
        """Keep a second grader out.

        Raises
        ------
        Changed
        """
        with self.lines.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Changed(f"another labcheck is writing to {self.folder}; wait for it, or stop it") from None
            self._mend()
            yield

    def _mend(self):
        """Drop a last line that was cut off when the process was killed."""
        content = self.lines.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(self.lines, content.rfind(b"\n") + 1)

    def records(self):
        """The latest record of each submission, by its name."""
        found = {}
        if self.lines.exists():
            with self.lines.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        record = json.loads(line)
                        found[record["submission"]] = record
        return found

    def add(self, record):
        """Append a record, whole or not at all.

        Raises
        ------
        OSError
            If the disk is full, say.
        """
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        with self.lines.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, "the disk is full")
            except OSError:
                os.ftruncate(file.fileno(), end)
                raise


def write(path, text):
    """Write a file so that it is either the old one or the new one, never half of it."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    draft.replace(path)


_mine = threading.local()  # a thread of a cluster's worker has a marker, and a zygote, of its own


def _begin(parent):
    """In a worker of this machine: end with the parent, and leave Ctrl-C to it."""
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def mark(seed, safe, checks, source, lab, only):
    """The record of one submission, as a worker makes it.

    Parameters
    ----------
    seed : int
        Of the batch.
    safe : bool
    checks : str
        The hash of the checks that the marks are to come from.
    source : str or bytes
        Path of the notebook, or what is in it.
    lab, only
        As for `Marker.mark`.

    Raises
    ------
    Changed
        If this worker has other checks.
    """
    import torch  # here: the process that hands out the work does without

    from .marking import Marker, unmarked

    if checks != checks_hash():
        raise Changed(f"a worker has another version of the checks ({checks_hash()}, expected {checks}): install the same on all")
    if getattr(_mine, "seed", None) != (seed, safe):
        torch.set_num_threads(1)
        _mine.marker, _mine.seed = Marker(seed, safe), (seed, safe)
    if isinstance(source, str):
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            return unmarked(lab, f"the file can't be read: {error.strerror}")
    return _mine.marker.mark(source, lab, only)


def here(workers):
    """Processes of this machine, as many as given; those of a pool that broke are gone."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (os.getpid(),))


def unfinished(submissions, records, only):
    """The submissions that have no record, or one of another file or, for the questions `only`, of other checks."""
    checks = checks_hash()

    def done(submission):
        record = records.get(submission.name)
        if record is None:
            return only is not None  # to be graded, not regraded
        if only is not None:
            return all(m["checks"] == checks for m in record["questions"] if m["question"] in only)
        return record["size"] == size(submission.path) and record["sha256"] == sha256(submission.path)

    return [s for s in submissions if not done(s)]


def size(path):
    """Bytes of a file; None if it can't be read."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def sha256(path):
    """Of a file's bytes; None if it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def grade(submissions, results, executor=here, workers=None, safe=True, only=None, done=lambda record: None, local=True):
    """Grade the submissions that are not graded yet.

    Parameters
    ----------
    submissions : list of `labcheck.grading.submissions.Submission`
    results : Results
        After `Results.begin`, and locked.
    executor : callable
        From a number of workers to a `concurrent.futures.Executor`.
    workers : int, optional
        As many as there are cores by default.
    safe : bool
        Whether to refuse to run student code without a sandbox.
    only : list of str, optional
        Ask these questions alone, of what has a record, and put the marks in the place of the earlier ones.
    done : callable
        Called with each new record.
    local : bool
        Whether workers can read the files themselves.

    Raises
    ------
    OSError
        If a result can't be written, or no worker can run student code. What is written counts; call again to go on.
    Changed
    """
    batch, earlier, checks = results.batch(), results.records(), checks_hash()
    todo = unfinished(submissions, earlier, only)
    tries, deadly, graded = dict.fromkeys((s.name for s in todo), 0), [], 0
    workers = min(workers or len(os.sched_getaffinity(0)), max(1, len(todo)))

    def finish(submission, marks):
        for m in marks["questions"]:
            m["checks"] = checks
        if only is not None:
            marks = merged(earlier[submission.name], marks)
        about = {"submission": submission.name, "student": submission.student, "number": submission.number}
        record = about | {"size": size(submission.path)} | marks
        record["sha256"] = record["sha256"] or sha256(submission.path)
        results.add(record)
        done(record)

    while todo:
        # what was under way when a worker died is tried again alone, so that only its cause is blamed
        suspects = [s for s in todo if tries[s.name]]
        most = 1 if suspects else 2 * workers
        pool, waiting, queue = executor(1 if suspects else workers), {}, iter(suspects or list(todo))
        try:
            broken = False
            while not broken:
                while len(waiting) < most and (submission := next(queue, None)):
                    lab = batch["lab"] or (earlier[submission.name]["lab"] if only else None)
                    source = str(submission.path) if local else submission.path.read_bytes()
                    waiting[pool.submit(mark, batch["seed"], safe, checks, source, lab, only)] = submission
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    submission = waiting.pop(future)
                    try:
                        marks = future.result()
                    except Exception as error:
                        if not died(error):
                            raise
                        broken = True
                        tries[submission.name] += 1
                        continue
                    finish(submission, marks)
                    graded += 1
                    todo.remove(submission)
        except BaseException:
            for process in multiprocessing.active_children():  # they may be busy with an endless loop
                process.kill()
            raise
        finally:
            pool.shutdown(wait=local)  # on a cluster that would wait for what is under way
        deadly += [s for s in todo if tries[s.name] >= TRIES]
        todo = [s for s in todo if tries[s.name] < TRIES]
        if not graded and (len(deadly) > HOPELESS or not earlier and len(deadly) == len(tries) > 1):
            names = ", ".join(s.name for s in deadly[:HOPELESS])
            raise OSError(f"the grader's own process died on each notebook that it tried ({names}), and none is graded: is there memory enough?")
    for submission in deadly:
        from .marking import unmarked

        finish(submission, unmarked(batch["lab"], f"the grader's own process died {TRIES} times on this notebook"))


def died(error):
    """Whether this is the end of a worker, here or on a cluster, and not what it said."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"


def merged(record, marks):
    """A record with the marks of some questions replaced."""
    new = {m["question"]: m for m in marks["questions"]}
    found = [new.get(m["question"], m) for m in record["questions"]]
    return record | {
        "questions": found,
        "points": sum(m["points"] for m in found),
        "max_points": sum(m["max_points"] for m in found),
    }
