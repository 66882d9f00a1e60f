"""Ingestion: fetch -> screen -> (quarantine | upsert), then higher timeframes and rolls."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import LEGS, Instrument, hours_by_market
from alphapivot.config.settings import Settings
from alphapivot.data import actions, checks, horizon, jitter, roll_step, screen
from alphapivot.data.series import failover, holes, legs, life, one_time, rewritten, stand_in, timetables, told
from alphapivot.data.series.derived import derive
from alphapivot.errors import DataError, Unavailable
from alphapivot.feeds.base import Fetched, Problem, Request, gather
from alphapivot.feeds.registry import open_feed
from alphapivot.frames import Actions, Bars, Issues, Rolls, kept, spans
from alphapivot.hub import Hub
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import holes as missing
from alphapivot.hub.tables import issues, ops, series
from alphapivot.runs import Receipt, RunRef
from tasks.step import Output, Work, open_run, step

log = logging.getLogger("alphapivot.ingest")


def batches(run: RunRef) -> list[tuple[str, int]]:
    """The (feed, shard) pairs that a run ingests: one task each; spreads last, made of the others."""
    settings, _ = open_run(run)
    pairs = {(settings.feed_of(i), k) for k in range(settings.runtime.shards) for i in settings.shard(k)}
    return sorted(pairs, key=lambda pair: (pair[0] == LEGS, *pair))


@step("ingest {feed} {shard}")
def ingest(work: Work, feed: str, shard: int) -> Output:
    """
    Fetches new bars for one feed and shard of instruments, quarantines bad ones, and resamples the rest.
    """
    settings, run = work.settings, work.run
    requests, asked = _due(work, feed, [i for i in settings.shard(shard) if settings.feed_of(i) == feed])
    if not requests:  # all of them are over, or have not begun
        return Output()
    refused = other_timetables(work.hub, settings, feed, requests)
    rest = [r for r in requests if all(r is not p.request for p in refused)]
    outage: Unavailable | None = None
    try:
        fetched = fetch(work.hub, settings, feed, rest, refused)
    except Unavailable as error:
        if not any(settings.feeds_of(r.instrument)[1:] for r in rest):
            raise
        outage = error
        fetched = gather([], [*refused, *(Problem(request, str(error), transient=True) for request in rest)])
    backed = [r for r in rest if settings.feeds_of(r.instrument)[1:]]
    output, stood = None, stand_in.NONE
    if backed:
        output = absorb(work, feed, requests, fetched, until=run.as_of, asked=asked).whole()
        stood = failover.stand_ins(work.hub, settings, feed, backed, fetched, output.frames, run.as_of)
    whole = [p for p in fetched.problems if not p.partial]
    if whole and len(whole) == len(requests) and not stood.taken:
        reasons = "; ".join([*(f"{p.request}: {p.reason}" for p in whole[:3]), *stood.refused[:3]])
        error = Unavailable if all(p.transient for p in whole) else DataError
        raise error(f"feed {feed} returned nothing for any of {len(requests)} requests: {reasons}") from outage
    if output is None or stood.taken or stood.refused:
        output = absorb(work, feed, requests, fetched, until=run.as_of, asked=asked, stood=stood)
    return output.whole()  # few bars: others that fix their known_at wait for this batch


def _due(work: Work, feed: str, instruments: Sequence[Instrument]) -> tuple[list[Request], list[holes.Hole]]:
    """What to ask ``feed`` for: from a little before the newest bars on; and the known holes that this covers."""
    settings, now, section = work.settings, work.run.as_of, work.settings.feeds[feed]
    symbols = [instrument.symbol for instrument in instruments]
    marks = series.marks(work.hub, symbols)
    _refuse_to_mix(work.hub, settings, feed, marks)
    known = [holes.Hole(**row) for row in missing.known(work.hub, symbols)]
    requests, asked = [], []
    for instrument in map(section.named, instruments):
        for market in instrument.markets:
            interval = instrument.source_interval(market, settings.timeframes.base)
            key = instrument.symbol, market, interval
            mark = marks.get(key)
            newest, since = (mark.newest if mark else None), None
            if mark and newest is not None:
                due = _holes_due(settings, known, key, now)
                overlap = bar_ends.back(instrument.hours_of(market), interval, newest, section.overlap)
                since = min([overlap, *(hole.after for hole in due)])
                asked += due
                if mark.source != feed:  # what another stood in for is asked for again
                    since = min(since, series.newest_of(work.hub, key, feed) or since)
            until = now - timedelta(minutes=section.publication_lag)
            if instrument.legs:  # what is stored of its legs is known, later bars than this run's too
                until = max(now, datetime.now(UTC))
            if (request := life.request(instrument, market, interval, since, until, newest)) is not None:
                requests.append(legs.from_changes(work.hub, request, mark) if instrument.legs else request)
    return requests, asked


def _holes_due(settings: Settings, known: list[holes.Hole], key: series.Key, now: datetime) -> list[holes.Hole]:
    days = settings.checks(key[0]).hole_days
    return [hole for hole in known if hole.key == key and hole.due(now, days)]


def other_timetables(database: Hub, settings: Settings, feed: str, requests: list[Request]) -> list[Problem]:
    """
    A Problem for each request whose series holds bars of another timetable or interval: the new ones would stand
    beside them.
    """
    marks = series.marks(database, sorted({r.instrument.symbol for r in requests}))
    stored_intervals: dict[tuple[str, str], list[str]] = {}
    for symbol, market, interval in (key for key, mark in marks.items() if mark.newest):
        stored_intervals.setdefault((symbol, market), []).append(interval)
    problems = []
    for request in requests:
        instrument, market, mark = request.instrument, request.market, marks.get(_key(request))
        intervals = stored_intervals.get((instrument.symbol, market), [])
        if reason := timetables.other_interval(instrument, market, request.interval, intervals):
            problems.append(Problem(request, reason))
            continue
        now = timetables.text(instrument, market, settings.feeds[feed])
        if mark is None or mark.newest is None or mark.timetable == now:
            continue
        bars, flagged = series.ends(database, instrument.symbol, market)
        if reason := timetables.conflict(instrument, market, mark.timetable, now, bars, flagged):
            problems.append(Problem(request, reason))
    return problems


def fetch(
    database: Hub, settings: Settings, feed: str, requests: list[Request], refused: Sequence[Problem] = ()
) -> Fetched:
    """The feed's reply, and the ``refused`` requests. Marks series without one as stale, in a separate transaction."""
    try:
        fetched = open_feed(feed, settings.feeds[feed]).fetch(requests)
        fetched = replace(fetched, problems=[*refused, *fetched.problems])
    except Unavailable as error:
        series.failed(database, feed, {_key(request): str(error) for request in requests})
        raise
    for problem in fetched.problems:
        log.warning("%s: %s", problem.request, problem.reason)
    if failures := {_key(p.request): p.reason for p in fetched.problems if not p.partial}:
        series.failed(database, feed, failures)
    return fetched


def absorb(
    work: Work,
    feed: str,
    requests: list[Request],
    fetched: Fetched,
    until: datetime,
    *,
    backfill: bool = False,
    asked: Sequence[holes.Hole] = (),
    stood: stand_in.Stood = stand_in.NONE,
    screened: screen.Screened | None = None,
) -> Output:
    """
    The output for a feed's reply: bars, bars of higher timeframes that end by ``until``, rolls, issues, watermarks.

    Stored bars that differ by no more than noise are kept. ``backfill``: rolls are decided again from the first bar
    that is earlier than stored ones; otherwise earlier decisions stay. ``asked``: known holes that the requests cover.
    ``stood``: what other feeds have in place of bars of ``feed`` that are late. ``screened``: the bars of ``fetched``,
    where that is known.
    """
    settings, hub = work.settings, work.hub
    instruments = {r.instrument.symbol: r.instrument for r in requests}
    thresholds = {symbol: settings.checks(symbol) for symbol in instruments}
    fetched = stood.within(fetched)
    screened = screened or screen.screen(fetched.bars, instruments, now=max(work.run.as_of, datetime.now(UTC)))
    neighbours = series.around(hub, screened.bars, checks.lookback(thresholds.values()))
    new = jitter.settled(screened.bars, neighbours, instruments, thresholds)
    newest = series.newest(hub, list(instruments))
    fronts = _front_contracts(new, stored.rolls(hub, list(instruments), until=until, known_at=None))
    usuals, once = _once(hub, requests, feed)
    fetched, stored_actions, withdrawn = _events(hub, list(instruments), fetched, until, feed, stood, once)
    new, over = actions.ended(new, stored_actions, fetched.actions)
    splits = actions.splits(stored_actions, fetched.actions)
    # a split is not a spike: bars are judged on one share basis, and stored as traded
    given = actions.distributions(stored_actions, fetched.actions, pd.concat([neighbours, new], ignore_index=True))
    before, coming = (
        actions.adjust(bars, pd.concat([splits, given]), dict.fromkeys(instruments, "splits"))
        for bars in (neighbours, new)
    )
    judged = checks.judge(
        before, coming, instruments, thresholds, fronts, issues.accepted(hub, new), past=_historical(new, newest)
    )
    if coming is not new:
        judged = replace(judged, bars=judged.bars[Bars.keys()].merge(new, on=Bars.keys()))
    judged.issues["bar"] = _as_text(judged.issues, neighbours, new)

    def rest() -> Output:
        events, odd = _realised(hub, settings, instruments, stored_actions, fetched.actions, judged.bars)
        late = _late(judged.bars, neighbours, newest) if backfill else {}
        derived = derive(hub, settings, judged.bars, instruments, until, splits, late, spreads=fetched.spreads)
        marks = series.marks(hub, list(instruments))
        feeds = {symbol: () if symbol in usuals else settings.feeds_of(i) for symbol, i in instruments.items()}
        switches = stand_in.switches(feed, stood, feeds, marks, judged.bars, neighbours)
        gaps = {symbol: own.source_gap for symbol, own in thresholds.items()}
        doubts = [derived.short.issues, derived.rolled.doubts, odd, actions.withdrawal_issues(withdrawn, feed)]
        all_issues = pd.concat([screened.issues, judged.issues, *doubts, switches.issues(gaps)])
        all_issues = all_issues.drop_duplicates(Issues.keys(), ignore_index=True)
        problems = [
            *(f"{p.request}: {p.reason}" for p in fetched.problems),
            *derived.rolled.problems,
            *told.none_stored(actions.ended(fetched.bars, stored_actions, fetched.actions)[0], judged.bars, all_issues),
        ]
        notes = (*problems, *fetched.notes, *stood.refused, *switches.notes(), *one_time.notes(feed, usuals, once))
        notes += (
            *over,
            *told.switched(marks, judged.bars, feed, {*switches.back, *stood.sources, *once}),
            *map(str, horizon.endings(instruments.values(), until)),
            *rewritten.notes(new[:0] if backfill else new, neighbours, gaps, switches.back),
            *told.vanished(fetched.bars, series.ends_of(hub, feed, _asked(requests, fetched, marks)), feed),
            *told.new_contracts(new[:0] if backfill else new, neighbours, newest, fronts),
            *told.counted(all_issues),
        )
        out = all_issues[all_issues["outcome"].isin(["quarantined", "held"])]  # these are requested anyway
        present = [
            part[Bars.keys()] for part in (neighbours, judged.bars, out[out["source"].isin({feed, *stood.replies})])
        ]
        lacking = _lacking(hub, pd.concat(present, ignore_index=True), settings, instruments, until)
        notes += tuple(str(hole) for hole in lacking.given_up)
        unanswered = {_key(p.request) for p in fetched.problems if not p.partial}

        def record(batch: ops.Batch) -> None:
            section = settings.feeds[feed]
            read = {_key(r): timetables.text(r.instrument, r.market, section) for r in requests}
            for source, keys in switches.by_source(read, unanswered).items():
                series.answered(batch.conn, source, keys, judged.bars)
            issues.over(batch.conn, stand_in.CHECK, (key[:2] for key in switches.back))
            issues.end(batch.conn, judged.passing + derived.short.passing)
            missing.record(batch.conn, lacking.found, lacking.gone, asked, until)
            issues.settle(batch.conn, judged.bars, all_issues, judged.stops)

        frames = {Bars: derived.higher, Rolls: derived.rolled.rolls, Actions: events, Issues: all_issues}
        gone = {Rolls: derived.rolled.withdrawn, Actions: withdrawn}
        met = {ops.PROBLEMS: len(problems)} if problems else {}
        return Output(frames, withdrawn=gone, counts=met, notes=notes, record=record)

    return Output({Bars: judged.bars}, rest=rest)


def _events(
    hub: Hub,
    symbols: list[str],
    fetched: Fetched,
    until: datetime,
    feed: str,
    stood: stand_in.Stood,
    once: Mapping[series.Key, datetime],
) -> tuple[Fetched, pd.DataFrame, pd.DataFrame]:
    """
    ``fetched`` with the events that count, the stored ones (Actions) that count still, and those that it withdraws.

    ``once``: series -> the instant before which events of its usual feed count, as ``feed`` answers in its place.
    """
    begins = {key[0]: ts for key, ts in once.items() if key[1] == "spot"}
    fetched = replace(fetched, actions=one_time.counting(issues.without_dropped(hub, fetched.actions), begins))
    known = stored.actions(hub, symbols, until=roll_step.EVER, known_at=None)
    if known.empty:
        return fetched, known, known
    own = kept(fetched.bars, (fetched.bars["market"] == "spot") & (fetched.bars["source"] == feed))
    answered = set(own["symbol"].unique())
    answered -= {*(stand.late.key[0] for stand in stood.taken), *begins}
    spans = stood.spans | {symbol: ts for symbol, ts in begins.items() if symbol in fetched.actions_after}
    parts = (
        actions.withdrawn(known, fetched.actions, fetched.actions_after, until, feed),
        actions.of_others(known, fetched.actions, answered, feed),
        stand_in.withdrawn(known, fetched.actions, spans),
    )
    withdrawn = pd.concat(parts).drop_duplicates(Actions.keys())
    return fetched, known.drop(index=withdrawn.index), withdrawn


def _once(database: Hub, requests: Sequence[Request], feed: str) -> tuple[dict[str, str], dict[series.Key, datetime]]:
    """
    symbol -> its usual feed, where ``feed`` is another one; and series -> the end of the newest stored bar of that.
    """
    usuals = {r.instrument.symbol: name for r in requests if (name := one_time.usual(r.instrument, feed))}
    keys = [_key(request) for request in requests if request.instrument.symbol in usuals]
    newest = {key: series.newest_of(database, key, usuals[key[0]]) for key in keys}
    return usuals, {key: ts for key, ts in newest.items() if ts is not None}


def _asked(
    requests: Sequence[Request], fetched: Fetched, marks: Mapping[series.Key, series.Mark]
) -> dict[series.Key, tuple[datetime, datetime]]:
    """The (after, until] in which a series that has bars there was asked for, of a source that is read whole."""
    asked = {}
    for request in requests:
        begin, mark = fetched.begins.get(_key(request)), marks.get(_key(request))
        if begin is None or mark is None or mark.newest is None:
            continue
        after = max(request.since or begin, begin)
        if after < mark.newest:
            asked[_key(request)] = after, request.until
    return asked


def _realised(
    hub: Hub,
    settings: Settings,
    instruments: Mapping[str, Instrument],
    known: pd.DataFrame,
    new: pd.DataFrame,
    bars: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events with their factors, and issues: the ``new`` ones, and ``known`` ones whose close before is in ``bars``."""
    spot = {s: i.source_interval("spot", settings.timeframes.base) for s, i in instruments.items()}
    # a new or restated close may be the one before a stored dividend
    touched = pd.concat([actions.after(known, bars), new], ignore_index=True)
    if touched.empty:
        return actions.realise(touched, bars)
    closes = pd.concat([series.closes_before(hub, touched, spot), bars], ignore_index=True)
    return actions.realise(touched, closes.drop_duplicates(["symbol", "market", "ts"], keep="last"))


def _as_text(found: pd.DataFrame, stored: pd.DataFrame, new: pd.DataFrame) -> pd.Series:
    """The bar of each issue: the new one, else the stored one."""
    if found.empty:
        return pd.Series(dtype="str")
    bars = pd.concat([stored, new])
    of_issue = found[Bars.keys()].merge(bars.drop_duplicates(Bars.keys(), keep="last"))
    return pd.Series([checks.as_text(bar) for _, bar in of_issue.iterrows()], dtype="str")


def _lacking(
    database: Hub, bars: pd.DataFrame, settings: Settings, instruments: Mapping[str, Instrument], now: datetime
) -> holes.Lacking:
    """The holes around the ``bars`` (key columns: stored, new and quarantined ones) of one ingestion."""
    known = [holes.Hole(**row) for row in missing.known(database, list(instruments))]
    thresholds = {symbol: settings.checks(symbol) for symbol in instruments}
    return holes.lacking(bars, known, hours_by_market(instruments.values()), thresholds, now)


def _historical(new: pd.DataFrame, newest: Mapping[series.Key, datetime]) -> frozenset[tuple[str, str]]:
    """(symbol, market) of the series whose ``new`` Bars end before the newest stored bar: they do not concern today."""
    last = spans(new, "symbol", "market", "interval")["max"].to_dict()
    return frozenset(key[:2] for key, ts in last.items() if key in newest and ts < newest[key])


def _front_contracts(new: pd.DataFrame, rolled: pd.DataFrame) -> dict[str, str]:
    """
    symbol -> the contract of its last roll; where that has no bar on the last session of ``new`` (at a first load, in a
    backfill), the likely one instead, because rolls are only decided later, from bars that passed.
    """
    newest = rolled.drop_duplicates("symbol", keep="last")
    fronts = dict(zip(newest["symbol"], newest["contract"], strict=True))
    contracts = new[new["contract"] != ""]
    if contracts.empty:
        return fronts
    last = contracts[contracts["ts"] == contracts.groupby("symbol")["ts"].transform("max")]
    counts = contracts.groupby(["symbol", "contract"]).size().rename("bars")
    likely = last.join(counts, on=["symbol", "contract"]).sort_values(
        ["open_interest", "volume", "bars"], na_position="first"
    )
    quoted = set(zip(last["symbol"], last["contract"], strict=True))
    guesses = dict(zip(likely["symbol"], likely["contract"], strict=True))
    return dict(fronts) | {s: c for s, c in guesses.items() if (s, fronts.get(s)) not in quoted}


def _late(new: pd.DataFrame, existing: pd.DataFrame, newest: Mapping[series.Key, datetime]) -> dict[str, pd.Timestamp]:
    """symbol -> the first new bar of a futures contract that is earlier than the newest stored one."""
    contracts = new[new["contract"] != ""]
    if contracts.empty:
        return {}
    unseen = contracts[~_keys(contracts, Bars.keys()).isin(_keys(existing, Bars.keys()))]
    newest_stored = pd.to_datetime(
        [newest.get(key) for key in _keys(unseen, ["symbol", "market", "interval"])], utc=True
    )
    return {str(s): ts for s, ts in unseen[unseen["ts"] < newest_stored].groupby("symbol")["ts"].min().items()}


def _keys(frame: pd.DataFrame, names: list[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(frame[names])


def _key(request: Request) -> series.Key:
    return request.instrument.symbol, request.market, request.interval


def _refuse_to_mix(database: Hub, settings: Settings, feed: str, marks: Mapping[series.Key, series.Mark]) -> None:
    """Raises DataError where simulated prices would restate real ones, or real ones simulated ones."""
    simulated = {name for name, section in settings.feeds.items() if section.simulated}
    for (symbol, _, _), mark in marks.items():
        if mark.newest and mark.source != feed and {mark.source, feed} & simulated:
            raise DataError(
                f"{symbol}: {database} holds bars from {mark.source}, and the new ones are from {feed}. "
                "Simulated and real prices do not mix: "
                "use another database, such as ALPHAPIVOT_DATABASE__NAME=alphapivot_simulated"
            )


@step("known-at")
def freeze(work: Work) -> Output:
    """Fixes the instant up to which this run reads the database, after its ingestion is committed."""
    ops.freeze_known_at(work.hub, work.run)
    return Output()


def frozen(run: RunRef, receipt: Receipt) -> RunRef:
    """The run with the known_at that ``freeze`` stored."""
    return ops.load_run(open_run(run)[1], receipt.run_id)[0]
