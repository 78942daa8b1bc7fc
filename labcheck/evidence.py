"""Read a probe's records, and say in one sentence why one cannot be compared with the reference."""

import torch


class Trouble(Exception):
    """A record without a usable value; the message is the sentence for the student."""

    blank = False


class Blank(Trouble):
    """The function has not been written yet."""

    blank = True


def value(record, signature):
    """What the function returned, as plain data (see `labcheck.probes.calling.guard`).

    Raises
    ------
    Blank
        If the function is still the stub.
    Trouble
        If it raised, returned nothing or something that is no plain data, changed its input, or is not such a
        function.
    """
    name = signature.split("(")[0].removeprefix("class ")
    thing = "class" if signature.startswith("class ") else "function"
    outcome = record["outcome"]
    kind = str(record.get("type"))[:60]
    if outcome == "not attempted":
        raise Blank("not attempted yet.")
    if outcome == "not a function":
        what = kind if kind in ("class", "function") else f"value of type {kind}"
        raise Trouble(f"expected a {thing} {signature.removeprefix('class ')}, got a {what}; pass the {thing} itself, without calling it.")
    if outcome == "signature":
        raise Trouble(f"expected a {thing} {signature.removeprefix('class ')}, but yours takes {record['message']}.")
    if outcome == "exited":
        raise Trouble(f"your {thing} ended the program (exit or SystemExit); return a value instead.")
    if outcome == "printed":
        raise Trouble(f"your {thing} printed more than 100,000 characters: remove the print.")
    if outcome == "raised":
        where = name if record.get("where") in (None, name) else f"{name}.{record['where']}" if thing == "class" else record["where"]
        line = f" in line {record['line']} of {where}" if record["line"] else ""
        message = f": {record['message']}".rstrip(" .:")
        raise Trouble(f"your {thing} raised {record['error']}{line}{message}.")
    if kind == "NoneType":
        raise Trouble(f"your {thing} returned None: is a return statement missing on this path?")
    if record["changed"]:
        raise Trouble(f"your {thing} changed its input in place; work on a new tensor (z.clone(), torch.where).")
    if record["value"] is None:
        raise Trouble(f"expected plain data (numbers, tensors), got a value of type {kind}.")
    return record["value"]


def tensor(record, signature, shape=None):
    """The returned tensor as float64, of the given shape.

    float32 is accepted: its rounding is far below every tolerance.
    """
    return as_tensor(_of(record, signature, "a number or a tensor", torch.Tensor), shape)


def number(record, signature):
    """The returned number as a float: a float, an int, a NumPy scalar, or a tensor with one entry."""
    return as_number(_of(record, signature, "a number or a tensor", torch.Tensor))


def parts(record, signature, names):
    """The values of a returned tuple or list, by `names`; they are plain data."""
    got = value(record, signature)
    expected = f"expected {len(names)} values, {', '.join(names)}"
    if not isinstance(got, list):
        raise Trouble(f"{expected}; got {_typed(record, got)}.")
    if len(got) != len(names):
        raise Trouble(f"{expected}; got {len(got)}.")
    return dict(zip(names, got))


def mapping(record, signature, what="a dict"):
    """The returned dict; its values are plain data."""
    return _of(record, signature, what, dict)


def as_tensor(got, shape=None, what="the shape of the input"):
    """Plain data as a finite float64 tensor of the given shape, if one is given."""
    if not isinstance(got, torch.Tensor):
        raise Trouble(f"expected a tensor, got {_kind(got)}.")
    if shape is not None and got.shape != torch.Size(shape):
        if got.numel() == 1:
            raise Trouble(
                f"returned one number for an input of shape {tuple(shape)}; expected one value for each entry, "
                "without a mean or a sum."
            )
        raise Trouble(f"expected {what}, {tuple(shape)}, got {tuple(got.shape)}.")
    if got.dtype not in (torch.float32, torch.float64):
        dtype = str(got.dtype).removeprefix("torch.")
        raise Trouble(f"expected floating-point values (float64), got {dtype}; convert with .to(z.dtype).")
    return _finite(got)


def as_number(got):
    """Plain data as a finite float."""
    if not isinstance(got, torch.Tensor):
        raise Trouble(f"expected a number, got {_kind(got)}.")
    if got.numel() != 1:
        raise Trouble(f"expected one number, got a tensor of shape {tuple(got.shape)}.")
    if got.dtype == torch.bool or got.is_complex():
        raise Trouble(f"expected a real number, got {str(got.dtype).removeprefix('torch.')}.")
    return _finite(got).item()


def _of(record, signature, what, kind):
    got = value(record, signature)
    if not isinstance(got, kind):
        raise Trouble(f"expected {what}, got {_typed(record, got)}.")
    return got


def _typed(record, got):
    shape = f" and shape {tuple(got.shape)}" if isinstance(got, torch.Tensor) and got.ndim else ""
    return f"a value of type {str(record['type'])[:60]}{shape}"


def _kind(got):
    return "nothing that is plain data" if got is None else f"a {type(got).__name__}"


def _finite(got):
    got = got.to(torch.float64)
    if got.isnan().any():
        raise Trouble("returned NaN (not a number): look for 0/0, ∞ − ∞, or the root of a negative number.")
    if got.isinf().any():
        raise Trouble("returned an infinite value: look for a division by zero or an overflow.")
    return got
