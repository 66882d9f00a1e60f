"""
The lookahead check of every backtest: each score must have been known when it was acted on.

Scores are computed in bulk, over the whole history. After trading, each score that was acted on, and those at sampled
instants, are recomputed in a fresh process from bars cut off there, the oldest first, and must agree to the last bit:
those of a pillar that looks ahead do not. One that peeks only before rare events is met where it matters, and what it
remembers of later bars is not there. What a pillar takes from all symbols at once is the same for all, and recomputed
at instants among these, as many as their number allows. Where trading takes hours, samples are checked before it as
well. For every entry's fill, the decision's score must be published by the decision, and the fill's bar must end after
it.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from alphapivot import hub as hubs
from alphapivot.config.settings import Settings
from alphapivot.errors import DataError
from alphapivot.research import processes
from alphapivot.research.backtest.cuts import Scoring, batches, compare, compare_common
from alphapivot.research.backtest.market import lag
from pillars.kit.fresh import own_files
from pillars.kit.watch import watched

if TYPE_CHECKING:
    from alphapivot.hub import Hub
    from alphapivot.runs import RunRef
    from pillars.base import Pillar

SAMPLES, SYMBOLS = 8, 50  # sampled instants, and symbols at each, at most
ROWS = 10_000  # symbols x instants at which is recomputed what all symbols have in common
EACH, MOST = 500, 4  # scores that are worth a process of their own; such processes
Cuts = Sequence[tuple[datetime, Collection[str]]]  # instants in order, and the symbols whose scores are compared there
ACTED = """
    SELECT DISTINCT symbol, score_ts FROM trading.decision
    WHERE book = :book AND action IN ('ENTER_LONG', 'ENTER_SHORT', 'ADD', 'REDUCE', 'EXIT') AND score_ts IS NOT NULL
    ORDER BY score_ts, symbol
"""
EARLY = """
    SELECT f.symbol, f.ts, d.as_of, d.score_ts
    FROM trading.fill f JOIN trading.orders o USING (client_order_id) JOIN trading.intent i USING (intent_id)
    JOIN trading.decision d USING (decision_id)
    JOIN jsonb_to_recordset(CAST(:lags AS jsonb)) AS l (symbol text, lag interval) ON l.symbol = f.symbol
    WHERE f.book = :book AND o.leg = 'ENTRY' AND (f.ts <= d.as_of OR d.score_ts + l.lag > d.as_of)
    ORDER BY d.as_of, f.symbol LIMIT 1
"""


def scores(hub: Hub, run: RunRef, settings: Settings, instants: Sequence[datetime]) -> int:
    """
    Recomputes scores of the bars before some of ``instants`` without later bars; returns how many agreed.

    Raises DataError that names the pillar and the bar of the first difference.
    """
    return _recomputed(hub, run, settings, _samples(settings, instants), lambda _name: nullcontext())


@contextmanager
def fresh() -> Iterator[ProcessPoolExecutor]:
    """The processes of ``acted``, which have computed no score; one starts now, beside what is done until then."""
    with processes.processes(min(os.cpu_count() or 1, MOST)) as pool:
        pool.submit(_started)
        yield pool


def _started() -> None:
    """Has imported this module, which takes seconds."""


def acted(
    hub: Hub, run: RunRef, settings: Settings, instants: Sequence[datetime], pool: ProcessPoolExecutor
) -> list[str]:
    """
    Recomputes in the fresh processes of ``pool`` every score that was acted on, from the bars up to it, and those of
    ``scores``.

    Returns what pillars read besides their bars, a sentence each. Raises DataError as ``scores`` does.
    """
    cuts = {cut: set(symbols) for cut, symbols in _samples(settings, instants)}
    with hub.engine.connect() as conn:
        for symbol, ts in conn.execute(text(ACTED), {"book": settings.execution.book}):
            cuts.setdefault(ts, set()).add(symbol)
    own = {name: own_files(type(getattr(p, "pillar", p))) for name, p in settings.pillars.items()}  # within its rules
    parts = _parts(sorted(cuts.items()))
    read: dict[str, dict[str, None]] = {}
    for found in [pool.submit(_acted, settings.stored(), run, part, own, 1 / len(parts)) for part in parts]:
        for who, what in found.result().items():
            read.setdefault(who, {}).update(dict.fromkeys(what))
    return [
        f"{who} reads more than bars: {', '.join(what)}; nothing shows that it was known at the time of the score"
        for who, what in read.items()
        if what
    ]


def _parts(cuts: Cuts) -> list[Cuts]:
    """``cuts`` in consecutive parts of about as many scores, one for each processor: one if they are few."""
    scores = np.cumsum([len(symbols) for _, symbols in cuts])
    many = min(os.cpu_count() or 1, int(scores[-1]) // EACH, MOST) if len(cuts) else 0
    edges = np.searchsorted(scores, np.linspace(0, scores[-1], many + 1)[1:-1]).tolist() if many > 1 else []
    return [cuts[a:b] for a, b in itertools.pairwise([0, *edges, len(cuts)])]


def _acted(
    stored: dict[str, Any], run: RunRef, cuts: Cuts, own: Mapping[str, Sequence[str]], share: float
) -> dict[str, list[str]]:
    """In the fresh process: what was read besides bars, by whom. ``share``: of all cuts."""
    with watched(itertools.chain.from_iterable(own.values())) as at_import:
        settings = Settings.restore(stored)
    read = {"a pillar's file, when it is imported,": at_import} | {f"pillar {name}": [] for name in own}
    hub = hubs.connect()

    @contextmanager
    def scoring(name: str) -> Iterator[None]:
        with watched(own[name]) as reading:
            yield
        read[f"pillar {name}"] += [what for what in reading if what not in read[f"pillar {name}"]]

    _recomputed(hub, run, settings, cuts, scoring, share)
    return read


def _recomputed(hub: Hub, run: RunRef, settings: Settings, cuts: Cuts, scoring: Scoring, share: float = 1) -> int:
    """How many scores agree before ``cuts``, a ``share`` of all; each pillar scores within ``scoring`` of its name."""
    agreed = 0
    for pillars in _readers(settings) if cuts else ():
        for interval in settings.timeframes.weights:
            together = any(p.together for p in pillars.values())
            few = _spread([cut for cut, _ in cuts], max(SAMPLES, int(share * ROWS / len(settings.instruments))))
            shared = {
                name: compare_common(hub, run, settings, pillar, interval, few, scoring)
                for name, pillar in pillars.items()
                if pillar.common_history
            }
            wanted = [(cut, settings.instruments) for cut in few] if together else cuts
            for number, batch in enumerate(batches(wanted, alone=together)):
                tag = f"{interval}-{number}"
                agreed += compare(hub, run, settings, pillars, interval, batch, scoring, tag, shared)
    return agreed


def fills(hub: Hub, settings: Settings) -> None:
    """Raises DataError for an entry that filled before its decision, or used a score not yet published."""
    lags = json.dumps([{"symbol": s, "lag": f"{wait.total_seconds()} seconds"} for s, wait in lag(settings).items()])
    with hub.engine.connect() as conn:
        row = conn.execute(text(EARLY), {"lags": lags, "book": settings.execution.book}).first()
    if row is not None:
        raise DataError(
            f"lookahead: the entry in {row.symbol} decided at {row.as_of:%Y-%m-%d %H:%M} UTC uses the score of "
            f"{row.score_ts:%Y-%m-%d %H:%M} and filled on the bar of {row.ts:%Y-%m-%d %H:%M}: the score must be "
            "published by the decision, and the fill must come after it"
        )


def _samples(settings: Settings, instants: Sequence[datetime]) -> Cuts:
    """Some of ``instants`` with some symbols each, always the same for the same ones."""
    symbols, rng = sorted(settings.instruments), np.random.default_rng(len(instants))
    most = min(SYMBOLS, len(symbols))
    return [(cut, rng.choice(symbols, most, replace=False).tolist()) for cut in _spread(instants, SAMPLES)]


def _spread(instants: Sequence[datetime], samples: int) -> list[datetime]:
    """One instant of each of ``samples`` equal parts, always the same for the same instants."""
    if len(instants) <= samples:
        return list(instants)
    edges = np.linspace(0, len(instants), samples + 1).astype(int)
    rng = np.random.default_rng(len(instants))
    return [instants[int(rng.integers(a, b))] for a, b in itertools.pairwise(edges)]


def _readers(settings: Settings) -> list[dict[str, Pillar]]:
    """The pillars that may be compared over the same cuts: those of one group share their reads."""
    groups: dict[bool, dict[str, Pillar]] = {}
    for name, pillar in settings.pillars.items():
        groups.setdefault(pillar.together, {})[name] = pillar
    return list(groups.values())
