"""The checkout as a whole: its pins, its commands, and what no tracked file may contain."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import types
import warnings
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
]
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line]
HERE = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate()]  # some are for other Pythons
PINNED = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in HERE}
INSTALLED = {canonicalize_name(d.name): d.version for d in metadata.distributions()}  # other systems need fewer


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def tracked() -> list[Path]:
    if not (shutil.which("git") and (ROOT / ".git").exists()):
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).exists()]


def test_every_pin_is_a_bare_version():
    """One version for every Python; a marker may say which of them need the package."""
    assert [str(pin) for pin in PINS if not re.fullmatch(r"==[A-Za-z0-9.!+]+", str(pin.specifier)) or pin.url] == []
    assert len(PINS) == len({canonicalize_name(pin.name) for pin in PINS})


def test_everything_that_the_project_needs_is_pinned_within_its_bounds():
    for requirement in DIRECT:
        name = canonicalize_name(requirement.name)
        assert name in PINNED, f"{name} is not in constraints.txt: make constraints"
        assert requirement.specifier.contains(PINNED[name]), (
            f"constraints.txt has {name}=={PINNED[name]}, not {requirement}"
        )


def test_all_that_the_pinned_packages_need_is_pinned_too():
    missing = set()
    for name in PINNED.keys() & INSTALLED.keys():
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                missing |= {canonicalize_name(requirement.name)} - PINNED.keys()
    assert missing == set()


def test_what_is_tested_is_what_is_pinned():
    differing = {n: (INSTALLED[n], pin) for n, pin in PINNED.items() if INSTALLED.get(n, pin) != pin}
    assert differing == {}
    assert {canonicalize_name(requirement.name) for requirement in DIRECT} <= INSTALLED.keys()


def test_no_tracked_file_names_a_package_registry_or_a_machine_path():
    # split, or this file would match
    registries = ["pypi" + r"\.org", "python" + "hosted", "registry" + r"\.npmjs", "deb" + r"\.debian"]
    machine = ["/work" + "/", "/root" + "/", "/home" + "/[a-z]"]
    forbidden = re.compile("|".join(registries + machine))
    matches = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked()
        if path.suffix not in {".png", ".jpg", ".gif"}
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert matches == []


@pytest.mark.parametrize(
    ("name", "least"), [("README.md", {"demo", "ui", "docs"}), ("CONTRIBUTING.md", {"test", "lint"})]
)
def test_every_make_target_in_the_prose_exists(name, least):
    text = (ROOT / name).read_text()
    named = set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"^\s*\$? ?make ([a-z-]+)", text, re.MULTILINE))
    assert named >= least
    assert named - targets() == set()


def test_the_makefile_offers_what_was_promised():
    assert targets() >= {
        "demo",
        "test",
        "test-all",
        "ui",
        "bench",
        "docs",
        "lint",
        "format",
        "clean",
        "constraints",
        "help",
    }


def test_make_without_a_target_shows_them_all():
    make = ["make", "--no-print-directory"]  # make test is itself a make
    shown = subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {line.split()[0] for line in shown.splitlines()} == targets()


def test_the_ci_script_is_valid_and_can_be_started():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def test_no_flow_hides_an_installed_module():
    # Prefect puts the flow's folder first on the path
    modules = metadata.packages_distributions().keys() | sys.stdlib_module_names
    assert {path.stem for path in (ROOT / "flows").glob("*.py") if path.stem != "__init__"} & modules == set()


def test_help_loads_nothing_heavy():
    code = """
import sys
from alphapivot import cli
try:
    cli.main(["--help"])
except SystemExit:
    heavy = {"numpy", "pandas", "pydantic", "prefect", "sqlalchemy", "numba", "talib", "yfinance"}
    print(sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"
    assert "usage: alphapivot" in ran.stdout


def warn_as(module: str) -> None:
    """Issues a warning as if from that module."""
    code = compile("warnings.warn('careful', FutureWarning)", module, "exec")
    types.FunctionType(code, {"__name__": module, "warnings": warnings})()


@pytest.mark.parametrize(
    "module", ["alphapivot", "alphapivot.hub.bulk.read", "flows.pipeline", "pillars.trend", "tasks.step"]
)
def test_a_warning_of_our_own_is_an_error(module):
    with pytest.raises(FutureWarning, match="careful"):
        warn_as(module)


@pytest.mark.parametrize("module", ["pandas", "pandas.alphapivot", "alphapivots", "tasksmith.core"])
def test_a_warning_of_others_is_not(module):
    with warnings.catch_warnings(record=True) as caught:
        warn_as(module)
    assert [str(w.message) for w in caught] == ["careful"]
