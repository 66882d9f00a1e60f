"""The front door as a user meets it: a real process, its words and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from alphapivot.home import CHECKOUT

COMMANDS = (
    "run",
    "ingest",
    "signals",
    "trade",
    "manage",
    "explain",
    "status",
    "cash",
    "check",
    "db",
    "halt",
    "resume",
    "ui",
    "demo",
    "backtest",
    "backtests",
)


@pytest.fixture
def alphapivot(home_root, server, tmp_path):
    """Runs the command with the session's own database server."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("ALPHAPIVOT", "PREFECT"))}
        own |= {
            "ALPHAPIVOT_HOME": str(home_root / "home"),
            "ALPHAPIVOT_DATABASE__NAME": "cli_test",
            "COLUMNS": "150",
        } | environ
        command = [sys.executable, "-m", "alphapivot.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=100, check=False)

    return run


def test_help_lists_every_command(alphapivot):
    said = alphapivot("--help")
    assert said.returncode == 0
    assert all(f"\n    {name}" in said.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "invalid choice: 'rnu'; did you mean run?"),
        (["db", "stast"], "invalid choice: 'stast'; did you mean stats?"),
        (["db", "stats", "--config", "no.ini"], "no.ini"),
        (["pillars", "list", "--config", "no.ini"], "no.ini"),
        (["trade", "--as-of", "2026-01-01"], "has no time zone; expected something like 2026-01-01T00:00:00Z"),
        (["trade", "--as-of", "yesterday"], "'yesterday' is no instant"),
        (["halt"], "--reason"),
        (["halt", "--reasn", "x"], "--reasn is no option of alphapivot halt; did you mean --reason?"),
        (["db", "stats", "--confg=x"], "--confg is no option of alphapivot db stats; did you mean --config?"),
        (["check", "--config", "no.ini"], "no.ini"),
        (["check", "--config", "alpaca.ini"], "[instrument.CRUDE]: futures are not traded at Alpaca"),
        (["check", "--feed", "yaho"], "there is no [feed.yaho]"),
        (["backtest", "--from", "2024-01-01", "--to", "2024-02-01", "--set", "stop=3"], "expected section.key=value"),
        (["backtest", "--from", "2024-01-01", "--to", "2024-02-01", "--set", "execution.stop_art=3"], "stop_atr"),
        (["backtests", "nothing"], "there is no backtest 'nothing'"),
        (["explain", "SP5OO"], "'SP5OO' is not an instrument"),
    ],
)
def test_bad_usage_and_config_exit_with_2_and_a_sentence(alphapivot, tmp_path, arguments, words):
    real = (CHECKOUT / "config.ini").read_text().replace("\nbroker = paper", "\nbroker = alpaca")
    (tmp_path / "alpaca.ini").write_text(f"{real}\n[broker.alpaca]\nkind = alpaca\n")
    said = alphapivot(*arguments, APCA_API_KEY_ID="a", APCA_API_SECRET_KEY="b")
    assert said.returncode == 2
    assert words in said.stderr
    assert "Traceback" not in said.stderr


def test_a_mistake_in_the_config_names_the_nearest_key(alphapivot, tmp_path):
    (tmp_path / "my.ini").write_text((CHECKOUT / "config.ini").read_text().replace("slow =", "slwo ="))
    said = alphapivot("check", "--config", "my.ini")
    assert said.returncode == 2
    assert "[pillar.trend] slwo is not a key of this section; did you mean slow?" in said.stderr


def test_a_database_that_is_down_is_said_in_one_sentence(alphapivot):
    secret = "hunter2secret"
    said = alphapivot("status", ALPHAPIVOT_DATABASE__URL=f"postgresql://me:{secret}@127.0.0.1:9/none")
    assert said.returncode == 1
    assert "none at 127.0.0.1:9 does not answer" in said.stderr
    assert "Traceback" not in said.stderr
    assert secret not in said.stderr + said.stdout


def test_check_says_what_is_configured_and_that_the_database_answers(alphapivot):
    said = alphapivot("check")
    assert said.returncode == 0, said.stderr
    assert "config.ini is good" in said.stdout
    assert "the database answers: cli_test at 127.0.0.1" in said.stdout


def test_status_of_an_empty_hub_says_what_is_late(alphapivot):
    said = alphapivot("status")
    assert said.returncode == 0, said.stderr
    assert "SP500" in said.stdout
    assert "late" in said.stdout
    assert "Kill switch of book paper: ACTIVE" in said.stdout


def test_halt_and_resume_are_remembered_with_who_and_why(alphapivot):
    assert alphapivot("halt", "--reason", "fire drill").returncode == 0
    assert "HALTED (fire drill)" in alphapivot("status").stdout
    assert alphapivot("resume", "--reason", "it was one").returncode == 0
    assert "ACTIVE (it was one)" in alphapivot("status").stdout


def test_the_address_shows_its_password_only_when_asked(alphapivot, server):
    assert server.password not in alphapivot("db", "url").stdout
    assert server.password in alphapivot("db", "url", "--with-password").stdout


def test_psql_answers_on_the_hub(alphapivot):
    said = alphapivot("db", "psql", "-c", "SELECT count(*) AS bars FROM market.bar")
    assert said.returncode == 0, said.stderr
    assert "bars" in said.stdout
