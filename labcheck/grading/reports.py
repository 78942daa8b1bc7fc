"""What a teacher and the students read: marks.csv, a page of feedback each, and a summary of the class."""

import collections
import csv
import functools
import hashlib
import io
import re
import statistics
from dataclasses import dataclass

from ..question import SHOWN
from .batch import write

BINS = 10
RARE = 3  # equal answers of so many students at most are worth a look
NUMBER = re.compile(r"−?\d[\d.,]*(?:e[+−-]?\d+)?")


def attention(record):
    """What a teacher should look at in a submission, in sentences."""
    found = list(record["remarks"])
    found += [f"{m['question']}: {m['problem']}" for m in record["questions"] if m["problem"]]
    return found + [f"cell {n}: {cell['said']}" for n, cell in record["cells"].items() if cell["incident"]]


def keys(records):
    """A name for the files of each submission, unlike for unlike ones on every file system, by submission."""
    plain = {r["submission"]: _plain(r) for r in records}
    count = collections.Counter(key.casefold() for key in plain.values())
    return {
        name: key if count[key.casefold()] == 1 else f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for name, key in plain.items()
    }


def _plain(record):
    words = f"{record['student']}-{record['number']}".rstrip("-")
    return re.sub(r"[^\w.-]+", "-", words).strip(".-")[:80] or "submission"


def cell(text):
    """A cell of a sheet. A leading = + - @ would make a spreadsheet program compute it."""
    text = str(text)
    return "'" + text if text.startswith(tuple("=+-@\t\r")) and not re.fullmatch(r"[+-]?[\d.]+", text) else text


def marks_csv(records):
    """The marks of a class as text: one line a submission, one column a question."""
    names = sorted({m["question"] for r in records for m in r["questions"]})
    out = io.StringIO()
    sheet = csv.writer(out)
    sheet.writerow(["student", "number", "submission", "lab", "points", "max_points", *names, "attention"])
    for r in records:
        points = {m["question"]: m["points"] for m in r["questions"]}
        about = [r["student"], r["number"], r["submission"], r["lab"] or "", r["points"], r["max_points"]]
        row = [*about, *(points.get(name, "") for name in names), "; ".join(attention(r))]
        sheet.writerow(map(cell, row))
    return out.getvalue()


@functools.cache
def _templates():
    import jinja2

    place = jinja2.Environment(
        loader=jinja2.PackageLoader("labcheck.grading"),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    place.globals["shown"] = SHOWN
    place.filters["md"] = markdown
    return place


def markdown(text):
    """Text that means itself in Markdown, whoever wrote it."""
    text = re.sub(r"([\\`*_{}\[\]<>|~$&])", r"\\\1", " ".join(str(text).split()))
    return re.sub(r"^(\d+)([.)])|^([#+=-])", r"\1\\\2\3", text)


def feedback(record, form):
    """The page of one submission; `form` is "html" or "md"."""
    lost = any(m["problem"] for m in record["questions"])
    return _templates().get_template(f"feedback.{form}").render(r=record, cells=record["cells"] if lost else {})


@dataclass(frozen=True)
class Hardest:
    """How a class did on one question."""

    question: str
    share: float
    count: dict


def summary(records):
    """The page about the class, HTML."""
    labs = collections.defaultdict(list)
    for r in records:
        if r["questions"]:
            labs[r["lab"]].append(r)
    return _templates().get_template("summary.html").render(
        labs={name: _lab(some) for name, some in sorted(labs.items())},
        attention=[(r["student"], r["submission"], found) for r in records if (found := attention(r))],
        count=len(records),
        ungraded=sum(not r["questions"] for r in records),
        hints=_hints(records),
        equal=equal(records),
        rare=RARE,
    )


def _lab(records):
    shares = [r["points"] / r["max_points"] if r["max_points"] else 0.0 for r in records]
    bins = collections.Counter(min(int(share * BINS), BINS - 1) for share in shares)
    by_question = collections.defaultdict(list)
    for r in records:
        for m in r["questions"]:
            by_question[m["question"]].append(m)
    hardest = [
        Hardest(
            name,
            statistics.mean(m["points"] / m["max_points"] for m in marks),
            collections.Counter(SHOWN[m["status"]][1] for m in marks),
        )
        for name, marks in by_question.items()
    ]
    return {
        "count": len(records),
        "points": sorted(r["points"] for r in records),
        "max_points": max(r["max_points"] for r in records),
        "median": statistics.median(r["points"] for r in records),
        "bins": [(f"{100 * i // BINS}–{100 * (i + 1) // BINS} %", bins[i]) for i in range(BINS)],
        "largest": max(bins.values()),
        "hardest": sorted(hardest, key=lambda h: h.share),
    }


def _hints(records, most=25):
    """The most frequent hints: question, hint with its numbers left out, and how many students got it."""
    count, example = collections.Counter(), {}
    for r in records:
        for m in r["questions"]:
            for hint in set(m["hints"]):
                key = m["question"], NUMBER.sub("#", hint)
                example.setdefault(key, hint)
                count[key] += 1
    return [(key[0], example[key], times) for key, times in count.most_common(most)]


def equal(records):
    """Groups of submissions with answers that are equal but for comments and blanks, and rare in the class.

    Short answers are left out. Returns a list of (names of students, names of questions), those with most answers first.
    """
    who = collections.defaultdict(list)
    for r in records:
        for name, digest in r["answers"].items():
            if digest:
                who[name, digest].append(r)
    groups = collections.defaultdict(list)
    for (name, _), some in who.items():
        if 2 <= len({r["submission"] for r in some}) <= RARE:
            groups[tuple(sorted(r["submission"] for r in some))].append(name)
    student = {r["submission"]: r["student"] for r in records}
    found = [([student[name] for name in group], sorted(names)) for group, names in groups.items()]
    return sorted(found, key=lambda pair: -len(pair[1]))


def write_all(results):
    """Write marks.csv, summary.html and the pages of feedback into the folder of the results."""
    records = sorted(results.records().values(), key=lambda r: (r["student"].casefold(), r["submission"]))
    pages = results.folder / "feedback"
    pages.mkdir(exist_ok=True)
    names = keys(records)
    for record in records:
        for form in ("html", "md"):
            write(pages / f"{names[record['submission']]}.{form}", feedback(record, form))
    write(results.folder / "marks.csv", "\ufeff" + marks_csv(records))  # the mark tells Excel that this is UTF-8
    write(results.folder / "summary.html", summary(records))
    return records
