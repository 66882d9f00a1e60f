"""The market data of one run: bars of all that it trades, holds or converts with; rolls, fronts, fx rates, quotes."""

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
from alphapivot.execution.market.source import QuoteTerms

if TYPE_CHECKING:
    from alphapivot.execution.decide.facts import Quote
    from alphapivot.execution.run.session import Session


def read(session: Session) -> pd.DataFrame:
    """
    Returns bars, each with its ``start``, of all instruments that are decided about or held, or that convert a
    currency; for a broker that replays bars, of its positions and resting orders, from the last bar that it has seen.
    Also sets the session's rolls, splits and dividends.
    """
    after = since = _after(session)
    traded = {symbol: session.instruments[symbol].trade_market for symbol in session.attended}
    stocks = {symbol for symbol, market in traded.items() if market == "spot"}
    symbols: dict[str, set[str]] = {"spot": set(), "futures": set()}
    if isinstance(session.broker, Replaying):
        watched = session.broker.watching()
        missing = sorted({key[0] for key in watched} - set(session.instruments))
        if missing:
            raise ConfigError(
                f"book {session.book!r} holds {', '.join(missing)}, but config.ini has no [instrument.*] for them:"
                " put the sections back until they are closed"
            )
        for symbol, market, _ in watched:
            symbols[market].add(symbol)
        since = min([session.run.as_of, *watched.values()]) - timedelta(microseconds=1)
    else:  # at a real broker an entry may fill before the run ends
        for symbol, market in traded.items():
            symbols[market].add(symbol)
    pairs = {s for s in _pairs(session) if session.instruments[s].spot is not None}
    session.rolls = session.source.rolls(session.attended)
    session.actions = session.source.actions(symbols["spot"] | stocks | pairs, min(after, since))
    bars = session.source.bars({**symbols, "spot": symbols["spot"] - pairs}, since)
    if not pairs:
        return bars
    rates = session.source.bars({"spot": pairs}, min(after, since))
    return pd.concat([bars, rates], ignore_index=True) if len(bars) else rates


def events(actions: pd.DataFrame, held: Collection[str]) -> list[Event]:
    """The splits and dividends of the symbols ``held``, as accounts book them."""
    rows = actions[actions["symbol"].isin(list(held))]
    return [
        Event((str(symbol), "spot", ""), kind, ts.to_pydatetime(), Decimal(repr(value)))
        for symbol, kind, ts, value in rows[["symbol", "kind", "ts", "value"]].itertuples(index=False)
    ]


def rates(session: Session, bars: pd.DataFrame, fx: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """currency -> account currency per unit: from ``fx``, or else from the currency pairs among the bars."""
    home = session.home
    currencies = sorted({i.currency for i in session.instruments.values()})
    from_pairs = quotes.rates(
        bars,
        currencies,
        home,
        as_of=session.run.as_of,
        interval=session.interval,
        instruments=session.instruments,
        max_age=session.settings.execution.max_score_age,
    )
    return {**from_pairs, **fx}


def priced(session: Session) -> tuple[Mapping[str, str], Mapping[str, Quote]]:
    """(symbol -> its front contract, symbol -> that contract's quote); computed once per session."""
    if session.rolls is None or session.actions is None:
        raise RuntimeError("market.read must run before market.priced")
    if session.priced is None:
        fronts = quotes.fronts(session.rolls, session.instruments, session.run.as_of)
        terms = quote_terms(session, fronts)
        events = session.actions[session.actions["ts"] >= terms.after]
        session.priced = fronts, session.source.quotes(session.attended, terms, session.rolls, events)
    return session.priced


def quote_terms(session: Session, fronts: Mapping[str, str]) -> QuoteTerms:
    """What the quotes of this run depend on. ``fronts``: symbol -> its front contract."""
    bars = _volatility_bars(session)
    return QuoteTerms(fronts, _after(session), bars, positions_now.bars_a_year(session) if bars else None)


def _after(session: Session) -> datetime:
    """The instant from which bars are needed for the ATR and the volatility."""
    needed = quotes.needed(session.settings.execution.atr, session.settings.sizing, session.settings.risk)
    return session.run.as_of - quotes.lookback(session.interval, needed)


def _volatility_bars(session: Session) -> int:
    sizing = session.settings.sizing
    return 0 if sizing.target_volatility is None else sizing.volatility_bars


def _pairs(session: Session) -> list[str]:
    """Instruments that are currency pairs of a traded currency and the account's."""
    home = session.home
    foreign = {i.currency for i in session.instruments.values()} - {home}
    return sorted({p for c in foreign for p in (c + home, home + c)} & set(session.instruments))
