"""The desk over the demo's book, as a newcomer meets it; its pictures are those of the documentation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pictures
from tests.desk.conftest import chromium
from tests.desk.test_page import Window

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"desk": ("desktop", 1240), "desk-phone": ("phone", 844)}
pytestmark = [pytest.mark.browser, pytest.mark.prefect, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def types():
    """Starts a command over the demo's book, in a home of its own."""
    home = Path("/tmp") / f"alphapivot-desk-{os.getpid()}"  # noqa: S108 - the server's user must be able to enter it
    home.mkdir(mode=0o711)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "ALPHAPIVOT"))}
    environ |= {"ALPHAPIVOT_HOME": str(home), "PREFECT_SERVER_API_PORT": "0"}

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "alphapivot.cli", *words]
        return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)

    yield start
    start("db", "stop").communicate(timeout=60)
    shutil.rmtree(home, ignore_errors=True)


def test_the_demos_trades_are_on_the_desk(types):
    told, _ = types("demo").communicate(timeout=400)
    trades = re.findall(r"^([A-Z]+) .*\b(LONG|SHORT)\b", told.split("Open trades")[1].split("\n\n")[0], re.MULTILINE)
    assert trades
    desk = types("desk", "--config", "demo.ini", "--port", "0")
    try:
        link = re.search(r"http://\S+", desk.stdout.readline())[0]
        with chromium() as driver:
            window = Window(driver)
            driver.get(link)
            window.shows("live", "Open trades", "Risk used", "Working orders")
            for place in ("equity", "price"):
                window.drawn(place)
            cards = window.until(
                "[...document.querySelectorAll('#trades .positions > *')].map(c => c.innerText)", "cards"
            )
            for symbol, side in trades:
                assert any(card.startswith(symbol) and side in card for card in cards), cards
            for name, (screen, height) in SIZES.items():
                window.resize(screen, height)
                pictures.shoot(driver, name)
    finally:
        desk.terminate()
        desk.wait(60)
