"""How long things take: minutes to read, from what a page holds; processor seconds to run, as measured; labs, as estimated."""

import json
import os
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import jupytext

from labcheck import questions
from labcheck.grading.release import time_range

from . import notebooks
from .paths import ROOT, Trouble

MEASURED = ROOT / "book/seconds.json"  # {chapter: processor seconds}, written by `measure`

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
    return max(5, 5 * round(minutes / 5))


def chapters():
    return sorted((ROOT / "book/chapters").glob("[0-9][0-9]_*.md"))


def said(source):
    """The minutes that a chapter itself states, or None."""
    found = re.search(r"^About (\d+) minutes to read", notebooks.read_text(source), re.MULTILINE)
    return int(found[1]) if found else None


def measured():
    return json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}


def run(item):
    """Run a notebook in a new kernel; the processor seconds that this took."""
    before = os.times()
    notebooks.execute(notebooks.build(item), item.target.parent, item.target.stem)
    after = os.times()  # the kernel's time is a child's, once it has ended
    return round(after.children_user + after.children_system - before.children_user - before.children_system)


def measure():
    """Run every chapter, one at a time on one thread, and keep the processor seconds that each took; minutes of work."""
    os.environ["OMP_NUM_THREADS"] = "1"
    seconds = {}
    for item in notebooks.derived():
        if item.source in chapters():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                seconds[item.name] = pool.submit(run, item).result()
            print(f"  {seconds[item.name]:4} s  {item.name}", flush=True)
    MEASURED.write_text(json.dumps(seconds, indent=1, sort_keys=True) + "\n", encoding="utf-8", newline="\n")


def check():
    """Raise `Trouble` if a chapter or a lab states other minutes than are computed, or a chapter was never timed."""
    wrong = [f"{path.name} says {said(path)} minutes to read, computed are {to_read(path)}" for path in chapters() if said(path) != to_read(path)]
    for path in chapters():
        seconds = measured().get(f"chapters/{path.stem}.ipynb", 0)
        if seconds > 60 and "runs in under a minute" in notebooks.read_text(path):
            wrong.append(f"{path.name} says that it runs in under a minute, measured are {seconds} s")
    for path in sorted((ROOT / "book/labs").glob("lab*.md")):
        low, high = time_range(questions.of(path.name[:5]))
        if not re.search(rf"^{low} to {high} minutes, an estimate", notebooks.read_text(path), re.MULTILINE):
            wrong.append(f"{path.name}: expected '{low} to {high} minutes, an estimate'")
    wrong += [f"{name} took {value} s: expected 1 to 90" for name, value in measured().items() if not 1 <= value <= 90]
    missing = {f"chapters/{path.stem}.ipynb" for path in chapters()} - measured().keys()
    wrong += [f"{name} was never timed (`python -m tools minutes`)" for name in sorted(missing)]
    if wrong:
        raise Trouble("Minutes that do not match what they are computed from:\n  " + "\n  ".join(wrong))
    print("the minutes of all chapters and labs match what they are computed from")
