"""Each file in examples/ can be used: it loads, its broker opens, and the docs name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphapivot.brokers import registry
from alphapivot.config import read

ROOT = Path(__file__).parents[2]
KEYS = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY", "BINANCE_API_KEY", "BINANCE_API_SECRET", "KITE_API_KEY")
EXAMPLES = sorted((ROOT / "examples").glob("*.ini"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_used(path, monkeypatch):
    if path.stem == "ccxt":
        pytest.importorskip("ccxt")
    if path.stem == "ib":
        pytest.importorskip("ib_async")
    for name in KEYS:
        monkeypatch.setenv(name, "key")
    settings = read.load(path, {})
    registry.check(settings, {})
    broker = settings.brokers[settings.execution.broker]
    assert settings.execution.mode == ("shadow" if broker.no_paper else "paper")
    assert settings.brokers["paper"].fees, "backtests pay for their fills"
    for name in ("README.md", "docs/brokers.md", "docs/examples.md"):
        assert f"examples/{path.name}" in (ROOT / name).read_text(encoding="utf-8"), name


def test_there_are_examples():
    assert EXAMPLES
