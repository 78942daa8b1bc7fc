"""Find the notebooks that a class handed in, in the forms in which learning platforms give them out."""

import contextlib
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# "Ada Lovelace_1234567_assignsubmission_file_/lab06.ipynb" and, without folders, "Ada Lovelace_1234567_…_lab06.ipynb"
MOODLE = re.compile(r"(?P<student>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)(?:_(?P<file>.*))?$")
# "lovelaceada_LATE_12345_6789012_lab06-2.ipynb"
CANVAS = re.compile(r"(?P<student>[^_]+)_(?:LATE_)?(?P<id>\d+)_(?P<attempt>\d+)_(?P<file>.+)$")
LARGEST_ZIP = 20 << 30  # bytes, unpacked
ENCRYPTED = 1  # a flag of zip files


class NoSubmissions(Exception):
    """There is nothing to grade; the message says what was expected and what is there."""


@dataclass(frozen=True, order=True)
class Submission:
    """One notebook that was handed in.

    Attributes
    ----------
    student : str
        The name or the user name, as the platform or the folder gives it.
    number : str
        The platform's number of the student or of the submission; "" where there is none.
    path : Path
    name : str
        Where it was found, in words fit for a report.
    """

    student: str
    number: str
    path: Path
    name: str


def find(place, unpacked):
    """All submissions in a folder or a zip file, in order of the students' names.

    Parameters
    ----------
    place : path
        A folder of notebooks; of folders, one for each student; an nbgrader course or its ``submitted/``; or the
        zip file that Moodle or Canvas gives for "download all submissions".
    unpacked : path
        A folder into which a zip file's notebooks are written.

    Raises
    ------
    NoSubmissions
    """
    place = Path(place)
    if place.is_file():
        if not zipfile.is_zipfile(place):
            raise NoSubmissions(f"expected a folder or a zip file of submissions, got the file {place.name}")
        place = _unpack(place, Path(unpacked))
    if not place.is_dir():
        raise NoSubmissions(f"expected a folder or a zip file of submissions; there is none at {place}")
    if (place / "submitted").is_dir():
        place = place / "submitted"
    found = []
    for path in sorted(place.rglob("*.ipynb")):
        relative = path.relative_to(place)
        if path.is_symlink() or not path.is_file() or any(part.startswith((".", "__MACOSX")) for part in relative.parts):
            continue
        student, number = _whose(relative)
        found.append(Submission(student, number, path, relative.as_posix()))
    if not found:
        raise NoSubmissions(f"expected notebooks (*.ipynb) in {place}, found none")
    return sorted(found)


def _whose(relative):
    """Student and number, from where a notebook lies."""
    first = relative.parts[0]
    stem = relative.stem
    for pattern, text in ((MOODLE, first), (CANVAS, relative.name)):
        match = pattern.match(text)
        if match:
            return match["student"], match["id"]
    if len(relative.parts) > 1:
        return first, ""
    return stem, ""


def _unpack(archive, folder):
    """Write the notebooks of a zip file into a folder, and nothing outside it."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as content:
        members = [m for m in content.infolist() if m.filename.lower().endswith(".ipynb") and not m.is_dir()]
        if sum(m.file_size for m in members) > LARGEST_ZIP:
            raise NoSubmissions(f"{archive.name} holds more than {LARGEST_ZIP >> 30} GB of notebooks")
        for member in members:
            parts = [p for p in PurePosixPath(member.filename.replace("\\", "/")).parts if p not in ("/", "..", ".")]
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.flag_bits & ENCRYPTED:
                raise NoSubmissions(f"{archive.name} is protected by a password; unpack it, and name the folder")
            # of a damaged one is kept what can be read: it is then graded, or reported, as a file that was cut off
            with target.open("wb") as file, contextlib.suppress(zipfile.BadZipFile, zlib.error, EOFError):
                with content.open(member) as source:
                    while piece := source.read(1 << 20):
                        file.write(piece)
    return folder
