"""
A seeded, computed market: regimes, gaps, volume, a basis, open interest and rolls.

Everything is drawn from generators named by seed, symbol and purpose, each read from its start, so that a symbol's
prices depend neither on the other symbols nor on the requested range. Intraday bars are bridges between the daily bars'
prices: resampled to a day they give the daily bar. Futures are the spot path with a cost of carry that vanishes at
expiry.

This market has trends, and so an edge of unknown size for trend followers. ``edge`` replaces it by pure noise with a
planted edge of known size, to test whether a measurement finds an edge that exists, and none where none exists.
``carry`` and ``crises`` are what the demo adds: costs of carry that a holder of futures earns or pays, and weeks in
which all markets move together, most of them down.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.feeds.base import Fetched, Problem, Request, gather
from alphapivot.frames import Bars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.calendar.exchange import Instants
    from alphapivot.config.sections.feeds import SimulatedFeed
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.feeds.base import Limit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# regime:       up    down  ranging volatile
DRIFT = np.array([0.12, -0.12, 0.0, 0.0])  # of a day, in daily standard deviations
SPREAD = np.array([0.8, 1.1, 0.7, 2.0])  # of a day's moves, in the symbol's usual standard deviation
REVERSAL = np.array([0.0, 0.0, 0.5, 0.1])  # share of yesterday's shock that is reversed
STAY = 45  # mean sessions in a regime
CRISIS = 20  # days in which a crisis calms down to a third
MEMORY = 20  # sessions whose shocks a planted edge follows
LISTED = 45  # days before its predecessor's expiry from which a contract trades
CODES = "HMUZ"  # March, June, September, December


def generator(seed: int, *names: object) -> np.random.Generator:
    """An independent random generator for each seed and ``names``."""
    digest = hashlib.blake2s("|".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


@dataclass(frozen=True)
class Days:
    """One symbol's sessions from the first: spot prices, not yet rounded to the tick."""

    day: Ints  # the session's date, days since 1970
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    sigma: Floats  # standard deviation of the session's log return
    volume: Floats
    open_interest: Floats


@dataclass(frozen=True)
class Listing:
    """The contracts traded in each session: one row per contract and session; spot is the contract without a name."""

    contract: npt.NDArray[np.object_]
    session: Ints
    ratio: Floats  # price over the spot price
    volume: Floats
    open_interest: Floats
    known_interest: Floats  # open interest until the session's last bar: the day before's


class Simulated:
    """The Feed port over the simulated market of ``section.seed``, from ``start`` to ``end``."""

    limits: ClassVar[Mapping[str, Limit]] = {}

    def __init__(self, name: str, section: SimulatedFeed) -> None:
        self.name = name
        self.seed = section.seed
        self.edge, self.carry, self.crises = section.edge, section.carry, section.crises
        self.start = pd.Timestamp(section.start, tz="UTC")
        # the last day's session may close after midnight, UTC
        self.end = None if section.end is None else pd.Timestamp(section.end)

    def fetch(self, requests: list[Request]) -> Fetched:
        """Bars of any configured instrument; a market without a ticker, or an interval above 1d, is a Problem."""
        frames, problems = [], []
        for request in requests:
            if getattr(request.instrument, request.market) is None:
                reason = f"[instrument.{request.instrument.symbol}] has no {request.market} ticker"
                problems.append(Problem(request, reason))
            elif request.interval not in bar_ends.INTERVALS or request.interval == "1w":
                reason = f"the simulated market has no bars of {request.interval!r}; it has 1m to 1d"
                problems.append(Problem(request, reason))
            else:
                frames.append(self._bars(request))
        return gather(frames, problems)

    def _bars(self, request: Request) -> pd.DataFrame:
        instrument = request.instrument
        table = bar_ends.sessions(instrument.hours_of(request.market), self.start.to_pydatetime(), request.until)
        table = table[(table.index >= self.start.tz_convert(None)) & (table.index <= (self.end or table.index.max()))]
        if table.empty:
            return Bars.empty()
        days = self._days(instrument, table)
        since = self.start if request.since is None else pd.Timestamp(request.since)
        first = int(pd.DatetimeIndex(table["close"]).searchsorted(since, "right"))
        listing = self._futures(instrument, days) if request.market == "futures" else _spot(days)
        part = np.flatnonzero(listing.session >= first)
        ends, session, prices, share = self._within(request, table, days, first)

        # each row of the listing takes its session's bars
        begin = np.searchsorted(session, listing.session[part])
        count = np.searchsorted(session, listing.session[part], "right") - begin
        row = np.repeat(part, count)
        bar = np.repeat(begin - np.cumsum(count) + count, count) + np.arange(count.sum())
        last = np.append(session[1:] != session[:-1], [True])[bar] if len(session) else np.zeros(0, dtype=bool)
        first_of = np.append([True], session[1:] != session[:-1])[bar] if len(session) else last
        # volumes of a session's bars are differences of rounded running totals, so they sum to the day's
        total = np.rint(listing.volume[row] * share[bar])
        before = np.where(first_of, 0.0, np.append([0.0], total[:-1])) if len(total) else total
        tick = float(instrument.tick)
        decimals = max(0, -int(instrument.tick.normalize().as_tuple().exponent))
        columns = {
            name: np.round(np.maximum(np.rint(price[bar] * listing.ratio[row] / tick), 1.0) * tick, decimals)
            for name, price in zip(("open", "high", "low", "close"), prices, strict=True)
        }
        bars = pd.DataFrame(
            {
                "symbol": instrument.symbol,
                "market": request.market,
                "contract": pd.array(listing.contract[row], dtype="str"),
                "interval": request.interval,
                "ts": bar_ends.aware(ends[bar]),
                **columns,
                "volume": total - before,
                "open_interest": np.where(last, listing.open_interest[row], listing.known_interest[row]),
                "source": self.name,
            }
        )
        return bars[(bars["ts"] > since) & (bars["ts"] <= request.until)]

    def _days(self, instrument: Instrument, table: pd.DataFrame) -> Days:
        """The symbol's daily path: shocks of the market, the group and the symbol, and its regimes."""
        symbol, n = instrument.symbol, len(table)
        day = table.index.to_numpy().astype("datetime64[D]").astype(np.int64)
        since_start = day - int(self.start.timestamp() // 86_400)

        def normal(*names: object, size: int = n) -> Floats:
            return generator(self.seed, *names).standard_normal(size)

        traits = generator(self.seed, symbol, "traits").random(5)
        usual = (0.08 + 0.27 * traits[0]) / np.sqrt(252)
        level = float(instrument.tick) * 10 ** (3.5 + traits[1])
        weights = np.array([0.3 + 0.5 * traits[2], 0.4, 0.8])
        weights /= np.sqrt((weights**2).sum())
        market = normal("market", size=since_start[-1] + 1)[since_start]
        group = normal("group", instrument.group or symbol, size=since_start[-1] + 1)[since_start]
        shock = weights @ np.array([market, group, normal(symbol, "own")])

        # a Markov chain: how long each regime lasts, and which of the three others comes next
        lasts = generator(self.seed, symbol, "lasts").geometric(1 / STAY, n)
        regimes = (generator(self.seed, symbol, "next").integers(1, 4, n)).cumsum() % 4
        regime = regimes[np.searchsorted(lasts.cumsum(), np.arange(n), "right")]
        sigma = usual * SPREAD[regime]
        if self.edge is None:
            within = sigma * (DRIFT[regime] + shock - REVERSAL[regime] * np.append([0.0], shock[:-1]))
        else:
            within = sigma * (shock + self.edge * _trend(shock))

        panic = self._panic(since_start)
        # most groups fall in a crisis, some rise
        hit = panic * (generator(self.seed, instrument.group or symbol, "crisis").random() * 1.4 - 0.4)
        wild = np.maximum(1.0, 2 * panic * usual / sigma)
        within = within * wild - usual * hit

        gaps = generator(self.seed, symbol, "gaps").standard_normal((n, 3))
        jump = np.where(np.abs(gaps[:, 1]) > 2.4, 3 * gaps[:, 2], 0.0)  # about four a year
        overnight = sigma * (0.35 * gaps[:, 0] + jump) * wild - usual * hit
        sigma = sigma * wild
        close = np.log(level) + np.cumsum(overnight + within)
        open_ = close - within
        wick = np.abs(generator(self.seed, symbol, "wicks").standard_normal((n, 2))) * sigma[:, None] * 0.5

        hours = (table["close"] - table["open"]).to_numpy() / np.timedelta64(1, "h")
        busy = 0.25 * normal(symbol, "volume") + 0.35 * np.abs(within + overnight) / usual
        volume = 10 ** (4.5 + 1.5 * traits[3]) * np.exp(busy) * hours / np.maximum.accumulate(hours)
        interest = 10 ** (4.5 + 1.5 * traits[3]) * (3 + 5 * traits[4])
        return Days(
            day=day,
            open=np.exp(open_),
            high=np.exp(np.maximum(open_, close) + wick[:, 0]),
            low=np.exp(np.minimum(open_, close) - wick[:, 1]),
            close=np.exp(close),
            sigma=sigma,
            volume=np.rint(volume),
            open_interest=interest * np.exp(0.5 * np.tanh(np.cumsum(0.03 * normal(symbol, "interest")))),
        )

    def _panic(self, day: Ints) -> Floats:
        """How much of a crisis is left on each day since the market's first: 1 when one begins, 0 without any."""
        every = np.arange(day[-1] + 1)
        begins = generator(self.seed, "crises").random(len(every)) < self.crises / 365.25
        since = every - np.maximum.accumulate(np.where(begins, every, -(10**6)))
        panic: Floats = np.exp(-since[day] / CRISIS)
        return panic

    def _cost_of_carry(self, symbol: str, sessions: int) -> Floats:
        """A year's cost of carry at each session: a mean of the symbol's own, about which it moves within a year."""
        mean, *_ = generator(self.seed, symbol, "carry").random(1)
        if self.carry is None:
            return np.full(sessions, 0.08 * mean - 0.03)
        own = generator(self.seed, symbol, "carry over time").standard_normal(sessions + 1)
        slow = pd.Series(own[1:]).ewm(halflife=60).mean().to_numpy() * 13  # of unit deviation
        return np.asarray(self.carry * (np.clip(own[0], -1.5, 1.5) + 0.4 * slow))

    def _futures(self, instrument: Instrument, days: Days) -> Listing:
        """Quarterly contracts to the third Friday; volume and open interest move to the next one before that."""
        carry = self._cost_of_carry(instrument.symbol, len(days.day))
        noise = generator(self.seed, instrument.symbol, "basis").standard_normal((len(days.day), 2))
        if self.edge is not None:  # a varying premium would predict the future's reversion
            noise[:, 0] = 0.0
        quarter = np.arange(
            np.datetime64(int(days.day[0]), "D").astype("datetime64[M]").astype(int) // 3,
            np.datetime64(int(days.day[-1]), "D").astype("datetime64[M]").astype(int) // 3 + 3,
        )
        month_begin = (quarter * 3 + 2).astype("datetime64[M]").astype("datetime64[D]")
        expiry = np.busday_offset(month_begin, 2, roll="forward", weekmask="Fri").astype(np.int64)
        expiry, quarter = expiry[expiry >= days.day[0]], quarter[expiry >= days.day[0]]
        listed = np.append([days.day[0]], expiry[:-1] - LISTED)
        begin = np.searchsorted(days.day, listed)
        count = np.searchsorted(days.day, expiry, "right") - begin
        k = np.repeat(np.arange(len(expiry)), count)
        session = np.repeat(begin - np.cumsum(count) + count, count) + np.arange(count.sum())
        left = expiry[k] - days.day[session]
        since_predecessor = np.append([-(10**6)], expiry[:-1])[k] - days.day[session]

        def share(halfway: float) -> Floats:
            gained = 0.01 + 0.98 / (1 + np.exp(np.clip((since_predecessor - halfway) / 1.5, -50, 50)))
            kept = 0.99 - 0.98 / (1 + np.exp(np.clip((left - halfway) / 1.5, -50, 50)))
            shares: Floats = np.where(since_predecessor >= 0, gained, kept)
            return shares

        names = np.array([f"{instrument.symbol}-{1970 + q // 4}{CODES[q % 4]}" for q in quarter.tolist()], dtype=object)
        open_interest = np.rint(days.open_interest[session] * share(8.0))
        years = left / 365
        return Listing(
            contract=names[k],
            session=session,
            ratio=np.exp(carry[session] * years + 0.002 * np.sqrt(years) * noise[session, 0]),
            volume=np.rint(1.5 * days.volume[session] * share(9.0) * np.exp(0.1 * noise[session, 1])),
            open_interest=open_interest,
            known_interest=np.where(np.append([True], k[1:] != k[:-1]), np.nan, np.roll(open_interest, 1)),
        )

    def _within(
        self, request: Request, table: pd.DataFrame, days: Days, first: int
    ) -> tuple[Instants, Ints, tuple[Floats, Floats, Floats, Floats], Floats]:
        """Bars of the sessions from ``first`` on: ends, session, prices, and the cumulative share of volume."""
        if request.interval == "1d":
            session = np.arange(first, len(table))
            prices = days.open[first:], days.high[first:], days.low[first:], days.close[first:]
            return bar_ends.naive(table["close"])[first:], session, prices, np.ones(len(session))
        symbol, calendar = request.instrument.symbol, request.instrument.hours_of(request.market)
        month = table.index.to_numpy().astype("datetime64[M]").astype(int)
        first = int(np.searchsorted(month, month[min(first, len(month) - 1)]))  # random numbers are drawn per month
        ends = bar_ends.bar_ends(calendar, request.interval, table["open"].iloc[first], table["close"].iloc[-1])
        session = first + pd.DatetimeIndex(table["close"].iloc[first:]).searchsorted(ends)
        months, size = np.unique(month[session], return_counts=True)
        draws = np.concatenate(
            [
                generator(self.seed, symbol, request.interval, m).standard_normal((n, 4))
                for m, n in zip(months.tolist(), size.tolist(), strict=True)
            ]
        )
        new = np.append([True], session[1:] != session[:-1])
        starts = np.flatnonzero(new)
        count = np.diff(np.append(starts, len(session)))
        number = np.cumsum(new) - 1  # 0, 1, ...: the session among these
        step = np.arange(len(session)) - starts[number] + 1
        progress = step / count[number]

        def running(values: Floats) -> Floats:
            total: Floats = np.cumsum(values)
            total -= (total[starts] - values[starts])[number]
            return total

        # a Brownian bridge from the session's open to its close, kept within its high and low
        noise = draws[:, 0] * days.sigma[session] / np.sqrt(count[number])
        walk = running(noise)
        bridge = walk - progress * walk[np.append(starts[1:], len(walk)) - 1][number]
        low, high = np.log(days.low[session]), np.log(days.high[session])
        begin, end = np.log(days.open[session]), np.log(days.close[session])
        close = np.where(step == count[number], end, np.clip(begin + progress * (end - begin) + bridge, low, high))
        open_ = np.where(new, begin, np.append([0.0], close[:-1]))
        wick = np.abs(draws[:, 1:3]) * (days.sigma[session] / np.sqrt(count[number]))[:, None] * 0.5
        top, bottom = np.maximum(open_, close) + wick[:, 0], np.minimum(open_, close) - wick[:, 1]
        # the highest and the lowest bar reach the day's extremes
        top = np.where(top == np.maximum.reduceat(top, starts)[number], high, np.minimum(top, high))
        bottom = np.where(bottom == np.minimum.reduceat(bottom, starts)[number], low, np.maximum(bottom, low))
        # high at the open and the close, and in bars that move
        activity = (0.5 + 4 * (progress - 0.5) ** 2) * np.exp(0.3 * draws[:, 3] + 0.3 * np.abs(draws[:, 0]))
        share = running(activity)
        share /= share[np.append(starts[1:], len(share)) - 1][number]
        prices = np.exp(open_), np.exp(top), np.exp(bottom), np.exp(close)
        return bar_ends.naive(ends), session, prices, share


def _trend(shock: Floats) -> Floats:
    """For each session the scaled sum of the MEMORY shocks before it, of unit variance once there are that many."""
    total = np.append([0.0], np.cumsum(shock))
    before = np.arange(len(shock))
    return np.asarray((total[before] - total[np.maximum(before - MEMORY, 0)]) / np.sqrt(MEMORY))


def _spot(days: Days) -> Listing:
    n = len(days.day)
    unknown = np.full(n, np.nan)
    return Listing(
        contract=np.full(n, "", dtype=object),
        session=np.arange(n),
        ratio=np.ones(n),
        volume=days.volume,
        open_interest=unknown,
        known_interest=unknown,
    )
