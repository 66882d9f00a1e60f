"""Alpaca's US equities."""

from alphapivot.brokers.alpaca.broker import Alpaca
from alphapivot.brokers.alpaca.opening import open_alpaca, tickers

__all__ = ["Alpaca", "open_alpaca", "tickers"]
