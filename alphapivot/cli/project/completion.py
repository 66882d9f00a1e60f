"""``alphapivot completion``: the script with which bash or zsh completes commands, options and choices."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from alphapivot.cli.common import DONE, Add

HEAD = """\
_alphapivot() {
    local word="${COMP_WORDS[COMP_CWORD]}" last="${COMP_WORDS[COMP_CWORD-1]}" path="" commands="" options="" each
    for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$path $each" in
            PATHS) path="$path $each" ;;
        esac
    done
    case "$path" in
"""
TAIL = """\
    esac
    case "$path $last" in
VALUES        *) [[ "$word" == -* ]] && commands="$options" ;;
    esac
    COMPREPLY=($(compgen -W "$commands" -- "$word"))
}
complete -o default -F _alphapivot alphapivot
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def add(command: Add) -> None:
    sub = command(
        "completion", _completion, 'print the script that completes commands: eval "$(alphapivot completion)"'
    )
    sub.add_argument("shell", choices=("bash", "zsh"), nargs="?", default="bash", help="the shell (default: bash)")


def _completion(options: argparse.Namespace) -> int:
    print((ZSH if options.shell == "zsh" else "") + script(options.parser), end="")  # noqa: T201
    return DONE


def script(parser: argparse.ArgumentParser) -> str:
    """The completion of every command of ``parser``, for bash."""
    levels = dict(_levels(parser))
    paths = "|".join(f'"{path}"' for path in levels if path)
    cases, values = "", ""
    for path, level in levels.items():
        words: list[str] = []
        options: list[str] = []
        for action in level._actions:  # noqa: SLF001 - argparse offers no other way to list them
            choices = " ".join(map(str, action.choices)) if action.choices else ""
            options += [name for name in action.option_strings if name.startswith("-")]  # psql has its own
            if choices and not action.option_strings:
                words.append(choices)
            if choices and action.option_strings:
                names = "|".join(f'"{path} {name}"' for name in action.option_strings)
                values += f'        {names}) commands="{choices}" ;;\n'
        cases += f'        "{path}") commands="{" ".join(words)}" options="{" ".join(options)}" ;;\n'
    return HEAD.replace("PATHS", paths) + cases + TAIL.replace("VALUES", values)


def _levels(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """(" db backup", its parser), commands and their actions."""
    yield path, parser
    for action in parser._actions:  # noqa: SLF001 - as above
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for name, sub in action.choices.items():
                yield from _levels(sub, f"{path} {name}")
