"""
Run by bench/_peers.py in its own environment: our fill rules (docs/execution.md) expressed in vectorbt.

Every bar is passed twice: first its open alone, where entries and exits of the last decision fill, then the whole bar,
where stops and targets fill. So the entry bar is protected, and if a bar reaches both levels the stop fills first.
"""

import sys
import time

import numpy as np
import vectorbt as vbt
from vectorbt.portfolio.enums import OppositeEntryMode, StopEntryPrice, StopExitPrice


def twice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([first, second], axis=1).reshape(2 * len(first), -1)


def main(inputs: str, outputs: str) -> None:
    with np.load(inputs) as arrays:
        q = dict(arrays)
    o, h, low, c, size = (q[name] for name in ("open", "high", "low", "close", "size"))
    never = np.zeros(o.shape, bool)
    none = np.full(o.shape, np.nan)
    options = {
        "close": twice(o, c), "open": twice(o, o), "high": twice(o, h), "low": twice(o, low), "price": twice(o, o),
        "entries": twice(q["long"], never), "exits": twice(q["long_exit"], never),
        "short_entries": twice(q["short"], never), "short_exits": twice(q["short_exit"], never),
        "size": twice(size, size), "sl_stop": twice(q["stop"], none), "tp_stop": twice(q["target"], none),
    }  # fmt: skip
    shared = {
        "fees": float(q["fees"]),
        "init_cash": float(q["cash"]),
        "cash_sharing": True,
        "group_by": True,
        "accumulate": False,
        "upon_opposite_entry": OppositeEntryMode.Close,
        "stop_entry_price": StopEntryPrice.Price,
        "stop_exit_price": StopExitPrice.StopLimit,
        "freq": "1D",
    }
    spent = []
    for _ in range(int(q["times"]) + 1):  # the first compiles
        begun = time.perf_counter()
        portfolio = vbt.Portfolio.from_signals(**options, **shared)
        value = portfolio.value().to_numpy()[1::2]
        spent.append(time.perf_counter() - begun)
    records = portfolio.orders.records_arr
    np.savez(outputs, value=value, seconds=min(spent[1:]) if len(spent) > 1 else spent[0], orders=len(records))


if __name__ == "__main__":
    main(*sys.argv[1:])
