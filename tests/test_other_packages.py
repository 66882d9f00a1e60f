"""A feed and a broker of another package, outside the checkout: found by entry points, held to the same contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from alphapivot.brokers.registry import open_broker
from alphapivot.config import plugins, read
from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError
from alphapivot.feeds.registry import open_feed

ROOT = Path(__file__).parents[1]
LAKE = '''
"""Daily bars of a folder of JSON files, one a ticker."""

from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd

from alphapivot.calendar.bar_ends import session_closes
from alphapivot.config.sections.feeds import FeedSection
from alphapivot.feeds.base import RAW, Limit, Problem, events, gather


class LakeFeed(FeedSection):
    opens = "lake_package:Lake"
    kind: Literal["lake"] = "lake"
    folder: Path

    def below(self, folder):
        return self.model_copy(update={"folder": folder / self.folder})


class Lake:
    limits: ClassVar = {"1d": Limit()}

    def __init__(self, name, section):
        self.name, self._folder = name, section.folder

    def fetch(self, requests):
        parts, problems, found, after = [], [], [], {}
        for request in requests:
            one = request.instrument
            file = self._folder / f"{getattr(one, request.market)}.json"
            if not file.is_file():
                problems.append(Problem(request, f"there is no {file}"))
                continue
            rows = pd.read_json(file, convert_dates=["date"])
            ts = session_closes(one.hours, rows["date"])
            new = rows.assign(ts=ts)[(ts > request.since) & (ts <= request.until)]
            new = new.assign(symbol=one.symbol, market=request.market, contract="", interval="1d", source=self.name)
            parts.append(new.reindex(columns=RAW))
            both = rows.melt("date", ["split", "dividend"], "kind", "value")
            known = events(one.symbol, self.name, one.hours, both)
            found.append(known[(known["ts"] > request.since) & (known["ts"] <= request.until)])
            after[one.symbol] = request.since
        return gather(parts, problems, found, after)
'''
# the broker's code is another file of the package: that of the tests' own broker with few gifts
TOY = """
from pathlib import Path
from typing import Literal

from alphapivot.config.sections.brokers import BrokerSection
from toy_account import Fake


class ToyBroker(BrokerSection):
    opens = "toy_package:open_toy"
    kind: Literal["toy"] = "toy"
    file: Path

    @property
    def real_money(self):
        return False


def open_toy(hub, settings):
    return Fake(settings.brokers[settings.execution.broker].file)
"""
RIGS = """
import pandas as pd

from lake_package import Lake, LakeFeed
from tests.rigs import KEY, NOW, BrokerRig, FeedRig
from toy_account import Fake


def feed(folder):
    days = pd.bdate_range("2024-06-03", "2024-07-31").difference(pd.DatetimeIndex(["2024-06-19", "2024-07-04"]))
    for name in ("a", "b"):
        rows = pd.DataFrame({"date": days, "close": range(len(days)), "split": 0.0, "dividend": 0.0})
        if name == "a":
            rows.loc[rows["date"] == "2024-07-01", "dividend"] = 2
            rows.loc[rows["date"] == "2024-07-02", "split"] = 4
        rows.to_json(folder / f"{name}.json", orient="records", date_format="iso")
    return FeedRig(Lake("lake", LakeFeed(folder=folder)), "b", "a", "nobody")


def broker(folder):
    account = Fake(folder / "account", NOW)
    return BrokerRig(
        account, lambda price, ts: account.move(KEY, price, at=ts), lambda: account.set(open=False)
    )
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The package, installed: a folder outside the checkout that the path leads to."""
    site = tmp_path / "site"
    (site / "others-1.0.dist-info").mkdir(parents=True)
    (site / "others-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (site / "others-1.0.dist-info" / "entry_points.txt").write_text(
        "[alphapivot.feeds]\nlake = lake_package:LakeFeed\nodd = lake_package:Lake\n"
        "[alphapivot.brokers]\ntoy = toy_package:ToyBroker\n"
    )
    (site / "lake_package.py").write_text(LAKE)
    (site / "toy_package.py").write_text(TOY)
    (site / "toy_account.py").write_text((ROOT / "tests" / "brokers" / "fake.py").read_text())
    (site / "others_rigs.py").write_text(RIGS)
    monkeypatch.syspath_prepend(site)
    yield site
    for _, registry, _ in plugins.KINDS.values():
        for kind in {"lake", "toy"} & registry.keys():
            del registry[kind]
    for name in ("lake_package", "toy_package", "toy_account"):
        sys.modules.pop(name, None)


@pytest.fixture
def config(tmp_path):
    """small.ini with the other package's feed and broker."""
    text = (ROOT / "tests" / "configs" / "small.ini").read_text()
    text += "\n[feed.lake]\nkind = lake\nfolder = bars\n\n[broker.toy]\nkind = toy\nfile = account\ncurrency = EUR\n"
    path = tmp_path / "config.ini"
    path.write_text(text)
    return path


def test_their_kinds_are_read_stored_and_opened_like_ours(site, config, hub):
    loaded = read.load(config, {}, {"runtime.feed": "lake", "execution.broker": "toy"})
    assert loaded.feeds["lake"].folder == config.parent / "bars"
    again = Settings.restore(loaded.stored())
    assert (again.feeds["lake"], again.brokers["toy"]) == (loaded.feeds["lake"], loaded.brokers["toy"])
    assert again.hash() == loaded.hash()
    assert type(open_feed("lake", loaded.feeds["lake"]).feed).__module__ == "lake_package"
    assert type(open_broker(hub, loaded)).__module__ == "toy_account"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind = lake", "kind = laek", "[feed.lake] kind = laek: no such kind of feed; did you mean lake?"),
        ("folder = bars", "foldr = bars", "[feed.lake] foldr is not a key of this section; did you mean folder?"),
        ("kind = lake", "kind = odd", "expected a subclass of alphapivot.config.sections.feeds.FeedSection"),
    ],
)
def test_a_mistake_in_their_section_reads_as_one_in_ours(site, config, old, new, message):
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(ConfigError) as error:
        read.load(config, {})
    assert message in str(error.value)


def contract(site, room):
    """Runs the contract tests of ``room`` over the other package's rig, by command."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{room}/test_contract.py"]
    return subprocess.run(
        [*command, "--rig", f"others_rigs:{room[:-1]}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("room", ["feeds", "brokers"])
def test_the_contract_tests_run_over_their_kinds_by_command(site, room):
    done = contract(site, room)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize(
    ("room", "file", "old", "new", "broken"),
    [
        (
            "feeds",
            "lake_package.py",
            "(ts <= request.until)",
            "(ts == ts)",
            "test_bars_are_those_after_since_and_up_to",
        ),
        (
            "brokers",
            "toy_account.py",
            "orders.get(r.client_order_id, Absent())",
            "orders.get(r.client_order_id)",
            "absent",
        ),
    ],
)
def test_a_kind_that_breaks_the_contract_fails_it(site, room, file, old, new, broken):
    text = (site / file).read_text()
    assert old in text
    (site / file).write_text(text.replace(old, new))
    done = contract(site, room)
    assert done.returncode == 1
    assert broken in done.stdout
