"""config.ini and the environment -> Settings: as a user edits the file, and as a worker rebuilds what was frozen."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from alphapivot.config import read, settings
from alphapivot.config.sections import runtime
from alphapivot.config.sections.brokers import BROKERS
from alphapivot.config.sections.feeds import FEEDS, FeedSection
from alphapivot.config.sections.instrument import Instrument
from alphapivot.errors import ConfigError

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "config.ini", ROOT / "demo.ini", *sorted((ROOT / "tests" / "configs").glob("*.ini"))]


@pytest.fixture
def edit(tmp_path):
    """Loads config.ini after replacing texts in it, each of which must be there."""

    def load(*changes: tuple[str, str], environ=None, overrides=None) -> settings.Settings:
        text = (ROOT / "config.ini").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "config.ini"
        path.write_text(text)
        return read.load(path, environ or {}, overrides or {})

    return load


def mistakes(load, *changes, **named) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(*changes, **named)
    head, *lines = str(error.value).split("\n  ")
    assert head.endswith("config.ini cannot be used:")
    return lines


# --- the files in the checkout ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_of_the_checkout_is_good(path):
    loaded = read.load(path, {})
    assert loaded.instruments
    assert set(loaded.composite.weights) <= set(loaded.pillars)


def test_values_have_their_types():
    loaded = read.load(ROOT / "config.ini", {})
    instrument = loaded.instruments["SP500"]
    assert instrument.tick == Decimal("0.01")
    assert instrument.tradable is True
    assert loaded.timeframes.weights == {"1d": 1}
    assert loaded.pillars["trend"].channel == 80
    assert loaded.runtime.feed == "yahoo"
    assert loaded.instruments["CORN"].quote_unit == Decimal("0.01")


def test_the_demo_has_twelve_instruments_of_every_kind_on_a_market_that_stands_still():
    demo = read.load(ROOT / "demo.ini", {})
    assert len(demo.instruments) >= 12
    assert {i.trade_market for i in demo.instruments.values()} == {"spot", "futures"}
    assert {i.calendar for i in demo.instruments.values()} >= {"CMES", "XNYS", "24/7"}
    assert demo.feeds[demo.runtime.feed].kind == "simulated"
    assert demo.feeds[demo.runtime.feed].end is not None


def test_settings_cannot_be_changed():
    loaded = read.load(ROOT / "config.ini", {})
    with pytest.raises(ValidationError, match="frozen"):
        loaded.runtime.feed = "files"


def test_relative_folders_are_seen_from_the_config_file(edit, tmp_path):
    files = "[feed.mine]\nkind = files\nroot = prices\nzone = UTC\nstamp = end\n\n[feed.simulated]"
    loaded = edit(("[feed.simulated]", files))
    assert loaded.feeds["mine"].root == tmp_path / "prices"


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_every_mistake_is_told_at_once(edit):
    assert mistakes(
        edit,
        ("channel = 80", "channel = eighty\nchanel = 80"),
        ("calendar = 24/7", "; taken out"),
        ("[broker.paper]", "[brokr.paper]"),
        ("multiplier = 5\n", "multiplier = -5\n"),
        ("weights = 1d: 1 ", "weights = 1d: 0.7, 1w: 0.4 "),
    ) == [
        "[brokr.paper] is not a section; did you mean broker.paper?",
        "[instrument.RUSSELL] multiplier = -5: input should be greater than 0",
        f"[instrument.BITCOIN] calendar is missing ({Instrument.model_fields['calendar'].description})",
        "[pillar.trend] channel = eighty: input should be a valid integer",
        "[pillar.trend] chanel is not a key of this section; did you mean channel?",
        "there is no [broker.NAME] section; at least one is needed",
        "[timeframes] weights sum to 1.1; expected 1",
        "[execution] broker = paper: there is no [broker.paper]; none is defined",
    ]


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            "trend: 0.45",
            "trnd: 0.45",
            "[composite] weights name trnd, but there is no [pillar.trnd]; did you mean trend?",
        ),
        ("trend: 0.45", "trend: 0.35", "[composite] weights sum to 0.9; expected 1"),
        (
            "trend: 0.45, carry: 0.3, structure: 0.2, momentum: 0.05",
            "trend: 0, momentum: 1",
            "[composite] weights = trend: 0, momentum: 1: trend: input should be greater than 0",
        ),
        (
            "gates = quality: 0, ",
            "gates = trend: 0, ",
            "[composite] gates name trend, which has no gate; put it in weights",
        ),
        (
            "optional = carry",
            "optional = cary",
            "[composite] optional names cary, which has no weight; did you mean carry?",
        ),
        (
            "optional = carry",
            "optional = carry, momentum, structure, trend",
            "[composite] optional names all pillars of weights; expected at least one that must be known",
        ),
        ("base = 1d", "base = 1h", "[timeframes] weights lack the base, 1h; they name 1d"),
        (
            "weights = 1d: 1 ",
            "weights = 1d: 0.7, 5m: 0.3 ",
            "[timeframes] weights name 5m, which is not a multiple of base = 1d",
        ),
        (
            "weights = 1d: 1 ",
            "weights = 1d: 0.7, 1month: 0.3 ",
            "[timeframes] weights name 1month: no such interval; expected one of 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w",
        ),
        ("feed = yahoo", "feed = yaho", "[runtime] feed = yaho: there is no [feed.yaho]; did you mean yahoo?"),
        (
            "spot = AAPL",
            "feed = ib\nspot = AAPL",
            "[instrument.APPLE] feed = ib: there is no [feed.ib]; expected one of yahoo, simulated",
        ),
        ("spot = AAPL", "futures = AAPL", "has no spot key (the ticker)"),
        (
            "spot = AAPL",
            "spot = AAPL\nspot_interval = 1w",
            "[instrument.APPLE] spot_interval = 1w does not divide [timeframes] base = 1d",
        ),
        ("calendar = 24/7", "calendar = XNYX", "calendar = XNYX: unknown to exchange_calendars; did you mean"),
        ("shards = 2", "shards = 40", "[runtime] shards = 40: more than the 13 instruments"),
        (
            "broker = paper",
            "broker = papr",
            "[execution] broker = papr: there is no [broker.papr]; did you mean paper?",
        ),
        ("kind = yahoo", "kind = yaho", "[feed.yahoo] kind = yaho: no such kind of feed; did you mean yahoo?"),
        (
            "kind = yahoo",
            "; none",
            (
                "[feed.yahoo] kind is missing (alpaca or ccxt or databento or files or http or ib or kite or"
                " simulated or yahoo)"
            ),
        ),
        ("[pillar.trend]", "[pillar.trned]", "[pillar.trned]: no such pillar; did you mean trend?"),
        (
            "[composite]",
            "[rule.trend]\nwhen = 1\n\n[composite]",
            "[rule.trend] is not a section; write it as [rule.PILLAR.NAME]",
        ),
        ("[execution]\n", "[excution]\n", "[excution] is not a section; did you mean execution?"),
        ("[runtime]\n", "[runtme]\n", "[runtime] is missing; required keys: feed (the [feed.*] that instruments use"),
        ("currency = USD\nslipp", "currency = usd\nslipp", "[broker.paper] currency = usd: should be the ISO code"),
        ("start = 2019-01-01", "start = 2019-13-01", "[feed.simulated] start = 2019-13-01: month must be in 1..12"),
        ("start = 2019-01-01", "start = 2019-01-01\nend = 2018-01-01", "end = 2018-01-01 is not after start"),
        ("risk_per_trade = 0.01", "risk_per_trade = 1.5", "[risk] risk_per_trade = 1.5: input should be less than 1"),
        ("timeout = 20", "timeout = inf", "[feed.yahoo] timeout = inf: input should be a finite number"),
        ("full = 1.1 ", "full = nan ", "[pillar.momentum] full = nan: input should be a finite number"),
        ("cross_weight = 60 ", "cross_weight = 50 ", "[pillar.trend]: "),
        ("tick = 0.1\n", "tick = 0.1\nsymbol = X\n", "[instrument.RUSSELL] symbol is not a key of this section"),
    ],
)
def test_a_mistake_is_told_where_it_is(edit, old, new, mistake):
    messages = mistakes(edit, (old, new))
    assert any(mistake in line for line in messages), messages


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.ini cannot be used:\n  no such file"):
        read.load(tmp_path / "nowhere.ini", {})


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "config.ini").write_bytes(b"[runtime]\nfeed = \xff\xfe\n")
    with pytest.raises(ConfigError, match="byte 17 is not UTF-8 text"):
        read.load(tmp_path / "config.ini", {})


def test_an_empty_file_lacks_what_has_no_default(tmp_path):
    (tmp_path / "config.ini").write_text("")
    assert mistakes(lambda: read.load(tmp_path / "config.ini", {})) == [
        "[runtime] is missing; required keys: feed (the [feed.*] that instruments use unless they name another)",
        "there is no [feed.NAME] section; at least one is needed",
        "there is no [instrument.SYMBOL] section; at least one is needed",
        "there is no [broker.NAME] section; at least one is needed",
        "[execution] broker = paper: there is no [broker.paper]; none is defined",
    ]


# --- the environment --------------------------------------------------------------------------------------------------


def test_the_environment_overrides_any_key(edit):
    environ = {
        "ALPHAPIVOT_PILLAR_TREND__CHANNEL": "60",
        "ALPHAPIVOT_INSTRUMENT_SP500__TICK": "0.5",
        "alphapivot_risk__max_open_trades": "3",
        "ALPHAPIVOT_EXECUTION__MIN_GATE": "0.5",
        "PATH": "untouched",
    }
    loaded = edit(environ=environ)
    assert loaded.pillars["trend"].channel == 60
    assert loaded.instruments["SP500"].tick == Decimal("0.5")
    assert loaded.risk.max_open_trades == 3
    assert loaded.execution.min_gate == 0.5


def test_an_override_is_checked_like_the_file(edit):
    assert mistakes(edit, environ={"ALPHAPIVOT_RISK__MAX_OPEN_TRADES": "many"}) == [
        "[risk] max_open_trades = many: input should be a valid integer"
    ]


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("ALPHAPIVOT_RISK__MAX_OPEN_TRADE", "did you mean ALPHAPIVOT_RISK__MAX_OPEN_TRADES?"),
        ("ALPHAPIVOT_PILLAR_TRND__CHANNEL", "did you mean ALPHAPIVOT_PILLAR_TREND__CHANNEL?"),
        ("ALPHAPIVOT_DATABASE_URL", "did you mean ALPHAPIVOT_DATABASE__URL?"),
        ("ALPHAPIVOT_XYZ__Q", "write ALPHAPIVOT_SECTION__KEY"),
    ],
)
def test_a_variable_that_names_no_key_is_a_mistake(edit, variable, near):
    assert mistakes(edit, environ={variable: "1"}) == [f"{variable} in the environment matches no key; {near}"]


def test_our_other_variables_are_no_overrides(edit):
    edit(environ={"ALPHAPIVOT_HOME": "/x", "ALPHAPIVOT_CONFIG": "/y", "ALPHAPIVOT_LIVE": "no"})


def test_a_variable_that_could_mean_two_sections_is_a_mistake(edit):
    feeds = "[feed.a_b]\nkind = simulated\n\n[feed.a-b]\nkind = simulated\n\n[feed.yahoo]"
    messages = mistakes(edit, ("[feed.yahoo]", feeds), environ={"ALPHAPIVOT_FEED_A_B__SEED": "1"})
    assert messages == ["ALPHAPIVOT_FEED_A_B__SEED could mean [feed.a_b] seed or [feed.a-b] seed"]


def test_the_environment_names_the_file(edit, tmp_path):
    edit(("shards = 2", "shards = 3"))
    assert read.load(None, {"ALPHAPIVOT_CONFIG": str(tmp_path / "config.ini")}).runtime.shards == 3


def test_the_feed_of_the_command_line_holds_for_every_instrument(edit):
    change = ("spot = AAPL", "feed = yahoo\nspot = AAPL")
    assert edit(change).instruments["APPLE"].feed == "yahoo"
    loaded = edit(change, overrides={"runtime.feed": "simulated"})
    assert loaded.instruments["APPLE"].feed is None
    assert loaded.runtime.feed == "simulated"
    assert mistakes(edit, overrides={"runtime.feed": "simulatd"}) == [
        "[runtime] feed = simulatd: there is no [feed.simulatd]; did you mean simulated?"
    ]


# --- secrets ---------------------------------------------------------------------------------------------------------

URL = "postgresql://me:hush@db.example.org/desk"


def test_a_password_in_the_file_is_a_mistake_that_is_not_repeated(edit):
    for url in (URL, "postgresql://me@db.example.org/desk?password=hush"):
        messages = mistakes(edit, ("[database]", f"[database]\nurl = {url}"))
        assert messages == ["[database] url contains a password; put the whole address into ALPHAPIVOT_DATABASE__URL"]


def test_a_password_is_shown_by_nothing(edit):
    loaded = edit(environ={"ALPHAPIVOT_DATABASE__URL": URL})
    assert loaded.database.url.get_secret_value() == URL
    for shown in (
        repr(loaded),
        str(loaded),
        loaded.model_dump_json(),
        json.dumps(loaded.stored()),
        str(loaded.database),
    ):
        assert "hush" not in shown
    assert "example.org" not in json.dumps(loaded.stored())


@pytest.mark.parametrize("url", ["mysql://me:hush@host/db", "me:hush@host", "postgresql//me:hush@host"])
def test_a_wrong_address_is_refused_without_showing_it(edit, url):
    messages = mistakes(edit, environ={"ALPHAPIVOT_DATABASE__URL": url})
    assert messages == ["[database] url = ***: should be postgresql://user@host/name"]


def test_a_password_in_a_line_that_is_no_setting_is_not_shown(edit):
    messages = mistakes(edit, ("[database]", f"[database]\n{URL}?a=b\n{URL}"))
    assert len(messages) == 2
    assert "hush" not in "".join(messages)


def test_the_address_is_found_though_the_rest_of_the_file_is_wrong(tmp_path):
    path = tmp_path / "config.ini"
    path.write_text("[database]\nurl = postgresql://me@host/desk\n[risk]\nnonsense = 1\n")
    environ = {"ALPHAPIVOT_CONFIG": str(path), "ALPHAPIVOT_RISK__NONSENSE": "2"}
    assert read.database(environ).url.get_secret_value() == "postgresql://me@host/desk"
    assert read.database({**environ, "ALPHAPIVOT_DATABASE__URL": URL}).url.get_secret_value() == URL
    path.write_text("[risk]\n")
    assert read.database(environ).url is None
    with pytest.raises(ConfigError, match="did you mean ALPHAPIVOT_DATABASE__URL"):
        read.database({**environ, "ALPHAPIVOT_DATABASE_URL": URL})


def test_an_empty_address_is_a_mistake_and_not_the_embedded_server(edit):
    assert mistakes(edit, environ={"ALPHAPIVOT_DATABASE__URL": ""})[0].startswith(
        "[database] url = ***: empty; expected"
    )


# --- what a run keeps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_settings_come_back_from_what_a_run_stored(path):
    loaded = read.load(path, {})
    shuffled = json.loads(json.dumps(loaded.stored(), sort_keys=True))
    restored = settings.Settings.restore(shuffled)
    # the database's address is not stored: it belongs to the machine
    assert restored == loaded.model_copy(update={"database": runtime.Database()})
    assert restored.hash() == loaded.hash()
    assert list(restored.composite.weights) == list(loaded.composite.weights)
    assert type(restored.pillars["trend"]) is type(loaded.pillars["trend"])


def test_a_decimal_is_stored_with_all_its_digits(edit):
    loaded = edit(("tick = 0.0001", "tick = 0.000100000000000000000001"))
    stored = json.loads(json.dumps(loaded.stored()))
    assert stored["instruments"]["EURUSD"]["tick"] == "0.000100000000000000000001"
    assert settings.Settings.restore(stored).instruments["EURUSD"].tick == Decimal("0.000100000000000000000001")


def test_the_hash_tells_a_change_and_nothing_else(edit):
    plain = edit().hash()
    assert edit(("trend: 0.45, carry: 0.3", "carry: 0.3, trend: 0.45")).hash() == plain
    assert edit(environ={"ALPHAPIVOT_DATABASE__URL": URL}).hash() == plain
    assert edit(("channel = 80", "channel = 81")).hash() != plain
    assert edit(environ={"ALPHAPIVOT_RISK__MAX_OPEN_TRADES": "3"}).hash() != plain


def test_the_hash_is_the_same_in_another_process():
    code = "from pathlib import Path; from alphapivot.config.read import load; print(load(Path('demo.ini')).hash())"
    env = {k: v for k, v in os.environ.items() if not k.startswith("ALPHAPIVOT_")} | {"PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == read.load(ROOT / "demo.ini", {}).hash()


def test_a_config_that_this_code_cannot_take_is_refused_in_words():
    stored = read.load(ROOT / "demo.ini", {}).stored()
    stored["risk"]["forgotten"] = 1
    stored["pillars"]["gone"] = {}
    with pytest.raises(ConfigError, match="start a new run") as error:
        settings.Settings.restore(stored)
    assert "risk.forgotten" in str(error.value)
    assert "no such pillar: gone" in str(error.value)


def test_shards_are_the_whole_universe_once():
    demo = read.load(ROOT / "demo.ini", {})
    pieces = [demo.shard(i) for i in range(demo.runtime.shards)]
    assert sorted(i.symbol for piece in pieces for i in piece) == sorted(demo.instruments)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


# --- Interactive Brokers ----------------------------------------------------------------------------------------------


def test_feed_and_broker_do_not_take_one_client_id_from_each_other(tmp_path):
    written = (ROOT / "demo.ini").read_text() + "\n[feed.ib]\nkind = ib\n[broker.ib]\nkind = ib\ncurrency = USD\n"
    (tmp_path / "good.ini").write_text(written)
    assert read.load(tmp_path / "good.ini", {}).feeds["ib"].client_id == 18
    (tmp_path / "bad.ini").write_text(written.replace("[broker.ib]", "client_id = 17\n[broker.ib]"))
    with pytest.raises(ConfigError, match=r"client_id = 17 is that of \[feed.ib\]: a gateway takes each id once"):
        read.load(tmp_path / "bad.ini", {})


@pytest.mark.parametrize(
    ("splits", "told"),
    [("GOLD: 2020-08-31", "such as 2020-08-31 4"), ("GOLD: 2020-08-31 0", "such as"), ("NONE: 2020-08-31 4", "NONE")],
)
def test_splits_that_cannot_be_read_are_told(tmp_path, splits, told):
    written = (ROOT / "demo.ini").read_text() + f"\n[feed.ib]\nkind = ib\nsplits = {splits}\n"
    (tmp_path / "bad.ini").write_text(written)
    with pytest.raises(ConfigError, match=r"\[feed.ib\] splits") as error:
        read.load(tmp_path / "bad.ini", {})
    assert told in str(error.value)


# --- registries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", [*FEEDS.values(), *BROKERS.values()], ids=lambda section: section.__name__)
def test_every_kind_of_feed_and_broker_names_what_opens_it(section):
    assert callable(pkgutil.resolve_name(section.opens))
    registry = FEEDS if issubclass(section, FeedSection) else BROKERS
    assert registry[section.model_fields["kind"].default] is section
