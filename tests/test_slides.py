"""A deck takes its figures and numbers from its chapter, and says so where it can't."""

import re

import nbformat
import pytest

from tools import slides, teaching
from tools.paths import ROOT, Trouble

DECKS = slides.sources()
GOOD = "# Title\n\nNote: One minute. Say hello.\n\n---\n\n## A point\n\n![](fig-01-a)\n\nIt is {glue:text}`one_value`, $x^2$.\n\nNote: Two minutes. It is {glue:text}`one_value`.\n"
FIGURES, NUMBERS = {"fig-01-a": (b"png", 'a "line"')}, {"one_value": "42"}


@pytest.fixture
def deck(tmp_path, monkeypatch):
    """A function that reads a deck from a text."""
    monkeypatch.setattr(slides, "ROOT", tmp_path)

    def read(text):
        path = tmp_path / "01_one.md"
        path.write_text(text)
        return slides.read(path)

    return read


def test_a_deck_becomes_sections_with_figures_numbers_and_notes(deck):
    sections, shown = slides.as_html(deck(GOOD), FIGURES, NUMBERS, "01_one.md")
    assert sections.count("<section>") == sections.count('<aside class="notes">') == 2 and shown == ["fig-01-a"]
    assert '<img src="figures/fig-01-a.png" alt="a &quot;line&quot;">' in sections
    assert "It is 42, " in sections and "Two minutes. It is 42." in sections and r"\(x^2\)" in sections
    assert "glue" not in sections


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ("Note: One minute. Say hello.", "", "slide 1: expected notes"),
        ("Two minutes. It", "It", "slide 2: expected notes for the speaker that begin with the time"),
        ("## A point", "A point", "slide 2: expected one heading"),
        ("## A point", "## A point\n\n## Another", "slide 2: expected one heading"),
        ("It is", "word " * 90 + "It is", "at most 75 words"),
        ("fig-01-a", "fig-01-b", "the chapter has no figure fig-01-b; it has fig-01-a"),
        ("one_value`, $", "other`, $", "the chapter glues no number other"),
        ("It is {glue", "{cite:t}`he2015prelu` {glue", "a deck knows no {cite:t}"),
        ("$x^2$.", "$x^2$.\n\n```nonsense\nx\n```", "a language that Pygments knows"),
    ],
)
def test_a_fault_in_a_deck_is_named(deck, old, new, problem):
    assert old in GOOD
    with pytest.raises(Trouble, match=re.escape(problem)):
        slides.as_html(deck(GOOD.replace(old, new, 1)), FIGURES, NUMBERS, "01_one.md")


def test_every_chapter_has_a_deck():
    assert [path.stem for path in DECKS] == [path.stem for path in sorted((ROOT / "book/chapters").glob("[0-9][0-9]_*.md"))]


@pytest.mark.parametrize("path", DECKS, ids=lambda path: path.stem)
def test_a_deck_shows_what_its_chapter_measured(path):
    figures, numbers = slides.material(ROOT / "chapters" / f"{path.stem}.ipynb")
    deck = slides.read(path)
    _, shown = slides.as_html(deck, figures, numbers, path.name)
    assert 12 <= len(deck) <= 20 and len({*shown}) >= 4
    assert any(name.endswith("predict") for name in shown), "the prediction question is missing"
    assert slides.GLUE.search(path.read_text(encoding="utf-8")), "no number of the chapter is shown"
    assert any("```" in slide.text for slide in deck), "the live demo is missing"


def test_material_is_what_the_notebook_holds(tmp_path):
    cell = nbformat.v4.new_code_cell("x", metadata={"mystnb": {"figure": {"name": "fig-a"}, "image": {"alt": "a line"}}})
    cell.outputs = [nbformat.v4.new_output("display_data", data={"image/png": "aGk="})]
    glued = nbformat.v4.new_code_cell("y")
    glued.outputs = [nbformat.v4.new_output("display_data", data={"application/papermill.record/text/plain": "'4 of 7'"}, metadata={"scrapbook": {"name": "n"}})]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell, glued]), tmp_path / "a.ipynb")
    assert slides.material(tmp_path / "a.ipynb") == ({"fig-a": (b"hi", "a line")}, {"n": "4 of 7"})


def test_an_unknown_deck_is_refused():
    with pytest.raises(Trouble, match="got 99_none"):
        slides.build(["99_none"])


def test_the_minutes_of_a_lecture_are_those_of_its_slides(deck):
    assert [slide.minutes for slide in deck(GOOD)] == [1, 2]
    for number in range(1, 12):
        assert 28 <= teaching.talk(number) <= 45
