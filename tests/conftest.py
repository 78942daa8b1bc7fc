"""A course of two pages in a folder of its own, for tests that plant faults; and the built site in a browser."""

import functools
import os
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from browsing import FLAGS, HTML, PAGES, Links

from tools.paths import ROOT
from tools.paths import browser

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""
CHAPTER = """# One

About 5 minutes to read.

Some text, $x^2$, {glue:text}`one_value`, {cite:p}`he2015prelu`.

```{code-cell} ipython3
from signalprop import report

x = 6 * 7
print(f"the answer is {x}")
```

```{code-cell} ipython3
report("one_value", x)
```

```{code-cell} ipython3
import ipywidgets

ipywidgets.IntSlider(description="n")
```

```{code-cell} ipython3
x
```

```{code-cell} ipython3
x
```
"""
LAB = """# Lab one

35 to 80 minutes, an estimate.

```{code-cell} ipython3
def double(x):
    \"\"\"Twice x.\"\"\"
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION
```

```{code-cell} ipython3
try:
    print(double(2))
except NotImplementedError:
    print("not attempted")
```
"""
TOC = """format: jb-book
root: book/index
chapters:
  - file: chapters/01_one
  - file: labs/lab01_one
  - file: solutions/lab01_one
"""
INDEX = """# A small course

```{bibliography}
```
"""


@pytest.fixture(scope="session")
def made_course(tmp_path_factory):
    """The small course, its notebooks made once."""
    path = tmp_path_factory.mktemp("made") / "course"
    (path / "book/chapters").mkdir(parents=True)
    (path / "book/labs").mkdir()
    for name in ("signalprop", "labcheck", "quiz", "tools", "book/_static", "book/_templates"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "course.yml", "requirements.txt", "pyproject.toml", "conftest.py", "package.json", "package-lock.json", ".npmrc", "CITATION.cff", "book/references.bib"):
        shutil.copy2(ROOT / name, path / name)
    shutil.copytree(ROOT / "tests/lab_answers", path / "tests/lab_answers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "book/answers.json", path / "book/answers.json")
    (path / "book/seconds.json").write_text('{"chapters/01_one.ipynb": 1}')
    (path / "_toc.yml").write_text(TOC)
    (path / "book/index.md").write_text(INDEX)
    (path / "book/chapters/01_one.md").write_text(HEADER + CHAPTER)
    (path / "book/labs/lab01_one.md").write_text(HEADER + LAB)
    offline = ROOT / "_build/static"
    if offline.exists():  # else npm brings it once
        shutil.copytree(offline, path / "_build/static")
    if (ROOT / "node_modules").exists():
        (path / "node_modules").symlink_to(ROOT / "node_modules")
    run_tools(path, "notebooks")
    return path


def run_tools(path, *arguments, fails=False):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | {"PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "tools", *arguments]
    result = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True)
    assert bool(result.returncode) == fails, result.stdout + result.stderr
    return result


@pytest.fixture
def small_course(made_course, tmp_path):
    """A copy of the small course to plant faults in: `.path`, and `.tools("site", fails=True)`."""
    path = tmp_path / "course"
    shutil.copytree(made_course, path, symlinks=True)
    return SimpleNamespace(path=path, tools=lambda *args, **kwargs: run_tools(path, *args, **kwargs))


# --- the built site -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def parsed():
    return {path: Links(path.read_text(encoding="utf-8")) for path in PAGES}


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=browser(), args=FLAGS)
        yield instance
        instance.close()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def served():
    """The address at which a web server on this machine shows the site."""
    handler = functools.partial(Silent, directory=HTML)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# The scripts come after the text has been drawn; a page from elsewhere has none of ours.
SCRIPTS_READY = "() => document.documentElement.dataset.scripts === 'ready' || ![...document.scripts].some(s => s.text.includes('dataset.scripts'))"


@pytest.fixture
def page(chromium):
    """A page that notes every request beyond the site's own files, and every error."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.beyond, page.errors = [], []
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else page.beyond.append(r.url))
    # Who leaves a page stops what it was still loading: that is no error.
    page.on("requestfailed", lambda r: None if r.failure == "net::ERR_ABORTED" else page.errors.append(f"not loaded: {r.url}"))
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    goto = page.goto
    page.goto = lambda *args, **kwargs: (goto(*args, **kwargs), page.wait_for_function(SCRIPTS_READY))[0]
    yield page
    context.close()
