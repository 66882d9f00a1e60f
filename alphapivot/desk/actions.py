"""What an operator can do from the desk or the phone: each action calls the function that its command calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from alphapivot.config.ini import nearest
from alphapivot.errors import DataError
from alphapivot.execution.book import clearing, control
from alphapivot.execution.operator import approvals
from alphapivot.hub.tables import issues
from alphapivot.reports import overview

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

NEXT = "by the next run, such as `alphapivot manage`"


@dataclass(frozen=True)
class Order:
    """Who wants what, and why. ``words``: the symbol and the other words of the action."""

    action: str
    words: Mapping[str, str]
    reason: str
    by: str

    @property
    def symbol(self) -> str:
        return self.words.get("symbol", "").strip()


def act(hub: Hub, settings: Settings, order: Order) -> str:
    """
    Carries out an order and returns what was done, in a sentence; its record is that of the command.

    Raises DataError for an action that does not exist, without a reason, or that does not apply now.
    """
    action = ACTIONS.get(order.action)
    if action is None:
        raise DataError(f"{order.action!r} is not an action; {nearest(order.action, ACTIONS)}")
    if not order.reason.strip():
        raise DataError(f"{order.action} needs a reason that operators can read later")
    return action(hub, settings, order)


def _halt(state: str) -> Callable[[Hub, Settings, Order], str]:
    def action(hub: Hub, settings: Settings, order: Order) -> str:
        modes = {"reduce_only": state == "reduce", "flatten": state == "flatten"}
        now = control.halt(hub, settings.execution.book, order.reason, order.by, **modes)
        effect = "every trade is closed at market" if state == "flatten" else "resting entries are cancelled"
        return f"book {settings.execution.book} is {now.state}: no new entries; {effect} {NEXT}"

    return action


def _resume(hub: Hub, settings: Settings, order: Order) -> str:
    now = control.resume(hub, settings.execution.book, order.reason, order.by)
    if now.state == "ACTIVE":
        return f"book {settings.execution.book} is active again"
    every = "alphapivot resume --all --reason ..."
    return f"book {settings.execution.book} stays {now.state}: {now.by} halted every book ({now.reason}): `{every}`"


def _close(hub: Hub, settings: Settings, order: Order) -> str:
    symbol, qty = _instrument(settings, order.symbol), order.words.get("qty", "").strip()
    terms = settings.instruments[symbol].trading(overview.now(hub, settings))
    asked = control.close(hub, settings.execution.book, symbol, _amount(qty), terms, order.reason, order.by)
    return f"{asked} {NEXT}"


def _approve(hub: Hub, settings: Settings, order: Order) -> str:
    now = overview.now(hub, settings)
    return approvals.approve(hub, settings.execution.book, order.symbol, order.reason, order.by, now)


def _unlock(hub: Hub, settings: Settings, order: Order) -> str:
    cause = clearing.unlock(hub, settings.execution.book, order.symbol, order.reason, order.by)
    causes = "; ".join(cause.splitlines())
    return (
        f"{order.symbol} may trade again; it was locked because {causes}: the next run locks it again if that remains"
    )


def _decide(decision: str) -> Callable[[Hub, Settings, Order], str]:
    def action(hub: Hub, settings: Settings, order: Order) -> str:
        from tasks import verdict  # noqa: PLC0415 - it imports Prefect, which takes seconds

        rows = issues.show(hub, order.symbol)
        for column, word in (("market", "market"), ("check_name", "check"), ("interval", "interval")):
            rows = rows[rows[column] == order.words.get(word, "")]
        at = order.words.get("at", "")
        rows = rows[[ts.isoformat() == at for ts in rows["ts"]]]
        if rows.empty:
            raise DataError(f"{order.symbol} has no such open issue of {_instant(at)}: it was decided meanwhile")
        bars = verdict.decide(settings, rows, decision, by=order.by, why=order.reason)
        return f"{len(rows)} issue of {order.symbol} {decision}; {bars} bars entered the database"

    return action


def _instrument(settings: Settings, symbol: str) -> str:
    if symbol not in settings.instruments:
        raise DataError(f"{symbol!r} is not an instrument of this config; {nearest(symbol, settings.instruments)}")
    return symbol


def _amount(text: str) -> Decimal | None:
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        raise DataError(f"{text!r} is not a quantity; expected something like 25, or nothing for all of it") from None


def _instant(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return repr(text)


ACTIONS: Mapping[str, Callable[[Hub, Settings, Order], str]] = {
    "approve": _approve,
    "close": _close,
    "halt": _halt("halt"),
    "reduce": _halt("reduce"),
    "flatten": _halt("flatten"),
    "resume": _resume,
    "unlock": _unlock,
    "accept": _decide("accepted"),
    "reject": _decide("rejected"),
}
