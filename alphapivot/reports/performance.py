"""
Performance of a book: returns, risk, trades and excursions, from its marks and trades. Pure.

Daily returns: r = (equity - deposits since) / equity of the day before - 1.
Money stays Decimal where it is summed; statistics are floats, None where unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Column = npt.NDArray[np.float64]
MICRO = Decimal("0.000001")
ROLLING = 63  # days, a quarter
LEAST = 5  # fewer daily returns give no ratios


class Definition(NamedTuple):
    """``form``: money, share, ratio, days, count or r (multiples of the initial risk)."""

    group: str
    label: str
    form: str
    text: str


DEFINITIONS: dict[str, Definition] = {
    "net": Definition("Return", "Net result", "money",
        "Change of equity less net deposits, after all costs."),
    "total_return": Definition("Return", "Total return", "share",
        "Daily returns compounded, so that deposits do not count (time-weighted; GIPS)."),
    "cagr": Definition("Return", "CAGR", "share", "Total return per year: (1 + total) ^ (days a year / days) - 1."),
    "best_day": Definition("Return", "Best day", "share", "The highest daily return."),
    "worst_day": Definition("Return", "Worst day", "share", "The lowest daily return."),
    "months_up": Definition("Return", "Months up", "share", "Months with a positive return, of all months."),
    "volatility": Definition("Risk", "Volatility", "share",
        "Standard deviation of daily returns (n - 1) x root of the days a year."),
    "max_drawdown": Definition("Risk", "Max drawdown", "share",
        "The deepest fall of the compounded return from its high so far."),
    "drawdown_days": Definition("Risk", "Longest drawdown", "days",
        "Calendar days from a high until it is reached again, or until the end."),
    "drawdown": Definition("Risk", "Drawdown now", "share", "Distance of the last day below the high."),
    "sharpe": Definition("Risk", "Sharpe", "ratio",
        "Mean over standard deviation of daily returns x root of the days a year (Sharpe 1994), without a "
        "risk-free rate."),
    "sharpe_error": Definition("Risk", "its standard error", "ratio",
        "root((1 + S^2 / 2) / n) for the daily Sharpe S, annualised (Lo 2002): a Sharpe within two of them of 0 "
        "may be chance."),
    "sortino": Definition("Risk", "Sortino", "ratio",
        "Mean over downside deviation, root(mean(min(r, 0)^2)), x root of the days a year (Sortino and Price "
        "1994)."),
    "calmar": Definition("Risk", "Calmar", "ratio", "CAGR over the max drawdown (Young 1991)."),
    "time_in": Definition("Exposure", "Time in the market", "share",
        "Days that ended with an open position, of all days."),
    "gross": Definition("Exposure", "Mean gross exposure", "share",
        "Sum of |quantity x price| over equity, at the days' ends."),
    "net_exposure": Definition("Exposure", "Mean net exposure", "share", "The same with shorts negative."),
    "max_gross": Definition("Exposure", "Highest gross exposure", "share", "Of all days' ends."),
    "turnover": Definition("Exposure", "Turnover a year", "ratio",
        "Notional of all fills, buys and sells, over mean equity, per year."),
    "trades": Definition("Trades", "Closed trades", "count", "Trades that entered and left."),
    "open": Definition("Trades", "Open trades", "count",
        "Trades with an open position at the end, valued at their last price."),
    "hit_rate": Definition("Trades", "Hit rate", "share", "Closed trades that won after costs, of all closed trades."),
    "profit_factor": Definition("Trades", "Profit factor", "ratio",
        "Sum of wins over sum of losses, after costs."),
    "average_win": Definition("Trades", "Average win", "money", "Mean result of the closed trades that won."),
    "average_loss": Definition("Trades", "Average loss", "money", "Mean result of the closed trades that did not."),
    "expectancy": Definition("Trades", "Expectancy", "money", "Mean result of a closed trade, after costs."),
    "expectancy_r": Definition("Trades", "Expectancy in R", "r",
        "Mean of result over initial risk: |entry - first stop| x quantity in money (Tharp 1998)."),
    "days_held": Definition("Trades", "Mean days held", "days", "Calendar days from entry to exit of closed trades."),
    "mae": Definition("Trades", "Mean MAE", "r",
        "Maximum adverse excursion: the largest move against a trade, in R (Sweeney 1996). Over the bars from "
        "the entry's to the one before the exit's, and the exit price: the rest of the exit's bar may come "
        "after it."),
    "mfe": Definition("Trades", "Mean MFE", "r", "Maximum favourable excursion: the same at its best."),
    "commission": Definition("Costs", "Commission", "money", "Fees of all fills."),
    "slippage": Definition("Costs", "Slippage", "money",
        "Market orders: the price against the open of the bar that filled them; stops and limits: against "
        "their own price, gaps through a stop included. Negative: better than that."),
    "delay": Definition("Costs", "Delay", "money",
        "Market orders: from the close at the decision to the open of the bar that filled them (with "
        "slippage: Perold's implementation shortfall, 1988). If that bar is unknown, all of it counts as "
        "slippage."),
    "carry": Definition("Costs", "Dividends, funding, other", "money",
        "Change of equity that no trade and no deposit explains: an account's dividends, interest, funding, fees. "
        "Positive: received. A futures price includes its own carry."),
}  # fmt: skip


def daily(marks: pd.DataFrame, flows: Iterable[tuple[Any, Decimal]] = ()) -> pd.DataFrame:
    """
    The last mark of each day (a mark at midnight belongs to the day that ends): equity, flow (deposits since the day
    before), ret, growth (1 on the first day), drawdown (0 or negative), gross and net over equity, held (1 or 0; NaN:
    unknown).

    ``marks``: as_of, equity, gross, net, open_trades, one row per as_of. ``flows``: (instant, amount); those up to the
    first mark are part of it. A day that begins with no equity has no return.
    """
    ordered = marks.sort_values("as_of")
    stamps = pd.DatetimeIndex(ordered["as_of"])
    day = (stamps - pd.Timedelta(microseconds=1)).tz_convert("UTC").tz_localize(None).normalize()
    last = ordered.assign(day=day).drop_duplicates("day", keep="last").set_index("day")
    table = pd.DataFrame(index=last.index)
    for name in ("equity", "gross", "net", "open_trades"):
        table[name] = pd.to_numeric(last[name].astype(object).where(last[name].notna(), np.nan), errors="raise").astype(
            float
        )
    deposits = np.zeros(len(table))
    ends = pd.DatetimeIndex(last["as_of"])
    for at, amount in flows:
        place = int(ends.searchsorted(pd.Timestamp(at)))
        if 0 < place < len(table):
            deposits[place] += float(amount)
    table["flow"] = deposits
    before = table["equity"].shift()
    table["ret"] = ((table["equity"] - table["flow"]) / before.where(before > 0) - 1.0).clip(lower=-1.0)
    table["growth"] = (1.0 + table["ret"].fillna(0.0)).cumprod()
    table["drawdown"] = table["growth"] / table["growth"].cummax() - 1.0
    positive = table["equity"].where(table["equity"] > 0)
    table["gross"], table["net"] = table["gross"] / positive, table["net"] / positive
    table["held"] = (table["open_trades"] > 0).astype(float).where(table["open_trades"].notna())
    return table.drop(columns="open_trades")


def a_year(days: pd.DatetimeIndex) -> int:
    """Days per year for annualising: 365 if at least 5 % of ``days`` are on weekends, else 252."""
    return 365 if len(days) and float(np.mean(days.day_of_week >= 5)) >= 0.05 else 252


def figures(
    days: pd.DataFrame, trades: pd.DataFrame, fills: pd.DataFrame, money: Mapping[str, Decimal]
) -> dict[str, float | None]:
    """
    Every figure of DEFINITIONS, None where unknown.

    ``days``: from ``daily``. ``trades``: closed, result, r, days_held, mae, mfe of the trades that entered. ``fills``:
    notional, commission, slippage, delay. ``money``: net, carry.
    """
    values: dict[str, float | None] = dict.fromkeys(DEFINITIONS)
    values |= {name: float(amount) for name, amount in money.items()}
    values |= _returns(days, a_year(pd.DatetimeIndex(days.index)))
    values |= _exposure(days, fills)
    values |= _trades(trades)
    values |= {name: float(sum(fills[name], Decimal(0))) for name in ("commission", "slippage", "delay")}
    return {name: None if value is None or not math.isfinite(value) else value for name, value in values.items()}


def _returns(days: pd.DataFrame, year: int) -> dict[str, float | None]:
    returns = days["ret"].dropna().to_numpy(np.float64)
    if not len(returns):
        return {}
    total = float(days["growth"].iloc[-1]) - 1.0
    cagr = (1.0 + total) ** (year / len(returns)) - 1.0
    months = monthly(days).to_numpy(np.float64)
    fall = float(days["drawdown"].min())
    values: dict[str, float | None] = {
        "total_return": total,
        "cagr": cagr,
        "best_day": float(returns.max()),
        "worst_day": float(returns.min()),
        "months_up": float((months[~np.isnan(months)] > 0).mean()),
        "max_drawdown": fall,
        "drawdown": float(days["drawdown"].iloc[-1]),
        "drawdown_days": float(longest_drawdown(days["drawdown"])),
        "calmar": cagr / -fall if fall < 0 else None,
    }
    if len(returns) < LEAST:
        return values
    mean, spread, root = float(returns.mean()), float(returns.std(ddof=1)), math.sqrt(year)
    down = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return values | {
        "volatility": spread * root,
        "sharpe": mean / spread * root if spread > 1e-12 else None,
        "sharpe_error": math.sqrt((1 + (mean / spread) ** 2 / 2) / len(returns)) * root if spread > 1e-12 else None,
        "sortino": mean / down * root if down > 0 else None,
    }


def _exposure(days: pd.DataFrame, fills: pd.DataFrame) -> dict[str, float | None]:
    if days.empty:
        return {}
    years = (len(days) - 1) / a_year(pd.DatetimeIndex(days.index))
    notional, equity = float(sum(fills["notional"], Decimal(0))), float(days["equity"].mean())
    return {
        "time_in": float(days["held"].mean()),
        "gross": float(days["gross"].mean()),
        "net_exposure": float(days["net"].mean()),
        "max_gross": float(days["gross"].max()),
        "turnover": notional / equity / years if equity > 0 and years > 0 else None,
    }


def _trades(trades: pd.DataFrame) -> dict[str, float | None]:
    closed = trades[trades["closed"].astype(bool)]
    values: dict[str, float | None] = {"trades": len(closed), "open": len(trades) - len(closed)}
    if closed.empty:
        return values
    result = closed["result"].astype(float)
    won, lost = result[result > 0], result[result <= 0]
    return values | {
        "hit_rate": len(won) / len(closed),
        "profit_factor": float(won.sum() / -lost.sum()) if lost.sum() < 0 else None,
        "average_win": float(won.mean()),
        "average_loss": float(lost.mean()),
        "expectancy": float(result.mean()),
        "expectancy_r": float(closed["r"].astype(float).mean()),
        "days_held": float(closed["days_held"].astype(float).mean()),
        "mae": float(closed["mae"].astype(float).mean()),
        "mfe": float(closed["mfe"].astype(float).mean()),
    }


def longest_drawdown(drawdown: pd.Series) -> int:
    """Calendar days of the longest drawdown, from the high until it is reached again or the end; 0 without any."""
    days = pd.DatetimeIndex(drawdown.index)
    high = pd.Series(days.where(drawdown >= 0), index=days).ffill()
    below = pd.Series(days, index=days) - high
    recovered = (pd.Series(days, index=days) - high.shift()).where((drawdown >= 0) & (drawdown.shift() < 0))
    return int(max(below.max(), recovered.max() if recovered.notna().any() else pd.Timedelta(0)).days)


def monthly(days: pd.DataFrame) -> pd.DataFrame:
    """Returns by year (rows) and month (columns 1 to 12); NaN for months without a daily return."""
    returns = days["ret"].dropna()
    stamps = pd.DatetimeIndex(returns.index)
    table = (1.0 + returns).groupby([stamps.year, stamps.month]).prod() - 1.0
    wide = table.unstack()  # noqa: PD010 - a Series, which has no pivot
    return wide.reindex(columns=range(1, 13)).rename_axis(index="year", columns="month")


def rolling_sharpe(days: pd.DataFrame, window: int = ROLLING) -> pd.Series:
    """Annualised Sharpe of the last ``window`` daily returns; NaN before that, and where returns do not vary."""
    rolled = days["ret"].rolling(window)
    spread = rolled.std()
    return rolled.mean() / spread.where(spread > 1e-12) * math.sqrt(a_year(pd.DatetimeIndex(days.index)))


def excursions(trades: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """
    ``mae`` and ``mfe`` of each trade in R, both 0 or more; NaN without a risk. Index of ``trades``.

    ``trades``: trade_id, side, entry_price, exit_price (NaN: open), risk (per unit, in price). ``bars``: trade_id,
    high, low, close of the bars from the entry's to the one before the exit's.
    """
    high, low = bars["high"].fillna(bars["close"]), bars["low"].fillna(bars["close"])
    seen = pd.DataFrame({"trade_id": bars["trade_id"], "high": high, "low": low}).groupby("trade_id")
    top, bottom = (trades["trade_id"].map(s) for s in (seen["high"].max(), seen["low"].min()))
    entry, left = trades["entry_price"].astype(float), trades["exit_price"].astype(float)
    top = pd.concat([top, left, entry], axis=1).max(axis=1)
    bottom = pd.concat([bottom, left, entry], axis=1).min(axis=1)
    long, risk = trades["side"] == "LONG", trades["risk"].astype(float).where(lambda r: r > 0)
    up, down = (top - entry) / risk, (entry - bottom) / risk
    return pd.DataFrame({"mae": down.where(long, up), "mfe": up.where(long, down)})


def by_pillar(
    results: Mapping[int, Decimal], terms: Mapping[int, Mapping[str, float]]
) -> dict[int, dict[str, Decimal]]:
    """
    trade -> pillar -> its part of the trade's result: result x contribution / sum of contributions, at the entry.

    A pillar that voted against the entry gets the opposite sign. A trade's parts sum to its result exactly: the
    remainder of rounding to a millionth goes to the strongest vote. Without votes all of it is ``unknown``.
    """
    return {trade: _parts(result, terms.get(trade, {})) for trade, result in results.items()}


def _parts(result: Decimal, votes: Mapping[str, float]) -> dict[str, Decimal]:
    points = {pillar: Decimal(repr(value)) for pillar, value in votes.items() if value}
    whole = sum(points.values(), Decimal(0))
    if not whole:
        return {"unknown": result}
    parts = {pillar: (result * value / whole).quantize(MICRO) for pillar, value in points.items()}
    strongest = max(points, key=lambda pillar: abs(points[pillar]))
    parts[strongest] += result - sum(parts.values(), Decimal(0))
    return parts


def held(closes: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """
    Buy and hold of each symbol: growth by day (columns are symbols, the first value of each is 1).

    ``closes``: symbol, ts, close (adjusted), offset (adjusted - raw), of bars up to ``end``. Bought at the last close
    at or before ``start``, or the first after it; profit is relative to the raw price, the one actually paid.
    """
    frame = closes[closes["ts"] <= end].sort_values(["symbol", "ts"])
    bought_at = frame.groupby("symbol")["ts"].transform(
        lambda ts: ts[ts <= start].max() if (ts <= start).any() else ts.min()
    )
    frame = frame[frame["ts"] >= bought_at]
    first = frame.drop_duplicates("symbol").set_index("symbol")
    paid = frame["symbol"].map(first["close"] - first["offset"])
    growth = 1.0 + (frame["close"] - frame["symbol"].map(first["close"])) / paid.where(paid > 0)
    stamps = pd.DatetimeIndex(frame["ts"]) - pd.Timedelta(microseconds=1)
    day = stamps.tz_convert("UTC").tz_localize(None).normalize()
    wide = pd.DataFrame({"day": day, "symbol": frame["symbol"].to_numpy(), "growth": growth.to_numpy()})
    return wide.pivot_table(index="day", columns="symbol", values="growth", aggfunc="last").ffill()
