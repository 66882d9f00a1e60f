"""Runs are frozen at their first attempt; a step and its receipt are one transaction."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from alphapivot.errors import DataError, Unavailable
from alphapivot.frames import Rolls
from alphapivot.hub.tables import ops
from alphapivot.runs import Receipt, RunRef

AS_OF = datetime(2024, 1, 10, 21, tzinfo=UTC)


def begin(hub, **other):
    values = {"kind": "pipeline", "scope": "live", "as_of": AS_OF, "config": {"a": {"b": 1.5}}, "config_hash": "c1"}
    return ops.begin_run(hub, "run-1", **(values | {"code_version": "v1"} | other))


def rolls(offset=0.0):
    row = {"symbol": "ES", "ts": datetime(1970, 1, 1, tzinfo=UTC), "contract": "ESZ3", "previous": ""}
    empty = Rolls.empty()
    return empty.__class__([row | {"spread": 0.0, "offset": offset}]).astype(empty.dtypes)[list(empty)]


def rows(hub, query):
    with hub.engine.connect() as conn:
        return [tuple(row) for row in conn.exec_driver_sql(query)]


def test_a_run_is_stored_and_loaded_whole(hub):
    run = begin(hub)
    assert run == RunRef("run-1", "live", AS_OF, None, "c1")
    assert ops.load_run(hub, "run-1") == (run, {"a": {"b": 1.5}})


def test_a_second_attempt_gets_what_the_first_one_froze(hub):
    begin(hub)
    ops.finish_run(hub, "run-1", "failed", "pillar trend failed")
    later = datetime(2024, 2, 1, tzinfo=UTC)
    assert begin(hub, as_of=later, config={}, config_hash="c2", code_version="v2") == begin(hub)
    assert ops.load_run(hub, "run-1")[1] == {"a": {"b": 1.5}}
    assert rows(hub, "SELECT state, attempts, message, code_version FROM ops.run") == [("running", 3, "", "v1")]


def test_a_run_that_is_not_there_is_an_error_that_names_it_and_the_database(hub):
    ghost = RunRef("ghost", "live", AS_OF, None, "c")
    with pytest.raises(DataError, match=r"no run ghost .* at 127\.0\.0\.1"):
        ops.load_run(hub, "ghost")
    with pytest.raises(DataError, match="ghost"):
        ops.freeze_known_at(hub, ghost)
    with pytest.raises(DataError, match="ghost"), ops.batch(hub, ghost, "step", "i", {}):
        pass


def test_an_as_of_without_a_zone_is_refused(hub):
    with pytest.raises(DataError, match="has no time zone"):
        begin(hub, as_of=datetime(2024, 1, 1))  # noqa: DTZ001 - that is the mistake


def test_a_state_that_is_none_is_refused(hub):
    begin(hub)
    with pytest.raises(Exception, match="run_state_check"):
        ops.finish_run(hub, "run-1", "done")


def test_a_batch_leaves_its_rows_its_record_and_its_receipt(hub):
    run = begin(hub)
    assert ops.find_receipt(hub, run, "ingest", "i1") is None
    with ops.batch(hub, run, "ingest", "i1", {"feed": "files"}) as batch:
        batch.write(Rolls, rolls())
        batch.write(Rolls, rolls())
        batch.note("one symbol had no answer")
    counts = {"market.roll new": 1, "market.roll changed": 0, "market.roll unchanged": 1}
    receipt = Receipt("run-1", "ingest", "i1", batch.batch_id, counts, ("one symbol had no answer",))
    assert batch.receipt == receipt
    found = ops.find_receipt(hub, run, "ingest", "i1")
    assert found == Receipt(*list(vars(receipt).values())[:-1], unchanged=True)
    assert ops.find_receipt(hub, run, "ingest", "i2") is None
    assert ops.find_receipt(hub, run, "other", "i1") is None
    assert rows(
        hub, "SELECT run_id, step, parameters, code_version, rows, finished_at >= written_at FROM ops.batch"
    ) == [("run-1", "ingest", {"feed": "files"}, "v1", counts, True)]


def test_an_exception_in_a_batch_leaves_nothing_at_all(hub):
    run = begin(hub)
    with pytest.raises(ZeroDivisionError), ops.batch(hub, run, "ingest", "i1", {}) as batch:
        batch.note(f"{batch.write(Rolls, rolls()).new / 0}")
    assert batch.receipt is None
    assert hub.read(Rolls).empty
    assert rows(hub, "SELECT * FROM ops.batch") == []
    assert ops.find_receipt(hub, run, "ingest", "i1") is None


def test_a_step_done_twice_at_once_is_done_once_and_the_slower_may_try_again(hub):
    run = begin(hub)
    entered, outcome = threading.Barrier(2), []

    def step():
        try:
            with ops.batch(hub, run, "ingest", "i1", {}) as batch:
                entered.wait(10)
                batch.note("x")
            outcome.append(batch.receipt.notes)
        except Unavailable as error:
            outcome.append(str(error))

    threads = [threading.Thread(target=step) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome, key=str) == [("x",), "ingest of run run-1 was just done by another executor: try again"]
    assert rows(hub, "SELECT count(*) FROM ops.batch") == [(1,)]


def test_code_that_was_mended_between_attempts_is_recorded_with_the_batch(hub):
    run = begin(hub)
    with ops.batch(hub, run, "pillar", "i", {}, code_version="v2"):
        pass
    assert rows(hub, "SELECT code_version FROM ops.batch") == [("v2",)]


def test_known_at_lies_after_every_write_that_was_committed_before_it(hub):
    run = begin(hub)
    with ops.batch(hub, run, "ingest", "i", {}) as batch:
        batch.write(Rolls, rolls())
    frozen = ops.freeze_known_at(hub, run)
    assert rows(hub, "SELECT max(ingested_at) < max(known_at) FROM market.roll, ops.run") == [(True,)]
    assert ops.load_run(hub, "run-1")[0] == frozen
    assert frozen.known_at.tzinfo is not None


def test_a_problem_that_several_pieces_met_is_one_and_only_a_steps_last_execution_counts(hub):
    run = begin(hub)

    def execute(step, inputs, problems, *notes):
        with ops.batch(hub, run, step, inputs, {}) as batch:
            batch.rows[ops.PROBLEMS] = len(problems)
            batch.notes += [*problems, *notes]

    assert ops.problems(hub) == 0
    execute("backfill 2023", "a", ["X: line 3", "X: line 9"], "only a note")
    execute("backfill 2024", "a", ["X: line 3"])
    assert ops.problems(hub) == 2
    execute("backfill 2023", "b", [], "only a note")
    assert ops.problems(hub) == 1
