"""No page ships more than 1.5 MB (compressed) before the reader does something, and the widget manager comes late."""

import gzip
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browsing import HTML, PAGES, name, needs_browser, show, widget_pages

pytestmark = needs_browser
LIMIT = 1.5e6
PACKED = (".png", ".webp", ".woff", ".woff2", ".jpg")  # no web server compresses these again
MANAGER = ("require.js", "embed-amd.js")


def files(page):
    """Note what a page asks for, as the set `page.files`."""
    page.files = set()
    page.on("request", lambda request: page.files.add(Path(unquote(urlsplit(request.url).path))) if request.url.startswith("file:") else None)
    return page


def weight(paths):
    """Bytes that a web server sends for these files, which gzips what can be gzipped."""
    return sum(len(path.read_bytes()) if path.suffix in PACKED else len(gzip.compress(path.read_bytes(), 6)) for path in paths)


def opened(page, path):
    page.goto(path.as_uri(), wait_until="load")
    page.wait_for_timeout(800)  # for what scripts ask for
    return page.files


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_is_light(path, page):
    found = opened(files(page), path)
    assert path in found
    assert weight(found) < LIMIT, sorted(((weight([f]), f.name) for f in found), reverse=True)[:5]


@pytest.mark.parametrize("path", [p for p in widget_pages() if p.stem != "playground"], ids=name)
def test_the_widget_manager_comes_when_a_figure_comes_near(path, page):
    before = {file.name for file in opened(files(page), path)}
    assert not before & set(MANAGER)
    show(page, path)
    assert {file.name for file in page.files} >= set(MANAGER)


def test_a_page_without_a_moving_figure_never_loads_the_manager(page):
    show(files(page), HTML / "book/notation.html")
    page.mouse.wheel(0, 20_000)
    page.wait_for_timeout(500)
    assert not {file.name for file in page.files} & {*MANAGER, "widgets.js"}


def test_a_heavy_picture_is_noticed(page, tmp_path):
    """The instrument of this file sees a page that is too heavy."""
    (tmp_path / "heavy.png").write_bytes(bytes(int(LIMIT)))
    (tmp_path / "page.html").write_text('<img src="heavy.png" alt="heavy">')
    assert weight(opened(files(page), tmp_path / "page.html")) > LIMIT


IMAGE = re.compile(r"<img [^>]*>")


@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name in ("book", "chapters", "labs", "solutions")], ids=name)
def test_pictures_keep_their_place_and_wait_for_their_turn(path):
    pictures = [image for image in IMAGE.findall(path.read_text(encoding="utf-8")) if "_images/" in image]
    for image in pictures:
        assert re.search(r' width="\d+" height="\d+"', image) and 'loading="lazy"' in image and ".png" not in image, image


@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name == "chapters"], ids=name)
def test_pictures_have_the_size_they_are_shown_at(path, page):
    """About two pixels of the file for each of the page, in each direction: what sharp screens show. A tenth more is for
    pictures that stand in a box of their own, which is narrower than the text."""
    show(page, path)
    page.evaluate("() => document.querySelectorAll('article img').forEach(each => (each.loading = 'eager'))")
    page.wait_for_function("() => [...document.querySelectorAll('article img')].every(each => each.complete)")
    ratios = page.locator("article img:visible").evaluate_all("all => all.map(each => each.naturalWidth / each.clientWidth)")
    assert max(ratios, default=0) <= 2.2
