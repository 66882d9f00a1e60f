"""When contracts expire: exchanges' published last days, deadlines in sessions, and roll files."""

import numpy as np
import pandas as pd
import pytest

from alphapivot.calendar import expiry
from alphapivot.config.sections.feeds import FilesFeed, SimulatedFeed
from alphapivot.config.sections.instrument import Instrument
from alphapivot.data import roll_policy
from alphapivot.data.roll_policy import Policy
from alphapivot.errors import ConfigError, DataError


def month(text):
    year, number = text.split("-")
    return int(year) * 12 + int(number) - 1


@pytest.mark.parametrize(
    ("rule", "calendar", "contract", "last"),
    [
        ("third friday", "CMES", "2013-12", "2013-12-20"),  # E-mini S&P 500
        ("third friday", "CMES", "2008-03", "2008-03-20"),  # the 21st was Good Friday
        ("last session - 1", "XHKG", "2013-10", "2013-10-30"),  # Hang Seng: the files end on these days
        ("last session - 1", "XHKG", "2013-11", "2013-11-28"),
        ("third wednesday - 2", "CMES", "2023-09", "2023-09-18"),  # euro: Monday before the third Wednesday
        ("day 25 - 3 of month -1", "CMES", "2020-05", "2020-04-21"),  # crude oil, a day after it closed at -37.63
        ("last session - 2", "CMES", "2023-08", "2023-08-29"),  # gold: the third last business day
        ("last session of month -1", "CMES", "2023-08", "2023-07-31"),  # gold's first notice
        ("first session", "XNYS", "2024-01", "2024-01-02"),
        ("last monday", "XNYS", "2024-05", "2024-05-24"),  # the 27th was Memorial Day
        ("day 31", "24/7", "2024-02", "2024-02-29"),
    ],
)
def test_rules_name_the_exchanges_days(rule, calendar, contract, last):
    assert str(expiry.day(rule, month(contract), calendar)) == last


def test_what_lies_beyond_the_calendar_has_no_day():
    assert np.isnat(expiry.day("third friday", month("2200-03"), "CMES"))
    assert np.isnat(expiry.day("third friday", month("1960-03"), "CMES"))


@pytest.mark.parametrize("text", ["3rd friday", "fifth friday", "day 0", "day 32", "last session + 1", ""])
def test_what_is_no_rule_says_how_one_looks(text):
    with pytest.raises(ValueError, match="such as third friday, last session - 1, or day 25"):
        expiry.rule(text)


def test_the_deadline_lies_so_many_sessions_before_the_earlier_of_notice_and_last_trade():
    gold = Policy(
        before=2, calendar="CMES", last_trade="last session - 2", first_notice="last session of month -1", by="volume"
    )
    # first notice 31 July 2023, a Monday; two sessions before it is Thursday the 27th, which ends at 17:00 in Chicago
    assert gold.deadlines(["GCQ3"], [month("2023-08")]).tolist() == [pd.Timestamp("2023-07-27 22:00").to_pydatetime()]


def test_dates_go_before_rules_and_a_contract_without_either_has_no_deadline():
    policy = Policy(calendar="XNYS", last_trade_dates={"A": "2024-07-04"})
    deadlines = policy.deadlines(["A", "B"], [month("2024-07"), month("2024-08")])
    # Independence Day has no session: the one before, which closed at 13:00
    assert deadlines[0] == np.datetime64("2024-07-03T17:00")
    assert np.isnat(deadlines[1])
    dated = Policy(calendar="XNYS", last_trade="third friday", last_trade_dates={"A": "2024-07-10"})
    assert [str(d) for d in dated.ends(["A", "B"], [month("2024-07")] * 2)] == ["2024-07-10", "2024-07-19"]


def instrument(**own):
    terms = {"futures": "x.csv", "signal_market": "futures", "trade_market": "futures", "currency": "USD"}
    numbers = {"quote_unit": 1, "multiplier": 1, "tick": "0.01", "lot": 1, "margin": "0.1", "tradable": True}
    return Instrument(**({"symbol": "X", "calendar": "CMES"} | terms | numbers | own))


PUBLISHED = """DATE_TIME,current_contract,next_contract
2024-03-08 23:00:00,20240300,20240600
2024-06-11 14:30:00,20240600,20240900
"""
PRICES = """DATETIME,PRICE_CONTRACT,PRICE
2024-06-10 23:00:00,20240600,1
2024-09-09 15:00:00,20240900,1
2024-09-10 15:00:00,20240900,1
2024-09-10 16:00:00,20241200,1
2024-09-11 15:00:00,20241200,1
"""
FILES = {
    "roll": "calendar",
    "roll_calendar": "rolls.csv: DATE_TIME + next_contract",
    "roll_followed": "prices.csv: DATETIME + PRICE_CONTRACT",
}


def feed(folder):
    (folder / "rolls.csv").write_text(PUBLISHED)
    (folder / "prices.csv").write_text(PRICES)
    return FilesFeed(root=folder, zone="UTC", stamp="date")


def test_published_rolls_hold_to_their_end_and_then_what_the_source_takes_for_the_front(tmp_path):
    wanted = roll_policy.policy(instrument(**FILES), feed(tmp_path)).wanted
    assert [(f"{ts:%Y-%m-%d %H:%M}", contract) for ts, contract in wanted.items()] == [
        ("2024-03-08 23:00", "20240600"),
        # stamped within the 11th: known beforehand, so decided at the end of the 10th
        ("2024-06-10 22:00", "20240900"),
        # the source changed during 10 September: known when that session is over
        ("2024-09-10 22:00", "20241200"),
    ]


def test_a_file_of_rolls_that_cannot_be_read_says_where_and_what(tmp_path):
    section = feed(tmp_path)
    with pytest.raises(DataError, match=r"\[instrument.X\] roll_calendar: .*none.csv cannot be read"):
        roll_policy.policy(instrument(roll="calendar", roll_calendar="none.csv: a + b"), section)
    with pytest.raises(DataError, match="has no column 'next'; it has DATE_TIME, current_contract, next_contract"):
        roll_policy.policy(instrument(roll="calendar", roll_calendar="rolls.csv: DATE_TIME + next"), section)
    (tmp_path / "rolls.csv").write_text(PUBLISHED + "soon,20240900,20241200\n")
    with pytest.raises(DataError, match=r"rolls.csv, line 4: got soon, expected a date"):
        roll_policy.policy(instrument(**FILES), section)
    with pytest.raises(
        ConfigError, match=r"\[instrument.X\] roll_calendar and roll_followed need a feed of kind files"
    ):
        roll_policy.policy(instrument(**FILES), SimulatedFeed())


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"roll": "calendar"}, "roll = calendar needs last_trade, first_notice or a roll_calendar"),
        ({"roll_before": 3}, "roll_before = 3 needs last_trade or first_notice to count from"),
        ({"roll": "volume", "roll_calendar": "a.csv: b + c"}, "roll = volume takes no roll_calendar"),
        ({"roll_calendar": "a.csv"}, "a file and two of its columns, such as rolls.csv: DATE_TIME"),
        ({"last_trade": "third frday"}, "should be a rule such as third friday"),
        ({"session": "9 to 5"}, "should be hours such as 09:00-17:30"),
        ({"session_zone": "Europe/Berln"}, "no such time zone"),
    ],
)
def test_terms_that_cannot_be_kept_are_refused(own, message):
    with pytest.raises(ValueError, match=message):
        instrument(**own)


def test_terms_come_back_from_what_a_run_stores():
    given = instrument(
        **FILES, session="17:00-16:00", breaks="15:15-15:30, 2021-06-28: none", last_trade="third friday"
    )
    again = Instrument.model_validate(given.model_dump(mode="json"))
    assert again == given
    assert again.hours == given.hours
