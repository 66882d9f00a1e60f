"""What a person sees of a run in the Prefect UI: artifacts with stable keys, so that the UI shows their history."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from alphapivot.runs import RunRef
from tasks.step import open_run


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)
def publish(run: RunRef) -> None:
    """Publishes the score table of this run as an artifact."""
    settings, database = open_run(run)
