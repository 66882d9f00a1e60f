"""The output format of tables: fitted to the terminal, in full width, JSON or CSV. The command line sets it once."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    import pandas as pd

wide = False
_out: TextIO | None = None  # where a program reads tables
_format: Literal["json", "csv"] = "json"
_written: list[str] = []  # titles of the tables so far


def as_data(form: Literal["json", "csv"]) -> None:
    """Switches to tables for programs: only they go to stdout, everything else to stderr."""
    global _out, _format
    _out, sys.stdout, _format = sys.stdout, sys.stderr, form


def machine() -> bool:
    """True if a program reads the tables."""
    return _out is not None


def written(title: str, table: pd.DataFrame) -> bool:
    """
    Writes the table for a program and returns True if that was requested, else returns False: as a line of JSON, or as
    CSV after an empty line.
    """
    if _out is None:
        return False
    if _format == "json":
        print(json.dumps({"table": title, "rows": table.to_dict("records")}, default=str), file=_out, flush=True)
        return True
    sys.stderr.write(f"{title}\n")  # a line of it would be no row
    print(("\n" if _written else "") + table.to_csv(index=False), end="", file=_out, flush=True)
    _written.append(title)
    return True
