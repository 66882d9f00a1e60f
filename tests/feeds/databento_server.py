"""
A local server that answers as Databento documents: https://databento.com/docs/api-reference-historical.

Basic authentication with the key as user name; forms of POST; timeseries.get_range as CSV with one row a bar, stamped
at its start, prices of 1e-9; metadata.get_cost a number of USD, metadata.get_dataset_range spans by schema. Errors are
JSON with detail.case, message and status_code. It refuses an end after what is available, and a range in which no
symbol resolves, with 422 (message texts: nautechsystems/nautilus_trader pull 3429, databento-python's tests).
"""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from tests.feeds import http_server

START, END = pd.Timestamp("2013-01-01", tz="UTC"), pd.Timestamp("2024-07-03 15:30", tz="UTC")
HEADER = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol"
CONTRACTS = {"ESU4": "2024-09-20", "ESH4": "2024-03-15", "ESZ4": "2024-12-20", "ESU4-ESZ4": "2024-09-20"}
UNIT = 1_000_000_000
WIDTHS = {"ohlcv-1m": "1min", "ohlcv-1h": "1h", "ohlcv-1d": "1D"}


class Handler(http_server.Handler):
    def do_GET(self) -> None:  # noqa: N802 - the base's name
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.reply(query, "metadata.get_dataset_range")

    def do_POST(self) -> None:  # noqa: N802 - the base's name
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.reply(
            {name: values[0] for name, values in parse_qs(body).items()},
            "metadata.get_cost",
            "timeseries.get_range",
        )

    def reply(self, query: dict[str, str], *methods: str) -> None:
        method = urlsplit(self.path).path.removeprefix("/v0/")
        self.server.asked.append((method, query))
        given = "Basic " + base64.b64encode(f"{http_server.KEY}:".encode()).decode()
        if self.server.failures:
            status, headers, body = self.server.failures.pop(0)
            self.answer(status, body, headers)
        elif self.headers["Authorization"] != given:
            self.refuse(401, "auth_authentication_failed", "Authentication failed.")
        elif method not in methods:
            self.refuse(405, "http_method_not_allowed", "Method Not Allowed")
        elif query["dataset"] != "GLBX.MDP3":
            self.refuse(403, "license_not_found_unauthorized", f"A license is required to access {query['dataset']}.")
        elif method == "metadata.get_dataset_range":
            span = {"start": f"{START:%Y-%m-%dT%H:%M:%S}.000000000Z", "end": f"{END:%Y-%m-%dT%H:%M:%S}.000000000Z"}
            self.answer(200, json.dumps(span | {"schema": dict.fromkeys(WIDTHS, span)}))
        else:
            self.data(method, query)

    def data(self, method: str, query: dict[str, str]) -> None:
        first, last = (pd.Timestamp(query[name]) for name in ("start", "end"))
        licensed = self.server.licensed or END
        symbols = self.symbols(query, first)
        if first >= last:
            self.refuse(422, "data_time_range_start_on_or_after_end", "`start` cannot be on or after `end`.")
        elif last > licensed:
            message = (
                f"The dataset GLBX.MDP3 has data available up to '{licensed}'. The `end` in the query ('{last}') is "
                "after the available range. Try requesting with an end time before that."
            )
            self.refuse(422, "data_end_after_available_end", message)
        elif not symbols:
            message = f"None of the symbols could be resolved: {query['symbols']}"
            self.refuse(422, "symbology_invalid_request", message)
        elif method == "metadata.get_cost":
            self.answer(200, json.dumps(self.server.cost))
        else:
            assert (query["encoding"], query["map_symbols"], query["pretty_px"]) == ("csv", "true", "false")
            self.answer(200, "\n".join([HEADER, *self.rows(query, symbols, first, last)]) + "\n")

    def symbols(self, query: dict[str, str], first: pd.Timestamp) -> list[str]:
        """Those that have data from ``first`` on; a spread is in a parent too."""
        names = query["symbols"].split(",")
        if query["stype_in"] == "parent":
            names = list(CONTRACTS) if names == ["ES.FUT"] else []
        if query["stype_in"] == "continuous":
            return names if names[0].startswith("ES.") else []
        return [name for name in names if name in CONTRACTS and pd.Timestamp(CONTRACTS[name], tz="UTC") > first]

    def rows(self, query: dict[str, str], symbols: list[str], first: pd.Timestamp, last: pd.Timestamp) -> list[str]:
        """Around the clock, sorted by time, and the bar in progress too."""
        starts = pd.date_range(
            first.ceil(WIDTHS[query["schema"]]), last, freq=WIDTHS[query["schema"]], inclusive="left"
        )
        lines = []
        for start in starts:
            for number, name in enumerate(symbols):
                if name in CONTRACTS and start > pd.Timestamp(CONTRACTS[name], tz="UTC"):
                    continue
                price = (5000 + number * 10 + start.day) * UNIT
                prices = f"{price},{price + UNIT},{price - UNIT // 4},{price}"
                lines.append(f"{start.value},34,1,{number + 7},{prices},100,{name}")
        return lines

    def refuse(self, status: int, case: str, message: str) -> None:
        detail = {"case": case, "message": message, "status_code": status, "docs": "https://databento.com/docs"}
        self.answer(status, json.dumps({"detail": detail | {"payload": None}}))
