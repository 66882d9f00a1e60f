from __future__ import annotations

import pytest

from tests.tasks.market import Market


@pytest.fixture
def market(tmp_path, hub_url, monkeypatch):
    """A folder of price files and a fresh hub."""
    return Market(tmp_path, hub_url, monkeypatch)
