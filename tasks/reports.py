"""What a person sees of a run in the Prefect UI: artifacts with stable keys, so that the UI shows their history."""

from __future__ import annotations

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from alphapivot.execution import report
from alphapivot.reports import tables, views
from alphapivot.runs import RunRef
from tasks.step import open_run


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)
def publish(run: RunRef) -> None:
    """Publishes scores, decisions and trades as artifacts of this run."""
    settings, database = open_run(run)
    book, at = settings.execution.book, views.instant(run.as_of)
    found = {
        "scores": views.scores(tables.scores(database, settings, run)),
        "decisions": views.decisions(report.decisions(database, book, as_of=run.as_of)),
        "open-trades": views.open_trades(report.open_trades(database, book, settings.timeframes.base, until=run.as_of)),
        "closed-trades": views.closed_trades(report.closed_trades(database, book).tail(50)),
    }
    for name, view in found.items():
        title = f"{name.replace('-', ' ').capitalize()} at {at} UTC"
        create_markdown_artifact(
            _markdown(title, view), key=f"{book}-{name}".lower().replace("_", "-"), description=title
        )


def _markdown(title: str, view: pd.DataFrame) -> str:
    if view.empty:
        return f"# {title}\n\nnone"
    lines = [view.columns, ["---"] * len(view.columns), *view.itertuples(index=False)]
    table = "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"# {title}\n\n{table}\n"
