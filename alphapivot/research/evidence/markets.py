"""
Price files for evidence: a folder of CSV files is one set of markets, read into bars with what pillars see beside them.

Two layouts are read, told by their header; another file is named and left out:

- futures as pysystemtrade keeps them: a date, PRICE, CARRY and FORWARD of three contracts, and their ids YYYYMM00;
- Date, Open, High, Low, Close and perhaps Volume, of a share or an index.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pillars.base import BESIDE

LEGS = ("PRICE", "CARRY", "FORWARD")
CLOSED = pd.Timedelta(hours=21)  # files have dates: a day's last price is known by then
FEWEST = 750  # bars; below it a market has no history to speak of


def sets(folder: Path) -> list[Path]:
    """The folders under ``folder`` (itself included) that hold CSV files, sorted."""
    return sorted({path.parent for path in folder.rglob("*.csv")})


def read(folder: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """
    (daily bars of the folder's markets, why other files are left out).

    Columns: symbol, interval, ts, open to open_interest, offset (futures are back-adjusted, anchored at the first
    contract), those of BESIDE, and rolled_today: True where the front contract is another than the day before.
    """
    frames: list[pd.DataFrame] = []
    left_out: dict[str, str] = {}
    files = sorted(folder.glob("*.csv"))
    several = len(files) > 1  # a file alone bears its folder's name
    for path in files:
        table = pd.read_csv(path)
        names = {str(name).lower(): name for name in table.columns}
        day = next((names[name] for name in ("date", "datetime") if name in names), None)
        if day is None:
            left_out[path.name] = "no column Date or DATETIME"
            continue
        dates = pd.to_datetime(table[day], format="mixed").dt.normalize()
        table = table.assign(day=dates).drop_duplicates("day", keep="last").set_index("day").sort_index()
        if {*LEGS, "PRICE_CONTRACT"} <= {*table.columns}:
            made = _futures(table[table["PRICE"].notna()])
        elif {"open", "high", "low", "close"} <= {*names}:
            made = _spot(table.rename(columns={names[n]: n for n in names if n != "day"}))
        else:
            left_out[path.name] = f"columns {', '.join(map(str, table.columns[:6]))}"
            continue
        if len(made) < FEWEST:
            left_out[path.name] = f"{len(made)} days; at least {FEWEST} are needed"
            continue
        frames.append(made.assign(symbol=path.stem.removesuffix("_multiple_prices") if several else folder.name))
    if not frames:
        return pd.DataFrame(), left_out
    bars = pd.concat(frames).reset_index(names="day")
    bars["ts"] = (bars["day"].dt.tz_localize("UTC") + CLOSED).dt.as_unit("us")
    bars = bars.assign(interval="1d", market="", contract="", source="files")
    return bars.drop(columns="day").sort_values(["symbol", "ts"], ignore_index=True), left_out


def _futures(table: pd.DataFrame) -> pd.DataFrame:
    price, contract = table["PRICE"], table["PRICE_CONTRACT"]
    rolled = (contract != contract.shift()) & contract.shift().notna()
    # on a roll a position earned the new contract's change: yesterday's price of it is the forward's, or the carry's
    former = pd.Series(np.nan, table.index)
    for leg in ("CARRY", "FORWARD"):
        same = table[f"{leg}_CONTRACT"].shift() == contract
        former = former.where(~same, table[leg].shift())
    change = (price - price.shift().where(~rolled, former)).fillna(0.0)  # without it, the day is left out
    adjusted = price.iloc[0] + change.cumsum()
    months = _months(table["CARRY_CONTRACT"]) - _months(contract)
    known = dict.fromkeys(("open", "high", "low", "volume", "open_interest", *BESIDE), np.nan)
    beside = {"futures_close": price, "other_close": table["CARRY"], "other_months": months.where(months != 0)}
    return pd.DataFrame(
        known | {"close": adjusted, "offset": adjusted - price, "rolled_today": rolled} | beside, index=table.index
    )


def _spot(table: pd.DataFrame) -> pd.DataFrame:
    known = dict.fromkeys(("open_interest", *BESIDE), np.nan) | {"offset": 0.0, "rolled_today": False}
    prices = {name: table[name].astype(float) for name in ("open", "high", "low", "close")}
    volume = table["volume"].astype(float) if "volume" in table else np.nan
    return pd.DataFrame(known | prices | {"volume": volume}, index=table.index).dropna(subset="close")


def _months(ids: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(ids, errors="coerce")
    return numbers // 10000 * 12 + numbers // 100 % 100
