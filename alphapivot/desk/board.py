"""What the desk shows: a fragment of HTML for each of its sections, from schema api and the reports of the commands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from alphapivot.desk import pieces, prefect_runs
from alphapivot.execution.book import control, exposure, report
from alphapivot.execution.operator import approvals
from alphapivot.hub.tables import issues
from alphapivot.money import price_text
from alphapivot.reports import overview, risk
from alphapivot.reports.book.activity import each
from alphapivot.reports.terminal import views

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

LAST_MARK = """
    SELECT as_of, currency, equity, cash, leverage FROM api.marks WHERE book = :book ORDER BY as_of DESC LIMIT 1
"""
TODAY = """
    SELECT day, start_equity, equity, deposits, earned, drawdown FROM api.equity WHERE book = :book
    ORDER BY day DESC LIMIT 1
"""
SCORES = """
    SELECT symbol, ts, score, raw, gate, veto FROM signals.newest WHERE scope = :scope AND symbol = ANY(:symbols)
    ORDER BY abs(score) DESC NULLS LAST
"""
ALERTS = "SELECT at, kind, subject, message, sent_at, failure FROM api.alerts ORDER BY at DESC LIMIT 15"
RUNS = """
    SELECT run_id, kind, as_of, state, started_at, took, message FROM api.run_history ORDER BY started_at DESC LIMIT 12
"""
ISSUES = 20
ORDERS = [*range(1, 10), 0]  # of `views.orders`, the id last


def _decline(symbol: str) -> str:
    """The button that cancels an entry; an addition has none, since `close` would close its position."""
    return pieces.button("close", "Decline", f"The entry in {symbol} is cancelled by the next run", {"symbol": symbol})


class Board:
    """The sections of one book. ``sections``: name -> HTML, every text in it escaped."""

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._hub, self._settings, self._book = hub, settings, settings.execution.book

    def sections(self) -> dict[str, str]:
        now = overview.now(self._hub, self._settings)
        parts: dict[str, Callable[[datetime], str]] = {
            "switch": self._switch, "tiles": self._tiles, "waiting": self._waiting, "trades": self._trades,
            "orders": self._orders, "locks": self._locks, "limits": self._limits, "scores": self._scores,
            "data": self._data, "alerts": self._alerts, "runs": self._runs, "journal": self._journal,
        }  # fmt: skip
        return {name: part(now) for name, part in parts.items()}

    def _rows(self, query: str, **values: Any) -> pd.DataFrame:
        with self._hub.engine.connect() as conn:
            result = conn.execute(text(query), {"book": self._book, **values} if ":book" in query else values)
            return pd.DataFrame(result.all(), columns=list(result.keys()), dtype=object)

    def _switch(self, _now: datetime) -> str:
        with self._hub.engine.connect() as conn:
            switch = control.state(conn, self._book)
        halted = switch.state != "ACTIVE"
        buttons = [
            *([pieces.button("resume", "Resume", "Entries are allowed again")] if halted else []),
            pieces.button("reduce", "Reduce only", "No new entries; stops, targets and exits go on"),
            pieces.button("halt", "Halt", "No new entries; resting ones are cancelled; stops stay", bad=True),
            pieces.button("flatten", "Flatten", "Halts, and closes every trade at market in the next run", bad=True),
        ]
        execution = self._settings.execution
        book = f"book <b>{escape(self._book)}</b> at {escape(execution.broker)} ({escape(execution.mode)})"
        tone = "down" if switch.state == "HALTED" or switch.flatten else "odd" if halted else "up"
        state = f'<b class="state {tone}">{switch.state.replace("_", " ")}</b>'
        why = escape(views.switch(switch).partition(" ")[2]) if switch.at is not None else ""
        return f'<div class="who">{state} <span>{book}</span> <small>{why}</small></div><div>{"".join(buttons)}</div>'

    def _tiles(self, _now: datetime) -> str:
        marks, today = self._rows(LAST_MARK), self._rows(TODAY)
        trades = report.open_trades(self._hub, self._book, self._settings.timeframes.base)
        tiles = []
        if len(marks):
            mark = marks.iloc[0]
            below = f"{mark['currency']}, {views.instant(mark['as_of'])} UTC"
            tiles.append(("equity", views.amount(mark["equity"]), below, ""))
        if len(today):
            day = today.iloc[0]
            result = day["equity"] - day["start_equity"] - day["deposits"]
            share = result / day["start_equity"] if day["start_equity"] else Decimal(0)
            tiles.append(("today", views.money(result), f"{share:+.2%} since {day['day']} began", pieces.tone(result)))
            tiles.append(
                (
                    "earned",
                    views.money(day["earned"]),
                    "since the first day, without deposits",
                    pieces.tone(day["earned"]),
                )
            )
            tiles.append(
                ("from the peak", views.money(day["drawdown"]), "the drawdown now", pieces.tone(day["drawdown"]))
            )
        held = trades[trades["state"] == "OPEN"]
        waiting = len(trades) - len(held)
        tiles.append(
            ("open trades", str(len(held)), f"{waiting} more wait for their entry" if waiting else "none waits", "")
        )
        if len(marks) and marks["leverage"].iloc[0] is not None:
            tiles.append(("gross exposure", f"{marks['leverage'].iloc[0]:.0%}", "of equity, at the last run", ""))
        return "".join(
            f'<div class="tile"><span>{label}</span><b class="{tone}">{escape(value)}</b>'
            f"<small>{escape(below)}</small></div>"
            for label, value, below, tone in tiles
        )

    def _waiting(self, _now: datetime) -> str:
        rows = approvals.waiting(self._hub, self._book)
        ready = [
            "approved"
            if row.approved
            else pieces.button(
                "approve",
                "Approve",
                f"{row.side} {row.qty:f} {row.symbol} is sent by the next run",
                {"symbol": row.symbol},
            )
            + ("" if row.addition else _decline(row.symbol))
            for row in each(rows)
        ]
        table = views.waiting(rows, self._settings.ticks)
        return (
            pieces.card(
                "Waiting for a yes", "Sent by the next run after it, if every gate still allows it.", table, ready
            )
            if ready
            else ""
        )

    def _trades(self, _now: datetime) -> str:
        rows = report.open_trades(self._hub, self._book, self._settings.timeframes.base)
        if rows.empty:
            return '<div class="card"><h2>Open trades</h2><p>none</p></div>'
        cards = "".join(self._trade(row) for row in each(rows))
        return f'<div class="card"><h2>Open trades</h2><div class="positions">{cards}</div></div>'

    def _trade(self, row: Any) -> str:
        tick = self._settings.ticks.get(row.symbol)
        result = row.unrealised
        value = "waits for its entry" if result is None else f"{views.money(result)} {row.currency}"
        levels = [("stop", row.stop), ("entry", row.entry), ("last", row.last), ("target", row.target)]
        known = [(name, price) for name, price in levels if price is not None and not pd.isna(price)]
        told = " · ".join(f"{name} {price_text(price, tick)}" for name, price in known)
        apart = " · ".join(
            f"{views.share(distance)} to the {name}"
            for name, distance in (("stop", row.to_stop), ("target", row.to_target))
            if distance is not None
        )
        naked = '<p class="down">No stop works at the broker.</p>' if row.state == "OPEN" and row.stop is None else ""
        close = (
            "Closes at market in the next run: all of it, or the quantity below"
            if row.state == "OPEN"
            else "Cancels the entry in the next run"
        )
        buttons = pieces.button("close", "Close", close, {"symbol": row.symbol}, ask="qty")
        name = f"<b>{escape(row.symbol)}</b> <small>{escape(row.contract)}</small>"
        return (
            f'<article class="position" data-trade="{row.trade_id}" tabindex="0"><div class="line"><div>{name} '
            f'<span class="side {row.side.lower()}">{row.side} {views.quantity(row.qty)}</span></div>'
            f'<b class="{pieces.tone(result)}">{escape(value)}</b></div>{pieces.bar(dict(known))}'
            f'<div class="line"><small>{escape(told)}<br>{escape(apart)}</small>{buttons}</div>{naked}</article>'
        )

    def _orders(self, _now: datetime) -> str:
        rows = report.working_orders(self._hub, self._book)
        return pieces.card(
            "Working orders",
            "At the broker, or on their way.",
            views.orders(rows, self._settings.ticks).iloc[:, ORDERS],
        )

    def _locks(self, _now: datetime) -> str:
        rows = report.locks(self._hub, self._book)
        if rows.empty:
            return ""
        buttons = [
            pieces.button(
                "unlock",
                "Unlock",
                f"{s} may trade again; the next run locks it again if the cause remains",
                {"symbol": s},
            )
            for s in rows["symbol"]
        ]
        return pieces.card("Locked symbols", "No entries until someone unlocks them.", views.locks(rows), buttons)

    def _limits(self, now: datetime) -> str:
        used = risk.limits_used(self._hub, self._settings, now)
        exposures = exposure.exposures(self._hub, self._settings, now)
        meters = [(row.limit, row.used, row.allowed) for row in each(used)]
        meters += [(row.exposure, row.used, row.allowed) for row in each(exposures)]
        lines = "".join(pieces.meter(*meter) for meter in meters)
        told = "Against the limits of [risk]; exposures as shares of equity."
        return f'<div class="card"><h2>Risk used</h2><p>{told}</p>{lines}</div>{self._account()}'

    def _account(self) -> str:
        """The account, if several books trade it."""
        rows = report.account(self._hub, self._book)
        if rows.empty:
            return ""
        told, parts = views.account(rows)
        return pieces.card("One account, several books", told, parts)

    def _scores(self, _now: datetime) -> str:
        rows = self._rows(SCORES, scope=self._settings.runtime.scores, symbols=list(self._settings.instruments))
        follows = self._settings.execution.form == "positions"
        threshold = self._settings.composite.typical_score if follows else self._settings.execution.entry_threshold
        lines = "".join(pieces.score(row, threshold) for row in each(rows))
        means = (
            f"positions follow them, ±{threshold:g} is an average one" if follows else f"entries from ±{threshold:g}"
        )
        text_ = f"The newest of each instrument; {means}. Press one to see what it is made of."
        return f'<div class="card"><h2>Scores</h2><p>{text_}</p><div class="scores">{lines or "none"}</div></div>'

    def _data(self, now: datetime) -> str:
        fresh = views.freshness(overview.freshness(self._hub, self._settings, now))
        late = int((fresh["state"] == "late").sum()) if len(fresh) else 0
        told = (
            f"{late} of {len(fresh)} series are late." if late else f"All {len(fresh)} series have the bar that is due."
        )
        rows = issues.show(self._hub).head(ISSUES)
        buttons = [
            pieces.button("accept", "Accept", f"{r.check_name}: the bar of {r.symbol} counts as it is", pieces.issue(r))
            + pieces.button("reject", "Reject", f"{r.check_name}: the bar of {r.symbol} stays out", pieces.issue(r))
            for r in each(rows)
        ]
        waiting = pieces.card("Data that await a decision", "", views.issues(rows), buttons) if len(rows) else ""
        return pieces.card("Data", f"{told} As of {views.instant(now)} UTC.", fresh, long=True) + waiting

    def _alerts(self, _now: datetime) -> str:
        rows = self._rows(ALERTS)
        table = pd.DataFrame(
            [
                (views.instant(r.at), r.kind, r.subject, r.message, "sent" if r.sent_at else r.failure or "not sent")
                for r in each(rows)
            ],
            columns=["at", "kind", "subject", "message", "state"],
        )
        return pieces.card("Alerts", "The newest, sent or not.", table, wide="message", long=True)

    def _runs(self, _now: datetime) -> str:
        rows = self._rows(RUNS)
        links = prefect_runs.links(rows["run_id"])
        anchors = [
            f'<a href="{escape(links[i])}" target="_blank" rel="noreferrer">in Prefect</a>' if i in links else ""
            for i in rows["run_id"]
        ]
        table = views.runs(rows.assign(attempts=None))
        return pieces.card(
            "Runs", "The last ones, newest first.", table.drop(columns="attempts"), anchors, wide="message", long=True
        )

    def _journal(self, _now: datetime) -> str:
        rows = report.journal(self._hub, self._book, last=40).iloc[::-1]
        table = pd.DataFrame(
            [(views.instant(r.at), r.kind, r.symbol or "–", r.message) for r in each(rows)],
            columns=["at", "kind", "symbol", "message"],
        )
        return pieces.card("Journal", "What happened in the book, newest first.", table, wide="message", long=True)
