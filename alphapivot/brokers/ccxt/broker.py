"""
A crypto exchange behind the Broker port, through ccxt: coins, or linear perpetuals.

Client order ids are unique among open orders only, so an order that cannot be found may be sent again only where the
exchange carries a request out within seconds or never, and they have passed (``Way.expires``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Account,
    Answer,
    BrokerFill,
    BrokerOrder,
    Caps,
    CashFlow,
    Duplicate,
    Hours,
    Key,
    NotSent,
    OrderSpec,
    Ref,
    Rejected,
    Throttled,
    Unknown,
    Unreadable,
)
from alphapivot.brokers.ccxt import access, cash, money, names, rows, sending
from alphapivot.brokers.ccxt.rows import Row, Terms, number
from alphapivot.errors import TradingHalted, Unavailable

if TYPE_CHECKING:
    from alphapivot.brokers.ccxt.ledger import Ledger
    from alphapivot.brokers.ccxt.names import Names
    from alphapivot.brokers.ccxt.wire import Wire
    from alphapivot.config.sections.brokers import CcxtBroker
    from alphapivot.venues.ccxt.facts import Venue, Way

log = logging.getLogger("alphapivot.brokers")
ANSWERS = (Rejected, Duplicate, Throttled, NotSent, Unknown)
SINCE = timedelta(seconds=5)  # by which clocks may differ
LOOKS = (0.5, 1.0, 2.0)  # seconds between looks for an order that was accepted


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
        self._ledger, self._sleep = ledger, sleep
        self._way: Way = venue.ways[section.trades]
        self._begun = datetime.now(UTC)
        self._sent: dict[str, datetime] = {}  # our id -> when it was sent by this process
        self._owners: dict[str, str] = {}  # the exchange's id -> ours
        self._children: dict[str, str] = {}  # the id of an order that a trigger sent -> the trigger's
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
        found = []
        for row in self._listed():
            ticker, trigger = str(row["symbol"]), bool(row.get("of_trigger"))
            broker_id = names.order_id(ticker, str(row["id"]), trigger=trigger)
            broker_id = self._children.get(broker_id, broker_id)
            name = names.ours(row.get("clientOrderId")) or self._owners.get(broker_id, "")
            found.append(rows.order(row, name, broker_id, self._names.key(ticker)))
        return [o for o in found if isinstance(o, Unreadable) or o.state not in rows.FINAL]

    def find(self, refs: Sequence[Ref], since: datetime) -> Mapping[str, BrokerOrder | Absent | Unreadable]:  # noqa: ARG002 - orders are asked for by their ids
        found: dict[str, BrokerOrder | Absent | Unreadable] = {ref.client_order_id: self._look(ref) for ref in refs}
        absent = [ref for ref in refs if isinstance(found[ref.client_order_id], Absent)]
        if absent and self._outlived(absent):
            found |= {ref.client_order_id: self._look(ref) for ref in absent}
        return found

    def fills(self, since: datetime) -> Sequence[BrokerFill | Unreadable]:
        told: list[BrokerFill | Unreadable] = []
        for symbol, ticker in self._names.tickers.items():
            trades = list(self._trades(ticker, since - SINCE))
            orders: dict[str, list[Row]] = {}
            for trade in trades:
                orders.setdefault(str(trade.get("order")), []).append(trade)
            known = {*self._owners, *self._children}
            if self._way.triggers and {names.order_id(ticker, order) for order in orders} - known:
                self._learn_children(ticker)
            terms = self._terms(ticker)
            for order, recent in orders.items():
                broker_id = names.order_id(ticker, order)
                broker_id = self._children.get(broker_id, broker_id)
                cut = any(rows.in_coin(row, terms) for row in recent)  # an earlier one may have left a part of a step
                of_order = self._all_of(ticker, order) if cut else recent
                if others := rows.elsewhere(of_order, terms):
                    paid = ", ".join(f"{qty:f} {coin}" for coin, qty in others.items())
                    log.warning("%s: fees of %s were paid, which this book does not count", symbol, paid)
                told += rows.fills(of_order, self._owners.get(broker_id, ""), broker_id, terms)
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
        self._sent[spec.client_order_id] = datetime.now(UTC)
        reply = self._wire.send(lambda ccxt: sending.place(ccxt, ticker, spec, self._way, self._theirs(spec)))
        if isinstance(reply, ANSWERS):
            return reply
        if not isinstance(reply, Mapping) or not reply.get("id"):
            return Unknown(f"{self._venue.name} answered without an order id")
        broker_id = names.order_id(ticker, str(reply["id"]), trigger=sending.is_trigger(spec, self._way))
        self._owners[broker_id] = spec.client_order_id
        return Accepted({spec.client_order_id: broker_id})

    def replace(self, ref: Ref, spec: OrderSpec) -> Answer:  # noqa: ARG002 - caps.atomic_replace is False
        return Rejected("orders are not replaced at crypto exchanges")

    def cancel(self, ref: Ref) -> None:
        if (found := self._row(ref)) is None:
            return
        row, ticker, trigger = found
        if rows.STATES.get(str(row.get("status"))) in rows.FINAL:
            return
        stop = bool(number(row.get("triggerPrice"))) and not number(row.get("filled"))
        params = {**((self._way.trigger or {}) if trigger else {}), **(self._way.cancel_stop if stop else {})}
        self._wire.cancel(lambda ccxt: ccxt.cancel_order(str(row["id"]), ticker, params), ref.client_order_id)

    # the parts

    def _too_small(self, spec: OrderSpec, ticker: str) -> str | None:
        market = self.markets.get(ticker)
        if market is None:
            return f"{self._venue.name} has no market {ticker}"
        priced = spec.price is not None or spec.leg != "ENTRY" or not sending.has_least_cost(market)
        last = spec.price if priced else self._prices([ticker])[ticker]
        return sending.too_small(spec, market, last)

    def _look(self, ref: Ref) -> BrokerOrder | Absent | Unreadable:
        """One order as it is now."""
        found = self._row(ref)
        if found is not None:
            row, ticker, trigger = found
            return self._read(row, ref.client_order_id, ticker, trigger=trigger)
        if (known := names.parts(ref.broker_order_id)) is None:
            return Absent()
        if self._way.forgets and not known[2] and not self._all_of(known[0], known[1]):
            return rows.forgotten(ref.client_order_id, ref.broker_order_id or "", self._names.key(known[0]))
        told = f"order {ref.client_order_id}: {self._venue.name} gave it the id {known[1]} and knows it no more"
        return Unreadable(told, ref.broker_order_id, self._names.key(known[0]))

    def _row(self, ref: Ref) -> tuple[Row, str, bool] | None:
        """The exchange's order, its market, and whether it is a trigger; by its id if that is known, else by ours."""
        if known := names.parts(ref.broker_order_id):
            ticker, order_number, trigger = known
            for wait in (*(LOOKS if ref.client_order_id in self._sent else ()), None):
                if row := self._one(ticker, order_number, None, trigger=trigger):
                    return row, ticker, trigger
                if wait is not None:  # it was accepted a moment ago, and is not listed yet
                    self._sleep(wait)
            return None
        trigger = ref.leg == "STOP" and self._way.triggers
        for ticker in self._where(ref.client_order_id):
            if row := self._one(ticker, None, self._theirs(ref), trigger=trigger):
                return row, ticker, trigger
        return None

    def _theirs(self, order: OrderSpec | Ref) -> str:
        return names.theirs(order.client_order_id, plain=self._venue.plain_ids)

    def _where(self, name: str) -> Sequence[str]:
        """The markets in which an order may be."""
        sent = self._ledger.sent([name]) if self._ledger is not None else {}
        if name in sent and sent[name].symbol in self._names.tickers:
            return [self._names.tickers[sent[name].symbol]]
        return list(self._names.tickers.values())

    def _one(self, ticker: str, order_number: str | None, name: str | None, *, trigger: bool) -> Row | None:
        what = f"order {order_number or name}"
        if self._way.lists is not None:
            theirs, our = self._way.lists
            asked = {our: name} if order_number is None else {theirs: order_number}
            open_ = methodcaller("fetch_open_orders", ticker, None, None, asked)
            ended = methodcaller("fetch_canceled_and_closed_orders", ticker, None, None, asked)
            listed: list[Row] = self._wire.read(open_, what) or self._wire.read(ended, what)
            return listed[-1] if listed else None
        params = {**self._way.one, **((self._way.trigger or {}) if trigger else {})}
        if order_number is None:
            params["clientOrderId"] = name
        return self._wire.found(methodcaller("fetch_order", order_number, ticker, params), what)

    def _read(self, row: Row, name: str, ticker: str, *, trigger: bool) -> BrokerOrder | Unreadable:
        """An order as it is now: one that a trigger has sent in its place, and of a purchase what is kept."""
        broker_id, key = names.order_id(ticker, str(row["id"]), trigger=trigger), self._names.key(ticker)
        self._owners[broker_id] = name
        if trigger and (sent := self._child(row)):
            self._children[names.order_id(ticker, sent)] = broker_id
            child = self._one(ticker, sent, None, trigger=False)
            if child is None:
                return Unreadable(f"order {sent}, which the stop {name} has sent, cannot be found", broker_id, key)
            row = {**child, "triggerPrice": row.get("triggerPrice")}
        kept = None
        if self._spot and row.get("side") == "buy" and number(row.get("filled")):
            kept = rows.kept(self._all_of(ticker, str(row["id"])), self._terms(ticker))
        return rows.order(row, name, broker_id, key, kept)

    def _outlived(self, absent: Sequence[Ref]) -> bool:
        """Waits until the requests of ``absent`` cannot be carried out any more; False if there was nothing to wait."""
        if self._way.expires is None:
            return False
        ids = [ref.client_order_id for ref in absent]
        sent = {} if self._ledger is None else {i: s.at for i, s in self._ledger.sent(ids).items()}
        last = max({**sent, **{i: at for i, at in self._sent.items() if i in ids}}.values(), default=None)
        if last is None:
            return False
        left = (last - datetime.now(UTC)).total_seconds() + self._way.expires
        if left <= 0:
            return False
        self._sleep(left)
        return True

    def _listed(self) -> Iterator[Row]:
        yield from self._wire.read(
            lambda ccxt: ccxt.fetch_open_orders(None, None, None, dict(self._way.all)), "open orders"
        )
        if self._way.triggers:
            params = {**self._way.all, **(self._way.trigger or {})}
            for row in self._wire.read(lambda ccxt: ccxt.fetch_open_orders(None, None, None, params), "triggers"):
                yield {**row, "of_trigger": True}

    def _learn_children(self, ticker: str) -> None:
        """Which orders were sent by which triggers, of the last days: after a restart nothing is remembered."""
        params = dict(self._way.trigger or {})
        for row in self._wire.read(methodcaller(self._way.fired, ticker, None, None, params), "triggers"):
            if sent := self._child(row):
                trigger = names.order_id(ticker, str(row["id"]), trigger=True)
                self._children[names.order_id(ticker, sent)] = trigger

    def _child(self, trigger: Row) -> str:
        """The order that a trigger has sent; empty if none."""
        told = [(trigger.get("info") or {}).get(name) for name in self._way.child]
        sent = [str(value[0] if isinstance(value, list) else value) for value in told if value]
        return next((number for number in sent if number != "0"), "")

    def _trades(self, ticker: str, since: datetime) -> Iterator[Row]:
        """Trades of a market since an instant, each once; a time with more of them than fit an answer is halved."""
        seen: set[Any] = set()
        begin, most = _ms(since), self._way.page
        step = None if self._way.span is None else self._way.span // timedelta(milliseconds=1)
        while True:
            now = _ms(self._wire.now)
            until = begin + step if step is not None and begin + step < now else None
            page = self._page(ticker, begin, until)
            yield from (row for row in page if row["id"] not in seen)
            seen |= {row["id"] for row in page}
            if len(page) >= most:
                last = max(int(row["timestamp"]) for row in page)
                if step == 1 or (step is None and last == begin):
                    raise Unavailable(
                        f"{ticker} has more trades in a millisecond than {self._venue.name} tells at once"
                    )
                begin = begin if step is not None else last
                step = None if step is None else max(((until or now) - begin) // 2, 1)
            elif until is None:
                return
            else:
                begin = until + 1

    def _page(self, ticker: str, begin: int, until: int | None) -> list[Row]:
        params: dict[str, Any] = {} if until is None else {"until": until}
        page: list[Row] = self._wire.read(
            lambda ccxt: ccxt.fetch_my_trades(ticker, begin, self._way.page, params), "trades"
        )
        return page

    def _all_of(self, ticker: str, order_number: str) -> list[Row]:
        trades: list[Row] = self._wire.read(lambda ccxt: ccxt.fetch_order_trades(order_number, ticker), "trades")
        return trades

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


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
