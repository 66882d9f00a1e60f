"""
A small Alpaca on a local port: its wire format, its order handling, and network faults.

It behaves as the real one is documented and reported to, also where that is inconvenient:

- Once a bracket's entry has filled, its take-profit is ``new`` and its stop stays ``held`` until its price is reached
  (Alpaca's staff: forum.alpaca.markets/t/3697; alpaca-py issue 198; alpaca-trade-api-python issue 322).
- When the stop is reached, the take-profit becomes ``replaced``, without a ``replaced_by`` (alpaca-py issue 198).
- A held stop may be replaced once its entry has filled; cancelling one leg cancels the other
  (forum.alpaca.markets/t/11938; docs.alpaca.markets/docs/orders-at-alpaca).
- A PATCH that was accepted may be rejected later: then the old order works on
  (docs.alpaca.markets/reference/patchorderbyorderid-1); ``replacing = "rejected later"`` does that.
- Positions may lag behind orders for some seconds (alpacahq/Alpaca-API issue 276): ``lag`` is the number of reads.
- A multi-leg option order has neither symbol nor side (alpaca-py, trading/models.py, Order): ``spread`` places one.
- An order that could trade with one of our own is refused as a potential wash trade, unless it is a bracket
  (docs.alpaca.markets/docs/user-protection).
"""

import json
import re
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

OPEN = ("new", "accepted", "pending_new", "held", "partially_filled")
FILLABLE = ("new", "accepted", "partially_filled")
SAID = {
    "401": (401, "request is not authorized"),
    "403": (403, "insufficient buying power"),
    "422": (422, "invalid order"),
    "429": (429, "too many requests"),
    "untradable": (422, "asset AAPL is not tradable"),
    "500 in JSON": (500, "internal server error occurred"),
    "fractional": (403, "asset AAPL is not fractionable"),
}
HTML = b"<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"


class Alpaca:
    """
    Orders, positions, activities. ``faults``: what happens to the next requests whose "METHOD path" a pattern finds:

    lost (done, no answer) | never (not done, no answer) | late (done when the client has given up) | dropped (done, and
    the connection reset) | 500 502 504 (done, then this error) | 503 (not done) | html empty truncated (done, then an
    unreadable 200) | 401 403 422 429 untradable fractional (not done, and Alpaca's own words for it).
    """

    def __init__(self):
        self.orders, self.positions, self.prices, self.activities, self.moves = {}, {}, {}, [], []
        self.requests, self.faults, self.bodies, self.late = [], [], [], []
        self.retry_after = "7"
        self.account = {"status": "ACTIVE", "currency": "USD", "cash": "100000.10", "equity": "101000.20"}
        self.account |= {"non_marginable_buying_power": "90000.30", "buying_power": "400000"}
        self.account |= {"account_number": f"PA{uuid.uuid4().hex[:10].upper()}"}
        self.assets = {}  # ticker -> what differs from a usual US equity; None: there is no such asset
        self.open, self.clock = True, lambda: datetime.now(UTC)
        self.replacing: Literal["accepted", "rejected later"] = "accepted"
        self.lag, self.lagging = 0, {}
        self.lock = threading.RLock()  # requests change the orders one at a time
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits 40 ms

            def log_message(self, *_):
                pass

            def date_time_string(self, timestamp=None):
                return super().date_time_string(server.clock().timestamp())

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"null") if length else None
                server.serve(self, body)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - http.server's names

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def fault(self, pattern, kind, times=1):
        self.faults += [(pattern, str(kind))] * times

    # one request

    def serve(self, handler, body):  # noqa: C901, PLR0911 - one case for each fault
        parts = urlsplit(handler.path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        name = f"{handler.command} {parts.path}"
        self.requests.append(name)
        self.bodies.append(body)
        kind = next((kind for pattern, kind in self.faults if re.search(pattern, name)), None)
        if kind is not None:
            self.faults.remove(next(f for f in self.faults if re.search(f[0], name)))
        if kind in SAID:
            status, message = SAID[kind]
            error = {"code": status * 100_000 + 10_000, "message": message}
            return self.answer(handler, status, error, {"Retry-After": self.retry_after})
        if kind == "503":
            return self.answer(handler, 503, HTML, {"Content-Type": "text/html"})
        if kind in ("never", "late"):
            if kind == "late":
                self.late.append(lambda: self.act(handler.command, parts.path, query, body))
            return self.until_it_gives_up(handler)
        status, reply = self.act(handler.command, parts.path, query, body)
        if kind == "lost":
            return self.until_it_gives_up(handler)
        if kind == "dropped":
            handler.close_connection = True
            return handler.connection.shutdown(2)
        if kind in ("500", "502", "504"):
            return self.answer(handler, int(kind), HTML, {"Content-Type": "text/html"})
        if kind == "html":
            return self.answer(handler, 200, HTML, {"Content-Type": "text/html"})
        if kind == "empty":
            return self.answer(handler, 200, b"")
        if kind == "truncated":
            text = json.dumps(reply).encode()
            handler.close_connection = True
            return self.answer(handler, 200, text[: len(text) // 2], {"Content-Length": str(len(text))})
        return self.answer(handler, status, reply)

    def lands(self):
        """Handles a late request; returns the reply that it would get."""
        return self.late.pop()()

    def until_it_gives_up(self, handler):
        handler.close_connection = True
        with suppress(OSError):
            handler.connection.recv(1)  # returns when the client hangs up

    def answer(self, handler, status, body, headers=None):
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        handler.send_response(status)
        for key, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(data)

    def act(self, *request):
        with self.lock:
            return self.acted(*request)

    def acted(self, method, path, query, body):  # noqa: C901, PLR0911, PLR0912 - one case for each address
        path = path.removeprefix("/v2")
        if method == "GET" and path == "/account":
            return 200, self.account
        if method == "GET" and path == "/positions":
            self.lag -= self.lag > 0
            held = self.lagging if self.lag else self.positions
            return 200, [
                {"symbol": s, "qty": str(q), "side": "long" if q > 0 else "short"} for s, q in held.items() if q
            ]
        if method == "GET" and path.startswith("/assets/"):
            ticker = unquote(path.removeprefix("/assets/"))
            asset = self.assets.get(ticker, {})
            missing = {"code": 40410000, "message": f"asset not found for {ticker}"}
            return (404, missing) if asset is None else (200, asset_of(ticker) | asset)
        if method == "GET" and path == "/clock":
            now = self.clock()
            times = {
                "next_open": (now + timedelta(hours=8)).isoformat(),
                "next_close": (now + timedelta(hours=15)).isoformat(),
            }
            return 200, {"timestamp": now.isoformat(), "is_open": self.open, **times}
        if method == "GET" and path == "/account/activities/FILL":
            return 200, self.list_fills(query)
        if method == "GET" and path == "/account/activities":
            return 200, self.list_moves(query)
        if method == "GET" and path == "/orders":
            return 200, self.list_orders(query)
        if method == "GET" and path == "/orders:by_client_order_id":
            name = query["client_order_id"]
            row = next((o for o in self.orders.values() if o["client_order_id"] == name), None)
            return self.found(row and {**row, "legs": None})  # this address does not nest legs
        if method == "POST" and path == "/orders":
            return self.new(body)
        row = self.orders.get(path.rpartition("/")[2])
        if row is None:
            return self.found(None)
        if method == "GET":
            return self.found(row if query.get("nested") == "true" else {**row, "legs": None})
        if row["status"] not in OPEN:
            return 422, {"code": 42210000, "message": f'order is already in "{row["status"]}" state'}
        if method == "DELETE":
            for order in self.group(row):  # cancelling one order cancels all open orders of its group
                if order["status"] in OPEN:
                    order["status"] = "canceled"
            return 204, None
        return self.replace(row, body)

    def found(self, row):
        return (200, row) if row else (404, {"code": 40410000, "message": "order not found"})

    # orders

    def new(self, body):
        if any(o["client_order_id"] == body["client_order_id"] for o in self.orders.values()):
            return 422, {"code": 40010001, "message": "client_order_id must be unique"}
        free = self.free(body["symbol"], body["side"])
        if free is not None and Decimal(body["qty"]) > free:
            message = f"insufficient qty available for order (requested: {body['qty']}, available: {free:f})"
            return 403, {"code": 40310000, "message": message}
        if any(self.crosses(body, row) for row in self.orders.values()):
            return 403, {"code": 40310000, "message": "potential wash trade detected. use complex orders"}
        entry = self.order(body, "new")
        if body.get("order_class") in ("bracket", "oto"):  # an oto has one leg, here its stop
            side = "sell" if body["side"] == "buy" else "buy"
            common = {"symbol": body["symbol"], "qty": body["qty"], "side": side, "order_class": body["order_class"]}
            legs = [{"type": "stop", "stop_price": body["stop_loss"]["stop_price"]}]
            if body["order_class"] == "bracket":
                legs.insert(0, {"type": "limit", "limit_price": body["take_profit"]["limit_price"]})
            elif "take_profit" in body:
                return 422, {"code": 40010001, "message": "oto orders require exactly one of take_profit or stop_loss"}
            entry["legs"] = [
                self.order({**common, **leg, "client_order_id": str(uuid.uuid4())}, "held") for leg in legs
            ]
        return 200, entry

    def crosses(self, body, row):
        """True if a resting order of the other side could trade with the new one, which is no complex order."""
        other = "sell" if body["side"] == "buy" else "buy"
        rests = row["status"] in FILLABLE and (row.get("symbol"), row.get("side")) == (body["symbol"], other)
        return rests and not body.get("order_class")

    def spread(self):
        """A resting option spread of somebody's."""
        row = self.order({"client_order_id": "spread", "symbol": "", "qty": "1", "side": "", "type": "limit"}, "new")
        row |= {"order_class": "mleg", "limit_price": "1.00"}
        del row["symbol"], row["side"]
        return row

    def free(self, ticker, side):
        """The quantity of a position not reserved by open exit orders; None if the order is not an exit."""
        held = self.positions.get(ticker, Decimal(0))
        if not held or (held > 0) != (side == "sell"):
            return None
        groups = {}
        for row in self.orders.values():
            if (row.get("symbol"), row.get("side")) == (ticker, side) and row["status"] in OPEN:
                left = Decimal(row["qty"]) - Decimal(row["filled_qty"])
                top = self.group(row)[0]["id"]
                groups[top] = max(left, groups.get(top, Decimal(0)))
        return abs(held) - sum(groups.values(), Decimal(0))

    def group(self, row):
        parent = next((o for o in self.orders.values() if o["legs"] and row in o["legs"]), row)
        return [parent, *(parent["legs"] or [])]

    def order(self, body, status):
        now = self.clock()
        row = {
            "id": str(uuid.uuid4()),
            "client_order_id": body["client_order_id"],
            "submitted_at": now.isoformat().replace("+00:00", "Z"),
            "symbol": body["symbol"],
            "qty": body["qty"],
            "filled_qty": "0",
            "filled_avg_price": None,
            "side": body["side"],
            "type": body["type"],
            "order_class": body.get("order_class", ""),
            "limit_price": body.get("limit_price"),
            "stop_price": body.get("stop_price"),
            "status": status,
            "replaces": None,
            "replaced_by": None,
            "legs": None,
        }
        self.orders[row["id"]] = row
        return row

    def replace(self, row, body):
        parent = self.group(row)[0]
        if row["status"] == "held" and parent["status"] != "filled":
            return 422, {"code": 42210000, "message": "order is not open"}
        if any(o["client_order_id"] == body["client_order_id"] for o in self.orders.values()):
            return 422, {"code": 40010001, "message": "client_order_id must be unique"}
        made = self.order({**row, **body}, row["status"])
        made["replaces"] = row["id"]
        if parent is not row:
            parent["legs"].append(made)
        answer = {**made}
        if self.replacing == "rejected later":
            made["status"] = "rejected"
        else:
            row["replaced_by"], row["status"] = made["id"], "replaced"
        return 200, answer

    def list_orders(self, query):
        after = datetime.fromisoformat(query.get("after", "2000-01-01T00:00:00Z"))
        legs = {leg["id"] for o in self.orders.values() for leg in o["legs"] or []} if query.get("nested") else set()
        rows = [o for o in self.orders.values() if o["id"] not in legs]
        rows = [o for o in rows if datetime.fromisoformat(o["submitted_at"]) > after]
        if query.get("status", "open") == "open":
            rows = [o for o in rows if o["status"] in OPEN or any(leg["status"] in OPEN for leg in o["legs"] or [])]
        return sorted(rows, key=lambda o: o["submitted_at"])[: int(query.get("limit", 50))]

    def list_fills(self, query):
        after = datetime.fromisoformat(query["after"])
        rows = [a for a in self.activities if datetime.fromisoformat(a["transaction_time"]) > after]
        if "page_token" in query:
            rows = rows[[a["id"] for a in rows].index(query["page_token"]) + 1 :]
        return rows[: int(query["page_size"])]

    def list_moves(self, query):
        """Activities other than fills: dated without a time, paged by id, at most 100 at once."""
        assert query["category"] == "non_trade_activity"
        rows = [a for a in self.moves if a["date"] > query["after"]]
        if "page_token" in query:
            rows = rows[[a["id"] for a in rows].index(query["page_token"]) + 1 :]
        return rows[: min(int(query["page_size"]), 100)]

    def cash(self, kind, amount, dated, *, moved=True, told=True, **more):
        """An activity, such as CSW; ``moved``: it changes the account's cash; ``told``: it is listed."""
        row = {"activity_type": kind, "date": f"{dated:%Y-%m-%d}", "net_amount": str(amount), "status": "executed"}
        row |= {"id": f"{dated:%Y%m%d}000000000::{uuid.uuid4()}", "description": "", **more}
        with self.lock:
            if moved:
                for name in ("cash", "equity", "non_marginable_buying_power"):
                    self.account[name] = f"{Decimal(self.account[name]) + Decimal(amount):f}"
            if told:
                self.moves.append(row)
        return row

    # the market

    def fill(self, row, price, qty=None):
        """Fills an order in full or in part; a bracket's legs wait for the whole entry, and end with one fill."""
        qty = Decimal(qty or row["qty"])
        before, done = Decimal(row["filled_qty"]), Decimal(row["filled_qty"]) + qty
        average = (Decimal(row["filled_avg_price"] or 0) * before + Decimal(price) * qty) / done
        whole = done == Decimal(row["qty"])
        row |= {"filled_qty": f"{done:f}", "filled_avg_price": f"{average:f}"}
        row["status"] = "filled" if whole else "partially_filled"
        signed = qty if row["side"] == "buy" else -qty
        if not self.lag:
            self.lagging = dict(self.positions)
        self.positions[row["symbol"]] = self.positions.get(row["symbol"], Decimal(0)) + signed
        for name in ("cash", "non_marginable_buying_power"):
            self.account[name] = f"{Decimal(self.account[name]) - signed * Decimal(price):f}"
        at = self.clock().isoformat().replace("+00:00", "Z")
        fill = {"activity_type": "FILL", "id": f"{len(self.activities):020}::{uuid.uuid4()}", "transaction_time": at}
        fill |= {"price": str(price), "qty": f"{qty:f}", "side": row["side"], "symbol": row["symbol"]}
        self.activities.append(fill | {"order_id": row["id"], "type": "fill" if whole else "partial_fill"})
        parent, *legs = self.group(row)
        for leg in legs:
            if whole and parent is row:
                leg["status"] = "held" if leg["type"] == "stop" else "new"
            elif whole and leg is not row and leg["status"] in OPEN:
                leg["status"] = "replaced" if row["type"] == "stop" else "canceled"

    def move(self, ticker, price, most=None):
        """Trades at ``price``: the orders that it reaches fill there, at most ``most`` of each at once."""
        with self.lock:
            self.prices[ticker] = Decimal(price)
            for row in [o for o in self.orders.values() if o.get("symbol") == ticker]:
                left = Decimal(row["qty"]) - Decimal(row["filled_qty"])
                parent = self.group(row)[0]
                if row["status"] == "held" and parent["status"] == "filled" and reached(row, Decimal(price)):
                    row["status"] = "new"  # it is routed now
                if row["status"] in FILLABLE and reached(row, Decimal(price)):
                    self.fill(row, price, left if most is None else min(left, Decimal(most)))
            worth = sum((q * self.prices[s] for s, q in self.positions.items()), Decimal(self.account["cash"]))
            self.account["equity"] = f"{worth:f}"


def asset_of(ticker):
    """A US equity as GET /v2/assets/{symbol} documents it: increments are given for crypto only."""
    asset = {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, ticker)), "class": "us_equity", "exchange": "NASDAQ"}
    asset |= {"symbol": ticker, "name": f"{ticker} Common Stock", "status": "active", "attributes": []}
    asset |= dict.fromkeys(("tradable", "marginable", "shortable", "easy_to_borrow", "fractionable"), True)
    return asset | {"maintenance_margin_requirement": 30}


def reached(row, price):
    if row["type"] == "market":
        return True
    level = Decimal(row["stop_price"] if row["type"] == "stop" else row["limit_price"])
    return price >= level if (row["type"] == "stop") == (row["side"] == "buy") else price <= level
