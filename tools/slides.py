"""The decks: ``book/slides/NN_name.md`` and the figures and numbers of that chapter -> ``_build/slides/NN_name.html`` and PDF.

The figures are drawn again for a projector, with larger letters and more pixels: the chapter is executed with another
style, once for each version of it (`drawn_larger`). Its numbers are those that it stores.

reveal.js shows them. A deck is text and not cells, so Markdown-it (which reads every page of the book) makes it, and
not nbconvert: its decks ask the network for jQuery, require.js and MathJax, and hold JupyterLab's style sheets.
"""

import base64
import html
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound
from pypdf import PdfReader

from . import mathematics, notebooks, site
from .paths import ROOT, Trouble, browser, course
from .pdf import printer

SOURCES = ROOT / "book/slides"
TARGET = site.BUILD / "slides"
STYLE = Path(__file__).with_name("slides.css")
MOST_WORDS = 75  # on one slide; more can't be read from the last row
COUNTS = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
FIGURE = re.compile(r"^!\[\]\((fig-[\w-]+)\)$", re.MULTILINE)
GLUE = re.compile(r"\{glue:text\}`(\w+)`")
ROLE = re.compile(r"\{[a-z:]+\}`")


@dataclass(frozen=True)
class Slide:
    """The Markdown of one slide, and what its speaker says."""

    text: str
    notes: str

    @property
    def minutes(self):
        """What its speaker is given, by the first words of the notes; None if they do not say."""
        found = re.match(rf"({'|'.join(COUNTS)}) minutes?\b", self.notes)
        return 1 + COUNTS.index(found[1]) if found else None


def sources():
    return sorted(SOURCES.glob("[0-9][0-9]_*.md"))


def read(path):
    """The slides of a deck; raises `Trouble` that names each slide without a heading, notes or minutes, or with too many words."""
    slides, wrong = [], []
    for number, part in enumerate(re.split(r"^---$", notebooks.read_text(path), flags=re.MULTILINE), start=1):
        text, *notes = re.split(r"^Note:\s*", part, maxsplit=1, flags=re.MULTILINE)
        slide = Slide(text.strip(), notes[0].strip() if notes else "")
        heading = "# " if number == 1 else "## "
        if not slide.text.startswith(heading) or len(re.findall(r"^#+ ", _prose(slide.text), re.MULTILINE)) != 1:
            wrong.append(f"slide {number}: expected one heading, '{heading}', at its beginning")
        if not slide.minutes:
            wrong.append(f"slide {number}: expected notes for the speaker that begin with the time, such as 'Note: Two minutes.'")
        if (words := len(re.findall(r"\w+", _prose(slide.text)))) > MOST_WORDS:
            wrong.append(f"slide {number}: expected at most {MOST_WORDS} words, got {words}")
        slides.append(slide)
    if wrong:
        raise Trouble(f"{path.relative_to(ROOT).as_posix()}:\n  " + "\n  ".join(wrong))
    return slides


def _prose(text):
    """Text without code and formulas."""
    return re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$\n]+\$|`[^`]*`", " ", text, flags=re.DOTALL)


def material(path):
    """The figures and numbers of an executed chapter; `path` is its notebook, as a file or read already.

    Returns
    -------
    (dict, dict)
        ``{name: (PNG as bytes, text alternative)}`` and ``{name of a glued number: its text}``.
    """
    figures, numbers = {}, {}
    for cell in (nbformat.read(path, as_version=4) if isinstance(path, Path) else path).cells:
        settings = cell.metadata.get("mystnb", {})
        for output in cell.get("outputs", []):
            if glued := output.get("metadata", {}).get("scrapbook"):
                numbers[glued["name"]] = output.data["application/papermill.record/text/plain"].strip("'\"")
            if "figure" in settings and "image/png" in output.get("data", {}):
                figures[settings["figure"]["name"]] = base64.b64decode(output.data["image/png"]), settings["image"]["alt"]
    return figures, numbers


# For a projector: pixels for a screen of 1920 x 1080, letters a sixth larger.
LARGER = {"figure.dpi": 220, "font.size": 13, "axes.titlesize": 14}
STYLE_CALL = re.compile(r"^style\.use\(\)$", re.MULTILINE)


def drawn_larger(stem):
    """The chapter's notebook with its figures drawn for a projector; kept in ``_build`` until the chapter changes.

    Raises
    ------
    Trouble
        If the chapter does not set the course's style, or its numbers come out otherwise than stored.
    """
    item = next(item for item in notebooks.derived() if item.name == f"chapters/{stem}.ipynb")
    kept = site.BUILD / "projector" / f"{stem}.ipynb"
    made_from = {**notebooks.hashes(item), "style": LARGER}
    if kept.exists() and nbformat.read(kept, as_version=4).metadata.get("projector") == made_from:
        return kept
    notebook, styled = notebooks.build(item), 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, count = STYLE_CALL.subn(f"style.use()\nplt.rcParams.update({LARGER})", cell.source)
            styled += count
    if styled != 1:
        raise Trouble(f"{item.source.name}: expected one line 'style.use()', found {styled}")
    notebook = notebooks.execute(notebook, item.target.parent, stem)
    if (now := material(notebook)[1]) != (stored := material(item.target)[1]):
        other = ", ".join(name for name in stored if now.get(name) != stored[name])
        raise Trouble(f"{item.name}: these numbers come out otherwise than they are stored: {other}")
    notebook.metadata["projector"] = made_from
    kept.parent.mkdir(parents=True, exist_ok=True)
    notebooks.write(notebook, kept)
    return kept


def draw_larger(stems, workers=2):
    """`drawn_larger` for several chapters, in processes of their own."""
    with ProcessPoolExecutor(max(1, min(workers, len(stems))), mp_context=get_context("spawn")) as pool:
        return dict(zip(stems, pool.map(drawn_larger, stems)))


def _code(source, language, _):
    """A block of code with colours."""
    try:
        lexer = get_lexer_by_name(language or "text")
    except ClassNotFound:
        raise Trouble(f"expected a language that Pygments knows, got {language!r}") from None
    return f'<pre class="code"><code>{highlight(source, lexer, HtmlFormatter(nowrap=True))}</code></pre>'


def _markdown():
    def formula(_, tokens, index, options, env):  # as Sphinx writes it, for tools/mathematics.py
        tex, display = html.escape(tokens[index].content.strip()), tokens[index].type == "math_block"
        return f'<div class="math notranslate nohighlight">\\[{tex}\\]</div>' if display else f'<span class="math notranslate nohighlight">\\({tex}\\)</span>'

    parser = MarkdownIt("commonmark", {"highlight": _code, "typographer": False}).enable("table").use(dollarmath_plugin, double_inline=False)
    for kind in ("math_inline", "math_block"):
        parser.add_render_rule(kind, formula)
    return parser


def as_html(slides, figures, numbers, where):
    """The slides as sections of a page, and the names of the figures that they show.

    Raises
    ------
    Trouble
        If a figure or a number is not in the chapter, or a role is used that a deck does not know.
    """
    parser, sections, shown = _markdown(), [], []

    def number(match):
        if match[1] not in numbers:
            raise Trouble(f"{where}: the chapter glues no number {match[1]}")
        return numbers[match[1]]

    def figure(match):
        if match[1] not in figures:
            raise Trouble(f"{where}: the chapter has no figure {match[1]}; it has {', '.join(figures)}")
        shown.append(match[1])
        return f'<figure><img src="figures/{match[1]}.png" alt="{html.escape(figures[match[1]][1])}"></figure>'

    for count, slide in enumerate(slides, start=1):
        text, notes = (GLUE.sub(number, part) for part in (slide.text, slide.notes))
        if role := ROLE.search(text + notes):
            raise Trouble(f"{where}: slide {count}: a deck knows no {role[0]}…")
        before = len(shown)
        body = parser.render(FIGURE.sub(figure, text))
        kind = "title" if count == 1 else "picture" if len(shown) > before else "text"
        sections.append(f'<section>\n<div class="slide {kind}">\n{body}</div>\n<aside class="notes">\n{parser.render(notes)}</aside>\n</section>')
    return "\n".join(sections), shown


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="lib/reveal.css">
<link rel="stylesheet" href="lib/slides.css">
</head>
<body>
<main><div class="reveal"><div class="slides">
{sections}
</div></div></main>
<script src="lib/reveal.js"></script>
<script src="lib/notes.js"></script>
<script>
Reveal.initialize({{
  width: 1280, height: 720, margin: 0.04, center: false, hash: true, slideNumber: "c/t", transition: "none",
  pdfSeparateFragments: false, plugins: [RevealNotes],
}});
</script>
</body>
</html>
"""

CONTENTS = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Slides: {course}</title>
<link rel="stylesheet" href="lib/slides.css"></head>
<body class="contents"><main>
<h1>Slides: {course}</h1>
<p>Open a deck, and press F for the whole screen, S for the speaker's window with notes and a clock, O for an overview, and ? for all keys.
Nothing is loaded from the network.</p>
<ol>
{entries}
</ol>
</main></body>
</html>
"""


def install():
    """Copy what every deck needs beside the decks."""
    site.install_assets()
    lib, reveal = TARGET / "lib", ROOT / "node_modules/reveal.js/dist"
    lib.mkdir(parents=True, exist_ok=True)
    for source in ("reveal.js", "plugin/notes.js", "reveal.css"):
        shutil.copy2(reveal / source, lib / Path(source).name)
    shutil.copytree(site.OFFLINE / "mathjax/fonts", lib / "offline/mathjax/fonts", dirs_exist_ok=True)


def build(names=()):
    """Build the decks (or those that are named, such as ``03_saturation``) into ``_build/slides``.

    Returns
    -------
    list of Path
        The pages of the decks.
    """
    chosen = [path for path in sources() if not names or path.stem in names]
    if missing := set(names) - {path.stem for path in chosen}:
        raise Trouble(f"expected decks out of {', '.join(path.stem for path in sources())}; got {', '.join(sorted(missing))}")
    if not names:
        shutil.rmtree(TARGET, ignore_errors=True)  # decks that are gone
    install()
    (TARGET / "figures").mkdir(exist_ok=True)
    pages, decks = {}, {path: read(path) for path in chosen}
    print("drawing the chapters' figures for a projector (minutes, once for each version of a chapter)", flush=True)
    drawn = draw_larger([path.stem for path in chosen])
    for path, slides in decks.items():
        where = path.relative_to(ROOT).as_posix()
        figures, numbers = material(drawn[path.stem])
        sections, shown = as_html(slides, figures, numbers, where)
        for name in shown:
            (TARGET / "figures" / f"{name}.png").write_bytes(figures[name][0])
        title = re.match(r"# (.+)", slides[0].text)[1]
        pages[TARGET / f"{path.stem}.html"] = PAGE.format(title=html.escape(title), sections=sections)
    pages, formulas = mathematics.set_formulas(pages)
    (TARGET / "lib/slides.css").write_text(STYLE.read_text(encoding="utf-8") + HtmlFormatter().get_style_defs(".code") + formulas, encoding="utf-8")
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    entries = [
        f'<li><a href="{path.stem}.html">{html.escape(re.match(r"# (.+)", read(path)[0].text)[1])}</a> · {len(read(path))} slides · <a href="{path.stem}.pdf">PDF</a></li>'
        for path in sources()
        if (TARGET / f"{path.stem}.html").exists()
    ]
    (TARGET / "index.html").write_text(CONTENTS.format(course=html.escape(course().name), entries="\n".join(entries)), encoding="utf-8")
    return list(pages)


def print_with(chromium, pages):
    """Print decks, a slide to a page, with a Chromium of Playwright that runs."""
    for path in pages:
        page = chromium.new_page(viewport={"width": 1280, "height": 720})
        page.goto(f"{path.as_uri()}?print-pdf")
        page.wait_for_selector(".pdf-page")
        page.evaluate("() => document.fonts.ready.then(() => null)")
        page.pdf(path=path.with_suffix(".pdf"), prefer_css_page_size=True, print_background=True, tagged=True)
        page.close()
        wanted, got = path.read_text(encoding="utf-8").count("<section>"), len(PdfReader(path.with_suffix(".pdf")).pages)
        if wanted != got:
            raise Trouble(f"{path.stem}.pdf: expected a page for each of {wanted} slides, got {got}")


def make(names=()):
    """Build the decks, and print them where there is a Chromium."""
    pages = build(names)
    if browser():
        with printer() as chromium:
            print_with(chromium, pages)
    else:
        print("no PDF: it needs a Chromium (Debian: apt-get install chromium)")
    print(f"\nBuilt {len(pages)} of {len(sources())} decks: {TARGET / 'index.html'}")
