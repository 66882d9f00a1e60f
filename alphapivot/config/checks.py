"""Consistency between the sections of config.ini; only looks at sections that are valid by themselves."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, cast, get_args

from pydantic import BaseModel, ValidationError

from alphapivot.calendar import exchange, india
from alphapivot.calendar.bar_ends import INTERVALS, divides
from alphapivot.config import names, positions
from alphapivot.config.ini import nearest
from alphapivot.config.sections.brokers import BrokerSection, ChargedBroker, IbBroker
from alphapivot.config.sections.feeds import FeedSection, IbFeed, KiteFeed
from alphapivot.config.sections.instrument import Kind
from pillars.kit import windows

if TYPE_CHECKING:
    import pillars
    from alphapivot.config.sections.calendar import CalendarSection
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.sections.runtime import Retention, Runtime
    from alphapivot.config.sections.scoring import CompositeSettings, Timeframes
    from alphapivot.config.sections.screen import Quality
    from alphapivot.config.sections.trading import ExecutionSettings, ExitSettings, RiskSettings, SizingSettings
    from pillars.rules.rules import Rule


def check(valid: Mapping[str, BaseModel], present: Collection[str]) -> list[str]:
    """All contradictions; ``valid``: sections by name, ``present``: names of all sections in the file."""
    checks = (_timeframes(valid), _composite(valid, present), _instruments(valid, present))
    return [
        *(m for check_ in checks for m in check_),
        *names.mistakes(valid, present),
        *_names(valid, present),
        *_retention(valid),
        *_trading(valid, present),
    ]


def _trading(valid: Mapping[str, BaseModel], present: Collection[str]) -> Iterator[str]:
    timeframes = cast("Timeframes | None", valid.get("timeframes"))
    exits = cast("ExitSettings | None", valid.get("exit"))
    if exits is not None and exits.session_end and timeframes is not None and timeframes.base in ("1d", "1w"):
        yield f"[exit] session_end = yes needs an intraday base, but [timeframes] base = {timeframes.base}"
    execution = cast("ExecutionSettings | None", valid.get("execution"))
    if exits is not None and execution is not None and execution.reward_to_risk is not None and exits.scales:
        farthest, target = exits.scales[-1][0], execution.reward_to_risk
        if farthest >= target:
            yield f"[exit] scale_out: {farthest}R is not before the target, [execution] reward_to_risk = {target}"
    yield from positions.mistakes(valid)
    yield from _spreads(valid)
    symbols = [name.removeprefix("instrument.") for name in present if name.startswith("instrument.")]
    named = [
        (name, key, list(symbols_))
        for name, s in valid.items()
        for key, symbols_ in (
            [("symbols", s.names())]
            if isinstance(s, BrokerSection)
            else [
                ("symbols", s.symbols),
                ("futures_symbols", s.futures_symbols),
                ("splits", s.splits if isinstance(s, IbFeed | KiteFeed) else ()),
            ]
            if isinstance(s, FeedSection)
            else []
        )
    ]
    if "risk" in valid:
        named.append(("risk", "max_quantity", list(cast("RiskSettings", valid["risk"]).max_quantity)))
    if "sizing" in valid:
        sizing = cast("SizingSettings", valid["sizing"])
        named += [("sizing", "weights", list(sizing.weights)), ("sizing", "costs", list(sizing.costs))]
    yield from _fees(valid, symbols, present)
    yield from _client_ids(valid)
    for section, key, named_symbols in named:
        for symbol in named_symbols:
            if symbol not in symbols:
                yield f"[{section}] {key} names {symbol}, which is not an [instrument.*]; {nearest(symbol, symbols)}"


def _spreads(valid: Mapping[str, BaseModel]) -> Iterator[str]:
    """Spreads that may be entered at a broker that would fill one leg without the other."""
    execution = cast("ExecutionSettings | None", valid.get("execution"))
    broker = cast("BrokerSection | None", valid.get(f"broker.{execution.broker}")) if execution else None
    if execution is None or broker is None or broker.spreads:
        return
    for section, model in valid.items():
        if section.startswith("instrument.") and cast("Instrument", model).legs and cast("Instrument", model).tradable:
            yield (
                f"[{section}] tradable = yes: a broker of kind {broker.kind} ([execution] broker = {execution.broker})"
                " takes no order for both legs at once, and one leg without the other is another trade; expected"
                " tradable = no, or a paper account"
            )


def _client_ids(valid: Mapping[str, BaseModel]) -> Iterator[str]:
    """Feeds and brokers that would take one client id of one gateway from each other."""
    seen: dict[tuple[str, int, int], str] = {}
    for name, s in valid.items():
        if isinstance(s, IbFeed | IbBroker):
            place = s.host, s.port, s.client_id
            if place in seen:
                yield f"[{name}] client_id = {s.client_id} is that of [{seen[place]}]: a gateway takes each id once"
            seen[place] = name


def _fees(valid: Mapping[str, BaseModel], symbols: list[str], present: Collection[str]) -> Iterator[str]:
    """Fees of what is neither an instrument nor a group nor a kind of market, or of a table that does not exist."""
    instruments = [cast("Instrument", v) for n, v in valid.items() if n.startswith("instrument.")]
    known = [*symbols, *{i.group for i in instruments}, *get_args(Kind)]
    for section, broker in valid.items():
        for name in broker.fees if isinstance(broker, ChargedBroker) else ():
            if name not in known:
                yield (
                    f"[{section}] fees names {name}, which is neither an [instrument.*] nor a group nor one of"
                    f" {', '.join(get_args(Kind))}; {nearest(name, known)}"
                )
        for name, text in broker.fees.items() if isinstance(broker, ChargedBroker) else ():
            if not text[0].isdigit() and f"fees.{text}" not in present:
                tables = [other.removeprefix("fees.") for other in present if other.startswith("fees.")]
                yield f"[{section}] fees = {name}: {text}: there is no [fees.{text}]; {nearest(text, tables)}"


def _retention(valid: Mapping[str, BaseModel]) -> Iterator[str]:
    frames = cast("Timeframes | None", valid.get("timeframes"))
    history = max((cast("pillars.Pillar", v).history for n, v in valid.items() if n.startswith("pillar.")), default=0)
    for name, days in cast("Retention", valid["retention"]).bars.items() if "retention" in valid else ():
        if name not in INTERVALS:
            yield f"[retention] bars name {name}: no such interval; expected one of {', '.join(INTERVALS)}"
        elif frames is not None and name in frames.weights:
            needed = (windows.block(history, name) + windows.length(history, name)).days + 1
            if days < needed:
                yield f"[retention] bars = {name}: {days}: pillars look back {needed} days; expected at least that"


def _timeframes(valid: Mapping[str, BaseModel]) -> Iterator[str]:
    if "timeframes" not in valid:
        return
    timeframes = cast("Timeframes", valid["timeframes"])
    for name in {timeframes.base: None, **timeframes.weights}:
        place = f"[timeframes] {'base =' if name == timeframes.base else 'weights name'} {name}"
        if name not in INTERVALS:
            yield f"{place}: no such interval; expected one of {', '.join(INTERVALS)}"
        elif timeframes.base in INTERVALS and not divides(timeframes.base, name):
            yield f"{place}, which is not a multiple of base = {timeframes.base}"
    if timeframes.base not in timeframes.weights:
        yield f"[timeframes] weights lack the base, {timeframes.base}; they name {', '.join(timeframes.weights)}"
    yield from _sum("timeframes", timeframes.weights)


def _composite(valid: Mapping[str, BaseModel], present: Collection[str]) -> Iterator[str]:
    if "composite" not in valid:
        return
    composite = cast("CompositeSettings", valid["composite"])
    configured = [name.removeprefix("pillar.") for name in present if name.startswith("pillar.")]
    for key in ("weights", "gates", "scalars"):
        for name in getattr(composite, key):
            pillar = cast("pillars.Pillar | None", valid.get(f"pillar.{name}"))
            if name not in configured:
                yield f"[composite] {key} name {name}, but there is no [pillar.{name}]; {nearest(name, configured)}"
            elif pillar is not None and key != "gates" and not pillar.directional:
                yield f"[composite] {key} name {name}, which is not directional; put it in gates"
            elif pillar is not None and key == "gates" and not pillar.gating:
                yield f"[composite] gates name {name}, which has no gate; put it in weights"
    yield from _optional(composite)
    for section, rule in valid.items():
        pillar_name = section.split(".")[1] if section.startswith("rule.") else ""
        if pillar_name in configured and cast("Rule", rule).gate is not None and not composite.gates.get(pillar_name):
            yield f"[{section}] gate has no effect unless [composite] gates name {pillar_name}, as in {pillar_name}: 1"
    yield from _sum("composite", composite.weights)


def _optional(composite: CompositeSettings) -> Iterator[str]:
    for name in composite.optional:
        if name not in composite.weights:
            yield f"[composite] optional names {name}, which has no weight; {nearest(name, composite.weights)}"
    if not set(composite.weights) - set(composite.optional):
        yield "[composite] optional names all pillars of weights; expected at least one that must be known"


def _sum(section: str, weights: Mapping[str, float]) -> Iterator[str]:
    total = math.fsum(weights.values())
    if not math.isclose(total, 1, abs_tol=1e-9):
        yield f"[{section}] weights sum to {total:.10g}; expected 1"


def _instruments(valid: Mapping[str, BaseModel], present: Collection[str]) -> Iterator[str]:
    calendars = exchange.names()
    own = [*india.SHIPPED, *(n.partition(".")[2] for n in present if n.startswith("calendar."))]
    for section, model in valid.items():
        if section.startswith("calendar.") and cast("CalendarSection", model).base not in (*calendars, *india.SHIPPED):
            unknown = cast("CalendarSection", model).base
            yield f"[{section}] base = {unknown}: unknown; {nearest(unknown, [*calendars, *india.SHIPPED])}"
    base = cast("Timeframes", valid["timeframes"]).base if "timeframes" in valid else None
    for section, model in valid.items():
        if not section.startswith("instrument."):
            continue
        instrument = cast("Instrument", model)
        yield from _feeds(section, instrument, valid, present)
        if instrument.calendar not in [*calendars, *own]:
            near = nearest(instrument.calendar, [*calendars, *own])
            near = near if near.startswith("did") else "expected one such as XNYS, CMES, XEUR or 24/7"
            yield f"[{section}] calendar = {instrument.calendar}: unknown to exchange_calendars; {near}"
        for key in ("signal_market", "trade_market"):
            market = getattr(instrument, key)
            if market not in instrument.markets:
                yield f"[{section}] {key} = {market}, but the section has no {market} key (the ticker)"
        for market in ("spot", "futures"):
            if getattr(instrument, f"{market}_session") and market not in instrument.markets:
                yield f"[{section}] {market}_session has no effect: the section has no {market} key (the ticker)"
        yield from _source_intervals(section, instrument, base)
        yield from _thresholds(section, instrument, valid)


def _feeds(
    section: str, instrument: Instrument, valid: Mapping[str, BaseModel], present: Collection[str]
) -> Iterator[str]:
    """An instrument's feeds: each exists and is named once, and simulated prices do not stand in for real ones."""
    if instrument.legs:
        return
    for name in instrument.feeds:
        yield from _exists(section, "feed", "feed", name, present)
    if len(set(instrument.feeds)) < len(instrument.feeds):
        yield f"[{section}] feed = {instrument.feed} names a feed twice"
    sections = [cast("FeedSection", valid[f"feed.{n}"]) for n in instrument.feeds if f"feed.{n}" in valid]
    if len({feed.simulated for feed in sections}) > 1:
        yield f"[{section}] feed = {instrument.feed}: simulated prices cannot stand in for real ones, nor real for them"


def _thresholds(section: str, instrument: Instrument, valid: Mapping[str, BaseModel]) -> Iterator[str]:
    """An instrument's own quality thresholds: the keys of [quality], within their bounds."""
    from alphapivot.config.sections.screen import Quality  # noqa: PLC0415 - it imports this module's caller

    common = cast("Quality", valid.get("quality", Quality())).model_dump()
    for name, value in instrument.quality.items():
        if name not in common:
            yield f"[{section}] quality names {name}, which is not a key of [quality]; {nearest(name, common)}"
            continue
        try:
            Quality.model_validate(common | {name: value})
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            yield f"[{section}] quality = {name}: {value:g}: {reason[:1].lower()}{reason[1:]}"


def _source_intervals(section: str, instrument: Instrument, base: str | None) -> Iterator[str]:
    for key in ("spot_interval", "futures_interval"):
        interval = getattr(instrument, key)
        if interval is not None and interval not in INTERVALS:
            yield f"[{section}] {key} = {interval}: no such interval; expected one of {', '.join(INTERVALS)}"
        elif interval is not None and base in INTERVALS and not divides(interval, base):
            yield f"[{section}] {key} = {interval} does not divide [timeframes] base = {base}"


def _names(valid: Mapping[str, BaseModel], present: Collection[str]) -> Iterator[str]:
    if "runtime" in valid:
        runtime = cast("Runtime", valid["runtime"])
        yield from _exists("runtime", "feed", "feed", runtime.feed, present)
        symbols = sum(name.startswith("instrument.") for name in present)
        if runtime.shards > symbols > 0:
            yield f"[runtime] shards = {runtime.shards}: more than the {symbols} instruments"
    if "execution" in valid:
        yield from _exists(
            "execution", "broker", "broker", cast("ExecutionSettings", valid["execution"]).broker, present
        )


def _exists(section: str, key: str, family: str, name: str, present: Collection[str]) -> Iterator[str]:
    if f"{family}.{name}" not in present:
        candidates = [other.removeprefix(f"{family}.") for other in present if other.startswith(f"{family}.")]
        yield f"[{section}] {key} = {name}: there is no [{family}.{name}]; {nearest(name, candidates)}"
