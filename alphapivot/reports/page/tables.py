"""The tables of a book's report as text, for the page, the terminal and the picture."""

from __future__ import annotations

import math
from math import fsum
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from alphapivot.money import price_text
from alphapivot.reports import performance
from alphapivot.reports.book import result as results
from alphapivot.reports.book.activity import each, total
from alphapivot.reports.terminal import views

if TYPE_CHECKING:
    from alphapivot.reports.book.comparison import Comparison
    from alphapivot.reports.book.result import Result

NONE = "–"


class Tile(NamedTuple):
    label: str
    value: str
    beneath: str
    tone: str


def shown(name: str, value: float | None, currency: str) -> str:
    """A figure of ``performance.DEFINITIONS`` as text; a dash if unknown."""
    if value is None:
        return NONE
    forms = {
        "money": f"{value:+,.2f} {currency}",
        "share": f"{value:.2%}",
        "ratio": f"{value:,.2f}",
        "days": f"{value:,.1f}".removesuffix(".0"),
        "count": f"{value:,.0f}",
        "r": f"{value:+.2f} R",
    }
    return forms[performance.DEFINITIONS[name].form]


def tiles(result: Result) -> list[Tile]:
    """The headline figures."""
    f, currency = result.figures, result.book.currency

    def text(name: str) -> str:
        return shown(name, f[name], currency)

    def tone(value: float | None) -> str:
        return "" if not value else ("up" if value > 0 else "down")

    whole = len(result.days) > result.a_year
    error = "" if f["sharpe_error"] is None else f"± {f['sharpe_error']:.2f} standard error"
    spent = fsum(f[name] or 0.0 for name in ("commission", "slippage", "delay"))
    return [
        Tile("Net result", f"{f['net'] or 0:+,.0f}", currency, tone(f["net"])),
        Tile("CAGR", text("cagr"), f"{text('total_return')} in all", tone(f["cagr"]))
        if whole
        else Tile("Total return", text("total_return"), "less than a year: not annualised", tone(f["total_return"])),
        Tile("Max drawdown", text("max_drawdown"), f"longest {text('drawdown_days')} days", tone(f["max_drawdown"])),
        Tile("Sharpe", text("sharpe"), error, ""),
        Tile("Hit rate", text("hit_rate"), f"{text('trades')} closed, {text('open')} open", ""),
        Tile("Expectancy", text("expectancy_r"), f"profit factor {text('profit_factor')}", tone(f["expectancy_r"])),
        Tile("Exposure", text("gross"), f"mean gross; net {text('net_exposure')}", ""),
        Tile("Costs", f"{spent:,.0f}", f"{currency}, of them commission {f['commission'] or 0:,.0f}", ""),
    ]


def figures(result: Result) -> pd.DataFrame:
    """Every figure: of (its group), figure, value, definition."""
    currency = result.book.currency
    return pd.DataFrame(
        [
            (d.group, d.label, shown(name, result.figures[name], currency), d.text)
            for name, d in performance.definitions(result.a_year).items()
        ],
        columns=["of", "figure", "value", "definition"],
    )


def trades(result: Result) -> pd.DataFrame:
    """Every trade that entered, the oldest first."""
    return pd.DataFrame(
        [
            (
                t.symbol,
                t.contract or NONE,
                t.side,
                f"{t.entry_qty:,f}",
                _instant(t.entry_at),
                price_text(t.entry_price, result.ticks.get(t.symbol)),
                _instant(t.exit_at) if t.closed else "open",
                price_text(t.exit_price, result.ticks.get(t.symbol)) if t.closed and t.exit_price is not None else NONE,
                t.close_reason if t.closed else NONE,
                _number(t.r, "+.2f"),
                _number(t.mae, ".2f"),
                _number(t.mfe, ".2f"),
                f"{t.result:+,.2f}",
            )
            for t in each(result.trades.sort_values(["entry_at", "trade_id"]))
        ],
        columns=[
            "symbol",
            "contract",
            "side",
            "qty",
            "entry at",
            "entry",
            "exit at",
            "exit",
            "why",
            "R",
            "MAE",
            "MFE",
            "result",
        ],
    )


def contribution(result: Result, key: str, most: int = 40) -> pd.DataFrame:
    """Results by ``key``, the best first, and their sum; if more than ``most``, only the best and the worst."""
    table = results.by(result, key)
    money = ["result", "won", "lost"]
    rows = [(str(n), *(f"{v:+,.2f}" for v in amounts), f"{k:,}") for n, *amounts, k in each(table)]
    if len(rows) > most:
        blank = (f"… {len(rows) - most} more", *[""] * (len(rows[0]) - 1))
        rows = [*rows[: most // 2], blank, *rows[-(most // 2) :]]
    whole = (f"{total(table[m]):+,.2f}" for m in money)
    return pd.DataFrame([*rows, ("all", *whole, f"{len(result.trades):,}")], columns=[key, *money, "trades"])


def risk(result: Result) -> pd.DataFrame:
    """What is open at the end: each group's and instrument's own volatility, and what it adds to the book's."""
    return pd.DataFrame() if result.risk is None else views.risks(result.risk.parts)


def risk_summary(result: Result) -> str:
    """The book's expected volatility in words; empty if nothing is open."""
    found = result.risk
    if found is None or found.volatility is None:
        return ""
    share = "" if found.of_equity is None else f", {found.of_equity:.1%} of equity"
    left = "".join(f" Without {symbol}: {why}." for symbol, why in found.unknown.items())
    return f"Expected volatility {found.volatility:,.0f} {found.currency} a year{share}.{left}"


def costs(result: Result) -> pd.DataFrame:
    table = results.costs(result)
    money = ["commission", "slippage", "delay", "all"]
    whole = table[[*money, "notional", "fills"]].sum()
    rows = [
        (s, *(f"{v:,.2f}" for v in amounts), _number(bps, ".1f"), f"{fills:,}")
        for s, *amounts, bps, fills in each(table[["symbol", *money, "bps", "fills"]])
    ]
    bps = 10_000 * whole["all"] / whole["notional"] if whole["notional"] else None
    rows.append(("all", *(f"{whole[m]:,.2f}" for m in money), _number(bps, ".1f"), f"{whole['fills']:,}"))
    return pd.DataFrame(rows, columns=["symbol", *money, "bps of notional", "fills"])


def holding(result: Result) -> pd.DataFrame:
    table = results.against_holding(result)
    return pd.DataFrame(
        {
            "": table["instrument"],
            "total return": table["total_return"].map(percent),
            "volatility": table["volatility"].map(lambda v: _number(v, ".2%")),
            "max drawdown": table["max_drawdown"].map(percent),
            "Sharpe": table["sharpe"].map(lambda v: _number(v, ".2f")),
            "correlation": table["correlation"].map(lambda v: _number(v, ".2f")),
        }
    )


def runs(result: Result) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (
                r.kind,
                f"{r.runs:,}",
                _instant(r.first),
                _instant(r.last),
                r.config_hash[:12],
                r.code_version[:12],
                r.run_id,
            )
            for r in each(result.book.runs)
        ],
        columns=["kind", "runs", "from", "to", "config", "code", "the last run"],
    )


def versus(against: Comparison, own: Result) -> list[tuple[str, str, pd.DataFrame]]:
    """(heading, text, table) of each part of the comparison of two books."""
    pairs, missed, extra, book = against.pairs, against.missed, against.extra, own.book
    entry, left = _mean(pairs["entry_bps"]), _mean(pairs["exit_bps"])
    more = total(pairs["result_more"])
    period = f"{_instant(against.since)} to {_instant(against.until)} UTC"
    summary = (
        f"{period}. {len(pairs)} trades in both books, {len(missed)} in {against.other} only, {len(extra)} in"
        f" {book.name} only. Positive: {book.name} paid more or got less. Mean at entries {_number(entry, '+.2f')} bps,"
        f" at exits {_number(left, '+.2f')} bps; results differ by {more:+,.2f} {book.currency}."
    )
    table = pd.DataFrame(
        [
            (
                p.symbol,
                p.side,
                _instant(p.scored),
                f"{p.entry_qty:,f}",
                f"{p.qty_more:+,f}",
                price_text(p.entry_price, own.ticks.get(p.symbol)),
                _number(p.entry_ticks, "+.1f"),
                _number(p.entry_bps, "+.2f"),
                _number(p.exit_ticks, "+.1f"),
                _number(p.exit_bps, "+.2f"),
                p.close_reason or "open",
                p.other_close_reason or "open",
                f"{p.result_more:+,.2f}",
            )
            for p in each(pairs)
        ],
        columns=[
            "symbol", "side", "score of", "qty", "qty more", "entry", "entry, ticks", "entry, bps", "exit, ticks",
            "exit, bps", "ended by", f"in {against.other}", "result more",
        ],
    )  # fmt: skip
    sections = [(f"Against {against.other}", summary, table)]
    columns = ["symbol", "side", "score of", "qty", "entry", "ended by", "result"]
    for frame, heading, text in (
        (missed, f"Missed: only in {against.other}", "The reason why this book lacks the trade is in the last column."),
        (extra, f"Only in {book.name}", "Decisions that the other book did not make or fill."),
    ):
        if len(frame):
            rows = [
                (
                    t.symbol,
                    t.side,
                    _instant(t.scored),
                    f"{t.entry_qty:,f}",
                    price_text(t.entry_price, own.ticks.get(t.symbol)),
                    t.close_reason or "open",
                    f"{t.result:+,.2f}",
                )
                for t in each(frame)
            ]
            table = pd.DataFrame(rows, columns=columns)
            sections.append((heading, text, table.assign(here=list(frame["why"])) if "why" in frame else table))
    return sections


def percent(value: float) -> str:
    return NONE if value is None or math.isnan(value) else f"{value:+.2%}"


def _number(value: Any, form: str) -> str:
    return NONE if value is None or pd.isna(value) else f"{value + 0:{form}}"  # + 0: no minus before a zero


def _mean(values: pd.Series) -> float | None:
    numbers = [float(v) for v in values if v is not None and not pd.isna(v)]
    return fsum(numbers) / len(numbers) if numbers else None


def _instant(value: Any) -> str:
    return NONE if pd.isna(value) else f"{value:%Y-%m-%d %H:%M}"
