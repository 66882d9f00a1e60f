"""A book's exposure, by symbol and by group, against its limits; pending entries count. Read only."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pandas as pd
from sqlalchemy import text

from alphapivot.execution.book.report import LAST
from alphapivot.execution.market import quotes
from alphapivot.hub.tables import bars as stored

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub

# a rolled trade counts as its successor until that is filled
NOTIONALS = f"""
    SELECT t.symbol, t.side, t.currency, u.units,
           abs(coalesce(b.close, t.entry_price, t.reference)) * u.units AS notional
    FROM trading.trade t
    JOIN LATERAL (
        SELECT coalesce(sum(o.qty - o.cum_qty) FILTER (WHERE NOT trading.is_terminal(o.state)), 0) AS pending
        FROM trading.orders o WHERE o.trade_id = t.trade_id AND o.leg = 'ENTRY'
    ) e ON true
    CROSS JOIN LATERAL (
        SELECT CASE t.state WHEN 'OPEN' THEN t.entry_qty - t.exit_qty + e.pending ELSE t.qty END
               * t.multiplier * t.quote_unit AS units -- instrument's currency per quoted unit of price
    ) u
    {LAST}
    WHERE t.book = :book AND t.state <> 'CLOSED' AND NOT EXISTS (
        SELECT FROM trading.trade n WHERE n.rolled_from = t.trade_id AND n.state = 'PENDING')
"""
SEEN = "SELECT currency, equity FROM trading.risk_day WHERE book = :book AND seen_at <= now() ORDER BY day DESC LIMIT 1"
_Parts = list[tuple[Decimal | None, Decimal | None]]  # gross and net, in the book's currency


def exposures(hub: Hub, settings: Settings, at: datetime) -> pd.DataFrame:
    """
    Columns: exposure (gross, net, then each group and each symbol, largest first), gross, net, used (share of the last
    equity seen), allowed (None: no limit). Amounts in the book's currency at the newest close up to ``at``; null
    without an fx rate.
    """
    book, interval, risk = settings.execution.book, settings.timeframes.base, settings.risk
    with hub.engine.connect() as conn:
        seen = conn.execute(text(SEEN), {"book": book}).one_or_none()
        rows = conn.execute(text(NOTIONALS), {"book": book, "interval": interval, "until": at}).all()
    columns = ["exposure", "gross", "net", "used", "allowed"]
    if seen is None:
        return pd.DataFrame(columns=columns)
    known = rates(hub, settings, {r.currency for r in rows}, seen.currency, at)
    book_parts: _Parts = []
    parts: dict[str, dict[str, _Parts]] = {"group": {}, "symbol": {}}
    for row in rows:
        rate = known.get(row.currency)
        terms = settings.instruments.get(row.symbol)
        notional = terms.worth(Decimal(0)) * row.units if terms is not None and terms.legs else row.notional
        gross = None if rate is None else notional * rate
        part = gross, gross if gross is None or row.side == "LONG" else -gross
        book_parts.append(part)
        group = settings.instruments[row.symbol].group if row.symbol in settings.instruments else ""
        for by, name in (("group", group), ("symbol", row.symbol)):
            if name:
                parts[by].setdefault(name, []).append(part)
    gross, net = _total(book_parts)
    lines = [
        ("gross", gross, net, _used(gross, seen.equity), risk.max_gross_exposure),
        ("net", gross, net, _used(net, seen.equity), risk.max_net_exposure),
    ]
    for by, limit in (("group", risk.max_group_exposure), ("symbol", risk.max_symbol_exposure)):
        totals = [(f"{by} {name}", *_total(amounts)) for name, amounts in parts[by].items()]
        totals.sort(key=lambda line: (-(line[1] or 0), line[0]))
        lines += [(name, gross, net, _used(gross, seen.equity), limit) for name, gross, net in totals]
    return pd.DataFrame(lines, columns=columns, dtype=object)


def _total(parts: _Parts) -> tuple[Decimal | None, Decimal | None]:
    """(gross, net); None if any part is unknown."""
    gross, net = [g for g, _ in parts if g is not None], [n for _, n in parts if n is not None]
    return (sum(gross, Decimal(0)), sum(net, Decimal(0))) if len(gross) == len(parts) else (None, None)


def _used(amount: Decimal | None, equity: Decimal) -> Decimal | None:
    return None if amount is None or equity <= 0 else round(abs(amount) / equity, 4)


def rates(hub: Hub, settings: Settings, currencies: set[str], home: str, at: datetime) -> dict[str, Decimal]:
    """currency -> book currency per unit, from the newest closes of the currency pairs."""
    foreign, interval = currencies - {home}, settings.timeframes.base
    pairs = sorted({p for c in foreign for p in (c + home, home + c)} & set(settings.instruments))
    if not pairs:
        return {home: Decimal(1)}
    bars = stored.window(hub, pairs, "spot", interval, after=at - quotes.lookback(interval, 1), until=at, known_at=None)
    return quotes.rates(
        bars,
        sorted(foreign),
        home,
        as_of=at,
        interval=interval,
        instruments=settings.instruments,
        max_age=settings.execution.max_score_age,
    )
