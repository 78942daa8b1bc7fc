"""A small Sphinx extension: the buttons of a page point at what people edit and open."""

from pathlib import PurePosixPath


def edit_target(pagename):
    """The file behind "edit this page": the text, not the notebook that is made from it.

    >>> edit_target("chapters/02_depth"), edit_target("solutions/lab03_saturation"), edit_target("book/notation")
    ('book/chapters/02_depth.md', 'book/labs/lab03_saturation.md', 'book/notation.md')
    """
    path = PurePosixPath(pagename)
    folder = {"chapters": "book/chapters", "labs": "book/labs", "solutions": "book/labs"}.get(path.parts[0])
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


def setup(app):
    # After the theme has made its buttons.
    app.connect("html-page-context", point_buttons, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
