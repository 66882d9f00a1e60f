"""Terms of an instrument that change on a date: what is written, and which are in force."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from alphapivot.calendar import expiry, schedule
from alphapivot.config import read
from alphapivot.config.sections.instrument import Instrument, hours_by_market
from alphapivot.errors import ConfigError, DataError
from tests.rigs import instrument


def dated(**terms):
    return Instrument.model_validate(instrument("A", "a").model_dump(mode="json") | terms)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_each_session_has_the_terms_of_its_date():
    made = dated(lot="25, 2024-03-06: 75, 2024-03-08: 65", tick="0.01, 2024-03-06: 0.05")
    assert [(v.lot, v.tick) for v in made.versions] == [
        (25, Decimal("0.01")),
        (75, Decimal("0.05")),
        (65, Decimal("0.05")),
    ]
    # an order sent after a close is for the next session; a bar belongs to the session that it ends
    assert [made.trading(at(t)).lot for t in ("2024-03-05T20:59", "2024-03-05T21:00")] == [25, 75]
    assert [made.during(at(t)).lot for t in ("2024-03-05T21:00", "2024-03-06T21:00", "2024-03-11T20:00")] == [
        25,
        75,
        65,
    ]
    assert Instrument.model_validate(made.model_dump(mode="json")) == made
    plain = dated(lot="25")
    assert plain.trading(at("2024-03-05T21:00")) is plain


@pytest.mark.parametrize("lot", ["25, 75", "2024-03-06: 75", "25, 2024-03-06: 75, 2024-03-05: 65", "25, 2024-03-06: x"])
def test_what_cannot_be_read_is_told_with_an_example(lot):
    with pytest.raises(
        ValueError, match=r"lot = 25.*expected.* lot = 25, 2024-11-20: 75|lot = 2024-03-06: 75.*expected"
    ):
        dated(lot=lot)
    with pytest.raises(ValueError, match="later is no key"):
        dated(later="2024-03-06: 75")
    with pytest.raises(ValueError, match="greater than 0"):
        dated(lot="25, 2024-03-06: 0")


def test_an_expiry_rule_changes_with_the_contract_month():
    """NSE moved the last trading day from Thursday to Tuesday with the contracts of September 2025."""
    rule = "last thursday, 2025-09-01: last tuesday"
    days = [expiry.day(rule, 2025 * 12 + month - 1, "XBOM") for month in (7, 8, 9, 10)]
    assert days == [np.datetime64(day) for day in ("2025-07-31", "2025-08-28", "2025-09-30", "2025-10-28")]
    assert expiry.rule(rule) == rule
    with pytest.raises(ValueError, match="begin with the rule before it"):
        expiry.rule("2025-09-01: last tuesday")


def test_a_contract_has_the_lot_of_its_month():
    """NSE: lots of NIFTY change with the contracts of a month, not on a date: 75 to 65 with January 2026."""
    made = dated(lot="25, 2024-11-20: 75, 2026-01: 65", futures="NIFTY*.csv", trade_market="futures")
    now = made.trading(at("2025-12-29T05:00"))
    lots = [
        now.of(name, at("2025-12-29T05:00")).lot for name in ("NIFTY25DECFUT", "NIFTY26JANFUT", "NIFTY26FEBFUT", "")
    ]
    assert lots == [75, 65, 65, 75]
    assert made.trading(at("2024-11-19T05:00")).of("NIFTY24NOVFUT", at("2024-11-19T05:00")).lot == 25
    assert [v.lot for v in made.versions] == [25, 75, 65]
    assert Instrument.model_validate(made.model_dump(mode="json")) == made
    with pytest.raises(DataError, match="'FRONT' has no month"):
        now.of("FRONT", at("2025-12-29T05:00"))


def test_hours_of_a_market_that_an_instrument_lacks_are_a_mistake(tmp_path):
    text = (Path(__file__).parents[1] / "configs" / "small.ini").read_text()
    (tmp_path / "config.ini").write_text(text.replace("tick = 0.01\n", "tick = 0.01\nfutures_session = 09:30-16:00\n"))
    told = r"\[instrument.ALPHA\] futures_session has no effect: the section has no futures key \(the ticker\)"
    with pytest.raises(ConfigError, match=told):
        read.load(tmp_path / "config.ini", {})


def test_each_market_has_its_own_hours():
    made = dated(calendar="NSE")
    closes = {m: schedule.of(made.hours_of(m)).closes[-1] for m in ("spot", "futures")}
    assert closes["futures"] - closes["spot"] == np.timedelta64(5, "m")  # 15:40 and 15:35 since August 2026
    assert made.session_of(at("2026-08-03T10:05")) == date(2026, 8, 3)
    own = dated(calendar="XNYS", session="10:00-15:00", futures_session="09:00-17:00")
    assert [own.hours_of(m).session for m in ("spot", "futures")] == ["10:00-15:00", "09:00-17:00"]
    assert own.trading_hours == own.hours_of(own.trade_market)
    assert hours_by_market([own])["A", "futures"].session == "09:00-17:00"
