"""What an ingestion says of its bars, a sentence for each series. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphapivot.data.series.stand_in import SERIES, keys
from alphapivot.frames import spans

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd

    from alphapivot.data.series.stand_in import Key
    from alphapivot.hub.tables.series import Mark


def counted(found: pd.DataFrame) -> tuple[str, ...]:
    """One sentence for each symbol, check and outcome of issues."""
    if found.empty:
        return ()
    counts = found.groupby(["symbol", "check_name", "outcome"]).size().reset_index(name="n")
    return tuple(f"{c.symbol}: {c.n} bars {c.outcome} ({c.check_name})" for c in counts.itertuples())


def switched(marks: Mapping[Key, Mark], new: pd.DataFrame, feed: str, known: Collection[Key]) -> list[str]:
    """One sentence for each series whose stored bars came from another feed, but for ``known`` stand-ins."""
    changed = {key for key, mark in marks.items() if mark.newest and mark.source != feed and key not in known}
    first = spans(new, *SERIES).index if changed else ()
    return [
        f"{' '.join(key)}: the source changes from {mark.source} to {feed}; earlier bars stay those of {mark.source} "
        f"until `alphapivot ingest --from` fetches them again, and events of {mark.source} no longer count"
        for key, mark in marks.items()
        if key in changed and key in first
    ]


def vanished(fetched: pd.DataFrame, stored: pd.DataFrame, feed: str) -> list[str]:
    """
    One sentence for each series of which its source, read whole, no longer has ``stored`` bars (key columns): they
    stay, because a file may have been cut short by mistake.
    """
    if stored.empty:
        return []
    both = stored.merge(fetched[stored.columns].drop_duplicates(), how="left", indicator="held")
    gone = spans(both[both["held"] == "left_only"], *SERIES).reset_index()
    return [
        f"{row.symbol} {row.market} {row.interval}: [feed.{feed}] no longer has {row.size} of the stored bars,"
        f" from {row.min:%Y-%m-%d %H:%M} to {row.max:%Y-%m-%d %H:%M} UTC; they stay and count."
        f" To load it again: alphapivot data clear {row.symbol} --market {row.market} --reason '...'"
        for row in gone.itertuples()
    ]


def new_contracts(
    new: pd.DataFrame, stored: pd.DataFrame, newest: Collection[Key], fronts: Mapping[str, str]
) -> list[str]:
    """
    One sentence for each contract whose first bars are ``new``, in a series that has others (``newest``), and that had
    a bar already where the request began: its older bars were not requested.

    ``stored``: the Bars around the ``new`` ones; ``fronts``: symbol -> front contract.
    """
    first = new[new["contract"] != ""].groupby([*SERIES, "contract"])["ts"].min()
    held = set(stored.groupby([*SERIES, "contract"]).size().index)
    begins = new.groupby(SERIES)["ts"].min().to_dict()
    return [
        f"{symbol} {market} {interval}: contract {contract} is new, and its bars before {ts:%Y-%m-%d} were not"
        f" requested; {fronts.get(symbol, 'another')} is the front one: `alphapivot ingest --from DAY` reads them, and"
        " decides the rolls from there on again"
        for symbol, market, interval, contract, ts in first.reset_index().itertuples(index=False, name=None)
        if (symbol, market, interval, contract) not in held
        and (symbol, market, interval) in newest
        and ts == begins[symbol, market, interval]
    ]


def none_stored(fetched: pd.DataFrame, passed: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """One sentence for each series of which bars came and none passed."""
    if len(passed) == len(fetched):
        return []
    kept = spans(passed, *SERIES).index
    rows = spans(fetched, *SERIES)["size"].reset_index().itertuples(index=False, name=None)
    return [
        f"{' '.join(key)}: nothing stored of {count} bars: "
        + ", ".join(sorted(set(found.loc[keys(found) == tuple(key), "check_name"])))
        for *key, count in rows
        if tuple(key) not in kept
    ]
