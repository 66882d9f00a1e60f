"""
A small IB Gateway on a local port: the socket protocol (length-prefixed, NUL-separated fields), its order handling, and
faults on the wire.

It behaves as the real one is documented and reported to, also where that is inconvenient:

- An order is at IB once openOrder and orderStatus say so, with a permId; children of a bracket wait with whyHeld
  ``child``, stops with ``trigger`` (interactivebrokers.github.io/tws-api/order_submission.html, classIBApi EWrapper).
- Nothing is sent to the exchange before ``transmit``: a bracket's last leg transmits all
  (interactivebrokers.github.io/tws-api/bracket_order.html).
- An order's error need not be its end: with ``errors`` [(code, text, "lives")] it works on (ib_async issue 191;
  pysystemtrade issue 1580: 15 orders that the client called cancelled all filled).
- Executions and completed orders are those of the current day only; ``night()`` forgets them
  (interactivebrokers.github.io/tws-api/executions_commissions.html).
- A corrected execution comes again with another number after its last dot; its commission comes later than it (same).
- A client id in use: error 326 and the connection is closed (interactivebrokers.github.io/tws-api/message_codes.html).
- Two orders with the same orderRef are two orders.
- placeOrder with the number of a working order of the same client changes its price and size, nothing else, and it
  keeps its permId (interactivebrokers.github.io/tws-api/modifying_orders.html). One that still names a parent which has
  filled is refused, error 135, and works on as it was (ib_insync issue 647); one that has ended: error 104.
- Details of an expired future come only with includeExpired, and for two years (ib_insync issues 43 and 54;
  interactivebrokers.github.io/tws-api/historical_limitations.html, unavailable historical data). The month of a
  contract's last trade need not be that of its name: crude oil of December ends in November.
- Historical bars are stamped at their start, days as a date without a time, others in seconds (formatDate 2); the bar
  in progress comes too; a duration of days counts sessions (interactivebrokers.github.io/tws-api/historical_bars.html).
- Too many requests, or the same one again: error 162 "pacing violation"; too long a duration for the size: 162 too
  (historical_limitations.html). No bars: error 162 "HMDS query returned no data" (Lean issue 4344). No subscription:
  162 "No market data permissions for CME FUT" (ib_insync issues 234 and 461, pysystemtrade issue 289).
- A what-if order is never sent: openOrder says what it would do to the margin. One without values may come before it
  (ib_insync issue 380); too little equity may also be error 201 in IB's own words (``what_if_errors``; issue 704).
- For some months it never answers, whatever the time-out (ib_insync issue 687): ``silent_bars``.
"""

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import ClassVar

VERSION = 176
PLACE, WHAT_IF = 3, 84  # a request, and which of its fields
UNSET, NONE = "1.7976931348623157E308", 2147483647  # no value, as a double and as a whole number
D = Decimal
COMMISSION = D("0.35")
NOTHING = D(0)
ALWAYS = "20000101:0000-20991231:2359"  # hours
WORKS = ("PreSubmitted", "Submitted")
LONGEST = {"1 min": 1, "5 mins": 7, "15 mins": 7, "30 mins": 31, "1 hour": 31, "1 day": 365}  # days of one request


@dataclass
class Contract:
    con_id: int
    symbol: str
    kind: str = "STK"
    exchange: str = "SMART"
    currency: str = "USD"
    month: str = ""
    multiplier: str = ""
    local: str = ""
    tick: str = "0.01"
    magnifier: int = 1
    zone: str = "UTC"
    hours: str = ""
    delivery: str = ""  # the month of its name, if not that of ``month``
    trading_class: str = ""
    primary: str = "NASDAQ"
    bars: dict = field(default_factory=dict)  # size -> rows of (start, open, high, low, close, volume)

    def fields(self, exchange=None):
        return [
            self.con_id, self.symbol, self.kind, self.month, "0.0", "", self.multiplier,
            exchange or self.exchange, self.currency, self.local or self.symbol, self.trading_class or self.symbol,
        ]  # fmt: skip

    def gone(self, now):
        return self.kind == "FUT" and self.month < f"{now:%Y%m%d}"

    def forgotten(self, now):
        return self.kind == "FUT" and self.month < f"{now - timedelta(days=731):%Y%m%d}"

    @property
    def unit(self):
        return D(self.multiplier or 1) / self.magnifier


@dataclass
class Order:
    number: int
    client: int
    perm_id: int
    contract: Contract
    side: str
    qty: Decimal
    kind: str
    limit: str
    aux: str
    tif: str
    group: str
    ref: str
    transmit: bool
    parent: int
    outside: bool
    status: str = ""
    filled: Decimal = NOTHING
    paid: Decimal = NOTHING
    live_from: int = 0

    @property
    def why(self):
        if self.status != "PreSubmitted":
            return ""
        return "child" if self.parent else "trigger" if self.kind == "STP" else ""


class Gateway:
    """``errors``: what the next orders are told instead of being taken: (code, text) or (code, text, "lives")."""

    def __init__(self, account="DU1234567", accounts=None, currency="USD"):
        self.currency, self.received, self.amended = currency, [], []
        self.account, self.accounts = account, accounts or [account]
        self.contracts, self.orders, self.completed, self.executions, self.positions = [], {}, [], [], {}
        self.prices, self.cash, self.clients, self.requests, self.errors = {}, D(100_000), {}, [], []
        self.history, self.bar_errors, self.silent_bars = [], {}, []
        self.silent, self.drop, self.mute_orders, self.open = set(), None, False, True
        self.cut_off = False  # from Interactive Brokers' servers
        self.what_if_errors, self.shares = [], {"STK": D("0.25"), "FUT": D("0.1")}  # kind -> margin, of the notional
        self.clock, self.next_perm, self.next_exec, self.moves = lambda: datetime.now(UTC), 9001, 1, 0
        self.lock = threading.RLock()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for client in list(self.clients.values()):
            client.hang_up()

    def add(self, contract):
        self.contracts.append(contract)
        return contract

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=Client(self, connection).serve, daemon=True).start()

    def too_fast(self, now, asked):
        """60 requests in ten minutes, the same one within 15 s, six of one contract within 2 s."""
        ages = [((now - at).total_seconds(), other) for at, other in self.history[:-1]]
        return (
            sum(age < 600 for age, _ in ages) >= 60
            or any(age < 15 and other == asked for age, other in ages)
            or sum(age < 2 and other[0] == asked[0] for age, other in ages) >= 5
        )

    # the market

    def move(self, symbol, price, at=None, most=None):
        """One trade at ``price``: what it reaches fills, at it, at most ``most`` of each order."""
        with self.lock:
            self.moves += 1
            if at is not None:
                self.clock = lambda: at
            for contract in self.contracts:
                if contract.symbol == symbol:
                    self.prices[contract.con_id] = D(price)
            done = set()
            while reached := [
                order
                for order in self.orders.values()
                if order.contract.symbol == symbol and order.perm_id not in done and self._reaches(order, D(price))
            ]:
                done.add(reached[0].perm_id)
                left = reached[0].qty - reached[0].filled
                self.fill(reached[0], left if most is None else min(left, D(most)), D(price))

    def _reaches(self, order, price):
        if order.status not in WORKS or order.parent or not self.open:
            return False
        buys = order.side == "BUY"
        if order.kind == "LMT":
            return price <= D(order.limit) if buys else price >= D(order.limit)
        if order.kind == "STP":
            return price >= D(order.aux) if buys else price <= D(order.aux)
        return order.live_from < self.moves

    def fill(self, order, qty, price, ref=None):
        """An execution; its commission follows."""
        with self.lock:
            number, self.next_exec = self.next_exec, self.next_exec + 1
            execution = {
                "order": order, "id": f"0000e0d5.{number:08x}.01", "qty": qty, "price": price, "at": self.clock(),
                "ref": order.ref if ref is None else ref,
            }  # fmt: skip
            self.executions.append(execution)
            order.filled, order.paid = order.filled + qty, order.paid + qty * price
            sign = 1 if order.side == "BUY" else -1
            key = order.contract.con_id
            before, notional = self.positions.get(key, (D(0), D(0)))
            self.positions[key] = before + sign * qty, notional + sign * qty * price * order.contract.unit
            if order.contract.kind == "STK":
                self.cash -= sign * qty * price
            self.cash -= COMMISSION
            for client in self.clients.values():
                client.execution(execution, -1)
            if order.filled == order.qty:
                self.end(order, "Filled")
                for child in [o for o in self.orders.values() if o.parent == order.number and o.client == order.client]:
                    child.parent = 0
                    self._tell(child)
                for sibling in list(self.orders.values()):
                    if order.group and sibling.group == order.group and sibling is not order:
                        self.end(sibling, "Cancelled")
            else:
                self._tell(order)

    def correct(self, number, price):
        """IB's correction of an execution: the same id with another number at its end."""
        was = self.executions[number]
        self.executions.append(was | {"id": was["id"][:-2] + "02", "price": D(price)})

    def end(self, order, status):
        order.status = status
        self.orders.pop(order.perm_id, None)
        self.completed.append(order)
        self._tell(order)

    def settle(self, contract, price):
        """
        The end of a cash-settled future: orders in it end, its position goes to cash. No execution is reported, as the
        documentation names none (interactivebrokers.github.io/tws-api/executions_commissions.html), and traders book
        the end by hand (pysystemtrade issue 916).
        """
        with self.lock:
            for order in [o for o in self.orders.values() if o.contract is contract]:
                self.end(order, "Cancelled")
            qty, notional = self.positions.pop(contract.con_id, (D(0), D(0)))
            self.cash += qty * D(price) * contract.unit - notional

    def night(self):
        """The nightly reset: every client is disconnected, and the day's orders and executions are forgotten."""
        with self.lock:
            self.completed, self.executions = [], []
            for client in list(self.clients.values()):
                client.hang_up()

    def by_hand(self, contract, side, qty, price=1, ref=""):
        """An order from TWS itself, of client 0."""
        price = str(price)
        order = Order(-7, 0, self.next_perm, contract, side, D(qty), "LMT", price, "", "GTC", "", ref, True, 0, False)
        self.next_perm += 1
        order.status = "Submitted"
        self.orders[order.perm_id] = order
        return order

    def _tell(self, order):
        for client in self.clients.values():
            if client.id == order.client and not self.mute_orders:
                client.order(order)
                client.status(order)

    def margin_of(self, contract, qty, price):
        return abs(qty) * price * contract.unit * self.shares[contract.kind]

    @property
    def used(self):
        """The initial margin of what is open."""
        held = [(next(c for c in self.contracts if c.con_id == n), qty) for n, (qty, _) in self.positions.items()]
        return sum((self.margin_of(c, qty, self.prices.get(c.con_id, D(0))) for c, qty in held), D(0))

    @property
    def equity(self):
        """Cash, shares at the market, and the profit of futures since they were opened."""
        total = self.cash
        for con_id, (qty, notional) in self.positions.items():
            contract = next(c for c in self.contracts if c.con_id == con_id)
            value = qty * self.prices.get(con_id, D(0)) * contract.unit
            total += value if contract.kind == "STK" else value - notional
        return total

    # orders

    def place(self, client, fields):
        number, con_id = int(fields[0]), int(fields[1])
        known = [c for c in self.contracts if c.con_id == con_id]
        mine = [o for o in (*self.orders.values(), *self.completed) if (o.client, o.number) == (client.id, number)]
        if mine:
            self.amend(client, mine[0], fields)
            return
        if self.errors and (len(self.errors[0]) == 2):
            code, text = self.errors.pop(0)
            client.error(number, code, text)
            return
        order = Order(
            number, client.id, self.next_perm, known[0], fields[15], D(fields[16]), fields[17], fields[18], fields[19],
            fields[20], fields[21], fields[25], fields[26] == "1", int(fields[27]), fields[32] == "1",
        )  # fmt: skip
        self.next_perm += 1
        self.received.append(order)
        client.waiting.append(order)
        if not order.transmit:
            return
        for sent in client.waiting:
            sent.status, sent.live_from = ("Submitted" if sent.kind != "STP" else "PreSubmitted"), self.moves
            if sent.parent:
                sent.status = "PreSubmitted"
            if not self.open and sent.kind == "MKT":
                sent.status = "PreSubmitted"
            self.orders[sent.perm_id] = sent
            self._tell(sent)
            if self.errors:
                code, text, _ = self.errors.pop(0)
                client.error(sent.number, code, text)
        client.waiting = []

    def amend(self, client, order, fields):
        """The same number again: another price and size of an order that works."""
        parents = {o.number for o in self.orders.values() if o.client == client.id}
        error = self.errors.pop(0) if self.errors else None
        if order.perm_id not in self.orders:
            error = (104, "Cannot modify a filled order.")
        elif int(fields[27]) and int(fields[27]) not in parents:
            error = (135, f"Can't find order with id = {fields[27]}")
        if error is not None:
            client.error(order.number, *error[:2])
            if len(error) == 2:
                return
        assert (order.contract.con_id, order.side, order.kind, order.tif) == (
            int(fields[1]), fields[15], fields[17], fields[20],
        )  # fmt: skip
        self.amended.append((order.perm_id, fields[16], fields[18], fields[19]))
        order.qty, order.limit, order.aux = D(fields[16]), fields[18], fields[19]
        self._tell(order)

    def cancel(self, client, number):
        for order in list(self.orders.values()):
            if order.client == client.id and order.number == number:
                self.end(order, "Cancelled")
                client.error(number, 202, "Order Canceled - reason:")
                for child in [o for o in self.orders.values() if o.parent == number and o.client == client.id]:
                    self.end(child, "Cancelled")
                return
        client.error(number, 10147, f"OrderId {number} that needs to be cancelled is not found.")


class Client:
    """One connection."""

    def __init__(self, server, connection):
        self.server, self.connection, self.id, self.waiting = server, connection, None, []

    def hang_up(self):
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def send(self, *fields):
        body = "".join(f"{value}\0" for value in fields).encode()
        with suppress(OSError):
            self.connection.sendall(struct.pack(">I", len(body)) + body)

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def message(self):
        return self.read(struct.unpack(">I", self.read(4))[0]).decode()

    def serve(self):
        try:
            assert self.read(4) == b"API\0"
            self.message()
            if "login" in self.server.silent:
                threading.Event().wait(30)
            self.send(VERSION, self.server.clock().strftime("%Y%m%d %H:%M:%S UTC"))
            while True:
                fields = self.message().split("\0")[:-1]
                with self.server.lock:
                    self.handle(int(fields[0]), fields[1:])
        except (OSError, ConnectionError, struct.error):
            pass
        finally:
            if self.server.clients.get(self.id) is self:
                del self.server.clients[self.id]
            self.hang_up()

    def handle(self, kind, fields):
        self.server.requests.append(kind)
        if kind == PLACE and fields[WHAT_IF] == "1":
            self.what_if(fields)
        elif kind not in self.server.silent and kind in self.ANSWERS:
            self.ANSWERS[kind](self, kind, fields)

    def start(self, _, fields):
        self.begin(int(fields[1]))

    def positions(self, *_):
        server = self.server
        for con_id, (qty, notional) in server.positions.items():
            contract = next(c for c in server.contracts if c.con_id == con_id)
            if qty:
                self.send(61, 3, server.account, *contract.fields(), qty, notional / qty)
        self.send(62, 1)

    def open_orders(self, kind, _):
        for order in self.server.orders.values():
            if kind == 16 or order.client == self.id:
                self.order(order)
                self.status(order)
        self.send(53, 1)

    def completed_orders(self, *_):
        for order in self.server.completed:
            self.completed(order)
        self.send(102)

    def executions(self, _, fields):
        for execution in self.server.executions:
            self.execution(execution, int(fields[1]))
        self.send(55, 1, fields[1])

    def values_asked(self, *_):
        self.values()

    def time(self, *_):
        self.send(49, 1, int(self.server.clock().timestamp()))

    def contract(self, _, fields):
        self.details(fields)

    def bars(self, _, fields):
        request, con_id, expired, end, size, duration = fields[0], int(fields[1]), fields[13], *fields[14:17]
        server, (regular, what, dates) = self.server, fields[17:20]
        contract = next((c for c in server.contracts if c.con_id == con_id), None)
        asked = (contract and (contract.local or contract.symbol), end, size, duration, regular, what)
        now = server.clock()
        server.history.append((now, asked))
        if contract in server.silent_bars:
            return
        if contract is None or (contract.gone(now) and (expired != "1" or contract.forgotten(now))):
            self.error(request, 200, "No security definition has been found for the request")
            return
        for code, text in server.bar_errors.get(contract.local or contract.symbol, []):
            self.error(request, code, text)
            if code not in (165, 10167, 2105):
                return
        said = "Historical Market Data Service error message:"
        count, unit = duration.split()
        if unit != "D" or int(count) > LONGEST[size]:
            self.error(request, 162, f"{said}Time length exceed max.")
            return
        if server.too_fast(now, asked):
            self.error(request, 162, f"{said}Historical data request pacing violation")
            return
        until = datetime.strptime(end, "%Y%m%d %H:%M:%S UTC").replace(tzinfo=UTC)
        rows = [row for row in contract.bars.get(size, []) if row[0] < until]
        days = sorted({row[0].date() for row in rows})[-int(count) :]
        rows = [row for row in rows if row[0].date() in days]
        if not rows:
            self.error(request, 162, f"{said}HMDS query returned no data: {contract.local}@{contract.exchange} Trades")
            return
        stamp = (lambda at: f"{at:%Y%m%d}") if size == "1 day" else (lambda at: int(at.timestamp()))
        assert (regular, what, dates) == ("1" if contract.kind == "STK" else "0", "TRADES", "2")
        flat = [value for at, *rest in rows for value in (stamp(at), *rest, "0.0", 7)]
        self.send(17, request, "20260101 00:00:00 UTC", end, len(rows), *flat)

    def what_if(self, fields):
        server, number = self.server, int(fields[0])
        if "what if" in server.silent:
            return
        if server.what_if_errors:
            self.error(number, *server.what_if_errors.pop(0))
            return
        contract = next(c for c in server.contracts if c.con_id == int(fields[1]))
        sign, last = (1 if fields[15] == "BUY" else -1), server.prices.get(contract.con_id, D(0))
        order = Order(
            number, self.id, 0, contract, fields[15], D(fields[16]), fields[17], fields[18], fields[19], fields[20], "",
            "", True, 0, False, status="PreSubmitted",
        )  # fmt: skip
        self.order(order, what_if=[UNSET] * 9)
        held, equity, used = server.positions.get(contract.con_id, (D(0), D(0)))[0], server.equity, server.used
        price = D(fields[18]) if fields[18] and D(fields[18]) < D(UNSET) else last
        after = (
            used - server.margin_of(contract, held, last) + server.margin_of(contract, held + sign * order.qty, price)
        )
        told = [used, used, equity, after - used, after - used, 0, after, after, equity]
        self.order(order, what_if=[f"{value:.2f}" for value in told])

    def place(self, _, fields):
        server = self.server
        if server.drop == "before":
            server.drop = None
            self.hang_up()
            return
        server.place(self, fields)
        if server.drop == "after" and not self.waiting:
            server.drop = None
            self.hang_up()

    def cancel(self, _, fields):
        self.server.cancel(self, int(fields[1]))

    ANSWERS: ClassVar = {
        3: place, 4: cancel, 5: open_orders, 6: values_asked, 7: executions, 9: contract, 16: open_orders, 20: bars,
        49: time, 61: positions, 71: start, 99: completed_orders,
    }  # fmt: skip

    def begin(self, client_id):
        if client_id in self.server.clients:
            self.error(-1, 326, "Unable to connect as the client id is already in use. Retry with a unique client id.")
            self.hang_up()
            return
        self.id = client_id
        self.server.clients[client_id] = self
        numbers = [o.number for o in [*self.server.orders.values(), *self.server.completed]]
        self.send(15, 1, ",".join(self.server.accounts))
        self.send(9, 1, max(numbers, default=0) + 1)
        self.error(-1, 2104, "Market data farm connection is OK:usfarm")
        if self.server.cut_off:
            self.error(-1, 2110, "Connectivity between TWS and server is broken. It will be restored automatically.")

    def error(self, number, code, text):
        self.send(4, 2, number, code, text, "")

    def values(self):
        server = self.server
        equity = server.equity
        for tag, value in (
            ("NetLiquidation", equity),
            ("AvailableFunds", equity - server.used),
            ("TotalCashValue", server.cash),
        ):
            self.send(6, 2, tag, f"{value:.2f}", server.currency, server.account)
        self.send(6, 2, "NetLiquidation", f"{equity:.2f}", "BASE", server.account)
        for con_id, (qty, notional) in server.positions.items():
            contract = next(c for c in server.contracts if c.con_id == con_id)
            price = server.prices.get(con_id, D(0))
            row = [contract.con_id, contract.symbol, contract.kind, contract.month, "0.0", "", contract.multiplier]
            row += [contract.exchange, contract.currency, contract.local or contract.symbol, contract.symbol]
            average = notional / qty if qty else 0
            value = qty * price * contract.unit
            self.send(7, 8, *row, qty, price, f"{value:.2f}", average, f"{value - notional:.2f}", "0.0", server.account)
        self.send(8, 1, server.clock().strftime("%H:%M"))
        self.send(54, 1, server.account)

    def status(self, order):
        average = order.paid / order.filled if order.filled else 0
        left = order.qty - order.filled
        ids = [order.perm_id, order.parent, 0, order.client]
        self.send(3, order.number, order.status, order.filled, left, average, *ids, order.why, 0)

    def head(self, order):
        return [order.side, order.qty, order.kind, order.limit or "0.0", order.aux or "0.0", order.tif, order.group,
                self.server.account, "", 0, order.ref]  # fmt: skip

    def order(self, order, what_if=None):
        values = [UNSET] * 9 if what_if is None else what_if  # margins before, their change, after
        head = [*order.contract.fields(), *self.head(order), order.client, order.perm_id, int(order.outside)]
        self.send(
            5, order.number, *head,
            0, "0.0", *[""] * 6,  # hidden .. faProfile
            "", "", "", UNSET, "", 0, "", -1, 0, *[UNSET] * 5, NONE,  # modelCode .. displaySize
            0, 0, 0, NONE, 3, 0, 0, UNSET, order.parent, 0, UNSET, 0, "", UNSET,  # blockOrder .. deltaNeutralAuxPrice
            0, 0, UNSET, UNSET, UNSET, NONE, "", 0, 0, 0,  # continuousUpdate .. smart routing
            NONE, NONE, UNSET, "", 0, "", "", 0, 0, "",  # scale .. algoStrategy
            0, int(what_if is not None), order.status, *values, *[UNSET] * 3, "", "", 0, 0, 0,  # .. conditions
            "None", *[UNSET] * 6, 0, "", "", "", UNSET, 0, 0, 0, 0,  # adjustedOrderType .. usePriceMgmtAlgo
            NONE, NONE, 0, NONE, NONE, UNSET, UNSET, UNSET,
        )  # fmt: skip

    def completed(self, order):
        head = [*order.contract.fields(), *self.head(order), order.perm_id, int(order.outside)]
        self.send(
            101, *head,
            0, "0.0", *[""] * 5,  # hidden .. faProfile
            "", "", "", UNSET, "", 0, "", -1, *[UNSET] * 5, NONE,  # modelCode .. displaySize
            0, 0, NONE, 3, 0, UNSET, 0, "", UNSET,  # sweepToFill .. deltaNeutralAuxPrice
            0, 0, UNSET, UNSET, "", 0, 0, 0,  # continuousUpdate .. smart routing
            NONE, NONE, UNSET, "", "", "", 0, 0, "",  # scale .. algoStrategy
            0, order.status, 0, 0, 0,  # solicited .. conditions
            UNSET, UNSET, UNSET, 0, 0, "", order.filled, 0, 0, "", 0, 0, 0, "", order.status,
            NONE, NONE, UNSET, UNSET, UNSET,
        )  # fmt: skip

    def execution(self, execution, request):
        order = execution["order"]
        self.send(
            11, request, order.number, *order.contract.fields(), execution["id"],
            execution["at"].strftime("%Y%m%d %H:%M:%S UTC"), self.server.account, order.contract.exchange,
            "BOT" if order.side == "BUY" else "SLD", execution["qty"], execution["price"], order.perm_id, order.client,
            0, order.filled, order.paid / order.filled, execution["ref"], "", "", "", 1,
        )  # fmt: skip
        self.send(59, 1, execution["id"], COMMISSION, "USD", UNSET, UNSET, "")

    def details(self, fields):
        request, con_id, symbol, kind, month, exchange, currency, primary, trading_class, expired = (
            *fields[1:6], fields[9], fields[11], fields[10], *fields[13:15],
        )  # fmt: skip
        now = self.server.clock()
        found = [
            c for c in self.server.contracts
            if (c.symbol, c.kind, c.currency) == (symbol, kind, currency) and (c.delivery or c.month).startswith(month)
            and (con_id in ("0", str(c.con_id))) and exchange in (c.exchange, "SMART")
            and (not c.gone(now) or (expired == "1" and not c.forgotten(now)))
            and trading_class in ("", c.trading_class or c.symbol) and (kind == "FUT" or primary in ("", c.primary))
        ]  # fmt: skip
        if not found:
            self.error(request, 200, "No security definition has been found for the request")
            return
        for c in found:
            self.send(
                10, request, c.symbol, c.kind, c.month, "0.0", "", c.exchange, c.currency, c.local or c.symbol,
                c.symbol, c.trading_class or c.symbol, c.con_id, c.tick, c.multiplier, "LMT,MKT,STP", c.exchange,
                c.magnifier, 0, c.symbol, "" if c.kind == "FUT" else c.primary, (c.delivery or c.month)[:6],
                "", "", "", c.zone, c.hours, c.hours, "", "", 0,
                1, "", "", "26", c.month, "COMMON" if c.kind == "STK" else "", "1", "1", "1",
            )  # fmt: skip
        self.send(52, 1, request)
