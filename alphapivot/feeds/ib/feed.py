"""
Bars of shares and futures contracts from Interactive Brokers, through IB Gateway or TWS and ib_async.

Bars of trades (interactivebrokers.github.io/tws-api/historical_bars.html): of shares in regular hours and in today's
shares (adjusted for later splits, not for dividends), of futures in all hours. They are stamped at their start; days by
their session's date, those of futures by the exchange's trading day. Open interest is not among them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from alphapivot import waiting
from alphapivot.calendar import bar_ends
from alphapivot.errors import Unavailable
from alphapivot.feeds.base import Fetched, Limit, Problem, Request, fits
from alphapivot.feeds.candles import COLUMNS, pages, timed, told_splits
from alphapivot.feeds.ib import contracts, meaning
from alphapivot.feeds.wire import RefusedError, in_turn
from alphapivot.venues.budget import Budget, Rule
from alphapivot.venues.ib.link import Login, shared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ib_async import IB

    from alphapivot.config.sections.feeds import IbFeed
    from alphapivot.feeds.ib.contracts import Wanted

# interval -> IB's name of it, and the days of one request: interactivebrokers.github.io/tws-api/historical_limitations
SIZES = {
    "1m": ("1 min", 1),
    "5m": ("5 mins", 7),
    "15m": ("15 mins", 7),
    "30m": ("30 mins", 30),
    "1h": ("1 hour", 30),
    "1d": ("1 day", 365),
}
# the same page: 60 in ten minutes, not the same within 15 s, fewer than six of one contract within 2 s
RULES = (Rule(60, 600), Rule(1, 15, key=1), Rule(5, 2, key=0))
MARGIN = timedelta(days=3)  # requested before ``since``: bars are stamped at their start
PAUSE = 60.0  # seconds, after IB has said that it was asked too fast
PIECE = timedelta(days=30)  # of a backfill: many requests each, so a killed one loses little


class InteractiveBrokers:
    """The Feed port over one gateway; tickers are SPY, SAP@IBIS, ES@CME (every contract of it, expired ones too)."""

    limits: ClassVar[Mapping[str, Limit]] = {
        name: Limit(request=PIECE if name in ("1m", "5m") else None) for name in SIZES
    }

    def __init__(self, name: str, section: IbFeed) -> None:
        self.name, self.section = name, section
        self._link = shared(Login(section.host, section.port, section.client_id, section.timeout))
        self.budget = Budget(f"Interactive Brokers at {section.host}-{section.port}", RULES)

    def fetch(self, requests: list[Request]) -> Fetched:
        """Bars of the requests, one after the other. Raises Unavailable if there is no session with the gateway."""
        if requests:
            self._link.open()
        self._patience = self.section.patience
        return in_turn(requests, self._answer)

    def _answer(self, request: Request) -> Fetched:
        if request.interval not in SIZES:
            raise RefusedError(f"Interactive Brokers has no bars of {request.interval!r}; it has {', '.join(SIZES)}")
        hours = request.instrument.hours_of(request.market)
        if request.interval != "1d" and not fits(hours, bar_ends.width(request.interval)):
            raise RefusedError(
                f"Interactive Brokers' bars of {request.interval} do not begin with the sessions of {hours}: set "
                f"[instrument.{request.instrument.symbol}] {request.market}_interval to a shorter one, such as 15m, and"
                " longer bars are made of these"
            )
        parts: list[pd.DataFrame] = []
        problems: list[Problem] = []
        self._notes: list[str] = []
        empty: list[str] = []
        wanted = self._wanted(request)
        for one in wanted:
            try:
                rows = self._rows(one, request.interval)
            except RefusedError as refused:
                if len(wanted) == 1 or refused.down or isinstance(refused, EveryError):
                    raise
                problems.append(Problem(request, f"{one.name}: {refused.reason}", refused.transient, partial=True))
                continue
            if rows.empty:
                empty.append(one.name)
            else:
                parts.append(timed(request, one.name, rows, self.name, self._notes))
        if not parts:
            if problems:
                raise RefusedError("; ".join(p.reason for p in problems), transient=all(p.transient for p in problems))
            raise RefusedError(f"Interactive Brokers has no {request.interval} bars of {_text(request)} in that time")
        if empty:
            self._notes.append(f"{request}: no trade of {', '.join(empty)} in that time")
        return told_splits(request, self.name, parts, problems, self.section.splits, self._begin(request), self._notes)

    def _begin(self, request: Request) -> datetime:
        start = datetime.fromisoformat(self.section.start).replace(tzinfo=UTC)
        return start if request.since is None else max(start, request.since - MARGIN)

    def _wanted(self, request: Request) -> list[Wanted]:
        from ib_async import Contract  # noqa: PLC0415 - optional

        fields = contracts.asked(request.instrument, request.market)
        found = self._ask(lambda ib: ib.reqContractDetailsAsync(Contract(**fields)), f"the contracts {_text(request)}")
        begin, end, text = self._begin(request), request.until, f"{_text(request)} in {fields['currency']}"
        if begin >= end:
            raise RefusedError(f"[feed.{self.name}] start = {self.section.start} is after {end:%Y-%m-%d}")
        if request.market == "spot":
            contract = contracts.share(found, text)
            contract.exchange = fields["exchange"]
            return [contracts.Wanted("", contract, begin, end)]
        return contracts.futures(found, text, begin, end, self.section.contract_days)

    def _rows(self, wanted: Wanted, interval: str) -> pd.DataFrame:
        """The bars of a contract as IB has them; ``start``: a date, or an instant in UTC."""
        size, most = SIZES[interval]
        rows: list[tuple[Any, ...]] = []
        for begin, end in pages(wanted.begin, wanted.end, timedelta(days=most)):
            days = -(-(end - begin) // timedelta(days=1))
            rows += self._page(wanted, end, f"{days} D", size)
        return pd.DataFrame(rows, columns=COLUMNS[:-1]).drop_duplicates("start", keep="last")

    def _page(self, wanted: Wanted, end: datetime, duration: str, size: str) -> list[tuple[Any, ...]]:
        contract, regular = wanted.contract, wanted.contract.secType == "STK"
        what = f"{size} bars of {wanted.name or contract.symbol}"

        def ask(ib: IB) -> Any:
            return ib.reqHistoricalDataAsync(contract, end, duration, size, "TRADES", regular, 2, timeout=0)

        for _ in range(meaning.MAX_PACING):
            self.budget.take(str(contract.conId), f"{contract.conId} {end:%Y%m%d %H%M%S} {duration} {size}")
            bars = self._ask(ask, what)
            again = self._judge(self._link.heard.errors.pop(bars.reqId, []), what)
            if not again:
                return [(b.date, b.open, b.high, b.low, b.close, b.volume) for b in bars]
        raise EveryError(again, transient=True)

    def _judge(self, errors: list[tuple[int, str]], what: str) -> str:
        """The reason to ask again, else empty. Raises RefusedError for an error that leaves no bars."""
        for code, text in errors:
            meant = meaning.of(code, text)
            if meant is None or meant.kind == "empty":
                continue
            said = f"Interactive Brokers, {what}: {meant.told + ' ' if meant.told else ''}({code}: {text})"
            if meant.kind == "note":
                self._notes.append(said)
            elif meant.kind == "slower" and self._patience >= PAUSE:
                self._patience -= PAUSE
                waiting.say(f"{said}: waiting {PAUSE:g} s")
                time.sleep(PAUSE)
                return said
            elif meant.kind in ("slower", "all"):
                raise EveryError(said, transient=meant.transient)
            else:
                raise RefusedError(said, transient=meant.transient)
        return ""

    def _ask(self, make: Callable[[IB], Awaitable[Any]], what: str) -> Any:
        try:
            return self._link.ask(make, what, self.section.timeout)
        except Unavailable as error:
            try:
                self._link.open()
            except Unavailable as gone:
                raise RefusedError(str(gone), down=True) from None
            raise RefusedError(str(error), transient=True) from None


class EveryError(RefusedError):
    """A refusal that every other contract of the request would get too."""


def _text(request: Request) -> str:
    return str(getattr(request.instrument, request.market))
