"""The `alphapivot` command as a real process: its output and exit codes."""

from __future__ import annotations

import argparse
import csv
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import psycopg
import pytest

from alphapivot import process
from alphapivot.cli import _parser
from alphapivot.cli.common import then
from alphapivot.errors import ConfigError
from alphapivot.home import CHECKOUT
from tasks.local import backtest

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
    """Runs the command against the test session's database server."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ALPHAPIVOT", "PREFECT"))}
        environment = (
            inherited
            | {
                "ALPHAPIVOT_HOME": str(home_root / "home"),
                "ALPHAPIVOT_DATABASE__NAME": "cli_test",
                "COLUMNS": "150",
            }
            | environ
        )
        command = [sys.executable, "-m", "alphapivot.cli", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
        )

    return run


def test_help_lists_every_command(alphapivot):
    done = alphapivot("--help")
    assert done.returncode == 0
    assert all(f"\n    {name}" in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "invalid choice: 'rnu'; did you mean run?"),
        (["db", "stast"], "invalid choice: 'stast'; did you mean stats?"),
        (["db", "stats", "--config", "no.ini"], "no.ini"),
        (["pillars", "list", "--config", "no.ini"], "no.ini"),
        (["trade", "--as-of", "2026-01-01"], "has no time zone; expected something like 2026-01-01T00:00:00Z"),
        (["trade", "--as-of", "yesterday"], "'yesterday' is not an instant"),
        (["resume"], "--reason"),
        (["ingest", "--to", "2024-03-01"], "--to needs --from, the first day to backfill"),
        (["ingest", "--from", "2024-03-05", "--to", "2024-03-01"], "is not before --to 2024-03-01"),
        (["ingest", "--from", "2024-03-05", "--as-of", "2024-03-05T00:00Z"], "it takes no --as-of and no --wait"),
        (["ingest", "--from", "2024-03-05", "--no-wait"], "it takes no --as-of and no --wait"),
        (["db", "psql", "--config", "no.ini", "-c", "SELECT 1"], "no.ini"),
        (["demo", "--config", "my.ini"], "the demo uses demo.ini and its simulated market"),
        (["demo", "--feed", "yahoo"], "the demo uses demo.ini and its simulated market"),
        (["demo", "--sessions", "0"], "'0' is not a whole number from 1 on"),
        (["evaluate", "--horizon", "0"], "'0' is not a whole number from 1 on"),
        (
            ["tune", "--from", "2024-01-01", "--to", "2024-02-01", "--embargo", "-1"],
            "'-1' is not a whole number from 0",
        ),
        (["tune", "--from", "2024-01-01", "--to", "2024-02-01", "--jobs", "two"], "'two' is not a whole number from 1"),
        (["cash", "nan", "--note", "x"], "'nan' is not an amount"),
        (["unlock", "A", "--left-at", "inf", "--reason", "x"], "'inf' is not an amount"),
        (["ui", "--feed", "simulated"], "the server's runs use the feeds of their config file"),
        (["evaluate", "--html", "nowhere/page.html"], "nowhere/page.html cannot be written: no such folder"),
        (["report", "--png", "/"], "/ is a folder; expected a file in it"),
        (["db", "backup", "/dev/full"], "/dev/full is a device or a pipe; expected a file"),
        (["halt", "--reasn", "x"], "--reasn is not an option of alphapivot halt; did you mean --reason?"),
        (["db", "stats", "--confg=x"], "--confg is not an option of alphapivot db stats; did you mean --config?"),
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
    done = alphapivot(*arguments, APCA_API_KEY_ID="a", APCA_API_SECRET_KEY="b")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_in_the_config_names_the_nearest_key(alphapivot, tmp_path):
    (tmp_path / "my.ini").write_text((CHECKOUT / "config.ini").read_text().replace("channel =", "chanel ="))
    done = alphapivot("check", "--config", "my.ini")
    assert done.returncode == 2
    assert "[pillar.trend] chanel is not a key of this section; did you mean channel?" in done.stderr


def test_a_database_that_is_down_is_said_in_one_sentence(alphapivot):
    secret = "hunter2secret"
    done = alphapivot("status", ALPHAPIVOT_DATABASE__URL=f"postgresql://me:{secret}@127.0.0.1:9/none")
    assert done.returncode == 1
    assert "none at 127.0.0.1:9 does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert secret not in done.stderr + done.stdout


def test_check_says_what_is_configured_and_that_the_database_answers(alphapivot):
    done = alphapivot("check")
    assert done.returncode == 0, done.stderr
    assert "config.ini is good" in done.stdout
    assert "the database answers: cli_test at 127.0.0.1" in done.stdout


def test_check_warns_of_a_variable_that_means_nothing(alphapivot):
    done = alphapivot("check", ALPHAPIVOT_COLOUR="x", ALPHAPIVOT_READER_PASSWORD="x", ALPHAPIVOT_EXECUTION__ATR="20")
    assert done.returncode == 0, done.stderr
    assert "ALPHAPIVOT_COLOUR in the environment is unknown; " in " ".join(done.stdout.split())
    assert done.stdout.count("in the environment is unknown") == 1


def test_status_of_an_empty_hub_says_what_is_late(alphapivot):
    done = alphapivot("status")
    assert done.returncode == 0, done.stderr
    assert "SP500" in done.stdout
    assert "late" in done.stdout
    assert "Kill switch of book paper: ACTIVE" in done.stdout


def test_halt_and_resume_are_remembered_with_who_and_why(alphapivot):
    assert alphapivot("halt", "--reason", "fire drill").returncode == 0
    assert "HALTED (fire drill)" in alphapivot("status").stdout
    assert alphapivot("resume", "--reason", "it was one").returncode == 0
    assert "ACTIVE (it was one)" in alphapivot("status").stdout


def test_the_address_shows_its_password_only_when_asked(alphapivot, server):
    assert server.password not in alphapivot("db", "url").stdout
    assert server.password in alphapivot("db", "url", "--with-password").stdout


def test_psql_answers_on_the_hub(alphapivot):
    done = alphapivot("db", "psql", "-c", "SELECT count(*) AS bars FROM market.bar")
    assert done.returncode == 0, done.stderr
    assert "bars" in done.stdout


@pytest.mark.parametrize("before", [True, False])
def test_psql_is_not_handed_the_config(alphapivot, tmp_path, before):
    (tmp_path / "other.ini").write_text((CHECKOUT / "tests" / "configs" / "small.ini").read_text())
    ours, theirs = ["--config", "other.ini"], ["-Atc", "SELECT current_database()"]
    arguments = [*ours, "--", *theirs] if before else [*theirs, *ours]
    done = alphapivot("db", "psql", *arguments, ALPHAPIVOT_DATABASE__NAME="cli_other")
    assert (done.returncode, done.stdout) == (0, "cli_other\n"), done.stderr


def test_every_option_and_argument_has_its_help_and_the_list_one_line_a_command(alphapivot):
    def below(parser, path):
        yield path, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, sub in action.choices.items():
                    yield from below(sub, f"{path} {name}")

    parsers = dict(below(_parser(), "alphapivot"))
    assert len(parsers) > 35
    for path, parser in parsers.items():
        if path != "alphapivot db psql":
            bare = [a.dest for a in parser._actions if not a.help and not isinstance(a, argparse._SubParsersAction)]
            assert (path, bare, bool(parser.description)) == (path, [], True)
    commands = [p.split()[1] for p in parsers if p.count(" ") == 1]
    shown = alphapivot("--help").stdout
    assert [name for name in commands if not re.search(rf"^    {name} +\w", shown, re.MULTILINE)] == []


def test_halt_needs_no_reason_and_asks_for_it_afterwards(alphapivot):
    done = alphapivot("halt", "--flatten")
    assert done.returncode == 0, done.stderr
    assert "is halted" in done.stdout
    assert "to add one: alphapivot halt --flatten --reason ...\n" in done.stdout
    assert "HALTED (every trade exits at market) (no reason given yet)" in alphapivot("status").stdout
    assert alphapivot("halt", "--flatten", "--reason", "the feed went mad").returncode == 0
    assert "HALTED (every trade exits at market) (the feed went mad)" in alphapivot("status").stdout
    assert alphapivot("resume", "--reason", "it was one").returncode == 0


@pytest.mark.parametrize(
    ("keys", "reason"),
    [(b"the feed went mad\n", "the feed went mad"), (b"\x04", "no reason given yet"), (b"\x03", "no reason given yet")],
    ids=["answered", "Ctrl-D", "Ctrl-C"],
)
def test_a_halt_stands_while_its_reason_is_asked_for(home_root, server, keys, reason):
    """At a terminal the halt is in force before the question; the reply can only add a reason."""
    name = f"cli_{os.getpid()}"
    url = server.database(name)

    def stored() -> str:
        with psycopg.connect(url) as connection:
            return connection.execute("SELECT reason FROM trading.control ORDER BY control_id DESC LIMIT 1").fetchone()[
                0
            ]

    environ = os.environ | {"ALPHAPIVOT_HOME": str(home_root / "home"), "ALPHAPIVOT_DATABASE__NAME": name}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "alphapivot.cli", "halt"], environ)  # noqa: S606
    screen = ""
    with suppress(OSError):  # raised once the terminal is closed
        while more := os.read(terminal, 1000):
            screen += more.decode()
            if screen.endswith("Reason for the halt: "):
                assert stored() == "no reason given yet"
                os.write(terminal, keys)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, screen
    assert ("to add one" in screen) == (reason == "no reason given yet")
    assert stored() == reason


def test_the_version_names_the_code(alphapivot):
    done = alphapivot("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"alphapivot \d+\.\d+\.\d+ \(code [0-9a-f]{12}\)\n", done.stdout)


def test_json_is_all_that_stdout_has(alphapivot):
    done = alphapivot("status", "--json", COLUMNS="40")
    assert done.returncode == 0, done.stderr
    tables = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(row["symbol"] == "SP500" for table in tables for row in table["rows"] if "due" in row)
    assert "Kill switch" in done.stderr


@pytest.mark.always
def test_csv_is_all_that_stdout_has(alphapivot):
    done = alphapivot("status", "--csv", COLUMNS="40")
    assert done.returncode == 0, done.stderr
    tables = [list(csv.DictReader(part.splitlines())) for part in done.stdout.split("\n\n")]
    assert any(row["symbol"] == "SP500" and row["due"] for table in tables for row in table if "due" in row)
    assert "Kill switch" in done.stderr
    assert "not allowed with argument" in alphapivot("status", "--csv", "--json").stderr


def test_library_info_lines_show_only_with_v(alphapivot, tmp_path):
    (tmp_path / "small.ini").write_text((CHECKOUT / "tests" / "configs" / "small.ini").read_text())
    span = ["--config", "small.ini", "--from", "2025-06-02", "--to", "2025-06-06"]
    assert alphapivot("ingest", *span, ALPHAPIVOT_DATABASE__NAME="cli_info").returncode == 0
    quiet = alphapivot("backtest", *span, ALPHAPIVOT_DATABASE__NAME="cli_info")
    assert quiet.returncode == 0, quiet.stderr
    assert "INFO" not in quiet.stdout + quiet.stderr
    following = quiet.stdout.rpartition("Next: ")[2].splitlines()[0].partition("  ")[0].split()
    assert following[:2] == ["alphapivot", "backtests"], "five days make no score and no mark: there is no report"
    assert following[-2:] == ["--config", "small.ini"]
    typed = [following[2] if word == "OTHER" else word for word in following[1:]]
    assert alphapivot(*typed, ALPHAPIVOT_DATABASE__NAME="cli_info").returncode == 0, "typed as it was printed"
    loud = alphapivot("backtest", *span, "-v", "--again", ALPHAPIVOT_DATABASE__NAME="cli_info")
    assert "INFO" in loud.stdout + loud.stderr


@pytest.mark.parametrize(
    ("typed", "given", "expected"),
    [
        (".venv/bin/alphapivot", {}, "Next: .venv/bin/alphapivot status  all\n      make ui  schedules\n"),
        (
            "alphapivot",
            {"config": "my own.ini"},
            "Next: alphapivot status --config 'my own.ini'  all\n      make ui CONFIG='my own.ini'  schedules\n",
        ),
        ("-m", {"feed": "simulated"}, "Next: alphapivot status --feed simulated  all\n"),
        ("alphapivot", {"in": "a project"}, "Next: alphapivot status  all\n      alphapivot ui  schedules\n"),
    ],
)
def test_what_to_do_next_is_said_as_it_can_be_typed(monkeypatch, tmp_path, capsys, typed, given, expected):
    monkeypatch.setattr(sys, "argv", [typed])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path if given.pop("in", None) else CHECKOUT)
    options = argparse.Namespace(**{"config": None, "feed": None} | given)
    then(options, "alphapivot status  all", "make ui  schedules")
    assert capsys.readouterr().out == expected


def test_what_a_backtest_says_keeps_the_names_of_sections(monkeypatch, capsys):
    def run(*_, say, **__):
        say("traded bar by bar by the live engine, as the kernel leaves out [exit] scale_out")
        raise ConfigError("enough")

    monkeypatch.setattr(process, "configure", lambda *_: None)
    monkeypatch.setattr(backtest, "run", run)
    options = _parser().parse_args(["backtest", "--from", "2024-01-01", "--to", "2024-02-01"])
    with pytest.raises(ConfigError, match="enough"):
        options.command(options)
    assert "leaves out [exit] scale_out" in " ".join(capsys.readouterr().out.split())


def test_a_full_disk_is_one_sentence(home_root, server):
    environ = os.environ | {"ALPHAPIVOT_HOME": str(home_root / "home"), "ALPHAPIVOT_DATABASE__NAME": "cli_test"}
    command = [sys.executable, "-m", "alphapivot.cli", "pillars", "show", "trend"]
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environ, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "cannot write the output: No space left on device\n"
