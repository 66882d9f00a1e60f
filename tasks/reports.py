"""
What a person sees of a run in the Prefect UI: tags, artifacts with stable keys (so that the UI shows their history),
and the alerts that a run's end gives rise to.
"""

from __future__ import annotations

import base64
import logging
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pandas as pd
from prefect import runtime, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import FlowRunFilter

from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError
from alphapivot.execution.book import control, exposure, report
from alphapivot.hub import Hub
from alphapivot.reports import alerts, overview
from alphapivot.reports.book import comparison, result, store
from alphapivot.reports.page import charts, one_page, picture, tables
from alphapivot.reports.terminal import views
from alphapivot.runs import RunRef
from tasks import runs, server
from tasks.step import open_run

log = logging.getLogger("alphapivot.reports")


def key(book: str, what: str) -> str:
    """An artifact's key, of which Prefect takes small letters, digits and dashes alone."""
    return re.sub("[^a-z0-9]+", "-", f"{book}-{what}".lower()).strip("-")


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)
def publish(run: RunRef, what: Collection[str] | None = None) -> None:
    """Publishes artifacts of this run: those of ARTIFACTS that are named, or all."""
    settings, database = open_run(run)
    book = settings.execution.book
    for name in what or ARTIFACTS:
        title, body = ARTIFACTS[name](database, settings, run)
        description = f"{title} at {views.instant(run.as_of)} UTC"
        server.patiently(partial(create_markdown_artifact, body, key=key(book, name), description=description))


@task(name="performance", task_run_name="performance of {book}", cache_policy=NO_CACHE, persist_result=False)
def performance(run: RunRef, book: str, against: str | None = None) -> None:
    """
    Publishes how a book did, as ``alphapivot report`` finds it: one page as a picture, every figure, what another book
    made of the same decisions; and keeps the numbers in schema research.
    """
    settings, database = open_run(run)
    found = result.make(database, settings, book)
    other = comparison.of(database, settings, found, against) if against else None
    parts = [_onepage(found), "\n".join(f"- {views.escaped(warning)}" for warning in found.warnings)]
    parts += [
        f"## {views.escaped(title)}\n\n{views.markdown(table, views.escaped(words))}"
        for title, words, table in (tables.versus(other, found.book) if other else ())
    ]
    number = store.keep(database, found)
    kept_as = f"Report {number} in research.report."
    parts += [f"## All figures\n\n{views.markdown(tables.figures(found), kept_as)}"]
    span = f"{views.instant(found.book.since)} to {views.instant(found.book.until)} UTC"
    about = f"How book {views.escaped(book)} did, {span}"
    page = "\n\n".join(parts)
    server.patiently(partial(create_markdown_artifact, page, key=key(book, "performance"), description=about))


def _onepage(found: result.Result) -> str:
    """The picture; where there is no browser to draw it with, the reason."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.png"
        try:
            charts.png(one_page.figure(found), file, width=one_page.WIDTH)
        except ConfigError as error:
            return f"No picture: {error}"
        return f"![how the book did](data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()})"


def progress(name: str) -> Callable[[int, int, str], None]:
    """How far a long run is: a progress artifact, renewed every two seconds at most, and a line in the log."""
    shown = create_progress_artifact(0.0, key=name, description=f"{name}: begun")
    renewed = 0.0

    def step(done: int, of: int, what: str) -> None:
        nonlocal renewed
        log.info("%s: %d of %d, %s", name, done, of, what)
        if done == of or time.monotonic() > renewed + 2:
            renewed = time.monotonic()
            with suppress(httpx.HTTPError):  # the work goes on, whether or not anybody sees how far it is
                update_progress_artifact(
                    shown, 100 * done / max(of, 1), description=f"{name}: {done} of {of}, {views.escaped(what)}"
                )

    return step


def maintained(gone: Mapping[str, int]) -> None:
    """The artifact of a maintenance: how many rows of each kind went."""
    table = pd.DataFrame([(what, f"{rows:,}") for what, rows in gone.items()], columns=["what", "rows deleted"])
    words = "What an order leads back to stays, whatever its age. All that ever went: table ops.maintenance."
    body = views.markdown(table, words) if gone else "[retention] names nothing: all is kept."
    described = {"key": "maintenance-summary", "description": "What [retention] let go"}
    server.patiently(partial(create_markdown_artifact, body, **described))


def label(settings: Settings) -> None:
    """Tags the flow run under way with the groups of its instruments, so that the UI can be searched by them."""
    groups = {i.group for i in settings.instruments.values() if i.group}
    if runtime.flow_run.id and groups:
        own, tags = uuid.UUID(str(runtime.flow_run.id)), {*runtime.flow_run.tags, *groups}
        server.ask(lambda client: client.update_flow_run(own, tags=tags))


def tell(run: RunRef) -> list[alerts.Alert]:
    """Alerts a person to what this run, or anything since, has left behind. Never fails the run."""
    settings, database = open_run(run)
    return watch(database, settings, run.as_of)


def watch(database: Hub, settings: Settings, as_of: datetime | None = None) -> list[alerts.Alert]:
    """
    One pass of alerts: what the hub shows, and the flow runs of the last day that Prefect saw fail or crash.

    A simulated market stands still after ``as_of``; any other is looked at by the wall clock.
    """
    simulated = settings.feeds[settings.runtime.feed].simulated
    now = as_of if simulated and as_of else datetime.now(UTC)
    try:
        # Prefect first: the hub knows a killed run as failed, and each is told once
        return alerts.tell(database, [*_ended_badly(), *alerts.find(database, settings, now)])
    except Exception:  # whatever it is, orders and rows are safe by now: the run must not read Failed for it
        log.exception("the pass of alerts failed")
        return []


def _ended_badly() -> list[alerts.Alert]:
    """Also what never reached the hub: a run that was killed, or whose config could not be read."""
    since = datetime.now(UTC) - timedelta(days=1)
    chosen = FlowRunFilter(state={"type": {"any_": ["FAILED", "CRASHED"]}}, end_time={"after_": since})
    found = server.ask(lambda client: client.read_flow_runs(flow_run_filter=chosen, limit=200))
    return [
        alerts.Alert(
            alerts.run_key(runs.run_id(str(r.id)), r.run_count),
            "run crashed" if r.state.is_crashed() else "run failed",
            r.name,
            r.state.message or "no message",
        )
        for r in found
        if r.state
    ]


# --- what an artifact shows: (title, markdown) ------------------------------------------------------------------------


def _scores(database: Hub, settings: Settings, run: RunRef) -> tuple[str, str]:
    table = overview.scores(database, settings, run)
    hint = "Points that each pillar contributes; `raw` is their sum, `score = raw x gate`. The strongest first."
    return "Scores", views.markdown(views.scores(table), hint)


def _decisions(database: Hub, settings: Settings, run: RunRef) -> tuple[str, str]:
    table = report.decisions(database, settings.execution.book, as_of=run.as_of)
    counts = ", ".join(f"{n} {action}" for action, n in table["action"].value_counts().items()) if len(table) else ""
    return "Decisions", views.markdown(views.decisions(table), counts)


def _open_trades(database: Hub, settings: Settings, run: RunRef) -> tuple[str, str]:
    table = report.open_trades(database, settings.execution.book, settings.timeframes.base, until=run.as_of)
    book = settings.execution.book
    parts = {
        "Working orders": views.orders(report.working_orders(database, book)),
        "Locked symbols": views.locks(report.locks(database, book)),
        "Limits used": views.limits(report.limits_used(database, settings)),
        "Exposure as shares of equity, pending entries included": views.exposures(
            exposure.exposures(database, settings, run.as_of)
        ),
    }
    more = [f"## {title}\n\n{views.markdown(view)}" for title, view in parts.items()]
    with database.engine.connect() as connection:
        switch = f"Kill switch: **{views.escaped(views.switch(control.state(connection, book)))}**"
    return "Open trades", "\n\n".join([switch, views.markdown(views.open_trades(table)), *more])


def _closed_trades(database: Hub, settings: Settings, _run: RunRef) -> tuple[str, str]:
    table = report.closed_trades(database, settings.execution.book)
    return "Closed trades", views.markdown(
        views.closed_trades(table.tail(50).iloc[::-1]), f"The last 50 of {len(table)}."
    )


def _equity(database: Hub, settings: Settings, _run: RunRef) -> tuple[str, str]:
    table = overview.equity(database, settings.execution.book)
    if table.empty:
        return "Equity", "none"
    last = table.iloc[-1]
    curve = picture.equity(
        list(table["day"]), list(table["earned"].astype(float)), list(table["drawdown"].astype(float)), last["currency"]
    )
    words = (
        f"**{views.amount(last['equity'])} {last['currency']}**, {views.money(last['earned'])} since "
        f"{table['day'].iloc[0]}, {views.money(last['drawdown'])} from the highest so far; deposits are left out."
    )
    recent = views.markdown(views.equity(table.tail(20).iloc[::-1]))
    return "Equity", f"{words}\n\n![profit and drawdown by day]({picture.data_uri(curve)})\n\n{recent}"


def _data(database: Hub, settings: Settings, run: RunRef) -> tuple[str, str]:
    freshness = views.freshness(overview.freshness(database, settings, run.as_of))
    late = int((freshness["state"] == "late").sum())
    words = f"{len(freshness) - late} of {len(freshness)} series are fresh, {late} late."
    issues = views.markdown(views.issues(overview.issues(database)))
    return "Data", f"{views.markdown(freshness, words)}\n\n## Open quality issues, the newest first\n\n{issues}"


ARTIFACTS: dict[str, Callable[[Hub, Settings, RunRef], tuple[str, str]]] = {
    "scores": _scores,
    "decisions": _decisions,
    "open-trades": _open_trades,
    "closed-trades": _closed_trades,
    "equity": _equity,
    "data": _data,
}
