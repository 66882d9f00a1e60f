"""What a finished backtest did, as arrays for other backtesters: its bars, and of each trade what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from psycopg import sql

if TYPE_CHECKING:
    from datetime import datetime

    from alphapivot.hub import Hub

CASH, FEE = 1_000_000.0, 0.0002
BARS = "SELECT symbol, ts, open, high, low, close FROM market.bar WHERE interval = '1d' AND ts > {} AND ts <= {}"
TRADES = """
    SELECT symbol, side, entry_qty::float8 AS qty, stop::float8, target::float8, entry_at, exit_at, close_reason
    FROM trading.trade
    WHERE book = {} AND entry_at IS NOT NULL ORDER BY entry_at, symbol
"""


def of_backtest(hub: Hub, book: str, since: datetime, until: datetime) -> dict[str, Any]:
    """
    ``ts`` (microseconds), ``open``, ``high``, ``low``, ``close`` (bars x symbols; NaN: no bar); of each trade
    ``symbol`` and ``at`` (the column, and the bar that it was decided on), ``leave`` (the bar on which it was decided
    to leave; the number of bars if stop, target or the end came first), ``way``, ``qty``, ``stop`` and ``target``
    (NaN: none).
    """
    bars = hub.query(sql.SQL(BARS).format(since, until))
    wide = bars.pivot_table(index="ts", columns="symbol", values=["open", "high", "low", "close"], dropna=False)
    ts = pd.DatetimeIndex(wide.index).tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
    trades = hub.query(sql.SQL(TRADES).format(book))
    column = {symbol: n for n, symbol in enumerate(wide["close"].columns)}

    def decided(filled: pd.Series) -> Any:
        """The bar before that of the fill."""
        stamps = pd.DatetimeIndex(filled).tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
        return np.searchsorted(ts, stamps) - 1

    by_order = ~trades["close_reason"].fillna("").str.contains("stop|target") & trades["exit_at"].notna()
    leave = np.where(by_order, decided(trades["exit_at"].fillna(trades["entry_at"])), len(ts))
    return {
        "ts": ts,
        **{name: wide[name].to_numpy(np.float64) for name in ("open", "high", "low", "close")},
        "symbol": trades["symbol"].map(column).to_numpy(np.int64),
        "at": decided(trades["entry_at"]),
        "leave": leave,
        "way": np.where(trades["side"] == "LONG", 1, -1),
        **{name: trades[name].to_numpy(np.float64) for name in ("qty", "stop", "target")},
        "cash": CASH,
        "fee": FEE,
    }
