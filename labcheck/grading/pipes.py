"""Messages over a pipe: eight bytes of length, then the bytes."""

import os
import struct

LENGTH = struct.Struct("<Q")
NUMBER = struct.Struct("<I")  # of a cell
MOST = 16 << 20  # ten times what an honest answer takes


class HungUp(Exception):
    """The other side is gone."""


class TooLong(Exception):
    """A message is longer than any honest one."""


def send(pipe, content):
    view = memoryview(LENGTH.pack(len(content)) + content)
    while view:
        try:
            view = view[os.write(pipe, view) :]
        except BrokenPipeError:
            raise HungUp from None


def receive(pipe):
    (length,) = LENGTH.unpack(_exactly(pipe, LENGTH.size))
    if length > MOST:
        raise TooLong
    return _exactly(pipe, length)


def _exactly(pipe, count):
    content = bytearray()
    while len(content) < count:
        piece = os.read(pipe, min(count - len(content), 1 << 20))
        if not piece:
            raise HungUp
        content += piece
    return bytes(content)
