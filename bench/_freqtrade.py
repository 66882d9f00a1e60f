"""
Run by bench/_peers.py in its own environment: the trades of a backtest of ours in freqtrade, of which shorts are taken
as longs with their levels mirrored, as its spot mode knows no shorts.

Its markets come from Binance's server; here they are made, so that nothing is asked for.
"""

import logging
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from freqtrade.configuration import Configuration
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType, RunMode
from freqtrade.optimize.backtesting import Backtesting
from freqtrade.resolvers import ExchangeResolver

STRATEGY = """
import numpy as np
import pandas as pd
from freqtrade.strategy import IStrategy, stoploss_from_absolute

DECIDED = pd.read_pickle("decided.pkl")  # pair -> a row for each bar with a decision


class Decided(IStrategy):
    timeframe = "1d"
    stoploss = -0.99
    minimal_roi = {}
    use_custom_stoploss = True
    process_only_new_candles = True
    startup_candle_count = 0

    def populate_indicators(self, df, metadata):
        return df

    def populate_entry_trend(self, df, metadata):
        rows = DECIDED[DECIDED["pair"] == metadata["pair"]]
        df["enter_long"] = df["date"].isin(rows.loc[rows["enter"], "date"]).astype(int)
        tags = rows[rows["enter"]].drop_duplicates("date").set_index("date")["tag"]
        df["enter_tag"] = df["date"].map(tags)
        return df

    def populate_exit_trend(self, df, metadata):
        rows = DECIDED[(DECIDED["pair"] == metadata["pair"]) & ~DECIDED["enter"]]
        df["exit_long"] = df["date"].isin(rows["date"]).astype(int)
        return df

    def custom_stake_amount(self, pair, current_time, current_rate, *args, entry_tag=None, **kwargs):
        return float(entry_tag.split()[0]) * current_rate

    def custom_stoploss(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
        away = float(trade.enter_tag.split()[1])
        return stoploss_from_absolute(trade.open_rate * (1 - away), current_rate)

    def custom_exit(self, pair, trade, current_time, current_rate, current_profit, **kwargs):
        gain = trade.enter_tag.split()[2]
        return "target" if gain != "nan" and current_rate >= trade.open_rate * (1 + float(gain)) else None
"""


def main(inputs, outputs):
    with np.load(inputs) as arrays:
        q = dict(arrays)
    folder, names = Path.cwd(), [f"S{s:04}/USDT" for s in range(q["close"].shape[1])]
    days = pd.to_datetime(q["ts"], unit="us", utc=True).normalize()  # freqtrade's candles have no gaps of a weekend
    dates = pd.date_range(days[0], periods=len(days), freq="D", tz="UTC")
    (folder / "data").mkdir()
    (folder / "decided.py").write_text(STRATEGY)
    (folder / "user_data").mkdir()  # which the defaults expect
    config = Configuration.from_files([])
    config |= {
        "runmode": RunMode.BACKTEST, "strategy": "Decided", "strategy_path": str(folder), "timeframe": "1d",
        "datadir": folder / "data", "user_data_dir": folder, "dataformat_ohlcv": "feather", "stake_currency": "USDT",
        "exportdirectory": folder, "export": "none",
        "stake_amount": "unlimited", "dry_run_wallet": float(q["cash"]), "max_open_trades": len(names),
        "fee": float(q["fee"]), "exchange": {"name": "binance", "pair_whitelist": names, "key": "", "secret": ""},
        "pairlists": [{"method": "StaticPairList"}], "entry_pricing": {"price_side": "same"},
        "exit_pricing": {"price_side": "same"}, "trading_mode": "spot", "candle_type_def": CandleType.SPOT,
    }  # fmt: skip
    writer = get_datahandler(folder / "data", "feather")
    for s, pair in enumerate(names):
        candles = pd.DataFrame({c: q[c][:, s] for c in ("open", "high", "low", "close")}).ffill().bfill()
        writer.ohlcv_store(pair, "1d", candles.assign(volume=1e9, date=dates)[
            ["date", "open", "high", "low", "close", "volume"]
        ], CandleType.SPOT)  # fmt: skip
    rows = []
    for s, at, leave, qty, stop, target in zip(
        *(q[n].tolist() for n in ("symbol", "at", "leave", "qty", "stop", "target")), strict=True
    ):
        close = q["close"][at, s]
        tag = f"{qty:g} {abs(stop / close - 1):.6g} {abs(target / close - 1):.6g}"
        rows.append((names[s], dates[at], True, tag))
        if leave < len(dates):
            rows.append((names[s], dates[leave], False, ""))
    pd.DataFrame(rows, columns=["pair", "date", "enter", "tag"]).to_pickle(folder / "decided.pkl")
    logging.disable()
    exchange = ExchangeResolver.load_exchange(config, validate=False, load_leverage_tiers=False)
    exchange._markets = {pair: _market(pair) for pair in names}
    exchange._last_markets_refresh = 10**12
    exchange._api.markets = exchange._markets
    begun = time.perf_counter()
    backtesting = Backtesting(config, exchange)
    candles, _ = backtesting.load_bt_data()
    backtesting._set_strategy(backtesting.strategylist[0])
    processed = backtesting.strategy.advise_all_indicators(candles)
    result = backtesting.backtest(processed=processed, start_date=dates[0], end_date=dates[-1])
    ended = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(outputs, seconds=ended - begun, trades=len(result["results"]), memory=memory)


def _market(pair):
    base, quote = pair.split("/")
    return {
        "id": pair.replace("/", ""), "symbol": pair, "base": base, "quote": quote, "active": True, "spot": True,
        "swap": False, "future": False, "linear": None, "contract": False, "contractSize": None, "type": "spot",
        "margin": False, "precision": {"amount": 0.0001, "price": 0.01}, "taker": 0.0002, "maker": 0.0002, "info": {},
        "limits": {"amount": {"min": 0.0001, "max": None}, "cost": {"min": None, "max": None},
                   "price": {"min": None, "max": None}, "leverage": {"min": None, "max": None}},
    }  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
