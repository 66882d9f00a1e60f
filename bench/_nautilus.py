"""
Run by bench/_peers.py in its own environment: the trades of a backtest of ours, as brackets in nautilus_trader.

Its strategy looks at every bar and sends what was decided there: a market entry with its stop and target, or the order
that leaves. nautilus fills a market order at the close of the bar that it was sent on, ours at the next open.
"""

import resource
import sys
import time
from decimal import Decimal

import numpy as np
import pandas as pd
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("SIM")


class Decided(Strategy):
    """Sends what was decided at each bar: (instrument, ns of its end) -> (way, quantity, stop, target), or None."""

    def __init__(self, instruments, decisions):
        super().__init__()
        self.instruments, self.decisions = instruments, decisions

    def on_start(self):
        for instrument in self.instruments:
            self.subscribe_bars(BarType.from_str(f"{instrument.id}-1-DAY-LAST-EXTERNAL"))

    def on_bar(self, bar):
        of = bar.bar_type.instrument_id
        decided = self.decisions.get((of.symbol.value, bar.ts_event), ())
        if decided == ():
            return
        if decided is None:
            self.cancel_all_orders(of)
            self.close_all_positions(of)
            return
        way, qty, stop, target = decided
        side = OrderSide.BUY if way > 0 else OrderSide.SELL
        quantity = Quantity.from_int(int(qty))
        price = Price(stop, 2)
        if np.isnan(target):
            self.submit_order(self.order_factory.market(of, side, quantity))
            other = OrderSide.SELL if way > 0 else OrderSide.BUY
            self.submit_order(self.order_factory.stop_market(of, other, quantity, price, reduce_only=True))
            return
        made = self.order_factory.bracket(of, side, quantity, tp_price=Price(target, 2), sl_trigger_price=price)
        self.submit_order_list(made)


def main(inputs, outputs):
    with np.load(inputs) as arrays:
        q = dict(arrays)
    stamps = pd.to_datetime(q["ts"], unit="us", utc=True)
    begun = time.perf_counter()
    quiet = LoggingConfig(bypass_logging=True)
    engine = BacktestEngine(BacktestEngineConfig(logging=quiet, risk_engine=RiskEngineConfig(bypass=True)))
    engine.add_venue(VENUE, OmsType.NETTING, AccountType.MARGIN, [Money(float(q["cash"]), USD)], base_currency=USD)
    instruments, bars, fee = [], [], Decimal(str(q["fee"]))
    for s in range(q["close"].shape[1]):
        there = ~np.isnan(q["close"][:, s])
        if not there.any():
            continue
        name = f"S{s:04}"
        instrument = Equity(
            InstrumentId(Symbol(name), VENUE), Symbol(name), USD, 2, Price(0.01, 2), Quantity.from_int(1), 0, 0,
            margin_init=Decimal("0.1"), margin_maint=Decimal("0.1"), maker_fee=fee, taker_fee=fee,
        )  # fmt: skip
        engine.add_instrument(instrument)
        instruments.append(instrument)
        columns = {c: np.round(q[c][there, s], 2) for c in ("open", "high", "low", "close")}
        frame = pd.DataFrame({**columns, "volume": 1e6}, index=pd.DatetimeIndex(stamps[there], name="timestamp"))
        kind = BarType.from_str(f"{instrument.id}-1-DAY-LAST-EXTERNAL")
        bars += BarDataWrangler(kind, instrument).process(frame)
    engine.add_data(bars)
    nanoseconds, decisions = q["ts"] * 1000, {}
    of_trades = [q[name].tolist() for name in ("symbol", "at", "leave", "way", "qty", "stop", "target")]
    for symbol, at, leave, *decided in zip(*of_trades, strict=True):
        decisions[f"S{symbol:04}", int(nanoseconds[at])] = tuple(decided)
        if leave < len(nanoseconds):
            decisions.setdefault((f"S{symbol:04}", int(nanoseconds[leave])), None)
    engine.add_strategy(Decided(instruments, decisions))
    ready = time.perf_counter()
    engine.run()
    ended = time.perf_counter()
    result, cache = engine.get_result(), engine.cache
    trades = len(cache.positions()) + len(cache.position_snapshots())  # a position that opens again leaves a snapshot
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(
        outputs, seconds=ended - begun, run=ended - ready, trades=trades, orders=result.total_orders,
        memory=memory,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
