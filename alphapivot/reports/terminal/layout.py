"""How tables leave the process: cut to the terminal's width, whole, or as JSON. The command line sets it once."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import pandas as pd

wide = False
_out: TextIO | None = None  # where JSON goes


def as_json() -> None:
    """From now on each table is a line of JSON on stdout, and everything else goes to stderr."""
    global _out
    _out, sys.stdout = sys.stdout, sys.stderr


def written(title: str, table: pd.DataFrame) -> bool:
    """Writes the table where JSON was requested; False where it was not."""
    if _out is None:
        return False
    print(json.dumps({"table": title, "rows": table.to_dict("records")}, default=str), file=_out, flush=True)
    return True
