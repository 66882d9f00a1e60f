"""The risk of a book and past windows, worked by hand; the command."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from alphapivot.reports import risk
from alphapivot.reports.book import result
from alphapivot.reports.page import html, tables
from alphapivot.reports.terminal import views
from alphapivot.runs import RunRef
from tasks import reports
from tests.execution.conftest import at, new_world  # noqa: F401 - a fixture

ONE = float(np.std([2.0, -2.0] * 65, ddof=1) * np.sqrt(365.2425))  # of one share of A or B, a year


@pytest.fixture
def book(new_world):  # noqa: F811
    """LONG of A, SHORT of B in dollars at 1.25 for a euro; both swing by 2 each day, together."""
    world = new_world(
        {
            "A": {"group": "metal"},
            "B": {"group": "metal", "currency": "USD"},
            "EURUSD": {"tick": "0.0001", "tradable": False},
        }
    )
    for day in range(-110, 21):
        for symbol in "AB":
            world.bar(day, 100, 103, 97, 99 + 2 * (day % 2), symbol=symbol)
        world.bar(day, 1.25, 1.25, 1.25, 1.25, symbol="EURUSD")
    world.score(20, 60, symbol="A")
    world.score(20, -50, symbol="B")
    world.trade(20)
    return world


def quantities(world):
    rows = world.sql("SELECT symbol, qty FROM trading.trade")
    return {row["symbol"]: float(row["qty"]) for row in rows}


def test_volatility_and_what_adds_to_it_by_hand(book):
    qty = quantities(book)
    found = risk.risk(book.hub, book.settings, at(20))
    long, short = qty["A"] * ONE, qty["B"] * ONE / 1.25
    assert found.volatility == pytest.approx(abs(long - short), rel=1e-6)  # together: correlation 1
    parts = found.parts.set_index("of")
    assert parts["alone"].to_dict() == pytest.approx(
        {"group metal": abs(long - short), "A": long, "B": short}, rel=1e-6
    )
    assert parts.loc[["A", "B"], "part"].sum() == pytest.approx(found.volatility)
    assert parts.loc["group metal", "share"] == pytest.approx(1)
    assert min(parts["part"]) < 0  # the smaller leg hedges
    assert (found.currency, found.unknown) == ("EUR", {})


def test_what_adds_to_it_is_kept_once_for_each_run(book):
    found = risk.risk(book.hub, book.settings, at(20))
    for _ in range(2):
        title, body = reports.ARTIFACTS["risk"](book.hub, book.settings, RunRef("run-20", "live", at(20), None, "hash"))
    kept = book.sql("SELECT * FROM api.risk ORDER BY grouped DESC, name")
    parts = found.parts.set_index("of")
    assert [(row["name"], row["grouped"]) for row in kept] == [("metal", True), ("A", False), ("B", False)]
    for row in kept:
        part = parts.loc[f"group {row['name']}" if row["grouped"] else row["name"]]
        assert (row["alone"], row["part"], row["share"]) == pytest.approx(tuple(part))
        assert row["of_equity"] == pytest.approx(row["part"] / float(found.equity))
        assert (row["book"], row["as_of"], row["currency"]) == ("paper", at(20), "EUR")
    assert title == "Risk"
    assert f"{found.of_equity:.1%} of equity" in body
    assert "| group metal |" in body


def test_the_report_shows_the_risk_of_what_is_open(book):
    for day in (21, 22):
        for symbol in "AB":
            book.bar(day, 100, 103, 97, 99 + 2 * (day % 2), symbol=symbol)
        book.bar(day, 1.25, 1.25, 1.25, 1.25, symbol="EURUSD")
        book.trade(day)
    report = result.make(book.hub, book.settings, book.settings.execution.book)
    found = risk.risk(book.hub, book.settings, report.book.until)
    shown = tables.risk(report)
    assert shown["of"].tolist() == found.parts["of"].tolist()
    assert shown["share"].iloc[0] == views.share(1.0)
    pd.testing.assert_frame_equal(shown, views.risks(found.parts))  # as `alphapivot risk` shows it
    earlier = result.make(book.hub, book.settings, book.settings.execution.book, until=at(21))
    assert tables.risk_summary(earlier) == ""  # what was held then is not known
    told = f"Expected volatility {found.volatility:,.0f} EUR a year, {found.of_equity:.1%} of equity"
    assert told in html.of(book.hub, report, None)


def test_a_flat_book_has_no_such_part(new_world):  # noqa: F811
    world = new_world({"A": {}})
    for day in range(3):
        world.bar(day, 100, 101, 99, 100, symbol="A")
        world.trade(day)
    report = result.make(world.hub, world.settings, world.settings.execution.book)
    assert tables.risk_summary(report) == ""
    assert "Risk of what is open" not in html.of(world.hub, report, None)


def test_what_cannot_be_counted_is_named(book):
    book.sql("DELETE FROM market.bar WHERE symbol = 'EURUSD'")
    found = risk.risk(book.hub, book.settings, at(20))
    assert found.unknown == {"B": "no exchange rate for USD"}
    assert found.volatility == pytest.approx(quantities(book)["A"] * ONE, rel=1e-6)


def test_a_past_window_by_hand(book):
    """A rises 101 to 110 and falls to 99; B stands still."""
    first = date.fromisoformat("2025-01-01")
    for n, close in enumerate([101, 110, 99]):
        book.sql(
            "INSERT INTO market.bar VALUES ('A', 'spot', '', '1d', CAST(:ts AS timestamptz), :c, :c, :c, :c, 1, NULL,"
            " 'test', now())",
            ts=f"2024-12-{31 + n}" if n == 0 else f"2025-01-0{n}",
            c=close,
        )
    window = ("then", first, date.fromisoformat("2025-01-02"))
    (row,) = risk.stress(book.hub, book.settings, at(20), [window]).itertuples()
    worth = quantities(book)["A"] * 99  # the newest close
    assert row.result == pytest.approx(worth * (99 / 101 - 1))
    assert row.worst_day == pytest.approx(worth * (99 - 110) / 101)
    assert row.lowest == row.result
    assert row.without == "B"
    assert risk.stress(book.hub, book.settings, at(20)).empty  # no prices of any of the usual ones


def test_an_empty_book_and_one_without_an_account(new_world):  # noqa: F811
    world = new_world({"A": {}})
    assert risk.risk(world.hub, world.settings, at(20)).volatility is None
    world.calm(range(1, 21))
    world.score(20, 0)
    world.trade(20)
    assert risk.risk(world.hub, world.settings, at(20)).volatility == 0
    assert risk.stress(world.hub, world.settings, at(20)).empty
