"""The teacher's pages: minutes that are computed, plans that fit, one file of settings, forms that ask for what is needed."""

import datetime
import re

import pytest
import yaml

from labcheck import questions as labs
from labcheck.grading.release import time_range
from tools import minutes, paths, site, teaching
from tools.paths import ROOT, Trouble

CHAPTERS = [path.stem for path in minutes.chapters()]


# --- minutes ---------------------------------------------------------------------------------------------


def test_minutes_match_what_they_are_computed_from():
    minutes.check()


def test_words_formulas_figures_and_code_are_counted(tmp_path):
    header = (ROOT / "book/chapters/03_saturation.md").read_text().split("\n# ")[0]
    text = (
        header + "\n# One two\n\nThree $x^2$ five [six](seven.md) {cite:p}`eight`.\n\n$$\na = b\n$$\n\n| a | b |\n|---|---|\n| c | d |\n\n"
        "```{code-cell} ipython3\nshown = 1\n```\n\n```{code-cell} ipython3\n:tags: [hide-input]\n\nhidden = 1\n```\n\n"
        "```{code-cell} ipython3\n---\nmystnb:\n  figure:\n    caption: c\n    name: fig-a\ntags: [hide-input]\n---\nplot()\n```\n"
    )
    (tmp_path / "a.md").write_text(text)
    assert minutes.parts(tmp_path / "a.md") == {"words": 7, "formula": 1, "figure": 1, "code": 1, "table row": 3}


def test_a_chapter_twice_as_long_takes_longer(tmp_path):
    source = ROOT / "book/chapters/03_saturation.md"
    text = source.read_text()
    (tmp_path / "a.md").write_text(text + text.split("## The claim")[1])
    assert minutes.to_read(tmp_path / "a.md") > minutes.to_read(source) + 5


def test_other_minutes_in_a_chapter_are_found(monkeypatch):
    monkeypatch.setattr(minutes, "said", lambda path: 5)
    with pytest.raises(Trouble, match="03_saturation.md says 5 minutes to read, computed are"):
        minutes.check()


def test_a_chapter_that_runs_longer_than_it_says_is_found(monkeypatch):
    monkeypatch.setattr(minutes, "measured", lambda: {f"chapters/{stem}.ipynb": 61 for stem in CHAPTERS})
    with pytest.raises(Trouble, match="03_saturation.md says that it runs in under a minute, measured are 61 s"):
        minutes.check()


def test_a_lab_takes_a_range():
    asked = labs.of("lab06")
    low, high = time_range(asked)
    assert low < sum(q.minutes for q in asked) < high and low % 5 == high % 5 == 0


# --- plans -----------------------------------------------------------------------------------------------


def test_every_plan_fits_its_classes():
    plans = teaching.plans()
    assert [*plans] == ["one-day", "six-weeks", "guest-lectures"] and [len(plans[name]) for name in plans] == [4, 6, 3]
    six = [text for session in plans["six-weeks"] for text in session["class"]]
    assert {f"talk {n}" for n in range(1, 12)} <= {*six}


def test_a_class_that_is_planned_too_long_is_found(tmp_path, monkeypatch):
    path = tmp_path / "plans.yml"
    monkeypatch.setattr(teaching, "PLANS", path)
    path.write_text("a:\n  - {name: Monday, length: 30, class: [break 10, lab 3]}\n")
    with pytest.raises(Trouble, match="Monday: expected at most 30 minutes, planned are up to"):
        teaching.plans()
    path.write_text("a:\n  - {name: Monday, length: 30, class: [dance 10]}\n")
    with pytest.raises(Trouble, match="got 'dance 10'"):
        teaching.plans()


def test_a_plan_adds_up():
    text = teaching.plan("one-day")
    low, high = time_range(labs.of("lab03"))
    assert f"| class | lab 3 | {low}–{high} |" in text and f"| **class, all** | | **{low}–{high}** |" in text


# --- misconceptions --------------------------------------------------------------------------------------


def test_every_misconception_stands_in_some_notes():
    rows = teaching.misconceptions()
    assert {f"M{n}" for n in range(1, 48)} <= {row[0] for row in rows}
    assert all(said and so and where for *_, said, so, where in rows)


@pytest.mark.parametrize("stem", CHAPTERS)
def test_the_notes_of_each_chapter_are_whole(stem):
    text = (ROOT / "book/teach" / f"{stem}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["What it is for", "Misconceptions it meets", "The prediction question", "Live demo, five minutes"]
    assert "No class has been counted yet" in text


@pytest.mark.parametrize("stem", CHAPTERS)
def test_every_exercise_is_answered_and_there_are_exam_questions(stem):
    asked = (ROOT / "book/chapters" / f"{stem}.md").read_text(encoding="utf-8").split("\n## Exercises\n")[1].split("\n## ")[0]
    answers = (ROOT / "book/solutions" / f"ch{stem}.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^(\d+)\. ", asked, re.MULTILINE)
    assert numbers and re.findall(r"^### Exercise (\d+)", answers, re.MULTILINE) == numbers
    exam = answers.split("\n## Exam questions\n")[1]
    questions = re.findall(r"^### Question \d+ \((\d+) points, about \d+ minutes\)", exam, re.MULTILINE)
    assert len(questions) >= 4 and exam.count("**Answer.**") >= len(questions)


# --- course.yml ------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A function that reads the course's settings with some of them changed."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    given = yaml.safe_load((ROOT / "course.yml").read_text(encoding="utf-8"))

    def read(**changes):
        (tmp_path / "course.yml").write_text(yaml.safe_dump(given | changes))
        paths.course.cache_clear()
        return paths.course()

    yield read
    paths.course.cache_clear()


def test_settings_are_read(settings):
    day = datetime.date(2027, 3, 1)
    found = settings(name="Deep nets", chapters=[3, 1], dates={3: {"out": day, "due": day}})
    assert found.name == "Deep nets" and found.chapters == (3, 1) and found.labs == tuple(range(1, 12)) and found.dates == {3: (day, day)}


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"name": ""}, "name: expected a text that is not empty, got ''"),
        ({"term": 2027}, "term: expected a text, got 2027"),
        ({"repository": "github.com/x"}, "expected an address that begins with https://"),
        ({"chapters": [3, 12]}, "chapters: expected 'all', or different numbers from 1 to 11"),
        ({"labs": []}, "labs: expected 'all'"),
        ({"labs": [2, 2]}, "labs: expected 'all'"),
        ({"dates": {3: {"out": "soon", "due": "later"}}}, "lab 3: expected two days"),
        ({"dates": {3: {"out": datetime.date(2027, 3, 2), "due": datetime.date(2027, 3, 1)}}}, "out before due"),
        ({"dates": {12: {}}}, "dates: expected a lab"),
        ({"labs": [2], "dates": {3: {"out": datetime.date(2027, 3, 1), "due": datetime.date(2027, 3, 2)}}}, "lab 3 has dates and is not among labs"),
        ({"teacher": "Ada"}, "got teacher"),
    ],
)
def test_a_setting_that_is_not_as_expected_is_named(settings, change, problem):
    with pytest.raises(Trouble, match=re.escape(problem)):
        settings(**change)


@pytest.mark.parametrize("text", ["name: Deep nets: Uppsala\n", "dates:\n  1: {out: 2027-01-35, due: 2027-02-01}\n"])
def test_a_typing_error_is_no_traceback(tmp_path, monkeypatch, text):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "course.yml").write_text(text)
    paths.course.cache_clear()
    with pytest.raises(Trouble, match="course.yml can't be read: .*"):
        paths.course()


def test_chapters_that_are_not_chosen_stand_beyond_the_course(settings, monkeypatch):
    settings(chapters=[3, 2], labs=[3])
    toc = yaml.safe_load(site.table_of_contents().read_text(encoding="utf-8"))
    pages = {part["caption"]: [page["file"] for page in part["chapters"]] for part in toc["parts"]}
    assert pages["Mechanism"] == ["chapters/02_depth"] and pages["Causes"] == ["chapters/03_saturation"] and pages["Labs"] == ["book/labs", "labs/lab03_saturation"]
    assert "Remedies" not in pages and "chapters/08_residual" in pages["Beyond this course"] and "labs/lab02_depth" in pages["Beyond this course"]
    assert "chapters/playground" not in pages["Beyond this course"]
    every = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert sum(map(len, pages.values())) == sum(len(part["chapters"]) for part in every["parts"])  # none is lost
    monkeypatch.setenv("SOLUTIONS", "0")
    monkeypatch.setattr(site, "BUILD", paths.ROOT)
    assert "solutions/" not in site.table_of_contents().read_text(encoding="utf-8")


def test_the_first_page_shows_what_is_set(settings):
    assert settings() and teaching.schedule() == ""
    settings(name="Deep nets, Uppsala")
    assert teaching.schedule() == "**Deep nets, Uppsala.**"
    settings(term="Spring 2027", contact="ada@example.org", dates={3: {"out": datetime.date(2027, 3, 1), "due": datetime.date(2027, 3, 15)}})
    text = teaching.schedule()
    assert "**Spring 2027.**" in text and "(mailto:ada@example.org)" in text and "| 01 March 2027 | 15 March 2027 |" in text


def test_a_course_of_one_chapter_with_its_own_name_is_built(small_course):
    path = small_course.path / "course.yml"
    text = path.read_text()
    path.write_text(text.replace("name: The vanishing gradient problem", "name: Deep nets in Uppsala").replace('term: ""', "term: Spring 2027"))
    small_course.tools("site")
    page = (small_course.path / "_build/html/chapters/01_one.html").read_text()
    assert "Deep nets in Uppsala" in page
    path.write_text(text.replace("labs: all", "labs: [12]"))
    assert "labs: expected 'all', or different numbers from 1 to 11" in small_course.tools("site", fails=True).stderr


# --- forms -----------------------------------------------------------------------------------------------

FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_github_reads_and_requires_what_it_asks(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form.keys() == {"name", "description", "labels", "body"} and form["name"] and form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len({*ids}) == len(ids) >= 3
    for field in form["body"]:
        assert field["type"] in ("input", "textarea") and field["attributes"]["label"].strip()
        assert field["validations"] == {"required": True}
        assert field["attributes"].keys() <= {"label", "description", "placeholder", "value", "render"}
        assert "render" not in field["attributes"] or field["type"] == "textarea"


def test_issues_without_a_form_are_off():
    assert yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/config.yml").read_text()) == {"blank_issues_enabled": False}
    assert len(FORMS) >= 4
