"""What one run sees of the market: bars of all that it trades, holds or converts with, rolls, fronts, rates, quotes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd

from alphapivot.brokers.base import Replaying
from alphapivot.errors import ConfigError
from alphapivot.execution import quotes, standing
from alphapivot.execution.facts import Quote

if TYPE_CHECKING:
    from alphapivot.execution.session import Session


def read(session: Session) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Bars, each with its ``start``, of all that is decided about, held or converts a currency, as far back as ATR and
    replay need; and the rolls.
    """
    as_of = session.run.as_of
    needed = max(session.settings.execution.atr, _volatility_bars(session) // quotes.SMOOTHING + 1)
    after = as_of - quotes.lookback(session.interval, needed)
    watched: dict[Any, datetime] = {}
    if isinstance(session.broker, Replaying):
        watched = session.broker.watching()
        gone = sorted({key[0] for key in watched} - set(session.instruments))
        if gone:
            raise ConfigError(
                f"book {session.book!r} holds {', '.join(gone)}, but config.ini has no [instrument.*] for them"
            )
        after = min([after, *watched.values()])
    wanted: dict[str, set[str]] = {"spot": set(), "futures": set()}
    for symbol in session.attended:
        wanted[session.instruments[symbol].trade_market].add(symbol)
    for symbol, market, _ in watched:
        wanted[market].add(symbol)
    wanted["spot"] |= {s for s in _pairs(session) if session.instruments[s].spot is not None}
    return session.source.bars(wanted, after), session.source.rolls(session.attended)


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


def priced(session: Session, bars: pd.DataFrame, rolls: pd.DataFrame, fronts: Mapping[str, str]) -> dict[str, Quote]:
    """symbol -> the last close of its front contract, with what its size and its stop stand on."""
    traded = bars["symbol"].map({s: i.trade_market for s, i in session.instruments.items()})
    return quotes.quotes(
        bars[bars["market"] == traded],
        rolls,
        fronts,
        session.instruments,
        interval=session.interval,
        atr=session.settings.execution.atr,
        as_of=session.run.as_of,
        known_at=session.run.known_at,
        volatility_bars=_volatility_bars(session),
        a_year=standing.bars_a_year(session) if _volatility_bars(session) else None,
    )


def _volatility_bars(session: Session) -> int:
    sizing = session.settings.sizing
    return 0 if sizing.target_volatility is None else sizing.volatility_bars


def _pairs(session: Session) -> list[str]:
    """Instruments that convert a traded currency into the account's."""
    home = session.home
    foreign = {i.currency for i in session.instruments.values()} - {home}
    return sorted({p for c in foreign for p in (c + home, home + c)} & set(session.instruments))
