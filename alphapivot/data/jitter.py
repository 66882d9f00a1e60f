"""Vendor noise: a difference from the stored bar that is too small to trade on is not a restatement. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot.frames import PRICES, Bars, looked_up

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.sections.screen import Quality


def settled(
    new: pd.DataFrame, stored: pd.DataFrame, instruments: Mapping[str, Instrument], checks: Mapping[str, Quality]
) -> pd.DataFrame:
    """
    ``new`` Bars, with the stored prices where all four differ by at most ``price_noise`` ticks.

    Volume and open interest are taken from ``new``. Only stored bars of the same source are compared.
    """
    if new.empty or stored.empty or stored["ts"].max() < new["ts"].min():
        return new
    keys = [*Bars.keys(), "source"]
    old = new[keys].merge(stored[[*keys, *PRICES]], on=keys, how="left")[list(PRICES)].to_numpy()
    prices = new[list(PRICES)].to_numpy()
    ticks = {s: float(i.tick) * checks[s].price_noise for s, i in instruments.items()}
    allowed = looked_up(new["symbol"], ticks)[:, None]
    both_missing = np.isnan(old) & np.isnan(prices)
    # floats: the difference of two prices half a tick apart is not exactly half a tick
    near = both_missing | (np.abs(old - prices) <= allowed * (1 + 1e-9) + 1e-12 * np.abs(prices))
    same = near.all(axis=1) & ~np.isnan(old).all(axis=1)
    return new.assign(**{name: np.where(same, old[:, k], prices[:, k]) for k, name in enumerate(PRICES)})
