"""
Alpaca's cash movements: account activities other than fills.

They carry a date and no time (https://docs.alpaca.markets/docs/account-activities).
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from alphapivot.brokers.alpaca.wire import Json
from alphapivot.brokers.base import CashFlow, CashKind

KINDS: dict[str, CashKind] = {
    "CSD": "deposit",
    "CSW": "withdrawal",
    "JNL": "journal",
    "JNLC": "journal",
    "FEE": "fee",
    "CFEE": "fee",
    "PTC": "fee",  # pass-through charge
    "PTR": "fee",  # pass-through rebate
}
BY_SIGN = ("TRANS", "ACATC")  # cash in or out: its sign says which
# cash for shares, and taxes withheld: results of the account
RESULTS = ("CIL", "EXTRD", "MA", "NC", "REORG", "SC", "SPIN", "SPLIT", "SSO", "SSP", "SWP", "VOF", "WH")
COUNTED = ("executed", "correct")  # a row without a status was executed
CANCELLED = "canceled"


def flow(row: Json) -> CashFlow | None:
    """The movement of an activity; None for a fill, for one that moves no cash, and for one that is not done yet."""
    status = row.get("status") or "executed"
    if row["activity_type"] == "FILL" or not row.get("net_amount") or status not in (*COUNTED, CANCELLED):
        return None
    amount = Decimal(row["net_amount"])
    if amount == 0:
        return None
    words = (row["activity_type"], row.get("symbol"), row.get("description"))
    return CashFlow(
        flow_id=str(row["id"]),
        dated=date.fromisoformat(row["date"][:10]),
        kind=kind(row["activity_type"], amount),
        amount=Decimal(0) if status == CANCELLED else amount,
        note="Alpaca: " + " ".join(word for word in words if word),
        symbol=row.get("symbol") or None,
    )


def kind(activity: str, amount: Decimal) -> CashKind:
    """An unknown activity counts against us: money out is a loss, money in is not a profit."""
    if activity in KINDS:
        return KINDS[activity]
    if activity.startswith("DIV"):  # with its taxes and fees: DIVNRA, DIVFEE, DIVCGL ...
        return "dividend"
    if activity.startswith("INT"):
        return "interest"
    if activity in RESULTS:
        return "other"
    if activity in BY_SIGN:
        return "deposit" if amount > 0 else "withdrawal"
    return "deposit" if amount > 0 else "other"
