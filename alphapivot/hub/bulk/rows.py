"""Rows of several series as columns of numbers: which are stored, which differ, which stand in the way of a write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.hub.bulk import encode

if TYPE_CHECKING:
    from datetime import datetime

Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """The number of each row's ``series``; its "ts" in PostgreSQL's microseconds, and its values."""

    series: Int
    columns: dict[str, encode.Column]

    @property
    def ts(self) -> Int:
        return encode.numbers(self.columns["ts"])

    def take(self, which: npt.NDArray[Any]) -> Rows:
        return Rows(self.series[which], {name: taken(column, which) for name, column in self.columns.items()})

    def joined(self, other: Rows) -> Rows:
        columns = {name: _joined(column, other.columns[name]) for name, column in self.columns.items()}
        return Rows(np.append(self.series, other.series), columns)

    def ordered(self) -> Rows:
        """The same by series and ts."""
        return self.take(np.lexsort((self.ts, self.series)))

    def starts(self) -> Int:
        """Where each series begins; its rows are together."""
        return np.flatnonzero(np.append(True, self.series[1:] != self.series[:-1])[: len(self.series)])

    def spans(self) -> Spans:
        """The first and last instant of each series; the rows are ordered."""
        starts = self.starts()
        return Spans(self.series[starts], self.ts[starts], self.ts[np.append(starts, len(self.series))[1:] - 1])


@dataclass(frozen=True)
class Spans:
    """Series, and the ``first`` and ``last`` instant of each, in PostgreSQL's microseconds."""

    series: Int
    first: Int
    last: Int

    def parameters(self) -> list[list[Any]]:
        """For the columns of an unnest()."""
        return [self.series.tolist(), instants(self.first), instants(self.last)]


@dataclass(frozen=True)
class Stored:
    """Stored rows; ``first`` and ``last`` instant of the block that holds each, its own where ``block`` is False."""

    rows: Rows
    first: Int
    last: Int
    block: Bool

    def touched(self, spans: Spans) -> Bool:
        """True for each row that lies, or whose block reaches, between the instants of its series in ``spans``."""
        place = pd.Index(spans.series).get_indexer(pd.Index(self.rows.series))
        mask = place >= 0
        mask[mask] = (self.last[mask] >= spans.first[place[mask]]) & (self.first[mask] <= spans.last[place[mask]])
        return mask

    def blocks(self, which: Bool) -> list[list[Any]]:
        """The series and the last instant of each block that holds any of these rows."""
        ends = {
            *zip(self.rows.series[which & self.block].tolist(), self.last[which & self.block].tolist(), strict=True)
        }
        series, last = zip(*sorted(ends), strict=True) if ends else ((), ())
        return [list(series), instants(np.array(last, np.int64))]


def places(rows: Rows, stored: Rows) -> Int:
    """For each row the place of the stored one with its key; -1 without one."""
    if not len(stored.series):
        return np.full(len(rows.series), -1)
    series, _ = pd.factorize(np.append(rows.series, stored.series))
    ts, unique = pd.factorize(np.append(rows.ts, stored.ts))
    key = series * len(unique) + ts
    found: Int = pd.Index(key[len(rows.series) :]).get_indexer(pd.Index(key[: len(rows.series)]))
    return found


def differ(new: Rows, old: Rows) -> Bool:
    """True for each row whose values, but for batch_id, are not those of the old one."""
    differs = np.zeros(len(new.series), np.bool_)
    for name, column in new.columns.items():
        if name in ("ts", "batch_id"):
            continue
        both = _joined(column, old.columns[name])
        now, before = np.split(both.codes if isinstance(both, encode.Text) else both, [len(differs)])
        same = now == before
        differs |= ~(same | ((now != now) & (before != before)))  # noqa: PLR0124 - NaN
    return differs


def instants(microseconds: Int) -> list[datetime]:
    """PostgreSQL's microseconds as datetimes."""
    return [*pd.to_datetime(microseconds + encode.EPOCH, unit="us", utc=True).to_pydatetime()]


def taken(column: encode.Column, which: npt.NDArray[Any]) -> encode.Column:
    return encode.Text(column.codes[which], column.words) if isinstance(column, encode.Text) else column[which]


def _joined(one: encode.Column, other: encode.Column) -> encode.Column:
    if not isinstance(one, encode.Text) or not isinstance(other, encode.Text):
        return np.append(encode.numbers(one), encode.numbers(other))
    words = [*dict.fromkeys([*one.words, *other.words])]
    place = {word: number for number, word in enumerate(words)}
    codes = [np.array([*(place[word] for word in text.words), -1])[text.codes] for text in (one, other)]
    return encode.Text(np.concatenate(codes), words)
