"""
The long tests: ``make test`` leaves them out, ``make test-all`` has all, and ``make test-share`` some of them.

``times.txt``, which ``make test-times`` writes, lists tests of more than LONG seconds, whole files where what their
tests share takes that long, and tests whose parameters take more than SAMPLE seconds together. Of those ``make test``
keeps a sample that takes about SAMPLE, from all over the parameters. The marker ``always`` keeps a test.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path

import pytest

TIMES = Path(__file__).with_name("times.txt")
LONG = 2.0  # seconds
SAMPLE = 1.0
SHARED = ("module", "session")  # scopes of fixtures; a session's take whoever comes first


def pytest_addoption(parser):
    parser.addoption("--times", metavar="FILE", type=Path, help="write the times of long tests to FILE")
    parser.addoption("--share", metavar="SECONDS", type=float, help="of the long tests, files that take this long")
    parser.addoption("--seed", metavar="TEXT", default="", help="chooses the files of --share")


def pytest_configure(config):
    if config.getoption("times") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Stopwatch(config.getoption("times")))


@pytest.hookimpl(tryfirst=True)  # before -m is applied
def pytest_collection_modifyitems(config, items):
    times = listed()
    by_name: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if not (item.get_closest_marker("always") or item.get_closest_marker("slow")):
            by_name[_name(item.nodeid)].append(item)
    for name, cases in by_name.items():
        sample = range(0)
        if _file(name) not in times:
            sample = sampled(len(cases), times.get(name, 0.0))
        for n, item in enumerate(cases):
            if n not in sample:
                item.add_marker(pytest.mark.long)
    if (seconds := config.getoption("share")) is not None:
        files = share(times, seconds, config.getoption("seed"))
        config.hook.pytest_deselected(items=[item for item in items if _file(item.nodeid) not in files])
        items[:] = [item for item in items if _file(item.nodeid) in files]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    """Notes what the fixtures take that tests share."""
    begun = time.perf_counter()
    result = yield
    if fixturedef.scope in SHARED:
        took = (f"{fixturedef.scope} fixture", time.perf_counter() - begun)
        request._pyfuncitem.user_properties.append(took)
    return result


def listed() -> dict[str, float]:
    """Test or file -> seconds, as ``times.txt`` has them."""
    lines = [line.split() for line in TIMES.read_text().splitlines() if not line.startswith("#")]
    return {name: float(seconds) for seconds, name in lines}


def sampled(cases: int, seconds: float) -> range:
    """Which of the ``cases`` of a test that takes ``seconds`` stay in ``make test``."""
    each = seconds / cases
    if cases * each <= SAMPLE or each > LONG:
        return range(cases if each <= LONG else 0)
    return range(0, cases, -(-cases // max(1, int(SAMPLE / each))))


def share(times: dict[str, float], seconds: float, seed: str) -> set[str]:
    """
    Files of the long tests that take about ``seconds``. All files lie in one order, cut into such shares; a ``seed``
    that is a date has the share after that of the day before, so that each file has its turn.
    """
    by_file: dict[str, float] = defaultdict(float)
    for name, took in times.items():
        by_file[_file(name)] += took
    total, shares, sofar = sum(by_file.values()), [set[str]()], 0.0
    each = total / math.ceil(total / seconds)
    for file in sorted(by_file, key=_hash):  # long and short ones mixed
        if sofar >= each * len(shares):
            shares.append(set())
        shares[-1].add(file)
        sofar += by_file[file]
    try:
        number = date.fromisoformat(seed).toordinal()
    except ValueError:
        number = int.from_bytes(_hash(seed))
    return shares[number % len(shares)]


class Stopwatch:
    """Writes the times of the long tests, longest first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.items: dict[str, float] = defaultdict(float)
        self.shared: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report):
        setup = report.user_properties if report.when == "setup" else ()  # later reports have them again
        fixtures = {scope: sum(took for name, took in setup if name == f"{scope} fixture") for scope in SHARED}
        self.shared[_file(report.nodeid)] += fixtures["module"]
        self.items[report.nodeid] += report.duration - sum(fixtures.values())

    def pytest_sessionfinish(self):
        files = {file for file, took in self.shared.items() if took > LONG}
        totals: dict[str, float] = defaultdict(float)
        for nodeid, took in self.items.items():
            totals[_file(nodeid) if _file(nodeid) in files else _name(nodeid)] += took
        cases = Counter(map(_name, self.items))
        alone = {name for name, took in totals.items() if took > (LONG if cases[name] == 1 else SAMPLE)}
        found = sorted(files | alone, key=lambda name: -totals[name])
        lines = [f"{totals[name] + self.shared.get(name, 0):7.1f} {name}" for name in found]
        self.path.write_text("\n".join(["# seconds, test or file: make test-times", *lines, ""]))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _name(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
