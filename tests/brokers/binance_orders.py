"""
Binance's spot and USD-M futures accounts, in its format: fields as in its documentation and in ccxt's own examples
(https://developers.binance.com/docs/binance-spot-api-docs/rest-api, .../derivatives/usds-margined-futures).
"""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import parse_qsl

from tests.brokers.crypto_market import OPEN, Handler, Market, Refused, ends, joined, parted

D = Decimal
ERRORS = {
    "symbol": (400, -1121, "Invalid symbol."),
    "filter": (400, -1013, "Filter failure: LOT_SIZE"),
    "least": (400, -1013, "Filter failure: NOTIONAL"),
    "immediately": (400, -2010, "Stop price would trigger immediately."),
    "funds": (400, -2010, "Account has insufficient balance for requested action."),
    "duplicate": (400, -2010, "Duplicate order sent."),
    "missing": (400, -2013, "Order does not exist."),
    "too late": (400, -2011, "Unknown order sent."),
    "keys": (401, -2015, "Invalid API-key, IP, or permissions for action."),
    "format": (401, -2014, "API-key format invalid."),
    "signature": (400, -1022, "Signature for this request is not valid."),
    "clock": (400, -1021, "Timestamp for this request is outside of the recvWindow."),
    "400": (400, -1013, "Invalid quantity."),
    "margin": (400, -2019, "Margin is insufficient."),
    "429": (429, -1003, "Too many requests."),
    "418": (418, -1003, "Way too much request weight used; IP banned."),
    "unknown": (400, -1006, "An unexpected response was received from the message bus. Execution status unknown."),
    "timeout": (408, -1007, "Timeout waiting for response from backend server. Send status unknown."),
    "busy": (503, -1008, "Server is currently overloaded with other requests."),
    "internal": (500, -1000, "An unknown error occurred while processing the request."),
    "json 500": (500, -2010, "Account has insufficient balance for requested action."),
}
STOPS = ("STOP_LOSS", "STOP_MARKET")
DONE = {"NEW": "NEW", "FINISHED": "FINISHED", "CANCELED": "CANCELED", "EXPIRED": "EXPIRED"}


def market(**terms):
    return Market(BinanceHandler, **terms)


class BinanceHandler(Handler):
    def refused(self, what):
        status, code, text = ERRORS[what]
        if self.server.market.perpetual and what == "immediately":
            code, text = -2021, "Order would immediately trigger."
        if self.server.market.perpetual and what == "duplicate":
            code, text = -4116, "ClientOrderId is duplicated."
        return status, json.dumps({"code": code, "msg": text}, separators=(",", ":"))

    def signed(self, market, method, url, body):
        private = ("order", "Order", "account", "myTrades", "userTrades", "positionRisk", "income", "leverageBracket")
        private += ("symbolConfig",)
        if not any(word in url.path for word in private):
            return
        if self.headers["X-MBX-APIKEY"] != market.key:
            raise Refused("keys")
        text = url.query or body
        sent, _, given = text.rpartition("&signature=")
        made = hmac.new(market.secret.encode(), sent.encode(), hashlib.sha256).hexdigest()
        if given != made:
            raise Refused("signature")
        assert "timestamp" in dict(parse_qsl(sent))

    def answered(self, market, method, path, form):
        if path.startswith("/futures/data/"):
            return self._futures(market, method, path.split("/", 3)[3], form)
        if path.startswith("/fapi"):
            return self._futures(market, method, path.split("/", 3)[3], form)
        name = path.split("/", 3)[3]
        if (method, name) == ("POST", "order"):
            return self._order(market, market.place(_form(form)), created=True)
        if name == "order":
            ids = form.get("orderId"), form.get("origClientOrderId")
            return self._order(market, market.find(*ids) if method == "GET" else market.cancel(*ids))
        return {
            "exchangeInfo": lambda: _info(market),
            "account": lambda: self._account(market),
            "openOrders": lambda: [self._order(market, o) for o in market.orders if o["state"] in OPEN],
            "allOrders": lambda: [self._order(market, o) for o in market.orders],
            "myTrades": lambda: [self._trade(t) for t in _trades(market, form)],
            "ticker/24hr": lambda: _tickers(market),
            "klines": lambda: _klines(market, form),
        }[name]()

    def _order(self, market, o, *, created=False):
        row = {
            "symbol": _sym(o["base"]), "orderId": o["id"], "orderListId": -1, "clientOrderId": o["client"],
            "price": f"{o['price'] or D(0):.8f}", "origQty": f"{o['qty']:.8f}", "executedQty": f"{o['filled']:.8f}",
            "cummulativeQuoteQty": f"{o['cost']:.8f}", "status": o["state"], "timeInForce": "GTC",
            "type": {"STOP": "STOP_LOSS"}.get(o["kind"], o["kind"]), "side": o["side"], "isWorking": True,
            "stopPrice": f"{o['stop'] or D(0):.8f}", "time": o["at"], "updateTime": o["updated"],
        }  # fmt: skip
        return row | {"transactTime": o["at"], "fills": []} if created else row

    def _trade(self, t):
        return {
            "symbol": _sym(t["base"]), "id": t["id"], "orderId": t["order"], "orderListId": -1,
            "price": f"{t['price']:.8f}", "qty": f"{t['qty']:.8f}", "quoteQty": f"{t['qty'] * t['price']:.8f}",
            "commission": f"{t['fee']:.8f}", "commissionAsset": t["coin"], "time": t["at"],
            "isBuyer": t["side"] == "BUY", "isMaker": False, "isBestMatch": True,
        }  # fmt: skip

    def _account(self, market):
        rows = [
            {"asset": c, "free": f"{q - market.locked(c):.8f}", "locked": f"{market.locked(c):.8f}"}
            for c, q in market.coins.items()
        ]
        return {
            "makerCommission": 10, "takerCommission": 10, "canTrade": "trade" in market.permissions,
            "canWithdraw": False, "canDeposit": True,
            "updateTime": market.ms, "accountType": "SPOT", "balances": rows, "permissions": ["SPOT"],
            "uid": int(market.uid),
        }  # fmt: skip

    def _futures(self, market, method, name, form):
        if (method, name) == ("POST", "order"):
            return self._contract(market.place(_form(form)))
        if (method, name) == ("POST", "algoOrder"):
            assert form["algoType"] == "CONDITIONAL"
            return self._algo(market.place(_form(form)))
        if name == "order":
            ids = form.get("orderId"), form.get("origClientOrderId")
            return self._contract(market.find(*ids) if method == "GET" else market.cancel(*ids))
        if name == "algoOrder":
            ids = form.get("algoId"), form.get("clientAlgoId")
            if method == "GET":
                return self._algo(market.find(*ids, trigger=True))
            order = market.cancel(*ids, trigger=True)
            return {"algoId": order["id"], "clientAlgoId": order["client"], "code": "200", "msg": "success"}
        return {
            "exchangeInfo": lambda: _info(market),
            "account": lambda: self._wallet(market),
            "openOrders": lambda: [self._contract(o) for o in market.orders if o["state"] in OPEN],
            "openAlgoOrders": lambda: [self._algo(o) for o in market.triggers if o["state"] in OPEN],
            "allAlgoOrders": lambda: [self._algo(o) for o in market.triggers],
            "userTrades": lambda: [self._contract_trade(t) for t in _trades(market, form)],
            "ticker/24hr": lambda: _tickers(market),
            "leverageBracket": lambda: _brackets(market),
            "symbolConfig": lambda: [_config(market, base) for base in market.pairs],
            "positionSide/dual": lambda: {"dualSidePosition": market.hedged},
            "positionRisk": lambda: self._positions(market),
            "income": lambda: _income(market, form),
            "delivery-price": lambda: [
                {"deliveryTime": ends(parted(e["base"])[1]), "deliveryPrice": float(e["price"])} for e in market.ended
            ],
        }[name]()

    def _contract(self, o):
        average = o["cost"] / o["filled"] if o["filled"] else D(0)
        return {
            "orderId": o["id"], "symbol": _sym(o["base"]), "status": o["state"], "clientOrderId": o["client"],
            "price": f"{o['price'] or D(0)}", "avgPrice": f"{average}", "origQty": f"{o['qty']}",
            "executedQty": f"{o['filled']}", "cumQuote": f"{o['cost']}", "timeInForce": "GTC", "type": o["kind"],
            "reduceOnly": o["reduce"], "closePosition": False, "side": o["side"], "positionSide": "BOTH",
            "stopPrice": "0", "workingType": "CONTRACT_PRICE", "priceProtect": False, "origType": o["kind"],
            "time": o["at"], "updateTime": o["updated"],
        }  # fmt: skip

    def _algo(self, o):
        return {
            "algoId": o["id"], "clientAlgoId": o["client"], "algoType": "CONDITIONAL", "orderType": "STOP_MARKET",
            "symbol": _sym(o["base"]), "side": o["side"], "positionSide": "BOTH", "timeInForce": "GTC",
            "quantity": f"{o['qty']}", "algoStatus": DONE[o["state"]], "triggerPrice": f"{o['stop']}", "price": "0",
            "actualOrderId": str(o["child"] or ""), "actualPrice": "0", "reduceOnly": o["reduce"],
            "closePosition": False, "workingType": "CONTRACT_PRICE", "createTime": o["at"], "updateTime": o["updated"],
            "triggerTime": 0, "goodTillDate": 0,
        }  # fmt: skip

    def _contract_trade(self, t):
        return {
            "symbol": _sym(t["base"]), "id": t["id"], "orderId": t["order"], "side": t["side"],
            "price": f"{t['price']}", "qty": f"{t['qty']}", "quoteQty": f"{t['qty'] * t['price']}", "realizedPnl": "0",
            "commission": f"{t['fee']}", "commissionAsset": t["coin"], "time": t["at"], "positionSide": "BOTH",
            "buyer": t["side"] == "BUY", "maker": False,
        }  # fmt: skip

    def _wallet(self, market):
        assets = [
            {
                "asset": coin, "walletBalance": f"{qty}", "unrealizedProfit": f"{market.open_profit}",
                "marginBalance": f"{qty + (market.open_profit if coin == 'USDT' else 0)}", "initialMargin": "0",
                "maintMargin": "0", "availableBalance": f"{market.free if coin == 'USDT' else qty}",
                "updateTime": market.ms,
            }
            for coin, qty in market.coins.items()
        ]  # fmt: skip
        return {"totalWalletBalance": "0", "assets": assets, "positions": []}

    def _positions(self, market):
        return [
            {
                "symbol": _sym(base), "positionSide": "BOTH", "positionAmt": f"{qty}", "entryPrice": f"{entry}",
                "breakEvenPrice": f"{entry}", "markPrice": f"{market.prices[base]}", "liquidationPrice": "0",
                "unRealizedProfit": f"{qty * (market.prices[base] - entry)}", "isolatedMargin": "0",
                "notional": f"{qty * market.prices[base]}", "marginAsset": "USDT", "isolatedWallet": "0",
                "initialMargin": "0", "maintMargin": "0", "positionInitialMargin": "0", "updateTime": market.ms,
            }
            for base, (qty, entry) in market.nets.items()
            if qty
        ]  # fmt: skip


def _sym(base):
    """AUSDT, of a dated future AUSDT_260327."""
    name, expiry = parted(base)
    return f"{name}USDT" + (f"_{expiry}" if expiry else "")


def _base(symbol):
    pair, _, expiry = symbol.partition("_")
    return joined(pair.removesuffix("USDT"), expiry)


def _form(form):
    kind = form["type"]
    return {
        "base": _base(form["symbol"]), "side": form["side"], "qty": D(form["quantity"]),
        "kind": "STOP" if kind in STOPS else kind, "price": D(form["price"]) if "price" in form else None,
        "stop": D(form.get("stopPrice") or form.get("triggerPrice")) if kind in STOPS else None,
        "client": form.get("newClientOrderId") or form.get("clientAlgoId"),
        "reduce": form.get("reduceOnly", "false").lower() == "true",
    }  # fmt: skip


def _trades(market, form):
    base = _base(form["symbol"])
    begin, end = int(form.get("startTime", 0)), int(form.get("endTime", 10**15))
    if market.perpetual and end - begin > 7 * 86_400_000:
        end = begin + 7 * 86_400_000
    of = form.get("orderId")
    found = [t for t in market.trades if t["base"] == base and begin <= t["at"] <= end]
    return [t for t in found if of is None or str(t["order"]) == of][: int(form.get("limit", 500))]


DELIVERED = "DELIVERED_SETTELMENT"  # its spelling
INCOME = {"transfer": "TRANSFER", "funding": "FUNDING_FEE", "insurance": "INSURANCE_CLEAR"}


def _income(market, form):
    rows = [(f["at"], INCOME[f["what"]], f["amount"], f["base"], "USDT", f["id"]) for f in market.flows]
    rows += [(t["at"], "COMMISSION", -t["fee"], t["base"], t["coin"], t["id"]) for t in market.trades]
    for e in market.ended:
        at = ends(parted(e["base"])[1])
        rows.append((at, DELIVERED, e["profit"], e["base"], "USDT", 1))
        rows.append((at, "COMMISSION", -e["fee"], e["base"], "USDT", 2))
    since = int(form.get("startTime", market.ms - 7 * 86_400_000))
    told = [
        {
            "symbol": base and _sym(base), "incomeType": what, "income": f"{amount:.8f}", "asset": coin,
            "info": what, "time": at, "tranId": number, "tradeId": "",
        }
        for at, what, amount, base, coin, number in sorted(rows)
        if at >= since
        and form.get("incomeType", what) == what
        and form.get("symbol", base and _sym(base)) == (base and _sym(base))
    ]  # fmt: skip
    return told[: int(form.get("limit", 100))]


def _config(market, base):
    kind = {"cross": "CROSSED", "isolated": "ISOLATED"}[market.mode]
    row = {"symbol": _sym(base), "marginType": kind, "isAutoAddMargin": False, "leverage": int(market.leverage)}
    return row | {"maxNotionalValue": "1000000"}


def _brackets(market):
    floors = [D(0), *(most for most, _ in market.tiers)]
    rows = [
        {
            "bracket": n, "initialLeverage": 100, "notionalCap": int(most), "notionalFloor": int(floors[n - 1]),
            "maintMarginRatio": float(rate), "cum": 0.0,
        }
        for n, (most, rate) in enumerate(market.tiers, 1)
    ]  # fmt: skip
    return [{"symbol": _sym(base), "notionalCoef": 1.5, "brackets": rows} for base in market.pairs]


def _klines(market, form):
    """Candles of days; the one in progress among them."""
    assert form["interval"] == "1d"
    day, limit = 86_400_000, int(form.get("limit", 500))
    starts = range(-(-int(form["startTime"]) // day) * day, market.ms + 1, day)[:limit]
    rows = [(at, market.candle(datetime.fromtimestamp(at / 1000, UTC))) for at in starts]
    return [[at, *map(str, prices), "1000.5", at + day - 1, "1.0", 5, "1.0", "1.0", "0"] for at, prices in rows]


def _tickers(market):
    return [
        {"symbol": _sym(base), "lastPrice": f"{price}", "closeTime": market.ms, "openTime": market.ms}
        for base, price in market.prices.items()
    ]


def _info(market):
    rows = []
    for base, (tick, step) in market.pairs.items():
        expiry = parted(base)[1]
        row = {
            "symbol": _sym(base), "status": "BREAK" if base in market.suspended else "TRADING",
            "baseAsset": parted(base)[0],
            "quoteAsset": "USDT", "baseAssetPrecision": 8, "quotePrecision": 8, "quoteAssetPrecision": 8,
            "permissions": [], "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT"],
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
                {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "90000", "stepSize": step},
                {"filterType": "NOTIONAL", "minNotional": f"{market.least_cost}", "applyMinToMarket": True},
            ],
        }  # fmt: skip
        if market.perpetual:
            row |= {
                "pair": parted(base)[0] + "USDT", "contractType": "CURRENT_QUARTER" if expiry else "PERPETUAL",
                "deliveryDate": ends(expiry) if expiry else 4133404800000,
                "marginAsset": "USDT",
                "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"],
            }  # fmt: skip
            row["filters"][2] = {"filterType": "MIN_NOTIONAL", "notional": f"{market.least_cost}"}
        rows.append(row)
    return {"timezone": "UTC", "serverTime": market.ms, "rateLimits": [], "exchangeFilters": [], "symbols": rows}
