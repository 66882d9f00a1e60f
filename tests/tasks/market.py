"""A market of files for the tests of ingestion: instruments with their own keys, and one ingestion at an instant."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from alphapivot import hub, process
from alphapivot.calendar import bar_ends
from alphapivot.frames import Bars
from alphapivot.runs import Receipt
from tasks import ingest, runs

SMALL = (Path(__file__).parents[1] / "configs" / "small.ini").read_text()
TERMS = {"signal_market": "spot", "trade_market": "spot", "currency": "USD", "quote_unit": "1", "multiplier": "1"}
TERMS |= {"tick": "0.01", "lot": "1", "margin": "1", "tradable": "yes", "calendar": "XNYS"}


class Market:
    """The files of a folder and the hub that they are ingested into."""

    def __init__(self, folder: Path, url: str, monkeypatch) -> None:
        self.folder = folder
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", url)

    def configure(self, instruments: dict[str, dict[str, str]], sections: str = "", **feed: str) -> None:
        """Instruments with these keys, and a feed with these; ``sections``: more of config.ini."""
        own = {s: keys if "legs" in keys else {"spot": f"{s}.csv"} | TERMS | keys for s, keys in instruments.items()}
        feed = {"kind": "files", "root": ".", "zone": "America/New_York", "stamp": "date"} | feed
        parts = {"runtime": {"feed": "files"}, "feed.files": feed} | {f"instrument.{s}": k for s, k in own.items()}
        written = [f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) for name, keys in parts.items()]
        config = self.folder / "config.ini"
        config.write_text("\n".join([*written, sections, SMALL[SMALL.index("[timeframes]") :]]))
        self.settings = process.configure(str(config))

    def only(self, feed: str | None) -> None:
        """What `--feed` does for one command; None: the usual feeds again."""
        self.settings = process.configure(str(self.folder / "config.ini"), feed=feed)

    def write(self, symbol: str, prices: pd.DataFrame) -> None:
        prices.to_csv(self.folder / f"{symbol}.csv", index_label="ts")

    def ingest(self, at: str, feed: str = "files") -> Receipt:
        as_of = pd.Timestamp(at, tz="UTC").to_pydatetime()
        run = runs.begin("ingest", self.settings, key=f"{at} {datetime.now()}", as_of=as_of)  # noqa: DTZ005
        return ingest.ingest.fn(run, feed, 0)

    def stored(self, interval: str = "1d", symbol: str = "X") -> pd.DataFrame:
        """Its bars by their end, such as 2024-03-06 21:00."""
        bars = hub.connect().read(Bars)
        bars = bars[(bars["symbol"] == symbol) & (bars["interval"] == interval)].sort_values("ts")
        return bars.set_index(bars["ts"].dt.strftime("%Y-%m-%d %H:%M"))


def open_trade(symbol: str, book: str) -> None:
    """A trade without what led to it."""
    with hub.connect().engine.begin() as conn:
        conn.exec_driver_sql("SET session_replication_role = replica")
        conn.exec_driver_sql(
            "INSERT INTO trading.trade (intent_id, book, strategy, symbol, market, contract, side, state, qty,"
            " reference, stop, target, currency, multiplier, quote_unit, created_at)"
            f" SELECT count(*) + 1, '{book}', 'p', '{symbol}', 'spot', '', 'LONG', 'PENDING', 1, 2, 1, 3, 'USD', 1, 1,"
            " now() FROM trading.trade"
        )
        conn.exec_driver_sql("SET session_replication_role = origin")


def flat(ends: pd.DatetimeIndex, zone: str | None = None, price: float = 100.0) -> pd.DataFrame:
    """Prices that move by cents around ``price``; their index is local time of ``zone``, or the ends' dates."""
    index = ends.tz_convert(zone).strftime("%Y-%m-%d %H:%M") if zone else ends.strftime("%Y-%m-%d")
    step = np.arange(len(ends)) % 7
    close = price + 0.01 * step
    frame = pd.DataFrame({"open": close, "close": close, "volume": 1000.0 + step}, index=index)
    return frame.assign(high=frame["close"] + 0.05, low=frame["close"] - 0.05)


def ends(calendar: str, interval: str, first: str, last: str) -> pd.DatetimeIndex:
    """The calendar's bar ends from ``first`` to ``last`` (UTC)."""
    return bar_ends.bar_ends(calendar, interval, *(pd.Timestamp(t, tz="UTC").to_pydatetime() for t in (first, last)))
