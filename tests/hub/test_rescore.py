"""Where rescoring starts: restated bars count, except volume that still settles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from alphapivot.frames import Bars
from alphapivot.hub.tables import ops, watermarks

NOW = datetime.now(UTC)
KEY = watermarks.Key("live", "trend", "1d", 0)
SETTLES = timedelta(days=3)


def bars():
    """Forty daily bars up to yesterday."""
    ts = pd.DatetimeIndex([NOW - timedelta(days=n) for n in range(40, 0, -1)]).as_unit("us")
    frame = pd.DataFrame(
        {"ts": ts, "symbol": "A", "market": "spot", "contract": "", "interval": "1d", "source": "files"}
    )
    frame = frame.assign(open=10.0, high=11.0, low=9.0, close=10.0, volume=100.0, open_interest=float("nan"))
    return frame[Bars.columns()].astype(Bars.empty().dtypes)


@pytest.fixture
def again(hub):
    """A function that writes the bars with one changed after a first scoring; it returns where rescoring starts."""
    run = ops.begin_run(hub, "r", kind="test", scope="live", as_of=NOW, config={}, config_hash="", code_version="")
    with ops.batch(hub, run, "ingest", "1", {}) as batch:
        batch.write(Bars, bars())
    run = ops.freeze_known_at(hub, run)
    with ops.batch(hub, run, "score", "1", {}) as batch:
        watermarks.advance(batch, run, KEY, "h")

    def write(age, **values):
        changed = bars()
        for name, value in values.items():
            changed.loc[40 - age, name] = value
        with ops.batch(hub, run, "ingest", f"{age} {values}", {}) as batch:
            assert batch.write(Bars, changed).changed == 1
        return watermarks.rescore_after(hub, run, KEY, "h", ["A"], SETTLES)

    return write


def test_new_volume_of_a_young_bar_reopens_nothing(again):
    assert again(2, volume=101.0) == NOW


def test_new_volume_of_an_old_bar_reopens_from_it(again):
    assert again(30, volume=101.0) < NOW - timedelta(days=30)


def test_a_new_price_of_a_young_bar_reopens_from_it(again):
    assert again(2, close=10.5) < NOW - timedelta(days=2)


def test_a_new_price_is_not_hidden_by_the_volume_that_comes_after_it(again):
    again(2, close=10.5)
    assert again(2, close=10.5, volume=101.0) < NOW - timedelta(days=2)
