"""``alphapivot completion``, sourced by a real bash."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from alphapivot import cli

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_alphapivot
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(tmp_path, capsys):
    """What bash offers for the last of these words."""
    assert cli.main(["completion"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)

    def offered(*words: str) -> set[str]:
        command = ["bash", "-c", ASK, "bash", tmp_path / "script", "alphapivot", *words]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    return offered


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["back"], {"backtest", "backtests"}),
        (["db", "ba"], {"backup"}),
        (["--config", "my.ini", "db", "st"], {"stats", "stop"}),
        (["backtest", "--eng"], {"--engine"}),
        (["backtest", "--engine", ""], {"kernel", "live"}),
        (["init", "mine", "--market", "f"], {"funds", "futures"}),
        (["config", "show", "--a"], {"--all"}),
        (["completion", ""], {"bash", "zsh"}),
        (["nonsense", "x"], set()),
    ],
)
def test_commands_options_and_choices_are_completed(complete, words, expected):
    assert complete(*words) == expected


def test_every_command_is_offered(complete):
    assert {"init", "config", "run", "report", "completion"} <= complete("")
    assert not [word for word in complete("") if word.startswith("-")]


def test_zsh_gets_it_through_its_own_loader(capsys):
    assert cli.main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("autoload -U +X bashcompinit")
