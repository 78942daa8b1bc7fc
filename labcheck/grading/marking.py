"""Give the marks for one submission: from the bytes of a notebook to a record of plain data."""

import functools
import hashlib
import time

import torch

from .. import questions, wire
from ..evidence import Trouble, value
from ..notebook import time_limit
from ..probes.calling import OutOfTime
from ..question import BORROWED
from . import notebooks, runner
from .words import Words, strings

VERDICT_SECONDS = 60  # far above what any takes, training included; forged evidence may be large
KEPT = 20_000  # verdicts, in memory


def seed_of(batch, question):
    """The seed of a question in a batch: the same for the whole class, and known to nobody before."""
    return int.from_bytes(hashlib.sha256(f"{batch}:{question}".encode()).digest()[:4]) >> 1


@functools.lru_cache(maxsize=256)
def drawn(question, seed):
    """The inputs of a question, as bytes: each use gets tensors of its own."""
    return wire.dumps(questions.get(question).draw(seed))


@functools.lru_cache(maxsize=256)
def request(question, seed):
    """The message by which a child is asked."""
    return runner.request(question, questions.get(question).function, wire.loads(drawn(question, seed)))


@functools.lru_cache(maxsize=256)
def public(question, seed):
    """The strings in the inputs of a question and in its reference's evidence: names of parameters, of activations."""
    asked = questions.get(question)
    return strings(wire.loads(drawn(question, seed))) | strings(asked.evidence(asked.reference, wire.loads(drawn(question, seed))))


_known = {}


def verdict(question, seed, evidence):
    """The verdict on evidence; equal evidence is judged once.

    Parameters
    ----------
    question : Question
    seed : int
    evidence : labcheck.grading.runner.Evidence
    """
    key = (question.name, seed, evidence.digest)
    if key not in _known:
        if len(_known) >= KEPT:
            _known.clear()
        with time_limit(VERDICT_SECONDS):
            _known[key] = question.verdict(wire.loads(drawn(question.name, seed)), evidence.data)
    return _known[key]


class Marker:
    """Marks submissions, one after the other, with a zygote of its own.

    Parameters
    ----------
    batch : int
        The seed of the batch.
    safe : bool
        Whether to refuse to run without a sandbox.
    """

    def __init__(self, batch, safe=True):
        self.batch, self.safe, self.zygote = batch, safe, None

    def close(self):
        if self.zygote:
            self.zygote.close()
            self.zygote = None

    def mark(self, content, lab=None, only=None, seeds=None):
        """The record of one notebook: marks, hints, what failed, and what a teacher should look at.

        Parameters
        ----------
        content : bytes
            Of the notebook's file.
        lab : str, optional
            Recognised from the notebook where it is left out.
        only : list of str, optional
            The questions to ask; all by default.
        seeds : dict, optional
            From a question to its seed; those of the batch by default.
        """
        start = time.monotonic()
        sha256 = hashlib.sha256(content).hexdigest()
        try:
            notebook = notebooks.parse(content)
        except notebooks.Unreadable as error:
            return unmarked(lab, str(error), sha256)
        if lab is None and notebook.lab is None:
            return unmarked(None, "no lab is recognised: the notebook calls no check", sha256)
        remarks = list(notebook.remarks)
        if lab and notebook.lab and lab != notebook.lab:
            remarks.append(f"this looks like {notebook.lab}, graded as {lab}")
        lab = lab or notebook.lab
        asked = [q for q in questions.of(lab) if not only or q.name in only]
        seeds = seeds or {q.name: seed_of(self.batch, q.name) for q in asked}
        requests = [(q.name, request(q.name, seeds[q.name])) for q in asked]
        evidence, failed, cpu = self._run(notebook.cells, requests)
        words = Words(notebook.cells)
        marks = [self._mark(q, seeds[q.name], evidence[q.name], words) for q in asked]
        return {
            "sha256": sha256,
            "lab": lab,
            "points": sum(m["points"] for m in marks),
            "max_points": sum(m["max_points"] for m in marks),
            "questions": marks,
            "cells": {str(n): {"said": _said(why), "incident": isinstance(why, runner.Incident)} for n, why in failed.items()},
            "answers": {q.name: words.fingerprint(q.function) for q in questions.of(lab)},
            "remarks": remarks,
            "student_seconds": round(cpu, 3),
            "seconds": round(time.monotonic() - start, 3),
        }

    def _run(self, cells, requests):
        for last in (False, True):
            self.zygote = self.zygote or runner.Zygote(self.safe)
            try:
                return runner.run(self.zygote, cells, requests)
            except (OSError, ValueError):  # the zygote itself is gone: killed for memory, say
                self.close()
                if last:
                    raise

    def _mark(self, question, seed, evidence, words):
        problem = None
        if evidence is None:
            problem = f"the notebook defines no {question.function}"
            names = ", ".join(words.defined)
            found = question.trouble(
                f"expected the notebook to define {question.function}" + (f"; it defines {names}." if names else ".")
            )
        elif isinstance(evidence, runner.Borrowed):
            found = question.trouble(BORROWED.format("signalprop or labcheck"))
        elif isinstance(evidence, runner.Incident):
            problem = str(evidence)
            found = question.trouble(f"your code {evidence}")
        else:
            try:
                found = verdict(question, seed, evidence)
                if found.points < found.max_points:
                    found = self._reworded(question, seed, found, evidence, words)
            except (Exception, OutOfTime) as error:  # only forged evidence gets here; the batch goes on
                problem = f"the check failed on what came back ({type(error).__name__})"
                found = question.trouble("the check could not read what came back from your function.")
        return {
            "question": question.name,
            "signature": question.signature,
            "points": found.points,
            "max_points": found.max_points,
            "status": found.status,
            "aspects": {a.name: [a.points, a.max_points, a.hint] for a in found.aspects},
            "hints": list(found.hints),
            "seed": seed,
            "problem": problem,
        }

    @staticmethod
    def _reworded(question, seed, found, evidence, words):
        """The verdict with hints that quote nothing but words of the student's own source."""
        clean = words.cleaned(evidence.data, question.function, public(question.name, seed))
        if clean is evidence.data:
            return found
        other = verdict(question, seed, runner.Evidence(wire.dumps({"evidence": clean})))
        said = {a.name: a.hint for a in other.aspects}
        return found.with_hints(lambda a: said.get(a.name) or "This is not right yet; try the check in the notebook.")


def unmarked(lab, reason, sha256=None):
    """The record of a submission that could not be graded: no silent zero, but one with a reason."""
    asked = questions.of(lab) if lab else ()
    return {
        "sha256": sha256, "lab": lab, "points": 0, "max_points": sum(q.max_points for q in asked), "questions": [],
        "cells": {}, "answers": {}, "remarks": [reason], "student_seconds": 0.0, "seconds": 0.0,
    }  # fmt: skip


def _said(why):
    """Why a cell did not run, in a sentence. No input of a check had reached the process by then, so that the message
    of an exception tells nothing."""
    if isinstance(why, runner.Incident):
        return f"the cell {why}"
    try:
        value(why, "cell()")
    except Trouble as trouble:
        return str(trouble).replace("your function", "the cell").replace(" of cell", "").replace(" of <module>", "")[:300]
    except (KeyError, TypeError, AttributeError):
        pass
    return "the cell did not run."
