"""The output format of tables: fitted to the terminal, in full width, or JSON. The command line sets it once."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import pandas as pd

wide = False
_out: TextIO | None = None  # where JSON goes


def as_json() -> None:
    """Switches to JSON: each table becomes a line on stdout, everything else goes to stderr."""
    global _out
    _out, sys.stdout = sys.stdout, sys.stderr


def machine() -> bool:
    """True if a program reads the tables."""
    return _out is not None


def written(title: str, table: pd.DataFrame) -> bool:
    """Writes the table as JSON and returns True if JSON was requested, else returns False."""
    if _out is None:
        return False
    print(json.dumps({"table": title, "rows": table.to_dict("records")}, default=str), file=_out, flush=True)
    return True
