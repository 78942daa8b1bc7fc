"""axe-core finds nothing wrong on any page: light and dark, on a phone and on a desktop."""

import pytest
from browsing import PAGES, name, needs_browser, show

from tools.paths import ROOT

pytestmark = needs_browser
WIDTHS = (1200, 390)
RUN = """() => axe.run(document, {resultTypes: ["violations"]}).then(({violations}) => violations.flatMap(
    ({id, nodes}) => nodes.map((node) => `${id} at ${node.target.join(" ")}: ${node.failureSummary.split("\\n")[1]?.trim()}`)))"""


def wrong(page, widths=WIDTHS):
    """What axe finds: a line for each rule and element, with the width and the scheme."""
    page.add_style_tag(content="*, *::before, *::after { transition: none !important }")  # colours that fade are read halfway
    page.evaluate((ROOT / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8"))
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)  # page.js makes what scrolls focusable
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function("scheme => document.documentElement.dataset.theme !== (scheme === 'dark' ? 'light' : 'dark')", arg=scheme)
            page.wait_for_timeout(50)
            found += [f"{width} px, {scheme}: {line}" for line in page.evaluate(RUN)]
    return found


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_axe_finds_nothing(path, page):
    show(page, path)
    page.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = true)")
    # All is laid out at once: axe asks what stands at a place, and places move while the rest of a page is laid out.
    page.add_style_tag(content="section { content-visibility: visible !important }")
    assert wrong(page) == []


FAULTS = {
    "image-alt": '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
    "color-contrast": '<p style="color: #999; background: #eee">pale words</p>',
    "label": '<input type="text">',
    "link-name": '<a href="#main-content"></a>',
    "button-name": "<button></button>",
    "heading-order": "<h6>deep</h6>",
    "scrollable-region-focusable": '<div style="width: 90px; overflow-x: auto"><p style="width: 900px">far more words than fit into ninety pixels</p></div>',
    "label-content-name-mismatch": '<button aria-label="Toggle">Show</button>',
}


def test_a_planted_fault_is_found(page):
    show(page, next(path for path in PAGES if path.stem == "notation"))
    for html in FAULTS.values():
        page.evaluate("html => document.querySelector('article').insertAdjacentHTML('beforeend', html)", html)
    lines = wrong(page, widths=(1200,))
    missed = [rule for rule in FAULTS if not any(f": {rule} at" in line for line in lines)]
    assert missed == []
