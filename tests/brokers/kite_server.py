"""
The orders, triggers, positions and funds of a Kite account, beside the feed's answers (tests/feeds/kite_server.py).

It behaves as the documentation and the threads say that the real one does, also where that is inconvenient:

- An order_id means received, not at the exchange: a reject comes later, as a status (docs/connect/v3/orders).
- Orders and trades are those of the day; ``night`` cancels what rests and forgets all (same).
- A tag need not be unique, and has 20 characters at most; a longer one is refused, not cut (forum comment 52970).
- MARKET and SL-M orders without market protection are refused, with 0 too (forum 15912, tradingqna 193504). With it
  they become limit orders: a price past the limit leaves them open and unfilled (tradingqna 193460).
- An order that works takes another quantity, price and type and keeps its id (docs/connect/v3/orders), 25 times (forum
  9212); a change may be received and not be done (``ignores``). So do triggers (docs/connect/v3/gtt).
- More than 10 orders in a second of the clock are 429 (forum 15350, 15912).
- Order requests from an address that is not registered are refused, others are not (forum 15912; how, is not said
  there: a PermissionException is assumed).
- An SL order on the wrong side of the last price is refused (stocksdeveloper.in/knowledgebase/trigger-price-rejected);
  so is an order at a closed market (its form is assumed).
- More than the freeze quantity is refused and is in no list (docs/connect/v3/orders, autoslice).
- Delivery: what is bought is a position today, a holding from tomorrow on (t1_quantity, then settled); what is sold
  out of holdings is a negative position today, and the holding's quantity leaves it out, its opening_quantity does not
  (docs/connect/v3/portfolio; forum 7724). Short delivery is rejected as a status.
- A trigger (GTT) has no tag (pykiteconnect 207); ``last_price`` gives its direction (forum, rhnvrm); it must be 0.25 %
  away (support.zerodha.com, "My buy GTT order rejected"); it sends one LIMIT order, once, which may be refused or rest
  (support.zerodha.com, "sell GTT order rejected"; gtt_get_order.json of kiteconnect-mocks). It outlives the day. One of
  two legs has the lower first, on both sides of the last price; the one that is reached ends the other (forum 14166,
  docs/connect/v3/gtt). That its type stays as it is when it is modified, is assumed.
- At MCX quantities are lots: the list says 1 (thforum.tradehull.com, topic 271), positions tell the ``multiplier``,
  which is in their values and m2m (docs/connect/v3/portfolio); commodities have funds of their own
  (user/#funds-and-margins).
- Funds: ``available.cash`` is the morning's; today's trades are in the positions' m2m (margins.json, positions.json).
"""

import json
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from http.server import ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from tests.feeds import kite_server

INDIA = ZoneInfo("Asia/Kolkata")
D = Decimal
FINAL = ("COMPLETE", "CANCELLED", "REJECTED")
CHANGES = 25  # of one order
PROTECTION = D(3)  # percent, where the system chooses
RESTS = {"SL": "TRIGGER PENDING", "SL-M": "TRIGGER PENDING"}
NO_PROTECTION = "Market orders without market protection are not allowed via API. Please set market protection or use a"
NO_PROTECTION += " Limit order."
ADDRESS = "No IPs configured for this app. Add allowed IPs on the Kite developer console"


class Refused(Exception):  # noqa: N818 - an answer of the server
    def __init__(self, status, kind, message):
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


class Kite:
    """One account and its market. ``faults``: (method and path's begin, what) for the next requests."""

    def __init__(self, cash=100_000, key=kite_server.API_KEY):
        self.key = key
        self.cash, self.prices, self.lots, self.freeze = D(cash), {}, {}, {}
        self.orders, self.trades, self.triggers, self.holdings, self.nets = [], [], [], {}, {}
        self.faults, self.late, self.requests, self.received = [], [], [], []
        self.multipliers, self.commodity_cash = {}, None
        self.changes, self.changed, self.ignores = {}, [], []  # modified: how often, to what; received and not done
        self.rejects, self.trigger_rejects, self.unsettled = [], [], {}
        self.bar = lambda _: (100.5, 102, 99, 101)
        self.open, self.registered, self.token, self.per_second = True, True, kite_server.TOKEN, None
        self.clock, self.numbers, self.moves = lambda: datetime.now(UTC), count(1), 0
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.kite, self.server.asked, self.server.failures = self, [], []
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def today(self):
        return self.clock().astimezone(INDIA)

    @property
    def stamp(self):
        return f"{self.today:%Y-%m-%d %H:%M:%S}"

    def fault(self, what, kind, times=1, after=0):
        """``after``: so many requests of the kind come through first."""
        self.faults += [(what, None)] * after + [(what, kind)] * times

    # the market

    def move(self, symbol, price, at=None, most=None):
        """One trade at ``price``: what it reaches fills at it, at most ``most`` of each order."""
        with self.lock:
            if at is not None:
                self.clock = lambda: at
            self.moves, price = self.moves + 1, D(price)
            self.prices[symbol] = price
            if not self.open:
                return
            for trigger in [t for t in self.triggers if t["status"] == "active"]:
                self._fire(trigger, symbol, price)
            for order in list(self.orders):
                if order["tradingsymbol"] == symbol and order["status"] not in FINAL:
                    self._trade(order, price, most)

    def _trade(self, order, price, most):
        if order["order_type"] in RESTS and not order["triggered"]:
            trigger, sells = D(str(order["trigger_price"])), order["transaction_type"] == "SELL"
            if price > trigger if sells else price < trigger:
                return
            order |= {"triggered": True, "status": "OPEN", "exchange_update_timestamp": self.stamp}
        elif order["order_type"] == "MARKET" and order["live_from"] >= self.moves:
            return
        if order["bound"] is not None:
            past = price < order["bound"] if order["transaction_type"] == "SELL" else price > order["bound"]
            if past:
                return
        left = D(order["quantity"] - order["filled_quantity"])
        self.fill(order, left if most is None else min(left, D(most)), price)

    def fill(self, order, qty, price):
        with self.lock:
            name, sign = order["tradingsymbol"], 1 if order["transaction_type"] == "BUY" else -1
            before = D(order["filled_quantity"])
            average = (before * D(str(order["average_price"])) + qty * price) / (before + qty)
            order |= {
                "filled_quantity": int(before + qty), "average_price": float(average),
                "pending_quantity": order["quantity"] - int(before + qty), "exchange_update_timestamp": self.stamp,
            }  # fmt: skip
            order["status"] = "COMPLETE" if order["filled_quantity"] == order["quantity"] else "OPEN"
            net = self.nets.setdefault((order["exchange"], name, order["product"]), fresh())
            side = "buy" if sign > 0 else "sell"
            net["qty"] += sign * qty
            net[f"{side}_qty"] += qty
            net[f"{side}_value"] += qty * price * self.multipliers.get(name, 1)
            shared = ("order_id", "exchange", "tradingsymbol", "instrument_token", "product", "transaction_type")
            self.trades.append(
                {k: order[k] for k in shared} | {
                    "trade_id": str(70_000 + next(self.numbers)), "average_price": float(price), "quantity": int(qty),
                    "exchange_order_id": order["exchange_order_id"], "fill_timestamp": self.stamp,
                    "order_timestamp": self.stamp[-8:], "exchange_timestamp": self.stamp,
                }
            )  # fmt: skip

    def _fire(self, trigger, symbol, price):
        """A trigger sends its order once."""
        condition, last = trigger["condition"], D(str(trigger["condition"]["last_price"]))
        values = [D(str(value)) for value in condition["trigger_values"]]
        reached = [n for n, value in enumerate(values) if (price <= value if last > value else price >= value)]
        if condition["tradingsymbol"] != symbol or not reached:
            return
        order = trigger["orders"][reached[0]]
        trigger |= {"status": "triggered", "updated_at": self.stamp}
        result = {"status": "success", "order_id": "", "rejection_reason": ""}
        if self.trigger_rejects:
            result |= {"status": "failed", "rejection_reason": self.trigger_rejects.pop(0)}
        else:
            form = order | {"validity": "DAY", "tag": None, "price": order["price"], "quantity": order["quantity"]}
            result["order_id"] = self.enter(form, trigger)["order_id"]
        order["result"] = order | {"triggered_at": float(price), "timestamp": self.stamp, "order_result": result}

    def night(self, at=None):
        """The end of the day: what rests is cancelled, orders are forgotten, what was bought is a holding."""
        with self.lock:
            for order in self.orders:
                if order["status"] not in FINAL:
                    order["status"] = "CANCELLED"
            self.orders, self.trades, self.unsettled, nets = [], [], {}, {}
            for (exchange, name, product), net in self.nets.items():
                price = self.prices.get(name, D(0))
                if product == "CNC":
                    self.cash += net["sell_value"] - net["buy_value"]
                    self.holdings[name] = self.holdings.get(name, D(0)) + net["qty"]
                    self.unsettled[name] = max(net["qty"], D(0))
                elif net["qty"] or net["overnight"]:
                    self.cash += self.m2m(net, price, self.multipliers.get(name, 1))
                    nets[exchange, name, product] = fresh() | {
                        "qty": net["qty"],
                        "overnight": net["qty"],
                        "close": price,
                    }
            self.nets = {key: net for key, net in nets.items() if net["qty"]}
            self.holdings = {name: qty for name, qty in self.holdings.items() if qty}
            if at is not None:
                self.clock = lambda: at

    def m2m(self, net, price, value=1):
        open_ = net["qty"] * price - net["overnight"] * net["close"]
        return net["sell_value"] - net["buy_value"] + open_ * value

    def held(self, name):
        return self.holdings.get(name, D(0)) + sum(n["qty"] for (_, s, _), n in self.nets.items() if s == name)

    # orders

    def place(self, form):
        """Raises Refused for what is refused at once; other refusals come as a status."""
        if not self.registered:
            raise Refused(403, "PermissionException", ADDRESS)
        if len(form.get("tag") or "") > 20:
            raise Refused(400, "InputException", "Tag should be maximum 20 characters")
        kind, name = form["order_type"], form["tradingsymbol"]
        if kind in ("MARKET", "SL-M") and D(form.get("market_protection", "0")) == 0:
            raise Refused(400, "InputException", NO_PROTECTION)
        if not self.open:
            raise Refused(
                400, "InputException", "Markets are closed right now. Use GTT for placing long standing orders"
            )
        quantity, last = D(form["quantity"]), self.prices.get(name)
        if quantity % self.lots.get(name, 1):
            raise Refused(400, "InputException", f"Quantity should be a multiple of {self.lots[name]}")
        if quantity > self.freeze.get(name, quantity):
            raise Refused(400, "InputException", "Quantity exceeds the freeze quantity")
        if kind in RESTS and last is not None:
            sells, trigger = form["transaction_type"] == "SELL", D(form["trigger_price"])
            if trigger >= last if sells else trigger <= last:
                side, way = ("sell", "lower") if sells else ("buy", "higher")
                text = f"Trigger price for stoploss {side} orders should be {way} than the last traded price."
                raise Refused(400, "InputException", text)
        return self.enter(form)

    def enter(self, form, trigger=None):
        number, kind, sells = next(self.numbers), form["order_type"], form["transaction_type"] == "SELL"
        last = self.prices.get(form["tradingsymbol"])
        band = D(form.get("market_protection", "-1"))
        share = (PROTECTION if band == -1 else band) / 100
        bound = D(str(form["price"])) if kind in ("LIMIT", "SL") else None
        if kind in ("MARKET", "SL-M"):
            base = D(form["trigger_price"]) if kind == "SL-M" else last
            bound = None if base is None else base * (1 - share if sells else 1 + share)
        order = {
            "placed_by": "XX0000", "order_id": f"25{number:013d}", "exchange_order_id": f"11{number:013d}",
            "parent_order_id": None, "status": "PUT ORDER REQ RECEIVED", "status_message": None,
            "order_timestamp": self.stamp, "exchange_update_timestamp": self.stamp, "exchange_timestamp": self.stamp,
            "variety": "regular", "exchange": form["exchange"], "tradingsymbol": form["tradingsymbol"],
            "instrument_token": 1, "order_type": kind, "transaction_type": form["transaction_type"],
            "validity": "DAY", "product": form["product"], "quantity": int(D(form["quantity"])),
            "price": float(form.get("price") or 0), "trigger_price": float(form.get("trigger_price") or 0),
            "average_price": 0, "filled_quantity": 0, "pending_quantity": int(D(form["quantity"])),
            "cancelled_quantity": 0, "meta": {"gtt": trigger["id"]} if trigger else {}, "tag": form.get("tag"),
            "triggered": False, "live_from": self.moves, "bound": bound,
        }  # fmt: skip
        self.orders.append(order)
        self.received.append(order)
        short = sells and order["product"] == "CNC" and order["quantity"] > self.held(order["tradingsymbol"])
        told = self.rejects.pop(0) if self.rejects else None  # None: of this one nothing
        if told or short:
            told = told or "Insufficient holding quantity for this order"
            order |= {"status": "REJECTED", "status_message": told, "exchange_order_id": None, "pending_quantity": 0}
        return order

    def listed(self):
        """The order book; what was on its way has arrived by the next look."""
        told = [public(order) for order in self.orders]
        for order in self.orders:
            if order["status"] == "PUT ORDER REQ RECEIVED":
                order["status"] = RESTS.get(order["order_type"], "OPEN")
        return told

    def cancel(self, order_id):
        found = [o for o in self.orders if o["order_id"] == order_id and o["status"] not in FINAL]
        if not found:
            raise Refused(400, "InputException", "Order cannot be cancelled as it's been executed, or is not found")
        found[0] |= {"status": "CANCELLED", "cancelled_quantity": found[0]["pending_quantity"]}
        return {"order_id": order_id}

    def modify(self, order_id, form):
        """Another quantity, price or type of an order that works."""
        found = [o for o in self.orders if o["order_id"] == order_id and o["status"] not in FINAL]
        if not found:
            raise Refused(400, "InputException", "Order cannot be modified as it is being processed, or is not found")
        (order,) = found
        if self.changes.get(order_id, 0) == CHANGES:
            raise Refused(400, "InputException", "Maximum allowed order modifications exceeded.")
        if not self.open:
            raise Refused(400, "InputException", "Markets are closed right now.")
        kind, last = form["order_type"], self.prices.get(order["tradingsymbol"])
        sells = order["transaction_type"] == "SELL"
        if kind in ("MARKET", "SL-M") and D(form.get("market_protection", "0")) == 0:
            raise Refused(400, "InputException", NO_PROTECTION)
        if kind in RESTS and last is not None and not order["triggered"]:
            trigger = D(form["trigger_price"])
            if trigger >= last if sells else trigger <= last:
                raise Refused(400, "InputException", "Trigger price should be below (above) the last traded price.")
        self.changes[order_id] = self.changes.get(order_id, 0) + 1
        if self.ignores:
            self.ignores.pop(0)  # received, and refused by the exchange
            return {"order_id": order_id}
        share = (PROTECTION if D(form.get("market_protection", "-1")) == -1 else D(form["market_protection"])) / 100
        base = D(form["trigger_price"]) if kind == "SL-M" else last
        bound = D(form["price"]) if "price" in form else base * (1 - share if sells else 1 + share)
        quantity = int(D(form["quantity"]))
        order |= {
            "order_type": kind, "quantity": quantity, "pending_quantity": quantity - order["filled_quantity"],
            "trigger_price": float(form.get("trigger_price") or 0), "price": float(form.get("price") or 0),
            "bound": bound, "live_from": self.moves, "status": RESTS.get(kind, "OPEN"),
        }  # fmt: skip
        self.changed.append((order_id, quantity, order["trigger_price"] or order["price"]))
        return {"order_id": order_id}

    def modify_trigger(self, number, form):
        trigger = self.find_trigger(number, "PUT")
        condition, orders = json.loads(form["condition"]), json.loads(form["orders"])
        self._far(condition)
        self._two(form, condition, orders)
        if form["type"] != trigger["type"]:
            raise Refused(400, "InputException", "The type of a trigger cannot be changed")
        trigger |= {"condition": condition, "type": form["type"], "updated_at": self.stamp}
        trigger["orders"] = [order | {"result": None} for order in orders]
        self.changed.append((trigger["id"], orders[0]["quantity"], condition["trigger_values"][0]))
        return {"trigger_id": trigger["id"]}

    def _two(self, form, condition, orders):
        """Two legs are on both sides of the last price, the lower first."""
        values = condition["trigger_values"]
        assert len(values) == len(orders) == {"single": 1, "two-leg": 2}[form["type"]]
        if len(values) == 2 and not values[0] < condition["last_price"] < values[1]:
            raise Refused(400, "InputException", "Trigger prices should be on both sides of the last price")

    def _far(self, condition):
        last = self.prices.get(condition["tradingsymbol"])
        values = [D(str(value)) for value in condition["trigger_values"]]
        if last is not None and any(abs(value - last) < last * D("0.0025") for value in values):
            raise Refused(400, "InputException", "Trigger price is too close to the last price: 0.25% is the least")

    def trigger(self, form):
        condition, orders = json.loads(form["condition"]), json.loads(form["orders"])
        self._far(condition)
        self._two(form, condition, orders)
        number = 100_000 + next(self.numbers)
        orders = [order | {"result": None} for order in orders]
        self.triggers.append(
            {
                "id": number, "user_id": "XX0000", "parent_trigger": None, "type": form["type"],
                "created_at": self.stamp, "updated_at": self.stamp, "status": "active",
                "expires_at": "2027-01-01 00:00:00",
                "condition": condition, "orders": orders, "meta": {},
            }
        )  # fmt: skip
        return {"trigger_id": number}

    def find_trigger(self, number, method):
        found = [t for t in self.triggers if t["id"] == int(number)]
        if not found or (method != "GET" and found[0]["status"] != "active"):
            raise Refused(404, "GeneralException", "Trigger not found")
        if method == "DELETE":
            found[0] |= {"status": "deleted", "updated_at": self.stamp}
            return {"trigger_id": found[0]["id"]}
        return found[0]

    # the account

    def positions(self):
        rows = []
        for (exchange, name, product), net in self.nets.items():
            last, value = self.prices.get(name, D(0)), self.multipliers.get(name, 1)
            numbers = {
                "quantity": net["qty"], "overnight_quantity": net["overnight"], "multiplier": value,
                "close_price": net["close"], "last_price": last,
                "day_buy_quantity": net["buy_qty"], "day_buy_value": net["buy_value"],
                "day_sell_quantity": net["sell_qty"], "day_sell_value": net["sell_value"],
                "m2m": self.m2m(net, last, value),
            }  # fmt: skip
            names = {"tradingsymbol": name, "exchange": exchange, "product": product}
            rows.append(names | {key: float(value) for key, value in numbers.items()})
        return {"net": rows, "day": rows}

    def shares(self):
        rows = []
        for name, qty in self.holdings.items():
            new = self.unsettled.get(name, D(0))
            sold = -min(sum(net["qty"] for (_, s, p), net in self.nets.items() if (s, p) == (name, "CNC")), D(0))
            rows.append(
                {
                    "tradingsymbol": name, "exchange": "BSE", "product": "CNC", "quantity": int(qty - new - sold),
                    "t1_quantity": int(new), "realised_quantity": int(qty - new), "opening_quantity": int(qty),
                    "used_quantity": int(sold), "last_price": float(self.prices.get(name, D(0))), "average_price": 1.0,
                }
            )  # fmt: skip
        return rows

    def margins(self):
        used = sum((net["buy_value"] - net["sell_value"] for net in self.nets.values()), D(0))
        free, none = self.cash - used, {"enabled": False, "net": 0, "available": {"cash": 0}}
        cash = float(self.cash)
        equity = {"enabled": True, "net": float(free), "available": {"cash": cash, "opening_balance": cash}}
        if self.commodity_cash is not None:
            cash = float(self.commodity_cash)
            none = {"enabled": True, "net": cash, "available": {"cash": cash}}
        return {"equity": equity | {"utilised": {"debits": float(used)}}, "commodity": none}

    def lands(self):
        """What was held back arrives."""
        forms, self.late = self.late, []
        return [self.place(form) for form in forms]


def fresh():
    return dict.fromkeys(("qty", "overnight", "close", "buy_qty", "buy_value", "sell_qty", "sell_value"), D(0))


def public(order):
    return {name: value for name, value in order.items() if name not in ("triggered", "live_from", "bound")}


STATUS = {  # fault -> status, error type, message
    "400": (400, "InputException", "Invalid quantity"),
    "margin": (400, "MarginException", "Insufficient funds. Required margin is 2 but available margin is 1."),
    "403": (403, "TokenException", "Incorrect `api_key` or `access_token`."),
    "429": (429, "NetworkException", "Too many requests"),
    "500": (500, "OrderException", "Order could not be placed"),
    "502": (502, "DataException", "Gateway did not answer"),
    "503": (503, "NetworkException", "Request failed (kitetrade-oms)."),
    "504": (504, "NetworkException", "Gateway timed out"),
}
ARRIVES = ("500", "502", "504", "html", "empty", "truncated", "dropped", "lost")  # the order, before its answer is lost


class Handler(kite_server.Handler):
    protocol_version = "HTTP/1.1"

    def date_time_string(self, timestamp=None):
        return format_datetime(self.server.kite.clock().replace(tzinfo=UTC), usegmt=True)

    def do_GET(self):  # noqa: N802 - http.server's names
        self._handle("GET")

    def do_POST(self):  # noqa: N802 - the same
        self._handle("POST")

    def do_PUT(self):  # noqa: N802 - the same
        self._handle("PUT")

    def do_DELETE(self):  # noqa: N802 - the same
        self._handle("DELETE")

    def bar(self, at):
        return self.server.kite.bar(at)

    def _handle(self, method):
        kite, path = self.server.kite, urlsplit(self.path).path
        text = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        form = {name: values[0] for name, values in parse_qs(text).items()}
        kite.requests.append((method, path))
        if path.startswith("/instruments"):
            kite_server.Handler.do_GET(self)
            return
        if self.headers["Authorization"] != f"token {kite.key}:{kite.token}":
            self.error(403, "TokenException", "Incorrect `api_key` or `access_token`.")
            return
        with kite.lock:
            fault = next((f for f in kite.faults if f"{method} {path}".startswith(f[0])), None)
            if fault:
                kite.faults.remove(fault)
                if fault[1] and self._fails(kite, method, path, form, fault[1]):
                    return
            try:
                data = self._answered(kite, method, path, form)
            except Refused as refused:
                self.error(refused.status, refused.kind, refused.message)
                return
        self.answer(200, json.dumps({"status": "success", "data": data}))

    def _answered(self, kite, method, path, form):
        if method == "PUT":
            return self._modified(kite, path, form)
        if path.startswith("/gtt/triggers/"):
            return kite.find_trigger(path.rpartition("/")[2], method)
        if (method, path) == ("POST", "/gtt/triggers"):
            return kite.trigger(form)
        if (method, path) == ("POST", "/orders/regular"):
            self._counted(kite)
            return {"order_id": kite.place(form)["order_id"]}
        if method == "DELETE":
            return kite.cancel(path.rpartition("/")[2])
        return {
            "/orders": kite.listed, "/trades": lambda: kite.trades, "/gtt/triggers": lambda: kite.triggers,
            "/portfolio/positions": kite.positions, "/portfolio/holdings": kite.shares, "/user/margins": kite.margins,
        }[path]()  # fmt: skip

    def _modified(self, kite, path, form):
        number = path.rpartition("/")[2]
        if path.startswith("/gtt/triggers/"):
            return kite.modify_trigger(number, form)
        self._counted(kite)
        return kite.modify(number, form)

    def _counted(self, kite):
        """Ten orders in a second of the clock."""
        second, number = kite.per_second or (0, 0)
        now = int(time.time())
        kite.per_second = (now, number + 1 if now == second else 1)
        if kite.per_second[1] > 10:
            raise Refused(429, "NetworkException", "Too many requests")

    def _fails(self, kite, method, path, form, kind):
        if kind in ARRIVES:
            self._answered(kite, method, path, form)
        if kind == "late":
            kite.late.append(form)
        if kind in STATUS:
            self.error(*STATUS[kind])
        elif kind in ("html", "empty", "truncated"):
            body = {"html": "<html>502 Bad Gateway</html>", "empty": "", "truncated": '{"status": "success", "da'}[kind]
            self.answer(502 if kind == "html" else 200, body, "text/html" if kind == "html" else "application/json")
        else:
            self.close_connection = True  # nothing comes back
            self.connection.close()
        return True
