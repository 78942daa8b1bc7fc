"""The whole book as one PDF: the pages of the built site, one after another, printed by Chromium."""

import contextlib
import html
import posixpath
import re
from urllib.parse import unquote, urldefrag

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

from . import site
from .paths import ROOT, Trouble, browser

TARGET = site.BUILD / "vanishing-gradients.pdf"
# Not for paper: buttons, code that the page hides, the data of figures that move.
DROPPED = "a.headerlink, button, script, noscript, .sp-cite, .sp-without, .prev-next-area, details.hide, details.admonition.hide"
REFERENCES = ("aria-labelledby", "aria-describedby", "aria-controls", "for", "headers")
STYLE = """
@page { size: A4; margin: 18mm 16mm 20mm; }
html { font-size: 10.5pt; }
body { background: white; color: black; padding: 0; }
article { break-before: page; max-width: none; }
h1, h2, h3, h4, figcaption, summary { break-after: avoid; }
figure, .sp-still, .sd-card, tr { break-inside: avoid; }
figure > img, .sp-still svg { max-width: 100% !important; max-height: 125mm; width: auto !important; height: auto !important; }
pre { white-space: pre-wrap !important; overflow-wrap: anywhere; font-size: 8.5pt; }
a { color: inherit; text-decoration: none; border-bottom: 0.3pt solid #888; }
.pst-scrollable-table-container, table { overflow: visible !important; }
table { display: table !important; font-size: 8pt; width: 100%; }
.bd-article table :is(td, th) { padding: 0.4mm 1.2mm 0.4mm 0 !important; overflow-wrap: anywhere; line-height: 1.35; }
colgroup { display: none; }
.cover { padding-top: 60mm; }
.cover h1 { font-size: 30pt; }
.contents { break-before: page; list-style: none; padding: 0; }
.contents li { display: flex; justify-content: space-between; padding: 1.2mm 0; }
.contents .part { font-weight: 700; padding-top: 4mm; }
.contents a { border: none; }
"""
FOOTER = '<div style="width: 100%; text-align: center; font: 8pt sans-serif"><span class="pageNumber"></span></div>'


def order():
    """The pages of the book in the order of the table of contents, as (caption of the part or None, page)."""
    toc = yaml.safe_load(site.table_of_contents().read_text(encoding="utf-8"))
    parts = [{"chapters": [{"file": toc["root"]}, *toc.get("chapters", [])]}, *toc.get("parts", [])]
    return [(part.get("caption") if i == 0 else None, page["file"]) for part in parts for i, page in enumerate(part["chapters"])]


def slug(page):
    return re.sub(r"\W+", "-", page)


def moved(link, page, pages):
    """Where a link of `page` leads in the book that is one document; None if it leads to a page that is not in it.

    >>> moved("02_depth.html#depth", "chapters/01_updates", {"chapters/01_updates", "chapters/02_depth"})
    '#chapters-02_depth--depth'
    >>> moved("https://example.org/a", "book/index", set()), moved("../search.html", "book/index", set())
    ('https://example.org/a', None)
    """
    if re.match(r"[a-z]+:", link):
        return link
    path, fragment = urldefrag(link)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(path))) if path else f"{page}.html"
    target = target.removesuffix(".html")
    if target not in pages:
        return None
    return f"#{slug(target)}" + (f"--{fragment}" if fragment else "")


def article(page, pages):
    """The text of one page, with names and links that hold in the whole book."""
    source = site.INDEX.parent / f"{page}.html"
    body = BeautifulSoup(source.read_text(encoding="utf-8"), "html.parser").select_one("article")
    for element in body.select(DROPPED):
        element.decompose()
    for element in body.find_all(True):
        if element.get("id"):
            element["id"] = f"{slug(page)}--{element['id']}"
        for name in REFERENCES:
            if element.get(name):
                value = element[name] if isinstance(element[name], list) else element[name].split()
                element[name] = " ".join(f"{slug(page)}--{each}" for each in value)
        if element.name == "details":
            element["open"] = ""
        if element.name == "img" and not element["src"].startswith("data:"):
            element["src"] = (source.parent / unquote(element["src"])).resolve().as_uri()
            element.attrs.pop("loading", None)  # nothing comes near on paper
        if element.name == "a" and element.get("href"):
            if (target := moved(element["href"], page, pages)) is None:
                element.unwrap()
            else:
                element["href"] = target
    body["id"] = slug(page)
    return body


def document(numbers=None):
    """The book as one page of HTML; `numbers` are the page numbers for its table of contents."""
    book = order()
    pages = {page for _, page in book}
    articles = {page: article(page, pages) for _, page in book}
    sheets = [re.findall(r'<link rel="stylesheet" href="(?:\.\./)*([^"]+)"', (site.INDEX.parent / f"{page}.html").read_text(encoding="utf-8")) for _, page in book]
    styles = [(site.INDEX.parent / sheet).as_uri() for sheet in dict.fromkeys(sum(sheets, []))]
    contents = []
    for caption, page in book[1:]:
        if caption:
            contents.append(f'<li class="part">{html.escape(caption)}</li>')
        title = articles[page].h1.decode_contents()
        contents.append(f'<li><a href="#{slug(page)}">{title}</a><span>{(numbers or {}).get(page, "")}</span></li>')
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    authors = ", ".join(each["name"] for each in cff["authors"])
    links = "".join(f'<link rel="stylesheet" href="{href}">' for href in styles)
    return f"""<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<title>{html.escape(cff["title"])}</title>{links}<style>{STYLE}</style></head>
<body><div class="cover bd-article"><p class="title" style="font-size: 30pt; font-weight: 700">{html.escape(cff["title"])}</p>
<p>{html.escape(authors)}, version {cff["version"]}</p>
<p>Text and figures: {cff["license"][1]}. Code: {cff["license"][0]}. The figures that move, and the playground, are on the website.</p></div>
<ul class="contents">{"".join(contents)}</ul>
{"".join(str(each) for each in articles.values())}</body></html>"""


@contextlib.contextmanager
def printer():
    """A Chromium that runs, for what is printed here, decks and questions too."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def make():
    """Print the built site into ``_build/vanishing-gradients.pdf``; raises `Trouble` without a Chromium."""
    if not browser():
        raise Trouble("expected a Chromium, which prints the PDF; found none (Debian: apt-get install chromium)")
    with printer() as chromium:
        print_with(chromium)
    print(f"\nThe book is printed: {TARGET} ({len(PdfReader(TARGET).pages)} pages)")


def print_with(chromium):
    """Print the built site with a Chromium of Playwright that runs."""
    source = site.BUILD / "book.html"
    page = chromium.new_page()
    numbers = None
    for _ in range(2):  # the table of contents learns its page numbers from the first print
        source.write_text(document(numbers), encoding="utf-8")
        page.goto(source.as_uri())
        page.evaluate("() => document.fonts.ready.then(() => null)")
        page.pdf(path=TARGET, prefer_css_page_size=True, outline=True, tagged=True, print_background=True,
                 display_header_footer=True, header_template="<span></span>", footer_template=FOOTER)  # fmt: skip
        numbers = page_numbers()
    page.close()


def page_numbers():
    """``{page: number}`` of where each page of the book begins in the PDF, from its outline."""
    reader = PdfReader(TARGET)
    starts = [reader.get_destination_page_number(entry) + 1 for entry in reader.outline if not isinstance(entry, list)]
    return dict(zip((page for _, page in order()), starts, strict=True))
