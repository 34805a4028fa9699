"""The model, loss and optimizer fail on data that is known to be learnable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Stage
from probes.learning._curves import curves
from probes.results import Grade

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="FIT003",
    name="fails-on-reference-data",
    stage=Stage.MNIST,
    symptom=True,
    grade=Grade.SUSPECTED,
    summary="The model, with its own loss and optimizer, does not learn handwritten digits.",
    why="Handwritten digits are learned by almost anything that works. A failure here points at the model, the loss or "
    "the optimizer, and acquits the data.",
    fix="See the causes that were found with it; the data can be left aside for now.",
)

FAILED_SHARE = 0.5  # of the way from chance to the threshold: below it is a failure, above a near miss


def run(ctx: Context) -> Findings:
    reference = ctx.reference()
    trace = reference.trace
    last = trace.points[-1]
    score = last.val_score or 0.0
    if score >= reference.threshold:
        return f"{score:.1%} after {trace.steps} steps ({reference.source})"
    chance = trace.chance or 0.0
    if score > chance + FAILED_SHARE * (reference.threshold - chance):
        raise Inconclusive(
            f"{score:.1%} after {trace.steps} steps, where {reference.threshold:.0%} is expected ({reference.source})"
        )
    yield DOC.finding(
        "{accuracy:.1%} after {steps} steps, where {threshold:.0%} is expected and guessing gives {chance:.1%} "
        "({source}).",
        accuracy=score,
        source=reference.source,
        steps=trace.steps,
        threshold=reference.threshold,
        chance=chance,
        evidence=curves(trace, reference.source),
    )
    return ""
