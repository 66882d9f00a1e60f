"""How a listing at Interactive Brokers is written in config.ini: ES@CME, SI@COMEX/SI, SAP@IBIS. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

WRITTEN = re.compile(r"(?P<root>[^@]+)@(?P<exchange>[A-Z0-9]+)(?:/(?P<more>[\w.]+))?")


class Listing(NamedTuple):
    """IB's symbol, its exchange, and a future's trading class or a share's primary exchange; empty if not given."""

    root: str
    exchange: str
    more: str


def read(text: str) -> Listing | None:
    """``ES@CME`` or ``SI@COMEX/SI``; None for anything else."""
    match = WRITTEN.fullmatch(text)
    return Listing(match["root"].strip(), match["exchange"], match["more"] or "") if match else None
