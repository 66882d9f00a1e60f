"""
Costs of trading one unit one way, in the price's own units: half the spread, and the commission per unit.

Spreads are Carver's samples of live quotes, commissions those of his broker (pysystemtrade, spreadcosts.csv and
instrumentconfig.csv, GPL-3: figures, read in November 2026), in today's prices: dear for the years in which prices were
a tenth of them, and cheap for the years before electronic trading.
"""

from __future__ import annotations

SIDE = {  # symbol: half spread, commission per unit
    "AUD": (3.3e-5, 2.46e-5), "BITCOIN": (20, 2), "COPPER": (4.3e-4, 9.2e-5), "CORN": (0.16, 0.058),
    "CRUDE_W": (0.012, 0.0023), "EUR": (2.9e-5, 2e-5), "GAS_US": (0.0019, 0.00023), "GBP": (6.1e-5, 3.9e-5),
    "GOLD": (0.068, 0.023), "JPY": (2.7e-7, 2e-7), "KOSPI": (0.026, 0.1), "MXP": (5.5e-6, 4.9e-6),
    "NASDAQ": (0.35, 0.1), "SMI": (0.77, 0.4), "SOYBEAN": (0.25, 0.058), "SP500": (0.13, 0.041),
    "SUGAR11": (0.005, 0.0027), "US10": (0.008, 0.0015), "VIX": (0.025, 0.0022), "WHEAT": (0.37, 0.058),
    "BUND": (0.0052, 0.002), "BOBL": (0.0051, 0.002), "SHATZ": (0.0025, 0.002), "OAT": (0.0072, 0.002),
    "BTP": (0.0063, 0.002), "US2": (0.002, 0.00076), "US5": (0.0039, 0.0015), "US20": (0.016, 0.0015),
    "US30": (0.016, 0.0015), "JGB": (0.005, 0.0005), "KR3": (0.005, 0.0045), "KR10": (0.0065, 0.005),
    "EUROSTX": (0.48, 0.2), "CAC": (0.44, 0.2), "DAX": (1.4, 0.4), "FTSE100": (0.1, 0.17), "AEX": (0.063, 0.01),
    "NIKKEI": (2.5, 0.4), "RUSSELL": (0.11, 0.05), "DOW": (0.82, 0.5), "CAD": (3e-5, 1.5e-5), "CHF": (5.8e-5, 1.2e-5),
    "NZD": (4.2e-5, 2.5e-5), "SEK": (3e-5, 7.5e-7), "NOK": (3.6e-5, 7.5e-7), "SILVER": (0.004, 0.0015),
    "PLAT": (0.23, 0.046), "PALLAD": (2.4, 0.023), "SOYOIL": (0.015, 0.0025), "SOYMEAL": (0.091, 0.015),
    "COFFEE": (0.1, 0.008), "COCOA": (0.5, 0.3), "COTTON2": (0.078, 0.006), "LIVECOW": (0.018, 0.0073),
    "LEANHOG": (0.026, 0.0073), "FEEDCOW": (0.04, 0.003), "HEATOIL": (0.00077, 3.6e-5), "GASOILINE": (0.00073, 3.6e-5),
    "BRENT-LAST": (0.018, 0.0015), "EDOLLAR": (0.0025, 0.00084), "V2X": (0.026, 0.02), "ETHEREUM": (1, 0.2),
}  # fmt: skip
UNKNOWN = 0.03  # deviations of a day's change: about the median of those above


def side(symbol: str) -> float | None:
    """The cost of one unit one way; None where unknown."""
    known = SIDE.get(symbol)
    return None if known is None else sum(known)
