"""Divides an account among the books that trade it: docs/execution.md, Several books on one account. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from alphapivot.brokers.base import Account

NONE = Decimal(0)
MICRO = Decimal("0.000001")


@dataclass(frozen=True)
class Held:
    """A book's positions at the newest closes, in account currency: shorts negative (``net``), and their sizes."""

    net: Decimal = NONE
    gross: Decimal = NONE


def divide(
    whole: Account,
    shares: Mapping[str, Decimal],
    cash: Mapping[str, Decimal],
    held: Mapping[str, Held],
    *,
    settled: bool,
) -> dict[str, Account]:
    """
    Returns book -> its part of the account: its own ``cash`` and positions, its share of cash that no ledger explains,
    and its part, by size of position, of what the broker's prices add to the newest closes.

    ``settled``: the books' positions are the broker's and every fill was read; else only the ledgers count, since what
    they do not explain may belong to anybody.
    """
    unexplained = whole.cash - sum(cash.values(), NONE) if settled else NONE
    drift = whole.equity - whole.cash - sum((h.net for h in held.values()), NONE) if settled else NONE
    gross, used = sum((h.gross for h in held.values()), NONE), whole.equity - whole.free
    accounts = {}
    for book, share in shares.items():
        mine = held.get(book, Held())
        size = mine.gross / gross if gross else NONE
        own = cash.get(book, NONE) + share * unexplained
        equity = own + mine.net + (size * drift).quantize(MICRO)
        free = equity - (size if gross else share) * used
        accounts[book] = replace(whole, cash=own, equity=equity, free=max(min(free, whole.free), NONE).quantize(MICRO))
    return accounts
