"""The built site in a real browser: it asks nothing of the network, shows its mathematics, and its figures move.

Run by `make test` after the site was built; skipped where no Chromium is found.
"""

from urllib.parse import unquote, urldefrag, urljoin

import pytest
from browsing import FIGURE, HTML, PAGES, Links, name, needs_browser, show, widget_pages

from tools.paths import ROOT


def test_the_pages_of_the_course_are_there():
    names = {name(path) for path in PAGES}
    expected = {"index", "book/index", "book/how_to_use", "book/notation", "book/bibliography", "search"}
    expected |= {item.target.relative_to(ROOT).with_suffix("").as_posix() for item in course_notebooks()}
    assert {f"{page}.html" for page in expected} <= names


def course_notebooks():
    from tools.notebooks import derived

    return derived()


def broken_links(path, links, parsed):
    """Those of the links of the page at `path` that lead to no file of the site, or to no place in it."""
    broken = []
    for _, link in links:
        target, fragment = urldefrag(urljoin(path.as_uri(), link))
        if not target.startswith("file:"):
            continue
        file = HTML.joinpath(*unquote(target.removeprefix(HTML.as_uri() + "/").split("?")[0]).split("/"))
        if target.split("?")[0] != path.as_uri() and not file.is_file():
            broken.append(link)
        elif "=" in fragment and file.name == "playground.html":
            continue  # a state of the playground, which test_playground.py reads
        elif fragment and file.suffix == ".html" and unquote(fragment) not in parsed.get(file, parsed[path]).ids:
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_internal_links_lead_somewhere(path, parsed):
    assert broken_links(path, parsed[path].links, parsed) == []


def test_a_planted_broken_link_is_found(parsed):
    planted = ["02_depth.html", "02_depth.html#the-theory", "https://example.org/a", "../book/none.html", "02_depth.html#none", "#none", "../_images/none.png"]
    found = broken_links(HTML / "chapters/01_weight_updates.html", [("a", link) for link in planted], parsed)
    assert found == planted[3:]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_image_has_a_text_alternative(path, parsed):
    assert not parsed[path].images_without_alt


@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name == "chapters" and p.name[0].isdigit()], ids=name)
def test_a_chapter_has_its_parts(path):
    text = path.read_text(encoding="utf-8")
    for heading in ("Predict first", "The claim", "The theory", "Where it stops being true", "Explore", "Exercises"):
        assert f">{heading}<" in text, heading
    assert "widget-view+json" in text, "no interactive figure"


@needs_browser
@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_asks_nothing_of_the_network_and_has_no_error(path, page):
    show(page, path)
    assert page.beyond == []
    assert page.errors == []


@needs_browser
@pytest.mark.parametrize("path", [p for p in widget_pages() if p.stem != "playground"], ids=name)
def test_an_interactive_figure_shows_and_moves(path, page):
    show(page, path)
    before = page.locator(FIGURE).first.get_attribute("aria-label")
    handle = page.locator(".noUi-handle:visible").first
    handle.focus()
    handle.press("ArrowRight")
    page.wait_for_function("before => [...document.querySelectorAll('.widget-subarea .sp-figure')].find(e => e.offsetParent)"
                           "?.getAttribute('aria-label') !== before", arg=before)  # fmt: skip
    assert page.beyond == [] and page.errors == []


@needs_browser
@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name in ("chapters", "book", "labs")], ids=name)
def test_a_phone_does_not_scroll_sideways(path, chromium):
    context = chromium.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    show(page, path)
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(200)  # for what follows the width
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
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
@pytest.mark.parametrize("path", [p for p in PAGES if "output text_html" in p.read_text(encoding="utf-8")], ids=name)
def test_what_cells_show_is_readable_in_both_schemes(path, page):
    show(page, path)
    for scheme in ("light", "dark"):
        found = contrasts(page, scheme)
        assert found and min(found) >= 4.5, (scheme, min(found))


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("what", ["article p a.reference", "#pst-back-to-top"])
def test_links_and_buttons_are_readable_also_under_the_pointer(scheme, what, page):
    show(page, HTML / "book/how_to_use.html")
    page.add_style_tag(content="* { transition: none !important } #pst-back-to-top { display: block !important }")
    assert contrasts(page, scheme, what)[0] >= 4.5
    page.locator(what).first.hover()
    assert contrasts(page, scheme, what)[0] >= 4.5


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
    page.wait_for_timeout(500)  # for what is done with the results
    assert page.beyond == [] and page.errors == []


@needs_browser
@pytest.mark.parametrize("address", ["book/index.html", "chapters/03_saturation.html", "chapters/playground.html", "labs/lab03_saturation.html", "search.html?q=saturation"])
def test_a_web_server_is_asked_for_nothing_that_it_does_not_have(address, page, served):
    missing = []
    page.on("response", lambda response: missing.append(response.url) if response.status >= 400 else None)
    page.goto(f"{served}/{address}", wait_until="networkidle")
    for moving in page.locator(".sp-still").all()[:1]:
        moving.scroll_into_view_if_needed()
        page.locator(FIGURE).first.wait_for(timeout=20_000)
    assert missing == [] and page.errors == [] and all(url.startswith(served) for url in page.beyond)


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

