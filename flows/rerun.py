"""The flow `rerun-pillar`: one pillar's signals made again for a past instant, then the composite. It never trades."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from prefect import flow
from prefect.states import State
from pydantic import Field

from flows import graph
from pillars import PILLARS

# The choices of the UI's form; plug-ins are among them once the config was read, as it is before a deploy.
Name = Annotated[str, Field(json_schema_extra={"enum": list(PILLARS)})]


@flow(name="rerun-pillar", flow_run_name="rerun {pillar} {as_of:%Y-%m-%d %H:%M}Z")
def rerun_pillar(
    pillar: Name, as_of: datetime, symbols: list[str] | None = None, feed: str | None = None
) -> State[Any]:
    """
    Scores one pillar anew over all bars up to as_of, as they are known now, and blends the composites again.

    What differs takes the place of the old values, whose versions are kept; what does not differ stays as it is. It
    never trades. Later composites are blended again by the next run of signals or pipeline.

    Args:
        pillar: the pillar to score again
        as_of: every bar complete up to this instant (with a time zone) is scored
        symbols: only these instruments, as config.ini names them; all when empty
        feed: a [feed.*] section for all instruments, which decides the database of a simulated market
    """
    run = graph.begin("rerun-pillar", as_of, feed)
    if isinstance(run, State):
        return run
    return graph.verdict(run, graph.states(graph.rerun(run, pillar, sorted(set(symbols or [])))))
