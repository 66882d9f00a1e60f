"""
A range of history, read once and replayed bar by bar: the market of a backtest.

A bar, roll or score is known from ``ts`` + its feed's ``publication_lag`` on, as in the pipeline.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection, text

from alphapivot.calendar import bar_ends
from alphapivot.execution.market import quotes
from alphapivot.execution.market.source import NEWEST, Composite, QuoteTerms, read_bars, terms_of
from alphapivot.frames import ENDINGS, Composites, ordered
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import issues
from alphapivot.research.backtest.quotes import PriceTape

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.execution.decide.facts import Quote
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef

Ints = npt.NDArray[np.int64]
ENDED = """
    SELECT symbol, ts FROM market.corporate_action
    WHERE kind = ANY(:kinds) AND symbol = ANY(:symbols) AND ts > :since AND ts <= :until AND ingested_at <= :known_at
"""


class BarRange:
    """
    The Source for all instants in (``after``, ``until``], visited in order: move it with ``at``.

    It attends to the symbols that are held and those whose newest score may trigger a trade; the others need no
    decision and keep no record. ``held_since``: the first entry of the trades that are open at the begin, whose bars
    their stops follow. ``all_bars`` (with ``start``), ``all_rolls``, ``all_actions`` and ``halted`` are of the
    whole range.
    """

    def __init__(
        self,
        hub: Hub,
        run: RunRef,
        settings: Settings,
        *,
        after: datetime,
        until: datetime,
        held_since: datetime | None = None,
    ) -> None:
        self._settings = settings
        self._symbols = sorted(settings.instruments)
        code = {symbol: k for k, symbol in enumerate(self._symbols)}
        lags = lag(settings)
        lag_of = np.array([lags[s] // timedelta(microseconds=1) for s in self._symbols], dtype=np.int64)

        needed = quotes.needed(settings.execution.atr, settings.sizing, settings.risk)
        reach = quotes.lookback(settings.timeframes.base, needed)
        first = min(after - reach, held_since or after)
        by_market: dict[str, set[str]] = {"spot": set(), "futures": set()}
        for symbol, instrument in settings.instruments.items():
            for market in {instrument.trade_market, *(["spot"] if instrument.spot is not None else [])}:
                by_market[market].add(symbol)
        bars = read_bars(hub, run, settings, by_market, after=first, until=until)
        self.all_bars = quotes.opened(bars, settings.timeframes.base, settings.instruments)
        symbols = self.all_bars["symbol"].map(code).to_numpy(np.int64)
        self._ts = micros(self.all_bars["ts"])
        self._known = self._ts + lag_of[symbols]
        group = symbols * 2 + (self.all_bars["market"] == "futures").to_numpy()
        edges = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
        self._rows = {
            (("spot", "futures")[group[a] % 2], self._symbols[group[a] // 2]): slice(a, b)
            for a, b in itertools.pairwise(edges)
        }
        self.all_rolls = stored.rolls(hub, self._symbols, until=until, known_at=run.known_at)
        self._roll_known = micros(self.all_rolls["ts"]) + lag_of[self.all_rolls["symbol"].map(code).to_numpy(np.int64)]
        self._roll_symbol = self.all_rolls["symbol"].to_numpy(dtype=object)
        self._tape = PriceTape(self.all_bars, self.all_rolls, settings.instruments)
        self._run, self._lags = run, lags
        self.all_actions = stored.actions(hub, self._symbols, since=first, until=until, known_at=run.known_at)
        self._action_known = (
            micros(self.all_actions["ts"]) + lag_of[self.all_actions["symbol"].map(code).to_numpy(np.int64)]
        )
        with hub.engine.connect() as conn:
            halts = issues.halted(conn, run.known_at, settings.spreads)
        self.halted = [h for h in halts if h.symbol in settings.instruments]

        scores = _scores(hub, run, settings, after, until)
        self._scores = {name: scores[name].to_numpy() for name in ("score", "raw", "gate", "veto", "batch_id")}
        self._score_ts = micros(scores["ts"])
        self._score_symbol = scores["symbol"].map(code).to_numpy(np.int64)
        waits = score_lag(settings)
        wait_of = np.array([waits[s] // timedelta(microseconds=1) for s in self._symbols], dtype=np.int64)
        known = self._score_ts + wait_of[self._score_symbol]
        self._order = np.argsort(known, kind="stable")
        self._score_known = known[self._order]
        self._published = 0  # how many scores, in order of publication, are known
        self._newest = np.full(len(self._symbols), -1)  # symbol -> row of its newest score
        self._first = np.searchsorted(self._score_symbol, np.arange(len(self._symbols)))
        strength = np.fmax(np.abs(self._scores["score"]), np.abs(self._scores["raw"]))
        # scores are stored as 4-byte floats, rounded to 0.01: one just below the threshold may trigger too
        # a target position follows any score
        threshold = settings.execution.entry_threshold if settings.execution.form == "trades" else 0.01
        self._triggers = np.nan_to_num(strength) >= threshold - 0.005
        self._now, self.as_of = np.int64(0), after
        self.attending: Sequence[str] = ()  # result of the last call of ``attended``

    def at(self, as_of: datetime) -> None:
        """Moves on to ``as_of``, which must not be earlier than the last."""
        self.as_of, self._now = as_of, bar_ends.naive(as_of).astype(np.int64)
        published = int(np.searchsorted(self._score_known, self._now, "right"))
        rows = self._order[self._published : published]
        np.maximum.at(self._newest, self._score_symbol[rows], rows)
        self._published = published

    @property
    def quiet(self) -> bool:
        """True if no newest score may trigger a trade."""
        newest = self._newest[self._newest >= 0]
        return not self._triggers[newest].any()

    @property
    def known(self) -> int:
        """The number of symbols whose newest raw score is a number."""
        newest = self._newest[self._newest >= 0]
        return int((~np.isnan(self._scores["raw"][newest])).sum())

    def attended(self, holding: Collection[str]) -> Sequence[str]:
        scored = np.flatnonzero(self._newest >= 0)
        triggering = scored[self._triggers[self._newest[scored]]]
        self.attending = sorted({*holding, *(self._symbols[k] for k in triggering)} & set(self._symbols))
        return self.attending

    def scores(self, symbols: Collection[str], most: int) -> Sequence[Composite]:
        composites = []
        for symbol in sorted(symbols):
            k = self._symbols.index(symbol)
            newest = int(self._newest[k])
            oldest = max(int(self._first[k]), newest - most + 1)
            rows = range(newest, oldest - 1, -1) if newest >= 0 else ()
            composites += [self._composite(symbol, row) for row in rows]
        return composites

    def bars(self, wanted: Mapping[str, Collection[str]], after: datetime) -> pd.DataFrame:
        since = bar_ends.naive(after).astype(np.int64)
        rows = [
            np.flatnonzero((self._ts[part] > since) & (self._known[part] <= self._now)) + part.start
            for market, symbols in wanted.items()
            for symbol in sorted(symbols)
            if (part := self._rows.get((market, symbol))) is not None
        ]
        return self.all_bars.take(np.concatenate(rows) if rows else []).reset_index(drop=True)

    def quotes(
        self, symbols: Collection[str], terms: QuoteTerms, rolled: pd.DataFrame, events: pd.DataFrame
    ) -> dict[str, Quote]:
        arguments = terms_of(terms, self._settings, self._run, self.as_of)
        adjusted = set(events["symbol"]) & set(symbols) if len(events) else set()
        last, series = {}, {}
        after = bar_ends.naive(terms.after)
        for symbol in symbols:
            contract, until = terms.front[symbol], bar_ends.naive(self.as_of - self._lags[symbol])
            bar = None if symbol in adjusted else self._tape.last(symbol, contract, after, until)
            if bar is not None:
                last[symbol] = bar
                series[symbol] = self._tape.series(symbol, contract, after, until) or quotes.NOTHING
        by_symbol = quotes.quoted(last, series, **arguments)
        if adjusted:
            spot = {s for s in adjusted if self._settings.instruments[s].trade_market == "spot"}
            bars = self.bars({"spot": spot, "futures": adjusted - spot}, terms.after)
            by_symbol |= quotes.quotes(bars, rolled, events, **arguments)
        return by_symbol

    def rolls(self, symbols: Collection[str]) -> pd.DataFrame:
        known = np.isin(self._roll_symbol, list(symbols)) & (self._roll_known <= self._now)
        return self.all_rolls.take(np.flatnonzero(known)).reset_index(drop=True)

    def actions(self, symbols: Collection[str], since: datetime) -> pd.DataFrame:
        if self.all_actions.empty:
            return self.all_actions
        known = self.all_actions["symbol"].isin(list(symbols)).to_numpy() & (self._action_known <= self._now)
        known &= micros(self.all_actions["ts"]) >= bar_ends.naive(since).astype(np.int64)
        return self.all_actions.take(np.flatnonzero(known)).reset_index(drop=True)

    def halts(self, conn: Connection) -> dict[str, str]:  # noqa: ARG002 - the port's signature
        """Halts from their bar on; of those that ended without a date the times in the market are not stored."""
        return self.halted_now()

    def halted_now(self) -> dict[str, str]:
        return issues.reasons(self.halted, self.as_of)

    def composites(self) -> pd.DataFrame:
        """symbol, ts, score, raw, gate and veto of the whole range, sorted by symbol and ts."""
        stamps = self._stamps(np.arange(len(self._score_ts)))
        return stamps.assign(**{name: self._scores[name] for name in ("score", "raw", "gate", "veto")})

    def asking(self) -> pd.DataFrame:
        """symbol and ts of the scores that may trigger a trade."""
        return self._stamps(np.flatnonzero(self._triggers))

    def coming(self, symbols: Collection[str], most: int) -> pd.DataFrame:
        """symbol and ts of each symbol's newest score and of the next ones that trigger no trade, ``most`` in all."""
        rows = [np.empty(0, np.int64)]
        for k in map(self._symbols.index, symbols):
            newest = self._newest[k]
            ahead = np.arange(newest, min(newest + most, len(self._score_symbol)))
            if newest >= 0:
                rows.append(ahead[(self._score_symbol[ahead] == k) & (~self._triggers[ahead] | (ahead == newest))])
        return self._stamps(np.concatenate(rows))

    def _stamps(self, rows: Ints) -> pd.DataFrame:
        symbols = pd.array(self._symbols, dtype="str").take(self._score_symbol[rows])
        stamps = bar_ends.aware(self._score_ts[rows].astype("datetime64[us]"))
        return pd.DataFrame({"symbol": symbols, "ts": stamps})

    def _composite(self, symbol: str, row: int) -> Composite:
        score, raw, gate = (_number(self._scores[name][row]) for name in ("score", "raw", "gate"))
        veto = self._scores["veto"][row]
        ts = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(self._score_ts[row]))
        return Composite(
            symbol=symbol,
            ts=ts,
            score=score,
            raw=raw,
            gate=gate,
            veto=None if pd.isna(veto) else str(veto),
            batch_id=int(self._scores["batch_id"][row]),
        )


def lag(settings: Settings) -> dict[str, timedelta]:
    """symbol -> how long after a bar's end its feed publishes it."""
    return {
        symbol: timedelta(minutes=settings.feeds[settings.feed_of(i)].publication_lag)
        for symbol, i in settings.instruments.items()
    }


def score_lag(settings: Settings) -> dict[str, timedelta]:
    """symbol -> how long after a bar's end its score is known: a score may depend on other symbols' bars too."""
    lags = lag(settings)
    crossed = any(pillar.cross_sectional for pillar in settings.pillars.values())
    return dict.fromkeys(lags, max(lags.values())) if crossed else lags


def instants(hub: Hub, run: RunRef, settings: Settings, since: datetime) -> list[datetime]:
    """
    The instants in (since, run.as_of] at which any score became known: a pipeline that misses no bar runs then. Mergers
    and delistings after the last score close what is open.
    """
    by_lag: dict[timedelta, list[str]] = {}
    for symbol, wait in score_lag(settings).items():
        by_lag.setdefault(wait, []).append(symbol)
    known: set[datetime] = set()
    with hub.engine.connect() as conn:
        for wait, symbols in by_lag.items():
            keys = {"scope": run.scope, "symbol": symbols}
            scores = hub.scores(Composites, keys, after=since - wait, until=run.as_of - wait, columns=["ts"])
            known |= {ts.to_pydatetime() + wait for ts in scores["ts"].unique()}
        if known:
            ends = {"kinds": list(ENDINGS), "symbols": list(settings.instruments), "since": max(known)}
            rows = conn.execute(text(ENDED), ends | {"until": run.as_of, "known_at": run.known_at})
            lags = lag(settings)
            known |= {at for symbol, ts in rows if (at := ts + lags[symbol]) <= run.as_of}
    return sorted(known)


def _scores(hub: Hub, run: RunRef, settings: Settings, after: datetime, until: datetime) -> pd.DataFrame:
    """Composites in (after - lag, until] and each symbol's newest ones before them, sorted by symbol and ts."""
    begin = after - max(lag(settings).values())
    symbols = sorted(settings.instruments)
    parameters = {"symbols": symbols, "scope": run.scope, "as_of": begin, "most": settings.entry.confirm}
    with hub.engine.connect() as conn:
        before = [Composite(*row) for row in conn.execute(text(NEWEST), parameters)]
    keys, columns = {"scope": run.scope, "symbol": symbols}, list(Composite._fields)
    scores = hub.scores(Composites, keys, after=begin, until=until, columns=columns)
    if before:
        earlier = pd.DataFrame(before, columns=columns).astype(scores.dtypes.to_dict())
        scores = pd.concat([earlier, scores], ignore_index=True)
    return ordered(scores, "symbol")


def micros(stamps: pd.Series) -> Ints:
    """Instants as microseconds since 1970."""
    numbers: Ints = bar_ends.naive(stamps).astype("datetime64[us]").astype(np.int64)
    return numbers


def _number(stored: float) -> float | None:
    """A 4-byte float as the number that was written: its shortest decimals. None for NaN."""
    return None if np.isnan(stored) else float(str(np.float32(stored)))
