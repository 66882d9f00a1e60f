"""A guided search: what a study may know, that it finds what is planted, and that it comes back after a kill."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from alphapivot import cli, process
from alphapivot import hub as hubs
from alphapivot.research.tune import guided, space, trials
from alphapivot.research.tune.judge import assess
from alphapivot.research.tune.objective import Judgement
from alphapivot.research.tune.store import Trial
from tasks.local import replay
from tests.research.test_tune import AS_OF, TRIALS

ROOT = Path(__file__).parents[2]
JUDGED = Judgement(folds=2)
KEYS = [
    space.Key("execution", "stop_atr", "", (), 0.0, 1.0),
    space.Key("execution", "atr", "", (), 2, 9, whole=True),
    space.Key("exit", "trail", "", ("close", "parabolic")),
]
DAYS = [date(2020, 1, 1) + timedelta(days=n) for n in range(600)]
RNG = np.random.default_rng(2)
NOISE = RNG.normal(0, 0.01, len(DAYS))


def trial(number, values, best):
    """Returns whose mean is the larger, the nearer the first value is to ``best`` (one for each third of the days)."""
    x = float(values[0])
    means = np.repeat([0.004 - 0.006 * abs(x - place) for place in best], len(DAYS) // 3)
    days = {"halted_at": None, "days": DAYS, "returns": NOISE + means}
    named = {key.name: value for key, value in zip(KEYS, values, strict=True)}
    return Trial(number, named, "", 0.0, 0.0, 0.0, trades=9, held=3, **days)


def proposed(best, rounds=40, seed=1):
    """Of each study the first values that it proposed."""
    studies = guided.Studies(KEYS, JUDGED, seed)
    made = []
    for _ in range(rounds):
        values = studies.ask()
        studies.tell([trial(n, v, best) for n, v in enumerate(values)])
        made.append([float(v[0]) for v in values])
    return np.array(made)


def test_each_study_finds_what_its_own_days_reward():
    """Training of fold 1 is the first third, of fold 2 the first two, of the last study all."""
    found = np.median(proposed((0.9, 0.1, 0.1))[25:], axis=0)
    assert found[0] > 0.7
    assert found[2] < 0.25
    drawn = proposed((0.9, 0.9, 0.9))
    assert np.abs(drawn[25:] - 0.9).mean() < 0.5 * np.abs(drawn[:10] - 0.9).mean()


def test_no_study_knows_a_day_after_its_training():
    one, other = proposed((0.9, 0.5, 0.2)), proposed((0.9, 0.1, 0.7))
    assert np.array_equal(one[:, 0], other[:, 0])
    assert not np.array_equal(one[:, 1], other[:, 1])
    same = proposed((0.9, 0.5, 0.6))
    assert np.array_equal(one[:, :2], same[:, :2])
    assert not np.array_equal(one[:, 2], same[:, 2])


def test_values_are_of_their_range_and_written_as_in_the_config():
    values = guided.Studies(KEYS, JUDGED, 3).ask()
    for stop, atr, trail in values:
        assert 0 <= float(stop) <= 1
        assert len(stop) <= 9
        assert 2 <= int(atr) <= 9
        assert trail in ("close", "parabolic")
    assert len(values) == guided.count(JUDGED) == 3


def test_a_fold_chooses_among_its_own_trials():
    good, bad = NOISE + 0.01, NOISE - 0.01
    returns = np.column_stack([bad, good, bad, bad, good, NOISE])  # trials 1 and 4 are of fold 2
    found = assess(returns, JUDGED, 252.0, studies=3)
    assert [w.chosen for w in found.walked] == [0, 1]
    assert assess(returns, JUDGED, 252.0).walked[0].chosen == 1


def test_a_trial_that_never_traded_ends_nothing():
    studies = guided.Studies(KEYS, JUDGED, 1)
    for _ in range(12):
        flat = [trial(n, v, (0.5, 0.5, 0.5)) for n, v in enumerate(studies.ask())]
        for made in flat:
            made.returns[:] = 0.0
        studies.tell(flat)


@pytest.fixture
def market(hub_url, monkeypatch):
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)
    monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(ROOT / "tests" / "configs" / "small.ini"))
    replay.session(process.configure(), AS_OF)
    return hubs.connect()


SEARCH = [
    *("tune", "--from", "2024-03-01", "--to", "2025-06-01", "--guided", "--folds", "2", "--seed", "4"),
    *("--set", "execution.stop_atr=1..3", "--set", "execution.entry_threshold=5,10"),
]


def test_the_command_stores_its_trials_and_an_interrupted_search_goes_on_to_the_same_end(market, capsys):
    def stored():
        with market.engine.connect() as conn:
            return [dict(row) for row in conn.execute(text(f"{TRIALS} ORDER BY trial")).mappings()]

    def sql(query):
        with market.engine.begin() as conn:
            conn.execute(text(query))

    assert cli.main(SEARCH) == 2
    assert "--guided needs --trials N" in capsys.readouterr().err
    assert cli.main([*SEARCH, "--trials", "12"]) == 0
    whole = stored()
    assert len(whole) == 36
    assert len({(row["values"]["execution.stop_atr"]) for row in whole}) > 20
    with market.engine.connect() as conn:
        assert conn.execute(text("SELECT guided, trials FROM research.tune")).one() == (True, 36)
    sql("DELETE FROM research.tune_fold")
    sql("DELETE FROM research.tune_trial WHERE trial > 16 OR trial = 4")
    assert cli.main([*SEARCH, "--trials", "12"]) == 0
    assert "resumes after 16 of 36 trials" in capsys.readouterr().out
    assert stored() == whole


def test_what_was_tried_before_is_not_run_again(market, monkeypatch):
    run, honest = [], trials._simulated
    monkeypatch.setattr(trials, "_simulated", lambda *given: run.append(given) or honest(*given))
    monkeypatch.setattr(trials.shifted, "SHIFTS", 0)
    words = ("--from", "2024-03-01", "--to", "2025-06-01", "--set", "execution.entry_threshold=5,10")
    assert cli.main(["tune", *words, "--guided", "--folds", "2", "--trials", "6"]) == 0
    with market.engine.connect() as conn:
        found = conn.execute(text("SELECT count(*), count(DISTINCT values) FROM research.tune_trial")).one()
    assert tuple(found) == (18, 2)
    assert len(run) == 2
