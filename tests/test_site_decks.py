"""The decks in a real browser: offline, nothing beyond the edge of a slide, notes for the speaker, a PDF; and the printed questions."""

import re

import pytest
from browsing import needs_browser
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DictionaryObject, NameObject, StreamObject

from tools import questions, slides
from tools.paths import ROOT

pytestmark = needs_browser
DECKS = sorted(slides.TARGET.glob("[0-9][0-9]_*.html"))
# What stands beyond the edges of the slide that is shown, or on another thing's place.
BEYOND = """() => {
  const slide = Reveal.getCurrentSlide().querySelector('.slide'), box = slide.getBoundingClientRect(), found = [];
  const scale = box.width / slide.offsetWidth;
  if (!(box.width > 1100 && box.bottom <= innerHeight + 1)) found.push(`the slide is ${box.width} pixels wide and ends at ${box.bottom}`);
  for (const element of slide.querySelectorAll('h1, h2, p, li, pre, figure, table, td, mjx-container, img')) {
    const place = element.getBoundingClientRect();
    if (place.width && (place.bottom > box.bottom + 2 || place.right > box.right + 2 || place.left < box.left - 2 || place.top < box.top - 2)) {
      found.push(`${element.tagName} ends at ${Math.round((place.right - box.left) / scale)} x ${Math.round((place.bottom - box.top) / scale)}`);
    }
  }
  for (const image of slide.querySelectorAll('img')) {
    const place = image.getBoundingClientRect();
    if (!image.naturalWidth) found.push(`${image.src} is not there`);
    if (place.height / scale < 380) found.push(`the figure is only ${Math.round(place.height / scale)} of 720 high`);
  }
  return found;
}"""


def beyond(page):
    """{number of a slide: what is wrong with how it fits}."""
    page.set_viewport_size({"width": 1280, "height": 720})
    found = {}
    for number in range(page.evaluate("() => Reveal.getTotalSlides()")):
        page.evaluate("number => Reveal.slide(number)", number)
        page.evaluate("() => Promise.all([...Reveal.getCurrentSlide().querySelectorAll('img')].map(i => i.decode().catch(() => null)))")
        if wrong := page.evaluate(BEYOND):
            found[number + 1] = wrong
    return found


def test_every_chapter_has_its_deck():
    assert [path.stem for path in DECKS] == [path.stem for path in slides.sources()] != []


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_a_deck_works_without_a_network_and_nothing_leaves_a_slide(path, page):
    page.goto(path.as_uri())
    page.wait_for_function("() => Reveal.isReady()")
    assert beyond(page) == {}
    assert page.errors == [] and page.beyond == []
    text = path.read_text(encoding="utf-8")
    assert "mjx-container" in text and not re.search(r'(?:src|href)="(?:https?:)?//', re.sub(r'<a href="[^"]*"', "", text))
    assert page.evaluate("() => [...document.querySelectorAll('.slides section')].every(s => s.querySelector('aside.notes').textContent.trim().length > 20)")


def test_what_leaves_a_slide_is_found(page):
    page.goto(DECKS[0].as_uri())
    page.wait_for_function("() => Reveal.isReady()")
    page.evaluate("() => document.querySelectorAll('.slide')[1].insertAdjacentHTML('beforeend', '<p style=\"font-size: 60px\">' + 'far too many words '.repeat(60) + '</p>')")
    assert 2 in beyond(page)


def test_a_slide_of_no_size_is_found(page):
    page.goto(DECKS[0].as_uri())
    page.wait_for_function("() => Reveal.isReady()")
    page.add_style_tag(content="body > main { height: 0 !important }")
    page.evaluate("() => Reveal.layout()")
    assert 1 in beyond(page)


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_axe_finds_nothing_on_a_deck(path, page):
    page.goto(path.as_uri())
    page.wait_for_function("() => Reveal.isReady()")
    page.evaluate((ROOT / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8"))
    # The heading of the first level is on the first slide.
    run = """() => axe.run(document, {resultTypes: ["violations"], rules: {"page-has-heading-one": {enabled: false}}}).then(({violations}) => violations.flatMap(
        ({id, nodes}) => nodes.map((node) => `${id} at ${node.target.join(" ")}: ${node.failureSummary}`)))"""
    found = []
    for number in range(page.evaluate("() => Reveal.getTotalSlides()")):
        page.evaluate("number => Reveal.slide(number)", number)
        found += [f"slide {number + 1}: {line}" for line in page.evaluate(run)]
    assert found == []


def test_the_speaker_has_a_window_with_the_notes(page):
    page.goto(DECKS[0].as_uri())
    page.wait_for_function("() => Reveal.isReady()")
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    window = popup.value
    notes = window.locator(".speaker-controls-notes .value, .notes .value").first
    notes.wait_for(timeout=20_000)
    first = slides.read(slides.SOURCES / f"{DECKS[0].stem}.md")[0].notes
    window.wait_for_function("words => document.body.innerText.includes(words)", arg=first.split(".")[0][:30])


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_the_pdf_has_a_page_for_each_slide_and_its_words(path):
    pages = PdfReader(path.with_suffix(".pdf")).pages
    deck = slides.read(slides.SOURCES / f"{path.stem}.md")
    assert len(pages) == len(deck)
    assert {(round(float(p.mediabox.width) / float(p.mediabox.height), 1)) for p in pages} == {1.8}  # 16 : 9
    title = re.match(r"# (.+)", deck[0].text)[1]
    assert title.split()[0] in pages[0].extract_text()


def test_the_contents_lead_to_every_deck(page):
    page.goto((slides.TARGET / "index.html").as_uri())
    links = page.eval_on_selector_all("a", "links => links.map(link => link.getAttribute('href'))")
    assert len(links) == 2 * len(DECKS) and all((slides.TARGET / link).exists() for link in links)
    assert page.beyond == [] and page.errors == []


def test_each_printed_sheet_has_leaves_of_its_own(tmp_path):
    def pdf(*owners):
        writer = PdfWriter()
        for owner in owners:
            page = writer.add_blank_page(200, 200)
            font = DictionaryObject({NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"), NameObject("/BaseFont"): NameObject("/Helvetica")})
            page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): DictionaryObject({NameObject("/F"): font})})
            content = StreamObject()
            content.set_data(f"BT /F 9 Tf 9 9 Td (sheet {owner} of 3) Tj ET".encode())
            page[NameObject("/Contents")] = writer._add_object(content)
        writer.write(tmp_path / "a.pdf")

    pdf(1, 1, 1, 2, 2, 3)
    questions.on_leaves(tmp_path / "a.pdf")
    found = [page.extract_text().strip() for page in PdfReader(tmp_path / "a.pdf").pages]
    assert found == ["sheet 1 of 3"] * 3 + [""] + ["sheet 2 of 3"] * 2 + ["sheet 3 of 3", ""]


def test_the_questions_are_printed():
    for stem in ("sheet", "key"):
        text = "".join(page.extract_text() for page in PdfReader(questions.TARGET / f"{stem}.pdf").pages)
        assert "What" in text and r"\(" not in text and "$" not in text
    assert (questions.TARGET / "moodle.xml").stat().st_size > 10_000 and len([*(questions.TARGET / "canvas").glob("ch*.zip")]) == 11
