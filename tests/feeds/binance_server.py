"""
A local server that answers as Binance documents (https://developers.binance.com/docs/binance-spot-api-docs/rest-api):
exchangeInfo and klines, lists of 12 with the start in milliseconds, the candle in progress among them. USD-M futures
of September and December 2024 beside the perpetual, and one that ends with a week.
"""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from tests.feeds import http_server

PAGE = 3


def market(base: str) -> dict[str, object]:
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
    ]
    terms = {"symbol": f"{base}USDT", "status": "TRADING", "baseAsset": base, "baseAssetPrecision": 8}
    terms |= {"quoteAsset": "USDT", "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": ["LIMIT"]}
    return terms | {
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters,
        "permissions": [],
    }


def future(base: str, day: str = "") -> dict[str, object]:
    ends = int(pd.Timestamp(f"20{day} 08:00", tz="UTC").timestamp() * 1000) if day else 4133404800000
    kind = "CURRENT_QUARTER" if day else "PERPETUAL"
    terms = {"symbol": f"{base}USDT" + (f"_{day}" if day else ""), "pair": f"{base}USDT", "contractType": kind}
    return market(base) | terms | {"deliveryDate": ends, "marginAsset": "USDT"}


class Handler(http_server.Handler):
    def do_GET(self) -> None:  # noqa: N802 - the base's name
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.asked.append(self.path)
        if url.path.endswith("/exchangeInfo"):
            spot = url.path.startswith("/api/")
            listed = [market("GOOD"), market("ALSO")] if spot else []
            if url.path.startswith("/fapi/"):
                listed = [future("GOOD", day) for day in ("", "240927", "241227", "240705")]
            info = {"timezone": "UTC", "symbols": listed, "rateLimits": [], "exchangeFilters": []}
            self.answer(200, json.dumps(info))
        elif self.server.failures:
            status, headers, body = self.server.failures.pop(0)
            self.answer(status, body, headers)
        else:
            self.klines(query, 1 if query["symbol"].endswith("_241227") else 0)

    def klines(self, query: dict[str, str], more: int) -> None:
        if query["interval"] == "1d":
            starts = http_server.sessions("2024-06-03", "2024-07-31").tz_localize("UTC")
        else:
            starts = pd.date_range("2024-07-03 12:00", "2024-07-03 18:00", freq="1h", tz="UTC")
        starts = starts[starts >= pd.Timestamp(int(query.get("startTime", 0)), unit="ms", tz="UTC")][:PAGE]
        at = [int(t.timestamp() * 1000) for t in starts]
        rows = [[t, "1.0", "2.0", "0.5", f"{1.5 + more}", "10.25", t + 1, "15.0", 5, "1.0", "1.0", "0"] for t in at]
        self.answer(200, json.dumps(rows))
