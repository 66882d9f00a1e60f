"""Each feature of [entry], [exit], [sizing], [risk] and [protections] in real runs on the paper broker."""

from decimal import Decimal

import pytest

from alphapivot.config.settings import Settings
from alphapivot.execution.book import clearing, control
from alphapivot.execution.book.report import limits_used

D = Decimal


def changed(world, **sections):
    """The world's settings with other keys in some sections."""
    stored = world.settings.stored()
    for name, keys in sections.items():
        stored[name] = stored[name] | keys
    world.settings = Settings.restore(stored)
    return world


def reasons(report, symbol="A"):
    return next(d.reasons for d in report.decisions if d.symbol == symbol)


# Entries ------------------------------------------------------------------------------------------------------------


def test_a_limit_entry_fills_at_its_price_or_not_at_all(world):
    changed(world, entry={"order": "limit", "limit_atr": "0.25", "timeout": 2})
    world.score(20, 50)
    world.trade(20)  # 0.25 x 2 below 100: 99.50, stop 95.50, target 107.50
    assert world.orders()["A", "ENTRY"] == ("NEW", None)
    world.bar(21, 101, 102, "99.51", 101)
    world.score(21, 0)
    world.trade(21)
    assert world.orders()["A", "ENTRY"] == ("NEW", None)
    world.bar(22, 100, 100, 99, 99)
    world.score(22, 0)
    world.trade(22)
    assert world.orders()["A", "ENTRY"] == ("FILLED", 99.5)
    trade = world.one_trade()
    assert (trade["state"], trade["stop"], trade["target"]) == ("OPEN", D("95.5"), D("107.5"))
    world.holds()


def test_a_limit_entry_that_waited_too_long_is_cancelled(world):
    changed(world, entry={"order": "limit", "timeout": 2})
    world.score(20, 50)
    world.trade(20)
    for day in (21, 22, 23):
        world.bar(day, 101, 102, 100, 101)
        world.score(day, 0)
        report = world.trade(day)
    assert reasons(report) == ("entry_expired",)
    assert world.orders()["A", "ENTRY"][0] == "CANCELED"
    assert world.one_trade()["state"] == "CLOSED"
    world.holds()


def test_a_limit_entry_that_filled_in_part_gives_up_the_rest_in_its_time(new_world):
    world = new_world({"A": {}}, broker={"max_volume_share": "0.1"})
    world.calm(range(1, 21))
    changed(world, entry={"order": "limit", "limit_atr": "0", "timeout": 2})
    world.score(20, 50)
    world.trade(20)  # 250 at 100
    world.bar(21, 100, 101, 99, 100, volume=1000)
    for day in (22, 23):
        world.bar(day, 102, 103, 101, 102)
    for day, state in ((21, "PARTIALLY_FILLED"), (22, "PARTIALLY_FILLED"), (23, "CANCELED")):
        world.score(day, 50)
        world.trade(day)
        assert world.orders()["A", "ENTRY"][0] == state
    assert (world.one_trade()["state"], world.one_trade()["entry_qty"]) == ("OPEN", 100)
    assert world.sql("SELECT reason FROM trading.orders WHERE leg = 'ENTRY'") == [{"reason": "entry_expired"}]
    world.holds()


def test_a_limit_entrys_own_bar_takes_no_profit_but_can_stop_out(world):
    changed(world, entry={"order": "limit", "limit_atr": "0"}, execution={"stop_atr": "0.5", "reward_to_risk": "1"})
    world.score(20, 50)
    world.trade(20)  # limit 100, stop 99, target 101
    world.bar(21, "100.5", 102, "99.5", 100)  # reaches the limit and, before or after it, the target
    world.score(21, 0)
    world.trade(21)
    assert world.one_trade()["state"] == "OPEN"
    world.bar(22, 100, 102, "99.5", 100)
    world.score(22, 0)
    world.trade(22)
    assert (world.one_trade()["close_reason"], world.one_trade()["exit_price"]) == ("target", 101)
    world.score(22, 50)
    world.holds()


def test_scores_must_confirm_each_other(world):
    changed(world, entry={"confirm": 3})
    for day, value in ((18, 50), (19, 29), (20, 50)):
        world.score(day, value)
    assert reasons(world.trade(20)) == ("not_confirmed",)
    for day in (21, 22):
        world.bar(day, 100, 101, 99, 100)
        world.score(day, 40)
        report = world.trade(day)
    assert reasons(report) == ("score_beyond_threshold",)


# Exits --------------------------------------------------------------------------------------------------------------


def enter(world, close=100):
    world.score(20, 50)
    world.trade(20)
    world.bar(21, close, close + 1, close - 1, close)
    world.score(21, 20)
    world.trade(21)
    assert world.one_trade()["state"] == "OPEN"


def test_a_trade_that_takes_too_long_is_closed(world):
    changed(world, exit={"max_bars": 2})
    enter(world)  # filled in bar 21
    for day in (22, 23, 24):
        world.bar(day, 100, 101, 99, 100)
        world.score(day, 20)
        report = world.trade(day)
        if day == 22:
            assert reasons(report) == ("already_open",)
        if day == 23:
            assert reasons(report) == ("time_stop",)
    assert world.one_trade()["close_reason"] == "time_stop"
    world.holds()


def test_a_veto_closes_only_where_that_is_asked_for(world):
    enter(world)
    world.bar(22, 100, 101, 99, 100)
    world.score(22, 20, veto="gap")
    assert reasons(world.trade(22)) == ("already_open",)
    changed(world, exit={"on_veto": True})
    world.bar(23, 100, 101, 99, 100)
    world.score(23, 20, veto="gap")
    assert reasons(world.trade(23)) == ("veto:gap",)


def test_a_trailing_stop_follows_completed_bars_and_acts_from_the_next_one(world):
    changed(world, exit={"trail_atr": "2"}, execution={"reward_to_risk": "5"})
    enter(world)  # stop 96
    world.bar(22, 100, 106, "99.5", 105)  # true ranges of 2, now one of 6.5
    world.score(22, 50)
    report = world.trade(22)
    assert reasons(report) == ("trailing_stop",)
    (amend,) = [d for d in report.decisions if d.action == "AMEND"]
    # Wilder: ATR is (4 x 2 + 6.5) / 5 = 2.9; 105 - 5.8 = 99.2
    assert amend.stop == D("99.2")
    assert world.one_trade()["stop"] == D("99.2")
    world.holds()
    before = world.state()
    world.trade(22)
    assert world.state() == before
    world.bar(23, "99.5", 100, "99.19", "99.6")
    world.score(23, 20)
    world.trade(23)
    assert (world.one_trade()["close_reason"], world.one_trade()["exit_price"]) == ("stop", D("99.2"))
    world.holds()


def test_break_even_takes_the_risk_out_of_a_trade(world):
    changed(world, exit={"break_even": "1"})
    enter(world)
    world.bar(22, 100, "104.5", "99.5", 104)  # a gain of 4 is one R
    world.score(22, 50)
    assert reasons(world.trade(22)) == ("break_even",)
    world.bar(23, 102, 103, 99, 99)
    world.score(23, 20)
    world.trade(23)
    trade = world.one_trade()
    assert (trade["close_reason"], trade["exit_price"], trade["realised"]) == ("stop", 100, 0)
    world.holds()


# Limits and protections ---------------------------------------------------------------------------------------------


def test_a_daily_loss_leaves_the_book_reduce_only_until_a_person_resumes_it(world):
    changed(world, risk={"daily_loss_limit": "0.005"})
    enter(world)  # 250 shares
    world.bar(22, 100, 100, 97, "97.5")  # 250 x 2.5 = 625 of 100,000
    world.score(22, 50)
    report = world.trade(22)
    assert control.state(world.hub.dbapi(), "paper").state == "REDUCE_ONLY"
    assert "REDUCE_ONLY" in " ".join(report.notes)
    used = limits_used(world.hub, world.settings).set_index("limit")["used"]
    assert used["loss of the day"] == 0  # measured from the stop on, as the gates do; the kill switch has the reason
    before = world.state()
    world.trade(22)
    assert world.state() == before  # once, not again for each run
    world.bar(23, 97, 98, 90, 96)  # stopped out at 96
    world.score(23, 50)
    world.trade(23)
    world.bar(24, 96, 97, 95, 96)
    world.score(24, 50)
    assert reasons(world.trade(24)) == ("reduce_only",)  # another day, and still nobody has resumed
    control.resume(world.hub, "paper", "looked into it", "a person")
    world.bar(25, 96, 97, 95, 96)
    world.score(25, 50)
    assert reasons(world.trade(25)) == ("score_beyond_threshold",)


def test_drawdown_is_measured_from_the_highest_equity_and_anew_after_a_person_resumed(world):
    changed(world, risk={"max_drawdown": "0.012", "daily_loss_limit": "0.5"}, execution={"reward_to_risk": "5"})
    enter(world)
    for day, close in ((22, 103), (23, 101), (24, 98)):  # +750, then 500 and 1,250 below the highest of 100,750
        world.bar(day, close, close + 1, close - 1, close)
        world.score(day, 50)
        world.trade(day)
    (trip,) = world.sql("SELECT gate, equity FROM trading.risk_trip")
    assert (trip["gate"], trip["equity"]) == ("drawdown", 99_500)
    control.resume(world.hub, "paper", "it was a bad day", "a person")
    world.bar(25, 98, 99, 97, 98)
    world.score(25, 50)
    world.trade(25)
    assert len(world.sql("SELECT FROM trading.risk_trip")) == 1
    used = limits_used(world.hub, world.settings).set_index("limit")["used"]
    assert (used["loss of the day"], used["drawdown"]) == (0, 0)  # as the gates measure it


def test_a_symbol_rests_after_a_loss(world):
    changed(world, protections={"cooldown": 2})
    enter(world)
    world.bar(22, 97, 98, 95, 96)  # stopped out
    world.score(22, 50)
    denials = [reasons(world.trade(22))]
    for day in (23, 24):
        world.bar(day, 96, 97, 95, 96)
        world.score(day, 50)
        denials.append(reasons(world.trade(day)))
    assert denials == [("cooldown",), ("cooldown",), ("score_beyond_threshold",)]


def test_stops_in_a_row_give_the_whole_book_a_pause(new_world):
    world = new_world({"A": {}, "B": {}}, execution={"max_score_age": 5})
    changed(world, protections={"stops_in_a_row": 1, "pause": 2})
    world.calm(range(1, 21))
    world.calm(range(1, 26), symbol="B")
    enter(world)
    world.bar(22, 97, 98, 95, 96)
    denials = []
    for day in (22, 23, 24):
        world.score(day, 50, symbol="B")
        denials.append(reasons(world.trade(day), "B"))
    assert denials == [("stops_in_a_row",), ("stops_in_a_row",), ("score_beyond_threshold",)]


def test_the_same_entry_again_and_again_is_locked_until_a_person_unlocks_it(world):
    changed(world, risk={"max_repeats": 2, "repeat_hours": 24 * 30})
    for day in (20, 22, 24):
        world.score(day, 50)
        report = world.trade(day)
        world.bar(day + 1, 90, 91, 89, 90)  # opens beyond the stop: the entry is cancelled
        world.calm([day + 2])
        world.score(day + 1, 0)
        world.trade(day + 1)
    assert set(reasons(report)) >= {"repeated"}
    (lock,) = world.sql("SELECT symbol, reason FROM trading.instrument_lock WHERE cleared_at IS NULL")
    assert lock == {"symbol": "A", "reason": "entries were sent 2 times in 720 hours, the limit is 2"}
    clearing.unlock(world.hub, "paper", "A", "looked into it", "a person")
    world.score(26, 50)
    assert reasons(world.trade(26)) == ("score_beyond_threshold",)


def test_the_volatility_target_reads_the_contracts_own_price_changes(world):
    # closes go 100, 101, 100, 101 ...: changes of +-1 have a standard deviation of sqrt(10/9) over ten of them
    world.sql("DELETE FROM market.bar")
    for day in range(1, 21):
        c = 100 + day % 2
        world.bar(day, c, c + 1, c - 1, c)
    changed(world, sizing={"target_volatility": "0.2", "weight": "0.05", "volatility_bars": 10})
    world.score(20, 50)
    (decision,) = world.trade(20).decisions
    assert float(decision.quote.volatility) == pytest.approx((10 / 9 * 365) ** 0.5, rel=1e-12)
    assert (decision.plan.qty, decision.plan.capped_by) == (49, "volatility")  # 1,000 / 20.14 = 49.66


@pytest.mark.parametrize(("score", "gap", "qty"), [(50, 3, 166), (-50, 1, 333)])
def test_a_plan_shows_what_an_opening_gap_against_it_would_cost(world, score, gap, qty):
    # closes at 100; of 29 openings 20 are 3 lower and 9 are 1 higher, so nine in ten fall 3 and rise 1 at most
    # 500 may be lost: 166 at 3; at 1 the stop comes first, 1,000 / 3
    world.sql("DELETE FROM market.bar")
    for day in range(-9, 21):
        opened = 101 if day % 3 == 0 else 97
        world.bar(day, opened, 102, 96, 100)
    changed(world, sizing={"gap_quantile": 0.9, "gap_bars": 29, "max_gap_loss": "0.005"}, execution={"stop_atr": "0.5"})
    world.score(20, score)
    (decision,) = world.trade(20).decisions
    assert decision.quote.gaps == (3, 1)
    assert decision.plan.gap_loss == decision.plan.qty * gap
    assert decision.plan.qty == qty
    (stored,) = world.sql("SELECT plan FROM trading.decision WHERE action LIKE 'ENTER%'")
    assert float(stored["plan"]["gap_loss"]) == decision.plan.gap_loss


def test_with_a_cap_on_gaps_nothing_is_entered_where_they_are_unknown(world):
    """Twenty bars have nineteen openings after a close."""
    changed(world, sizing={"gap_quantile": 0.9, "max_gap_loss": "0.005"})
    world.score(20, 50)
    assert reasons(world.trade(20)) == ("gap_missing",)


# The paper broker's rules 5 to 10, by hand --------------------------------------------------------------------------


def test_an_order_takes_at_most_its_share_of_a_bars_volume_and_the_rest_waits(new_world):
    world = new_world({"A": {}}, broker={"max_volume_share": "0.1"})
    world.calm(range(1, 21))
    world.score(20, 50)
    world.trade(20)  # 250 wanted, a tenth of 1,000 a bar
    filled = []
    for day in (21, 22, 23):
        world.bar(day, 100, 101, 99, 100, volume=1000)
        world.score(day, 20)
        world.trade(day)
        filled.append(world.one_trade()["entry_qty"])
        (stop,) = world.sql("SELECT qty FROM paper.orders WHERE leg = 'STOP' AND state = 'WORKING'")
        assert stop["qty"] == filled[-1]  # the filled quantity is protected
    assert filled == [100, 200, 250]
    world.bar(24, 95, 96, 94, 95, volume=600)  # the stop of 96: 60 at the open
    world.bar(25, 90, 91, 89, 90, volume=0)  # nothing trades
    world.bar(26, 94, 99, 93, 98, volume=9000)  # the rest at market, though the price is back above the stop
    for day in (24, 25, 26):
        world.score(day, 20)
        world.trade(day)
    fills = world.sql("SELECT qty, price FROM trading.fill WHERE side = 'SELL' ORDER BY ts")
    assert fills == [{"qty": 60, "price": 95}, {"qty": 190, "price": 94}]
    assert world.one_trade()["state"] == "CLOSED"


def test_strict_targets_need_a_price_beyond_them(new_world):
    world = new_world({"A": {}}, broker={"strict_targets": True})
    world.calm(range(1, 21))
    enter(world)  # target 108
    world.bar(22, 107, 108, 106, 107)
    world.score(22, 50)
    world.trade(22)
    assert world.one_trade()["state"] == "OPEN"
    world.bar(23, 110, 111, 109, 110)  # opens beyond it, and still fills at its price
    world.score(23, 20)
    world.trade(23)
    assert (world.one_trade()["close_reason"], world.one_trade()["exit_price"]) == ("target", 108)


FUTURE = {"futures": "f", "signal_market": "futures", "trade_market": "futures", "multiplier": "10", "margin": "0.2"}


def futures(new_world, names="A", **broker):
    world = new_world(dict.fromkeys(names, FUTURE), broker=broker, risk={"max_notional": "5"})
    for symbol in names:
        world.roll(None, "H", symbol=symbol)
        world.calm(range(1, 21), symbol=symbol, market="futures", contract="H")
    return world


def test_fees_are_taken_per_contract_and_in_basis_points(new_world):
    world = futures(new_world, fee_per_contract="2.5", fee_bps="1")
    world.score(20, 50)
    world.trade(20)  # 1,000 / (4 x 10) = 25 contracts
    world.bar(21, 100, 101, 99, 100, market="futures", contract="H")
    world.score(21, 20)
    world.trade(21)
    (fill,) = world.sql("SELECT qty, fee, cash FROM trading.fill")
    assert (fill["qty"], fill["fee"], fill["cash"]) == (25, D("65"), 0)  # 62.5, and 0.0001 x 25,000
    world.holds()


def test_a_margin_breach_closes_the_largest_loser_first_at_its_next_open(new_world):
    # 100,000 of cash; A and B: 400 contracts of 100 x 10 each, 400,000 of notional: initial margin 80,000 in all
    world = futures(new_world, "AB", maintenance_margin="0.75")
    changed(
        world,
        execution={"stop_atr": "20", "reward_to_risk": "1"},
        risk={"risk_per_trade": "0.8", "max_notional": "2", "daily_loss_limit": "0.99"},
    )
    for symbol in "AB":
        world.score(20, 50, symbol=symbol)
    world.trade(20)
    for symbol in "AB":
        world.bar(21, 100, 101, 99, 100, symbol=symbol, market="futures", contract="H")
        world.score(21, 20, symbol=symbol)
    world.trade(21)
    held = world.sql("SELECT symbol, qty FROM paper.position ORDER BY symbol")
    assert held == [{"symbol": "A", "qty": 200}, {"symbol": "B", "qty": 200}]  # max_notional: 2 x 100,000 each
    # maintenance is 0.75 x 0.2 of the notional: A at 82 and B at 81 leave 100,000 - 36,000 - 38,000 = 26,000, less than
    # 0.15 x 163 x 2,000 = 48,900; without B, 0.15 x 82 x 2,000 = 24,600 is enough
    world.bar(22, 90, 91, 82, 82, symbol="A", market="futures", contract="H")
    world.bar(22, 90, 91, 81, 81, symbol="B", market="futures", contract="H")
    for symbol in "AB":
        world.score(22, 20, symbol=symbol)
    world.trade(22)
    assert world.sql("SELECT symbol FROM paper.orders WHERE triggered AND state = 'WORKING'") == [{"symbol": "B"}]
    for symbol in "AB":
        world.bar(23, 83, 84, 82, 83, symbol=symbol, market="futures", contract="H")
        world.score(23, 20, symbol=symbol)
    world.trade(23)
    closed = world.sql("SELECT symbol, exit_price FROM trading.trade WHERE state = 'CLOSED'")
    assert closed == [{"symbol": "B", "exit_price": D(83)}]
    (order,) = world.sql("SELECT reason FROM trading.orders WHERE symbol = 'B' AND leg = 'STOP'")
    assert order["reason"] == "margin_call"
    world.holds()


def test_an_entry_that_its_margin_does_not_allow_is_cancelled_by_the_broker(new_world):
    world = futures(new_world, maintenance_margin="0.75")
    changed(world, execution={"stop_atr": "20"}, risk={"risk_per_trade": "0.9"})
    world.score(20, 50)
    world.trade(20)  # 225 contracts at 100: margin 45,000; at an open of 230 it would be 103,500
    world.bar(21, 230, 231, 229, 230, market="futures", contract="H")
    world.score(21, 20)
    world.trade(21)
    (order,) = world.sql("SELECT state, reason FROM trading.orders WHERE leg = 'ENTRY'")
    assert order == {"state": "CANCELED", "reason": "insufficient_margin"}
