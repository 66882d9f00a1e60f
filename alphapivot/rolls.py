"""
Which futures contract is the front one, and prices that join the contracts without a jump. Pure.

A roll is decided on one session's data and holds for the bars after it: by open interest, or by volume on a day for
which open interest is not known. It never goes back. adjusted = raw + offset is anchored at the first contract, so that
no later roll changes a price that was seen before it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.errors import DataError
from alphapivot.frames import PRICES, Bars, Rolls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

MONTHS = "FGHJKMNQUVXZ"  # the exchanges' letters for January to December
BEGINNING = pd.Timestamp("1970-01-01", tz="UTC")
Floats = npt.NDArray[np.float64]


def expiry_month(contract: str, listed: datetime) -> int:
    """
    The month that a contract's id (``SP500-2026H``, ``ESZ3``, ``ESZ23``, ``ES_201312``) names: 12 * year + month - 1.

    A year of one or two digits is the first such year whose month is not over when the contract is ``listed`` (its
    first bar). Raises DataError for an id that names no month.
    """
    if found := re.search(rf"(\d{{4}})([{MONTHS}])$", contract):
        return int(found[1]) * 12 + MONTHS.index(found[2])
    if found := re.search(r"(?<!\d)(\d{4})(0[1-9]|1[0-2])(\d{2})?$", contract):
        return int(found[1]) * 12 + int(found[2]) - 1
    if found := re.search(rf"([{MONTHS}])(\d{{1,2}}|\d{{4}})$", contract):
        month, year, century = MONTHS.index(found[1]), int(found[2]), 10 ** len(found[2])
        now = listed.year * 12 + listed.month - 1
        year += (listed.year // century) * century if century < 10_000 else 0
        return (year if year * 12 + month >= now else year + century) * 12 + month
    raise DataError(
        f"contract {contract!r} names no month; expected an id such as SP500-2026H, ESZ3, ESZ23 or ES_201312"
    )


def decide(bars: pd.DataFrame, last: pd.DataFrame) -> pd.DataFrame:
    """
    The rolls that ``bars`` decide after those in ``last``: new rows of Rolls, sorted by (symbol, ts).

    ``bars``: daily Bars of all futures contracts (resample intraday ones first; others than 1d are an error). ``last``:
    the rolls so far, or each symbol's newest, or none: then the contract that leads on a symbol's first session is its
    first, at offset 0, from 1970 on. On a session the front contract gives way to the later one that has most open
    interest (or volume), if that is more than its own and both have a close, which makes the spread.
    """
    futures = bars[bars["contract"] != ""]
    if wrong := set(futures["interval"]) - {"1d"}:
        raise DataError(f"rolls are decided from daily bars, got {', '.join(sorted(wrong))}; resample them to 1d first")
    found = [row for symbol, part in futures.groupby("symbol") for row in _decide_one(str(symbol), part, last)]
    types = {c: "datetime64[us, UTC]" if c == "ts" else "str" for c in ("symbol", "ts", "contract", "previous")}
    return pd.DataFrame(found, columns=Rolls.columns()).astype(types | {"spread": float, "offset": float})


def _decide_one(
    symbol: str, bars: pd.DataFrame, last: pd.DataFrame
) -> Iterator[tuple[str, pd.Timestamp, str, str, float, float]]:
    listed = bars.groupby("contract")["ts"].min()
    contracts = sorted(listed.index, key=lambda c: (expiry_month(c, listed[c]), c))
    # pivot refuses two bars of one contract and session; pivot_table would take their mean
    close, volume, interest = (
        bars.pivot(index="ts", columns="contract", values=v)[contracts].to_numpy(float)  # noqa: PD010
        for v in ("close", "volume", "open_interest")
    )
    sessions = pd.DatetimeIndex(bars["ts"].unique()).sort_values()
    before = last[last["symbol"] == symbol].sort_values("ts")
    if before.empty:
        front = _leader(close[0], volume[0], interest[0])
        offset, t = 0.0, 0
        yield symbol, BEGINNING, contracts[front], "", 0.0, 0.0
    else:
        newest = before.iloc[-1]
        if newest["contract"] not in contracts:
            return
        front, offset = contracts.index(newest["contract"]), float(newest["offset"])
        t = int(sessions.searchsorted(newest["ts"], "right"))
    while front + 1 < len(contracts):
        # a row for each session from t on, a column for each later contract that closed together with the front one
        both = np.where(np.isnan(close[t:, [front]]), np.nan, close[t:, front + 1 :])
        known = ~np.isnan(interest[t:, front]) & (~np.isnan(interest[t:, front + 1 :]) & ~np.isnan(both)).any(axis=1)
        measure = np.where(known[:, None], interest[t:], volume[t:])
        later = np.where(np.isnan(both) | np.isnan(measure[:, front + 1 :]), -np.inf, measure[:, front + 1 :])
        leads = later.max(axis=1) > measure[:, front]
        if not leads.any():
            return
        day = int(leads.argmax())
        following = front + 1 + int(later[day].argmax())
        t += day
        spread = float(close[t, following] - close[t, front])
        offset -= spread
        yield symbol, sessions[t], contracts[following], contracts[front], spread, offset
        front, t = following, t + 1


def _leader(close: Floats, volume: Floats, interest: Floats) -> int:
    """The contract with most open interest, or volume, among those with a close; the nearest where neither is known."""
    traded = ~np.isnan(close)
    for measure in (interest, volume):
        if (traded & ~np.isnan(measure)).any():
            return int(np.where(traded & ~np.isnan(measure), measure, -np.inf).argmax())
    return int(traded.argmax())


def adjust(bars: pd.DataFrame, rolls: pd.DataFrame) -> pd.DataFrame:
    """
    Bars of what was the front contract at their time, prices adjusted, and the ``offset``: adjusted = raw + offset.

    Spot, and a vendor's continuous ticker (no contract), pass as they are with offset 0. Any interval; sorted by
    (symbol, market, interval, ts). A bar of a contract that is not the front one is not part of the answer, nor are a
    symbol's contracts where no roll was decided. Columns: those of Bars and offset; prices may be negative.
    """
    order = ["symbol", "market", "interval", "ts"]
    if not (bars["contract"] != "").any():
        return bars.assign(offset=0.0).sort_values(order, ignore_index=True)
    front = rolls[["symbol", "ts", "contract", "offset"]].rename(columns={"contract": "front"}).sort_values("ts")
    # a roll holds for the bars after it, not for the one that decided it
    joined = pd.merge_asof(bars.sort_values("ts"), front, on="ts", by="symbol", allow_exact_matches=False)
    alone = joined["contract"] == ""
    kept = joined[alone | (joined["contract"] == joined["front"])]
    offset = kept["offset"].where(kept["contract"] != "", 0.0)
    adjusted = kept.assign(offset=offset, **{p: kept[p] + offset for p in PRICES})[[*Bars.columns(), "offset"]]
    return adjusted.sort_values(order, ignore_index=True)
