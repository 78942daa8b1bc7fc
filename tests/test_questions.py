"""The question bank: every answer is computed, every wrong one refuted, and what is exported says the same."""

import dataclasses
import io
import re
import xml.etree.ElementTree as ET
import zipfile

import pytest

from quiz import Choice, Numeric, Option, Slip, above, below, between, each, exactly, near, verify
from quiz.bank import load
from tools import questions, teaching
from tools.paths import Trouble

BANK = load()
ITEMS = [item for items in BANK.values() for item in items]
CHOICES = [item for item in ITEMS if isinstance(item, Choice)]
NUMERIC = [item for item in ITEMS if isinstance(item, Numeric)]


def name(item):
    return item.id


# --- the bank --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ITEMS, ids=name)
def test_the_right_answer_is_right_and_the_others_are_wrong(item):
    assert verify(item) == []


@pytest.mark.parametrize("item", CHOICES, ids=name)
def test_a_wrong_option_marked_as_right_is_found(item):
    value = item.value()
    for wrong in item.wrong:
        others = [item.right if option is wrong else option for option in item.wrong]
        others = [dataclasses.replace(option, because=option.because or "planted") for option in others]
        planted = dataclasses.replace(item, right=wrong, wrong=others, value=lambda: value)
        assert any("the right option is false" in problem for problem in verify(planted)), wrong.text


@pytest.mark.parametrize("item", NUMERIC, ids=name)
def test_a_wrong_number_is_found(item):
    off = 1 + 3 * item.relative
    planted = dataclasses.replace(item, answer=lambda **numbers: off * item.answer(**numbers))
    assert any("by the other way" in problem for problem in verify(planted))
    planted = dataclasses.replace(item, slips=[Slip(item.answer, "planted")])
    assert any("a slip gives the answer" in problem for problem in verify(planted))


def test_the_bank_is_as_large_and_as_mixed_as_promised():
    assert len(ITEMS) >= 120 and list(BANK) == [f"ch{n:02}" for n in range(1, 12)]
    assert len({item.id for item in ITEMS}) == len({item.text for item in ITEMS}) == len(ITEMS)
    for chapter, items in BANK.items():
        assert all(item.id.startswith(f"{chapter}.") for item in items)
        kinds = [isinstance(item, Numeric) for item in items]
        assert len(items) >= 11 and sum(kinds) >= 3 and sum(not k for k in kinds) >= 7, chapter
        assert sum(item.what_if for item in items) >= 3 and len({item.difficulty for item in items}) >= 3, chapter


def test_every_misconception_is_a_wrong_answer_somewhere():
    met = questions.items_with()
    assert {f"M{n}" for n in range(1, 48)} <= met.keys()
    notes = {row[0] for row in teaching.misconceptions()}
    assert met.keys() <= notes, "an item names a misconception that no teacher's notes treat"


def test_the_right_option_is_not_given_away_by_its_length():
    longest = [max(item.options, key=lambda option: len(option.text)) is item.right for item in CHOICES]
    assert sum(longest) / len(longest) < 0.5


@pytest.mark.parametrize("item", NUMERIC, ids=name)
def test_each_student_gets_other_numbers_and_the_same_seed_the_same(item):
    some = [item.variant(seed) for seed in range(20)]
    assert [v.answer for v in some] == [item.variant(seed).answer for seed in range(20)]
    different = item.variants(20)
    assert len({variant.text for variant in different}) == len(different) >= 15  # Canvas refuses two equal ones
    assert not re.search(r"@\w+@", "".join(v.text + v.explanation for v in some))


# --- what makes an item sound ----------------------------------------------------------------------------

SOUND = Choice("ch01.x", "How large?", lambda: 2.0, Option("2", near(2)), [Option("3", near(3), "no"), Option("4 or more", above(4), "no")], "It is 2.", "glorot2010", 2)
NUMBER = Numeric(
    "ch01.y", "Twice @n@?", lambda rng: {"n": rng.randrange(1, 90)}, lambda n: 2 * n, lambda n: n + n, "It is @answer@.", "glorot2010", 1, [Slip(lambda n: n * n + 7, "That is the square and 7.")]
)


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"id": "ch12.x"}, "expected an id"),
        ({"id": "quarter"}, "expected an id"),
        ({"difficulty": 6}, "difficulty from 1 to 5"),
        ({"text": " "}, "expected a text"),
        ({"source": ""}, "expected a source"),
        ({"wrong": [Option("3", near(3), "no")]}, "three to five"),
        ({"wrong": [Option("2", near(3), "no"), Option("4", near(4), "no")]}, "three to five different"),
        ({"wrong": [Option("3", near(3)), Option("4", near(4), "no")]}, "expected feedback"),
        ({"wrong": [Option("3", near(3), "no"), Option("at most 2.1", below(2.1), "no")]}, "a wrong option is true"),
        ({"right": Option("2", near(2.2, 0.05))}, "the right option is false"),
    ],
)
def test_an_unsound_choice_is_refused(change, problem):
    assert verify(SOUND) == []
    assert any(problem in found for found in verify(dataclasses.replace(SOUND, **change)))


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"slips": []}, "at least one slip"),
        ({"relative": 0.2}, "expected a tolerance"),
        ({"check": lambda n: 2.2 * n}, "by the other way"),
        ({"answer": lambda n: 0.001 * n, "check": lambda n: 0.001 * n}, "expected an answer from"),
        ({"answer": lambda n: float("nan")}, "expected an answer from"),
        ({"draw": lambda rng: {"n": 5}}, "different draws"),
        ({"text": "Twice @m@?"}, "is not drawn"),
    ],
)
def test_an_unsound_number_is_refused(change, problem):
    assert verify(NUMBER) == []
    assert any(problem in found for found in verify(dataclasses.replace(NUMBER, **change)))


def test_claims_say_what_they_say():
    assert near(2).holds(2.05) and not near(2).holds(2.2) and near(-2).holds(-2)
    assert above(1).holds(1) and not above(1).holds(0.9) and below(1).holds(-5) and not below(1).holds(float("nan"))
    assert between(1, 2).holds(1.5) and exactly("explodes").holds("explodes") and not exactly(True).holds(False)
    both = each(a=above(1), b=below(0))
    assert both.holds({"a": 2, "b": -1}) and not both.holds({"a": 2, "b": 1})
    for wrong in (lambda: between(2, 1), lambda: near(0), lambda: each()):
        with pytest.raises(ValueError, match="expected"):
            wrong()
    with pytest.raises(KeyError, match="expected a value with b"):
        both.holds({"a": 2})
    with pytest.raises(TypeError, match="expected a number"):
        above(1).holds("large")


def test_unknown_names_are_refused():
    with pytest.raises(Trouble, match="got ch99"):
        questions.chosen(["ch99"])
    assert [item.id for items in questions.chosen(["ch03.quarter", "ch04"]).values() for item in items] == ["ch03.quarter"] + [i.id for i in BANK["ch04"]]
    assert "ch03.quarter" in [item.id for items in questions.chosen(["M1"]).values() for item in items]


def test_the_list_names_every_item_once():
    lines = questions.listed().splitlines()
    assert [line.split()[0] for line in lines] == [item.id for item in ITEMS]
    assert questions.listed(["ch03.quarter"]).startswith("ch03.quarter") and ", 3: A wide sigmoid net" in questions.listed(["ch03.quarter"])


def test_an_unknown_source_is_found(monkeypatch):
    monkeypatch.setattr(questions, "load", lambda: {"ch01": [dataclasses.replace(SOUND, source="nobody1999")]})
    with pytest.raises(Trouble, match="no nobody1999 in book/references.bib"):
        questions.check()


# --- Moodle, Canvas and paper ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moodle():
    return ET.fromstring(questions.moodle(BANK, 3).encode())


def test_moodle_gets_every_item_and_three_variants_of_each_number(moodle):
    kinds = [q.get("type") for q in moodle]
    assert kinds.count("multichoice") == len(CHOICES) and kinds.count("numerical") == 3 * len(NUMERIC)
    categories = [q.findtext("category/text") for q in moodle if q.get("type") == "category"]
    assert {f"$module$/{questions.course().name}/{chapter}" for chapter in BANK} <= {*categories}


def test_moodle_marks_the_right_answer_and_no_other(moodle):
    texts = {questions.for_moodle(item.right.text): item.id for item in CHOICES}
    for question in moodle:
        full = [answer for answer in question.findall("answer") if float(answer.get("fraction")) == 100]
        if question.get("type") == "multichoice":
            assert len(full) == 1 and texts[full[0].findtext("text")], question.findtext("name/text")
        elif question.get("type") == "numerical":
            (right,) = full
            item, seed = re.match(r"(\S+) \((\d+)\)", question.findtext("name/text")).groups()
            variant = next(i for i in NUMERIC if i.id == item).variant(int(seed) - 1)
            assert float(right.findtext("text")) == pytest.approx(variant.answer, rel=1e-5)
            assert float(right.findtext("tolerance")) == pytest.approx(variant.tolerance, rel=1e-2)
            for answer in question.findall("answer"):
                if answer is not right:  # Moodle takes the first that fits
                    assert abs(float(answer.findtext("text")) - variant.answer) > variant.tolerance + float(answer.findtext("tolerance"))


def test_no_feedback_in_moodle_hides_behind_another(moodle):
    for question in moodle.findall("question[@type='numerical']"):
        places = [(float(a.findtext("text")), float(a.findtext("tolerance"))) for a in question.findall("answer")]
        assert all(its > 0 for _, its in places)
        for i, (number, margin) in enumerate(places):
            assert all(abs(number - other) > margin + its for other, its in places[:i]), question.findtext("name/text")


def test_every_wrong_answer_in_moodle_teaches(moodle):
    for answer in moodle.iter("answer"):
        assert answer.findtext("feedback/text").strip()
    assert all("Source: " in q.findtext("generalfeedback/text") for q in moodle if q.get("type") != "category")


QTI = {"q": "http://www.imsglobal.org/xsd/ims_qtiasiv1p2"}


@pytest.mark.parametrize("chapter", BANK)
def test_canvas_gets_every_item_and_its_right_answer(chapter):
    with zipfile.ZipFile(io.BytesIO(questions.qti(chapter, BANK[chapter], 2))) as package:
        manifest = ET.fromstring(package.read("imsmanifest.xml"))
        names = [n for n in package.namelist() if n.endswith(".xml")]
        for element in manifest.iter():  # each file that the manifest names is there
            if element.tag.endswith("}file"):
                assert element.get("href") in names
        (path,) = [n for n in names if "text2qti_assessment" in n and "meta" not in n]
        assessment = ET.fromstring(package.read(path))
        items = {item.get("title"): item for item in assessment.iterfind(".//q:item", QTI)}
        (about,) = [n for n in names if n.endswith("assessment_meta.xml")]
        points = ET.fromstring(package.read(about)).findtext("{*}points_possible")
    assert float(points) == len(BANK[chapter])  # one variant of each number counts
    groups = [section.get("title") for section in assessment.iterfind(".//q:section[@title]", QTI)]
    assert groups == [item.id for item in BANK[chapter] if isinstance(item, Numeric)]
    for item in BANK[chapter]:
        if isinstance(item, Choice):
            found = items[item.id]
            labels = found.findall(".//q:response_label", QTI)
            assert len(labels) == len(item.options)
            (right,) = [c for c in found.findall(".//q:respcondition", QTI) if c.find("q:setvar", QTI) is not None]
            order = [label.get("ident") for label in labels]
            assert order.index(right.findtext(".//q:varequal", namespaces=QTI)) == 0  # text2qti keeps the order; Canvas shuffles
        else:
            for variant in item.variants(2):
                found = items[f"{item.id} ({variant.seed + 1})"]
                low, high = (float(found.findtext(f".//q:{bound}", namespaces=QTI)) for bound in ("vargte", "varlte"))
                assert low == pytest.approx(variant.answer - variant.tolerance, rel=1e-5)
                assert high == pytest.approx(variant.answer + variant.tolerance, rel=1e-5)


def test_sheets_differ_and_the_key_fits_each():
    some = {"ch03": BANK["ch03"]}
    papers, key = questions.sheets(some, 3, seed=1)
    assert (papers, key) == questions.sheets(some, 3, seed=1) != questions.sheets(some, 3, seed=2)
    pages = papers.split('<table class="sheet"')[1:]
    assert len(pages) == 3 == len({*pages})
    rows = re.findall(r"<tr>(<td>\d+</td>.*?)</tr>", key)
    assert len(rows) == len(BANK["ch03"])
    for number, (row, item) in enumerate(zip(rows, BANK["ch03"], strict=True)):
        answers = re.findall(r"<td>(.*?)</td>", row)[2:]
        for page, answer in zip(pages, answers, strict=True):
            block = page.split('<div class="item">')[number + 1]
            if isinstance(item, Choice):
                assert f"<li>{answer}&ensp;{questions.for_paper(item.right.text, inline=True)}</li>" in block
            else:
                assert "Answer:" in block


@pytest.mark.parametrize("option, value", [("variants", 0), ("copies", 0)])
def test_too_few_are_refused(option, value):
    with pytest.raises(Trouble, match="expected at least 1"):
        questions.make(**{option: value})
