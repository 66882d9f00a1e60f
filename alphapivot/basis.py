"""
What a future costs over spot, and what that is a year. Pure; the caller brings both prices of one common instant.

``alphapivot.beside.join`` finds the two prices of an instant; where a market has none then, there is no basis: a close
at 16:00 in New York beside one at 16:00 in Chicago would measure the hour between them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

Column = npt.NDArray[np.float64]
YEAR = np.timedelta64(365 * 24 * 3600 + 6 * 3600, "s")  # 365.25 days
REASONS = ("no spot at this instant", "no future at this instant", "a price is not positive", "no expiry", "expired")


def measure(
    ts: npt.NDArray[np.datetime64],
    spot: Column,
    future: Column,
    expiry: npt.NDArray[np.datetime64] | None = None,
    *,
    scale: float = 1.0,
) -> pd.DataFrame:
    """
    One row for each instant: ``basis``, ``carry`` and ``reason``.

    ``spot`` and ``future``: raw prices at ``ts``, NaN where there is none at that very instant. ``scale``: units of the
    underlying in one of spot, where a fund stands for it (10 for SPY beside the S&P 500). ``expiry``: the front
    contract's last trade, NaT where unknown.

    basis = future - scale x spot, in the future's quoted units. carry = ln(future / (scale x spot)) / years to expiry,
    continuously compounded: financing less yield (Hull, Options, Futures and Other Derivatives, ch. 5). What cannot be
    known is NaN, and ``reason`` says why (one of REASONS; "" where both are known). With less than a day to go carry is
    noise over nearly nothing: "expired".
    """
    cash = spot * scale
    ends = np.full(ts.shape, np.datetime64("NaT"), ts.dtype) if expiry is None else expiry
    years = (ends - ts) / YEAR
    days_left = ~(years < np.timedelta64(1, "D") / YEAR)
    with np.errstate(divide="ignore", invalid="ignore"):
        carry = np.log(future / cash) / years
    positive = (cash > 0) & (future > 0)
    no_spot, no_future = np.isnan(cash), np.isnan(future)
    reason = np.select([no_spot, no_future, ~positive, np.isnat(ends), ~days_left], REASONS, default="")
    return pd.DataFrame(
        {
            "basis": future - cash,
            "carry": np.where(reason == "", carry, np.nan),
            "reason": pd.array(reason, dtype="str"),
        }
    )
