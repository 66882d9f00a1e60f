"""What an ingestion says of its bars, a sentence for each series. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alphapivot.data.series.stand_in import SERIES, keys

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
    first = new.groupby(SERIES)["ts"].min().to_dict()
    return [
        f"{' '.join(key)}: the source changes from {mark.source} to {feed}; earlier bars stay those of {mark.source} "
        f"until `alphapivot ingest --from` fetches them again, and events of {mark.source} no longer count"
        for key, mark in marks.items()
        if mark.newest and mark.source != feed and key in first and key not in known
    ]


def none_stored(fetched: pd.DataFrame, passed: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """One sentence for each series of which bars came and none passed."""
    kept = passed.groupby(SERIES).size().index
    rows = fetched.groupby(SERIES).size().reset_index().itertuples(index=False, name=None)
    return [
        f"{' '.join(key)}: nothing stored of {count} bars: "
        + ", ".join(sorted(set(found.loc[keys(found) == tuple(key), "check_name"])))
        for *key, count in rows
        if tuple(key) not in kept
    ]
