"""Each config has a work pool and deployments of its own."""

from __future__ import annotations

import re

import pytest

from alphapivot.home import CHECKOUT
from flows.server import naming


@pytest.fixture
def named(monkeypatch):
    def name(path) -> str:
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(path))
        return naming.suffix()

    return name


def test_the_checkouts_own_config_has_the_plain_names(named, monkeypatch):
    assert named(CHECKOUT / "config.ini") == ""
    monkeypatch.delenv("ALPHAPIVOT_CONFIG")
    assert (naming.pool(), naming.deployment("pipeline")) == ("alphapivot", "pipeline/pipeline")


def test_another_file_of_the_checkout_adds_its_name(named):
    named(CHECKOUT / "demo.ini")
    assert (naming.pool(), naming.deployment("pipeline")) == ("alphapivot-demo", "pipeline/pipeline-demo")


def test_files_elsewhere_are_told_apart_by_their_path(named, tmp_path):
    paths = [
        tmp_path / folder / f
        for folder in ("a", "b")
        for f in ("crypto.ini", "config.ini", "Krypto & Co.ini", "比特.ini")
    ]
    suffixes = [named(path) for path in paths]
    assert len(set(suffixes)) == len(paths)
    assert suffixes[0].startswith("-crypto-")
    assert suffixes[1].startswith("-a-")  # a config.ini is known by its folder
    assert all(re.fullmatch("(-[a-z0-9]+)+", suffix) for suffix in suffixes)


def test_a_link_to_a_file_is_that_file(named, tmp_path):
    (tmp_path / "mine.ini").symlink_to(CHECKOUT / "config.ini")
    assert named(tmp_path / "mine.ini") == ""
