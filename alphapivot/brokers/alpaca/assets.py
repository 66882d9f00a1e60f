"""
Compares the terms in config.ini with Alpaca's own: GET /v2/assets/{symbol}.

Alpaca gives min_order_size, min_trade_increment and price_increment for crypto only. US equities trade in whole shares
here, and SEC rule 612 sets their price steps: 0.01 USD, below 1 USD 0.0001.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pandas as pd

from alphapivot import home
from alphapivot.brokers.alpaca import rows
from alphapivot.brokers.alpaca.opening import open_alpaca
from alphapivot.brokers.registry import Terms
from alphapivot.hub.tables import series

if TYPE_CHECKING:
    from alphapivot.brokers.alpaca.wire import Json
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

CENT, FRACTION = Decimal("0.01"), Decimal("0.0001")


def compare(hub: Hub, settings: Settings, environ: Mapping[str, str] = os.environ, *, again: bool = True) -> Terms:
    """
    The terms of the tradable instruments that Alpaca's assets contradict. One request for each; not ``again``: none if
    the same terms were found good today. Raises Unavailable if Alpaca does not answer.
    """
    broker = open_alpaca(hub, settings, environ)
    instruments = {s: settings.instruments[s].trading(datetime.now(UTC)) for s in broker.symbols}
    good = home.cache() / "alpaca-terms"
    seen = _fingerprint(instruments)
    if not again and good.is_file() and good.read_text(encoding="utf-8") == seen:
        return Terms()
    closes = _closes(hub, settings)
    wrong, cautions = [], []
    for symbol, instrument in instruments.items():
        asset = broker.asset(symbol)
        with rows.reading(f"asset {symbol}"):
            wrong += [f"[instrument.{symbol}] {text}" for text in contradictions(instrument, asset, closes.get(symbol))]
            cautions += [f"[instrument.{symbol}] {text}" for text in doubts(asset, settings)]
    if not wrong:
        home.cache().mkdir(parents=True, exist_ok=True)
        good.write_text(seen, encoding="utf-8")
    return Terms(wrong, cautions)


def contradictions(instrument: Instrument, asset: Json | None, close: float | None) -> list[str]:
    """What this asset cannot have. ``close``: its last price; None if unknown."""
    if asset is None:
        return [f"spot = {instrument.spot}: Alpaca has no such asset; expected its ticker, or [broker.*] symbols"]
    step = Decimal(str(asset.get("price_increment") or (FRACTION if close is None or close < 1 else CENT)))
    lot = Decimal(str(asset.get("min_trade_increment") or 1))
    least = Decimal(str(asset.get("min_order_size") or 0))
    at = f" at its last price, {close:g}" if close is not None else ""
    return [
        text
        for text in (
            f"tick = {instrument.tick:f}: Alpaca takes prices in steps of {step:f}{at}"
            if instrument.tick % step
            else "",
            f"lot = {instrument.lot:f}: Alpaca takes quantities in steps of {lot:f}" if instrument.lot % lot else "",
            f"lot = {instrument.lot:f}: Alpaca takes {least:f} or more" if instrument.lot < least else "",
        )
        if text
    ]


def doubts(asset: Json | None, settings: Settings) -> list[str]:
    """What may change by itself: entries there will be rejected, and nothing else."""
    if asset is None:
        return []
    tradable = asset["tradable"] and asset.get("status", "active") == "active"
    shortable = asset["shortable"] and asset.get("easy_to_borrow", True)
    return [
        text
        for text in (
            "" if tradable else "Alpaca does not trade it at present: entries will be rejected",
            ""
            if shortable or not settings.execution.allow_shorts
            else "Alpaca does not lend it: shorts will be rejected",
        )
        if text
    ]


def _closes(hub: Hub, settings: Settings) -> dict[str, float]:
    """symbol -> the newest stored close of its spot market."""
    base = settings.timeframes.base
    intervals = {s: i.source_interval("spot", base) for s, i in settings.instruments.items()}
    now = pd.DataFrame({"symbol": list(intervals), "ts": pd.Timestamp.now("UTC")})
    found = series.closes_before(hub, now, intervals)
    return dict(zip(found["symbol"], found["close"], strict=True))


def _fingerprint(instruments: Mapping[str, Instrument]) -> str:
    terms = {s: [i.spot, f"{i.tick:f}", f"{i.lot:f}"] for s, i in instruments.items()}
    today = datetime.now(UTC).date().isoformat()
    return f"{today} {hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()}"
