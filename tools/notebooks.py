"""Make the notebooks from their text, one way: ``book/`` -> ``chapters/``, ``solutions/``, ``labs/``.

A person edits ``book/chapters/*.md`` and ``book/labs/*.md`` (MyST Markdown). `make` derives from them

- ``chapters/NAME.ipynb``, executed,
- ``solutions/NAME.ipynb``, executed, with the answers,
- ``labs/NAME.ipynb``, the answers replaced by a stub, no outputs.

The teacher's notes ``book/teach/NN_*.md`` become ``teach/NN_*.ipynb``, and the answers to exercises and exam
questions ``book/solutions/chNN_*.md`` become ``solutions/chNN_*.ipynb``, both executed.

Each notebook carries the hashes of what it was made from. One whose hashes differ is executed afresh as a
whole; the others are left alone, byte for byte.
"""

import functools
import hashlib
import json
import re
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from .kernels import AsyncManager
from .paths import ROOT, Trouble, repository

PACKAGES = {"chapters": ("signalprop",), "labs": ("signalprop", "labcheck"), "teach": ("signalprop",), "solutions": ("signalprop",)}
FOLDERS = ("chapters", "solutions", "labs", "teach")  # what is in them is derived
CODE = (".py", ".js", ".css", ".json")
APART = ROOT / "labcheck/grading"  # no notebook imports it
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = 'raise NotImplementedError("write your answer here")'
SETUP_TAG = "setup"
CELL_SECONDS = 300


@dataclass(frozen=True)
class Derived:
    """One notebook and the text that it is made from."""

    source: Path
    target: Path
    blank: bool = False  # a student's copy: no answers, no outputs

    @property
    def name(self):
        return self.target.relative_to(ROOT).as_posix()

    @property
    def kind(self):
        return self.source.parent.name


def derived():
    """Every notebook of the course, in order."""
    found = []
    for source in sorted((ROOT / "book/chapters").glob("*.md")):
        found.append(Derived(source, ROOT / "chapters" / f"{source.stem}.ipynb"))
    for source in sorted((ROOT / "book/labs").glob("*.md")):
        found.append(Derived(source, ROOT / "solutions" / f"{source.stem}.ipynb"))
        found.append(Derived(source, ROOT / "labs" / f"{source.stem}.ipynb", blank=True))
    for source in sorted((ROOT / "book/solutions").glob("ch*.md")):
        found.append(Derived(source, ROOT / "solutions" / f"{source.stem}.ipynb"))
    for source in sorted((ROOT / "book/teach").glob("[0-9][0-9]_*.md")):
        found.append(Derived(source, ROOT / "teach" / f"{source.stem}.ipynb"))
    return found


# --- from text to an unexecuted notebook -----------------------------------------------------------------


def read_text(path):
    """The text of a source, with Unix line ends whatever the checkout made of them."""
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def package_hash(kind):
    """Hash of all the code that the notebooks of this kind can import from us, as it was when it was first asked for."""
    digest = hashlib.sha256()
    for package in PACKAGES[kind]:
        files = (p for p in (ROOT / package).rglob("*") if p.suffix in CODE and APART not in p.parents)
        for path in sorted(files):
            digest.update(f"{path.relative_to(ROOT).as_posix()}\0{read_text(path)}\0".encode())
    return digest.hexdigest()


def hashes(item):
    return {
        "source": sha(read_text(item.source)),
        "package": package_hash(item.kind),
        "lock": sha(read_text(ROOT / "requirements.txt")),
    }


def setup_cell():
    """The first code cell: installs the helper packages where they are missing (Colab, Binder)."""
    address, branch = repository()
    # Until the address is set, the clone that the notebook lies in.
    package = f"git+{address}@{branch}" if address else ".."
    cell = nbformat.v4.new_code_cell(
        "# Installs the course's helper packages where they are missing (Colab); does nothing elsewhere.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("signalprop") is None:\n'
        f"    %pip install --quiet {package}\n"
        "    importlib.invalidate_caches()"
    )
    cell.metadata["tags"] = ["remove-cell", SETUP_TAG]
    return cell


def blank(source):
    """A code cell's source with each marked answer replaced by a stub."""
    lines, out, inside = source.split("\n"), [], False
    for line in lines:
        marker = line.strip()
        if marker == BEGIN:
            if inside:
                raise Trouble(f"two '{BEGIN}' without an '{END}' between them")
            inside = True
            out.append(line[: len(line) - len(line.lstrip())] + STUB)
        elif marker == END:
            if not inside:
                raise Trouble(f"'{END}' without a '{BEGIN}' before it")
            inside = False
        elif not inside:
            out.append(line)
    if inside:
        raise Trouble(f"'{BEGIN}' without an '{END}' after it")
    return "\n".join(out)


def prepared(source, for_students):
    """A code cell's source as the notebook gets it."""
    if source.rstrip().endswith(";"):
        raise Trouble("nbval does not honour a ';' at the end of a cell; end a figure's cell with plt.show()")
    without_answers = blank(source)  # also where they stay: the markers must pair
    return without_answers if for_students else source


def build(item):
    """The notebook as its text makes it: unexecuted, with stable cell ids and the hashes of its making."""
    notebook = jupytext.reads(read_text(item.source), fmt="md:myst")
    first_code = next((i for i, c in enumerate(notebook.cells) if c.cell_type == "code"), len(notebook.cells))
    # After the title, before the first code.
    notebook.cells.insert(min(first_code, 1), setup_cell())
    seen = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            try:
                cell.source = prepared(cell.source, item.blank)
            except Trouble as trouble:
                raise Trouble(f"{item.source.relative_to(ROOT).as_posix()}: {trouble}, in the cell:\n{cell.source}") from None
        key = f"{cell.cell_type}\0{cell.source}"
        seen[key] = seen.get(key, 0) + 1
        cell["id"] = sha(f"{key}\0{seen[key]}")[:12]
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("jupytext", None)
    notebook.metadata["course"] = {"text": item.source.relative_to(ROOT).as_posix(), **hashes(item)}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


# --- execution -------------------------------------------------------------------------------------------


def execute(notebook, folder, stem):
    """Run a notebook in a new kernel; the result holds no times, no versions of the machine, no random ids."""
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        kernel_manager_class=AsyncManager,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=True,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # a kernel's word on its transport is not ours
    ).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    text = nbformat.writes(notebook)
    state = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    for order, model in enumerate(state):
        text = text.replace(model, sha(f"{stem}/{order}")[:32])
    return nbformat.reads(text, as_version=4)


def write(notebook, path):
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    scratch = path.with_suffix(".part")
    scratch.write_text(text, encoding="utf-8", newline="\n")
    scratch.replace(path)


def make_one(item):
    """Build, execute and write one notebook; returns (name, seconds, error or None)."""
    start = time.monotonic()
    item.target.parent.mkdir(exist_ok=True)
    try:
        notebook = build(item)
        if problems(item) == [OTHER_SETUP]:
            # Only the address of the repository is another: no result depends on it.
            stored = nbformat.read(item.target, as_version=4)
            for cell, built in zip(stored.cells, notebook.cells, strict=True):
                if SETUP_TAG in built.metadata.get("tags", []):
                    cell["id"], cell.source = built["id"], built.source
            notebook = stored
        elif item.blank:
            notebook.metadata["language_info"] = {"name": "python"}
        else:
            notebook = execute(notebook, item.target.parent, item.target.stem)
        write(notebook, item.target)
        error = None
    except (CellExecutionError, CellTimeoutError, DeadKernelError, Trouble) as trouble:
        error = re.sub(r"\x1b\[[0-9;]*m", "", str(trouble)).strip()
    return item.name, time.monotonic() - start, error


def make(workers=2, names=()):
    """Make every notebook that is missing or out of date (or only those named), and remove those whose text is gone."""
    chosen = [item for item in derived() if not names or item.name.removesuffix(".ipynb") in names]
    if missing := set(names) - {item.name.removesuffix(".ipynb") for item in chosen}:
        raise Trouble(f"expected names such as chapters/03_saturation; no text makes {', '.join(sorted(missing))}")
    for orphan in orphans():
        print(f"  removed    {orphan.relative_to(ROOT).as_posix()} (its text is gone)")
        orphan.unlink()
    todo = [item for item in chosen if problems(item)]
    print(f"{len(chosen) - len(todo)} notebooks are up to date, {len(todo)} to make")
    failed = []
    # New processes, not forks: a kernel client in a forked process can hang.
    with ProcessPoolExecutor(max(1, min(workers, len(todo))), mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(make_one, item) for item in todo]):
            name, seconds, error = done.result()
            print(f"  {'FAILED' if error else 'made'}  {name}  ({seconds:.0f} s)", flush=True)
            if error:
                failed.append(f"{name} failed and was left as it was:\n{error}")
    if failed:
        raise Trouble("\n\n".join(failed))


# --- checks ----------------------------------------------------------------------------------------------


def orphans():
    """Notebooks in the derived folders that no text makes."""
    targets = {item.target for item in derived()}
    return [path for folder in map(ROOT.joinpath, FOLDERS) for path in sorted(folder.glob("*.ipynb")) if path not in targets]


def content(notebook):
    """What the text determines: everything but outputs and counts."""
    return [(c["id"], c.cell_type, c.source, dict(c.metadata)) for c in notebook.cells], notebook.metadata.course


OTHER_SETUP = "installs the packages from another address than course.yml says"


def without_setup(notebook):
    cells, metadata = content(notebook)
    return [cell for cell in cells if SETUP_TAG not in cell[3].get("tags", [])], metadata


def problems(item):
    """Why a committed notebook is not what its text, the packages and the lock file would make; [] if it is."""
    if not item.target.exists():
        return ["is missing"]
    try:
        notebook = nbformat.read(item.target, as_version=4)
    except Exception as error:  # any damage to the file
        return [f"can't be read: {error}"]
    found, made_from = [], notebook.metadata.get("course", {})
    for name, value in hashes(item).items():
        if made_from.get(name) != value:
            found.append(f"was made from another {name}")
    if not found and content(notebook) != content(made := build(item)):
        same = without_setup(notebook) == without_setup(made)
        found.append(OTHER_SETUP if same else "was edited by hand (`make pull` takes edits back into book/)")
    return found + output_problems(notebook, item.blank)


def output_problems(notebook, blank):
    """What is wrong with a notebook's stored outputs; nbval passes a stripped notebook silently."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if blank:
        return ["is a student's copy and has outputs"] if any(c.outputs or c.execution_count for c in code) else []
    found = []
    if [c.execution_count for c in code] != list(range(1, len(code) + 1)) or not any(c.outputs for c in code):
        found.append("is not executed from top to bottom")
    for cell in code:
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"holds an error in cell [{cell.execution_count}]: {output.ename}: {output.evalue}")
            elif output.output_type == "stream" and output.name == "stderr":
                found.append(f"holds text on stderr in cell [{cell.execution_count}]: {output.text[:200]}")
    return found


def check():
    """Raise `Trouble` that lists every derived notebook that is not what it should be."""
    lines = [f"{item.name} {problem}" for item in derived() for problem in problems(item)]
    lines += [f"{path.relative_to(ROOT).as_posix()} has no text in book/" for path in orphans()]
    if lines:
        raise Trouble("Derived notebooks do not match book/ (run `make notebooks`):\n  " + "\n  ".join(lines))
    print(f"{len(derived())} derived notebooks match their text, the packages and requirements.txt")


# --- the way back ----------------------------------------------------------------------------------------


class _Tidy(yaml.SafeDumper):
    """Cell metadata as a person would write it: long texts as blocks, lists on one line."""


_Tidy.add_representer(str, lambda d, v: d.represent_scalar("tag:yaml.org,2002:str", v, "|" if "\n" in v else None))
_Tidy.add_representer(list, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=True))


def as_text(notebook):
    """A notebook as the MyST Markdown that people edit, without the version of the tool that wrote it."""

    def tidy(match):
        return match[1] + yaml.dump(yaml.safe_load(match[2]), Dumper=_Tidy, width=10**6, allow_unicode=True) + "---\n"

    text = jupytext.writes(notebook, fmt="md:myst")
    text = re.sub(r"^    (format|jupytext)_version: .*\n", "", text, count=2, flags=re.MULTILINE)
    return re.sub(r"^(```\{code-cell\}[^\n]*\n---\n)(.*?\n)---\n", tidy, text, flags=re.MULTILINE | re.DOTALL)


def pull(path):
    """Take edits made in JupyterLab back into the text of a chapter or a solution."""
    path = Path(path).resolve()
    item = next((item for item in derived() if item.target == path), None)
    if item is None:
        raise Trouble(f"expected a notebook of chapters/ or solutions/ that has a text in book/, got {path.name}")
    if item.blank:
        raise Trouble(f"{item.name} is a student's copy without the answers; edit solutions/{path.name} and pull that")
    notebook, text = nbformat.read(path, as_version=4), read_text(item.source)
    if notebook.metadata.get("course", {}).get("source") != sha(text):
        raise Trouble(
            f"{item.source.relative_to(ROOT).as_posix()} has changed since {item.name} was made, so pulling would undo "
            "that change. Nothing was written. Save your notebook elsewhere, run `make notebooks`, and edit again."
        )
    before = jupytext.reads(text, fmt="md:myst")
    notebook.cells = [c for c in notebook.cells if SETUP_TAG not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.pop("id", None)
        for key in ("editable", "slideshow", "trusted", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            blank(cell.source)  # raises if the markers do not pair
    markers = [sum(c.source.count(BEGIN) for c in nb.cells) for nb in (before, notebook)]
    if markers[1] < markers[0]:
        raise Trouble(
            f"{item.name} has {markers[1]} marked answers where the text has {markers[0]}: the answer would be "
            f"handed to students. Nothing was written. Put the lines '{BEGIN}' and '{END}' back."
        )
    notebook.metadata = before.metadata
    item.source.write_text(as_text(notebook), encoding="utf-8", newline="\n")
    print(f"wrote {item.source.relative_to(ROOT).as_posix()}; run `make notebooks` to execute it afresh")


