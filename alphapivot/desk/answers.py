"""What the phone answers to questions: a book in a few lines of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from alphapivot.errors import DataError
from alphapivot.execution.book import control, report
from alphapivot.execution.operator import approvals
from alphapivot.money import price_text
from alphapivot.reports import explanation, overview
from alphapivot.reports.book.activity import each
from alphapivot.reports.terminal import views

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

CLOSED = 5  # trades


def status(hub: Hub, settings: Settings, _: str) -> str:
    """The kill switch, what is open, waits, is locked or late, and the last run."""
    book, now = settings.execution.book, overview.now(hub, settings)
    with hub.engine.connect() as conn:
        lines = [f"Book {book}: {views.switch(control.state(conn, book))}"]
    trades = report.open_trades(hub, book, settings.timeframes.base)
    lines.append(f"{int((trades['state'] == 'OPEN').sum())} trades open")
    for row in each(approvals.waiting(hub, book)):
        yes = (
            f"approved by {row.approved_by}"
            if row.approved
            else f"waits for a yes until {views.instant(row.expires)} UTC"
        )
        lines.append(f"{row.side} {views.quantity(row.qty)} {row.symbol} at score {views.points(row.score)}: {yes}")
    lines += [f"{row.symbol} is locked: {row.reason}" for row in each(report.locks(hub, book))]
    fresh = views.freshness(overview.freshness(hub, settings, now))
    late = sorted(set(fresh.loc[fresh["state"] == "late", "symbol"]))
    lines.append(f"late data: {', '.join(late)}" if late else "all data are fresh")
    lines += [f"last run: {r.kind} {views.instant(r.as_of)} UTC {r.state}" for r in each(overview.runs(hub, 1))]
    return "\n".join(lines)


def trades(hub: Hub, settings: Settings, _: str) -> str:
    """Every open trade with its result, stop and target."""
    lines = []
    for row in each(report.open_trades(hub, settings.execution.book, settings.timeframes.base)):
        tick = settings.ticks.get(row.symbol)
        result = "waits for its entry" if row.unrealised is None else f"{views.money(row.unrealised)} {row.currency}"
        levels = [
            f"{name} {price_text(price, tick)}" + (f" ({views.share(apart)})" if apart is not None else "")
            for name, price, apart in (
                ("last", row.last, None),
                ("stop", row.stop, row.to_stop),
                ("target", row.target, row.to_target),
            )
            if price is not None
        ]
        name = f"{row.symbol} {row.contract}".rstrip()
        lines.append(f"{name} {row.side} {views.quantity(row.qty)}: {result}; {', '.join(levels)}")
    return "\n".join(lines) or "nothing is open"


def pnl(hub: Hub, settings: Settings, _: str) -> str:
    """Today's result, the whole one, the drawdown, and the last closed trades."""
    book = settings.execution.book
    days = overview.equity(hub, book)
    if days.empty:
        return f"book {book} has not traded yet"
    day = days.iloc[-1]
    today = day["equity"] - day["start_equity"] - day["deposits"]
    lines = [
        f"equity {views.amount(day['equity'])} {day['currency']} on {day['day']}",
        f"today {views.money(today)}, earned {views.money(day['earned'])}, drawdown {views.money(day['drawdown'])}",
    ]
    closed = report.closed_trades(hub, book)
    lines += [
        f"{row.symbol} {row.side} {views.instant(row.exit_at)} {row.close_reason}: {views.money(row.realised)}"
        for row in each(closed[closed["qty"] > 0].tail(CLOSED).iloc[::-1])
    ]
    return "\n".join(lines)


def explain(hub: Hub, settings: Settings, symbol: str) -> str:
    """The newest score of a symbol, term by term."""
    run = overview.latest(hub, settings.runtime.scores)
    if run is None:
        raise DataError("there is no score to explain yet")
    explained = explanation.explain(hub, settings, run, symbol, None)
    score = "unknown" if explained.score is None else views.points(explained.score)
    note = f" ({explained.note})" if explained.note else ""
    lines = [f"{line.label}: {views.points(line.effect)}" for line in explained.lines if line.effect]
    return "\n".join([f"{symbol} at {views.instant(explained.ts)} UTC: score {score}{note}", *lines])


QUESTIONS: Mapping[str, Callable[[Hub, Settings, str], str]] = {
    "status": status,
    "open": trades,
    "pnl": pnl,
    "explain": explain,
}
