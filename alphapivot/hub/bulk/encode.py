"""
A frame as PostgreSQL's binary COPY stream, encoded from whole numpy columns.

The format stores each row's number of fields, and each field's length (-1: NULL) and bytes. Rows with the same NULLs
and the same text lengths therefore have the same layout: they are one structured array. A million bars fall into a
handful of layouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from alphapivot.frames import uniform

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
ROWS = 1 << 16  # encoded at once: about 10 MB of bars
EPOCH = 946_684_800_000_000  # PostgreSQL counts microseconds from 2000-01-01
WIRE = {"f": ">f", "i": ">i"}


@dataclass(frozen=True)
class Text:
    """A text column: ``codes`` index into ``words``, -1 is NULL."""

    codes: npt.NDArray[np.int64]
    words: list[bytes]

    @classmethod
    def of(cls, column: pd.Series) -> Text:
        texts = pa.array(column, from_pandas=True)
        if uniform(texts):
            return cls(np.zeros(len(texts), dtype=np.int64), [texts[0].as_py().encode()])
        if isinstance(texts, pa.ChunkedArray):  # a concatenated frame
            texts = texts.combine_chunks()
        encoded = texts.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(codes, [word.encode() for word in encoded.dictionary.to_pylist()])

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The byte length of each word; the last, -1, is NULL's, which code -1 indexes."""
        return np.array([*map(len, self.words), -1], dtype=np.int64)

    @cached_property
    def is_constant(self) -> bool:
        return len(self.words) == 1 and bool((self.codes == 0).all())

    def values(self, rows: npt.NDArray[np.int64]) -> Any:
        """The bytes of ``rows``, whose texts have the same length; of one row where all are the same."""
        if self.is_constant:
            return np.array(self.words)
        codes = self.codes[rows]
        unique, places = np.unique(codes, return_inverse=True)
        return np.array([self.words[code] for code in unique])[places]


Column = Text | npt.NDArray[Any]


def columns(df: pd.DataFrame) -> dict[str, Column]:
    """The frame's columns as numbers: texts as codes and words, instants in PostgreSQL's microseconds."""
    return {str(name): column(df[name]) for name in df}


def stream(data: dict[str, Column]) -> Iterator[bytes | memoryview]:
    """The columns as a COPY stream, at most ROWS rows per chunk."""
    layout = _layout(data)
    yield HEADER
    for start in range(0, len(layout), ROWS):
        kinds, uniques = pd.factorize(layout[start : start + ROWS])
        order = np.argsort(kinds, kind="stable") if len(uniques) > 1 else np.arange(len(kinds))
        for rows in np.split(order + start, np.cumsum(np.bincount(kinds))[:-1]):
            yield _records(data, rows).data.cast("B")
    yield TRAILER


def column(values: pd.Series) -> Column:
    """One column of ``columns``."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.to_numpy("datetime64[us]").astype(np.int64) - EPOCH
    if values.dtype.kind in "fi":
        return values.to_numpy()
    return Text.of(values)


def numbers(data: Column) -> npt.NDArray[Any]:
    """The numbers of a column that is no text."""
    assert not isinstance(data, Text)  # noqa: S101 - by its name
    return data


def _layout(data: dict[str, Column]) -> npt.NDArray[np.int64]:
    """A number for each row, equal for rows with the same layout."""
    layout = np.zeros(len(next(iter(arrays(data)))), dtype=np.int64)
    for column in data.values():
        if isinstance(column, Text):
            if column.is_constant:
                continue
            mark = column.lengths[column.codes] + 1
        elif column.dtype.kind == "f" and (missing := np.isnan(column)).any():
            mark = missing.astype(np.int64)
        else:
            continue
        layout = layout * (mark.max() + 1) + mark
        if layout.max() > 1 << 31:  # before the next factor overflows
            layout = pd.factorize(layout)[0].astype(np.int64)
    return layout


def arrays(data: dict[str, Column]) -> Iterator[npt.NDArray[Any]]:
    for column in data.values():
        yield column.codes if isinstance(column, Text) else column


def _records(data: dict[str, Column], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """The wire format of ``rows``, which have the same layout."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    values: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for name, column in data.items():
        fields.append((f"{name} length", ">i4"))
        if isinstance(column, Text):
            lengths[name] = int(column.lengths[column.codes[rows[0]]])
            if lengths[name] > 0:
                values[name] = column.values(rows)
                fields.append((name, f"S{lengths[name]}"))
        elif column.dtype.kind == "f" and np.isnan(column[rows[0]]):
            lengths[name] = -1
        else:
            values[name] = column[rows]
            lengths[name] = column.dtype.itemsize
            fields.append((name, column.dtype.newbyteorder(">").str))
    records = np.zeros(len(rows), dtype=fields)
    records["fields"] = len(data)
    for name, length in lengths.items():
        records[f"{name} length"] = length
    for name, value in values.items():
        records[name] = value
    return records
