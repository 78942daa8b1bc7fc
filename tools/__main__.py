"""``python -m tools COMMAND``: what the Makefile calls, and what people without make type."""

import argparse
import os
import shutil
import subprocess
import sys

from .paths import ROOT, Trouble

# Kernels run in chapters/ and labs/; they import this clone's packages, not those of another one.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def clean():
    """Remove what was built; the committed notebooks stay."""
    for name in ("_build", "node_modules", ".pytest_cache", ".hypothesis"):
        shutil.rmtree(ROOT / name, ignore_errors=True)


def lab():
    """Open JupyterLab at the labs."""
    subprocess.run([sys.executable, "-m", "jupyterlab", "--notebook-dir", str(ROOT), "--LabApp.default_url=/lab/tree/labs"])


def main():
    parser = argparse.ArgumentParser(prog="python -m tools", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("site", help="build the site from the committed, executed notebooks")
    commands.add_parser("site-zip", help="build the site and pack it, for a class without a network")
    commands.add_parser("pdf", help="build the site and print the whole book")
    p = commands.add_parser("slides", help="build the decks, as pages and as PDF")
    p.add_argument("names", nargs="*", help="such as 03_saturation (default: all)")
    commands.add_parser("minutes", help="run every chapter alone, and keep the seconds it took for the teacher's tables")
    p = commands.add_parser("questions", help="verify the question bank, and write it for Moodle, for Canvas and on paper")
    p.add_argument("names", nargs="*", help="chapters, items or misconceptions, such as ch03, ch03.quarter or M1 (default: all)")
    p.add_argument("--list", action="store_true", help="print the items and write nothing")
    p.add_argument("--variants", type=int, default=20, help="numbers to draw for each numeric item (default: 20)")
    p.add_argument("--sheets", type=int, default=1, help="sheets to print, each with other numbers (default: 1)")
    p.add_argument("--seed", type=int, default=1, help="other sheets for another seed (default: 1)")
    p = commands.add_parser("test", help="run everything; see --list for the parts")
    p.add_argument("parts", nargs="*", help="parts to run (default: all)")
    p.add_argument("--list", action="store_true", help="list the parts")
    commands.add_parser("test-paths", help="re-execute the notebooks on other code paths of the processor")
    p = commands.add_parser("notebooks", help="build and execute what has changed in book/ or in the packages")
    p.add_argument("names", nargs="*", help="such as chapters/03_saturation (default: all)")
    p.add_argument("--workers", type=int, default=2)
    commands.add_parser("check", help="check that what is derived (notebooks, ledger, studies, answers) matches what it is made from")
    p = commands.add_parser("studies", help="run the studies whose code has changed, or those that are named")
    p.add_argument("names", nargs="*")
    p.add_argument("--again", action="store_true", help="run all, change nothing, compare with the stored bands")
    p.add_argument("--workers", type=int, default=2)
    commands.add_parser("answers", help="try the known right and wrong answers on the checks, and write the table")
    p = commands.add_parser("pull", help="take edits made in JupyterLab back into book/")
    p.add_argument("notebook")
    commands.add_parser("lab", help="open JupyterLab at the labs")
    commands.add_parser("clean", help="remove what was built")
    arguments = parser.parse_args()
    # Each command imports what it needs: PyTorch alone takes seconds.
    try:
        match arguments.command:
            case "site":
                from . import site

                site.build()
            case "site-zip":
                from . import site

                site.build()
                site.archive()
            case "pdf":
                from . import pdf, site

                site.build()
                pdf.make()
            case "slides":
                from . import slides

                slides.make(arguments.names)
            case "minutes":
                from . import minutes

                minutes.measure()
            case "questions":
                from . import questions

                if arguments.list:
                    print(questions.listed(arguments.names))
                    return
                questions.make(arguments.names, arguments.variants, arguments.sheets, arguments.seed)
            case "test":
                from . import testing

                testing.list_parts() if arguments.list else testing.run(arguments.parts)
            case "test-paths":
                from . import testing

                testing.run_paths()
            case "notebooks":
                from . import ledger, notebooks

                try:
                    notebooks.make(arguments.workers, arguments.names)
                finally:
                    ledger.make()
            case "check":
                from . import testing

                testing.derived_files()
            case "studies":
                from . import studies

                if arguments.again:
                    studies.again(arguments.workers)
                else:
                    studies.make(arguments.names, arguments.workers)
            case "answers":
                from . import answers

                answers.make()
            case "pull":
                from . import notebooks

                notebooks.pull(arguments.notebook)
            case "lab":
                lab()
            case "clean":
                clean()
    except Trouble as trouble:
        print(f"\n{trouble}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
