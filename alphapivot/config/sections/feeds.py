"""[feed.NAME]: where bars come from, one model for each kind of feed."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from alphapivot.config.sections.base import Day, Mapped, Section, Zone

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument


class FeedSection(Section):
    """
    The keys of every feed's section, and the properties of its kind.

    A kind sets ``opens``, the ``module:class`` that opens it: called with the feed's name and its section, it returns
    an ``alphapivot.feeds.base.Feed``.
    """

    opens: ClassVar[str]
    simulated: ClassVar[bool] = False  # made-up prices, kept apart from real ones
    whole: ClassVar[bool] = False  # a request reads all of its source, whatever its range
    waits: ClassVar[bool] = True  # bars may be published late: a run waits for those that are due

    kind: str
    overlap: int = Field(5, ge=0, description="bars requested again in each run, to catch late corrections")
    publication_lag: float = Field(
        0, ge=0, description="minutes from a bar's end until it is published; younger bars are not requested"
    )

    late_after: float = Field(
        10,
        ge=0,
        description="minutes after a bar should be published from which the feed is late: an instrument's next feed"
        " stands in",
    )
    symbols: Mapped[str] = Field(
        default={}, description="our symbol: its ticker here, where that differs from [instrument.*] spot"
    )
    futures_symbols: Mapped[str] = Field(
        default={}, description="our symbol: its ticker here, where that differs from [instrument.*] futures"
    )

    def named(self, instrument: Instrument) -> Instrument:
        """``instrument`` with its tickers at this feed."""
        own = {"spot": self.symbols.get(instrument.symbol), "futures": self.futures_symbols.get(instrument.symbol)}
        return instrument.model_copy(update={market: ticker for market, ticker in own.items() if ticker})

    def below(self, folder: Path) -> Self:  # noqa: ARG002 - for kinds that name files
        """This section with its relative paths resolved against ``folder``, that of the config file."""
        return self


class LoginFeed(FeedSection):
    """
    A feed where someone must log in. ``logins`` names the ``module:function`` that says whether a login is missing, as
    of a broker: see ``alphapivot.feeds.registry.logged_out``.
    """

    logins: ClassVar[str]

    login_alert: int = Field(
        120,
        ge=0,
        description="minutes before an open of its markets from which a missing login is an alert; 0: never",
    )


class AlpacaFeed(FeedSection):
    """The API keys come from the environment: APCA_API_KEY_ID and APCA_API_SECRET_KEY, as the broker's."""

    opens = "alphapivot.feeds.alpaca:Alpaca"

    kind: Literal["alpaca"] = "alpaca"
    feed: Literal["iex", "sip", "delayed_sip"] = Field(
        "iex", description="iex: trades of one exchange, free; sip: of all, by subscription if younger than 15 minutes"
    )
    base_url: str = Field("https://data.alpaca.markets", description="another server of Alpaca's format, for tests")
    timeout: float = Field(20, gt=0, description="seconds to wait for a response")
    patience: float = Field(60, ge=0, description="seconds to wait in total when requests are rate-limited")
    start: Day = Field("2016-01-01", description="first day of history, ISO date")


class CcxtFeed(FeedSection):
    opens = "alphapivot.feeds.exchanges:Exchange"

    kind: Literal["ccxt"] = "ccxt"
    exchange: str = Field(pattern="^[a-z0-9_]+$", description="its name in ccxt, such as binance or kraken")
    base_url: str | None = Field(None, description="another server of the exchange's format, for tests")
    timeout: float = Field(20, gt=0, description="seconds to wait for a response")
    patience: float = Field(30, ge=0, description="seconds to wait before a request is tried again, at most")
    start: Day = Field("2017-01-01", description="first day of history, ISO date")


class DatabentoFeed(FeedSection):
    """The API key comes from the environment: DATABENTO_API_KEY."""

    opens = "alphapivot.feeds.databento:Databento"

    kind: Literal["databento"] = "databento"
    dataset: str = Field(description="such as GLBX.MDP3 (CME) or EQUS.MINI (US shares)")
    max_cost: float = Field(
        5, ge=0, description="USD that one request may cost; a dearer one is refused, with its price"
    )
    base_url: str = Field("https://hist.databento.com", description="another server of Databento's format, for tests")
    timeout: float = Field(100, gt=0, description="seconds to wait for a response")
    patience: float = Field(60, ge=0, description="seconds to wait in total when requests are rate-limited")
    start: Day = Field("2010-06-06", description="first day of history, ISO date")


SPLIT = re.compile(r"(\d{4}-\d\d-\d\d)\s+(\d+(?:\.\d+)?)")


def split_dates(text: str) -> list[tuple[date, float]]:
    """``2014-06-09 7 + 2020-08-31 4`` as dates and new shares for one old; ValueError for anything else."""
    found = []
    for part in filter(None, map(str.strip, text.split("+"))):
        match = SPLIT.fullmatch(part)
        if match is None or not float(match[2]):
            raise ValueError(f"{part}: expected a date and the new shares for one old, such as 2020-08-31 4")
        found.append((date.fromisoformat(match[1]), float(match[2])))
    return found


def _splits(text: str) -> str:
    split_dates(text)
    return text


class IbFeed(FeedSection):
    """Interactive Brokers through IB Gateway or TWS, which hold the login: there are no keys."""

    opens = "alphapivot.feeds.ib.feed:InteractiveBrokers"

    kind: Literal["ib"] = "ib"
    host: str = Field("127.0.0.1", description="where IB Gateway or TWS listens")
    port: int = Field(4002, ge=1, le=65535, description="4002 and 4001: Gateway, paper and live; 7497 and 7496: TWS")
    client_id: int = Field(18, ge=1, le=32, description="another one than the broker's: a gateway takes each id once")
    timeout: float = Field(60, gt=0, description="seconds to wait for an answer")
    patience: float = Field(
        120, ge=0, description="seconds to wait in total after Interactive Brokers said that it was asked too fast"
    )
    start: Day = Field("2010-01-01", description="first day of history, ISO date; expired futures: two years at most")
    contract_days: int = Field(
        200, ge=1, description="days before a futures contract's last trade from which on its bars are requested"
    )
    splits: Mapped[Annotated[str, AfterValidator(_splits)]] = Field(
        default={},
        description="symbol: its splits, such as AAPL: 2014-06-09 7 + 2020-08-31 4; IB's bars are in today's shares and"
        " come without them",
    )


class KiteFeed(LoginFeed):
    """The app's key comes from the environment, KITE_API_KEY; `alphapivot login kite` logs in for a day."""

    opens = "alphapivot.feeds.kite.feed:Kite"
    logins = "alphapivot.venues.kite.login:logged_out"

    kind: Literal["kite"] = "kite"
    base_url: str | None = Field(None, description="another server of Kite's format, for tests")
    timeout: float = Field(20, gt=0, description="seconds to wait for a response")
    patience: float = Field(30, ge=0, description="seconds to wait before a request is tried again, at most")
    start: Day = Field("2015-01-01", description="first day of history, ISO date; futures: those listed today only")
    splits: Mapped[Annotated[str, AfterValidator(_splits)]] = Field(
        default={},
        description="symbol: its splits and bonuses, such as INFY: 2018-09-04 2; candles are in today's shares and come"
        " without them",
    )


class YahooFeed(FeedSection):
    opens = "alphapivot.feeds.yahoo:Yahoo"

    kind: Literal["yahoo"] = "yahoo"
    base_url: str | None = Field(None, description="another server that speaks Yahoo's format, for tests")
    timeout: float = Field(20, gt=0, description="seconds to wait for a response")
    patience: float = Field(30, ge=0, description="seconds to wait in total when requests are rate-limited")
    start: Day = Field("2010-01-01", description="first day of daily history, ISO date")


class LayoutFeed(FeedSection):
    """How tables of bars are laid out, in files or replies."""

    zone: Zone = Field(description="time zone of timestamps without one, such as Europe/Berlin")
    stamp: Literal["end", "start", "date"] = Field(
        description="the meaning of a row's timestamp: the bar's end, its start, or its session's date"
    )
    columns: Mapped[str] = Field(
        default={}, description="our name: the file's column, such as ts: Date+Time, close: Adj Close"
    )
    date_format: str | None = Field(
        None, description="strptime format of timestamps that are not ISO 8601; or epoch, epoch s, ms, us or ns"
    )
    header: str | None = Field(
        None, description="column names for a file without a header, or whose header does not match its rows"
    )
    skip: int = Field(0, ge=0, description="lines before the header, or before the first row of a file without one")
    separator: Literal["comma", "semicolon", "tab", "pipe", "space"] | None = Field(
        None, description="what separates columns; default: a tab, semicolon or pipe in the first line, else commas"
    )
    decimal: Literal["point", "comma"] | None = Field(
        None, description="the decimal mark, where numbers hold commas and do not show it: 1,105 is 1105 or 1.105"
    )
    encoding: str | None = Field(None, description="such as cp1252; default: by the byte order mark, else UTF-8")
    where: Mapped[str] = Field(
        default={}, description="column: values of the rows to keep, such as INSTRUMENT: FUTIDX|FUTSTK"
    )
    zero_volume_is_missing: bool = Field(default=False, description="0 means that volume or open interest is unknown")
    join: bool = Field(
        default=False, description="merge rows of one session into one bar, such as Sunday evening's and Monday's"
    )
    contracts: Mapped[str] = Field(
        default={}, description="for several contracts in a row: contract column: close column"
    )
    rows: str | None = Field(
        None, description="JSON: the path of the list of rows, such as results or data.bars; default: the only list"
    )


class FilesFeed(LayoutFeed):
    opens = "alphapivot.feeds.files.feed:Files"
    whole = True
    waits = False

    kind: Literal["files"] = "files"
    root: Path = Field(description="the folder of the files that the instruments' tickers name")

    def below(self, folder: Path) -> Self:
        return self.model_copy(update={"root": (folder / self.root.expanduser()).resolve()})


class HttpFeed(LayoutFeed):
    """CSV or JSON by a pattern of addresses. The secret comes from the environment variable that ``secret`` names."""

    opens = "alphapivot.feeds.http:Http"

    kind: Literal["http"] = "http"
    url: str = Field(
        description="the address with {symbol}, {from}, {to} (dates; {from:%Y%m%d}), {from_ms}, {to_ms}, {secret}"
    )
    secret: str | None = Field(
        None, pattern="^[A-Z][A-Z0-9_]*$", description="the environment variable with the API key, such as TIINGO_TOKEN"
    )
    next: str | None = Field(None, description="JSON: the path of the next page's address, such as next_url")
    days: int | None = Field(None, ge=1, description="days that one request may span; default: any")
    start: Day = Field("2000-01-01", description="first day of history, ISO date")
    timeout: float = Field(20, gt=0, description="seconds to wait for a response")
    patience: float = Field(60, ge=0, description="seconds to wait in total when requests are rate-limited")

    @model_validator(mode="after")
    def _is_an_address(self) -> HttpFeed:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url = {self.url} is not an http address")
        known = {"symbol", "from", "to", "from_ms", "to_ms", "secret"}
        used = {name for _, name, _, _ in Formatter().parse(self.url) if name is not None}
        if used - known or "symbol" not in used:
            names = [", ".join(sorted(part)) for part in (known, used)]
            raise ValueError(f"url needs {{symbol}} and knows {names[0]}; got {names[1]}")
        if ("secret" in used) != (self.secret is not None):
            raise ValueError("url has {secret} if, and only if, secret names an environment variable")
        return self


class SimulatedFeed(FeedSection):
    opens = "alphapivot.feeds.simulated:Simulated"
    simulated = True
    waits = False

    kind: Literal["simulated"] = "simulated"
    seed: int = Field(7, description="seed of the random numbers; another seed is another market")
    start: Day = Field("2019-01-01", description="first day, ISO date")
    end: Day | None = Field(None, description="last day, ISO date; default: none")
    edge: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="pure noise with a planted trend: correlation with the last 20 sessions, 0 for none",
    )

    carry: float | None = Field(
        None,
        ge=0,
        le=0.5,
        description="usual size of a year's cost of carry, a share of the price; default: -0.03 to 0.05, constant",
    )
    crises: float = Field(0, ge=0, le=4, description="crises a year: weeks in which all markets move together")

    @model_validator(mode="after")
    def _has_days(self) -> SimulatedFeed:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end = {self.end} is not after start = {self.start}")
        return self


class LegsFeed(FeedSection):
    """Where the bars of spreads come from: the stored bars of their legs. No section of config.ini, see settings."""

    opens = "alphapivot.data.series.legs:Legs"
    waits = False

    kind: Literal["legs"] = "legs"


# The values of `kind`; installed packages add theirs as entry points of alphapivot.feeds.
FEEDS: dict[str, type[FeedSection]] = {
    "alpaca": AlpacaFeed,
    "ccxt": CcxtFeed,
    "databento": DatabentoFeed,
    "files": FilesFeed,
    "http": HttpFeed,
    "ib": IbFeed,
    "kite": KiteFeed,
    "simulated": SimulatedFeed,
    "yahoo": YahooFeed,
}
