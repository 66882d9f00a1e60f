from __future__ import annotations

from tests.tasks.conftest import market

__all__ = ["market"]
