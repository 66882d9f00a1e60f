"""Ingestion through the checks into a real hub: watermarks, outages, restatements, noise, halts, decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.errors import DataError, Unavailable
from alphapivot.feeds.base import ACTIONS
from alphapivot.feeds.simulated import Simulated
from alphapivot.frames import Bars
from alphapivot.hub.server import embedded
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import issues, ops, series, watermarks
from tasks import backfill, ingest, runs, verdict

CONFIG = Path(__file__).parents[1] / "configs" / "small.ini"
FIRST = datetime(2024, 3, 5, 23, 30, tzinfo=UTC)
LATER = [FIRST + timedelta(days=n) for n in (1, 2, 3)]


class Provider(Simulated):
    """The simulated market as a provider that a test can disturb: ``spoil`` changes its bars."""

    requests = ()
    spoil = staticmethod(lambda bars: bars)
    fails: Exception | None = None
    events = ()  # (kind, ts, value) of ALPHA
    complete_actions = True  # whether it claims to report all splits and dividends

    def fetch(self, requests):
        Provider.requests = requests
        if Provider.fails:
            raise Provider.fails
        fetched = super().fetch(requests)
        events = pd.DataFrame(Provider.events, columns=["kind", "ts", "value"])
        events = events.assign(symbol="ALPHA", source=self.name).astype({"ts": "datetime64[us, UTC]", "value": float})
        complete = requests if Provider.complete_actions else []
        since = {r.instrument.symbol: r.since or datetime(1970, 1, 1, tzinfo=UTC) for r in complete}
        return type(fetched)(Provider.spoil(fetched.bars), fetched.problems, events[ACTIONS], since)


@pytest.fixture
def step(hub_url, monkeypatch):
    """Ingests at an instant, after disturbing the provider; returns the receipt."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setattr("alphapivot.feeds.simulated.Simulated", Provider)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CONFIG))
    settings = process.configure()

    def at(instant, spoil=lambda bars: bars, fails=None):
        monkeypatch.setattr(Provider, "spoil", staticmethod(spoil))
        monkeypatch.setattr(Provider, "fails", fails)
        run = runs.begin("ingest", settings, key=f"{instant} {spoil} {fails}", as_of=instant)
        return ingest.ingest.fn(run, "simulated", 0)

    at.settings = settings
    return at


def bars_of(symbol, market="spot"):
    bars = hubs.connect().read(Bars)
    chosen = bars[(bars["symbol"] == symbol) & (bars["market"] == market) & (bars["interval"] == "1d")]
    return chosen.sort_values("ts", ignore_index=True)


def everything():
    return hubs.connect().read(Bars).sort_values(Bars.keys(), ignore_index=True)


def rows(query):
    with hubs.connect().engine.connect() as connection:
        return connection.execute(text(query)).all()


def of_alpha(change, newest=1):
    """Spoils the newest bars of ALPHA."""

    def spoil(bars):
        at = bars.index[bars["symbol"] == "ALPHA"][-newest:]
        spoiled = bars.copy()
        for row in at:
            for name, value in change(bars.loc[row]).items():
                spoiled.loc[row, name] = value
        return spoiled

    return spoil


def scaled(factor):
    return of_alpha(lambda bar: {p: bar[p] * factor for p in ("open", "high", "low", "close")})


def test_a_run_asks_for_what_is_new_and_an_overlap(step):
    step(FIRST)
    newest = bars_of("ALPHA")["ts"].max()
    assert series.marks(hubs.connect(), ["ALPHA"])["ALPHA", "spot", "1d"].newest == newest
    overlap = bars_of("ALPHA")["ts"].iloc[-6]  # five bars, not five days
    step(LATER[0])
    (request,) = [r for r in Provider.requests if r.instrument.symbol == "ALPHA"]
    assert request.since == overlap
    assert request.until == LATER[0]


def test_an_outage_leaves_what_is_there_and_marks_the_feed_as_stale(step):
    step(FIRST)
    before = hubs.connect().read(Bars)
    with pytest.raises(Unavailable):
        step(LATER[0], fails=Unavailable("it is out"))
    pd.testing.assert_frame_equal(hubs.connect().read(Bars), before)
    stale = rows("SELECT symbol, reason FROM market.series WHERE failed_at > answered_at")
    assert {r.symbol for r in stale} == set(step.settings.instruments)
    assert {r.reason for r in stale} == {"it is out"}
    unanswered = series.unanswered(hubs.connect())
    assert set(unanswered["symbol"]) == set(step.settings.instruments)
    step(LATER[0])
    assert series.unanswered(hubs.connect()).empty


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda bars: bars.sample(frac=1, random_state=7), id="out of order"),
        pytest.param(lambda bars: bars[bars["ts"] < bars["ts"].max() - pd.Timedelta(days=1)], id="half of it"),
        pytest.param(lambda bars: pd.concat([bars, bars.tail(3)]), id="some of it twice"),
        pytest.param(lambda bars: bars.iloc[:0], id="nothing"),
    ],
)
def test_whatever_the_provider_did_the_next_answer_mends_it(step, server_url, template, monkeypatch, spoil):
    step(FIRST)
    step(LATER[0], spoil=spoil)
    step(LATER[1])
    disturbed = hubs.connect().read(Bars).sort_values(Bars.keys(), ignore_index=True)
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
    step(LATER[1])
    undisturbed = hubs.connect().read(Bars).sort_values(Bars.keys(), ignore_index=True)
    pd.testing.assert_frame_equal(disturbed, undisturbed)


def test_a_database_that_goes_away_in_the_middle_and_comes_back_has_lost_nothing(step, home_root, monkeypatch):
    folder = home_root / "away" / "postgres"
    options = {"fsync": "off", "autovacuum": "off"}

    def up():
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", embedded.start(folder, settings=options).database("hub"))

    expected = []
    for instant in (FIRST, LATER[0]):
        step(instant)
        expected.append(everything())
    try:
        up()
        step(FIRST)
        once = iter([True])

        def cut(bars):
            if next(once, False):
                embedded.stop(folder)  # after the fetch, before the write
            return bars

        with pytest.raises(Unavailable, match=r"does not answer|was lost"):
            step(LATER[0], spoil=cut)
        up()
        pd.testing.assert_frame_equal(everything(), expected[0])
        assert rows("SELECT count(*) AS n FROM ops.receipt")[0].n == 1
        assert not step(LATER[0], spoil=cut).unchanged  # Retry
        pd.testing.assert_frame_equal(everything(), expected[1])
        assert step(LATER[0], spoil=cut).unchanged
    finally:
        embedded.stop(folder)


def test_bars_of_a_symbol_that_was_not_asked_for_are_refused(step):
    step(FIRST)
    before = hubs.connect().read(Bars)
    with pytest.raises(DataError, match=r"returned bars of OTHER spot 1d; expected only of what was requested"):
        step(LATER[0], spoil=lambda bars: bars.assign(symbol=bars["symbol"].replace("ALPHA", "OTHER")))
    pd.testing.assert_frame_equal(hubs.connect().read(Bars), before)


def test_less_than_half_a_tick_is_no_restatement_and_more_is(step):
    step(FIRST)
    old = bars_of("ALPHA").iloc[-1]
    step(
        FIRST + timedelta(minutes=1),
        spoil=of_alpha(lambda bar: {"close": bar["close"] + 0.004, "high": bar["high"] + 0.004}),
    )
    assert bars_of("ALPHA")["close"].iloc[-1] == old["close"]
    assert rows("SELECT 1 FROM market.bar_revision") == []
    step(
        FIRST + timedelta(minutes=2),
        spoil=of_alpha(lambda bar: {"close": bar["close"] - 0.02, "low": bar["low"] - 0.02}),
    )
    assert bars_of("ALPHA")["close"].iloc[-1] == pytest.approx(old["close"] - 0.02)
    kept = rows("SELECT close FROM market.bar_revision WHERE symbol = 'ALPHA' AND interval = '1d'")
    assert [r.close for r in kept] == [old["close"]]


def test_a_quarantined_bar_waits_for_a_person_whose_word_is_kept(step):
    step(FIRST)
    count = len(bars_of("ALPHA"))
    receipt = step(LATER[0], spoil=scaled(100))
    assert "ALPHA: 1 bars held (wrong scale)" in receipt.notes
    assert len(bars_of("ALPHA")) == count
    hub = hubs.connect()
    waiting = issues.show(hub, "ALPHA")
    assert waiting["check_name"].tolist() == ["wrong scale"]
    with pytest.raises(DataError, match="needs a reason"):
        verdict.decide(step.settings, waiting, "accepted", by="ann", why=" ")
    assert len(bars_of("ALPHA")) == count
    assert verdict.decide(step.settings, waiting, "accepted", by="ann", why="they quote in pence now") == 1
    assert len(bars_of("ALPHA")) == count + 1
    assert series.newest(hub, ["ALPHA"])["ALPHA", "spot", "1d"] == waiting["ts"].iloc[0]  # status calls it fresh
    assert issues.show(hub, "ALPHA").empty
    issue = issues.show(hub, "ALPHA", everything=True).iloc[0]
    assert (issue["decision"], issue["decided_by"], issue["decision_why"]) == (
        "accepted",
        "ann",
        "they quote in pence now",
    )
    # fetched again in the overlap, the same bar is accepted
    step(LATER[0] + timedelta(minutes=1), spoil=scaled(100))
    assert len(bars_of("ALPHA")) == count + 1


def test_a_rejected_bar_stays_out(step):
    step(FIRST)
    count = len(bars_of("ALPHA"))
    step(LATER[0], spoil=scaled(100))
    assert verdict.decide(step.settings, issues.show(hubs.connect(), "ALPHA"), "rejected", by="ann", why="a slip") == 0
    assert len(bars_of("ALPHA")) == count
    assert issues.show(hubs.connect(), "ALPHA").empty


DIVIDENDS = [("dividend", LATER[0].replace(hour=14), 2.0), ("dividend", datetime(2024, 1, 16, 14, tzinfo=UTC), 1.0)]


def stored_actions(known_at=None):
    actions = stored.actions(hubs.connect(), ["ALPHA"], until=LATER[2], known_at=known_at)
    return [(f"{row.ts:%m-%d}", row.value) for row in actions.itertuples()]


def test_a_dividend_that_the_feed_withdraws_is_none_any_more_and_was_one_then(step, monkeypatch):
    monkeypatch.setattr(Provider, "events", DIVIDENDS)
    step(LATER[0])
    assert stored_actions() == [("01-16", 1.0), ("03-06", 2.0)]
    known = datetime.now(UTC)
    monkeypatch.setattr(Provider, "events", [])
    receipt = step(LATER[1])  # it fetches five days, which do not cover January
    assert stored_actions() == [("01-16", 1.0)]
    assert stored_actions(known) == [("01-16", 1.0), ("03-06", 2.0)]
    assert "ALPHA: 1 bars flagged (corporate action)" in receipt.notes
    (issue,) = rows("SELECT detail FROM market.quality_issue WHERE check_name = 'corporate action'")
    assert "no longer reports its dividend of 2: withdrawn; the earlier version is kept" in issue.detail
    # all scores from its day on depend on it
    run = runs.begin("signals", step.settings, key="again", as_of=LATER[1])
    key = watermarks.Key("live", "trend", "1d", 0)
    with ops.batch(hubs.connect(), run, "score", "", {}) as batch:
        watermarks.advance(batch, replace(run, known_at=known), key, "hash")
    after = watermarks.rescore_after(hubs.connect(), run, key, "hash", ["ALPHA"])
    assert after < DIVIDENDS[0][1] <= after + timedelta(seconds=1)
    # and it returns the same way
    monkeypatch.setattr(Provider, "events", DIVIDENDS)
    step(LATER[1] + timedelta(minutes=1))
    assert stored_actions() == [("01-16", 1.0), ("03-06", 2.0)]


def test_a_feed_that_says_nothing_of_dividends_withdraws_none(step, monkeypatch):
    monkeypatch.setattr(Provider, "events", DIVIDENDS)
    step(LATER[0])
    monkeypatch.setattr(Provider, "events", [])
    monkeypatch.setattr(Provider, "complete_actions", False)
    step(LATER[1])
    assert stored_actions() == [("01-16", 1.0), ("03-06", 2.0)]


def test_the_close_before_a_dividend_is_asked_for_again_when_it_is_restated(step, monkeypatch):
    monkeypatch.setattr(Provider, "events", DIVIDENDS)
    step(LATER[0])
    bars = bars_of("ALPHA")
    close = bars.loc[bars["ts"] < DIVIDENDS[0][1], "close"].iloc[-1]
    factor = "SELECT factor FROM market.corporate_action WHERE value = 2"
    assert rows(factor)[0].factor == pytest.approx(close / (close - 2))
    monkeypatch.setattr(Provider, "events", [])

    def cheaper(bars):
        chosen = (bars["symbol"] == "ALPHA") & (bars["close"] == close)
        assert chosen.sum() == 1
        return bars.assign(**{p: bars[p].mask(chosen, bars[p] * 0.99) for p in ("open", "high", "low", "close")})

    monkeypatch.setattr(Provider, "complete_actions", False)  # nothing of dividends
    step(LATER[1], spoil=cheaper)
    assert rows(factor)[0].factor == pytest.approx(close * 0.99 / (close * 0.99 - 2))


def halts(known_at=None):
    with hubs.connect().engine.connect() as connection:
        return issues.reasons(issues.halted(connection, known_at), datetime.now(UTC))


@pytest.fixture
def halted(step):
    """ALPHA has had no volume for five sessions."""
    step(FIRST)
    step(LATER[1], spoil=of_alpha(lambda _: {"volume": 0.0}, newest=5))
    assert halts() == {"ALPHA": "data:zero volume"}
    return step


def test_a_halt_stops_the_one_instrument_until_it_mends(halted):
    assert halts(FIRST) == {}  # not known then
    halted(LATER[2])  # the provider has corrected itself
    assert halts() == {}


def test_a_halt_ends_with_a_persons_word(halted):
    waiting = issues.show(hubs.connect(), "ALPHA")
    verdict.decide(halted.settings, waiting, "accepted", by="ann", why="a fund: it has no volume")
    assert halts() == {}
    # fetched again in the overlap, it stays accepted
    halted(LATER[1] + timedelta(minutes=1), spoil=of_alpha(lambda _: {"volume": 0.0}, newest=5))
    assert halts() == {}


def test_the_first_load_of_contracts_is_judged_like_every_other(step):
    def idle(bars):
        last = bars.loc[bars["contract"] != "", "ts"].drop_duplicates().nlargest(5)
        return bars.assign(volume=bars["volume"].mask((bars["contract"] != "") & bars["ts"].isin(last), 0.0))

    step(FIRST, spoil=idle)
    assert halts() == {"GOLD": "data:zero volume", "SP500": "data:zero volume"}


def test_bars_of_long_ago_neither_end_a_halt_of_today_nor_make_one(halted):
    old = [datetime(2023, 9, 1, tzinfo=UTC), datetime(2023, 12, 1, tzinfo=UTC)]
    run = runs.begin("backfill", halted.settings, key="old", as_of=old[1])

    def piece():
        text = {"since": old[0].isoformat(), "until": old[1].isoformat()}
        store = backfill.piece_of(backfill.Ahead(halted.settings, [], run.as_of)).fn
        return store(run, feed="simulated", symbols="ALPHA BITCOIN", last=True, **text)

    piece()
    assert halts() == {"ALPHA": "data:zero volume"}
    run = runs.begin("backfill", halted.settings, key="older", as_of=old[1])
    Provider.spoil = staticmethod(lambda bars: bars.assign(volume=0.0))
    assert any("flagged (zero volume)" in note for note in piece().notes)
    assert halts() == {"ALPHA": "data:zero volume"}


def test_watermarks_are_found_without_looking_through_the_bars(step):
    step(FIRST)
    with hubs.connect().engine.connect() as connection:
        plan = (
            connection.execute(text("EXPLAIN SELECT newest FROM market.series WHERE symbol = 'ALPHA'")).scalars().all()
        )
    assert not any("bar" in line for line in plan)
