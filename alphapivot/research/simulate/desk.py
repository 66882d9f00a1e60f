"""
The orders of a book in memory: sent to its paper account, filled and booked as the engine books them.

What is written is what ``execution.run`` writes when nothing goes wrong, as at a paper account nothing does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from alphapivot.brokers.base import Accepted, Booked, Side
from alphapivot.brokers.events import after
from alphapivot.brokers.paper.memory import STATES
from alphapivot.execution.book import orders
from alphapivot.execution.book.states import TERMINAL
from alphapivot.execution.decide.lifecycle import PARTS
from alphapivot.execution.run import adjust, reconcile, roll
from alphapivot.execution.run.send import answered
from alphapivot.research.simulate.live import Live

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.execution.book.ledger import Row
    from alphapivot.research.simulate.account import PaperAccount
    from alphapivot.research.simulate.ledger import Ledger

ZERO = Decimal(0)


class Desk:
    """
    ``live``: symbol -> its open trade; ``leaving``: those that were rolled; ``ended``: the closed ones that had
    entered, as they ended.
    """

    def __init__(
        self, ledger: Ledger, account: PaperAccount, instruments: Mapping[str, Instrument], strategy: str
    ) -> None:
        self._ledger, self._account, self._instruments, self._strategy = ledger, account, instruments, strategy
        self.live: dict[str, Live] = {}
        self.leaving: list[Live] = []
        self.by_number: dict[int, Live] = {}  # of the kernel's trades
        self.ended: list[Row] = []
        self._left: dict[int | None, Decimal] = {}  # trade_id -> the price at which a roll has left it
        self._messages = 0  # to the broker, that no risk day counts yet

    @property
    def open(self) -> list[Live]:
        """The open trades, in the order of their decisions."""
        return sorted((*self.leaving, *self.live.values()), key=lambda live: live.row["trade_id"])

    # to the broker

    def enter(self, live: Live, rate: Decimal, as_of: datetime) -> None:
        self.live[live.key[0]] = self.by_number[live.number] = live
        legs = [live.legs[leg] for leg in ("STOP", "TARGET") if leg in live.legs]
        self._sent(live.legs["ENTRY"], as_of)
        self._account.take(live.key, live.legs["ENTRY"], legs, rate)
        for leg in legs:
            self._ledger.set_order(leg, "SUSPENDED", as_of)

    def deny(self, live: Live, reason: str, as_of: datetime) -> None:
        """An entry that was decided, and is not sent."""
        self.live[live.key[0]] = self.by_number[live.number] = live
        entry = live.legs["ENTRY"]
        self._ledger.set_order(entry, "PENDING_NEW", as_of, attempts=entry["attempts"] + 1, active_from=as_of)
        for order in live.legs.values():
            self._ledger.set_order(order, "DENIED", as_of, reason=reason)
        self._ledger.note(as_of, "denied", entry["symbol"], entry["client_order_id"], f"not sent: {reason}")
        self._roll_up(live, as_of)

    def leave(self, live: Live, order: Row, as_of: datetime) -> None:
        """Sends a market exit beside stop and target."""
        live.legs["EXIT"] = order
        self._sent(order, as_of)
        self._account.beside(live.key, live.bracket, order)

    def roll(self, live: Live, order: Row, as_of: datetime) -> None:
        """Leaves a trade whose successor begins in the next contract."""
        self.leave(live, order, as_of)
        live.row["rolled"] = True
        self.leaving.append(self.live.pop(live.key[0]))

    def add(self, live: Live, order: Row, as_of: datetime) -> None:
        """Sends an addition, which the stop protects as it fills."""
        live.legs["ADD"] = order
        self._sent(order, as_of)
        self._account.beside(live.key, live.bracket, order)

    def drop(self, live: Live, reason: str, as_of: datetime) -> None:
        """Cancels an addition that has not filled, if there is one."""
        if not live.adding:
            return
        order = live.legs["ADD"]
        self._ledger.set_order(order, "PENDING_CANCEL", as_of, reason=reason)
        self._messages += 1
        self._account.drop(live.key, live.bracket, order["client_order_id"])
        self._ledger.set_order(order, "CANCELED", as_of)

    def stand_down(self, live: Live, reason: str, as_of: datetime) -> None:
        """Cancels what would add exposure."""
        if live.row["state"] == "PENDING":
            self.withdraw(live, reason, as_of)
        else:
            self.drop(live, reason, as_of)

    def withdraw(self, live: Live, reason: str, as_of: datetime) -> None:
        """Cancels an entry that has not filled."""
        self._ledger.set_order(live.legs["ENTRY"], "PENDING_CANCEL", as_of, reason=reason)
        self._messages += 1
        self._account.cancel(live.key, live.bracket)
        for order in live.legs.values():
            self._ledger.set_order(order, "CANCELED", as_of)
        self._roll_up(live, as_of)

    def move(self, live: Live, leg: str, price: Decimal, as_of: datetime) -> None:
        """Replaces a leg by a new version at another price."""
        old, ledger = live.legs[leg], self._ledger
        ledger.set_order(old, "PENDING_REPLACE", as_of)
        ledger.set_order(old, "REPLACED", as_of)
        self._messages += 1
        order = {**old, "strategy": self._strategy, "newest": old["version"]}
        changes = {"client_order_id": orders.successor(order), "qty": live.held, "price": price, "active_from": as_of}
        stamp = {"cum_qty": ZERO, "attempts": 0, "fence": ledger.fence, "created_at": as_of, "updated_at": as_of}
        (row,) = ledger.insert("orders", [reconcile.successor_row(order, None, **changes) | stamp])
        live.legs[leg] = row
        self._account.replace(live.key, live.bracket, old["client_order_id"], row)

    def follow(self, live: Live, as_of: datetime) -> None:
        """Moves stop and target to where an event has put those of the trade, unless it is leaving."""
        if live.row["state"] == "OPEN" and not live.exiting:
            for leg, column in (("STOP", "stop"), ("TARGET", "target")):
                if leg in live.legs and live.legs[leg]["price"] != live.row[column]:
                    self.move(live, leg, live.row[column], as_of)

    def count(self) -> None:
        """Adds the messages to the risk day, which is open."""
        self._ledger.rows["risk_day"][-1]["messages"] += self._messages
        self._messages = 0

    def _sent(self, order: Row, as_of: datetime) -> None:
        self._ledger.set_order(order, "PENDING_NEW", as_of, attempts=order["attempts"] + 1, active_from=as_of)
        self._ledger.set_order(order, "NEW", as_of)
        self._messages += 1
        said = answered(order, Accepted({}))
        self._ledger.note(as_of, "accepted", order["symbol"], order["client_order_id"], said)

    # from the broker

    def reconcile(self, as_of: datetime) -> list[Live]:
        """Books what the account has changed; returns the trades that a split, dividend or distribution concerned."""
        changes, ledger = self._account.changes(), self._ledger
        known = {o["client_order_id"]: (o, live) for live in self.open for o in live.legs.values()}
        filled: dict[str, Decimal] = {}
        price: dict[str, Decimal] = {}
        for fill in changes.fills:
            i = fill["client_order_id"]
            filled[i], price[i] = filled.get(i, ZERO) + fill["qty"], fill["price"]
            self._filled(*known[i], fill, as_of)
        adjusted = [self.live[booked.event.key[0]] for booked in changes.booked]
        for live, booked in zip(adjusted, changes.booked, strict=True):
            self._adjust(live, booked, as_of)
        touched = sorted((known[i] for i in changes.orders), key=lambda pair: pair[0]["client_order_id"])
        for order, _ in sorted(touched, key=lambda pair: pair[0]["created_at"]):
            i = order["client_order_id"]
            change, done = changes.orders[i], order["cum_qty"] + filled.get(i, ZERO)
            state = "PARTIALLY_FILLED" if change["state"] == "WORKING" and done else STATES[change["state"]]
            new = {"qty": change["qty"], "cum_qty": done, "avg_price": price[i].normalize() if i in price else None}
            if state != order["state"] or any(new[name] not in (None, order[name]) for name in new):
                ledger.set_order(order, state, as_of, **new, reason=change["reason"])
        for live in {live.number: live for _, live in touched}.values():
            self._roll_up(live, as_of)
        return [live for live in adjusted if live.row["state"] != "CLOSED"]

    def _filled(self, order: Row, live: Live, fill: Row, as_of: datetime) -> None:
        row = live.row
        named = {name: order[name] for name in ("symbol", "market", "contract", "side")}
        self._ledger.rows["fill"].append({"book": self._ledger.book, **fill, **named})
        text = f"{order['side']} {fill['qty']:f} {order['symbol']} {order['contract']}".rstrip()
        message = f"{text} at {fill['price']:f}"
        self._ledger.note(as_of, "filled", order["symbol"], order["client_order_id"], message)
        live.cash += fill["cash"] - fill["fee"]
        row["fees"] += fill["fee"]
        if order["leg"] == "ENTRY":
            live.bought += fill["qty"] * fill["price"]
            if order["version"] > 1:
                live.added += fill["qty"]
                live.added_cost += fill["qty"] * fill["price"]
            entered = row["entry_qty"] + fill["qty"]
            first = {"entry_at": fill["ts"], "state": "OPEN"} if row["entry_at"] is None else {}
            row |= {"entry_qty": entered, "entry_price": live.bought / entered, "qty": max(row["qty"], entered)} | first
        else:
            live.sold += fill["qty"] * fill["price"]
            gone = row["exit_qty"] + fill["qty"]
            row |= {"exit_qty": gone, "exit_price": live.sold / gone, "exit_at": fill["ts"]}

    def shift(self, as_of: datetime) -> None:
        """Once both legs of a roll have filled, stop and target move to the spread of the fills (``run.roll``)."""
        for live in self.open:
            row, left = live.row, self._left.get(live.row["rolled_from"])
            if left is None or row["state"] != "OPEN" or row["spread_at"] is not None or live.adding:
                continue
            spread = roll.spread_of(row["entry_price"], left)
            moved = roll.shifted(row, spread, self._instruments[row["symbol"]].tick)
            row |= moved | {"basis": row["basis"] + spread - row["spread"], "spread": spread, "spread_at": as_of}
            text = f"trade {{}}: rolled at a spread of {spread:f}, stop {row['stop']:f}"
            self._ledger.note(as_of, "rolled", None, None, (row, text))

    def _adjust(self, live: Live, booked: Booked, as_of: datetime) -> None:
        row, event = live.row, booked.event
        tick, sign = self._instruments[row["symbol"]].tick, 1 if row["side"] == "LONG" else -1
        out: Side = "SELL" if sign > 0 else "BUY"
        booking = {"book": self._ledger.book, "trade_id": row["trade_id"], "symbol": row["symbol"], "at": as_of}
        booking |= {"kind": event.kind, "ts": event.ts, "value": event.value, "run_id": self._ledger.run_id}
        booking |= {"before": booked.before, "after": booked.after, "cash": booked.cash}
        self._ledger.rows["adjustment"].append(booking)
        row["stop"] = after(event, "STOP", out, row["stop"], tick)
        if row["target"] is not None:
            row["target"] = after(event, "TARGET", out, row["target"], tick)
        row["paid"] += booked.cash
        if event.kind == "split":
            delta = sign * (booked.after - booked.before)
            row["qty"] = row["qty"] + delta if row["qty"] + delta > 0 else row["qty"]
            row["entry_qty"] = max(row["entry_qty"] + delta, ZERO)
            row["adjusted"] += delta
            row["ratio"] *= event.value
            row["entry_price"] /= event.value
            row["reference"] /= event.value
        if event.kind != "dividend":
            row["adjusted_at"] = max(event.ts, row["adjusted_at"] or event.ts)
        self._ledger.note(as_of, "adjusted", row["symbol"], None, (row, f"trade {{}}: {adjust.told(booked)}"))

    def _roll_up(self, live: Live, as_of: datetime) -> None:
        """Closes a trade that is flat and of which no order works."""
        row = live.row
        if live.held or any(o["state"] not in TERMINAL for o in live.legs.values()):
            return
        gone = [o for o in live.legs.values() if o["leg"] != "ENTRY" and o["cum_qty"]]
        out = next((o for o in gone if o["reason"] not in PARTS), None)
        reason = _why(live, out)
        row |= {"state": "CLOSED", "close_reason": reason, "realised": live.cash + row["paid"]}
        if row["exit_at"] is None and row["entry_at"] is not None:
            row["exit_at"] = row["adjusted_at"]
        self._account.ended(live.key, live.bracket)
        del self.by_number[live.number]
        if row["rolled"]:
            self.leaving.remove(live)
            if live.legs["EXIT"]["cum_qty"]:
                self._left[row["trade_id"]] = live.legs["EXIT"]["avg_price"]
        else:
            del self.live[live.key[0]]
        if row["entry_at"] is not None:
            self.ended.append(row)
        text = f"trade {{}} closed by {reason}: {row['realised']:.2f} after fees"
        self._ledger.note(as_of, "closed", row["symbol"], None, (row, text))


def _why(live: Live, out: Row | None) -> str:
    """Why a trade ended. ``out``: the order that left it."""
    if out is None:
        return "split" if live.row["adjusted"] else live.legs["ENTRY"]["reason"] or "never entered"
    if out["leg"] == "EXIT" or (out["leg"] == "STOP" and out["reason"] in ("settled", "delisted")):
        return str(out["reason"])
    return str(out["leg"]).lower()


def closed_by(rows: Sequence[Row]) -> list[Row]:
    """Closed trades, the last one first."""
    return sorted(rows, key=lambda row: (row["exit_at"], row["trade_id"]), reverse=True)
