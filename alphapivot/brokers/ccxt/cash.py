"""
Movements of cash that are no trades, where an exchange tells them completely: funding of perpetuals, deposits,
transfers between wallets.

Binance's spot wallet does not: deposits, withdrawals and some thirty kinds of transfer are separate lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import CashFlow, CashKind
from alphapivot.brokers.ccxt.rows import Row, instant, number

if TYPE_CHECKING:
    from alphapivot.brokers.ccxt.wire import Wire
    from alphapivot.config.sections.brokers import CcxtBroker

Ask = Callable[[Callable[[Any], Any]], Any]
PAGE = 1000
TRADED = (
    "COMMISSION",
    "REALIZED_PNL",
    "DELIVERED_SETTELMENT",
)  # of fills, and of a contract's end (Binance's spelling)
WEEK, FEW = 7 * 86_400_000, 50
MOST = 100
OKX_TRADED = ("2", "3", "5", "6", "9")  # trades, deliveries, liquidations, moves of isolated margin, auto-deleveraging
BYBIT_TRADED = ("TRADE", "DELIVERY", "LIQUIDATION", "ADL", "CURRENCY_BUY", "CURRENCY_SELL")


def flows(wire: Wire, section: CcxtBroker, since: date) -> list[CashFlow] | None:
    """Of the account's currency, each with the exchange's own id of its market; None where they must be typed."""
    tell = LEDGERS.get((section.exchange, section.trades))
    if tell is None:
        return None
    begin = datetime(since.year, since.month, since.day, tzinfo=UTC)
    found = tell(lambda ask: wire.read(ask, "movements of cash"), section.currency, int(begin.timestamp() * 1000))
    return sorted(found, key=lambda flow: (flow.dated, flow.flow_id))


def kind(amount: Decimal) -> CashKind:
    """Of a transfer."""
    return "deposit" if amount > 0 else "withdrawal"


def _binance(ask: Ask, currency: str, begin: int) -> Iterator[CashFlow]:
    """https://developers.binance.com/docs/derivatives/usds-margined-futures/account/rest-api/Get-Income-History."""
    seen: set[str] = set()
    while True:
        page: list[Row] = ask(methodcaller("fapiPrivateGetIncome", {"startTime": begin, "limit": PAGE}))
        for row in page:
            what, amount = str(row["incomeType"]), number(row["income"])
            flow_id = "-".join(str(row.get(name) or "") for name in ("incomeType", "symbol", "tranId"))
            if what in TRADED or row["asset"] != currency or flow_id in seen:
                continue
            seen.add(flow_id)
            kinds: dict[str, CashKind] = {"FUNDING_FEE": "interest", "TRANSFER": kind(amount)}
            note = " ".join(part for part in ("Binance:", what, str(row.get("symbol") or "")) if part)
            yield CashFlow(
                flow_id, instant(row["time"]).date(), kinds.get(what, "other"), amount, note, row.get("symbol")
            )
        if len(page) < PAGE:
            return
        begin = max(int(row["time"]) for row in page)


def _bybit(ask: Ask, currency: str, begin: int) -> Iterator[CashFlow]:
    """https://bybit-exchange.github.io/docs/v5/account/transaction-log: seven days in a request, newest first."""
    end = int(ask(methodcaller("fetch_time")))
    for start in range(begin, end + 1, WEEK):
        asked: dict[str, Any] = {"accountType": "UNIFIED", "currency": currency, "limit": FEW}
        asked |= {"startTime": start, "endTime": min(start + WEEK - 1, end)}
        cursor = ""
        while True:
            told = ask(
                methodcaller("privateGetV5AccountTransactionLog", asked | ({"cursor": cursor} if cursor else {}))
            )
            for row in told["result"]["list"]:
                what, amount = str(row["type"]), number(row["change"])
                if what in BYBIT_TRADED or not amount:
                    continue
                kinds: dict[str, CashKind] = {"SETTLEMENT": "interest", "TRANSFER_IN": "deposit"}
                kinds |= {"TRANSFER_OUT": "withdrawal", "INTEREST": "interest"}
                note = " ".join(part for part in ("Bybit:", what, str(row.get("symbol") or "")) if part)
                at = instant(row["transactionTime"]).date()
                yield CashFlow(str(row["id"]), at, kinds.get(what, "other"), amount, note, row.get("symbol"))
            cursor = told["result"].get("nextPageCursor") or ""
            if not cursor:
                break


def _okx(ask: Ask, currency: str, begin: int) -> Iterator[CashFlow]:
    """https://www.okx.com/docs-v5/en/#trading-account-rest-api-get-bills-details-last-3-months, newest first."""
    asked: dict[str, Any] = {"ccy": currency, "begin": str(begin), "limit": str(MOST)}
    while True:
        page: list[Row] = ask(methodcaller("privateGetAccountBillsArchive", asked))["data"]
        for row in page:
            what, amount = str(row["type"]), number(row["balChg"])
            if what in OKX_TRADED or not amount:
                continue
            kinds: dict[str, CashKind] = {"1": kind(amount), "7": "interest", "8": "interest"}
            note = " ".join(part for part in (f"OKX: bill of type {what}", str(row.get("instId") or "")) if part)
            at = instant(row["ts"]).date()
            yield CashFlow(str(row["billId"]), at, kinds.get(what, "other"), amount, note, row.get("instId"))
        if len(page) < MOST:
            return
        asked = asked | {"after": page[-1]["billId"]}


LEDGERS: dict[tuple[str, str], Callable[[Ask, str, int], Iterator[CashFlow]]] = {
    ("binance", "perpetual"): _binance,
    ("binance", "future"): _binance,
    ("bybit", "spot"): _bybit,
    ("bybit", "perpetual"): _bybit,
    ("bybit", "future"): _bybit,
    ("okx", "spot"): _okx,
    ("okx", "perpetual"): _okx,
    ("okx", "future"): _okx,
}
