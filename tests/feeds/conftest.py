"""A local server that speaks Yahoo's wire format: each ticker is a behaviour."""

import json
import threading
import time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from alphapivot.calendar import bar_ends

WIDTHS = {"1m": "1m", "5m": "5m", "15m": "15m", "1h": "1h", "60m": "1h"}


def chart(ticker, query):
    """The body of v8/finance/chart: sessions of New York between period1 and period2, priced by their date."""
    interval = query["interval"][0]
    end = int(query["period2"][0]) if "period2" in query else int(pd.Timestamp("2024-07-06").timestamp())
    start = int(query["period1"][0]) if "period1" in query else end - 86_400
    start, end = (pd.Timestamp(t, unit="s", tz="UTC") for t in (start, end))
    table = bar_ends.sessions("XNYS", start, end)
    table = table[(table["open"] >= start) & (table["open"] < end)]
    if ticker == "HALTED":  # for a week in June 2024
        table = table[(table.index < "2024-06-17") | (table.index >= "2024-06-24")]
    if interval == "1d":
        stamps = table["open"]
    else:
        width = bar_ends.INTERVALS[WIDTHS[interval]]
        begins = [
            pd.date_range(o, c, freq=width, inclusive="left")
            for o, c in zip(table["open"], table["close"], strict=True)
        ]
        stamps = pd.Series([t for day in begins for t in day if start <= t < end])
    n = len(stamps)
    low = [100.0 + i for i in range(n)]
    quote = {
        "open": [p + 1 for p in low],
        "high": [p + 3 for p in low],
        "low": low,
        "close": [p + 2 for p in low],
        "volume": [1000 + i for i in range(n)],
    }
    if ticker == "HOLES" and n > 1:  # Yahoo gives null where it has no price for a day
        for column in quote.values():
            column[1] = None
    if ticker == "INDEX":
        quote["volume"] = [0] * n
    periods = [
        [{"timezone": "EDT", "start": int(o.timestamp()), "end": int(c.timestamp()), "gmtoffset": -14400}]
        for o, c in zip(table["open"], table["close"], strict=True)
    ]
    meta = {
        "currency": "USD",
        "symbol": ticker,
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": "America/New_York",
        "timezone": "EDT",
        "gmtoffset": -14400,
        "priceHint": 2,
        "dataGranularity": interval,
        "validRanges": ["1d", "5d", "max"],
        "tradingPeriods": periods,
    }
    result = {"meta": meta, "timestamp": [int(t.timestamp()) for t in stamps], "indicators": {"quote": [quote]}}
    if interval == "1d":
        del meta["tradingPeriods"]
        result["indicators"]["adjclose"] = [{"adjclose": [c and c / 2 for c in quote["close"]]}]
    if ticker == "SPLIT":
        split(result, stamps, table["open"])
    if ticker == "EMPTY" or not n:
        del result["timestamp"]
        result["indicators"] = {"quote": [{}], "adjclose": [{}]}
    return {"chart": {"result": [result], "error": None}}


def split(result, stamps, sessions):
    """4 for 1 on 2 July 2024, and a dividend of 2 on 1 July: Yahoo gives prices and dividends in today's shares."""
    (quote,) = result["indicators"]["quote"]
    adjusted = [t < pd.Timestamp("2024-07-02", tz="UTC") for t in stamps]
    for name in ("open", "high", "low", "close"):
        quote[name] = [p / 4 if a else p for p, a in zip(quote[name], adjusted, strict=True)]
    quote["volume"] = [v * 4 if a else v for v, a in zip(quote["volume"], adjusted, strict=True)]
    opens = {f"{t:%Y-%m-%d}": int(t.timestamp()) for t in sessions}
    result["events"] = {"splits": {}, "dividends": {}}
    if at := opens.get("2024-07-02"):
        ratio = {"date": at, "numerator": 4.0, "denominator": 1.0, "splitRatio": "4:1"}
        result["events"]["splits"][str(at)] = ratio
    if at := opens.get("2024-07-01"):
        result["events"]["dividends"][str(at)] = {"date": at, "amount": 0.5}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/v1/test/getcrumb":
            self.answer(200, "a.crumb", kind="text/plain")
        elif url.path.startswith("/v8/finance/chart/"):
            self.ticker(url.path.rsplit("/", 1)[1], query)
        elif url.path == "/":  # fc.yahoo.com: an error page that brings the cookie
            self.answer(404, "<html></html>", kind="text/html")
        else:
            self.answer(404, json.dumps({"finance": {"result": None, "error": {"code": "Not Found"}}}))

    def ticker(self, ticker, query):
        self.server.asked[ticker] += 1
        if ticker == "NOBODY":
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            self.answer(404, json.dumps({"chart": {"result": None, "error": error}}))
        elif ticker == "LIMITED" or (ticker == "BUSY" and self.server.asked[ticker] == 1):
            self.answer(429, "Too Many Requests\r\n", kind="text/plain", headers={"Retry-After": "0.1"})
        elif ticker == "DATED" and self.server.asked[ticker] == 1:
            at = formatdate(time.time() + 1, usegmt=True)
            self.answer(429, "Too Many Requests\r\n", kind="text/plain", headers={"Retry-After": at})
        elif ticker.startswith("HANGS"):
            self.server.over.wait(60)
            self.close_connection = True
        elif ticker == "BROKEN":
            self.answer(500, "<html>Internal Server Error</html>", kind="text/html")
        elif ticker == "PAGE":
            self.answer(200, "<html><body>Sign in</body></html>", kind="text/html")
        elif ticker == "CUT":
            body = json.dumps(chart(ticker, query))
            self.answer(200, body[: len(body) // 2], length=len(body))
            self.close_connection = True
        elif ticker == "HALF":
            body = json.dumps(chart(ticker, query))
            self.answer(200, body[: len(body) // 2])
        else:
            self.answer(200, json.dumps(chart(ticker, query)))

    def answer(self, status, text, *, kind="application/json", headers=None, length=None):
        body = text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(length or len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def yahoo(tmp_path_factory, monkeypatch):
    """The server's address, and how often each ticker was requested."""
    # yfinance takes its cache's folder once a process: the first test's serves them all
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path_factory.mktemp("yahoo")))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.over = Counter(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
