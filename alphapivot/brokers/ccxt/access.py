"""Whose account it is, and what keeps a key or an account from trading: told before an order is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import methodcaller
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphapivot.brokers.ccxt.wire import Wire
    from alphapivot.config.sections.brokers import CcxtBroker

HEDGED = (
    "positions are in hedge mode, in which a sale would open a short beside the long: switch the position mode to"
    " one-way in the exchange's settings, while nothing is open"
)
READ_ONLY = "the API key may read and not trade: allow it to, in the exchange's API settings"
Ask = Callable[[Callable[[Any], Any]], Any]


@dataclass(frozen=True)
class Access:
    """``number``: of the account, where the exchange tells it; ``wrong``: why this book cannot trade it."""

    number: str | None = None
    wrong: str | None = None


def of(wire: Wire, section: CcxtBroker, ticker: str | None) -> Access:
    """``ticker``: one of the markets that are traded."""
    ask = ASK[section.exchange]
    return ask(lambda request: wire.read(request, "account settings"), section.trades != "spot", ticker)


def _binance(ask: Ask, futures: bool, _: str | None) -> Access:
    if futures:
        return Access(wrong=HEDGED if ask(methodcaller("fetch_position_mode"))["hedged"] else None)
    info = ask(methodcaller("fetch_balance"))["info"]
    return Access(str(info["uid"]) if info.get("uid") else None, None if info.get("canTrade", True) else READ_ONLY)


def _bybit(ask: Ask, futures: bool, ticker: str | None) -> Access:
    key = ask(methodcaller("privateGetV5UserQueryApi"))["result"]
    wrong = READ_ONLY if str(key.get("readOnly")) == "1" else None
    if futures and ticker is not None and wrong is None:
        listed = ask(methodcaller("fetch_positions", [ticker]))
        wrong = HEDGED if any(str(row["info"].get("positionIdx", 0)) != "0" for row in listed) else None
    return Access(str(key["userID"]) if key.get("userID") else None, wrong)


def _okx(ask: Ask, futures: bool, _: str | None) -> Access:
    account = ask(methodcaller("privateGetAccountConfig"))["data"][0]
    wrong = None if "trade" in str(account.get("perm", "trade")) else READ_ONLY
    if futures and account.get("posMode") == "long_short_mode":
        wrong = wrong or HEDGED
    if futures and str(account.get("acctLv")) == "1":
        wrong = (
            wrong
            or "the account is in spot mode, which trades no futures: switch it to futures mode, in OKX's settings"
        )
    return Access(str(account["uid"]) if account.get("uid") else None, wrong)


ASK: dict[str, Callable[[Ask, bool, str | None], Access]] = {"binance": _binance, "bybit": _bybit, "okx": _okx}
