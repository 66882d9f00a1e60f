"""
The ``alphapivot`` command. Exit codes: 0 done, 1 the run failed, 2 bad usage or config.

Each module registers its commands in ``add`` and imports heavy libraries only inside a command, so that ``--help``
is fast.
"""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Any

from alphapivot import home, waiting
from alphapivot.cli import backtest, checks, data, db, operator, runs, scores, serving, tune
from alphapivot.cli.common import CONSOLE_LEVEL, DONE, FAILED, USAGE, Command, Parser, fail, options_of
from alphapivot.cli.project import completion, config, init, login, mcp
from alphapivot.errors import AlphaPivotError, ConfigError
from alphapivot.reports.terminal import layout

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    layout.wide = options.wide
    if options.json or options.csv:
        layout.as_data("json" if options.json else "csv")
    # the level of library logs; runs in this process show even less (flows/server/local.py)
    os.environ.setdefault(CONSOLE_LEVEL, "INFO" if options.verbose else "WARNING")
    if not options.config:
        home.choose_config()
    try:
        with waiting.on_terminal():
            code = int(options.command(options))
            sys.stdout.flush()
            return code
    except ConfigError as error:
        return fail(str(error), USAGE)
    except AlphaPivotError as error:
        return fail(str(error), FAILED)
    except KeyboardInterrupt as error:
        return fail(": ".join(["interrupted", *map(str, error.args)]), 130)
    except BrokenPipeError:  # the reader (head, less) closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.filename is None and error.errno not in DISK_ERRORS:  # a bug, not a problem with the user's files
            raise
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - its buffer cannot be flushed at exit either
        return fail(f"{error.filename or 'cannot write the output'}: {error.strerror}", FAILED)


class Version(argparse.Action):
    """Prints the version; computed only on demand, because hashing the code takes a moment."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from alphapivot.version import code_version

        print(f"alphapivot {importlib.metadata.version('alphapivot')} (code {code_version()})")  # noqa: T201
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="alphapivot", description="A systematic trading pipeline: bars to signals to protected trades."
    )
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and the hash of the code")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        options_of(sub)
        return sub

    research, project = (runs, scores, backtest, tune, checks), (config, init, completion, mcp)
    for module in (*research, operator, login, data, db, *project, serving):
        module.add(add)
    commands.choices["completion"].set_defaults(parser=parser)
    return parser
