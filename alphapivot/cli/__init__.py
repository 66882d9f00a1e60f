"""
The ``alphapivot`` command: the front door. Exit codes: 0 done, 1 the run failed, 2 bad usage or config.

Each module here adds its commands in ``add``. Nothing heavy is imported before a command is chosen: the whole stack
takes seconds, ``--help`` must not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from alphapivot import waiting
from alphapivot.cli import backtest, data, db, operator, performance, runs, scores, serving, tune
from alphapivot.cli.common import DONE, FAILED, USAGE, Command, Parser, fail, options_of
from alphapivot.errors import AlphaPivotError, ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        with waiting.on_terminal():
            return int(options.command(options))
    except ConfigError as error:
        return fail(str(error), USAGE)
    except AlphaPivotError as error:
        return fail(str(error), FAILED)
    except KeyboardInterrupt as error:
        return fail(": ".join(["interrupted", *map(str, error.args)]), 130)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="alphapivot", description="A systematic trading pipeline: bars to signals to protected trades."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        options_of(sub)
        return sub

    for module in (runs, scores, backtest, tune, performance, operator, data, db, serving):
        module.add(add)
    return parser
