"""
A second feed that stands in for an instrument's own: when it is due, how well it agrees, and its bars. Pure.

Only bars after the last good one of the own feed come from a stand-in, and each names it as its source. Both are
compared on the bars before. A spot market's splits and dividends of that time come from the stand-in as well, if it
reports any at all. When the own feed is back, its bars replace those of the stand-in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.feeds.base import Fetched
from alphapivot.frames import Actions, Bars, Issues, spans

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from alphapivot.config.sections.feeds import FeedSection
    from alphapivot.feeds.base import Request
    from alphapivot.hub.tables.series import Mark

CHECK = "stand-in"
COMMON = 20  # bars before, on which the two are compared
LEAST = 3
SIMILAR = (0.5, 2.0)  # ratio of volumes up to which they count the same trades
SERIES = ["symbol", "market", "interval"]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Late:
    """A request whose feed lacks the bar that is due: ``after`` ends its last good bar."""

    request: Request
    after: datetime
    why: str

    @property
    def key(self) -> Key:
        return self.request.instrument.symbol, self.request.market, self.request.interval


@dataclass(frozen=True)
class Agreement:
    """What two sources have in common: number of bars, largest difference of closes (basis points), volume ratio."""

    common: int
    largest: float = float("nan")
    volume: float = float("nan")

    def __str__(self) -> str:
        if not self.common:
            return "the two have no bar in common"
        volume = "" if pd.isna(self.volume) else f", its volumes are {self.volume:.3g} times those"
        return f"on the {self.common} bars before, closes differ by at most {self.largest:.1f} bp{volume}"


@dataclass(frozen=True)
class StandIn:
    """Bars of ``feed`` after the last good one of the instrument's own feed."""

    late: Late
    feed: str
    bars: pd.DataFrame
    agreement: Agreement


def late(
    requests: Iterable[Request],
    section: FeedSection,
    came: pd.DataFrame,
    passed: pd.DataFrame,
    newest: Mapping[Key, datetime],
    now: datetime,
) -> list[Late]:
    """
    The requests whose newest good bar is older than the one that ``section``'s feed should have delivered by ``now``.

    ``came``, ``passed``: its bars, and those that passed the checks; ``newest``: the end of its newest stored bars. A
    series that has none is left out: a stand-in begins no series.
    """
    found = []
    raw, good = (spans(bars, *SERIES)["max"].to_dict() for bars in (came, passed))
    patience = timedelta(minutes=section.publication_lag + section.late_after)
    for request in requests:
        key = (request.instrument.symbol, request.market, request.interval)
        hours = request.instrument.hours_of(request.market)
        due = bar_ends.due(hours, request.interval, min(request.until, now - patience))
        own = max([ts for ts in (good.get(key), newest.get(key)) if ts is not None], default=None)
        if own is None or pd.isna(due) or own >= due:
            continue
        reason = "is quarantined" if key in raw and raw[key] >= due else "has not come"
        found.append(Late(request, pd.Timestamp(own).to_pydatetime(), f"its bar of {due:%Y-%m-%d %H:%M} {reason}"))
    return found


def agreement(own: pd.DataFrame, other: pd.DataFrame) -> Agreement:
    """How well bars of one series from two sources agree."""
    same = ["contract", "ts"]
    both = own.drop_duplicates(same).merge(other.drop_duplicates(same), on=same, suffixes=("", "_other"))
    if both.empty:
        return Agreement(0)
    close, close_other, volume, volume_other = (
        pd.to_numeric(both[name], errors="coerce") for name in ("close", "close_other", "volume", "volume_other")
    )
    ratio = (volume_other / volume)[(volume > 0) & (volume_other > 0)].median()
    return Agreement(len(both), float(((close_other / close - 1).abs() * 10_000).max()), float(ratio))


def take(waiting: Late, feed: str, own: pd.DataFrame, theirs: pd.DataFrame) -> StandIn | str:
    """
    What ``feed`` has after the last good bar, or why it cannot stand in. ``own``: the last COMMON bars before, of the
    own feed. Volumes that count something else are left out: missing is honest, a tenth is not.
    """
    new = theirs[theirs["ts"] > waiting.after]
    if new.empty:
        return f"{feed} has no bar after {waiting.after:%Y-%m-%d %H:%M} either"
    named = set(own["contract"].unique())
    if own.empty or not named & set(theirs["contract"].unique()):
        return f"{feed} names other contracts ({_some(theirs)}) than are stored ({_some(own)})"
    if waiting.request.market == "futures" and "" not in named:
        new = new[new["contract"].isin(sorted(named))]
    match = agreement(own, theirs[theirs["ts"] <= waiting.after])
    if not SIMILAR[0] <= match.volume <= SIMILAR[1]:
        new = new.assign(volume=float("nan"), open_interest=float("nan"))
    return StandIn(waiting, feed, new, match)


def _some(bars: pd.DataFrame) -> str:
    return ", ".join(name or "continuous" for name in sorted(bars["contract"].unique())[:3]) or "none"


@dataclass(frozen=True)
class Stood:
    """
    The stand-ins that were ``taken`` in one ingestion, their ``replies`` by feed, and why others were ``refused``.

    ``kept``: issues of bars of the own feed that are quarantined, so that a stand-in takes their place.
    """

    taken: Sequence[StandIn] = ()
    replies: Mapping[str, Fetched] = field(default_factory=dict)
    refused: Sequence[str] = ()
    kept: pd.DataFrame = field(default_factory=Issues.empty)

    @property
    def sources(self) -> dict[Key, str]:
        """Series -> the feed that stands in."""
        return {stand.late.key: stand.feed for stand in self.taken}

    @property
    def spans(self) -> dict[str, datetime]:
        """symbol -> the instant from which a stand-in's events count: those of a stand-in that reports any."""
        return {
            stand.late.key[0]: stand.late.after
            for stand in self.taken
            if stand.late.key[1] == "spot" and stand.late.key[0] in self.replies[stand.feed].actions_after
        }

    def also(self, other: Stood) -> Stood:
        """Both together."""
        return Stood([*self.taken, *other.taken], {**self.replies, **other.replies}, [*self.refused, *other.refused])

    def within(self, fetched: Fetched) -> Fetched:
        """``fetched`` of the own feed, with bars and events of the stand-ins in place of what follows its good bars."""
        bars, actions = fetched.bars, fetched.actions
        for stand in self.taken:
            symbol, market, interval = stand.late.key
            same = (bars["symbol"] == symbol) & (bars["market"] == market) & (bars["interval"] == interval)
            bars = pd.concat([bars[~(same & (bars["ts"] > stand.late.after))], stand.bars], ignore_index=True)
        for symbol, after in self.spans.items():
            feed = next(s.feed for s in self.taken if s.late.key[:2] == (symbol, "spot"))
            theirs = self.replies[feed].actions
            # an event at the instant of the last good bar is of the bars after it
            own = actions[~((actions["symbol"] == symbol) & (actions["ts"] >= after))]
            new = theirs[(theirs["symbol"] == symbol) & (theirs["ts"] >= after)]
            actions = pd.concat([part for part in (own, new) if len(part)] or [own], ignore_index=True)
        return replace(fetched, bars=bars, actions=actions)


NONE = Stood()


def kept(found: pd.DataFrame, taken: Iterable[StandIn], own: str) -> pd.DataFrame:
    """The issues in ``found`` of bars of the ``own`` feed whose place is taken: they hold the series no longer."""
    parts = [
        found[(keys(found) == stand.late.key) & (found["ts"] > stand.late.after) & (found["source"] == own)]
        for stand in taken
    ]
    rows = pd.concat([Issues.empty(), *parts], ignore_index=True)
    rows = rows[rows["outcome"].isin(["quarantined", "held"])]
    return rows.assign(outcome="quarantined")


@dataclass(frozen=True)
class Switches:
    """
    Changes of source in one ingestion of the ``own`` feed. ``feeds``: symbol -> its feeds; ``back``: series for which a
    stand-in is over -> that feed and how many of its bars are replaced.
    """

    own: str
    stood: Stood
    feeds: Mapping[str, Sequence[str]]
    marks: Mapping[Key, Mark]
    back: Mapping[Key, tuple[str, int]]

    def notes(self) -> list[str]:
        """One sentence for each series whose own feed is back."""
        return [
            f"{' '.join(key)}: {self.own} is back; its bars replace {count} of {other}, whose versions are kept"
            for key, (other, count) in self.back.items()
        ]

    def by_source(self, read: Mapping[Key, str], unanswered: Collection[Key]) -> dict[str, dict[Key, str]]:
        """source -> series that it answered for -> its timetable in ``read``: a stand-in lasts until it is over."""
        answered: dict[str, dict[Key, str]] = {}
        for key, timetable in read.items():
            source = self.stood.sources.get(key)
            if source is None and key not in unanswered:
                before = self.marks[key].source if key in self.marks else self.own
                source = before if before in self.feeds[key[0]][1:] and key not in self.back else self.own
            if source is not None:
                answered.setdefault(source, {})[key] = timetable
        return answered

    def issues(self, limits: Mapping[str, float]) -> pd.DataFrame:
        """
        One issue for each switch: flagged where both agree within ``limits`` (symbol -> basis points, 0: any), else
        entries stop until the own feed is back or someone accepts.
        """
        rows = []
        for stand in self.stood.taken:
            (symbol, market, interval), match = stand.late.key, stand.agreement
            if self.marks[stand.late.key].source == stand.feed:
                continue
            first, limit = stand.bars.sort_values("ts").iloc[0], limits[symbol]
            agreed = limit == 0 or (match.common >= LEAST and match.largest <= limit)
            verdict = "" if agreed else f"; expected {LEAST} or more, and at most {limit:g} bp: no entries"
            detail = f"{stand.feed} stands in for {self.own}: {stand.late.why}; {match}{verdict}"
            outcome = "flagged" if agreed else "halted"
            series = (symbol, market, first["contract"], interval)
            rows.append((*series, first["ts"], CHECK, outcome, detail, "", stand.feed))
        types = {c: "datetime64[us, UTC]" if c == "ts" else "str" for c in Issues.columns()}
        return pd.concat([self.stood.kept, pd.DataFrame(rows, columns=Issues.columns()).astype(types)])


def switches(
    own: str,
    stood: Stood,
    feeds: Mapping[str, Sequence[str]],
    marks: Mapping[Key, Mark],
    bars: pd.DataFrame,
    stored: pd.DataFrame,
) -> Switches:
    """
    A stand-in is over when good ``bars`` of the ``own`` feed reach as far as its own. A series of which no bar of the
    own feed is among those ``stored`` around them has changed its feed for good.
    """
    over: dict[Key, tuple[str, int]] = {}
    if all(mark.newest is None or mark.source == own for mark in marks.values()):
        return Switches(own, stood, feeds, marks, over)
    mine = bars[bars["source"] == own]
    newest = spans(mine, *SERIES)["max"].to_dict()
    had = set(spans(stored[stored["source"] == own], *SERIES).index)
    for key, mark in marks.items():
        stands = mark.newest is not None and mark.source != own and bool(feeds.get(key[0]))
        if stands and key in newest and key in had and newest[key] >= mark.newest:
            theirs = stored[(stored["source"] == mark.source) & (keys(stored) == key)]
            over[key] = (mark.source, len(theirs.merge(mine[Bars.keys()], on=Bars.keys())))
    return Switches(own, stood, feeds, marks, over)


def keys(frame: pd.DataFrame) -> pd.MultiIndex:
    """The series of each row."""
    return pd.MultiIndex.from_frame(frame[SERIES])


def withdrawn(stored: pd.DataFrame, fetched: pd.DataFrame, spans: Mapping[str, datetime]) -> pd.DataFrame:
    """The ``stored`` events (Actions) in the ``spans`` of stand-ins that these do not report, of any source."""
    begins = pd.to_datetime(stored["symbol"].map(spans), utc=True)
    names = Actions.keys()
    again = pd.MultiIndex.from_frame(stored[names]).isin(pd.MultiIndex.from_frame(fetched[names]))
    return stored[(stored["ts"] >= begins) & ~again]
