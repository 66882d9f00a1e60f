"""The flow `evaluate`: measures how well scores forecast returns, as `alphapivot evaluate` does."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed, State
from pydantic import Field

from alphapivot import process
from tasks import evaluate as steps


@flow(name="evaluate", flow_run_name="evaluate {horizons}")
def evaluate(horizons: list[Annotated[int, Field(ge=1)]] | None = None, feed: str | None = None) -> State[Any]:
    """
    Measures the stored scores against later returns; the artifact has the tables and a picture.

    Args:
        horizons: bars ahead; default: 1, 5 and 20
        feed: a [feed.*] section for all instruments, which decides the database of a simulated market
    """
    number = steps.evaluate(process.configure(feed=feed), sorted({*(horizons or (1, 5, 20))}))
    return Completed(message=f"evaluation {number}, stored in research.evaluation_score")
