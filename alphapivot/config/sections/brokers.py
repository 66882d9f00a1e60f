"""[broker.NAME]: where orders go, one model for each kind of broker."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from alphapivot.config.sections.base import Mapped, Positive, Section
from alphapivot.config.sections.fees import Fee, FeeTable, fee

if TYPE_CHECKING:
    from alphapivot.config.sections.instrument import Instrument


class BrokerSection(Section, ABC):
    """
    The keys of every broker's section, and the properties of its kind.

    A kind sets ``opens``, the ``module:function`` that opens it: called with the hub and the settings, it returns the
    ``alphapivot.brokers.base.Broker`` of [execution] broker. Without a hub it only checks the settings: ConfigError if
    it could not open, and no network requests. ``compares`` may name the ``module:function`` that asks the market for
    its own terms: see ``alphapivot.brokers.registry.compare``.
    """

    opens: ClassVar[str]
    compares: ClassVar[str | None] = None  # the function that compares the terms of instruments with the market's own
    simulated: ClassVar[bool] = False  # fills come from stored bars, so nothing is time-critical
    spreads: ClassVar[bool] = False  # fills a spread's legs together, or none of them
    no_paper: ClassVar[str] = ""  # why mode = paper cannot be, and what to set instead, where there is no paper account

    kind: str
    currency: str = Field(
        pattern="^[A-Z]{3,5}$", description="the ISO code of the account's currency, such as USD, or a coin: USDT"
    )

    @property
    @abstractmethod
    def real_money(self) -> bool:
        """True if orders trade real money: entries then need mode = live and ALPHAPIVOT_LIVE. Each kind must say."""

    def names(self) -> Iterable[str]:
        """The symbols in the section: each must be an [instrument.*]."""
        return ()


class LoginBroker(BrokerSection):
    """
    A broker where someone must log in. ``logins`` names the ``module:function`` that says whether a login is missing:
    see ``alphapivot.brokers.registry.logged_out``.
    """

    logins: ClassVar[str]

    login_alert: int = Field(
        120,
        ge=0,
        description="minutes before a market's open from which a missing login is an alert; the deployment alert looks"
        " hourly; 0: never",
    )


def _fee_or_table(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][\w-]*", text):
        fee(text)
    return text


class ChargedBroker(BrokerSection):
    """A broker whose fees the config tells: a simulated one, or one that does not tell them itself."""

    fees: Mapped[Annotated[str, AfterValidator(_fee_or_table)]] = Field(
        default={},
        description="symbol, group or kind of market (crypto, fx, shares, futures): its fee on every fill, such as 0.2"
        " bps or 2.25 each, or a [fees.NAME]; the first of these three that is named counts",
    )
    tables: Mapped[FeeTable] = Field({})  # [fees.NAME] of ``fees``; set where sections meet

    def fee(self, instrument: Instrument, side: Literal["BUY", "SELL"], day: date) -> Fee:
        """
        The fee of a fill in the session of ``day``: of the first of symbol, group and kind that ``fees`` names. That of
        a spread is the sum of its legs', each as a share of what the unit is worth.
        """
        if instrument.legs:
            return self._of_legs(instrument, side, day)
        name = self._named(instrument)
        if name is None:
            return self._unnamed(instrument)
        table = self.tables.get(name)
        return fee(name) if table is None else table.at(side, day)

    def _of_legs(self, spread: Instrument, side: Literal["BUY", "SELL"], day: date) -> Fee:
        total, worth = Fee(Decimal(0), Decimal(0)), sum(spread.leg_worths.values(), Decimal(0))
        for leg, ratio in spread.legs.items():
            bought = (side == "BUY") == (ratio > 0)
            bps, each = self.fee(spread.leg_terms[leg], "BUY" if bought else "SELL", day)
            total += Fee(bps * spread.leg_worths.get(leg, Decimal(0)) / worth if worth else bps, each * abs(ratio))
        return total

    def fee_dates(self, instrument: Instrument) -> list[date]:
        """The dates on which its fee changes."""
        if instrument.legs:
            return sorted({day for leg in instrument.leg_terms.values() for day in self.fee_dates(leg)})
        table = self.tables.get(self._named(instrument) or "")
        return [] if table is None else sorted(table.dates)

    def charges(self, instrument: Instrument) -> bool:
        """True if fills cost something, on one side or date at least."""
        days = [date.min, *self.fee_dates(instrument)]
        return any(any(self.fee(instrument, side, day)) for side in ("BUY", "SELL") for day in days)

    def _unnamed(self, instrument: Instrument) -> Fee:  # noqa: ARG002 - for those that have other keys
        return Fee(Decimal(0), Decimal(0))

    def _named(self, instrument: Instrument) -> str | None:
        if not self.fees:
            return None
        names = (instrument.symbol, instrument.group, instrument.kind)
        return next((self.fees[name] for name in names if name in self.fees), None)


class PaperBroker(ChargedBroker):
    opens = "alphapivot.brokers.paper.broker:open_paper"
    simulated = True
    spreads = True

    kind: Literal["paper"] = "paper"
    cash: Positive = Field(description="starting cash")
    slippage_bps: Decimal = Field(Decimal(0), ge=0, description="basis points against us on market and stop fills")
    fee_bps: Decimal = Field(Decimal(0), ge=0, description="basis points of notional on every fill")
    fee_per_contract: Decimal = Field(
        Decimal(0), ge=0, description="fee per contract on every futures fill, in the instrument's currency"
    )
    strict_targets: bool = Field(
        default=False,
        description="a take-profit fills only when the price trades a tick through it, at its limit price",
    )
    max_volume_share: Positive | None = Field(
        None, le=1, description="largest share of a bar's volume that one order fills; the rest waits"
    )
    maintenance_margin: Positive | None = Field(
        None,
        le=1,
        description="share of initial margin below which the largest losing position is closed; default: off",
    )
    settle_after: int = Field(
        5, ge=1, description="sessions without a bar after which a held futures contract is settled at its last price"
    )
    # the SEC may suspend trading in a share for 10 business days (Securities Exchange Act, section 12(k)): a longer
    # silence is an end. Shumway (1997), The Delisting Bias in CRSP Data: -30 % for delistings for performance
    delist_after: int = Field(
        11, ge=1, description="sessions without a bar after which a held share, coin or currency is closed as delisted"
    )
    delisting_haircut: Decimal = Field(
        Decimal("0.3"), ge=0, le=1, description="share of its last price that a delisted long position loses"
    )

    @property
    def real_money(self) -> bool:
        return False

    def _unnamed(self, instrument: Instrument) -> Fee:
        futures = instrument.trade_market == "futures"
        return Fee(self.fee_bps, self.fee_per_contract if futures else Decimal(0))


HOSTS = {"paper": "paper-api.alpaca.markets", "live": "api.alpaca.markets"}  # of Alpaca's two environments


class AlpacaBroker(BrokerSection):
    """The API keys come from the environment: APCA_API_KEY_ID and APCA_API_SECRET_KEY."""

    opens = "alphapivot.brokers.alpaca.opening:open_alpaca"
    compares = "alphapivot.brokers.alpaca.assets:compare"

    kind: Literal["alpaca"] = "alpaca"
    account: Literal["paper", "live"] = Field("paper", description="Alpaca's environment")
    base_url: str | None = Field(None, description="another server that speaks Alpaca's format, for tests")
    timeout: float = Field(10, gt=0, description="seconds to wait for a response")
    currency: Literal["USD"] = "USD"
    symbols: Mapped[str] = Field(
        default={}, description="our symbol: Alpaca's symbol, if it differs from the spot ticker"
    )

    @model_validator(mode="after")
    def _is_known(self) -> AlpacaBroker:
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url = {self.base_url} is not an http address")
        host = urlsplit(self.base_url or "").hostname or ""
        if host.endswith("alpaca.markets") and host != HOSTS[self.account]:
            raise ValueError(
                f"base_url = {self.base_url} is not the {self.account} account's address, https://{HOSTS[self.account]}:"
                " correct account, or take base_url out"
            )
        return self

    @property
    def real_money(self) -> bool:
        return self.account == "live"

    def names(self) -> Iterable[str]:
        return self.symbols


class IbBroker(LoginBroker):
    """Interactive Brokers through IB Gateway or TWS, which hold the login: there are no keys."""

    opens = "alphapivot.brokers.ib.opening:open_ib"
    compares = "alphapivot.brokers.ib.opening:compare"
    logins = "alphapivot.brokers.ib.opening:logged_out"

    kind: Literal["ib"] = "ib"
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="the account's own currency")
    account: Literal["paper", "live"] = Field("paper", description="what the gateway is logged in to")
    number: str | None = Field(None, description="the account's number, such as DU1234567, if the login has several")
    host: str = Field("127.0.0.1", description="where IB Gateway or TWS listens")
    port: int = Field(4002, ge=1, le=65535, description="4002 and 4001: Gateway, paper and live; 7497 and 7496: TWS")
    client_id: int = Field(
        17, ge=1, le=32, description="one for each book: orders belong to the client id that sent them"
    )
    timeout: float = Field(10, gt=0, description="seconds to wait for an answer")
    contracts: Mapped[str] = Field(
        default={},
        description="our symbol: IB's SYMBOL@EXCHANGE, such as ES: ES@CME; default: the spot ticker at SMART",
    )

    @property
    def real_money(self) -> bool:
        return self.account == "live"

    def names(self) -> Iterable[str]:
        return self.contracts


class KiteBroker(LoginBroker, ChargedBroker):
    """Zerodha through Kite Connect: KITE_API_KEY in the environment, and `alphapivot login kite` each day."""

    opens = "alphapivot.brokers.kite.opening:open_kite"
    compares = "alphapivot.brokers.kite.opening:compare"
    logins = "alphapivot.venues.kite.login:logged_out"
    no_paper = (
        "Zerodha has no paper account: set mode = shadow to see what would be ordered, [execution] broker = paper to"
        " trade on paper, or mode = live"
    )

    kind: Literal["kite"] = "kite"
    currency: Literal["INR"] = "INR"
    base_url: str | None = Field(None, description="another server that speaks Kite's format, for tests")
    timeout: float = Field(10, gt=0, description="seconds to wait for an answer")
    protection: Decimal = Field(
        Decimal(-1),
        ge=-1,
        le=100,
        description="percent that a market order may go past the last price before it rests as a limit order; -1:"
        " Zerodha's own",
    )
    stop_limit: Decimal = Field(
        Decimal("0.03"),
        gt=0,
        lt=1,
        description="share of its trigger by which the limit of a triggered stop is worse: a price beyond it leaves the"
        " order unfilled, and manage goes to market",
    )
    overnight: int = Field(
        10, ge=1, le=60, description="minutes before the close from which a trigger at Zerodha replaces a day's stop"
    )
    chase: int = Field(
        20, ge=5, description="seconds after which a triggered stop or an exit that rests unfilled is sent again"
    )
    symbols: Mapped[str] = Field(
        default={},
        description="our symbol: Kite's, such as BSE:INFY or of futures NIFTY, if it differs from the feed's ticker",
    )
    freeze: Mapped[Positive] = Field(
        default={},
        description="our symbol: the exchange's freeze quantity, the most of one order; larger orders are sliced",
    )

    @model_validator(mode="after")
    def _is_protected(self) -> KiteBroker:
        if -1 < self.protection <= 0:
            raise ValueError(
                f"protection = {self.protection}: Zerodha refuses market orders without one; write -1, or a percentage"
            )
        return self

    @property
    def real_money(self) -> bool:
        return True

    def names(self) -> Iterable[str]:
        return [*self.freeze, *self.symbols]


class CcxtBroker(BrokerSection):
    """A crypto exchange through ccxt; its keys come from the environment, such as BINANCE_API_KEY."""

    opens = "alphapivot.brokers.ccxt.opening:open_exchange"
    compares = "alphapivot.brokers.ccxt.opening:compare"

    kind: Literal["ccxt"] = "ccxt"
    exchange: str = Field(pattern="^[a-z0-9_]+$", description="its name in ccxt: binance, bybit or okx")
    trades: Literal["spot", "perpetual", "future"] = Field(
        "spot", description="coins, linear perpetuals, or dated linear futures"
    )
    account: Literal["paper", "live"] = Field(
        "paper", description="paper: the exchange's sandbox, with keys of its own"
    )
    currency: str = Field(
        pattern="^[A-Z]{3,5}$",
        description="the coin that is paid with, such as USDT: the currency of its instruments too",
    )
    base_url: str | None = Field(
        None, description="another address of the exchange, such as https://eea.okx.com, or a server of yours for tests"
    )
    timeout: float = Field(10, gt=0, description="seconds to wait for an answer")
    symbols: Mapped[str] = Field(
        default={}, description="our symbol: ccxt's, such as BTC/USDT, if it differs from the feed's ticker"
    )
    leverage: Positive | None = Field(
        None,
        le=200,
        description="of futures: what must be set at the exchange, where it is never changed from here; default:"
        " what is set",
    )
    margin_mode: Literal["cross", "isolated"] | None = Field(
        None,
        description="of futures: what must be set at the exchange; at OKX what orders say, and cross by default",
    )

    @model_validator(mode="after")
    def _borrows(self) -> CcxtBroker:
        named = [name for name in ("leverage", "margin_mode") if getattr(self, name) is not None]
        if named and self.trades == "spot":
            raise ValueError(f"{', '.join(named)}: coins are paid in full; set trades = perpetual, or take it out")
        return self

    @property
    def real_money(self) -> bool:
        return self.account == "live"

    def names(self) -> Iterable[str]:
        return self.symbols


# The values of `kind`; installed packages add theirs as entry points of alphapivot.brokers.
BROKERS: dict[str, type[BrokerSection]] = {
    "alpaca": AlpacaBroker,
    "ccxt": CcxtBroker,
    "ib": IbBroker,
    "kite": KiteBroker,
    "paper": PaperBroker,
}
