"""The database that a process uses."""

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


def test_a_relative_config_of_the_environment_is_the_same_file_for_a_worker(tmp_path, monkeypatch):
    (tmp_path / "my.ini").write_text((CHECKOUT / "config.ini").read_text())
    (tmp_path / "link.ini").symlink_to("my.ini")
    monkeypatch.chdir(tmp_path)
    for name in ("my.ini", "./my.ini", "link.ini"):
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", name)
        process.configure()
        assert os.environ["ALPHAPIVOT_CONFIG"] == str(tmp_path / "my.ini")


def test_a_named_database_is_kept():
    loaded = process.configure(CHECKOUT / "demo.ini")
    assert loaded.database.name == "alphapivot_demo"
    assert "ALPHAPIVOT_DATABASE__NAME" not in os.environ
