"""`alphapivot tune --engine full`: each trial is what `alphapivot backtest` makes of its config, in its own process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from psycopg import sql
from sqlalchemy import text

from alphapivot import cli, process
from alphapivot import hub as hubs
from alphapivot.frames import Bars
from alphapivot.hub.tables import backtests, ops
from tasks.local import replay

ROOT = Path(__file__).parents[2]
AS_OF = datetime.fromisoformat("2024-11-03T23:30:00Z")
PERIOD = ["--from", "2024-06-01", "--to", "2024-09-30"]
LONGER = ["--from", "2024-03-15", "--to", "2024-09-30"]
JUDGED = ["--folds", "1", "--embargo", "1"]
TRIALS = (
    "SELECT trial, values, config_hash, sharpe, growth, drawdown, trades, held, halted_at, returns, days"
    " FROM research.tune_trial WHERE tune_id = {} ORDER BY trial"
)


@pytest.fixture(scope="module")
def market(server, template):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", server.database("tuned_whole", template=template))
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / "small.ini"))
        settings = process.configure()
        replay.session(settings, AS_OF)
        yield hubs.connect()


def rows(hub, query, **values):
    with hub.engine.connect() as conn:
        return [dict(r) for r in conn.execute(text(query), values).mappings()]


def newest(hub) -> int:
    return rows(hub, "SELECT max(tune_id) AS newest FROM research.tune")[0]["newest"]


@pytest.mark.timeout(1800)
def test_each_trial_is_the_backtest_of_its_config_also_for_keys_that_the_screening_engine_leaves_out(market, capsys):
    keys = ["--set", "risk.max_repeats=off,1"]
    assert cli.main(["tune", *PERIOD, *keys, *JUDGED]) == 2
    assert "leaves out [risk] max_repeats: use --engine full" in capsys.readouterr().err
    assert cli.main(["tune", *PERIOD, *keys, *JUDGED, "--engine", "full"]) == 0
    told = capsys.readouterr().out
    number = newest(market)
    assert f"bt-tune{number}-0 to -1" in told
    found = rows(market, TRIALS.format(number))
    assert [t["values"]["risk.max_repeats"] for t in found] == ["off", "1"]
    assert found[0]["trades"] > found[1]["trades"] > 0  # the key makes a difference
    cli.main(["backtest", *PERIOD, "--set", "risk.max_repeats=1", "--book", "once"])
    listed = {b["book"]: b for b in backtests.listed(market)}
    first, mine, theirs = (listed[name] for name in (*(backtests.trial(number, n) for n in (0, 1)), "bt-once"))
    assert mine["digest"] == theirs["digest"] != first["digest"]
    assert (found[1]["trades"], found[1]["config_hash"]) == (theirs["trades"], theirs["config_hash"])
    assert np.prod(1 + np.array(found[1]["returns"])) - 1 == pytest.approx(theirs["net_return"], rel=1e-9)
    assert first["scope"] == mine["scope"] == first["book"]  # no score depends on this key


def test_trials_are_listed_only_where_they_are_asked_for_and_found_by_name_always(market, capsys):
    name = backtests.trial(newest(market), 1)
    assert cli.main(["backtests"]) == 0
    told = capsys.readouterr().out
    assert name not in told
    assert f"2 trials of search {newest(market)} are not shown: --trials" in told
    assert cli.main(["backtests", "--trials"]) == 0
    for command in (["backtests", name], ["report", "--book", name]):
        assert cli.main(command) == 0
        assert name in capsys.readouterr().out
    assert cli.main(["backtest", *PERIOD, "--book", name]) == 2
    assert "reserved for trials of `alphapivot tune`" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_engines_agree_on_what_both_know(market, capsys):
    keys = ["--set", "execution.stop_atr=1.5,3", "--set", "composite.weights.trend=0.2,0.6"]
    assert cli.main(["tune", *LONGER, *keys, *JUDGED]) == 0
    core = rows(market, TRIALS.format(newest(market)))
    assert cli.main(["tune", *LONGER, *keys, *JUDGED, "--engine", "full"]) == 0
    full = rows(market, TRIALS.format(newest(market)))
    assert len({t["growth"] for t in core}) == 4
    for mine, theirs in zip(core, full, strict=True):
        for name in ("values", "config_hash", "trades", "held", "halted_at", "days"):
            assert mine[name] == theirs[name], name
        assert mine["returns"] == pytest.approx(theirs["returns"], abs=1e-9)  # as equities do
    scopes = [b["scope"] for b in backtests.listed(market) if b["book"].startswith(f"bt-tune{newest(market)}-")]
    assert len(set(scopes)) == 2  # one for each way to blend


def test_a_trial_that_cannot_be_made_is_told_with_its_values(market, capsys):
    keys = ["--set", "risk.max_repeats=1,2"]
    assert cli.main(["tune", "--from", "1999-01-01", "--to", "1999-12-31", *keys, *JUDGED, "--engine", "full"]) == 1
    assert "trial 0 (risk.max_repeats = 1): no scores between" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_and_asked_again_it_ends_with_the_same_table(market):
    keys = ["--set", "risk.max_repeats=off,1", "--set", "execution.stop_atr=1.5,3"]
    search = ["tune", *LONGER, *keys, *JUDGED, "--engine", "full"]
    assert cli.main(search) == 0
    old = newest(market)
    expected = rows(market, TRIALS.format(old))
    command = [sys.executable, "-m", "alphapivot.cli", *search]
    for number, instants in enumerate((60, 300, 600)):  # of some 200 for each trial
        child = subprocess.Popen([*command, *["--again"] * (number == 0)], stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda wanted=instants: newest(market) > old and decided(market) >= wanted, child)
        finally:
            child.send_signal(signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
    assert len(rows(market, TRIALS.format(newest(market)))) < len(expected)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert rows(market, TRIALS.format(newest(market))) == expected
    digests = {b["book"].partition("-tune")[2]: b["digest"] for b in backtests.listed(market)}
    assert [digests[f"{newest(market)}-{n}"] for n in range(4)] == [digests[f"{old}-{n}"] for n in range(4)]
    restate(market)
    assert cli.main(["backtest", *LONGER, "--set", "execution.stop_atr=1.5", "--book", "today"]) == 0
    (today,) = [b["digest"] for b in backtests.listed(market) if b["book"] == "bt-today"]
    assert today != digests[f"{old}-0"]  # what was restated makes a difference


def wait_until(look, child) -> None:
    deadline = time.monotonic() + 600
    while not look():
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def decided(hub) -> int:
    """The number of instants at which the trials of the newest search have decided."""
    query = "SELECT coalesce(sum(instants), 0) AS n FROM research.backtest WHERE book LIKE :books"
    return rows(hub, query, books=f"bt-tune{newest(hub)}-%")[0]["n"]


def restate(hub) -> None:
    bars = hub.read(Bars, sql.SQL("interval = '1d' AND ts > '2024-07-01'"))
    changed = bars.assign(high=bars["high"] * 1.02, low=bars["low"] * 0.98)
    run = ops.begin_run(
        hub, "restated", kind="test", scope="live", as_of=AS_OF, config={}, config_hash="restated", code_version="test"
    )
    with ops.batch(hub, run, "bars", "bars", {}) as batch:
        batch.write(Bars, changed)
