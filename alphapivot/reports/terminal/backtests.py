"""Backtests in the terminal: the list, one of them, and the differences between two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from sqlalchemy import RowMapping, text

from alphapivot.config.ini import nearest
from alphapivot.errors import ConfigError
from alphapivot.hub import Hub
from alphapivot.hub.tables import backtests
from alphapivot.reports.book import warned
from alphapivot.reports.terminal import terminal, views

TRADES = """
    SELECT i.as_of, t.symbol, t.side, t.contract, t.entry_qty AS qty, t.entry_at,
           trim_scale(round(t.entry_price, 12)) AS entry_price, t.exit_at, -- as the digest has the averages of fills
           trim_scale(round(t.exit_price, 12)) AS exit_price, t.close_reason AS closed_by, t.realised
    FROM trading.trade t JOIN trading.intent i USING (intent_id)
    WHERE t.book = :book AND t.entry_at IS NOT NULL ORDER BY i.as_of, t.symbol
"""
WARNINGS = """
    SELECT code, symbol, message FROM research.backtest_warning
    WHERE run_id = :run_id ORDER BY number
"""
# columns that a narrow terminal omits first, in order
SPARE = ("seconds", "made at", "engine", "code", "config", "equity", "digest", "state")
MOST = 40  # rows shown


def table(hub: Hub, *, trials: bool = False) -> None:
    """Shows all backtests, the newest last; the trials of searches only with ``trials``."""
    every = backtests.listed(hub)
    shown = [row for row in every if trials or not backtests.TRIAL.fullmatch(row["book"])]
    terminal.show(pd.DataFrame([_line(row) for row in shown]).astype(str), "Backtests", SPARE)
    if len(shown) < len(every):
        numbers = sorted({int(m[1]) for row in every if (m := backtests.TRIAL.fullmatch(row["book"]))})
        searches = f"search {numbers[0]}" if len(numbers) == 1 else f"searches {', '.join(map(str, numbers))}"
        terminal.console.print(f"{len(every) - len(shown)} trials of {searches} are not shown: --trials")
    elif not shown:
        terminal.console.print("none yet: alphapivot backtest --from 2024-01-01 --to 2024-12-31")


def show(hub: Hub, book: str) -> None:
    """Shows one backtest: request, result and warnings."""
    row = _find(hub, book)
    line = pd.Series(_line(row)).rename_axis("").reset_index(name="value").astype(str)
    terminal.show(line, f"Backtest {row['book']}")
    with hub.engine.connect() as conn:
        warnings = [tuple(warning) for warning in conn.execute(text(WARNINGS), {"run_id": row["run_id"]})]
    if warnings:
        terminal.show(pd.DataFrame(warned.lines(warnings), columns=["code", "symbol", "message"]), "Warnings")


def compare(hub: Hub, book: str, other: str) -> None:
    """Shows two backtests side by side, and the config keys and trades that differ."""
    one, two = _find(hub, book), _find(hub, other)
    terminal.show(
        pd.DataFrame({"": list(_line(one)), one["book"]: _line(one).values(), two["book"]: _line(two).values()}).astype(
            str
        ),
        "Two backtests",
    )
    keys = different(one["config"], two["config"])
    terminal.show(pd.DataFrame(keys, columns=["key", one["book"], two["book"]]).astype(str), "Config keys that differ")
    trades = different_trades(hub, one["book"], two["book"])
    title = f"Trades that differ: {len(trades)}" + (f", the first {MOST}" if len(trades) > MOST else "")
    terminal.show(trades.head(MOST).astype(str), title)
    same = one["digest"] is not None and one["digest"] == two["digest"]
    terminal.verdict("same digest" if same else "different", "" if not same else one["digest"], good=same)


def different(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(section.key, value, other value) of each difference between two stored configs."""
    a, b = dict(_flat(one)), dict(_flat(two))
    return [(key, a.get(key, "-"), b.get(key, "-")) for key in sorted({*a, *b}) if a.get(key) != b.get(key)]


def different_trades(hub: Hub, book: str, other: str) -> pd.DataFrame:
    """The trades that only one book made or that differ: a row per trade and book."""
    frames = []
    with hub.engine.connect() as conn:
        for name in (book, other):
            rows = conn.execute(text(TRADES), {"book": name}).mappings().all()
            frames.append(pd.DataFrame(rows).astype(str).assign(book=name))
    both = pd.concat(frames, ignore_index=True)
    if both.empty:
        return both
    alone = ~both.duplicated([c for c in both.columns if c != "book"], keep=False)
    trades = both[alone].sort_values(["as_of", "symbol", "book"], ignore_index=True)
    return trades[["book", *(c for c in trades.columns if c != "book")]]


def _find(hub: Hub, book: str) -> RowMapping:
    by_book = {row["book"]: row for row in backtests.listed(hub)}
    name = book if book in by_book else f"bt-{book}"
    if name not in by_book:
        raise ConfigError(f"there is no backtest {book!r}; {nearest(book, by_book)}")
    return by_book[name]


def _line(row: RowMapping) -> dict[str, str]:
    done = row["digest"] is not None
    return {
        "book": row["book"],
        "from": f"{row['since']:%Y-%m-%d}",
        "to": views.instant(row["until"]),
        "config": row["config_hash"][:8],
        "code": row["code_version"],
        "state": row["state"],
        "trades": f"{row['trades']}" if done else "",
        "net return": f"{row['net_return']:.2%}" if done else "",
        "max drawdown": f"{row['max_drawdown']:.2%}" if done else "",
        "equity": f"{row['end_equity']:,.2f} {row['currency']}" if done else "",
        "digest": row["digest"][:12] if done else "",
        "engine": _engine(row),
        "seconds": ", ".join(f"{stage} {spent:.1f}" for stage, spent in row["seconds"].items()),
        "made at": views.instant(row["made_at"]),
    }


def _engine(row: RowMapping) -> str:
    audited = f", {row['audited']:,} of {row['instants']:,} instants audited" if row["audited"] else ""
    return f"{row['engine'] or ''}{audited}"


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)
