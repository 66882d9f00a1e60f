"""The orders and trades of one account: sent, cancelled, looked up, and which of them a trigger has sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from alphapivot.brokers.base import (
    Absent,
    Accepted,
    Answer,
    BrokerFill,
    BrokerOrder,
    Duplicate,
    NotSent,
    OrderSpec,
    Ref,
    Rejected,
    Throttled,
    Unknown,
    Unreadable,
)
from alphapivot.brokers.ccxt import names, rows, sending
from alphapivot.brokers.ccxt.rows import Row, Terms, number
from alphapivot.errors import Unavailable
from alphapivot.venues.ccxt import delivery

if TYPE_CHECKING:
    from alphapivot.brokers.ccxt.ledger import Ledger
    from alphapivot.brokers.ccxt.names import Names
    from alphapivot.brokers.ccxt.wire import Wire
    from alphapivot.venues.ccxt.facts import Venue, Way

log = logging.getLogger("alphapivot.brokers")
SINCE = timedelta(seconds=5)  # by which clocks may differ
SOON = timedelta(minutes=1)
SETTLED = "settled"  # why a trade ended: with its contract
LOOKS = (0.5, 1.0, 2.0)  # seconds between looks for an order that was accepted


class Orders:
    """``terms``: of a market; ``markets``: those that are traded."""

    def __init__(
        self,
        venue: Venue,
        way: Way,
        tickers: Names,
        wire: Wire,
        terms: Callable[[str], Terms],
        markets: Callable[[], Sequence[str]],
        ledger: Ledger | None,
        sleep: Callable[[float], None],
    ) -> None:
        self._venue, self._way, self._names, self._wire = venue, way, tickers, wire
        self._terms, self._markets, self._ledger, self._sleep = terms, markets, ledger, sleep
        self._sent: dict[str, datetime] = {}  # our id -> when it was sent by this process
        self._owners: dict[str, str] = {}  # the exchange's id -> ours
        self._children: dict[str, str] = {}  # the id of an order that a trigger sent -> the trigger's

    def send(self, spec: OrderSpec, ticker: str) -> Answer:
        self._sent[spec.client_order_id] = datetime.now(UTC)
        reply = self._wire.send(lambda ccxt: sending.place(ccxt, ticker, spec, self._way, self._theirs(spec)))
        if isinstance(reply, Rejected | Duplicate | Throttled | NotSent | Unknown):
            return reply
        if not isinstance(reply, Mapping) or not reply.get("id"):
            return Unknown(f"{self._venue.name} answered without an order id")
        broker_id = names.order_id(ticker, str(reply["id"]), trigger=sending.is_trigger(spec, self._way))
        self._owners[broker_id] = spec.client_order_id
        return Accepted({spec.client_order_id: broker_id})

    def cancel(self, ref: Ref) -> None:
        if self._ended(ref) is not None or (found := self._row(ref)) is None:
            return
        row, ticker, trigger = found
        if rows.STATES.get(str(row.get("status"))) in rows.FINAL:
            return
        stop = bool(number(row.get("triggerPrice"))) and not number(row.get("filled"))
        params = {**((self._way.trigger or {}) if trigger else {}), **(self._way.cancel_stop if stop else {})}
        self._wire.cancel(lambda ccxt: ccxt.cancel_order(str(row["id"]), ticker, params), ref.client_order_id)

    def listed(self) -> Iterator[BrokerOrder | Unreadable]:
        """What is open, triggers among it."""
        kinds: list[Mapping[str, Any]] = [{}] if self._way.trigger is None else [{}, self._way.trigger]
        for trigger in kinds:
            ask = methodcaller("fetch_open_orders", None, None, self._way.most_open, {**self._way.all, **trigger})
            open_: list[Row] = self._wire.read(ask, "open orders")
            if self._way.most_open is not None and len(open_) >= self._way.most_open:
                most = f"{self._venue.name} lists {len(open_)} open orders at most, and so many are open"
                raise Unavailable(f"{most}: cancel some there")
            for row in open_:
                ticker = str(row["symbol"])
                broker_id = self._id(ticker, str(row["id"]), trigger=bool(trigger))
                name = names.ours(row.get("clientOrderId")) or self._owners.get(broker_id, "")
                yield rows.order(row, name, broker_id, self._names.key(ticker))

    def fills(self, ticker: str, since: datetime) -> Iterator[BrokerFill | Unreadable]:
        """Of one market since an instant, and earlier ones of the same orders."""
        orders: dict[str, list[Row]] = {}
        for trade in self._trades(ticker, since - SINCE):
            orders.setdefault(str(trade.get("order")), []).append(trade)
        known = {*self._owners, *self._children}
        if self._way.triggers and {names.order_id(ticker, order) for order in orders} - known:
            self._learn_children(ticker)
        terms = self._terms(ticker) if orders else None
        for order, recent in orders.items():
            assert terms is not None  # noqa: S101 - there are orders
            broker_id = self._id(ticker, order)
            cut = any(rows.in_coin(row, terms) for row in recent)  # an earlier one may have left a part of a step
            of_order = self._all_of(ticker, order) if cut else recent
            if others := rows.elsewhere(of_order, terms):
                paid = ", ".join(f"{qty:f} {coin}" for coin, qty in others.items())
                log.warning("%s: fees of %s were paid, which this book does not count", terms.key[0], paid)
            yield from rows.fills(of_order, self._owners.get(broker_id, ""), broker_id, terms)

    def look(self, ref: Ref) -> BrokerOrder | Absent | Unreadable:
        """One order as it is now."""
        if ended := self._ended(ref):
            return ended
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

    def _ended(self, ref: Ref) -> BrokerOrder | None:
        """An order in a contract that is listed no more: it ended with it. What it filled is in the positions."""
        known = names.parts(ref.broker_order_id)
        if known is None or not self._names.dated or known[0] in self._markets():
            return None
        broker_id, key = ref.broker_order_id or "", self._names.key(known[0])
        if end := self.delivered.get(broker_id):
            return BrokerOrder(ref.client_order_id, broker_id, "FILLED", end.qty, end.price, SETTLED, end.qty, key)
        told = f"{known[0]} is listed no more"
        return BrokerOrder(ref.client_order_id, broker_id, "EXPIRED", Decimal(0), None, told, key=key)

    @cached_property
    def delivered(self) -> Mapping[str, BrokerFill]:
        """The exchange's id of a stop -> the delivery of its contract, if the account was held to it."""
        if not self._names.dated or self._ledger is None:
            return {}
        gone = [stop for stop in self._ledger.stops() if stop.contract not in self._markets()]
        ask, venue = (lambda request: self._wire.read(request, "deliveries")), self._venue.name.lower()
        ends = {stop.broker_order_id: (stop, delivery.of(ask, venue, stop.contract)) for stop in gone}
        return {name: rows.delivered(stop, told) for name, (stop, told) in ends.items() if told is not None}

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

    def _id(self, ticker: str, order_number: str, *, trigger: bool = False) -> str:
        """As we keep it: an order that a trigger has sent is the trigger's."""
        broker_id = names.order_id(ticker, order_number, trigger=trigger)
        return self._children.get(broker_id, broker_id)

    def _theirs(self, order: OrderSpec | Ref) -> str:
        return names.theirs(order.client_order_id, plain=self._venue.plain_ids)

    def _where(self, name: str) -> Sequence[str]:
        """The markets in which an order may be."""
        sent = self._ledger.sent([name]) if self._ledger is not None else {}
        if name in sent and sent[name].symbol in self._names.tickers:
            return [self._names.ticker((sent[name].symbol, self._names.market, sent[name].contract))]
        return self._markets()

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
        fired = {**row, "status": "open", "filled": None}  # while its order is on the way; ccxt takes it for filled
        if trigger and (sent := self._child(row)):
            self._children[names.order_id(ticker, sent)] = broker_id
            child = self._one(ticker, sent, None, trigger=False)
            if child is None and not self._just_now(row):
                return Unreadable(f"order {sent}, which the stop {name} has sent, cannot be found", broker_id, key)
            row = {**(child or fired), "triggerPrice": row.get("triggerPrice")}
        elif trigger and row.get("status") == "closed":
            row = fired
        kept = None
        if key[1] == "spot" and row.get("side") == "buy" and number(row.get("filled")):
            trades = self._all_of(ticker, str(row["id"]))
            kept = rows.kept(trades, self._terms(ticker))
            if sum(number(t.get("amount")) for t in trades) < number(row["filled"]):
                row = {**row, "status": "open"}  # not all of them are listed yet, nor what their fees leave
        return rows.order(row, name, broker_id, key, kept)

    def _just_now(self, row: Row) -> bool:
        """True if an order changed a moment ago: what followed may not be listed yet."""
        at = row.get("lastUpdateTimestamp") or row.get("timestamp")
        return at is not None and self._wire.now - rows.instant(at) < SOON

    def outlived(self, absent: Sequence[Ref]) -> bool:
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


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
