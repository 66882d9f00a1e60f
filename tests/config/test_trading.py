"""The trading sections of config.ini: each key explained, each example valid, contradictions reported."""

import re
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import get_args

import pytest

from alphapivot.config import read, settings
from alphapivot.config.sections import brokers, runtime, trading
from alphapivot.config.sections.instrument import Kind
from alphapivot.errors import ConfigError
from alphapivot.execution.decide.limits import risk_day

TEXT = (Path(__file__).parents[2] / "config.ini").read_text()
SECTIONS = {
    "execution": trading.ExecutionSettings,
    "entry": trading.EntrySettings,
    "exit": trading.ExitSettings,
    "sizing": trading.SizingSettings,
    "risk": trading.RiskSettings,
    "protections": trading.ProtectionSettings,
    "broker.paper": brokers.PaperBroker,
    "broker.alpaca": brokers.AlpacaBroker,
}
NOT_FOR_USERS = {"tables", "base_url", "currency", "kind"}


def lines(name):
    """A section's keys in config.ini, including those commented out."""
    section = re.search(rf"^(?:# )?\[{re.escape(name)}\].*?(?=^(?:# )?\[|\Z)", TEXT, flags=re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^(?:# )?([a-z_]+) = ([^;\n]*)", section.group(0), flags=re.MULTILINE))


@pytest.mark.parametrize("name", SECTIONS)
def test_config_ini_explains_every_key(name):
    assert SECTIONS[name].model_fields.keys() - lines(name).keys() <= NOT_FOR_USERS
    assert lines(name).keys() <= SECTIONS[name].model_fields.keys()


def test_every_example_that_is_commented_out_is_good(tmp_path):
    text = TEXT
    for name in ("entry", "exit", "sizing", "risk", "protections", "broker.paper"):
        section = re.search(rf"^\[{re.escape(name)}\].*?(?=^(?:# )?\[|\Z)", TEXT, flags=re.MULTILINE | re.DOTALL).group(
            0
        )
        text = text.replace(section, re.sub(r"^# ([a-z_]+ = )", r"\1", section, flags=re.MULTILINE))
    path = tmp_path / "config.ini"
    path.write_text(text)
    loaded = read.load(path, {})
    assert loaded.risk.max_quantity == {"CORN": 40, "SP500": 10}
    assert (loaded.exit.trail_atr, loaded.protections.stops_in_a_row) == (3, 4)
    assert loaded.entry.allows(time(9, 45))
    assert not loaded.entry.allows(time(12))
    assert settings.Settings.restore(loaded.stored()) == loaded.model_copy(update={"database": runtime.Database()})


def test_what_is_off_by_default_is_off_in_the_shipped_files():
    for name in ("config.ini", "demo.ini"):
        loaded = read.load(Path(__file__).parents[2] / name, {})
        assert loaded.entry == trading.EntrySettings()
        assert loaded.exit == trading.ExitSettings()
        assert loaded.sizing == trading.SizingSettings()
        assert loaded.protections == trading.ProtectionSettings()
        assert loaded.execution.mode == "paper"


@pytest.mark.parametrize(
    ("overrides", "mistake"),
    [
        ({"exit.session_end": "yes"}, "[exit] session_end = yes needs an intraday base, but [timeframes] base = 1d"),
        (
            {"broker.paper.fees": "metals: 3 each"},
            (
                "[broker.paper] fees names metals, which is neither an [instrument.*] nor a group nor one of crypto,"
                " fx, shares, futures; did you mean metal?"
            ),
        ),
        ({"broker.paper.fees": "metal: 3"}, "should be such as 0.5 bps, 2.25 each, or 0.5 bps + 2.25 each"),
        (
            {"risk.max_quantity": "SP50: 3"},
            "[risk] max_quantity names SP50, which is not an [instrument.*]; did you mean SP500?",
        ),
        (
            {"entry.windows": "15:30-09:45"},
            "[entry] windows = 15:30-09:45: 0: should be from-to within one day, such as",
        ),
        ({"exit.trail_atr": "-1"}, "[exit] trail_atr = -1: input should be greater than 0"),
        ({"risk.day_zone": "Mars"}, "[risk] day_zone = Mars: no such time zone; give one such as Europe/Berlin"),
        ({"risk.day_starts": "25:00"}, "[risk] day_starts = 25:00"),
        ({"execution.mode": "real"}, "[execution] mode = real: input should be 'paper', 'shadow' or 'live'"),
    ],
)
def test_a_contradiction_is_told(overrides, mistake):
    with pytest.raises(ConfigError) as error:
        read.load(None, {}, overrides)
    assert mistake in str(error.value)


def test_the_fee_of_a_symbol_comes_before_that_of_its_group_and_that_before_its_kind():
    fees = "CORN: 3 each, energy: 1 bps + 2 each, futures: 4 bps"
    loaded = read.load(None, {}, {"broker.paper.fees": fees})
    broker = loaded.brokers["paper"]

    def fee(symbol: str) -> tuple[float, ...]:
        return tuple(map(float, broker.fee(loaded.instruments[symbol], "BUY", date(2026, 1, 5))))

    found = {symbol: fee(symbol) for symbol in ("CORN", "CRUDE", "EURUSD")}
    assert found == {"CORN": (0, 3), "CRUDE": (1, 2), "EURUSD": (4, 0)}
    assert fee("APPLE") == (broker.fee_bps, 0)  # there are no contracts there


def test_the_shipped_fees_name_every_kind_of_market():
    assert set(read.load(None, {}, {}).brokers["paper"].fees) == set(get_args(Kind))


def test_the_risk_day_begins_where_the_book_says():
    plain = read.load(None, {}).risk
    chicago = plain.model_copy(update={"day_starts": "17:00", "day_zone": "America/Chicago"})
    before, after = datetime(2026, 1, 5, 22, 59, tzinfo=UTC), datetime(2026, 1, 5, 23, 0, tzinfo=UTC)
    assert [risk_day(at, plain).day for at in (before, after)] == [5, 5]
    assert [risk_day(at, chicago).day for at in (before, after)] == [4, 5]
