"""Each lab as a student gets it scores 0 without an error; each solution scores full marks."""

import nbformat
import pytest

from labcheck import questions
from tools import notebooks

LABS = [item for item in notebooks.derived() if item.blank]
SOLUTIONS = [item for item in notebooks.derived() if item.kind == "labs" and not item.blank]


def shown(notebook):
    """The plain text of every result, cell after cell."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.data.get("text/plain", "") for output in outputs if "data" in output)


def asked(item):
    return questions.of(item.target.stem.split("_")[0])


@pytest.mark.parametrize("item", LABS, ids=lambda item: item.name)
def test_the_blank_runs_to_the_end_and_scores_nothing(item):
    notebook = notebooks.execute(nbformat.read(item.target, as_version=4), item.target.parent, item.target.stem)
    assert not notebooks.output_problems(notebook, blank=False)
    text = shown(notebook)
    for question in asked(item):
        assert f"– not attempted: {question.name}, 0 of {question.max_points} points" in text
    assert f"0 of {sum(q.max_points for q in asked(item))}" in text.splitlines()[-1]


@pytest.mark.parametrize("item", SOLUTIONS, ids=lambda item: item.name)
def test_the_solution_scores_full_marks(item):
    text = shown(nbformat.read(item.target, as_version=4))
    for question in asked(item):
        assert f"✓ passed: {question.name}, {question.max_points} of {question.max_points} points" in text
    total = sum(q.max_points for q in asked(item))
    assert f"{total} of {total}" in text.splitlines()[-1]


@pytest.mark.parametrize("item", SOLUTIONS, ids=lambda item: item.name)
def test_the_answers_of_the_solution_pass_on_every_seed(item):
    cells = [cell.source for cell in nbformat.read(item.target, as_version=4).cells if cell.cell_type == "code"]
    place = {}
    for source in cells:
        if notebooks.BEGIN in source or source.startswith("import "):
            exec(source, place)
    for question in asked(item):
        answer = place[question.function]
        for seed in range(100):
            assert question.check(answer, seed).status == "passed", (question.name, seed)


def test_every_lab_has_its_questions():
    assert LABS and all(asked(item) for item in LABS)
