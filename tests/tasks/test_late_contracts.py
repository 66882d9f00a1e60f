"""A contract whose file comes after its neighbours were ingested, and after the roll that it should have had."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from alphapivot import hub
from alphapivot.frames import Bars, Rolls
from tasks.local import backfill
from tests.tasks.market import ends, flat

TERMS = {"spot": "H24.csv", "futures": "ES_*.csv", "signal_market": "futures", "trade_market": "futures"}
TERMS |= {"roll": "volume", "roll_before": "2", "first_notice": "first session"}


@pytest.fixture
def rolled(market):
    """H24 had to be left two sessions before 1 March 2024, for U24: of M24 there was no file."""
    market.configure({"X": TERMS})
    market.write("H24", flat(ends("XNYS", "1d", "2023-10-02", "2024-03-09")))
    bring(market, "ES_H24", "2023-10-02", "2024-03-06", 100, 1000)
    bring(market, "ES_U24", "2023-11-01", "2024-03-06", 106, 10)
    market.ingest("2024-03-05 22:00")
    assert rolls() == [("1970-01-01", "ES_H24", 0.0), ("2024-02-28", "ES_U24", 5.99)]
    bring(market, "ES_M24", "2023-11-01", "2024-03-09", 103, 900)
    bring(market, "ES_U24", "2023-11-01", "2024-03-09", 106, 10)
    return market


def bring(market, name, first, last, price, volume):
    market.write(name, flat(ends("XNYS", "1d", first, last), price=price).assign(volume=volume))


def rolls():
    found = hub.connect().read(Rolls).sort_values("ts")
    return [(f"{r.ts:%Y-%m-%d}", r.contract, round(r.spread, 9)) for r in found.itertuples()]


def first_of(contract):
    bars = hub.connect().read(Bars)
    return f"{bars.loc[(bars['contract'] == contract) & (bars['interval'] == '1d'), 'ts'].min():%Y-%m-%d}"


def test_it_changes_no_roll_by_itself_and_is_told(rolled):
    before = rolls()
    receipt = rolled.ingest("2024-03-08 22:00")
    assert rolls() == before
    assert first_of("ES_M24") == "2024-02-28"  # the overlap
    (note,) = [note for note in receipt.notes if "is new" in note]
    assert note == (
        "X futures 1d: contract ES_M24 is new, and its bars before 2024-02-28 were not requested; ES_U24 is the front"
        " one: `alphapivot ingest --from DAY` reads them, and decides the rolls from there on again"
    )
    assert not any("is new" in note for note in rolled.ingest("2024-03-08 23:00").notes)  # once


def test_read_from_its_beginning_it_is_rolled_into_as_if_it_had_been_there(rolled):
    rolled.ingest("2024-03-08 22:00")
    since, until = datetime(2023, 10, 1, tzinfo=UTC), datetime(2024, 3, 9, tzinfo=UTC)
    backfill.run(rolled.settings, since, until, lambda *_: None)
    assert rolls() == [("1970-01-01", "ES_H24", 0.0), ("2024-02-28", "ES_M24", 2.99)]
    assert first_of("ES_M24") == "2023-11-01"


def test_a_contract_that_is_listed_now_is_only_new(rolled):
    bring(rolled, "ES_Z24", "2024-03-07", "2024-03-09", 109, 1)
    (rolled.folder / "ES_M24.csv").unlink()
    assert not any("is new" in note for note in rolled.ingest("2024-03-08 22:00").notes)
    assert first_of("ES_Z24") == "2024-03-07"
