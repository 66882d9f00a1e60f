"""
Bybit's unified account, in the format of its API v5: fields as in its documentation and in ccxt's own examples
(https://bybit-exchange.github.io/docs/v5).

- Errors come with status 200 and a retCode.
- An order that is accepted is only received: a refusal may follow as a status (docs/v5/order/create-order).
- /v5/order/realtime has what is open, /v5/order/history what has ended; a conditional order keeps its number.
"""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from decimal import Decimal

from tests.brokers.crypto_market import OPEN, Handler, Market, Refused, ends, joined, parted

D = Decimal
ERRORS = {
    "symbol": (10001, "params error: symbol invalid"),
    "filter": (170137, "Order quantity has too many decimals."),
    "least": (170140, "Order value exceeded lower limit."),
    "immediately": (110093, "expect Falling, but trigger_price[0] >= current[0]??LastPrice"),
    "funds": (170131, "Insufficient balance."),
    "duplicate": (110072, "OrderLinkedID is duplicate"),
    "missing": (110001, "order not exists or too late to cancel"),
    "too late": (110001, "order not exists or too late to cancel"),
    "keys": (10003, "API key is invalid."),
    "permission": (10005, "Permission denied, please check your API key permissions."),
    "address": (10010, "Unmatched IP, please check your API key's bound IP addresses."),
    "signature": (10004, "error sign! origin_string[...]"),
    "clock": (10002, "invalid request, please check your server timestamp or recv_window param."),
    "400": (10001, "Request parameter error."),
    "margin": (110007, "ab not enough for new order"),
    "429": (10006, "Too many visits. Exceeded the API Rate Limit."),
    "internal": (10016, "Internal server error."),
    "timeout": (10000, "Server Timeout"),
}
STATES = {"NEW": "New", "PARTIALLY_FILLED": "PartiallyFilled", "FILLED": "Filled", "CANCELED": "Cancelled"}
STATES |= {"EXPIRED": "Rejected", "REJECTED": "Rejected"}


def market(**terms):
    return Market(BybitHandler, triggers=False, **terms)


class BybitHandler(Handler):
    def refused(self, what):
        code, text = ERRORS[what]
        body = {"retCode": code, "retMsg": text, "result": {}, "retExtInfo": {}, "time": self.server.market.ms}
        return 200, json.dumps(body, separators=(",", ":"))

    def read(self, body):
        return json.loads(body) if body else {}

    def signed(self, market, method, url, body):
        if "/market/" in url.path:
            return
        if self.headers["X-BAPI-API-KEY"] != market.key:
            raise Refused("keys")
        stamp, window = self.headers["X-BAPI-TIMESTAMP"], self.headers["X-BAPI-RECV-WINDOW"]
        text = stamp + market.key + window + (body if method == "POST" else url.query)
        made = hmac.new(market.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        if self.headers["X-BAPI-SIGN"] != made:
            raise Refused("signature")

    def answered(self, market, method, path, form):
        result = self._result(market, path.removeprefix("/v5/"), form)
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": market.ms}

    def _result(self, market, name, form):
        if name == "order/create":
            order = market.place(_form(market, form))
            return {"orderId": str(order["id"]), "orderLinkId": order["client"] or ""}
        if name == "order/cancel":
            order = market.find(form.get("orderId"), form.get("orderLinkId"))
            wants = "StopOrder" if order["kind"] == "STOP" else "Order"
            if not market.perpetual and form["orderFilter"] != wants:
                raise Refused("missing")
            market.cancel(form.get("orderId"), form.get("orderLinkId"))
            return {"orderId": str(order["id"]), "orderLinkId": order["client"] or ""}
        if name == "market/time":
            return {"timeSecond": str(market.ms // 1000), "timeNano": f"{market.ms}000000"}
        if name == "account/info":
            mode = {"cross": "REGULAR_MARGIN", "isolated": "ISOLATED_MARGIN", "portfolio": "PORTFOLIO_MARGIN"}
            return {"marginMode": mode[market.mode], "unifiedMarginStatus": 5, "updatedTime": "0"}
        if name == "user/query-api":
            return {"id": "1", "userID": market.uid, "readOnly": int("trade" not in market.permissions), "ips": ["*"]}
        category = "linear" if market.perpetual else "spot"
        assert form.get("category", category) == category
        rows = {
            "market/instruments-info": lambda: [] if "status" in form else _listed(market),
            "market/tickers": lambda: [
                {"symbol": _sym(base), "lastPrice": f"{price}"} for base, price in market.prices.items()
            ],
            "order/realtime": lambda: [_order(market, o) for o in _asked(market, form) if o["state"] in OPEN],
            "order/history": lambda: [_order(market, o) for o in _asked(market, form) if o["state"] not in OPEN],
            "execution/list": lambda: _trades(market, form),
            "position/list": lambda: _positions(market, form),
            "market/risk-limit": lambda: [
                {
                    "id": n,
                    "symbol": form["symbol"],
                    "riskLimitValue": f"{most}",
                    "maintenanceMargin": f"{rate}",
                    "initialMargin": "0.01",
                    "isLowestRisk": int(n == 1),
                    "maxLeverage": "100.00",
                    "mmDeduction": "",
                }
                for n, (most, rate) in enumerate(market.tiers, 1)
            ],
            "asset/delivery-record": lambda: [
                {
                    "deliveryTime": ends(parted(e["base"])[1]),
                    "symbol": _sym(e["base"]),
                    "position": f"{abs(e['qty'])}",
                    "side": "Buy" if e["qty"] > 0 else "Sell",
                    "entryPrice": "0",
                    "deliveryPrice": f"{e['price']}",
                    "strike": "",
                    "fee": f"{e['fee']}",
                    "deliveryRpl": f"{e['profit'] - e['fee']}",
                }
                for e in market.ended
                if form["symbol"] == _sym(e["base"])
                and int(form["startTime"]) <= ends(parted(e["base"])[1]) <= int(form["endTime"])
            ],
            "account/wallet-balance": lambda: [_wallet(market)],
            "account/transaction-log": lambda: _log(market, form),
        }[name]()
        return {"category": category, "list": rows, "nextPageCursor": ""}


def _sym(base):
    """AUSDT, of a dated future AUSDT-27MAR26."""
    name, expiry = parted(base)
    return f"{name}USDT" + (
        f"-{datetime.strptime(expiry, '%y%m%d').replace(tzinfo=UTC):%d%b%y}".upper() if expiry else ""
    )


def _base(symbol):
    pair, _, day = symbol.partition("-")
    expiry = f"{datetime.strptime(day, '%d%b%y').replace(tzinfo=UTC):%y%m%d}" if day else ""
    return joined(pair.removesuffix("USDT"), expiry)


def _form(market, form):
    assert form["category"] == ("linear" if market.perpetual else "spot")
    stop = "triggerPrice" in form
    if stop and market.perpetual:
        assert form["triggerDirection"] == (1 if form["side"] == "Buy" else 2)
    if stop and not market.perpetual:
        assert form["orderFilter"] == "StopOrder"
    if form["orderType"] == "Market" and not market.perpetual:
        assert form["marketUnit"] == "baseCoin"
    return {
        "base": _base(form["symbol"]), "side": form["side"].upper(), "qty": D(form["qty"]),
        "kind": "STOP" if stop else form["orderType"].upper(), "price": D(form["price"]) if "price" in form else None,
        "stop": D(form["triggerPrice"]) if stop else None, "client": form.get("orderLinkId"),
        "reduce": form.get("reduceOnly", False),
    }  # fmt: skip


def _asked(market, form):
    return [
        o
        for o in market.orders
        if form.get("symbol", _sym(o["base"])) == _sym(o["base"])
        and form.get("orderId", str(o["id"])) == str(o["id"])
        and form.get("orderLinkId", o["client"]) == o["client"]
    ]


def _order(market, o):
    untriggered = o["kind"] == "STOP" and o["state"] == "NEW"
    partly = o["state"] == "CANCELED" and o["filled"]
    return {
        "symbol": _sym(o["base"]), "orderId": str(o["id"]), "orderLinkId": o["client"] or "",
        "orderType": "Limit" if o["kind"] == "LIMIT" else "Market", "side": o["side"].capitalize(),
        "orderStatus": "Untriggered" if untriggered else "PartiallyFilledCanceled" if partly else STATES[o["state"]],
        "qty": f"{o['qty']}", "cumExecQty": f"{o['filled']}", "cumExecValue": f"{o['cost']}",
        "leavesQty": f"{o['qty'] - o['filled'] if o['state'] in OPEN else 0}", "price": f"{o['price'] or 0}",
        "avgPrice": f"{o['cost'] / o['filled']}" if o["filled"] else "", "triggerPrice": f"{o['stop'] or 0}",
        "stopOrderType": "Stop" if o["kind"] == "STOP" else "", "reduceOnly": o["reduce"], "positionIdx": 0,
        "timeInForce": "GTC", "cumExecFee": "0", "rejectReason": "EC_NoError", "createdTime": str(o["at"]),
        "updatedTime": str(o["updated"]), **({} if market.perpetual else {"marketUnit": "baseCoin"}),
    }  # fmt: skip


def _trades(market, form):
    begin, end = int(form.get("startTime", 0)), int(form.get("endTime", 10**15))
    week = 7 * 86_400_000
    end = min(end, begin + week) if begin else end
    rows = [
        {
            "symbol": _sym(t["base"]), "orderId": str(t["order"]), "orderLinkId": t["client"] or "",
            "side": t["side"].capitalize(), "orderPrice": "0", "orderQty": "0", "execFee": f"{t['fee']}",
            "feeCurrency": t["coin"], "execId": f"x{t['id']}", "execPrice": f"{t['price']}", "execQty": f"{t['qty']}",
            "execType": "Trade", "execValue": f"{t['qty'] * t['price']}", "execTime": str(t["at"]), "isMaker": False,
            "feeRate": "0.001", "feeCoin": t["coin"],
        }
        for t in market.trades
        if begin <= t["at"] <= end
        and form.get("symbol", _sym(t["base"])) == _sym(t["base"])
        and form.get("orderId", str(t["order"])) == str(t["order"])
    ]  # fmt: skip
    return rows[::-1][: int(form.get("limit", 50))]


def _positions(market, form):
    rows = [
        {
            "positionIdx": 0, "symbol": _sym(base), "side": "Buy" if qty > 0 else "Sell", "size": f"{abs(qty)}",
            "avgPrice": f"{entry}", "positionValue": f"{abs(qty) * entry}", "tradeMode": 0,
            "leverage": f"{market.leverage}", "markPrice": f"{market.prices[base]}",
            "unrealisedPnl": f"{qty * (market.prices[base] - entry)}",
            "liqPrice": "", "positionStatus": "Normal",
        }
        for base, (qty, entry) in market.nets.items()
        if qty and form.get("symbol", _sym(base)) == _sym(base)
    ]  # fmt: skip
    if "symbol" in form and not rows:  # a market that is asked for by name is told flat too
        sides = (1, 2) if market.hedged else (0,)
        flat = {
            "side": "",
            "size": "0",
            "avgPrice": "0",
            "positionValue": "",
            "markPrice": "0",
            "leverage": f"{market.leverage}",
        }
        rows = [flat | {"positionIdx": n, "symbol": form["symbol"], "unrealisedPnl": ""} for n in sides]
    return rows


def _wallet(market):
    coins = [
        {
            "coin": coin, "walletBalance": f"{qty}", "equity": f"{qty + (market.open_profit if coin == 'USDT' else 0)}",
            "locked": f"{market.locked(coin)}", "totalPositionIM": f"{market.used if coin == 'USDT' else 0}",
            "totalOrderIM": "0", "borrowAmount": "0",
            "accruedInterest": "0", "unrealisedPnl": f"{market.open_profit if coin == 'USDT' else 0}",
            "availableToWithdraw": "",
        }
        for coin, qty in market.coins.items()
    ]  # fmt: skip
    return {"accountType": "UNIFIED", "totalEquity": "0", "coin": coins}


def _log(market, form):
    types = {"transfer": ("TRANSFER_IN", "TRANSFER_OUT"), "funding": ("SETTLEMENT",) * 2}
    rows = [
        {
            "id": f"{f['id']}", "symbol": f["base"] and _sym(f["base"]), "category": "linear", "currency": "USDT",
            "type": types[f["what"]][f["amount"] < 0], "change": f"{f['amount']}", "transactionTime": str(f["at"]),
            "funding": f"{f['amount']}" if f["what"] == "funding" else "", "cashFlow": "0", "fee": "0",
        }
        for f in market.flows
    ]  # fmt: skip
    rows += [
        {"id": f"t{t['id']}", "symbol": _sym(t["base"]), "currency": "USDT", "type": "TRADE", "change": "-1",
         "transactionTime": str(t["at"])}
        for t in market.trades
    ]  # fmt: skip
    begin, end = int(form["startTime"]), int(form["endTime"])
    assert end - begin <= 7 * 86_400_000, "the exchange takes seven days at most"
    return [r for r in rows if begin <= int(r["transactionTime"]) <= end][::-1][: int(form.get("limit", 20))]


def _listed(market):
    rows = []
    for base, (tick, step) in market.pairs.items():
        expiry = parted(base)[1]
        row = {
            "symbol": _sym(base), "baseCoin": parted(base)[0], "quoteCoin": "USDT", "priceFilter": {"tickSize": tick},
            "status": "Closed" if base in market.suspended else "Trading", "marginTrading": "none",
            "lotSizeFilter": {
                "basePrecision": step, "quotePrecision": "0.00000001", "minOrderQty": step, "maxOrderQty": "90000",
                "minOrderAmt": f"{market.least_cost}", "maxOrderAmt": "4000000",
            },
        }  # fmt: skip
        if market.perpetual:
            row |= {
                "contractType": "LinearFutures" if expiry else "LinearPerpetual",
                "settleCoin": "USDT", "launchTime": "1585526400000",
                "deliveryTime": f"{ends(expiry)}" if expiry else "0",
                "leverageFilter": {"minLeverage": "1", "maxLeverage": "100"}, "priceScale": "2",
                "lotSizeFilter": {
                    "qtyStep": step, "minOrderQty": step, "maxOrderQty": "90000",
                    "minNotionalValue": f"{market.least_cost}",
                },
            }  # fmt: skip
        rows.append(row)
    return rows
