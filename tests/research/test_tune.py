"""`alphapivot tune` over a simulated market in the hub: scores computed once, trials stored, resumed after a kill."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from alphapivot import cli, process
from alphapivot import hub as hubs
from alphapivot.frames import Composites
from alphapivot.hub.tables import backtests
from alphapivot.research.screen import engine
from alphapivot.research.screen.rules import rules_of
from alphapivot.research.tune import space
from alphapivot.research.tune.scores import Scorer
from tasks.local import backtest, replay

ROOT = Path(__file__).parents[2]
AS_OF = datetime.fromisoformat("2025-04-03T23:30:00Z")
SINCE = datetime.fromisoformat("2024-01-01T00:00:00Z")
SEARCH = [
    "tune", "--from", "2024-01-01", "--to", "2025-04-01", "--folds", "3", "--seed", "4",
    "--set", "execution.entry_threshold=10,20", "--set", "composite.weights.trend=0.3,0.7",
    "--set", "execution.stop_atr=1.5,2,3", "--set", "exit.trail_atr=2,4",
]  # fmt: skip
TRIALS = (
    "SELECT trial, values, config_hash, sharpe, growth, drawdown, trades, held, returns, days FROM research.tune_trial"
)


@pytest.fixture(scope="module")
def market(server, template):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server.database("tuned", template=template))
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / "small.ini"))
        settings = process.configure()
        replay.session(settings, AS_OF)
        yield hubs.connect(), settings


def rows(hub, query):
    with hub.engine.connect() as conn:
        return [dict(r) for r in conn.execute(text(query)).mappings()]


def test_scores_made_in_memory_are_those_that_the_pipeline_stored_and_are_made_once(market):
    hub, settings = market
    scorer = Scorer(hub, settings, since=SINCE, until=AS_OF, known_at=None)
    found = scorer.composites(settings)
    stored = hub.read(Composites).sort_values(["symbol", "ts"], ignore_index=True)
    both = found.merge(stored, on=["symbol", "ts"], suffixes=("", "_stored"))
    assert len(both) == len(found) > 1_000
    for name in ("score", "raw", "gate"):
        mine, theirs = both[name].to_numpy(np.float32), both[f"{name}_stored"].to_numpy(np.float32)
        assert np.array_equal(mine, theirs, equal_nan=True), name
    assert both["veto"].fillna("").tolist() == both["veto_stored"].fillna("").tolist()

    every = len(settings.pillars)
    texts = ["composite.weights.trend=0.9", "execution.entry_threshold=5", "pillar.trend.channel=60"]
    keys = space.parse(texts, settings)
    weight, threshold, slow = ({key: key.values[0]} for key in keys)
    scorer.composites(space.apply(settings, threshold))
    assert (scorer.signals.count, scorer.blends.count) == (every, 1)
    scorer.composites(space.apply(settings, weight))
    assert (scorer.signals.count, scorer.blends.count) == (every, 2)
    again = scorer.composites(space.apply(settings, slow))
    assert (scorer.signals.count, scorer.blends.count) == (every + 1, 3)
    assert not np.array_equal(again["raw"], found["raw"], equal_nan=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_engine_is_worth_after_every_instant_what_the_whole_backtest_is(market):
    hub, settings = market
    since, until = (datetime.fromisoformat(f"2024-{day}T00:00:00Z") for day in ("07-01", "08-01"))
    book = backtest.run(settings, since, until, progress=lambda *_: None).book
    theirs = {at: float(worth) for at, worth in backtests.equity(hub, book)}
    scorer = Scorer(hub, settings, since=since, until=until, known_at=None)
    market_ = scorer.market(settings)
    scores = engine.scores(scorer.columns(settings), settings.execution.entry_threshold)
    result = engine.simulate(market_, scores, rules_of(settings))
    assert result.entered >= 5
    assert list(market_.as_of) == list(theirs)
    assert result.equity == pytest.approx(list(theirs.values()), rel=1e-9)


def test_a_search_keeps_every_trial_and_folds_and_its_last_line_is_the_verdict(market, tmp_path, capsys):
    hub, _ = market
    page = tmp_path / "search.html"
    assert cli.main([*SEARCH, "--html", str(page)]) == 0
    told = capsys.readouterr().out
    (search,) = rows(hub, "SELECT * FROM api.tune_searches")
    assert (search["trials"], search["done"]) == (24, 24)
    assert told.partition("Next: ")[0].strip().splitlines()[-1] == search["verdict"]
    assert re.match("Do not trust this result: |This may be real: |No verdict: ", search["verdict"])
    trials = rows(hub, "SELECT * FROM api.tune_trials")
    assert len({str(t["values"]) for t in trials}) == 24
    assert len({t["sharpe"] for t in trials}) > 12  # the keys make a difference
    assert max(t["trades"] for t in trials) > 20
    folds = rows(hub, "SELECT * FROM api.tune_folds ORDER BY fold")
    assert len(folds) == 3
    assert all((f["test_from"] - f["train_to"]).days > 5 for f in folds)  # purge and embargo
    best = max(trials, key=lambda t: t["sharpe"] or -9)
    assert search["best"] == best["trial"]
    (stored,) = rows(hub, "SELECT shifted, shifted_trial FROM research.tune")
    assert stored["shifted_trial"] == best["trial"]
    assert len(stored["shifted"]) == 200
    assert len(set(stored["shifted"])) > 100
    better = sum(s is not None and s >= best["sharpe"] for s in stored["shifted"])
    share = f"{(1 + better) / 201:.1%}"
    assert re.search(rf"its entries at other times do as well +{share} of 200 shifts", told), told
    html = page.read_text()
    around = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)\s*=", around)
    assert not re.findall(r"<script[^>]+src", html)
    assert search["verdict"].replace("'", "&#x27;")[:60] in html
    titles = (
        "In sample against out of sample",
        "chosen trial is below the median",
        "Deflated Sharpe ratio",
        "Median sharpe",
    )
    for title in titles:
        assert title in html


@pytest.mark.browser
@pytest.mark.parametrize(("width", "mobile"), [(1400, False), (390, True)])
def test_no_word_of_the_page_is_cut_on_a_desk_or_a_phone(market, tmp_path, width, mobile):
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("there is no chromium with its driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    page = tmp_path / "search.html"
    assert cli.main([*SEARCH, "--html", str(page)]) == 0
    options = Options()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": mobile}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.get(page.as_uri())
        figures = page.read_text().count("<div class=figure>")
        assert figures >= 5
        drawn = f"return document.querySelectorAll('.infolayer').length >= {figures}"
        WebDriverWait(driver, 120).until(lambda d: d.execute_script(drawn))
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        outside = """return [...document.querySelectorAll('.figure text')].filter(t => {
            const own = t.getBoundingClientRect(), all = t.closest('.figure').getBoundingClientRect();
            return own.width && (own.left < all.left - 1 || own.right > all.right + 1)
        }).map(t => t.textContent)"""
        assert driver.execute_script(outside) == []
        assert driver.get_log("browser") == []
    finally:
        driver.quit()


def test_another_objective_judges_the_same_trials_anew(market, capsys):
    hub, _ = market
    before = rows(hub, TRIALS)
    assert cli.main([*SEARCH, "--objective", "growth", "--walk-forward", "rolling"]) == 0
    assert rows(hub, TRIALS) == before
    (search,) = rows(hub, "SELECT objective, walk_forward, best FROM research.tune")
    assert (search["objective"], search["walk_forward"]) == ("growth", "rolling")
    assert len(rows(hub, "SELECT FROM research.tune WHERE shifted_trial = best")) == 1
    grown = {r["trial"]: r["growth"] for r in before}
    assert grown[search["best"]] == max(grown.values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_random_points_and_asked_again_it_ends_with_the_same_table(market):
    hub, _ = market
    assert cli.main(SEARCH) == 0
    expected = rows(hub, f"{TRIALS} ORDER BY trial")
    (old,) = rows(hub, "SELECT tune_id FROM research.tune")
    command = [sys.executable, "-m", "alphapivot.cli", *SEARCH, "--jobs", "1"]
    kills = []
    for number, wanted in enumerate(sorted(np.random.default_rng(5).choice(range(1, 23), 5, replace=False).tolist())):
        child = subprocess.Popen(command + ["--again"] * (number == 0), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 180
        while child.poll() is None and time.monotonic() < deadline:
            done = len(rows(hub, f"{TRIALS} WHERE tune_id <> {old['tune_id']}"))
            if done >= wanted:
                child.send_signal(signal.SIGKILL)
                kills.append(done)
                break
            time.sleep(0.002)
        assert child.wait(60) in (0, -signal.SIGKILL)
    assert len(kills) == 5
    assert 0 < kills[0] < len(expected)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert rows(hub, f"{TRIALS} ORDER BY trial") == expected
    assert done.stdout.strip().splitlines()[-1] == rows(hub, "SELECT verdict FROM research.tune")[0]["verdict"]


def test_folds_that_the_trades_do_not_fit_end_a_search_with_its_first_trials(market, capsys):
    """44 days a piece train on 39 after the embargo: enough, until the first trial shows how long its trades last."""
    hub, _ = market
    values = ",".join(f"{stop / 10}" for stop in range(40, 100))
    span = ("--from", "2024-01-01", "--to", "2025-04-01")
    assert cli.main(["tune", *span, "--folds", "6", "--jobs", "1", "--set", f"execution.stop_atr={values}"]) == 2
    assert "use fewer folds" in capsys.readouterr().err
    (tried,) = rows(hub, "SELECT count(*) AS n FROM research.tune_trial WHERE values ->> 'execution.stop_atr' = '4.0'")
    (all_,) = rows(
        hub, "SELECT count(*) AS n FROM research.tune_trial WHERE (values ->> 'execution.stop_atr')::real > 4"
    )
    assert (tried["n"], all_["n"] < 5) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "execution.entry_treshold=10,20"], "did you mean entry_threshold?"),
        (["--set", "exection.entry_threshold=10,20"], "did you mean execution?"),
        (["--set", "execution.entry_threshold=10,200"], "less than or equal to 100"),
        (["--set", "composite.weights.trnd=0.1,0.2"], "did you mean trend?"),
        (["--set", "pillar.trend.channel=60..80"], "needs --trials"),
        (["--set", "risk.max_repeats=2,3"], "leaves out [risk] max_repeats"),
        (["--set", "execution.stop_atr=1,2", "--folds", "60"], "use fewer folds"),
        ([], "name a key"),
    ],
)
def test_a_mistake_is_said_with_its_remedy_before_anything_is_tried(market, capsys, options, message):
    base = ["tune", "--from", "2024-01-01", "--to", "2025-04-01"]
    assert cli.main([*base, *options]) == 2
    assert message in capsys.readouterr().err
