"""
A local server that answers as three providers document: Tiingo's daily prices, Polygon's aggregates, Stooq's CSV.

https://www.tiingo.com/documentation/end-of-day: a JSON list, prices as traded, divCash and splitFactor beside them.
https://polygon.io/docs/rest/stocks/aggregates/custom-bars: results with t in milliseconds at the bar's start, and a
next_url without the key. Stooq: a CSV, and "No data" for an unknown ticker.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from alphapivot.calendar import bar_ends

KEY = "a-secret"
PAGE = 4


def sessions(first: str, last: str) -> pd.DatetimeIndex:
    start, end = (pd.Timestamp(day, tz="UTC") for day in (first, last))
    return pd.DatetimeIndex(bar_ends.sessions("XNYS", start, end + pd.Timedelta(days=1)).index)


def close_of(day: pd.Timestamp) -> float:
    return float(day.day)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.asked.append(self.path)
        if self.server.failures:
            status, headers, body = self.server.failures.pop(0)
            self.answer(status, body, headers)
            return
        parts = url.path.strip("/").split("/")
        {"tiingo": self.tiingo, "v2": self.polygon, "q": self.stooq}[parts[0]](parts, query)

    def tiingo(self, parts: list[str], query: dict[str, str]) -> None:
        if query["token"] != KEY:
            self.answer(401, json.dumps({"detail": f"Invalid token {query['token']}."}))
        elif parts[2] == "NOBODY":
            self.answer(404, json.dumps({"detail": "Error: Ticker 'NOBODY' not found"}))
        else:
            rows = [
                {
                    "date": f"{day:%Y-%m-%d}T00:00:00.000Z", "open": close_of(day), "high": close_of(day) + 1,
                    "low": close_of(day) - 0.5, "close": close_of(day), "volume": 1000, "adjClose": 0.1,
                    "divCash": 2.0 if parts[2] == "SPLIT" and day.day == 1 else 0.0,
                    "splitFactor": 4.0 if parts[2] == "SPLIT" and (day.month, day.day) == (7, 2) else 1.0,
                }
                for day in sessions(query["startDate"], query["endDate"])
            ]  # fmt: skip
            self.answer(200, json.dumps(rows))

    def polygon(self, parts: list[str], query: dict[str, str]) -> None:
        assert query["apiKey"] == KEY
        assert query["adjusted"] == "false"
        first, last = (pd.Timestamp(int(part), unit="ms", tz="UTC") for part in parts[-2:])
        starts = pd.date_range("2024-07-01 13:30", "2024-07-01 20:00", freq="30min", tz="UTC", inclusive="left")
        starts = starts[(starts >= first) & (starts <= last)]
        page = starts[int(query.get("cursor", 0)) :]
        rows = [{"t": int(t.timestamp() * 1000), "o": 1, "h": 2, "l": 0.5, "c": 1.5, "v": 10} for t in page[:PAGE]]
        body = {"ticker": parts[3], "status": "OK", "resultsCount": len(rows)}
        body |= {"results": rows} if rows else {}
        if len(page) > PAGE:
            cursor = int(query.get("cursor", 0)) + PAGE
            host = self.server.elsewhere or f"http://127.0.0.1:{self.server.server_port}"
            body["next_url"] = f"{host}/{'/'.join(parts)}?adjusted=false&cursor={cursor}"
        self.answer(200, json.dumps(body))

    def stooq(self, _: list[str], query: dict[str, str]) -> None:
        if query["s"] == "nobody.us":
            self.answer(200, "No data")
            return
        days = sessions(query["d1"], query["d2"])
        lines = [f"{d:%Y-%m-%d},{close_of(d)},{close_of(d)},{close_of(d)},{close_of(d)},100" for d in days]
        self.answer(200, "\r\n".join(["Date,Open,High,Low,Close,Volume", *lines]))

    def answer(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler] = Handler):
    """The server; ``asked``: paths, ``failures``: (status, headers, body) that come first."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.asked, server.failures, server.elsewhere = [], [], ""
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
