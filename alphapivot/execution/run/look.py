"""Looks up orders of ours at the broker, with what replaced them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import RowMapping

from alphapivot.brokers.base import Absent, Broker, BrokerOrder, Caps, Ref, Unreadable
from alphapivot.execution.book import orders
from alphapivot.execution.book.states import TERMINAL, WORKING, local

Seen = Mapping[str, BrokerOrder | Absent | Unreadable]
Moved = list[tuple[RowMapping, BrokerOrder | Absent | Unreadable]]  # our order, and what it may be at the broker by now


def on_their_way(rows: Sequence[RowMapping], caps: Caps) -> list[RowMapping]:
    """Those of ``rows``, of ``orders.of_open_trades``, that the broker may hold and that are not final."""
    sent = {o["trade_id"] for o in rows if o["leg"] == "ENTRY" and o["attempts"]}
    attached = {  # legs that were sent with their entry, in whatever state it is
        o["client_order_id"]
        for o in rows
        if caps.native_bracket and o["trade_id"] in sent and o["version"] == 1 and o["leg"] in ("STOP", "TARGET")
    }
    return [o for o in rows if o["state"] not in TERMINAL and not (local(o) and o["client_order_id"] not in attached)]


def look(broker: Broker, live: Sequence[RowMapping], rows: Sequence[RowMapping]) -> tuple[Seen, Moved]:
    """
    The orders ``live`` at the broker, with the successor of each that was or may have been replaced, and the order
    before each replacement that was refused; and those that somebody else may have changed.
    """
    if not live:
        return {}, []
    since = min(o["created_at"] for o in live)
    # apart, so that a broker which knows its own day only can tell of today's beside orders of other days
    doubtful = [o for o in live if o["broker_order_id"] is None]
    pending = [o for o in live if o["state"] == "PENDING_REPLACE" and not broker.caps.amends]
    known = [*(orders.ref(o) for o in live if o["broker_order_id"] is not None), *map(_next_ref, pending)]
    seen = dict(broker.find(known, since)) if known else {}
    if doubtful:
        seen |= broker.find(list(map(orders.ref, doubtful)), min(o["created_at"] for o in doubtful))
    # replaced by a request that we had given up, or by somebody else
    gone = [o for o in live if _state(seen[o["client_order_id"]]) == "REPLACED"]
    gone = [o for o in gone if not _exists(seen.get(orders.successor(o)))]
    rejected = [o for o in live if _state(seen[o["client_order_id"]]) == "REJECTED"]
    before = [b for o in rejected if (b := _before(o, rows)) is not None]
    more = [*(_next_ref(o) for o in gone), *map(orders.ref, before)]
    seen |= broker.find(more, since) if more else {}
    elsewhere = {o["client_order_id"]: o for o in gone if not _exists(seen.get(orders.successor(o)))}
    following = {i: _replaced_by(seen[i]) for i in elsewhere}
    while following := {i: theirs for i, theirs in following.items() if theirs is not None}:
        found = broker.find([_next_ref(elsewhere[i], theirs) for i, theirs in following.items()], since)
        seen |= found
        following = {i: _replaced_by(found[orders.successor(elsewhere[i])]) for i in following}
    moved = [(o, seen[i]) for o in elsewhere.values() if _exists(seen.get(i := orders.successor(o)))]
    if broker.caps.amends:  # it is the same order; one that we are changing is nobody else's doing
        moved = [(o, seen[o["client_order_id"]]) for o in live if o["state"] in WORKING]
    return seen, moved


def _replaced_by(seen: BrokerOrder | Absent | Unreadable) -> str | None:
    """The broker's id of the order that took the place of a replaced one."""
    return seen.replaced_by if isinstance(seen, BrokerOrder) and seen.state == "REPLACED" else None


def _next_ref(order: RowMapping, broker_order_id: str | None = None) -> Ref:
    return Ref(orders.successor(order), broker_order_id, orders.successor(order), order["leg"])


def _before(order: RowMapping, rows: Sequence[RowMapping]) -> RowMapping | None:
    """The order that ``order`` may have replaced."""
    of_leg = [o for o in rows if (o["trade_id"], o["leg"]) == (order["trade_id"], order["leg"])]
    replaced = [o for o in of_leg if o["state"] == "REPLACED" and o["version"] < order["version"]]
    return max(replaced, key=lambda o: o["version"], default=None)


def _state(seen: BrokerOrder | Absent | Unreadable | None) -> str | None:
    return seen.state if isinstance(seen, BrokerOrder) else None


def _exists(seen: BrokerOrder | Absent | Unreadable | None) -> bool:
    return isinstance(seen, BrokerOrder)
