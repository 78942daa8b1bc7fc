"""What the tests of the built site share: its pages, a Chromium, and a reader of links."""

from html.parser import HTMLParser

import pytest

from tools.paths import ROOT
from tools.paths import browser

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


FIGURE = ".widget-subarea :is(.sp-figure, .spp-chart):visible"  # an interactive figure, not its still


def show(page, path):
    """Open a page, scroll to its first interactive figure, and wait until it is there."""
    page.goto(path.as_uri())
    if path in widget_pages():
        page.evaluate("() => (document.querySelector('.sp-still') ?? document.querySelector('.widget-subarea')).scrollIntoView()")
        page.locator(FIGURE).first.wait_for(timeout=20_000)
    page.wait_for_timeout(300)  # for what a script might still ask for

