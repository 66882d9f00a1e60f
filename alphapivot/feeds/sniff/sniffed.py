"""What a look at a file has found: sections, notes and questions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.feeds.base import Fetched


@dataclass
class Sniffed:
    """Sections as texts, notes on the guesses, questions, and the file's bars as the sections read them."""

    feed: dict[str, str] = field(default_factory=dict)
    instrument: dict[str, str] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    symbol: str = "SYMBOL"
    terms: Instrument | None = None  # of the section, as ingestion reads them
    fetched: Fetched | None = None

    def ini(self) -> str:
        """The two sections as config.ini has them."""
        feed = "\n".join(f"{key} = {value}" for key, value in self.feed.items())
        instrument = "\n".join(f"{key} = {value}" for key, value in self.instrument.items())
        return f"[feed.files]\n{feed}\n\n[instrument.{self.symbol}]\nfeed = files\n{instrument}\n"


def symbol_of(name: str) -> str:
    """``name`` as config.ini can have it."""
    return re.sub(r"[^A-Za-z0-9.^=/&_+-]", "_", name).upper() or "SYMBOL"
