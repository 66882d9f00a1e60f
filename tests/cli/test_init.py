"""``alphapivot init``: each kind of project is good as written, small, and overwrites nothing unasked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from alphapivot import cli
from alphapivot.cli.project.markets import BROKERS, FEEDS, MARKETS, feeds_of
from alphapivot.config import origin, plugins, read
from pillars.kit import contract

ROOT = Path(__file__).parents[2]
KINDS = [
    (market, feed, broker)
    for market, offered in MARKETS.items()
    if market != "own"
    for feed in feeds_of(market)
    for broker in offered.brokers
    if broker == "paper" or (feed != "simulated" and feed in (BROKERS[broker].feeds or (feed,)))
]
DAYS = "2024-03-04,100.00,102.50,99.00,101.25,1000\n2024-03-05,101,102,100,101,900\n"
ROWS = f"Date,Open,High,Low,Close,Volume\n{DAYS}"


@pytest.fixture(autouse=True)
def registry():
    """The example pillar of a new project ends with its test."""
    yield
    plugins.load(None, ())


@pytest.fixture
def init(tmp_path, capsys, monkeypatch):
    """Types ``alphapivot init DIR`` with these words; returns what it says."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        try:
            got = cli.main(["init", *words])
        except SystemExit as error:
            got = error.code
        told = capsys.readouterr()
        assert got == code, told.err
        return told.out + told.err

    return run


@pytest.mark.parametrize(("market", "feed", "broker"), KINDS)
def test_each_project_is_good_and_says_only_what_differs(init, tmp_path, market, feed, broker):
    words = ["--market", market, "--feed", feed, "--broker", broker, "--capital", "25000.50"]
    init("desk one", *words)
    path = tmp_path / "desk one" / "config.ini"
    assert len(path.read_text().splitlines()) < 60
    reading = read.reading(path, {})
    loaded = reading.settings
    assert (loaded.runtime.feed, loaded.execution.broker) == (feed, broker)
    assert loaded.brokers["paper"].cash == Decimal("25000.50")
    assert (loaded.execution.book, loaded.database.name) == ("desk_one", "alphapivot_desk_one")
    assert loaded.pillars["drift"].name == "drift"
    assert list(loaded.pillars["drift"].rules) == ["turn"]
    assert "drift" not in loaded.composite.weights
    assert [f"{v.section} {v.key}" for v in origin.values(reading, {}) if v.set and not v.differs] == [
        *([f"feed.{feed} kind"]),
        "broker.paper kind",
        *([f"broker.{broker} kind"] if broker != "paper" else []),
    ]


def test_the_pillar_keeps_the_contract_and_the_readme_names_commands_that_parse(init, tmp_path):
    init("mine", "--feed", "simulated")
    (kind,) = plugins.read(tmp_path / "mine" / "own" / "drift.py")[1]
    contract.keeps_the_contract(kind())
    readme = (tmp_path / "mine" / "README.md").read_text()
    commands = re.findall(r"^(alphapivot .*?)(?:  .*)?$", readme, re.MULTILINE)
    assert len(commands) > 8
    for command in commands:
        cli._parser().parse_args(command.split()[1:])


def test_nothing_is_overwritten_unasked(init, tmp_path, monkeypatch):
    init("mine", "--feed", "simulated")
    config, other = tmp_path / "mine" / "config.ini", tmp_path / "mine" / "notes.txt"
    config.write_text("mine")
    other.write_text("kept")
    told = init("mine", "--market", "crypto", code=2)
    assert (
        "config.ini, own/drift.py, README.md, first_look.ipynb: nothing was written; choose another folder, or --force"
        in told
    )
    assert config.read_text() == "mine"
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "y")
    init("mine", "--market", "funds", "--feed", "yahoo", "--broker", "paper", "--capital", "1000")
    assert len(asked) == 1
    assert "overwrite? [y/N]" in asked[0]
    assert "feed = yahoo" in config.read_text()
    init("mine", "--market", "funds", "--feed", "alpaca", "--broker", "paper", "--capital", "1", "--force")
    assert "feed = alpaca" in config.read_text()
    assert other.read_text() == "kept"


def test_a_broker_chooses_the_feed_that_serves_it_and_what_its_instruments_are_paid_in(init, tmp_path):
    told = init("mine", "--market", "crypto", "--broker", "ccxt")
    assert "BINANCE_API_KEY and BINANCE_API_SECRET of testnet.binance.vision" in told
    loaded = read.load(tmp_path / "mine" / "config.ini", {})
    assert (loaded.runtime.feed, loaded.execution.broker, loaded.execution.mode) == ("ccxt", "ccxt", "paper")
    assert {(i.spot, i.currency) for i in loaded.instruments.values()} == {("BTC/USDT", "USDT"), ("ETH/USDT", "USDT")}
    assert loaded.brokers["paper"].currency == loaded.brokers["ccxt"].currency == "USDT"


def test_what_no_flag_says_is_asked_at_a_terminal(init, tmp_path, monkeypatch):
    replies = iter(["crypt", "crypto", "", "ten", "2500"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: next(replies))
    told = init("mine")
    assert "'crypt' is not one of them; did you mean crypto?" in told
    assert "'ten' is not an amount" in told
    loaded = read.load(tmp_path / "mine" / "config.ini", {})
    assert (loaded.runtime.feed, sorted(loaded.instruments)) == ("yahoo", ["BITCOIN", "ETHER"])
    assert loaded.brokers["paper"].cash == 2500


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--market", "fund"], "invalid choice: 'fund'; did you mean funds?"),
        (["--feed", "yaho"], "--feed yaho does not serve --market funds; did you mean yahoo?"),
        (["--market", "crypto", "--feed", "alpaca"], "--feed alpaca does not serve --market crypto; expected one of"),
        (["--market", "crypto", "--broker", "alpaca"], "--broker alpaca: it does not trade crypto; expected paper"),
        (["--market", "crypto", "--feed", "yahoo", "--broker", "ccxt"], "--feed yahoo does not serve --broker ccxt"),
        (["--feed", "simulated", "--broker", "alpaca"], "simulated prices go to the paper account; expected paper"),
        (["--capital", "0"], "--capital 0: expected more than 0"),
        (["--capital", "much"], "'much' is not an amount"),
        (["--market", "own"], "--market own needs --prices FILE"),
        (["--market", "crypto", "--prices", "a.csv"], "--prices are files of your own"),
        (["--prices", "nothing.csv"], "nothing.csv: there is no file"),
    ],
)
def test_a_choice_that_cannot_be_is_told(init, tmp_path, words, told):
    assert told in init("mine", *words, code=2)
    assert not (tmp_path / "mine").exists()


def test_own_files_are_tradable_once_their_terms_are_said(init, tmp_path):
    (tmp_path / "prices").mkdir()
    for symbol in ("ACME", "GLOBEX"):
        (tmp_path / "prices" / f"{symbol}.csv").write_text(ROWS)
    (tmp_path / "prices" / "OTHER.csv").write_text(ROWS.replace("Date", "Day"))
    init("guessed", "--prices", "prices")
    guessed = read.load(tmp_path / "guessed" / "config.ini", {})
    assert {s: i.tradable for s, i in guessed.instruments.items()} == dict.fromkeys(["ACME", "GLOBEX", "OTHER"], False)
    assert sorted(guessed.feeds) == ["files", "files2"]
    assert "tradable = no           ; currency, calendar: guesses" in (tmp_path / "guessed" / "config.ini").read_text()
    init("said", "--prices", "prices/*.csv", "--currency", "EUR", "--calendar", "XETR")
    said = read.load(tmp_path / "said" / "config.ini", {})
    assert {(i.tradable, i.currency, i.calendar) for i in said.instruments.values()} == {(True, "EUR", "XETR")}
    assert said.brokers["paper"].currency == "EUR", "what is traded in euros is paid in euros"
    assert said.feeds["files"].root == tmp_path / "prices"
    assert said.instruments["OTHER"].feed == "files2"
    assert said.instruments["ACME"].tick == Decimal("0.01")


def test_feeds_and_brokers_of_every_market_are_known():
    for market in MARKETS:
        assert set(feeds_of(market)) <= FEEDS.keys()


def test_the_project_works_in_its_folder(server, home_root, tmp_path):
    """check, ingest, backtest, report and a contract test, typed in the folder; no variable names the config."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("ALPHAPIVOT_")}
    env |= {"ALPHAPIVOT_HOME": str(home_root / "home"), "PYTHONPATH": str(ROOT)}

    def types(folder: Path, *words: str) -> str:
        command = [sys.executable, "-m", "alphapivot.cli", *words]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    types(tmp_path, "init", "mine", "--feed", "simulated", "--capital", "50000")
    mine = tmp_path / "mine"
    checked = types(mine, "check")
    assert f"{mine / 'config.ini'} is good: 3 instruments" in checked.replace("\n", "")
    assert "alphapivot_mine" in checked
    types(mine, "ingest", "--from", "2022-06-01", "--to", "2025-01-01")
    assert "bt-first" in types(mine, "backtest", "--from", "2024-10-01", "--to", "2024-12-31", "--book", "first")
    assert "bt-first" in types(mine, "report", "--book", "bt-first")
    assert "kept  drift" in types(mine, "pillars", "test", "own/drift.py")
