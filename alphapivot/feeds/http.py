"""
Bars from CSV or JSON by a pattern of addresses, laid out as files are: Tiingo, Polygon, Stooq and their like.

Each request is of one ticker and a range of dates; what the answer holds is read as a file is.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlsplit

import pandas as pd

from alphapivot.errors import ConfigError, DataError
from alphapivot.feeds.base import Fetched, Limit, Request
from alphapivot.feeds.files import json_rows, text
from alphapivot.feeds.files.feed import EVENTS, Files
from alphapivot.feeds.files.table import BARS, Table
from alphapivot.feeds.wire import Wire, in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from alphapivot.config.sections.feeds import HttpFeed
    from alphapivot.feeds.files.feed import Opened, Reply

MARGIN = timedelta(days=3)  # requested before ``since``: a source may stamp bars at their start, in its own zone
MOST_PAGES = 10_000


class Http(Files):
    """The Feed port over one pattern of addresses; an instrument's ticker takes the place of {symbol}."""

    limits: ClassVar[Mapping[str, Limit]] = {}
    section: HttpFeed  # type: ignore[assignment]  # a layout without a folder

    def fetch(self, requests: list[Request]) -> Fetched:
        """Bars of the requests, one after the other. Raises Unavailable if nobody answers before the first bar."""
        self._ready()
        return in_turn(requests, self._answer)

    def _answer(self, request: Request) -> Fetched:
        self._answers: dict[str, pd.DataFrame] = {}
        return super().fetch([request])

    def _ready(self) -> None:
        name = self.section.secret
        self._secret = os.environ.get(name, "") if name else ""
        if name and not self._secret:
            raise ConfigError(f"[feed.{self.name}] secret = {name}: that environment variable is not set")
        self._wire = Wire(
            urlsplit(self.section.url).hostname or self.name,
            self.section.timeout,
            self.section.patience,
            f"${name}" if name else "the address",
            (self._secret,) if self._secret else (),
        )

    def _known_from(self, request: Request) -> datetime:
        return self._begin(request)

    def _begin(self, request: Request) -> datetime:
        start = datetime.fromisoformat(self.section.start).replace(tzinfo=UTC)
        return start if request.since is None else max(start, request.since - MARGIN)

    def _key(self, request: Request, ticker: str) -> str:
        return repr((id(self._answers), ticker, str(request)))

    def _tables(
        self, request: Request, ticker: str, opened: Opened, reply: Reply, *, of_events: bool = False
    ) -> list[Table]:
        """The answer to a request as one table."""
        del opened, reply
        if ticker not in self._answers:
            self._answers[ticker] = self._rows(request, ticker)
        wanted = EVENTS if of_events else BARS[request.market]
        label = self._label(ticker)
        part = Table(label, self.section, self.name, {}, wanted, self._answers[ticker]).of(ticker)
        if part is None:
            raise DataError(f"{label} has no row of {ticker}")
        return [part]

    def _label(self, ticker: str) -> Path:
        """How messages name an answer: without its query, which may hold the secret."""
        return Path(f"{self._wire.provider}:{ticker}")

    def _rows(self, request: Request, ticker: str) -> pd.DataFrame:
        """The rows of all pieces and pages; two pieces may share a day."""
        parts = [rows for url in self._addresses(request, ticker) for rows in self._pages(url, ticker)]
        if not any(len(rows) for rows in parts):
            raise DataError(f"{self._label(ticker)} has no bars in that time")
        rows = pd.concat(parts, ignore_index=True)
        rows = rows if len(parts) == 1 else rows.drop_duplicates(ignore_index=True)
        return rows.set_axis(rows.index + 1)

    def _addresses(self, request: Request, ticker: str) -> Iterator[str]:
        begin, end = self._begin(request), request.until + timedelta(days=1)
        width = timedelta(days=self.section.days) if self.section.days else end - begin
        while begin < end:
            until = min(begin + width, end)
            yield self.section.url.format_map(
                {
                    "symbol": quote(ticker, safe=""),
                    "secret": quote(self._secret, safe=""),
                    "from": begin.date(),
                    "to": until.date(),
                    "from_ms": int(begin.timestamp() * 1000),
                    "to_ms": int(until.timestamp() * 1000),
                }
            )
            begin = until

    def _pages(self, url: str, ticker: str) -> Iterator[pd.DataFrame]:
        """The rows of an address, and of those that follow it."""
        label, seen = self._label(ticker), set[str]()
        while url and url not in seen and len(seen) < MOST_PAGES:
            seen.add(url)
            body = self._wire.get(url)
            if body.lstrip()[:1] not in (b"[", b"{"):
                yield text.rows(label, body, self.section, self.name)
                return
            found = json_rows.parsed(label, body.decode())
            if json_rows.is_empty(found, self.section.rows):
                return
            yield json_rows.table(label, found, self.section.rows, self.section.header)
            url = self._following(found)

    def _following(self, found: object) -> str:
        """The next page's address, with the secret as in the first; empty: there is none."""
        address = json_rows.at(found, self.section.next) if self.section.next else None
        if not isinstance(address, str) or not address:
            return ""
        first = urlsplit(self.section.url)
        if urlsplit(address).netloc != first.netloc:  # it would get the secret
            raise DataError(f"{first.netloc} names a next page on {urlsplit(address).netloc}; expected its own")
        key = next((part.partition("=")[0] for part in first.query.split("&") if "{secret}" in part), "")
        if key and f"{key}=" not in address:
            address += f"{'&' if '?' in address else '?'}{key}={quote(self._secret, safe='')}"
        return address
