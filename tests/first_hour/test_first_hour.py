"""
A newcomer's first hour, command by command: clone, make demo, own CSV files, own database, make ui and a browser.

The slow test does all of it in a fresh account (as root) with the system's Python; the fast one covers the parts that
need no installation, in this environment.
"""

from __future__ import annotations

import configparser
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest

from alphapivot.calendar import bar_ends

ROOT = Path(__file__).resolve().parents[2]
LAST = pd.Timestamp("2025-06-27", tz="UTC")
AS_OF = "2025-06-27T23:00:00Z"
SYMBOLS = ("ACME", "GLOBEX")
PYTHON = "/usr/bin/python3.11"
pytestmark = [pytest.mark.prefect, pytest.mark.timeout(2700)]


@dataclass
class Newcomer:
    """A user at a terminal: a home, a checkout, the environment of a fresh login, optionally a separate account."""

    home: Path
    checkout: Path
    account: pwd.struct_passwd | None = None
    more: dict[str, str] = field(default_factory=dict)

    def start(self, command: str, **options) -> subprocess.Popen:
        environ = {"HOME": str(self.home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "COLUMNS": "80"}
        who = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []} if self.account else {}
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=self.checkout,
            env=environ | self.more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **who,
            **options,
        )

    def types(self, command: str) -> str:
        """The output of a command, which must succeed."""
        process = self.start(command)
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, f"$ {command}\n{output}"
        return output

    def brings_prices(self) -> None:
        """Writes two CSV files as a spreadsheet exports them, and a config that reads them."""
        folder = self.checkout / "own"
        (folder / "prices").mkdir(parents=True)
        days = bar_ends.sessions("XNYS", (LAST - pd.Timedelta(days=900)).to_pydatetime(), LAST.to_pydatetime()).index
        random = np.random.default_rng(13)
        config = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";", "#"))
        config.read(ROOT / "tests" / "configs" / "small.ini")
        for section in [s for s in config.sections() if s.startswith(("instrument.", "feed."))]:
            terms = dict(config[section])
            config.remove_section(section)
        terms |= {"signal_market": "spot", "trade_market": "spot", "calendar": "XNYS", "lot": "1", "tick": "0.01"}
        terms |= {"multiplier": "1", "margin": "1", "currency": "USD", "quote_unit": "1", "tradable": "yes"}
        config["feed.files"] = {"kind": "files", "root": "prices", "zone": "America/New_York", "stamp": "date"}
        config["runtime"]["feed"] = "files"
        for symbol in SYMBOLS:
            close = 100 * np.exp(np.cumsum(random.normal(0.0005, 0.01, len(days))))
            start = np.append(close[:1], close[:-1])
            table = pd.DataFrame({"Date": days.strftime("%Y-%m-%d"), "Open": start, "High": 0.0, "Low": 0.0})
            table["Close"], table["Volume"] = close, random.integers(10**5, 10**6, len(days))
            table["High"] = np.maximum(start, close) * 1.004
            table["Low"] = np.minimum(start, close) * 0.996
            table.round(2).to_csv(folder / "prices" / f"{symbol}.csv", index=False)
            config[f"instrument.{symbol}"] = {k: v for k, v in terms.items() if k != "futures"} | {
                "spot": f"{symbol}.csv"
            }
        with (folder / "config.ini").open("w") as file:
            config.write(file)

    def runs_own_prices(self, alphapivot: str) -> None:
        self.more |= {"ALPHAPIVOT_RUNTIME__PATIENCE": "0", "PREFECT_SERVER_API_PORT": "0"}
        assert "own/config.ini is good" in self.types(f"{alphapivot} check --config own/config.ini").replace("\n", "")
        output = self.types(f"{alphapivot} run --config own/config.ini --as-of {AS_OF}")
        assert "Completed" in output
        for symbol in SYMBOLS:
            assert re.search(rf"^{symbol} +[+-]\d", output, re.MULTILINE), output
        assert "score" in self.types(f"{alphapivot} explain {SYMBOLS[0]} --config own/config.ini")


@pytest.fixture
def own_database(server):
    """The address of a database whose owner has no other rights."""
    name = f"desk_{os.getpid()}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'first-hour'")
        connection.execute(f"CREATE DATABASE {name} OWNER {name}")
        yield f"postgresql://{name}:first-hour@127.0.0.1:{server.port}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute(f"DROP ROLE {name}")


def decided(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [symbol for (symbol,) in connection.execute("SELECT symbol FROM trading.decision ORDER BY 1")]


def test_own_prices_are_scored_and_decided_in_an_own_database(home_root, server, own_database, tmp_path):
    # the session's home: its embedded server holds Prefect's runs
    environ = {"ALPHAPIVOT_HOME": str(home_root / "home"), "ALPHAPIVOT_DATABASE__URL": own_database}
    newcomer = Newcomer(tmp_path, tmp_path, more=environ | {"PYTHONPATH": str(ROOT)})
    newcomer.brings_prices()
    newcomer.runs_own_prices(f"{sys.executable} -m alphapivot.cli")
    assert decided(own_database) == sorted(SYMBOLS)


@pytest.fixture
def newcomer(home_root):
    """A fresh account with a clone of the last commit; without root, a fresh home."""
    name = f"newcomer{os.getpid()}"
    home, account = home_root / name, None
    if os.geteuid() == 0:
        subprocess.run(["useradd", "--create-home", "--home-dir", home, name], check=True)
        account = pwd.getpwnam(name)
    else:
        home.mkdir()
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, home / "alphapivot"], check=True)
    for path in (home / "alphapivot", *(home / "alphapivot").rglob("*")):
        if account:
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    yield Newcomer(home, home / "alphapivot", account)
    if account:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if process.stat().st_uid == account.pw_uid:
                    os.kill(int(process.name), signal.SIGKILL)
        subprocess.run(["userdel", "--remove", name], check=False)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"no {PYTHON}")
def test_the_first_hour_in_a_fresh_account(newcomer, own_database):
    newcomer.more["PREFECT_SERVER_API_PORT"] = "0"
    output = newcomer.types(f"make demo PYTHON={PYTHON}")
    assert "pipeline: Completed" in output
    assert "Next:" in output
    assert "done" in output
    megabytes = int(newcomer.types("du -sm --exclude=__pycache__ .venv").split()[0])
    assert megabytes < 700
    assert not list(newcomer.checkout.glob(".venv/lib/python*/site-packages/backtesting"))

    newcomer.brings_prices()
    if newcomer.account:
        for path in (newcomer.checkout / "own", *(newcomer.checkout / "own").rglob("*")):
            os.chown(path, newcomer.account.pw_uid, newcomer.account.pw_gid)
    newcomer.runs_own_prices(".venv/bin/alphapivot")
    newcomer.more["ALPHAPIVOT_DATABASE__URL"] = own_database
    newcomer.runs_own_prices(".venv/bin/alphapivot")
    assert decided(own_database) == sorted(SYMBOLS)
    del newcomer.more["ALPHAPIVOT_DATABASE__URL"]

    opens_the_ui(newcomer)
    newcomer.types(".venv/bin/alphapivot db stop")


def opens_the_ui(newcomer: Newcomer) -> None:
    """`make ui` prints a link, and a browser that opens it is logged in."""
    log = newcomer.home / "ui.log"
    newcomer.more["ALPHAPIVOT_CONFIG"] = "demo.ini"
    ui = newcomer.start(f"exec make ui > {log} 2>&1")
    try:
        deadline = time.monotonic() + 240
        while not (link := re.search(r"log your browser in: (http\S+)", log.read_text() if log.exists() else "")):
            assert ui.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.fail("no chromium: apt-get install chromium chromium-driver")
        flags = "--headless=new --no-sandbox --disable-gpu --virtual-time-budget=20000 --dump-dom"
        profile = f"--user-data-dir={newcomer.home / 'chromium'}"
        page = subprocess.run(
            [chromium, *flags.split(), profile, link[1]], capture_output=True, text=True, timeout=120, check=True
        ).stdout
        assert "Flow Runs" in page, page[-2000:]
    finally:
        os.killpg(ui.pid, signal.SIGINT)
        ui.wait(120)
