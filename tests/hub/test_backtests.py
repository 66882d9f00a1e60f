"""Names of backtests: one that did not finish keeps its rows, and does not keep others from its name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from alphapivot.errors import DataError
from alphapivot.hub.tables import backtests, ops

AS_OF, SINCE = datetime(2025, 2, 14, tzinfo=UTC), datetime(2025, 1, 20, tzinfo=UTC)


def begun(hub, run_id, book, state=None):
    """A backtest that took the name which it got for ``book``."""
    name = backtests.free_name(hub, run_id, book)
    run = ops.begin_run(
        hub, run_id, kind="backtest", scope=name, as_of=AS_OF, config={}, config_hash="", code_version=""
    )
    backtests.open_(hub, run, name, SINCE)
    if state:
        ops.finish_run(hub, run_id, state, "for a test")
    return name


def test_a_name_whose_backtests_did_not_finish_is_taken_again_with_a_number(hub):
    assert begun(hub, "a", "bt-mine", "failed") == "bt-mine"
    assert begun(hub, "b", "bt-mine", "failed") == "bt-mine-2"
    assert begun(hub, "c", "bt-mine", "failed") == "bt-mine-3"
    assert backtests.free_name(hub, "b", "bt-mine") == "bt-mine-2"  # it resumes
    assert begun(hub, "d", "bt-other", "failed") == "bt-other"


@pytest.mark.parametrize("state", ["completed", None])
def test_a_name_of_a_backtest_that_runs_or_has_finished_is_refused(hub, state):
    begun(hub, "a", "bt-mine", state)
    with pytest.raises(DataError, match="bt-mine is already another backtest"):
        begun(hub, "b", "bt-mine")
