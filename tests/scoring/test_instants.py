"""However signals are read, by key or by range, scores alone, symbol by symbol: the same bars have the same scores."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from psycopg import sql

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.frames import Composites, Signals
from alphapivot.hub.tables import digest, ops
from alphapivot.scoring import composite, inputs, instants
from alphapivot.scoring.blend import blend
from tasks.local import replay

SMALL = Path(__file__).parents[1] / "configs" / "small.ini"
AS_OF = datetime.fromisoformat("2024-06-03T23:30:00Z")


@pytest.fixture
def scored(hub_url, monkeypatch):
    """Settings and a run whose signals are stored: four instruments of three calendars, days and weeks."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(SMALL))
    settings = process.configure()
    return settings, replay.session(settings, AS_OF)[0]


def same(got, expected):
    order = [name for name in ("symbol", "ts", "pillar", "interval") if name in got]
    frames = (frame.sort_values(order, ignore_index=True) for frame in (got, expected))
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_few_composites_and_their_terms_are_those_of_the_whole_history(scored, monkeypatch):
    (settings, run), hub = scored, hubs.connect()
    instruments = list(settings.instruments.values())
    composites, terms = blend(hub, settings, run, instruments, after=None, until=run.as_of)
    few = composites[["symbol", "ts"]].sample(60, random_state=3, ignore_index=True)
    assert set(few["symbol"]) == set(settings.instruments)
    for most in (instants.FEW, 0):  # by key, by range
        monkeypatch.setattr(instants, "FEW", most)
        got = blend(hub, settings, run, instruments, after=None, until=run.as_of, only=few)
        same(got[0], composites.merge(few))
        same(got[1], terms.merge(few))
        assert got[1]["score"].notna().any()


def test_few_composites_read_their_own_signals_and_no_other(scored):
    (settings, run), hub = scored, hubs.connect()
    instruments = [settings.instruments["ALPHA"], settings.instruments["GOLD"]]
    grid = instants.instants(hub, instruments, "1d", None, run.as_of, run.known_at)
    few = grid.groupby("symbol").nth([300, -1]).reset_index(drop=True)
    signals, due = instants.due_signals(hub, settings, run, instruments, after=None, until=run.as_of, only=few)
    wanted = due[["symbol", "interval", "due"]].drop_duplicates()
    assert len(due) == 8
    assert len(signals) == len(wanted) * len(settings.pillars)
    assert len(signals.merge(wanted, left_on=["symbol", "interval", "ts"], right_on=["symbol", "interval", "due"])) == (
        len(signals)
    )


def test_scores_alone_are_enough_for_the_blended_scores(scored):
    (settings, run), hub = scored, hubs.connect()
    blended = []
    for directions in (True, False):
        signals, due = instants.due_signals(
            hub, settings, run, list(settings.instruments.values()), after=None, until=run.as_of, directions=directions
        )
        assert ("gate" in signals) is not directions
        assert set(signals["pillar"]) == set(settings.composite.weights if directions else settings.pillars)
        blended.append(composite.blended(signals, due, settings.composite, settings.timeframes))
    same(*blended)
    assert blended[0]["trend"].notna().any()


def test_a_long_history_is_scored_group_by_group_and_scores_are_the_same(scored, server_url, template, monkeypatch):
    (settings, _), whole = scored, digest.tables(hubs.connect())
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server_url("hub", template=template))
    monkeypatch.setattr(inputs, "ROWS", 1)  # each instrument by itself
    settings, write, written = process.configure(), ops.Batch.write, []

    def spied(batch, frame, df):
        if frame in (Signals, Composites) and len(df):
            written.append((frame, df["symbol"].unique().tolist()))
        return write(batch, frame, df)

    monkeypatch.setattr(ops.Batch, "write", spied)
    replay.session(settings, AS_OF)
    apart = digest.tables(hubs.connect())
    for table in ("signals.signal", "signals.composite"):
        assert apart[table].rows == whole[table].rows > 0
        assert apart[table].digest == whole[table].digest
    symbols = sorted([symbol] for symbol in settings.instruments)
    assert sorted(s for frame, s in written if frame is Composites) == symbols
    pairs = len(settings.pillars) * len(settings.timeframes.weights)
    assert sorted(s for frame, s in written if frame is Signals) == sorted(symbols * pairs)


@pytest.mark.always
def test_groups_hold_about_as_many_bars_and_keep_their_order(scored, monkeypatch):
    (settings, run), hub = scored, hubs.connect()
    instruments = list(settings.instruments.values())
    sizes = [len(hub.query(sql.SQL("SELECT ts FROM market.bar WHERE symbol = {} AND interval = '1d'").format(i.symbol)))
             for i in instruments]  # fmt: skip
    monkeypatch.setattr(inputs, "ROWS", sizes[0] + sizes[1])
    groups = inputs.groups(hub, instruments, "1d", None, run.as_of)
    assert groups[0] == instruments[:2]
    assert [i for group in groups for i in group] == instruments
    assert inputs.groups(hub, instruments, "1d", run.as_of, run.as_of) == [instruments]
    assert inputs.groups(hub, [], "1d", None, run.as_of) == [[]]
