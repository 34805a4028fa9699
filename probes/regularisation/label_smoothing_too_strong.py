"""So much label smoothing that nothing is learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.learning._repairs import LEARNING_FAILURES, turned

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Arm

DOC = ProbeDoc(
    code="REG704",
    name="label-smoothing-too-strong",
    stage=Stage.SUBSET,
    experiment=True,
    hampers=True,
    summary="The labels are smoothed so much that the model does not learn; with less smoothing it does.",
    why="Smoothing moves a share of each target to all other classes. Near 1 every target is the same, and there is "
    "nothing left to tell apart.",
    fix="Use a label smoothing of 0.1, or none.",
    consequences=(*LEARNING_FAILURES, "no-generalisation"),
    before="nn.CrossEntropyLoss(label_smoothing=0.9)",
    after="nn.CrossEntropyLoss(label_smoothing=0.1)",
    references=("Szegedy et al. 2016, Rethinking the Inception Architecture",),
)
USUAL = 0.2  # up to here it is never the cause


def run(ctx: Context) -> Findings:
    calls = ctx.attempt().loss_calls
    smoothing = max((float(call.options.get("label_smoothing") or 0.0) for call in calls), default=0.0)
    if smoothing <= USUAL:
        raise Skip(f"label smoothing is {smoothing:g}")

    def details(arm: Arm) -> dict[str, Any]:
        return {
            "smoothing": smoothing,
            "before": f"label_smoothing={smoothing:g}",
            "after": arm.key.replace("label smoothing ", "label_smoothing="),
            "where": next((call.where for call in calls if call.where), ()),
        }

    return (yield from turned(ctx, DOC, "label-smoothing", "With label smoothing {smoothing:g}, ", details))
