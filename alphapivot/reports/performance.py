"""
Performance of a book: the figures of its marks, and those of its trades, costs and excursions. Pure.

Money stays Decimal where it is summed; statistics are floats, None where unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from alphapivot import figures
from alphapivot.reports import chance

MICRO = Decimal("0.000001")
LEAST = 5  # fewer returns give no ratios


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
        "Returns compounded from mark to mark, so that deposits do not count (time-weighted; GIPS)."),
    "cagr": Definition("Return", "CAGR", "share",
        "Total return per year: (1 + total) ^ ({period}s a year / {period}s) - 1."),
    "best_day": Definition("Return", "Best {period}", "share", "The highest return of a {period}."),
    "worst_day": Definition("Return", "Worst {period}", "share", "The lowest return of a {period}."),
    "months_up": Definition("Return", "Months up", "share", "Months with a positive return, of all months."),
    "volatility": Definition("Risk", "Volatility", "share",
        "Standard deviation of the {period}s' returns (n - 1) x root of the {period}s a year."),
    "max_drawdown": Definition("Risk", "Max drawdown", "share",
        "The deepest fall of the compounded return from its high so far, over all marks."),
    "drawdown_days": Definition("Risk", "Longest drawdown", "days",
        "Calendar days from a high until it is reached again, or until the end."),
    "drawdown": Definition("Risk", "Drawdown now", "share", "Distance of the last mark below the high."),
    "value_at_risk": Definition("Risk", "Value at risk, 95 %", "share",
        "The return that 5 % of the {period}s fall below: their historical quantile, interpolated (Jorion 2006; "
        "Hyndman and Fan 1996, type 7). From 20 returns on."),
    "expected_shortfall": Definition("Risk", "Expected shortfall, 95 %", "share",
        "The mean return of those {period}s (Acerbi and Tasche 2002): what a bad {period} costs."),
    "sharpe": Definition("Risk", "Sharpe", "ratio",
        "Mean over standard deviation of the {period}s' returns x root of the {period}s a year (Sharpe 1994), without "
        "a risk-free rate."),
    "sharpe_error": Definition("Risk", "its standard error", "ratio",
        "root((1 + S^2 / 2) / n) for the Sharpe S of a {period}, annualised (Lo 2002): a Sharpe within two of them of "
        "0 may be chance."),
    "sortino": Definition("Risk", "Sortino", "ratio",
        "Mean over downside deviation, root(mean(min(r, 0)^2)), x root of the {period}s a year (Sortino and Price "
        "1994)."),
    "calmar": Definition("Risk", "Calmar", "ratio", "CAGR over the max drawdown (Young 1991)."),
    "resampled_low": Definition("Chance", "Total return, 5 % below", "share",
        "The total return that 5 % of 2,000 resampled histories stay below: as many {period}s drawn with replacement, "
        "in blocks of n^(1/3) on average (stationary bootstrap; Politis and Romano 1994). From 60 returns on."),
    "resampled_high": Definition("Chance", "Total return, 5 % above", "share", "The one that 5 % of them exceed."),
    "resampled_drawdown": Definition("Chance", "Max drawdown, median", "share",
        "The max drawdown, at {period}s' ends, of the median of these histories."),
    "resampled_deepest": Definition("Chance", "Max drawdown, 5 % deeper", "share", "The one that 5 % of them exceed."),
    "reshuffled_drawdown": Definition("Chance", "Drawdown of trades, median", "share",
        "The results of the closed trades in 2,000 other orders, added to the first equity: the median of their max "
        "drawdowns. What differs from the book's own is the order, and that trades were open together. From 10 on."),
    "reshuffled_deepest": Definition("Chance", "Drawdown of trades, 5 % deeper", "share",
        "The one that 5 % of these orders exceed: what the same trades may cost on the way."),
    "shifted_entries": Definition("Chance", "Entries at other times as good", "share",
        "Of all shifts of the entries in time, with sides, symbols and holding times as they were and the end joined "
        "to the beginning, the share whose mean move, before costs, is at least the book's (permutation test; Aronson "
        "2006). Near 0: their timing added something; about a half: any time would have done. From 10 trades on."),
    "time_in": Definition("Exposure", "Time in the market", "share",
        "{Period}s that ended with an open position, of all {period}s."),
    "gross": Definition("Exposure", "Mean gross exposure", "share",
        "Sum of |quantity x price| over equity, at the {period}s' ends."),
    "net_exposure": Definition("Exposure", "Mean net exposure", "share", "The same with shorts negative."),
    "max_gross": Definition("Exposure", "Highest gross exposure", "share", "Of all {period}s' ends."),
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
    """``figures.daily`` with gross and net over equity, and held (1 or 0; NaN: unknown), at the days' ends."""
    table = figures.daily(marks, flows)
    positive = table["equity"].where(table["equity"] > 0)
    held = (table["open_trades"] > 0).astype(float).where(table["open_trades"].notna())
    return table.drop(columns="open_trades").assign(
        gross=table["gross"] / positive, net=table["net"] / positive, held=held
    )


def of(
    days: pd.DataFrame, trades: pd.DataFrame, fills: pd.DataFrame, money: Mapping[str, Decimal], year: float
) -> dict[str, float | None]:
    """
    Every figure of DEFINITIONS, None where unknown.

    ``days``: from ``daily``. ``trades``: closed, result, r, days_held, mae, mfe of the trades that entered. ``fills``:
    notional, commission, slippage, delay. ``money``: net, carry. ``year``: the number of ``days`` a year.
    """
    values: dict[str, float | None] = dict.fromkeys(DEFINITIONS)
    values |= {name: float(amount) for name, amount in money.items()}
    values |= _returns(days, year)
    values |= _exposure(days, fills, year)
    values |= _trades(trades)
    if not days.empty:
        closed = trades.loc[trades["closed"].astype(bool), "result"].astype(float)
        values |= chance.trades(closed.to_list(), float(days["equity"].iloc[0]))
    values |= {name: float(sum(fills[name], Decimal(0))) for name in ("commission", "slippage", "delay")}
    return {name: None if value is None or not math.isfinite(value) else value for name, value in values.items()}


def definitions(year: float) -> dict[str, Definition]:
    """DEFINITIONS in the words of a book with ``year`` periods a year: its best day, or its best week."""
    name = figures.period(year)
    words = {"period": name, "Period": name.capitalize()}
    return {
        key: d._replace(label=d.label.format(**words), text=d.text.format(**words)) for key, d in DEFINITIONS.items()
    }


def _returns(days: pd.DataFrame, year: float) -> dict[str, float | None]:
    returns = days["ret"].dropna().to_numpy(np.float64)
    if not len(returns):
        return {}
    months = figures.monthly(days).to_numpy(np.float64)
    growth, fall = float(figures.cagr(returns, year)), float(days["deepest"].min())
    values: dict[str, float | None] = {
        "total_return": float(figures.total(returns)),
        "cagr": growth,
        "best_day": float(returns.max()),
        "worst_day": float(returns.min()),
        "months_up": float((months[~np.isnan(months)] > 0).mean()),
        "max_drawdown": fall,
        "drawdown": float(days["drawdown"].iloc[-1]),
        "drawdown_days": float(figures.longest_drawdown(days)),
        "calmar": growth / -fall if fall < 0 else None,
        "value_at_risk": figures.value_at_risk(returns),
        "expected_shortfall": figures.expected_shortfall(returns),
    }
    values |= chance.days(returns)
    if len(returns) < LEAST:
        return values
    ratios = (figures.volatility, figures.sharpe, figures.sharpe_error, figures.sortino)
    return values | {ratio.__name__: float(ratio(returns, year)) for ratio in ratios}


def _exposure(days: pd.DataFrame, fills: pd.DataFrame, year: float) -> dict[str, float | None]:
    if days.empty:
        return {}
    years = int(days["ret"].notna().sum()) / year
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
