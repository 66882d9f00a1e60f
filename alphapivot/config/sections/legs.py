"""What a spread takes from its legs, and why they make none. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from alphapivot.config import ini
from alphapivot.config.sections.feeds import FeedSection, LegsFeed
from alphapivot.config.sections.instrument import LEGS, Instrument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

OWN = ("legs", "leg_prices", "tick", "lot", "group", "tradable", "quality")  # the keys of a spread's section
TAKEN = ("calendar", "session", "breaks", "daily_stamp", "session_zone", "timetable", "currency")
PREFIX = "instrument."
NO = ("no", "false", "off", "0")
SPOT = {"spot": Decimal(1), "futures": Decimal(0)}  # the least margin of a leg, as a share of what it is worth


def is_spread(section: str, texts: Mapping[str, str]) -> bool:
    """True for the section of a spread."""
    return section.startswith(PREFIX) and "legs" in texts


def given(
    section: str, sections: ini.Sections, valid: Mapping[str, BaseModel], mistakes: list[str]
) -> dict[str, Any] | None:
    """
    The fields of a spread that are not keys of its section, of other sections none; None if its legs make none, with
    why appended to ``mistakes``. ``valid``: the sections of what is not a spread, as far as they could be read.
    """
    texts = sections[section]
    if not is_spread(section, texts):
        return {}
    try:
        named = list(ini.typed(texts["legs"], Instrument.model_fields["legs"]))
    except ValueError as error:
        mistakes.append(f"[{section}] legs = {texts['legs']}: {error}")
        return None
    known = {leg: cast("Instrument", valid[PREFIX + leg]) for leg in named if PREFIX + leg in valid}
    wrong = [*_keys(section, texts), *_names(section, named, sections), *_unlike(section, known)]
    wrong += _traded(section, texts, known)
    mistakes += wrong
    if wrong or len(known) < len(named):  # mistakes of a leg's own section are reported there
        return None
    first = next(iter(known.values()))
    taken = {name: getattr(first, name) for name in TAKEN}
    taken["session"] = getattr(first, f"{first.trade_market}_session") or first.session
    return taken | {"leg_terms": known, "feed": None, "usual": "", "margin": _margin(texts, known)}


def feed(valid: Mapping[str, BaseModel], default: str) -> dict[str, LegsFeed]:
    """The feed of spreads, if there are any: its bars are published when those of all legs are."""
    instruments = [v for v in valid.values() if isinstance(v, Instrument)]
    legs = {leg for i in instruments for leg in i.legs}
    names = {(i.feeds or (default,))[0] for i in instruments if i.symbol in legs}
    lags = [cast("FeedSection", valid[f"feed.{name}"]).publication_lag for name in names]
    return {LEGS: LegsFeed(publication_lag=max(lags))} if lags else {}


def _keys(section: str, texts: Mapping[str, str]) -> Iterator[str]:
    for key, text in texts.items():
        if key not in OWN:
            yield f"[{section}] {key} = {text}: a spread takes it from its legs; remove the line"


def _traded(section: str, texts: Mapping[str, str], legs: Mapping[str, Instrument]) -> Iterator[str]:
    """What a spread lacks that may be entered."""
    if texts.get("tradable", "no").lower() in NO:
        return
    lacking = [leg for leg in legs if leg not in _prices(texts)]
    if lacking:
        shown = ", ".join(f"{leg}: 100" for leg in legs)
        yield (
            f"[{section}] tradable = {texts['tradable']}: no price of {', '.join(lacking)} to count fees, slippage,"
            f" margin and limits from; expected such as leg_prices = {shown}"
        )
    for leg, terms in legs.items():
        if terms.trade_market == "futures":
            yield (
                f"[{section}] tradable = {texts['tradable']}: {leg} trades futures, and what its rolls cost a spread is"
                " not counted; expected legs with trade_market = spot, or tradable = no"
            )


def _prices(texts: Mapping[str, str]) -> dict[str, str]:
    try:
        made: dict[str, str] = ini.typed(texts.get("leg_prices", ""), Instrument.model_fields["leg_prices"])
    except ValueError:  # the field itself says so
        return {}
    return made


def _margin(texts: Mapping[str, str], legs: Mapping[str, Instrument]) -> Decimal:
    """The initial margin of a unit as a share of its worth: the sum over its legs, shares and coins paid in full."""
    try:
        ratios = ini.typed(texts["legs"], Instrument.model_fields["legs"])
        worths = {
            leg: abs(Decimal(ratios[leg])) * Decimal(price) * legs[leg].multiplier * legs[leg].quote_unit
            for leg, price in _prices(texts).items()
            if leg in legs
        }
        whole = sum(worths.values(), Decimal(0))
        needed = sum((w * max(legs[leg].margin, SPOT[legs[leg].trade_market]) for leg, w in worths.items()), Decimal(0))
        return needed / whole if whole > 0 and needed > 0 else Decimal(1)
    except ArithmeticError:  # the fields themselves say so
        return Decimal(1)


def _names(section: str, named: list[str], sections: ini.Sections) -> Iterator[str]:
    place, symbol = f"[{section}] legs", section.removeprefix(PREFIX)
    spreads = {name.removeprefix(PREFIX): is_spread(name, t) for name, t in sections.items() if name.startswith(PREFIX)}
    others = [name for name, spread in spreads.items() if not spread]
    if f"feed.{LEGS}" in sections:
        yield f"[feed.{LEGS}] bears the name of the feed that spreads come from; rename it"
    if not named:
        yield f"{place} is empty; expected such as legs = GOLD: 1, SILVER: -8"
    for leg in named:
        if leg == symbol:
            yield f"{place} names {leg}, the spread itself; {ini.nearest(leg, others)}"
        elif spreads.get(leg):
            yield f"{place} names {leg}, which is a spread itself; name its legs, each with its share of the ratio"
        elif leg not in others:
            yield f"{place} names {leg}, which is not an [instrument.*]; {ini.nearest(leg, others)}"


def _unlike(section: str, legs: Mapping[str, Instrument]) -> Iterator[str]:
    """What keeps ``legs`` from having one price, at one time, of one unit."""
    place = f"[{section}] legs"
    for (one, a), (other, b) in zip(legs.items(), list(legs.items())[1:], strict=False):
        if a.currency != b.currency:
            yield (
                f"{place}: {one} is in {a.currency} and {other} in {b.currency}; expected legs of one currency, as a"
                " spread has one price"
            )
        if a.trading_hours != b.trading_hours:
            yield (
                f"{place}: bars of {one} end by {a.trading_hours} and those of {other} by {b.trading_hours}; expected"
                " legs with the same calendar and hours, as a spread has a bar where both have one"
            )
    for leg, terms in legs.items():
        for since, changed in terms.later.items():
            if names := sorted(changed.keys() & {"multiplier", "quote_unit"}):
                yield (
                    f"{place}: {names[0]} of {leg} changes on {since}, and what a unit of the spread holds with it;"
                    " expected legs for which it never changes"
                )
