"""The playground in a real browser: the same numbers as autograd, by keyboard, by touch, by address."""

import json
import re

import pytest
from browsing import HTML, needs_browser
from test_playground import CASES, in_torch

from signalprop.playground import CONTROLS

PAGE = HTML / "chapters/playground.html"
# The module as the page has it: from the state of the widget that is stored in it.
IMPORT = """async (body) => {
    const states = JSON.parse(document.querySelector("script[type='application/vnd.jupyter.widget-state+json']").textContent).state;
    const {_esm} = Object.values(states).map((model) => model.state).find((state) => state._esm);
    window.playground = await import(URL.createObjectURL(new Blob([_esm], {type: "text/javascript"})));
}"""
RUN = """(settings) => {
    const net = playground.draw(settings);
    return JSON.parse(JSON.stringify({...playground.propagate(settings, net), ...net},
        (_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value));
}"""
pytestmark = needs_browser


def open_page(page, fragment=""):
    page.goto(PAGE.as_uri() + fragment)
    page.locator(".spp-chart").first.wait_for(timeout=20_000)


def shown(page):
    """Settings that the controls show, by name."""
    return {name: page.locator(f"[id^=spp-{name}-]").first.input_value() for name in CONTROLS}


def words(page):
    return page.locator(".spp-words").text_content()


def becomes(page, text):
    page.locator(".spp-words", has_text=text).wait_for(timeout=10_000)


def test_the_browser_computes_what_autograd_computes(page):
    open_page(page)
    page.evaluate(IMPORT)
    for case in CASES[::10] + CASES[-7:]:
        found = page.evaluate(RUN, case)
        for quantity, values in in_torch(case, found).items():
            assert found[quantity] == pytest.approx(values, rel=1e-6, abs=0), (quantity, case)


def number(text):
    """The number in a cell of the table: 0.123, 4.5·10⁻⁶ or 12 %."""
    plain = text.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")).replace("·10", "e").replace("\u00a0%", "e-2")
    return float(plain)


def test_what_is_shown_is_what_was_computed(page):
    open_page(page, "#depth=12&phi=relu&sigma_w=1.41&skip=identity&seed=5")
    page.evaluate(IMPORT)
    found = page.evaluate(RUN, {name: float(v) if re.fullmatch(r"[\d.]+", v) else v for name, v in shown(page).items()})
    page.locator(".spp summary").click()
    rows = page.locator(".spp-table tbody tr").evaluate_all("rows => rows.map(row => [...row.cells].map(c => c.textContent))")
    assert [int(row[0]) for row in rows] == list(range(1, 13))
    for column, quantity in ((1, "variance"), (3, "gradient"), (5, "saturated")):
        tolerance = {"abs": 0.0051} if quantity == "saturated" else {"rel": 0.051}  # per cent; two digits or more
        assert [number(row[column]) for row in rows] == pytest.approx(found[quantity], **tolerance)
    label = page.locator(".spp-chart").first.get_attribute("aria-label")
    assert rows[0][3] in label and "Theory" in label


def test_the_keyboard_moves_it_and_the_address_follows(page):
    open_page(page)
    before = words(page)
    page.locator("[id^=spp-depth-]").press("ArrowRight")
    becomes(page, "layer 31 gets")
    assert words(page) != before
    page.wait_for_function("() => location.hash.includes('depth=31') && location.hash.includes('phi=tanh')")
    page.locator("[id^=spp-phi-]").select_option("sigmoid")
    becomes(page, "The gradient vanishes")
    assert page.beyond == [] and page.errors == []


def test_other_nets_are_drawn_behind(page):
    open_page(page)
    page.get_by_role("button", name="10 more nets").click()
    page.wait_for_function("() => document.querySelectorAll('.spp-chart')[0].querySelectorAll('.spp-other').length === 10")
    assert shown(page)["seed"] == "11"
    page.get_by_role("button", name="Start again").click()
    page.wait_for_function("() => document.querySelectorAll('.spp-other').length === 0")
    assert shown(page)["seed"] == "1"


def test_a_link_opens_its_state_and_an_experiment_moves_to_another(page):
    open_page(page, "#depth=50&phi=selu&sigma_w=1.5&width=16&norm=layer")
    assert shown(page) == {
        "depth": "50", "width": "16", "phi": "selu", "sigma_w": "1.5", "sigma_b": "0", "norm": "layer", "skip": "none", "seed": "1",
    }  # fmt: skip
    assert page.locator(".spp-problems li").count() == 0
    page.get_by_role("link", name="Tanh with large weights").click()
    becomes(page, "The gradient explodes")
    assert shown(page)["sigma_w"] == "4" and shown(page)["depth"] == "30"


def test_wrong_parameters_are_named_and_the_rest_is_shown(page):
    open_page(page, "#depth=7000&phi=%3Cb%3E&colour=red&sigma_w=2")
    said = page.locator(".spp-problems li").all_text_contents()
    assert [text.split(" ")[0] for text in said] == ["depth:", "phi:", "“colour”"] and "“<b>”" in said[1]
    assert shown(page)["sigma_w"] == "2" and shown(page)["depth"] == "30"
    assert page.locator(".spp-problems b").count() == 0 and page.errors == []


def test_touch_moves_it_on_a_phone(chromium):
    context = chromium.new_context(viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    page = context.new_page()
    open_page(page)
    page.get_by_role("button", name="Another net").tap()
    page.wait_for_function("() => location.hash.includes('seed=2')")
    slider = page.locator("[id^=spp-sigma_w-]")
    box = slider.bounding_box()
    slider.tap(position={"x": 0.9 * box["width"], "y": box["height"] / 2})  # waits until it stands still
    becomes(page, "The gradient explodes")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 320
    context.close()


def test_controls_have_names_and_the_charts_words(page):
    open_page(page)
    for name, control in CONTROLS.items():
        assert page.locator(f"[id^=spp-{name}-]").evaluate("e => e.labels[0].textContent").startswith(control["label"])
    for chart in page.locator(".spp-chart").all():
        assert re.search(r"in layer 1, .* in layer 30", chart.get_attribute("aria-label"))


def test_the_stored_state_is_the_packages(page):
    """What the page runs is the source, not an older copy of it."""
    from signalprop.playground import module

    place = re.search(r'data-state="([^"]*)"', PAGE.read_text(encoding="utf-8"))[1]
    text = re.search(r"textContent: (.*)}\)\);$", (PAGE.parent / place).read_text(encoding="utf-8"))[1]
    states = json.loads(json.loads(text))
    assert [state["state"]["_esm"] for state in states["state"].values() if "_esm" in state["state"]] == [module()]
