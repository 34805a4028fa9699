"""So much label smoothing that nothing is learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.learning._repairs import LEARNING_FAILURES, turned
from probes.results import Severity

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
HARDLY_ANY = 0.1  # of what there is to learn without smoothing
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

    told = turned(ctx, DOC, "label-smoothing", "With label smoothing {smoothing:g}, ", details)
    found = False
    while True:
        try:
            finding = next(told)
        except StopIteration as end:
            reason: str = end.value
            break
        found = True
        yield finding
    left = what_is_left(smoothing, ctx.subset().classes or ctx.facts.num_classes or 0)
    if not found and left < HARDLY_ANY:
        yield DOC.finding(
            "With label smoothing {smoothing:g} over {classes} classes, the targets keep {left:.1%} of what there is "
            "to learn: the model may still rank the classes, but can never be sure of one.",
            severity=Severity.WARNING,
            smoothing=smoothing,
            classes=ctx.subset().classes or ctx.facts.num_classes,
            left=left,
            where=next((call.where for call in calls if call.where), ()),
        )
    return reason


def what_is_left(smoothing: float, classes: int) -> float:
    """1 - entropy of a smoothed target / entropy of guessing: 1 without smoothing, 0 where all targets are alike."""
    if classes < 2:
        return 1.0
    off = smoothing / classes
    on = 1 - smoothing + off
    entropy = -(on * math.log(on) + (classes - 1) * (off * math.log(off) if off else 0.0))
    return 1 - entropy / math.log(classes)
