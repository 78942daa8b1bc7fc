"""Run student code once and say what happened, as plain data."""

import contextlib
import decimal
import inspect
import io
import numbers
import warnings

import numpy as np
import torch

# Nothing that is asked for is larger, longer or deeper; beyond that a value is recorded by its type alone.
MAX_ENTRIES = 100_000
MAX_ITEMS = 1_000
MAX_DEPTH = 4
MAX_PRINTED = 100_000


class OutOfTime(BaseException):
    """Raised inside student code that runs too long; no `except Exception` catches it."""


class TooMuchPrinted(BaseException):
    """Raised inside student code that prints without end."""


def attempt(function, *arguments):
    """Call ``function(*arguments)`` and record the outcome. Never raises for what student code does.

    Tensor arguments, also those in lists and dicts, are copied first, so that one call cannot spoil the next.

    Returns
    -------
    dict
        As `guard`; "outcome" may also be "signature" or "not a function", and "changed" says whether a tensor
        argument was changed in place.
    """
    if not callable(function) or inspect.isclass(function):
        kind = "class" if inspect.isclass(function) else type(function).__name__
        return {"outcome": "not a function", "type": kind}
    if not accepts(function, len(arguments)):
        return {"outcome": "signature", "message": str(inspect.signature(function))[:200]}
    copies = [_copy(a) for a in arguments]
    record = guard(function, lambda: function(*copies))
    if record["outcome"] == "returned":
        record["changed"] = not all(map(_same, arguments, copies))
    return record


def guard(author, run):
    """Call ``run()``, in which student code runs, and record the outcome.

    What is printed is dropped, warnings are not raised, and torch's gradient mode and default dtype are put back.

    Parameters
    ----------
    author : callable
        The student's function or class: lines of exceptions are counted in it, and a blank is known by it.

    Returns
    -------
    dict
        "outcome" is one of "returned", "raised", "exited", "printed", "not attempted". "type" is the type of what
        was returned, "value" the same as plain data: numbers and arrays as tensors, str, bool in tensors, lists
        (also for tuples), sets of str as sorted lists, dicts with str keys; None if it is nothing of that kind.
        "error", "message", "line" and "where" describe an exception, in the student's own words: "line" is
        counted from the def of the student's function "where".
    """
    dtype = torch.get_default_dtype()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(_Printed()))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(torch.enable_grad())
            value = run()
            type_name, value = type(value).__name__, plain(value)
    except (KeyboardInterrupt, OutOfTime):
        raise
    except NotImplementedError:
        return {"outcome": "not attempted"}
    except SystemExit:
        return {"outcome": "exited"}
    except TooMuchPrinted:
        return {"outcome": "printed"}
    except BaseException as error:
        line, where = _line(author, error)
        return {
            "outcome": "raised",
            "error": type(error).__name__,
            "message": _first_line(error),
            "line": line,
            "where": where,
        }
    finally:
        torch.set_default_dtype(dtype)
    if type_name == "NoneType" and is_blank(author):
        return {"outcome": "not attempted"}
    return {"outcome": "returned", "type": type_name, "value": value, "changed": False}


class _Printed(io.TextIOBase):
    """Drops what is written to it, up to a limit."""

    count = 0

    def writable(self):
        return True

    def write(self, text):
        self.count += len(text)
        if self.count > MAX_PRINTED:
            raise TooMuchPrinted
        return len(text)


def accepts(function, count):
    """Whether a function, or a class, can be called with so many positional arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none; the call itself will tell
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


COURSE = ("signalprop", "labcheck")


def borrowed(function):
    """The name of something of the course's packages that an answer uses, or None; they hold the answers to many questions.

    Looks at names alone, also in the notebook's other functions that the answer calls. It tells an honest student what is
    not allowed; when a class is graded, these packages are not there.
    """
    seen, todo = set(), [function]
    while todo:
        author = todo.pop()
        if inspect.isclass(author):
            todo += [f for f in vars(author).values() if inspect.isfunction(f)]
        if not inspect.isfunction(author) or author.__code__ in seen:
            continue
        seen.add(author.__code__)
        for name in _names(author.__code__):
            if name.split(".")[0] in COURSE:
                return name
            used = author.__globals__.get(name)
            if inspect.ismodule(used):
                if used.__name__.split(".")[0] in COURSE:
                    return used.__name__
            elif inspect.isfunction(used) or inspect.isclass(used):
                if str(used.__module__).split(".")[0] in COURSE:
                    return f"{used.__module__}.{name}"
                todo.append(used)
    return None


def _names(code):
    """The global names that a code object, and those inside it, use, and the modules that they import."""
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names(constant)


def _copy(argument):
    if isinstance(argument, torch.Tensor):
        return argument.clone()
    if isinstance(argument, list):
        return [_copy(a) for a in argument]
    if type(argument) is dict:
        return {key: _copy(a) for key, a in argument.items()}
    return argument


def _same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(_same, a, b))
    if type(a) is dict:
        return type(b) is dict and list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    return True


def plain(value, depth=MAX_DEPTH):
    """A value as data that shares nothing with student code; None for what is none.

    Numbers and arrays become tensors, tuples lists, and sets of str sorted lists.
    """
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, str):
        return str.__str__(value)[:1000]
    if isinstance(value, (numbers.Real, decimal.Decimal)) and not isinstance(value, np.generic):
        return torch.tensor(float(value), dtype=torch.float64)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    try:
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.array(value))
        if isinstance(value, torch.Tensor):
            value = value.detach().as_subclass(torch.Tensor).cpu()
            return value.clone(memory_format=torch.contiguous_format) if value.numel() <= MAX_ENTRIES else None
    except (TypeError, RuntimeError, NotImplementedError):  # NumPy arrays of objects, sparse tensors
        return None
    if isinstance(value, (set, frozenset)) and all(isinstance(item, str) for item in value):
        value = sorted(value)
    if depth and isinstance(value, (list, tuple)) and len(value) <= MAX_ITEMS:
        return [plain(item, depth - 1) for item in value]
    if depth and isinstance(value, dict) and len(value) <= MAX_ITEMS and all(isinstance(k, str) for k in value):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    return None


def _first_line(error):
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        return ""
    return lines[0][:200] if lines else ""


def _codes(author):
    """Code objects of a function, or of a class's methods."""
    if inspect.isclass(author):
        return {getattr(f, "__code__", None) for f in vars(author).values()} - {None}
    return {getattr(author, "__code__", None)} - {None}


def _line(author, error):
    codes, line, where, step = _codes(author), None, None, error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if code in codes:
            line, where = step.tb_lineno - code.co_firstlineno + 1, code.co_name
        step = step.tb_next
    return line, where


def is_blank(function):
    """Whether the body holds nothing but a docstring, `pass`, `...` or `return None`."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    constants = [c for c in code.co_consts if c is not None and c != function.__doc__]
    return not constants and not code.co_names and code.co_nlocals == code.co_argcount
