"""What ``alphapivot init`` offers: markets with some of their instruments, and what feeds and brokers need."""

from __future__ import annotations

from dataclasses import dataclass, field

Terms = dict[str, str]  # of an [instrument.*], without its ticker


@dataclass(frozen=True)
class Market:
    """Instruments of one kind, their tickers at each feed, and the brokers that trade them."""

    text: str
    fees: str
    terms: dict[str, Terms]  # symbol -> terms
    tickers: dict[str, tuple[str, ...]]  # feed -> ticker of each symbol
    brokers: tuple[str, ...] = ("paper",)
    ticker_key: str = "spot"


def _shares(group: str) -> Terms:
    return {"group": group, "currency": "USD", "tick": "0.01", "calendar": "XNYS"}


def _rupees(tick: str) -> Terms:
    return {"group": "equity", "currency": "INR", "tick": tick, "calendar": "NSE"}


def _coin(lot: str) -> Terms:
    return {"group": "crypto", "currency": "USD", "tick": "0.01", "lot": lot, "calendar": "24/7"}


def _contract(group: str, multiplier: str, tick: str, margin: str) -> Terms:
    """A contract's terms as the exchange quotes them, in dollars."""
    terms = {"group": group, "currency": "USD", "quote_unit": "1", "multiplier": multiplier, "tick": tick}
    return terms | {"margin": margin, "calendar": "CMES"}


_SHARES = "shares: 0.005 each"  # Interactive Brokers' list price in 2026, as in the shipped config.ini
MARKETS: dict[str, Market] = {
    "funds": Market(
        "US funds: shares, bonds, gold",
        _SHARES,
        {"SPY": _shares("equity index"), "IEF": _shares("rates"), "GLD": _shares("metal")},
        dict.fromkeys(("yahoo", "alpaca"), ("SPY", "IEF", "GLD")),
        ("paper", "alpaca", "ib"),
    ),
    "shares": Market(
        "US shares",
        _SHARES,
        {"AAPL": _shares("equity"), "MSFT": _shares("equity"), "XOM": _shares("equity")},
        dict.fromkeys(("yahoo", "alpaca"), ("AAPL", "MSFT", "XOM")),
        ("paper", "alpaca", "ib"),
    ),
    "india": Market(
        "Indian shares",
        "shares: 12 bps",  # of delivery in 2026: securities tax 10 a side, stamp duty, exchange fee, and tax on them
        {"INFY": _rupees("0.1"), "ITC": _rupees("0.05")},
        {"kite": ("INFY", "ITC")},
        ("paper", "kite"),
    ),
    "crypto": Market(
        "Bitcoin and Ether against the dollar, or USDT",
        "crypto: 25 bps",
        {"BITCOIN": _coin("0.0001"), "ETHER": _coin("0.001")},
        {"yahoo": ("BTC-USD", "ETH-USD"), "ccxt": ("BTC/USDT", "ETH/USDT")},
        ("paper", "ccxt"),
    ),
    "futures": Market(
        "micro futures; real contracts come as files of your own",
        "futures: 2.25 each",
        {
            "SP500": _contract("equity index", "5", "0.25", "0.07"),
            "GOLD": _contract("metal", "10", "0.1", "0.08"),
        },
        {},
        ticker_key="futures",
    ),
    "own": Market("instruments of your own CSV or Parquet files (--prices)", "", {}, {}),
}


@dataclass(frozen=True)
class Source:
    """
    A feed's section besides its kind, or a broker's, and what it asks of the user. ``mode``: in which a book begins
    there, if not paper; ``currency``: of a feed's instruments, if not the market's; ``feeds``: a broker's, if not any.
    """

    text: str
    keys: Terms = field(default_factory=dict)
    needs: str = ""
    mode: str = ""
    currency: str = ""
    feeds: tuple[str, ...] = ()


FEEDS: dict[str, Source] = {
    "yahoo": Source("Yahoo: daily bars, free, no account"),
    "alpaca": Source("Alpaca: US shares", needs="its keys in APCA_API_KEY_ID and APCA_API_SECRET_KEY"),
    "kite": Source(
        "Zerodha Kite: Indian shares",
        needs="KITE_API_KEY and KITE_API_SECRET of a Kite Connect app, and `alphapivot login kite` each day",
    ),
    "ccxt": Source(
        "Binance through ccxt, in USDT", {"exchange": "binance"}, needs="pip install --no-deps ccxt", currency="USDT"
    ),
    "simulated": Source("a made-up market, offline"),
    "files": Source("your own files"),
}
BROKERS: dict[str, Source] = {
    "paper": Source("a simulated account, no money"),
    "alpaca": Source("Alpaca's paper account", {"kind": "alpaca"}, needs=FEEDS["alpaca"].needs),
    "ccxt": Source(
        "Binance's sandbox: coins, in USDT",
        {"kind": "ccxt", "exchange": "binance", "currency": "USDT"},
        needs="BINANCE_API_KEY and BINANCE_API_SECRET of testnet.binance.vision",
        feeds=("ccxt",),
    ),
    "ib": Source(
        "Interactive Brokers' paper account",
        {"kind": "ib"},
        needs="IB Gateway beside it, logged in to the paper account, and its client (docs/brokers.md)",
    ),
    "kite": Source(
        "Zerodha, read only at first: it has no paper account",
        {"kind": "kite"},
        needs=FEEDS["kite"].needs,
        mode="shadow",
    ),
}


def feeds_of(market: str) -> list[str]:
    """The feeds that serve a market; files serve what they hold."""
    return ["files"] if market == "own" else [*MARKETS[market].tickers, "simulated"]
