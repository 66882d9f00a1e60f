"""
The risk of what a book holds now: its volatility ex ante, what adds to it, and what past times would do to it.

Read only. Quantities are today's, pending entries included; prices are those known at ``at``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sqlalchemy import text

from alphapivot.data import actions, rolls
from alphapivot.execution.book import exposure, ledger, report
from alphapivot.execution.decide.portfolio import SIGN, Covariance, covariance
from alphapivot.execution.market import quotes
from alphapivot.execution.market.source import QuoteTerms, Stored
from alphapivot.frames import Bars
from alphapivot.hub.tables import bars as stored
from alphapivot.runs import RunRef

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

GROUP = "group "  # begins the name of a group among the parts
Window = tuple[str, date, date]
WINDOWS: tuple[Window, ...] = (
    ("dot-com, 2000-2002", date(2000, 3, 24), date(2002, 10, 9)),
    ("Lehman, 2008", date(2008, 9, 12), date(2008, 11, 20)),
    ("flash crash, 2010", date(2010, 5, 5), date(2010, 5, 7)),
    ("Volmageddon, 2018", date(2018, 1, 26), date(2018, 2, 8)),
    ("Covid, 2020", date(2020, 2, 19), date(2020, 3, 23)),
    ("rates, 2022", date(2022, 1, 3), date(2022, 10, 14)),
    ("yen carry, 2024", date(2024, 7, 31), date(2024, 8, 5)),
)


@dataclass(frozen=True)
class Risk:
    """
    ``volatility``: of a year, in ``currency``; None without an account. ``parts``: of (symbol or group), alone (its own
    volatility), part (what it adds to the book's: negative hedges), share (of the book's). ``unknown``: what is held
    and not in it, with the reason.
    """

    currency: str
    equity: Decimal | None
    volatility: float | None
    parts: pd.DataFrame
    unknown: dict[str, str]

    @property
    def of_equity(self) -> float | None:
        """The volatility as a share of equity."""
        return None if self.volatility is None or not self.equity else self.volatility / float(self.equity)


def risk(hub: Hub, settings: Settings, at: datetime) -> Risk:
    """The ex-ante volatility of the book, as ``[risk] max_volatility`` measures it."""
    columns = ["of", "alone", "part", "share"]
    currency, equity, held, unknown = _held(hub, settings, at)
    if equity is None or not held:
        return Risk(currency, equity, None if equity is None else 0.0, pd.DataFrame(columns=columns), unknown)
    known = _covariance(hub, settings, sorted(held), at)
    unknown |= dict.fromkeys(sorted({*held} - {*known.symbols}), "too few prices")
    held = {symbol: value for symbol, value in held.items() if symbol in known.symbols}
    total, parts = known.volatility(held), known.contributions(held)
    groups: dict[str, list[str]] = {}
    for symbol in held:
        groups.setdefault(settings.instruments[symbol].group, []).append(symbol)
    rows = [
        (name, known.volatility({s: held[s] for s in of}), sum(parts[s] for s in of))
        for by in (
            {f"{GROUP}{name}": of for name, of in groups.items() if name},
            {symbol: [symbol] for symbol in held},
        )
        for name, of in sorted(by.items(), key=lambda item: -sum(parts[s] for s in item[1]))
    ]
    table = pd.DataFrame(rows, columns=columns[:3]).assign(share=lambda t: t["part"] / total if total else 0.0)
    return Risk(currency, equity, total, table, unknown)


def keep(hub: Hub, settings: Settings, at: datetime, found: Risk) -> None:
    """Writes trading.risk_part; the same instant again replaces its rows."""
    instant = {"book": settings.execution.book, "as_of": at}
    rows = [
        {**instant, "name": str(name).removeprefix(GROUP), "grouped": str(name).startswith(GROUP)}
        | {"alone": float(alone), "part": float(part), "share": float(share)}
        | {"currency": found.currency, "equity": found.equity}
        for name, alone, part, share in found.parts[["of", "alone", "part", "share"]].to_numpy().tolist()
    ]
    with hub.engine.begin() as conn:
        conn.execute(text("DELETE FROM trading.risk_part WHERE (book, as_of) = (:book, :as_of)"), instant)
        ledger.insert(conn, "risk_part", rows)


def limits_used(hub: Hub, settings: Settings, at: datetime) -> pd.DataFrame:
    """``report.limits_used``, and the volatility as a share of equity."""
    used, expected = report.limits_used(hub, settings), risk(hub, settings, at).of_equity
    if expected is None:
        return used
    more = [("volatility, ex ante", round(Decimal(expected), 4), settings.risk.max_volatility)]
    return pd.concat([used, pd.DataFrame(more, columns=used.columns)], ignore_index=True)


def stress(hub: Hub, settings: Settings, at: datetime, windows: Iterable[Window] = WINDOWS) -> pd.DataFrame:
    """
    What the book would have earned, held unchanged through each window: window, first, last, result, worst_day and
    lowest (the worst point on the way) in book currency, without (symbols that have no prices of then).
    """
    _, _, held, _ = _held(hub, settings, at)
    closes = _newest(hub, settings, held, at)
    worth = {symbol: held[symbol] * close for symbol, close in closes.items()}
    rows = []
    for name, first, last in windows:
        moves = _moves(hub, settings, sorted(worth), first, min(last, at.date()))
        if moves.empty:
            continue
        path = (moves - 1) @ pd.Series(worth)[moves.columns]
        days = np.diff(np.append(0.0, path))
        without = ", ".join(sorted({*held} - {*moves.columns}))
        rows.append((name, first, last, path.iloc[-1], days.min(), min(path.min(), 0.0), without))
    return pd.DataFrame(rows, columns=["window", "first", "last", "result", "worst_day", "lowest", "without"])


def _held(hub: Hub, settings: Settings, at: datetime) -> tuple[str, Decimal | None, dict[str, float], dict[str, str]]:
    """The book's currency and equity, its holdings (book currency per quoted unit), and what is not in them and why."""
    with hub.engine.connect() as conn:
        seen = conn.execute(text(exposure.SEEN), {"book": settings.execution.book}).one_or_none()
        values = {"book": settings.execution.book, "interval": settings.timeframes.base, "until": at}
        rows = conn.execute(text(exposure.NOTIONALS), values).all()
    if seen is None:
        return "", None, {}, {}
    rates = exposure.rates(hub, settings, {r.currency for r in rows}, seen.currency, at)
    held: dict[str, float] = {}
    unknown: dict[str, str] = {}
    for row in rows:
        if row.symbol not in settings.instruments:
            unknown[row.symbol] = "no [instrument.*] section"
        elif row.currency not in rates:
            unknown[row.symbol] = f"no exchange rate for {row.currency}"
        else:
            held[row.symbol] = held.get(row.symbol, 0.0) + SIGN[row.side] * float(row.units * rates[row.currency])
    return seen.currency, seen.equity, held, unknown


def _covariance(hub: Hub, settings: Settings, symbols: list[str], at: datetime) -> Covariance:
    limits = settings.risk
    wanted = settings.model_copy(update={"risk": limits.model_copy(update={"max_volatility": Decimal(1)})})
    source = Stored(hub, RunRef("", "live", at, None, ""), wanted)
    rolled = source.rolls(symbols)
    needed = quotes.needed(settings.execution.atr, settings.sizing, wanted.risk)
    after = at - quotes.lookback(settings.timeframes.base, needed)
    terms = QuoteTerms(quotes.fronts(rolled, settings.instruments, at), after)
    told = source.quotes(symbols, terms, rolled, source.actions(symbols, after))
    closes = {symbol: quote.closes for symbol, quote in told.items() if quote.closes is not None}
    return covariance(closes, limits.covariance_bars, daily=settings.timeframes.base in ("1d", "1w"))


def _newest(hub: Hub, settings: Settings, held: Mapping[str, float], at: datetime) -> dict[str, float]:
    """symbol -> the newest close of what it trades."""
    after = at - timedelta(days=30)
    bars = _traded(hub, settings, sorted(held), after, at)
    fronts = quotes.fronts(stored.rolls(hub, sorted(held), until=at, known_at=None), settings.instruments, at)
    newest = bars[bars["contract"] == bars["symbol"].map(fronts)].drop_duplicates("symbol", keep="last")
    return {str(s): float(c) for s, c in newest[["symbol", "close"]].itertuples(index=False)}


def _moves(hub: Hub, settings: Settings, symbols: list[str], first: date, last: date) -> pd.DataFrame:
    """By date and symbol: what one unit of money became since the close before ``first``; of symbols that have it."""
    until = datetime.combine(last, time.max, UTC)
    bars = _traded(hub, settings, symbols, datetime.combine(first, time(), UTC) - timedelta(days=14), until)
    contracts = rolls.adjust(bars[bars["contract"] != ""], stored.rolls(hub, symbols, until=until, known_at=None))
    events = stored.actions(hub, symbols, since=datetime.combine(first, time(), UTC), until=until, known_at=None)
    plain = bars[bars["contract"] == ""]
    shares = actions.adjust(plain, events, dict.fromkeys(events["symbol"], "all")).assign(offset=0.0)
    columns: dict[str, Any] = {}
    for symbol, rows in pd.concat([contracts, shares], ignore_index=True).groupby("symbol"):
        before = (rows["close"] - rows["offset"]).shift()
        growth = (1 + rows["close"].diff() / before).fillna(1.0).cumprod()
        by_date = pd.Series(growth.to_numpy(), index=rows["ts"].dt.date).groupby(level=0).last()
        earlier, within = by_date[by_date.index < first], by_date[by_date.index >= first]
        if len(earlier) and len(within):
            columns[str(symbol)] = within / earlier.iloc[-1]
    return pd.DataFrame(columns).sort_index().ffill().fillna(1.0)


def _traded(hub: Hub, settings: Settings, symbols: list[str], after: datetime, until: datetime) -> pd.DataFrame:
    """The bars of the markets that are traded, by symbol, contract and ts."""
    base, markets = settings.timeframes.base, ("spot", "futures")
    parts = [
        stored.window(hub, chosen, market, base, after=after, until=until, known_at=None)
        for market in markets
        if (chosen := [s for s in symbols if settings.instruments[s].trade_market == market])
    ]
    return pd.concat(parts, ignore_index=True) if parts else Bars.empty()
