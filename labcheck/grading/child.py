"""What runs where student code runs: the cells of a notebook, then the probes of its questions.

Holds no answers, and imports none. Whatever it says may have been forged by student code; the parent takes its words as
claims about values, which it then compares with a reference of its own.
"""

import builtins
import functools
import importlib.machinery
import os
import sys
import types

from .. import probes, wire
from ..probes.calling import borrowed, guard
from .pipes import NUMBER, receive, send


class NoCheck:
    """What `check` returns while a class is graded: not passed, so that figures which need the check stay out."""

    passed, status, points, max_points, seed = False, "not attempted", 0, 0, 0

    def __init__(self, *ignored, **ignored_too):
        self.hints = []

    def __repr__(self):
        return "not checked here"


class Shell:
    """As much of IPython's shell as notebooks call: magics and shell lines do nothing, a magic's cell is run."""

    def __init__(self, place):
        self.user_ns = place

    def run_line_magic(self, name, line, *ignored):
        if name in ("time", "timeit", "prun"):
            exec(compile(line, "<magic>", "exec"), self.user_ns)

    def run_cell_magic(self, name, line, cell):
        if name in ("time", "timeit", "prun", "capture"):
            exec(compile(cell, "<magic>", "exec"), self.user_ns)

    def system(self, *ignored):
        return None

    getoutput = run_code = magic = system

    def __getattr__(self, name):
        return lambda *ignored, **ignored_too: None


class Absent(types.ModuleType):
    """A module that gives something harmless for each name: the figures of a lab import it, an answer may not use it."""

    __path__ = ()
    answering = False

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")

    def __call__(self, *ignored, **ignored_too):
        if Absent.answering:
            raise ImportError(f"{self.__name__} is not there for answers")
        return self

    def __iter__(self):
        return iter(())


class Finder:
    """Makes an `Absent` of each module of the course."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] == "signalprop":
            return importlib.machinery.ModuleSpec(name, Finder)
        return None

    @staticmethod
    def create_module(spec):
        return Absent(spec.name)

    @staticmethod
    def exec_module(module):
        pass


def _no_input(prompt=""):
    raise EOFError("nobody is there to answer input() while a class is graded")


def _place():
    """A fresh __main__, as a notebook's kernel has one."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    shell = Shell(vars(main))
    vars(main).update(get_ipython=lambda: shell, display=lambda *ignored, **ignored_too: None)
    builtins.input = _no_input
    sys.meta_path.insert(0, Finder)
    checks = sys.modules["labcheck"] = types.ModuleType("labcheck")
    checks.check = checks.progress = NoCheck
    return vars(main)


def run_cells(cells, connection):
    """Run the cells in order, and those that failed once more: they may have needed a later one.

    Returns
    -------
    place : dict
        The names that they defined.
    failed : dict
        The record of each cell that did not run, as of `labcheck.probes.calling.guard`, by its number as a str.
    """
    place, failed = _place(), {}

    def run(source, cell):
        try:
            cell.__code__ = compile(source, f"<cell {cell.number}>", "exec")
        except SyntaxError:  # magics and shell lines
            cell.__code__ = compile(transform(source), f"<cell {cell.number}>", "exec")
        exec(cell.__code__, place)
        return 0.0

    for again in (False, True):
        for number, source in cells:
            if again and str(number) not in failed:
                continue
            connection.begin(number)
            cell = types.SimpleNamespace(__code__=None, number=number)
            record = guard(cell, lambda: run(source, cell))
            if record["outcome"] != "returned":
                failed[str(number)] = record
            elif again:
                del failed[str(number)]
    return place, failed


@functools.cache
def transform(source):
    """Python for a cell with magics or shell lines."""
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


class Connection:
    """Three pipes: from the parent, to the parent, and one that tells which cell is running, which it reads when it likes."""

    def __init__(self, reads, writes, progress):
        self.reads, self.writes, self.progress = reads, writes, progress

    def begin(self, number):
        os.write(self.progress, NUMBER.pack(number))

    def send(self, data):
        send(self.writes, wire.dumps(data))

    def receive(self):
        return wire.loads(receive(self.reads))


def serve(*pipes):
    """Run the cells that the parent sends, then answer its questions until it hangs up."""
    connection = Connection(*pipes)
    place, failed = run_cells([(c["number"], c["source"]) for c in connection.receive()["cells"]], connection)
    connection.send({"failed": failed})
    Absent.answering = True
    while True:
        asked = connection.receive()
        connection.send({"question": asked["question"]} | _answer(place, asked))


def _answer(place, asked):
    if asked["function"] not in place:
        return {"missing": True}
    function = place[asked["function"]]
    if foreign := borrowed(function):
        return {"borrowed": foreign}
    return {"evidence": probes.find(asked["question"])(function, asked["inputs"])}
