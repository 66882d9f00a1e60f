"""``alphapivot data``: an operator's decisions on quarantined data."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, FAILED, USAGE, Add, at_least, fail, instant, settings_of

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings


UNDECIDED = "Data issues that need a decision; --all: bar by bar, with those that are decided"


def shown(text: str) -> datetime:
    """An instant; a date, or a time without a zone, is in UTC, as ``data show`` prints it."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return instant(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def add(command: Add) -> None:
    sub = command("data", _data, "show, accept or reject implausible data")
    actions = ("show", "accept", "reject", "clear", "events", "drop-event", "calendar", "sniff", "compare")
    needs = (
        "all but show and events need SYMBOL, calendar its NAME, sniff a FILE; compare two feeds; changes need --why"
    )
    sub.add_argument("action", choices=actions, help=needs)
    sub.add_argument("symbol", metavar="SYMBOL", nargs="?", help="only issues of this instrument; NAME; FILE")
    sub.add_argument("feeds", metavar="FEED", nargs="*", help="compare: the names of two [feed.*]")
    sub.add_argument("--check", metavar="NAME", help="only issues of this check, e.g. 'wrong scale'")
    sub.add_argument("--market", choices=("spot", "futures"), help="only issues of this market")
    sub.add_argument(
        "--at", type=shown, metavar="TS", help="only the bar that ends at this instant, as `data show` prints it"
    )
    kinds = ("split", "dividend", "distribution", "merger", "delisting")
    sub.add_argument("--kind", choices=kinds, help="with drop-event: only events of this kind")
    sub.add_argument("--row", type=at_least(1), metavar="N", help="which bar, if several share one instant")
    sub.add_argument("--interval", metavar="NAME", help="clear: only bars of this interval and what is made of them")
    sub.add_argument(
        "--from",
        type=shown,
        dest="since",
        metavar="TS",
        help="clear, compare: only bars after; calendar: from this day",
    )
    sub.add_argument(
        "--to", type=shown, dest="until", metavar="TS", help="clear, compare: only bars up to; calendar: to this day"
    )
    sub.add_argument("--why", "--reason", metavar="TEXT", help="the reason; stored with your user name")
    sub.add_argument("--all", action="store_true", help="include issues that are decided, resolved or only flagged")


def _data(options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import hub
    from alphapivot.data.series import stand_in
    from alphapivot.hub.tables import holes, issues
    from alphapivot.reports.terminal import terminal, views

    if options.action == "sniff":
        return _sniff(options.symbol)
    settings = settings_of(options)
    if own := {"clear": _clear, "calendar": _calendar, "compare": _compare}.get(options.action):
        return own(options)
    if options.action in ("events", "drop-event"):
        return _events(settings, options)
    rows = issues.show(hub.connect(), options.symbol, everything=options.all)
    for column, value in (("check_name", options.check), ("market", options.market), ("ts", options.at)):
        rows = rows if value is None else rows[rows[column] == value]
    if options.action == "show":
        rows, title = (rows, "All data issues") if options.all else (views.summed(rows), UNDECIDED)
        terminal.show(views.issues(rows), title)
        if len(missing := holes.show(hub.connect(), options.symbol)):
            terminal.show(views.holes(missing), "Missing bars, requested again for [quality] hole_days")
        if len(stood := issues.open_now(hub.connect(), stand_in.CHECK, options.symbol)):
            terminal.show(views.stand_ins(stood), terminal.STOOD)
        return DONE
    if options.symbol is None or not options.why or rows.empty:
        return fail(
            f"data {options.action} needs SYMBOL, --why and at least one open issue: see `alphapivot data show`", USAGE
        )
    from tasks import verdict

    decision = f"{options.action}ed"
    bars = verdict.decide(settings, rows, decision, by=getpass.getuser(), why=options.why, row=options.row)
    print(f"{len(rows)} issues of {options.symbol} {decision}; {bars} bars entered the hub")  # noqa: T201
    return DONE


def _clear(options: argparse.Namespace) -> int:
    import getpass

    from tasks.local import clear

    if options.symbol is None or not options.why:
        return fail("data clear needs SYMBOL and --reason", USAGE)
    spans = {name: value for name in ("since", "until") if (value := getattr(options, name)) is not None}
    span = clear.Span(options.symbol, options.market, options.interval, **spans)
    bars = clear.clear(settings_of(options), span, by=getpass.getuser(), why=options.why)
    print(f"{bars} bars of {options.symbol} cleared, with scores and rolls made of them. Next: alphapivot ingest")  # noqa: T201
    return DONE


def _events(settings: Settings, options: argparse.Namespace) -> int:
    """Splits and dividends that count; or withdraws some of a symbol's."""
    import getpass
    from datetime import UTC, datetime

    from alphapivot import hub
    from alphapivot.hub.tables import bars
    from alphapivot.reports.terminal import terminal

    if options.action == "drop-event":
        from tasks import verdict

        if options.symbol is None or not options.why or (options.at is None and options.kind is None):
            return fail("data drop-event needs SYMBOL, --why, and --at or --kind: see `alphapivot data events`", USAGE)
        count = verdict.drop_event(
            settings, options.symbol, options.kind, options.at, by=getpass.getuser(), why=options.why
        )
        print(f"{count} events of {options.symbol} dropped; scores that used them are made again")  # noqa: T201
        return DONE
    symbols = [options.symbol] if options.symbol else list(settings.instruments)
    events = bars.actions(hub.connect(), symbols, until=datetime.max.replace(tzinfo=UTC), known_at=None)
    events = events.assign(
        ts=[f"{ts:%Y-%m-%dT%H:%M:%SZ}" for ts in events["ts"]],
        value=[f"{value:g}" for value in events["value"]],
        factor=[f"{factor:.6g}" for factor in events["factor"]],
    )
    terminal.show(events, "Splits and dividends that count")
    return DONE


def _calendar(options: argparse.Namespace) -> int:
    """Prints the sessions of a calendar, or of an instrument, in the exchange's time."""
    import pandas as pd

    from alphapivot.calendar import bar_ends, schedule
    from alphapivot.config.sections.calendar import hours_of
    from alphapivot.config.sections.instrument import MARKETS
    from alphapivot.reports.terminal import terminal

    settings, name = settings_of(options), options.symbol
    if name is None:
        return fail("data calendar needs a NAME, such as NSE or XNYS, or a symbol", USAGE)
    chosen, own = settings.instruments.get(name), settings.calendars.get(name)
    markets = {m: hours_of(name, own, m) if chosen is None else chosen.hours_of(m) for m in MARKETS}
    since = options.since or datetime.now(UTC)
    until = options.until or since + timedelta(days=31)
    columns = {}
    for market, hours in markets.items():
        table = bar_ends.sessions(hours, since, until + timedelta(days=1))
        local = {column: table[column].dt.tz_convert(schedule.of(hours).zone) for column in ("open", "close")}
        spans = [f"{a:%H:%M}-{b:%H:%M}" for a, b in zip(local["open"], local["close"], strict=True)]
        columns[market] = pd.Series(spans, index=pd.DatetimeIndex(table.index).strftime("%Y-%m-%d %a"))
    shown = pd.DataFrame(columns)
    if shown["spot"].equals(shown["futures"]):
        shown = shown[["spot"]].rename(columns={"spot": "hours"})
    zone = schedule.of(markets["spot"]).zone
    terminal.show(shown.rename_axis("session").reset_index(), f"Sessions of {name} ({zone})")
    return DONE


def _compare(options: argparse.Namespace) -> int:
    """Fetches a series from two feeds and prints how much they differ; stores nothing."""
    from alphapivot.data.series.compare import compare
    from alphapivot.feeds.base import Request
    from alphapivot.feeds.registry import open_feed
    from alphapivot.reports.terminal import terminal

    settings = settings_of(options)
    if options.symbol not in settings.instruments or len(options.feeds) != 2:
        return fail("data compare needs a SYMBOL of the config and two feeds: data compare SPY alpaca yahoo", USAGE)
    if unknown := [name for name in options.feeds if name not in settings.feeds]:
        return fail(f"there is no [feed.{unknown[0]}]; the config has {', '.join(settings.feeds)}", USAGE)
    instrument = settings.instruments[options.symbol]
    market = options.market or instrument.signal_market
    interval = options.interval or instrument.source_interval(market, settings.timeframes.base)
    until = options.until or datetime.now(UTC)
    since = options.since or until - timedelta(days=365)
    replies = []
    for name in options.feeds:
        request = Request(settings.feeds[name].named(instrument), market, interval, since, until)
        reply = open_feed(name, settings.feeds[name]).fetch([request])
        replies.append(reply)
        for problem in reply.problems:
            print(f"{name}: {problem.reason}")  # noqa: T201
    table = compare(replies[0], replies[1], (options.feeds[0], options.feeds[1]), instrument.tick)
    title = (
        f"{instrument.symbol} {market} {interval}, {since:%Y-%m-%d} to {until:%Y-%m-%d}: {' and '.join(options.feeds)}"
    )
    terminal.show(table, title)
    return DONE if all(len(reply.bars) for reply in replies) else FAILED


def _sniff(file: str | None) -> int:
    """Prints the sections that read a file, what was guessed and why, the questions, and the first bars."""
    from datetime import UTC, datetime
    from pathlib import Path

    from alphapivot.data import screen
    from alphapivot.feeds.sniff.sniff import sniff
    from alphapivot.reports.terminal import terminal

    if file is None:
        return fail("data sniff needs a file, such as prices/SPY.csv", USAGE)
    found = sniff(Path(file).expanduser().resolve())
    print(found.ini())  # noqa: T201
    for line in [*(f"; {why}" for why in found.why), *(f"? {question}" for question in found.questions)]:
        print(line)  # noqa: T201
    fetched = found.fetched
    for problem in fetched.problems if fetched else ():
        print(f"! {problem.reason}")  # noqa: T201
    if fetched is None or fetched.bars.empty or found.terms is None:
        return FAILED
    screened = screen.screen(fetched.bars, {found.symbol: found.terms}, now=datetime.now(UTC))
    out = screened.issues[screened.issues["outcome"] == "quarantined"]
    for check, issues in out.groupby("check_name"):
        count = f"{len(issues)} of {len(fetched.bars)} bars"
        print(f"! {count} would be quarantined ({check}), the first: {issues['detail'].iloc[0]}")  # noqa: T201
    names = ["ts", "contract", "open", "high", "low", "close", "volume"]
    bars = screened.bars.head(5)[names].astype("str").fillna("–")
    terminal.show(bars, f"The first of {len(screened.bars)} bars as they would be stored (ts: when complete, UTC)")
    return DONE if len(screened.bars) else FAILED
