"""
AlphaPivot without a checkout: its packages and what ship.py puts beside them, in a folder of their own.

The fast tests lay a wheel's files out in a folder. The slow one is a person's first hour: it builds the wheel, installs
it into a fresh environment and types the commands in an empty folder.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from alphapivot.calendar import bar_ends
from alphapivot.cli.project import write
from alphapivot.version import code_version
from tests.desk.conftest import chromium
from tests.desk.test_page import Window
from tests.first_hour.test_first_hour import AS_OF, SYMBOLS, Newcomer

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("alphapivot", "flows", "pillars", "tasks")
SHIPPED = next(
    ast.literal_eval(node.value)
    for node in ast.parse((ROOT / "ship.py").read_text()).body
    if isinstance(node, ast.Assign) and node.targets[0].id == "SHIPPED"
)
# a run of a deployment by a worker, as from the UI
BY_A_WORKER = """
from alphapivot import process
from flows.server import deploy, local, naming, serve

process.configure("config.ini")
with local.serving():
    from prefect.deployments import run_deployment

    deploy.deploy()
    worker = serve.start_worker()
    run = run_deployment(naming.deployment("report"), timeout=240, poll_interval=1)
    worker.terminate()
    worker.wait()
    print(run.state.name, run.state.message)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with a wheel's files."""
    folder = tmp_path_factory.mktemp("site-packages")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SHIPPED:
        source, target = ROOT / name, folder / "alphapivot" / "shipped" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return folder


@pytest.fixture
def types(installed, home_root, server, tmp_path):
    """Types a command of the installed package in a folder; returns the finished process."""

    def run(folder: Path, *words: str, code: int = 0) -> str:
        env = {k: v for k, v in os.environ.items() if not k.startswith("ALPHAPIVOT_")}
        env |= {"ALPHAPIVOT_HOME": str(home_root / "home"), "PYTHONPATH": str(installed)}
        command = [sys.executable, "-m", "alphapivot.cli", *words]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run


def test_whatever_is_read_beside_the_packages_is_shipped():
    named = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            named |= set(re.findall(r'home\.shipped\("([^"]+)"\)', path.read_text()))
    named.add(str(write.NOTEBOOK))
    assert len(named) > 3
    assert named <= set(SHIPPED)
    assert all((ROOT / name).exists() for name in SHIPPED)


def test_the_same_code_has_the_same_version(types, tmp_path):
    assert f"(code {code_version()})" in types(tmp_path, "--version")


def test_an_empty_folder_says_how_to_begin(types, tmp_path):
    told = types(tmp_path, "check", code=2)
    assert "config.ini cannot be used:\n  no such file; `alphapivot init DIR` makes one" in told


def test_a_project_works(types, tmp_path):
    types(tmp_path, "init", "mine", "--feed", "simulated")
    assert "config.ini is good" in types(tmp_path / "mine", "check").replace("\n", "")
    told = types(tmp_path / "mine", "ingest", "--from", "2024-12-02", "--to", "2025-01-01")
    assert "Next: alphapivot db stats" in told
    assert "SPY" in types(tmp_path / "mine", "db", "stats")


def typed(newcomer: Newcomer, folder: str, command: str) -> str:
    return newcomer.types(f"cd {folder} && {command}")


def holds_a_trade(newcomer: Newcomer) -> pd.Timestamp:
    """Paper runs when the backtest last entered, and at the next bar. Returns an instant of the session after it."""
    entered = "SELECT max(as_of) FROM trading.decision WHERE book = 'bt-first' AND action LIKE 'ENTER%'"
    day = pd.Timestamp(typed(newcomer, "mine", f'alphapivot db psql -- -Atc "{entered}"').strip())
    closes = bar_ends.bar_ends("XNYS", "1d", day.to_pydatetime(), (day + pd.Timedelta(days=7)).to_pydatetime())
    for as_of in (day, closes[0]):
        assert "pipeline: Completed" in typed(newcomer, "mine", f"alphapivot run --as-of {as_of.isoformat()}")
    return closes[1] - pd.Timedelta(hours=3)


@contextmanager
def at_the_desk(newcomer: Newcomer) -> Iterator[str]:
    """The link that `alphapivot desk` prints."""
    desk = newcomer.start("cd mine && exec alphapivot desk --port 0")
    try:
        for line in desk.stdout:
            if link := re.search(r"http://127\.0\.0\.1:\d+/\S+", line):
                yield link[0]
                break
        else:
            pytest.fail(f"the desk ended with exit code {desk.wait(60)}")
    finally:
        desk.terminate()
        desk.wait(60)


def closes_it(link: str) -> None:
    """Closes the one open trade on the page."""
    with chromium() as driver:
        window = Window(driver)
        driver.get(link)
        window.shows("Open trades", "LONG", "live")
        window.press('[data-action="close"]')
        window.confirm("seen enough")
        window.shows("to be closed at market by the next run")


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.timeout(2700)
def test_the_first_hour_with_a_wheel(tmp_path):
    home = Path("/tmp") / f"alphapivot-wheel-{os.getpid()}"  # noqa: S108 - the server's user must be able to enter it
    home.mkdir(mode=0o711)
    newcomer = Newcomer(tmp_path, tmp_path, more={"ALPHAPIVOT_HOME": str(home), "PREFECT_SERVER_API_PORT": "0"})
    try:
        subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True)
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
        pip = [tmp_path / "venv" / "bin" / "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
        subprocess.run([*pip, *tmp_path.glob("alphapivot-*.whl"), "nbclient", "ipykernel"], check=True)
        newcomer.more["PATH"] = f"{tmp_path}/venv/bin:/usr/local/bin:/usr/bin:/bin"
        newcomer.brings_prices()  # own/prices/*.csv

        sniffed = newcomer.types("alphapivot data sniff own/prices/ACME.csv")
        assert "[feed.files]" in sniffed
        assert "The first of" in sniffed
        newcomer.types("alphapivot init mine --prices own/prices --currency USD --calendar XNYS --capital 50000")
        assert "is good: 2 instruments" in typed(newcomer, "mine", "alphapivot check").replace("\n", "")
        typed(newcomer, "mine", "alphapivot ingest --from 2023-01-01 --to 2025-06-28")
        tested = typed(newcomer, "mine", "alphapivot backtest --from 2025-01-02 --to 2025-06-27 --book first")
        assert re.search(r"^state +completed", tested, re.MULTILINE)
        typed(newcomer, "mine", "alphapivot report --book bt-first --html report.html")
        assert (tmp_path / "mine" / "report.html").stat().st_size > 100_000
        noon = holds_a_trade(newcomer)
        with at_the_desk(newcomer) as desk:
            closes_it(desk)
        managed = typed(newcomer, "mine", f"alphapivot manage --as-of {noon.isoformat()}")
        assert "manage: Completed" in managed
        ran = typed(newcomer, "mine", f"alphapivot run --as-of {AS_OF}")
        assert "pipeline: Completed" in ran
        for symbol in SYMBOLS:
            assert re.search(rf"^{symbol} +[+-]\d", ran, re.MULTILINE), ran
        assert "operator" in ran.split("Closed trades")[1], ran
        assert "score" in typed(newcomer, "mine", f"alphapivot explain {SYMBOLS[0]}")
        typed(newcomer, "mine", "jupyter execute first_look.ipynb --output executed")
        assert "<table" in (tmp_path / "mine" / "executed.ipynb").read_text()
        (tmp_path / "mine" / "worker.py").write_text(BY_A_WORKER)
        assert "Completed" in typed(newcomer, "mine", "python worker.py").splitlines()[-1]
        assert "pipeline: Completed" in newcomer.types("mkdir empty && cd empty && alphapivot demo --sessions 2")
    finally:
        newcomer.types("alphapivot db stop")
        shutil.rmtree(home, ignore_errors=True)
