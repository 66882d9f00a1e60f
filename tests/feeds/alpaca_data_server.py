"""
A local server that answers as Alpaca documents: https://docs.alpaca.markets/reference/stockbars (bars by symbol, t at
the start, null where there are none, next_page_token) and /reference/corporateactions-1 (lists by kind).
"""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from tests.feeds import http_server

PAGE = 3
EVENTS = {
    "forward_splits": [{"symbol": "SPLIT", "new_rate": 4, "old_rate": 1, "ex_date": "2024-07-02"}],
    "cash_dividends": [
        {"symbol": "SPLIT", "rate": 1.5, "special": False, "foreign": False, "ex_date": "2024-07-01"},
        {"symbol": "SPLIT", "rate": 0.5, "special": True, "foreign": False, "ex_date": "2024-07-01"},
    ],
}
# by the acquirer's symbol too; a name change by both (alpaca-py, alpaca/data/models/corporate_actions.py)
ENDS = {
    "cash_mergers": [
        {"acquirer_symbol": "BUYER", "acquiree_symbol": "SOLD", "rate": 54.2, "effective_date": "2024-07-03"},
    ],
    "stock_and_cash_mergers": [
        {
            "acquirer_symbol": "BUYER",
            "acquirer_rate": 0.5,
            "acquiree_symbol": "SWAPPED",
            "acquiree_rate": 1,
            "cash_rate": 7.5,
            "effective_date": "2024-07-03",
        }
    ],
    "worthless_removals": [{"symbol": "GONE", "process_date": "2024-07-03"}],
    "name_changes": [{"old_symbol": "FB", "new_symbol": "META", "process_date": "2024-07-03"}],
}
NAMES = ("symbol", "acquirer_symbol", "acquiree_symbol", "old_symbol", "new_symbol")


class Handler(http_server.Handler):
    def do_GET(self) -> None:  # noqa: N802 - the base's name
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.asked.append(self.path)
        if self.server.failures:
            status, headers, body = self.server.failures.pop(0)
            self.answer(status, body, headers)
        elif self.headers["APCA-API-SECRET-KEY"] != http_server.KEY:
            self.answer(401, json.dumps({"message": f"unauthorized: {self.headers['APCA-API-SECRET-KEY']}"}))
        elif url.path == "/v1/corporate-actions":
            kinds = {
                kind: [r for r in rows if r["symbol"] == query["symbols"] and query["start"] <= r["ex_date"]]
                for kind, rows in EVENTS.items()
            }
            for kind, rows in ENDS.items():
                asked = kind.removesuffix("s") in query["types"].split(",")
                found = [r for r in rows if query["symbols"] in [r.get(name) for name in NAMES]]
                kinds |= {kind: found} if asked and found else {}
            self.answer(200, json.dumps({"corporate_actions": kinds, "next_page_token": None}))
        else:
            self.bars(query)

    def bars(self, query: dict[str, str]) -> None:
        assert query["adjustment"] == "raw"
        first, last = (pd.Timestamp(query[name]) for name in ("start", "end"))
        if query["timeframe"] == "1Day":
            days = http_server.sessions("2024-06-03", "2024-07-31")
            starts = days.tz_localize("America/New_York").tz_convert("UTC")
        else:  # from 04:00 to 20:00 in New York
            starts = pd.date_range("2024-07-01 08:00", "2024-07-02 00:00", freq="30min", tz="UTC", inclusive="left")
        starts = starts[(starts >= first) & (starts <= last)]
        begin = int(query.get("page_token", 0))
        rows = [
            {
                "t": f"{t:%Y-%m-%dT%H:%M:%SZ}",
                "o": 1,
                "h": 2,
                "l": 0.5,
                "c": float(t.day) / 32 + 1,
                "v": 9,
                "n": 2,
                "vw": 1,
            }
            for t in starts[begin : begin + PAGE]
        ]
        more = str(begin + PAGE) if begin + PAGE < len(starts) else None
        known = query["symbols"] != "NOBODY" and rows
        self.answer(200, json.dumps({"bars": {query["symbols"]: rows} if known else None, "next_page_token": more}))
