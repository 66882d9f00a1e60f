"""The first lines of reports and backtests: markets never entered, and why, and prices that nobody earns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from sqlalchemy import text

from alphapivot.frames import Bars
from alphapivot.hub.tables import bars as stored
from alphapivot.reports.book import continuous

if TYPE_CHECKING:
    from datetime import datetime

    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

Caution = tuple[str, str, str]  # code, symbol, sentence
LEVELS = {
    "stop_not_a_price": "stop would be at zero or below; lower [execution] stop_atr",
    "target_not_a_price": "target would be at zero or below; lower [execution] reward_to_risk, or off",
}
# no trade ever, and entries that failed because a single lot is too much, or a level is no price
NEVER = """
    SELECT d.symbol, count(*) AS entries, mode() WITHIN GROUP (ORDER BY d.reasons[1]) AS reason
    FROM trading.decision d
    WHERE d.book = :book AND d.as_of <= :until AND d.action = 'DENIED' AND d.reasons && CAST(:codes AS text[])
      AND NOT EXISTS (SELECT FROM trading.trade t
                      WHERE (t.book, t.symbol) = (d.book, d.symbol) AND t.entry_at <= :until)
    GROUP BY d.symbol ORDER BY d.symbol
"""
LOTS = {
    "lot_zero": "[risk] risk_per_trade",
    "max_notional": "[risk] max_notional",
    "max_gap_loss": "[sizing] max_gap_loss",
}


def cautions(hub: Hub, settings: Settings, book: str, *, until: datetime, known_at: datetime | None) -> list[Caution]:
    """The cautions about what ``book`` trades, up to ``until``."""
    with hub.engine.connect() as conn:
        rows = conn.execute(text(NEVER), {"book": book, "until": until, "codes": [*LOTS, *LEVELS]}).all()
    found = [never(row.symbol, row.entries, row.reason) for row in rows]
    return found + unadjusted(hub, settings, Bars.empty(), until=until, known_at=known_at)


def never(symbol: str, entries: int, reason: str) -> Caution:
    """The caution about a market that was never entered. ``reason``: the code of the gate that denied most entries."""
    if reason in LEVELS:
        why = f"their {LEVELS[reason]}"
    else:
        why = f"one lot is more than {LOTS.get(reason, reason)} allows; `alphapivot check` says what would fit"
    return "never_entered", symbol, f"never entered: {entries} entries were denied, as {why}"


def unadjusted(
    hub: Hub, settings: Settings, read: pd.DataFrame, *, until: datetime, known_at: datetime | None
) -> list[Caution]:
    """
    Tradable instruments whose futures have bars and no contracts, with the size of their jumps. ``read``: bars from
    files, which come before those of the hub.
    """
    found: list[Caution] = []
    for symbol, i in sorted(settings.instruments.items()):
        if not i.tradable or i.legs or "futures" not in (i.trade_market, i.signal_market):
            continue
        futures, spot = (
            _closes(hub, settings, symbol, market, read, until=until, known_at=known_at)
            if getattr(i, market) is not None
            else pd.Series(dtype=float)
            for market in ("futures", "spot")
        )
        if futures.empty:
            continue
        size = continuous.jump(futures, spot)
        told = (
            "by an unknown size, as there is no spot price to compare with"
            if size is None
            else (f"by about {size:.1%} of the price, measured against spot")
        )
        sentence = f"{i.futures} has no contracts: unadjusted, it jumps at each roll {told}; no position earns that"
        found.append(("unadjusted", symbol, sentence))
    return found


def _closes(
    hub: Hub,
    settings: Settings,
    symbol: str,
    market: str,
    read: pd.DataFrame,
    **known: Any,
) -> pd.Series[float]:
    """The last close of each day; empty for bars of contracts."""
    bars = read[(read["symbol"] == symbol) & (read["market"] == market)]
    if bars.empty:
        bars = stored.window(hub, [symbol], market, settings.timeframes.base, after=None, **known)
    if bars.empty or (bars["contract"] != "").any():
        return pd.Series(dtype=float)
    ordered = bars.sort_values("ts")
    closes: pd.Series[float] = ordered.groupby((ordered["ts"] - pd.Timedelta("1us")).dt.floor("D"))["close"].last()
    return closes
