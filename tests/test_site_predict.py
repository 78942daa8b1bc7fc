"""The cards to draw on, in a real browser: pointer, keyboard, verdict."""

import functools
import json

import pytest
from browsing import HTML, PAGES, name, needs_browser, show

pytestmark = needs_browser
NUMBERED = [path for path in PAGES if path.parent.name == "chapters" and path.name[0].isdigit()]


def first_card(page, path):
    """The first card of a page, drawn: it is when it comes near."""
    show(page, path)
    box = page.locator(".sp-predict").first
    box.wait_for(state="attached")
    box.evaluate("card => card.scrollIntoView({block: 'center'})")
    box.locator("svg").first.wait_for()
    return box


@pytest.fixture
def card(page):
    return functools.partial(first_card, page)


def data(card, kind):
    page = card.page
    return json.loads(page.locator(f"script.sp-{kind}").first.text_content())


@pytest.mark.parametrize("path", NUMBERED, ids=name)
def test_show_me_draws_every_measured_line(path, card, page):
    box = card(path)
    question = data(box, "question")
    box.get_by_role("button", name="Show me").click()
    drawn = box.locator("rect, polyline.measured")
    each = len(question["at"]) if question["bars"] else 1
    assert drawn.count() == len(question["panels"]) * len(question["lines"]) * each
    # Nothing may stick out of its picture: a value beyond the axes is drawn at their edge.
    assert box.locator("svg").evaluate_all("""all => all.flatMap((svg) => [...svg.querySelectorAll('polyline, rect, circle')].filter((e) => {
        const a = e.getBoundingClientRect(), b = svg.getBoundingClientRect(); return a.top < b.top - 8 || a.bottom > b.bottom + 8; }))""") == []
    assert page.errors == []


def test_a_stroke_of_the_pointer_sets_the_points_it_passes(card, page):
    box = card(HTML / "chapters/03_saturation.html")
    page.wait_for_timeout(500)  # until nothing moves
    area = box.locator("svg").bounding_box()
    page.mouse.move(area["x"] + 60, area["y"] + 40)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] - 15, area["y"] + 120, steps=4)  # few events: points between are set too
    page.mouse.up()
    assert box.locator(".handle.unset").count() == 0
    values = [int(v) for v in box.locator(".handle").evaluate_all("all => all.map(e => e.getAttribute('aria-valuenow'))")]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]


def test_the_keyboard_sets_a_point_and_the_verdict_is_arithmetic(card, page):
    box = card(HTML / "chapters/03_saturation.html")
    question, answer = data(box, "question"), data(box, "answer")
    box.get_by_role("button", name="Commit").click()
    assert "Set at least one point first" in box.inner_text()
    handles = box.locator(".handle")
    assert handles.first.get_attribute("aria-valuetext") == "not set"
    for i in range(len(question["at"])):
        handles.nth(i).focus()
        page.keyboard.press("Home")
        page.keyboard.press("PageUp")
        assert page.evaluate("() => document.activeElement.getAttribute('aria-valuenow')") == "10"
    box.get_by_role("button", name="Commit").click()
    # All points at a tenth of an axis of twenty powers of ten: 10⁻⁸. The measured median at each position is known.
    import numpy as np

    (panel,) = answer["panels"]
    (curve,) = panel.values()
    off = [abs(-8 - np.interp(at, curve["at"], np.log10(curve["mid"]))) for at in question["at"]]
    power = str(round(float(np.median(off)))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    verdict = box.locator(".sp-predict-verdict").inner_text()
    assert f"a factor of 10{power}" in verdict and f"0 of {len(off)} inside the band" in verdict


def test_the_measured_curve_itself_gets_full_marks(card, page):
    """Who draws what was measured is off by nothing, and inside the band at every point."""
    box = card(HTML / "chapters/02_depth.html")
    question, answer = data(box, "question"), data(box, "answer")
    import numpy as np

    (panel,) = answer["panels"]
    (curve,) = panel.values()
    low, high = question["panels"][0]["y"]["limits"]
    for i, at in enumerate(question["at"]):
        steps = round(100 * (float(np.interp(at, curve["at"], curve["mid"])) - low) / (high - low) / 2)
        box.locator(".handle").nth(i).focus()
        page.keyboard.press("Home")
        for _ in range(steps):
            page.keyboard.press("ArrowUp")
    box.get_by_role("button", name="Commit").click()
    verdict = box.locator(".sp-predict-verdict").inner_text()
    assert float(verdict.split("at most ")[1].split(".\n")[0].rstrip(".")) <= 0.02 * (high - low)


def test_again_begins_again_and_lines_are_chosen_by_name(card, page):
    box = card(HTML / "chapters/01_weight_updates.html")
    box.get_by_label("Adam").check()
    box.locator(".handle").first.focus()
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')").startswith("Adam")
    page.keyboard.press("End")
    box.get_by_role("button", name="Commit").click()
    assert "Adam: your point is off by" in box.inner_text() and "SGD:" not in box.inner_text()
    box.get_by_role("button", name="Again").click()
    assert box.locator("polyline.measured").count() == 0 and box.locator(".handle.unset").count() == len(data(box, "question")["at"])


def test_touch_draws_too(chromium):
    context = chromium.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    box = first_card(page, HTML / "chapters/05_activations.html")
    svg = box.locator("svg")
    area = svg.bounding_box()
    svg.tap(position={"x": area["width"] * 0.7, "y": area["height"] / 2})  # waits until it stands still
    assert box.locator(".handle:not(.unset)").count() == 1
    context.close()


def test_a_page_without_an_answer_keeps_its_picture(page, tmp_path):
    """A card that cannot be judged is not made."""
    script = (HTML / "_static/predict.js").as_uri()
    (tmp_path / "a.html").write_text(
        f'<figure id="fig-a"><img src="data:," alt="empty axes"></figure><script type="application/json" class="sp-question" data-figure="fig-a">{{}}</script><script src="{script}"></script>'
    )
    page.goto((tmp_path / "a.html").as_uri())
    assert page.locator(".sp-predict").count() == 0
