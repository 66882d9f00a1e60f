"""Each file in examples/ can be used: it loads, its broker opens, and the docs name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphapivot.brokers import registry
from alphapivot.config import read

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.ini"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_used(path, monkeypatch):
    if path.stem == "ccxt":
        pytest.importorskip("ccxt")
    for name in ("KITE_API_KEY", "BINANCE_API_KEY", "BINANCE_API_SECRET"):
        monkeypatch.setenv(name, "key")
    settings = read.load(path, {})
    registry.check(settings, {})
    assert f"examples/{path.name}" in (ROOT / "docs" / "brokers.md").read_text(encoding="utf-8")


def test_there_are_examples():
    assert EXAMPLES
