"""The question bank (`quiz`) for Moodle, for Canvas and on paper: ``_build/questions``."""

import functools
import html
import random
import re
import warnings

from jinja2 import Environment, PackageLoader, select_autoescape
from loguru import logger
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from moodle_tools.questions.multiple_choice import MultipleChoiceQuestion
from moodle_tools.questions.numerical import NumericalQuestion
from pybtex.database import parse_file
from pypdf import PdfReader, PdfWriter
from text2qti.config import Config
from text2qti.qti import QTI
from text2qti.quiz import GroupStart, Question, Quiz

from quiz import Choice, verify
from quiz.bank import load
from quiz.items import decimal

from . import mathematics, site
from .paths import ROOT, Trouble, browser, course
from .pdf import printer

logger.disable("moodle_tools")  # it tells of every question

TARGET = site.BUILD / "questions"
LETTERS = "ABCDE"


def items_with():
    """{id of a misconception: ids of the items in which it is a wrong answer}."""
    found = {}
    for items in load().values():
        for item in items:
            wrong = item.wrong if isinstance(item, Choice) else item.slips
            for name in dict.fromkeys(each.misconception for each in wrong if each.misconception):
                found.setdefault(name, []).append(item.id)
    return found


def chosen(names=()):
    """The items of the chapters, with the ids or about the misconceptions that are named (default: all), as {"ch03": [item, …]}.

    Raises
    ------
    Trouble
        If a name is neither a chapter of the bank, nor an item, nor a misconception.
    """
    bank, about = load(), items_with()
    known = {item.id for items in bank.values() for item in items} | bank.keys() | about.keys()
    if unknown := set(names) - known:
        raise Trouble(f"expected chapters such as ch03, items such as ch03.quarter or misconceptions such as M1; got {', '.join(sorted(unknown))}")
    wanted = {*names, *(item for name in names for item in about.get(name, []))}
    found = {chapter: [item for item in items if not names or chapter in wanted or item.id in wanted] for chapter, items in bank.items()}
    return {chapter: items for chapter, items in found.items() if items}


def listed(names=()):
    """The items, a line each: name, kind, difficulty, and the beginning of its text."""
    lines = []
    for items in chosen(names).values():
        for item in items:
            kind = "choice" if isinstance(item, Choice) else "number"
            words = " ".join(item.text.split())
            lines.append(f"{item.id:32} {kind}{', what if' if item.what_if else ''}, {item.difficulty}: {words[:90]}{'…' if len(words) > 90 else ''}")
    return "\n".join(lines)


def check(names=()):
    """Verify the items; raises `Trouble` that lists what is wrong with each."""
    items = [item for part in chosen(names).values() for item in part]
    wrong = [f"{item.id}: {problem}" for item in items for problem in verify(item)]
    wrong += [f"{item.id}: no {key} in book/references.bib" for item in items for key in keys(item) if key not in references()]
    if wrong:
        raise Trouble("Items of the question bank that are not sound:\n  " + "\n  ".join(wrong))
    print(f"{len(items)} items of the question bank: each right answer is right, each wrong one is wrong")


# --- what all forms share --------------------------------------------------------------------------------


@functools.cache
def references():
    return parse_file(str(ROOT / "book/references.bib")).entries


def keys(item):
    return [key.strip() for key in item.source.split(",")]


def cited(item):
    """The sources of an item as a reader writes them: "Poole et al. (2016); Hochreiter and Schmidhuber (1997)"."""

    def one(entry):
        names = [" ".join(person.last_names) for person in entry.persons["author"]]
        who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        return f"{re.sub(r'[{}]', '', who)} ({entry.fields['year']})"

    return "; ".join(one(references()[key]) for key in keys(item))


def last_words(item):
    """What stands below an explanation: where the matter comes from, and how hard the item is."""
    return f"Chapter {int(item.id[2:4])}. Source: {cited(item)}. Difficulty {item.difficulty} of 5."


@functools.cache
def _parser(left, right):
    """Markdown to HTML, with formulas between these delimiters."""
    parser = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, double_inline=True)

    def formula(_, tokens, index, options, env):
        return left + html.escape(tokens[index].content.strip(), quote=False) + right

    for kind in ("math_inline", "math_inline_double", "math_block"):
        parser.add_render_rule(kind, formula)
    return parser


def for_moodle(text):
    """A text as HTML, its formulas as Moodle's MathJax filter finds them."""
    return _parser(r"\(", r"\)").render(text).strip()


def for_paper(text, inline=False):
    """A text as HTML, its formulas as `tools.mathematics` sets them."""
    parser = _parser(r'<span class="math notranslate nohighlight">\(', r"\)</span>")
    return (parser.renderInline if inline else parser.render)(text).strip()


# --- Moodle ----------------------------------------------------------------------------------------------


def moodle(bank, variants):
    """The items as Moodle XML: a category for each chapter, and in it one for the variants of each numeric item."""
    flags, documents = {"markdown": False, "table_styling": True}, []
    for chapter, items in bank.items():
        for item in items:
            texts = {"title": item.id, "category": f"{course().name}/{chapter}"}
            if isinstance(item, Choice):
                answers = [{"answer": for_moodle(o.text), "points": 100 if o is item.right else 0, "feedback": for_moodle(o.because or "Right.")} for o in item.options]
                documents.append(
                    MultipleChoiceQuestion(question=for_moodle(item.text), answers=answers, general_feedback=_explained(item, item.explanation), **texts, **flags)
                )
                continue
            texts["category"] += f"/{item.id}"
            for variant in item.variants(variants):
                answers = [{"answer": f"{variant.answer:.6g}", "tolerance": f"{variant.tolerance:.3g}", "points": 100, "feedback": for_moodle("Right.")}]
                answers += [
                    {"answer": f"{number:.6g}", "tolerance": f"{margin:.3g}", "points": 0, "feedback": for_moodle(slip.because)} for number, margin, slip in told_apart(variant)
                ]
                documents.append(
                    NumericalQuestion(
                        question=for_moodle(variant.text), answers=answers, general_feedback=_explained(item, variant.explanation),
                        **texts | {"title": f"{item.id} ({variant.seed + 1})"}, **flags,
                    )  # fmt: skip
                )
    # As moodle-tools itself renders what it has read from YAML.
    environment = Environment(loader=PackageLoader("moodle_tools.questions"), lstrip_blocks=True, trim_blocks=True, autoescape=select_autoescape())
    text = environment.get_template("quiz.xml.j2").render(questions=[document.to_xml(environment) for document in documents])
    return text.strip() + "\n"


def told_apart(variant):
    """The slips of a variant with their tolerances, [(number, tolerance, slip)]: Moodle takes the first that fits, so one that lies on another is left out."""
    found = []
    for number, slip in variant.slips:
        margin = abs(number) * variant.item.relative / 2 or variant.tolerance / 2
        if all(abs(number - other) > margin + its for other, its, _ in found):
            found.append((number, margin, slip))
    return found


def _explained(item, explanation):
    return for_moodle(f"{explanation}\n\n*{last_words(item)}*")


# --- Canvas ----------------------------------------------------------------------------------------------


def canvas(chapter, items, variants):
    """The items of a chapter as text2qti reads them: a quiz, with a group for the variants of each numeric item."""
    lines = [f"Quiz title: {course().name}, chapter {int(chapter[2:])}", "shuffle answers: true", ""]
    for item in items:
        if isinstance(item, Choice):
            lines += _canvas_question(item.id, item.text, f"{item.explanation} *{last_words(item)}*")
            for letter, option in zip(LETTERS.lower(), item.options):
                lines += [f"{'*' if option is item.right else ''}{letter}) {_line(option.text)}", f"... {_line(option.because or 'Right.')}"]
            lines.append("")
            continue
        lines += ["GROUP", "pick: 1", "points per question: 1", ""]
        for variant in item.variants(variants):
            lines += _canvas_question(f"{item.id} ({variant.seed + 1})", variant.text, f"{variant.explanation} *{last_words(item)}*")
            lines += [f"= {variant.answer:.6g} +- {variant.tolerance:.6g}", ""]
        lines += ["END_GROUP", ""]
    return "\n".join(lines)


def _canvas_question(title, text, explanation):
    return [f"Title: {title}", f"1. {_line(text)}", f"... {_line(explanation)}"]


def _line(text):
    return " ".join(text.split())


def qti(chapter, items, variants):
    """The items of a chapter as a QTI package for Canvas (the bytes of a zip file)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of text2qti's Markdown
        quiz = Quiz(canvas(chapter, items, variants), config=Config(), source_name=chapter)
    # text2qti counts the points of every variant, writes limits with four decimals, and calls each group "Group".
    quiz.points_possible = len(items)
    titles = iter(item.id for item in items if not isinstance(item, Choice))
    for part in quiz.questions_and_delims:
        if isinstance(part, GroupStart):
            part.group.title_xml = next(titles)
        elif isinstance(part, Question) and part.type == "numerical_question":
            for limit in ("min", "exact", "max"):
                setattr(part, f"numerical_{limit}_html_xml", f"{getattr(part, f'numerical_{limit}'):.10g}")
    return QTI(quiz).zip_bytes()


# --- on paper --------------------------------------------------------------------------------------------

SHEET = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
@page {{ size: A4; margin: 18mm 18mm 20mm; }}
body {{ font: 11pt/1.45 system-ui, sans-serif; max-width: 46rem; margin: 1rem auto; padding: 0 1rem; color: #111; background: white; }}
.sheet {{ break-before: page; width: 100%; }} .sheet > * > tr > td {{ padding: 0; border: 0; }} /* its head stands on every page */
h1 {{ font-size: 15pt; margin: 0 0 2mm; }} .who {{ margin: 0 0 6mm; color: #333; border-bottom: 0.3mm solid #888; padding-bottom: 2mm; }}
.item {{ break-inside: avoid; margin: 0 0 6mm; }} .item p {{ margin: 0 0 1.5mm; }} ol.options {{ list-style: none; margin: 1mm 0 0; padding: 0; }}
.options li {{ margin-bottom: 1mm; padding-left: 8mm; text-indent: -8mm; }} .small {{ color: #444; font-size: 9pt; }}
table {{ border-collapse: collapse; }} :is(td, th) {{ text-align: left; padding: 0.5mm 4mm 0.5mm 0; vertical-align: top; border-bottom: 0.2mm solid #ccc; }}
{css}</style></head><body>
{body}
</body></html>"""


FOOTER = '<div style="width: 100%; text-align: center; font: 8pt sans-serif">page <span class="pageNumber"></span></div>'


def sheets(bank, copies, seed):
    """Printed sheets, each with other numbers and another order of the options, and the key to all of them.

    Parameters
    ----------
    bank : dict of str -> list
        As from `chosen`.
    copies : int
        Number of sheets; sheet k of one seed is always the same.
    seed : int

    Returns
    -------
    (str, str)
        The sheets and the key, as bodies of a page whose formulas are still to be set.
    """
    items = [item for part in bank.values() for item in part]
    papers, table = [], {item.id: [] for item in items}
    for copy in range(1, copies + 1):
        parts = []
        for number, item in enumerate(items, start=1):
            if isinstance(item, Choice):
                order = random.Random(f"{item.id} {seed} {copy}").sample(item.options, len(item.options))
                options = "".join(f"<li>{letter}&ensp;{for_paper(o.text, inline=True)}</li>" for letter, o in zip(LETTERS, order))
                text, below = item.text, f'<ol class="options">{options}</ol>'
                table[item.id].append(LETTERS[order.index(item.right)])
            else:
                variant = item.variant(1000 * seed + copy)
                text, below = variant.text, "<p>Answer: ____________________</p>"
                table[item.id].append(f"{decimal(float(f'{variant.answer:.3g}'))} ± {100 * item.relative:g} %")
            parts.append(f'<div class="item">{for_paper(f"**{number}.** {text}")}{below}</div>')
        head = f'<p class="who">{html.escape(course().name)} · sheet {copy} of {copies} · Name: ______________________________</p>'
        papers.append(f'<table class="sheet" role="presentation"><thead><tr><td>{head}</td></tr></thead><tbody><tr><td>{"".join(parts)}</td></tr></tbody></table>')
    heads = "".join(f"<th>Sheet {copy}</th>" for copy in range(1, copies + 1))
    rows = "".join(f"<tr><td>{n}</td><td>{i}</td>{''.join(f'<td>{a}</td>' for a in answers)}</tr>" for n, (i, answers) in enumerate(table.items(), start=1))
    why = []
    for number, item in enumerate(items, start=1):
        answer, explanation = ("", item.explanation) if isinstance(item, Choice) else (f" (sheet 1: {table[item.id][0]})", item.variant(1000 * seed + 1).explanation)
        if isinstance(item, Choice):
            answer = " " + for_paper(item.right.text, inline=True)
        why.append(f'<div class="item"><p><b>{number}.</b>{answer}</p>{for_paper(explanation)}<p class="small">{html.escape(item.id)}. {html.escape(last_words(item))}</p></div>')
    key = f"<h1>Key: {html.escape(course().name)}</h1><table><tr><th>No.</th><th>Item</th>{heads}</tr>{rows}</table><h2>Explanations</h2>{''.join(why)}"
    return "\n".join(papers), key


def write_sheets(bank, copies, seed):
    """Write ``sheet.html`` and ``key.html``, and both as PDF where there is a Chromium."""
    bodies = dict(zip((TARGET / "sheet.html", TARGET / "key.html"), sheets(bank, copies, seed)))
    bodies, css = mathematics.set_formulas(bodies)
    css = css.replace("offline/mathjax/fonts", (site.OFFLINE / "mathjax/fonts").as_uri())
    for path, body in bodies.items():
        path.write_text(SHEET.format(title=f"{path.stem.capitalize()}: {html.escape(course().name)}", css=css, body=body), encoding="utf-8")
    if browser():
        with printer() as chromium:
            print_with(chromium, bodies)
        on_leaves(TARGET / "sheet.pdf")


def print_with(chromium, paths):
    for path in paths:
        page = chromium.new_page()
        page.goto(path.as_uri())
        page.evaluate("() => document.fonts.ready.then(() => null)")
        page.pdf(path=path.with_suffix(".pdf"), prefer_css_page_size=True, tagged=True,
                 display_header_footer=True, header_template="<span></span>", footer_template=FOOTER)  # fmt: skip
        page.close()


def on_leaves(path):
    """Give each sheet of a PDF an even number of pages, so that two of them never share a leaf."""
    pages, writer = PdfReader(path).pages, PdfWriter()
    owner = [re.search(r"sheet (\d+) of", page.extract_text())[1] for page in pages]
    for number, page in enumerate(pages):
        writer.add_page(page)
        if (number + 1 == len(pages) or owner[number + 1] != owner[number]) and owner.count(owner[number]) % 2:
            writer.add_blank_page()
    writer.write(path)


def make(names=(), variants=20, copies=1, seed=1):
    """Verify the items, and write all forms of them into ``_build/questions``."""
    for name, value in (("variants", variants), ("sheets", copies)):
        if value < 1:
            raise Trouble(f"expected at least 1 for --{name}, got {value}")
    check(names)
    bank = chosen(names)
    site.install_assets()
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "moodle.xml").write_text(moodle(bank, variants), encoding="utf-8")
    (TARGET / "canvas").mkdir(exist_ok=True)
    for chapter, items in bank.items():
        (TARGET / f"canvas/{chapter}.zip").write_bytes(qti(chapter, items, variants))
    write_sheets(bank, copies, seed)
    print(f"\nThe questions are written: {TARGET} (moodle.xml, canvas/, sheet and key as HTML and PDF)")
