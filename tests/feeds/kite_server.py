"""
A local server that answers as Kite Connect 3 documents (https://kite.trade/docs/connect/v3/, answers recorded in
zerodha/kiteconnect-mocks): its login, its list of instruments as CSV, its candles.

- Candles are stamped at their start in India, the day in progress comes too, open interest with oi=1 (historical).
- The list holds what is listed today; an expired contract is in no list and its token has no candles (historical).
- More days than an interval allows in one request are an InputException (forum, discussion 3105).
- A token that is over is 403 TokenException; too many requests are 429 (exceptions).
"""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import hours_of

API_KEY, SECRET, REQUEST, TOKEN = "key", "a-secret", "request1", "token1"
HEAD = "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,"
HEAD += "segment,exchange"
LISTED = {
    "NSE": [
        "408065,1594,INFY,INFOSYS,0.0,,0.0,0.05,1,EQ,NSE,NSE",
        "256265,1001,NIFTY 50,NIFTY 50,0.0,,0.0,0.0,0,EQ,INDICES,NSE",
    ],
    "NFO": [
        "101,1,NIFTY25DECFUT,NIFTY,0.0,2025-12-30,0.0,0.1,75,FUT,NFO-FUT,NFO",
        "102,2,NIFTY26JANFUT,NIFTY,0.0,2026-01-27,0.0,0.1,65,FUT,NFO-FUT,NFO",
        "103,3,NIFTY25DEC24000CE,NIFTY,0.0,2025-12-30,24000.0,0.05,75,CE,NFO-OPT,NFO",
    ],
}
HOURS = hours_of("NSE", None, "spot")
LONGEST = {"minute": 60, "5minute": 100, "15minute": 200, "30minute": 200, "60minute": 400, "day": 2000}


class Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # else each answer waits 40 ms

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.asked.append(self.path)
        parts = url.path.strip("/").split("/")
        if self.server.failures:
            self.error(*self.server.failures.pop(0))
        elif self.headers["Authorization"] != f"token {API_KEY}:{TOKEN}":
            self.error(403, "TokenException", "Incorrect `api_key` or `access_token`.")
        elif parts[:2] == ["instruments", "historical"]:
            self.candles(int(parts[2]), parts[3], query)
        else:
            self.answer(200, "\n".join([HEAD, *LISTED[parts[1]]]), "text/csv")

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        checksum = hashlib.sha256(f"{API_KEY}{REQUEST}{SECRET}".encode()).hexdigest()
        if form["request_token"] != [REQUEST] or form["checksum"] != [checksum]:
            self.error(403, "TokenException", "Token is invalid or has expired.")
            return
        data = {"user_id": "XX0000", "api_key": API_KEY, "access_token": TOKEN, "login_time": "2021-01-01 16:15:14"}
        self.answer(200, json.dumps({"status": "success", "data": data}))

    def candles(self, token: int, size: str, query: dict[str, str]) -> None:
        since, until = (pd.Timestamp(query[name], tz="Asia/Kolkata") for name in ("from", "to"))
        if until - since > pd.Timedelta(days=LONGEST[size]):
            self.error(400, "InputException", f"interval exceeds max limit: {LONGEST[size]} days")
            return
        table = bar_ends.sessions(HOURS, since - pd.Timedelta(days=1), until + pd.Timedelta(days=1))
        starts = [day.tz_localize("Asia/Kolkata") for day in table.index]
        if size != "day":
            width = pd.Timedelta(minutes=int(size.removesuffix("minute") or 1))
            spans = zip(table["open"], table["close"], strict=True)
            starts = [
                t.tz_convert("Asia/Kolkata")
                for a, b in spans
                for t in pd.date_range(a, b, freq=width, inclusive="left")
            ]
        oi = [75_000] if query["oi"] == "1" else []
        rows = [[f"{at:%Y-%m-%dT%H:%M:%S%z}", *self.bar(at), 1000, *oi] for at in starts if since <= at <= until]
        self.answer(200, json.dumps({"status": "success", "data": {"candles": rows if token < 10**6 else []}}))

    def bar(self, at: pd.Timestamp) -> tuple[float, ...]:
        """Open, high, low and close of a candle."""
        return 100.5, 102, 99, 101

    def error(self, status: int, kind: str, message: str) -> None:
        body = {"status": "error", "message": message, "data": None, "error_type": kind}
        self.answer(status, json.dumps(body))

    def answer(self, status: int, text: str, kind: str = "application/json") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""
