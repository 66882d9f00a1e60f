"""Moves stops between decisions: on each completed bar, as [exit] says, only ever towards the price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import RowMapping

from alphapivot.execution.book import positions_now
from alphapivot.execution.decide.lifecycle import better_stop
from alphapivot.execution.market import market
from alphapivot.execution.run.gather import open_trades

if TYPE_CHECKING:
    from alphapivot.execution.run.session import Session


def trail(session: Session, rows: Sequence[RowMapping]) -> bool:
    """Moves the stops of the open trades ``rows`` if a completed bar allows it; returns True if any moved."""
    exits, execution = session.settings.exit, session.settings.execution
    if not exits.moves_stop:
        return False
    _, priced = market.priced(session)
    moved, lines = {}, []
    for trade in open_trades(session, [t for t in rows if not t["rolled"]]):
        quote = priced.get(trade.symbol)
        usable = quote is not None and quote.contract == trade.contract and quote.age <= execution.max_score_age
        if quote is None or not usable or trade.exiting:
            continue
        amendment = better_stop(trade, quote, tick=session.instruments[trade.symbol].tick, exits=exits)
        if amendment is not None:
            reason, stop = amendment
            moved[trade.trade_id] = stop
            lines.append(("amended", trade.symbol, None, f"trade {trade.trade_id}: stop to {stop:f}, {reason}"))
    with session.hub.engine.begin() as conn:
        positions_now.move_stops(conn, moved)
        session.note(conn, lines)
    return bool(moved)
