"""[broker.NAME]: where orders go, one model for each kind of broker."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from alphapivot.config.sections.base import Mapped, Positive, Section


class BrokerSection(Section):
    """
    What every broker's section holds, and what its kind is.

    A kind sets ``opens``, the ``module:function`` that serves it: called with the hub and the settings, it returns the
    ``alphapivot.brokers.base.Broker`` of [execution] broker. Without a hub it only looks whether it could: ConfigError
    where it could not, and no request to anyone.
    """

    opens: ClassVar[str]
    simulated: ClassVar[bool] = False  # fills come from stored bars, at no hurry

    kind: str
    currency: str = Field(pattern="^[A-Z]{3}$", description="the ISO code of the account's currency, such as USD")

    @property
    def real_money(self) -> bool:
        """Whether orders at this account cost money: entries need mode = live and ALPHAPIVOT_LIVE."""
        return not self.simulated

    def names(self) -> Iterable[str]:
        """The symbols that the section names: each must be an [instrument.*]."""
        return ()


class PaperBroker(BrokerSection):
    opens = "alphapivot.brokers.paper.broker:open_paper"
    simulated = True

    kind: Literal["paper"] = "paper"
    cash: Positive = Field(description="starting cash")
    slippage_bps: Decimal = Field(Decimal(0), ge=0, description="basis points against us on market and stop fills")
    fee_bps: Decimal = Field(Decimal(0), ge=0, description="basis points of notional on every fill")
    fee_per_contract: Decimal = Field(
        Decimal(0), ge=0, description="on every futures fill, in the instrument's currency"
    )
    strict_targets: bool = Field(
        default=False, description="a take-profit fills only where price trades a tick through it, and at its price"
    )
    max_volume_share: Positive | None = Field(
        None, le=1, description="largest share of a bar's volume that one order takes; the rest waits"
    )
    maintenance_margin: Positive | None = Field(
        None, le=1, description="share of initial margin below which the largest loser is closed; off when absent"
    )


class AlpacaBroker(BrokerSection):
    """The keys come from the environment: APCA_API_KEY_ID and APCA_API_SECRET_KEY."""

    opens = "alphapivot.brokers.alpaca.opening:open_alpaca"

    kind: Literal["alpaca"] = "alpaca"
    account: Literal["paper", "live"] = Field("paper", description="which of Alpaca's two environments")
    base_url: str | None = Field(None, description="another server that speaks Alpaca's format, for tests")
    timeout: float = Field(10, gt=0, description="seconds for one answer")
    currency: Literal["USD"] = "USD"
    symbols: Mapped[str] = Field(default={}, description="our symbol: Alpaca's, where it is not the spot ticker")

    @model_validator(mode="after")
    def _is_known(self) -> AlpacaBroker:
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url = {self.base_url} is not an http address")
        return self

    @property
    def real_money(self) -> bool:
        return self.account == "live"

    def names(self) -> Iterable[str]:
        return self.symbols


# What `kind` may say; installed packages add theirs as entry points of alphapivot.brokers.
BROKERS: dict[str, type[BrokerSection]] = {"alpaca": AlpacaBroker, "paper": PaperBroker}
