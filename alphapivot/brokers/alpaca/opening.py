"""Opens the Alpaca account of config.ini and checks that Alpaca can trade its instruments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from alphapivot.brokers.alpaca.broker import Alpaca
from alphapivot.brokers.alpaca.wire import KEY, SECRET
from alphapivot.config.sections.brokers import AlpacaBroker
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

STEP = Decimal("0.0001")  # the smallest that a US equity can have


def tickers(settings: AlpacaBroker, instruments: Mapping[str, Instrument]) -> dict[str, str]:
    """Our symbol -> Alpaca's. Raises ConfigError that lists all tradable instruments that Alpaca cannot trade."""
    problems = [
        f"[instrument.{s}]: {problem}"
        for s, dated in instruments.items()
        for i in dated.versions
        if i.tradable
        for problem in (
            "futures are not traded at Alpaca" if i.trade_market != "spot" else None,
            f"it is in {i.currency}, the account in {settings.currency}" if i.currency != settings.currency else None,
            "crypto has no brackets at Alpaca" if i.calendar == "24/7" else None,
            f"its multiplier is {i.multiplier:f}, a share's is 1" if i.multiplier != 1 else None,
            f"its quote_unit is {i.quote_unit:f}, and Alpaca quotes dollars: 1" if i.quote_unit != 1 else None,
            f"its tick is {i.tick:f}, and prices there move in steps of 0.01, below 1 USD 0.0001"
            if i.tick % STEP
            else None,
            f"its lot is {i.lot:f}, and Alpaca takes brackets of whole shares only" if i.lot % 1 else None,
        )
        if problem
    ]
    if problems:
        raise ConfigError(
            "Alpaca cannot trade\n  "
            + "\n  ".join([*dict.fromkeys(problems), "set tradable = no there, or another broker"])
        )
    return {s: settings.symbols.get(s, i.spot) for s, i in instruments.items() if i.spot is not None and i.tradable}


def open_alpaca(_hub: Hub | None, settings: Settings, environ: Mapping[str, str] = os.environ) -> Alpaca:
    """
    The account of [execution] broker, without sending a request; its keys come from the environment and are never
    logged. Raises ConfigError if they are missing, and for instruments that Alpaca cannot trade.
    """
    broker = settings.brokers[settings.execution.broker]
    if not isinstance(broker, AlpacaBroker):
        raise ConfigError(f"[broker.{settings.execution.broker}] is not an Alpaca account but {broker.kind}")
    missing = [name for name in (KEY, SECRET) if not environ.get(name)]
    if missing:
        raise ConfigError(
            f"Alpaca needs {' and '.join(missing)} in the environment: the keys of the {broker.account} account"
        )
    return Alpaca(broker, tickers(broker, settings.instruments), environ[KEY], environ[SECRET])
