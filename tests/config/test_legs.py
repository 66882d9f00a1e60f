"""[instrument.*] legs: what a spread takes from its legs, and a sentence for each way in which they make none."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphapivot.config.read import load
from alphapivot.errors import ConfigError

SMALL = (Path(__file__).parents[1] / "configs" / "small.ini").read_text()
PAIR = "[instrument.PAIR]\nlegs = {}\n"
OTHER = "[instrument.OTHER]\nspot = x\ncurrency = {}\ntick = 0.01\ncalendar = CMES\nmultiplier = {}\n"
SHARES = "[instrument.BETA]\nspot = b\ncurrency = USD\ntick = 0.01\ncalendar = XNYS\n"
ALPACA = "[broker.alpaca]\nkind = alpaca\ncurrency = USD\n"


@pytest.fixture
def read(tmp_path):
    def with_sections(*sections: str):
        file = tmp_path / "config.ini"
        file.write_text(SMALL.replace("[timeframes]", "\n".join([*sections, "[timeframes]"])))
        return load(file, {})

    return with_sections


def test_a_spread_is_quoted_per_unit_in_the_currency_and_hours_of_its_legs(read):
    settings = read(PAIR.format("SP500: 1, GOLD: -2.5"), "[instrument.AAA]\nlegs = GOLD: 1, SP500: -1\n")
    pair = settings.instruments["PAIR"]
    assert (pair.futures, pair.currency, pair.calendar) == ("-2.5 GOLD +1 SP500", "USD", "CMES")
    assert (pair.multiplier, pair.quote_unit, pair.tick) == (1, 1, type(pair.tick)("0.01"))
    assert pair.allow_nonpositive
    assert not pair.tradable
    assert settings.feed_of(pair) == "legs"
    assert pair.leg_terms == {leg: settings.instruments[leg] for leg in ("GOLD", "SP500")}
    assert type(settings).restore(settings.stored()) == settings.model_copy(update={"database": settings.database})


def test_a_spread_is_known_when_the_later_of_its_legs_is_published(read):
    late = "[feed.late]\nkind = simulated\npublication_lag = 20\n"
    other = OTHER.format("USD", 1) + "feed = late\n"
    settings = read(late, other, PAIR.format("SP500: 1, OTHER: -1"))
    assert settings.feeds["legs"].publication_lag == 20


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ([PAIR.format("SP500: 1, GLD: -2")], r"\[instrument.PAIR\] legs names GLD, which is not .* did you mean GOLD"),
        ([PAIR.format("SP500: 1, PAIR: -2")], r"legs names PAIR, the spread itself; expected one of SP500, GOLD"),
        ([PAIR.format("SP500: 1, P2: -2"), "[instrument.P2]\nlegs = GOLD: 1, SP500: 1\n"], "P2, which is a spread"),
        ([PAIR.format("SP500: 1, GOLD: 1"), "[feed.legs]\nkind = simulated\n"], r"\[feed.legs\] bears the name of the"),
        (["[feed.mine]\nkind = legs\n"], r"\[feed.mine\] kind = legs: no such kind of feed; did you mean files"),
        ([PAIR.format("SP500: 0, GOLD: 1")], "SP500 has the ratio 0; expected how many of it a unit holds"),
        ([PAIR.format("SP500: 1")], "legs names one instrument; expected at least two, such as"),
        ([PAIR.format("")], "legs is empty; expected such as legs = GOLD: 1"),
        ([PAIR.format("SP500 1, GOLD: 2")], "`SP500 1` should be name: value"),
        ([PAIR.format("SP500: one, GOLD: 2")], "legs = SP500: one, GOLD: 2: SP500: input should be a valid decimal"),
        ([PAIR.format("SP500: 1, BITCOIN: -2")], "SP500 end by CMES and those of BITCOIN by 24/7; expected legs with"),
        ([PAIR.format("SP500: 1, GOLD: 1") + "calendar = XNYS\n"], "calendar = XNYS: a spread takes it from its legs"),
        ([SHARES, PAIR.format("ALPHA: 1, BETA: -1") + "tradable = yes\nleg_prices = ALPHA: 5\n"], "no price of BETA"),
        (
            [PAIR.format("SP500: 1, GOLD: 1") + "tradable = yes\nleg_prices = SP500: 5000, GOLD: 2000\n"],
            "GOLD trades futures, and what its rolls cost",
        ),
        ([PAIR.format("SP500: 1, OTHER: 1"), OTHER.format("EUR", 1)], "SP500 is in USD and OTHER in EUR; expected"),
        (
            [PAIR.format("SP500: 1, OTHER: 1"), OTHER.format("USD", "1, 2024-01-02: 5")],
            "multiplier of OTHER changes on 2024-01-02",
        ),
    ],
)
def test_what_makes_no_spread_is_told(read, sections, message):
    with pytest.raises(ConfigError, match=message) as error:
        read(*sections)
    told = str(error.value).split("\n")[1:]
    assert len(told) == 1 or "trades futures" in told[-1], "one mistake, one sentence"


def test_a_spread_that_may_be_entered_is_margined_by_its_legs(read):
    traded = "tradable = yes\nleg_prices = ALPHA: 300, BETA: 50\n"
    settings = read(SHARES, PAIR.format("ALPHA: 1, BETA: -2") + traded)
    pair = settings.instruments["PAIR"]
    assert pair.tradable
    assert pair.leg_worths == {"ALPHA": 300, "BETA": 100}
    assert pair.worth(pair.tick) == 400  # whatever its price is
    assert pair.margin == 1  # shares are paid in full
    assert settings.instruments["ALPHA"].worth(-pair.tick) == pair.tick
    futures = read(PAIR.format("SP500: 1, GOLD: -2") + "leg_prices = SP500: 5000, GOLD: 2000\n")
    margin = futures.instruments["PAIR"].margin
    assert float(margin) == pytest.approx((0.07 * 5000 * 5 + 0.08 * 2 * 2000 * 10) / (5000 * 5 + 2 * 2000 * 10))


def test_a_broker_that_could_fill_one_leg_alone_takes_no_spread(read, monkeypatch):
    traded = "tradable = yes\nleg_prices = ALPHA: 300, BETA: 50\n"
    monkeypatch.setattr("tests.config.test_legs.SMALL", SMALL.replace("broker = paper", "broker = alpaca"))
    with pytest.raises(ConfigError, match=r"PAIR\] tradable = yes: a broker of kind alpaca .* takes no order for"):
        read(SHARES, ALPACA, PAIR.format("ALPHA: 1, BETA: -2") + traded)
    read(SHARES, ALPACA, PAIR.format("ALPHA: 1, BETA: -2"))
