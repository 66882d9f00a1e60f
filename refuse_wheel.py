"""AlphaPivot runs from its checkout as an editable install: a wheel would lack sql/, config.ini and prefect.yaml."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RefuseWheel(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        if version != "editable":
            raise SystemExit(
                "AlphaPivot runs from its checkout: a wheel would lack sql/, config.ini and prefect.yaml, and no "
                "command would work. In the checkout: make demo, or pip install -e . -c constraints.txt"
            )
