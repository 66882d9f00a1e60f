"""A name is never markup: artifacts and pages show symbols, reasons and notes literally."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from alphapivot.reports.page import charts
from alphapivot.reports.terminal import views
from tasks import reports

NASTY = [
    "<img src=x onerror=alert(1)>",
    "A|B",
    "`code`",
    "[click](javascript:alert(1))",
    "**bold** _italic_ ~~gone~~",
    "AT&T &lt;b&gt;",
    "back\\slash",
    "score_below_threshold",
    "two\nlines",
    "<script>alert(1)</script>",
]


class Shown(HTMLParser):
    """The tags of a page, and the texts of its table's cells."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.cells = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells and data.strip():
            self.cells[-1] += data.rstrip("\n")


def test_whatever_a_cell_holds_a_markdown_renderer_shows_it_literally():
    """markdown-it with HTML and tables on, as pages of the UI have them."""
    page = (
        MarkdownIt("commonmark", {"html": True})
        .enable(["table", "strikethrough"])
        .render(views.markdown(pd.DataFrame({"symbol": NASTY, "n": range(len(NASTY))})))
    )
    shown = Shown(page)
    assert shown.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert shown.cells[::2] == [text.replace("\n", " ") for text in NASTY]
    assert shown.cells[1::2] == [str(n) for n in range(len(NASTY))]


@pytest.mark.parametrize("text", NASTY)
def test_so_it_does_in_a_sentence(text):
    shown = Shown(MarkdownIt("commonmark", {"html": True}).render(f"- {views.escaped(text)}"))
    assert shown.tags <= {"ul", "li"}


def test_a_heading_is_escaped_too():
    assert "<img" not in views.markdown(pd.DataFrame({NASTY[0]: ["x"]}))


@pytest.mark.parametrize("book", ["paper", "My Book", "a_b", "bt-x.2", "Ünï"])
def test_every_book_has_a_key_that_prefect_takes(book):
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", reports.key(book, "open-trades"))


def test_every_page_forbids_itself_to_load_or_send_anything():
    page = charts.page(NASTY[0], [NASTY[0], (NASTY[0], pd.DataFrame({NASTY[0]: NASTY}))])
    assert f'<meta http-equiv="Content-Security-Policy" content="{charts.POLICY}">' in page
    assert charts.POLICY.startswith("default-src 'none'")
    assert "<img" not in page
    assert "<script>" not in page
