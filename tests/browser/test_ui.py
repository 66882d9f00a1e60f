"""
Prefect's UI as an operator uses it: the failed pillar in the graph, the Retry button, the artifacts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

pytestmark = [pytest.mark.browser, pytest.mark.prefect, pytest.mark.timeout(400)]

AS_OF = "2025-06-27T00:00:00+00:00"
BREAK = "    def parts(self, bars: Panel) -> Parts:\n"
CONFIG = "tests/configs/small.ini"


@pytest.fixture(scope="module")
def failed(checkout):
    """A pipeline run in which one pillar failed; its code is fixed afterwards."""
    momentum = checkout.folder / "pillars" / "momentum.py"
    sound = momentum.read_text()
    assert BREAK in sound
    momentum.write_text(sound.replace(BREAK, BREAK + '        raise RuntimeError("injected by the test")\n'))
    before = {run["id"] for run in checkout.failed_pipelines()}
    try:
        ran = checkout.alphapivot("run", "--config", CONFIG, "--as-of", AS_OF)
    finally:
        momentum.write_text(sound)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    runs = [run for run in checkout.failed_pipelines() if run["id"] not in before]
    told = [(run["name"], run["start_time"], run["state"]["message"]) for run in runs]
    assert len({name for name, *_ in told}) == 1, told
    return max(runs, key=lambda run: run["start_time"])["id"]


def batches(checkout) -> Counter:
    return Counter(dict(checkout.sql("SELECT step, count(*) FROM ops.batch GROUP BY step")))


def colours(png: bytes) -> Counter:
    """The number of clearly green (completed) and clearly red (failed) pixels."""
    r, g, b = np.moveaxis(np.asarray(Image.open(BytesIO(png)).convert("RGB"), dtype=float), -1, 0)
    green = (g > 120) & (g > 1.6 * r) & (g > 1.4 * b)
    red = (r > 150) & (r > 1.8 * g) & (r > 1.6 * b)
    return Counter(green=int(green.sum()), red=int(red.sum()))


def graph(browser):
    """The graph's canvas, once it is drawn; it has no text to wait for."""
    canvas = browser.wait(lambda d: d.find_elements(By.CSS_SELECTOR, ".flow-run-graph canvas, canvas"), "the graph")[0]
    browser.wait(lambda _: colours(canvas.screenshot_as_png)["green"] > 2000, "a drawn graph")
    return canvas


def test_the_graph_shows_the_failed_pillar_among_those_that_came_through(checkout, browser, failed):
    browser.open(f"/runs/flow-run/{failed}")
    browser.shows("pipeline 2025-06-27 00:00Z", "Failed", "Retry")
    seen = colours(graph(browser).screenshot_as_png)
    assert seen["red"] > 300, seen
    browser.shoot("failed-run")
    browser.press("Task Runs")
    names = {"pillar momentum 0", "pillar trend 0", "composite", "trade", "ingest simulated 0", "report"}
    browser.shows(*names)


def test_the_log_says_what_each_step_did_and_why_one_failed(checkout, browser, failed):
    browser.open(f"/runs/flow-run/{failed}")
    browser.press("Logs")
    browser.shows("injected by the test")
    page = browser.shows("market.bar new", "alphapivot.step")
    assert "pillar trend 0" in page


def test_retry_pressed_in_the_ui_executes_the_failed_pillar_alone(checkout, browser, failed):
    before = batches(checkout)
    assert not before["pillar momentum 0"]
    browser.open(f"/runs/flow-run/{failed}")
    browser.press("Retry")
    browser.wait(lambda d: len(d.find_elements(By.XPATH, "//button[normalize-space()='Retry']")) == 2, "a dialog")
    browser.press("Retry")  # in the dialog
    run = checkout.eventually(
        lambda: checkout.ask(f"/flow_runs/{failed}"),
        lambda r: r["run_count"] == 2 and r["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED"),
        120,
    )
    assert run["state"]["type"] == "COMPLETED", run["state"]
    assert batches(checkout) - before == {"pillar momentum 0": 1, "composite": 1, "trade": 1}
    browser.open(f"/runs/flow-run/{failed}")
    browser.shows("Completed")
    assert colours(graph(browser).screenshot_as_png)["green"] > 2000
    browser.shoot("retried-run")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("scores", ["Scores at 2025-06-27 00:00 UTC", "momentum", "trend", "SP500"]),
        ("decisions", ["Decisions at", "reasons", "SP500"]),
        ("open-trades", ["Open trades at"]),
        ("closed-trades", ["Closed trades at"]),
        ("equity", ["Equity at", "drawdown"]),
        ("data", ["Data at", "series are fresh", "Open data issues"]),
    ],
)
def test_each_artifact_is_shown(checkout, browser, failed, name, words):
    (latest,) = [
        a
        for a in checkout.ask("/artifacts/latest/filter", {"artifacts": {}})
        if a["key"].endswith(f"-{name}") and a["flow_run_id"] == failed
    ]
    browser.open(f"/artifacts/artifact/{latest['latest_id']}")
    browser.shows(*words)
    if name in ("scores", "decisions", "equity"):
        browser.wait(lambda d: d.find_elements(By.TAG_NAME, "table"), "a table")
    if name == "equity":
        width = "return [...document.images].filter(i => i.src.startsWith('data:image/svg')).map(i => i.naturalWidth)"
        browser.wait(lambda d: any(w > 0 for w in d.execute_script(width)), "the drawn curve")
    browser.shoot(f"artifact-{name}")


def test_artifacts_keep_their_history_under_a_stable_key(checkout, browser, failed):
    keys = {a["key"] for a in checkout.ask("/artifacts/latest/filter", {"artifacts": {}})}
    artifacts = checkout.ask(
        "/artifacts/filter", {"artifacts": {"key": {"any_": [k for k in keys if k.endswith("scores")]}}}
    )
    assert len({a["key"] for a in artifacts}) == 1
    assert len(artifacts) >= 2, "of the first attempt and of the retry"


def test_the_run_is_tagged_with_the_groups_of_its_instruments(checkout, browser, failed):
    assert {"equity index", "metal"} <= set(checkout.ask(f"/flow_runs/{failed}")["tags"])
    browser.open(f"/runs/flow-run/{failed}")
    browser.press("Details")
    browser.shows("equity index", "metal")


def test_rerun_pillar_is_a_form_that_offers_the_pillars_and_explains_itself(checkout, browser):
    deployment = checkout.deployment("rerun-pillar")
    browser.open(f"/deployments/deployment/{deployment['id']}/run")
    page = browser.shows("pillar", "as_of", "symbols")
    properties = deployment["parameter_openapi_schema"]["properties"]
    for name in ("pillar", "as_of", "symbols"):
        assert properties[name]["description"].split("\n")[0] in page
    assert {"trend", "momentum"} <= set(properties["pillar"]["enum"])


def test_a_long_run_shows_how_far_it_is(checkout, browser, failed):
    since, until = "2024-01-01T00:00:00Z", "2024-03-01T00:00:00Z"
    run = checkout.ended(checkout.trigger("backfill", since=since, until=until), 120)
    assert run["state"]["type"] == "COMPLETED", run["state"]
    (shown,) = checkout.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    assert (shown["type"], shown["data"]) == ("progress", 100)
    browser.open(f"/artifacts/artifact/{shown['id']}")
    browser.shows("backfill:", "done")


@pytest.mark.slow
def test_the_demos_run_as_the_readme_shows_it(checkout, browser):
    environ = {k: v for k, v in checkout.environ.items() if k != "ALPHAPIVOT_DATABASE__NAME"}
    ran = replace(checkout, environ=environ).alphapivot("demo", "--sessions", "3", timeout=250)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    name = {"flow_runs": {"name": {"like_": "pipeline 2025-06-28"}}}
    browser.open(f"/runs/flow-run/{checkout.wait_for_any(name)[0]['id']}")
    browser.shows("Completed", "Artifacts")
    graph(browser)
    browser.shoot("flow-run")
    (equity,) = checkout.ask("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["demo-equity"]}}})
    browser.open(f"/artifacts/artifact/{equity['latest_id']}")
    browser.shows("Equity at", "drawdown")
    browser.shoot("artifact-equity")  # instead of the test's, whose book is young
