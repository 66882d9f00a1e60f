"""
Signals -> composite scores, for all symbols and instants at once; pure.

For each symbol and instant, in this order: blend timeframes, x the pillar's scalar, cap at +-100, weighted mean over
the directional pillars, x the diversification multiplier, clip (this is ``raw``), x the gates (``score``), vetoes.

- A signal is *fresh* if its ts is that of the latest bar due under the symbol's calendar. Only fresh signals count, and
  the weights of timeframes are renormalised over those with a fresh, known signal. A pillar without one on the base
  timeframe, on which decisions are made, is *missing*, whatever its higher timeframes have.
- ``raw`` uses the pillars present, so that open trades can still be judged. A missing directional pillar makes
  ``score`` null and adds the veto ``missing:<pillar>``, unless ``on_missing_pillar = renormalise``; a missing gate
  always does, since other gates cannot replace it. An ``optional`` pillar whose fresh signal is unknown (carry of a
  share, flow of an index without volume) is not missing: the others decide. One that failed or is stale is missing.
- A gating pillar of strength 0 has no factor, but its vetoes count and it can be missing. Null, zero and vetoed
  differ: a vetoed score keeps its value.
- Every term is rounded to 2**-40 points, so that sums are exact in any order, and the ``waterfall`` adds up to the last
  bit. Scores are stored to 0.01, gates to 0.0001.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphapivot.scoring.calibration import Calibration
from alphapivot.scoring.grid import Aligned, Column, Grid, align

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
    The composites of every (symbol, ts) of ``due``, and their terms; both sorted by symbol and ts.

    ``signals``: frame Signals (scope and batch_id are not needed), one row per pillar, symbol, interval and ts.
    ``due``: symbol, interval, ts (for which to compose) and due (the latest bar of that interval complete at ts; NaT
    for none yet), one row per symbol, ts and timeframe.
    ``calibration``: scalars and correlations fitted from the past of each instant; a scalar or multiplier in
    ``settings`` overrides them.

    Returns (composites, terms): frame Composites without scope and batch_id; and the TERMS (no rows unless
    ``explained``), one per symbol, ts, pillar and interval, with the signal that was due and its effect:

    - contribution = score x share (of the timeframe) x scalar x cap x weight (of the pillar), NaN for a pillar that
      only gates; the contributions of a symbol and ts sum to their weighted mean exactly;
    - multiplier = of the symbol and ts: raw = the sum x multiplier, within +-100;
    - factor = the pillar's gate at its strength, NaN where unknown; strength is NaN for a pillar that does not gate.

    Raises DataError on duplicate or missing rows and on naive instants.
    """
    grid = Grid.of(due, list(timeframes.weights), timeframes.base)
    aligned = align(signals, grid, sorted({*settings.weights, *settings.gates}))

    fitted = calibration or Calibration()
    votes = {
        p: _Vote.of(
            aligned[p].score,
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
    gates = {p: _Gate.of(aligned[p].gate, timeframes, strength) for p, strength in sorted(settings.gates.items())}
    gate = np.multiply.reduce([np.ones(len(grid.ts)), *(g.factor for g in gates.values())])

    base = list(timeframes.weights).index(timeframes.base)
    silent = {p: (weighed > 0) & aligned[p].fresh[:, base] for p in settings.optional}
    unknown = {p: ~votes[p].present if p in votes else np.zeros(len(grid.ts), np.bool_) for p in aligned}
    absent = {p: mask & ~silent[p] if p in silent else mask for p, mask in unknown.items()}
    shut = {p: np.isnan(gates[p].factor) if p in gates else np.zeros(len(grid.ts), np.bool_) for p in aligned}
    forgiven = (weighed > 0) & (settings.on_missing_pillar == "renormalise")
    missing = {f"missing:{p}": (absent[p] & ~forgiven) | shut[p] for p in aligned}
    composites = grid.frame(
        score=_stored(np.where(np.logical_or.reduce(list(missing.values())), np.nan, exact(raw * gate)), 2),
        raw=_stored(raw, 2),
        gate=_stored(gate, 4),
        veto=_labels(missing | _vetoes(aligned), len(grid.ts), none=None),
        pillars_used=_labels({p: ~(unknown[p] | shut[p]) for p in aligned}, len(grid.ts), none=""),
    )
    if not explained:
        return composites, pd.DataFrame(columns=list(TERMS))
    return composites, _terms(grid, aligned, votes, gates, multiplier)


def blended(
    signals: pd.DataFrame, due: pd.DataFrame, settings: CompositeSettings, timeframes: Timeframes
) -> pd.DataFrame:
    """
    Each directional pillar's score over its timeframes, before scalar and cap: symbol, ts and a column for each pillar,
    NaN where it is missing; sorted by symbol and ts. The input of ``calibration.fit``. Arguments as for ``compose``.
    """
    grid = Grid.of(due, list(timeframes.weights), timeframes.base)
    aligned = align(signals, grid, sorted(settings.weights))
    return grid.frame(**{p: _mean(signal.score, timeframes) for p, signal in aligned.items()})


@dataclass
class _Vote:
    """A directional pillar: its scores, and the contribution of each of its timeframes to the mean."""

    score: Column
    shares: Column
    scalar: Column
    cap: Column  # factor that keeps the blended, scaled score within the limit
    present: Mask
    weight: Column
    contribution: Column

    @classmethod
    def of(cls, score: Column, timeframes: Timeframes, scalar: Column) -> _Vote:
        shares = _shares(score, timeframes)
        scores = np.where(shares > 0, score, 0.0)
        size = np.abs(scalar * (shares * scores).sum(axis=1))
        cap = np.divide(LIMIT, size, out=np.ones(len(size)), where=size > LIMIT)
        present = np.asarray((shares > 0).any(axis=1))
        return cls(
            score=scores,
            shares=shares,
            scalar=scalar,
            cap=cap,
            present=present,
            weight=np.zeros(len(size)),
            contribution=np.zeros(shares.shape),
        )

    def weigh(self, weight: Column) -> None:
        self.weight = weight
        self.contribution = exact(self.score * self.shares * (self.scalar * self.cap * weight)[:, None])


@dataclass(frozen=True)
class _Gate:
    """A gating pillar: factor = 1 - strength x (1 - gate), the gate blended over timeframes; NaN where unknown."""

    shares: Column
    strength: float
    factor: Column

    @classmethod
    def of(cls, gate: Column, timeframes: Timeframes, strength: float) -> _Gate:
        shares = _shares(gate, timeframes)
        # shares may sum to slightly more than 1
        blended = np.minimum((shares * np.where(shares > 0, gate, 0.0)).sum(axis=1), 1.0)
        return cls(shares, strength, np.where(shares.any(axis=1), 1 - strength * (1 - blended), np.nan))


def _shares(values: Column, timeframes: Timeframes) -> Column:
    """The timeframes' weights over those with a value, summing to 1; all 0 where the base timeframe has none."""
    known = ~np.isnan(values)
    base = list(timeframes.weights).index(timeframes.base)
    counted = np.array(list(timeframes.weights.values())) * known * known[:, [base]]
    return _divide(counted, counted.sum(axis=1, keepdims=True))


def _mean(values: Column, timeframes: Timeframes) -> Column:
    """The weighted mean over the timeframes with a value; NaN where the base timeframe has none."""
    shares = _shares(values, timeframes)
    return np.where(shares.any(axis=1), (shares * np.where(shares > 0, values, 0.0)).sum(axis=1), np.nan)


def _divide(part: Column, whole: Column) -> Column:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _terms(
    grid: Grid,
    aligned: Mapping[str, Aligned],
    votes: Mapping[str, _Vote],
    gates: Mapping[str, _Gate],
    multiplier: Column,
) -> pd.DataFrame:
    nothing = np.full(len(grid.ts), np.nan)
    frames = []
    for p, signal in aligned.items():
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
    # each frame is in the grid's order; the result goes row by row, not frame by frame
    order = np.arange(len(frames) * len(grid.ts)).reshape(len(frames), -1).T.ravel()
    return pd.concat(frames, ignore_index=True).iloc[order].reset_index(drop=True)


def _vetoes(aligned: Mapping[str, Aligned]) -> dict[str, Mask]:
    """``code:pillar`` -> the rows that it vetoes; a veto on any fresh timeframe counts."""
    return {
        f"{code}:{pillar}": (signal.veto == code).any(axis=1)
        for pillar, signal in aligned.items()
        for code in set(signal.veto[pd.notna(signal.veto)])
    }


def _labels(masks: Mapping[str, Mask], count: int, *, none: str | None) -> Any:
    """For each row the names whose mask is set, sorted and joined by commas; ``none`` if no mask is set."""
    labels, ids = [""], np.zeros(count, np.int64)
    for name, mask in sorted(masks.items()):
        pairs = ids * 2 + mask
        used = np.flatnonzero(np.bincount(pairs, minlength=1))
        labels = [",".join(filter(None, (labels[u // 2], name if u % 2 else ""))) for u in used.tolist()]
        ids = np.searchsorted(used, pairs)
    return pd.array([label or none for label in labels], dtype="str").take(ids)


def exact(points: Any) -> Any:
    """Rounded to 2**-40 points: thousands of such numbers within +-100 can be added without rounding errors."""
    return np.rint(points * 2.0**40) / 2.0**40


def _stored(column: Column, decimals: int) -> npt.NDArray[np.float32]:
    # + 0.0 makes a negative zero positive
    return (np.round(column, decimals) + 0.0).astype(np.float32)
