"""The charts' views of continuous prices, by hand, and that both end at what is traded."""

import numpy as np
import pandas as pd
import pytest

from alphapivot import continuous, rolls
from alphapivot.errors import DataError
from alphapivot.frames import Rolls


def contract(name, rows):
    days, close = zip(*rows, strict=True)
    ts = pd.DatetimeIndex([f"2013-12-{d:02} 23:00" for d in days], tz="UTC").as_unit("us")
    prices = {name: [float(c) for c in close] for name in ("open", "high", "low", "close")}
    fixed = {"symbol": "X", "market": "futures", "contract": name, "interval": "1d", "source": "test"}
    return pd.DataFrame({**fixed, "ts": ts, **prices, "volume": 1.0, "open_interest": 1.0})


def rolled(*rows):
    found = pd.DataFrame(rows, columns=["ts", "contract", "previous", "spread", "offset"])
    found["ts"] = pd.DatetimeIndex(found["ts"], tz="UTC").as_unit("us")
    return found.assign(symbol="X")[Rolls.columns()]


BARS = pd.concat(
    [
        contract("XZ3", [(9, 100), (10, 80)]),
        contract("XH4", [(10, 88), (11, 99), (12, 110)]),
        contract("XM4", [(12, 55), (13, 44)]),
    ]
)
ROLLS = rolled(
    ("1970-01-01", "XZ3", "", 0.0, 0.0),
    ("2013-12-10 23:00", "XH4", "XZ3", 8.0, -8.0),
    ("2013-12-12 23:00", "XM4", "XH4", -55.0, 47.0),
)


def test_backward_shifts_all_before_a_roll_by_its_spread():
    found = continuous.backward(BARS, ROLLS)
    assert found["close"].tolist() == [100 + 8 - 55, 80 + 8 - 55, 99 - 55, 110 - 55, 44]
    assert found["offset"].tolist() == [-47, -47, -55, -55, 0]


def test_ratio_scales_all_before_a_roll_by_the_new_contract_over_the_old():
    found = continuous.ratio(BARS, ROLLS)
    # 88 / 80 at the first roll, 55 / 110 at the second
    assert found["factor"].tolist() == pytest.approx([0.55, 0.55, 0.5, 0.5, 1])
    assert found["close"].tolist() == pytest.approx([55, 44, 49.5, 55, 44])
    # 80 -> 88 is no return, 88 -> 99 is the new contract's own
    assert np.diff(np.log(found["close"])) == pytest.approx(np.log([0.8, 99 / 88, 110 / 99, 44 / 55]))


def test_no_ratio_of_a_price_that_is_not_positive():
    with pytest.raises(DataError, match=r"X has no ratio view: a close at the roll into XH4 .* use the backward view"):
        continuous.ratio(BARS.assign(close=BARS["close"] - 80), ROLLS)


def test_what_never_rolled_is_as_traded():
    alone = contract("", [(9, 100), (10, 80)])
    assert continuous.backward(alone, Rolls.empty())["close"].tolist() == [100, 80]
    assert continuous.ratio(alone, Rolls.empty())["close"].tolist() == [100, 80]


def test_the_views_change_with_a_later_roll_and_the_pillars_series_does_not():
    early = ROLLS[:2]
    before = BARS[BARS["ts"] <= "2013-12-12 23:00+00:00"]
    assert (
        continuous.backward(before, early)["close"].tolist() != continuous.backward(BARS, ROLLS)["close"].tolist()[:4]
    )
    assert rolls.adjust(before, early)["close"].tolist() == rolls.adjust(BARS, ROLLS)["close"].tolist()[:4]
