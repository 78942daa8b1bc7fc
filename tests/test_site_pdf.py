"""The whole book on paper: every page of the site is in it, with its mathematics, and its links hold."""

import re

import pytest
from browsing import needs_browser
from pypdf import PdfReader

from tools import pdf

pytestmark = needs_browser


@pytest.fixture(scope="module")
def book(chromium):
    pdf.print_with(chromium)
    return PdfReader(pdf.TARGET)


def test_the_book_is_whole_and_readable(book):
    numbers = pdf.page_numbers()
    assert list(numbers) == [page for _, page in pdf.order()] and sorted(numbers.values()) == list(numbers.values())
    # The table of contents has the page numbers.
    contents = "\n".join(book.pages[i].extract_text() for i in range(1, numbers["book/index"] - 1))
    assert all(re.search(rf"\b{number}\b", contents) for page, number in numbers.items() if page != "book/index")
    # Mathematics is set, not left as TeX; nothing on paper speaks of scripts or is a button.
    for page in ("chapters/02_depth", "labs/lab03_saturation", "book/notation"):
        text = "\n".join(book.pages[numbers[page] - 1 + i].extract_text() for i in range(3))
        assert len(text) > 1500 and not re.search(r"\\\(|when scripts are on|Show code cell", text), text
    links = [a.get_object() for page in book.pages for a in page.get("/Annots", [])]
    outside = {link["/A"]["/URI"] for link in links if "/URI" in link.get("/A", {})}
    assert outside and not [uri for uri in outside if uri.startswith("file:")]
    assert sum("/Dest" in link or link.get("/A", {}).get("/S") == "/GoTo" for link in links) > 300


def test_links_are_moved_into_the_one_document():
    pages = {"chapters/02_depth", "book/notation"}
    assert pdf.moved("#fig", "chapters/02_depth", pages) == "#chapters-02_depth--fig"
    assert pdf.moved("../book/notation.html", "chapters/02_depth", pages) == "#book-notation"
    assert pdf.moved("../_sources/x.txt", "chapters/02_depth", pages) is None
    assert pdf.moved("mailto:a@b.org", "chapters/02_depth", pages) == "mailto:a@b.org"
