"""What every page says of itself, and how it stands up to scripts that are off, small screens, and copies on a disk."""

import re
import zipfile

import pytest
from browsing import HTML, PAGES, name, needs_browser, show, widget_pages
from bs4 import BeautifulSoup

from tools import gallery, site

TEXTS = [path for path in PAGES if path.parent.name in ("book", "chapters", "labs", "solutions")]
CHAPTERS = [path for path in PAGES if path.parent.name == "chapters"]
NUMBERED = [path for path in CHAPTERS if path.name[0].isdigit()]


@pytest.fixture(scope="session")
def soups():
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in PAGES}


def meta(soup, key):
    found = soup.select(f'meta[name="{key}"], meta[property="{key}"]')
    assert len(found) == 1, f"expected one {key}, got {len(found)}"
    return found[0]["content"]


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_a_page_says_what_it_is(path, soups):
    said = meta(soups[path], "description")
    assert 30 < len(said) <= 160 and "{" not in said and "$" not in said, said
    assert meta(soups[path], "og:title") and meta(soups[path], "og:description") == said


def test_no_two_pages_say_the_same(soups):
    for key in ("description", "og:title"):
        said = [meta(soups[path], key) for path in TEXTS]
        assert len(set(said)) == len(said), key


@pytest.mark.parametrize("path", [p for p in TEXTS if p.parent.name != "solutions"], ids=name)
def test_a_page_can_be_cited(path, soups):
    box = soups[path].select("details.sp-cite")
    assert len(box) == 1
    title = soups[path].h1.get_text().removesuffix("#").strip()
    assert title in box[0].get_text() and "@incollection" in box[0].get_text()


def test_every_chapter_has_a_card_and_a_preview(soups):
    cards = soups[HTML / "book/index.html"].select(".sp-chapter")
    assert len(cards) == len(NUMBERED) == len(gallery.chapters())
    for card, entry in zip(cards, gallery.chapters()):
        assert card.img["alt"] and card.select_one(f'a[href$="{entry["file"]}.html"]')
        assert re.search(r"\d+ minutes", card.get_text()) and "You will be able to" in card.get_text()
        assert (HTML / "_static/previews" / f"{entry['file']}.png").is_file()


@pytest.mark.parametrize("path", NUMBERED, ids=name)
def test_a_prediction_has_an_answer_to_all_its_lines(path, soups):
    import json

    question, answer = (soups[path].select_one(f"script.sp-{kind}") for kind in ("question", "answer"))
    assert question["data-figure"] == answer["data-figure"] and soups[path].find(id=question["data-figure"]).img
    asked, told = json.loads(question.string), json.loads(answer.string)
    assert len(asked["panels"]) == len(told["panels"])
    assert all(set(panel) == set(asked["lines"]) for panel in told["panels"])


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_every_figure_has_a_caption_and_a_text_that_says_more(path, soups):
    for figure in soups[path].select("article figure"):
        caption, alt = figure.figcaption.get_text().strip(), figure.img["alt"]
        assert len(caption) > 20 and len(alt) > 60, figure["id"]
    for still in soups[path].select(".sp-still"):
        assert still.select_one('[role="img"][aria-label]') or "playground" in path.name


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_formulas_are_set_and_a_screen_reader_can_read_them(path, soups):
    formulas = soups[path].select(".math")
    for formula in formulas:
        assert formula.select_one("mjx-container > mjx-assistive-mml > math") and formula.select_one("mjx-math[aria-hidden=true]")
    assert len(soups[path].select("mjx-container")) == len(formulas)
    assert not soups[path].select("mjx-merror") and not soups[path].find(string=re.compile(r"\\\(|\\\["))


@needs_browser
def test_a_formula_is_drawn_with_its_fonts_and_stands_on_the_line(page):
    show(page, HTML / "book/notation.html")
    page.evaluate("() => document.fonts.ready.then(() => null)")
    loaded = page.evaluate("() => [...document.fonts].filter((font) => font.status === 'loaded').map((font) => font.family)")
    assert {"MJXTEX", "MJXTEX-I"} <= set(loaded)
    sizes = page.locator("mjx-container:not([display])").evaluate_all("all => all.map((e) => e.getBoundingClientRect().height)")
    assert 8 < min(sizes) and max(sizes) < 60
    hidden = page.locator("mjx-assistive-mml").evaluate_all("all => all.map((e) => getComputedStyle(e).position + ' ' + getComputedStyle(e).clip)")
    assert set(hidden) == {"absolute rect(1px, 1px, 1px, 1px)"}


# --- scripts off -----------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("path", [p for p in widget_pages()], ids=name)
def test_without_scripts_everything_is_there_as_text_and_pictures(path, chromium):
    context = chromium.new_context(java_script_enabled=False, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.goto(path.as_uri())
    if path.stem != "playground":
        assert page.locator(".sp-still svg").first.is_visible()
        assert page.locator("figure[id$=-predict] img").count() == (path in NUMBERED)
    assert page.locator(".sp-without").first.is_visible()
    assert page.locator("article h2").first.is_visible()
    context.close()


# --- deep links, copies -------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("query", ["?depth=abc&nothing=%F0", "?q=<script>alert(1)</script>", "#no-such-place", "#%"])
def test_a_strange_address_shows_the_page(query, page):
    page.goto((HTML / "chapters/03_saturation.html").as_uri() + query)
    page.wait_for_timeout(500)
    assert page.locator("article h1").is_visible() and page.errors == [] and page.beyond == []


@needs_browser
def test_a_deep_link_leads_to_its_figure(page):
    page.goto((HTML / "chapters/03_saturation.html").as_uri() + "#fig-03-tanh")
    page.wait_for_timeout(1500)
    top = page.evaluate("() => document.getElementById('fig-03-tanh').getBoundingClientRect().top")
    assert -50 < top < 850


@needs_browser
def test_the_archive_works_wherever_it_is_unpacked(page, tmp_path):
    site.archive()
    first = site.ARCHIVE.read_bytes()
    site.archive()
    assert site.ARCHIVE.read_bytes() == first
    with zipfile.ZipFile(site.ARCHIVE) as packed:
        packed.extractall(tmp_path / "a place with ümlauts")
    folder = tmp_path / "a place with ümlauts/vanishing-gradients"
    page.goto((folder / "index.html").as_uri())
    page.wait_for_url("**/book/index.html")
    page.locator(".sp-chapter").nth(2).click()
    page.wait_for_url("**/03_saturation.html")
    page.locator(".sp-still").first.scroll_into_view_if_needed()
    page.locator(".widget-subarea .sp-figure:visible").first.wait_for(timeout=20_000)
    assert page.errors == [] and page.beyond == []


def test_robots_are_welcome_and_a_lost_reader_finds_home():
    assert "Allow: /" in (HTML / "robots.txt").read_text()
    assert 'href="index.html"' in (HTML / "404.html").read_text()


# --- keyboard, motion, colour schemes ---------------------------------------------------------------------


@needs_browser
def test_the_first_stop_of_the_tab_key_skips_to_the_text(page):
    show(page, HTML / "chapters/02_depth.html")
    page.evaluate("() => scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert "Skip to main content" in page.evaluate("() => document.activeElement.textContent")
    page.keyboard.press("Enter")
    assert page.evaluate("() => location.hash") == "#main-content"


@needs_browser
def test_the_focus_is_seen(page):
    show(page, HTML / "book/index.html")
    for _ in range(25):
        page.keyboard.press("Tab")
        shown = page.evaluate("""() => {
            const seen = (e) => { const s = getComputedStyle(e); return (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none'; };
            const at = document.activeElement;
            return at === document.body || seen(at) || seen(at.parentElement) || [at, ...at.querySelectorAll('*')].some(seen)
                || ['::before', '::after'].some((part) => getComputedStyle(at, part).outlineStyle !== 'none'); }""")
        assert shown, page.evaluate("() => document.activeElement.outerHTML.slice(0, 200)")


@needs_browser
def test_what_scrolls_sideways_scrolls_by_keyboard(chromium):
    context = chromium.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    for what, where in ((".pst-scrollable-table-container[data-scrolls]", "book/ledger.html"), ("pre[data-scrolls]", "chapters/02_depth.html")):
        show(page, HTML / where)
        page.keyboard.press("Tab")
        wide = page.locator(what).first
        wide.focus()
        before = wide.evaluate("e => e.scrollLeft")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(600)
        assert wide.evaluate("e => e.scrollLeft") > before, what
        missed = "all => all.filter((e) => e.tabIndex < 0 && e.scrollWidth > e.clientWidth).length"
        assert page.locator("article pre, article .pst-scrollable-table-container").evaluate_all(missed) == 0, where
    context.close()


@needs_browser
def test_who_wants_no_motion_gets_none(chromium):
    context = chromium.new_context(reduced_motion="reduce", viewport={"width": 1200, "height": 900})
    page = context.new_page()
    show(page, HTML / "chapters/02_depth.html")
    moving = page.evaluate("""() => [...document.querySelectorAll('*')].filter((e) => {
        const s = getComputedStyle(e), long = (times) => times.split(',').some((t) => parseFloat(t) > 0.01);
        return long(s.transitionDuration) || (s.animationName !== 'none' && long(s.animationDuration)) || s.scrollBehavior === 'smooth';
    }).map((e) => e.tagName + '.' + e.className).slice(0, 5)""")
    assert moving == []
    context.close()


@needs_browser
def test_on_paper_there_is_the_text_and_no_furniture(page):
    show(page, HTML / "chapters/03_saturation.html")
    page.emulate_media(media="print")
    assert page.locator("figure#fig-03-predict img").is_visible() and not page.locator(".sp-predict").is_visible()
    for furniture in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".prev-next-area"):
        assert not page.locator(furniture).first.is_visible(), furniture
