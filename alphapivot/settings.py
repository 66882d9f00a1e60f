"""
config.ini and the environment -> frozen, typed Settings; every mistake reported at once.

The models below, in ``feed_sections`` and in ``trading_sections`` are the whole grammar of config.ini: a field is a
key, its description its meaning.
``alphapivot.config`` reads the file; ``load`` here is its front door.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

import pillars
from alphapivot import plugins
from alphapivot.errors import ConfigError
from alphapivot.feed_sections import Feed, FilesFeed, SimulatedFeed, YahooFeed
from alphapivot.sections import Mapped, Positive, Section
from alphapivot.terms import Terms
from alphapivot.trading_sections import (
    AlpacaBroker,
    Broker,
    EntrySettings,
    ExecutionSettings,
    ExitSettings,
    PaperBroker,
    ProtectionSettings,
    RiskSettings,
    SizingSettings,
)
from pillars.rules import Ruled

__all__ = [  # those that stand elsewhere, so that this is the one place to import settings from
    "AlpacaBroker",
    "EntrySettings",
    "ExecutionSettings",
    "ExitSettings",
    "FilesFeed",
    "PaperBroker",
    "ProtectionSettings",
    "RiskSettings",
    "Section",
    "SimulatedFeed",
    "SizingSettings",
    "YahooFeed",
]


def _address(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("should be postgresql://user@host/name")
    return url


def _by_name(values: dict[str, Any]) -> dict[str, Any]:
    """Stored parameters -> the registered pillars' own classes."""
    unknown = values.keys() - pillars.PILLARS.keys()
    if unknown:
        raise ValueError(f"no such pillar: {', '.join(sorted(unknown))}")
    return {n: _pillar(pillars.PILLARS[n], v) if isinstance(v, dict) else v for n, v in values.items()}


def _pillar(kind: type[pillars.Pillar], stored: dict[str, Any]) -> pillars.Pillar:
    if stored.keys() == Ruled.model_fields.keys():
        return Ruled(pillar=kind.model_validate(stored["pillar"]), rules=stored["rules"])
    return kind.model_validate(stored)


Market = Literal["spot", "futures"]


class Database(Section):
    """[database]: where the hub is; without a url an embedded PostgreSQL is started."""

    url: Annotated[SecretStr, AfterValidator(_address)] | None = Field(
        None, description="postgresql://user@host/name; a password comes from the environment"
    )
    name: str = Field(
        "alphapivot", pattern="^[a-z_][a-z0-9_]{0,62}$", description="the embedded server's database: a-z, 0-9 and _"
    )


class Instrument(Terms):
    """[instrument.SYMBOL]: one underlying with its spot and futures markets and the terms of the one that is traded."""

    symbol: str
    feed: str | None = Field(None, description="its feed; [runtime] feed when absent")
    spot: str | None = Field(None, description="the feed's ticker (or file) of the spot market")
    futures: str | None = Field(None, description="the feed's ticker (or file) of the futures market")
    spot_interval: str | None = Field(
        None, description="interval at which spot is fetched; [timeframes] base when absent"
    )
    futures_interval: str | None = Field(
        None, description="interval at which futures are fetched; [timeframes] base when absent"
    )
    signal_market: Market
    trade_market: Market
    group: str = Field("", description="for limits and reports, such as equity index")
    currency: str = Field(
        pattern="^[A-Z]{3}$", description="the ISO code of the currency of its profit and loss, such as USD"
    )
    quote_unit: Positive = Field(description="currency per quoted unit: 1, or 0.01 for pence and cents")
    multiplier: Positive = Field(description="units of the underlying per contract; 1 for spot")
    tick: Positive = Field(description="smallest price change of what is traded, in quoted units")
    lot: Positive = Field(description="smallest tradable quantity")
    margin: Positive = Field(description="initial margin as a share of notional; 1 for cash")
    tradable: bool
    allow_nonpositive: bool = Field(
        default=False, description="may prices be zero or negative (spreads, crude in 2020)?"
    )
    quality: Mapped[float] = Field(default={}, description="its own thresholds, such as spike_z: 40, stale_bars: 0")

    @property
    def markets(self) -> tuple[Market, ...]:
        return tuple(m for m in ("spot", "futures") if getattr(self, m) is not None)

    def source_interval(self, market: Market, base: str) -> str:
        """The interval at which this market's bars are fetched; ``base`` unless the section names another."""
        return getattr(self, f"{market}_interval") or base


class Timeframes(Section):
    base: str = Field(description="the interval on which decisions are made")
    weights: Mapped[Annotated[float, Field(gt=0)]] = Field(description="timeframe: weight; sums to 1; contains base")


class CompositeSettings(Section):
    weights: Mapped[Annotated[float, Field(gt=0)]] = Field(description="directional pillar: weight; sums to 1")
    gates: Mapped[Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}, description="gating pillar: strength from 0 to 1"
    )
    calibrate: Literal["never", "monthly", "quarterly", "yearly"] = Field(
        "never", description="when scalars and correlations are fitted, from what came before"
    )
    typical_score: float = Field(
        30, gt=0, le=100, description="what calibration brings each pillar's mean absolute score to, points"
    )
    min_bars: int = Field(250, ge=20, description="bars of the base timeframe without which nothing is fitted")
    shrinkage: float = Field(
        0.5, ge=0, le=1, description="how far correlations are drawn to their mean: 0 not, 1 wholly"
    )
    scalars: Mapped[Annotated[float, Field(gt=0)]] = Field(
        default={}, description="pillar: factor of its scores, in place of the fitted one"
    )
    multiplier: Annotated[float, Field(ge=1)] | None = Field(
        None, description="diversification multiplier, in place of that of the fitted correlations"
    )
    max_multiplier: float = Field(2.5, ge=1, description="cap of the fitted diversification multiplier")
    on_missing_pillar: Literal["no_entries", "renormalise"] = Field(
        "no_entries", description="when a pillar has failed or is stale"
    )


class Quality(Section):
    """[quality]: what is too odd to be believed; a threshold of 0 turns its check off. See alphapivot/gates.py."""

    window: int = Field(60, ge=20, description="bars before a bar that say what is usual")
    gap_bars: int = Field(5, ge=0, description="bars missing in a row that stop entries")
    spike_z: float = Field(25, ge=0, description="robust z-score of a return that the other market does not share")
    stale_bars: int = Field(5, ge=0, description="unchanged bars in a row that stop entries")
    zero_volume_bars: int = Field(5, ge=0, description="bars without a trade in a row that stop entries")
    intraday: int = Field(12, ge=1, description="within the day the bars above are so many times more")
    scale: float = Field(0.1, ge=0, lt=1, description="how near 10 or 100 times the usual price is a wrong scale")
    shift: float = Field(0.3, ge=0, le=2, description="correlation gained by moving a market a day that stops entries")
    split: float = Field(0.03, ge=0, lt=0.2, description="how near a simple ratio an overnight change is a split")
    price_noise: float = Field(0.5, ge=0, description="ticks by which a bar may differ and be the same bar")
    volume_settles: float = Field(3, ge=0, description="days in which new volume alone reopens no signal")


class Retention(Section):
    """[retention]: how long what is kept is kept, in days; what is not named stays for ever."""

    bars: Mapped[Annotated[int, Field(ge=1)]] = Field(default={}, description="interval: days, such as 1m: 400")
    revisions: int | None = Field(None, ge=1, description="days for which superseded versions are kept")
    replays: int | None = Field(None, ge=1, description="days for which scores of replays and backtests are kept")
    columnstore: int | None = Field(
        None, ge=30, description="days after which TimescaleDB, where it is, turns bars and scores into columns"
    )


class Runtime(Section):
    feed: str = Field(description="the [feed.*] that instruments use unless they name another")
    shards: int = Field(
        1, ge=1, le=64, description="pieces into which the universe is cut; pillars x shards tasks run in parallel"
    )
    patience: float = Field(
        20, ge=0, description="minutes that a run waits for bars that are due and not published yet"
    )
    schedules: Literal["yes", "no", "ask"] = Field(
        "yes", description="whether `alphapivot ui` starts the schedules of prefect.yaml; ask: it asks each time"
    )
    drain: float = Field(60, ge=0, description="seconds that a worker told to stop gives the runs under way")
    task_runner: Literal["threads", "dask"] = Field("threads", description="where pillar x shard tasks run")
    dask_address: str | None = Field(
        None, pattern="^(tcp|tls|ws|wss)://.+", description="the scheduler of a Dask cluster, such as tcp://host:8786"
    )

    @model_validator(mode="after")
    def _has_a_cluster(self) -> Runtime:
        if self.task_runner == "dask" and self.dask_address is None:
            raise ValueError("task_runner = dask needs dask_address, such as tcp://host:8786")
        return self


class Plugins(Section):
    """[plugins]: pillars that are not of the checkout; see alphapivot/plugins.py."""

    folder: Path | None = Field(None, description="a folder with Python files of your own pillars")


class Settings(Section):
    """The whole of config.ini, frozen."""

    database: Database = Database()
    plugins: Plugins = Plugins()
    runtime: Runtime
    timeframes: Timeframes
    composite: CompositeSettings
    execution: ExecutionSettings
    risk: RiskSettings
    feeds: Mapped[Feed]
    instruments: Mapped[Instrument]
    brokers: Mapped[Broker]
    entry: EntrySettings = EntrySettings()
    exit: ExitSettings = ExitSettings()
    sizing: SizingSettings = SizingSettings()
    protections: ProtectionSettings = ProtectionSettings()
    quality: Quality = Quality()
    retention: Retention = Retention()
    pillars: Annotated[Mapped[SerializeAsAny[pillars.Pillar]], BeforeValidator(_by_name)]

    @model_validator(mode="before")
    @classmethod
    def _with_plugins(cls, values: Any) -> Any:
        """What a run stored names the plug-ins that it needs: another process imports them now."""
        section = values.get("plugins", Plugins())
        plugins.load(Plugins.model_validate(section).folder, values.get("pillars", ()))
        return values

    def shard(self, index: int) -> list[Instrument]:
        """The index-th piece of the universe: symbols sorted, every shards-th one."""
        return [self.instruments[s] for s in sorted(self.instruments)[index :: self.runtime.shards]]

    def checks(self, symbol: str) -> Quality:
        """[quality] with the instrument's own thresholds over it."""
        return Quality.model_validate(self.quality.model_dump() | self.instruments[symbol].quality)

    def stored(self) -> dict[str, Any]:
        """What ops.run keeps, ready for JSON: all but secrets and the database's address; Decimals as strings."""
        return self.model_dump(mode="json", exclude={"database"})

    def hash(self) -> str:
        """SHA-256 of ``stored()``: the same wherever and however often the same settings are read."""
        return hashlib.sha256(json.dumps(self.stored(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def restore(cls, stored: dict[str, Any]) -> Settings:
        """The settings that ``stored()`` came from but the database; ConfigError where this code cannot take them."""
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            wrong = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError(
                f"the config stored with this run does not fit the code that runs now; start a new run:\n{wrong}"
            ) from None


def load(
    path: Path | None = None, environ: Mapping[str, str] = os.environ, overrides: Mapping[str, str] = {}
) -> Settings:
    """
    config.ini, over it the ALPHAPIVOT_SECTION__KEY, then ``overrides`` such as {"runtime.feed": "simulated"}.

    Without a path: the file that ALPHAPIVOT_CONFIG names, else config.ini in the checkout. An override of
    ``runtime.feed`` holds for every instrument, also for one that names its own feed. ConfigError tells all mistakes.
    """
    from alphapivot import config  # noqa: PLC0415 - it stands on the models above

    return config.read(path, environ, overrides)


def database(environ: Mapping[str, str] = os.environ) -> Database:
    """[database] from the config file and the environment, of which nothing else is read."""
    from alphapivot import config  # noqa: PLC0415 - the same

    return config.read_database(environ)


def database_url(environ: Mapping[str, str] = os.environ) -> SecretStr | None:
    """The hub's address; None: the embedded server's."""
    return database(environ).url
