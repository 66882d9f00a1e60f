"""
The month that a futures contract's name says, in the spellings of vendors and exchanges. Pure.

    ESZ3  ESZ23  ESZ2023  ES_Z23  SP500-2026H  @ESH24  ESH24.CME  CME_ESH2024  ESH4 Index       month letters
    ES_201312  20131200  FDAX 20251219 M  BTC-261106  BTC/USDT:USDT-251112  BTCUSDT_240329       dates
    NIFTY25NOVFUT  NIFTY28NOV24FUT  BTC-29MAR24  25-Jan-2024  FDAX DEC 25  ES 03-24  IF2412      month names, YYMM

A name holds one root and one month. Calendar spreads, options, continuous series and what can be read in two ways are
errors: a guess would silently put contracts into a wrong order.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

from alphapivot.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

LETTERS = "FGHJKMNQUVXZ"  # the exchanges' letters for January to December
NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
FULL = tuple("JANUARY FEBRUARY MARCH APRIL MAY JUNE JULY AUGUST SEPTEMBER OCTOBER NOVEMBER DECEMBER".split())  # noqa: SIM905
# month names of other languages whose last letter would be read as a month letter: JUIN24 is not July
FOREIGN = {"GEN", "GIU", "GIUGNO", "LUG", "JUIN", "FEV", "FEVR", "MRZ", "MAERZ", "MAJ", "DEZ", "PAZ", "GRU", "WRZ"}
FOREIGN |= {"HAZ", "TEM", "AGU", "MEI", "MAI", "OKT", "UCT", "ARALIK", "OCAK", "KASIM", "EKIM"}
MONTHS = {name: n % 12 for n, name in enumerate((*NAMES, *FULL))}
NAME = "|".join(sorted(MONTHS, key=len, reverse=True))
# what may follow the month: an exchange, Bloomberg's yellow keys, FUT, and the monthly cycle of Eurex
AFTER = {"CME", "CBT", "CBOT", "NYM", "NYMEX", "CMX", "COMEX", "ICE", "IFUS", "IFEU", "EUREX", "XEUR", "NSE", "NFO"}
AFTER |= {"MCX", "CDS", "BSE", "BFO", "SGX", "HKFE", "HKEX", "OSE", "ASX", "INDEX", "COMDTY", "CURNCY", "FUT", "M"}
OPTION = re.compile(
    r"\d[CP]E?$|(?:^|\W)[CP]E? ?\d+(?:\.\d+)?$|\d(?:CE|PE)$|[-_ ](?:C|P|CE|PE|CALL|PUT)$", re.IGNORECASE
)
WRITE = "write [instrument.*] last_trade_dates = {}: DATE"
AHEAD = 12 * 15  # no contract is listed for longer
Reading = tuple[str, int]  # root, month


class UnreadableError(DataError):
    """A name without a certain month; ``kind``: spread, option, ambiguous or unknown."""

    def __init__(self, contract: str, kind: str, reason: str) -> None:
        super().__init__(f"contract {contract!r} {reason}")
        self.kind = kind


def month_of(contract: str, listed: datetime, dates: Mapping[str, str] | None = None) -> int:
    """
    The month of a contract: 12 * year + month - 1. ``listed``: its first bar; ``dates``: contract -> last trading day,
    which counts where the name does not say.

    A year of one digit is the first such year whose month is not over when the contract is listed; of two digits, the
    one from 20 years before to 79 years after. Raises UnreadableError.
    """
    try:
        return _month_of(contract, listed)
    except UnreadableError:
        if dates is None or contract not in dates:
            raise
        day = date.fromisoformat(dates[contract])
        return day.year * 12 + day.month - 1


def _month_of(contract: str, listed: datetime) -> int:
    hint = WRITE.format(contract)
    parts = _parts(contract)
    if _is_spread(parts, contract):
        raise UnreadableError(contract, "spread", "is a spread of two months, not a contract")
    readings = sorted({month for _, month in _readings(parts, listed)})
    if not readings and OPTION.search(contract):
        raise UnreadableError(contract, "option", "is an option, not a futures contract")
    if not readings:
        example = "expected an id such as SP500-2026H, ESZ3, ESZ23 or ES_201312; otherwise "
        raise UnreadableError(contract, "unknown", f"has no month in its id; {example}{hint}")
    if len(readings) > 1:
        # of a date that can be read in two ways, one may be over or far too distant
        now = listed.year * 12 + listed.month - 1
        readings = [month for month in readings if now <= month <= now + AHEAD] or readings
    if len(readings) > 1:
        names = " or ".join(f"{month // 12}-{month % 12 + 1:02}" for month in readings)
        raise UnreadableError(contract, "ambiguous", f"may be of {names}; {hint}")
    return readings[0]


def _parts(contract: str) -> list[str]:
    """The name's parts between separators, without what may follow the month."""
    parts = [part for part in re.split(r"[-_ :/.]+", contract.strip().upper().lstrip("@/$#+")) if part]
    while len(parts) > 1 and parts[-1] in AFTER:
        parts.pop()
    return parts


def _is_spread(parts: list[str], contract: str) -> bool:
    """True if two parts are contracts, or one part joins two: ESH4-ESM4, ESH4-M4, ESH24ESM24."""
    code = rf"[{LETTERS}]\d{{1,2}}|[{LETTERS}]20\d\d"
    legs = [part for part in parts if re.fullmatch(rf"[A-Z0-9]*?(?:{code})", part)]
    joined = re.fullmatch(rf"([A-Z0-9]+?)(?:{code})\1(?:{code})", parts[-1]) if parts else None
    dates = [part for part in parts if re.fullmatch(r"(?:19|20)\d{4}(?:\d\d)?|(?:19|20)\d\d[A-Z]", part)]
    named = re.findall(rf"(?<![A-Z])(?:{NAME})(?![A-Z])|(?<=\d)(?:{NAME})(?=\d)", contract.upper())
    return (len(legs) > 1 and parts[-1] in legs) or joined is not None or len(dates) > 1 or len(named) > 1


def _readings(parts: list[str], listed: datetime) -> Iterator[Reading]:
    """Every reading of the name as one root and one month."""
    root, last = parts[:-1], parts[-1] if parts else ""
    if not all(re.fullmatch(r"[A-Z0-9&]+", part) for part in parts):
        return
    yield from _dates(root, last)
    yield from _names(parts, listed)
    if match := re.fullmatch(r"([A-Z0-9&]*?)(\d{4})" + f"([{LETTERS}])", last):
        yield _glued(root, match[1]), int(match[2]) * 12 + LETTERS.index(match[3])
    elif match := re.fullmatch(rf"([A-Z0-9&]*?)([{LETTERS}])(\d{{1,2}}|(?:19|20)\d\d)", last):
        word = match[1] + match[2]
        if not (set(root) - AFTER and (word in FOREIGN or word in MONTHS)):
            yield _glued(root, match[1]), _with_year(LETTERS.index(match[2]), match[3], listed)


def _dates(root: list[str], last: str) -> Iterator[Reading]:
    """YYYYMM, YYYYMMDD (day 00: none), YYMMDD after a root; MM-YY of two parts; YYMM glued to a root."""
    if match := re.fullmatch(r"([A-Z&]*)((?:19|20)\d\d)(0[1-9]|1[0-2])([0-2]\d|3[01])?", last):
        yield _glued(root, match[1]), int(match[2]) * 12 + int(match[3]) - 1
    match = re.fullmatch(r"([A-Z&]*)(\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", last)
    if match and (root or match[1]):
        yield _glued(root, match[1]), (2000 + int(match[2])) * 12 + int(match[3]) - 1
    if len(root) > 1 and re.fullmatch(r"0[1-9]|1[0-2]", root[-1]) and re.fullmatch(r"\d\d", last):
        yield _glued(root[:-1], ""), (2000 + int(last)) * 12 + int(root[-1]) - 1
    if match := re.fullmatch(r"([A-Z]{1,4})(\d\d)(0[1-9]|1[0-2])", last):
        yield _glued(root, match[1]), (2000 + int(match[2])) * 12 + int(match[3]) - 1
        if 19 <= int(match[2]) <= 20:  # IF2012: December 2020, or the year 2012
            yield _glued(root, match[1]), -1


def _names(parts: list[str], listed: datetime) -> Iterator[Reading]:
    """NIFTY25NOVFUT, NIFTY28NOV24FUT, BTC-29MAR24, ESMAR24, FDAX DEC 25, 25-Jan-2024."""
    text, last = " ".join(parts), parts[-1] if parts else ""
    if match := re.fullmatch(rf"([A-Z&]*)(\d\d)({NAME})FUT", last):
        yield match[1], (2000 + int(match[2])) * 12 + MONTHS[match[3]]
    elif match := re.fullmatch(rf"(.*?)(?:(?<=[A-Z])|(?<= )|^)(\d\d? ?)?({NAME}) ?(\d\d|(?:19|20)\d\d)(?:FUT)?", text):
        if match[2] and not 1 <= int(match[2]) <= 31:
            return
        yield match[1].strip(), _with_year(MONTHS[match[3]], match[4], listed)


def _with_year(month: int, year: str, listed: datetime) -> int:
    if len(year) == 4:
        return int(year) * 12 + month
    now = listed.year * 12 + listed.month - 1
    if len(year) == 1:
        number = int(year) + listed.year // 10 * 10
        return (number if number * 12 + month >= now else number + 10) * 12 + month
    number = int(year) + (listed.year - 20) // 100 * 100
    return (number if number >= listed.year - 20 else number + 100) * 12 + month


def _glued(root: list[str], rest: str) -> str:
    return " ".join([*root, rest]).strip()
