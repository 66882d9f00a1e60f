"""The first rows of a file, with the names of its columns: separator, header, skipped lines, encoding."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.errors import DataError
from alphapivot.feeds.files import json_rows, text

if TYPE_CHECKING:
    from pathlib import Path

    from alphapivot.feeds.sniff.sniffed import Sniffed

LOOK = 2_000  # rows
HEADERS = {  # of files without one: what the numbers after the stamp are, by their count
    4: "open, high, low, close",
    5: "open, high, low, close, volume",
    6: "open, high, low, close, volume, open_interest",
    11: "open, high, low, close, volume, close_time, quote_volume, trades, taker_base, taker_quote, ignored",
}


def rows_of(path: Path, found: Sniffed) -> pd.DataFrame:
    """The first rows with their columns' names; separator, header, skip and encoding are noted."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path).reset_index().head(LOOK)
    if path.suffix in (".json", ".jsonl"):
        return json_rows.read(path, text.decoded(path), None, None).head(LOOK)
    lines = _lines(path, found)
    body = lines[len(lines) // 2]
    separator = text.separator_of(body) if re.search("[,\t;|]", body) else " "
    width = len(_cells(body, separator))
    skip = next((n for n, line in enumerate(lines) if len(_cells(line, separator)) in (width, width - 1)), 0)
    if skip:
        found.feed["skip"] = str(skip)
        found.why.append(f"skip = {skip}: the first lines are not of the table: {lines[0][:40]}")
    if separator != text.separator_of(lines[skip]):
        name = next(name for name, mark in text.SEPARATORS.items() if mark == separator)
        found.feed["separator"] = name
        found.why.append(f"separator = {name}: it divides each line into {width}")
    names, table = _named([_cells(line, separator) for line in lines[skip:]], width, found)
    table = [row for row in table if len(row) == len(names)][:LOOK]
    if not table:
        raise DataError(f"{path} has a header but no rows; expected bars")
    return pd.DataFrame(table, columns=names, dtype="str")


def _lines(path: Path, found: Sniffed) -> list[str]:
    """The first lines that are not blank; an encoding that had to be tried is noted."""
    try:
        whole = text.decoded(path)
    except DataError as error:
        if "not utf-8" not in str(error):
            raise
        whole = text.decoded(path, "cp1252")
        found.feed["encoding"] = "cp1252"
        found.questions.append("encoding: the file is not UTF-8; cp1252 is the usual one of Western Windows")
    lines = [line for line in whole.splitlines()[: LOOK + 20] if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty; expected a header and rows")
    return lines


def _named(table: list[list[str]], width: int, found: Sniffed) -> tuple[list[str], list[list[str]]]:
    """The columns' names and the rows of a table that may begin with a header."""
    first = table[0]
    if text.is_data(list(first)):
        names = _names_for(first)
        found.feed["header"] = ", ".join(names)
        found.why.append(f"header: the first line is a row of numbers; its {width} columns are named by their content")
        return names, table
    if len(first) == width - 1:
        names = [first[0], "Time", *first[1:]]
        found.feed["header"] = ", ".join(names)
        found.why.append("header: it names one column less than the rows have: date and time are two")
        return names, table[1:]
    return [name.strip() or f"column {n}" for n, name in enumerate(first, 1)], table[1:]


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]


def _names_for(row: list[str]) -> list[str]:
    """Names of the columns of a file without a header, by its first row."""
    n = 0
    names: list[str] = []
    while (n < len(row) and not re.fullmatch(r"[-+]?\d{1,9}([.,]\d+)?", row[n])) or not names:
        clock = re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?( [AaPp][Mm])?", row[n])
        dated = re.search(r"\d{1,4}[-./]\w+[-./]\d{1,4}|^\d{8}|^\d{10,19}$", row[n])
        names.append("time" if clock else "date" if dated else f"text{n}" if "symbol" in names else "symbol")
        n += 1
    if n < len(row) and re.fullmatch(r"\d{4}(\d\d)?", row[n]) and "." in "".join(row[n + 1 : n + 2]):
        names.append("time")
        n += 1
    rest = HEADERS.get(len(row) - n, HEADERS[5] if len(row) - n > 5 else HEADERS[4]).split(", ")
    return [*names, *rest, *(f"column{k}" for k in range(len(names) + len(rest), len(row)))][: len(row)]
