"""How long things take: minutes to read, from what a page holds; seconds to run, as measured; labs, as estimated."""

import json
import re
import time

import jupytext

from labcheck import questions
from labcheck.grading.release import time_range

from . import notebooks
from .paths import ROOT, Trouble

MEASURED = ROOT / "book/seconds.json"  # {notebook: seconds to run}, written by `measure`

# What a page is taken to cost: our estimates. Plain text is read faster than 150 words a minute; here most sentences
# hold a number or a symbol.
WORDS_A_MINUTE = 150
SECONDS = {"formula": 20, "figure": 30, "code": 15, "table row": 5}


def parts(source):
    """What a chapter's text holds for a reader of the site.

    Parameters
    ----------
    source : path
        Its MyST Markdown.

    Returns
    -------
    dict
        ``words``, and the number of each of `SECONDS`' keys. Code that the page hides or leaves out does not count.
    """
    counts = dict.fromkeys(("words", *SECONDS), 0)
    for cell in jupytext.reads(notebooks.read_text(source), fmt="md:myst").cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            counts["figure"] += "figure" in cell.metadata.get("mystnb", {})
            counts["code"] += not {"hide-input", "remove-input", "remove-cell"} & set(tags)
            continue
        text, formulas = re.subn(r"\$\$.*?\$\$", " ", cell.source, flags=re.DOTALL)
        rows = re.findall(r"^\|.*\|$", text, re.MULTILINE)
        counts["formula"] += formulas
        counts["table row"] += len(rows)
        prose = re.sub(r"^\|[^\n]*\|$|^```.*?^```", " ", text, flags=re.MULTILINE | re.DOTALL)
        prose = re.sub(r"\]\([^)]*\)|\{[a-z:]+\}", " ", prose)  # an address is not read
        prose = re.sub(r"\$[^$]+\$", " x ", prose)  # a small formula is one word
        counts["words"] += len(re.findall(r"\w+(?:['’]\w+)?", prose))
    return counts


def to_read(source):
    """Minutes to read a chapter once, rounded to 5, without the exercises' work and without what its figures invite to try."""
    counts = parts(source)
    minutes = counts["words"] / WORDS_A_MINUTE + sum(SECONDS[name] * counts[name] for name in SECONDS) / 60
    return 5 * round(minutes / 5)


def chapters():
    return sorted((ROOT / "book/chapters").glob("[0-9][0-9]_*.md"))


def said(source):
    """The minutes that a chapter itself states."""
    return int(re.search(r"^About (\d+) minutes to read", notebooks.read_text(source), re.MULTILINE)[1])


def measured():
    return json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}


def measure():
    """Run every notebook in a new kernel, one at a time, and keep the seconds that each took; minutes of work."""
    seconds = {}
    for item in notebooks.derived():
        if not item.blank:
            notebook, start = notebooks.build(item), time.monotonic()
            notebooks.execute(notebook, item.target.parent, item.target.stem)
            seconds[item.name] = round(time.monotonic() - start)
            print(f"  {seconds[item.name]:4} s  {item.name}", flush=True)
    MEASURED.write_text(json.dumps(seconds, indent=1, sort_keys=True) + "\n", encoding="utf-8", newline="\n")


def check():
    """Raise `Trouble` if a chapter or a lab states other minutes than are computed, or a notebook was never timed."""
    wrong = [f"{path.name} says {said(path)} minutes to read, computed are {to_read(path)}" for path in chapters() if said(path) != to_read(path)]
    for path in sorted((ROOT / "book/labs").glob("lab*.md")):
        low, high = time_range(questions.of(path.name[:5]))
        if not re.search(rf"^{low} to {high} minutes, an estimate", notebooks.read_text(path), re.MULTILINE):
            wrong.append(f"{path.name}: expected '{low} to {high} minutes, an estimate'")
    missing = {item.name for item in notebooks.derived() if not item.blank} - measured().keys()
    wrong += [f"{name} was never timed (`python -m tools minutes`)" for name in sorted(missing)]
    if wrong:
        raise Trouble("Minutes that do not match what they are computed from:\n  " + "\n  ".join(wrong))
    print("the minutes of all chapters and labs match what they are computed from")
