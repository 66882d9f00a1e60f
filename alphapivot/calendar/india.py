"""
Calendars of India's exchanges, 2015 to 2026, as a [calendar.NAME] would say them: days and hours that XBOM lacks.

Muhurat and weekend sessions: the press and the pull requests 479 and 481 of pandas_market_calendars, which quote the
exchange's circulars, for 2018, 2020 to 2023 and 2025; the hours of other years were not compared with a circular. The
hours since 2026-08-03: NSE's circular of May 2026 (closing auction).
Not certain, and therefore left out: Muhurat 2026, and the sessions of currencies and commodities (CDS, MCX), whose
holidays differ from those of shares.
"""

from __future__ import annotations

MUHURAT = {  # Diwali's hour
    "2015-11-11": "17:45-18:45",
    "2016-10-30": "18:30-19:30",
    "2017-10-19": "18:30-19:30",
    "2018-11-07": "17:30-18:30",
    "2019-10-27": "18:15-19:15",
    "2020-11-14": "18:15-19:15",
    "2021-11-04": "18:15-19:15",
    "2022-10-24": "18:15-19:15",
    "2023-11-12": "18:15-19:15",
    "2024-11-01": "18:00-19:00",
    "2025-10-21": "13:45-14:45",
}
WEEKENDS = {
    "2015-02-28": "09:15-15:30",  # Union budget
    "2020-02-01": "09:15-15:30",  # Union budget
    "2024-01-20": "09:15-15:30",  # for 2024-01-22
    "2024-03-02": "09:15-10:00 + 11:30-12:30",  # test of the disaster recovery site
    "2024-05-18": "09:15-10:00 + 11:30-12:30",  # test of the disaster recovery site
    "2025-02-01": "09:15-15:30",  # Union budget
    "2026-02-01": "09:15-15:30",  # Union budget
}
SPECIAL = ", ".join(f"{day} {hours}" for day, hours in sorted((MUHURAT | WEEKENDS).items()))
CLOSED = "2024-01-22, 2024-05-20, 2024-11-20, 2026-01-15"  # a ceremony, elections
SHIPPED: dict[str, dict[str, str]] = {
    # shares: continuous trading ends at 15:15 since August 2026, the closing auction at 15:35
    "NSE": {"base": "XBOM", "session": "09:15-15:30, 2026-08-03: 09:15-15:35", "open": SPECIAL, "closed": CLOSED},
    "NFO": {"base": "XBOM", "session": "09:15-15:30, 2026-08-03: 09:15-15:40", "open": SPECIAL, "closed": CLOSED},
}
