"""
OKX's account, in the format of its API v5: fields as in its documentation and in ccxt's own examples
(https://www.okx.com/docs-v5).

- A refusal is code 1 with an sCode in its data, status 200.
- Stops are algo orders, on spot too: numbers, ids and lists of their own; one that fires names its order in ordIdList.
- An order that was cancelled unfilled is shown for two hours: tests take it away.
- Perpetuals are in contracts of ``size`` units.
"""

import base64
import hashlib
import hmac
import json
import re
from decimal import Decimal

from tests.brokers.crypto_market import OPEN, Handler, Market, Refused, ends, joined, parted

D = Decimal
ERRORS = {  # what -> sCode of an order's refusal, or code of the whole request
    "symbol": ("51001", "Instrument ID does not exist"),
    "filter": ("51121", "Order quantity must be a multiple of the lot size."),
    "least": ("51020", "Your order should meet or exceed the minimum order amount."),
    "immediately": ("51278", "SL trigger price cannot be higher than the last price"),
    "funds": ("51008", "Order failed. Insufficient USDT balance in account"),
    "margin": ("51008", "Order failed. Insufficient USDT margin in account"),
    "duplicate": ("51016", "Client order ID already exists"),
    "missing": ("51603", "Order does not exist"),
    "too late": ("51400", "Cancellation failed as the order has been filled, canceled or does not exist"),
    "400": ("51000", "Parameter sz error"),
    "timeout": ("51149", "Order timed out. Please try again later."),
    "keys": ("50111", "Invalid OK-ACCESS-KEY"),
    "permission": ("50120", "This API key doesn't have permission to use this function"),
    "address": ("50110", "Your IP 1.2.3.4 is not included in your API key's IP whitelist."),
    "signature": ("50113", "Invalid Sign"),
    "clock": ("50102", "Timestamp request expired"),
    "429": ("50011", "Too Many Requests"),
    "internal": ("50026", "System error. Try again later"),
}
ONE = ("trade/order", "trade/order-algo", "trade/cancel-order", "trade/cancel-algos")
WHOLE = ("keys", "permission", "address", "signature", "clock", "429", "internal", "missing")
STATUS = {"keys": 401, "permission": 401, "address": 401, "signature": 401, "clock": 401, "429": 429, "internal": 500}
STATES = {"NEW": "live", "PARTIALLY_FILLED": "partially_filled", "FILLED": "filled", "EXPIRED": "canceled"}
STATES |= {"CANCELED": "canceled", "FINISHED": "effective"}


def market(**terms):
    made = Market(OkxHandler, triggers=True, **terms)
    made.separate = True
    return made


class OkxHandler(Handler):
    def refused(self, what):
        code, text = ERRORS[what]
        row = {"sCode": code, "sMsg": text, "ordId": "", "clOrdId": "", "tag": ""}
        body = {"code": code, "msg": text, "data": []} if what in WHOLE else {"code": "1", "msg": "", "data": [row]}
        return STATUS.get(what, 200), json.dumps(body, separators=(",", ":"))

    def read(self, body):
        told = json.loads(body) if body else {}
        return told[0] if isinstance(told, list) else told

    def signed(self, market, method, url, body):
        if "/public/" in url.path or "/market/" in url.path:
            return
        if self.headers["OK-ACCESS-KEY"] != market.key or self.headers["OK-ACCESS-PASSPHRASE"] != "p":
            raise Refused("keys")
        text = self.headers["OK-ACCESS-TIMESTAMP"] + method + self.path + body
        made = base64.b64encode(hmac.new(market.secret.encode(), text.encode(), hashlib.sha256).digest()).decode()
        if self.headers["OK-ACCESS-SIGN"] != made:
            raise Refused("signature")

    def answered(self, market, method, path, form):
        return {"code": "0", "msg": "", "data": self._data(market, method, path.removeprefix("/api/v5/"), form)}

    def _data(self, market, method, name, form):
        if name in ONE:
            return [self._one(market, method, name, form)]
        return {
            "public/instruments": lambda: _listed(market),
            "market/tickers": lambda: [{"instId": _id(market, b), "last": f"{p}"} for b, p in market.prices.items()],
            "account/config": lambda: [_config(market)],
            "account/balance": lambda: [_balance(market)],
            "account/positions": lambda: _positions(market),
            "account/leverage-info": lambda: [
                {"instId": form["instId"], "lever": f"{market.leverage}", "mgnMode": form["mgnMode"], "posSide": "net"}
            ],
            "public/position-tiers": lambda: _tiers(market, form),
            "account/bills-archive": lambda: _bills(market, form),
            "trade/orders-pending": lambda: [_order(market, o) for o in market.orders if o["state"] in OPEN],
            "trade/orders-algo-pending": lambda: [_algo(market, o) for o in market.triggers if o["state"] in OPEN],
            "trade/orders-algo-history": lambda: [
                _algo(market, o) for o in market.triggers if o["state"] == "FINISHED"
            ],
            "trade/fills-history": lambda: _fills(market, form),
        }[name]()

    def _one(self, market, method, name, form):
        """What is done with one order, or one trigger."""
        trigger = "algo" in name
        ids = (form.get("algoId"), form.get("algoClOrdId")) if trigger else (form.get("ordId"), form.get("clOrdId"))
        if method == "GET":
            found = market.find(*ids, trigger=trigger)
            return _algo(market, found) if trigger else _order(market, found)
        order = market.cancel(*ids, trigger=trigger) if "cancel" in name else market.place(_form(market, form))
        names = ("algoId", "algoClOrdId") if trigger else ("ordId", "clOrdId")
        return {names[0]: str(order["id"]), names[1]: order["client"], "tag": "", "sCode": "0", "sMsg": ""}


def _id(market, base):
    """A-USDT, A-USDT-SWAP, of a dated future A-USDT-260327."""
    name, expiry = parted(base)
    return f"{name}-USDT" + (f"-{expiry}" if expiry else "-SWAP" if market.perpetual else "")


def _uly(market, base):
    return f"{parted(base)[0]}-USDT" if market.perpetual else ""


def _base(name):
    parts = name.split("-")
    return joined(parts[0], parts[2] if len(parts) > 2 and parts[2] != "SWAP" else "")


def _kind(market):
    return "FUTURES" if market.dated else "SWAP" if market.perpetual else "SPOT"


def _form(market, form):
    assert form["tdMode"] == (market.mode if market.perpetual else "cash")
    stop = form["ordType"] == "trigger"
    name = form["algoClOrdId"] if stop else form["clOrdId"]
    if not re.fullmatch(r"[A-Za-z0-9]{1,32}", name):
        raise Refused("400")
    if not market.perpetual and form["ordType"] == "market":
        assert form["tgtCcy"] == "base_ccy"
    if stop:
        assert form["orderPx"] == "-1"
    return {
        "base": _base(form["instId"]), "side": form["side"].upper(), "qty": D(form["sz"]),
        "kind": "STOP" if stop else form["ordType"].upper(), "price": D(form["px"]) if "px" in form else None,
        "stop": D(form["triggerPx"]) if stop else None, "client": name, "reduce": bool(form.get("reduceOnly")),
    }  # fmt: skip


def _order(market, o):
    return {
        "instType": _kind(market), "instId": _id(market, o["base"]), "ordId": str(o["id"]),
        "clOrdId": o["client"] or "", "px": f"{o['price']}" if o["price"] else "", "sz": f"{o['qty']}",
        "ordType": o["kind"].lower(), "side": o["side"].lower(), "posSide": "net", "accFillSz": f"{o['filled']}",
        "avgPx": f"{o['cost'] / o['filled']}" if o["filled"] else "", "state": STATES[o["state"]], "fee": "0",
        "feeCcy": "USDT", "reduceOnly": str(o["reduce"]).lower(), "tgtCcy": "" if market.perpetual else "base_ccy",
        "tdMode": "cross" if market.perpetual else "cash", "cTime": str(o["at"]), "uTime": str(o["updated"]),
        "attachAlgoOrds": [], "algoId": "", "algoClOrdId": "",
    }  # fmt: skip


def _algo(market, o):
    return {
        "instType": _kind(market), "instId": _id(market, o["base"]), "algoId": str(o["id"]),
        "algoClOrdId": o["client"], "clOrdId": "", "ordId": str(o["child"] or ""),
        "ordIdList": [str(o["child"])] if o["child"] else [], "ordType": "trigger", "side": o["side"].lower(),
        "sz": f"{o['qty']}", "triggerPx": f"{o['stop']}", "triggerPxType": "last", "ordPx": "-1",
        "state": {"EXPIRED": "order_failed"}.get(o["state"], STATES[o["state"]]), "failCode": o["reason"] or "",
        "reduceOnly": str(o["reduce"]).lower(), "cTime": str(o["at"]), "uTime": str(o["updated"]),
    }  # fmt: skip


def _fills(market, form):
    begin, end = int(form.get("begin", 0)), int(form.get("end", 10**15))
    rows = [
        {
            "instType": form["instType"], "instId": _id(market, t["base"]), "tradeId": str(t["id"]),
            "ordId": str(t["order"]), "clOrdId": t["client"] or "", "billId": str(t["id"]), "fillPx": f"{t['price']}",
            "fillSz": f"{t['qty']}", "side": t["side"].lower(), "posSide": "net", "execType": "T",
            "feeCcy": t["coin"], "fee": f"{-t['fee']}", "ts": str(t["at"]), "fillTime": str(t["at"]),
        }
        for t in market.trades
        if begin <= t["at"] <= end
        and form.get("instId", _id(market, t["base"])) == _id(market, t["base"])
        and form.get("ordId", str(t["order"])) == str(t["order"])
    ]  # fmt: skip
    return rows[::-1][: int(form.get("limit", 100))]


def _config(market):
    return {
        "uid": market.uid, "mainUid": market.uid, "acctLv": "2" if market.perpetual else "1",
        "posMode": "long_short_mode" if market.hedged else "net_mode", "perm": market.permissions, "ip": "",
    }  # fmt: skip


def _balance(market):
    details = [
        {
            "ccy": coin, "eq": f"{qty + (market.open_profit if coin == 'USDT' else 0)}", "cashBal": f"{qty}",
            "availEq": f"{market.free if coin == 'USDT' else qty}" if market.perpetual else "",
            "availBal": f"{qty - market.locked(coin)}",
            "frozenBal": f"{market.locked(coin)}", "upl": "0", "uTime": str(market.ms),
        }
        for coin, qty in market.coins.items()
    ]  # fmt: skip
    return {"totalEq": "0", "uTime": str(market.ms), "details": details}


def _positions(market):
    return [
        {
            "instType": _kind(market), "instId": _id(market, base), "posSide": "net", "pos": f"{qty}",
            "avgPx": f"{entry}", "markPx": f"{market.prices[base]}",
            "upl": f"{qty * (market.prices[base] - entry) * market.size}",
            "notionalUsd": f"{abs(qty) * market.prices[base] * market.size}", "mgnMode": market.mode,
            "lever": f"{market.leverage}",
            "imr": "0", "mmr": "0", "margin": "", "liqPx": "", "uplRatio": "0", "cTime": "0", "uTime": str(market.ms),
        }
        for base, (qty, entry) in market.nets.items()
        if qty
    ]  # fmt: skip


def _tiers(market, form):
    """In contracts."""
    value = next(p for b, p in market.prices.items() if form["instFamily"] == f"{parted(b)[0]}-USDT") * market.size
    assert (form["instType"], form["tdMode"]) == (_kind(market), market.mode)
    return [
        {
            "tier": f"{n}", "instId": "", "instFamily": form["instFamily"], "minSz": "0", "maxSz": f"{most / value}",
            "imr": "0.01", "mmr": f"{rate}", "maxLever": "100", "uly": form["instFamily"],
        }
        for n, (most, rate) in enumerate(market.tiers, 1)
    ]  # fmt: skip


def _bills(market, form):
    types = {"transfer": "1", "funding": "8"}
    rows = [
        (f["at"], {"billId": str(f["id"]), "ccy": "USDT", "balChg": f"{f['amount']}", "type": types[f["what"]],
                   "subType": "", "instId": f["base"] and _id(market, f["base"]), "ts": str(f["at"])})
        for f in market.flows
    ]  # fmt: skip
    rows += [
        (
            t["at"],
            {"billId": f"{t['id']}0", "ccy": "USDT", "balChg": "-1", "type": "2", "instId": "", "ts": str(t["at"])},
        )
        for t in market.trades
    ]
    rows += [
        (
            ends(parted(e["base"])[1]),
            {"billId": "77", "ccy": "USDT", "type": "3", "subType": "112" if e["qty"] > 0 else "113",
             "instId": _id(market, e["base"]), "sz": f"{abs(e['qty'])}", "px": f"{e['price']}", "fee": f"{-e['fee']}",
             "pnl": f"{e['profit']}", "balChg": f"{e['profit'] - e['fee']}", "ts": str(ends(parted(e["base"])[1]))},
        )
        for e in market.ended
    ]  # fmt: skip
    rows = [(at, row) for at, row in rows if form.get("type", row["type"]) == row["type"]]
    told = [row for at, row in sorted(rows, key=lambda r: r[0], reverse=True) if at >= int(form.get("begin", 0))]
    ids = [row["billId"] for row in told]
    return told[ids.index(form["after"]) + 1 if form.get("after") in ids else 0 :][: int(form.get("limit", 100))]


def _listed(market):
    return [
        {
            "instType": _kind(market), "instId": _id(market, base), "tickSz": tick,
            "lotSz": step, "minSz": step, "state": "suspend" if base in market.suspended else "live", "lever": "10",
            "baseCcy": "" if market.perpetual else base, "quoteCcy": "" if market.perpetual else "USDT",
            "settleCcy": "USDT" if market.perpetual else "", "uly": _uly(market, base),
            "ctVal": f"{market.size}" if market.perpetual else "", "ctType": "linear" if market.perpetual else "",
            "maxLmtSz": "90000", "maxMktSz": "90000", "instFamily": _uly(market, base),
            "expTime": f"{ends(parted(base)[1])}" if parted(base)[1] else "",
        }
        for base, (tick, step) in market.pairs.items()
    ]  # fmt: skip
