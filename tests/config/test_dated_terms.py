"""Terms of an instrument that change on a date: what is written, and which are in force."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from alphapivot.calendar import expiry
from alphapivot.config.sections.instrument import Instrument
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
