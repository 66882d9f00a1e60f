"""Scores in blocks and rows behave as one table of rows would, whatever is written, withdrawn and packed."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from sqlalchemy import text

from alphapivot.config.sections.runtime import Retention
from alphapivot.errors import Unavailable
from alphapivot.execution.market.source import NEWEST
from alphapivot.frames import Composites, Signals
from alphapivot.hub.bulk import packed, statements
from alphapivot.hub.bulk.write import Written
from alphapivot.hub.server import retention
from alphapivot.hub.tables import ops

NAN = float("nan")
LATER = datetime(2030, 1, 1, tzinfo=UTC)
KEEP = Retention(**dict.fromkeys(("revisions", "replays", "runs", "alerts"), "off"))
numbers = itertools.count()


def day(n):
    return pd.Timestamp("2024-01-01 21:00", tz="UTC") + pd.Timedelta(days=n)


def begin(hub, run_id="r1", scope="live"):
    stored = {"config": {}, "config_hash": "c", "code_version": "v1"}
    return ops.begin_run(hub, run_id, kind="test", scope=scope, as_of=LATER, **stored)


def values(frame):
    return [name for name in frame.columns() if name not in (*frame.keys(), "batch_id")]


def frame_of(frame, rows):
    """{(*texts, day): values} as a frame, in the order of the dict."""
    records = [(*key[:-1], day(key[-1]), *value, 0) for key, value in rows.items()]
    return pd.DataFrame(records, columns=frame.columns()).astype(frame.empty().dtypes)


def write(hub, run, frame, rows):
    with ops.batch(hub, run, "step", f"inputs {next(numbers)}", {}) as batch:
        return batch.write(frame, frame_of(frame, rows)), batch.batch_id


def stored(hub, frame, table=None):
    """The rows of the view, or of ``table``, as ``expected`` has them."""
    keys = frame.keys()
    names = [*keys, *values(frame), "batch_id", *(["superseded_by"] if table else [])]
    with hub.engine.connect() as conn:
        rows = conn.exec_driver_sql(f"SELECT {', '.join(names)} FROM {table or frame.table()}").all()
    return Counter((*row[: len(keys) - 1], (row[len(keys) - 1] - day(0)).days, *row[len(keys) :]) for row in rows)


def expected(model):
    """(key, values) in one tuple each, None for NaN."""
    return Counter((*key, *(None if v != v else v for v in value)) for key, value in model)  # noqa: PLR0124 - NaN


def holds(hub, frame):
    """Checks that no row lies in a block, and that blocks are ascending and do not overlap."""
    name = frame.table()
    with hub.engine.connect() as conn:
        for where in (
            f"{name}_row r JOIN {name}_block b USING (series_id) WHERE r.ts BETWEEN b.first_ts AND b.last_ts",
            f"{name}_block a JOIN {name}_block b USING (series_id) WHERE a.ts[1] < b.ts[1] AND a.last_ts >= b.ts[1]",
            f"{name}_block WHERE ts <> ARRAY(SELECT unnest(ts) ORDER BY 1)",
        ):
            assert conn.exec_driver_sql(f"SELECT FROM {where}").all() == []


def pack(hub, frame):
    with hub.dbapi(autocommit=True) as connection:
        connection.execute("SET lock_timeout = '10s'")  # an error instead of a test that never ends
        packed.maintain(connection, frame)
        connection.execute("RESET lock_timeout")


def small_blocks(monkeypatch):
    monkeypatch.setattr(packed, "BLOCK", 4)
    monkeypatch.setattr(packed, "FEW", 3)


SCORE = st.sampled_from([NAN, 0.0, -0.0, 12.5, -100.0])
GATE = st.sampled_from([NAN, 0.0, 1.0])
VETO = st.sampled_from([None, "illiquid", "ü"])
KEYS = {
    Signals: st.tuples(
        st.sampled_from(["live", "bt"]), st.sampled_from(["flow", "trend"]), st.sampled_from(["A", "Ä b"]),
        st.sampled_from(["1d", "1h"]), st.integers(0, 14),
    ),
    Composites: st.tuples(st.sampled_from(["live", "bt"]), st.sampled_from(["A", "Ä b"]), st.integers(0, 14)),
}  # fmt: skip
VALUES = {
    Signals: st.tuples(SCORE, GATE, VETO),
    Composites: st.tuples(SCORE, SCORE, GATE, VETO, st.sampled_from(["", "flow", "flow,trend"])),
}


def steps(frame):
    """Writes, withdrawals of a symbol's live scores after a day, and packing, in any order."""
    run = st.builds(  # a run of bars of one series, as steps write them
        lambda key, count, some: {(*key[:-1], key[-1] + n): some[n % len(some)] for n in range(count)},
        KEYS[frame], st.integers(1, 9), st.lists(VALUES[frame], min_size=1, max_size=4),
    )  # fmt: skip
    strewn = st.dictionaries(KEYS[frame], VALUES[frame], max_size=12)
    withdrawn = st.tuples(st.sampled_from(["A", "Ä b"]), st.integers(-1, 20))
    return st.lists(st.one_of(run, run, strewn, withdrawn, st.just("pack")), min_size=1, max_size=8)


def same(one, other):
    return all(a == b or (a != a and b != b) for a, b in zip(one, other, strict=True))  # noqa: PLR0124 - NaN


@pytest.mark.parametrize("frame", [Signals, Composites])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_sequence_of_writes_leaves_what_a_dict_would_hold(hub, monkeypatch, frame, data):
    small_blocks(monkeypatch)
    name = frame.table()
    with hub.engine.begin() as conn:
        conn.exec_driver_sql(f"TRUNCATE {name}_row, {name}_block, {name}_revision, {name}_series")
    run, model, kept = begin(hub), {}, []
    for step in data.draw(steps(frame)):
        if step == "pack":
            pack(hub, frame)
        elif isinstance(step, tuple):
            symbol, after = step
            with ops.batch(hub, run, "clear", f"{next(numbers)}", {}) as batch:
                batch.withdraw_scores(frame, symbol, day(after).to_pydatetime())
            gone = {k for k in model if k[0] == "live" and symbol in k and k[-1] > after}
            kept += [(k, (*model.pop(k), batch.batch_id)) for k in gone]
        else:
            written, batch_id = write(hub, run, frame, step)
            equal = {k for k, v in step.items() if k in model and same(v, model[k][:-1])}
            changed = {k for k in step if k in model} - equal
            assert written == Written(len(step) - len(equal) - len(changed), len(changed), len(equal))
            kept += [(k, (*model[k], batch_id)) for k in changed]
            model |= {k: (*v, batch_id) for k, v in step.items() if k not in equal}
        assert stored(hub, frame) == expected(model.items())
        assert stored(hub, frame, f"{name}_revision") == expected(kept)
        holds(hub, frame)
    ways_of_reading(hub, frame, model)


def ways_of_reading(hub, frame, model):
    """Checks the bulk read, and the reads by index, against the model."""
    texts, (first, last) = frame.keys()[:-1], (3, 9)
    for scope in ("live", "bt", "none"):
        df = hub.scores(frame, {"scope": scope, "symbol": ["A", "Ä b"]}, after=day(first), until=day(last))
        assert list(df) == frame.columns()
        got = df.sort_values(frame.keys(), ignore_index=True)
        wanted = {k: v[:-1] for k, v in model.items() if k[0] == scope and first < k[-1] <= last}
        ids = [v[-1] for k, v in model.items() if k in wanted]
        want = frame_of(frame, wanted).assign(batch_id=np.array(ids, np.int64))
        want = want.sort_values(frame.keys(), ignore_index=True)
        pd.testing.assert_frame_equal(got, want, check_exact=True)
        assert np.signbit(got["score"]).tolist() == np.signbit(want["score"]).tolist()
    few = hub.scores(frame, {"symbol": "A"}, after=None, until=None, columns=["ts", "score"])
    assert list(few) == ["ts", "score"]
    assert len(few) == sum("A" in k for k in model)
    with hub.engine.connect() as conn:
        if frame is Signals:
            query = (
                f"SELECT s.{', s.'.join(texts)}, n, a.* FROM signals.signal_series s, generate_series(-1, 25) n,"
                " LATERAL signals.signal_at(s.series_id, timestamptz '2024-01-01 21:00Z' + n * interval '1 day') a"
            )
            assert Counter(map(tuple, conn.exec_driver_sql(query))) == expected(model.items())
        else:
            newest = {"symbols": ["A", "Ä b"], "scope": "live", "as_of": day(last), "most": 5}
            got = [(symbol, (ts - day(0)).days) for symbol, ts, *_ in conn.execute(text(NEWEST), newest)]
            keys = sorted((k[1:] for k in model if k[0] == "live" and k[-1] <= last), key=lambda k: (k[0], -k[1]))
            assert got == [k for _, many in itertools.groupby(keys, lambda k: k[0]) for k in list(many)[:5]]
            latest = {k[1]: k for k in sorted(model, key=lambda k: k[-1]) if k[0] == "live"}
            query = "SELECT symbol, score, raw, gate, veto, pillars_used FROM api.latest_scores"
            assert Counter(map(tuple, conn.exec_driver_sql(query))) == expected(
                ((symbol,), model[key][:-1]) for symbol, key in latest.items()
            )


def long_run(count, pillar="trend", symbol="A", start=0, score=1.0):
    return {("live", pillar, symbol, "1d", start + n): (score + n % 50, NAN, None) for n in range(count)}


def parts(hub):
    """How many rows and blocks of signals there are."""
    with hub.engine.connect() as conn:
        counts = [
            conn.exec_driver_sql(f"SELECT count(*) FROM signals.signal_{p}").scalar_one() for p in ("row", "block")
        ]
    return tuple(counts)


def test_a_long_run_is_stored_in_blocks_and_one_more_bar_rewrites_none(hub):
    run = begin(hub)
    write(hub, run, Signals, long_run(1000))
    assert parts(hub) == (0, 8)
    query = "SELECT ctid::text, xmin::text FROM signals.signal_block ORDER BY last_ts"
    with hub.engine.connect() as conn:
        before = conn.exec_driver_sql(query).all()
    newest = {k: v for k, v in long_run(1001).items() if k[-1] >= 990}
    assert write(hub, run, Signals, newest)[0] == Written(new=1, unchanged=10)
    assert parts(hub) == (1, 8)
    assert write(hub, run, Signals, newest)[0] == Written(unchanged=11)
    with hub.engine.connect() as conn:
        assert conn.exec_driver_sql(query).all() == before
    restated = {k: (99.0, NAN, None) for k in newest if k[-1] == 999}
    assert write(hub, run, Signals, restated)[0] == Written(changed=1)
    with hub.engine.connect() as conn:
        after = conn.exec_driver_sql(query).all()
    assert after[:7] == before[:7]
    assert len(after) == 8


def test_one_more_bar_reads_no_blocks_but_those_of_its_days(hub):
    run, symbols = begin(hub), [f"S{n}" for n in range(200)]
    write(hub, run, Signals, {k: v for symbol in symbols for k, v in long_run(128, symbol=symbol).items()})
    with hub.dbapi(autocommit=True) as connection:
        connection.execute("ANALYZE signals.signal_block")
        series = [n for (n,) in connection.execute("SELECT series_id FROM signals.signal_series")]
        overlap = sql.SQL("EXPLAIN" + statements.OVERLAP).format(**statements.names(Signals))
        plan = connection.execute(overlap, [series, [day(128)] * 200, [day(128)] * 200]).fetchall()
    assert "Index Scan using signal_block_pkey" in str(plan)
    assert "Seq Scan on signal_block" not in str(plan)


def test_a_block_is_a_tenth_of_its_rows(hub):
    write(hub, begin(hub), Signals, long_run(5000))
    size = "SELECT pg_relation_size('signals.signal_block')"
    with hub.engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE plain AS SELECT * FROM signals.signal")
        conn.exec_driver_sql("ALTER TABLE plain ADD PRIMARY KEY (scope, pillar, symbol, interval, ts)")
        plain = conn.exec_driver_sql("SELECT pg_total_relation_size('plain')").scalar_one()
        assert conn.exec_driver_sql(size).scalar_one() * 8 < plain


def test_maintenance_packs_rows_that_fill_blocks_and_leaves_the_newest(hub):
    run, bars = begin(hub), {}
    for n in range(0, 300, 20):  # fewer at a time than are worth a block
        for symbol in "AB":
            bars |= long_run(20, symbol=symbol, start=n)
            write(hub, run, Signals, long_run(20, symbol=symbol, start=n))
    before = stored(hub, Signals)
    assert parts(hub) == (600, 0)
    retention.maintain(hub, KEEP)
    assert parts(hub) == (88, 4)
    assert stored(hub, Signals) == before
    assert write(hub, run, Signals, bars)[0] == Written(unchanged=600)
    retention.maintain(hub, KEEP)
    assert parts(hub) == (88, 4)


def test_the_blocks_of_an_old_backtest_go_and_its_series_with_them(hub):
    old = {("bt", *key[1:]): value for key, value in long_run(300).items()}
    write(hub, begin(hub, "bt", "bt"), Signals, old)
    write(hub, begin(hub), Signals, long_run(300))
    with hub.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE ops.run SET started_at = '2020-01-01', state = 'completed' WHERE scope = 'bt'")
    gone = retention.maintain(hub, KEEP.model_copy(update={"replays": 90}))
    assert gone["replays in signals.signal_block"] == 3
    assert {key[0] for key in stored(hub, Signals)} == {"live"}
    with hub.engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT scope FROM signals.signal_series").all() == [("live",)]
    assert write(hub, begin(hub, "bt2", "bt"), Signals, old)[0] == Written(new=300)


def test_a_writer_that_dies_half_way_leaves_what_was_there(hub, monkeypatch):
    run = begin(hub)
    write(hub, run, Signals, long_run(300))
    before = stored(hub, Signals)
    put = packed.Store._put

    def die(store, rows):
        put(store, rows)
        store._cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(packed.Store, "_put", die)
    with pytest.raises(Unavailable):
        write(hub, run, Signals, long_run(400, score=2.0) | long_run(9, symbol="NEW"))
    monkeypatch.undo()
    assert stored(hub, Signals) == before
    assert write(hub, run, Signals, long_run(400, score=2.0))[0] == Written(new=100, changed=300)


def test_writers_of_the_same_and_of_other_series_at_once_and_packing_lose_nothing(hub, monkeypatch):
    """Each value ever written is current or kept; no writer waits for ever, whatever the order of their series."""
    small_blocks(monkeypatch)
    rounds, writers = 10, 3
    start = threading.Barrier(writers + 1)

    def rows(number, n):
        """Some of one series, and of new ones in another order for each writer."""
        made = long_run(6 + n, symbol="S5", start=n % 3, score=10.0 * number + n)
        for other in range(4):
            made |= long_run(3, symbol=f"S{n}-{(other * number + n) % 5}", score=10.0 * number + n)
        return made

    def writer(number):
        mine = begin(hub, f"w{number}")
        for n in range(rounds):
            start.wait(60)
            write(hub, mine, Signals, rows(number, n))

    def packer():
        for _ in range(rounds):
            start.wait(60)
            pack(hub, Signals)

    with ThreadPoolExecutor(writers + 1) as pool:
        works = [*(pool.submit(writer, number) for number in range(writers)), pool.submit(packer)]
    assert [work.exception() for work in works] == [None] * (writers + 1)
    holds(hub, Signals)
    written = defaultdict(set)
    for number, n in itertools.product(range(writers), range(rounds)):
        for key, (score, *_) in rows(number, n).items():
            written[key].add(score)
    current, kept = stored(hub, Signals), stored(hub, Signals, "signals.signal_revision")
    assert {row[:5] for row in current} == {*written}
    assert len(current) == current.total() == len(written)
    for key, scores in written.items():
        assert {row[5] for row in current + kept if row[:5] == key} == scores


def test_packing_leaves_a_series_alone_while_someone_writes_it(hub, monkeypatch):
    small_blocks(monkeypatch)
    run = begin(hub)
    for n in range(6):
        write(hub, run, Signals, long_run(1, start=n) | long_run(1, symbol="B", start=n))
    with ops.batch(hub, run, "held", "1", {}) as batch:
        batch.write(Signals, frame_of(Signals, long_run(1, score=60.0)))
        pack(hub, Signals)
        assert parts(hub) == (8, 1)
    assert sorted((row[2], row[4], row[5]) for row in stored(hub, Signals)) == [
        (symbol, n, 60.0 if (symbol, n) == ("A", 0) else 1.0) for symbol in "AB" for n in range(6)
    ]
    pack(hub, Signals)
    assert parts(hub) == (4, 2)


def test_an_empty_series_that_someone_writes_is_not_forgotten(hub):
    run = begin(hub)
    write(hub, run, Signals, long_run(1))
    with ops.batch(hub, run, "clear", "1", {}) as batch:
        batch.withdraw_scores(Signals, "A", day(-1).to_pydatetime())
    with ops.batch(hub, run, "held", "1", {}) as batch:
        batch.write(Signals, frame_of(Signals, long_run(2)))
        pack(hub, Signals)
    assert len(stored(hub, Signals)) == 2
    with ops.batch(hub, run, "clear", "2", {}) as batch:
        batch.withdraw_scores(Signals, "A", day(-1).to_pydatetime())
    pack(hub, Signals)
    with hub.engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT FROM signals.signal_series").all() == []
