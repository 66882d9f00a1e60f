"""Tables of text as HTML."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from alphapivot.reports.page.tables import percent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pandas as pd

    from alphapivot.reports.book.result import Result

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def html(
    table: pd.DataFrame,
    wide: str | None = None,
    *,
    toned: Collection[str] | None = None,
    long: bool = False,
    last: Sequence[str] | None = None,
) -> str:
    """
    A table of text as HTML. Columns of numbers are right-aligned; ``wide``: the column that may wrap; ``toned``: the
    columns whose signs are coloured (None: all); ``long``: the table scrolls in place; ``last``: HTML of a last cell of
    each row.
    """
    if table.empty:
        return "<p>none</p>"
    kinds = [_kind(table[name], name == wide) for name in table.columns]
    colours = [toned is None or name in toned for name in table.columns]
    head = "".join(f"<th{kind}>{escape(str(n))}</th>" for n, kind in zip(table.columns, kinds, strict=True))
    head += "" if last is None else "<th></th>"
    ends = [""] * len(table) if last is None else [f'<td class="last">{end}</td>' for end in last]
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}{_tone(cell) if colour else ''}>{escape(str(cell))}</td>"
            for cell, kind, colour in zip(row, kinds, colours, strict=True)
        )
        + f"{end}</tr>"
        for row, end in zip(table.itertuples(index=False, name=None), ends, strict=True)
    )
    inside = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll{" long" if long else ""}{" defined" if wide else ""}">{inside}</div>'


def _kind(column: pd.Series, wide: bool) -> str:
    if wide:
        return ' class="wide"'
    return ' class="n"' if all(str(cell)[:1] in "+-–0123456789" for cell in column) else ""


def _tone(cell: Any) -> str:
    text = str(cell)
    if text[:1] == "-" and len(text) > 1:
        return ' style="color:var(--down)"'
    return ' style="color:var(--up)"' if text[:1] == "+" and text.strip("+0.,") else ""


def months(result: Result) -> str:
    """The table of months as HTML, shaded by return."""
    if result.months.empty:
        return "<p>There is no daily return yet.</p>"
    top = float(result.months.abs().max().max()) or 1.0
    head = "".join(f'<th class="n">{m}</th>' for m in (*MONTHS, "year"))
    rows = []
    for year, returns in result.months.iterrows():
        cells = "".join(f"<td{_shade(v, top)}>{percent(v)}</td>" for v in returns)
        whole = math.prod(1 + v for v in returns.dropna()) - 1
        rows.append(f"<tr><th>{year}</th>{cells}<td><b>{percent(whole)}</b></td></tr>")
    return (
        f'<div class="scroll"><table class="months"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _shade(value: float, top: float) -> str:
    if math.isnan(value):
        return ""
    colour = "18,133,90" if value >= 0 else "192,58,77"
    return f' style="background:rgba({colour},{0.06 + 0.42 * min(abs(value) / top, 1.0):.2f})"'
