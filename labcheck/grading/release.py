"""What a teacher hands out for one lab: the student's notebook, what to install, and what to do."""

import json
import re
import shutil
import zipfile
from pathlib import Path

from .. import questions
from .batch import write
from .sandbox import ROOT

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib", "ipywidgets", "jupyterlab")

INSTRUCTIONS = """\
# {title}

{points} points. It takes {minutes} minutes: an estimate, no class has been timed yet. You need Python 3.11 or newer, and no GPU.

1. In a terminal in this folder, make a place for the packages and install them:

   ```
   python -m venv .venv
   .venv/bin/python -m pip install -r requirements.txt
   ```

   Some systems call the first `python3`. On Windows the second is `.venv\\Scripts\\python`. On Linux, pip takes PyTorch's large
   build for GPUs; a smaller one is enough ([PyTorch's page](https://pytorch.org/get-started/locally/): Linux, Pip, CPU).
2. Open the notebook: `.venv/bin/python -m jupyterlab {notebook}`
3. Replace each `raise NotImplementedError(...)` by your answer, run its cell, then the cell with the check below it. A check
   may be run as often as you like; it says what is right and what is not yet.
4. Hand in the notebook, `{notebook}`. Leave the names of the functions as they are; everything else may be changed.

When the class is graded, your functions are run again, on inputs that nobody has seen. Use torch, NumPy, SciPy and Python's
standard library. The course's own packages (signalprop, labcheck) are there for the figures; an answer may not use them.
Each question has 5 seconds. Nothing is read from files or from the network.

| question | points | minutes expected |
| --- | --- | --- |
{rows}
"""


def time_range(asked):
    """Minutes for some questions as a range, until a class has been timed: (fewest, most).

    From two thirds to one and a half times the sum of what their authors expect, rounded to 5 minutes.
    """
    expected = sum(question.minutes for question in asked)
    return 5 * round(expected * 2 / 3 / 5), 5 * round(expected * 3 / 2 / 5)


BUNDLE = "course-packages.zip"
IN_BUNDLE = ("pyproject.toml", "LICENSE", "signalprop", "labcheck", "studies")


def bundle(path):
    """Pack the course's own packages so that pip can install them from the file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in IN_BUNDLE:
            for file in sorted([ROOT / name, *(ROOT / name).rglob("*")]):
                if file.is_file() and "__pycache__" not in file.parts and not (name == "studies" and file.suffix != ".json"):
                    entry = zipfile.ZipInfo(f"vanishing-gradients/{file.relative_to(ROOT).as_posix()}", date_time=(1980, 1, 1, 0, 0, 0))
                    packed.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


class NoRelease(Exception):
    """A lab can't be handed out; the message says why."""


def release(lab, folder, packages=None):
    """Write the handout of a lab into a folder.

    Parameters
    ----------
    lab : str
        "lab06".
    folder : path
        New, or empty.
    packages : str, optional
        Where students install the course's packages from, in words that pip understands. Where it is left out, the
        packages are put into the folder.

    Returns
    -------
    list of Path

    Raises
    ------
    NoRelease
    """
    folder = Path(folder)
    found = sorted((ROOT / "labs").glob(f"{lab}_*.ipynb"))
    if lab not in questions.LABS or len(found) != 1:
        raise NoRelease(f"expected one of {', '.join(questions.LABS)}, and its notebook in {ROOT / 'labs'}; got {lab!r}")
    if folder.exists() and any(folder.iterdir()):
        raise NoRelease(f"expected a new or empty folder, {folder} holds files")
    (notebook,) = found
    content = json.loads(notebook.read_text(encoding="utf-8"))
    source = "\n".join("".join(cell["source"]) for cell in content["cells"])
    if "BEGIN SOLUTION" in source or any(cell.get("outputs") for cell in content["cells"]):
        raise NoRelease(f"{notebook.name} holds solutions or outputs: run make notebooks")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(notebook, folder / notebook.name)
    pinned = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
    lines = [f"{name}=={pinned[name]}" for name in PACKAGES]
    if not packages:
        bundle(folder / BUNDLE)
    write(folder / "requirements.txt", "\n".join([*lines, packages or f"./{BUNDLE}"]) + "\n")
    asked = questions.of(lab)
    title = re.search(r"^# (.+)$", source, re.MULTILINE)[1]
    instructions = INSTRUCTIONS.format(
        title=title,
        points=sum(q.max_points for q in asked),
        minutes="{} to {}".format(*time_range(asked)),
        notebook=notebook.name,
        rows="\n".join(f"| {q.name} | {q.max_points} | {q.minutes} |" for q in asked),
    )
    write(folder / "README.md", instructions)
    return sorted(folder.iterdir())
