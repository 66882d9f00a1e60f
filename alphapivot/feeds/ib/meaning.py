"""
What Interactive Brokers' errors mean for a request of bars, and what to do.

Codes and texts: interactivebrokers.github.io/tws-api/message_codes.html, and what users report of 162, which covers
anything that the servers of historical data say (ib_insync issues 234 and 461, pysystemtrade issue 289).
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_PACING = 3  # violations in one request before it is given up
ELSEWHERE = "another session of this user takes the market data: log it out, or use a second user for the API"
SUBSCRIBE = (
    "this user has no market data subscription for it: subscribe in Client Portal, Settings, Market Data Subscriptions"
    " (the paper account shares those of the live one)"
)


@dataclass(frozen=True)
class Meaning:
    """
    ``kind``: empty (no bars in that time), slower (asked too fast), this (only this contract), all (any other too), or
    note (bars come all the same).
    """

    kind: str
    told: str = ""
    transient: bool = False


RULES: tuple[tuple[tuple[int, ...], str, Meaning], ...] = (  # codes, a part of the text, meaning; the first that fits
    ((162,), "returned no data", Meaning("empty")),
    ((162, 165, 420), "pacing violation", Meaning("slower", "it limits historical requests", transient=True)),
    ((162,), "no market data permissions", Meaning("all", SUBSCRIBE)),
    ((162,), "different ip address", Meaning("all", ELSEWHERE, transient=True)),
    ((10197,), "", Meaning("all", ELSEWHERE, transient=True)),
    ((354, 10089, 10090, 10168, 10186), "", Meaning("all", SUBSCRIBE)),
    ((10167,), "", Meaning("note", f"prices are delayed: {SUBSCRIBE}")),
    ((165,), "", Meaning("note")),
    ((200,), "ambiguous", Meaning("this", "several contracts fit: say which, such as SI@COMEX/SI")),
    ((200,), "", Meaning("this", "it has no such contract; of futures it keeps two years after their end")),
    ((366, 162), "cancelled", Meaning("this", "it gave the request up", transient=True)),
    ((162, 366, 321, 322), "", Meaning("this")),
)
CONNECTION = (1100, 1300, 2103, 2105, 2110)  # a farm of servers, or all, cannot be reached from the gateway


def of(code: int, text: str) -> Meaning | None:
    """None for what says nothing about a request of bars."""
    for codes, part, meaning in RULES:
        if code in codes and part in text.lower():
            return meaning
    return Meaning("this") if not (2100 <= code < 2200) else None
