"""Imports point one way, and importing anything connects to nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("alphapivot", "flows", "tasks", "pillars")
FILES = sorted(path for top in OURS for path in (ROOT / top).rglob("*.py"))


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Every module that a file imports, also within functions and under TYPE_CHECKING."""
    package = module(path).split(".") if path.name == "__init__.py" else module(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).strip(".")
            source = base if node.level else node.module
            yield from (f"{source}.{alias.name}" for alias in node.names)


def within(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def allowed(path, imported):
    """cli -> flows -> tasks -> settings -> pillars -> frames; alphapivot knows no Prefect."""
    name = module(path)
    if within(name, "pillars"):
        return within(imported, "pillars", "alphapivot.frames", "alphapivot.errors")
    if within(name, "alphapivot.cli"):
        return True
    if within(name, "alphapivot.process"):
        return not within(imported, "alphapivot.cli")
    if within(name, "alphapivot"):
        return not within(imported, "flows", "tasks", "alphapivot.cli", "prefect")
    if within(name, "tasks"):
        return not within(imported, "flows", "alphapivot.cli")
    return not within(imported, "alphapivot.cli")


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_point_one_way(path):
    ours = [name for name in imports(path) if within(name, *OURS, "prefect")]
    assert [name for name in ours if not allowed(path, name)] == []


def test_frames_stand_on_nothing_of_ours():
    assert not [name for name in imports(ROOT / "alphapivot" / "frames.py") if within(name, *OURS)]


def test_settings_know_pillars_and_nothing_above():
    above = ("hub", "feeds", "execution", "brokers", "reports", "composite")
    found = [
        name
        for name in imports(ROOT / "alphapivot" / "settings.py")
        if within(name, *(f"alphapivot.{a}" for a in above))
    ]
    assert found == []


def test_the_package_itself_is_empty():
    assert (ROOT / "alphapivot" / "__init__.py").read_text().strip() == ""


def test_no_flow_bears_the_name_of_a_top_level_package():
    """Prefect puts the flow's folder first on the path: flows/tasks.py would hide tasks."""
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert not top & {path.stem for path in (ROOT / "flows").glob("*.py")}


def test_every_module_imports_without_a_database_a_server_or_a_network(tmp_path):
    """In one fresh process whose sockets may not connect, without a database, and the home stays unmade."""
    names = [module(path) for path in FILES]
    code = f"""
import sys

def hook(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise RuntimeError(f"{{event}} {{args}} while importing")

sys.addaudithook(hook)
import importlib
for name in {names!r}:
    importlib.import_module(name)
"""
    home = tmp_path / "home"
    env = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ALPHAPIVOT_HOME": str(home), "HOME": str(tmp_path),
        "ALPHAPIVOT_DATABASE__URL": "postgresql://nobody@127.0.0.1:9/none", "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not home.exists()
