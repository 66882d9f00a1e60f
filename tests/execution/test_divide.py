"""An account divided among its books, by hand."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from alphapivot.brokers.base import Account
from alphapivot.execution.account.divide import Held, divide

D = Decimal
SHARES = {"a": D("0.5"), "b": D("0.3"), "rest": D("0.2")}


def test_each_has_its_own_cash_and_positions_its_share_of_unexplained_cash_and_its_part_of_newer_prices():
    whole = Account("EUR", D(1000), D(1440), D(900))
    cash = {"a": D(300), "b": D(400), "rest": D(200)}  # 100 came, nobody knows why
    held = {"a": Held(D(300), D(300)), "b": Held(D(100), D(100))}  # the broker's prices make 440 of 400
    parts = divide(whole, SHARES, cash, held, settled=True)
    assert {b: (p.cash, p.equity) for b, p in parts.items()} == {
        "a": (350, 350 + 300 + 30),
        "b": (430, 430 + 100 + 10),
        "rest": (220, 220),
    }
    assert sum(p.equity for p in parts.values()) == whole.equity
    free = {"a": 680 - D("0.75") * 540, "b": 540 - D("0.25") * 540, "rest": 220}
    assert {b: p.free for b, p in parts.items()} == free


def test_while_something_is_unread_only_the_ledgers_count():
    whole = Account("EUR", D(1000), D(1440), D(900))
    cash = {"a": D(300), "b": D(400), "rest": D(200)}
    parts = divide(whole, SHARES, cash, {"a": Held(D(300), D(300))}, settled=False)
    assert {b: p.equity for b, p in parts.items()} == {"a": 600, "b": 400, "rest": 200}


def test_nobody_has_more_free_than_the_account_and_nobody_less_than_nothing():
    whole = Account("EUR", D(100), D(1000), D(50))
    parts = divide(whole, {"a": D(1)}, {"a": D(100)}, {"a": Held(D(900), D(900))}, settled=True)
    assert parts["a"].free == 50
    poor = divide(whole, SHARES, {"a": D(-800), "b": D(900)}, {"a": Held(D(900), D(900))}, settled=True)
    assert (poor["a"].free, poor["b"].free) == (0, 50)


amounts = st.decimals(-(10**9), 10**9, places=6, allow_nan=False)


@given(
    cash=amounts,
    equity=amounts,
    own=st.tuples(amounts, amounts, amounts),
    net=st.tuples(amounts, amounts),
)
def test_the_parts_always_add_up_to_the_account(cash, equity, own, net):
    whole = Account("EUR", cash, equity, D(0))
    held = {b: Held(n, abs(n)) for b, n in zip("ab", net, strict=True)}
    parts = divide(whole, SHARES, dict(zip(SHARES, own, strict=True)), held, settled=True)
    assert sum(p.cash for p in parts.values()) == cash
    if any(net):
        assert abs(sum(p.equity for p in parts.values()) - equity) <= D("0.000002")
