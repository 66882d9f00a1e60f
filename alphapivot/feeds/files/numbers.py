"""
Numbers as people write them: 1,000.5 and 1.000,5, $12.50 and 1.10M.

What a comma means is proven by the file or said in config.ini.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable

SPACES = r"[\s'\u00a0\u202f\u2019]"
# what only one of the two spellings can mean
POINT = r"[-+]?\d{1,3}(?:,\d{3})+\.\d*|[-+]?\d{1,3}(?:,\d{3}){2,}|[-+]?\d*\.(?:\d{1,2}|\d{4,})|[-+]?0\.\d+"
COMMA = r"[-+]?\d{1,3}(?:\.\d{3})+,\d*|[-+]?\d{1,3}(?:\.\d{3}){2,}|[-+]?\d*,(?:\d{1,2}|\d{4,})|[-+]?0,\d+"
SIGN = r"^([-+]?)[$\u20ac\u00a3\u00a5\u20b9]"  # of a currency
SCALE = {"K": "e3", "M": "e6", "B": "e9"}
GROUPS = {"point": r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?", "comma": r"[-+]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d*)?"}


def decimal_of(columns: Iterable[pd.Series[str]]) -> str | None:
    """
    The decimal mark, point or comma, that text columns prove together: point where no comma is in them; None where they
    prove both or none.
    """
    kept = [c[c.str.contains(",", regex=False, na=False)] for c in columns]
    if not any(len(c) for c in kept):
        return "point"
    comma = any(_any(c, COMMA) for c in kept)
    return None if comma == any(_any(c, POINT) for c in kept) else "comma" if comma else "point"


def plain(text: pd.Series[str], decimal: str) -> pd.Series[float]:
    """``text`` as numbers, missing where it is none."""
    if decimal == "point":
        try:  # the same doubles, in a tenth of the time
            whole = pc.cast(pa.array(text, from_pandas=True), pa.float64())
            return pd.Series(whole.to_numpy(zero_copy_only=False), index=text.index, name=text.name)
        except pa.ArrowInvalid:  # spaces or words in some
            numbers = pd.to_numeric(text, errors="coerce")
        left = text[numbers.isna() & text.notna()]
        if left.empty:
            return numbers.astype(float)
        bare, scale = _bare(left)
        bare = bare.str.replace(",", "", regex=False).where(bare.str.fullmatch(GROUPS["point"]), bare)
        return numbers.astype(float).fillna(pd.to_numeric(bare + scale, errors="coerce").astype(float))
    bare, scale = _bare(text)
    fits = bare.str.fullmatch(GROUPS["comma"], na=False)
    bare = bare.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    return pd.to_numeric((bare + scale).where(fits), errors="coerce").astype(float)


def _bare(text: pd.Series[str]) -> tuple[pd.Series[str], pd.Series[str]]:
    """``text`` without spaces, a currency's sign and K, M or B (thousands, millions, billions); their exponents."""
    bare = text.str.replace(SPACES, "", regex=True).str.replace(SIGN, r"\1", regex=True)
    last = bare.str.extract(r"\d([KMB])$")[0]
    return bare.where(last.isna(), bare.str[:-1]), last.map(SCALE).fillna("")


def _any(column: pd.Series[str], pattern: str) -> bool:
    bare, _ = _bare(column)
    return bool(bare.str.fullmatch(re.compile(pattern), na=False).any())
