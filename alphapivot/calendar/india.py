"""
Calendars of India's exchanges, 2015 to 2026, as a [calendar.NAME] would say them: days and hours that XBOM lacks.

NSE and NFO, shares and their derivatives. Muhurat and weekend sessions: the press and the pull requests 479 and 481 of
pandas_market_calendars, which quote the exchange's circulars, for 2018, 2020 to 2023 and 2025; the hours of other years
were not compared with a circular. The hours since 2026-08-03: NSE's circular of May 2026 (closing auction).
MCX, commodities: evenings and full holidays of 2025 and 2026 as published by the exchange; it closes at 23:30 while New
York has summer time, else at 23:55. Before 2025 it has Bombay's holidays, whole, and today's hours: not compared.
CDS, currency derivatives: bank holidays of 2024 (NSE), 2025 and 2026 (circular 20251223-12 of BSE); 2025-09-05 or -08
is not certain and left out, and years before 2024 have Bombay's holidays only: not compared.
The hours of Muhurat 2026 (November 8) are not published yet.
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
MCX_SESSION = (
    "09:00-23:55, 2024-03-11: 09:00-23:30, 2024-11-04: 09:00-23:55, 2025-03-10: 09:00-23:30, 2025-11-03: 09:00-23:55,"
    " 2026-03-09: 09:00-23:30, 2026-11-02: 09:00-23:55"
)
EVENINGS = {  # mornings are closed
    "23:55": "2025-02-26 2025-11-05 2026-03-03 2026-11-10 2026-11-24",
    "23:30": "2025-03-14 2025-03-31 2025-04-10 2025-04-14 2025-05-01 2025-08-27 2025-10-22 2026-03-31 2026-04-14"
    " 2026-05-01 2026-05-28 2026-06-26 2026-09-14 2026-10-20",
}
MCX_SPECIAL = {day: f"17:00-{close}" for close, days in EVENINGS.items() for day in days.split()}
MCX_SPECIAL |= {"2025-01-01": "09:00-17:00", "2026-01-01": "09:00-17:00", "2025-10-21": MUHURAT["2025-10-21"]}
MCX_SPECIAL |= {"2025-02-01": "09:00-17:00"}  # Union budget
BANK_HOLIDAYS = (
    "2024-02-19, 2024-04-01, 2024-04-09, 2024-05-23, 2024-09-16, 2025-02-19, 2025-04-01, 2025-05-12, 2026-01-15,"
    " 2026-02-19, 2026-03-19, 2026-03-26, 2026-04-01, 2026-08-26"
)
# shares: continuous trading ends at 15:15 since August 2026, the closing auction at 15:35
SHARES, DERIVATIVES = "09:15-15:30, 2026-08-03: 09:15-15:35", "09:15-15:30, 2026-08-03: 09:15-15:40"
COMMON = {"base": "XBOM", "open": SPECIAL, "closed": CLOSED}
SHIPPED: dict[str, dict[str, str]] = {  # both know the hours of shares and of derivatives
    "NSE": {**COMMON, "session": SHARES, "futures_session": DERIVATIVES},
    "NFO": {**COMMON, "session": DERIVATIVES, "spot_session": SHARES},
    "MCX": {
        "base": "XBOM",
        "session": MCX_SESSION,
        "open": ", ".join(f"{day} {hours}" for day, hours in sorted(MCX_SPECIAL.items())),
    },
    "CDS": {
        "base": "XBOM",
        "session": "09:00-17:00",
        "open": ", ".join(f"{day} {hours}" for day, hours in sorted(MUHURAT.items()) if day >= "2024"),
        "closed": BANK_HOLIDAYS,
    },
}
