"""The small market of the execution tests; pytest's importlib mode offers no package to import it from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _execution():
    path = Path(__file__).parents[1] / "execution" / "conftest.py"
    spec = importlib.util.spec_from_file_location("execution_conftest", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


shared = _execution()
world, new_world = shared.world, shared.new_world
