"""The code hash depends on meaning: an edit of the logic changes it, an edit of comments does not."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

from alphapivot import version

# what the hashed rooms import from elsewhere, and why it does not affect scores
ELSEWHERE = {
    "alphapivot.config.ini": "messages",
    "alphapivot.config.plugins": "their sources are hashed beside the code",
    "alphapivot.config.read": "reads parameters, which are hashed beside the code",
    "alphapivot.errors": "messages",
    "alphapivot.figures": "figures of books",
    "alphapivot.feeds.base": "what a feed returns; data.pieces plans requests with it",
    "alphapivot.feeds.registry": "asks feeds at ingestion; what they return is stored",
    "alphapivot.feeds.files.stamps": "roll files, which decide what is stored",
    "alphapivot.feeds.files.text": "the same",
    "alphapivot.home": "folders",
    "alphapivot.hub.server": "starts and migrates the database",
    "alphapivot.money": "prices in messages",
    "alphapivot.runs": "names of runs",
    "alphapivot.version": "names what is hashed",
    "tasks.step": "receipts: what a body returns is written, or the step fails",
    "alphapivot.waiting": "messages",
}

INNOCENT = {
    "pandera": "checks: a frame is valid or the step fails",
    "prefect": "runs the steps",
    "psycopg": "writes what the database checks; bulk reads go through ADBC",
    "pydantic": "reads parameters, which are hashed beside the code",
    "six": "old names for Python's own functions",
    "sqlalchemy": "carries single instants and hashes",
    "toolz": "functions over functions",
    "typing-extensions": "types",
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the sources, to hash unchanged or with one edit."""
    copy = tmp_path_factory.mktemp("sources")
    for folder in ("alphapivot", "pillars", "flows", "tasks", "sql"):
        shutil.copytree(version.CHECKOUT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))

    def hashes(edited=None, old="", new=""):
        path = copy / edited if edited else None
        text = path.read_text() if path else ""
        assert old in text
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(version, "CHECKOUT", copy)
            if path:
                path.write_text(text.replace(old, new, 1))
            try:
                version._meaning.cache_clear(), version._all_files.cache_clear()
                return version.pillar_code("trend"), version.composite_code(), version.code_version()
            finally:
                if path:
                    path.write_text(text)

    return hashes


@pytest.fixture(scope="module")
def unedited(sources):
    return sources()


@pytest.mark.parametrize(
    ("edited", "old", "new", "scores", "composites"),
    [
        ("pillars/trend.py", "25 * self.adx", "26 * self.adx", True, False),
        ("pillars/indicators.py", "1 - measure)) for", "2 - measure)) for", True, False),
        ("alphapivot/scoring/other_market.py", "min_count=1", "min_count=2", True, True),
        ("alphapivot/data/rolls.py", "allow_exact_matches=False", "allow_exact_matches=True", True, True),
        ("alphapivot/data/actions.py", '"left"', '"right"', True, True),
        ("alphapivot/hub/tables/bars.py", "ts <= {}", "ts < {}", True, True),
        ("alphapivot/scoring/composite.py", "LIMIT = 100.0", "LIMIT = 90.0", True, True),
        ("alphapivot/scoring/calibration.py", "LARGEST = 10.0", "LARGEST = 9.0", True, True),
        ("alphapivot/calendar/schedule.py", "import", "import math\nimport", True, True),
        ("alphapivot/frames.py", "np.lexsort((ts, order))", "np.lexsort((order, ts))", True, True),
        ("alphapivot/config/sections/instrument.py", "getattr(self, m) is not None", "True", True, True),
        ("alphapivot/config/settings.py", "[index ::", "[index + 1 ::", True, True),
        ("alphapivot/hub/shared.py", "if result is None", "if not result", True, True),
        ("tasks/composite.py", "output if after is None", "output if after", True, True),
        ("tasks/pillars.py", "if shard == 0", "if shard == 1", True, False),
        ("alphapivot/feeds/yahoo.py", "import", "import math\nimport", False, False),
        ("pillars/kit/contract.py", "0.51", "0.52", False, False),
        ("pillars/trend.py", "    def parts", "    # a comment\n\n    def parts", False, False),
        ("pillars/trend.py", "Which way the market goes", "Where the market goes", False, False),
        ("alphapivot/scoring/composite.py", "clip (this is", "cut (this is", False, False),
    ],
)
def test_an_edit_is_seen_by_what_it_can_change(sources, unedited, edited, old, new, scores, composites):
    pillars, blended, everything = sources(edited, old, new)
    changed = (pillars != unedited[0], blended != unedited[1], everything != unedited[2])
    assert changed == (scores, composites, True)


def test_the_sources_are_parsed_once_for_all_processes(monkeypatch, tmp_path):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    parsed, parse = [], version.syntax.parse
    monkeypatch.setattr(version.syntax, "parse", lambda text: parsed.append(text) or parse(text))

    def as_in_a_new_process():
        version._meaning.cache_clear(), parsed.clear()
        return version.composite_code(), len(parsed)

    code, files = as_in_a_new_process()
    assert files > 50
    assert as_in_a_new_process() == (code, 0)
    (stored,) = (tmp_path / "cache" / "code").iterdir()
    for damaged in (b"", b"\xff", code[:-1].encode()):  # a full disk, a crash
        stored.write_bytes(damaged)
        assert as_in_a_new_process() == (code, files)
    monkeypatch.setattr(version, "_OURSELVES", "another way to hash")
    assert as_in_a_new_process() == (code, files)
    monkeypatch.setenv("ALPHAPIVOT_HOME", "/proc/no-such-folder")
    assert as_in_a_new_process() == (code, files)


def test_only_the_newest_hashes_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("ALPHAPIVOT_HOME", str(tmp_path))
    for number in range(version.KEPT + 2):
        version._stored(f"{number}", lambda: "0" * 12)
        os.utime(tmp_path / "cache" / "code" / f"{number}", (number, number))
    assert version._stored("0", lambda: "1" * 12) == "1" * 12
    assert version._stored(f"{version.KEPT}", lambda: "1" * 12) == "0" * 12


OURS = {"alphapivot", "pillars", "tasks"}


def imported(rooms):
    """(file, what it imports) of every import in these rooms, also within functions."""
    for path in version._files(*rooms):
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    yield from ((path, alias.name) for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    yield from ((path, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("rooms", [version.SIGNALS, version.COMPOSITES])
def test_all_that_scoring_stands_on_is_hashed_or_has_a_reason_not_to_be(rooms):
    hashed = {path.relative_to(version.CHECKOUT).as_posix() for path in version._files(*rooms)}
    pillars = {"pillars"} if rooms is version.COMPOSITES else set()  # a composite stands on stored signals
    for path, name in imported(rooms):
        if name.split(".")[0] in OURS:
            places = (name, name.rpartition(".")[0])
            files = {f"{n.replace('.', '/')}{end}" for n in places for end in (".py", "/__init__.py")}
            reason = any(f"{name}.".startswith(f"{where}.") for where in {*ELSEWHERE, *pillars})
            assert files & hashed or reason, f"{path} imports {name}: hash its room, or say why not"


def test_every_library_that_scoring_stands_on_is_hashed_or_has_a_reason_not_to_be():
    of_package = importlib.metadata.packages_distributions()
    direct = {n.split(".")[0] for _, n in imported(version.SIGNALS)} - OURS - set(sys.stdlib_module_names)
    waiting, seen = {canonical(name) for package in direct for name in of_package[package]}, set()
    while waiting - seen:
        name = min(waiting - seen)
        seen.add(name)
        if name in INNOCENT:
            continue
        assert name in map(canonical, version.LIBRARIES), f"{name}: hash it, or say why not"
        wanted = map(Requirement, importlib.metadata.requires(name) or ())
        waiting |= {canonical(r.name) for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})}
    assert {*map(canonical, version.LIBRARIES)} <= seen


@pytest.mark.parametrize("library", version.LIBRARIES)
def test_another_version_of_a_library_is_other_code(library, monkeypatch):
    def codes():
        version._meaning.cache_clear(), version._all_files.cache_clear()
        return version.pillar_code("trend"), version.composite_code(), version.code_version()

    monkeypatch.setattr(version, "_files", lambda *_: iter(()))  # the libraries alone
    before, installed = codes(), importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda n: f"{installed(n)}{'.1' if n == library else ''}")
    assert all(a != b for a, b in zip(before, codes(), strict=True))
    monkeypatch.undo()
    version._meaning.cache_clear(), version._all_files.cache_clear()


def test_every_hashed_room_has_files():
    for room in {*version.SIGNALS, *version.COMPOSITES, *version.EVERYTHING}:
        assert list(version._files(room)), room


def other_pythons():
    found = {name: shutil.which(name) for name in ("python3.11", "python3.12", "python3.13")}
    found |= {str(path): str(path) for path in Path.home().glob(".pyenv/versions/3.1[1-3].*/bin/python")}
    return [path for path in found.values() if path and works(path)]


def works(python):
    return (
        subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    )  # a shim may stand for none


def test_every_python_reads_the_code_as_the_same(tmp_path):
    script = tmp_path / "told.py"
    functions = [inspect.getsource(f) for f in (version._as_text, version._without_docstrings)]
    script.write_text(
        "from __future__ import annotations\nimport ast, sys\n" + "\n".join(functions) + "\n"
        "for path in sys.argv[1:]:\n    print(_as_text(_without_docstrings(ast.parse(open(path, 'rb').read()))))\n"
    )
    sources = [str(path) for path in version._files(*version.SIGNALS)]
    told = {
        subprocess.run([python, script, *sources], capture_output=True, check=True).stdout
        for python in (sys.executable, *other_pythons())
    }
    assert len(told) == 1
