"""
``alphapivot broker test``: what is ready at a broker, before it is given money. Asks for all that a run asks for; where
no money is at stake, one entry with its stop and target, far below the market, is sent, found and cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import text

from alphapivot import clock
from alphapivot.brokers import registry
from alphapivot.brokers.base import Absent, Accepted, Attached, BrokerOrder, Key, OrderSpec, Ref, Unknown, Unreadable
from alphapivot.errors import AlphaPivotError, Unavailable
from alphapivot.execution.account import books
from alphapivot.execution.run.engine import only_executor
from alphapivot.money import price_text, to_tick

if TYPE_CHECKING:
    from alphapivot.brokers.base import Answer, Broker
    from alphapivot.clock import Clock
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

ENTRY, STOP, TARGET = Decimal("0.5"), Decimal("0.4"), Decimal("0.6")  # of the last price: never filled by accident
TRIES = 10  # looks at an order that is on its way
Looked = BrokerOrder | Absent | Unreadable
FINAL = ("FILLED", "CANCELED", "REPLACED", "REJECTED", "EXPIRED")
NEWEST = """
    SELECT contract, close FROM market.bar WHERE symbol = :symbol AND market = :market
    ORDER BY ts DESC, volume DESC NULLS LAST LIMIT 1
"""


@dataclass(frozen=True)
class Found:
    """One thing that was looked at. ``good``: None where it is only worth knowing."""

    what: str
    said: str
    good: bool | None = True


def _wrong(what: str, said: str) -> Found:
    return Found(what, said, good=False)


def _note(what: str, said: str) -> Found:
    return Found(what, said, good=None)


def trial(
    hub: Hub,
    settings: Settings,
    symbol: str | None = None,
    now: Clock | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Found]:
    """
    What is found at the broker of [execution], in the order in which a run needs it; ends at the first that the rest
    depends on. ``symbol``: the instrument of the trial order; None: the first that has a price.
    """
    section, name = settings.brokers[settings.execution.broker], settings.execution.broker
    try:
        registry.check(settings)
        broker = registry.open_broker(hub, settings)
        account = broker.account()
    except AlphaPivotError as error:
        yield _wrong("account", str(error))
        return
    yield Found("account", _account(account.number or name, section.real_money, account.currency, account.equity))
    if account.currency != section.currency:
        yield _wrong("currency", f"the account is in {account.currency}, [broker.{name}] is in {section.currency}")
    now = now or clock.WallClock()
    if account.at is not None:
        yield _in_step(now.now(), account.at, settings.execution.max_clock_skew)
    for asked in (_holdings, _hours, _terms):
        try:
            yield from asked(hub, settings, broker)
        except AlphaPivotError as error:
            yield _wrong(asked.__name__.removeprefix("_"), str(error))
    if section.simulated:
        yield _note("order", "none is sent: this account is simulated from stored bars, nothing can refuse it")
    elif section.real_money:
        paper = "" if section.no_paper else "; test its paper account"
        yield _note("order", f"none is sent: this account trades real money{paper}")
    elif settings.execution.mode == "shadow":
        yield _note("order", "none is sent: [execution] mode = shadow")
    else:
        yield from _alone(hub, settings, broker, symbol, now, pause)


def _in_step(now: datetime, theirs: datetime, most: float) -> Found:
    ahead = (now - theirs).total_seconds()
    told = (
        f"this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the broker's, at most {most:g} s"
    )
    return Found("clock", told, good=abs(ahead) <= most)


def _alone(
    hub: Hub, settings: Settings, broker: Broker, symbol: str | None, now: Clock, pause: Callable[[float], None]
) -> Iterator[Found]:
    """The trial order, while no run looks at the account: it would take the order for a stranger's."""
    book = settings.execution.book
    with only_executor(hub, book) as lock:
        if lock is None:
            yield _wrong("order", f"not tried: a run of book {book} is under way; call this again after it")
            return
        if (number := broker.account().number) is not None and not books.lock(lock, number):
            yield _wrong("order", f"not tried: a run of another book uses {number}; call this again after it")
            return
        try:
            yield from _order(hub, settings, broker, symbol, now, pause)
        except AlphaPivotError as error:
            yield _wrong("order", str(error))


def _account(number: str, real: bool, currency: str, equity: Decimal) -> str:
    return f"{number}, {'REAL MONEY' if real else 'no real money'}, equity {equity:,.2f} {currency}"


def _holdings(_hub: Hub, settings: Settings, broker: Broker) -> Iterator[Found]:
    held, resting = broker.positions(), broker.open_orders()
    known = {key for key in held if key[0] in settings.instruments}
    yield Found("positions", ", ".join(f"{_name(key)} {qty:f}" for key, qty in held.items()) or "none")
    if strange := [_name(key) for key in held if key not in known]:
        told = f"{', '.join(strange)}: not an [instrument.*] of this config, so no run looks after it"
        yield _note("positions", told)
    unreadable = [order.reason for order in resting if isinstance(order, Unreadable)]
    foreign = [o for o in resting if isinstance(o, BrokerOrder) and not o.client_order_id]
    yield Found("open orders", f"{len(resting)}, {len(foreign)} of them not ours" if resting else "none")
    for reason in unreadable:
        yield _note("open orders", reason)


def _hours(_hub: Hub, settings: Settings, broker: Broker) -> Iterator[Found]:
    closed: dict[str, list[str]] = {}
    opened = []
    for symbol, instrument in _tradable(settings).items():
        hours = broker.session((symbol, instrument.trade_market, ""))
        if hours.open:
            opened.append(symbol)
        else:
            told = f"closed, opens {hours.opens:%a %Y-%m-%d %H:%M} UTC" if hours.opens else "closed"
            closed.setdefault(told, []).append(symbol)
    if opened:
        yield Found("hours", f"open now: {', '.join(opened)}")
    for told, symbols in closed.items():
        yield Found("hours", f"{told}: {', '.join(symbols)}")


def _terms(hub: Hub, settings: Settings, _broker: Broker) -> Iterator[Found]:
    terms = registry.compare(hub, settings)
    for wrong in terms.wrong:
        yield _wrong("terms", wrong)
    for caution in terms.cautions:
        yield _note("terms", caution)
    for told in terms.told:
        yield Found("terms", told)
    if settings.brokers[settings.execution.broker].compares is None:
        yield _note("terms", "this broker cannot be asked for tick, lot and multiplier: compare them by hand")
    elif not terms.wrong:
        yield Found("terms", f"ticks and lots of {len(_tradable(settings))} instruments are the broker's")


def _order(
    hub: Hub, settings: Settings, broker: Broker, symbol: str | None, now: Clock, pause: Callable[[float], None]
) -> Iterator[Found]:
    """Sends, finds and cancels one entry. Whatever happens between, a cancel is tried."""
    spec, price = _spec(hub, settings, broker, symbol, now)
    if spec is None:
        yield _wrong("order", "not tried: no stored price to place it far from; `alphapivot ingest` stores some")
        return
    what = f"buy {spec.qty:f} {spec.symbol} at {price_text(spec.price or price)}, last {price_text(price)}"
    asked, ref = now.now(), Ref(spec.client_order_id, None, spec.bracket, "ENTRY")
    answer = broker.submit(spec)
    if not isinstance(answer, Accepted | Unknown):
        yield _wrong("order", f"{what}: {_said(answer)}")
        return
    try:
        order = _await(broker, ref, lambda found: isinstance(found, BrokerOrder), asked, pause)
        legs = f" with {' and '.join(leg.leg.lower() for leg in spec.attached)}" if spec.attached else ""
        if isinstance(order, BrokerOrder):
            told = f"{what}{legs}: accepted, found by our id ({order.state})"
            yield Found("order", told, good=order.state != "REJECTED")
        else:
            yield _wrong("order", f"{what}{legs}: {_said(answer)}, and it cannot be found")
    finally:
        with suppress(Unavailable):
            broker.cancel(ref)
    ended = _await(broker, ref, lambda o: isinstance(o, BrokerOrder) and o.state in FINAL, asked, pause)
    gone = isinstance(ended, BrokerOrder) and ended.state in FINAL and not ended.cum_qty
    state = ended.state if isinstance(ended, BrokerOrder) else type(ended).__name__
    kept = f"cancelled, but {state}: look for {spec.client_order_id} at the broker and cancel it there"
    yield Found("order", "cancelled again" if gone else kept, good=gone)


def _spec(
    hub: Hub, settings: Settings, broker: Broker, symbol: str | None, now: Clock
) -> tuple[OrderSpec | None, Decimal]:
    """An entry of one lot at half the last price; None without a price."""
    for name, instrument in ({symbol: settings.instruments[symbol]} if symbol else _tradable(settings)).items():
        with hub.engine.connect() as conn:
            row = conn.execute(text(NEWEST), {"symbol": name, "market": instrument.trade_market}).one_or_none()
        if row is None:
            continue
        terms, last, our_id = instrument.trading(now.now()), Decimal(str(row.close)), f"TEST-{uuid4().hex[:12]}"
        entry, stop, target = (to_tick(last * share, terms.tick, ROUND_DOWN) for share in (ENTRY, STOP, TARGET))
        legs = (Attached(f"{our_id}-S", "STOP", stop), Attached(f"{our_id}-T", "TARGET", target))
        spec = OrderSpec(
            client_order_id=our_id,
            bracket=our_id,
            leg="ENTRY",
            symbol=name,
            market=instrument.trade_market,
            contract=row.contract,
            side="BUY",
            kind="LIMIT",
            qty=terms.lot,
            active_from=now.now(),
            price=entry,
            attached=legs if broker.caps.native_bracket else (),
        )
        return spec, last
    return None, Decimal(0)


def _await(
    broker: Broker, ref: Ref, done: Callable[[Looked], bool], since: datetime, pause: Callable[[float], None]
) -> Looked:
    """The order, looked at until it is as expected or for some seconds."""
    for left in reversed(range(TRIES)):
        found = broker.find([ref], since)[ref.client_order_id]
        if done(found) or not left:
            return found
        pause(1)
    raise AssertionError


def _tradable(settings: Settings) -> dict[str, Instrument]:
    return {symbol: i for symbol, i in settings.instruments.items() if i.tradable}


def _name(key: Key) -> str:
    return " ".join(part for part in (key[0], key[2]) if part)


def _said(answer: Answer) -> str:
    reason = getattr(answer, "reason", "")
    return f"{type(answer).__name__.lower()}{f': {reason}' if reason else ''}"


def ready(found: Sequence[Found]) -> bool:
    """True if nothing that was found stands in the way of trading."""
    return all(one.good is not False for one in found)
