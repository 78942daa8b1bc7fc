"""Read a probe's records, and say in one sentence why one cannot be compared with the reference."""

import torch


class Trouble(Exception):
    """A record without a usable value; the message is the sentence for the student."""

    blank = False


class Blank(Trouble):
    """The function has not been written yet."""

    blank = True


def value(record, signature):
    """The tensor that the function returned.

    Raises
    ------
    Blank
        If the function is still the stub.
    Trouble
        If it raised, returned nothing, changed its input, or is not such a function.
    """
    name = signature.split("(")[0]
    outcome = record["outcome"]
    kind = str(record.get("type"))[:60]
    if outcome == "not attempted":
        raise Blank("not attempted yet.")
    if outcome == "not a function":
        what = "a class" if kind == "class" else f"a value of type {kind}"
        raise Trouble(f"expected a function {signature}, got {what}; pass the function itself, without calling it.")
    if outcome == "signature":
        raise Trouble(f"expected a function {signature}, but yours takes {record['message']}.")
    if outcome == "exited":
        raise Trouble("your function ended the program (exit or SystemExit); return a value instead.")
    if outcome == "raised":
        line = f" in line {record['line']} of {name}" if record["line"] else ""
        message = f": {record['message']}".rstrip(" .:")
        raise Trouble(f"your function raised {record['error']}{line}{message}.")
    if kind == "NoneType":
        raise Trouble("your function returned None: is a return statement missing on this path?")
    if record["changed"]:
        raise Trouble("your function changed its input in place; work on a new tensor (z.clone(), torch.where).")
    if not isinstance(record["value"], torch.Tensor):
        raise Trouble(f"expected a number or a tensor, got a value of type {kind}.")
    return record["value"]


def tensor(record, signature, shape):
    """The returned tensor as float64, of the given shape.

    float32 is accepted: its rounding is far below every tolerance.
    """
    got = value(record, signature)
    if got.shape != shape:
        if got.numel() == 1:
            raise Trouble(
                f"returned one number for an input of shape {tuple(shape)}; expected one value for each entry, "
                "without a mean or a sum."
            )
        raise Trouble(f"expected the shape of the input, {tuple(shape)}, got {tuple(got.shape)}.")
    if got.dtype not in (torch.float32, torch.float64):
        dtype = str(got.dtype).removeprefix("torch.")
        raise Trouble(f"expected floating-point values (float64), got {dtype}; convert with .to(z.dtype).")
    return _finite(got)


def number(record, signature):
    """The returned number as a float: a float, an int, a NumPy scalar, or a tensor with one entry."""
    got = value(record, signature)
    if got.numel() != 1:
        raise Trouble(f"expected one number, got a tensor of shape {tuple(got.shape)}.")
    if got.dtype == torch.bool or got.is_complex():
        raise Trouble(f"expected a real number, got {str(got.dtype).removeprefix('torch.')}.")
    return _finite(got).item()


def _finite(got):
    got = got.to(torch.float64)
    if got.isnan().any():
        raise Trouble("returned NaN (not a number): look for 0/0, ∞ − ∞, or the root of a negative number.")
    if got.isinf().any():
        raise Trouble("returned an infinite value: look for a division by zero or an overflow.")
    return got
