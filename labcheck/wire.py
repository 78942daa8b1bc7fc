"""Plain data as bytes, without pickle: a JSON header, then the raw bytes of its tensors.

Reading bytes runs no code of their author, whoever wrote them.
"""

import json
import math
import struct

import torch

DTYPES = {
    str(t).removeprefix("torch."): t
    for t in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.complex128,
    )
}
_LENGTH = struct.Struct("<Q")


def dumps(data):
    """The bytes of dicts with str keys, lists, tensors, str, int, float, bool and None.

    Raises
    ------
    TypeError
        For anything else.
    """
    tensors = []
    header = json.dumps({"data": _pack(data, tensors), "tensors": [t[:2] for t in tensors]}).encode()
    return b"".join([_LENGTH.pack(len(header)), header, *(raw for *_, raw in tensors)])


def header(content):
    """The data of `dumps` with a dict {"": number} in the place of each tensor: quicker than `loads`.

    Raises
    ------
    ValueError
        If these are not such bytes.
    """
    try:
        (length,) = _LENGTH.unpack_from(content)
        return json.loads(content[_LENGTH.size : _LENGTH.size + length])["data"]
    except (ValueError, TypeError, KeyError, RecursionError, struct.error) as error:
        raise ValueError(f"expected the bytes of labcheck.wire.dumps: {error}") from None


def loads(content):
    """The data of `dumps`.

    Raises
    ------
    ValueError
        If these are not such bytes.
    """
    try:
        (length,) = _LENGTH.unpack_from(content)
        start = _LENGTH.size + length
        header, tensors = json.loads(content[_LENGTH.size : start]), []
        for name, shape in header["tensors"]:
            dtype, size = DTYPES[name], math.prod(shape)
            if not all(type(n) is int and n >= 0 for n in shape):
                raise ValueError("a negative size")
            end = start + size * dtype.itemsize
            raw = bytearray(content[start:end])
            if len(raw) != end - start:
                raise ValueError("too short")
            flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            tensors.append(flat.reshape(shape))
            start = end
        if start != len(content):
            raise ValueError("too long")
        return _unpack(header["data"], tensors)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, RuntimeError, struct.error) as error:
        raise ValueError(f"expected the bytes of labcheck.wire.dumps: {error}") from None


def _pack(data, tensors):
    kind = type(data)
    if kind is torch.Tensor:
        fresh = data.clone(memory_format=torch.contiguous_format)  # a single entry may have a stride of 0
        raw = fresh.reshape(-1).view(torch.uint8) if data.numel() else torch.empty(0, dtype=torch.uint8)
        tensors.append((str(data.dtype).removeprefix("torch."), list(data.shape), raw.numpy().tobytes()))
        if tensors[-1][0] not in DTYPES:
            raise TypeError(f"expected a tensor of a type out of {', '.join(DTYPES)}; got {data.dtype}")
        return {"": len(tensors) - 1}  # no dict of plain data has an empty key
    if kind is dict and all(type(key) is str and key for key in data):
        return {key: _pack(item, tensors) for key, item in data.items()}
    if kind is list:
        return [_pack(item, tensors) for item in data]
    if data is None or kind in (str, int, float, bool):
        return data
    raise TypeError(f"expected plain data, got {kind.__name__}")


def _unpack(data, tensors):
    if isinstance(data, list):
        return [_unpack(item, tensors) for item in data]
    if isinstance(data, dict):
        if set(data) == {""}:
            return tensors[data[""]]
        return {key: _unpack(item, tensors) for key, item in data.items()}
    return data
