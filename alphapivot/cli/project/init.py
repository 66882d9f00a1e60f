"""``alphapivot init``: a project folder of one's own, by flags or by questions; nothing is overwritten unasked."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from alphapivot.cli.common import DONE, Add, amount, answer
from alphapivot.cli.project.markets import BROKERS, FEEDS, MARKETS, feeds_of
from alphapivot.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.cli.project.write import Choice

CAPITAL = Decimal(100_000)


def _folder(text: str) -> Path:
    """A folder that is named: of an empty word, such as an unset variable, Path would make the current one."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; expected a folder, such as mine, or . for this one")
    return Path(text)


def add(command: Add) -> None:
    sub = command("init", _init, "make a project folder: config, a pillar and a rule of your own, notebook, README")
    sub.add_argument("folder", metavar="DIR", type=_folder, help="the folder; made if it is absent")
    sub.add_argument("--market", choices=tuple(MARKETS), help="what to trade; own: files of your own (default: funds)")
    # --feed is an option of every command
    sub.add_argument("--broker", choices=tuple(BROKERS), help="where orders go (default: paper)")
    sub.add_argument("--capital", type=amount, metavar="AMOUNT", help="the paper account's cash (default: 100000)")
    sub.add_argument(
        "--prices",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="price files, one for each instrument",
    )
    sub.add_argument("--currency", metavar="CODE", help="of --prices: the currency of the instruments, such as USD")
    sub.add_argument("--calendar", metavar="NAME", help="of --prices: the exchange's calendar, such as XNYS or 24/7")
    sub.add_argument("--force", action="store_true", help="overwrite files of a project that is there")


def _init(options: argparse.Namespace) -> int:
    from alphapivot.cli.project import write

    folder = options.folder.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{options.folder} is a file; expected a folder, or a name that is free")
    choice = _choice(options, folder)
    files = write.project(folder, choice)
    _may_overwrite([path for path in files if path.exists()], folder, force=options.force)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    _checked(folder)
    for path in files:
        print(f"wrote {options.folder / path.relative_to(folder)}")  # noqa: T201
    for need in dict.fromkeys((FEEDS[choice.feed].needs, BROKERS[choice.broker].needs)):
        if need:
            print(f"needed: {need}")  # noqa: T201
    lines = (f"cd {shlex.quote(str(options.folder))}", "alphapivot check", "alphapivot run  one paper run")
    print("\n".join(f"{'Next:' if n == 0 else '     '} {line}" for n, line in enumerate(lines)))  # noqa: T201
    print("      README.md lists the commands of the first hour")  # noqa: T201
    return DONE


def _choice(options: argparse.Namespace, folder: Path) -> Choice:
    """The flags; what is missing is asked at a terminal, and has its default elsewhere."""
    from alphapivot.cli.project.write import Choice

    if options.prices and options.market not in (None, "own"):
        raise ConfigError(f"--prices are files of your own; expected --market own, or none, not {options.market}")
    market = "own" if options.prices else options.market
    market = market or _ask("market", {name: market.text for name, market in MARKETS.items()}, "funds")
    needed = BROKERS[options.broker].feeds if options.broker in MARKETS[market].brokers else ()
    offered = {name: FEEDS[name].text for name in feeds_of(market) if not needed or name in needed}
    if options.feed is not None and options.feed not in offered:
        from alphapivot.config.ini import nearest

        whom = f"--broker {options.broker}" if needed else f"--market {market}"
        raise ConfigError(f"--feed {options.feed} does not serve {whom}; {nearest(options.feed, offered)}")
    feed = options.feed or _ask("feed", offered, next(iter(offered)))
    brokers = {
        name: BROKERS[name].text
        for name in MARKETS[market].brokers
        if (feed != "simulated" and feed in (BROKERS[name].feeds or (feed,))) or name == "paper"
    }
    if options.broker is not None and options.broker not in brokers:
        why = "simulated prices go to the paper account" if feed == "simulated" else f"it does not trade {market}"
        raise ConfigError(f"--broker {options.broker}: {why}; expected {' or '.join(brokers)}")
    broker = options.broker or _ask("broker", brokers, "paper")
    capital = options.capital if options.capital is not None else _capital()
    if capital <= 0:
        raise ConfigError(f"--capital {capital}: expected more than 0, such as {CAPITAL}")
    sections = []
    if market == "own":
        from alphapivot.cli.project import own_files

        sections = own_files.sections(_prices(options), folder, options.currency, options.calendar)
    return Choice(market, feed, broker, capital, sections)


def _ask(name: str, offered: Mapping[str, str], default: str) -> str:
    if len(offered) == 1 or not sys.stdin.isatty():
        return default if default in offered else next(iter(offered))
    print(f"{name}:")  # noqa: T201
    for choice, text in offered.items():
        print(f"  {choice:<10} {text}")  # noqa: T201
    while (given := answer(f"which? [{default}] ") or default) not in offered:
        from alphapivot.config.ini import nearest

        print(f"{given!r} is not one of them; {nearest(given, offered)}")  # noqa: T201
    return given


def _capital() -> Decimal:
    while text := answer(f"capital of the paper account? [{CAPITAL}] "):
        try:
            return amount(text)
        except argparse.ArgumentTypeError as error:
            print(error)  # noqa: T201
    return CAPITAL


def _prices(options: argparse.Namespace) -> list[Path]:
    given = options.prices or [Path(text) for text in shlex.split(answer("price files, such as prices/*.csv? "))]
    found = [path for one in given for path in _expanded(one)]
    if not found:
        raise ConfigError("--market own needs --prices FILE ...: each file becomes an instrument")
    return found


def _expanded(path: Path) -> list[Path]:
    """The files of a folder or of a pattern; the file itself otherwise."""
    path = path.expanduser().absolute()
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    return sorted(path.parent.glob(path.name)) if "*" in path.name else [path]


def _may_overwrite(there: list[Path], folder: Path, *, force: bool) -> None:
    if not there or force:
        return
    names = ", ".join(str(path.relative_to(folder)) for path in there)
    if answer(f"{folder} has {names}: overwrite? [y/N] ").lower() not in ("y", "yes"):
        raise ConfigError(f"{folder} has {names}: nothing was written; choose another folder, or --force to overwrite")


def _checked(folder: Path) -> None:
    """Reads what was written: a mistake in it would be ours."""
    from alphapivot.config import read

    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("ALPHAPIVOT_")}
    read.load(folder / "config.ini", kept)
