"""Each alert is found in the hub, sent once, and retried while no receiver has got it."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text

from alphapivot.config import read
from alphapivot.execution.book import control
from alphapivot.hub.tables import ops, series
from alphapivot.reports import alerts, notify

NOW = datetime(2025, 6, 27, 23, tzinfo=UTC)  # a Friday, after every close


@pytest.fixture
def small():
    return read.load(Path(__file__).parents[1] / "configs" / "small.ini", {})


@pytest.fixture
def received(monkeypatch):
    """The messages that arrive at a local server named in the environment."""
    messages = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(notify.URLS, f"json://127.0.0.1:{server.server_port}/")
    yield messages
    server.shutdown()
    server.server_close()


def write(hub, statement, **values):
    with hub.engine.begin() as conn:
        conn.execute(text(statement), values)


def bar(hub, instrument, ts):
    """Writes a bar as from a feed, and its watermark."""
    write(
        hub,
        "INSERT INTO market.bar (symbol, market, contract, interval, ts, close, source, ingested_at)"
        " VALUES (:symbol, :market, '', '1d', :ts, 1, 'simulated', now())",
        symbol=instrument.symbol,
        market=instrument.signal_market,
        ts=ts,
    )
    key = (instrument.symbol, instrument.signal_market, "1d")
    new = pd.DataFrame([(*key, "", pd.Timestamp(ts))], columns=["symbol", "market", "interval", "contract", "ts"])
    with hub.engine.begin() as conn:
        series.answered(conn, "simulated", {key: ""}, new)


def fresh(hub, small, except_for=()):
    for instrument in small.instruments.values():
        if instrument.symbol not in except_for:
            bar(hub, instrument, NOW - timedelta(minutes=1))


def kinds(found):
    return [(a.kind, a.subject) for a in found]


def test_a_quiet_hub_with_fresh_bars_has_nothing_to_tell(hub, small):
    fresh(hub, small)
    assert alerts.find(hub, small, NOW) == []


def test_a_stale_feed_is_one_alert_however_many_instruments_it_leaves_behind(hub, small):
    first, second, *_ = sorted(small.instruments)
    fresh(hub, small, except_for={first, second})
    bar(hub, small.instruments[first], NOW - timedelta(days=7))
    (found,) = alerts.find(hub, small, NOW)
    assert (found.kind, found.subject) == ("feed stale", "simulated")
    assert f"2 of {len(small.instruments)} instruments" in found.message
    assert f"{first} (2025-06-20 23:00), {second} (none)" in found.message
    assert alerts.find(hub, small, NOW + timedelta(minutes=5))[0].key == found.key


def test_a_hub_that_was_never_filled_is_not_stale(hub, small):
    assert alerts.find(hub, small, NOW) == []


def test_what_happens_in_a_backtest_wakes_nobody(hub, small):
    fresh(hub, small)
    ops.begin_run(hub, "b1", kind="backtest", scope="bt-1", as_of=NOW, config={}, config_hash="", code_version="")
    ops.finish_run(hub, "b1", "failed", "lookahead: pillar 'gap' ...")
    control.halt(hub, "bt-1", "daily_loss", "risk limits", reduce_only=True)
    write(
        hub,
        "INSERT INTO trading.instrument_lock (book, symbol, reason, at) VALUES ('bt-1', 'GOLD', 'repeated', now())",
    )
    assert alerts.find(hub, small, NOW) == []


def test_a_failed_run_a_lock_the_kill_switch_and_a_daily_loss_are_told(hub, small, received):
    fresh(hub, small)
    book = small.execution.book
    ops.begin_run(hub, "r1", kind="pipeline", scope="live", as_of=NOW, config={}, config_hash="", code_version="")
    ops.finish_run(hub, "r1", "failed", "failed: pillar trend 0 (ValueError: no). Mend and press Retry")
    write(
        hub,
        "INSERT INTO trading.instrument_lock (book, symbol, reason, at)"
        " VALUES (:book, 'GOLD', 'position 5, fills 3', now())",
        book=book,
    )
    control.halt(hub, book, "rates look odd", "ann")
    lost = 1 - small.risk.daily_loss_limit
    write(
        hub,
        "INSERT INTO trading.risk_day (book, day, currency, start_equity, equity, cash)"
        " VALUES (:book, '2025-06-27', 'USD', 1000, :equity, 0)",
        book=book,
        equity=1000 * lost,
    )
    found = alerts.find(hub, small, NOW)
    assert kinds(found) == [
        ("run failed", "pipeline 2025-06-27 23:00Z"),
        ("position break", f"GOLD in book {book}"),
        ("kill switch", f"book {book}"),
        ("daily loss", f"book {book}"),
    ]
    assert alerts.tell(hub, found) == found
    assert [m["title"] for m in received] == [f"AlphaPivot: {kind}: {subject}" for kind, subject in kinds(found)]
    assert received[1]["message"] == (
        "position 5, fills 3. Trading in GOLD is blocked until someone runs `alphapivot unlock GOLD --reason TEXT`"
    )
    assert "HALTED by ann: rates look odd" in received[2]["message"]

    assert alerts.tell(hub, alerts.find(hub, small, NOW)) == [], "each event is told once"
    control.resume(hub, book, "they are right", "bob")
    (resumed,) = alerts.tell(hub, alerts.find(hub, small, NOW))
    assert resumed.message == "ACTIVE by bob: they are right"
    assert len(received) == 5


def test_an_order_of_somebody_else_that_was_cancelled_is_told_and_one_that_was_adopted_by_its_lock(hub, small):
    fresh(hub, small)
    for what, order in (("cancelled", "F7"), ("adopted", "F8")):
        write(
            hub,
            "INSERT INTO trading.foreign_order VALUES (:book, :order, 'GOLD', 'spot', '', 'BUY', 3, now(), :what)",
            book=small.execution.book,
            order=order,
            what=what,
        )
    (told,) = alerts.find(hub, small, NOW)
    assert (told.kind, told.subject) == ("foreign order", f"GOLD in book {small.execution.book}")
    assert told.message.startswith("order F7 (BUY 3) rested at the broker, is not ours, and was cancelled")


def test_a_loss_below_the_limit_and_a_withdrawal_are_no_alarm(hub, small):
    fresh(hub, small)
    day = {"book": small.execution.book, "equity": 1000 * (1 - small.risk.daily_loss_limit) - 500 + 1}
    write(
        hub,
        "INSERT INTO trading.risk_day (book, day, currency, start_equity, equity, cash)"
        " VALUES (:book, '2025-06-27', 'USD', 1000, :equity, 0)",
        **day,
    )
    assert kinds(alerts.find(hub, small, NOW)) == [("daily loss", f"book {small.execution.book}")]
    write(
        hub,
        "INSERT INTO trading.book_cash (book, at, amount, note, kind)"
        " VALUES (:book, '2025-06-27 12:00Z', -500, 'rent', 'withdrawal')",
        book=day["book"],
    )
    assert alerts.find(hub, small, NOW) == []


def test_what_nobody_received_is_told_by_the_next_pass(hub, monkeypatch, received):
    url = notify.os.environ[notify.URLS]
    monkeypatch.setenv(notify.URLS, "json://127.0.0.1:9/")
    event = alerts.Alert("k", "kill switch", "book b", "why")
    assert alerts.tell(hub, [event]) == []
    with hub.engine.connect() as conn:
        sent_at, attempts, failure = conn.execute(text("SELECT sent_at, attempts, failure FROM api.alerts")).one()
    assert (sent_at, attempts) == (None, 1)
    assert failure == "no alert was sent: no answer from json://127.0.0.1"
    monkeypatch.setenv(notify.URLS, url)
    assert alerts.tell(hub, []) == [event]
    assert len(received) == 1
    with hub.engine.connect() as conn:
        assert conn.execute(text("SELECT sent_at IS NULL, attempts, failure FROM api.alerts")).one() == (False, 2, "")


def test_a_receiver_that_was_down_gets_what_it_missed_and_the_others_get_it_once(hub, monkeypatch, received):
    url = notify.os.environ[notify.URLS]
    monkeypatch.setenv(notify.URLS, f"{url} json://localhost:9/")
    event = alerts.Alert("k", "kill switch", "book b", "why")
    assert alerts.tell(hub, [event]) == [event]
    assert alerts.missed(hub)["failure"].tolist() == ["no answer from json://localhost"]
    monkeypatch.setenv(notify.URLS, f"{url} {url.replace('127.0.0.1', 'localhost')}")
    assert alerts.tell(hub, []) == [], "it was received before, by one of them"
    assert len(received) == 2
    assert alerts.missed(hub).empty
    assert alerts.tell(hub, [event]) == []
    assert len(received) == 2


def test_retries_come_ever_more_rarely_and_end_after_a_week(hub, monkeypatch):
    monkeypatch.setenv(notify.URLS, "json://127.0.0.1:9/")
    waits = []
    for _ in range(14):
        alerts.tell(hub, [alerts.Alert("k", "kill switch", "book b", "why")])
        with hub.engine.connect() as conn:
            attempts, wait = conn.execute(text("SELECT attempts, next_at - clock_timestamp() FROM ops.alert")).one()
        waits.append(round(wait / timedelta(minutes=1)))
        assert attempts == len(waits)
        alerts.tell(hub, [])
        with hub.engine.connect() as conn:
            again = conn.execute(text("SELECT attempts FROM ops.alert")).scalar_one()
        assert again == attempts + (waits[-1] == 0), "not before its time"
        waits += [2] if again > attempts else []
        write(hub, "UPDATE ops.alert SET next_at = now()")
    assert waits == [0, 2, 4, 8, 16, 32, 64, 128, 256, *[360] * 6]
    write(hub, "UPDATE ops.alert SET at = now() - interval '8 days'")
    assert alerts.missed(hub).empty


def test_an_alert_that_is_sent_late_says_when_it_was_noticed(hub, received):
    write(
        hub,
        "INSERT INTO ops.alert (key, at, kind, subject, message)"
        " VALUES ('k', now() - interval '3 days', 'kill switch', 'book b', 'why')",
    )
    assert len(alerts.tell(hub, [])) == 1
    noticed = datetime.now(UTC) - timedelta(days=3)
    assert received[0]["message"].startswith(f"why (noticed {noticed:%Y-%m-%d %H:}")


def test_while_one_receiver_is_down_a_pass_with_many_alerts_ends_soon(hub, monkeypatch):
    monkeypatch.setenv(notify.URLS, "json://127.0.0.1:9/")
    alerts.tell(hub, [alerts.Alert(f"k{n}", "kill switch", "book b", "why") for n in range(5)])
    with hub.engine.connect() as conn:
        assert conn.execute(text("SELECT sum(attempts) FROM ops.alert")).scalar_one() == 1


def test_without_the_hub_alerts_are_sent_once_and_the_hub_learns_of_it(hub, monkeypatch, received, tmp_path):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    event = alerts.Alert("run:1:1", "run crashed", "pipeline", "killed")
    for _ in range(2):
        alerts.tell_without_hub([event], "the database does not answer")
    assert [m["title"] for m in received] == ["AlphaPivot: hub away: the database", "AlphaPivot: run crashed: pipeline"]
    assert alerts.tell(hub, [event]) == []
    assert len(received) == 2
    with hub.engine.connect() as conn:
        assert conn.execute(text("SELECT sent_at IS NOT NULL FROM ops.alert")).scalars().all() == [True]


def test_one_kind_that_cannot_be_found_keeps_no_other_from_being_told(hub, small, monkeypatch):
    control.halt(hub, small.execution.book, "rates look odd", "ann")
    monkeypatch.setattr(alerts.horizon, "endings", lambda *_: 1 / 0)
    assert kinds(alerts.find(hub, small, NOW)) == [("kill switch", f"book {small.execution.book}")]


def test_passes_at_the_same_time_tell_each_event_once(hub, received):
    events = [alerts.Alert(f"k{n}", "kill switch", "book b", "why") for n in range(5)]
    passes = [threading.Thread(target=alerts.tell, args=(hub, events)) for _ in range(6)]
    for thread in passes:
        thread.start()
    for thread in passes:
        thread.join()
    assert len(received) == 5


def test_a_secret_in_a_runs_message_is_neither_stored_nor_sent(hub, monkeypatch, received):
    monkeypatch.setenv("BROKER_SECRET", "very-secret-value")
    alerts.tell(hub, [alerts.Alert("k", "run failed", "pipeline", "401 for very-secret-value")])
    assert received[0]["message"] == "401 for ***"
    with hub.engine.connect() as conn:
        assert conn.execute(text("SELECT message FROM ops.alert")).scalar_one() == "401 for ***"


DECIDED = """
    INSERT INTO trading.decision (book, strategy, symbol, as_of, run_id, action, reasons, gates, bars, decided_at)
    VALUES (:book, 's', 'A', :now, 'r', 'ENTER_LONG', '{}', '{}', '{}', :now);
    INSERT INTO trading.intent (decision_id, book, strategy, symbol, as_of, action, score, created_at, expires,
        to_approve)
    SELECT decision_id, book, 's', 'A', as_of, action, 50, as_of, as_of + interval '1 day', true FROM trading.decision;
    INSERT INTO trading.trade (intent_id, book, strategy, symbol, market, contract, side, state, qty, reference, stop,
        target, currency, multiplier, quote_unit, created_at)
    SELECT intent_id, book, 's', 'A', 'spot', '', 'LONG', 'PENDING', 250, 100, 96, 108, 'EUR', 1, 1, as_of
    FROM trading.intent;
    INSERT INTO trading.lease VALUES (:book, 1);
    INSERT INTO trading.orders (client_order_id, trade_id, intent_id, leg, version, book, symbol, market, contract,
        side, kind, qty, state, as_of, active_from, fence, created_at, updated_at)
    SELECT 'o', trade_id, intent_id, 'ENTRY', 1, book, 'A', 'spot', '', 'BUY', 'MARKET', 250, 'CREATED', created_at,
        created_at, 1, created_at, created_at FROM trading.trade
"""


def test_an_entry_that_waits_for_a_yes_is_told_and_no_longer_when_it_is_late(hub, small):
    book, now = small.execution.book, datetime(2026, 1, 5, 22, tzinfo=UTC)
    with hub.engine.begin() as conn:
        for statement in DECIDED.split(";"):
            conn.execute(text(statement), {"book": book, "now": now})
    (alert,) = [a for a in alerts.find(hub, small, now) if a.kind == "approval"]
    assert alert.subject == f"A in book {book}"
    assert alert.message == (
        "LONG 250 A from 100, stop 96, score +50.00, waits for a yes until 2026-01-06 22:00 UTC:"
        " `alphapivot approve A --reason TEXT`"
    )
    later = alerts.find(hub, small, now + timedelta(days=1))
    assert [a for a in later if a.kind == "approval"] == []
