"""From text to notebook and back: on a small course of two pages, in a folder of its own."""

import json
import subprocess
import sys

import nbformat
import pytest

from tools import course, notebooks
from tools.paths import ROOT, Trouble

CHAPTER, SOLUTION, LAB = "chapters/01_one.ipynb", "solutions/lab01_one.ipynb", "labs/lab01_one.ipynb"


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text, f"the test expects {old!r} in {path.name}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def stored(folder):
    return {path.name + path.parent.name: path.read_bytes() for path in folder.glob("*/*.ipynb")}


def test_a_second_run_leaves_every_notebook_alone(small_course):
    before = stored(small_course.path)
    assert len(before) == 3
    assert "0 to make" in small_course.tools("notebooks").stdout
    assert stored(small_course.path) == before


def test_a_fresh_run_is_byte_identical(small_course):
    before = stored(small_course.path)
    for path in small_course.path.glob("*/*.ipynb"):
        path.unlink()
    assert "3 to make" in small_course.tools("notebooks").stdout
    assert stored(small_course.path) == before


def test_a_stored_notebook_names_no_machine_and_no_time(small_course):
    text = (small_course.path / CHAPTER).read_text(encoding="utf-8")
    for word in (str(small_course.path), str(ROOT), "execution\": {", "iopub", sys.version.split()[0]):
        assert word not in text, word


def test_cells_have_stable_ids_also_for_equal_cells(small_course):
    ids = [cell["id"] for cell in nbformat.read(small_course.path / CHAPTER, as_version=4).cells]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "path, made",
    [
        ("book/chapters/01_one.md", {CHAPTER}),
        ("book/labs/lab01_one.md", {SOLUTION, LAB}),
        ("signalprop/theory.py", {CHAPTER, SOLUTION, LAB}),
        ("labcheck/__init__.py", {SOLUTION, LAB}),
        ("requirements.txt", {CHAPTER, SOLUTION, LAB}),
    ],
)
def test_a_change_remakes_what_depends_on_it_and_nothing_else(small_course, path, made):
    with (small_course.path / path).open("a", encoding="utf-8") as file:
        file.write("\n# changed\n" if path.endswith((".py", ".txt")) else "\nChanged.\n")
    stale = small_course.tools("check", fails=True).stderr
    for name in (CHAPTER, SOLUTION, LAB):
        assert (f"{name} was made from another" in stale) == (name in made)
    out = small_course.tools("notebooks").stdout
    for name in (CHAPTER, SOLUTION, LAB):
        assert (name in out) == (name in made)
    small_course.tools("check")


def test_the_setup_cell_follows_the_address_in_the_configuration(small_course):
    edit(small_course.path / "course.yml", 'repository: ""', "repository: https://example.org/course")
    assert f"{CHAPTER} installs the packages from another address" in small_course.tools("check", fails=True).stderr
    before = nbformat.read(small_course.path / CHAPTER, as_version=4)
    small_course.tools("notebooks")
    after = nbformat.read(small_course.path / CHAPTER, as_version=4)
    assert "%pip install --quiet git+https://example.org/course@main" in after.cells[1].source
    assert [c.get("outputs") for c in after.cells] == [c.get("outputs") for c in before.cells]
    small_course.tools("check")


def test_check_finds_a_notebook_without_text_and_make_removes_it(small_course):
    (small_course.path / "chapters/99_gone.ipynb").write_text("{}")
    assert "99_gone.ipynb has no text" in small_course.tools("check", fails=True).stderr
    small_course.tools("notebooks")
    assert not (small_course.path / "chapters/99_gone.ipynb").exists()


def test_check_finds_stripped_outputs(small_course):
    # nbval in strict mode passes such a notebook without a word.
    path = small_course.path / CHAPTER
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)
    assert f"{CHAPTER} is not executed from top to bottom" in small_course.tools("check", fails=True).stderr


def test_check_finds_a_hand_edit_and_outputs_in_a_students_copy(small_course):
    edit(small_course.path / CHAPTER, "x = 6 * 7", "x = 6 * 8")
    path = small_course.path / LAB
    notebook = nbformat.read(path, as_version=4)
    next(c for c in notebook.cells if c.cell_type == "code").execution_count = 1
    nbformat.write(notebook, path)
    found = small_course.tools("check", fails=True).stderr
    assert f"{CHAPTER} was edited by hand" in found
    assert f"{LAB} is a student's copy and has outputs" in found


def test_a_damaged_notebook_is_named(small_course):
    (small_course.path / CHAPTER).write_text("{")
    assert f"{CHAPTER} can't be read" in small_course.tools("check", fails=True).stderr


def test_the_students_copy_holds_no_answer(small_course):
    lab = (small_course.path / LAB).read_text()
    assert "return 2 * x" not in lab and "SOLUTION" not in lab
    assert notebooks.STUB in json.loads(lab)["cells"][2]["source"]
    assert "return 2 * x" in (small_course.path / SOLUTION).read_text()


@pytest.mark.parametrize(
    "source, message",
    [
        (f"{notebooks.BEGIN}\nx", "without an"),
        (f"x\n{notebooks.END}", "without a"),
        (f"{notebooks.BEGIN}\n{notebooks.BEGIN}\n{notebooks.END}", "two"),
    ],
)
def test_unpaired_markers_are_refused(source, message):
    with pytest.raises(Trouble, match=message):
        notebooks.blank(source)


def test_blank_keeps_the_indentation_and_the_rest():
    source = f"def f():\n    {notebooks.BEGIN}\n    return 1\n    {notebooks.END}\n\nf()"
    assert notebooks.blank(source) == f"def f():\n    {notebooks.STUB}\n\nf()"


def test_a_failing_cell_leaves_the_old_notebook_and_says_where(small_course):
    before = (small_course.path / CHAPTER).read_bytes()
    edit(small_course.path / "book/chapters/01_one.md", "x = 6 * 7", "x = 6 / 0")
    result = small_course.tools("notebooks", fails=True)
    print(result.stderr)
    assert "chapters/01_one.ipynb failed and was left as it was" in result.stderr
    assert "ZeroDivisionError" in result.stderr and "x = 6 / 0" in result.stderr
    assert (small_course.path / CHAPTER).read_bytes() == before


def test_a_trailing_semicolon_is_refused():
    with pytest.raises(Trouble, match="end a figure's cell with plt.show"):
        notebooks.prepared("ax.plot(x);\n", for_students=False)


# --- make pull -------------------------------------------------------------------------------------------


def test_pull_takes_an_edit_back_and_keeps_the_markers(small_course):
    edit(small_course.path / SOLUTION, "return 2 * x", "return x + x")
    small_course.tools("pull", SOLUTION)
    text = (small_course.path / "book/labs/lab01_one.md").read_text()
    assert f"    {notebooks.BEGIN}\n    return x + x\n    {notebooks.END}" in text
    small_course.tools("notebooks")
    small_course.tools("check")


def test_pull_of_an_unedited_notebook_changes_no_byte(small_course):
    for path, name in ((CHAPTER, "chapters/01_one.md"), (SOLUTION, "labs/lab01_one.md")):
        before = (small_course.path / "book" / name).read_bytes()
        small_course.tools("pull", path)
        assert (small_course.path / "book" / name).read_bytes() == before


@pytest.mark.parametrize("item", [i for i in notebooks.derived() if not i.blank], ids=lambda item: item.name)
def test_the_texts_of_the_course_are_in_the_form_that_pull_writes(item):
    text = notebooks.read_text(item.source)
    tidy = notebooks.as_text(notebooks.jupytext.reads(text, fmt="md:myst"))
    assert tidy == text, f"run `make pull NB={item.name}`"


def test_pull_refuses_when_the_text_has_changed_since(small_course):
    text = small_course.path / "book/chapters/01_one.md"
    edit(text, "Some text", "Newer text")
    edit(small_course.path / CHAPTER, "x = 6 * 7", "x = 6 * 8")
    assert "has changed since" in small_course.tools("pull", CHAPTER, fails=True).stderr
    assert "x = 6 * 7" in text.read_text()


def test_pull_refuses_a_students_copy_a_lost_marker_and_a_stranger(small_course):
    assert "student's copy" in small_course.tools("pull", LAB, fails=True).stderr
    assert "expected a notebook of" in small_course.tools("pull", "chapters/nothing.ipynb", fails=True).stderr
    path = small_course.path / SOLUTION
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace(f"    {notebooks.BEGIN}\n", "").replace(f"    {notebooks.END}\n", "")
        cell.source = cell.source.replace(f"\n    {notebooks.END}", "")
    nbformat.write(notebook, path)
    assert "0 marked answers where the text has 1" in small_course.tools("pull", SOLUTION, fails=True).stderr


# --- faults that must not pass ---------------------------------------------------------------------------


def test_a_changed_number_fails_the_notebooks_part(small_course):
    small_course.tools("test", "notebooks")
    edit(small_course.path / CHAPTER, "the answer is 42", "the answer is 43")
    result = small_course.tools("test", "notebooks", fails=True)
    print(result.stdout[-1500:])
    assert "Cell outputs differ" in result.stdout and "failed: notebooks" in result.stderr


@pytest.mark.parametrize(
    "fault, message",
    [
        ("See [there](nowhere.md).", "nowhere.md"),
        ("See {ref}`no-such-label`.", "no-such-label"),
        ("As shown by {cite:t}`nobody1900`.", "nobody1900"),
        ("The value is {glue:text}`never_glued`.", "never_glued"),
        ("```{no-such-directive}\n```", "no-such-directive"),
        ("#### A heading that skips a level", "header level increase"),
    ],
    ids=["broken link", "broken reference", "missing citation", "missing number", "unknown directive", "Sphinx warning"],
)
def test_a_fault_in_a_page_fails_the_site(small_course, fault, message):
    index = small_course.path / "book/index.md"
    index.write_text(index.read_text() + f"\n{fault}\n")
    result = small_course.tools("site", fails=True)
    print(result.stderr)
    assert message in result.stderr.lower() and "the site was not built" in result.stderr.lower()


def test_a_stored_error_fails_the_site(small_course):
    path = small_course.path / CHAPTER
    notebook = nbformat.read(path, as_version=4)
    cell = [c for c in notebook.cells if c.cell_type == "code"][1]
    cell.outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="planted", traceback=[])]
    nbformat.write(notebook, path)
    result = small_course.tools("site", fails=True)
    print(result.stderr)
    assert f"{CHAPTER} holds an error in cell [2]: ValueError: planted" in result.stderr


def test_a_sound_small_course_builds(small_course):
    out = small_course.tools("site").stdout
    assert "The site is built" in out and (small_course.path / "_build/html/index.html").exists()


def test_solutions_can_be_left_out(small_course, monkeypatch):
    small_course.tools("site")
    solution = small_course.path / "_build/html/solutions/lab01_one.html"
    assert solution.exists()
    monkeypatch.setenv("SOLUTIONS", "0")
    small_course.tools("site")
    pages = {p.relative_to(small_course.path / "_build/html").as_posix() for p in (small_course.path / "_build/html").rglob("*.html")}
    assert {"chapters/01_one.html", "labs/lab01_one.html"} <= pages and not any("solutions" in page for page in pages)
    assert "return 2 * x" not in "".join(p.read_text() for p in (small_course.path / "_build/html").rglob("*.html"))


def test_buttons_appear_with_the_address_and_edit_opens_the_text(small_course):
    small_course.tools("site")
    page = small_course.path / "_build/html/chapters/01_one.html"
    assert "colab.research" not in page.read_text() and "/edit/" not in page.read_text()
    edit(small_course.path / "course.yml", 'repository: ""', "repository: https://github.com/example/course")
    small_course.tools("notebooks")
    small_course.tools("site")
    html = page.read_text()
    assert "https://colab.research.google.com/github/example/course/blob/main/chapters/01_one.ipynb" in html
    assert "mybinder.org" in html
    assert "https://github.com/example/course/edit/main/book/chapters/01_one.md" in html


def test_edit_target():
    assert course.edit_target("labs/lab03_saturation") == "book/labs/lab03_saturation.md"


def test_an_unknown_part_is_named():
    result = subprocess.run([sys.executable, "-m", "tools", "test", "nots"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and "got nots" in result.stderr
