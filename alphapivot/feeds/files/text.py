"""
The rows of a delimited text file, as text, indexed by line: packed or not, with or without a header.

What the bytes prove is not asked for: a byte order mark, a tab or semicolon in the first line, a first line of numbers.
The rest is said in config.ini.
"""

from __future__ import annotations

import io
import itertools
import lzma
import re
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, NoReturn

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas._libs.parsers import STR_NA_VALUES  # type: ignore[import-not-found]
from pandas.io.common import get_handle  # type: ignore[import-not-found]
from pyarrow import csv

from alphapivot.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from alphapivot.config.sections.feeds import LayoutFeed

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
# errors of decompression: damaged, several files, encrypted, or a package that is not installed
UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, ImportError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)
BLOCK = 1 << 22  # bytes parsed at once
NUMBER = re.compile(r"\s*[-+]?(?:\d[\d.,' ]*|[.,]\d+)(?:[eE][-+]?\d+)?\s*")


def read(path: Path, section: LayoutFeed, feed: str) -> pd.DataFrame:
    """All rows of a file, text, with its columns' names. Raises DataError with file, line and fix."""
    return _rows(path, decoded(path, section.encoding), section, feed)


def rows(path: Path, body: bytes, section: LayoutFeed, feed: str) -> pd.DataFrame:
    """As ``read``, of the bytes of an answer that messages name ``path``."""
    return _rows(path, _text(path, body, section.encoding), section, feed)


def _rows(path: Path, text: str, section: LayoutFeed, feed: str) -> pd.DataFrame:
    first = next((line for line in itertools.islice(_lines(text), section.skip, None) if line.strip()), "")
    if not first:
        raise DataError(f"{path} is empty; expected a header and rows")
    separator = SEPARATORS[section.separator] if section.separator else separator_of(first)
    try:
        # the header is read as an ordinary row, so that a row with more fields is an error
        rows = _parsed(text, separator, section.skip)
    except pd.errors.ParserError as error:
        if section.header is None:
            _misfit(path, feed, text, separator, section.skip, error)
        return _named(path, section, feed, _below(path, text, separator, section.skip, error))
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if section.header is not None:
        named = _named(path, section, feed, rows)
        return named if is_data(rows.iloc[0].tolist()) else named[1:]
    if is_data(rows.iloc[0].tolist()):
        raise DataError(
            f"{path}, line {rows.index[0]}: the first line holds numbers ({first[:60]}), expected a header; name the "
            f"columns in [feed.{feed}], such as header = {', '.join(['...'] * rows.shape[1])}"
        )
    rows.columns = pd.Index([str(name).strip() for name in rows.iloc[0]])
    return rows[1:]


def decoded(path: Path, encoding: str | None = None) -> str:
    """The text of a file, unpacked; the encoding is that of its byte order mark, else the given one or UTF-8."""
    try:
        data = _unpacked(path)
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return _text(path, data, encoding)


def _lines(text: str) -> Iterator[str]:
    return (match[1] for match in re.finditer(r"([^\r\n]*)(?:\r\n|\r|\n|\Z)", text))


def _text(path: Path, data: bytes, encoding: str | None) -> str:
    marked = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    try:
        text = data.decode(marked or encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not {error.encoding}; say which it is in its [feed.*], such as encoding = cp1252"
        ) from error
    if "\x00" in text[:1000]:
        raise DataError(f"{path} is not a text file in {marked or encoding or 'utf-8'}; try encoding = utf-16-le")
    return text


def separator_of(line: str) -> str:
    """What separates the fields of a line: a tab, semicolon or pipe in it, else commas."""
    return next((mark for mark in ("\t", ";", "|") if mark in line), ",")


def is_data(cells: Sequence[object]) -> bool:
    """True if a first line is a row of data: half of its cells or more are numbers. A header's are names."""
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    return sum(NUMBER.fullmatch(text) is not None for text in texts) * 2 >= max(len(texts), 1)


def _unpacked(path: Path) -> bytes:
    if path.suffix != ".zip":
        with get_handle(path, "rb", compression="infer", is_text=False) as opened:
            return bytes(opened.handle.read())
    with zipfile.ZipFile(path) as archive:
        # what macOS and editors add is no member
        parts = [n for n in archive.namelist() if not n.endswith("/") and not re.search(r"(^|/)(\.|__MACOSX/)", n)]
        if len(parts) != 1:
            raise ValueError(f"it holds {len(parts)} files ({', '.join(parts[:5])}); expected one")
        return archive.read(parts[0])


def _parsed(text: str, separator: str, skip: int) -> pd.DataFrame:
    rows = _regular(text, separator, skip)
    if rows is None:
        how: dict[str, Any] = {"dtype": str, "skip_blank_lines": False, "skipinitialspace": True}
        rows = pd.read_csv(io.StringIO(text), sep=separator, header=None, skiprows=skip, **how)
    rows.index += skip + 1
    return rows.dropna(how="all")


def _regular(text: str, separator: str, skip: int) -> pd.DataFrame | None:
    """
    What ``read_csv`` makes of the text, a tenth of its time; None where it has quotes, spaces after separators, blank
    lines, old line ends or rows of different lengths, which only ``read_csv`` takes.
    """
    first = next(itertools.islice(_lines(text), skip, None), "")
    old = "\r" in text and text.count("\r") != text.count("\r\n")
    if separator == " " or '"' in text or old or not first.strip():
        return None
    data = text.encode()
    blank = len(data[-9:]) - len(data[-9:].rstrip(b"\r\n"))  # lines at the end
    width = first.count(separator) + 1
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(map(str, range(width)), pa.large_string()),
        null_values=sorted(STR_NA_VALUES),
        strings_can_be_null=True,
    )
    try:
        table = csv.read_csv(
            pa.BufferReader(pa.py_buffer(data).slice(0, len(data) - blank)),
            csv.ReadOptions(column_names=[str(n) for n in range(width)], skip_rows=skip, block_size=BLOCK),
            csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
            convert,
        )
    except pa.ArrowInvalid:
        return None
    if any(pc.any(pc.starts_with(column, " ")).as_py() for column in table.columns):
        return None
    rows: pd.DataFrame = table.to_pandas(split_blocks=True)
    return rows.set_axis(range(width), axis="columns")


def _below(path: Path, text: str, separator: str, skip: int, error: Exception) -> pd.DataFrame:
    """The rows after a header that is shorter than the rows."""
    try:
        return _parsed(text, separator, skip + 1)
    except pd.errors.ParserError as again:
        match = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(again))
        if match is None:
            raise DataError(f"{path} cannot be read as CSV: {error}") from error
        expected, line, fields = (int(n) for n in match.groups())
        raise DataError(f"{path}, line {line}: {fields} fields, expected {expected}") from error


def _named(path: Path, section: LayoutFeed, feed: str, rows: pd.DataFrame) -> pd.DataFrame:
    names = [name.strip() for name in (section.header or "").split(",")]
    if len(names) != rows.shape[1]:
        raise DataError(
            f"{path}, line {rows.index[0]}: {rows.shape[1]} fields, but [feed.{feed}] header names {len(names)}: "
            f"{', '.join(names)}"
        )
    return rows.set_axis(names, axis="columns")


def _misfit(path: Path, feed: str, text: str, separator: str, skip: int, error: Exception) -> NoReturn:
    match = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    if match is None:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    expected, line, fields = (int(n) for n in match.groups())
    names = [name.strip() for name in text.splitlines()[skip].split(separator)]
    other = [mark for mark in (";", "\t", "|") if mark != separator and mark in text[:2000]]
    if other and len(names) == 1:
        name = next(name for name, mark in SEPARATORS.items() if mark == other[0])
        raise DataError(
            f"{path}, line {line}: {fields} fields; its fields seem separated by {name}: separator = {name}"
        )
    # the most common case: date and time are two columns, and the header lacks the time
    example = [names[0], "Time", *names[1:]] if fields == expected + 1 else ["..."] * fields
    raise DataError(
        f"{path}, line {line}: {fields} fields, but the header names {expected} ({', '.join(names)}); if the header is "
        f"wrong, name all {fields} columns in [feed.{feed}], such as header = {', '.join(example)}"
    ) from error
