"""
The store of scores: a series' long runs of bars as blocks of arrays, single bars as rows; see sql/signals.sql.

A writer locks its series and has them to itself until it commits. No single row lies within a block, and no two blocks
of a series overlap: what is stored between the first and the last row that a write adds or changes is written again
together with them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from psycopg import sql
from psycopg.adapt import Loader
from psycopg.pq import Format

from alphapivot.frames import Frame, firsts
from alphapivot.hub.bulk import arrays, encode, statements
from alphapivot.hub.bulk.rows import Bool, Int, Rows, Spans, Stored, differ, places

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import psycopg

BLOCK = 128  # rows: about 2 kB, the least that is read of a long run
FEW = 32  # rows of a series: fewer are not worth a block
AT_ONCE = 100  # series that are packed in one transaction
INSTANTS = 1185  # PostgreSQL's number of timestamptz[]
LAST = 251_000_000_000_000_000  # microseconds: in the year 9953, later than any bar
ELEMENT = np.dtype([("length", ">i4"), ("value", ">i8")])


class _Raw(Loader):
    """An array as it is on the wire: psycopg would make a datetime of each instant."""

    format = Format.BINARY

    def load(self, data: Any) -> bytes:
        return bytes(data)


class Store:
    """The store of one frame, in the transaction of ``cursor``."""

    def __init__(self, cursor: psycopg.Cursor, frame: type[Frame]) -> None:
        self._cursor, self._frame = cursor, frame
        self._texts, self._values = statements.texts(frame), statements.values(frame)
        self._names = statements.names(frame)
        cursor.adapters.register_loader(INSTANTS, _Raw)

    def write(self, df: pd.DataFrame, *, instant: datetime, batch_id: int) -> tuple[int, int, int]:
        """Writes the rows of ``df``, sorted by key; returns how many were new, changed and unchanged."""
        starts = np.flatnonzero(firsts(df, *self._texts))
        keys, sizes = df[self._texts].iloc[starts], np.diff(starts, append=len(df))
        series = self._lock(keys)
        rows = Rows(np.repeat(series, sizes), encode.columns(df.drop(columns=self._texts)))
        stored = self._overlapping(rows.spans())
        place = places(rows, stored.rows)
        found = np.flatnonzero(place >= 0)
        differs = differ(rows.take(found), stored.rows.take(place[found]))
        if not differs.all():
            rows = rows.take(np.delete(np.arange(len(df)), found[~differs]))
        replaced = place[found[differs]]
        touched = stored.touched(rows.spans())
        if touched.any():
            self._keep(stored.rows.take(replaced), keys.set_axis(series), instant, batch_id)
            self._remove(rows.spans(), stored, touched)
            touched[replaced] = False
            rows = rows.joined(stored.rows.take(touched)).ordered()
        self._put(rows)
        changed = len(replaced)
        return len(df) - len(found), changed, len(found) - changed

    def withdraw(self, scope: str, symbol: str, after: datetime, *, instant: datetime, batch_id: int) -> int:
        """Moves the scores of a symbol later than ``after`` to the revisions; returns how many."""
        found = self._execute(statements.SERIES, [scope, symbol]).fetchall()
        keys = pd.DataFrame(found, columns=self._texts, dtype="str")
        series, (since,) = self._lock(keys), encode.numbers(encode.column(pd.Series([pd.Timestamp(after)])))
        spans = Spans(series, np.full(len(keys), since + 1), np.full(len(keys), LAST))
        stored = self._overlapping(spans)
        late = stored.rows.ts > since
        self._keep(stored.rows.take(late), keys.set_axis(series), instant, batch_id)
        self._remove(spans, stored, np.ones_like(late))
        self._put(stored.rows.take(~late).ordered())
        return int(late.sum())

    def long(self) -> list[int]:
        """The series with single rows for a block or more."""
        return [number for (number,) in self._execute(statements.LONG, [BLOCK])]

    def pack(self, series: list[int]) -> None:
        """
        Makes blocks of the oldest single rows of these series, as many as they fill; not of a series that another
        transaction writes.
        """
        free = [number for (number,) in self._execute(statements.FREE, [series])]
        found = self._execute(statements.WHOLE, [free, BLOCK, BLOCK]).fetchall()
        if found:
            numbers, *ends = zip(*found, strict=True)
            first, last = (encode.numbers(encode.column(pd.Series(end))) for end in ends)
            spans = Spans(np.array(numbers, np.int64), first, last)
            stored = self._overlapping(spans)
            self._remove(spans, stored, np.ones_like(stored.block))
            self._put(stored.rows.ordered())

    def forget(self) -> None:
        """Deletes the series without scores, but for those that another transaction writes."""
        empty = [number for (number,) in self._execute(statements.EMPTY, [])]
        self._execute(statements.FORGET, [empty])

    def _lock(self, keys: pd.DataFrame) -> Int:
        """
        The number of each series, new ones included; no other transaction writes them until this one ends.

        What is missing is added before anything is locked, and all in one order: so writers cannot wait in a circle.
        """
        named = [keys[name].to_list() for name in self._texts]
        found: list[tuple[int, int]] = []
        while len(found) < len(keys):  # again where one was deleted in between, being empty
            if self._execute(statements.KNOWN, named).fetchone() != (len(keys),):
                self._execute(statements.MISSING, named)
            found = self._execute(statements.LOCK, named).fetchall()
        places, series = np.array(found, np.int64).reshape(-1, 2).T
        numbers: Int = series[np.argsort(places)]
        return numbers

    def _overlapping(self, spans: Spans) -> Stored:
        """The stored rows of these spans, and the others of their blocks."""
        records = self._execute(statements.OVERLAP, spans.parameters(), binary=True).fetchall()
        series, block, moments, *lists = zip(*records, strict=True) if records else [()] * (3 + len(self._values))
        ts = [np.frombuffer(array, ELEMENT, offset=20)["value"].astype(np.int64) for array in moments]
        sizes = [len(array) for array in ts]
        columns: dict[str, encode.Column] = {"ts": np.concatenate([*ts, np.empty(0, np.int64)])}
        for name, parts in zip(self._values, lists, strict=True):
            whole = (part if len(part) == size else part * size for part, size in zip(parts, sizes, strict=True))
            column = pd.Series([*itertools.chain.from_iterable(whole)], dtype=self._frame.to_schema().dtypes[name].type)
            columns[name] = encode.column(column)
        rows = Rows(np.repeat(np.array(series, np.int64), sizes), columns)
        packed = np.repeat(np.array(block, np.bool_), sizes)
        first, last = (np.repeat(np.array([array[end] for array in ts], np.int64), sizes) for end in (0, -1))
        return Stored(rows, np.where(packed, first, rows.ts), np.where(packed, last, rows.ts), packed)

    def _keep(self, rows: Rows, keys: pd.DataFrame, instant: datetime, batch_id: int) -> None:
        """Keeps rows as superseded."""
        if not len(rows.series):
            return
        place = keys.index.get_indexer(pd.Index(rows.series))
        named = {name: encode.Text.of(keys[name]) for name in self._texts}
        data: dict[str, encode.Column] = {name: encode.Text(t.codes[place], t.words) for name, t in named.items()}
        superseded = pd.DataFrame({"superseded_at": [pd.Timestamp(instant).as_unit("us")], "superseded_by": [batch_id]})
        data |= rows.columns | {
            name: np.repeat(encode.numbers(one), len(place)) for name, one in encode.columns(superseded).items()
        }
        self._copy("revision", data, encode.stream(data))

    def _remove(self, spans: Spans, stored: Stored, which: Bool) -> None:
        """Deletes the single rows of these spans, and the blocks of these stored rows."""
        self._execute(statements.REMOVE_ROWS, spans.parameters())
        self._execute(statements.REMOVE_BLOCKS, stored.blocks(which))

    def _put(self, rows: Rows) -> None:
        """Adds rows, each series' together in the order of ts: as blocks, of a series with FEW rows or more."""
        sizes = np.diff(rows.starts(), append=len(rows.series))
        many = np.repeat(sizes >= FEW, sizes)
        if not many.all():
            few = rows.take(~many)
            data = {"series_id": few.series.astype(np.int32), **few.columns}
            self._copy("row", data, encode.stream(data))
            rows, sizes = rows.take(many), sizes[sizes >= FEW]
        if len(rows.series):
            begins = _begins(sizes)
            ends = np.append(begins[1:], len(rows.series)) - 1
            scalars = {
                "series_id": rows.series[begins].astype(np.int32),
                "first_ts": rows.ts[begins],
                "last_ts": rows.ts[ends],
            }
            self._copy("block", [*scalars, *rows.columns], arrays.stream(rows.columns, begins, scalars))

    def _copy(self, table: str, columns: Iterable[str], stream: Iterable[bytes | memoryview]) -> None:
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            self._names[table], statements.listed([*columns])
        )
        with self._cursor.copy(statement) as copy:
            for piece in stream:
                copy.write(piece)

    def _execute(self, statement: str, parameters: list[Any], *, binary: bool = False) -> psycopg.Cursor:
        return self._cursor.execute(sql.SQL(statement).format(**self._names), parameters, binary=binary)


def maintain(connection: psycopg.Connection, frame: type[Frame]) -> None:
    """Makes blocks of single rows, a few series in a transaction, and forgets the series that have no scores."""
    with connection.cursor() as cursor:
        store = Store(cursor, frame)
        series = store.long()
        for first in range(0, len(series), AT_ONCE):
            with connection.transaction():
                store.pack(series[first : first + AT_ONCE])
        with connection.transaction():
            store.forget()


def _begins(sizes: Int) -> Int:
    """Where each block begins of series of ``sizes`` rows that follow each other: a series' blocks are alike."""
    blocks = -(-sizes // BLOCK)
    within = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    start, size, count = (np.repeat(each, blocks) for each in (np.cumsum(sizes) - sizes, sizes, blocks))
    begins: Int = start + within * size // count
    return begins
