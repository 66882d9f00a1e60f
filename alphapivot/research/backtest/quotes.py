"""
Quotes at any instant of a bar range, from series joined once: the same as ``quotes.quotes`` of a window that ends
there, without copying windows.

adjusted = raw + offset never changes its past, so a series of front contracts can simply be cut off at an instant.
Shares differ: a split changes all earlier prices, so the bars of a symbol with an event are adjusted again at each
instant.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from alphapivot.calendar import bar_ends
from alphapivot.data import rolls
from alphapivot.execution.market import quotes
from alphapivot.execution.market.quotes import Last, Series
from alphapivot.frames import firsts, kept

if TYPE_CHECKING:
    import pandas as pd

    from alphapivot.config.sections.instrument import Instrument

Stamps = npt.NDArray[np.datetime64]


class PriceTape:
    """Bars of the traded markets (``bars``, sorted by symbol, contract and ts within each) and the rolls among them."""

    def __init__(self, bars: pd.DataFrame, rolled: pd.DataFrame, instruments: Mapping[str, Instrument]) -> None:
        traded = bars["symbol"].map({s: i.trade_market for s, i in instruments.items()})
        bars = kept(bars, (bars["market"] == traded).to_numpy())
        self._ts: Stamps = bar_ends.naive(bars["ts"])
        self._close = bars["close"].to_numpy(np.float64)
        self._volume = bars["volume"].to_numpy(np.float64)
        starts = np.flatnonzero(firsts(bars, "symbol", "contract"))
        names = bars[["symbol", "contract"]].iloc[starts].itertuples(index=False, name=None)
        parts = itertools.starmap(slice, itertools.pairwise([*starts.tolist(), len(bars)]))
        self._lines = dict(zip(names, parts, strict=True))
        contracted = (bars["contract"] != "").to_numpy()
        self._plain = dict(quotes.slices(kept(bars, ~contracted)))
        self._joined = dict(quotes.slices(rolls.adjust(kept(bars, contracted), rolled)))

    def last(self, symbol: str, contract: str, after: np.datetime64, until: np.datetime64) -> Last | None:
        """The newest bar in (after, until]; None without one."""
        rows = self._lines.get((symbol, contract))
        if rows is None:
            return None
        at = rows.start + int(np.searchsorted(self._ts[rows], until, "right")) - 1
        if at < rows.start or self._ts[at] <= after:
            return None
        ts: datetime = self._ts[at].astype(datetime).replace(tzinfo=UTC)
        return Last(ts, float(self._close[at]), float(self._volume[at]))

    def series(self, symbol: str, contract: str, after: np.datetime64, until: np.datetime64) -> Series | None:
        """The front contracts' bars in (after, until], joined at rolls; the symbol's bars if it has no contracts."""
        whole = (self._joined if contract else self._plain).get(symbol)
        if whole is None:
            return None
        return whole.part(slice(*np.searchsorted(whole.ts, [after, until], "right")))
