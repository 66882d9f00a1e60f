"""
All of config.ini as one frozen value: read by the code, stored in ops.run, and hashed.

``alphapivot.config.sections`` holds the models of the sections, ``alphapivot.config.read`` reads the file.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

import pillars
from alphapivot.config import plugins
from alphapivot.config.sections.base import Mapped, Section
from alphapivot.config.sections.brokers import BrokerSection
from alphapivot.config.sections.calendar import CalendarSection
from alphapivot.config.sections.feeds import FeedSection
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.sections.runtime import Database, Plugins, Retention, Runtime
from alphapivot.config.sections.scoring import CompositeSettings, Timeframes
from alphapivot.config.sections.screen import Quality
from alphapivot.config.sections.trading import (
    EntrySettings,
    ExecutionSettings,
    ExitSettings,
    ProtectionSettings,
    RiskSettings,
    SizingSettings,
)
from alphapivot.errors import ConfigError
from pillars.rules.rules import Ruled


def _by_kind(family: str, values: dict[str, Any]) -> dict[str, Any]:
    """Stored sections -> the models of their kinds."""
    return {n: _section(family, n, v) if isinstance(v, dict) else v for n, v in values.items()}


def _section(family: str, name: str, stored: dict[str, Any]) -> Section:
    model = plugins.kinds(family, stored.get("kind", ""))
    if model is None:
        raise ValueError(f"{name}: no such kind of {family}: {stored.get('kind')}")
    return model.model_validate(stored)


def _by_name(values: dict[str, Any]) -> dict[str, Any]:
    """Stored parameters -> instances of the registered pillar classes."""
    unknown = values.keys() - pillars.PILLARS.keys()
    if unknown:
        raise ValueError(f"no such pillar: {', '.join(sorted(unknown))}")
    return {n: _pillar(pillars.PILLARS[n], v) if isinstance(v, dict) else v for n, v in values.items()}


def _pillar(kind: type[pillars.Pillar], stored: dict[str, Any]) -> pillars.Pillar:
    if stored.keys() == Ruled.model_fields.keys():
        return Ruled(pillar=kind.model_validate(stored["pillar"]), rules=stored["rules"])
    return kind.model_validate(stored)


class Settings(Section):
    """All of config.ini, frozen."""

    database: Database = Database()
    plugins: Plugins = Plugins()
    runtime: Runtime
    timeframes: Timeframes = Timeframes.model_validate({})
    composite: CompositeSettings = CompositeSettings.model_validate({})
    execution: ExecutionSettings = ExecutionSettings()
    risk: RiskSettings = RiskSettings()
    feeds: Annotated[Mapped[SerializeAsAny[FeedSection]], BeforeValidator(partial(_by_kind, "feed"))]
    instruments: Mapped[Instrument]
    calendars: Mapped[CalendarSection] = Field({})
    brokers: Annotated[Mapped[SerializeAsAny[BrokerSection]], BeforeValidator(partial(_by_kind, "broker"))]
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
        """Import the plug-ins that the stored settings name: another process may not have them yet."""
        section = values.get("plugins", Plugins())
        feeds = [v["kind"] if isinstance(v, dict) else v.kind for v in values.get("feeds", {}).values()]
        plugins.load(Plugins.model_validate(section).folder, values.get("pillars", ()), feeds)
        return values

    def shard(self, index: int) -> list[Instrument]:
        """Shard ``index`` of the universe: every shards-th instrument, sorted by symbol."""
        return [self.instruments[s] for s in sorted(self.instruments)[index :: self.runtime.shards]]

    def feeds_of(self, instrument: Instrument) -> tuple[str, ...]:
        """Its feeds: the first is its own, the others stand in for it, in this order."""
        return instrument.feeds or (self.runtime.feed,)

    def feed_of(self, instrument: Instrument) -> str:
        """Its own feed."""
        return self.feeds_of(instrument)[0]

    @property
    def ticks(self) -> dict[str, Decimal]:
        """symbol -> tick, the last one of config.ini."""
        return {symbol: instrument.at(date.max).tick for symbol, instrument in self.instruments.items()}

    @property
    def spreads(self) -> dict[str, tuple[str, ...]]:
        """symbol -> its legs, of the instruments that are made of others."""
        return {symbol: tuple(instrument.legs) for symbol, instrument in self.instruments.items() if instrument.legs}

    def checks(self, symbol: str) -> Quality:
        """[quality], overridden by the instrument's own thresholds."""
        return Quality.model_validate(self.quality.model_dump() | self.instruments[symbol].quality)

    def stored(self) -> dict[str, Any]:
        """The settings as ops.run stores them, ready for JSON: without the database's address; Decimals as strings."""
        return self.model_dump(mode="json", exclude={"database"})

    def hash(self) -> str:
        """SHA-256 of ``stored()``: the same in every process."""
        return hashlib.sha256(json.dumps(self.stored(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @classmethod
    def restore(cls, stored: dict[str, Any]) -> Settings:
        """The settings behind ``stored()``, except [database]; ConfigError if they do not fit this code."""
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            wrong = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ConfigError(
                f"the config stored with this run does not fit the current code; start a new run:\n{wrong}"
            ) from None
