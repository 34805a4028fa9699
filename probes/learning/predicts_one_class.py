"""Nearly every sample gets the same prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="FIT005",
    name="predicts-one-class",
    stage=Stage.SUBSET,
    symptom=True,
    severity=Severity.WARNING,
    grade=Grade.SUSPECTED,
    summary="Nearly every sample gets the same prediction.",
    why="The model has fallen back on the most common class, or its output no longer depends on the input.",
    fix="See the causes that were found with it; then look at the balance of the classes and at dead activations.",
)

COLLAPSED = 0.98  # share of predictions on one class
MARGIN = 0.1  # above the share that this class really has, or the prediction may simply be right


def run(ctx: Context) -> Findings:
    trace = ctx.subset()
    if trace.predicted_share is None or trace.chance is None:
        raise Skip("the task has no classes")
    collapsed = trace.predicted_share >= COLLAPSED and trace.predicted_share > trace.chance + MARGIN
    if not collapsed or trace.outcome == "learns" or ctx.learns_later():
        return f"the most common prediction covers {trace.predicted_share:.0%} of the samples"
    yield DOC.finding(
        "{predicted_share:.0%} of the samples get the same prediction; the most common class has {chance:.1%}.",
        predicted_share=trace.predicted_share,
        chance=trace.chance,
    )
    return ""
