"""`check` and `progress`: what a student calls in a lab."""

import ctypes
import functools
import html
import secrets
import threading
from contextlib import contextmanager

import torch

from . import questions
from .probes.calling import OutOfTime, borrowed
from .question import BORROWED, SHOWN

SECONDS = 5

_latest = {}  # question name → Result of the latest check in this kernel


class Result:
    """What a check found; shown as text in a terminal and as HTML in Jupyter.

    Attributes
    ----------
    question : Question
    status : str
        "passed", "partial", "failed", "not attempted" or "error".
    passed : bool
    points, max_points : int
    hints : list of str
        One for each different mistake.
    seed : int
        ``check(name, function, seed=result.seed)`` repeats the check on the same inputs.
    """

    def __init__(self, question, verdict, seed):
        self.question = question
        self.status = verdict.status
        self.passed = verdict.status == "passed"
        self.points, self.max_points = verdict.points, verdict.max_points
        self.hints = verdict.hints
        self.seed = seed

    def __repr__(self):
        symbol, word = SHOWN[self.status]
        head = f"{symbol} {word}: {self.question.name}, {self.points} of {self.max_points} points"
        return "\n".join([head, *(f"  - {hint}" for hint in self.hints)])

    def _repr_html_(self):
        symbol, word = SHOWN[self.status]
        hints = "".join(f"<li>{html.escape(hint)}</li>" for hint in self.hints)
        return (
            '<div style="border-left: 0.3em solid currentColor; padding-left: 0.8em">'
            f'<p><span aria-hidden="true">{symbol}</span> <strong>{word}</strong>: '
            f"<code>{html.escape(self.question.name)}</code>, {self.points} of {self.max_points} points</p>"
            + (f"<ul>{hints}</ul>" if hints else "")
            + "</div>"
        )


def fresh_seed():
    """A seed that nobody has seen."""
    return secrets.randbelow(2**31)


@functools.cache
def _load_torch():
    """Have torch import what it imports on first use: seconds on a busy machine, and not the student's."""
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 1, 1)
    torch.optim.SGD(layer.parameters(), lr=0.1)


def check(name, function, seed=None):
    """Check an answer: run it on inputs drawn from a fresh seed and say what is right and what is not yet.

    Parameters
    ----------
    name : str
        The question, such as "lab03.dphi".
    function : callable
        The answer.
    seed : int, optional
        Repeat the check on the inputs of an earlier one (`Result.seed`).

    Returns
    -------
    Result
        Shows itself when it is the last line of a cell. An exception in student code is part of the result.

    Raises
    ------
    ValueError
        If there is no such question.
    """
    question = questions.get(name)
    seed = fresh_seed() if seed is None else seed
    inputs = question.draw(seed)
    _load_torch()
    try:
        foreign = borrowed(function)
        if foreign:
            verdict = question.trouble(BORROWED.format(foreign))
        else:
            with time_limit(SECONDS):  # the verdict may have to train a net: that is not the student's time
                evidence = question.evidence(function, inputs)
            verdict = question.verdict(inputs, evidence)
    except OutOfTime:
        verdict = question.trouble(f"your function ran for more than {SECONDS} s: look for an endless loop.")
    result = _latest[name] = Result(question, verdict, seed)
    return result


class Progress:
    """The questions of a lab and where each stands, as a table in text and in HTML."""

    columns = ("question", "status", "points", "minutes")

    def __init__(self, lab):
        self.lab = lab
        self.rows = []
        asked = questions.of(lab)
        for question in asked:
            result = _latest.get(question.name)
            symbol, word = SHOWN[result.status if result else "not attempted"]
            points = f"{result.points if result else 0} of {question.max_points}"
            self.rows.append((question.name, f"{symbol} {word}", points, str(question.minutes)))
        reached = sum(_latest[q.name].points for q in asked if q.name in _latest)
        total = sum(q.max_points for q in asked)
        self.total = ("total", "", f"{reached} of {total}", str(sum(q.minutes for q in asked)))

    def __repr__(self):
        table = [self.columns, *self.rows, self.total]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.columns))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in table)

    def _repr_html_(self):
        def row(cells):
            head, *rest = map(html.escape, cells)
            return f'<tr><th scope="row">{head}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"

        return (
            f"<table><caption>Progress in {html.escape(self.lab)}</caption><thead><tr>"
            + "".join(f'<th scope="col">{column}</th>' for column in self.columns)
            + "</tr></thead><tbody>"
            + "".join(row(cells) for cells in self.rows)
            + f"</tbody><tfoot>{row(self.total)}</tfoot></table>"
        )


def progress(lab):
    """The table of a lab's questions, with the latest result of each in this kernel.

    Raises
    ------
    ValueError
        If there is no such lab.
    """
    return Progress(lab)


@contextmanager
def time_limit(seconds):
    """Raise `OutOfTime` in this thread after `seconds`.

    Works on every platform and in any thread, but cannot interrupt a single call into C code.
    """
    thread, lock, finished = threading.get_ident(), threading.Lock(), threading.Event()

    def watch():
        finished.wait(seconds)
        with lock:
            if not finished.is_set():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(OutOfTime))

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        with lock:  # from here on nothing is raised any more, or it has been already
            finished.set()
