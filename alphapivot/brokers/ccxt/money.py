"""What an account at an exchange is worth. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from alphapivot.brokers.base import Account
from alphapivot.brokers.ccxt.rows import UNREADABLE, Row, number
from alphapivot.errors import Unavailable


def spot(balance: Row, currency: str, worth: Decimal, at: datetime | None, name: str | None) -> Account:
    """``worth``: of the coins that are ours; those of others, and what our fees have left of a coin, do not count."""
    cash, free = number(balance["total"].get(currency)), number(balance["free"].get(currency))
    return Account(currency=currency, cash=cash, equity=cash + worth, free=free, at=at, number=name)


def margin(
    balance: Row,
    currency: str,
    positions: Sequence[Row],
    at: datetime | None,
    name: str | None,
    *,
    profit_apart: bool = False,
) -> Account:
    """Equity has the profit of what is open; cash leaves its notional out, as fills count it."""
    try:
        equity, free = number(balance["total"].get(currency)), number(balance["free"].get(currency))
        if profit_apart:
            profit = sum((number(row["unrealizedPnl"]) for row in positions), Decimal(0))
            equity, free = equity + profit, free + profit
        notional = sum(
            (contracts(row) * number(row["markPrice"]) * number(row.get("contractSize") or 1) for row in positions),
            Decimal(0),
        )
    except UNREADABLE as error:
        raise Unavailable(f"the account cannot be read: {type(error).__name__} {error}") from error
    return Account(currency=currency, cash=equity - notional, equity=equity, free=free, at=at, number=name)


def contracts(row: Row) -> Decimal:
    """Signed; NaN if it cannot be read."""
    try:
        qty = number(row["contracts"])
        return {"long": qty, "short": -qty}[row["side"]] if qty else qty
    except UNREADABLE:
        return Decimal("NaN")
