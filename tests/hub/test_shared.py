"""What several threads request at once is computed once, and held no longer than they hold it."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from alphapivot.hub.shared import Shared


def frame():
    return pd.DataFrame({"a": [1, 2]})


def test_what_several_threads_ask_for_at_once_is_made_once():
    shared, calls, barrier = Shared(), [], threading.Barrier(6)

    def make():
        calls.append(1)
        return frame()

    def get(_):
        barrier.wait(timeout=60)
        result = shared.get("bars", make)
        barrier.wait(timeout=60)  # everyone holds it until all have it
        return result

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(get, range(6)))
    assert len(calls) == 1
    assert all(result is results[0] for result in results)


def test_another_question_does_not_wait_for_the_first():
    shared, inside, free = Shared(), threading.Event(), threading.Event()

    def slow():
        inside.set()
        assert free.wait(timeout=60)
        return frame()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(shared.get, "slow", slow)
        assert inside.wait(timeout=60)
        shared.get("quick", frame)  # would time out
        assert not first.done()
        free.set()
        assert len(first.result()) == 2


def test_an_error_is_its_makers_own_and_the_next_one_tries_again():
    shared = Shared(keep=2)
    with pytest.raises(ZeroDivisionError):
        shared.get("bars", lambda: 1 / 0)
    assert len(shared.get("bars", frame)) == 2


@pytest.mark.parametrize("keep", [0, 2])
def test_nothing_but_the_newest_is_held_beyond_its_last_user(keep):
    shared, calls = Shared(keep), []

    def make():
        calls.append(1)
        return frame()

    held = shared.get("held", make)
    for key in ("a", "b", "c"):
        shared.get(key, make)
    gc.collect()
    before = len(calls)
    assert shared.get("held", make) is held
    for key in ("c", "b", "a"):
        shared.get(key, make)
    assert len(calls) - before == 3 - keep


def test_the_newest_are_kept_within_so_many_bytes():
    def made(rows, number):
        return lambda: calls.append(number) or pd.DataFrame({"a": np.zeros(rows)})

    shared, calls = Shared(keep=3, most=1_000), []  # 8 bytes a row
    for number, rows in enumerate((50, 50, 20)):  # 400, 400, 160 bytes
        shared.get(number, made(rows, number))
    for number in (0, 1, 2):
        shared.get(number, made(1, number))
    assert calls == [0, 1, 2]
    shared.get("large", made(126, "large"))  # alone more than all may take: the others stay
    shared.get("large", made(126, "large"))
    shared.get(2, made(1, 2))
    assert calls == [0, 1, 2, "large", "large"]
    shared.get(3, made(55, 3))  # 440 bytes: the oldest goes
    shared.get(1, made(1, 1))
    shared.get(0, made(1, "again"))
    assert calls == [0, 1, 2, "large", "large", 3, "again"]
