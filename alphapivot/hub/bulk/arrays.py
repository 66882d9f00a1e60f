"""
Blocks of consecutive rows as arrays, a row of PostgreSQL each: written as a binary COPY stream, read from Arrow lists.

A column whose value is the same in a whole block is stored as an array of one element.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alphapivot.hub.bulk.encode import HEADER, TRAILER, Column, Text, numbers
from alphapivot.hub.bulk.rows import Int, taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AT_ONCE = 1 << 20  # bytes per chunk of the stream
TEXT = 25  # the type numbers of PostgreSQL's catalog
NUMBERS = {"int64": 20, "float32": 700}
INSTANT = 1184


@dataclass(frozen=True)
class _Elements:
    """A column on the wire: row i's element is ``wire[ends[i]:ends[i + 1]]``, its length first (-1: NULL)."""

    wire: memoryview
    ends: list[int]
    kind: int  # of the elements

    @classmethod
    def of(cls, column: Column, kind: int) -> _Elements:
        if isinstance(column, Text):
            words = [*(struct.pack(">i", len(word)) + word for word in column.words), struct.pack(">i", -1)]
            sent = b"".join([words[code] for code in column.codes.tolist()])
            return cls(memoryview(sent), _ends(column.lengths[column.codes]), kind)
        missing = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), np.bool_)
        size = column.dtype.itemsize
        elements = np.empty(len(column), [("length", ">i4"), ("value", column.dtype.newbyteorder(">"))])
        elements["length"], elements["value"] = np.where(missing, -1, size), column
        wire = elements.view(np.uint8).reshape(len(column), -1)
        if missing.any():  # a NULL has no value
            held = np.ones(wire.shape, np.bool_)
            held[missing, 4:] = False
            wire = wire[held]
        return cls(wire.data.cast("B"), _ends(np.where(missing, -1, size)), kind)

    def field(self, first: int, end: int) -> bytes:
        """The array of these rows as a field of COPY."""
        elements = self.wire[self.ends[first] : self.ends[end]]
        return struct.pack(">iiiIii", 20 + len(elements), 1, 0, self.kind, end - first, 1) + elements


def stream(columns: Mapping[str, Column], starts: Int, scalars: Mapping[str, npt.NDArray[Any]]) -> Iterator[bytes]:
    """
    A COPY stream of the blocks of rows that begin at ``starts``: the ``scalars``, a value for each block, then the
    arrays of ``columns``; "ts" are PostgreSQL's microseconds.
    """
    bounds = np.append(starts, len(numbers(columns["ts"])))
    fields = []
    for name, column in columns.items():
        firsts, ends = starts, bounds[1:]
        constant = np.zeros(len(starts), np.bool_) if name == "ts" else _constant(column, starts)
        if constant.all():  # few elements are sent: only they are encoded
            column, firsts = taken(column, starts), np.arange(len(starts))  # noqa: PLW2901 - what is sent of it
        kind = INSTANT if name == "ts" else TEXT if isinstance(column, Text) else NUMBERS[column.dtype.name]
        ends = np.where(constant, firsts + 1, ends)
        fields.append((_Elements.of(column, kind), firsts.tolist(), ends.tolist()))
    heads = _heads(scalars, len(scalars) + len(columns), len(starts))
    yield HEADER
    pieces: list[bytes] = []
    size = 0
    for block, head in enumerate(heads):
        pieces.append(head)
        pieces += [elements.field(firsts[block], ends[block]) for elements, firsts, ends in fields]
        size += sum(map(len, pieces[-len(fields) :]))
        if size > AT_ONCE:
            yield b"".join(pieces)
            pieces, size = [], 0
    yield b"".join(pieces) + TRAILER


def flat(lists: pa.Array, sizes: Int) -> pa.Array:
    """The elements of Arrow lists, those of one element repeated to the block's size."""
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    elements = lists.flatten()
    if np.array_equal(lengths, sizes):
        return elements
    first = np.cumsum(lengths) - lengths
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return elements.take(pa.array(np.repeat(first, sizes) + np.where(np.repeat(lengths, sizes) == 1, 0, within)))


def _constant(column: Column, starts: Int) -> npt.NDArray[np.bool_]:
    """True for each block with one value."""
    if isinstance(column, Text):
        values: npt.NDArray[Any] = column.codes
    else:
        values = column.view(np.int32) if column.dtype.kind == "f" else column
    same: npt.NDArray[np.bool_] = np.minimum.reduceat(values, starts) == np.maximum.reduceat(values, starts)
    return same


def _ends(lengths: Int) -> list[int]:
    ends: list[int] = np.append(0, np.cumsum(4 + np.maximum(lengths, 0))).tolist()
    return ends


def _heads(scalars: Mapping[str, npt.NDArray[Any]], fields: int, blocks: int) -> Iterator[bytes]:
    """The beginning of each row: its number of fields, and the scalars."""
    kinds = [("fields", ">i2")]
    for name, values in scalars.items():
        kinds += [(f"{name} length", ">i4"), (name, values.dtype.newbyteorder(">").str)]
    heads = np.empty(blocks, kinds)
    heads["fields"] = fields
    for name, values in scalars.items():
        heads[f"{name} length"], heads[name] = values.dtype.itemsize, values
    width, wire = heads.dtype.itemsize, heads.tobytes()
    return (wire[i : i + width] for i in range(0, len(wire), width))
