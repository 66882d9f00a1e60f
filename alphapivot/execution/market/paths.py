"""The bars since the entry of each open trade, in today's prices: what chandelier and parabolic stops follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.events import EXACT
from alphapivot.brokers.paper.replay import on_tick
from alphapivot.execution.decide.facts import Path
from alphapivot.execution.market import market

if TYPE_CHECKING:
    import pandas as pd

    from alphapivot.brokers.base import Event
    from alphapivot.execution.run.session import Session

Row = Mapping[Any, Any]


def paths(session: Session, rows: Sequence[Row]) -> dict[int, Path]:
    """
    trade_id -> its path, of the open trades among ``rows`` (as ``ledger.open_trades`` has them); empty unless [exit]
    trail follows one. After a roll the path starts again, with the next contract and the stop carried over.
    """
    held = [t for t in rows if t["state"] == "OPEN" and t["entry_at"] is not None and not t["rolled"]]
    if not session.settings.exit.follows_path or not held:
        return {}
    since = min(t["entry_at"] for t in held)
    wanted = {name: {t["symbol"] for t in held if t["market"] == name} for name in ("spot", "futures")}
    bars = session.source.bars(wanted, since)
    events = market.events(session.source.actions(wanted["spot"], since), wanted["spot"])
    return {t["trade_id"]: _path(t, bars, events, session.instruments[t["symbol"]].tick) for t in held}


def _path(trade: Row, bars: pd.DataFrame, events: Sequence[Event], tick: Decimal) -> Path:
    key = (trade["symbol"], trade["market"], trade["contract"])
    own = bars[(bars["symbol"] == key[0]) & (bars["market"] == key[1]) & (bars["contract"] == key[2])]
    if own.empty:
        return Path(trade["first_stop"], ())
    newest = own["ts"].max()
    # an account books an event with the next bar
    since = [e for e in events if e.key == key and trade["entry_at"] < e.ts < newest and e.kind != "dividend"]
    since.sort(key=lambda e: (e.ts, e.kind != "split"))
    traded = own[["open", "high", "low"]].notna().all(axis=1) & (own["volume"] != 0)
    counted = own[traded & (own["start"] >= trade["entry_at"])].sort_values("ts")
    prices = [
        (_today(on_tick(high, tick, ROUND_FLOOR), since, ts), _today(on_tick(low, tick, ROUND_CEILING), since, ts))
        for ts, high, low in counted[["ts", "high", "low"]].itertuples(index=False)
    ]
    return Path(_today(trade["first_stop"], since, trade["entry_at"]), tuple(prices))


def _today(price: Decimal | None, events: Sequence[Event], at: Any) -> Decimal:
    """A price at ``at`` after the events since: in new shares, less what each share gave away."""
    if price is None:
        raise ValueError("a bar that counts has a high and a low")
    for event in events:
        if event.ts >= at:
            price = (price / event.value).quantize(EXACT) if event.kind == "split" else price - event.value
    return price
