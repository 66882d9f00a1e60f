"""
A crypto exchange behind the Broker port, through ccxt: coins, or linear perpetuals.

Client order ids are unique among open orders only, so an order that cannot be found may be sent again only where the
exchange carries a request out within seconds or never, and they have passed (``Way.expires``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from alphapivot.brokers.base import (
    Absent,
    Account,
    Answer,
    BrokerFill,
    BrokerOrder,
    Caps,
    CashFlow,
    Hours,
    Key,
    NotSent,
    OrderSpec,
    Ref,
    Rejected,
    Unreadable,
)
from alphapivot.brokers.ccxt import access, cash, money, rows, sending
from alphapivot.brokers.ccxt.orders import Orders
from alphapivot.brokers.ccxt.rows import Row, Terms, number
from alphapivot.errors import TradingHalted, Unavailable

if TYPE_CHECKING:
    from alphapivot.brokers.ccxt.ledger import Ledger
    from alphapivot.brokers.ccxt.names import Names
    from alphapivot.brokers.ccxt.wire import Wire
    from alphapivot.config.sections.brokers import CcxtBroker
    from alphapivot.venues.ccxt.facts import Venue


class Exchange:
    """The Broker port over one account. ``ledger`` None: all that is in the account is ours."""

    def __init__(
        self,
        section: CcxtBroker,
        venue: Venue,
        tickers: Names,
        wire: Wire,
        ledger: Ledger | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._section, self._venue, self._names, self._wire = section, venue, tickers, wire
        self._ledger, self._way = ledger, venue.ways[section.trades]
        self._orders = Orders(venue, self._way, tickers, wire, self._terms, ledger, sleep)
        self.caps = Caps(
            idempotent_submit=False,
            absence_is_final=self._way.expires is not None,
            id_max_len=venue.id_max_len,
            native_bracket=False,
            reduce_only=not self._spot,
            stop_survives_session=True,
            stop_outside_hours=True,
        )

    @property
    def name(self) -> str:
        return self._venue.name

    @property
    def tickers(self) -> Mapping[str, str]:
        return self._names.tickers

    @property
    def _spot(self) -> bool:
        return self._section.trades == "spot"

    @cached_property
    def markets(self) -> Mapping[str, Row]:
        """The exchange's markets by ccxt's name."""
        loaded: Mapping[str, Row] = self._wire.read(lambda ccxt: ccxt.load_markets(), "markets")
        return loaded

    def cautions(self) -> list[str]:
        """What is in the account and not this book's, which is left alone."""
        if not self._spot:
            return []
        balance = self._balance()
        ours = self._coins(balance) if self._ledger is not None else {}
        beyond = {
            coin: qty
            for coin, symbol in self._names.coins.items()
            if (qty := number(balance["total"].get(coin)) - ours.get((symbol, "spot", ""), Decimal(0))) > 0
        }
        return [f"{qty:f} {coin} are beyond this book's fills: never sold, not counted" for coin, qty in beyond.items()]

    @cached_property
    def _number(self) -> str | None:
        """The account's number; TradingHalted if its key, or its settings, do not let this book trade."""
        told = access.of(self._wire, self._section, next(iter(self._names.tickers.values()), None))
        if told.wrong:
            raise TradingHalted(f"{self._venue.name}: {told.wrong}")
        return f"{self._venue.name} {told.number}" if told.number else None

    def account(self) -> Account:
        number_, balance = self._number, self._balance()
        if self._spot:
            held = {key: qty for key, qty in self._coins(balance).items() if key[0] in self._names.tickers}
            prices = self._prices([self._names.ticker(key) for key in held])
            worth = sum((qty * prices[self._names.ticker(key)] for key, qty in held.items()), Decimal(0))
            return money.spot(balance, self._section.currency, worth, self._wire.at, number_)
        positions, apart = self._positions(), self._way.profit_apart
        return money.margin(balance, self._section.currency, positions, self._wire.at, number_, profit_apart=apart)

    def positions(self) -> dict[Key, Decimal]:
        """
        Coins as far as our fills explain them, since others' coins may be in the account; all of them if fewer are
        there than our fills say. Perpetuals in contracts.
        """
        if self._spot:
            return self._coins(self._balance())
        held: dict[Key, Decimal] = {}
        for row in self._positions():
            key = self._names.key(str(row.get("symbol")))
            held[key] = held.get(key, Decimal(0)) + money.contracts(row)
        return {key: qty for key, qty in held.items() if qty}

    def open_orders(self) -> Sequence[BrokerOrder | Unreadable]:
        return [o for o in self._orders.listed() if isinstance(o, Unreadable) or o.state not in rows.FINAL]

    def find(self, refs: Sequence[Ref], since: datetime) -> Mapping[str, BrokerOrder | Absent | Unreadable]:  # noqa: ARG002 - orders are asked for by their ids
        found = {ref.client_order_id: self._orders.look(ref) for ref in refs}
        absent = [ref for ref in refs if isinstance(found[ref.client_order_id], Absent)]
        if absent and self._orders.outlived(absent):
            found |= {ref.client_order_id: self._orders.look(ref) for ref in absent}
        return found

    def fills(self, since: datetime) -> Sequence[BrokerFill | Unreadable]:
        told = [fill for ticker in self._names.tickers.values() for fill in self._orders.fills(ticker, since)]
        kept = [f for f in told if isinstance(f, Unreadable) or f.ts >= since]
        return sorted(kept, key=lambda f: f.ts if isinstance(f, BrokerFill) else since)

    def cash_flows(self, since: date) -> list[CashFlow] | None:
        return cash.flows(self._wire, self._section, since)

    def session(self, key: Key) -> Hours:
        """Crypto trades at all hours, unless the exchange has suspended the market."""
        market = self.markets.get(self._names.tickers.get(key[0], ""))
        return Hours(market is not None and market.get("active") is not False)

    def submit(self, spec: OrderSpec) -> Answer:
        ticker = self._names.ticker(spec.key)
        try:
            if refusal := sending.refusal(spec, spot=self._spot) or self._too_small(spec, ticker):
                return Rejected(refusal)
        except Unavailable as error:
            return NotSent(str(error))
        return self._orders.send(spec, ticker)

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:  # noqa: ARG002 - caps.atomic_replace is False
        return Rejected("orders are not replaced at crypto exchanges")

    def cancel(self, ref: Ref) -> None:
        self._orders.cancel(ref)

    # the parts

    def _too_small(self, spec: OrderSpec, ticker: str) -> str | None:
        market = self.markets.get(ticker)
        if market is None:
            return f"{self._venue.name} has no market {ticker}"
        priced = spec.price is not None or spec.leg != "ENTRY" or not sending.has_least_cost(market)
        last = spec.price if priced else self._prices([ticker])[ticker]
        return sending.too_small(spec, market, last)

    def _terms(self, ticker: str) -> Terms:
        market = self.markets[ticker]
        return Terms(
            key=self._names.key(ticker),
            coin=str(market["base"]),
            currency=self._section.currency,
            step=number(market["precision"]["amount"]),
            value=number(market.get("contractSize") or 1),
        )

    def _balance(self) -> Row:
        balance: Row = self._wire.read(lambda ccxt: ccxt.fetch_balance(), "balance")
        return balance

    def _coins(self, balance: Row) -> dict[Key, Decimal]:
        there = {
            (symbol, "spot", ""): number(total)
            for coin, total in balance["total"].items()
            if (symbol := self._names.coins.get(coin)) and number(total)
        }
        if self._ledger is None:
            return there
        return {key: min(qty, there[key]) for key, qty in self._ledger.held().items() if there.get(key)}

    def _positions(self) -> list[Row]:
        listed: list[Row] = self._wire.read(lambda ccxt: ccxt.fetch_positions(None, dict(self._way.all)), "positions")
        return listed

    def _prices(self, tickers: Sequence[str]) -> dict[str, Decimal]:
        if not tickers:
            return {}
        told = self._wire.read(lambda ccxt: ccxt.fetch_tickers(list(tickers)), "prices")
        missing = [t for t in tickers if not number((told.get(t) or {}).get("last"))]
        if missing:
            raise Unavailable(f"{self._venue.name} tells no price of {', '.join(missing)}")
        return {ticker: number(told[ticker]["last"]) for ticker in tickers}
