"""Fill in the sheets that learning platforms give out, with the marks of a class."""

import csv
import html
import io
import json
import re
import zipfile
from pathlib import Path, PurePosixPath

from .batch import write
from .reports import feedback, keys

MOODLE = {
    "number": ("Identifier", "ID"),
    "name": ("Full name", "Name"),
    "grade": ("Grade",),
    "most": ("Maximum grade", "Maximum Grade"),
    "feedback": ("Feedback comments", "Feedback"),
}
CANVAS_POSSIBLE = "points possible"


class NoMatch(Exception):
    """The sheet can't be filled in; the message says why, line by line."""


def best(records, lab=None):
    """For each student the submission with the most points, of one lab. What could not be graded is left out.

    Raises
    ------
    NoMatch
        If there are several labs and none is named.
    """
    labs = sorted({r["lab"] for r in records if r["lab"]})
    if lab is None and len(labs) > 1:
        raise NoMatch(f"the results hold several labs; name one with --lab: {', '.join(labs)}")
    lab = lab or (labs[0] if labs else None)
    found = {}
    for r in records:
        if r["lab"] == lab and r["questions"]:
            key = r["student"], r["number"]
            found[key] = max(found.get(key, r), r, key=lambda one: one["points"])
    return list(found.values())


def moodle(records, text, lab=None):
    """A Moodle grading worksheet with "Grade" and, where it has one, "Feedback comments" filled in.

    Students are matched by the number in "Identifier", or else by their full name. Marks are scaled to the maximum grade.

    Parameters
    ----------
    records : list of dict
    text : str
        The worksheet, as Moodle exports it.
    lab : str, optional

    Returns
    -------
    text : str
    left : list of str
        Names in the sheet without a submission; their cells stay as they are.

    Raises
    ------
    NoMatch
    """
    sheet = Sheet(text)
    columns = {what: sheet.column(names, what in ("name", "grade")) for what, names in MOODLE.items()}
    rows = sheet.rows[1:]

    def keys_of(row):
        number = re.sub(r"\D", "", row[columns["number"]]) if columns["number"] is not None else ""
        return number, row[columns["name"]].strip()

    matched, left = match(best(records, lab), rows, keys_of)
    for record, row in matched:
        most = number(row[columns["most"]], "Maximum grade") if columns["most"] is not None else record["max_points"]
        row[columns["grade"]] = scaled(record, most)
        if columns["feedback"] is not None:
            row[columns["feedback"]] = comments(record)
    return sheet.text(), left


def canvas(records, text, lab=None, assignment=None):
    """A Canvas gradebook with the column of one assignment filled in.

    Students are matched by "ID", or else by name or login. Marks are scaled to the points possible.

    Parameters
    ----------
    records, text, lab
        As for `moodle`.
    assignment : str, optional
        The heading of its column, or the beginning of it; needed where the sheet has several.

    Returns
    -------
    text : str
    left : list of str

    Raises
    ------
    NoMatch
    """
    sheet = Sheet(text)
    name = sheet.column(("Student",), True)
    number_at, login = sheet.column(("ID",)), sheet.column(("SIS Login ID",))
    candidates = [i for i, heading in enumerate(sheet.rows[0]) if re.search(r" \(\d+\)$", heading)]
    if assignment is not None:
        candidates = [i for i in candidates if sheet.rows[0][i].startswith(assignment)]
    if len(candidates) != 1:
        headings = [sheet.rows[0][i] for i in candidates] or [h for h in sheet.rows[0] if h]
        raise NoMatch("name the column of the assignment with --assignment; it is one of: " + "; ".join(headings))
    (at,) = candidates
    possible = next((row for row in sheet.rows[1:] if row[name].strip().casefold() == CANVAS_POSSIBLE), None)
    rows = [row for row in sheet.rows[1:] if row is not possible and row[name].strip() and not _canvas_note(row, name, number_at)]

    def keys_of(row):
        last, _, first = row[name].partition(", ")
        plain = re.sub(r"[^\w]", "", (last + first).casefold())  # as in the names of Canvas's files
        return [row[number_at].strip() if number_at is not None else "", plain, row[login].strip() if login is not None else ""]

    matched, left = match(best(records, lab), rows, keys_of)
    for record, row in matched:
        most = number(possible[at], "Points Possible") if possible and possible[at].strip() else record["max_points"]
        row[at] = scaled(record, most)
    return sheet.text(), left


def _canvas_note(row, name, number_at):
    """Whether this is not a student's line: Canvas writes such ones below the headings."""
    return number_at is not None and not row[number_at].strip() and row[name].startswith(" ")


def gradescope(record):
    """The contents of Gradescope's ``results.json`` for one submission."""
    tests = [
        {
            "name": f"{m['question']}, {name}",
            "score": points,
            "max_score": most,
            "status": "passed" if points == most else "failed",
            "output": hint,
            "output_format": "text",
        }
        for m in record["questions"]
        for name, (points, most, hint) in m["aspects"].items()
    ]
    said = " ".join(record["remarks"])
    return json.dumps({"score": record["points"], "output": said, "output_format": "text", "tests": tests}, indent=1)


def write_gradescope(records, folder):
    """One results.json for each submission, in a folder of its own; returns the paths."""
    paths = []
    for record, key in zip(records, keys(records).values(), strict=True):
        place = Path(folder) / key
        place.mkdir(parents=True, exist_ok=True)
        paths.append(place / "results.json")
        write(paths[-1], gradescope(record))
    return paths


def write_feedback(records, target):
    """The pages of feedback in a zip file, each by the name under which its notebook was handed in.

    Moodle ("upload multiple feedback files in a zip") finds a student by the folder, Canvas ("upload submissions") by
    the numbers in the file's name.

    Parameters
    ----------
    records : list of dict
        Of one lab or several; those that could not be graded too.
    target : path
        The zip file to write.
    """
    part = Path(f"{target}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
        for record in sorted(records, key=lambda r: r["submission"]):
            name = PurePosixPath(record["submission"]).with_suffix(".html").as_posix()
            packed.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), feedback(record, "html"), zipfile.ZIP_DEFLATED)
    part.replace(target)


def match(records, rows, keys_of):
    """Pair records and rows by their first key that occurs; each student on either side once.

    Returns
    -------
    pairs : list of (dict, list)
    left : list of str
        Rows without a record.

    Raises
    ------
    NoMatch
        With a list, if a record belongs to no row, or to several.
    """
    wrong, pairs, taken = [], [], {}
    for record in records:
        who = record["student"], record["number"]
        for mine in filter(None, (record["number"], record["student"])):
            found = [row for row in rows if any(_same(mine, key) for key in keys_of(row) if key)]
            if found:
                break
        name = f"{who[0]} ({who[1]})" if who[1] else who[0]
        if len(found) != 1:
            wrong.append(f"{name}: " + (f"{len(found)} lines of the sheet match" if found else "no line of the sheet matches"))
        elif id(found[0]) in taken:
            wrong.append(f"{name}: the same line of the sheet as {taken[id(found[0])]}")
        else:
            taken[id(found[0])] = name
            pairs.append((record, found[0]))
    if wrong:
        raise NoMatch("these submissions do not match the sheet, and nothing was written:\n  " + "\n  ".join(wrong))
    return pairs, [" ".join(filter(None, keys_of(row))) for row in rows if id(row) not in taken]


def _same(a, b):
    return " ".join(a.casefold().split()) == " ".join(b.casefold().split())


def scaled(record, most):
    """A mark in the scale of a sheet, as text."""
    return f"{record['points'] / record['max_points'] * most:.2f}" if record["max_points"] else "0"


def number(text, what):
    """A number in a sheet, with a point or a comma.

    Raises
    ------
    NoMatch
    """
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        raise NoMatch(f"expected a number in the column {what}, got {text[:40]!r}") from None


def comments(record):
    """The hints of a submission as HTML for a comment."""
    lines = [f"{m['question']}: {m['points']} of {m['max_points']}. {' '.join(m['hints'])}" for m in record["questions"]]
    return "<br>".join(html.escape(line.strip()) for line in [*record["remarks"], *lines])


class Sheet:
    """A sheet of comma- or semicolon-separated values that comes out as it went in, but for the cells that are set.

    Raises
    ------
    NoMatch
        If it is empty, or ragged.
    """

    def __init__(self, text):
        self.mark = text[:1] == "\ufeff"
        text = text.removeprefix("\ufeff")
        head = text.partition("\n")[0]
        self.delimiter = max(",;\t", key=head.count)
        self.end = "\r\n" if "\r\n" in text else "\n"
        self.rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter) if row]
        if len(self.rows) < 2:
            raise NoMatch("expected a sheet with headings and students, got none")
        if any(len(row) != len(self.rows[0]) for row in self.rows):
            raise NoMatch("expected a sheet whose lines have as many cells as its headings")

    def column(self, names, needed=False):
        """The index of a column by its heading; None if it may be missing and is."""
        for name in names:
            if name in self.rows[0]:
                return self.rows[0].index(name)
        if needed:
            raise NoMatch(f"expected a column {' or '.join(names)}, the sheet has: {', '.join(self.rows[0])}")
        return None

    def text(self):
        out = io.StringIO()
        csv.writer(out, delimiter=self.delimiter, lineterminator=self.end).writerows(self.rows)
        return "\ufeff" * self.mark + out.getvalue()
