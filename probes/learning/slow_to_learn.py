"""A short training that leaves chance, but hardly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Grade, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="FIT007",
    name="slow-to-learn",
    stage=Stage.SUBSET,
    symptom=True,
    severity=Severity.NOTE,
    grade=Grade.SUSPECTED,
    summary="The model learns, but has closed only a small part of the way after a short training.",
    why="Slow is not wrong: deep models without normalisation, small learning rates and many classes all start slowly.",
    fix="If the full run is long enough, nothing. Otherwise compare learning rates and regularisation with "
    "diagnose ablate.",
)


def run(ctx: Context) -> Findings:
    trace = ctx.subset()
    if trace.outcome != "slow" and not ctx.learns_later():
        return "" if trace.share is None else f"{trace.share:.0%} of the way from guessing to the floor"
    later = ctx.search().slow_start
    yield DOC.finding(
        "After {steps} steps the loss closed {share_closed:.1%} of the way from guessing to its floor{later}.",
        later=f": {later}" if later else "",
        steps=trace.steps,
        share_closed=trace.share if trace.share is not None else float("nan"),
    )
    return ""
