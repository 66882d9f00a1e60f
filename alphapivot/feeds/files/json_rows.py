"""Rows of JSON: lists of objects or of lists, an object of columns, or one JSON object a line. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from alphapivot.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import PurePath


def read(path: PurePath, text: str, rows: str | None, header: str | None) -> pd.DataFrame:
    """All rows as text, as in a CSV file: numbers keep their digits."""
    return table(path, parsed(path, text), rows, header)


def parsed(path: PurePath, text: str) -> Any:
    """JSON, or a list of the lines' JSON; numbers stay text."""
    try:
        return json.loads(text, parse_float=str, parse_int=str)
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            return [json.loads(line, parse_float=str, parse_int=str) for line in lines]
        except ValueError:
            raise DataError(f"{path} is not JSON: {error}; it begins with {text[:60]!r}") from None


def at(found: Any, place: str) -> Any:
    """The value at a path such as data.bars; None: there is none."""
    for part in place.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def is_empty(found: Any, rows: str | None) -> bool:
    """True for an answer without a row: an empty list, or an object whose list is empty or absent."""
    if rows:
        return not at(found, rows)
    if not isinstance(found, dict):
        return not found
    lists = _lists(found)
    return bool(lists) and not any(lists.values())


def _lists(found: dict[str, Any]) -> dict[str, list[Any]]:
    """Path, such as data.bars -> list, of all lists in objects at any depth."""
    lists = {}
    for name, value in found.items():
        if isinstance(value, list):
            lists[name] = value
        elif isinstance(value, dict):
            lists |= {f"{name}.{path}": inner for path, inner in _lists(value).items()}
    return lists


def table(path: PurePath, found: Any, rows: str | None, header: str | None) -> pd.DataFrame:
    """The rows of parsed JSON: the list at the path ``rows``, else the only one of objects, or at all."""
    if rows:
        inner = at(found, rows)
        if inner is None:
            here = ", ".join(found) if isinstance(found, dict) else "a list"
            raise DataError(f"{path}: there is no {rows}; it has {here}")
        found = inner
    if isinstance(found, dict) and not rows:
        found = _only(path, found)
    if isinstance(found, dict):  # a list for each column
        columns = {name: value for name, value in found.items() if isinstance(value, list)}
        if len({len(value) for value in columns.values()}) != 1:
            raise _unclear(path, columns or found)
        result = pd.DataFrame({name: _texts(value) for name, value in columns.items()})
    elif isinstance(found, list) and all(isinstance(row, dict) for row in found):
        names = list(dict.fromkeys(name for row in found for name in row))
        result = pd.DataFrame({name: _texts([row.get(name) for row in found]) for name in names})
    elif isinstance(found, list) and all(isinstance(row, list) for row in found):
        result = _of_lists(path, found, header)
    else:
        raise DataError(f"{path}: expected a list of rows, got {type(found).__name__}")
    return result.set_axis(result.index + 1)


def _only(path: PurePath, found: dict[str, Any]) -> Any:
    """The only list of objects, or the only list; else all lists, as columns."""
    lists = {name: value for name, value in _lists(found).items() if value}
    objects = {name: value for name, value in lists.items() if all(isinstance(row, dict) for row in value)}
    if len(objects) > 1:
        raise _unclear(path, objects)
    if len(objects) == 1 or len(lists) == 1:
        return next(iter((objects or lists).values()))
    return lists or found


def _unclear(path: PurePath, names: Iterable[str]) -> DataError:
    return DataError(f"{path}: expected one list of rows; name it with rows = ..., one of {', '.join(names)}")


def _of_lists(path: PurePath, found: list[list[Any]], header: str | None) -> pd.DataFrame:
    names = [name.strip() for name in header.split(",")] if header else []
    widths = {len(row) for row in found}
    if widths != {len(names)}:
        raise DataError(
            f"{path}: its rows are lists of {', '.join(map(str, sorted(widths)))} values; name them with header = ...,"
            f" which names {len(names)}"
        )
    return pd.DataFrame({name: _texts([row[n] for row in found]) for n, name in enumerate(names)})


def _texts(values: list[Any]) -> pd.Series[str]:
    texts = [None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
    return pd.Series(texts, dtype="str")
