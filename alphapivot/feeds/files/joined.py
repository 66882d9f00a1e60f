"""Rows that are parts of one bar, such as Sunday evening's and Monday's. Pure."""

from __future__ import annotations

import pandas as pd

from alphapivot.feeds.files.table import NUMBERS


def joined(rows: pd.DataFrame) -> pd.DataFrame:
    """
    Merge rows, sorted by time, that belong to one bar, such as Sunday evening's and Monday's.

    Two rows of the same date are not parts, and text would be lost: both are left unchanged, for screening.
    """
    key = ["contract", "ts"]
    several = rows.duplicated(key, keep=False)
    numbers = rows[NUMBERS].apply(pd.to_numeric, errors="coerce")
    wrong = rows.duplicated([*key, "date"], keep=False) | (numbers.isna() & rows[NUMBERS].notna()).any(axis=1)
    wrong = wrong.groupby([rows[k] for k in key]).transform("any")
    parts = numbers.assign(**{k: rows[k] for k in key})[several & ~wrong]
    groups = parts.groupby(key, sort=False)
    merged = pd.DataFrame({name: groups[name].last(skipna=False) for name in ("close", "open_interest")})
    merged["open"] = groups["open"].first(skipna=False)
    # a value missing in one part is missing in the whole
    for name, function in (("high", "max"), ("low", "min"), ("volume", "sum")):
        merged[name] = groups[name].agg(function).mask(groups[name].agg("size") > groups[name].agg("count"))
    merged["open"] = merged["open"].mask(merged["high"].isna())
    result: pd.DataFrame = pd.concat([rows[~several | wrong], merged.reset_index()], ignore_index=True)
    return result
