"""Trading modes: live mode needs a second confirmation, and shadow mode sends nothing."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from alphapivot.brokers.base import Absent, Broker, OrderSpec, Ref, Rejected
from alphapivot.brokers.modes import allow
from alphapivot.brokers.pace import Paced
from alphapivot.brokers.registry import open_broker
from alphapivot.config import read
from alphapivot.config.sections.brokers import BrokerSection
from alphapivot.errors import ConfigError
from tests.brokers import alpaca_server

ROOT = Path(__file__).parents[2]
KEYS = {"APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret"}


def config(tmp_path, mode, account, url="https://example.invalid"):
    """config.ini with nothing but the equities tradable, and an Alpaca account."""
    text = (ROOT / "config.ini").read_text()
    pieces = text.split("[instrument.")
    pieces = [p if p.startswith(("APPLE", "EXXON")) else p.replace("tradable = yes", "tradable = no") for p in pieces]
    path = tmp_path / "config.ini"
    mine = f"\n[broker.alpaca]\nkind = alpaca\naccount = {account}\nbase_url = {url}\n"
    path.write_text("[instrument.".join(pieces) + mine)
    return read.load(path, {}, {"execution.mode": mode, "execution.broker": "alpaca", "execution.book": "real"})


@pytest.mark.parametrize(
    ("mode", "account", "environ", "mistake"),
    [
        ("paper", "paper", {}, None),
        ("paper", "live", {}, "is the live account"),
        ("shadow", "live", {}, None),
        ("shadow", "paper", {}, None),
        ("live", "live", {}, "ALPHAPIVOT_LIVE is not set; start with ALPHAPIVOT_LIVE=real"),
        ("live", "live", {"ALPHAPIVOT_LIVE": "paper"}, "ALPHAPIVOT_LIVE is 'paper'"),
        ("live", "live", {"ALPHAPIVOT_LIVE": "yes"}, "ALPHAPIVOT_LIVE is 'yes'"),
        ("live", "live", {"ALPHAPIVOT_LIVE": "real"}, None),
        ("live", "paper", {"ALPHAPIVOT_LIVE": "real"}, "is not a live account"),
    ],
)
def test_real_money_needs_the_file_and_the_environment_to_agree(tmp_path, mode, account, environ, mistake):
    loaded = config(tmp_path, mode, account)
    if mistake is None:
        allow(loaded, environ)
    else:
        with pytest.raises(ConfigError, match=mistake):
            allow(loaded, environ)


@pytest.mark.parametrize(
    ("account", "url"), [("paper", "https://api.alpaca.markets"), ("live", "https://paper-api.alpaca.markets/v2")]
)
def test_alpacas_address_and_account_must_agree(tmp_path, account, url):
    with pytest.raises(ConfigError, match=f"base_url = {url} is not the {account} account's address, https://"):
        config(tmp_path, "paper", account, url)


def test_a_kind_of_broker_that_does_not_say_whether_its_money_is_real_cannot_be_configured():
    class Silent(BrokerSection):
        kind: str = "silent"

    with pytest.raises(TypeError, match="real_money"):
        Silent(currency="EUR")


def test_the_refusal_comes_before_the_broker_is_even_opened(tmp_path):
    with pytest.raises(ConfigError, match="ALPHAPIVOT_LIVE"):
        open_broker(None, config(tmp_path, "live", "live"), {})


def test_a_simulated_account_has_nothing_to_shadow():
    for mode, mistake in (("shadow", "is simulated"), ("live", "is not a live account")):
        loaded = read.load(ROOT / "demo.ini", {}, {"execution.mode": mode})
        with pytest.raises(ConfigError, match=mistake):
            allow(loaded, {"ALPHAPIVOT_LIVE": "demo"})


def test_a_shadow_reads_the_real_account_and_sends_nothing(tmp_path, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = alpaca_server.Alpaca()
    try:
        broker = open_broker(None, config(tmp_path, "shadow", "live", server.url), {})
        assert isinstance(broker, Broker)
        assert broker.account().equity == Decimal("101000.20")
        now = datetime.now(UTC)
        order = OrderSpec("AP1", "AP1", "ENTRY", "APPLE", "spot", "", "BUY", "MARKET", Decimal(1), now)
        assert broker.submit(order) == Rejected("shadow: computed and journalled, not sent")
        ref = Ref("AP1", None, "AP1", "ENTRY")
        broker.cancel(ref)
        broker.replace(ref, order)
        assert broker.find([ref], now) == {"AP1": Absent()}
        assert {name.split()[0] for name in server.requests} == {"GET"}
    finally:
        server.close()


def test_the_sender_keeps_to_its_pace_and_reads_are_not_held_up():
    clock, slept, sent = [100.0], [], []

    def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    class Recording:
        caps = None

        def __getattr__(self, name):
            return lambda *_: sent.append((name, clock[0]))

    broker = Paced(Recording(), Decimal(4), now=lambda: clock[0], sleep=sleep)
    broker.submit(None)
    broker.cancel(None)
    broker.account()
    broker.replace(None, None)
    clock[0] += 10
    broker.submit(None)
    broker.submit(None)
    assert sent == [
        ("submit", 100.0),
        ("cancel", 100.25),
        ("account", 100.25),
        ("replace", 100.5),
        ("submit", 110.5),
        ("submit", 110.75),
    ]
    assert slept == [0.25, 0.25, 0.25]


def test_missing_keys_are_named(tmp_path, monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY in the environment"):
        open_broker(None, config(tmp_path, "paper", "paper"), {})
