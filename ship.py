"""Puts into a wheel what a checkout has beside its packages: sql/, prefect.yaml and the configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = ("sql", "prefect.yaml", "config.ini", "demo.ini", "constraints.txt", "examples/notebooks/first_look.ipynb")


class Ship(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":  # it runs from its checkout
            for name in SHIPPED:
                build_data["force_include"][str(Path(self.root) / name)] = f"alphapivot/shipped/{name}"
