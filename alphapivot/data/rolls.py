"""
Which futures contract is the front one, and prices that join the contracts without a jump. Pure.

A roll is decided on one session's data and holds for the bars after it: by open interest, by volume, or by calendar;
at the latest so many sessions before the contract's first notice or last trade. It never goes back.
adjusted = raw + offset is anchored at the first contract, so that no later roll changes a price that was seen before.

A vendor's continuous ticker, such as Yahoo's ES=F, has no contracts: nothing here applies to it. Yahoo joins the
contracts as they are, unadjusted, so that its history jumps at each roll by the spread, which no position ever earned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.data.roll_policy import Policy
from alphapivot.errors import DataError
from alphapivot.frames import PRICES, Issues, Rolls, ordered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

MONTHS = "FGHJKMNQUVXZ"  # the exchanges' letters for January to December
BEGINNING = pd.Timestamp("1970-01-01", tz="UTC")
LOOKBACK = pd.Timedelta(days=30)  # a spread that is older says nothing of today's
NONE: Mapping[str, Policy] = MappingProxyType({})
Floats = npt.NDArray[np.float64]


def expiry_month(contract: str, listed: datetime) -> int:
    """
    The month that a contract's id (``SP500-2026H``, ``ESZ3``, ``ESZ23``, ``ES_201312``) names: 12 * year + month - 1.

    A year of one or two digits is the first such year whose month is not over when the contract is ``listed`` (its
    first bar). Raises DataError for an id that names no month.
    """
    if found := re.search(rf"(\d{{4}})([{MONTHS}])$", contract):
        return int(found[1]) * 12 + MONTHS.index(found[2])
    if found := re.search(r"(?<!\d)(\d{4})(0[1-9]|1[0-2])(\d{2})?$", contract):
        return int(found[1]) * 12 + int(found[2]) - 1
    if found := re.search(rf"([{MONTHS}])(\d{{1,2}}|\d{{4}})$", contract):
        month, year, century = MONTHS.index(found[1]), int(found[2]), 10 ** len(found[2])
        now = listed.year * 12 + listed.month - 1
        year += (listed.year // century) * century if century < 10_000 else 0
        return (year if year * 12 + month >= now else year + century) * 12 + month
    raise DataError(
        f"contract {contract!r} names no month; expected an id such as SP500-2026H, ESZ3, ESZ23 or ES_201312"
    )


def decide(
    bars: pd.DataFrame,
    last: pd.DataFrame,
    policies: Mapping[str, Policy] = NONE,
    since: Mapping[str, pd.Timestamp] | pd.Series[pd.Timestamp] | None = None,
) -> pd.DataFrame:
    """
    The rolls that ``bars`` decide after those in ``last``: new rows of Rolls, sorted by (symbol, ts).

    ``bars``: daily Bars of all futures contracts (resample intraday ones first; others than 1d are an error), from
    LOOKBACK before the first session that is to decide. ``last``: the rolls so far, or each symbol's newest, or none:
    then a symbol's first contract is at offset 0, from 1970 on. ``policies``: symbol -> how it rolls; by open interest
    where it has none. ``since``: symbol -> the first session that may decide; any after its last roll when absent.

    By open interest or volume, the front contract gives way on a session to the later one that has most of it, if that
    is more than its own and both have a close, which makes the spread. By calendar, and at the latest on its deadline,
    it gives way to the nearest later one whose own deadline is not over (or to the one that the calendar names); if the
    two have no close on that session, the spread is that of the last session on which they had, no longer than LOOKBACK
    ago. Where there is none the roll waits: ``doubts`` says so.
    """
    found: list[tuple[str, pd.Timestamp, str, str, float, float]] = []
    for market in _markets(bars, policies):
        begin = None if since is None else since.get(market.symbol)
        found += _decide_one(market, last[last["symbol"] == market.symbol].sort_values("ts"), begin)
    types = {c: "datetime64[us, UTC]" if c == "ts" else "str" for c in ("symbol", "ts", "contract", "previous")}
    return pd.DataFrame(found, columns=Rolls.columns()).astype(types | {"spread": float, "offset": float})


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
    wanted: npt.NDArray[np.int64]  # for each session the column that a calendar names, -1 where it names none

    def together(self, day: int, front: int) -> npt.NDArray[np.int64]:
        """For each contract the newest session up to ``day`` on which it and the front one had a close; -1: none."""
        lately = int(self.sessions.searchsorted(self.sessions[day] - LOOKBACK))
        closed = ~np.isnan(self.close[lately : day + 1])
        common = closed & closed[:, [front]]
        return np.where(common.any(axis=0), day - common[::-1].argmax(axis=0), -1)

    def forced(self, front: int) -> npt.NDArray[np.bool_]:
        """The sessions on which the front contract must be left, whatever its volume."""
        late = self.sessions >= self.deadlines[front]
        if self.policy.by == "calendar" and self.policy.wanted is not None:
            return np.asarray(late | (self.wanted > front))
        return np.asarray(late)


def _markets(bars: pd.DataFrame, policies: Mapping[str, Policy]) -> Iterator[_Market]:
    futures = bars[bars["contract"] != ""]
    if wrong := set(futures["interval"]) - {"1d"}:
        raise DataError(f"rolls are decided from daily bars, got {', '.join(sorted(wrong))}; resample them to 1d first")
    for symbol, part in futures.groupby("symbol"):
        listed = part.groupby("contract")["ts"].min()
        months = {str(contract): expiry_month(str(contract), at) for contract, at in listed.items()}
        contracts = sorted(months, key=lambda c: (months[c], c))
        # pivot refuses two bars of one contract and session; pivot_table would take their mean
        close, volume, interest = (
            part.pivot(index="ts", columns="contract", values=v)[contracts].to_numpy(float)  # noqa: PD010
            for v in ("close", "volume", "open_interest")
        )
        policy = policies.get(str(symbol), Policy())
        sessions = pd.DatetimeIndex(part["ts"].unique()).sort_values()
        wanted = np.full(len(sessions), -1)
        if policy.wanted is not None:
            column = np.append(-1, [contracts.index(c) if c in months else -1 for c in policy.wanted])
            wanted = column[np.searchsorted(policy.wanted.index, sessions, "right")]
        deadlines = bar_ends.aware(policy.deadlines(contracts, [months[c] for c in contracts]))
        yield _Market(str(symbol), policy, contracts, sessions, close, volume, interest, deadlines, wanted)


def _decide_one(
    market: _Market, before: pd.DataFrame, since: pd.Timestamp | None
) -> Iterator[tuple[str, pd.Timestamp, str, str, float, float]]:
    contracts, sessions = market.contracts, market.sessions
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
        rolls = [found for found in (_led(market, front, t), _left(market, front, t)) if found is not None]
        if not rolls:
            return
        t, following, spread = min(rolls)  # of the same session the one that open interest or volume decides
        offset -= spread
        yield market.symbol, sessions[t], contracts[following], contracts[front], spread, offset
        front, t = following, t + 1


def _led(market: _Market, front: int, t: int) -> tuple[int, int, float] | None:
    """From session t on, when a later contract leads: (session, contract, spread)."""
    if market.policy.by == "calendar":
        return None
    close, volume, interest = market.close[t:], market.volume[t:], market.interest[t:]
    # a row for each session from t on, a column for each later contract that closed together with the front one
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
    """From session t on, when the front contract must be left and can be: (session, contract, spread)."""
    later = np.arange(len(market.contracts)) > front
    for day in (t + np.flatnonzero(market.forced(front)[t:])).tolist():
        common = market.together(day, front)
        may = later & (common >= 0) & ~np.asarray(market.sessions[day] >= market.deadlines)
        if market.policy.by == "calendar" and market.policy.wanted is not None:
            may &= np.arange(len(may)) == market.wanted[day]
        if may.any():
            following = int(may.argmax())
            spread = market.close[common[following], following] - market.close[common[following], front]
            return day, following, float(spread)
    return None


def _first(market: _Market) -> int:
    """
    The contract to begin with: by calendar the one that it names, or the nearest whose deadline is not over; else the
    one with most open interest (or volume); the nearest where neither is known. Each among those with a close.
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


def doubts(bars: pd.DataFrame, last: pd.DataFrame, new: pd.DataFrame, policies: Mapping[str, Policy]) -> pd.DataFrame:
    """
    What a person should see of the ``new`` rolls that ``bars`` and ``last`` (as for ``decide``) decided, as Issues.

    *roll undecidable*: by calendar or deadline, where volume was known and on no session of LOOKBACK did the new
    contract lead. *roll impossible*: the front contract's time is over, and none has lately closed together with it.
    """
    found: list[tuple[object, ...]] = []
    for market in _markets(bars, policies):
        own, before = (rolls[rolls["symbol"] == market.symbol].sort_values("ts") for rolls in (new, last))
        index = {contract: n for n, contract in enumerate(market.contracts)}
        for row, previous, contract in zip(
            market.sessions.get_indexer(pd.DatetimeIndex(own["ts"])), own["previous"], own["contract"], strict=True
        ):
            if row >= 0 and previous in index and contract in index:
                found += _undecidable(market, index[previous], index[contract], int(row))
        newest = pd.concat([before["contract"], own["contract"]]).tail(1)
        for contract in newest[newest.isin(list(index))]:
            found += _impossible(market, index[contract])
    issues = pd.DataFrame(found, columns=Issues.columns())
    return issues.astype({c: "datetime64[us, UTC]" if c == "ts" else "str" for c in issues})


def _undecidable(market: _Market, front: int, later: int, row: int) -> Iterator[tuple[object, ...]]:
    lately = (market.sessions <= market.sessions[row]) & (market.sessions >= market.sessions[row] - LOOKBACK)
    measures = (market.volume,) if market.policy.by == "volume" else (market.volume, market.interest)
    known = [m[lately] for m in measures if (~np.isnan(m[lately, front]) & ~np.isnan(m[lately, later])).any()]
    if not known or any((m[:, later] > m[:, front]).any() for m in known):
        return
    common = int((~np.isnan(known[0][:, front]) & ~np.isnan(known[0][:, later])).sum())
    a, b = market.contracts[front], market.contracts[later]
    spread_of = market.sessions[int(market.together(row, front)[later])]
    yield _issue(
        market,
        a,
        market.sessions[row],
        "roll undecidable",
        f"on none of {common} common sessions did {b} trade more than {a}; rolled by its date on "
        f"{market.sessions[row]:%Y-%m-%d}, at the spread of {spread_of:%Y-%m-%d}",
    )


def _impossible(market: _Market, front: int) -> Iterator[tuple[object, ...]]:
    must = market.forced(front)
    if must[-1]:
        since, contract = market.sessions[int(must.argmax())], market.contracts[front]
        yield _issue(
            market,
            contract,
            since,
            "roll impossible",
            f"{contract} should be left since {since:%Y-%m-%d}, but within {LOOKBACK.days} days no later contract had "
            "a close together with it; bring its bars, or name the roll in roll_calendar",
        )


def _issue(market: _Market, contract: str, ts: pd.Timestamp, check: str, detail: str) -> tuple[object, ...]:
    return market.symbol, "futures", contract, "1d", ts, check, "flagged", detail, "", "rolls"


def adjust(bars: pd.DataFrame, rolls: pd.DataFrame) -> pd.DataFrame:
    """
    Bars of what was the front contract at their time, prices adjusted, and the ``offset``: adjusted = raw + offset.

    Spot, and a vendor's continuous ticker (no contract), pass as they are with offset 0. Any interval; sorted by
    (symbol, market, interval, ts). A bar of a contract that is not the front one is not part of the answer, nor are a
    symbol's contracts where no roll was decided. Columns: those of ``bars`` and offset; prices may be negative.
    """
    order = ("symbol", "market", "interval")
    if not (bars["contract"] != "").any():
        return ordered(bars.assign(offset=0.0), *order)
    front = rolls[["symbol", "ts", "contract", "offset"]].rename(columns={"contract": "front"}).sort_values("ts")
    # a roll holds for the bars after it, not for the one that decided it
    joined = pd.merge_asof(bars.sort_values("ts"), front, on="ts", by="symbol", allow_exact_matches=False)
    alone = joined["contract"] == ""
    kept = joined[alone | (joined["contract"] == joined["front"])]
    offset = kept["offset"].where(kept["contract"] != "", 0.0)
    prices = {p: kept[p] + offset for p in PRICES if p in kept}
    return ordered(kept.assign(offset=offset, **prices)[[*bars.columns, "offset"]], *order)
