"""What all commands share: exit codes, how instants are read, how a mistake is said."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from alphapivot import waiting

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings

DONE, FAILED, USAGE = 0, 1, 2
CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"

Command = Callable[[argparse.Namespace], int]
Add = Callable[[str, Command, str], argparse.ArgumentParser]  # name, command, help -> its parser


class Parser(argparse.ArgumentParser):
    """argparse's, which names the nearest of the choices and of the options to a mistyped one."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # argparse would first ask for what is required, and it may be that which was mistyped
        typed = sys.argv[1:] if args is None else list(args)
        known = [option for option in self._option_string_actions if option.startswith("--")]
        if not any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in self._actions):
            for option in (word.partition("=")[0] for word in takewhile(lambda word: word != "--", typed)):
                if option.startswith("--") and not any(name.startswith(option) for name in known):
                    from alphapivot.config.ini import nearest

                    self.error(f"{option} is no option of {self.prog}; {nearest(option, known)}")
        return super().parse_known_args(typed, namespace)

    def error(self, message: str) -> NoReturn:
        if typed := re.match(r"(argument .*: invalid choice: '(.*?)') \(choose from (.*)\)", message):
            from alphapivot.config.ini import nearest

            choices = re.findall(r"[\w-]+", typed[3])
            message = f"{typed[1]}; {nearest(typed[2], choices)}"
        super().error(message)


def options_of(sub: argparse.ArgumentParser, *, again: bool = False) -> None:
    """What every command takes; ``again``: by one of its actions too, where it overrides what stood before."""
    default = argparse.SUPPRESS if again else None
    sub.add_argument("--config", metavar="FILE", default=default, help="another config file than config.ini")
    what = "a [feed.NAME] for all instruments; simulated works offline"
    sub.add_argument("--feed", metavar="NAME", default=default, help=what)
    off = argparse.SUPPRESS if again else False
    sub.add_argument("--wide", action="store_true", default=off, help="every column of a table, however wide")
    lines = "each table as a line of JSON on stdout; everything else goes to stderr"
    sub.add_argument("--json", action="store_true", default=off, help=lines)
    sub.add_argument("-v", "--verbose", action="store_true", default=off, help="show what libraries log, from INFO on")


def fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    return code


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """A long command's work: Ctrl-C ends it with the words ``how`` to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how) from None


def instant(text: str) -> datetime:
    """An aware instant: ``2026-11-20T21:00:00Z``; without a zone it is refused, never guessed."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no instant; expected something like 2026-11-20T21:00:00Z"
        ) from error
    if value.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone; expected something like {value.isoformat()}Z")
    return value.astimezone(UTC)


def day(text: str) -> datetime:
    """A day's begin, or an instant with its zone."""
    return instant(f"{text}T00:00:00Z" if len(text) == 10 else text)


def day_end(text: str) -> datetime:
    """A day's end, or an instant with its zone."""
    return day(text) + timedelta(days=len(text) == 10)


def amount(text: str) -> Decimal:
    """Money, exactly as written."""
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount; expected something like 25000 or -1500.50") from error


def output(text: str) -> Path:
    """A file that can be written; refused at once, not after the work."""
    file = Path(text).expanduser()
    if file.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; expected a file in it")
    if file.exists() and not file.is_file():
        raise argparse.ArgumentTypeError(f"{text} is a device or a pipe; expected a file")
    if not file.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: there is no folder {file.absolute().parent}")
    if not os.access(file if file.exists() else file.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: permission denied")
    return file


def then(options: argparse.Namespace, *steps: str) -> None:
    """
    The last lines of a long command: what people do next, with the --config and --feed that were typed. A step is a
    command, two spaces, and what it is for.
    """
    if options.feed:  # the schedules of `make ui` take the config file's own feeds
        steps = tuple(step for step in steps if not step.startswith("make ui "))
    for start, step in zip(["Next:", *(len(steps) * ["     "])], steps, strict=False):
        command, gap, what = step.partition("  ")
        if command.startswith("alphapivot "):
            command = typed(options, command.removeprefix("alphapivot "))
        elif command == "make ui" and options.config:
            command = f"make ui CONFIG={shlex.quote(options.config)}"
        print(f"{start} {command}{gap}{what}", flush=True)  # noqa: T201


def typed(options: argparse.Namespace, words: str) -> str:
    """Another command as it can be typed, with the --config and --feed of this one."""
    given = "".join(f" --{name} {shlex.quote(value)}" for name in ("config", "feed") if (value := vars(options)[name]))
    return f"{program()} {words}{given}"


def program() -> str:
    """This command as it can be typed again: ``alphapivot`` where that is on the PATH, else as it was typed."""
    typed = Path(sys.argv[0])
    if typed.name != "alphapivot":
        return "alphapivot"
    found = shutil.which("alphapivot")
    return "alphapivot" if found and Path(found).samefile(typed) else str(typed)


def answer(question: str) -> str:
    """What is typed at the terminal; empty where nobody can answer, and at Ctrl-D."""
    if not sys.stdin.isatty():
        return ""
    try:
        return input(question).strip()
    except EOFError:
        print()  # noqa: T201 - the question's line ends
        return ""


def words(text: str) -> str:
    """A reason that says something."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; say why, for whoever reads it later")
    return text


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that --config and --feed mean. Before hub.connect(): they say which database is meant."""
    with waiting.told("loading ..."):  # after a boot its libraries are read from the disk
        from alphapivot import process

    return process.configure(options.config, options.feed)
