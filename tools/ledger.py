"""Collect the claims that the chapters measured: ``chapters/*.ipynb`` -> ``book/ledger.json``, and show them as a page."""

import json
import re

import nbformat

from signalprop.ledger import MIME, SIGNS, anchor, describe, sentence

from .notebooks import derived
from .paths import ROOT, Trouble

STORED = ROOT / "book/ledger.json"
TOPICS = {
    "A": "Origins: recurrent nets",
    "B": "Initialisation and mean-field theory",
    "C": "Activations",
    "D": "Deep linear nets and isometry",
    "E": "Normalisation",
    "F": "Residual nets",
    "G": "Gated and orthogonal recurrences",
    "H": "Transformers",
    "I": "Optimisation and number formats",
    "X": "Experiments of this course",
    "M": "What popular texts say",
}


def collect():
    """The rows of all chapters, in the order of the book; each with the chapter it was measured in."""
    rows = []
    for item in derived():
        if item.kind != "chapters" or not item.target.exists():
            continue
        try:
            cells = nbformat.read(item.target, as_version=4).cells
        except Exception as error:  # any damage to the file
            raise Trouble(f"{item.name} can't be read: {error}") from error
        for cell in cells:
            for output in cell.get("outputs", []):
                if MIME in output.get("data", {}):
                    rows.append({"chapter": item.target.stem, **output["data"][MIME]})
    return rows


def as_json(rows):
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows) + "\n]\n"


def make():
    """Write ``book/ledger.json`` if the notebooks say something new."""
    text = as_json(collect())
    if not STORED.exists() or STORED.read_text(encoding="utf-8") != text:
        STORED.write_text(text, encoding="utf-8", newline="\n")
        print("  wrote  book/ledger.json")


def load():
    return json.loads(STORED.read_text(encoding="utf-8"))


def check():
    """Raise `Trouble` if the stored ledger is not what the notebooks say."""
    if not STORED.exists() or STORED.read_text(encoding="utf-8") != as_json(collect()):
        raise Trouble("book/ledger.json does not match the notebooks (run `make notebooks`)")
    print(f"{len(load())} rows of the ledger match the notebooks")


# --- the page --------------------------------------------------------------------------------------------


def plain(text):
    r"""Text in which Markdown sees no markup.

    >>> plain("a_b | *c* <d> $e$")
    'a\\_b \\| \\*c\\* \\<d\\> \\$e\\$'
    """
    return re.sub(r"([\\`*_{}\[\]<>|$#~])", r"\\\1", text)


def summary(rows):
    """How many rows came out how, as MyST Markdown."""
    lines = []
    for popular, what in ((False, "claims of the literature"), (True, "popular sentences")):
        chosen = [row for row in rows if (row["id"][0] == "M") == popular]
        counts = ", ".join(f"{sum(row['verdict'] == v for row in chosen)} {word}" for v, word in WORDS.items())
        lines.append(f"- **{len({row['id'] for row in chosen})} {what}** in {len(chosen)} measurements: {counts}.")
    return "\n".join(lines)


def tables(rows):
    """The ledger as MyST Markdown, a table for each topic."""
    lines = []
    for letter, topic in TOPICS.items():
        chosen = sorted((row for row in rows if row["id"][0] == letter), key=order)
        if chosen:
            lines += ["", f"## {topic}", "", ":::{container} sp-ledger", "| where | verdict | claim | measured; claimed |", "|---|---|---|---|"]
            lines += [*[line(row) for row in chosen], ":::"]
    return "\n".join(lines)


WORDS = {"holds": "hold", "partly": "hold partly", "fails": "fail at this scale"}


def order(row):
    number = re.search(r"\d+", row["id"])[0]
    return int(number), row["id"], row["chapter"]


def line(row):
    source = f" {{cite:p}}`{','.join(row['cite'])}`" if row["cite"] else ""
    evidence = "<br>".join(f"{plain(e['quantity'])}: **{m}**; {plain(s)}" for e in row["evidence"] for m, s in [map(plain, describe(e))])
    # Raw, since Sphinx does not know the ids inside a notebook's outputs; the site's tests follow the link.
    where = f'<a href="../chapters/{row["chapter"]}.html#{anchor(row)}">{row["id"]}<br>ch.&nbsp;{row["chapter"][:2]}</a>'
    return f"| {where} | {SIGNS[row['verdict']]} {row['verdict']} | {plain(sentence(row))}{source} | {evidence} |"
