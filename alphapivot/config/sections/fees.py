"""
[fees.NAME]: a table of fees whose rates change on dates and may differ between purchases and sales.

    [fees.NSE-FUTURES]
    both = 0.19 bps                         ; on every fill
    buy = 0.2 bps                           ; stamp duty
    sell = 1.25 bps, 2024-10-01: 2 bps      ; securities transaction tax
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from alphapivot.calendar import hours
from alphapivot.config.sections.base import Section

if TYPE_CHECKING:
    from datetime import date

RATE = re.compile(r"(?P<number>\d+(?:\.\d+)?) (?P<per>bps|each)")


class Fee(NamedTuple):
    """What a fill costs: basis points of its notional, and an amount per unit of quantity (instrument's currency)."""

    bps: Decimal
    each: Decimal

    def __add__(self, other: Fee) -> Fee:  # type: ignore[override]  # a sum of fees, not a longer tuple
        return Fee(self.bps + other.bps, self.each + other.each)


NONE = Fee(Decimal(0), Decimal(0))


def fee(text: str) -> Fee:
    """``0.5 bps + 2.25 each`` -> its Fee; ValueError with an example otherwise."""
    total = NONE
    for part in text.split(" + "):
        match = RATE.fullmatch(part)
        if match is None:
            raise ValueError("should be such as 0.5 bps, 2.25 each, or 0.5 bps + 2.25 each")
        number = Decimal(match["number"])
        total += Fee(number, Decimal(0)) if match["per"] == "bps" else Fee(Decimal(0), number)
    return total


def fees(text: str) -> list[tuple[date, Fee]]:
    """``1.25 bps, 2024-10-01: 2 bps`` -> (date, the fee from it on); nothing before the first."""
    periods = []
    for since, items in hours.dated(text, fee):
        if len(items) != 1:
            raise ValueError(f"expected one fee a date, got {len(items)} from {since}; join them with +")
        periods.append((since, items[0]))
    return periods


FeesText = Annotated[str, AfterValidator(hours.validator(fees))]


class FeeTable(Section):
    """[fees.NAME]: what fills cost, by date; the three keys add up."""

    both: FeesText = Field("", description="on every fill, such as 0.5 bps + 2.25 each, 2024-10-01: 0.4 bps")
    buy: FeesText = Field("", description="on purchases")
    sell: FeesText = Field("", description="on sales")

    @model_validator(mode="after")
    def _charges(self) -> FeeTable:
        if not (self.both or self.buy or self.sell):
            raise ValueError("has no fee: set both, buy or sell")
        return self

    def at(self, side: Literal["BUY", "SELL"], day: date) -> Fee:
        """The fee of a fill in the session of ``day``."""
        texts = [self.both, self.buy if side == "BUY" else self.sell]
        due = [[rate for since, rate in fees(text) if since <= day][-1:] for text in texts if text]
        return sum((rate for rates in due for rate in rates), NONE)

    @property
    def dates(self) -> set[date]:
        """The dates on which it changes."""
        return {since for text in (self.both, self.buy, self.sell) if text for since, _ in fees(text)} - {hours.ALWAYS}
