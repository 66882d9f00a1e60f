"""Shared by all commands: exit codes, argument types, error and next-step messages."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from alphapivot import home, waiting

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings

DONE, FAILED, USAGE = 0, 1, 2
CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"

Command = Callable[[argparse.Namespace], int]
Add = Callable[[str, Command, str], argparse.ArgumentParser]  # name, command, help -> its parser


class Help(argparse.HelpFormatter):
    """Help whose longest command keeps its line: argparse forgets that commands are indented."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action.nargs, str) and action.nargs == argparse.PARSER:
            self._action_max_length += self._indent_increment


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that suggests the nearest option or choice to a mistyped one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=Help, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # argparse would first report a missing required option, which may be the mistyped one
        words = sys.argv[1:] if args is None else list(args)
        names = [name for name in self._option_string_actions if name.startswith("--")]
        if not any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions):
            for option in (word.partition("=")[0] for word in takewhile(lambda word: word != "--", words)):
                if option.startswith("--") and not any(name.startswith(option) for name in names):
                    from alphapivot.config.ini import nearest

                    self.error(f"{option} is not an option of {self.prog}; {nearest(option, names)}")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        if invalid := re.match(r"(argument .*: invalid choice: '(.*?)') \(choose from (.*)\)", message):
            from alphapivot.config.ini import nearest

            choices = re.findall(r"[\w-]+", invalid[3])
            message = f"{invalid[1]}; {nearest(invalid[2], choices)}"
        super().error(message)


def options_of(sub: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Adds the options of every command; ``again``: to an action as well, where they override those of the command."""
    default = argparse.SUPPRESS if again else None
    sub.add_argument("--config", metavar="FILE", default=default, help="config file; default: config.ini")
    feed = "use [feed.NAME] for all instruments; simulated works offline"
    sub.add_argument("--feed", metavar="NAME", default=default, help=feed)
    off = argparse.SUPPRESS if again else False
    sub.add_argument("--wide", action="store_true", default=off, help="show all columns of a table, however wide")
    lines = "print each table as a line of JSON on stdout; everything else goes to stderr"
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", default=off, help=lines)
    cells = "print each table as CSV on stdout, an empty line between two; everything else goes to stderr"
    form.add_argument("--csv", action="store_true", default=off, help=cells)
    sub.add_argument("-v", "--verbose", action="store_true", default=off, help="show library logs from level INFO")


def action(actions: Any, name: str, text: str, **options: Any) -> argparse.ArgumentParser:
    """The parser of one action of a command, with the options of every command."""
    sub: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text, **options)
    options_of(sub, again=True)
    return sub


def fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    return code


@contextmanager
def resumable(hint: str) -> Iterator[None]:
    """Around long work: on Ctrl-C, ``hint`` says how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(hint) from None


def instant(text: str) -> datetime:
    """An aware instant: ``2026-11-20T21:00:00Z``. A missing time zone is an error, never guessed."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an instant; expected something like 2026-11-20T21:00:00Z"
        ) from error
    if value.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone; expected something like {value.isoformat()}Z")
    return value.astimezone(UTC)


def past(text: str) -> datetime:
    """An instant that has come."""
    value, now = instant(text), datetime.now(UTC)
    if value > now:
        raise argparse.ArgumentTypeError(f"{text!r} has not come: it is {now:%Y-%m-%dT%H:%M:%SZ}")
    return value


def day(text: str) -> datetime:
    """The start of a UTC day, or an instant with its time zone."""
    return instant(f"{text}T00:00:00Z" if len(text) == 10 else text)


def day_end(text: str) -> datetime:
    """The end of a UTC day, or an instant with its time zone."""
    return day(text) + timedelta(days=len(text) == 10)


def period(text: str) -> tuple[datetime, datetime]:
    """From and to: of a UTC day, or of an instant with its time zone."""
    return day(text), day_end(text)


def amount(text: str) -> Decimal:
    """An exact amount of money, or a price."""
    with suppress(InvalidOperation):
        if (value := Decimal(text)).is_finite():
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not an amount; expected something like 25000 or -1500.50")


def at_least(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number, ``least`` or more."""

    def count(text: str) -> int:
        with suppress(ValueError):
            if (value := int(text)) >= least:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")

    return count


def output(text: str) -> Path:
    """A writable file; checked before the work starts, not after."""
    file = Path(text).expanduser()
    if file.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; expected a file in it")
    if file.exists() and not file.is_file():
        raise argparse.ArgumentTypeError(f"{text} is a device or a pipe; expected a file")
    if not file.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: no such folder: {file.absolute().parent}")
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: permission denied")
    return file


def then(options: argparse.Namespace, *steps: str) -> None:
    """
    Prints the next commands to try, with the --config and --feed of this one. A step is a command, two spaces and its
    purpose.
    """
    if options.feed:  # the schedules of `make ui` use the feeds of the config file
        steps = tuple(step for step in steps if not step.startswith("make ui "))
    if Path.cwd() != home.CHECKOUT:  # a project's folder has no Makefile
        steps = tuple(step.replace("make ui ", "alphapivot ui ", 1) for step in steps)
    for start, step in zip(["Next:", *(len(steps) * ["     "])], steps, strict=False):
        command, gap, purpose = step.partition("  ")
        if command.startswith("alphapivot "):
            command = typed(options, command.removeprefix("alphapivot "))
        elif command == "make ui" and options.config:
            command = f"make ui CONFIG={shlex.quote(options.config)}"
        print(f"{start} {command}{gap}{purpose}", flush=True)  # noqa: T201


def typed(options: argparse.Namespace, words: str) -> str:
    """A command line for ``words``, with the --config and --feed of this command."""
    flags = "".join(f" --{name} {shlex.quote(value)}" for name in ("config", "feed") if (value := vars(options)[name]))
    return f"{program()} {words}{flags}"


def program() -> str:
    """The name of this program for a command line: ``alphapivot`` if it is on the PATH, else its path as typed."""
    path = Path(sys.argv[0])
    if path.name != "alphapivot":
        return "alphapivot"
    on_path = shutil.which("alphapivot")
    return "alphapivot" if on_path and Path(on_path).samefile(path) else str(path)


def answer(question: str) -> str:
    """The reply typed at the terminal; empty without a terminal or on Ctrl-D."""
    if not sys.stdin.isatty():
        return ""
    try:
        return input(question).strip()
    except EOFError:
        print()  # noqa: T201 - ends the line of the question
        return ""


def nonempty(text: str) -> str:
    """A text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; expected a reason that operators can read later")
    return text


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings for --config and --feed. Call it before hub.connect(): they name the database."""
    with waiting.reported("loading ..."):  # the first import after a boot reads the libraries from disk
        from alphapivot import process

    return process.configure(options.config, options.feed)
