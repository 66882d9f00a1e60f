"""
`alphapivot check` beyond the config itself: the bars in its files, and instruments too large for its equity.

Contacts no feed and no broker: prices come from the files and the hub. (The command also asks a broker for its terms.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import talib
from psycopg import sql

from alphapivot.config.sections.brokers import PaperBroker
from alphapivot.config.sections.feeds import FilesFeed
from alphapivot.data.series import legs, life
from alphapivot.execution.book import report
from alphapivot.execution.decide.sizing import unit_value
from alphapivot.execution.market import quotes
from alphapivot.feeds.base import RAW
from alphapivot.feeds.registry import open_feed
from alphapivot.frames import Bars
from alphapivot.hub.tables import series
from alphapivot.money import price_text, to_tick

if TYPE_CHECKING:
    from datetime import datetime

    from alphapivot.config.sections.instrument import Instrument
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

STRAYED = Decimal("1.5")  # times its price in config.ini from which a leg's price is told
MICRO = 10  # the exchanges' micro contracts have a tenth of the size
COLUMNS = ["symbol", "market", "contracts", "bars", "first", "newest"]


def files(settings: Settings, now: datetime) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """
    (series, bars, problems) in the files of every feed up to ``now``, read as by ingestion: a row per series
    (COLUMNS), the bars themselves, and what cannot be read. Raises ConfigError if a feed's folder is missing.
    """
    parts, problems, keys = [], [], []
    for name, section in settings.feeds.items():
        instruments = [section.named(i) for i in settings.instruments.values() if settings.feed_of(i) == name]
        if not isinstance(section, FilesFeed) or not instruments:
            continue
        requests = [
            request
            for i in instruments
            for market in i.markets
            if (request := life.request(i, market, i.source_interval(market, settings.timeframes.base), None, now))
        ]
        keys += [(r.instrument.symbol, r.market) for r in requests]
        fetched = open_feed(name, section).fetch(requests)
        parts.append(fetched.bars)
        problems += [f"{p.request}: {p.reason}" for p in fetched.problems]
    bars = pd.concat([Bars.empty()[RAW], *parts], ignore_index=True)
    grouped = bars.groupby(["symbol", "market"])
    counts = grouped["ts"].agg(bars="size", first="min", newest="max").assign(contracts=grouped["contract"].nunique())
    rows = pd.DataFrame(sorted(keys), columns=["symbol", "market"]).merge(counts.reset_index(), how="left")
    return rows.fillna({"bars": 0, "contracts": 0})[COLUMNS], bars, problems


def untradable(hub: Hub, settings: Settings, read: pd.DataFrame) -> list[str]:
    """
    A line for each tradable instrument that can never be entered with this equity, with the equity it needs.

    ``read``: bars from files, for a hub without bars. Instruments without a price, and a book whose account has never
    been seen, are left out.
    """
    account = report.equity(hub, settings.execution.book)
    broker = settings.brokers[settings.execution.broker]
    if len(account):
        equity, home = Decimal(account["equity"].iloc[-1]), str(account["currency"].iloc[-1])
    elif isinstance(broker, PaperBroker):
        equity, home = broker.cash, broker.currency
    else:
        return []
    last = {
        s: prices for s, i in settings.instruments.items() if (prices := _last(_bars(hub, settings, i, read), settings))
    }
    lines: list[str] = []
    for symbol in sorted(last):
        instrument = settings.instruments[symbol].versions[-1]
        rate = _rate(instrument.currency, home, {s: close for s, (close, _) in last.items()})
        if not instrument.tradable:
            continue
        if rate is None:
            pairs = f"{instrument.currency}{home} or {home}{instrument.currency}"
            lines.append(f"{symbol}: no rate from {instrument.currency} to {home}; add [instrument.{pairs}]")
        else:
            reasons = _too_large(instrument, *last[symbol], rate, equity, home, settings)
            lines += [f"{symbol}: {reason}" for reason in reasons]
    return lines


def strayed(hub: Hub, settings: Settings, now: datetime) -> list[str]:
    """A line for each leg of a tradable spread whose price has left ``leg_prices``, which costs are counted from."""
    lines = []
    for symbol, spread in settings.instruments.items():
        if not (spread.legs and spread.tradable):
            continue
        for leg, bars in legs.legs_of(hub, spread, settings.timeframes.base, None, now).items():
            given = spread.leg_prices[leg]
            last = Decimal(repr(float(bars["close"].iloc[-1]))) if len(bars) else given
            if not given / STRAYED <= last <= given * STRAYED:
                adjusted = ", adjusted as the spread counts it," if spread.leg_terms[leg].adjust != "none" else ""
                lines.append(
                    f"[instrument.{symbol}] leg_prices = {leg}: {given:f}: its last close{adjusted} is"
                    f" {price_text(last)}; fees, slippage, margin and limits are counted from {given:f}: expected a"
                    " price near the last"
                )
    return lines


def kept_out(settings: Settings) -> list[str]:
    """A sentence where positions in most markets at once are called for, and [risk] max_open_trades allows fewer."""
    markets = sum(i.tradable for i in settings.instruments.values())
    most = settings.risk.max_open_trades
    if settings.execution.form != "positions" or markets <= most:
        return []
    text = (
        f"[execution] form = positions holds most of {markets} markets at once, each for its share of"
        f" target_volatility; [risk] max_open_trades = {most} keeps the others out"
    )
    return [text]


def _too_large(
    instrument: Instrument,
    close: Decimal,
    atr: Decimal,
    rate: Decimal,
    equity: Decimal,
    home: str,
    settings: Settings,
) -> Iterator[str]:
    risk, unit, lot = settings.risk, unit_value(instrument, rate), instrument.lot
    stop = atr * settings.execution.stop_atr
    lost, worth = lot * stop * unit, lot * instrument.worth(close) * unit
    limits = [("max_notional", risk.max_notional), ("max_gross_exposure", risk.max_gross_exposure)]
    limits += [("max_symbol_exposure", risk.max_symbol_exposure)] if risk.max_symbol_exposure else []
    if lost > risk.risk_per_trade * equity:
        away = f"{settings.execution.stop_atr:f} ATR ({price_text(stop, instrument.tick)})"
        yield (
            f"one lot of {lot:f} risks {lost:,.2f} {home} at a stop {away} away; [risk] risk_per_trade allows "
            f"{risk.risk_per_trade * equity:,.2f}: equity must be {lost / risk.risk_per_trade:,.0f}, "
            f"and is {equity:,.0f}; {_fitting(lost / (risk.risk_per_trade * equity), settings.execution.stop_atr)}"
        )
    for key, share in limits:
        if worth > share * equity:
            yield (
                f"one lot of {lot:f} is worth {worth:,.2f} {home}; [risk] {key} allows {share * equity:,.2f}: equity "
                f"must be {worth / share:,.0f}, and is {equity:,.0f}; {_fitting(worth / (share * equity))}"
            )
    most = risk.max_order_notional
    if most is not None and worth > most:
        yield f"one lot of {lot:f} is worth {worth:,.2f} {home}; [risk] max_order_notional is {most:,.2f}"


def _fitting(times: Decimal, stop: Decimal | None = None) -> str:
    """What fits where a lot is ``times`` too large: a smaller contract or, where ``stop`` sizes it, a nearer stop."""
    part = times.to_integral_value(ROUND_CEILING)
    nearer = "" if stop is None else f"a stop of {to_tick(stop / times, Decimal('0.01'), ROUND_FLOOR):f} ATR or "
    return f"{nearer}a contract of 1/{part} would fit" + (" (a micro has 1/10)" if part <= MICRO else "")


def _rate(currency: str, home: str, closes: Mapping[str, Decimal]) -> Decimal | None:
    if currency == home:
        return Decimal(1)
    if direct := closes.get(currency + home):
        return direct
    inverse = closes.get(home + currency)
    return 1 / inverse if inverse else None


def _bars(hub: Hub, settings: Settings, instrument: Instrument, read: pd.DataFrame) -> pd.DataFrame:
    """The newest base-timeframe bars of the traded market: from files if they have them, else from the hub."""
    base, market, symbol = settings.timeframes.base, instrument.trade_market, instrument.symbol
    from_files = read[read["symbol"] == symbol]
    if len(from_files) and instrument.source_interval(market, base) == base:
        return from_files[from_files["market"] == market]
    newest = series.newest(hub, [symbol]).get((symbol, market, instrument.source_interval(market, base)))
    after = newest and newest - quotes.lookback(base, settings.execution.atr) - timedelta(days=1)
    if after is None:
        return Bars.empty()
    where = sql.SQL("symbol = {} AND market = {} AND interval = {} AND ts > {}").format(symbol, market, base, after)
    return hub.read(Bars, where)


def _last(bars: pd.DataFrame, settings: Settings) -> tuple[Decimal, Decimal] | None:
    """The last close and ATR of the contract with the most volume on the newest bar; None with too few bars."""
    if bars.empty:
        return None
    newest = bars[bars["ts"] == bars["ts"].max()].sort_values("volume", na_position="first")
    front = bars[bars["contract"] == newest["contract"].iloc[-1]].sort_values("ts")
    whole = front.dropna(subset=["high", "low", "close"]).tail(quotes.SMOOTHING * settings.execution.atr + 1)
    high, low, close = (whole[name].to_numpy(np.float64) for name in ("high", "low", "close"))
    if len(whole) <= settings.execution.atr:
        return None
    atr = talib.ATR(high, low, close, timeperiod=settings.execution.atr)[-1]
    return Decimal(repr(float(close[-1]))), Decimal(repr(float(atr)))
