"""`make` creates .venv with the chosen Python; after a failure it prints a remedy and starts over."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import install

ROOT = Path(__file__).resolve().parents[1]
SMALL = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "small"
version = "1"
requires-python = ">=3.11,<3.14"
"""
BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/small-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n" + NEEDS)
        wheel.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.dist-info/RECORD", "")
    return "small-1-py3-none-any.whl"
"""
OTHERS = [
    str(path)
    for path in (*Path.home().glob(".pyenv/versions/3.1[1-3].*/bin/python"), Path("/usr/bin/python3.11"))
    if path.exists() and subprocess.run([path, "-c", "import ensurepip"], check=False).returncode == 0
]


@pytest.fixture
def checkout(tmp_path):
    """The real Makefile and installer, for a package without dependencies."""
    for file in ("Makefile", "install.py"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "pyproject.toml").write_text(SMALL)
    (tmp_path / "constraints.txt").write_text("")
    needs(tmp_path, "")
    return tmp_path


def needs(checkout: Path, requirement: str) -> None:
    (checkout / "backend.py").write_text(f"NEEDS = {requirement!r}\n{BACKEND}")


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    no_registry = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "MAKE", "PYTHON"))} | no_registry
    command = ["make", *arguments, ".venv/.ready"]
    return subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)


def version(checkout: Path) -> str:
    return subprocess.run([checkout / ".venv/bin/python", "-V"], capture_output=True, text=True, check=True).stdout


def test_a_failed_install_says_what_helps_and_the_next_make_starts_from_nothing(checkout):
    needs(checkout, "Requires-Dist: somewhere-else\n")
    failed = make(checkout, f"PYTHON={sys.executable}")
    assert failed.returncode
    assert "the package registry cannot be reached" in failed.stderr
    assert "the next make starts over" in failed.stderr
    assert not (checkout / ".venv/.ready").exists()
    (checkout / ".venv/half-made").touch()
    needs(checkout, "")
    done = make(checkout, f"PYTHON={sys.executable}")
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout
    assert not (checkout / ".venv/half-made").exists()
    assert "up to date" in make(checkout).stdout


@pytest.mark.skipif(len(OTHERS) < 2, reason="this machine has one Python only")
def test_another_python_makes_the_environment_again_and_it_stays(checkout):
    first, second = OTHERS[0], next(o for o in OTHERS if os.path.realpath(o) != os.path.realpath(OTHERS[0]))
    assert make(checkout, f"PYTHON={first}").returncode == 0
    before = version(checkout)
    again = make(checkout, f"PYTHON={second}")
    assert again.returncode == 0, again.stderr
    assert (after := version(checkout)) != before
    for arguments in ([f"PYTHON={second}"], []):  # without PYTHON it stays too
        assert "up to date" in make(checkout, *arguments).stdout
    assert version(checkout) == after


def test_a_python_that_is_too_old_is_named_with_one_that_will_do(checkout):
    old = next(iter(Path.home().glob(".pyenv/versions/3.10.*/bin/python")), None)
    if old is None:
        pytest.skip("this machine has no Python 3.10")
    refused = make(checkout, f"PYTHON={old}")
    assert refused.returncode
    assert re.search(r"needs Python 3\.11 to 3\.13, but .* is 3\.10", refused.stderr)
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("named", ["python-of-nowhere", "false"])
def test_a_python_that_does_not_run_leaves_a_good_environment_alone(checkout, named):
    assert make(checkout, f"PYTHON={sys.executable}").returncode == 0
    refused = make(checkout, f"PYTHON={named}")
    assert refused.returncode
    assert f"PYTHON={named} does not run here" in refused.stderr
    assert "up to date" in make(checkout).stdout


def test_a_python_that_is_too_old_leaves_a_good_environment_alone(checkout):
    old = next(iter(Path.home().glob(".pyenv/versions/3.10.*/bin/python")), None)
    if old is None:
        pytest.skip("this machine has no Python 3.10")
    assert make(checkout, f"PYTHON={sys.executable}").returncode == 0
    assert make(checkout, f"PYTHON={old}").returncode
    assert "up to date" in make(checkout).stdout


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("error: command 'gcc' failed: No such file or directory", "build-essential"),
        ("ERROR: Failed building wheel for TA-Lib", "build-essential"),
        ("ERROR: [Errno 13] Permission denied: '/srv/.venv/lib'", "cannot be written"),
        ("ERROR: No matching distribution found for soupsieve==4.1.2", "make PYTHON=python3.11"),
    ],
)
def test_what_pip_says_is_answered(output, remedy):
    assert remedy in install.advice(output, "")


def test_the_classifiers_name_what_is_required():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (_, oldest), (_, newest) = install.supported()
    assert [c.rsplit("3.", 1)[1] for c in project["classifiers"]] == [str(n) for n in range(oldest, newest + 1)]


def test_what_make_starts_keeps_its_bytecode():
    probe = ["make", "--eval", "probe: ; @env", "probe"]
    environ = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "KEPT": "1"}
    lines = subprocess.run(probe, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "KEPT=1" in lines
    assert not [line for line in lines if line.startswith("PYTHONDONTWRITEBYTECODE")]


def test_what_only_tests_need_is_not_installed_for_users():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "backtesting" not in {re.split(r"[\[<=> ]", name)[0] for name in project["dependencies"]}
