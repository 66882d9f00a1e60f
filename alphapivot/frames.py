"""
The bulk frames: names, dtypes, units, keys and checks, defined once.

SQL is the source of truth; ``tests/test_frames.py`` compares every model with its migrated table.
Small tables (`ops`, `trading`, `paper`) are plain SQL and have no frame.
"""

from collections.abc import Mapping
from typing import Annotated, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
from pyarrow import Array, ChunkedArray, array, compute, large_string

Instant = Annotated[pd.DatetimeTZDtype, "us", "UTC"]  # pandas 3 reads microseconds from the database
MARKETS = ("spot", "futures")
ENDINGS = ("merger", "delisting")  # each share becomes its value in cash, and trades no more
ACTION_KINDS = ("split", "dividend", "distribution", *ENDINGS)
KEY: dict[str, Any] = {"key": True}
PRICES = ("open", "high", "low", "close")


class Frame(pa.DataFrameModel):
    """Base of all bulk frames: strict columns in order, one row per key, no infinities."""

    class Config:
        strict = True
        ordered = True

    @classmethod
    def table(cls) -> str:
        """The table name with its schema, such as ``market.bar``."""
        return cast("str", cls.to_schema().name)

    @classmethod
    def columns(cls) -> list[str]:
        return list(cls.to_schema().columns)

    @classmethod
    def keys(cls) -> list[str]:
        """The natural key, in the order of the primary key."""
        return [name for name, column in cls.to_schema().columns.items() if (column.metadata or {}).get("key")]

    @pa.dataframe_check(name="no infinities", error="a float column holds an infinite value")
    def _finite(cls, df: pd.DataFrame) -> bool:  # noqa: N805 - pandera's convention
        return not any(np.isinf(df[c].to_numpy()).any() for c in df.columns if df[c].dtype.kind == "f")


class Bars(Frame):
    """
    One row per symbol, market, contract and interval; prices in quoted units, volume in shares or contracts.

    ``ts`` is the instant at which the bar was complete. Close-only series have no open, high and low.
    The hub sets ``ingested_at``, the time at which it stored this version.
    """

    symbol: str = pa.Field(metadata=KEY)
    market: str = pa.Field(isin=MARKETS, metadata=KEY)
    contract: str = pa.Field(metadata=KEY)  # "ESZ3"; empty for spot and for a vendor's continuous series
    interval: str = pa.Field(metadata=KEY)  # "5m", "1d": see alphapivot.calendar.bar_ends.INTERVALS
    ts: Instant = pa.Field(metadata=KEY)
    open: float = pa.Field(nullable=True)
    high: float = pa.Field(nullable=True)
    low: float = pa.Field(nullable=True)
    close: float = pa.Field(nullable=False)
    volume: float = pa.Field(ge=0, nullable=True)
    open_interest: float = pa.Field(ge=0, nullable=True)
    source: str = pa.Field()  # the feed's name, or "resampled"

    class Config:
        name = "market.bar"

    @pa.dataframe_check(name="high and low enclose open and close")
    def _nested(cls, df: pd.DataFrame) -> bool:  # noqa: N805
        o, h, low, c = (df[name].to_numpy() for name in PRICES)
        # comparisons with a missing price are false, so a close-only bar passes
        return not ((h < low) | (h < o) | (h < c) | (low > o) | (low > c)).any()


class Rolls(Frame):
    """
    The front contract of each futures market over time, and the offset of its prices in the adjusted series.

    Bars complete after ``ts`` come from ``contract``. adjusted = raw + offset, anchored at the first contract (offset 0
    from 1970-01-01), so a roll never changes earlier adjusted prices. spread = the new contract's close minus the old
    one's when the roll was decided.
    """

    symbol: str = pa.Field(metadata=KEY)
    ts: Instant = pa.Field(metadata=KEY)
    contract: str = pa.Field()
    previous: str = pa.Field()  # empty for the first
    spread: float = pa.Field()
    offset: float = pa.Field()

    class Config:
        name = "market.roll"


class Actions(Frame):
    """
    Corporate actions of spot markets: bars complete after ``ts``, the open of the ex-date session, trade ex.

    ``value``: new shares per old share; or per share in quoted units the dividend as paid, the worth of what is
    distributed besides (a spin-off's part, a right, a special dividend), or that of a share which ends (the cash or the
    shares of a merger, the last price of a delisting). ``factor``: multiplies adjusted prices after ``ts``; anchored at
    the first bar, so an event never changes earlier adjusted prices.
    """

    symbol: str = pa.Field(metadata=KEY)
    kind: str = pa.Field(isin=ACTION_KINDS, metadata=KEY)
    ts: Instant = pa.Field(metadata=KEY)
    value: float = pa.Field(gt=0)
    factor: float = pa.Field(gt=0)
    source: str = pa.Field()

    class Config:
        name = "market.corporate_action"


class Issues(Frame):
    """Quarantined and flagged bars with the reason; ``bar`` is the offending row (or rows) as JSON, as received."""

    symbol: str = pa.Field(metadata=KEY)
    market: str = pa.Field(isin=MARKETS, metadata=KEY)
    contract: str = pa.Field(metadata=KEY)
    interval: str = pa.Field(metadata=KEY)
    ts: Instant = pa.Field(metadata=KEY)
    check_name: str = pa.Field(metadata=KEY)
    outcome: str = pa.Field(isin=("quarantined", "held", "flagged", "halted"))
    detail: str = pa.Field()  # what, got, expected: one sentence
    bar: str = pa.Field()
    source: str = pa.Field()

    class Config:
        name = "market.quality_issue"


class Signals(Frame):
    """A pillar's output for a symbol on a timeframe: score in [-100, 100], gate in [0, 1]; null: unknown."""

    scope: str = pa.Field(metadata=KEY)  # [runtime] scores, or the name of a backtest or replay
    pillar: str = pa.Field(metadata=KEY)
    symbol: str = pa.Field(metadata=KEY)
    interval: str = pa.Field(metadata=KEY)
    ts: Instant = pa.Field(metadata=KEY)
    score: np.float32 = pa.Field(ge=-100, le=100, nullable=True)
    gate: np.float32 = pa.Field(ge=0, le=1, nullable=True)
    veto: str = pa.Field(nullable=True)  # a reason code
    batch_id: np.int64 = pa.Field()  # the ops.batch that wrote this version

    class Config:
        name = "signals.signal"


class Composites(Frame):
    """The blended score of one symbol at one instant: raw and score in [-100, 100], gate in [0, 1]."""

    scope: str = pa.Field(metadata=KEY)
    symbol: str = pa.Field(metadata=KEY)
    ts: Instant = pa.Field(metadata=KEY)
    score: np.float32 = pa.Field(ge=-100, le=100, nullable=True)
    raw: np.float32 = pa.Field(ge=-100, le=100, nullable=True)
    gate: np.float32 = pa.Field(ge=0, le=1, nullable=True)
    veto: str = pa.Field(nullable=True)
    pillars_used: str = pa.Field()  # comma-separated names, sorted
    batch_id: np.int64 = pa.Field()

    class Config:
        name = "signals.composite"


ENDS = {"min": np.minimum, "max": np.maximum}

FRAMES: tuple[type[Frame], ...] = (Bars, Rolls, Actions, Issues, Signals, Composites)
# an upsert keeps the replaced rows in <table>_revision
VERSIONED: frozenset[type[Frame]] = frozenset({Bars, Rolls, Actions, Signals, Composites})


# Hashing text costs more than all else that is done to a million bars. Rows come as a few runs of equal texts, so these
# look at the places where a text changes.


def ordered(df: pd.DataFrame, *texts: str) -> pd.DataFrame:
    """``df`` sorted by these text columns, then ``ts``: much faster than sorting in PostgreSQL or pandas."""
    order, ts = _order(df, texts), _instants(df)
    if ((order[1:] > order[:-1]) | ((order[1:] == order[:-1]) & (ts[1:] >= ts[:-1]))).all():
        return df
    return df.take(np.lexsort((ts, order))).reset_index(drop=True)


def latest(df: pd.DataFrame, *texts: str) -> pd.DataFrame:
    """``df`` sorted by these text columns, then ``ts``; of rows that agree in all of them the last."""
    df = ordered(df, *texts).reset_index(drop=True)
    ts = _instants(df)
    again = np.zeros(len(df), dtype=bool)
    again[:-1] = ts[1:] == ts[:-1]
    if again.any():
        again[:-1] &= ~firsts(df, *texts)[1:]
    return kept(df, ~again).reset_index(drop=True)


def kept(df: pd.DataFrame, mask: npt.ArrayLike) -> pd.DataFrame:
    """``df[mask]``, without a copy where those rows follow one another."""
    chosen = np.flatnonzero(mask)
    if len(chosen) and chosen[-1] - chosen[0] + 1 == len(chosen):
        return df.iloc[chosen[0] : chosen[-1] + 1]
    return df.iloc[chosen]


def firsts(df: pd.DataFrame, *texts: str) -> npt.NDArray[np.bool_]:
    """True for each row in which one of these text columns is not as in the row before."""
    first = np.zeros(len(df), dtype=bool)
    first[:1] = True
    for name in texts:
        column = array(df[name], from_pandas=True)
        if uniform(column):
            continue
        changes = compute.not_equal(column.slice(1), column.slice(0, max(len(df) - 1, 0)))
        if compute.any(changes).as_py():
            first[1:] |= changes.to_numpy(zero_copy_only=False)
    return first


def uniform(texts: Array | ChunkedArray) -> bool:
    """
    True where all texts are the same one, found by their bytes: a quarter of the time that comparing them takes, and a
    tenth of hashing them. Texts of other types than pandas' own are not looked at.
    """
    parts = texts.chunks if isinstance(texts, ChunkedArray) else [texts]
    parts = [part for part in parts if len(part)]
    if not parts or any(part.type != large_string() or part.null_count or part[0] != parts[0][0] for part in parts):
        return False
    for part in parts:
        _, offsets, data = part.buffers()
        ends = np.frombuffer(offsets, np.int64)[part.offset : part.offset + len(part) + 1]
        length = int(ends[1] - ends[0])
        if ends[-1] - ends[0] != length * len(part) or (np.diff(ends) != length).any():
            return False
        if length:
            bytes_ = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
            if (bytes_[length:] != bytes_[:-length]).any():
                return False
    return True


def repeated(df: pd.DataFrame, *texts: str) -> npt.NDArray[np.bool_]:
    """True for each row that agrees with another one in these text columns and ``ts``."""
    first, ts = firsts(df, *texts), _instants(df)
    rising = (first[1:] | (ts[1:] > ts[:-1])).all()
    if rising and not df.loc[first, list(texts)].duplicated().any():
        return np.zeros(len(df), dtype=bool)
    return df.duplicated([*texts, "ts"], keep=False).to_numpy()


def spans(df: pd.DataFrame, *texts: str) -> pd.DataFrame:
    """Indexed by these text columns: ``min`` and ``max`` of their rows' ``ts``, and their number, ``size``."""
    starts, ts = np.flatnonzero(firsts(df, *texts)), _instants(df)
    runs, names = df[list(texts)].iloc[starts], list(texts)
    ends = {name: pd.DatetimeIndex(do.reduceat(ts, starts).view("M8[us]"), tz="UTC") for name, do in ENDS.items()}
    runs = runs.assign(**ends, size=np.diff(starts, append=len(df)))
    if not runs.duplicated(names).any():
        return runs.set_index(names).sort_index()
    return runs.groupby(names).agg({"min": "min", "max": "max", "size": "sum"})


def looked_up(texts: "pd.Series[str]", values: Mapping[str, Any], missing: Any = np.nan) -> npt.NDArray[Any]:
    """The value of each text, ``missing`` where it has none."""
    if uniform(array(texts, from_pandas=True)):
        return np.repeat(np.array([values.get(texts.iloc[0], missing)]), len(texts))
    codes, words = pd.factorize(texts)
    return np.array([values.get(word, missing) for word in words])[codes] if len(words) else np.array([missing])[:0]


def _order(df: pd.DataFrame, texts: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """A number for each row that grows with its texts."""
    starts = np.flatnonzero(firsts(df, *texts))
    order = np.zeros(len(starts), dtype=np.int64)
    for name in texts:
        codes, words = pd.factorize(df[name].iloc[starts])
        places = np.append(np.argsort(np.argsort(words.to_numpy(object))), -1)  # a missing text comes first
        order = order * (len(words) + 1) + places[codes] + 1
    return np.repeat(order, np.diff(starts, append=len(df)))


def _instants(df: pd.DataFrame) -> npt.NDArray[np.int64]:
    return df["ts"].to_numpy("datetime64[us]").astype(np.int64)
