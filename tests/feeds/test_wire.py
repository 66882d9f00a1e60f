"""What becomes of requests when one, or all that follow, have no answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from alphapivot.errors import Unavailable
from alphapivot.feeds.base import RAW, Request, gather
from alphapivot.feeds.wire import RefusedError, in_turn

BAR = pd.DataFrame([[0] * len(RAW)], columns=RAW)
REQUESTS = [Request(None, "spot", name, None, datetime(2026, 1, 5, tzinfo=UTC)) for name in ("1m", "5m", "1h", "1d")]


def answering(**refused):
    asked = []

    def answer(request):
        asked.append(request.interval)
        if request.interval in refused:
            raise refused[request.interval]
        return gather([BAR], [])

    return asked, answer


def test_one_without_an_answer_is_a_problem_and_the_others_go_on():
    asked, answer = answering(**{"5m": RefusedError("no such ticker")})
    fetched = in_turn(REQUESTS, answer)
    assert asked == ["1m", "5m", "1h", "1d"]
    assert len(fetched.bars) == 3
    assert [(p.request.interval, p.reason, p.transient) for p in fetched.problems] == [("5m", "no such ticker", False)]


def test_once_nobody_answers_all_that_follow_are_problems_and_not_asked():
    asked, answer = answering(**{"5m": RefusedError("host is down", down=True)})
    fetched = in_turn(REQUESTS, answer)
    assert asked == ["1m", "5m"]
    assert [(p.request.interval, p.transient) for p in fetched.problems] == [("5m", True), ("1h", True), ("1d", True)]
    assert fetched.problems[1].reason == "not requested, because host is down"


def test_nobody_answers_before_the_first_bar():
    asked, answer = answering(**{"1m": RefusedError("no such ticker"), "5m": RefusedError("host is down", down=True)})
    with pytest.raises(Unavailable, match="host is down"):
        in_turn(REQUESTS, answer)
    assert asked == ["1m", "5m"]
