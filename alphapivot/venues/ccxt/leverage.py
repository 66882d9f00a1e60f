"""
The leverage and the margin mode that an exchange has set for a perpetual, and where it would liquidate one.

Binance sets both for a market (.../usds-margined-futures/account/rest-api/Symbol-Config). Bybit's unified account has
one mode (bybit-exchange.github.io/docs/v5/account/account-info) and a leverage for each market (docs/v5/position). At
OKX each order says its mode, and a market has a leverage for each mode (www.okx.com/docs-v5, "Get leverage").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import methodcaller
from typing import Any

Ask = Callable[[Callable[[Any], Any]], Any]
IN_CONTRACTS = ("okx",)  # whose tiers are by contracts, and not by notional
ONE = Decimal(1)


@dataclass(frozen=True)
class Setting:
    """``mode``: cross, isolated, or another word of the exchange's; ``times``: the leverage, 0 where it has none."""

    mode: str
    times: Decimal

    def __str__(self) -> str:
        return f"{self.mode} margin, leverage {self.times:f}"


def setting(ask: Ask, exchange: str, ticker: str, wanted: str) -> Setting:
    """``wanted``: the margin mode of our orders, where orders say it."""
    mode, times = READ[exchange](ask, ticker, wanted)
    return Setting(str(mode), Decimal(str(times or 0)).normalize() + 0)


def _binance(ask: Ask, ticker: str, _: str) -> tuple[Any, Any]:
    told = ask(methodcaller("fetch_margin_mode", ticker))
    return told["marginMode"], told["info"]["leverage"]


def _bybit(ask: Ask, ticker: str, _: str) -> tuple[Any, Any]:
    mode = ask(methodcaller("fetch_margin_mode", ticker))["marginMode"]
    listed = ask(methodcaller("fetch_positions", [ticker]))  # ccxt's own leverage leaves out what is after the point
    return mode, listed[0]["info"]["leverage"] if listed else None


def _okx(ask: Ask, ticker: str, wanted: str) -> tuple[Any, Any]:
    told = ask(methodcaller("fetch_leverage", ticker, {"marginMode": wanted}))["info"]
    return wanted, told[0]["lever"] if told else None


READ: Mapping[str, Callable[[Ask, str, str], tuple[Any, Any]]] = {"binance": _binance, "bybit": _bybit, "okx": _okx}


def maintenance(ask: Ask, exchange: str, ticker: str, mode: str, contracts: Decimal, notional: Decimal) -> Decimal:
    """The maintenance margin of a position of this size, as a share of its notional."""
    params = {"marginMode": mode} if exchange in IN_CONTRACTS else {}
    tiers: Sequence[Mapping[str, Any]] = ask(methodcaller("fetch_market_leverage_tiers", ticker, params))
    size = contracts if exchange in IN_CONTRACTS else notional
    rows = sorted((Decimal(str(t["maxNotional"])), Decimal(str(t["maintenanceMarginRate"]))) for t in tiers)
    return next((rate for most, rate in rows if size <= most), rows[-1][1])


def liquidation(side: str, entry: Decimal, times: Decimal, rate: Decimal) -> Decimal:
    """
    The price at which the margin of an isolated position, and its loss, leave ``rate`` of its notional: maintenance and
    the fee of closing it.

    Binance: www.binance.com/en/support/faq/b3c689c1f50a44cabb3a84e663b81d93, without the maintenance amount of higher
    tiers, which would leave a little more room. OKX counts the fee; Bybit's "Liquidation Price Calculation under
    Isolated Mode" is within it.
    """
    sign = 1 if side == "BUY" else -1
    return entry * (ONE - sign / times) / (ONE - sign * rate)


def most(side: str, entry: Decimal, stop: Decimal, rate: Decimal) -> Decimal:
    """The leverage at which it would be liquidated at its stop."""
    sign = 1 if side == "BUY" else -1
    return sign / (ONE - stop * (ONE - sign * rate) / entry)
