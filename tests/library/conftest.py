"""A project as ``alphapivot init`` writes it, with two years of simulated bars and the scores of three sessions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from alphapivot import cli, process
from tasks.local import backfill, replay

SESSIONS = [datetime(2024, 12, day, 23, tzinfo=UTC) for day in (26, 27, 30)]


@pytest.fixture(scope="module")
def folder(server, template, home_root, tmp_path_factory):
    """The project's folder; its database is the one that the environment names."""
    folder = tmp_path_factory.mktemp("projects") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALPHAPIVOT_HOME", str(home_root / "home"))
        patch.setenv("ALPHAPIVOT_DATABASE__URL", server.database(f"library_{id(folder)}", template=template))
        patch.setenv("ALPHAPIVOT_CONFIG", str(folder / "config.ini"))
        assert cli.main(["init", str(folder), "--feed", "simulated"]) == 0
        settings = process.configure()
        backfill.run(settings, datetime(2022, 6, 1, tzinfo=UTC), SESSIONS[0], lambda *_: None, lambda _: None)
        for as_of in SESSIONS:
            replay.session(settings, as_of)
        yield folder
