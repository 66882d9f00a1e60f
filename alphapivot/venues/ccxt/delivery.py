"""
What an exchange says of the delivery of a dated future that an account held to its end.

Binance: the income DELIVERED_SETTELMENT (its spelling; without startTime the list is of seven days), and the price of
.../usds-margined-futures/market-data/rest-api/Delivery-Price, which its sandbox does not have. The fee, a taker's
(www.binance.com/en/support/faq/a3401595e1734084959c61491bc0dbe3), is the commission at that time or later: nothing else
trades in the contract then. Bybit:
bybit-exchange.github.io/docs/v5/asset/delivery. OKX: bills of type 3 (www.okx.com/docs-v5, "Get bills details").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import methodcaller
from typing import Any

Ask = Callable[[Callable[[Any], Any]], Any]
DAYS = timedelta(days=2)  # from its day on, in which a delivery is looked for
MOST = 1000  # rows of Binance's income
NONE = Decimal(0)


@dataclass(frozen=True)
class Delivery:
    """``fee``: as far as it is told."""

    price: Decimal
    fee: Decimal
    at: datetime


def of(ask: Ask, exchange: str, contract: str) -> Delivery | None:
    """Of a contract such as BTC/USDT:USDT-261225; None if the account has no record of it."""
    pair, _, text = contract.rpartition("-")
    base, quote = pair.partition(":")[0].split("/")
    return READ[exchange](ask, base, quote, datetime.strptime(text, "%y%m%d").replace(tzinfo=UTC))


def _binance(ask: Ask, base: str, quote: str, day: datetime) -> Delivery | None:
    asked = {"symbol": f"{base}{quote}_{day:%y%m%d}", "startTime": int(day.timestamp() * 1000), "limit": MOST}
    if not ask(methodcaller("fapiPrivateGetIncome", asked | {"incomeType": "DELIVERED_SETTELMENT"})):
        return None
    pair = {"pair": base + quote}
    prices = ask(lambda ccxt: ccxt.fapiDataGetDeliveryPrice(pair) if "fapiData" in ccxt.urls["api"] else [])
    at = next((row for row in prices if _instant(row["deliveryTime"]).date() == day.date()), None)
    if at is None:
        return None
    ended = _instant(at["deliveryTime"])
    asked |= {"startTime": int(ended.timestamp() * 1000), "incomeType": "COMMISSION"}
    paid = [row for row in ask(methodcaller("fapiPrivateGetIncome", asked)) if row["asset"] == quote]
    fee = -sum((_number(row["income"]) for row in paid), NONE)
    return Delivery(_number(at["deliveryPrice"]), fee, ended)


def _bybit(ask: Ask, base: str, quote: str, day: datetime) -> Delivery | None:
    begin, end = (int(at.timestamp() * 1000) for at in (day, day + DAYS))
    asked = {"category": "linear", "symbol": f"{base}{quote}-{day:%d%b%y}".upper(), "startTime": begin, "endTime": end}
    rows = ask(methodcaller("privateGetV5AssetDeliveryRecord", asked))["result"]["list"]
    if not rows:
        return None
    return Delivery(_number(rows[0]["deliveryPrice"]), _number(rows[0]["fee"]), _instant(rows[0]["deliveryTime"]))


def _okx(ask: Ask, base: str, quote: str, day: datetime) -> Delivery | None:
    begin, end = (str(int(at.timestamp() * 1000)) for at in (day, day + DAYS))
    asked = {"instType": "FUTURES", "type": "3", "ccy": quote, "begin": begin, "end": end}
    name = f"{base}-{quote}-{day:%y%m%d}"
    rows = [row for row in ask(methodcaller("privateGetAccountBillsArchive", asked))["data"] if row["instId"] == name]
    return Delivery(_number(rows[0]["px"]), -_number(rows[0]["fee"]), _instant(rows[0]["ts"])) if rows else None


def _number(value: Any) -> Decimal:
    return Decimal(str(value or 0)).normalize() + 0


def _instant(value: Any) -> datetime:
    return datetime.fromtimestamp(int(value) / 1000, UTC)


READ: Mapping[str, Callable[[Ask, str, str, datetime], Delivery | None]] = {
    "binance": _binance,
    "bybit": _bybit,
    "okx": _okx,
}
