"""Which of Kite's instruments is which of ours, its product, and into which orders a quantity is cut. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from alphapivot.brokers.base import Key
from alphapivot.calendar import bar_ends
from alphapivot.calendar.contracts import UnreadableError, month_of
from alphapivot.errors import ConfigError
from alphapivot.venues.kite import terms, tickers
from alphapivot.venues.kite.tickers import Ticker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alphapivot.config.sections.brokers import KiteBroker
    from alphapivot.config.sections.instrument import Instrument

NEAR = timedelta(days=120)  # a contract may be held for a while after its month
SHARES = {"NSE": "BSE", "BSE": "NSE"}  # a share in the depository has no exchange: Kite names either


class Names:
    """
    ``contracts``: symbol -> the names of its contracts that are known here, which a position in that month has.
    ``now``: a year of one digit is that of a contract that trades then.
    """

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        contracts: Mapping[str, Iterable[str]],
        section: KiteBroker,
        now: datetime,
    ) -> None:
        self._near, self._freeze = now - NEAR, section.freeze
        self.instruments = instruments
        self._tickers = {s: _ticker(i, section.symbols.get(s)) for s, i in instruments.items()}
        self._spot = {self._tickers[s]: s for s, i in instruments.items() if i.trade_market == "spot"}
        self._roots = {self._tickers[s]: s for s, i in instruments.items() if i.trade_market == "futures"}
        self._months: dict[tuple[str, int], str] = {}
        for symbol in {*contracts} & {*instruments}:
            for contract in contracts[symbol]:
                try:
                    self._months[symbol, self._month(symbol, contract)] = contract
                except UnreadableError:
                    continue  # it was never traded by us

    def ticker(self, symbol: str) -> Ticker:
        return self._tickers[symbol]

    def listing(self, key: Key) -> Ticker:
        """Kite's instrument of one of our keys."""
        symbol, market, contract = key
        if symbol not in self._tickers or self.instruments[symbol].trade_market != market:
            raise ConfigError(f"[instrument.{symbol}] {market} is not traded at Zerodha by this config")
        ticker = self._tickers[symbol]
        if market == "spot":
            return ticker
        month = self._month(symbol, contract)
        self._months[symbol, month] = contract
        return Ticker(ticker.exchange, tickers.future(ticker.symbol, month))

    def key(self, exchange: str, name: str) -> Key:
        """Our key of one of Kite's instruments; Kite's own name for one that is not in the config."""
        if (parts := tickers.future_of(name)) and (symbol := self._roots.get(Ticker(exchange, parts[0]))):
            return symbol, "futures", self._months.get((symbol, parts[1]), name)
        if exchange not in SHARES:
            return name, "futures", ""
        here, there = Ticker(exchange, name), Ticker(SHARES[exchange], name)
        return self._spot.get(here) or self._spot.get(there) or name, "spot", ""

    def product(self, key: Key) -> str:
        """Delivery for shares, carried over for futures: neither is squared off at the end of the day."""
        return "CNC" if key[1] == "spot" else "NRML"

    def hours(self, key: Key, now: datetime) -> tuple[bool, datetime | None, datetime | None]:
        """Whether its market is open, when that ends, and when it opens next."""
        return bar_ends.trading(self.instruments[key[0]].trading_hours, now)

    def overnight(self, key: Key, now: datetime, minutes: int) -> bool:
        """True while its market is closed, or closes within ``minutes`` until another day."""
        if key[0] not in self.instruments:
            return False
        is_open, closes, opens = self.hours(key, now)
        if not is_open or closes is None:
            return True
        return closes != opens and now >= closes - timedelta(minutes=minutes)

    def slices(self, key: Key, qty: Decimal) -> list[Decimal]:
        """``qty`` in orders that the exchange takes: whole lots of at most the freeze quantity each."""
        most = self._freeze.get(key[0])
        if most is None or qty <= most:
            return [qty]
        lot = self.instruments[key[0]].of(key[2], self._near + NEAR).lot
        size = max(most - most % lot, lot)
        full, rest = divmod(qty, size)
        return [size] * int(full) + ([rest] if rest else [])

    def _month(self, symbol: str, contract: str) -> int:
        if parts := tickers.future_of(contract):
            return parts[1]
        return month_of(contract, self._near, self.instruments[symbol].last_trade_dates)


def _ticker(instrument: Instrument, given: str | None) -> Ticker:
    try:
        return terms.ticker(instrument, instrument.trade_market, given)
    except terms.UnlistedError as error:
        raise ConfigError(str(error)) from None
