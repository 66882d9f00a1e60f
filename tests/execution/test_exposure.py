"""A book's exposure, worked out by hand: held and pending, by symbol and by group, in its currency."""

from decimal import Decimal

import pytest

from alphapivot.config.settings import Settings
from alphapivot.execution.book.exposure import exposures
from tests.execution.conftest import at

D = Decimal


@pytest.fixture
def book(new_world):
    """250 of A held at 103, D, in dollars at 1.25 for a euro, short 312; C is to be bought at the next open."""
    world = new_world(
        {
            "A": {"group": "metal"},
            "C": {"group": "metal"},
            "D": {"currency": "USD", "group": "energy"},
            "EURUSD": {"tick": "0.0001", "tradable": False},
        },
        risk={"max_group_exposure": "0.6", "max_net_exposure": "0.5"},
    )
    for symbol in "ACD":
        world.calm(range(1, 21), symbol=symbol)
    world.calm(range(1, 23), symbol="EURUSD", close=1.25, spread=0)
    world.score(20, 50, symbol="A")
    world.score(20, -50, symbol="D")
    world.trade(20)
    world.bar(21, 100, 104, 99, 103, symbol="A")
    for symbol in "CD":
        world.calm([21], symbol=symbol)
    world.score(21, 50, symbol="C")
    world.trade(21)
    return world


def test_exposure_is_told_by_symbol_and_by_group_with_the_limits_used(book):
    found = exposures(book.hub, book.settings, at(21))
    (equity,) = {r["equity"] for r in book.sql("SELECT equity FROM trading.risk_day ORDER BY day DESC LIMIT 1")}
    assert equity == 100_000 + 250 * 3  # D stands where it was sold
    shown = {row.exposure: (row.gross, row.net, row.allowed) for row in found.itertuples()}
    # A 250 x 103; C 251 (1 % of 100,750 over 4) x 100; D 312 x 100 / 1.25
    assert shown == {
        "gross": (75_810, 25_890, 5),
        "net": (75_810, 25_890, D("0.5")),
        "group metal": (50_850, 50_850, D("0.6")),
        "group energy": (24_960, -24_960, D("0.6")),
        "symbol A": (25_750, 25_750, None),
        "symbol C": (25_100, 25_100, None),
        "symbol D": (24_960, -24_960, None),
    }
    assert list(shown)[:5] == ["gross", "net", "group metal", "group energy", "symbol A"]
    used = dict(zip(found["exposure"], found["used"], strict=True))
    assert (used["gross"], used["net"], used["group metal"]) == (D("0.7525"), D("0.257"), D("0.5047"))


def test_without_a_rate_an_exposure_is_unknown_and_never_too_small(book):
    stored = book.settings.stored()
    del stored["instruments"]["EURUSD"]
    found = exposures(book.hub, Settings.restore(stored), at(21)).set_index("exposure")
    for name in ("gross", "net", "group energy", "symbol D"):
        assert found.loc[name, ["gross", "net", "used"]].isna().all()
    assert found.loc["symbol A", "gross"] == 25_750


def test_a_book_that_never_traded_has_no_exposure(new_world):
    world = new_world({"A": {}})
    assert exposures(world.hub, world.settings, at(20)).empty
