"""The desk's sections of a book whose positions follow their scores."""

from datetime import timedelta

from alphapivot.desk.board import Board
from tests.execution.conftest import at
from tests.execution.test_additions import asking

__all__ = ["asking"]  # a fixture


def test_an_addition_that_waits_can_be_approved_and_not_declined(asking):
    board = Board(asking.hub, asking.settings)
    waiting = board._waiting(at(22) + timedelta(hours=1))
    assert "LONG 50 A is sent by the next run" in waiting
    assert "Decline" not in waiting
    scores = board._scores(at(22) + timedelta(hours=1))
    assert "positions follow them, ±30 is an average one" in scores
