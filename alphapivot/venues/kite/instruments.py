"""
What Kite lists, once a day: tokens, lots, ticks and expiries (https://kite.trade/docs/connect/v3/market-quotes/).

The list is made each morning at about 08:30 in India and drops contracts that have expired; their tokens are given to
new ones later. So each day's list of shares, indices and futures stays below ALPHAPIVOT_HOME; no older one is used.
"""

from __future__ import annotations

import csv
import gzip
import os
import tempfile
from dataclasses import dataclass, fields
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphapivot import home
from alphapivot.venues.kite.client import call
from alphapivot.venues.kite.login import INDIA

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

READY = timedelta(hours=8, minutes=30)  # after midnight in India
SHARES, FUTURES = "EQ", "FUT"
COLUMNS = {"token": "instrument_token", "symbol": "tradingsymbol", "name": "name", "expiry": "expiry"}
COLUMNS |= {"tick": "tick_size", "lot": "lot_size", "kind": "instrument_type", "segment": "segment"}


@dataclass(frozen=True)
class Listed:
    """One line of the list; ``expiry``: ISO date, empty for shares and indices."""

    token: int
    symbol: str
    name: str
    expiry: str
    tick: Decimal
    lot: Decimal
    kind: str
    segment: str

    @property
    def index(self) -> bool:
        return self.segment == "INDICES"


def day(now: datetime) -> str:
    """The date of the list that is current."""
    return f"{(now.astimezone(INDIA) - READY).date()}"


def listed(client: Any, exchange: str, now: datetime) -> list[Listed]:
    """Shares, indices and futures of an exchange (NSE, NFO, MCX, ...) by today's list. Raises KiteError."""
    path = home.home() / "kite" / f"{day(now)}-{exchange}.csv.gz"
    if not path.exists():
        rows = call(lambda: client.instruments(exchange))
        _write(path, [_row(row) for row in rows if row["instrument_type"] in (SHARES, FUTURES)])
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [_listed(row) for row in csv.DictReader(file)]


def _listed(row: dict[str, str]) -> Listed:
    texts = {name: row[name] for name in ("symbol", "name", "expiry", "kind", "segment")}
    return Listed(token=int(row["token"]), tick=Decimal(row["tick"]), lot=Decimal(row["lot"]), **texts)


def _row(row: dict[str, Any]) -> dict[str, str]:
    return {ours: str(row[theirs]) for ours, theirs in COLUMNS.items()}


def _write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # shards and processes ask at the same time: each writes a file of its own
    number, name = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    os.close(number)
    part = Path(name)
    with gzip.open(part, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Listed)])
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)  # whole, or not at all
