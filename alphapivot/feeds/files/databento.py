"""
Databento's files: prices in units of 1e-9 as whole numbers, and its binary encoding (DBN).

https://databento.com/docs/standards-and-conventions/common-fields-enums-types: 1 unit is 1e-9, and the largest int64 is
a missing price. ``ts_event`` of a bar is its start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

RECORD = {"rtype", "publisher_id", "instrument_id"}  # in every record of Databento, and of nobody else
PRICES = ("open", "high", "low", "close")
UNIT = 1_000_000_000
MISSING = 2**63 - 1


def is_fixed_point(rows: pd.DataFrame, name: str) -> bool:
    """True if a column of a Databento file holds prices as whole numbers of 1e-9."""
    if name not in PRICES or not set(rows.columns) >= RECORD:
        return False
    values = rows[name]
    if values.dtype.kind in "iu":
        return True
    return values.dtype.kind != "f" and bool(values.astype("str").str.fullmatch(r"-?\d+").all())


def prices(values: pd.Series[int]) -> pd.Series[float]:
    """Fixed-point prices as numbers."""
    whole = values.astype("int64")
    return (whole / UNIT).where(whole != MISSING)


def dbn(path: Path) -> pd.DataFrame:
    """The bars of a DBN file, with the symbols that its symbology names."""
    try:
        store = import_module("databento").DBNStore  # optional
    except ImportError:
        raise DataError(
            f"{path} is DBN, which needs Databento's package (pip install databento); or save it as CSV or Parquet"
        ) from None
    rows: pd.DataFrame = store.from_file(path).to_df(pretty_ts=True, map_symbols=True).reset_index()
    return rows.set_axis(rows.index + 1)
