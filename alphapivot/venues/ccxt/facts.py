"""
What differs between crypto exchanges that ccxt reaches, as far as orders are concerned. Each fact is documented by the
exchange, and proven by tests/brokers against a server that answers in its format. Pure.

Binance: https://developers.binance.com/docs/binance-spot-api-docs/rest-api, .../derivatives/usds-margined-futures.
OKX: https://www.okx.com/docs-v5: an order that was cancelled unfilled is shown for two hours, trades for 90 days.
Bybit: https://bybit-exchange.github.io/docs/v5 (orders, executions, error codes), its unified account: an order that
was cancelled unfilled is shown for a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

Kind = Literal["spot", "perpetual", "future"]


@dataclass(frozen=True)
class Way:
    """
    How one kind of market is traded.

    ``triggers``: stops are not orders but triggers, behind requests of their own (``trigger``: ccxt's parameters); one
    that fires sends an order with an id of its own. ``expires``:
    seconds after which a request that was not carried out never will be; None: the exchange does not promise it.
    ``span``: the longest time that one request for trades covers, ``page``: the most trades in one answer.
    """

    options: Mapping[str, Any]  # of ccxt's client
    page: int
    span: timedelta | None = None
    expires: float | None = None
    trigger: Mapping[str, Any] | None = None
    child: tuple[str, ...] = ()  # the fields of a trigger that may name the order that it sent
    fired: str = "fetch_orders"  # ccxt's method that lists triggers, those that have sent an order among them
    order: Mapping[str, Any] = field(default_factory=dict)  # ccxt's parameters of every order
    market: Mapping[str, Any] = field(default_factory=dict)  # of a market order, a stop among them
    one: Mapping[str, Any] = field(default_factory=dict)  # of a request for one order
    all: Mapping[str, Any] = field(default_factory=dict)  # of a request for all open orders, or all positions
    stop: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # side -> of a stop
    stop_id: str = ""  # how a stop names our id, where ccxt names it for an order
    demo: bool = False  # its sandbox is what ccxt calls demo trading
    forgets: bool = False  # an order that was cancelled unfilled is not found after a while
    cancel_stop: Mapping[str, Any] = field(default_factory=dict)  # of the cancel of a stop that was not reached
    most_open: int | None = None  # open orders in one answer; None: all of them
    lists: tuple[str, str] | None = None  # how the lists of orders name the exchange's id and ours, to look one up in
    profit_apart: bool = False  # balances leave out the profit of what is open
    says_mode: bool = False  # each order says its margin mode

    @property
    def triggers(self) -> bool:
        return self.trigger is not None


@dataclass(frozen=True)
class Venue:
    """``keys``: ccxt's credentials, in the environment as BINANCE_API_KEY and so on."""

    name: str
    ways: Mapping[Kind, Way]
    id_max_len: int
    keys: Mapping[str, str] = field(default_factory=lambda: {"apiKey": "API_KEY", "secret": "API_SECRET"})
    plain_ids: bool = False  # of letters and digits only
    duplicate: tuple[str, ...] = ()  # what a refusal of a repeated id says
    keys_wrong: tuple[str, ...] = ()  # what a refusal of a key says where ccxt takes it for something else
    unclear: tuple[str, ...] = ()  # what an answer says that proves nothing, though its status and ccxt do not show it


# all open orders in one request, weight 80, not one for each symbol; no lists of margin pairs
ALL = {"fetchOpenOrders": {"warnWithoutSymbol": False}, "fetchMargins": False}
WINDOW = 5.0  # seconds for which a request to Binance is valid
READ = 5.0  # seconds until what was carried out can be read, at the latest
USD_M = Way(
    options={
        "defaultType": "swap",
        "defaultSubType": "linear",
        "fetchMarkets": {"types": ["linear"]},
        "recvWindow": int(WINDOW * 1000),
        **ALL,
    },
    page=1000,
    span=timedelta(days=7),
    trigger={"trigger": True},
    child=("actualOrderId",),
    demo=True,  # ccxt refuses testnet.binancefuture.com
)
BINANCE = Venue(
    "Binance",
    {
        # "Timing security": a request is compared with the window again before it goes to the matching engine
        "spot": Way(
            options={
                "defaultType": "spot",
                "fetchMarkets": {"types": ["spot"]},
                "recvWindow": int(WINDOW * 1000),
                **ALL,
            },
            page=1000,
            expires=WINDOW + READ,
        ),
        "perpetual": USD_M,
        "future": USD_M,  # delivery contracts trade as perpetuals do
    },
    id_max_len=36,
    duplicate=("Duplicate order sent", '"code":-4116'),
    keys_wrong=('"code":-2015',),
)
UNIFIED = {"enableUnifiedMargin": False, "enableUnifiedAccount": True, "recvWindow": int(WINDOW * 1000)}
LINEAR = Way(
    options={
        "defaultType": "swap",
        "defaultSubType": "linear",
        "fetchMarkets": {"types": ["linear"]},
        **UNIFIED,
    },
    page=100,
    most_open=50,
    span=timedelta(days=7),
    stop={"BUY": {"triggerDirection": "ascending"}, "SELL": {"triggerDirection": "descending"}},
    lists=("orderId", "orderLinkId"),
    forgets=True,
    profit_apart=True,
)
BYBIT = Venue(
    "Bybit",
    {
        "spot": Way(
            options={"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}, **UNIFIED},
            page=100,
            most_open=50,
            span=timedelta(days=7),
            lists=("orderId", "orderLinkId"),
            forgets=True,
            cancel_stop={"trigger": True},
        ),
        "perpetual": LINEAR,
        "future": LINEAR,
    },
    id_max_len=36,
    duplicate=('"retCode":110072', '"retCode":170141'),
    unclear=('"retCode":10000', '"retCode":10016', '"retCode":170032', '"retCode":170146', '"retCode":170147'),
)


INSTRUMENTS = {"spot": "SPOT", "swap": "SWAP", "future": "FUTURES"}  # ccxt's word -> OKX's


def _okx(kind: Literal["spot", "swap", "future"]) -> Way:
    return Way(
        options={"defaultType": kind, "fetchMarkets": {"types": [kind]}, "createOrder": "privatePostTradeOrder"},
        page=100,
        most_open=100,
        span=timedelta(days=90),
        trigger={"trigger": True},
        child=("ordId", "ordIdList"),
        fired="fetch_closed_orders",
        stop_id="algoClOrdId",
        forgets=True,
        all={"instType": INSTRUMENTS[kind]},
        says_mode=kind != "spot",
    )


OKX = Venue(
    "OKX",
    {"spot": _okx("spot"), "perpetual": _okx("swap"), "future": _okx("future")},
    id_max_len=32,
    keys={"apiKey": "API_KEY", "secret": "API_SECRET", "password": "API_PASSPHRASE"},
    plain_ids=True,
    duplicate=('"51016"', '"51065"'),
    keys_wrong=('"50119"', '"50120"'),
    unclear=('"51149"', '"51054"', '"50026"'),
)
VENUES: Mapping[str, Venue] = {"binance": BINANCE, "bybit": BYBIT, "okx": OKX}
