"""[feed.NAME]: where bars come from, one model for each kind of feed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from alphapivot.config.sections.base import Day, Mapped, Section, Zone


class FeedSection(Section):
    """
    What every feed's section holds, and what its kind is.

    A kind sets ``opens``, the ``module:class`` that serves it: called with the feed's name and its section, it returns
    a ``alphapivot.feeds.base.Feed``.
    """

    opens: ClassVar[str]
    simulated: ClassVar[bool] = False  # prices that never were: kept apart from real ones
    waits: ClassVar[bool] = True  # bars that are due may come later: a run waits for them

    kind: str
    overlap: int = Field(5, ge=0, description="bars asked for again at each run, to catch late corrections")
    publication_lag: float = Field(
        0, ge=0, description="minutes from a bar's end until it is published; a younger bar is not asked for"
    )

    def below(self, folder: Path) -> Self:  # noqa: ARG002 - for kinds that name files
        """This section with its relative paths resolved against ``folder``, that of the config file."""
        return self


class YahooFeed(FeedSection):
    opens = "alphapivot.feeds.yahoo:Yahoo"

    kind: Literal["yahoo"] = "yahoo"
    base_url: str | None = Field(None, description="another server that speaks Yahoo's format, for tests")
    timeout: float = Field(20, gt=0, description="seconds for one answer")
    patience: float = Field(30, ge=0, description="seconds to wait, in all, for a limit on requests to pass")
    start: Day = Field("2010-01-01", description="first day of daily history, ISO date")


class FilesFeed(FeedSection):
    opens = "alphapivot.feeds.files:Files"
    waits = False

    kind: Literal["files"] = "files"
    root: Path = Field(description="the folder under which the instruments' tickers name files")
    zone: Zone = Field(description="time zone of stamps without one, such as Europe/Berlin")
    stamp: Literal["end", "start", "date"] = Field(
        description="what a row's time is: the bar's end, its start, or its session's date"
    )
    columns: Mapped[str] = Field(
        default={}, description="our name: the file's name, such as ts: Date+Time, close: Adj Close"
    )
    date_format: str | None = Field(None, description="strptime format of stamps that are not ISO 8601")
    header: str | None = Field(None, description="column names for a file whose header does not fit its rows")
    zero_volume_is_missing: bool = Field(
        default=False, description="the feed writes 0 where it knows no volume or open interest"
    )
    join: bool = Field(
        default=False, description="rows of one session, such as Sunday evening's and Monday's, are parts of one bar"
    )
    contracts: Mapped[str] = Field(
        default={}, description="of contracts side by side in a row: column of its name: column of its close"
    )

    def below(self, folder: Path) -> Self:
        return self.model_copy(update={"root": (folder / self.root.expanduser()).resolve()})


class SimulatedFeed(FeedSection):
    opens = "alphapivot.feeds.simulated:Simulated"
    simulated = True
    waits = False

    kind: Literal["simulated"] = "simulated"
    seed: int = Field(7, description="the market that is simulated")
    start: Day = Field("2019-01-01", description="first day, ISO date")
    end: Day | None = Field(None, description="last day, ISO date; the market simply goes on when absent")
    edge: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="noise alone (0), or so much of a standard deviation the way of the last 20 sessions",
    )

    @model_validator(mode="after")
    def _has_days(self) -> SimulatedFeed:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end = {self.end} is not after start = {self.start}")
        return self


# What `kind` may say; installed packages add theirs as entry points of alphapivot.feeds.
FEEDS: dict[str, type[FeedSection]] = {"files": FilesFeed, "simulated": SimulatedFeed, "yahoo": YahooFeed}
