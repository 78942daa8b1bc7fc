"""A small Sphinx extension for what every page has: words for search engines and link previews, a way to cite it, stills of
its interactive figures, and mends of what the theme gets wrong for people who cannot see or point."""

import functools
import html
import json
import re
import sys
from pathlib import Path

import nbformat
import pybtex.plugin
import yaml
from docutils import nodes
from sphinx.ext import mathjax

sys.path.insert(0, str(Path(__file__).parents[1]))  # Sphinx puts tools/ itself on the path
from tools import gallery  # noqa: E402
from tools.paths import ROOT  # noqa: E402

LENGTH = 160  # of a description: what search engines show
VIEW = re.compile(r'<script type="application/vnd\.jupyter\.widget-view\+json">\s*(\{.*?\})\s*</script>')


# --- words about a page ----------------------------------------------------------------------------------


def shortened(text, length=LENGTH):
    """`text` on one line, cut between words.

    >>> shortened("One sentence.  And another one.", 20)
    'One sentence. And…'
    """
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def description(title, doctree, entry):
    """What a page is about, in at most 160 characters: what a chapter enables one to do, else how the page begins."""
    if entry:
        return shortened(f"{title}: {entry['able']}.")
    paragraphs = doctree.findall(nodes.paragraph) if doctree else []
    texts = (p.astext() for p in paragraphs if isinstance(p.parent, nodes.section))
    beginning = next((text for text in texts if len(text) > 40), "A course on the vanishing gradient problem.")
    return shortened(f"{title}: {beginning}")


def preview(app, entry):
    """The address of a chapter's link preview, or None where the site's own address is not set."""
    base = app.config.html_baseurl
    return f"{base.rstrip('/')}/_static/previews/{entry['file']}.png" if base and entry else None


def tags(app, pagename, context, doctree):
    """The ``meta`` elements of a page, as HTML."""
    title = plain(context.get("title") or app.config.html_title)
    entry = next((e for e in app.env.course_chapters if f"chapters/{e['file']}" == pagename), None)
    said = description(title, doctree, entry)
    found = [("name", "description", said), ("property", "og:title", title), ("property", "og:description", said)]
    found += [("property", "og:type", "article"), ("property", "og:site_name", app.config.html_title)]
    if app.config.html_baseurl and context.get("pageurl"):
        found.append(("property", "og:url", context["pageurl"]))
    if picture := preview(app, entry):
        width, height = gallery.PREVIEW_SIZE
        found += [("property", "og:image", picture), ("property", "og:image:alt", gallery.figure(entry)[1])]
        found += [("property", "og:image:width", width), ("property", "og:image:height", height)]
        found += [("name", "twitter:card", "summary_large_image")]
    return "\n".join(f'<meta {kind}="{name}" content="{html.escape(str(value))}" />' for kind, name, value in found)


def plain(title):
    return html.unescape(re.sub(r"<[^>]*>", "", title))


# --- cite this page --------------------------------------------------------------------------------------


def citation(title, url):
    """How to cite a page, or the course if `title` is None: a sentence and a BibTeX entry, from ``CITATION.cff``."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    authors = " and ".join(a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in cff["authors"])
    year, version = str(cff["date-released"])[:4], cff["version"]
    said = f"{title}. In: {cff['title']}" if title else cff["title"]
    fields = {"author": f"{{{authors}}}", "title": title or cff["title"]} | ({"booktitle": cff["title"]} if title else {})
    fields |= {"year": year, "note": f"Version {version}"} | ({"url": url} if url else {})
    entry = "\n".join(f"  {name} = {{{value}}}," for name, value in fields.items())
    kind = "incollection" if title else "misc"
    return f"{authors} ({year}). {said}, version {version}. {url or ''}".rstrip(), f"@{kind}{{vanishing-gradients-{year},\n{entry}\n}}"


def cite_box(title, url):
    sentence, bibtex = (html.escape(text) for text in citation(title, url))
    return (
        '\n<details class="sp-cite"><summary>Cite this page</summary>'
        f'<p>{sentence}</p><div class="highlight"><pre>{bibtex}</pre></div></details>\n'
    )


# --- stills of interactive figures -----------------------------------------------------------------------


def still(state, model):
    """The picture that an interactive figure starts with, as HTML; None if it has none."""
    found = state[model]["state"]
    if state[model]["model_name"] == "HTMLModel":
        return found["value"] if "<svg" in found["value"] else None
    children = [child.removeprefix("IPY_MODEL_") for child in found.get("children", [])]
    if state[model]["model_name"] == "StackModel":
        children = children[found["selected_index"] :][:1]
    return next(filter(None, (still(state, child) for child in children)), None)


WITHOUT = '<p class="sp-without"><em>This figure moves when scripts are on.</em></p>'


def with_stills(body, notebook):
    """The body with a picture before each interactive figure, which stands until the figure itself is there."""
    metadata = nbformat.read(notebook, as_version=4).metadata
    state = metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})

    def place(match):
        model = json.loads(match[1])["model_id"]
        picture = (still(state, model) if model in state else None) or ""
        return f'<div class="sp-still">{picture}{WITHOUT}</div>{match[0]}'

    return VIEW.sub(place, body)


# --- mends -----------------------------------------------------------------------------------------------

# What the theme and its neighbours write -> what everyone can use. A test with axe fails where one of them is missing.
MENDS = (
    # A name that differs from the words that are seen can't be spoken to.
    ('<summary aria-label="Toggle hidden content">', "<summary>"),
    ('search-button-field search-button__button pst-js-only" title="Search" aria-label="Search"', 'search-button-field search-button__button pst-js-only"'),
    # The role that docutils gives to an entry of the bibliography is out of use; its list has the role of a list.
    ('role="doc-biblioentry"', 'role="listitem"'),
)
# A table's first column may go without a name, but not as a heading.
UNNAMED = re.compile(r'<th class="head[^"]*">(<p></p>)?</th>')
# The link with the site's name stands outside of every landmark.
LOGO = re.compile(r'<a class="navbar-brand logo".*?</a>', re.DOTALL)
FONTAWESOME = re.compile(r'\s*<!-- So that users can add custom icons -->\s*<script defer src="[^"]*fontawesome\.js[^"]*"></script>')


def mended(text):
    for wrong, right in MENDS:
        text = text.replace(wrong, right)
    text = UNNAMED.sub("<td></td>", text)
    text = LOGO.sub(r'<nav aria-label="Home">\g<0></nav>', text)
    # Half a megabyte of script that draws the icons which the icon font draws too.
    return FONTAWESOME.sub("", text)


# --- the extension ---------------------------------------------------------------------------------------


def name_solutions(app, doctree):
    """A lab and its solutions have one text and so one title; in menus and search results they must differ."""
    if app.env.docname.startswith("solutions/lab") and (title := next(doctree.findall(nodes.title), None)):
        title.replace_self(nodes.title("", title.astext().replace("Lab", "Solutions of lab", 1)))


def begin(app):
    app.env.course_chapters = gallery.chapters()
    app.builder.templates.environment.filters["mended"] = mended


def add(app, pagename, templatename, context, doctree):
    if app.builder.format != "html":
        return
    context["metatags"] = context.get("metatags", "") + "\n" + tags(app, pagename, context, doctree)
    if "body" not in context:
        return
    notebook = ROOT / f"{pagename}.ipynb"
    if VIEW.search(context["body"]):
        context["body"] = with_stills(context["body"], notebook)
        app.add_js_file("widgets.js")
    if 'class="sp-question"' in context["body"]:
        app.add_js_file("predict.js")
    if doctree is not None and pagename.split("/")[0] in ("book", "chapters", "labs"):
        context["body"] += cite_box(plain(context.get("title", "")), context.get("pageurl"))


def setup(app):
    # Formulas stay TeX until tools/finish.py sets them: no page loads MathJax.
    app.add_html_math_renderer("set_later", (mathjax.html_visit_math, None), (mathjax.html_visit_displaymath, None))
    # Pybtex searches all installed packages for a plug-in at each citation: a fifth of the time of a small build.
    pybtex.plugin._load_entry_point = functools.cache(pybtex.plugin._load_entry_point)
    app.connect("builder-inited", begin)
    app.connect("doctree-read", name_solutions, priority=100)  # before Sphinx collects titles
    app.connect("html-page-context", add, priority=900)  # after the theme
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
