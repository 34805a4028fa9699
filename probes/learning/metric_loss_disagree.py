"""The loss falls, and the accuracy does not follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.learning._curves import curves
from probes.results import Grade, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="FIT006",
    name="metric-loss-disagree",
    stage=Stage.SUBSET,
    symptom=True,
    severity=Severity.WARNING,
    grade=Grade.SUSPECTED,
    summary="The training loss falls close to its floor, while the training accuracy stays at chance.",
    why="Loss and metric do not look at the same thing: another target, another axis, another order of the classes.",
    fix="Compute both by hand for one batch, and compare the targets that each is given.",
)
MOSTLY = 0.9  # accuracy above which nothing is at odds, however often guessing is right
FALLEN = 0.5  # share of the way from guessing to the floor


def run(ctx: Context) -> Findings:
    trace = ctx.subset()
    last = trace.points[-1]
    if trace.share is None or trace.above_chance is None or last.train_score is None:
        raise Skip("the task has no accuracy and loss to compare")
    if trace.share >= FALLEN and not trace.above_chance and last.train_score < MOSTLY:
        yield DOC.finding(
            "the loss closed {share:.0%} of the way to its floor, and the accuracy is {accuracy:.1%} (guessing "
            "{chance:.1%})",
            share=trace.share,
            accuracy=last.train_score,
            chance=trace.chance,
            evidence=curves(trace, "as configured"),
        )
        return ""
    return f"loss {trace.share:.0%} of the way, accuracy {last.train_score:.1%}"
