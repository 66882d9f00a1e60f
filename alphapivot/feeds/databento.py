"""
Bars of futures and shares from Databento's historical API (https://databento.com/docs/api-reference-historical).

One POST of timeseries.get_range for each request: CSV with prices as whole numbers of 1e-9 and the start of each bar in
nanoseconds. Minutes and hours; a day there is one of UTC, which ends after the session that it would be taken for.
A contract's symbol has one digit of its year (ESZ3), which comes again after ten years: it is told with two.
"""

from __future__ import annotations

import io
import json
import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.calendar.contracts import LETTERS, UnreadableError, month_of
from alphapivot.errors import ConfigError
from alphapivot.feeds.base import RAW, Fetched, Limit, Problem, Request, fits, gather, in_session
from alphapivot.feeds.files.databento import PRICES, prices
from alphapivot.feeds.wire import RefusedError, Wire, in_turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.config.sections.feeds import DatabentoFeed

VARIABLE = "DATABENTO_API_KEY"
WIDTHS = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1), "1d": timedelta(days=1)}
PARENT, CONTINUOUS = re.compile(r"\.(FUT|SPOT)$"), re.compile(r"\.[cnv]\.\d+$")
# requested before ``since``, whose bars started earlier; a range without a session resolves no symbol
MARGIN = timedelta(days=5)
UNPROCESSABLE = 422
# both are told with the instant up to which this account has the data
TOO_LATE = ("data_end_after_available_end", "dataset_unavailable_range")
UP_TO = re.compile(r"(?:available up to|end time before)\D{0,3}(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)")


class Databento:
    """
    The Feed port over one dataset; tickers are Databento's: ES.FUT (all contracts of a root), ES.v.0 (its continuous
    series, unadjusted), ESZ3, or several with commas.
    """

    limits: ClassVar[Mapping[str, Limit]] = {name: Limit() for name in WIDTHS}

    def __init__(self, name: str, section: DatabentoFeed) -> None:
        self.name = name
        self.section = section

    def fetch(self, requests: list[Request]) -> Fetched:
        """Bars of the requests, one after the other. Raises Unavailable if nobody answers before the first bar."""
        key = os.environ.get(VARIABLE, "")
        if not key:
            raise ConfigError(f"[feed.{self.name}] needs {VARIABLE} in the environment")
        self._wire = Wire("Databento", self.section.timeout, self.section.patience, VARIABLE, (key,), auth=(key, ""))
        self._range: dict[str, tuple[datetime, datetime]] = {}
        return in_turn(requests, self._answer)

    def _answer(self, request: Request) -> Fetched:
        ticker, interval = getattr(request.instrument, request.market), request.interval
        if ticker is None:
            raise RefusedError(f"[instrument.{request.instrument.symbol}] has no {request.market} ticker")
        hours = request.instrument.hours_of(request.market)
        if interval not in WIDTHS or not fits(hours, WIDTHS[interval]):
            raise RefusedError(
                f"Databento's bars of {interval} do not begin with the sessions of {hours}: set "
                f"[instrument.{request.instrument.symbol}] {request.market}_interval = 1m or 1h, and longer bars are "
                "made of these"
            )
        first, last = self._available(f"ohlcv-{interval}")
        start = datetime.fromisoformat(self.section.start).replace(tzinfo=UTC)
        begin = max(start, first, request.since - MARGIN if request.since else first)
        end = min(request.until, last)
        if begin >= end:
            raise RefusedError(
                f"Databento has {self.section.dataset} from {first:%Y-%m-%d} to {last:%Y-%m-%d %H:%M} UTC"
            )
        query = {"dataset": self.section.dataset, "symbols": ticker.replace(" ", ""), "schema": f"ohlcv-{interval}"}
        query |= {"stype_in": _symbology(ticker), "start": _stamp(begin)}
        body, end, cost = self._range_of(query, end)
        notes = [f"{request}: Databento charges {cost:.2f} USD"] if cost else []
        problems: list[Problem] = []
        rows = self._rows(body, request, ticker, problems, notes)
        starts = pd.DatetimeIndex(rows["ts"])
        whole = (starts + WIDTHS[interval]) <= pd.Timestamp(min(request.until, end))  # the bar in progress comes too
        inside = in_session(hours, starts)
        if left := int((whole & ~inside).sum()):
            notes.append(f"{request}: {left} bars before or after the session are left out")
        rows, starts = rows[whole & inside], starts[whole & inside]
        named = {"symbol": request.instrument.symbol, "market": request.market, "interval": interval}
        rows = rows.assign(ts=bar_ends.ends_of(hours, interval, starts).as_unit("us"), **named)
        bars = rows.assign(open_interest=float("nan"), source=self.name)[RAW]
        bars = bars[bars["ts"] > request.since] if request.since else bars
        return gather([bars.sort_values(["contract", "ts"], ignore_index=True)], problems, notes=notes)

    def _available(self, schema: str) -> tuple[datetime, datetime]:
        """(first, last) instant of the dataset's schema."""
        if not self._range:
            query = {"dataset": self.section.dataset}
            told = self._json(self._wire.get(self._url("metadata.get_dataset_range"), query))
            spans = {"": told, **told.get("schema", {})}
            self._range = {name: (_instant(span["start"]), _instant(span["end"])) for name, span in spans.items()}
        return self._range.get(schema, self._range[""])

    def _range_of(self, query: dict[str, str], end: datetime) -> tuple[bytes, datetime, float]:
        """The CSV, the instant up to which it reaches, and its price in USD; up to where the account may read."""
        try:
            return self._bought(query, end)
        except RefusedError as refused:
            case, message = _told(refused)
            until = UP_TO.search(message)
            if case not in TOO_LATE or until is None or not query["start"] < _stamp(earlier := _instant(until[1])):
                if refused.status == UNPROCESSABLE:
                    raise RefusedError(f"Databento refuses the request: {message or refused.reason}") from None
                raise
        return self._bought(query, min(end, earlier))

    def _bought(self, query: dict[str, str], end: datetime) -> tuple[bytes, datetime, float]:
        asked = query | {"end": _stamp(end)}
        cost = float(self._json(self._wire.post(self._url("metadata.get_cost"), asked)))
        if cost > self.section.max_cost:
            raise RefusedError(
                f"Databento charges {cost:.2f} USD for {query['symbols']} from {query['start'][:10]}; "
                f"[feed.{self.name}] max_cost = {self.section.max_cost:g}"
            )
        form = asked | {"stype_out": "instrument_id", "encoding": "csv", "compression": "none"}
        form |= {"pretty_px": "false", "pretty_ts": "false", "map_symbols": "true"}
        return self._wire.post(self._url("timeseries.get_range"), form), end, cost

    def _rows(
        self, body: bytes, request: Request, ticker: str, problems: list[Problem], notes: list[str]
    ) -> pd.DataFrame:
        """The rows of the CSV: ts (its bar's start), contract, prices and volume."""
        try:
            table = pd.read_csv(io.BytesIO(body))
            rows = table[[*PRICES]].apply(prices).assign(volume=table["volume"].astype(float), symbol=table["symbol"])
            rows["ts"] = pd.to_datetime(table["ts_event"], unit="ns", utc=True)
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(f"Databento's answer cannot be read: {error}: {body[:100]!r}", transient=True) from None
        absent = {part.strip() for part in ticker.split(",")} - set(rows["symbol"])
        if rows.empty or (_symbology(ticker) == "raw_symbol" and absent):
            told = f"Databento has no {request.interval} bars of {', '.join(sorted(absent))} in that time"
            if rows.empty:
                raise RefusedError(told)
            problems.append(Problem(request, told, partial=True))
        if rows.duplicated(["symbol", "ts"]).any():
            raise RefusedError(
                f"several publishers of {self.section.dataset} have a bar of {ticker} for one instant; expected a "
                "dataset of one venue or a consolidated one, such as EQUS.MINI"
            )
        if request.market == "spot" or _symbology(ticker) == "continuous":
            return rows.assign(contract="")
        return _of_contracts(rows, request, notes)

    def _url(self, method: str) -> str:
        return f"{self.section.base_url.rstrip('/')}/v0/{method}"

    def _json(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            raise RefusedError(f"Databento's answer cannot be read: {body[:100]!r}", transient=True) from None


def _of_contracts(rows: pd.DataFrame, request: Request, notes: list[str]) -> pd.DataFrame:
    """``rows`` of contracts, each named with two digits of its year; spreads and what is no contract is noted."""
    firsts = rows.assign(year=rows["ts"].dt.year).drop_duplicates(["symbol", "year"])
    names, left_out = {}, set()
    for symbol, year, first in firsts[["symbol", "year", "ts"]].itertuples(index=False, name=None):
        try:
            month = month_of(symbol, first, request.instrument.last_trade_dates)
        except UnreadableError:
            left_out.add(symbol)
            continue
        short = re.fullmatch(rf"(.+[{LETTERS}])\d", symbol)
        names[symbol, year] = f"{short[1]}{month // 12 % 100:02}" if short else symbol
    if left_out:
        some = ", ".join(sorted(left_out)[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        notes.append(f"{request}: left out {some}: a spread or option is no contract")
    keys = pd.MultiIndex.from_arrays([rows["symbol"], rows["ts"].dt.year])
    return rows.assign(contract=keys.map(names)).dropna(subset=["contract"])


def _symbology(ticker: str) -> str:
    if PARENT.search(ticker):
        return "parent"
    return "continuous" if CONTINUOUS.search(ticker) else "raw_symbol"


def _told(refused: RefusedError) -> tuple[str, str]:
    """(case, message) of an answer's detail; empty if it has none."""
    try:
        detail = json.loads(refused.body)["detail"]
        return str(detail["case"]), str(detail["message"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def _instant(text: str) -> datetime:
    return pd.Timestamp(text[:26].rstrip("Z")).tz_localize("UTC").to_pydatetime()


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
