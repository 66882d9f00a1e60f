"""
A backtest equals live trading: the same market run session by session and backtested gives the same trades.

Real PostgreSQL, the real steps, the simulated market with its rolls and splits.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot import process
from alphapivot.cli import demo
from alphapivot.config import plugins
from alphapivot.errors import DataError
from alphapivot.hub.tables import backtests
from alphapivot.reports.terminal import backtests as compared
from alphapivot.research.backtest import check
from tasks import ingest, runs
from tasks.local import backtest, replay
from tests.pillars.gap import GAP

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "tests" / "configs" / "small.ini"
# decisions without an action are stored live, and not in a backtest
IDLE = {"score_missing", "score_below_threshold", "not_tradable"}
TICK = timedelta(microseconds=1)


@pytest.fixture
def small(hub_url, monkeypatch):
    """The settings of small.ini, on a fresh database; with ``changes`` over them."""
    monkeypatch.setenv("ALPHAPIVOT_DATABASE__URL", hub_url)

    def configured(config: Path = SMALL, **changes: str):
        monkeypatch.setenv("ALPHAPIVOT_CONFIG", str(config))
        return process.configure(changes={key.replace("__", "."): value for key, value in changes.items()})

    return configured


def did(book: str) -> dict[str, list[tuple]]:
    """The records of a book, table by table, without ids and wall-clock times."""
    with hubs.connect().engine.connect() as conn:
        return {
            name: [tuple(row) for row in conn.execute(text(query), {"book": book})]
            for name, query in backtests.RESULTS.items()
        }


def quiet(*_: object) -> None: ...


def made(settings, instants, **options):
    return backtest.run(
        settings, instants[0] - TICK, instants[-1], progress=quiet, schedule=lambda *_: instants, **options
    )


def reasons(decision: tuple) -> set[str]:
    return set(decision[4])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sessions", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_a_backtest_does_what_runs_one_by_one_did(small, sessions):
    settings = small()
    instants = demo.closes(settings, sessions)
    for instant in instants:
        replay.session(settings, instant)
    live, after = did(settings.execution.book), did(made(settings, instants).book)
    idle = [d for d in live["decision"] if reasons(d) <= IDLE and d not in after["decision"]]
    assert after["decision"] == [d for d in live["decision"] if d not in idle]
    assert {name: rows for name, rows in after.items() if name != "decision"} == {
        name: rows for name, rows in live.items() if name != "decision"
    }
    assert after["fill"], "nothing was traded: the test would prove nothing"


PEEKING = GAP.replace(
    "bars.open - bars.close",
    "bars.each(lambda c: c[[*range(1, len(c)), -1]] if len(c) else c, bars.close) - bars.close",
)


@pytest.fixture
def own_pillar(small, tmp_path):
    """small.ini with a user's own pillar, on a hub with the bars."""

    def configured(code: str, until: datetime, weights: str | None = None):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / "gap.py").write_text(code)
        written = SMALL.read_text().replace("weights = trend: 0.35,", "weights = gap: 0.1, trend: 0.25,")
        if weights is not None:
            written = re.sub("weights = gap: .*", f"weights = {weights}", written)
            written = written.replace("optional = carry, flow\n", "")
        path = tmp_path / "config.ini"
        path.write_text(written + "\n[plugins]\nfolder = mine\n\n[pillar.gap]\natr = 14\n")
        settings = small(path)
        run = runs.begin("replay", settings, key="bars", as_of=until)
        for feed, shard in ingest.batches(run):
            ingest.ingest.fn(run, feed, shard)
        return settings

    yield configured
    plugins.load(None, ())


@pytest.mark.timeout(1200)
def test_a_pillar_that_peeks_one_bar_ahead_is_caught_by_the_backtest_itself(own_pillar):
    since, until = datetime(2025, 1, 5, tzinfo=UTC), datetime(2025, 2, 14, tzinfo=UTC)
    settings = own_pillar(PEEKING, until)
    with pytest.raises(DataError, match=r"lookahead: pillar 'gap' scores \w+ 1[dw] at 2025-0\d-\d\d .* fix the pillar"):
        backtest.run(settings, since, until, progress=quiet, book="peek")
    with pytest.raises(DataError, match=r"lookahead: pillar 'gap' scores"):  # before hours of trading, not after
        backtest.run(settings, since, until, progress=quiet, book="bars", how=backtest.How(engine="live"))
    failed = {row["book"]: row for row in backtests.listed(hubs.connect())}
    assert [(row["state"], row["digest"]) for row in failed.values()] == [("failed", None)] * 2
    assert failed["bt-bars"]["done_until"] is None
    honest = backtest.run(own_pillar(GAP, until), since, until, progress=quiet, book="honest")
    assert not honest.unchanged
    again = backtest.run(own_pillar(GAP, until), since, until, progress=quiet, book="honest")
    assert again.unchanged
    assert again.run == honest.run
    wider = own_pillar(GAP, until)
    wider = process.configure(changes={"execution.stop_atr": "3"})
    other = backtest.run(wider, since, until, progress=quiet, book="wider")
    one, two = ({row["book"]: row for row in backtests.listed(hubs.connect())}[made.book] for made in (honest, other))
    assert compared.different(one["config"], two["config"]) == [("execution.stop_atr", "1.5", "3")]
    assert one["digest"] != two["digest"]
    trades = compared.different_trades(hubs.connect(), honest.book, other.book)
    assert set(trades["book"]) <= {"bt-honest", "bt-wider"}
    assert len(trades) > 0
    with hubs.connect().engine.connect() as conn:
        query = "SELECT code FROM research.backtest_warning WHERE run_id = :run_id"
        told = set(conn.execute(text(query), {"run_id": honest.run.run_id}).scalars())
    assert {"survivorship", "no_volume_limit"} <= told


def test_what_is_checked_is_split_by_its_number_in_the_order_of_time(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    day = datetime(2025, 1, 5, tzinfo=UTC)
    few = [(day + timedelta(days=n), ["A"]) for n in range(2 * check.EACH - 1)]
    assert check._parts(few) == [few]
    assert check._parts([]) == [[]]
    cuts = [(day + timedelta(days=n), ["A"] * (1 if n else 2 * check.EACH)) for n in range(4 * check.EACH)]
    parts = check._parts(cuts)
    assert [cut for part in parts for cut in part] == cuts
    assert [len(part) for part in parts] == pytest.approx([1, 2 * check.EACH, 2 * check.EACH], abs=2)


# both know the next bar; neither is caught by the same bars cut off in the process that scored them
REMEMBERS = GAP.replace(
    "        gap = ramp",
    """        for i in range(len(bars.ts) - 1):
            if bars.slices[i] == bars.slices[i + 1]:
                KNOWN.setdefault((bars.symbols[bars.slices[i]], bars.ts[i]), np.sign(bars.close[i + 1] - bars.close[i]))
        keys = zip((bars.symbols[s] for s in bars.slices), bars.ts)
        return Parts(parts={"gap": 100 * np.array([KNOWN.get(key, 0.0) for key in keys])})
        gap = ramp""",
).replace("class Gap", "KNOWN = {}\n\n\nclass Gap")
RARELY = GAP.replace(
    "        return Parts",
    """        move = np.append(np.diff(bars.close), 0.0) * np.append(bars.slices[1:] == bars.slices[:-1], False)
        usual = atr(bars, self.atr)
        gap = np.where(np.isnan(usual), np.nan, np.where(np.abs(move) > 1.5 * usual, np.sign(move), 0.0))
        return Parts""",
)
FITS = GAP.replace(
    "        return Parts",
    """        gap = bars.each(lambda g: g / (g.std() + 1) if len(g) else g, gap)
        return Parts""",
)
READS = GAP.replace(
    "        gap = ramp",
    """        open(__file__).read(), os.environ.get("HOME"), datetime.now()
        gap = ramp""",
)
IMPORTS = "import os\nfrom datetime import datetime\nimport numpy as np\n"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("culprit", [REMEMBERS, RARELY, FITS], ids=["remembers", "rarely", "fits"])
def test_a_pillar_that_knows_the_future_is_caught_where_it_was_acted_on(own_pillar, culprit, monkeypatch):
    """The next bars, remembered; a rare move; a calibration by the whole sample."""
    since, until = datetime(2025, 1, 5, tzinfo=UTC), datetime(2025, 2, 14, tzinfo=UTC)
    settings = own_pillar(IMPORTS + culprit, until, "gap: 0.8, structure: 0.2")
    monkeypatch.setattr(check, "_samples", lambda *_: [])  # no luck: only the bars that it acted on
    with pytest.raises(
        DataError, match=r"lookahead: pillar 'gap' scores \w+ 1[dw] at 202\d-\d\d-\d\d .* fix the pillar"
    ):
        backtest.run(settings, since, until, progress=quiet, book="peek")


@pytest.mark.timeout(1200)
def test_files_environment_and_clock_that_a_pillar_reads_are_among_the_warnings(own_pillar, monkeypatch):
    monkeypatch.setattr(check, "EACH", 1)  # in several processes
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    since, until = datetime(2025, 1, 5, tzinfo=UTC), datetime(2025, 1, 14, tzinfo=UTC)
    made = backtest.run(own_pillar(IMPORTS + READS, until), since, until, progress=quiet, book="reads")
    with hubs.connect().engine.connect() as conn:
        query = "SELECT message FROM research.backtest_warning WHERE run_id = :run_id AND code = 'reads'"
        (told,) = conn.execute(text(query), {"run_id": made.run.run_id}).scalars()
    assert told.startswith("pillar gap reads more than bars: the file ")
    assert "gap.py (gap.py, line " in told
    assert "the environment (HOME) (gap.py, line " in told
    assert "the clock (gap.py, line " in told
