"""The built site in a real browser: it asks nothing of the network, shows its mathematics, and its figures move.

Run by `make test` after the site was built; skipped where no Chromium is found.
"""

from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin

import pytest

from tools.paths import ROOT
from tools.testing import browser

HTML = ROOT / "_build" / "html"
PAGES = sorted(path for path in HTML.rglob("*.html") if "_static" not in path.parts)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
needs_browser = pytest.mark.skipif(browser() is None, reason="no Chromium found")


def name(path):
    return path.relative_to(HTML).as_posix()


def widget_pages():
    return [path for path in PAGES if "widget-view+json" in path.read_text(encoding="utf-8")]


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.images_without_alt = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.update(filter(None, [attributes.get("id"), attributes.get("name")]))
        # docutils puts the file's address where a text alternative is missing.
        if tag == "img" and attributes.get("alt") in (None, "", attributes.get("src")):
            self.images_without_alt.append(attributes.get("src"))
        for key in ("href", "src"):
            if attributes.get(key):
                self.links.append((tag, attributes[key]))


@pytest.fixture(scope="session")
def parsed():
    return {path: Links(path.read_text(encoding="utf-8")) for path in PAGES}


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=browser(), args=FLAGS)
        yield instance
        instance.close()


@pytest.fixture
def page(chromium):
    """A page that notes every request beyond the site's own files, and every error."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.beyond, page.errors = [], []
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else page.beyond.append(r.url))
    page.on("requestfailed", lambda r: page.errors.append(f"not loaded: {r.url}"))
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


def show(page, path):
    """Open a page and wait until its mathematics and its interactive figures are there."""
    page.goto(path.as_uri())
    if page.locator("script[src*='mathjax/tex-mml-chtml']").count():
        page.wait_for_function("() => window.MathJax?.startup?.promise")
        page.evaluate("() => MathJax.startup.promise")
    if path in widget_pages():
        page.locator(".sp-figure:visible").first.wait_for(timeout=20_000)
    page.wait_for_timeout(300)  # for what a script might still ask for


def wrong_mathematics(page):
    """What MathJax could not read: it shows it as an error node or in red, and Sphinx's -W does not see that."""
    wrong = "mjx-merror, mjx-container [data-mjx-error], mjx-container [style*='color: red']"
    return page.locator(wrong).evaluate_all("nodes => nodes.map(node => node.outerHTML.slice(0, 200))")


def test_the_pages_of_the_course_are_there():
    names = {name(path) for path in PAGES}
    expected = {"index", "book/index", "book/how_to_use", "book/notation", "book/bibliography", "search"}
    expected |= {item.target.relative_to(ROOT).with_suffix("").as_posix() for item in course_notebooks()}
    assert {f"{page}.html" for page in expected} <= names


def course_notebooks():
    from tools.notebooks import derived

    return derived()


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_internal_links_lead_somewhere(path, parsed):
    broken = []
    for _, link in parsed[path].links:
        target, fragment = urldefrag(urljoin(path.as_uri(), link))
        if not target.startswith("file:"):
            continue
        file = HTML.joinpath(*unquote(target.removeprefix(HTML.as_uri() + "/").split("?")[0]).split("/"))
        if target.split("?")[0] != path.as_uri() and not file.is_file():
            broken.append(link)
        elif fragment and file.suffix == ".html" and unquote(fragment) not in parsed.get(file, parsed[path]).ids:
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_image_has_a_text_alternative(path, parsed):
    assert not parsed[path].images_without_alt


@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name == "chapters"], ids=name)
def test_a_chapter_has_its_parts(path):
    text = path.read_text(encoding="utf-8")
    for heading in ("Predict first", "The claim", "The theory", "Where it stops being true", "Explore", "Exercises"):
        assert f">{heading}<" in text, heading
    assert "widget-view+json" in text, "no interactive figure"


@needs_browser
@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_asks_nothing_of_the_network_and_has_no_error(path, page):
    show(page, path)
    assert wrong_mathematics(page) == []
    assert page.locator("mjx-container").count() >= page.locator(".math").count()
    assert page.beyond == []
    assert page.errors == []


@needs_browser
@pytest.mark.parametrize("path", widget_pages(), ids=name)
def test_an_interactive_figure_shows_and_moves(path, page):
    show(page, path)
    before = page.locator(".sp-figure:visible").first.get_attribute("aria-label")
    handle = page.locator(".noUi-handle:visible").first
    handle.focus()
    handle.press("ArrowRight")
    page.wait_for_function("before => [...document.querySelectorAll('.sp-figure')].filter(e => e.offsetParent)[0]"
                           "?.getAttribute('aria-label') !== before", arg=before)  # fmt: skip
    assert page.beyond == [] and page.errors == []


@needs_browser
@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name in ("chapters", "book", "labs")], ids=name)
def test_a_phone_does_not_scroll_sideways(path, chromium):
    context = chromium.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    show(page, path)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    context.close()


# The contrast ratio of WCAG 2 between the text of every element that is found and the paper that it stands on.
CONTRASTS = """elements => elements.map(element => {
    const read = colour => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
    const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    let paper = element;
    while (paper && (read(getComputedStyle(paper).backgroundColor)[3] ?? 1) === 0) paper = paper.parentElement;
    const [a, b] = [getComputedStyle(element).color, paper ? getComputedStyle(paper).backgroundColor : 'rgb(255, 255, 255)']
        .map(colour => light(read(colour))).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
})"""


def contrasts(page, scheme, html=None):
    page.emulate_media(color_scheme=scheme)
    return page.locator(html or ".cell_output .text_html :is(summary, strong, p, li, td, th, code)").evaluate_all(CONTRASTS)


@needs_browser
@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name in ("chapters", "solutions")], ids=name)
def test_what_cells_show_is_readable_in_both_schemes(path, page):
    show(page, path)
    for scheme in ("light", "dark"):
        found = contrasts(page, scheme)
        assert found and min(found) >= 4.5, (scheme, min(found))


@needs_browser
def test_text_of_the_colour_of_its_paper_is_seen(page, tmp_path):
    planted = tmp_path / "planted.html"
    planted.write_text('<div style="background: #eee"><p style="color: #ddd">a</p><p style="color: #000">b</p></div>')
    page.goto(planted.as_uri())
    low, high = contrasts(page, "light", "p")
    assert low < 1.3 and high > 15


@needs_browser
def test_search_finds_a_chapter(page):
    page.goto((HTML / "search.html").as_uri() + "?q=saturation")
    page.locator("ul.search li a", has_text="aturation").first.wait_for(timeout=15_000)
    assert page.beyond == []


@needs_browser
def test_the_instruments_of_this_file_see_a_fault(page, tmp_path):
    """An external script, a failing script and a missing file, planted in a page, are all noticed."""
    planted = tmp_path / "planted.html"
    planted.write_text('<script src="https://example.org/a.js"></script><script>nothing()</script><img src="none.png"><img src="a.png" alt="a.png">')
    show(page, planted)
    assert page.beyond == ["https://example.org/a.js"]
    assert any("nothing is not defined" in error for error in page.errors)
    assert any("none.png" in error for error in page.errors)
    assert Links(planted.read_text()).images_without_alt == ["none.png", "a.png"]


@needs_browser
@pytest.mark.parametrize("tex, wrong", [(r"x^2", False), (r"\nosuchmacro", True), (r"\frac{1}", True)])
def test_a_mistake_in_tex_is_seen(tex, wrong, page, tmp_path):
    planted = tmp_path / "planted.html"
    mathjax = (HTML / "_static/offline/mathjax/tex-mml-chtml.js").as_uri()
    planted.write_text(f'<p>\\({tex}\\)</p><script src="{mathjax}"></script>')
    show(page, planted)
    assert (len(wrong_mathematics(page)) > 0) == wrong
