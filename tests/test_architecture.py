"""The arrows of the house: imports point one way, and importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("alphapivot", "flows", "pillars", "tasks")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imported(name: str) -> set[str]:
    """Every module that ``name`` imports anywhere, also lazily and for type checking."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def reaches(name: str, *forbidden: str) -> set[str]:
    return {i for i in imported(name) for f in forbidden if i == f or i.startswith(f"{f}.")}


def within(folder: str) -> list[str]:
    return [name for name in MODULES if name.split(".")[0] == folder]


def test_the_front_door_is_the_only_module_of_alphapivot_that_imports_flows():
    broken = {name: reaches(name, "flows", "tasks") for name in within("alphapivot") if name != "alphapivot.cli"}
    assert {name: found for name, found in broken.items() if found} == {}


def test_alphapivot_knows_no_prefect():
    broken = {name: reaches(name, "prefect") for name in within("alphapivot")}
    assert {name: found for name, found in broken.items() if found} == {}


def test_tasks_import_no_flows_and_flows_not_the_front_door():
    broken = {name: reaches(name, "flows", "alphapivot.cli") for name in within("tasks")}
    broken |= {name: reaches(name, "alphapivot.cli") for name in within("flows")}
    assert {name: found for name, found in broken.items() if found} == {}


def test_pillars_import_only_frames_errors_and_their_own_folder():
    ours = {
        name: {i for i in reaches(name, *FOLDERS, "prefect") if i.split(".")[0] != "pillars"}
        for name in within("pillars")
    }
    allowed = {"alphapivot.frames", "alphapivot.errors"}
    broken = {
        name: {i for i in found if i != "alphapivot" and ".".join(i.split(".")[:2]) not in allowed}
        for name, found in ours.items()
    }
    assert {name: found for name, found in broken.items() if found} == {}


def test_frames_and_errors_stand_on_nothing_of_ours():
    assert reaches("alphapivot.frames", *FOLDERS) == set()
    assert reaches("alphapivot.errors", *FOLDERS) == set()


def test_settings_know_neither_hub_nor_feeds_nor_brokers():
    for name in ("settings", "config", "consistency", "ini"):
        assert (
            reaches(f"alphapivot.{name}", *(f"alphapivot.{n}" for n in ("hub", "feeds", "brokers", "execution")))
            == set()
        )


def test_the_package_itself_is_empty():
    assert (ROOT / "alphapivot" / "__init__.py").read_text() == ""


def test_no_flow_bears_the_name_of_a_package():
    # Prefect puts the flow's folder first on the path, where it would hide that package
    packages = set(metadata.packages_distributions()) | sys.stdlib_module_names | set(FOLDERS)
    assert {path.stem for path in (ROOT / "flows").glob("*.py") if path.stem != "__init__"} & packages == set()


def test_every_module_imports_without_database_server_or_network():
    code = """
import importlib, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        raise RuntimeError(f"{event} {arguments[1:]} at import")
sys.addaudithook(refuse)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
    ran = subprocess.run([sys.executable, "-c", code, *MODULES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_help_loads_nothing_heavy():
    code = """
import sys
from alphapivot import cli
try:
    cli.main(["--help"])
except SystemExit:
    pass
heavy = {"numpy", "pandas", "pydantic", "prefect", "sqlalchemy", "numba", "talib", "yfinance"} & sys.modules.keys()
print(sorted(heavy), file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"
    assert "usage: alphapivot" in ran.stdout
