"""From new daily bars of futures contracts to the rolls that they decide: part of the ingestion step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.settings import Settings
from alphapivot.data import roll_policy, rolls
from alphapivot.errors import ConfigError, DataError
from alphapivot.frames import Bars, Issues, Rolls
from alphapivot.hub import Hub
from alphapivot.hub.tables import bars as stored
from alphapivot.hub.tables import series

EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Rolled:
    """``rolls`` to write, ``doubts`` about them (Issues), and ``withdrawn``: rolls (their keys) to remove."""

    rolls: pd.DataFrame
    doubts: pd.DataFrame
    withdrawn: pd.DataFrame
    problems: tuple[str, ...] = ()  # symbols that could not roll, and why: their rolls stay as they are


def roll(
    database: Hub,
    settings: Settings,
    daily: pd.DataFrame,
    instruments: Mapping[str, Instrument],
    until: datetime,
    late: Mapping[str, pd.Timestamp],
    spreads: pd.DataFrame | None = None,
) -> Rolled:
    """
    The rolls that the new 1d bars ``daily`` decide; bars without a contract are ignored.

    Only sessions of new bars decide: earlier decisions stay. Spreads and doubts also use stored bars.

    ``late``: symbol -> the instant of its first bar that arrived after decisions on later bars, as in a backfill of
    older years. From there on that symbol's rolls are decided again, as if its bars had arrived in order.
    ``spreads``: of contracts that the feed quotes side by side.
    """
    daily = daily[daily["contract"] != ""]
    if daily.empty:
        return Rolled(Rolls.empty(), Issues.empty(), Rolls.empty())
    symbols = [str(symbol) for symbol in daily["symbol"].unique()]
    feeds = {s: settings.feeds[settings.feed_of(instruments[s])] for s in symbols}
    policies, problems = {}, []
    for symbol in symbols:
        try:
            policies[symbol] = roll_policy.policy(instruments[symbol], feeds[symbol])
        except (DataError, ConfigError) as error:  # the others roll
            problems.append(f"{symbol} futures: {error}")
    daily = daily[daily["symbol"].isin(list(policies))]
    symbols = list(policies)
    late = {symbol: first for symbol, first in late.items() if symbol in policies}
    new: list[pd.DataFrame] = [Rolls.empty()]
    doubts: list[pd.DataFrame] = [Issues.empty()]
    gone: list[pd.DataFrame] = [Rolls.empty()]

    def decide(part: pd.DataFrame, last: pd.DataFrame, since: pd.Series[pd.Timestamp], end: datetime) -> None:
        names = [str(symbol) for symbol in part["symbol"].unique()]
        back = (since.min() - rolls.LOOKBACK - pd.Timedelta("1us")).to_pydatetime()
        before = stored.window(database, names, "futures", "1d", after=back, until=end, known_at=None)
        both = pd.concat([before[before["contract"] != ""], part[Bars.columns()]], ignore_index=True)
        both = both.drop_duplicates(Bars.keys(), keep="last")
        new.append(rolls.decide(both, last, policies, since, spreads))
        doubts.append(rolls.doubts(both, last, new[-1], policies, spreads))

    in_order = daily[~daily["symbol"].isin(list(late))]
    if len(in_order):
        last = stored.rolls(database, symbols, until=until, known_at=None)
        decide(in_order, last, in_order.groupby("symbol")["ts"].min(), until)
    first_bars = series.first_contracts(database, list(late))
    for symbol, first in late.items():
        held = stored.rolls(database, [symbol], until=EVER, known_at=None)
        kept = held[held["ts"] < first] if first_bars.get(symbol, first) < first else held[:0]
        decide(daily[daily["symbol"] == symbol], kept, pd.Series({symbol: first}), EVER)
        stale = held[held["ts"] > kept["ts"].max()] if len(kept) else held
        gone.append(stale[~stale["ts"].isin(new[-1]["ts"])])
    new_rolls, issues, withdrawn = (pd.concat(parts, ignore_index=True) for parts in (new, doubts, gone))
    return Rolled(new_rolls, issues, withdrawn, tuple(problems))
