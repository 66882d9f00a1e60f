"""The result of a book: every number of its report, computed once for page, picture, terminal and tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphapivot import figures
from alphapivot.calendar import bar_ends
from alphapivot.reports import chance, performance
from alphapivot.reports import risk as risks
from alphapivot.reports.book import activity as books
from alphapivot.reports.book import cautions, warned
from alphapivot.reports.book.activity import each, total

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.reports.book.activity import Book
    from alphapivot.reports.risk import Risk

ZERO = Decimal(0)
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Result:
    """
    ``days``: ``performance.daily``. ``trades``: those that entered, with result (book's currency, after costs), risk
    (price per unit), r, mae, mfe, days_held, closed. ``fills``: with slippage and delay separate. ``parts``: trade_id,
    pillar, result. ``held``: growth of buying and holding each instrument, by day. ``unexplained``: change of equity
    that no trade and no deposit explains.
    """

    book: Book
    days: pd.DataFrame
    a_year: float  # the number of such days a year
    trades: pd.DataFrame
    fills: pd.DataFrame
    figures: dict[str, float | None]
    months: pd.DataFrame
    sharpe: pd.Series
    parts: pd.DataFrame
    held: pd.DataFrame
    net: Decimal
    unexplained: Decimal
    warnings: list[str]
    ticks: Mapping[str, Decimal]  # symbol -> tick, of the instruments in the config
    risk: Risk | None = None  # of what is open now


def make(hub: Hub, settings: Settings, name: str, until: datetime | None = None) -> Result:
    """The result of book ``name`` up to ``until``. Raises DataError if there is no such book."""
    book = books.load(hub, name, until)
    closes = books.closes(hub, settings, book.symbols, book.since, book.until)
    hours = [i.trading_hours for s, i in settings.instruments.items() if s in book.symbols]
    could = bar_ends.days(hours, settings.timeframes.base, book.until) if hours else None
    result = of(book, closes, settings.ticks, could)
    if until is None and not result.trades["closed"].all():  # what is held is known of now alone
        mine = settings.execution.model_copy(update={"book": name})
        result = replace(result, risk=risks.risk(hub, settings.model_copy(update={"execution": mine}), book.until))
    if book.warned:  # a backtest's own warnings begin with them
        return result
    first = cautions.cautions(hub, settings, name, until=book.until, known_at=None)
    return replace(result, warnings=[*warned.sentences(first), *result.warnings])


def of(
    book: Book, closes: pd.DataFrame, ticks: Mapping[str, Decimal] = {}, could: pd.DatetimeIndex | None = None
) -> Result:
    """
    The result of ``book``. ``closes``: symbol, ts, close, offset of the instruments to compare with. ``could``: the
    days of a year on which it could have had a mark. Pure.
    """
    flows = list(zip(book.flows["at"], book.flows["amount"], strict=True))
    days = performance.daily(book.marks, flows)
    trades, fills = _trades(book), _split(book)
    deposits = total(amount for at, amount in flows if book.since < at <= book.until)
    net = Decimal(book.marks["equity"].iloc[-1] - book.marks["equity"].iloc[0] - deposits)
    unexplained = net - total(trades["result"])
    year = figures.a_year(pd.DatetimeIndex(days.index), could)
    values = performance.of(days, trades, fills, {"net": net, "carry": unexplained}, year)
    if len(closes):
        moved = trades.assign(until=trades["exit_at"].where(trades["closed"]).fillna(book.until))
        values["shifted_entries"] = chance.shifted(moved, closes)
    results = dict(zip(trades["trade_id"], trades["result"], strict=True))
    votes = {i: v for i, v in zip(trades["trade_id"], trades["votes"], strict=True) if v}
    shares = performance.by_pillar(results, votes)
    parts = [(i, pillar, amount) for i, amounts in shares.items() for pillar, amount in amounts.items()]
    return Result(
        book=book,
        days=days,
        trades=trades,
        fills=fills,
        a_year=year,
        figures=values,
        months=figures.monthly(days),
        sharpe=figures.rolling_sharpe(days["ret"], quarter(year), year),
        parts=pd.DataFrame(parts, columns=["trade_id", "pillar", "result"]),
        held=performance.held(closes, book.since, book.until) if len(closes) else pd.DataFrame(),
        net=net,
        unexplained=unexplained,
        warnings=list(_warnings(book, days, year, values, unexplained)),
        ticks=ticks,
    )


def quarter(year: float) -> int:
    """The number of periods in a quarter of a year of ``year``, for the rolling Sharpe ratio."""
    return max(performance.LEAST, round(year / 4)) if year > 0 else performance.LEAST


def by(result: Result, key: str) -> pd.DataFrame:
    """Results by pillar, symbol or side, the best first: result, won, lost (sums of either sign), trades."""
    table = result.trades[["trade_id", "symbol", "side", "result"]]
    if key == "pillar":
        table = result.parts.merge(table[["trade_id"]], on="trade_id")
    rows = []
    for name, group in table.groupby(key, sort=True):
        amounts = list(group["result"])
        won, lost = total(a for a in amounts if a > 0), total(a for a in amounts if a < 0)
        rows.append((name, total(amounts), won, lost, group["trade_id"].nunique()))
    results = pd.DataFrame(rows, columns=[key, "result", "won", "lost", "trades"])
    return results.sort_values(["result", key], ascending=[False, True], ignore_index=True)


def costs(result: Result) -> pd.DataFrame:
    """By symbol, the most expensive first: commission, slippage, delay, their sum ``all``, also in bps of notional."""
    columns = ["commission", "slippage", "delay", "notional"]
    rows = [
        (symbol, *(total(group[name]) for name in columns), len(group))
        for symbol, group in result.fills.groupby("symbol", sort=True)
    ]
    table = pd.DataFrame(rows, columns=["symbol", *columns, "fills"])
    table["all"] = table["commission"] + table["slippage"] + table["delay"]
    table["bps"] = [10_000 * a / n if n else None for a, n in zip(table["all"], table["notional"], strict=True)]
    return table.sort_values(["all", "symbol"], ascending=[False, True], ignore_index=True)


def against_holding(result: Result) -> pd.DataFrame:
    """The book, then buy and hold of each instrument: total_return, volatility, max_drawdown, sharpe, correlation."""
    days, name, year = result.days, result.book.name, result.a_year
    held = result.held.reindex(days.index, method="ffill")
    wide = pd.concat([days["growth"].rename(name), held], axis=1)
    returns = wide.pct_change(fill_method=None).assign(**{name: days["ret"]})
    spread = returns.std()
    deepest = (wide / wide.cummax() - 1).min()
    deepest[name] = days["deepest"].min()
    table = pd.DataFrame(
        {
            "total_return": wide.iloc[-1] - 1,
            "volatility": spread * np.sqrt(year),
            "max_drawdown": deepest,
            "sharpe": returns.mean() / spread.where(spread > 1e-12) * np.sqrt(year),
            "correlation": returns.corrwith(returns[name]) if len(returns) > 2 else np.nan,
        }
    )
    return table.rename_axis("instrument").reset_index()


def _trades(book: Book) -> pd.DataFrame:
    trades = book.trades[book.trades["entry_at"].notna()].reset_index(drop=True)
    trades["closed"] = trades["state"] == "CLOSED"
    amounts = [t.realised if t.closed else t.cash + books.value(t) for t in each(trades)]
    trades["result"] = pd.Series(amounts, dtype=object)
    trades["risk"] = [abs(t.entry_price - t.first_stop) for t in each(trades)]
    staked = [t.risk * t.entry_qty * t.multiplier * t.quote_unit * t.fx if t.risk else None for t in each(trades)]
    trades["r"] = pd.Series(
        [float(a / b) if b else np.nan for a, b in zip(trades["result"], staked, strict=True)], dtype=float
    )
    until = trades["exit_at"].where(trades["closed"]).fillna(book.until)
    trades["days_held"] = (until - trades["entry_at"]).dt.total_seconds() / 86_400
    spans = book.spans.merge(trades[["trade_id", "exit_at", "closed"]], on="trade_id")
    before = spans[~(spans["closed"].astype(bool) & (spans["ts"] >= spans["exit_at"]))]
    priced = trades.assign(exit_price=trades["exit_price"].where(trades["closed"]))
    return pd.concat([trades, performance.excursions(priced, _of_todays_shares(before, book.splits))], axis=1)


def _of_todays_shares(bars: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Prices from before a split divided by its ratio (new shares for one old), to compare with the entry's."""
    ratio = pd.Series(1.0, index=bars.index)
    for split in each(splits):
        ratio[(bars["trade_id"] == split.trade_id) & (bars["ts"] <= split.ts)] *= float(split.value)
    return bars.assign(**{name: bars[name] / ratio for name in ("high", "low", "close")})


def _split(book: Book) -> pd.DataFrame:
    """Fills with their cost split into delay (up to the open of the bar that filled) and slippage (from there)."""
    opens = book.spans[["trade_id", "ts", "open"]].drop_duplicates(["trade_id", "ts"])
    fills = book.fills.astype({"trade_id": "int64"}).merge(opens, on=["trade_id", "ts"], how="left")
    slippage, delay = [], []
    for f in each(fills):
        whole = f.slippage
        if f.kind != "MARKET" or pd.isna(f.open) or not f.price:
            slippage.append(ZERO if whole is None else whole)
            delay.append(ZERO)
            continue
        against = (f.price - Decimal(repr(f.open))) * (1 if f.side == "BUY" else -1)
        slipped = (against * f.notional / abs(f.price)).quantize(performance.MICRO)
        slippage.append(slipped)
        delay.append(ZERO if whole is None else whole - slipped)
    return fills.assign(slippage=pd.Series(slippage, dtype=object), delay=pd.Series(delay, dtype=object))


def _warnings(
    book: Book,
    days: pd.DataFrame,
    year: float,
    values: dict[str, float | None],
    unexplained: Decimal,
) -> list[str]:
    warnings = list(book.warned)
    if not book.warned and len(book.runs) and book.runs["afterwards"].any():
        warnings.append(
            "Survivorship: these runs were made after the fact, over a universe that was picked by hand today."
            " Instruments that have failed or vanished since are not in it, so results look better than they were."
        )
    if not len(days) > year:
        error = values["sharpe_error"]
        warnings.append(
            f"{len(days)} {figures.period(year)}s are few: "
            + ("no ratio is shown" if error is None else f"the Sharpe ratio's standard error is {error:.1f}")
            + ", and annual figures come from less than a year."
        )
    if (days["equity"] <= 0).any():
        warnings.append(
            f"The book lost all equity on {days.index[days['equity'] <= 0][0]:%Y-%m-%d}: returns end there."
        )
    if values["trades"] is not None and values["trades"] < 30:
        warnings.append(f"{values['trades']:.0f} closed trades are few: hit rate and expectancy may be chance.")
    if abs(unexplained) >= CENT:
        warnings.append(
            f"{unexplained:+,.2f} {book.currency} of the change of equity belong to no trade and no deposit: interest,"
            " fees or dividends of the account, or trades from before the first mark."
        )
    if len(book.runs) > 1:
        warnings.append(
            f"{len(book.runs)} different configs or code versions made these trades: they do not test any one of them."
        )
    if book.warned:
        return warnings
    if len(book.issues):
        kinds = book.issues.groupby("check_name")["count"].sum()
        listed = ", ".join(f"{name} {count}" for name, count in kinds.items())
        warnings.append(f"Data quality: {kinds.sum()} bars of this period were flagged or quarantined ({listed}).")
    return warnings
