"""
A systematic trading pipeline: bars to signals to protected trades.

``Project`` is the Python API: ``alphapivot.Project().bars("SPY")``. Importing this package imports nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphapivot.library.project import Project as Project
    from alphapivot.library.results import Backtest as Backtest
    from alphapivot.library.results import Book as Book
    from alphapivot.library.results import Evaluation as Evaluation
    from alphapivot.library.results import Explanation as Explanation
    from alphapivot.library.results import Search as Search

__all__ = ["Backtest", "Book", "Evaluation", "Explanation", "Project", "Search"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'alphapivot' has no attribute {name!r}; it offers {', '.join(__all__)}")
    from alphapivot.library import project, results  # noqa: PLC0415 - importing them takes a second

    return getattr(project if name == "Project" else results, name)


def __dir__() -> list[str]:
    return __all__
