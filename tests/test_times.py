"""Which tests ``make test`` leaves out, and that all of them have their turn."""

from __future__ import annotations

import ast
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pytest

from tests import times

ROOT = Path(__file__).parents[1]


@cache
def functions(file: str) -> set[str]:
    return {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}


def test_what_is_listed_exists():
    for name in times.listed():
        file, _, test = name.partition("::")
        assert not test or test in functions(file), f"{name} is gone: make test-times"


def test_a_share_takes_as_long_as_is_asked_and_every_file_has_its_turn():
    listed = {f"tests/test_{n}.py::test_{k}": 10.0 for n in range(20) for k in "ab"}
    days = [str(date(2026, 12, 30) + timedelta(n)) for n in range(8)]
    shares = [times.share(listed, 100, day) for day in days]
    assert {len(chosen) for chosen in shares} == {5}  # files of 20 s each
    assert set.union(*shares[:4]) == {f"tests/test_{n}.py" for n in range(20)}
    assert shares[4:] == shares[:4]
    assert len({frozenset(times.share(listed, 100, f"seed {n}")) for n in range(40)}) == 4


def test_of_a_matrix_as_many_cases_stay_as_the_limit_holds_and_from_all_over_it():
    assert list(times.sampled(cases=16, seconds=8.0)) == [0, 8]  # two of half a second each
    assert list(times.sampled(cases=15, seconds=3.0)) == [0, 3, 6, 9, 12]
    assert list(times.sampled(cases=7, seconds=2.3)) == [0, 3, 6]
    assert list(times.sampled(cases=7, seconds=0.0)) == [*range(7)]  # not listed
    assert list(times.sampled(cases=2, seconds=3.0)) == list(times.sampled(cases=1, seconds=1.9)) == [0]
    assert list(times.sampled(cases=2, seconds=5.0)) == list(times.sampled(cases=1, seconds=2.1)) == []


SESSION = """
import pytest, time
@pytest.fixture(scope="session")
def server(): time.sleep(0.3)
@pytest.fixture(scope="module")
def data(): time.sleep(0.3)
"""
TESTS = {
    "test_first.py": "def test_begins(server): pass",
    "test_quick.py": "def test_quick(): pass",
    "test_one.py": "import pytest, time\n@pytest.mark.parametrize('n', [0, 0.3])\ndef test_slow(n): time.sleep(n)\n"
    "def test_quick(): pass\n@pytest.mark.always\ndef test_witness(): time.sleep(0.3)",
    "test_shared.py": "def test_a(data): pass\ndef test_b(data): pass",
}


@pytest.fixture
def suite(pytester, monkeypatch):
    """A suite with a test that is long, a file whose tests share what is long, and a session that is."""
    monkeypatch.setattr(times, "LONG", 0.2)
    monkeypatch.setattr(times, "SAMPLE", 0.2)
    monkeypatch.setattr(times, "TIMES", pytester.path / "times.txt")
    times.TIMES.write_text("")
    pytester.makeconftest("from tests.times import *\n" + SESSION)
    for name, text in TESTS.items():
        (pytester.path / name).write_text(text)
    pytester.makeini("[pytest]\nmarkers =\n  long: long\n  always: always\n")
    return pytester


def test_what_is_measured_as_long_is_left_out_except_a_witness(suite):
    suite.inline_run("--times", str(times.TIMES)).assertoutcome(passed=8)
    assert set(times.listed()) == {"test_one.py::test_slow", "test_one.py::test_witness", "test_shared.py"}
    assert all(seconds >= 0.3 for seconds in times.listed().values())
    quick = suite.inline_run("-m", "not long")
    ran = [call.item.nodeid.partition("::")[2] for call in quick.getcalls("pytest_runtest_call")]
    assert ran == ["test_begins", "test_slow[0]", "test_quick", "test_witness", "test_quick"]
    chosen = suite.inline_run("-m", "long", "--share", "0.1", "--seed", "x").getcalls("pytest_runtest_call")
    assert {call.item.nodeid.partition("::")[0] for call in chosen} == times.share(times.listed(), 0.1, "x")
    assert len(chosen) in (1, 2)
