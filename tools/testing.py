"""Run everything that must hold: unit tests, derived files, the site, every notebook."""

import os
import subprocess
import sys
import time

from . import answers, ledger, minutes, notebooks, questions, site, slides, studies
from .paths import ROOT, Trouble, browser

STRICT, LAX = ("chapters", "solutions", "teach"), ("labs",)
CHECKS = ("tests/test_labcheck.py", "tests/test_grading.py", "tests/test_grading_class.py")
SITE = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_site*.py"))
# ATen's kernels, and those of NumPy's OpenBLAS with them.
CODE_PATHS = {"default": "Prescott", "avx2": "Haswell"}


def pytest(*arguments, **environment):
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    if subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}).returncode:
        raise Trouble(f"`pytest {' '.join(arguments)}` failed")


def nbval(mode, folders, **environment):
    # loadfile: a notebook's cells must stay in one worker.
    folders = [folder for folder in folders if (ROOT / folder).is_dir()]
    options = ["--nbval-current-env", "--nbval-cell-timeout=120", "-n", "2", "--dist", "loadfile"]
    pytest(mode, *options, *folders, **environment)


def unit_tests():
    """Unit tests, and tests that plant faults (tests/)"""
    site.install_assets()  # some set formulas, some build small sites
    split = ["-n", "2", "--durations=8"]
    apart = ["--ignore-glob=*/test_site*.py", *(f"--ignore={file}" for file in CHECKS)]
    pytest(*split, "--dist", "loadfile", *apart, "--doctest-modules", "tests", "signalprop", "labcheck", "quiz", "tools")
    pytest(*split, "--dist", "worksteal", *CHECKS)  # few files, and most of the work


def derived_files():
    """Derived notebooks match their text, the ledger the notebooks, the studies their code, the table the answers, the minutes the pages"""
    found = []
    for check in (notebooks.check, ledger.check, studies.check, answers.check, minutes.check):
        try:
            check()
        except Trouble as trouble:
            found.append(str(trouble))
    if found:
        raise Trouble("\n".join(found))


def built_site():
    """The site builds without a warning, and works in a real browser; so do the decks and the printed questions"""
    site.build(whole=True)
    slides.make()
    questions.make()
    if not browser():
        message = "no Chromium found: the tests in a real browser were skipped (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            raise Trouble(message)
        print(message)
    pytest("-n", "2", "--dist", "worksteal", *SITE)


def executed_notebooks():
    """Every notebook comes out again as it is stored (nbval)"""
    nbval("--nbval", STRICT)


def blank_labs():
    """The students' copies of the labs run from top to bottom (nbval, lax)"""
    nbval("--nbval-lax", LAX)


PARTS = {
    "unit": unit_tests,
    "derived": derived_files,
    "site": built_site,
    "notebooks": executed_notebooks,
    "labs": blank_labs,
}


def list_parts():
    for name, part in PARTS.items():
        print(f"{name:10} {part.__doc__}")


def run(names=()):
    """Run the parts, all of them even if one fails; raises `Trouble` that names those that failed."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise Trouble(f"expected parts out of {', '.join(PARTS)}; got {', '.join(unknown)}")
    names = names or list(PARTS)
    failed, times = [], {}
    for number, name in enumerate(names, start=1):
        print(f"\n=== {number}/{len(names)} {name}: {PARTS[name].__doc__}", flush=True)
        start = time.monotonic()
        try:
            PARTS[name]()
        except Trouble as trouble:
            print(trouble, flush=True)
            failed.append(name)
        times[name] = time.monotonic() - start
    print("\n=== " + ", ".join(f"{name} {'FAILED' if name in failed else 'ok'} ({times[name]:.0f} s)" for name in names))
    if failed:
        raise Trouble(f"failed: {', '.join(failed)}. Run one part alone with `python -m tools test {failed[0]}`")
    print("all is well")


def run_paths():
    """Re-execute the notebooks on other code paths: what they print must not depend on the processor."""
    for path, core in CODE_PATHS.items():
        print(f"\n=== ATEN_CPU_CAPABILITY={path} OPENBLAS_CORETYPE={core}", flush=True)
        nbval("--nbval", STRICT, ATEN_CPU_CAPABILITY=path, MKL_CBWR="COMPATIBLE", OPENBLAS_CORETYPE=core)
