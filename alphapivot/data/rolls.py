"""
Which futures contract is the front one, and back-adjusted prices without jumps between contracts. Pure.

A roll is decided on one session's data and applies to the bars after it: by open interest, by volume, or by calendar,
at the latest a set number of sessions before the contract's first notice or last trade. It is never reversed.
adjusted = raw + offset is anchored at the first contract, so that no later roll changes an earlier price.

A vendor's continuous series, such as Yahoo's ES=F, has no contracts: nothing here applies to it. Yahoo joins the
contracts unadjusted, so its history jumps at each roll by the spread, which no position ever earned.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.calendar.contracts import UnreadableError, month_of
from alphapivot.data.roll_policy import Policy
from alphapivot.errors import DataError
from alphapivot.frames import PRICES, Issues, Rolls, ordered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BEGINNING = pd.Timestamp("1970-01-01", tz="UTC")
LOOKBACK = pd.Timedelta(days=30)  # older spreads are not used
DOUBTFUL = 0.5  # share of the price: contracts of one market are not so far apart
NONE: Mapping[str, Policy] = MappingProxyType({})
Floats = npt.NDArray[np.float64]


def decide(
    bars: pd.DataFrame,
    last: pd.DataFrame,
    policies: Mapping[str, Policy] = NONE,
    since: Mapping[str, pd.Timestamp] | pd.Series[pd.Timestamp] | None = None,
    spreads: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """
    The rolls that ``bars`` decide after those in ``last``: new rows of Rolls, sorted by (symbol, ts).

    ``bars``: daily Bars of all futures contracts (resample intraday ones first; DataError for other intervals), from
    LOOKBACK before the first session that may decide. ``last``: the rolls so far, or each symbol's newest, or none:
    then a symbol's first contract is at offset 0, from 1970 on. ``policies``: symbol -> how it rolls; by open interest
    when absent. ``since``: symbol -> the first session that may decide; any after its last roll when absent.
    ``spreads``: of contracts that are quoted side by side within a session (``feeds.files.beside``); they count
    where they are at least as late as two closes of one session.

    By open interest or volume, the front contract rolls on a session to the later contract that has most of it, if that
    is more than its own and both have a close, which gives the spread. By calendar, and at the latest on its deadline,
    it rolls to the nearest later contract whose own deadline is not over (or to the one that the calendar names); if
    they have no common close on that session, the spread is that of their last common session within LOOKBACK. Without
    one the roll waits, and ``doubts`` reports it.
    """
    new_rolls: list[tuple[str, pd.Timestamp, str, str, float, float]] = []
    for market in _markets(bars, policies, spreads):
        begin = None if since is None else since.get(market.symbol)
        new_rolls += _decide_one(market, last[last["symbol"] == market.symbol].sort_values("ts"), begin)
    types = {c: "datetime64[us, UTC]" if c == "ts" else "str" for c in ("symbol", "ts", "contract", "previous")}
    return pd.DataFrame(new_rolls, columns=Rolls.columns()).astype(types | {"spread": float, "offset": float})


@dataclass(frozen=True, eq=False)
class _Market:
    """One symbol's contracts in the order of their months, as columns, over its sessions, as rows."""

    symbol: str
    policy: Policy
    contracts: list[str]
    sessions: pd.DatetimeIndex
    close: Floats
    volume: Floats
    interest: Floats
    deadlines: pd.DatetimeIndex  # of the contracts
    wanted: npt.NDArray[np.int64]  # for each session the column of the contract that a roll file names, -1: none
    unreadable: Mapping[str, tuple[pd.Timestamp, str]]  # contracts left out: their first bar, and the reason
    spreads: Mapping[int, Mapping[int, tuple[npt.NDArray[np.int64], Floats]]]  # front, other -> sessions, values

    def together(self, day: int, front: int) -> tuple[npt.NDArray[np.int64], Floats]:
        """
        For each contract the last session up to ``day`` on which it and the front one were quoted together, and its
        spread over the front one then; -1 and NaN: none.
        """
        lately = int(self.sessions.searchsorted(self.sessions[day] - LOOKBACK))
        closed = ~np.isnan(self.close[lately : day + 1])
        common = closed & closed[:, [front]]
        at = np.where(common.any(axis=0), day - common[::-1].argmax(axis=0), -1)
        spread = np.where(at >= 0, self.close[at, np.arange(len(at))] - self.close[at, front], np.nan)
        for other, (sessions, values) in self.spreads.get(front, {}).items():
            n = int(np.searchsorted(sessions, day, "right")) - 1
            if n >= 0 and sessions[n] >= max(lately, at[other]):
                at[other], spread[other] = sessions[n], values[n]
        return at, spread

    def forced(self, front: int) -> npt.NDArray[np.bool_]:
        """True for the sessions on which the front contract must be rolled, whatever its volume."""
        late = self.sessions >= self.deadlines[front]
        if self.policy.by == "calendar" and self.policy.wanted is not None:
            return np.asarray(late | (self.wanted > front))
        return np.asarray(late)


def _markets(bars: pd.DataFrame, policies: Mapping[str, Policy], spreads: pd.DataFrame | None) -> Iterator[_Market]:
    futures = bars[bars["contract"] != ""]
    if wrong := set(futures["interval"]) - {"1d"}:
        raise DataError(f"rolls are decided from daily bars, got {', '.join(sorted(wrong))}; resample them to 1d first")
    for symbol, part in futures.groupby("symbol"):
        policy = policies.get(str(symbol), Policy())
        months, unreadable = _months(part, policy)
        part = part[part["contract"].isin(list(months))] if unreadable else part  # noqa: PLW2901 - the others go on
        contracts = sorted(months, key=lambda c: (months[c], c))
        # pivot refuses two bars of one contract and session; pivot_table would take their mean
        close, volume, interest = (
            part.pivot(index="ts", columns="contract", values=v)[contracts].to_numpy(float)  # noqa: PD010
            for v in ("close", "volume", "open_interest")
        )
        sessions = pd.DatetimeIndex(part["ts"].unique()).sort_values()
        wanted = np.full(len(sessions), -1)
        if policy.wanted is not None:
            column = np.append(-1, [contracts.index(c) if c in months else -1 for c in policy.wanted])
            wanted = column[np.searchsorted(policy.wanted.index, sessions, "right")]
        deadlines = bar_ends.aware(policy.deadlines(contracts, [months[c] for c in contracts]))
        own = _spreads(str(symbol), contracts, sessions, spreads)
        yield _Market(
            str(symbol), policy, contracts, sessions, close, volume, interest, deadlines, wanted, unreadable, own
        )


def _spreads(
    symbol: str, contracts: list[str], sessions: pd.DatetimeIndex, spreads: pd.DataFrame | None
) -> dict[int, dict[int, tuple[npt.NDArray[np.int64], Floats]]]:
    """Spreads by front and later contract: the sessions of which one is known, ascending, and its values."""
    found: dict[int, dict[int, tuple[npt.NDArray[np.int64], Floats]]] = {}
    if spreads is None or not len(sessions):
        return found
    own = spreads[(spreads["symbol"] == symbol) & spreads["ts"].between(sessions[0], sessions[-1])]
    own = own.assign(row=sessions.get_indexer(pd.DatetimeIndex(own["ts"])))
    index = {contract: n for n, contract in enumerate(contracts)}
    for (front, other), part in own[own["row"] >= 0].sort_values("row").groupby(["contract", "other"]):
        if front in index and other in index:
            values = part["row"].to_numpy(np.int64), part["spread"].to_numpy(float)
            found.setdefault(index[front], {})[index[other]] = values
    return found


def _months(part: pd.DataFrame, policy: Policy) -> tuple[dict[str, int], dict[str, tuple[pd.Timestamp, str]]]:
    """The month of each contract; and of those whose names do not say one their first bar and the reason."""
    months, unreadable = {}, {}
    for contract, listed in part.groupby("contract")["ts"].min().items():
        try:
            months[str(contract)] = month_of(str(contract), listed, policy.last_trade_dates)
        except UnreadableError as error:
            unreadable[str(contract)] = listed, str(error)
    return months, unreadable


def _decide_one(
    market: _Market, before: pd.DataFrame, since: pd.Timestamp | None
) -> Iterator[tuple[str, pd.Timestamp, str, str, float, float]]:
    contracts, sessions = market.contracts, market.sessions
    if not contracts:
        return
    if before.empty:
        front, offset, t = _first(market), 0.0, 0
        yield market.symbol, BEGINNING, contracts[front], "", 0.0, 0.0
    else:
        newest = before.iloc[-1]
        if newest["contract"] not in contracts:
            return
        front, offset = contracts.index(newest["contract"]), float(newest["offset"])
        t = int(sessions.searchsorted(newest["ts"], "right"))
        t = t if since is None else max(t, int(sessions.searchsorted(since)))
    while front + 1 < len(contracts):
        rolls = [roll for roll in (_led(market, front, t), _left(market, front, t)) if roll is not None]
        if not rolls:
            return
        t, following, spread = min(rolls)  # the earlier session; on the same one, open interest or volume decides
        offset -= spread
        yield market.symbol, sessions[t], contracts[following], contracts[front], spread, offset
        front, t = following, t + 1


def _led(market: _Market, front: int, t: int) -> tuple[int, int, float] | None:
    """The first session from t on with a later contract in the lead: (session, contract, spread), or None."""
    if market.policy.by == "calendar":
        return None
    close, volume, interest = market.close[t:], market.volume[t:], market.interest[t:]
    # a row for each session from t on, a column for each later contract; NaN unless the front one closed too
    both = np.where(np.isnan(close[:, [front]]), np.nan, close[:, front + 1 :])
    known = ~np.isnan(interest[:, front]) & (~np.isnan(interest[:, front + 1 :]) & ~np.isnan(both)).any(axis=1)
    if market.policy.by == "volume":
        known[:] = False
    measure = np.where(known[:, None], interest, volume)
    later = np.where(np.isnan(both) | np.isnan(measure[:, front + 1 :]), -np.inf, measure[:, front + 1 :])
    leads = later.max(axis=1, initial=-np.inf) > measure[:, front]
    if not leads.any():
        return None
    day = int(leads.argmax())
    following = front + 1 + int(later[day].argmax())
    return t + day, following, float(close[day, following] - close[day, front])


def _left(market: _Market, front: int, t: int) -> tuple[int, int, float] | None:
    """The first session from t on with a forced roll that is possible: (session, contract, spread), or None."""
    later = np.arange(len(market.contracts)) > front
    for day in (t + np.flatnonzero(market.forced(front)[t:])).tolist():
        common, spreads = market.together(day, front)
        may = later & (common >= 0) & ~np.asarray(market.sessions[day] >= market.deadlines)
        if market.policy.by == "calendar" and market.policy.wanted is not None:
            may &= np.arange(len(may)) == market.wanted[day]
        if may.any():
            following = int(may.argmax())
            return day, following, float(spreads[following])
    return None


def _first(market: _Market) -> int:
    """
    The first front contract, among those with a close: by calendar the one that it names, or the nearest whose deadline
    is not over; else the one with most open interest (or volume); the nearest where neither is known.
    """
    traded = ~np.isnan(market.close[0])
    alive = traded & ~np.asarray(market.sessions[0] >= market.deadlines)
    if alive.any():
        traded = alive
    if market.policy.by == "calendar":
        named = int(market.wanted[0])
        return named if named >= 0 and traded[named] else int(traded.argmax())
    measures = (market.volume[0],) if market.policy.by == "volume" else (market.interest[0], market.volume[0])
    for measure in measures:
        if (traded & ~np.isnan(measure)).any():
            return int(np.where(traded & ~np.isnan(measure), measure, -np.inf).argmax())
    return int(traded.argmax())


def doubts(
    bars: pd.DataFrame,
    last: pd.DataFrame,
    new: pd.DataFrame,
    policies: Mapping[str, Policy],
    spreads: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """
    Issues about the ``new`` rolls that ``bars`` and ``last`` (as for ``decide``) decided.

    *roll undecidable*: rolled by calendar or deadline, volume is known, and the new contract led on no session within
    LOOKBACK. *roll impossible*: the front contract is past its deadline, and no later one had a common close with it.
    *roll spread* (no entries until someone accepts it): most of the price. *contract name*: left out, without a month.
    """
    rows: list[tuple[object, ...]] = []
    for market in _markets(bars, policies, spreads):
        new_rolls, before = (rolls[rolls["symbol"] == market.symbol].sort_values("ts") for rolls in (new, last))
        for contract, (listed, reason) in market.unreadable.items():
            rows.append(_issue(market, contract, listed, "contract name", f"{reason}; left out of the rolls"))
        index = {contract: n for n, contract in enumerate(market.contracts)}
        for row, previous, contract in zip(
            market.sessions.get_indexer(pd.DatetimeIndex(new_rolls["ts"])),
            new_rolls["previous"],
            new_rolls["contract"],
            strict=True,
        ):
            if row >= 0 and previous in index and contract in index:
                rows += _undecidable(market, index[previous], index[contract], int(row))
                rows += _implausible(market, index[previous], index[contract], int(row))
        newest = pd.concat([before["contract"], new_rolls["contract"]]).tail(1)
        for contract in newest[newest.isin(list(index))]:
            rows += _impossible(market, index[contract])
    issues = pd.DataFrame(rows, columns=Issues.columns())
    return issues.astype({c: "datetime64[us, UTC]" if c == "ts" else "str" for c in issues})


def _undecidable(market: _Market, front: int, later: int, row: int) -> Iterator[tuple[object, ...]]:
    lately = (market.sessions <= market.sessions[row]) & (market.sessions >= market.sessions[row] - LOOKBACK)
    measures = (market.volume,) if market.policy.by == "volume" else (market.volume, market.interest)
    known = [m[lately] for m in measures if (~np.isnan(m[lately, front]) & ~np.isnan(m[lately, later])).any()]
    if not known or any((m[:, later] > m[:, front]).any() for m in known):
        return
    common = int((~np.isnan(known[0][:, front]) & ~np.isnan(known[0][:, later])).sum())
    a, b = market.contracts[front], market.contracts[later]
    spread_of = market.sessions[int(market.together(row, front)[0][later])]
    yield _issue(
        market,
        a,
        market.sessions[row],
        "roll undecidable",
        f"{b} traded more than {a} on none of {common} common sessions; rolled by date on "
        f"{market.sessions[row]:%Y-%m-%d}, at the spread of {spread_of:%Y-%m-%d}",
    )


def _implausible(market: _Market, front: int, later: int, row: int) -> Iterator[tuple[object, ...]]:
    common, spreads = market.together(row, front)
    known = market.close[: row + 1, front]
    old = known[~np.isnan(known)][-1:]
    spread = float(spreads[later])
    if common[later] >= 0 and len(old) and abs(spread) > DOUBTFUL * max(abs(old[0]), abs(old[0] + spread)):
        a, b = market.contracts[front], market.contracts[later]
        text = (
            f"the roll from {a} at {old[0]:g} to {b} has a spread of {spread:g}, most of the price: is {b} "
            "a contract of the same market, in the same unit?"
        )
        yield _issue(market, a, market.sessions[row], "roll spread", text, "halted")


def _impossible(market: _Market, front: int) -> Iterator[tuple[object, ...]]:
    must = market.forced(front)
    if must[-1]:
        since, contract = market.sessions[int(must.argmax())], market.contracts[front]
        yield _issue(
            market,
            contract,
            since,
            "roll impossible",
            f"{contract} is due to roll since {since:%Y-%m-%d}, but no later contract had a close on the same session "
            f"within {LOOKBACK.days} days; load its bars, or give the roll in roll_calendar",
        )


def _issue(
    market: _Market, contract: str, ts: pd.Timestamp, check: str, detail: str, outcome: str = "flagged"
) -> tuple[object, ...]:
    return market.symbol, "futures", contract, "1d", ts, check, outcome, detail, "", "rolls"


def adjust(bars: pd.DataFrame, rolls: pd.DataFrame) -> pd.DataFrame:
    """
    Bars of the front contract of their time with adjusted prices, and the ``offset``: adjusted = raw + offset.

    Spot, and a vendor's continuous series (no contract), are unchanged with offset 0. Any interval; sorted by (symbol,
    market, interval, ts). Bars of other contracts are left out, and all contracts of a symbol without rolls. Columns:
    those of ``bars`` and offset; prices may be negative.
    """
    order = ("symbol", "market", "interval")
    if not (bars["contract"] != "").any():
        return ordered(bars.assign(offset=0.0), *order)
    front = rolls[["symbol", "ts", "contract", "offset"]].rename(columns={"contract": "front"}).sort_values("ts")
    # a roll applies to the bars after it, not to the one that decided it
    joined = pd.merge_asof(bars.sort_values("ts"), front, on="ts", by="symbol", allow_exact_matches=False)
    uncontracted = joined["contract"] == ""
    front_bars = joined[uncontracted | (joined["contract"] == joined["front"])]
    offset = front_bars["offset"].where(front_bars["contract"] != "", 0.0)
    prices = {p: front_bars[p] + offset for p in PRICES if p in front_bars}
    return ordered(front_bars.assign(offset=offset, **prices)[[*bars.columns, "offset"]], *order)
