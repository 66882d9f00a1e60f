"""[quality]: the thresholds of the checks on bars."""

from __future__ import annotations

from pydantic import Field

from alphapivot.config.sections.base import Section


class Quality(Section):
    """[quality]: which bars are implausible; a threshold of 0 turns its check off. See alphapivot/data/checks.py."""

    window: int = Field(60, ge=20, description="preceding bars that define what is usual")
    gap_bars: int = Field(5, ge=0, description="missing bars in a row that stop entries")
    hole_days: int = Field(
        14, ge=0, description="days for which missing bars are requested again, once a day; 0: never"
    )
    spike_z: float = Field(25, ge=0, description="robust z-score of a return, unless the other market shares it")
    confirm_bars: int = Field(
        2, ge=0, description="bars after a spike that must stay at its level to make it a price; 0: never by bars"
    )
    stale_bars: int = Field(5, ge=0, description="unchanged bars in a row that stop entries")
    zero_volume_bars: int = Field(5, ge=0, description="bars without a trade in a row that stop entries")
    intraday: int = Field(12, ge=1, description="factor on the numbers of bars above for intraday bars")
    scale: float = Field(0.1, ge=0, lt=1, description="how near 10 or 100 times the usual price is a wrong scale")
    shift: float = Field(
        0.3, ge=0, le=2, description="gain in correlation from shifting a market by a day that stops entries"
    )
    split: float = Field(0.03, ge=0, lt=0.2, description="how near a simple ratio an overnight change is a split")
    short_day: float = Field(
        0.25, ge=0, le=1, description="share of a day's last intraday bars that may be missing; more stop entries"
    )
    complete_after: float | None = Field(
        None,
        ge=0,
        description="minutes after the end of a higher bar from which its last parts are not waited for; default: a"
        " later bar of its market completes it",
    )
    source_gap: float = Field(
        25,
        ge=0,
        description="basis points between closes of a feed and its stand-in on the bars before, beyond which nothing is"
        " entered",
    )
    price_noise: float = Field(0.5, ge=0, description="ticks by which a price may differ without being a restatement")
    volume_settles: float = Field(
        3, ge=0, description="days after a bar in which a change of its volume alone does not rescore it"
    )
