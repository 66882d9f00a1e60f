"""Which database a process works on."""

import os

import pytest

from alphapivot import process
from alphapivot.home import CHECKOUT


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", "")
    monkeypatch.delenv("ALPHAPIVOT_DATABASE__NAME", raising=False)
    monkeypatch.delenv("ALPHAPIVOT_DATABASE__URL", raising=False)


def test_a_simulated_feed_gets_a_database_of_its_own():
    process.configure(CHECKOUT / "config.ini", "simulated")
    assert os.environ["ALPHAPIVOT_DATABASE__NAME"] == process.SIMULATED


def test_real_prices_do_not_stay_on_the_simulated_database():
    process.configure(CHECKOUT / "config.ini", "simulated")
    process.configure(CHECKOUT / "config.ini", "yahoo")
    assert "ALPHAPIVOT_DATABASE__NAME" not in os.environ


def test_a_named_database_is_kept():
    loaded = process.configure(CHECKOUT / "demo.ini")
    assert loaded.database.name == "alphapivot_demo"
    assert "ALPHAPIVOT_DATABASE__NAME" not in os.environ
