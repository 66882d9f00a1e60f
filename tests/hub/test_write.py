"""Upserts: new rows are inserted, changed ones replaced and kept, equal ones untouched."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from alphapivot.errors import DataError
from alphapivot.frames import Bars, Issues, Rolls, Signals
from alphapivot.hub.bulk import merge
from alphapivot.hub.bulk.write import Written, upsert
from alphapivot.hub.tables import bars, ops

AS_OF = datetime(2024, 1, 10, tzinfo=UTC)
NAN = float("nan")
numbers = itertools.count()


def frame_of(frame, rows):
    """Tuples as a frame with the right dtypes, without batch_id, which the hub sets."""
    empty = frame.empty()
    names = [name for name in empty if name != "batch_id"]
    return pd.DataFrame(rows, columns=names).astype(empty.dtypes[names])


def day(n):
    return pd.Timestamp("2024-01-01 21:00", tz="UTC") + pd.Timedelta(days=n)


def bar(n, close=100.0, symbol="SP500", **other):
    values = {"market": "spot", "contract": "", "interval": "1d", "open": close, "high": close + 1, "low": close - 1}
    values |= {"volume": 1e6, "open_interest": NAN, "source": "files"} | other
    values |= {"symbol": symbol, "ts": day(n), "close": close}
    return tuple(values[name] for name in Bars.columns())


@pytest.fixture
def run(hub):
    return begin(hub)


def begin(hub, run_id="r1"):
    return ops.begin_run(
        hub, run_id, kind="test", scope="live", as_of=AS_OF, config={}, config_hash="c", code_version="v1"
    )


def write(hub, run, frame, rows):
    with ops.batch(hub, run, "step", f"inputs {next(numbers)}", {}) as batch:
        written = batch.write(frame, frame_of(frame, rows))
    return written, batch.batch_id


def read(hub, frame=Bars, known_at=None):
    df = bars.window(hub, ["SP500", "DAX"], "spot", "1d", after=None, until=day(999), known_at=known_at)
    assert frame.validate(df) is not None
    return df


def test_what_is_written_is_read_back_bit_for_bit(hub, run):
    rows = [bar(2, 1 / 3, open_interest=5.5), bar(1, 0.1 + 0.2, volume=NAN), bar(3, -0.0, open=NAN, high=NAN, low=NAN)]
    rows += [bar(1, 5e-324, symbol="Ä" * 40, open=5e-324, high=1e308, low=-1e308)]
    written, _ = write(hub, run, Bars, rows)
    assert written == Written(new=4)
    expected = frame_of(Bars, rows).sort_values(["symbol", "ts"]).reset_index(drop=True)
    got = hub.read(Bars).sort_values(["symbol", "ts"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(got, expected, check_exact=True)
    assert list(np.signbit(got["close"])) == list(np.signbit(expected["close"]))


def test_texts_of_every_length_null_and_rows_beyond_one_piece_survive(hub, run):
    rng = np.random.default_rng(1)
    rows = [
        ("live", "trend", f"S{i}", "1d", day(i % 7), score, gate, veto)
        for i, (score, gate, veto) in enumerate(
            zip(
                rng.choice([NAN, 0.0, 99.99, -100.0], 70_000),
                rng.choice([NAN, 1.0], 70_000),
                rng.choice([None, "illiquid", "ü", "crowded"], 70_000),
                strict=True,
            )
        )
    ]
    written, batch_id = write(hub, run, Signals, rows)
    assert written == Written(new=70_000)
    expected = frame_of(Signals, rows).assign(batch_id=np.int64(batch_id))
    got = hub.read(Signals).set_index("symbol").loc[expected["symbol"]].reset_index()[list(expected)]
    pd.testing.assert_frame_equal(got, expected, check_exact=True)


def test_an_upsert_counts_new_changed_and_unchanged_rows(hub, run):
    write(hub, run, Bars, [bar(1), bar(2), bar(3)])
    written, _ = write(hub, run, Bars, [bar(2), bar(3, 101.0), bar(4)])
    assert written == Written(new=1, changed=1, unchanged=1)
    assert read(hub)["close"].tolist() == [100, 100, 101, 100]


def test_a_value_that_becomes_known_or_unknown_is_a_change(hub, run):
    write(hub, run, Bars, [bar(1, volume=NAN), bar(2), bar(3, volume=NAN)])
    written, _ = write(hub, run, Bars, [bar(1), bar(2, volume=NAN), bar(3, volume=NAN)])
    assert written == Written(changed=2, unchanged=1)


def test_unchanged_rows_are_not_touched_on_disk(hub, run):
    rows = [bar(1), bar(2)]
    write(hub, run, Bars, rows)
    where = "SELECT ctid::text, xmin::text, xmax::text, ingested_at FROM market.bar ORDER BY ts"
    with hub.engine.connect() as conn:
        before = conn.exec_driver_sql(where).all()
    assert write(hub, run, Bars, rows)[0] == Written(unchanged=2)
    with hub.engine.connect() as conn:
        assert conn.exec_driver_sql(where).all() == before


def test_a_restated_bar_keeps_its_old_version_with_the_batch_that_superseded_it(hub, run):
    write(hub, run, Bars, [bar(1, 100.0)])
    _, second = write(hub, run, Bars, [bar(1, 101.0)])
    _, third = write(hub, run, Bars, [bar(1, 102.0, source="yahoo")])
    with hub.engine.connect() as conn:
        old = conn.exec_driver_sql(
            "SELECT close, source, superseded_by FROM market.bar_revision ORDER BY ingested_at"
        ).all()
        chain = conn.exec_driver_sql(
            "SELECT ingested_at, superseded_at FROM market.bar_revision ORDER BY ingested_at"
        ).all()
        current = conn.exec_driver_sql("SELECT ingested_at FROM market.bar").scalar_one()
        author = conn.exec_driver_sql("SELECT written_at FROM ops.batch WHERE batch_id = %s", (third,)).scalar_one()
    assert old == [(100.0, "files", second), (101.0, "files", third)]
    assert chain[0].superseded_at == chain[1].ingested_at
    assert chain[1].superseded_at == current == author


def test_a_changed_signal_keeps_the_version_that_a_decision_may_stand_on(hub, run):
    row = ("live", "trend", "SP500", "1d", day(1), 12.34, NAN, None)
    _, first = write(hub, run, Signals, [row])
    assert write(hub, run, Signals, [row])[0] == Written(unchanged=1)  # another batch_id alone is no change
    _, last = write(hub, run, Signals, [(*row[:5], -5.0, 0.5, "illiquid")])
    with hub.engine.connect() as conn:
        old = conn.exec_driver_sql(
            "SELECT score, gate, veto, batch_id, superseded_by FROM signals.signal_revision"
        ).all()
    assert old == [(pytest.approx(12.34, abs=1e-5), None, None, first, last)]
    assert hub.read(Signals)["batch_id"].tolist() == [last]


def test_a_decision_about_an_issue_survives_the_issue_being_found_again(hub, run):
    issue = ("SP500", "spot", "", "1d", day(1), "nested", "quarantined", "high 1 is below low 2", "{}", "files")
    write(hub, run, Issues, [issue])
    with hub.engine.begin() as conn:
        conn.exec_driver_sql(
            "UPDATE market.quality_issue"
            " SET decided_by = 'me', decided_at = now(), decision = 'accepted', decision_why = 'x'"
        )
    assert write(hub, run, Issues, [issue])[0] == Written(unchanged=1)
    assert write(hub, run, Issues, [(*issue[:7], "high 1 is below low 3", *issue[8:])])[0] == Written(changed=1)
    with hub.engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT detail, decided_by FROM market.quality_issue").all() == [
            ("high 1 is below low 3", "me")
        ]


def test_reading_as_known_at_an_instant_shows_exactly_what_was_known_then(hub, run):
    states = []
    for n, rows in enumerate(
        [[bar(1), bar(2)], [bar(2, 50.0), bar(3)], [bar(2, 50.0)], [bar(1, 7.0), bar(2, 60.0)], [bar(4)]]
    ):
        write(hub, run, Bars, rows)
        known_at = ops.freeze_known_at(hub, begin(hub, f"known{n}")).known_at
        states.append((known_at, read(hub)))
    for known_at, state in states:
        pd.testing.assert_frame_equal(read(hub, known_at=known_at), state)
    assert read(hub, known_at=states[0][0] - timedelta(seconds=60)).empty
    assert [len(state) for _, state in states] == [2, 3, 3, 3, 4]


def test_rolls_are_versioned_and_read_as_known(hub, run):
    first = ("ES", pd.Timestamp("1970-01-01", tz="UTC"), "ESZ3", "", 0.0, 0.0)
    write(hub, run, Rolls, [first])
    known_at = ops.freeze_known_at(hub, run).known_at
    write(hub, run, Rolls, [first, ("ES", day(1), "ESH4", "ESZ3", 12.5, -12.5)])
    now = bars.rolls(hub, ["ES"], until=day(9), known_at=None)
    then = bars.rolls(hub, ["ES"], until=day(9), known_at=known_at)
    assert now["contract"].tolist() == ["ESZ3", "ESH4"]
    assert then["contract"].tolist() == ["ESZ3"]
    assert Rolls.validate(now) is not None


def test_nothing_appears_later_before_a_frozen_known_at(hub):
    """The freeze of known_at waits for a writer in progress; a later writer gets a later date."""
    run, reader = begin(hub, "writer"), begin(hub, "reader")
    wrote, frozen, order = threading.Event(), threading.Event(), []

    def freeze():
        wrote.wait(10)
        known.append(ops.freeze_known_at(hub, reader).known_at)
        order.append("frozen")
        frozen.set()

    known = []
    thread = threading.Thread(target=freeze)
    thread.start()
    with ops.batch(hub, run, "slow", "1", {}) as batch:
        batch.write(Bars, frame_of(Bars, [bar(1)]))
        wrote.set()
        assert not frozen.wait(0.5)  # it waits for this transaction
        order.append("committing")
    thread.join(10)
    assert order == ["committing", "frozen"]
    seen = read(hub, known_at=known[0])
    assert len(seen) == 1
    write(hub, run, Bars, [bar(1, 55.0), bar(2)])
    pd.testing.assert_frame_equal(read(hub, known_at=known[0]), seen)
    assert ops.freeze_known_at(hub, reader).known_at >= known[0]


def test_a_clock_that_was_set_back_puts_no_row_before_a_frozen_known_at(hub, run):
    known_at = ops.freeze_known_at(hub, run).known_at
    future = known_at + timedelta(hours=1)  # as if the clock had been an hour ahead when it was fixed
    with hub.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE ops.run SET known_at = %s", (future,))
    write(hub, run, Bars, [bar(1)])
    assert read(hub, known_at=future).empty
    later = ops.freeze_known_at(hub, begin(hub, "later")).known_at
    assert len(read(hub, known_at=later)) == 1


def test_writers_of_the_same_rows_at_once_lose_no_version(hub):
    """Every value ever written is either current or kept, and the versions of a bar follow one another."""
    rounds, writers = 12, 3
    start = threading.Barrier(writers)
    failed = []

    def work(number):
        mine = begin(hub, f"w{number}")
        try:
            for n in range(rounds):
                start.wait(30)
                write(hub, mine, Bars, [bar(d, 1000.0 * number + n) for d in range(n % 3, 40 + n)])
        except BaseException as error:
            failed.append(error)
            start.abort()
            raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, writers + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with hub.engine.connect() as conn:
        versions = pd.DataFrame(
            conn.exec_driver_sql(
                "SELECT ts, close, ingested_at, superseded_at FROM market.bar_revision"
                " UNION ALL SELECT ts, close, ingested_at, NULL FROM market.bar ORDER BY ts, ingested_at"
            ).all()
        )
    for n in range(40):
        mine = versions[versions["ts"] == day(n)]
        expected = {1000.0 * w + r for w in range(1, writers + 1) for r in range(rounds) if r % 3 <= n}
        assert set(mine["close"]) == expected
        assert mine["superseded_at"].tolist()[:-1] == mine["ingested_at"].tolist()[1:]


def test_a_row_that_changes_between_two_statements_of_a_merge_is_kept_all_the_same(hub):
    """A trigger stops one writer after it has kept the rows it will replace; another then changes an equal row."""
    one, other = begin(hub, "one"), begin(hub, "other")
    write(hub, one, Bars, [bar(1, 10.0), bar(2, 20.0)])
    with hub.engine.begin() as conn:
        conn.exec_driver_sql(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN IF current_setting('test.hold', true) = 'on' THEN PERFORM pg_advisory_xact_lock(42); END IF;"
            " RETURN NULL; END$$;"
            "CREATE TRIGGER hold AFTER INSERT ON market.bar_revision FOR EACH STATEMENT EXECUTE FUNCTION hold()"
        )
    done = []

    def held_up():
        with ops.batch(hub, one, "held", "1", {}) as batch:
            batch.conn.exec_driver_sql("SET LOCAL test.hold = 'on'")
            done.append(batch.write(Bars, frame_of(Bars, [bar(1, 11.0), bar(2, 20.0)])))

    with hub.dbapi(autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(42)")
        thread = threading.Thread(target=held_up)
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted"
        while holder.execute(waiting).fetchone() == (0,):
            time.sleep(0.01)
        write(hub, other, Bars, [bar(2, 21.0)])
    thread.join(30)
    assert done == [Written(changed=2)]
    with hub.engine.connect() as conn:
        kept = conn.exec_driver_sql("SELECT close FROM market.bar_revision ORDER BY close").scalars().all()
    assert kept == [10.0, 20.0, 21.0]
    assert read(hub)["close"].tolist() == [11.0, 20.0]


def test_of_many_rows_the_few_that_differ_are_kept_and_replaced(hub, run, monkeypatch):
    monkeypatch.setattr(merge, "MANY", 5)
    days = range(20)
    write(hub, run, Bars, [bar(n) for n in days])
    for close in (101.0, 102.0):
        changed = [bar(n, close if n in (3, 7) else 100.0) for n in (*days, 20 + int(close))]
        assert write(hub, run, Bars, changed)[0] == Written(new=1, changed=2, unchanged=18)
    assert read(hub)["close"].tolist()[:9] == [100.0] * 3 + [102.0] + [100.0] * 3 + [102.0] + [100.0]
    with hub.engine.connect() as conn:
        kept = conn.exec_driver_sql("SELECT close FROM market.bar_revision ORDER BY close, ts").scalars().all()
    assert kept == [100.0, 100.0, 101.0, 101.0]


@pytest.mark.parametrize("many", [merge.MANY, 0])  # above it the rows that differ go through a table of their own
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(
            st.tuples(st.sampled_from(["A", "BB", "C d"]), st.sampled_from(["", "Z3"]), st.integers(0, 4)),
            st.tuples(
                st.sampled_from([1.0, 2.0, -3.5]), st.sampled_from([NAN, 0.0, 9.0]), st.sampled_from(["f", "yahoo"])
            ),
            max_size=12,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_sequence_of_upserts_leaves_what_a_dict_would_hold(hub, monkeypatch, many, batches):
    monkeypatch.setattr(merge, "MANY", many)
    with hub.engine.begin() as conn:
        conn.exec_driver_sql("TRUNCATE market.bar, market.bar_revision")
    run, oracle, kept = begin(hub), {}, 0
    for upserted in batches:
        rows = [
            bar(n, close, symbol, contract=contract, market="futures", volume=volume, source=source)
            for (symbol, contract, n), (close, volume, source) in upserted.items()
        ]
        same = {k for k, v in upserted.items() if k in oracle and str(oracle[k]) == str(v)}
        changed = {k for k in upserted if k in oracle} - same
        expected = Written(new=len(upserted) - len(same) - len(changed), changed=len(changed), unchanged=len(same))
        assert write(hub, run, Bars, rows)[0] == expected
        oracle |= upserted
        kept += len(changed)
    df = hub.read(Bars)
    got = {
        (r.symbol, r.contract, (r.ts - day(0)).days): (r.close, r.volume, r.source) for r in df.itertuples(index=False)
    }
    assert str(sorted(got.items())) == str(sorted(oracle.items()))
    with hub.engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM market.bar_revision").scalar_one() == kept


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [bar(1), bar(2), bar(1, 5.0)],
            "1 rows for market.bar repeat the key of another, first symbol SP500, .*2024-01-02",
        ),
        ([bar(1, high=98.0)], "high and low enclose open and close"),
        ([bar(1, float("inf"), open=1.0, high=NAN, low=NAN)], "infinite"),
        ([bar(1, NAN)], "close"),
        ([bar(1), bar(2, volume=-1.0)], r"volume.*1 rows, first -1\.0 at symbol SP500"),
        ([bar(1, market="options")], "market"),
        ([bar(1, contract="ESZ3")], "bar_spot_has_no_contract"),
    ],
)
def test_rows_that_break_a_rule_are_refused_whole_and_named(hub, run, rows, says):
    with pytest.raises(DataError, match=says):
        write(hub, run, Bars, [bar(7), *rows])
    assert hub.read(Bars).empty


def test_an_empty_frame_writes_nothing(hub, run):
    assert write(hub, run, Bars, [])[0] == Written()


def test_rows_are_written_inside_a_batch_only(hub):
    with hub.engine.begin() as conn, pytest.raises(DataError, match="no batch 77"):
        upsert(conn, Bars, frame_of(Bars, [bar(1)]), 77)


@pytest.mark.parametrize(
    ("column", "value"),
    [("close", "NaN"), ("close", "Infinity"), ("volume", "-1"), ("open", "-Infinity"), ("high", "1"), ("market", "x")],
)
def test_the_table_itself_refuses_what_no_bar_can_be(hub, run, column, value):
    write(hub, run, Bars, [bar(1)])
    with hub.engine.begin() as conn, pytest.raises(Exception, match="violates check constraint"):
        conn.exec_driver_sql(f"UPDATE market.bar SET {column} = %s", (value,))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "100.01", "-100.01"])
@pytest.mark.parametrize("place", ["signal.score", "signal.gate", "composite.score", "composite.raw", "composite.gate"])
def test_the_tables_of_scores_refuse_what_no_score_can_be(hub, place, value):
    table, column = place.split(".")
    texts = {"veto": "NULL::text", "pillars_used": "'trend'"} if table == "composite" else {"veto": "NULL::text"}
    values = {"score": "NULL::real", "raw": "NULL::real", "gate": "NULL::real", "batch_id": "1"} | texts
    if table == "signal":
        del values["raw"]
    days = {"first_ts": "'2024-01-02'", "last_ts": "'2024-01-03'", "ts": "'{2024-01-02,2024-01-03}'"}
    row = {"series_id": "1", "ts": "now()", **values, column: "%s::real"}
    block = {"series_id": "1", **days} | {name: f"ARRAY[{text}]" for name, text in values.items()}
    for part, one in (("row", row), ("block", block | {column: "ARRAY[NULL, %s::real]"})):
        statement = f"INSERT INTO signals.{table}_{part} ({', '.join(one)}) VALUES ({', '.join(one.values())})"
        with hub.engine.connect() as conn:
            conn.exec_driver_sql(statement, ("0.5",))
        with hub.engine.connect() as conn, pytest.raises(Exception, match="violates check constraint"):
            conn.exec_driver_sql(statement, (value,))


def test_where_and_columns_narrow_a_read(hub, run):
    write(hub, run, Bars, [bar(1), bar(2, 5.0), bar(1, symbol="DAX")])
    df = hub.read(Bars, sql.SQL("symbol = {}").format(sql.Literal("SP500")), ["ts", "close"])
    assert df.sort_values("ts")["close"].tolist() == [100.0, 5.0]
    assert list(df) == ["ts", "close"]


def test_a_window_is_sorted_and_cut_on_both_sides(hub, run):
    write(hub, run, Bars, [bar(n, symbol=s) for n in (5, 3, 1, 4, 2) for s in ("SP500", "DAX")])
    df = bars.window(hub, ["SP500", "DAX"], "spot", "1d", after=day(1), until=day(4), known_at=None)
    assert df["symbol"].tolist() == ["DAX"] * 3 + ["SP500"] * 3
    assert df["ts"].tolist() == [day(2), day(3), day(4)] * 2
