"""The tables as a person reads them: text in every cell, for the terminal and for the UI's artifacts alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from alphapivot.execution.book.control import Control
    from alphapivot.reports.explanation import Explanation

Cell = Callable[[Any], str]


MARKS = str.maketrans({mark: f"&#{ord(mark)};" for mark in "&<>|`*[]~\\"})  # what markdown or HTML would act upon


def escaped(words: Any) -> str:
    """Text for an artifact that shows as it is, whatever is in it: a name is never markup. One line."""
    text = " ".join(str(words).translate(MARKS).splitlines())
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", "&#95;", text)  # within a word it marks nothing


def markdown(view: pd.DataFrame, words: str = "") -> str:
    """A table for an artifact, its cells escaped, under ``words`` as they are; `none` where it is empty."""
    if view.empty:
        return "none"
    rows: list[Any] = [view.columns, *view.itertuples(index=False)]
    cells = [[escaped(cell) for cell in row] for row in rows]
    lines = [cells[0], ["---"] * len(view.columns), *cells[1:]]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{words}\n\n{table}\n".lstrip()


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """``reports.tables.scores``: points with their sign, each pillar's contribution in a column."""
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


def explanation(found: Explanation) -> dict[str, pd.DataFrame]:
    """``reports.explanation.explain``: the parts, and the waterfall that they lead to, by title."""
    rows = [
        (pillar, interval, part, points(value))
        for (pillar, interval), parts in found.parts.items()
        for part, value in parts.items()
    ]
    lines = [(line.label, line.detail, points(line.effect), points(line.total)) for line in found.lines]
    return {
        "The parts; those of a pillar sum to its score": pd.DataFrame(
            rows, columns=["pillar", "timeframe", "part", "points"]
        ),
        f"{found.symbol} at {instant(found.ts)} UTC": pd.DataFrame(lines, columns=["term", "how", "effect", "so far"]),
    }


def decisions(table: pd.DataFrame) -> pd.DataFrame:
    """``execution.report.decisions``: what was decided and why, with the plan of entries."""
    columns: dict[str, Cell] = {
        "symbol": words,
        "action": words,
        "reasons": ", ".join,
        "score": points,
        "qty": quantity,
    }
    return _shown(table, columns | {"reference": price, "stop": price, "target": price, "capped_by": words})


def open_trades(table: pd.DataFrame) -> pd.DataFrame:
    """``execution.report.open_trades``: each with its stop and target, and how far they are."""
    columns = {
        "symbol": words,
        "contract": words,
        "side": words,
        "state": words,
        "qty": quantity,
        "entry": price,
        "last": price,
    }
    return _shown(
        table, columns | {"stop": price, "target": price, "to_stop": share, "to_target": share, "unrealised": money}
    )


def orders(table: pd.DataFrame) -> pd.DataFrame:
    """``execution.report.working_orders``: what rests, waits or is not known; the id is what `trace` asks for."""
    columns = {"client_order_id": words, "symbol": words, "contract": words, "leg": words, "side": words}
    return _shown(
        table, columns | {"qty": quantity, "filled": quantity, "price": price, "state": words, "reason": words}
    )


def switch(word: Control) -> str:
    """The kill switch in a sentence: what, why, by whom and when."""
    out = " (every trade leaves at market)" if word.flatten else ""
    said = f", by {word.by}, {instant(word.at)} UTC" if word.at is not None else ""
    return f"{word.state}{out} ({word.reason}){said}"


def locks(table: pd.DataFrame) -> pd.DataFrame:
    """``execution.report.locks``: which symbols trade no more, and why."""
    return _shown(table, {"symbol": words, "reason": words, "at": instant})


def anything(table: pd.DataFrame) -> pd.DataFrame:
    """A table of whatever it may be: instants to the second, numbers without the zeros that they carry."""
    return _shown(table, dict.fromkeys(map(str, table.columns), plain))


def limits(table: pd.DataFrame) -> pd.DataFrame:
    """``execution.report.limits_used``."""
    return _shown(table, {"limit": words, "used": words, "allowed": words})


def exposures(table: pd.DataFrame) -> pd.DataFrame:
    """``execution.exposed.exposures``: shares of equity, and money in the book's currency."""
    columns: dict[str, Cell] = {"exposure": words, "gross": amount, "net": money}
    return _shown(table, columns | {"used": price, "allowed": price})


def closed_trades(table: pd.DataFrame) -> pd.DataFrame:
    """``execution.report.closed_trades``: how each ended and what it brought."""
    columns = {"symbol": words, "contract": words, "side": words, "qty": quantity, "entry": price, "entry_at": instant}
    return _shown(table, columns | {"exit": price, "exit_at": instant, "close_reason": words, "realised": money})


def files(table: pd.DataFrame) -> pd.DataFrame:
    """``inspection.files``: what each series' files hold."""
    columns: dict[str, Cell] = {"symbol": words, "market": words, "bars": quantity, "contracts": quantity}
    return _shown(table, columns | {"first": instant, "newest": instant})


def freshness(table: pd.DataFrame) -> pd.DataFrame:
    """``reports.tables.freshness``: what is there, and what should be."""
    late = (table["newest"] < table["due"]) | table["newest"].isna()
    columns = {
        "symbol": words,
        "market": words,
        "interval": words,
        "bars": quantity,
        "first": instant,
        "newest": instant,
        "due": instant,
    }
    return _shown(
        table.assign(state=late.map({True: "late", False: "fresh"})), columns | {"state": words, "issues": quantity}
    )


def issues(table: pd.DataFrame) -> pd.DataFrame:
    """``reports.tables.issues``: what was found odd, and what was done with it."""
    columns: dict[str, Cell] = {"symbol": words, "market": words, "contract": words, "interval": words, "ts": instant}
    return _shown(table, columns | {"check_name": words, "outcome": words, "detail": words})


def equity(table: pd.DataFrame) -> pd.DataFrame:
    """``reports.tables.equity``."""
    columns: dict[str, Cell] = {"day": words, "equity": amount, "earned": money, "drawdown": money, "deposits": money}
    return _shown(table, columns | {"cash": amount})


def series(table: pd.DataFrame) -> pd.DataFrame:
    """``hub.stats.series``: what is stored, how large it is, and what is missing in it."""
    columns: dict[str, Cell] = {"symbol": words, "market": words, "interval": words, "source": words}
    columns |= {"contracts": quantity, "rows": quantity, "size": lambda n: f"{n / 1e6:,.1f} MB", "first": instant}
    return _shown(table, columns | {"newest": instant, "missing": lambda n: "–" if n < 0 else quantity(n)})


def runs(table: pd.DataFrame) -> pd.DataFrame:
    """``reports.tables.runs``."""
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


def price(value: Any) -> str:
    """Without the zeros that NUMERIC carries; to 6 decimals, for averages have no end."""
    return f"{round(Decimal(str(value)), 6).normalize():f}"


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


def _shown(table: pd.DataFrame, columns: dict[str, Cell]) -> pd.DataFrame:
    """Missing is a dash: it is neither zero nor empty."""

    def cell(form: Cell, value: Any) -> str:
        missing = value is None or (not isinstance(value, list) and pd.isna(value))
        return "–" if missing else form(value)

    return pd.DataFrame(
        {
            name.replace("_", " "): [cell(form, v) for v in table[name].astype(object)]
            for name, form in columns.items()
            if name in table
        }
    )
