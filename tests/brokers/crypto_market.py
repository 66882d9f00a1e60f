"""
An account at a crypto exchange and its market, whatever the exchange's format: orders, triggers, trades, coins,
perpetual positions. The formats are beside it (binance_orders.py, ...).

It behaves as the exchanges document, also where that is inconvenient:

- Client ids are unique among open orders only; one whose order has filled is taken again.
- What rests to be sold is locked: a second order for the same coins is refused.
- A purchase on spot pays its fee in the coin (``fee``), a sale in what is paid with.
- With ``triggers`` a stop of a perpetual is in no list of orders; when reached it sends a market order with a number of
  its own.
- A market order fills at the next trade (``move``), so that tests can look at it before.
- A dated future is a market of its own, "A-260327" here: it trades as a perpetual does, without funding.
- A perpetual takes margin at ``leverage``; an order for which too little is free is refused.
"""

import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qsl, urlsplit

D = Decimal
OPEN = ("NEW", "PARTIALLY_FILLED")
ARRIVES = ("500", "502", "503", "504", "html", "empty", "truncated", "dropped")  # the order, before its answer is lost


UIDS = count(354_937_868)


class Refused(Exception):  # noqa: N818 - an answer of the server
    def __init__(self, what):
        super().__init__(what)
        self.what = what


class Market:
    """``fee``: share of a fill. ``faults``: (method and path's begin, what) for the next requests."""

    def __init__(self, handler, *, perpetual=False, triggers=True, cash=100_000, key="k" * 16, secret="s" * 16):
        self.uid = f"{next(UIDS)}{os.getpid()}"
        self.separate = triggers and perpetual  # stops are triggers, in a list of their own
        self.perpetual, self.key, self.secret = perpetual, key, secret
        self.coins, self.prices, self.fee, self.size = {"USDT": D(cash)}, {}, D(0), D(1)
        self.pairs = {"A": ("0.01", "1")}  # base -> tick, step
        self.least_cost = D(0)
        self.orders, self.triggers, self.trades, self.nets = [], [], [], {}
        self.paid, self.flows, self.fee_coin, self.ended = {}, [], None, []
        self.faults, self.late, self.requests, self.received = [], [], [], []
        self.refuses, self.hedged, self.suspended, self.trigger_fails = [], False, set(), []
        self.permissions, self.leverage, self.mode = "read_only,trade", D(10), "cross"
        self.tiers = [(D(1_000_000), D("0.005"))]  # most notional -> share of it that is maintenance margin
        self.candle = lambda _: (100, 101, 99, 100)  # start of a day -> open, high, low, close
        self.clock, self.numbers, self.moves = lambda: datetime.now(UTC), count(1000), 0
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.market = self
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def dated(self):
        return any("-" in base for base in self.pairs)

    @property
    def ms(self):
        return int(self.clock().timestamp() * 1000)

    def fault(self, what, kind, times=1, after=0):
        """``after``: so many requests of the kind come through first."""
        self.faults += [(what, None)] * after + [(what, kind)] * times

    # the market

    def move(self, base, price, at=None, most=None):
        """One trade at ``price``: what it reaches fills at it, at most ``most`` of each order."""
        with self.lock:
            if at is not None:
                self.clock = lambda: at
            self.moves, price = self.moves + 1, D(price)
            self.prices[base] = price
            for trigger in [t for t in self.triggers if t["state"] == "NEW" and t["base"] == base]:
                if reached(trigger, price):
                    self._fire(trigger)
            for order in [o for o in self.orders if o["state"] in OPEN and o["base"] == base]:
                if reached(order, price) if order["kind"] == "STOP" else self._fills(order, price):
                    left = order["qty"] - order["filled"]
                    self._fill(order, left if most is None else min(left, D(most)), price)

    def _fills(self, order, price):
        if order["kind"] == "MARKET":
            return order["from"] < self.moves
        return price <= order["price"] if order["side"] == "BUY" else price >= order["price"]

    def _fire(self, trigger):
        trigger |= {"updated": self.ms}
        if self.trigger_fails:
            trigger |= {"state": "EXPIRED", "reason": self.trigger_fails.pop(0)}
            return
        trigger |= {"state": "FINISHED"}
        form = {k: trigger[k] for k in ("base", "side", "qty", "reduce")}
        child = self._enter({**form, "kind": "MARKET", "client": f"child-{trigger['id']}", "price": None, "stop": None})
        child["from"] -= 1
        trigger["child"] = child["id"]

    def _fill(self, order, qty, price):
        base, sign = order["base"], 1 if order["side"] == "BUY" else -1
        if order["reduce"]:
            held = self.nets.get(base, (D(0), D(0)))[0]
            qty = min(qty, max(-sign * held, D(0)))
            if not qty:
                order |= {"state": "EXPIRED", "updated": self.ms}
                return
        order["cost"] += qty * price
        order["filled"] += qty
        order |= {"state": "FILLED" if order["filled"] == order["qty"] else "PARTIALLY_FILLED", "updated": self.ms}
        notional = qty * price * self.size
        coin = self.fee_coin or (base if sign > 0 and not self.perpetual else "USDT")
        fee = self.fee * (qty if coin == base else notional)
        self._add(coin, -fee)
        if self.perpetual:
            self._carry(base, sign * qty, price)
        else:
            self._add("USDT", -sign * notional)
            self._add(base, sign * qty)
        self.trades.append(
            {"id": next(self.numbers), "order": order["id"], "client": order["client"], "base": base,
             "side": order["side"], "qty": qty, "price": price, "fee": fee, "coin": coin, "at": self.ms}
        )  # fmt: skip

    def _carry(self, base, qty, price):
        """A perpetual's position and its average price; what is closed pays its profit out."""
        held, entry = self.nets.get(base, (D(0), D(0)))
        if held * qty >= 0:
            self.nets[base] = held + qty, (held * entry + qty * price) / (held + qty)
            return
        closed = min(abs(held), abs(qty)) * (1 if held > 0 else -1)
        self._add("USDT", closed * (price - entry) * self.size)
        left = held + qty
        self.nets[base] = left, entry if left * held > 0 else price

    def _add(self, coin, qty):
        self.coins[coin] = self.coins.get(coin, D(0)) + qty

    def deliver(self, base, price, fee="0"):
        """The end of a dated future: its position is closed at ``price``, its orders go, and it is listed no more."""
        qty, entry = self.nets.pop(base, (D(0), D(0)))
        profit = qty * (D(price) - entry) * self.size
        self._add("USDT", profit - D(fee))
        if qty:
            self.ended.append({"base": base, "qty": qty, "price": D(price), "fee": D(fee), "profit": profit})
        self.pairs.pop(base)
        for order in [o for o in (*self.orders, *self.triggers) if o["base"] == base and o["state"] in OPEN]:
            order |= {"state": "EXPIRED", "updated": self.ms}

    def transfer(self, amount, what="transfer", base="", at=None):
        """Money that moves without a trade: a transfer between wallets, or the funding of a perpetual."""
        at = self.ms if at is None else int(at.timestamp() * 1000)
        self._add("USDT", D(amount))
        self.flows.append({"id": next(self.numbers), "what": what, "amount": D(amount), "base": base, "at": at})

    @property
    def open_profit(self):
        return sum((q * (self.prices[b] - e) * self.size for b, (q, e) in self.nets.items()), D(0))

    @property
    def used(self):
        """The margin of what is open."""
        return sum((abs(q) * e * self.size / self.leverage for q, e in self.nets.values()), D(0))

    @property
    def free(self):
        return self.coins["USDT"] + self.open_profit - self.used

    def locked(self, coin):
        """What resting orders hold back."""
        if self.perpetual:
            return D(0)
        rest = [(o, o["qty"] - o["filled"]) for o in self.orders if o["state"] in OPEN]
        if coin != "USDT":
            return sum((q for o, q in rest if o["base"] == coin and o["side"] == "SELL"), D(0))
        return sum((q * o["price"] for o, q in rest if o["side"] == "BUY" and o["price"]), D(0))

    # orders

    def place(self, form):
        """``form``: base, side, kind, qty, price, stop, client, reduce. Raises Refused."""
        if self.refuses:
            raise Refused(self.refuses.pop(0))
        if form["base"] not in self.pairs:
            raise Refused("symbol")
        tick, step = map(D, self.pairs[form["base"]])
        if form["qty"] % step or any(form[k] is not None and form[k] % tick for k in ("price", "stop")):
            raise Refused("filter")
        last = form["price"] or self.prices.get(form["base"])
        if form["kind"] != "STOP" and last is not None and form["qty"] * last * self.size < self.least_cost:
            raise Refused("least")
        if form["kind"] == "STOP" and last is not None and reached({**form}, last):
            raise Refused("immediately")
        listed = self.triggers if self.separate and form["kind"] == "STOP" else self.orders
        if form["client"] and any(o["client"] == form["client"] and o["state"] in OPEN for o in listed):
            raise Refused("duplicate")
        free = self.coins.get(form["base"], D(0)) - self.locked(form["base"])
        if not self.perpetual and form["side"] == "SELL" and form["qty"] > free:
            raise Refused("funds")
        if self.perpetual and not form["reduce"] and form["qty"] * (last or 0) * self.size / self.leverage > self.free:
            raise Refused("margin")
        return self._enter(form)

    def _enter(self, form):
        trigger = self.separate and form["kind"] == "STOP"
        order = {
            **form, "id": next(self.numbers), "state": "NEW", "filled": D(0), "cost": D(0), "at": self.ms,
            "updated": self.ms, "from": self.moves, "child": None, "reason": None,
        }  # fmt: skip
        (self.triggers if trigger else self.orders).append(order)
        self.received.append(order)
        return order

    def find(self, number=None, client=None, *, trigger=False):
        """The newest with this number, or this id of ours. Raises Refused."""
        listed = self.triggers if trigger else self.orders
        found = [o for o in listed if (str(o["id"]) == str(number) if number else o["client"] == client)]
        if not found:
            raise Refused("missing")
        return found[-1]

    def cancel(self, number=None, client=None, *, trigger=False):
        order = self.find(number, client, trigger=trigger)
        if order["state"] not in OPEN:
            raise Refused("too late")
        order |= {"state": "CANCELED", "updated": self.ms}
        return order

    def lands(self):
        """What was held back arrives."""
        late, self.late = self.late, []
        for arrive in late:
            with suppress(Refused):
                arrive()


def parted(base):
    """("A", "260327") of a dated future, ("A", "") of another market."""
    name, _, expiry = base.partition("-")
    return name, expiry


def joined(name, expiry):
    return f"{name}-{expiry}" if expiry else name


def ends(expiry):
    """08:00 UTC of its day, in milliseconds."""
    return int(datetime.strptime(f"{expiry} 08 +0000", "%y%m%d %H %z").timestamp() * 1000)


def reached(order, price):
    return price <= order["stop"] if order["side"] == "SELL" else price >= order["stop"]


class Handler(BaseHTTPRequestHandler):
    """A format: ``answered(market, method, path, form)`` returns data, ``refused(what)`` (status, body) of an error."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms
    ORDER = ()  # methods and paths that place an order

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return format_datetime(self.server.market.clock().replace(tzinfo=UTC), usegmt=True)

    def do_GET(self):
        self._handle("GET")

    def do_POST(self):
        self._handle("POST")

    def do_DELETE(self):
        self._handle("DELETE")

    def _handle(self, method):
        market, url = self.server.market, urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        form = dict(parse_qsl(url.query)) | self.read(body)
        market.requests.append((method, url.path))
        with market.lock:
            what = f"{method} {url.path}"
            fault = next((f for f in market.faults if what.startswith(f[0])), None)
            if fault:
                market.faults.remove(fault)
                if fault[1] and self._fails(market, method, url, form, fault[1]):
                    return
            try:
                self.signed(market, method, url, body)
                data = self.answered(market, method, url.path, form)
            except Refused as refused:
                self.answer(*self.refused(refused.what))
                return
        self.answer(200, json.dumps(data))

    def read(self, body):
        return dict(parse_qsl(body))

    def _fails(self, market, method, url, form, kind):
        if kind in ARRIVES:
            with suppress(Refused):
                self.answered(market, method, url.path, form)
        if kind == "late":
            market.late.append(lambda: self.answered(market, method, url.path, form))
        texts = {"html": "<html>502 Bad Gateway</html>", "empty": "", "truncated": '{"orderId": 1, "cl'}
        if kind in texts:
            self.answer(
                502 if kind == "html" else 200, texts[kind], "text/html" if kind == "html" else "application/json"
            )
        elif kind in ("500", "502", "503", "504"):
            self.answer(int(kind), "upstream error", "text/plain")
        elif kind in ("dropped", "late", "lost"):
            self.close_connection = True  # nothing comes back
            self.connection.close()
        else:
            self.answer(*self.refused(kind))
        return True

    def answer(self, status, body, kind="application/json"):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
