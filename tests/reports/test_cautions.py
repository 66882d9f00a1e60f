"""The first lines of a report: markets that were never entered for their size, and tickers that jump at rolls."""

from alphapivot.reports.book import result as results
from tests.reports.test_result import FUTURE

D20 = {"market": "futures", "contract": ""}


def test_a_report_begins_with_markets_never_entered_and_with_tickers_that_jump(new_world):
    """A's lot risks 4 x 100,000 of 100,000; B is entered; both are continuous futures, A with a spot market."""
    huge = FUTURE | {"spot": "a", "multiplier": "100000", "margin": "0.0001"}
    world = new_world({"A": huge, "B": FUTURE}, risk={"max_notional": "1000", "max_gross_exposure": "1000"})
    for symbol in "AB":
        world.calm(range(1, 23), symbol=symbol, **D20)
        world.score(20, 50, symbol=symbol)
        world.score(21, 50, symbol=symbol)
    world.calm(range(1, 23))
    for day in (20, 21, 22):
        world.trade(day)
    assert [t["symbol"] for t in world.sql("SELECT symbol FROM trading.trade")] == ["B"]
    never, first, second, *_ = results.make(world.hub, world.settings, "paper").warnings
    assert never.startswith("A: never entered: 3 entries were denied, as one lot is more than [risk] risk_per_trade")
    assert first.startswith("A: a has no contracts: unadjusted, it jumps at each roll by an unknown size")
    assert second.startswith("B: a has no contracts")
