"""Several contracts side by side in one row: the row that is a session's close, and spreads between contracts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import numpy.typing as npt

    from alphapivot.feeds.files.table import Table

SPREADS = ["symbol", "ts", "contract", "other", "spread"]  # ts: end of the session; spread: other minus contract


def empty() -> pd.DataFrame:
    texts = pd.DataFrame(columns=SPREADS, dtype="str")
    return texts.astype({"ts": "datetime64[us, UTC]", "spread": float})


def quotes(table: Table, sessions: pd.DatetimeIndex, order: pd.DatetimeIndex) -> pd.DataFrame:
    """All quotes of a file: row, contract, close, session (its end), and the row's place in time."""
    place = np.argsort(np.argsort(order, kind="stable"), kind="stable")
    rows = np.arange(len(place))
    parts = [
        table.quotes(name, close).assign(row=rows, session=sessions, place=place)[
            ["row", "contract", "close", "session", "place"]
        ]
        for name, close in table.beside.items()
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=["contract", "close"])


def closing(quoted: pd.DataFrame, count: int) -> npt.NDArray[np.bool_]:
    """
    True for the one of ``count`` rows that is its session's close: the last that quotes the contract which is quoted
    most often in it. All closes are of one instant: those of different instants would make a spread that could not be
    traded.
    """
    often = quoted.groupby(["session", "contract"])["place"].agg(["nunique", "max"]).reset_index()
    often = often.rename(columns={"nunique": "times", "max": "place"})
    last = often.sort_values(["times", "place"]).drop_duplicates("session", keep="last")
    rows = quoted.loc[quoted["place"].isin(last["place"]), "row"]
    chosen = np.zeros(count, dtype=bool)
    chosen[rows.to_numpy()] = True
    return chosen


def spreads(symbol: str, quoted: pd.DataFrame) -> pd.DataFrame:
    """For each session and two contracts the spread at the last instant of it that quotes both: columns SPREADS."""
    pairs = quoted.merge(quoted[["row", "contract", "close"]], on="row", suffixes=("", "_other"))
    pairs = pairs[pairs["contract"] != pairs["contract_other"]].sort_values("place", kind="stable")
    pairs = pairs.drop_duplicates(["session", "contract", "contract_other"], keep="last")
    difference = pd.to_numeric(pairs["close_other"], errors="coerce") - pd.to_numeric(pairs["close"], errors="coerce")
    found = pairs.assign(symbol=symbol, ts=pairs["session"], other=pairs["contract_other"], spread=difference)
    return found.loc[found["spread"].notna(), SPREADS].astype(empty().dtypes).reset_index(drop=True)
