"""Trades a backtest's book by the screening kernel's schedule, and stores it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from alphapivot.errors import DataError
from alphapivot.execution.book import ledger
from alphapivot.execution.run import engine
from alphapivot.hub.pinned import Pinned
from alphapivot.hub.tables import backtests
from alphapivot.research.backtest.market import BarRange
from alphapivot.research.backtest.terms import TOO_OLD, Terms
from alphapivot.research.screen import kernel as k
from alphapivot.research.screen.engine import LeftOut
from alphapivot.research.screen.rules import left_out
from alphapivot.research.simulate import audit
from alphapivot.research.simulate.audit import Photo, Until
from alphapivot.research.simulate.proposal import nothing, propose
from alphapivot.research.simulate.trader import TermsOf, Trader
from alphapivot.research.simulate.walker import Walker, refuse
from alphapivot.research.simulate.write import write

if TYPE_CHECKING:
    from alphapivot.config.settings import Settings
    from alphapivot.hub import Hub
    from alphapivot.research.backtest.driver import Progress, Timer
    from alphapivot.research.screen.engine import Result
    from alphapivot.runs import RunRef

AT_ONCE = 250  # instants between two reports of progress


class Traded(NamedTuple):
    """
    ``refused``: symbols that were never entered -> how many entries were less than a lot, and the reason. ``walked``:
    why it was decided at every instant, instead of those that the kernel names; empty if it was not.
    """

    audited: int  # instants
    refused: dict[str, tuple[int, str]]
    walked: str = ""


def trade(
    hub: Hub,
    run: RunRef,
    settings: Settings,
    instants: Sequence[datetime],
    *,
    timer: Timer,
    progress: Progress,
    whole: bool = False,
) -> Traded:
    """
    Trades the book of ``settings`` at ``instants`` (ascending). The trading engine is asked to do the same: at all of
    them with ``whole``, else at samples.

    Nothing is stored until all of it is: killed, a second call starts again. Raises DataError if another process is
    working on the book, ``live.Disagreement`` if kernel and engine disagree, and ``LeftOut`` if the kernel does not
    know what the config or the data need.
    """
    audited = [(0, len(instants))] if whole else audit.windows(len(instants))
    closed = bool(settings.protections.cooldown or settings.protections.stops_in_a_row)
    begun: dict[int, tuple[Until, Photo]] = {}
    ended: dict[int, Photo] = {}
    with Pinned(hub.url) as desk:
        if not engine.locked(desk.driver, settings.execution.book):
            raise DataError(
                f"another process is running backtest {settings.execution.book}: wait for it to finish, or end it"
            )
        with timer.stage("read"):
            source = BarRange(hub, run, settings, after=instants[0], until=instants[-1])
        with timer.stage("kernel"):
            progress(0, len(instants), "trading")
            result, walked = _proposed(source, settings, instants)

        def terms_of(asking: pd.DataFrame) -> TermsOf:
            terms = Terms(hub, run, settings, asking, after=instants[0], until=instants[-1])
            return lambda symbol, ts, as_of: terms.asked(symbol, ts) if ts > as_of - TOO_OLD else None

        with timer.stage("terms"):
            known = (lambda *_: None) if walked else terms_of(_acted(source, result))
        with timer.stage("trade"), desk.engine.begin() as conn:
            fence = ledger.raise_fence(conn, settings.execution.book)
            trader = (Walker if walked else Trader)(run, settings, source, result, known, fence)
            begins, ends = (dict(audited), {end: begin for begin, end in audited})

            def done(number: int, as_of: datetime) -> None:
                if number in ends:
                    ended[number] = Photo.of(trader.ledger, trader.account, begun[ends[number]][0])
                if number in begins:
                    until = Until.now(trader.ledger, closed=closed)
                    begun[number] = until, Photo.of(trader.ledger, trader.account, until)
                if number % AT_ONCE == 0:
                    progress(number, len(instants), f"trading {as_of:%Y-%m-%d}")

            trader.run(instants, done)
        with timer.stage("terms"):
            if isinstance(trader, Walker):
                trader.explain(terms_of)
        with timer.stage("audit"):
            for begin, end in audited:
                progress(begin, len(instants), f"auditing {instants[begin]:%Y-%m-%d}")
                audit.compare(hub, run, settings, instants[begin:end], begun[begin][1], ended[end])
        with timer.stage("write"):
            progress(len(instants), len(instants), "storing")
            write(desk.driver, trader.ledger.rows, trader.account.stored())
            backtests.advance(desk, run, instants[-1], begins=trader.begins, instants=trader.instants)
            desk.commit()
    return Traded(sum(b - a for a, b in audited), trader.refused, walked)


def _proposed(source: BarRange, settings: Settings, instants: Sequence[datetime]) -> tuple[Result, str]:
    """What the kernel proposes, or the market alone and what the kernel leaves out; raises LeftOut for the rest."""
    try:
        return propose(source, settings, instants), ""
    except LeftOut as error:
        names = left_out(settings)
        walked = str(error)
    result = nothing(source, settings, instants)
    refuse(names, settings, result.market)
    return result, walked


def _acted(source: BarRange, result: Result) -> pd.DataFrame:
    """symbol and ts of the scores that the kernel acts on."""
    acts = result.log[np.isin(result.log[:, 2], (k.ENTERED, k.STEPPED))]
    symbols = result.whole[acts[:, 1], k.SYMBOL]
    rows = result.market.seen.score[acts[:, 0], symbols]
    asking = source.composites().iloc[np.unique(rows[rows >= 0])][["symbol", "ts"]].reset_index(drop=True)
    return asking.astype({"symbol": pd.StringDtype(na_value=np.nan)})
