"""Which words of a student may be shown, and which functions are the same: from the source alone, without running it."""

import ast
import builtins
import functools
import hashlib
import re

import numpy as np
import torch

HIDDEN = "…"
NAME = re.compile(r"\w+")
NAME_ERROR = re.compile(r"name '(\w+)' is not defined")
LONGEST = 60
LEAST = 60  # nodes of a syntax tree: below that, equal answers mean nothing


@functools.cache
def _common():
    """Words of Python, NumPy and torch, and those of the probes' records."""
    words = {*dir(builtins), *dir(torch), *dir(np), *dir(torch.nn), "NoneType", "value of another type", "ndarray"}
    words |= {"returned", "raised", "exited", "printed", "signature", "not attempted", "not a function", "function", "class"}
    words |= {"outcome", "type", "value", "changed", "error", "message", "line", "where"}
    return frozenset(words)


class Words:
    """The words in the source of a notebook.

    What student code returns may have been forged from the inputs of a check, which are to stay unknown. So of its
    strings only those are shown that stand in the source, or in the language.

    Parameters
    ----------
    cells : sequence of (int, str)

    Attributes
    ----------
    defined : list of str
        The functions and classes that the notebook defines.
    """

    def __init__(self, cells):
        self.own, self.functions = set(), {}
        for _, source in cells:
            words, functions = _look(source)
            self.own |= words
            self.functions |= functions
        self.defined = list(self.functions)[:20]

    def _known(self, text, given):
        return text in self.own or text in _common() or text in given

    def cleaned(self, evidence, function, given):
        """Evidence without strings that stand nowhere in the source; the same object if there are none.

        Parameters
        ----------
        evidence : plain data
        function : str
            Name of the answer.
        given : set of str
            Strings that may be shown as well (see `strings`).
        """
        clean = self._clean(evidence, function, given)
        return evidence if _equal(clean, evidence) else clean

    def _clean(self, data, function, given):
        if isinstance(data, str):
            return data if self._known(data, given) else HIDDEN
        if isinstance(data, list):
            return [self._clean(item, function, given) for item in data]
        if not isinstance(data, dict):
            return data
        names = {key: key if self._known(key, given) else HIDDEN for key in data}
        clean = {names[key]: self._clean(item, function, given) for key, item in data.items() if key != "message"}
        if "message" in data:
            clean["message"] = self._message(data, function)
        return clean

    def _message(self, record, function):
        """What may be said of an exception's message: nothing, but for a name of the source; or the answer's parameters."""
        if record.get("outcome") == "signature" and function in self.functions:
            return self.functions[function][0]
        match = NAME_ERROR.fullmatch(str(record.get("message")))
        if match and record.get("error") == "NameError" and match[1] in self.own:
            return match[0]
        return ""

    def fingerprint(self, function):
        """A digest of a function's code, equal where only comments, docstrings and blanks differ; None if it is short."""
        return self.functions.get(function, (None, None))[1]


@functools.lru_cache(maxsize=4096)  # much of a notebook is the same for a whole class
def _look(source):
    """The words of a cell, and for each function or class that it defines its parameters and its fingerprint."""
    words, functions = {word for word in NAME.findall(source) if len(word) <= LONGEST}, {}
    try:
        body = ast.parse(source).body
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                words |= {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                parameters = "" if isinstance(node, ast.ClassDef) else f"({ast.unparse(node.args)})"[:LONGEST]
                functions[node.name] = parameters, _fingerprint(node)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    return words, functions


def _fingerprint(node):
    for inner in ast.walk(node):
        body = getattr(inner, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            del body[0]
    if sum(1 for _ in ast.walk(node)) < LEAST:
        return None
    return hashlib.sha256(ast.dump(node).encode()).hexdigest()[:16]


def strings(data):
    """All strings in plain data, keys included."""
    if isinstance(data, str):
        return {data}
    if isinstance(data, list):
        return set().union(*map(strings, data))
    if isinstance(data, dict):
        return set(data).union(*map(strings, data.values()))
    return set()


def _equal(a, b):
    """Whether cleaning changed nothing; tensors are passed on as they are."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a is b or a == b
