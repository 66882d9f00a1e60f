"""
A large plain CSV as numbers and timestamps from the start: its text, several times their size, is never in memory.

Only what ``text`` and ``table`` would read as the same values is read here; a file with anything else in it is theirs.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
from pandas._libs.parsers import STR_NA_VALUES  # type: ignore[import-not-found]
from pyarrow import csv

from alphapivot.feeds.files.text import BLOCK, SEPARATORS, is_data, separator_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from alphapivot.config.sections.feeds import LayoutFeed

LARGE = 1 << 24  # bytes; smaller files are read as text, whatever is in them
PACKED = (".gz", ".bz2", ".zip", ".xz", ".zst", ".tar")
ISO = re.compile(r"\d{4}-\d\d-\d\d")
Types = dict[str, pa.DataType]  # of a file's columns


def read(path: Path, section: LayoutFeed, types: Callable[[list[str]], Types]) -> pd.DataFrame | None:
    """
    All rows, indexed by line, of the ``types`` that its columns' names give it; None where the file is small or any
    cell is not plainly of its type: a number with a comma, no timestamp.
    """
    coded = section.encoding or "utf-8"
    if path.suffix in PACKED or section.decimal == "comma" or coded.replace("-", "").lower() not in ("utf8", "utf8sig"):
        return None
    if path.stat().st_size < LARGE:
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        first, second = [lines.readline().rstrip("\r\n") for _ in range(section.skip + 2)][-2:]
    separator = SEPARATORS[section.separator] if section.separator else separator_of(first)
    header = section.header.split(",") if section.header is not None else first.split(separator)
    names = [name.strip() for name in header]
    headed = not is_data(first.split(separator))  # a first line that is no row
    unclear = separator == " " or len(set(names)) < len(names) or (section.header is None and not headed)
    if unclear:
        return None
    skip = section.skip + headed
    row = dict(zip(names, (second if headed else first).split(separator), strict=False))
    # epochs and dates of other formats stay text
    wanted = {name: of for name, of in types(names).items() if of == pa.float64() or ISO.match(row.get(name, ""))}
    convert = csv.ConvertOptions(
        column_types={name: wanted.get(name, pa.large_string()) for name in names},
        null_values=sorted(STR_NA_VALUES),
        strings_can_be_null=True,
    )
    options = csv.ReadOptions(column_names=names, skip_rows=skip, block_size=BLOCK)
    parsing = csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False)
    with ThreadPoolExecutor(1) as beside:  # Arrow reads in threads of its own
        plain = beside.submit(_is_plain, path, separator)
        try:
            table = csv.read_csv(path, options, parsing, convert)
        except pa.ArrowInvalid:
            return None
    lines_alone = any(table[name].null_count for name in names if wanted.get(name) != pa.float64())
    if lines_alone or not plain.result():  # a line of separators alone
        return None
    rows: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)
    return rows.set_axis(pd.RangeIndex(skip + 1, skip + 1 + len(rows)))


def _is_plain(path: Path, separator: str) -> bool:
    """True without quotes, spaces after separators, old ends of lines and empty last lines: ``text`` reads them."""
    marks, before = (b'"', b"\x00", b"\n ", f"{separator} ".encode()), b""
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            data = before[-1:] + block
            if any(mark in data for mark in marks):
                return False
            if b"\r" in data and data[:-1].count(b"\r") != data.count(b"\r\n"):
                return False
            before = data
    return not before[-4:].replace(b"\r", b"").endswith(b"\n\n")
