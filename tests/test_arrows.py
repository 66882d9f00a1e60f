"""Rooms import only what their arrows allow, no files import each other in a circle, and imports connect to nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("alphapivot", "flows", "tasks", "pillars")
FILES = sorted(path for top in OURS for path in (ROOT / top).rglob("*.py"))

# room -> the rooms that it may import, besides itself; docs/architecture.md draws it. Modules at the top of alphapivot/
# are rooms of their own. Every room may import COMMON.
COMMON = {"errors", "figures", "frames", "money", "runs", "clock", "home", "memory", "waiting", "retry_after"}
PILLARS = {"pillars"}
CONFIG = {"calendar", "config", *PILLARS}
HUB = {"hub", *CONFIG}
MARKET = {"brokers", "data", "feeds", "scoring", *HUB}
ARROWS: dict[str, set[str]] = {
    **{name: set() for name in COMMON},
    "pillars": set(),
    "calendar": set(),
    "config": {"calendar", *PILLARS},
    "process": {"config"},
    "version": {"config", *PILLARS},
    "hub": {*CONFIG},
    "venues": {*CONFIG},
    "brokers": {"venues", *HUB},
    "feeds": {"venues", *HUB},
    "data": {"feeds", *HUB},
    "scoring": {"data", *HUB},
    "execution": {*MARKET},
    "reports": {"execution", *MARKET},
    "research": {"execution", "reports", "version", *MARKET},
    "tasks": {"execution", "reports", "research", "version", *MARKET},
    "flows": {"execution", "process", "reports", "research", "tasks", "version", *MARKET},
    "library": {"execution", "process", "reports", "research", "tasks", *MARKET},
    "desk": {"execution", "flows", "reports", "tasks", *MARKET},
    "cli": {
        "desk",
        "execution",
        "flows",
        "library",
        "venues",
        "process",
        "reports",
        "research",
        "tasks",
        "version",
        *MARKET,
    },
}
STANDS_ON = {
    "pillars": {"errors", "frames"},
    "frames": set(),
    "errors": set(),
}  # the part of COMMON that these may import
PREFECT = {"tasks", "flows"}
MOST = 12  # modules at the top of alphapivot/, and in any room
MANY = {"flows": "one file is one flow", "execution/run": "the steps of a run"}


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def imports(path):
    """Every module that a file imports, including within functions and under TYPE_CHECKING."""
    package = module(path).split(".") if path.name == "__init__.py" else module(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).strip(".")
            source = base if node.level else node.module
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield name if name in MODULES else source


def room(name):
    """``alphapivot.hub.tables.ops`` -> ``hub``; None for other packages and for ``alphapivot`` itself."""
    top, *rest = name.split(".")
    if top not in OURS:
        return None
    return top if top != "alphapivot" else (rest[0] if rest else None)


@pytest.mark.parametrize("name", MODULES)
def test_rooms_import_only_what_the_arrows_allow(name):
    mine = room(name)
    allowed = ARROWS[mine] | STANDS_ON.get(mine, COMMON) | {mine} if mine else {"library"}  # `import alphapivot`
    assert sorted({other for n in imports(MODULES[name]) if (other := room(n))} - allowed) == []


@pytest.mark.parametrize("name", MODULES)
def test_only_tasks_and_flows_import_prefect(name):
    assert room(name) in PREFECT or not [n for n in imports(MODULES[name]) if n.split(".")[0] == "prefect"]


def test_every_room_has_its_arrows():
    assert {room(name) for name in MODULES} - {None} == set(ARROWS)


def test_the_arrows_lead_one_way():
    TopologicalSorter(ARROWS).prepare()


def test_no_files_import_each_other_in_a_circle():
    graph = {name: {n for n in imports(path) if n in MODULES and n != name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_room_holds_more_than_one_finds_at_a_glance():
    counts = {}
    for path in FILES:
        if path.name != "__init__.py":
            folder = path.parent.relative_to(ROOT).as_posix()
            counts[folder] = counts.get(folder, 0) + 1
    assert {f: n for f, n in counts.items() if n > MOST and f.removeprefix("alphapivot/") not in MANY} == {}


def test_every_file_in_flows_is_a_flow():
    declared = {
        line.split("flows/")[1].split(":")[0]
        for line in (ROOT / "prefect.yaml").read_text().splitlines()
        if "entrypoint:" in line
    }
    here = {path.name for path in (ROOT / "flows").glob("*.py")} - {"__init__.py", "graph.py", "schedule.py"}
    assert here == declared


def test_packages_import_nothing_by_themselves():
    """`import alphapivot.x.y` loads y and nothing beside it; only these five packages define something."""
    inits = {
        path.parent.relative_to(ROOT).as_posix()
        for path in FILES
        if path.name == "__init__.py" and path.read_text().strip()
    }
    assert inits == {"alphapivot", "alphapivot/cli", "alphapivot/hub", "pillars", "tasks"}


def test_no_flow_bears_the_name_of_a_top_level_package():
    """Prefect puts the flow's folder first on the path: flows/tasks.py would hide tasks."""
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert not top & {path.stem for path in (ROOT / "flows").glob("*.py")}


def test_every_module_imports_without_a_database_a_server_or_a_network(tmp_path):
    """In one fresh process whose sockets may not connect; no home folder is created."""
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
