"""Digests depend on results, not on when: equal market and config give equal digests in every fresh database."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from alphapivot import process
from alphapivot.hub import Hub
from alphapivot.hub.tables import digest
from tasks.local import replay

CONFIG = Path(__file__).parents[1] / "configs" / "small.ini"


@pytest.fixture
def two(server_url, template, monkeypatch):
    """The URLs of two databases and their digests after the same session."""
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(CONFIG))
    digests, urls = [], [server_url("digest", template=template) for _ in range(2)]
    for url in urls:
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", url)
        replay.session(process.configure(), datetime.fromisoformat("2025-04-03T23:30:00Z"))
        with Hub(url) as hub:
            digests.append(digest.tables(hub))
    return urls, digests


def test_the_same_session_has_the_same_digests_in_two_databases_and_another_value_has_not(two):
    urls, (first, second) = two
    assert first["trading.decision"].rows == 4
    assert {name: (table.rows, table.digest) for name, table in first.items()} == {
        name: (table.rows, table.digest) for name, table in second.items()
    }
    assert first["market.bar"].whole != second["market.bar"].whole  # they were written at different times
    with Hub(urls[1]) as hub:
        with hub.dbapi(autocommit=True) as connection:
            connection.execute(
                "UPDATE market.bar SET volume = volume + 1 WHERE ctid = (SELECT min(ctid) FROM market.bar)"
            )
        changed = digest.tables(hub)
    assert {name for name in changed if changed[name].digest != second[name].digest} == {"market.bar"}
