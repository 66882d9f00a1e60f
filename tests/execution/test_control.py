"""The kill switch: the newest entry counts, per book and for all books."""

import pytest

from alphapivot.execution.book import control


def now(hub, book="paper"):
    with hub.engine.connect() as conn:
        return control.state(conn, book).state


def test_a_book_is_active_until_somebody_halts_it(hub):
    assert now(hub) == "ACTIVE"
    halted = control.halt(hub, "paper", "odd fills", "me")
    assert (halted.state, halted.reason, halted.by) == ("HALTED", "odd fills", "me")
    assert (now(hub), now(hub, "other")) == ("HALTED", "ACTIVE")
    control.resume(hub, "paper", "explained", "me")
    assert now(hub) == "ACTIVE"


def test_the_stricter_of_the_book_and_all_books_counts(hub):
    control.halt(hub, "*", "the feed is wrong", "me")
    control.resume(hub, "paper", "this one is fine", "me")
    assert now(hub) == "HALTED"
    control.halt(hub, "paper", "careful", "me", reduce_only=True)
    control.resume(hub, "*", "mended", "me")
    assert now(hub) == "REDUCE_ONLY"


def test_a_halt_of_all_books_does_not_reach_backtests(hub):
    control.halt(hub, "*", "the feed is wrong", "me")
    assert now(hub, "bt-1") == "ACTIVE"
    control.halt(hub, "bt-1", "daily_loss", "risk limits")
    assert now(hub, "bt-1") == "HALTED"


@pytest.mark.parametrize(("reason", "by"), [("", "me"), ("  ", "me"), ("why", "")])
def test_a_change_needs_a_reason_and_a_name(hub, reason, by):
    with pytest.raises(ValueError, match="needs a reason and a name"):
        control.resume(hub, "paper", reason, by)
