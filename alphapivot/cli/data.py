"""``alphapivot data``: what a person decides of doubtful data."""

from __future__ import annotations

import argparse

from alphapivot.cli.common import DONE, USAGE, Add, fail, instant, settings_of


def add(command: Add) -> None:
    sub = command("data", _data, "data that is too odd to be believed: show it, accept it, reject it")
    sub.add_argument("action", choices=("show", "accept", "reject"))
    sub.add_argument("symbol", metavar="SYMBOL", nargs="?")
    sub.add_argument("--check", metavar="NAME", help="only what this check found, such as 'wrong scale'")
    sub.add_argument("--market", choices=("spot", "futures"))
    sub.add_argument("--at", type=instant, metavar="TS", help="only the bar that ends at this instant")
    sub.add_argument("--row", type=int, metavar="N", help="which bar, where several came for one instant")
    sub.add_argument("--why", metavar="TEXT", help="the reason, which is kept with your name")
    sub.add_argument("--all", action="store_true", help="also what is decided, over, or only flagged")


def _data(options: argparse.Namespace) -> int:
    import getpass

    from alphapivot import hub
    from alphapivot.hub.tables import issues
    from alphapivot.reports.terminal import terminal, views

    settings = settings_of(options)
    found = issues.show(hub.connect(), options.symbol, everything=options.all)
    for name, wanted in (("check_name", options.check), ("market", options.market), ("ts", options.at)):
        found = found if wanted is None else found[found[name] == wanted]
    if options.action == "show":
        terminal.show(views.issues(found), "What waits for a person" if not options.all else "What was found")
        return DONE
    if options.symbol is None or not options.why or found.empty:
        return fail(
            f"data {options.action} needs SYMBOL, --why, and something to decide: see `alphapivot data show`", USAGE
        )
    from tasks import verdict

    decision = f"{options.action}ed"
    bars = verdict.decide(settings, found, decision, by=getpass.getuser(), why=options.why, row=options.row)
    print(f"{len(found)} issues of {options.symbol} {decision}; {bars} bars entered the hub")  # noqa: T201
    return DONE
