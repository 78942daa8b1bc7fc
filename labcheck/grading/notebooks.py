"""Read a student's notebook, whatever happened to it, without running or trusting anything in it."""

import ast
import functools
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .. import questions

LARGEST = 1 << 30  # bytes
CHECKED = re.compile(r"""\bcheck\(\s*["'](lab\d\d)\.\w+["']""")

DEFINES = re.compile(r"^\s*(?:def|class)\s", re.MULTILINE)


class Unreadable(Exception):
    """There is no notebook in this file; the message says why, for the teacher and the student."""


@dataclass(frozen=True)
class Notebook:
    """The code of a notebook.

    Attributes
    ----------
    sha256 : str
        Of the file's bytes.
    cells : tuple of (int, str)
        Number (from 1, all kinds of cells counted) and source of each code cell, in order.
    lab : str or None
        The lab whose checks it calls most often.
    remarks : tuple of str
        What is odd about the file, for the teacher.
    """

    sha256: str
    cells: tuple
    lab: str | None
    remarks: tuple = ()


def read(path):
    """The code cells of a notebook file.

    Raises
    ------
    Unreadable
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise Unreadable(f"the file is larger than {LARGEST >> 30} GB")
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"the file can't be read: {error.strerror}") from None
    return parse(content)


def parse(content):
    """As `read`, from the bytes of the file."""
    remarks = []
    text = _decoded(content, remarks)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not text.strip():
            raise Unreadable("the file is empty") from None
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(f"the file is no notebook, or was cut off: it is not JSON{where}") from None
    if not isinstance(data, dict):
        raise Unreadable("the file is JSON, but no notebook")
    version = data.get("nbformat")
    if version != 4:
        remarks.append(f"notebook format {str(version)[:20]}, expected 4")
    cells = data.get("cells")
    if cells is None and isinstance(data.get("worksheets"), list):  # format 3 and before
        cells = [c for sheet in data["worksheets"] if isinstance(sheet, dict) for c in sheet.get("cells") or []]
    if not isinstance(cells, list):
        raise Unreadable("the file is JSON, but has no list of cells")
    code = tuple(_code(cells, remarks))
    labs = Counter(lab for _, source in code for lab in CHECKED.findall(source) if lab in questions.LABS)
    lab = labs.most_common(1)[0][0] if labs else None
    return Notebook(hashlib.sha256(content).hexdigest(), code, lab, tuple(remarks))


def _decoded(content, remarks):
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            remarks.append(f"bytes that are not {encoding} were replaced")
            return content.decode(encoding, errors="replace")


def _code(cells, remarks):
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict):
            remarks.append(f"cell {number} is not a cell")
            continue
        source = cell.get("source", cell.get("input", ""))
        if isinstance(source, list):
            source = "".join(line for line in source if isinstance(line, str))
        if not isinstance(source, str):
            remarks.append(f"cell {number} has no text")
            continue
        if cell.get("cell_type") == "code":
            yield number, source
        elif DEFINES.search(source) and defined(source) & asked():  # an answer in a cell whose type was changed by accident
            remarks.append(f"cell {number} is no code cell, but holds an answer; it was run")
            yield number, source


@functools.cache
def asked():
    """The names of all functions and classes that a question asks for."""
    return frozenset(question.function for lab in questions.LABS for question in questions.of(lab))


def defined(source):
    """The functions and classes that a text defines at its top level; none if it is not Python."""
    try:
        tree = ast.parse(source)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return set()
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
