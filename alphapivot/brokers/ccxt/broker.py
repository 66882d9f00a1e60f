"""
A crypto exchange behind the Broker port, through ccxt: coins, linear perpetuals, or dated linear futures.

Client order ids are unique among open orders only, so an order that cannot be found may be sent again only where the
exchange carries a request out within seconds or never, and they have passed (``Way.expires``).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
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
    Denied,
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
from alphapivot.money import price_text
from alphapivot.venues.ccxt import leverage

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
        if self._way.says_mode:
            self._way = replace(self._way, order={**self._way.order, "marginMode": self._mode})
        self._orders = Orders(venue, self._way, tickers, wire, self._terms, self.listed, ledger, sleep)
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

    @property
    def _mode(self) -> str:
        """The margin mode of our orders, where orders say it."""
        return self._section.margin_mode or "cross"

    @cached_property
    def markets(self) -> Mapping[str, Row]:
        """The exchange's markets by ccxt's name."""
        loaded: Mapping[str, Row] = self._wire.read(lambda ccxt: ccxt.load_markets(), "markets")
        return loaded

    def listed(self, symbol: str | None = None) -> list[str]:
        """The exchange's markets that are traded: of dated futures each contract that it lists."""
        return self._names.listed(self.markets, symbol)

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
        told = access.of(self._wire, self._section, next(iter(self.listed()), None))
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
        told = [fill for ticker in self.listed() for fill in self._orders.fills(ticker, since)]
        told += self._orders.delivered.values()
        kept = [f for f in told if isinstance(f, Unreadable) or f.ts >= since]
        return sorted(kept, key=lambda f: f.ts if isinstance(f, BrokerFill) else since)

    def cash_flows(self, since: date) -> list[CashFlow] | None:
        flows = cash.flows(self._wire, self._section, since)
        if not flows:
            return flows
        names = {self.markets[ticker]["id"]: self._names.key(ticker)[0] for ticker in self.listed()}
        return [dataclasses.replace(flow, symbol=names.get(flow.symbol or "")) for flow in flows]

    def session(self, key: Key) -> Hours:
        """Crypto trades at all hours, unless the exchange has suspended the market."""
        listed = [] if key[0] not in self._names.tickers else self.listed(key[0])
        market = self.markets.get(key[2] if self._names.dated and key[2] else next(iter(listed), ""))
        return Hours(market is not None and market.get("active") is not False)

    def submit(self, spec: OrderSpec) -> Answer:
        ticker = self._names.ticker(spec.key)
        try:
            if refusal := sending.refusal(spec, spot=self._spot) or self._too_small(spec, ticker):
                return Rejected(refusal)
            if not self._spot and spec.leg == "ENTRY" and (denial := self._denied(spec, ticker)):
                return Denied(denial)
        except Unavailable as error:
            return NotSent(str(error))
        return self._orders.send(spec, ticker)

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:  # noqa: ARG002 - caps.atomic_replace is False
        return Rejected("orders are not replaced at crypto exchanges")

    def cancel(self, ref: Ref) -> None:
        self._orders.cancel(ref)

    def setting(self, ticker: str) -> leverage.Setting:
        """What the exchange has set for a perpetual."""
        return leverage.setting(self._ask, self._section.exchange, ticker, self._mode)

    def contradictions(self, ticker: str, present: leverage.Setting) -> Iterator[str]:
        """What [broker.*] wants set, and is not."""
        wanted, name = self._section, self._venue.name
        held = [row for row in self._positions() if row.get("symbol") == ticker] if self._way.says_mode else []
        if others := {str(row.get("marginMode")) for row in held} - {self._mode}:
            yield (
                f"margin_mode = {self._mode}, and {ticker} has a position in {', '.join(others)} margin, which such"
                " orders do not reduce: write what it has, or close it there"
            )
        if wanted.margin_mode is not None and wanted.margin_mode != present.mode:
            yield (
                f"margin_mode = {wanted.margin_mode}, and {name} has {present.mode} margin for {ticker}: set"
                f" {wanted.margin_mode} there, while nothing is open, or write margin_mode = {present.mode}"
            )
        if wanted.leverage is not None and wanted.leverage != present.times:
            yield (
                f"leverage = {wanted.leverage:f}, and {name} has {present.times:f} for {ticker}: set"
                f" {wanted.leverage:f} there, or write leverage = {present.times:f}"
            )

    # the parts

    def _ask(self, request: Callable[[object], object]) -> object:
        return self._wire.read(request, "leverage")

    def _denied(self, spec: OrderSpec, ticker: str) -> str | None:
        """Why the account could not carry the position of an entry, with the numbers."""
        present, currency = self.setting(ticker), self._section.currency
        if wrong := next(self.contradictions(ticker, present), None):
            return wrong
        if present.mode not in ("cross", "isolated") or not present.times:
            return f"{self._venue.name} has {present.mode} margin for {ticker}, and no leverage: set cross margin there"
        price, taker = spec.price or self._prices([ticker])[ticker], number(self.markets[ticker].get("taker"))
        notional = spec.qty * price * self._terms(ticker).value
        needed, free = notional / present.times + notional * taker, self.account().free
        if needed > free:
            return (
                f"{notional:,.2f} {currency} need {needed:,.2f} of margin and fee at leverage {present.times:f}, and"
                f" {free:,.2f} are free"
            )
        if present.mode == "cross" or spec.stop is None:
            return None
        rate = leverage.maintenance(self._ask, self._section.exchange, ticker, present.mode, spec.qty, notional) + taker
        end = leverage.liquidation(spec.side, price, present.times, rate)
        if (spec.stop > end) if spec.side == "BUY" else (spec.stop < end):
            return None
        most = leverage.most(spec.side, price, spec.stop, rate)
        return (
            f"the stop at {price_text(spec.stop)} lies beyond {end:.8g}, where {self._venue.name} liquidates an"
            f" isolated entry at {price_text(price)} with leverage {present.times:f}: set less than {most:.1f} there,"
            " or cross margin"
        )

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
