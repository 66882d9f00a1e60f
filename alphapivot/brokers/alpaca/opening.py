"""What Alpaca can trade of config.ini, and the account that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from alphapivot.brokers.alpaca.broker import Alpaca
from alphapivot.brokers.alpaca.wire import KEY, SECRET
from alphapivot.config.sections.brokers import AlpacaBroker
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub


def tickers(settings: AlpacaBroker, instruments: Mapping[str, Instrument]) -> dict[str, str]:
    """Our symbol -> Alpaca's. ConfigError names everything tradable that Alpaca cannot trade through this adapter."""
    wrong = [
        f"[instrument.{s}]: {why}"
        for s, i in instruments.items()
        if i.tradable
        for why in (
            "futures are not traded at Alpaca" if i.trade_market != "spot" else None,
            f"it is in {i.currency}, the account in {settings.currency}" if i.currency != settings.currency else None,
            "crypto has no brackets at Alpaca" if i.calendar == "24/7" else None,
            f"its lot is {i.lot:f}, and Alpaca takes brackets of whole shares only" if i.lot % 1 else None,
        )
        if why
    ]
    if wrong:
        raise ConfigError(
            "Alpaca cannot trade\n  " + "\n  ".join([*wrong, "set tradable = no there, or another broker"])
        )
    return {s: settings.symbols.get(s, i.spot) for s, i in instruments.items() if i.spot is not None and i.tradable}


def open_alpaca(_hub: Hub | None, settings: Settings, environ: Mapping[str, str] = os.environ) -> Alpaca:
    """
    The account of [execution] broker, of which nothing is asked yet; its keys come from the environment and are never
    shown. ConfigError where they are missing, and for what Alpaca cannot trade.
    """
    broker = settings.brokers[settings.execution.broker]
    if not isinstance(broker, AlpacaBroker):
        raise ConfigError(f"[broker.{settings.execution.broker}] is no Alpaca account, but {broker.kind}")
    missing = [name for name in (KEY, SECRET) if not environ.get(name)]
    if missing:
        raise ConfigError(
            f"Alpaca needs {' and '.join(missing)} in the environment: the keys of the {broker.account} account"
        )
    return Alpaca(broker, tickers(broker, settings.instruments), environ[KEY], environ[SECRET])
