"""The files of a new project: a config that says only what differs from defaults, a pillar, a notebook, a README."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from alphapivot import home
from alphapivot.cli.project.markets import BROKERS, FEEDS, MARKETS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

NOTEBOOK = Path("examples/notebooks/first_look.ipynb")
HEAD = """\
# Only what differs from the defaults: `alphapivot config show --all` prints every setting with its meaning. Passwords
# and keys come from the environment. `alphapivot check` reports all mistakes in this file.
"""
OWN = """
[plugins]
folder = own

[pillar.drift]          ; own/drift.py: scored; without a weight in [composite] weights it moves nothing

[rule.drift.turn]       ; a rule of your own, over the pillar's features
when = crossed_above(moved, 0)
score = +10
"""
ASKED = "ask         ; `alphapivot ui` asks before it starts the schedules"
SLIPPAGE = "1        ; against us, on market and stop fills"
CALIBRATED = "quarterly   ; scores on one scale, fitted to earlier data only"


@dataclass(frozen=True)
class Choice:
    """What a user has chosen; ``sections``: those of files of their own, in place of a market's."""

    market: str
    feed: str
    broker: str
    capital: Decimal
    sections: list[str] = field(default_factory=list)


def project(folder: Path, choice: Choice) -> dict[Path, str]:
    """file -> its text."""
    start = "2018-01-01" if choice.feed != "simulated" else "2020-01-01"
    readme = _template("README.md").replace("NAME", folder.name).replace("START", start).replace("END", "2024-12-31")
    return {
        folder / "config.ini": config(folder.name, choice),
        folder / "own" / "drift.py": _template("drift.py"),
        folder / "README.md": readme,
        folder / NOTEBOOK.name: home.shipped(str(NOTEBOOK)).read_text(encoding="utf-8"),
    }


def config(name: str, choice: Choice) -> str:
    """The text of config.ini; fewer than 60 lines for a market of ours."""
    market = MARKETS[choice.market]
    word = plain(name)
    source = _section(f"feed.{choice.feed}", {"kind": choice.feed, **FEEDS[choice.feed].keys})
    account = {"kind": "paper", "cash": f"{choice.capital:f}", "currency": _currency(choice)}
    costs = f"fees = {market.fees}" if market.fees else "fee_bps = 2             ; of notional, on every fill"
    execution = {"book": word} | ({"broker": choice.broker} if choice.broker != "paper" else {})
    execution |= {"mode": mode} if (mode := BROKERS[choice.broker].mode) else {}
    pieces = [
        HEAD,
        _section("database", {"name": f"alphapivot_{word.lower()}".replace("-", "_")}),
        _section("runtime", {"feed": choice.feed, "schedules": ASKED}),
        *([] if choice.sections else [source]),
        _section("broker.paper", account | {"slippage_bps": SLIPPAGE}) + f"{costs}\n",
        *([_section(f"broker.{choice.broker}", BROKERS[choice.broker].keys)] if choice.broker != "paper" else []),
        _section("execution", execution),
        _section("composite", {"calibrate": CALIBRATED}),
        OWN.lstrip("\n"),
        *(choice.sections or _instruments(choice)),
    ]
    return "\n".join(pieces)


def plain(name: str) -> str:
    """``name`` as a book or a database may be called."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name).strip("_-")[:40] or "project"


def _currency(choice: Choice) -> str:
    """The account's: that of all its instruments, else the dollar, into which the others need a rate."""
    own = set(re.findall(r"^currency = (\w+)$", "\n".join(choice.sections), re.MULTILINE))
    own |= {_terms(choice, symbol)["currency"] for symbol in MARKETS[choice.market].terms}
    return own.pop() if len(own) == 1 else "USD"


def _instruments(choice: Choice) -> Iterable[str]:
    market = MARKETS[choice.market]
    tickers = market.tickers.get(choice.feed, ("simulated",) * len(market.terms))
    for symbol, ticker in zip(market.terms, tickers, strict=True):
        yield _section(f"instrument.{symbol}", {market.ticker_key: ticker, **_terms(choice, symbol)})


def _terms(choice: Choice, symbol: str) -> dict[str, str]:
    """Of an instrument, as its feed quotes it."""
    currency = FEEDS[choice.feed].currency
    return MARKETS[choice.market].terms[symbol] | ({"currency": currency} if currency else {})


def _section(name: str, keys: dict[str, str]) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in keys.items()), ""])


def _template(name: str) -> str:
    return (files("alphapivot.cli.project") / "template" / name).read_text(encoding="utf-8")
