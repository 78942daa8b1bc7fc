"""What the teacher's pages show and nobody types: the dates of the course, minutes, plans, misconceptions, the question bank."""

import re
from collections import Counter

import yaml

from labcheck import questions as labs
from labcheck.grading.release import time_range
from quiz import Choice
from quiz.bank import load

from . import minutes, notebooks, questions, slides
from .ledger import plain
from .paths import ROOT, Trouble, course

TEACH = ROOT / "book/teach"
PLANS = TEACH / "plans.yml"
ROW = re.compile(r"^\| *(M\d+) *\|(.*)\|(.*)\|(.*)\| *$", re.MULTILINE)

# Minutes that nobody has measured; the page of the plans says so.
A_VOTE, A_DEMO, AN_ITEM = 10, 5, 2


def chapter(number):
    """The text of a chapter, by its number."""
    return next(path for path in minutes.chapters() if int(path.name[:2]) == number)


def title(path):
    return re.search(r"^# (.+)$", notebooks.read_text(path), re.MULTILINE)[1]


# --- the course, on its first page -----------------------------------------------------------------------


def schedule():
    """The course's own name, its term, the contact and the dates of the labs as MyST Markdown; "" where none of them is set."""
    this, lines = course(), []
    if this.name != title(ROOT / "book/index.md"):
        lines.append(f"**{plain(this.name)}.**")
    if this.term:
        lines.append(f"**{plain(this.term)}.**")
    if this.contact:
        address = this.contact if "://" in this.contact else f"mailto:{this.contact}"
        lines.append(f"Questions and mistakes: [{plain(this.contact)}]({address}).")
    text = " ".join(lines)
    if this.dates:
        table = ["| lab | handed out | due |", "|---|---|---|"]
        for lab, (out, due) in this.dates.items():
            path = next((ROOT / "labs").glob(f"lab{lab:02}_*.ipynb"))
            name = title(ROOT / "book/labs" / f"{path.stem}.md")
            table.append(f"| [{plain(name)}](../labs/{path.name}) | {out:%d %B %Y} | {due:%d %B %Y} |")
        text += "\n\n" + "\n".join(table)
    return text.strip()


# --- minutes ---------------------------------------------------------------------------------------------


def talk(number):
    """Minutes to give a chapter's deck: the sum of what its speaker's notes allow for each slide."""
    return sum(slide.minutes for slide in slides.read(ROOT / "book/slides" / f"{chapter(number).stem}.md"))


def lab(number):
    return time_range(labs.of(f"lab{number:02}"))


def times():
    """What each chapter costs, as a table in MyST Markdown."""
    lines = [
        "| chapter | words | formulas, figures, code | minutes to read | seconds to run | minutes to lecture | lab, minutes (estimate) |",
        "|---|---|---|---|---|---|---|",
    ]
    seconds = minutes.measured()
    for path in minutes.chapters():
        counts, number = minutes.parts(path), int(path.name[:2])
        low, high = lab(number)
        lines.append(
            f"| [{number}. {plain(title(path))}](../../chapters/{path.stem}.ipynb) | {counts['words']:,} | {counts['formula']}, {counts['figure']}, {counts['code']} "
            f"| {minutes.to_read(path)} | {seconds.get(f'chapters/{path.stem}.ipynb', '–')} | {talk(number)} | {low}–{high} |"
        )
    return "\n".join(lines)


# --- plans -----------------------------------------------------------------------------------------------

BLOCKS = {
    "talk": ("lecture with the deck of chapter {}, its prediction and its demo", talk),
    "predict": ("prediction question of chapter {}", lambda n: A_VOTE),
    "demo": ("live demo of chapter {}", lambda n: A_DEMO),
    "read": ("read chapter {}", lambda n: minutes.to_read(chapter(n))),
    "lab": ("lab {}", lab),
    "quiz": ("{} items of the question bank", lambda n: AN_ITEM * n),
    "break": ("break of {} minutes", lambda n: n),
}


def block(text):
    """A block of a plan such as ``talk 3`` as (words, fewest minutes, most minutes).

    >>> block("break 15")
    ('break of 15 minutes', 15, 15)
    """
    found = re.fullmatch(r"(\w+) (\d+)", text)
    if not found or found[1] not in BLOCKS:
        raise Trouble(f"book/teach/plans.yml: expected a block such as 'talk 3', of {', '.join(BLOCKS)}; got {text!r}")
    words, cost = BLOCKS[found[1]]
    value = cost(int(found[2]))
    low, high = value if isinstance(value, tuple) else (value, value)
    return words.format(found[2]), low, high


def plans():
    """The plans as {name: [session, …]}; a session has ``name``, ``length``, ``class`` and ``home``.

    Raises
    ------
    Trouble
        If what is planned for a class may take longer than the class.
    """
    given = yaml.safe_load(PLANS.read_text(encoding="utf-8"))
    for name, sessions in given.items():
        for session in sessions:
            longest = sum(block(text)[2] for text in session["class"])
            if longest > session["length"]:
                raise Trouble(f"book/teach/plans.yml: {name}, {session['name']}: expected at most {session['length']} minutes, planned are up to {longest}")
    return given


def between(low, high):
    return f"{low}" if low == high else f"{low}–{high}"


def plan(name):
    """One plan as MyST Markdown: a table for each session, with minutes in class and at home."""
    lines = []
    for session in plans()[name]:
        lines += ["", f"**{session['name']}** ({session['length']} minutes in class)", "", "| where | what | minutes |", "|---|---|---|"]
        for place in ("class", "home"):
            blocks = [block(text) for text in session.get(place, [])]
            lines += [f"| {place} | {words} | {between(low, high)} |" for words, low, high in blocks]
            if blocks:
                total = between(sum(low for _, low, _ in blocks), sum(high for _, _, high in blocks))
                lines.append(f"| **{place}, all** | | **{total}** |")
    return "\n".join(lines)


# --- misconceptions --------------------------------------------------------------------------------------


def misconceptions():
    """Rows of the teacher's notes: [(id, chapter, what students say, what is so, where it shows), …], by id."""
    rows = []
    for path in sorted(TEACH.glob("[0-9][0-9]_*.md")):
        for match in ROW.finditer(notebooks.read_text(path)):
            rows.append((match[1], int(path.name[:2]), *(match[i].strip() for i in (2, 3, 4))))
    return sorted(rows, key=lambda row: (int(row[0][1:]), row[1]))


def misconception_table():
    """All misconceptions as MyST Markdown, with the notes that treat them and the items that offer them."""
    known = questions.items_with()
    lines = ["| id | students say | what is so | notes | items |", "|---|---|---|---|---|"]
    for name, number, said, so, _ in misconceptions():
        # Links of the notes lead from teach/ and not from book/teach/.
        said, so = (re.sub(r"\]\((?!\.\./)(\d\d_\w+)\.ipynb", r"](../../teach/\1.ipynb", re.sub(r"\]\(\.\./", "](../../", text)) for text in (said, so))
        notes = next(TEACH.glob(f"{number:02}_*.md")).stem
        items = sum(item.startswith(f"ch{number:02}.") for item in known.get(name, []))
        lines.append(f"| {name} | {said} | {so} | [{number}](../../teach/{notes}.ipynb) | {items or '–'} |")
    return "\n".join(lines)


def notes():
    """The teacher's notes as a list of links."""
    lines = [f"- [{plain(title(path))}](../../teach/{path.stem}.ipynb)" for path in sorted(TEACH.glob("[0-9][0-9]_*.md"))]
    return "\n".join(lines)


# --- the question bank -----------------------------------------------------------------------------------


def bank_table():
    """How many items of which kind each chapter has, as MyST Markdown; without the items themselves."""
    lines = ["| chapter | items | to choose | with a number | what will happen if | difficulty 1, 2, 3, 4, 5 |", "|---|---|---|---|---|---|"]
    totals = Counter()
    for name, items in load().items():
        difficulty = Counter(item.difficulty for item in items)
        choices, what_if = sum(isinstance(item, Choice) for item in items), sum(item.what_if for item in items)
        totals.update(items=len(items), choices=choices, what_if=what_if, **{str(d): n for d, n in difficulty.items()})
        spread = ", ".join(str(difficulty[d]) for d in range(1, 6))
        lines.append(f"| {int(name[2:])} | {len(items)} | {choices} | {len(items) - choices} | {what_if} | {spread} |")
    spread = ", ".join(str(totals[str(d)]) for d in range(1, 6))
    lines.append(f"| **all** | **{totals['items']}** | {totals['choices']} | {totals['items'] - totals['choices']} | {totals['what_if']} | {spread} |")
    return "\n".join(lines)
