"""
A run's tags and artifacts in the Prefect UI, and its alerts. Artifact keys are stable, so that the UI shows their
history.
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
from decimal import Decimal
from functools import partial
from pathlib import Path

import httpx
import pandas as pd
from prefect import runtime, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort

from alphapivot.config.settings import Settings
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.execution.book import control, exposure, report
from alphapivot.hub import Hub
from alphapivot.reports import alerts, heartbeat, overview, risk
from alphapivot.reports.book import comparison, result, store
from alphapivot.reports.page import charts, picture, tables
from alphapivot.reports.terminal import views
from alphapivot.runs import RunRef
from tasks import runs, server
from tasks.step import open_run

log = logging.getLogger("alphapivot.reports")
MISSED_AFTER = timedelta(minutes=5)  # from its due start until a run that nobody takes is an alert
ALERT_PATIENCE = 10.0  # seconds to wait for a server that restarts: the hub's alerts come after it


def key(book: str, name: str) -> str:
    """An artifact's key; Prefect accepts only lowercase letters, digits and dashes."""
    return re.sub("[^a-z0-9]+", "-", f"{book}-{name}".lower()).strip("-")


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)
def publish(run: RunRef, names: Collection[str] | None = None) -> None:
    """Publishes artifacts of this run: these names of ARTIFACTS, or all."""
    settings, database = open_run(run)
    book = settings.execution.book
    for name in names or ARTIFACTS:
        title, body = ARTIFACTS[name](database, settings, run)
        description = f"{title} at {views.instant(run.as_of)} UTC"
        server.patiently(partial(create_markdown_artifact, body, key=key(book, name), description=description))


@task(name="performance", task_run_name="performance of {book}", cache_policy=NO_CACHE, persist_result=False)
def performance(run: RunRef, book: str, against: str | None = None) -> None:
    """
    Publishes a book's performance as ``alphapivot report`` shows it: a one-page picture, all figures and the comparison
    with another book; stores the numbers in schema research.
    """
    settings, database = open_run(run)
    results = result.make(database, settings, book)
    other = comparison.of(database, settings, results, against) if against else None
    parts = [_onepage(results), "\n".join(f"- {views.escaped(warning)}" for warning in results.warnings)]
    parts += [
        f"## {views.escaped(title)}\n\n{views.markdown(table, views.escaped(summary))}"
        for title, summary, table in (tables.versus(other, results) if other else ())
    ]
    number = store.keep(database, results)
    stored_as = f"Report {number} in research.report."
    parts += [f"## All figures\n\n{views.markdown(tables.figures(results), stored_as)}"]
    span = f"{views.instant(results.book.since)} to {views.instant(results.book.until)} UTC"
    description = f"Performance of book {views.escaped(book)}, {span}"
    page = "\n\n".join(parts)
    server.patiently(partial(create_markdown_artifact, page, key=key(book, "performance"), description=description))


def _onepage(results: result.Result) -> str:
    """The picture as Markdown; without a browser to draw it, the reason."""
    from alphapivot.reports.page import one_page  # noqa: PLC0415 - plotly is slow to import, and other runs draw nothing

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.png"
        try:
            charts.png(one_page.figure(results), file, width=one_page.WIDTH)
        except ConfigError as error:
            return f"No picture: {error}"
        return f"![performance of the book](data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()})"


def progress(name: str) -> Callable[[int, int, str], None]:
    """The function that reports a long run's progress: in an artifact, every two seconds at most, and in the log."""
    artifact = create_progress_artifact(0.0, key=name, description=f"{name}: started")
    updated = 0.0

    def step(done: int, total: int, label: str) -> None:
        nonlocal updated
        log.info("%s: %d of %d, %s", name, done, total, label)
        if done == total or time.monotonic() > updated + 2:
            updated = time.monotonic()
            with suppress(httpx.HTTPError):  # the work continues without its progress
                update_progress_artifact(
                    artifact,
                    100 * done / max(total, 1),
                    description=f"{name}: {done} of {total}, {views.escaped(label)}",
                )

    return step


def maintained(deleted: Mapping[str, int]) -> None:
    """Publishes the artifact of a maintenance run: how many rows of each kind were deleted."""
    table = pd.DataFrame([(kind, f"{rows:,}") for kind, rows in deleted.items()], columns=["what", "rows deleted"])
    note = "Rows that an order can be traced back to stay, whatever their age. All deletions: table ops.maintenance."
    body = views.markdown(table, note) if deleted else "[retention] keeps all: nothing was deleted."
    attributes = {"key": "maintenance-summary", "description": "Rows deleted by [retention]"}
    server.patiently(partial(create_markdown_artifact, body, **attributes))


def label(settings: Settings) -> None:
    """Tags the current flow run with the groups of its instruments, for searches in the UI."""
    groups = {i.group for i in settings.instruments.values() if i.group}
    if runtime.flow_run.id and groups:
        run_id, tags = uuid.UUID(str(runtime.flow_run.id)), {*runtime.flow_run.tags, *groups}
        server.ask(lambda client: client.update_flow_run(run_id, tags=tags))


def tell(run: RunRef) -> list[alerts.Alert]:
    """Sends the alerts that are due after this run. Never fails the run."""
    return watch(lambda: (*reversed(open_run(run)), run.as_of))


def watch(opened: Callable[[], tuple[Hub, Settings, datetime | None]], *, outside: bool = False) -> list[alerts.Alert]:
    """
    Sends alerts for the state of the hub and for the last days' failed, crashed and missed flow runs; returns those
    delivered. Whichever of the two is away, those of the other are sent. Then pings ALPHAPIVOT_HEARTBEAT_URL.

    ``outside`` of a run: it proves nothing about workers and so pings nothing, and Prefect's silence is an alert.

    ``opened``: the hub, the settings, and the instant at which a simulated market is viewed; any other is viewed at the
    wall clock.
    """
    try:  # orders and rows are safe by now: a failed alert must not fail the run
        failed = [*_failed_runs(), *_missed_runs()]  # first: to the hub a killed run has failed; each is reported once
    except Exception as error:
        log.exception("Prefect's failed runs are not known in this pass")
        failed = [_prefect_away(error)] if outside else []
    try:
        database, settings, as_of = opened()
        simulated = settings.feeds[settings.runtime.feed].simulated
        now = as_of if simulated and as_of else datetime.now(UTC)
        delivered = alerts.tell(database, [*failed, *alerts.find(database, settings, now)])
    except (Unavailable, ConfigError) as error:  # a config that cannot be read names no database
        log.warning("alerts without the hub: %s", error)
        return alerts.tell_without_hub(failed, str(error))
    except Exception:
        log.exception("sending alerts failed")
        return []
    if not outside:
        heartbeat.ping()
    return delivered


def _failed_runs() -> list[alerts.Alert]:
    """Alerts for failed and crashed flow runs, also those that the hub does not know (killed, config unreadable)."""
    since = datetime.now(UTC) - timedelta(days=7)
    failed = FlowRunFilter(state={"type": {"any_": ["FAILED", "CRASHED"]}}, end_time={"after_": since})
    newest = FlowRunSort.END_TIME_DESC
    flow_runs = server.ask(
        lambda client: client.read_flow_runs(flow_run_filter=failed, sort=newest, limit=200), seconds=ALERT_PATIENCE
    )
    return [
        alerts.Alert(
            alerts.run_key(runs.run_id(str(r.id)), r.run_count),
            "run crashed" if r.state.is_crashed() else "run failed",
            r.name,
            r.state.message or "no message",
        )
        for r in reversed(flow_runs)
        if r.state
    ]


def _missed_runs() -> list[alerts.Alert]:
    """Alerts for flow runs that were due some minutes ago and that no worker has taken."""
    now = datetime.now(UTC)
    missed = FlowRunFilter.model_validate(
        {
            "state": {"name": {"any_": ["Scheduled", "Late"]}},
            "expected_start_time": {"after_": now - timedelta(days=7), "before_": now - MISSED_AFTER},
        }
    )
    oldest = FlowRunSort.EXPECTED_START_TIME_ASC
    flow_runs = server.ask(
        lambda client: client.read_flow_runs(flow_run_filter=missed, sort=oldest, limit=200), seconds=ALERT_PATIENCE
    )
    return [
        alerts.Alert(
            f"missed:{r.id}",
            "run missed",
            r.name,
            f"due at {r.expected_start_time:%Y-%m-%d %H:%M} UTC, and no worker of pool {r.work_pool_name} has taken it:"
            " is `alphapivot ui` or `alphapivot worker` running?",
        )
        for r in flow_runs
        if r.expected_start_time
    ]


def _prefect_away(error: Exception) -> alerts.Alert:
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    message = f"no answer, so nothing is scheduled: {type(error).__name__}. `alphapivot ui` starts it"
    return alerts.Alert(f"prefect:{day}", "Prefect away", "the Prefect server", message)


# --- the artifacts, as (title, markdown) ------------------------------------------------------------------------------


def _scores(database: Hub, settings: Settings, run: RunRef) -> tuple[str, str]:
    table = overview.scores(database, settings, run)
    hint = "Points contributed by each pillar; `raw` is their sum, `score = raw x gate`. Strongest first."
    return "Scores", views.markdown(views.scores(table), hint)


def _decisions(database: Hub, settings: Settings, run: RunRef) -> tuple[str, str]:
    table = report.decisions(database, settings.execution.book, as_of=run.as_of)
    counts = ", ".join(f"{n} {action}" for action, n in table["action"].value_counts().items()) if len(table) else ""
    return "Decisions", views.markdown(views.decisions(table, settings.ticks), counts)


def _open_trades(database: Hub, settings: Settings, run: RunRef) -> tuple[str, str]:
    table = report.open_trades(database, settings.execution.book, settings.timeframes.base, until=run.as_of)
    book = settings.execution.book
    parts = {
        "Working orders": views.orders(report.working_orders(database, book), settings.ticks),
        "Locked symbols": views.locks(report.locks(database, book)),
        "Limits used": views.limits(report.limits_used(database, settings)),
        "Exposure as shares of equity, pending entries included": views.exposures(
            exposure.exposures(database, settings, run.as_of)
        ),
    }
    more = [f"## {title}\n\n{views.markdown(view)}" for title, view in parts.items()]
    with database.engine.connect() as connection:
        switch = f"Kill switch: **{views.escaped(views.switch(control.state(connection, book)))}**"
    return "Open trades", "\n\n".join([switch, views.markdown(views.open_trades(table, settings.ticks)), *more])


def _risk(database: Hub, settings: Settings, run: RunRef) -> tuple[str, str]:
    found = risk.risk(database, settings, run.as_of)
    if found.volatility is None or found.of_equity is None:
        return "Risk", "none"
    risk.keep(database, settings, run.as_of, found)
    expected = f"{views.amount(Decimal(round(found.volatility, 2)))} {found.currency} a year"
    summary = f"Expected volatility: **{expected}**, {views.share(found.of_equity)} of equity."
    missing = [f"{symbol} is not in it: {reason}" for symbol, reason in found.unknown.items()]
    return "Risk", "\n\n".join([views.markdown(views.risks(found.parts), summary), *map(views.escaped, missing)])


def _closed_trades(database: Hub, settings: Settings, _run: RunRef) -> tuple[str, str]:
    table = report.closed_trades(database, settings.execution.book)
    return "Closed trades", views.markdown(
        views.closed_trades(table.tail(50).iloc[::-1], settings.ticks), f"The last 50 of {len(table)}."
    )


def _equity(database: Hub, settings: Settings, _run: RunRef) -> tuple[str, str]:
    table = overview.equity(database, settings.execution.book)
    if table.empty:
        return "Equity", "none"
    last = table.iloc[-1]
    curve = picture.equity(
        list(table["day"]), list(table["earned"].astype(float)), list(table["drawdown"].astype(float)), last["currency"]
    )
    summary = (
        f"**{views.amount(last['equity'])} {last['currency']}**, {views.money(last['earned'])} since "
        f"{table['day'].iloc[0]}, {views.money(last['drawdown'])} from the peak; excluding deposits."
    )
    recent = views.markdown(views.equity(table.tail(20).iloc[::-1]))
    return "Equity", f"{summary}\n\n![profit and drawdown by day]({picture.data_uri(curve)})\n\n{recent}"


def _data(database: Hub, settings: Settings, run: RunRef) -> tuple[str, str]:
    freshness = views.freshness(overview.freshness(database, settings, run.as_of))
    late = int((freshness["state"] == "late").sum())
    summary = f"{len(freshness) - late} of {len(freshness)} series are fresh, {late} late."
    issues = views.markdown(views.issues(overview.issues(database)))
    return "Data", f"{views.markdown(freshness, summary)}\n\n## Open data issues, newest first\n\n{issues}"


ARTIFACTS: dict[str, Callable[[Hub, Settings, RunRef], tuple[str, str]]] = {
    "scores": _scores,
    "decisions": _decisions,
    "open-trades": _open_trades,
    "closed-trades": _closed_trades,
    "equity": _equity,
    "risk": _risk,
    "data": _data,
}
