"""The auth string is made once, readable by its owner alone, and found again by every command of the home."""

from __future__ import annotations

import stat

import pytest

from flows import auth


@pytest.fixture
def bare(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    for name in (auth.SERVER, auth.CLIENT, "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_without_one_the_server_asks_for_none(bare):
    assert auth.environment() == {}


def test_it_is_made_once_and_kept_in_a_file_of_its_owner(bare):
    where = auth.require()
    assert where == str(auth.file())
    made = auth.environment()
    assert made[auth.SERVER] == made[auth.CLIENT]
    assert made[auth.SERVER].startswith("admin:")
    assert len(made[auth.SERVER]) > 30
    assert stat.S_IMODE(auth.file().stat().st_mode) == 0o600
    auth.require()
    assert auth.environment() == made
    auth.forget()
    assert auth.environment() == {}


def test_the_environments_own_goes_before_and_is_written_nowhere(bare):
    bare.setenv(auth.SERVER, "me:chosen")
    assert auth.SERVER in auth.require()
    assert not auth.file().exists()
    assert auth.environment() == {auth.SERVER: "me:chosen", auth.CLIENT: "me:chosen"}


def test_ours_is_not_sent_to_a_server_elsewhere(bare):
    auth.require()
    bare.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    assert auth.environment() == {}
