"""
The long tests: ``make test`` leaves them out, ``make test-all`` has all, and ``make test-share`` some of them.

``times.txt``, which ``make test-times`` writes, lists tests of more than LONG seconds (with any of their parameters),
and whole files where what their tests share takes that long. The marker ``always`` keeps a test in ``make test``.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from pathlib import Path

import pytest

TIMES = Path(__file__).with_name("times.txt")
LONG = 2.0  # seconds
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
    for item in items:
        long = _file(item.nodeid) in times or _name(item.nodeid) in times
        if long and not item.get_closest_marker("always"):
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


def share(times: dict[str, float], seconds: float, seed: str) -> set[str]:
    """Files of the long tests, in an order that ``seed`` decides, until they have ``seconds``."""
    by_file: dict[str, float] = defaultdict(float)
    for name, took in times.items():
        by_file[_file(name)] += took
    chosen: set[str] = set()
    for file in sorted(by_file, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()):
        if sum(by_file[name] for name in chosen) >= seconds:
            break
        chosen.add(file)
    return chosen


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
        alone = {_name(nodeid) for nodeid, took in self.items.items() if took > LONG and _file(nodeid) not in files}
        long = files | alone
        found = sorted(long, key=lambda name: -totals[name])
        lines = [f"{totals[name] + self.shared.get(name, 0):7.1f} {name}" for name in found]
        self.path.write_text("\n".join(["# seconds, test or file: make test-times", *lines, ""]))


def _name(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
