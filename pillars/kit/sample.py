"""A seeded sample market for the pillar contract, the same on every machine."""

from __future__ import annotations

import numpy as np
import pandas as pd


def sample_bars(history: int, *, symbols: int = 3, seed: int = 11) -> pd.DataFrame:
    """
    Daily Bars of a seeded market, long enough for a pillar of this ``history``: trends, calm and volatile periods; with
    the columns of BESIDE, for a futures market that rolls every 60 bars.
    """
    rng, count, frames = np.random.default_rng(seed), 2 * history + 150, []
    ts = (pd.bdate_range("2010-01-04", periods=count, tz="UTC") + pd.Timedelta(hours=21)).as_unit("us")
    shared = rng.normal(size=count)
    for i in range(symbols):
        regime = np.repeat(rng.normal(0, 0.0006, count // 50 + 1), 50)[:count]
        wild = np.repeat(rng.choice([0.004, 0.01, 0.02], count // 80 + 1), 80)[:count]
        close = 100 * (i + 1) * np.exp(np.cumsum(regime + wild * (0.8 * shared + 0.6 * rng.normal(size=count))))
        open_ = np.append(close[0], close[:-1]) * (1 + 0.3 * wild * rng.normal(size=count))
        wick = np.abs(rng.normal(0, 0.5, (2, count))) * wild * close
        volume = np.round(1e5 * np.exp(rng.normal(0, 0.7, count)))
        interest = np.round(3e5 + np.cumsum(rng.normal(0, 2e3, count)))
        left = 60 - np.arange(count) % 60
        premium = 1 + 0.0002 * left + 0.0005 * np.cumsum(rng.normal(0, 0.5, count))
        frames.append(
            pd.DataFrame(
                {
                    "symbol": f"S{i}",
                    "market": "spot",
                    "contract": "",
                    "interval": "1d",
                    "ts": ts,
                    "open": open_,
                    "high": np.maximum(open_, close) + wick[0],
                    "low": np.minimum(open_, close) - wick[1],
                    "close": close,
                    "volume": volume,
                    "open_interest": interest,
                    "source": "sample",
                    "spot_close": close,
                    "futures_close": close * premium,
                    "futures_volume": volume + np.round(1e4 * rng.random(count)),
                    "total_interest": interest,
                    "front_interest": np.round(interest * np.clip(left / 8, 0.2, 0.95)),
                    "rolled": np.arange(count) // 60 * 60.0,
                    "other_close": close * premium * (1 + 0.02 * np.sin(np.arange(count) / 90 + i)),
                    "other_months": 3.0,
                    "front_months": left / 20,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
