"""[calendar.NAME]: a calendar of exchange_calendars, or one that comes with AlphaPivot, with its own days and hours."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from alphapivot.calendar import hours, india
from alphapivot.calendar.hours import Hours
from alphapivot.config.sections.base import Section

SessionText = Annotated[str, AfterValidator(hours.validator(hours.sessions))]
BreaksText = Annotated[str, AfterValidator(hours.validator(hours.breaks))]
SpecialText = Annotated[str, AfterValidator(hours.validator(hours.special))]
DatesText = Annotated[str, AfterValidator(hours.validator(hours.dates))]


class CalendarSection(Section):
    """[calendar.NAME]: another calendar with days and hours of your own."""

    base: str = Field(
        description=f"a calendar of exchange_calendars, or one that comes with AlphaPivot: {', '.join(india.SHIPPED)}"
    )
    open: SpecialText = Field("", description="special sessions and their hours, such as 2025-02-01 09:15-15:30")
    closed: DatesText = Field("", description="days without a session, such as 2026-01-15")
    session: SessionText = Field("", description="hours such as 09:15-15:30, or with changes; default: those of base")
    spot_session: SessionText = Field("", description="hours of spot markets, where they are not those of session")
    futures_session: SessionText = Field("", description="hours of futures, where they are not those of session")
    breaks: BreaksText = Field("", description="hours within the session such as 11:30-13:00, or none")

    def resolved(self) -> CalendarSection:
        """With the days and hours of a base that comes with AlphaPivot; its own days win."""
        if self.base not in india.SHIPPED:
            return self
        shipped = CalendarSection(**india.SHIPPED[self.base])
        opened = hours.special(self.open) if self.open else {}
        own = {*opened, *(hours.dates(self.closed) if self.closed else ())}
        kept = [item for item in shipped.open.split(", ") if date.fromisoformat(item[:10]) not in own]
        shut = [day for day in shipped.closed.split(", ") if day and date.fromisoformat(day) not in own]
        by_market = {} if self.session else {m: getattr(shipped, m) for m in ("spot_session", "futures_session")}
        return CalendarSection(
            base=shipped.base,
            open=", ".join([*kept, *filter(None, [self.open])]),
            closed=", ".join([*shut, *filter(None, [self.closed])]),
            session=self.session or shipped.session,
            spot_session=self.spot_session or by_market.get("spot_session", ""),
            futures_session=self.futures_session or by_market.get("futures_session", ""),
            breaks=self.breaks or shipped.breaks,
        )


@lru_cache
def hours_of(name: str, own: CalendarSection | None = None, market: Literal["spot", "futures"] | None = None) -> Hours:
    """The hours of a calendar by its name: a [calendar.NAME], one of AlphaPivot's, or one of exchange_calendars."""
    if own is None and name in india.SHIPPED:
        own = CalendarSection(base=name)
    if own is None:
        return Hours(name)
    named = own.resolved()
    session = named.session if market is None else getattr(named, f"{market}_session") or named.session
    return Hours(named.base, session, named.breaks, open=named.open, closed=named.closed, name=name)
