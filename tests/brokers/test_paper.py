"""The paper broker as an account: rejections, storage, and replies when its storage is lost."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import pandas as pd
import psycopg
import pytest

from alphapivot.brokers import registry
from alphapivot.brokers.base import Accepted, Attached, Duplicate, NotSent, OrderSpec, Ref, Rejected, Unknown
from alphapivot.brokers.paper import taking
from alphapivot.brokers.paper.broker import Paper
from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.config.sections.instrument import Instrument
from alphapivot.errors import ConfigError, Unavailable
from alphapivot.hub import Hub
from alphapivot.research.backtest import driver
from tests.execution.conftest import make_settings

NOW = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = ("A", "spot", "")
D = Decimal


def instrument(symbol="A", **changes):
    terms = {"symbol": symbol, "spot": "a", "signal_market": "spot", "trade_market": "spot", "currency": "EUR"}
    terms |= {"quote_unit": 1, "multiplier": 1, "tick": "0.05", "lot": 10, "margin": "0.5", "tradable": True}
    return Instrument(**(terms | {"calendar": "24/7"} | changes))


def opened(hub, **settings):
    return Paper(
        hub.engine, "mine", PaperBroker(**({"cash": 100_000, "currency": "EUR"} | settings)), {"A": instrument()}
    )


@pytest.fixture
def paper(hub):
    return opened(hub)


def bracket(name="AP1", *, qty=100, stop="90", target="120", **changes):
    legs = (Attached(f"{name}S", "STOP", D(stop)), Attached(f"{name}T", "TARGET", D(target)))
    made = OrderSpec(name, name, "ENTRY", *KEY, "BUY", "MARKET", D(qty), NOW, None, legs, D(1))
    return replace(made, **changes)


def day(paper, number, o, high=None, low=None, close=None, volume=None):
    """A day's bar; the number of fills."""
    ts = NOW + number * DAY
    prices = {"open": o, "high": high or o, "low": low or o, "close": close or o}
    row = {"symbol": "A", "market": "spot", "contract": "", "interval": "1d", "ts": ts, "start": ts - DAY}
    return paper.advance(pd.DataFrame([row | prices | {"volume": volume}]).astype({"volume": float}), {"EUR": D(1)})


def state(paper, name):
    return paper.find([Ref(name, None, name[:3], "ENTRY")], NOW)[name].state


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"symbol": "B"}, r"config.ini has no \[instrument.B\]"),
        ({"qty": D(15)}, "15 is not a multiple of the lot 10"),
        ({"qty": D(0)}, "not a multiple of the lot"),
        ({"qty": D(-10)}, "not a multiple of the lot"),
        ({"kind": "LIMIT", "price": D("99.99")}, "99.99 are not on the tick 0.05"),
        ({"attached": (Attached("AP1S", "STOP", D("90.01")),)}, "90.01 are not on the tick"),
        ({"kind": "STOP", "price": D(90)}, "got STOP"),
        ({"fx": None}, "no fx rate from EUR into the account's currency"),
        ({"leg": "EXIT", "side": "SELL"}, "there is nothing to exit"),
    ],
)
def test_what_cannot_be_traded_is_refused_with_its_reason_and_rests_nowhere(paper, changes, reason):
    reply = paper.submit(bracket(**changes))
    assert isinstance(reply, Rejected)
    assert re.search(reason, reply.reason)
    assert paper.open_orders() == []


def test_the_same_account_is_there_after_a_restart_and_its_currency_cannot_change(hub, paper):
    paper.submit(bracket())
    day(paper, 1, 100)
    again = opened(hub, cash=5)  # the first deposit stays
    assert (again.positions(), again.account().cash) == ({KEY: 100}, 90_000)
    with pytest.raises(ConfigError, match="is in EUR, but"):
        opened(hub, currency="USD")


def test_a_cancelled_entry_takes_its_sleeping_legs_along_and_a_cancelled_leg_nothing(paper):
    paper.submit(bracket("AP1"))
    paper.cancel(Ref("AP1", None, "AP1", "ENTRY"))
    assert {state(paper, i) for i in ("AP1", "AP1S", "AP1T")} == {"CANCELED"}
    paper.submit(bracket("AP2"))
    day(paper, 1, 100)
    paper.cancel(Ref("AP2T", None, "AP2", "TARGET"))
    assert (state(paper, "AP2S"), state(paper, "AP2T")) == ("NEW", "CANCELED")


def test_a_bar_is_replayed_once_whoever_shows_it(paper):
    paper.submit(bracket())
    assert [day(paper, 1, 100), day(paper, 1, 100), day(paper, 1, 80)] == [1, 0, 0]
    assert paper.positions() == {KEY: 100}
    assert day(paper, 2, 85) == 1  # through the stop


def test_a_flat_market_shows_a_new_order_nothing_of_its_past(paper):
    paper.submit(bracket("AP1"))
    day(paper, 1, 100)
    day(paper, 2, 125)
    assert paper.positions() == {}
    paper.submit(bracket("AP2", active_from=NOW + 5 * DAY))
    assert [day(paper, n, 100) for n in (3, 4, 5)] == [0, 0, 0]  # they opened before it was active
    assert day(paper, 6, 101) == 1


def test_a_stop_replaced_after_it_filled_in_part_protects_the_rest(hub):
    paper = opened(hub, max_volume_share="0.5")
    paper.submit(bracket())
    day(paper, 1, 100, volume=1000)
    day(paper, 2, 89, volume=80)  # half of 80: 40 of 100 leave
    assert paper.positions() == {KEY: 60}
    spec = bracket("APN", leg="STOP", bracket="AP1", attached=(), price=D(85), side="SELL", kind="STOP", qty=60)
    answer = paper.replace(Ref("AP1S", None, "AP1", "STOP"), spec)
    assert isinstance(answer, Accepted)
    (stop,) = [o for o in paper.open_orders() if o.client_order_id == "APN"]
    assert (stop.qty, stop.cum_qty, stop.price, state(paper, "AP1S")) == (60, 0, 85, "REPLACED")
    assert paper.replace(Ref("AP1S", None, "AP1", "STOP"), spec) == Duplicate()
    off = replace(spec, client_order_id="APM", price=D("85.01"))
    assert "not on the tick" in paper.replace(Ref("APN", None, "AP1", "STOP"), off).reason
    gone = replace(spec, client_order_id="APM")
    assert "is not working: REPLACED" in paper.replace(Ref("AP1S", None, "AP1", "STOP"), gone).reason


def test_what_is_owned_is_paid_for_and_a_short_sets_its_margin_aside(hub, paper):
    paper.submit(bracket())
    day(paper, 1, 100)
    day(paper, 2, 110)
    account = paper.account()
    assert (account.cash, account.equity, account.free) == (90_000, 101_000, 90_000)
    short = Paper(hub.engine, "short", PaperBroker(cash=100_000, currency="EUR"), {"A": instrument()})
    short.submit(bracket(side="SELL", stop="110", target="80"))
    day(short, 1, 100)
    account = short.account()
    # 10,000 came in and are owed; half of them is margin
    assert (account.cash, account.equity, account.free) == (110_000, 100_000, 95_000)


def test_a_memory_that_cannot_be_reached_was_not_sent_and_one_that_is_lost_is_unknown(hub_url, monkeypatch):
    with Hub(hub_url) as hub:
        paper = opened(hub)
        paper.account()

        def lose(*_):
            with psycopg.connect(hub_url, autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

        monkeypatch.setattr(taking, "rejection_of", lose)  # in the middle of the order
        assert isinstance(paper.submit(bracket()), Unknown)
        monkeypatch.undo()
        assert paper.open_orders() == []
    with Hub("postgresql://nobody@127.0.0.1:1/none") as nowhere:
        lost = Paper.__new__(Paper)
        lost.__dict__ |= vars(paper) | {"_engine": nowhere.engine}
        assert isinstance(lost.submit(bracket()), NotSent)
        with pytest.raises(Unavailable):
            lost.account()


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ({"multiplier": "20"}, "[instrument.A]: its multiplier is 20; a spot market trades the underlying itself: 1"),
        (
            {"futures": "a", "trade_market": "futures", "multiplier": "20", "lot": "0.5"},
            "[instrument.A]: its lot is 0.5; futures trade in whole contracts",
        ),
        ({"multiplier": "20", "tradable": False}, ""),
        ({"futures": "a", "trade_market": "futures", "multiplier": "20"}, ""),
    ],
)
def test_terms_that_no_market_has_are_refused_before_a_run(terms, problem):
    settings = make_settings({"A": terms})
    if not problem:
        return registry.check(settings, {})
    for refuse in (partial(registry.check, environ={}), partial(driver.booked, book="bt-a")):
        with pytest.raises(ConfigError, match=re.escape(problem)):
            refuse(settings)
    return None
