"""`kind = MODULE:CLASS`: the example of the docs through ingestion, and what is wrong with a class."""

from __future__ import annotations

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from alphapivot import hub, process
from alphapivot.config import plugins, read
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError, DataError
from alphapivot.feeds.registry import open_feed
from alphapivot.frames import Bars
from tests.tasks.market import Market

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text()
SECTION = PAGE[PAGE.index("## A feed of your own") : PAGE.index("## Alpaca")]
CODE, INI = (re.search(rf"```{kind}\n(.*?)```", SECTION, re.DOTALL)[1] for kind in ("python", "ini"))
DAYS = ["2024-07-01", "2024-07-02", "2024-07-03", "2024-07-05"]  # a half day and a holiday


@pytest.fixture
def example(tmp_path, hub_url, monkeypatch):
    """The docs' file, its config with a share of 0.01 ticks, and its database of four days."""
    market = Market(tmp_path, hub_url, monkeypatch)
    (tmp_path / "my-plugins").mkdir()
    (tmp_path / "my-plugins" / "my_feed.py").write_text(CODE)
    with closing(sqlite3.connect(tmp_path / "prices.db")) as connection:
        connection.execute("CREATE TABLE bars (ticker, day, open, high, low, close, volume)")
        rows = [("SPY", day, 100 + n, 102 + n, 99 + n, 101 + n, 1000) for n, day in enumerate(DAYS)]
        connection.executemany("INSERT INTO bars VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
    market.configure({"X": {"spot": "SPY", "feed": "mine"}, "Y": {"spot": "NONE", "feed": "mine"}}, INI)
    yield market
    plugins.load(None, ())


def test_the_example_of_the_docs_is_ingested(example):
    receipt = example.ingest("2024-07-05 23:00", feed="mine")
    bars = hub.connect().read(Bars)
    bars = bars[bars["interval"] == "1d"].sort_values("ts")
    ends = ["2024-07-01 20:00", "2024-07-02 20:00", "2024-07-03 17:00", "2024-07-05 20:00"]
    assert [f"{ts:%Y-%m-%d %H:%M}" for ts in bars["ts"]] == ends
    assert bars["close"].tolist() == [101, 102, 103, 104]
    assert set(bars["source"]) == {"mine"}
    assert any("Y spot 1d: " in note and "has no 1d bars of it" in note for note in receipt.notes)


def test_its_file_needs_no_pillar_and_another_process_finds_it_by_what_the_run_stored(example):
    stored = example.settings.stored()
    plugins.load(None, ())
    restored = Settings.restore(stored)
    assert restored.feeds["mine"].database == example.folder / "prices.db"
    assert restored.hash() == example.settings.hash()
    assert open_feed("mine", restored.feeds["mine"]).limits == {}


@pytest.mark.parametrize(
    ("kind", "code", "told"),
    [
        ("your_feed:MyFeed", CODE, "there is no module your_feed: expected your_feed.py in the folder"),
        ("my_feed:Myfeed", CODE, "my_feed.py has no class 'Myfeed'; did you mean MyFeed?"),
        ("my_feed:MyFeed", CODE.replace("def fetch", "def fetched"), "MyFeed has no method fetch; expected fetch(self"),
        ("my_feed:MyFeed", CODE.replace("self, name, section", "self"), "__init__ takes (self); expected (self, name"),
        ("my_feed:MyFeed", CODE.replace("    limits = {}", "    bounds = {}"), "MyFeed has no limits; expected limits"),
        ("my_feed:MyFeed", CODE.replace("(FeedSection)", ""), "Section is <class"),
        ("my_feed:MyFeed", "import nobody_has_this\n" + CODE, "line 1, cannot be imported: ModuleNotFoundError"),
        ("my_feed:MyFeed", CODE.replace("database: Path", "path: Path"), "[feed.mine] database"),
    ],
)
def test_what_is_wrong_with_a_class_is_told_when_the_config_is_read(example, kind, code, told):
    (example.folder / "my-plugins" / "my_feed.py").write_text(code)
    config = example.folder / "config.ini"
    config.write_text(config.read_text().replace("kind = my_feed:MyFeed", f"kind = {kind}"))
    with pytest.raises(ConfigError) as refused:
        read.load(config, {})
    assert told in str(refused.value)


def test_an_installed_module_serves_as_well(example, monkeypatch):
    (example.folder / "my-plugins" / "my_feed.py").rename(example.folder / "installed_feed.py")
    monkeypatch.syspath_prepend(example.folder)
    monkeypatch.setitem(sys.modules, "installed_feed", None)
    monkeypatch.delitem(sys.modules, "installed_feed")
    config = example.folder / "config.ini"
    config.write_text(config.read_text().replace("kind = my_feed:MyFeed", "kind = installed_feed:MyFeed"))
    process.configure(str(config))
    assert type(open_feed("mine", read.load(config, {}).feeds["mine"]).feed).__module__ == "installed_feed"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (".reindex(columns=RAW)", "", "returned bars with the columns day, open"),
        (
            "parts.append(",
            'rows["ts"] = rows["ts"].dt.tz_localize(None)\n                parts.append(',
            "whose ts is datetime",
        ),
        ('"source": self.name', '"source": "me"', "returned sources of bars: me; expected mine"),
        (
            '"symbol": one.symbol',
            '"symbol": "SPY"',
            "returned bars of SPY spot 1d; expected only of what was requested",
        ),
        (
            'rows["ts"] <= request.until',
            'rows["ts"].notna()',
            "expected none after 2024-07-03 16:00:00+00:00, the request's until",
        ),
        ("return gather(parts, problems)", "return parts", "returned a list; expected alphapivot.feeds.base.Fetched"),
    ],
)
def test_an_answer_that_breaks_a_promise_is_refused(example, before, after, told):
    assert before in CODE
    (example.folder / "my-plugins" / "my_feed.py").write_text(CODE.replace(before, after))
    example.settings = process.configure(str(example.folder / "config.ini"))
    with pytest.raises(DataError) as refused:
        example.ingest("2024-07-03 16:00", feed="mine")
    assert told in str(refused.value)
