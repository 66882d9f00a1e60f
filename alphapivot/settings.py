"""
config.ini and the environment -> frozen, typed Settings; every mistake reported at once.

The models below are the whole grammar of config.ini: a field is a key, its description its meaning.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

import pillars

Market = Literal["spot", "futures"]
Positive = Annotated[Decimal, Field(gt=0)]


class Section(BaseModel):
    """One section of config.ini: frozen, no unknown keys, no defaults that hide a typo."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Database(Section):
    """[database]: where the hub is; without a url an embedded PostgreSQL is started."""

    url: SecretStr | None = Field(None, description="postgresql://user@host/name; a password comes from the environment")


class YahooFeed(Section):
    kind: Literal["yahoo"] = "yahoo"
    base_url: str | None = Field(None, description="another server that speaks Yahoo's format, for tests")
    timeout: float = Field(20, gt=0, description="seconds for one answer")


class FilesFeed(Section):
    kind: Literal["files"] = "files"
    root: Path = Field(description="the folder under which the instruments' tickers name files")
    zone: str = Field(description="time zone of stamps without one, such as Europe/Berlin")
    stamp: Literal["end", "start", "date"] = Field(description="what a row's time is: the bar's end, its start, or its session's date")
    columns: dict[str, str] = Field(default={}, description="our name: the file's name, such as ts: Date+Time, close: Adj Close")
    date_format: str | None = Field(None, description="strptime format of stamps that are not ISO 8601")
    header: str | None = Field(None, description="column names for a file whose header does not fit its rows")
    zero_volume_is_missing: bool = Field(default=False, description="the feed writes 0 where it knows no volume or open interest")


class SimulatedFeed(Section):
    kind: Literal["simulated"] = "simulated"
    seed: int = Field(7, description="the market that is simulated")
    start: str = Field("2019-01-01", description="first day, ISO date")
    end: str | None = Field(None, description="last day, ISO date; the market simply goes on when absent")


Feed = Annotated[YahooFeed | FilesFeed | SimulatedFeed, Field(discriminator="kind")]


class Instrument(Section):
    """[instrument.SYMBOL]: one underlying with its spot and futures markets, and the terms of the one that is traded."""

    symbol: str
    feed: str | None = Field(None, description="its feed; [runtime] feed when absent")
    spot: str | None = Field(None, description="the feed's ticker (or file) of the spot market")
    futures: str | None = Field(None, description="the feed's ticker (or file) of the futures market")
    spot_interval: str | None = Field(None, description="interval at which spot is fetched; [timeframes] base when absent")
    futures_interval: str | None = Field(None, description="interval at which futures are fetched; [timeframes] base when absent")
    signal_market: Market
    trade_market: Market
    group: str = Field("", description="for limits and reports, such as equity index")
    currency: str = Field(pattern="^[A-Z]{3}$", description="ISO code of the currency of its profit and loss")
    quote_unit: Positive = Field(description="currency per quoted unit: 1, or 0.01 for pence and cents")
    multiplier: Positive = Field(description="units of the underlying per contract; 1 for spot")
    tick: Positive = Field(description="smallest price change of what is traded, in quoted units")
    lot: Positive = Field(description="smallest tradable quantity")
    margin: Positive = Field(description="initial margin as a share of notional; 1 for cash")
    tradable: bool
    calendar: str = Field(description="a calendar of exchange_calendars: XNYS, CMES, XEUR, 24/7, ...")
    allow_nonpositive: bool = Field(default=False, description="may prices be zero or negative (spreads, crude in 2020)?")

    @property
    def markets(self) -> tuple[Market, ...]:
        return tuple(m for m in ("spot", "futures") if getattr(self, m) is not None)  # type: ignore[misc]

    def source_interval(self, market: Market, base: str) -> str:
        """The interval at which this market's bars are fetched; ``base`` unless the section names another."""
        return getattr(self, f"{market}_interval") or base


class Timeframes(Section):
    base: str = Field(description="the interval on which decisions are made")
    weights: dict[str, float] = Field(description="timeframe: weight; sums to 1; contains base")


class CompositeSettings(Section):
    weights: dict[str, float] = Field(description="directional pillar: weight; sums to 1")
    gates: dict[str, float] = Field(default={}, description="gating pillar: strength from 0 to 1")
    scalars: dict[str, float] = Field(default={}, description="pillar: factor that brings its typical absolute score to the wanted size")
    on_missing_pillar: Literal["no_entries", "renormalise"] = Field("no_entries", description="when a pillar has failed or is stale")


class ExecutionSettings(Section):
    book: str = Field(description="the account's name in trading.*, such as paper")
    strategy: str = Field(description="one strategy a book")
    broker: str = Field(description="a [broker.*] section")
    entry_threshold: float = Field(gt=0, le=100, description="enter long at or above, short at or below its negative")
    exit_threshold: float = Field(ge=0, le=100, description="a fresh raw score beyond it on the other side closes a trade")
    min_gate: float = Field(0.0, ge=0, le=1, description="no entry below this gate")
    max_score_age: int = Field(1, ge=0, description="completed bars of the base timeframe since the score's bar")
    atr: int = Field(14, gt=1, description="bars of the Average True Range behind the stop")
    stop_atr: Positive = Field(description="stop distance in ATR")
    reward_to_risk: Positive = Field(description="target distance over stop distance")
    allow_shorts: bool = True


class RiskSettings(Section):
    risk_per_trade: Positive = Field(lt=1, description="share of equity lost when the stop is hit at its price")
    max_open_trades: int = Field(gt=0)
    max_notional: Positive = Field(description="largest notional of one trade, as a share of equity")
    max_gross_exposure: Positive = Field(description="sum of absolute notionals, as a share of equity")
    daily_loss_limit: Positive = Field(lt=1, description="a share of equity, such as 0.02")


class PaperBroker(Section):
    kind: Literal["paper"] = "paper"
    cash: Positive = Field(description="starting cash")
    currency: str = Field(pattern="^[A-Z]{3}$")
    slippage_bps: Decimal = Field(Decimal(0), ge=0, description="basis points against us on market and stop fills")
    fee_bps: Decimal = Field(Decimal(0), ge=0, description="basis points of notional on every fill")


class Runtime(Section):
    feed: str = Field(description="the [feed.*] that instruments use unless they name another")
    shards: int = Field(1, ge=1, le=64, description="pieces into which the universe is cut; pillars x shards tasks run in parallel")


class Settings(Section):
    """The whole of config.ini. ``stored()`` is what ops.run keeps: everything but secrets and the database's address."""

    database: Database = Database()
    runtime: Runtime
    timeframes: Timeframes
    composite: CompositeSettings
    execution: ExecutionSettings
    risk: RiskSettings
    feeds: dict[str, Feed]
    instruments: dict[str, Instrument]
    brokers: dict[str, PaperBroker]
    pillars: dict[str, pillars.Pillar]

    def shard(self, index: int) -> list[Instrument]:
        """The index-th piece of the universe: symbols sorted, every shards-th one."""
        return [self.instruments[s] for s in sorted(self.instruments)[index :: self.runtime.shards]]
