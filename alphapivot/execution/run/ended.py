"""
Positions of a simulated account in markets that have ended: futures settle in cash at their last price, shares leave at
the terms of their merger or delisting, or else at their last price with a haircut. A real broker settles by itself, and
what it reports is what happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy import text

from alphapivot.brokers.base import Ended, Event, Key, Replaying
from alphapivot.calendar import bar_ends
from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.data import market_ends
from alphapivot.data.series import life
from alphapivot.execution.market import quotes
from alphapivot.execution.market.source import Stored
from alphapivot.frames import ENDINGS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pandas as pd

    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.execution.run.session import Session

AT_WORK = """
    SELECT EXISTS (SELECT FROM unnest(CAST(:symbols AS text[]), CAST(:markets AS text[])) AS i (symbol, market)
                   JOIN market.bar b ON (b.symbol, b.market) = (i.symbol, i.market)
                   WHERE b.interval = :interval AND b.ts > :since AND b.ts <= :as_of)
"""


def close_out(session: Session) -> None:
    """Closes positions in markets that have ended, and says so."""
    broker = session.broker
    if not isinstance(broker, Replaying):
        return
    watched = broker.watching()
    paid = {key: event for key, last in watched.items() if (event := _event(session, key, last)) is not None}
    ends = {key: end for key, last in watched.items() if (end := end_of(session, key, last, paid.get(key))) is not None}
    terms = {key: event.value for key, event in paid.items()}
    prices = broker.close_out({key: how for key, (how, _) in ends.items()}, session.run.as_of, terms) if ends else {}
    lines = []
    for (symbol, market, contract), price in prices.items():
        how, why = ends[symbol, market, contract]
        what = f"{symbol} {contract}".rstrip()
        done = "closed" if how in ENDINGS else how
        lines.append(("ended", symbol, None, f"{what} {why}: its position was {done} at {price:f}"))
    if lines:
        with session.hub.engine.begin() as conn:
            session.note(conn, lines)
        session.tell(*(message for *_, message in lines))


def _event(session: Session, key: Key, last: datetime) -> Event | None:
    """The merger or delisting that has ended a share since its newest bar, which ends at ``last``."""
    ends = (e for e in session.events if e.key == key and e.kind in ENDINGS and last <= e.ts <= session.run.as_of)
    return min(ends, key=lambda e: e.ts, default=None)


def end_of(session: Session, key: Key, last: datetime, event: Event | None = None) -> tuple[Ended, str] | None:
    """
    How the market has ended by now, and why; None if it has not. ``last``: the end of its newest bar; ``event``: what
    has ended it. Reads the bars and rolls of the session.
    """
    symbol, market, contract = key
    instrument = session.instruments[symbol]
    if event is not None and event.kind in ENDINGS:
        return cast("Ended", event.kind), f"ended by a {event.kind} on {event.ts:%Y-%m-%d}, {event.value:f} a share"
    if market == "futures":
        if bar_ends.naive(last) >= market_ends.last_trade(instrument, contract, last):
            return "settled", f"had its last trading session, to {last:%Y-%m-%d %H:%M} UTC"
        if contract and _left_behind(session, key, last):
            return "settled", f"has no bar since {last:%Y-%m-%d %H:%M} UTC, and the next contract has one"
    if session.run.as_of >= life.span(instrument, instrument.trade_market)[1]:
        return "settled", f"has had its last session, [instrument.{symbol}] until = {instrument.until}"
    how, quiet = _silent(session, key, last)
    if how is None or (isinstance(session.source, Stored) and not _at_work(session, instrument)):
        return None  # a backtest knows all bars; live, they may be late
    return how, f"has no bar since {last:%Y-%m-%d %H:%M} UTC, {quiet} sessions ago"


def silent(session: Session, seen: Mapping[Key, datetime]) -> dict[str, str]:
    """symbol -> why its position in ``seen`` can neither be left nor closed out: its whole feed is silent."""
    reasons = {}
    for (symbol, market, contract), last in seen.items():
        if _silent(session, (symbol, market, contract), last)[0] is not None:
            reasons[symbol] = (
                f"{market} {contract}".rstrip() + f" is held and has no bar since {last:%Y-%m-%d %H:%M} UTC, and"
                " nothing else of its feed has: neither its stop nor an exit can fill; bring its bars"
                " (`alphapivot ingest --from DAY`)"
            )
    return reasons


def _silent(session: Session, key: Key, last: datetime) -> tuple[Ended | None, int]:
    """How a market ends that has had no bar for as long as [broker.*] says, or None; and for how many sessions."""
    symbol, market, _ = key
    instrument, settings = session.instruments[symbol], session.settings
    broker = settings.brokers[settings.execution.broker]
    feed = settings.feeds.get(settings.feed_of(instrument))
    if not isinstance(broker, PaperBroker) or (feed is not None and feed.simulated):
        return None, 0  # a simulated market ends for all at once, and its time with it
    quiet = _quiet(session, instrument, last)
    if market == "futures":
        return ("settled" if quiet >= broker.settle_after else None), quiet
    return ("delisted" if quiet >= broker.delist_after else None), quiet


def _left_behind(session: Session, key: Key, last: datetime) -> bool:
    """True if the contract was rolled, and the front contract has a later bar."""
    bars, rolled = session.bars, session.rolls
    if bars is None or rolled is None:
        return False
    symbol, market, contract = key
    front = quotes.fronts(rolled, session.instruments, session.run.as_of).get(symbol, contract)
    return front != contract and bool(_of(bars, symbol, market, front)["ts"].gt(last).any())


def _of(bars: pd.DataFrame, symbol: str, market: str, contract: str) -> pd.DataFrame:
    return bars[(bars["symbol"] == symbol) & (bars["market"] == market) & (bars["contract"] == contract)]


def _quiet(session: Session, instrument: Instrument, last: datetime) -> int:
    """The number of sessions without a bar since ``last``; 0 while fewer than two bars are missing."""
    as_of = session.run.as_of
    before, now = market_ends.sessions(instrument.trading_hours, bar_ends.naive([last, as_of]))
    if now == before:
        return 0
    missing = quotes.ages({instrument.symbol: last}, as_of, session.interval, session.instruments)
    return int(now - before) if missing[instrument.symbol] >= market_ends.BARS else 0


def _at_work(session: Session, instrument: Instrument) -> bool:
    """True if the instrument's feed brings bars of any market that is traded; else the feed is silent."""
    settings, as_of = session.settings, session.run.as_of
    name = settings.feed_of(instrument)
    same = [i for i in settings.instruments.values() if settings.feed_of(i) == name]
    parameters = {
        "symbols": [i.symbol for i in same],
        "markets": [i.trade_market for i in same],
        "interval": session.interval,
        "since": as_of - market_ends.recent(session.interval),
        "as_of": as_of,
    }
    with session.hub.engine.connect() as conn:
        return bool(conn.execute(text(AT_WORK), parameters).scalar_one())
