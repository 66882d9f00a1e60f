"""Composites from stored signals, their calibration, and the terms that are stored with a decision."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from math import isnan
from typing import Any

import pandas as pd

from alphapivot.calendar import bar_ends
from alphapivot.config.sections.instrument import Instrument
from alphapivot.config.settings import Settings
from alphapivot.frames import ordered
from alphapivot.hub import Hub
from alphapivot.hub.tables import calibrations
from alphapivot.runs import RunRef
from alphapivot.scoring import calibration, composite
from alphapivot.scoring.inputs import groups
from alphapivot.scoring.instants import due_signals, instants


def blend(
    database: Hub,
    settings: Settings,
    run: RunRef,
    instruments: list[Instrument],
    *,
    after: datetime | None,
    until: datetime,
    fitted: pd.DataFrame | None = None,
    explained: bool = True,
    only: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Composites, and the terms they are the sum of, for every base bar of the signal market in (after, until], or only
    for the (symbol, ts) of ``only``. Reads signals.signal and signals.calibration; ``fitted`` replaces stored
    calibrations of the same date.

    The only way to make them: the step, the terms stored with a decision and ``explain`` all call it.
    """
    in_force = calibrations.read(database, run.scope, until)
    if fitted is not None:
        both = pd.concat([in_force, fitted], ignore_index=True) if len(in_force) else fitted
        in_force = both.drop_duplicates(["kind", "subject", "effective_from"], keep="last")
    signals, due = due_signals(database, settings, run, instruments, after=after, until=until, only=only)
    return composite.compose(
        signals,
        due,
        settings.composite,
        settings.timeframes,
        calibration=calibration.of(in_force, settings.composite),
        explained=explained,
    )


def calibrate(database: Hub, settings: Settings, run: RunRef, *, after: datetime | None) -> pd.DataFrame:
    """
    Calibrations for the dates in (after, run.as_of] (None: all), each fitted to the signals before it, which may be new
    or restated. Columns as ``hub.tables.calibrations``; no rows if no date is due.
    """
    nothing, frequency = pd.DataFrame(columns=calibrations.COLUMNS), settings.composite.calibrate
    as_of = bar_ends.naive(run.as_of)
    if frequency == "never" or (after and not calibration.due(frequency, bar_ends.naive(after), as_of).size):
        return nothing
    pieces = []
    for group in groups(database, list(settings.instruments.values()), settings.timeframes.base, None, run.as_of):
        signals, due = due_signals(database, settings, run, group, after=None, until=run.as_of, directions=True)
        if len(due):  # one score for each pillar: a group's timeframes are not kept in memory
            pieces.append(composite.blended(signals, due, settings.composite, settings.timeframes))
    if not pieces:
        return nothing
    scores = ordered(pd.concat(pieces, ignore_index=True), "symbol")
    dates = calibration.due(frequency, bar_ends.naive(scores["ts"].min()), as_of)
    fitted = calibration.fit(scores, dates, settings.composite)
    return fitted if after is None else fitted[fitted["effective_from"] > after].reset_index(drop=True)


def terms(database: Hub, settings: Settings, run: RunRef) -> dict[str, list[dict[str, Any]]]:
    """symbol -> the terms of its newest composite up to as_of, to be stored with the decision."""
    instruments, base = list(settings.instruments.values()), settings.timeframes.base
    back = run.as_of - timedelta(days=10)  # older composites are too old to act on
    newest = instants(database, instruments, base, back, run.as_of, run.known_at).groupby("symbol").max().reset_index()
    by_symbol: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if len(newest):
        after = newest["ts"].min() - timedelta(microseconds=1)
        for record in records(
            blend(database, settings, run, instruments, after=after, until=run.as_of, only=newest)[1]
        ):
            by_symbol[record["symbol"]].append(record)
    return dict(by_symbol)


def records(terms: pd.DataFrame) -> list[dict[str, Any]]:
    """Terms as JSON-ready records: timestamps as text, numbers to ten decimals, None for unknown values."""
    columns = {str(name): _plain(terms[name]) for name in terms}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(column: pd.Series) -> list[Any]:
    if column.dtype.kind == "f":
        return [None if isnan(number) else round(number, 10) for number in column.tolist()]
    codes, values = pd.factorize(column)  # few names and timestamps, each repeated often
    texts = [*map(str, values), None]
    return [texts[code] for code in codes.tolist()]
