"""The warnings of a backtest: about its universe, data, warm-up and costs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.data.series import life
from alphapivot.reports.book import cautions
from alphapivot.reports.book.warned import named

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef

CodedWarning = tuple[str, str | None, str]  # code, symbol, sentence
ISSUES = """
    SELECT symbol, outcome, check_name, count(*) AS n, min(ts) AS first, max(ts) AS last FROM market.quality_issue
    WHERE symbol = ANY(:symbols) AND ts > :since AND ts <= :until AND found_at <= :known_at
    AND decision IS DISTINCT FROM 'accepted'
    AND (outcome NOT IN ('quarantined', 'held') OR coalesce(ended_at, 'infinity') > :known_at) -- it came in since
    GROUP BY symbol, outcome, check_name ORDER BY symbol, outcome, check_name
"""
BARS = """
    SELECT symbol, market, count(DISTINCT ts) FILTER (WHERE ts > :since) AS bars,
           count(DISTINCT ts) FILTER (WHERE ts <= :since) AS before, min(ts) AS first, max(ts) AS last,
           (SELECT array_agg(DISTINCT f.source) FROM market.bar AS f -- of finer bars too, of which these are made
            WHERE f.symbol = b.symbol AND f.market = b.market AND f.source <> 'resampled'
              AND f.ts <= :until AND f.ingested_at <= :known_at) AS sources
    FROM market.bar AS b WHERE symbol = ANY(:symbols) AND interval = :base AND ts <= :until AND ingested_at <= :known_at
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
ENDED = (
    "SELECT symbol, as_of, message FROM trading.journal WHERE book = :book AND kind = 'ended' ORDER BY as_of, symbol"
)
OPEN = "SELECT symbol, side FROM trading.trade WHERE book = :book AND state = 'OPEN' ORDER BY symbol"
SHORT = """
    SELECT DISTINCT symbol FROM trading.trade
    WHERE book = :book AND entry_at IS NOT NULL
      AND ((side = 'SHORT' AND market = 'spot') OR symbol || ' ' || side = ANY(:sold)) ORDER BY symbol
"""


def collect(
    hub: Hub, run: RunRef, settings: Settings, since: datetime, first: datetime, begins: datetime | None
) -> list[CodedWarning]:
    """All warnings. ``first``: the first instant of the period; ``begins``: the first with a score."""
    scope: dict[str, Any] = {
        "symbols": sorted(settings.instruments),
        "since": since,
        "until": run.as_of,
        "known_at": run.known_at,
        "base": settings.timeframes.base,
        "book": settings.execution.book,
    }
    with hub.engine.connect() as conn:
        first_lines = cautions.cautions(hub, settings, settings.execution.book, until=run.as_of, known_at=run.known_at)
        return [
            *first_lines,
            *_universe(settings),
            *_data(conn, settings, scope, first, begins),
            *_trading(conn, settings, scope),
        ]


def _universe(settings: Settings) -> Iterator[CodedWarning]:
    names = ", ".join(sorted(settings.instruments))
    yield (
        "survivorship",
        None,
        (
            f"the universe was picked by hand today ({names if len(names) < 200 else len(settings.instruments)}): "
            "instruments that have failed or vanished since are not in it, so results look better than they were"
        ),
    )


def _data(
    conn: Connection, settings: Settings, scope: dict[str, Any], first: datetime, begins: datetime | None
) -> Iterator[CodedWarning]:
    if begins is None or begins > first:
        until = f"until {begins:%Y-%m-%d %H:%M} UTC" if begins else "in the whole period"
        yield "warm_up", None, f"no score was known {until}: that time is excluded from all results"
    history = max((p.history for p in settings.pillars.values()), default=0)
    for row in conn.execute(text(BARS), scope):
        instrument = settings.instruments[row.symbol]
        if row.market not in (instrument.signal_market, instrument.trade_market):
            continue
        if row.market == instrument.signal_market and row.before < history:
            yield (
                "short_history",
                row.symbol,
                (
                    f"{row.before} bars of {scope['base']} before the period, but pillars look back up to {history}: "
                    "the first scores use a shorter history"
                ),
            )
        if len(row.sources or ()) > 1:
            yield "sources", row.symbol, f"its {row.market} bars are of several sources: {', '.join(row.sources)}"
        begins, ends = life.span(instrument, row.market)
        begin, end = max(scope["since"], row.first, begins), min(scope["until"], ends)
        due = len(bar_ends.bar_ends(instrument.hours_of(row.market), scope["base"], begin, end)) if begin < end else 0
        stored = row.bars - (row.first > scope["since"])
        if stored < due:
            yield (
                "missing_bars",
                row.symbol,
                f"{due - stored} of {due} bars of {scope['base']} on the {row.market} market are missing",
            )
    for row in conn.execute(text(ISSUES), scope):
        span = f"{row.first:%Y-%m-%d}" + (f" to {row.last:%Y-%m-%d}" if row.last.date() > row.first.date() else "")
        yield f"data_{row.outcome}", row.symbol, f"{row.n} bars {row.outcome} ({row.check_name}), {span}"
    for row in conn.execute(text(RESTATED), scope):
        yield (
            "restated",
            row.symbol,
            f"{row.n} bars were restated after they were first stored: the backtest uses the corrected ones",
        )


def _fees(settings: Settings, broker: PaperBroker) -> Iterator[CodedWarning]:
    name, traded = settings.execution.broker, [i for i in settings.instruments.values() if i.tradable]
    free = sorted(i.symbol for i in traded if not broker.charges(i))
    kinds = sorted({i.kind for i in traded})
    if len(free) == len(traded):
        yield "no_fees", None, f"[broker.{name}] charges no fee"
    elif free:
        yield "no_fees", None, f"[broker.{name}] charges no fee for {', '.join(free)}"
    elif len(kinds) > 1 and not broker.fees and not broker.fee_per_contract:
        yield (
            "one_fee",
            None,
            (
                f"[broker.{name}] charges {broker.fee_bps:f} bps in every market, and fees for {' and '.join(kinds)} "
                "differ: set fees"
            ),
        )


def _trading(conn: Connection, settings: Settings, scope: dict[str, Any]) -> Iterator[CodedWarning]:
    broker = settings.brokers[settings.execution.broker]
    if isinstance(broker, PaperBroker):
        yield from _fees(settings, broker)
        if not broker.slippage_bps:
            yield "no_slippage", None, f"[broker.{settings.execution.broker}] has no slippage_bps: fills are ideal"
        if broker.max_volume_share is None:
            yield "no_volume_limit", None, "orders fill regardless of the bar's volume: max_volume_share is not set"
    # a spread sells one of its legs, on either side
    spreads = [(s, ratio) for s in settings.spreads for ratio in settings.instruments[s].legs.values()]
    sold = [f"{symbol} {'LONG' if ratio < 0 else 'SHORT'}" for symbol, ratio in spreads]
    shorts = list(conn.execute(text(SHORT), scope | {"sold": sold}).scalars())
    if shorts:
        yield "no_borrowing_cost", None, f"short spot positions pay no borrowing cost: {named(shorts)}"
    for row in conn.execute(text(TRIPS), scope):
        yield (
            "halted",
            None,
            f"{row.as_of:%Y-%m-%d %H:%M} UTC: {row.message}; live an operator resumes, here the next risk day does",
        )
    for row in conn.execute(text(ENDED), scope):
        yield "market_ended", row.symbol, f"{row.as_of:%Y-%m-%d}: {row.message}"
    for row in conn.execute(text(LOCKS), scope):
        yield "locked", row.symbol, f"since {row.at:%Y-%m-%d %H:%M} UTC, until the end: {row.reason}"
    positions = [f"{row.symbol} {row.side}" for row in conn.execute(text(OPEN), scope)]
    if positions:
        yield "open_at_end", None, f"still open at the end, valued at their last price: {named(positions)}"
