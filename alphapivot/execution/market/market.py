"""What one run sees of the market: bars of all that it trades, holds or converts with, rolls, fronts, rates, quotes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.brokers.base import Event, Replaying
from alphapivot.errors import ConfigError
from alphapivot.execution.book import positions_now
from alphapivot.execution.market import quotes
from alphapivot.execution.market.source import Asked

if TYPE_CHECKING:
    from alphapivot.execution.decide.facts import Quote
    from alphapivot.execution.run.session import Session


def read(session: Session) -> pd.DataFrame:
    """
    Bars, each with its ``start``, of all that is decided about, held or converts a currency; where a broker replays
    bars, of what rests or is held there, from the last one on that it has seen. The session gets the rolls, and the
    splits and dividends, that belong to what is decided about.
    """
    after = since = _after(session)
    traded = {symbol: session.instruments[symbol].trade_market for symbol in session.attended}
    stocks = {symbol for symbol, market in traded.items() if market == "spot"}
    wanted: dict[str, set[str]] = {"spot": set(), "futures": set()}
    if isinstance(session.broker, Replaying):
        watched = session.broker.watching()
        gone = sorted({key[0] for key in watched} - set(session.instruments))
        if gone:
            raise ConfigError(
                f"book {session.book!r} holds {', '.join(gone)}, but config.ini has no [instrument.*] for them"
            )
        for symbol, market, _ in watched:
            wanted[market].add(symbol)
        since = min([session.run.as_of, *watched.values()]) - timedelta(microseconds=1)
    else:  # there an entry may fill before the run is over
        for symbol, market in traded.items():
            wanted[market].add(symbol)
    pairs = {s for s in _pairs(session) if session.instruments[s].spot is not None}
    session.rolls = session.source.rolls(session.attended)
    session.actions = session.source.actions(wanted["spot"] | stocks | pairs, min(after, since))
    bars = session.source.bars({**wanted, "spot": wanted["spot"] - pairs}, since)
    if not pairs:
        return bars
    rates = session.source.bars({"spot": pairs}, min(after, since))
    return pd.concat([bars, rates], ignore_index=True) if len(bars) else rates


def events(actions: pd.DataFrame, held: Collection[str]) -> list[Event]:
    """The splits and dividends of what is ``held``, as accounts book them."""
    mine = actions[actions["symbol"].isin(list(held))]
    return [
        Event((str(symbol), "spot", ""), kind, ts.to_pydatetime(), Decimal(repr(value)))
        for symbol, kind, ts, value in mine[["symbol", "kind", "ts", "value"]].itertuples(index=False)
    ]


def rates(session: Session, bars: pd.DataFrame, fx: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """currency -> the account's for one unit of it: as ``fx`` says, or from the pairs among the bars."""
    home = session.home
    currencies = sorted({i.currency for i in session.instruments.values()})
    found = quotes.rates(
        bars,
        currencies,
        home,
        as_of=session.run.as_of,
        interval=session.interval,
        instruments=session.instruments,
        max_age=session.settings.execution.max_score_age,
    )
    return {**found, **fx}


def priced(session: Session) -> tuple[Mapping[str, str], Mapping[str, Quote]]:
    """symbol -> its front contract, and the last close of that with what a size and a stop stand on."""
    if session.rolls is None or session.actions is None:
        raise RuntimeError("the market is priced before it was read")
    if session.priced is None:
        fronts = quotes.fronts(session.rolls, session.instruments, session.run.as_of)
        bars, after = _volatility_bars(session), _after(session)
        asked = Asked(fronts, after, bars, positions_now.bars_a_year(session) if bars else None)
        events = session.actions[session.actions["ts"] >= after]
        session.priced = fronts, session.source.quotes(session.attended, asked, session.rolls, events)
    return session.priced


def _after(session: Session) -> datetime:
    """From where on bars are behind an ATR and a volatility."""
    needed = max(session.settings.execution.atr, _volatility_bars(session) // quotes.SMOOTHING + 1)
    return session.run.as_of - quotes.lookback(session.interval, needed)


def _volatility_bars(session: Session) -> int:
    sizing = session.settings.sizing
    return 0 if sizing.target_volatility is None else sizing.volatility_bars


def _pairs(session: Session) -> list[str]:
    """Instruments that convert a traded currency into the account's."""
    home = session.home
    foreign = {i.currency for i in session.instruments.values()} - {home}
    return sorted({p for c in foreign for p in (c + home, home + c)} & set(session.instruments))
