"""The cards of the index, and their pictures: each chapter's own figure, small for its card and large for link previews."""

import base64
import io
import re

import nbformat
import yaml
from PIL import Image

from .paths import ROOT, Trouble, course

INDEX = ROOT / "book/index.md"
CARDS = ROOT / "_build/cards"  # small, in a card
PREVIEWS = ROOT / "_build/static/previews"  # large, for Open Graph
PREVIEW_SIZE, CARD_SIZE = (1200, 630), (480, 270)
KEYS = {"file", "figure", "able"}


def chapters():
    """What the index says of each chapter, with its title and its minutes as the chapter itself says them.

    Returns
    -------
    list of dict
        ``file``, ``figure`` (its name), ``able`` (what one will be able to do), ``title``, ``minutes``; [] if
        the index has no ``{chapters}``.
    """
    found = re.search(r"^```\{chapters\}\n(.*?)^```$", INDEX.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [_complete(entry) for entry in yaml.safe_load(found[1])] if found else []


def _complete(entry):
    if not isinstance(entry, dict) or set(entry) != KEYS:
        raise Trouble(f"book/index.md: expected a chapter with {', '.join(sorted(KEYS))}; got {entry!r}")
    source = ROOT / "book/chapters" / f"{entry['file']}.md"
    if not source.exists():
        raise Trouble(f"book/index.md: there is no book/chapters/{entry['file']}.md")
    text = source.read_text(encoding="utf-8")
    title, minutes = re.search(r"^# (.+)$", text, re.MULTILINE), re.search(r"^About (\d+) minutes to read", text, re.MULTILINE)
    if not title or not minutes:
        raise Trouble(f'{source.name}: expected a title and a line "About N minutes to read"')
    return entry | {"title": title[1], "minutes": int(minutes[1])}


def notebook(entry):
    return ROOT / "chapters" / f"{entry['file']}.ipynb"


def figure(entry):
    """A chapter's figure as (image, text alternative), from its executed notebook."""
    for cell in nbformat.read(notebook(entry), as_version=4).cells:
        settings = cell.metadata.get("mystnb", {})
        if settings.get("figure", {}).get("name") == entry["figure"]:
            data = next(output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
            return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), settings["image"]["alt"]
    raise Trouble(f"book/index.md: chapter {entry['file']} has no figure {entry['figure']}")


def on_paper(image, size):
    """The whole image on white paper of `size`, with a margin of a thirtieth."""
    margin = size[0] // 30
    copy = image.copy()
    room = (size[0] - 2 * margin, size[1] - 2 * margin)
    scale = min(room[0] / copy.width, room[1] / copy.height)
    copy = copy.resize((round(copy.width * scale), round(copy.height * scale)), Image.Resampling.LANCZOS)
    paper = Image.new("RGB", size, "white")
    paper.paste(copy, ((size[0] - copy.width) // 2, (size[1] - copy.height) // 2))
    return paper


def make():
    """Write the pictures of all cards; those that are newer than their notebook stay."""
    for entry in chapters():
        newest = max(notebook(entry).stat().st_mtime, INDEX.stat().st_mtime)
        for folder, size in ((CARDS, CARD_SIZE), (PREVIEWS, PREVIEW_SIZE)):
            path = folder / f"{entry['file']}.png"
            if path.exists() and path.stat().st_mtime > newest:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            on_paper(figure(entry)[0], size).save(path, optimize=True)


def as_text():
    """The cards as MyST Markdown, for the page ``book/index``; chapters that the course has not chosen come last."""
    chosen = [entry for entry in chapters() if int(entry["file"][:2]) in course().chapters]
    others = [entry for entry in chapters() if entry not in chosen]
    text = _grid(chosen)
    return text + "\n\n**Beyond this course**\n\n" + _grid(others) if others else text


def _grid(entries):
    lines = ["::::{grid} 1 2 2 2", ":gutter: 3", ""]
    for entry in entries:
        lines += [
            f":::{{grid-item-card}} {entry['title']}",
            f":link: ../chapters/{entry['file']}",
            ":link-type: doc",
            f":img-top: ../_build/cards/{entry['file']}.png",
            f":img-alt: {figure(entry)[1]}",
            ":class-card: sp-chapter",
            "",
            f"*Chapter {int(entry['file'][:2])}, {entry['minutes']} minutes.* You will be able to {entry['able']}.",
            ":::",
            "",
        ]
    return "\n".join([*lines, "::::"])
