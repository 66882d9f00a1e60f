"""
Signals -> composite scores, for all symbols and instants at once; pure.

For each symbol and instant, in this order: blend timeframes, x the pillar's scalar, cap at +-100, weighted mean over
the directional pillars, x the diversification multiplier, clip (this is ``raw``), x the gates (``score``), vetoes.

- A signal is *fresh* while its ts is that of the newest bar due under the symbol's calendar; only fresh ones count, and
  the timeframes' weights are renormalised over those that are fresh and known. A pillar without a fresh, known signal
  on the base timeframe is *missing*, for decisions are made there, whatever its higher timeframes still say.
- ``raw`` is made from the pillars present, so that open trades can be judged. A missing directional pillar makes
  ``score`` null and vetoes as ``missing:<pillar>``, unless ``on_missing_pillar = renormalise``; a missing gate always
  does, for a gate cannot be made up from the others. Null, zero and vetoed are three things: a vetoed score keeps its
  number.
- Every term is rounded to 2**-40 points, so that sums are exact in any order, and what ``waterfall`` shows adds up to
  the last bit. Scores and gates are rounded as they are stored: scores to 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.scoring.calibration import Calibration
from alphapivot.scoring.grid import Beside, Column, Grid, align

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphapivot.config.sections.scoring import CompositeSettings, Timeframes

Mask = npt.NDArray[np.bool_]
LIMIT = 100.0

TERMS = (
    *("symbol", "ts", "pillar", "interval", "due", "score", "gate", "veto"),
    *("share", "scalar", "cap", "weight", "contribution", "multiplier", "strength", "factor"),
)


def compose(
    signals: pd.DataFrame,
    due: pd.DataFrame,
    settings: CompositeSettings,
    timeframes: Timeframes,
    *,
    calibration: Calibration | None = None,
    explained: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    The composites of every (symbol, ts) of ``due``, and the terms they are made of; both sorted by symbol and ts.

    ``signals``: frame Signals (scope and batch_id are not needed), one row per pillar, symbol, interval and ts.
    ``due``: symbol, interval, ts (for which to compose) and due (the newest bar of that interval complete at ts; NaT
    for none yet), one row per symbol, ts and each of the timeframes.
    ``calibration``: what was fitted from the past of each instant; where ``settings`` give a scalar or the multiplier,
    theirs holds.

    Returns (composites, terms): frame Composites without scope and batch_id; and the TERMS (no rows unless
    ``explained``), one per symbol, ts, pillar and interval, with the signal that was due and what became of it:

    - contribution = score x share (of the timeframe) x scalar x cap x weight (of the pillar), NaN for one that only
      gates; the contributions of a symbol and ts sum to their weighted mean exactly;
    - multiplier = of the symbol and ts: raw = the sum x multiplier, within +-100;
    - factor = the pillar's gate at its strength, NaN where unknown; strength is NaN for a pillar that does not gate.

    Raises DataError on repeated or lacking rows and on naive instants.
    """
    grid = Grid.of(due, list(timeframes.weights), timeframes.base)
    gating = {p: s for p, s in settings.gates.items() if s > 0}
    found = align(signals, grid, sorted({*settings.weights, *gating}))

    fitted = calibration or Calibration()
    votes = {
        p: _Vote.of(
            found[p].score,
            timeframes,
            np.full(len(grid.ts), settings.scalars[p]) if p in settings.scalars else fitted.scalar(p, grid.ts),
        )
        for p in sorted(settings.weights)
    }
    weights = {p: np.where(vote.present, settings.weights[p], 0.0) for p, vote in votes.items()}
    weighed = sum(weights.values(), np.zeros(len(grid.ts)))
    for p, vote in votes.items():
        vote.weigh(_divide(weights[p], weighed))
    mean = sum((vote.contribution.sum(axis=1) for vote in votes.values()), np.zeros(len(grid.ts)))
    if settings.multiplier is None:
        shares = {p: _divide(weight, weighed) for p, weight in weights.items()}
        multiplier = fitted.multiplier(shares, grid.ts, settings.max_multiplier)
    else:
        multiplier = np.full(len(grid.ts), settings.multiplier)
    raw = np.where(weighed > 0, np.clip(exact(multiplier * mean), -LIMIT, LIMIT), np.nan)
    gates = {p: _Gate.of(found[p].gate, timeframes, strength) for p, strength in sorted(gating.items())}
    gate = np.multiply.reduce([np.ones(len(grid.ts)), *(g.factor for g in gates.values())])

    absent = {p: ~votes[p].present if p in votes else np.zeros(len(grid.ts), np.bool_) for p in found}
    closed = {p: np.isnan(gates[p].factor) if p in gates else np.zeros(len(grid.ts), np.bool_) for p in found}
    forgiven = (weighed > 0) & (settings.on_missing_pillar == "renormalise")
    missing = {f"missing:{p}": (absent[p] & ~forgiven) | closed[p] for p in found}
    composites = grid.frame(
        score=_stored(np.where(np.logical_or.reduce(list(missing.values())), np.nan, exact(raw * gate)), 2),
        raw=_stored(raw, 2),
        gate=_stored(gate, 4),
        veto=_labels(missing | _vetoes(found), len(grid.ts), none=None),
        pillars_used=_labels({p: ~(absent[p] | closed[p]) for p in found}, len(grid.ts), none=""),
    )
    if not explained:
        return composites, pd.DataFrame(columns=list(TERMS))
    return composites, _terms(grid, found, votes, gates, multiplier)


def blended(
    signals: pd.DataFrame, due: pd.DataFrame, settings: CompositeSettings, timeframes: Timeframes
) -> pd.DataFrame:
    """
    Each directional pillar's score over its timeframes, before scalar and cap: symbol, ts and a column for each pillar,
    NaN where it is missing; sorted by symbol and ts. What calibration is fitted on. Arguments as of ``compose``.
    """
    grid = Grid.of(due, list(timeframes.weights), timeframes.base)
    found = align(signals, grid, sorted(settings.weights))
    return grid.frame(**{p: _mean(signal.score, timeframes) for p, signal in found.items()})


@dataclass
class _Vote:
    """A directional pillar: its scores, and what each timeframe of it counts in the mean."""

    score: Column
    shares: Column
    scalar: Column
    cap: Column  # what keeps the blended and scaled score within the limit
    present: Mask
    weight: Column
    contribution: Column

    @classmethod
    def of(cls, score: Column, timeframes: Timeframes, scalar: Column) -> _Vote:
        shares = _shares(score, timeframes)
        known = np.where(shares > 0, score, 0.0)
        size = np.abs(scalar * (shares * known).sum(axis=1))
        cap = np.divide(LIMIT, size, out=np.ones(len(size)), where=size > LIMIT)
        present = np.asarray((shares > 0).any(axis=1))
        return cls(known, shares, scalar, cap, present, np.zeros(len(size)), np.zeros(shares.shape))

    def weigh(self, weight: Column) -> None:
        self.weight = weight
        self.contribution = exact(self.score * self.shares * (self.scalar * self.cap * weight)[:, None])


@dataclass(frozen=True)
class _Gate:
    """A gating pillar: factor = 1 - strength x (1 - gate), the gate blended over timeframes; NaN where not known."""

    shares: Column
    strength: float
    factor: Column

    @classmethod
    def of(cls, gate: Column, timeframes: Timeframes, strength: float) -> _Gate:
        shares = _shares(gate, timeframes)
        # shares may sum to a hair over 1
        blended = np.minimum((shares * np.where(shares > 0, gate, 0.0)).sum(axis=1), 1.0)
        return cls(shares, strength, np.where(shares.any(axis=1), 1 - strength * (1 - blended), np.nan))


def _shares(values: Column, timeframes: Timeframes) -> Column:
    """The timeframes' weights over those that are known, summing to 1; all 0 where the base timeframe is not known."""
    known = ~np.isnan(values)
    base = list(timeframes.weights).index(timeframes.base)
    counted = np.array(list(timeframes.weights.values())) * known * known[:, [base]]
    return _divide(counted, counted.sum(axis=1, keepdims=True))


def _mean(values: Column, timeframes: Timeframes) -> Column:
    """Over the timeframes that are known, by their weights; NaN where the base is not known."""
    shares = _shares(values, timeframes)
    return np.where(shares.any(axis=1), (shares * np.where(shares > 0, values, 0.0)).sum(axis=1), np.nan)


def _divide(part: Column, whole: Column) -> Column:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _terms(
    grid: Grid,
    found: Mapping[str, Beside],
    votes: Mapping[str, _Vote],
    gates: Mapping[str, _Gate],
    multiplier: Column,
) -> pd.DataFrame:
    nothing = np.full(len(grid.ts), np.nan)
    frames = []
    for p, signal in found.items():
        vote, gate = votes.get(p), gates.get(p)
        shares = vote.shares if vote else gates[p].shares
        for column, (interval, due) in enumerate(grid.due.items()):
            frames.append(
                grid.frame(
                    pillar=p,
                    interval=interval,
                    due=pd.DatetimeIndex(due).tz_localize("UTC"),
                    score=signal.score[:, column],
                    gate=signal.gate[:, column],
                    veto=pd.array(signal.veto[:, column], dtype="str"),
                    share=shares[:, column],
                    scalar=vote.scalar if vote else nothing,
                    cap=vote.cap if vote else nothing,
                    weight=vote.weight if vote else nothing,
                    contribution=vote.contribution[:, column] if vote else nothing,
                    multiplier=multiplier,
                    strength=gate.strength if gate else np.nan,
                    factor=gate.factor if gate else nothing,
                )
            )
    if not frames:
        return grid.frame()[:0].reindex(columns=list(TERMS))
    # each frame is in the grid's order: row by row, not frame by frame
    order = np.arange(len(frames) * len(grid.ts)).reshape(len(frames), -1).T.ravel()
    return pd.concat(frames, ignore_index=True).iloc[order].reset_index(drop=True)


def _vetoes(found: Mapping[str, Beside]) -> dict[str, Mask]:
    """Where each veto stands, as ``code:pillar``; a veto counts on every fresh timeframe."""
    return {
        f"{code}:{pillar}": (signal.veto == code).any(axis=1)
        for pillar, signal in found.items()
        for code in set(signal.veto[pd.notna(signal.veto)])
    }


def _labels(masks: Mapping[str, Mask], count: int, *, none: str | None) -> Any:
    """For each row the names whose mask is set, sorted and joined by commas; ``none`` where there is none."""
    labels, ids = [""], np.zeros(count, np.int64)
    for name, mask in sorted(masks.items()):
        pairs = ids * 2 + mask
        used = np.flatnonzero(np.bincount(pairs, minlength=1))
        labels = [",".join(filter(None, (labels[u // 2], name if u % 2 else ""))) for u in used.tolist()]
        ids = np.searchsorted(used, pairs)
    return pd.array([label or none for label in labels], dtype="str").take(ids)


def exact(points: Any) -> Any:
    """Rounded to 2**-40 points: up to thousands of such numbers within +-100 sum without any rounding."""
    return np.rint(points * 2.0**40) / 2.0**40


def _stored(column: Column, decimals: int) -> npt.NDArray[np.float32]:
    # + 0.0 makes a negative zero positive
    return (np.round(column, decimals) + 0.0).astype(np.float32)
