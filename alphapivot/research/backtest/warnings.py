"""What a reader must know before he believes a backtest: about its universe, its data, its warm-up and its costs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.brokers import PaperBroker

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef

Warned = tuple[str, str | None, str]  # code, symbol, sentence
ISSUES = """
    SELECT symbol, outcome, check_name, count(*) AS n, min(ts) AS first, max(ts) AS last FROM market.quality_issue
    WHERE symbol = ANY(:symbols) AND ts > :since AND ts <= :until AND found_at <= :known_at
    AND decision IS DISTINCT FROM 'accepted' GROUP BY symbol, outcome, check_name ORDER BY symbol, outcome, check_name
"""
BARS = """
    SELECT symbol, market, count(DISTINCT ts) FILTER (WHERE ts > :since) AS bars,
           count(DISTINCT ts) FILTER (WHERE ts <= :since) AS before, min(ts) AS first, max(ts) AS last
    FROM market.bar WHERE symbol = ANY(:symbols) AND interval = :base AND ts <= :until AND ingested_at <= :known_at
    GROUP BY symbol, market ORDER BY symbol, market
"""
RESTATED = """
    SELECT symbol, count(*) AS n FROM market.bar_revision
    WHERE symbol = ANY(:symbols) AND interval = :base AND ts > :since AND ts <= :until AND superseded_at <= :known_at
    GROUP BY symbol ORDER BY symbol
"""
TRIPS = "SELECT as_of, message FROM trading.risk_trip WHERE book = :book ORDER BY as_of"
LOCKS = (
    "SELECT symbol, reason, at FROM trading.instrument_lock WHERE book = :book AND cleared_at IS NULL ORDER BY symbol"
)
OPEN = "SELECT symbol, side FROM trading.trade WHERE book = :book AND state = 'OPEN' ORDER BY symbol"
SHORT = """
    SELECT DISTINCT symbol FROM trading.trade
    WHERE book = :book AND side = 'SHORT' AND market = 'spot' AND entry_qty > 0 ORDER BY symbol
"""


def collect(
    hub: Hub, run: RunRef, settings: Settings, since: datetime, first: datetime, begins: datetime | None
) -> list[Warned]:
    """``first``: the first instant of the period; ``begins``: the first that counted."""
    asked: dict[str, Any] = {
        "symbols": sorted(settings.instruments),
        "since": since,
        "until": run.as_of,
        "known_at": run.known_at,
        "base": settings.timeframes.base,
        "book": settings.execution.book,
    }
    with hub.engine.connect() as conn:
        return [*_universe(settings), *_data(conn, settings, asked, first, begins), *_trading(conn, settings, asked)]


def _universe(settings: Settings) -> Iterator[Warned]:
    names = ", ".join(sorted(settings.instruments))
    yield (
        "survivorship",
        None,
        (
            f"the universe was picked by hand today ({names if len(names) < 200 else len(settings.instruments)}): "
            "what has failed or vanished since is not in it, so results look better than they would have been"
        ),
    )


def _data(
    conn: Connection, settings: Settings, asked: dict[str, Any], first: datetime, begins: datetime | None
) -> Iterator[Warned]:
    if begins is None or begins > first:
        until = f"until {begins:%Y-%m-%d %H:%M} UTC" if begins else "in the whole period"
        yield "warm_up", None, f"no score was known {until}: that time is left out of all results"
    history = max((p.history for p in settings.pillars.values()), default=0)
    for row in conn.execute(text(BARS), asked):
        instrument = settings.instruments[row.symbol]
        if row.market not in (instrument.signal_market, instrument.trade_market):
            continue
        if row.market == instrument.signal_market and row.before < history:
            yield (
                "short_history",
                row.symbol,
                (
                    f"{row.before} bars of {asked['base']} before the period, its pillars look back up to {history}: "
                    "its first scores stand on less"
                ),
            )
        begin = max(asked["since"], row.first)
        due = len(bar_ends.bar_ends(instrument.hours, asked["base"], begin, asked["until"]))
        there = row.bars - (row.first > asked["since"])
        if there < due:
            yield (
                "missing_bars",
                row.symbol,
                f"{due - there} of {due} bars of {asked['base']} on the {row.market} market are missing",
            )
    for row in conn.execute(text(ISSUES), asked):
        span = f"{row.first:%Y-%m-%d}" + (f" to {row.last:%Y-%m-%d}" if row.last.date() > row.first.date() else "")
        yield f"data_{row.outcome}", row.symbol, f"{row.n} bars {row.outcome} ({row.check_name}), {span}"
    for row in conn.execute(text(RESTATED), asked):
        yield (
            "restated",
            row.symbol,
            f"{row.n} bars were restated since they were first stored: the backtest sees the corrected ones",
        )


def _trading(conn: Connection, settings: Settings, asked: dict[str, Any]) -> Iterator[Warned]:
    broker = settings.brokers[settings.execution.broker]
    if isinstance(broker, PaperBroker):
        if not (broker.fee_bps or broker.fee_per_contract):
            yield "no_fees", None, f"[broker.{settings.execution.broker}] charges no fee"
        if not broker.slippage_bps:
            yield "no_slippage", None, f"[broker.{settings.execution.broker}] has no slippage_bps: fills are ideal"
        if broker.max_volume_share is None:
            yield "no_volume_limit", None, "an order may fill whatever the bar's volume: max_volume_share is not set"
    shorts = list(conn.execute(text(SHORT), asked).scalars())
    if shorts:
        yield "no_borrowing_cost", None, f"short positions on spot markets cost no borrowing: {', '.join(shorts)}"
    for row in conn.execute(text(TRIPS), asked):
        yield (
            "halted",
            None,
            f"{row.as_of:%Y-%m-%d %H:%M} UTC: {row.message}; live a person resumes, here the next risk day does",
        )
    for row in conn.execute(text(LOCKS), asked):
        yield "locked", row.symbol, f"since {row.at:%Y-%m-%d %H:%M} UTC, for good: {row.reason}"
    still = [f"{row.symbol} {row.side}" for row in conn.execute(text(OPEN), asked)]
    if still:
        yield "open_at_end", None, f"still open at the end, at their last price: {', '.join(still)}"
