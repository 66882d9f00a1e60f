"""Tables formatted as text, for the terminal and for the UI's artifacts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd

from alphapivot.money import price_text

if TYPE_CHECKING:
    from alphapivot.execution.book.control import Control
    from alphapivot.reports.explanation import Explanation

Cell = Callable[[Any], str]
Ticks = Mapping[str, Decimal]  # symbol -> tick
NONE: Ticks = MappingProxyType({})

MARKS = str.maketrans({mark: f"&#{ord(mark)};" for mark in "&<>|`*[]~\\"})  # special in Markdown or HTML


def escaped(words: Any) -> str:
    """Text for an artifact, escaped so that it is never markup. One line."""
    text = " ".join(str(words).translate(MARKS).splitlines())
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", "&#95;", text)  # within a word it is not markup


def markdown(view: pd.DataFrame, words: str = "") -> str:
    """A table for an artifact, its cells escaped, below ``words`` unescaped; `none` if it is empty."""
    if view.empty:
        return "none"
    rows: list[Any] = [view.columns, *view.itertuples(index=False)]
    cells = [[escaped(cell) for cell in row] for row in rows]
    lines = [cells[0], ["---"] * len(view.columns), *cells[1:]]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{words}\n\n{table}\n".lstrip()


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """``overview.scores``: points with sign, a column per pillar's contribution."""
    fixed: dict[str, Cell] = {
        "ts": instant,
        "fresh": lambda fresh: "yes" if fresh else "stale",
        "raw": points,
        "gate": ratio,
        "score": points,
        "veto": words,
    }
    pillars = [c for c in table.columns if c not in {"symbol", *fixed}]
    return _shown(
        table,
        {
            "symbol": words,
            "score": points,
            **dict.fromkeys(pillars, points),
            **{k: v for k, v in fixed.items() if k != "score"},
        },
    )


def explanation(explained: Explanation) -> dict[str, pd.DataFrame]:
    """``explanation.explain``: title -> table, of the parts and of the waterfall."""
    rows = [
        (pillar, interval, part, points(value))
        for (pillar, interval), parts in explained.parts.items()
        for part, value in parts.items()
    ]
    lines = [(line.label, line.detail, points(line.effect), points(line.total)) for line in explained.lines]
    return {
        "Parts: those of a pillar sum to its score": pd.DataFrame(
            rows, columns=["pillar", "timeframe", "part", "points"]
        ),
        f"{explained.symbol} at {instant(explained.ts)} UTC": pd.DataFrame(
            lines, columns=["term", "how", "effect", "so far"]
        ),
    }


def decisions(table: pd.DataFrame, ticks: Ticks = NONE) -> pd.DataFrame:
    """``report.decisions``: actions and reasons, with the plan of entries."""
    columns: dict[str, Cell] = {
        "symbol": words,
        "action": words,
        "reasons": ", ".join,
        "score": points,
        "qty": quantity,
    }
    return _shown(table, columns | {"reference": price, "stop": price, "target": price, "capped_by": words}, ticks)


def open_trades(table: pd.DataFrame, ticks: Ticks = NONE) -> pd.DataFrame:
    """``report.open_trades``: each with its stop and target, and the distance to them."""
    columns: dict[str, Cell] = {
        "symbol": words,
        "contract": words,
        "side": words,
        "state": words,
        "qty": quantity,
        "entry": price,
        "last": price,
    }
    columns["stop"] = price
    if "wanted_stop" in table and table["wanted_stop"].notna().any():
        columns["wanted_stop"] = price
    columns |= {"target": price, "to_stop": share, "to_target": share, "unrealised": money}
    return _shown(table, columns, ticks)


def waiting(table: pd.DataFrame, ticks: Ticks = NONE) -> pd.DataFrame:
    """``approvals.waiting``: entries that have their yes, or need it until they expire."""
    columns: dict[str, Cell] = {"symbol": words, "contract": words, "side": words, "qty": quantity, "score": points}
    columns |= {"reference": price, "stop": price, "target": price, "expires": instant, "approved_by": words}
    return _shown(table, columns, ticks)


def orders(table: pd.DataFrame, ticks: Ticks = NONE) -> pd.DataFrame:
    """``report.working_orders``: resting, pending and unknown orders; `trace` takes the id."""
    columns: dict[str, Cell] = {"client_order_id": words, "symbol": words, "contract": words, "leg": words}
    columns |= {"side": words, "qty": quantity, "filled": quantity, "price": price, "state": words, "reason": words}
    return _shown(table, columns, ticks)


def switch(control: Control) -> str:
    """The kill switch in a sentence: state, reason, by whom and when."""
    flatten = " (every trade exits at market)" if control.flatten else ""
    author = f", by {control.by}, {instant(control.at)} UTC" if control.at is not None else ""
    return f"{control.state}{flatten} ({control.reason}){author}"


def locks(table: pd.DataFrame) -> pd.DataFrame:
    """``report.locks``: the symbols in which trading is blocked, and why."""
    return _shown(table, {"symbol": words, "reason": words, "at": instant})


def anything(table: pd.DataFrame) -> pd.DataFrame:
    """Any table: instants to the second, numbers without trailing zeros."""
    return _shown(table, dict.fromkeys(map(str, table.columns), plain))


def limits(table: pd.DataFrame) -> pd.DataFrame:
    """``report.limits_used``."""
    return _shown(table, {"limit": words, "used": words, "allowed": words})


def account(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """``report.account``: a sentence about the account, and what each book has of it."""
    first = table.iloc[0]
    positions = "the books' positions are the broker's" if first["differs"] is None else first["differs"]
    whole = f"{amount(first['account_equity'])} {first['currency']}"
    told = f"Account {first['account']} at {instant(first['seen_at'])} UTC: equity {whole}; {positions}"
    columns: dict[str, Cell] = {"book": words, "share": share, "equity": amount, "cash": amount, "open_trades": words}
    named = table.assign(book=table["book"].fillna("no book"))
    return told, _shown(named, columns)


def exposures(table: pd.DataFrame) -> pd.DataFrame:
    """``exposure.exposures``: shares of equity, and money in the book's currency."""
    columns: dict[str, Cell] = {"exposure": words, "gross": amount, "net": money}
    return _shown(table, columns | {"used": price, "allowed": price})


def risks(table: pd.DataFrame) -> pd.DataFrame:
    """``risk.Risk.parts``: volatility of a year alone, what it adds to the book's, and its share of that."""
    return _shown(table, {"of": words, "alone": amount, "part": money, "share": share})


def stressed(table: pd.DataFrame, equity: Decimal) -> pd.DataFrame:
    """``risk.stress``, and the result as a share of equity."""
    shares = table["result"] / float(equity)
    columns: dict[str, Cell] = {"window": words, "first": words, "last": words, "result": money, "of equity": share}
    columns |= {"worst_day": money, "lowest": money, "without": words}
    return _shown(table.assign(**{"of equity": shares}), columns)


def closed_trades(table: pd.DataFrame, ticks: Ticks = NONE) -> pd.DataFrame:
    """``report.closed_trades``: exit and result of each."""
    columns: dict[str, Cell] = {"symbol": words, "contract": words, "side": words, "qty": quantity}
    columns |= {"entry": price, "entry_at": instant}
    columns |= {"exit": price, "exit_at": instant, "close_reason": words, "realised": money}
    return _shown(table, columns, ticks)


def files(table: pd.DataFrame) -> pd.DataFrame:
    """``check.files``: the contents of each series' files."""
    columns: dict[str, Cell] = {"symbol": words, "market": words, "bars": quantity, "contracts": quantity}
    return _shown(table, columns | {"first": instant, "newest": instant})


def freshness(table: pd.DataFrame) -> pd.DataFrame:
    """``overview.freshness``: the newest stored bar and the one due."""
    late = (table["newest"] < table["due"]) | table["newest"].isna()
    columns = {
        "symbol": words,
        "market": words,
        "interval": words,
        "newest": instant,
        "due": instant,
    }
    return _shown(
        table.assign(state=late.map({True: "late", False: "fresh"})), columns | {"state": words, "issues": quantity}
    )


def issues(table: pd.DataFrame) -> pd.DataFrame:
    """``overview.issues``: check, outcome and detail of each."""
    columns: dict[str, Cell] = {"symbol": words, "market": words, "contract": words, "interval": words, "ts": instant}
    return _shown(table, columns | {"check_name": words, "outcome": words, "detail": words})


def summed(table: pd.DataFrame, most: int = 3) -> pd.DataFrame:
    """
    ``issues.show``, newest first, with more than ``most`` of one series, check and outcome as one row: the newest bar,
    how many there are from when to when, and the detail of the first, which is usually the cause of the others.
    """
    kind = ["symbol", "market", "contract", "interval", "check_name", "outcome"]
    grouped = table.groupby(kind, sort=False)
    many = grouped["ts"].transform("size") > most
    if not many.any():
        return table
    told = table[many].sort_values("ts").groupby(kind, sort=False)
    rows = told.agg(n=("ts", "size"), first=("ts", "min"), ts=("ts", "max"), detail=("detail", "first")).reset_index()
    times = rows[["first", "ts"]].map(instant)
    spans = (
        rows["n"].astype(str) + " bars from " + times["first"] + " to " + times["ts"] + ", the first: " + rows["detail"]
    )
    shown = pd.concat([table[~many], rows.assign(detail=spans)[[*kind, "ts", "detail"]]])
    return shown.sort_values("ts", ascending=False, kind="stable", ignore_index=True)


def holes(table: pd.DataFrame) -> pd.DataFrame:
    """``holes.show``: between which bars how many are missing, and how often they were requested."""
    columns: dict[str, Cell] = {"symbol": words, "market": words, "interval": words, "after": instant}
    columns |= {"before": instant, "missing": quantity, "asked": quantity, "asked_at": instant}
    return _shown(table, columns)


def stand_ins(table: pd.DataFrame) -> pd.DataFrame:
    """``issues.open_now``: which source's bars a series has at present, from which bar on and why."""
    columns: dict[str, Cell] = {"symbol": words, "market": words, "source": words, "since": instant}
    return _shown(table.rename(columns={"ts": "since"}), columns | {"outcome": words, "detail": words})


def alerts(table: pd.DataFrame) -> pd.DataFrame:
    """``alerts.missed``."""
    columns: dict[str, Cell] = {"at": instant, "kind": words, "subject": words, "attempts": quantity}
    return _shown(table, columns | {"failure": words, "message": words})


def equity(table: pd.DataFrame) -> pd.DataFrame:
    """``overview.equity``."""
    columns: dict[str, Cell] = {"day": words, "equity": amount, "earned": money, "drawdown": money, "deposits": money}
    return _shown(table, columns | {"cash": amount})


def series(table: pd.DataFrame) -> pd.DataFrame:
    """``stats.series``: rows, size, span and missing bars of each."""
    columns: dict[str, Cell] = {"symbol": words, "market": words, "interval": words, "source": words}
    columns |= {"contracts": quantity, "rows": quantity, "size": lambda n: f"{n / 1e6:,.1f} MB", "first": instant}
    return _shown(table, columns | {"newest": instant, "missing": lambda n: "–" if n < 0 else quantity(n)})


def runs(table: pd.DataFrame) -> pd.DataFrame:
    """``overview.runs``."""
    columns = {"kind": words, "as_of": instant, "state": words, "attempts": quantity, "started_at": instant}
    return _shown(table, columns | {"took": lambda t: f"{t.total_seconds():.1f} s", "message": words})


def instant(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M}"


def points(value: float) -> str:
    return f"{value:+.2f}"


def ratio(value: float) -> str:
    return f"{value:.2f}"


def share(value: Any) -> str:
    return f"{value:.1%}"


def money(value: Any) -> str:
    return f"{value:+,.2f}"


def amount(value: Any) -> str:
    return f"{value:,.2f}"


def price(value: Any, tick: Decimal | None = None) -> str:
    return price_text(value, tick)


def quantity(value: Any) -> str:
    return f"{value:,.10g}" if isinstance(value, float) else f"{value:,}"


def plain(value: Any) -> str:
    match value:
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case Decimal():
            return f"{value.normalize():f}"
        case float():
            return f"{value:.6g}"
        case list():
            return ", ".join(map(str, value))
    return str(value).removesuffix("+00:00")


def words(value: Any) -> str:
    return str(value)


def _shown(table: pd.DataFrame, columns: dict[str, Cell], ticks: Ticks = NONE) -> pd.DataFrame:
    """
    The ``columns`` of the table as text, prices to the tick of their symbol; a missing value is a dash, not zero or
    blank.
    """

    def cell(form: Cell, value: Any, symbol: Any) -> str:
        missing = value is None or (not isinstance(value, list) and pd.isna(value))
        if missing:
            return "–"
        return price(value, ticks.get(symbol)) if form is price else form(value)

    symbols = table["symbol"] if "symbol" in table else [None] * len(table)
    return pd.DataFrame(
        {
            name.replace("_", " "): [cell(form, v, s) for v, s in zip(table[name].astype(object), symbols, strict=True)]
            for name, form in columns.items()
            if name in table
        }
    )
