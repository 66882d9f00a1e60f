"""The flow `rerun-pillar`: scores one pillar again for a past instant, then the composite. It never trades."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from prefect import flow
from prefect.states import State
from pydantic import Field

from flows import graph
from pillars import PILLARS

# The choices of the UI's form. Plug-ins are registered when the config is read, which is before a deploy.
Name = Annotated[str, Field(json_schema_extra={"enum": list(PILLARS)})]


@flow(name="rerun-pillar", flow_run_name="rerun {pillar} {as_of:%Y-%m-%d %H:%M}Z")
def rerun_pillar(
    pillar: Name, as_of: datetime, symbols: list[str] | None = None, feed: str | None = None
) -> State[Any]:
    """
    Scores one pillar again over all bars up to as_of, as they are known now, then blends the composites again.

    Values that differ replace the old ones, whose versions are kept. It never trades. The next run of signals or
    pipeline blends later composites again.

    Args:
        pillar: the pillar to score again
        as_of: score every bar complete up to this instant (with a time zone)
        symbols: only these instruments, as named in config.ini; default: all
        feed: a [feed.*] section for all instruments, which selects the database of a simulated market
    """
    run = graph.begin("rerun-pillar", as_of, feed)
    if isinstance(run, State):
        return run
    return graph.verdict(run, graph.states(graph.rerun(run, pillar, sorted(set(symbols or [])))))
