"""How much two sources of one series differ: bars, closes, volumes, splits and dividends. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from decimal import Decimal

    from alphapivot.feeds.base import Fetched

SAME = ["contract", "ts"]
NEAR = pd.Timedelta(days=5)  # an event of one kind and size within these is dated differently, not missing


def compare(first: Fetched, second: Fetched, names: tuple[str, str], tick: Decimal) -> pd.DataFrame:
    """What two replies to one request have in common, as rows of (what, value)."""
    one, other = (part.bars.drop_duplicates(SAME) for part in (first, second))
    both = one.merge(other, on=SAME, suffixes=("", "_other")).sort_values("ts")
    rows = [("bars of both", f"{len(both)}")]
    for name, mine, theirs in ((names[0], one, other), (names[1], other, one)):
        alone = mine.merge(theirs[SAME], on=SAME, how="left", indicator="seen").query("seen == 'left_only'")["ts"]
        span = f", {alone.min():%Y-%m-%d %H:%M} to {alone.max():%Y-%m-%d %H:%M}" if len(alone) else ""
        rows.append((f"only {name} has", f"{len(alone)}{span}"))
    if len(both):
        rows += _differences(both, float(tick))
        rows.append((f"volume of {names[1]} / {names[0]}", _ratio(both)))
    rows += _events(first.actions, second.actions, names)
    return pd.DataFrame(rows, columns=["what", "value"])


def _differences(both: pd.DataFrame, tick: float) -> list[tuple[str, str]]:
    close, other = (pd.to_numeric(both[name], errors="coerce") for name in ("close", "close_other"))
    apart = (other - close).abs()
    in_bp = (apart / close.abs() * 10_000).where(close != 0)
    rows = []
    for what, share in (("median", 0.5), ("95 %", 0.95), ("largest", 1.0)):
        at = both["ts"].iloc[int(in_bp.fillna(0).to_numpy().argmax())]
        when = f", {at:%Y-%m-%d %H:%M}" if share == 1 and in_bp.notna().any() else ""
        value = f"{apart.quantile(share) / tick:.3g} ticks, {in_bp.quantile(share):.3g} bp{when}"
        rows.append((f"closes differ, {what}", value))
    return rows


def _ratio(both: pd.DataFrame) -> str:
    volume, other = (pd.to_numeric(both[name], errors="coerce") for name in ("volume", "volume_other"))
    ratio = (other / volume)[(volume > 0) & (other > 0)]
    return f"{ratio.median():.3g} (median)" if len(ratio) else "unknown"


def _events(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> list[tuple[str, str]]:
    """A row for each event that only one has, and for each that they date differently."""
    rows = []
    for name, other, mine, theirs in ((names[0], names[1], first, second), (names[1], names[0], second, first)):
        for event in mine.to_dict("records"):
            apart = (pd.DatetimeIndex(theirs["ts"]) - event["ts"]).map(abs) <= NEAR
            alike = theirs[(theirs["kind"] == event["kind"]).to_numpy() & apart].to_dict("records")
            text = f"{event['kind']} of {event['value']:g} on {event['ts']:%Y-%m-%d}"
            if not alike:
                rows.append((f"only {name} has", text))
            elif name == names[0] and (alike[0]["ts"], alike[0]["value"]) != (event["ts"], event["value"]):
                rows.append(("differs", f"{text}; {other}: {alike[0]['value']:g} on {alike[0]['ts']:%Y-%m-%d}"))
    return rows or [("splits and dividends", f"{len(first)} and {len(second)}, all alike")]
