"""
Run by bench/_peers.py in its own environment: the trades of a backtest of ours in zipline-reloaded.

It has no brackets: a market order, a stop and a limit order are sent together, and the one that is left is cancelled on
the day after. On daily bars it fills at the next close, and stops and limits by closes alone.
"""

import os
import resource
import sys
import tempfile
import time

import numpy as np
import pandas as pd

os.environ["ZIPLINE_ROOT"] = tempfile.mkdtemp()  # before the import, which reads it

from zipline import run_algorithm
from zipline.api import cancel_order, get_open_orders, get_order, order, set_commission, set_slippage, symbol
from zipline.data import bundles
from zipline.finance.commission import PerDollar
from zipline.finance.execution import LimitOrder, StopOrder
from zipline.finance.order import ORDER_STATUS
from zipline.finance.slippage import NoSlippage
from zipline.utils.calendar_utils import get_calendar


def bundle(q, sessions):
    """Writes the bars as zipline keeps them, as its own ``zipline ingest`` does."""
    names = [f"S{s:04}" for s in range(q["close"].shape[1])]

    def frames():
        for s in range(len(names)):
            columns = {c: q[c][:, s] for c in ("open", "high", "low", "close")}
            yield s, pd.DataFrame({**columns, "volume": 1e6}, index=sessions).dropna()

    def ingest(_environ, asset_db_writer, _minutes, daily_bar_writer, adjustment_writer, *_):
        daily_bar_writer.write(frames(), assets=set(range(len(names))))
        equities = pd.DataFrame(
            {"symbol": names, "asset_name": names, "start_date": sessions[0], "end_date": sessions[-1], "exchange": "X"}
        )
        equities["auto_close_date"] = sessions[-1] + pd.Timedelta(days=1)
        exchanges = pd.DataFrame({"exchange": ["X"], "canonical_name": ["X"], "country_code": ["US"]})
        asset_db_writer.write(equities=equities, exchanges=exchanges)
        adjustment_writer.write()

    bundles.register("bench", ingest, calendar_name="XNYS", start_session=sessions[0], end_session=sessions[-1])
    bundles.ingest("bench", show_progress=False)


def main(inputs, outputs):  # noqa: C901 - the algorithm's functions share what was decided
    with np.load(inputs) as arrays:
        q = dict(arrays)
    days = pd.DatetimeIndex(pd.to_datetime(q["ts"], unit="us")).normalize()
    calendar = get_calendar("XNYS")
    sessions = calendar.sessions_in_range(days[0], days[-1])
    if len(sessions) != len(days):
        raise SystemExit(f"{len(days)} bars in {len(sessions)} sessions of XNYS")
    bundle(q, sessions)
    enter, leave = {}, {}
    for n, (at, left) in enumerate(zip(q["at"].tolist(), q["leave"].tolist(), strict=True)):
        enter.setdefault(at, []).append(n)
        leave.setdefault(left, []).append(n)

    def initialize(context):
        set_commission(PerDollar(float(q["fee"])))
        set_slippage(NoSlippage())
        context.number, context.resting, context.sent = 0, [], 0

    def handle_data(context, data):
        at, kept = context.number, []
        context.number += 1
        for asset, pair in context.resting:
            still = [i for i in pair if get_order(i).status == ORDER_STATUS.OPEN]
            if len(still) == len(pair):
                kept.append((asset, pair))
                continue
            for i in still:
                cancel_order(i)
        context.resting = kept
        for n in leave.get(at, ()):
            asset = symbol(f"S{q['symbol'][n]:04}")
            for resting in get_open_orders(asset):
                cancel_order(resting)
            order(asset, -int(context.portfolio.positions[asset].amount))
        for n in enter.get(at, ()):
            asset, signed = symbol(f"S{q['symbol'][n]:04}"), int(q["way"][n] * q["qty"][n])
            if not data.can_trade(asset):
                continue
            order(asset, signed)
            context.sent += 1
            pair = [order(asset, -signed, style=StopOrder(float(q["stop"][n])))]
            if not np.isnan(q["target"][n]):
                pair.append(order(asset, -signed, style=LimitOrder(float(q["target"][n]))))
            context.resting.append((asset, pair))
        context.trades = context.sent

    sent = []
    begun = time.perf_counter()
    run_algorithm(
        start=sessions[0], end=sessions[-1], initialize=initialize, handle_data=handle_data, bundle="bench",
        capital_base=float(q["cash"]), data_frequency="daily", trading_calendar=calendar,
        analyze=lambda context, _results: sent.append(context.trades),
        benchmark_returns=pd.Series(0.0, index=sessions),
    )  # fmt: skip
    ended = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(outputs, seconds=ended - begun, trades=sent[0], memory=memory)


if __name__ == "__main__":
    main(*sys.argv[1:])
