"""Run the studies: ``studies/NN_name.py`` -> ``studies/NN_name.json``.

A study is a script with `SEEDS`, `CONFIGURATIONS` and ``run(configuration, seeds) -> {quantity: one number per
seed}``. Its result carries the versions it ran with and the hash of its code: the script, and all of
`signalprop` that it imports, comments and docstrings left out.
"""

import ast
import hashlib
import importlib.util
import json
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait

from signalprop.bands import band
from signalprop.progress import progress

from .paths import ROOT, Trouble

FOLDER = ROOT / "studies"
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")


def scripts():
    """Every study, in order."""
    return sorted(path for path in FOLDER.glob("*.py") if path.stem[0].isdigit())


def imported(path):
    """The files of `signalprop` that a file imports, directly or through others."""
    found, todo = set(), [path]
    while todo:
        for node in ast.walk(ast.parse(todo.pop().read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = (node.module or "") if not node.level else f"signalprop.{node.module or ''}".rstrip(".")
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
            for name in names:
                file = (ROOT / name.replace(".", "/")).with_suffix(".py")
                if name.startswith("signalprop.") and file.is_file() and file not in found:
                    found.add(file)
                    todo.append(file)
    return found


def code_hash(path):
    """Hash of what a study's code does."""
    digest = hashlib.sha256()
    for file in [path, *sorted(imported(path))]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
        digest.update(f"{file.name}\0{ast.dump(tree)}\0".encode())
    return digest.hexdigest()


def imported_script(path):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(f"study_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def follow_parent():
    """End this worker when the process that started it ends, even if that was killed."""

    def watch():
        wait([parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_one(path, index):
    """One configuration of one study, in a process of its own."""
    import torch

    torch.set_num_threads(1)
    study = imported_script(path)
    configuration = study.CONFIGURATIONS[index]
    result = {name: [float(v) for v in values] for name, values in study.run(dict(configuration), study.SEEDS).items()}
    for name, values in result.items():
        if len(values) != study.SEEDS:
            raise Trouble(f"{path.stem} {configuration}: expected {study.SEEDS} values of {name}, got {len(values)}")
    return index, {"configuration": configuration, "result": {k: [float(f"{x:.6g}") for x in v] for k, v in result.items()}}


def kept(part, code):
    """Rows that an interrupted run of the same code left behind, by index."""
    lines = part.read_text(encoding="utf-8").splitlines() if part.is_file() else []
    rows = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # cut off in the middle
            continue
        if entry["code"] == code:
            rows[entry["index"]] = entry["row"]
    return rows


def run(path, workers=2, part=None):
    """The result of one study, as it is stored. Rows are kept in the file `part` until all are there."""
    study, code = imported_script(path), code_hash(path)  # before the run: code may change during it
    rows = kept(part, code) if part else {}
    todo = [index for index in range(len(study.CONFIGURATIONS)) if index not in rows]
    # New processes, not forks: torch's threads do not survive one.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=follow_parent) as pool:
        done = as_completed([pool.submit(run_one, path, index) for index in todo])
        for future in progress(done, len(todo), path.stem):
            index, rows[index] = future.result()
            if part:
                with part.open("a", encoding="utf-8", newline="\n") as file:
                    file.write(json.dumps({"code": code, "index": index, "row": rows[index]}) + "\n")
    return {
        "study": path.stem,
        "about": " ".join(study.__doc__.split()),
        "seeds": study.SEEDS,
        "versions": {name: version(name).split("+")[0] for name in LIBRARIES},
        "code": code,
        "rows": [rows[index] for index in sorted(rows)],
    }


def problems(path):
    """Why a committed result is not what its script would make; [] if it is."""
    stored = path.with_suffix(".json")
    if not stored.is_file():
        return ["has no result"]
    content = json.loads(stored.read_text(encoding="utf-8"))
    found = [] if content["code"] == code_hash(path) else ["was made by other code"]
    if [row["configuration"] for row in content["rows"]] != imported_script(path).CONFIGURATIONS:
        found.append("has other configurations")
    return found


def check():
    """Raise `Trouble` that lists every study whose result is not up to date."""
    lines = [f"studies/{path.stem}.json {problem}" for path in scripts() for problem in problems(path)]
    lines += [f"studies/{path.name} has no script" for path in FOLDER.glob("*.json") if not path.with_suffix(".py").is_file()]
    if lines:
        raise Trouble("Studies do not match their code (run `make studies`):\n  " + "\n  ".join(lines))
    print(f"{len(scripts())} studies match their code")


def make(names=(), workers=2):
    """Run the studies that are missing or out of date, or those that are named."""
    known = {path.stem: path for path in scripts()}
    if unknown := set(names) - set(known):
        raise Trouble(f"expected studies out of {', '.join(known) or 'none'}; got {', '.join(sorted(unknown))}")
    todo = [known[name] for name in names] or [path for path in known.values() if problems(path)]
    print(f"{len(todo)} of {len(known)} studies to run", flush=True)
    for path in todo:
        part = path.with_suffix(".part")
        content = run(path, workers, part)
        text = json.dumps(content, indent=None, ensure_ascii=False).replace('{"configuration"', '\n{"configuration"')
        scratch = path.with_suffix(".tmp")
        scratch.write_text(text.replace("]}}]}", "]}}\n]}") + "\n", encoding="utf-8", newline="\n")
        scratch.replace(path.with_suffix(".json"))
        part.unlink(missing_ok=True)
        print(f"wrote studies/{path.stem}.json", flush=True)


def again(workers=2):
    """Run all studies afresh, change no file, and raise `Trouble` where a median has left its stored band."""
    left = []
    for path in scripts():
        stored = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        for old, new in zip(stored["rows"], run(path, workers)["rows"], strict=True):
            for name, values in new["result"].items():
                was, now = band(old["result"][name]), band(values)
                if not was.low <= now.mid <= was.high:
                    left.append(f"{path.stem} {new['configuration']} {name}: {now.mid:.4g}, stored [{was.low:.4g}, {was.high:.4g}]")
    if left:
        raise Trouble("Studies came out differently:\n  " + "\n  ".join(left))
    print(f"{len(scripts())} studies came out again")
