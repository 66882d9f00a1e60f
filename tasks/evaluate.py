"""The step that measures how well scores forecast returns: tables in schema research, and an artifact."""

from __future__ import annotations

from functools import partial

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from alphapivot import hub
from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.reports import overview
from alphapivot.reports.terminal import views
from alphapivot.research.evaluate import evaluation
from tasks import reports, server


@task(name="evaluate", cache_policy=NO_CACHE, persist_result=False)
def evaluate(settings: Settings, horizons: list[int]) -> int:
    """Measures the stored scores up to the newest run's as_of; returns the number of the evaluation."""
    database = hub.connect()
    latest = overview.latest(database, settings.runtime.scores)
    if latest is None:
        raise DataError("no scores to evaluate yet; run the deployment signals first")
    result = evaluation.run(database, settings, latest, horizons, reports.progress("evaluate"))
    number = evaluation.store(database, settings, latest, result)
    key = reports.key(settings.execution.book, "evaluation")
    title = f"Evaluation {number} of scores up to {views.instant(latest.as_of)} UTC"
    body = evaluation.markdown(result)
    server.patiently(partial(create_markdown_artifact, body, key=key, description=title))
    return number
