"""One call of a student's function, and what happened, as plain data."""

import inspect
import numbers

import numpy as np
import torch

# Nothing that is asked for is longer; a larger tensor is recorded by its shape alone.
MAX_ENTRIES = 100_000


class OutOfTime(BaseException):
    """Raised inside student code that runs too long; no `except Exception` catches it."""


def attempt(function, *arguments):
    """Call ``function(*arguments)`` and record the outcome. Never raises for what student code does.

    Tensor arguments are copied first, so that one call cannot spoil the next.

    Returns
    -------
    dict
        "outcome" is one of "returned", "raised", "exited", "not attempted", "signature", "not a function".
        "type" is the type of what was returned or passed, "value" the returned number or array as a tensor
        (None if it is neither), "changed" whether a tensor argument was changed in place. "error", "message"
        and "line" (within the function, from 1) describe an exception, in the student's own words.
    """
    if not callable(function) or inspect.isclass(function):
        kind = "class" if inspect.isclass(function) else type(function).__name__
        return {"outcome": "not a function", "type": kind}
    if not _accepts(function, len(arguments)):
        return {"outcome": "signature", "message": str(inspect.signature(function))[:200]}
    copies = [a.clone() if isinstance(a, torch.Tensor) else a for a in arguments]
    try:
        value = function(*copies)
        type_name, value = type(value).__name__, _plain(value)
    except (KeyboardInterrupt, OutOfTime):
        raise
    except NotImplementedError:
        return {"outcome": "not attempted"}
    except SystemExit:
        return {"outcome": "exited"}
    except BaseException as error:
        return {
            "outcome": "raised",
            "error": type(error).__name__,
            "message": _first_line(error),
            "line": _line(function, error),
        }
    if type_name == "NoneType" and _is_blank(function):
        return {"outcome": "not attempted"}
    tensors = [(a, c) for a, c in zip(arguments, copies) if isinstance(a, torch.Tensor)]
    changed = not all(a.dtype == c.dtype and torch.equal(a, c) for a, c in tensors)
    return {"outcome": "returned", "type": type_name, "value": value, "changed": changed}


def _accepts(function, count):
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none; the call itself will tell
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _plain(value):
    """A number or an array as a tensor that shares nothing with student code; None for anything else."""
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, numbers.Real) and not isinstance(value, np.generic):
        return torch.tensor(float(value), dtype=torch.float64)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    try:
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.array(value))
        if isinstance(value, torch.Tensor):
            value = value.detach().as_subclass(torch.Tensor).cpu()
            return value.clone().contiguous() if value.numel() <= MAX_ENTRIES else None
    except (TypeError, RuntimeError, NotImplementedError):  # NumPy arrays of objects, sparse tensors
        pass
    return None


def _first_line(error):
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        return ""
    return lines[0][:200] if lines else ""


def _line(function, error):
    code, line, step = getattr(function, "__code__", None), None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code is code:
            line = step.tb_lineno - code.co_firstlineno + 1
        step = step.tb_next
    return line


def _is_blank(function):
    """Whether the body holds nothing but a docstring, `pass`, `...` or `return None`."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    constants = [c for c in code.co_consts if c is not None and c != function.__doc__]
    return not constants and not code.co_names and code.co_nlocals == code.co_argcount
