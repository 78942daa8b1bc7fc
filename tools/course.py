"""A small Sphinx extension: the buttons of a page point at what people edit and open, and the tables of the ledger, the answers and the teacher's pages and the cards of the chapters are made here."""

import sys
from pathlib import Path, PurePosixPath

from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parents[1]))  # Sphinx puts tools/ itself on the path
from tools import gallery, pages  # noqa: E402


def edit_target(pagename):
    """The file behind "edit this page": the text, not the notebook that is made from it.

    >>> edit_target("chapters/02_depth"), edit_target("solutions/lab03_saturation"), edit_target("book/notation")
    ('book/chapters/02_depth.md', 'book/labs/lab03_saturation.md', 'book/notation.md')
    >>> edit_target("solutions/ch03_saturation"), edit_target("teach/03_saturation")
    ('book/solutions/ch03_saturation.md', 'book/teach/03_saturation.md')
    """
    path = PurePosixPath(pagename)
    folder = {"chapters": "book/chapters", "labs": "book/labs", "solutions": "book/labs", "teach": "book/teach"}.get(path.parts[0])
    if path.parts[0] == "solutions" and path.name.startswith("ch"):
        folder = "book/solutions"
    return f"{folder}/{path.name}.md" if folder else f"{pagename}.md"


def point_buttons(app, pagename, templatename, context, doctree):
    def walk(buttons):
        for button in buttons:
            if isinstance(button, dict):
                url = button.get("url", "")
                if "/edit/" in url and pagename in url:
                    button["url"] = url[: url.index(pagename)] + edit_target(pagename)
                walk(button.get("buttons", []))

    walk(context.get("header_buttons", []))


class Ledger(SphinxDirective):
    """``{ledger} summary`` and ``{ledger} tables``: the rows of ``book/ledger.json`` as a page."""

    required_arguments = 1

    def run(self):
        from tools import ledger  # only where it is used: it brings PyTorch, which takes seconds

        self.env.note_dependency(str(ledger.STORED))
        text = {"summary": ledger.summary, "tables": ledger.tables}[self.arguments[0]](ledger.load())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Answers(SphinxDirective):
    """``{answers}``: the questions of all labs, and ``book/answers.json``, as a table."""

    def run(self):
        from tools import answers

        self.env.note_dependency(str(answers.STORED))
        return self.parse_text_to_nodes(answers.table(answers.load()))


class Citation(SphinxDirective):
    """``{citation}``: how to cite the course, from ``CITATION.cff``."""

    def run(self):
        sentence, bibtex = pages.citation(None, self.config.html_baseurl)
        return self.parse_text_to_nodes(f"{sentence}\n\n```bibtex\n{bibtex}\n```")


class Chapters(SphinxDirective):
    """``{chapters}``: a card for each chapter that it lists (`tools.gallery` reads the list)."""

    has_content = True

    def run(self):
        for entry in gallery.chapters():  # its title and its figure are in the card
            self.env.note_dependency(str(gallery.notebook(entry)))
        return self.parse_text_to_nodes(gallery.as_text())


class Teaching(SphinxDirective):
    """``{teaching} NAME``: what `tools.teaching` makes of the course, its plans, its misconceptions and its questions."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        from tools import teaching  # only where it is used: it brings PyTorch

        for path in (*teaching.TEACH.iterdir(), *(teaching.ROOT / "book/slides").glob("*.md")):
            self.env.note_dependency(str(path))
        name, *rest = self.arguments[0].split()
        makers = {"schedule", "times", "plan", "notes", "misconception_table", "bank_table"}
        if name not in makers:
            raise self.error(f"expected one of {', '.join(sorted(makers))}; got {name}")
        text = getattr(teaching, name)(*rest)
        return self.parse_text_to_nodes(text) if text else []


def setup(app):
    app.add_directive("teaching", Teaching)
    app.add_directive("ledger", Ledger)
    app.add_directive("answers", Answers)
    app.add_directive("chapters", Chapters)
    app.add_directive("citation", Citation)
    # After the theme has made its buttons.
    app.connect("html-page-context", point_buttons, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
