"""A notebook opened elsewhere (Colab) runs with only what its own set-up cell installs."""

import ast
import os
import subprocess
import sys
from importlib.metadata import version

import nbformat
import pytest
from nbclient import NotebookClient

from tools import notebooks
from tools.kernels import Manager
from tools.paths import ROOT

OPENED = [item for item in notebooks.derived() if not item.blank]


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """The course's files in a new folder, and beside it an empty venv that holds nothing but a Jupyter kernel."""
    folder = tmp_path_factory.mktemp("elsewhere")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, names.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "clone" / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = [folder / "venv/bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, f"ipykernel=={version('ipykernel')}"], check=True)
    return folder


def kernel(folder):
    """A manager that starts the kernel of the empty venv."""
    manager = Manager()
    manager.kernel_spec.argv = [str(folder / "venv/bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    return manager


def needs(notebook):
    """A cell with all that a notebook takes from elsewhere: its imports, and the studies that it loads."""
    lines = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and "%pip" not in cell.source:
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, (ast.Import, ast.ImportFrom)) or "study.load" == ast.unparse(getattr(node, "func", node)):
                    lines.append(ast.unparse(node))
    return nbformat.v4.new_code_cell("\n".join(lines))


def run(cells, folder, place):
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder / "clone" / place)}}, km=kernel(folder))
    return client.execute()


def first_solution():
    return next(item for item in OPENED if item.kind == "labs")


def with_a_study():
    """The first chapter that loads a study."""
    return next(item for item in OPENED if "study.load" in item.source.read_text(encoding="utf-8"))


@pytest.mark.skipif(os.name == "nt", reason="the empty venv is laid out as on Linux and macOS")
@pytest.mark.parametrize("item", OPENED, ids=lambda item: item.name)
def test_a_notebook_finds_all_it_needs_with_only_what_its_setup_cell_installs(item, clone, monkeypatch):
    """Its imports and studies; one solution and one chapter run as a whole, to see that this is enough."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # The pinned versions, so that the machine's small build of torch is taken.
    monkeypatch.setenv("PIP_CONSTRAINT", str(ROOT / "requirements.txt"))
    notebook = nbformat.read(item.target, as_version=4)
    setup = next(c for c in notebook.cells if notebooks.SETUP_TAG in c.metadata.get("tags", []))
    assert setup is next(c for c in notebook.cells if c.cell_type == "code")
    whole = item in (first_solution(), with_a_study())
    place = item.target.parent.name
    where = nbformat.v4.new_code_cell("import signalprop; print(signalprop.__file__)")
    done = run([*(notebook.cells if whole else [setup, needs(notebook)]), where], clone, place)
    assert str(clone / "venv") in done.cells[-1].outputs[0].text
