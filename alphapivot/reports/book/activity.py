"""The activity of one book as frames: a constant number of queries, however long it traded. Money stays Decimal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
from psycopg import sql
from sqlalchemy import text

from alphapivot.calendar import bar_ends
from alphapivot.data import actions, rolls
from alphapivot.errors import DataError
from alphapivot.hub.tables import bars as stored
from alphapivot.reports.book import warned

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

BOOKS = "SELECT book, currency, max(as_of) AS last FROM trading.mark GROUP BY book, currency ORDER BY last DESC"
MARKS = (
    "SELECT as_of, currency, equity, cash, gross, net, open_trades FROM api.marks"
    " WHERE book = :book AND as_of <= :until ORDER BY as_of"
)
FLOWS = "SELECT at, amount, note FROM trading.external_cash WHERE book = :book AND at <= :until ORDER BY at"
# a rolled trade's votes are those of the decision behind the first trade of its chain
TRADES = """
    WITH RECURSIVE begun AS (
        SELECT trade_id, intent_id FROM trading.trade WHERE book = :book AND rolled_from IS NULL
        UNION ALL
        SELECT t.trade_id, b.intent_id FROM begun b JOIN trading.trade t ON t.rolled_from = b.trade_id
    )
    SELECT t.trade_id, t.symbol, t.market, t.contract, t.side, t.state, i.as_of, t.qty, t.entry_qty, t.exit_qty,
           t.entry_price, t.entry_at, t.exit_price, t.exit_at, t.realised, t.fees, t.close_reason, t.reference, t.stop,
           t.target, t.currency, t.multiplier, t.quote_unit, d.score,
           coalesce(d.score_ts, i.as_of) AS scored, d.run_id, d.bars ->> 'interval' AS interval,
           coalesce((d.plan ->> 'stop')::numeric / t.ratio, t.stop) AS first_stop,
           coalesce((d.plan ->> 'fx')::numeric, 1) AS fx, v.votes, coalesce(f.cash, 0) + t.paid AS cash,
           b.close AS last, x.fx AS fx_now
    FROM trading.trade t
    JOIN trading.intent i USING (intent_id)
    JOIN trading.decision d USING (decision_id)
    JOIN begun opening ON opening.trade_id = t.trade_id
    JOIN trading.intent first ON first.intent_id = opening.intent_id
    JOIN trading.decision decided ON decided.decision_id = first.decision_id
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(pillar, points) AS votes FROM (
            SELECT pillar, sum(contribution) AS points FROM jsonb_to_recordset(
                CASE jsonb_typeof(decided.terms) WHEN 'array' THEN decided.terms ELSE '[]' END
            ) AS term (pillar text, contribution double precision) GROUP BY pillar HAVING sum(contribution) <> 0
        ) p
    ) v ON true
    LEFT JOIN LATERAL (
        SELECT sum(f.cash - f.fee) AS cash FROM trading.orders o JOIN trading.fill f USING (client_order_id)
        WHERE o.trade_id = t.trade_id
    ) f ON true
    LEFT JOIN LATERAL (
        SELECT close::numeric FROM market.bar
        WHERE t.state = 'OPEN' AND (bar.symbol, bar.market, bar.contract, bar.interval)
              = (t.symbol, t.market, t.contract, d.bars ->> 'interval') AND bar.ts <= :until
        ORDER BY bar.ts DESC LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT CASE WHEN t.currency = :currency THEN 1
               ELSE coalesce(
                   (SELECT close::numeric FROM market.bar WHERE (symbol, market, contract, interval)
                    = (t.currency || :currency, 'spot', '', d.bars ->> 'interval') AND ts <= :until
                    ORDER BY ts DESC LIMIT 1),
                   (SELECT 1 / close::numeric FROM market.bar WHERE (symbol, market, contract, interval)
                    = (:currency || t.currency, 'spot', '', d.bars ->> 'interval') AND ts <= :until
                    ORDER BY ts DESC LIMIT 1)) END AS fx
        WHERE t.state = 'OPEN'
    ) x ON true
    WHERE t.book = :book AND i.as_of <= :until ORDER BY i.as_of, t.trade_id
"""
FILLS = """
    SELECT trade_id, symbol, leg, kind, side, qty, price, ts, reference, fx, commission, slippage, notional
    FROM api.fills WHERE book = :book AND ts <= :until ORDER BY ts, trade_id
"""
STOPS = """
    SELECT t.trade_id, d.as_of, d.stop FROM trading.decision d JOIN trading.trade t
      ON t.book = d.book AND t.symbol = d.symbol AND t.entry_at IS NOT NULL
     AND d.as_of <= coalesce(t.exit_at, 'infinity')
    JOIN trading.intent i ON i.intent_id = t.intent_id AND i.as_of < d.as_of
    WHERE d.book = :book AND d.stop IS NOT NULL AND d.as_of <= :until ORDER BY t.trade_id, d.as_of
"""
SPLITS = """
    SELECT a.trade_id, a.ts, a.value FROM trading.adjustment a
    WHERE a.book = :book AND a.kind = 'split' AND a.ts <= :until ORDER BY a.trade_id, a.ts
"""
RUNS = """
    SELECT r.kind, r.config_hash, r.code_version, min(r.as_of) AS first, max(r.as_of) AS last, count(*) AS runs,
           (array_agg(r.run_id ORDER BY r.as_of DESC, r.started_at DESC))[1] AS run_id,
           bool_or(r.started_at > r.as_of + interval '7 days') AS afterwards
    FROM ops.run r
    WHERE r.run_id IN (SELECT DISTINCT run_id FROM trading.decision WHERE book = :book AND as_of <= :until)
    GROUP BY r.kind, r.config_hash, r.code_version ORDER BY max(r.as_of) DESC
"""
SYMBOLS = "SELECT DISTINCT symbol FROM trading.decision WHERE book = :book ORDER BY symbol"
ISSUES = """
    SELECT symbol, check_name, outcome, count(*) AS count FROM market.quality_issue
    WHERE symbol = ANY(:symbols) AND ts >= :since AND ts <= :until AND decision IS DISTINCT FROM 'accepted'
    GROUP BY symbol, check_name, outcome ORDER BY symbol, check_name
"""
WARNED = """
    SELECT w.code, w.symbol, w.message FROM research.backtest_warning w JOIN research.backtest b USING (run_id)
    WHERE b.book = :book ORDER BY w.number
"""
# the bars of each trade, including the entry's and the exit's
SPANS = """
    SELECT t.trade_id, b.ts, b.open, b.high, b.low, b.close
    FROM trading.trade t JOIN trading.intent i USING (intent_id) JOIN trading.decision d USING (decision_id)
    JOIN market.bar b
      ON (b.symbol, b.market, b.contract, b.interval) = (t.symbol, t.market, t.contract, d.bars ->> 'interval')
     AND b.ts >= t.entry_at AND b.ts <= coalesce(t.exit_at, {until})
    WHERE t.book = {book} AND t.entry_at <= {until}
"""
AROUND = """
    SELECT symbol, contract, ts, open, high, low, close FROM market.bar
    WHERE symbol = {symbol} AND market = {market} AND contract = ANY({contracts}) AND interval = {interval}
      AND ts >= {since} AND ts <= {until} ORDER BY ts DESC LIMIT {most}
"""


@dataclass(frozen=True)
class Book:
    """
    ``marks``: as_of, equity, ...; ``flows``: at, amount, note. ``trades``: all that were decided, including those that
    never entered. ``spans``: the bars of each trade. ``stops``: trade_id, as_of, stop of each move of a stop.
    ``splits``: trade_id, ts, value of splits while the trade was open. ``runs``: by config and code. ``issues``: counts
    of quality issues. ``warned``: a backtest's stored warnings.
    """

    name: str
    currency: str
    marks: pd.DataFrame
    flows: pd.DataFrame
    trades: pd.DataFrame
    fills: pd.DataFrame
    stops: pd.DataFrame
    splits: pd.DataFrame
    spans: pd.DataFrame
    runs: pd.DataFrame
    symbols: list[str]
    issues: pd.DataFrame
    warned: list[str]

    @property
    def since(self) -> pd.Timestamp:
        return pd.Timestamp(self.marks["as_of"].iloc[0])

    @property
    def until(self) -> pd.Timestamp:
        return pd.Timestamp(self.marks["as_of"].iloc[-1])


def marked(hub: Hub, name: str) -> bool:
    """True if a run has marked the book; a book that never ran has no performance, which is not an error."""
    with hub.engine.connect() as connection:
        query = text("SELECT EXISTS (SELECT FROM trading.mark WHERE book = :book)")
        return bool(connection.execute(query, {"book": name}).scalar())


def load(hub: Hub, name: str, until: datetime | None = None) -> Book:
    """The book as of ``until`` (None: now). Raises DataError if no run has marked it, or in several currencies."""
    parameters: dict[str, Any] = {"book": name, "until": until or datetime(9999, 1, 1, tzinfo=UTC)}
    marks = _frame(hub, MARKS, **parameters)
    if marks.empty:
        books = ", ".join(dict.fromkeys(_frame(hub, BOOKS)["book"])) or "none yet: `alphapivot run` makes one"
        raise DataError(f"no run has marked a book {name!r}; books: {books}")
    currencies = sorted(set(marks["currency"]))
    if len(currencies) > 1:
        raise DataError(f"book {name!r} was kept in {', '.join(currencies)}: amounts in these cannot be summed")
    parameters["until"] = until or marks["as_of"].iloc[-1]
    symbols = list(_frame(hub, SYMBOLS, book=name)["symbol"])
    return Book(
        name=name,
        currency=currencies[0],
        marks=marks.drop(columns="currency"),
        flows=_frame(hub, FLOWS, **parameters),
        trades=_frame(hub, TRADES, currency=currencies[0], **parameters),
        fills=_frame(hub, FILLS, **parameters),
        stops=_frame(hub, STOPS, **parameters),
        splits=_frame(hub, SPLITS, **parameters),
        spans=hub.query(_composed(SPANS, **parameters)),
        runs=_frame(hub, RUNS, **parameters),
        symbols=symbols,
        issues=_frame(hub, ISSUES, symbols=symbols, since=marks["as_of"].iloc[0], until=parameters["until"]),
        warned=warned.sentences(_frame(hub, WARNED, book=name).itertuples(index=False, name=None)),
    )


def closes(hub: Hub, settings: Settings, symbols: Sequence[str], since: datetime, until: datetime) -> pd.DataFrame:
    """
    Closes of the traded market of ``symbols``, joined over rolls, splits and dividends: symbol, ts, close, offset.

    Daily closes where stored, if the base timeframe is finer. Symbols no longer in the config are left out.
    """
    instruments = {s: settings.instruments[s] for s in symbols if s in settings.instruments}
    base = settings.timeframes.base
    fine = bar_ends.width(base) < bar_ends.width("1d")
    for interval in dict.fromkeys(("1d", base) if fine else (base,)):
        after = since - 10 * max(bar_ends.width(interval), timedelta(days=1))
        raw = [
            stored.window(hub, names, market, interval, after=after, until=until, known_at=None)
            for market in ("spot", "futures")
            if (names := [s for s, i in instruments.items() if i.trade_market == market])
        ]
        filled = [r for r in raw if len(r)]
        if filled:
            joined = rolls.adjust(
                pd.concat(filled, ignore_index=True), stored.rolls(hub, list(instruments), until=until, known_at=None)
            )
            events = stored.actions(hub, list(instruments), until=until, known_at=None)
            return actions.adjust(joined, events, dict.fromkeys(instruments, "all"))[
                ["symbol", "ts", "close", "offset"]
            ]
    return pd.DataFrame(columns=["symbol", "ts", "close", "offset"])


def around(hub: Hub, book: Book, symbol: str, *, margin: int = 40, most: int = 1500) -> pd.DataFrame:
    """The bars of the traded contracts of ``symbol``, from ``margin`` bars before the first entry; ``most`` at most."""
    trades = book.trades[(book.trades["symbol"] == symbol) & book.trades["entry_at"].notna()]
    width = bar_ends.width(trades["interval"].iloc[0])
    query = _composed(
        AROUND,
        symbol=symbol,
        market=trades["market"].iloc[0],
        contracts=sorted(set(trades["contract"])),
        interval=trades["interval"].iloc[0],
        since=trades["entry_at"].min() - margin * 1.5 * width,
        until=min(book.until, trades["exit_at"].fillna(book.until).max() + margin / 2 * width),
        most=most,
    )
    return hub.query(query).sort_values(["contract", "ts"], ignore_index=True)


def value(trade: Any) -> Decimal:
    """A trade's open quantity at its last price, in the book's currency, as the paper broker computes it."""
    last = trade.entry_price if trade.last is None else trade.last
    paid = trade.entry_price if trade.market == "futures" else Decimal(0)
    held = (trade.entry_qty - trade.exit_qty) * (1 if trade.side == "LONG" else -1)
    unit = trade.multiplier * trade.quote_unit * (trade.fx if trade.fx_now is None else trade.fx_now)
    return Decimal(held * (last - paid) * unit).quantize(Decimal("0.000001"))


def each(table: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples, untyped."""
    return iter(table.itertuples(index=False))


def total(amounts: Iterable[Any]) -> Decimal:
    return sum(amounts, Decimal(0))


def _composed(query: str, **values: Any) -> sql.Composed:
    return sql.SQL(query).format(**{name: sql.Literal(v) for name, v in values.items()})


def _frame(hub: Hub, query: str, **parameters: Any) -> pd.DataFrame:
    """The rows of ``query``; money stays Decimal, instants are UTC."""
    with hub.engine.connect() as conn:
        result = conn.execute(text(query), parameters)
        frame = pd.DataFrame(result.all(), columns=list(result.keys()), dtype=object)
    for name in frame.columns.intersection(["as_of", "scored", "at", "ts", "entry_at", "exit_at", "first", "last_at"]):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame
