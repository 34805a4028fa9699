"""An argmax over samples or positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage

if TYPE_CHECKING:
    from probes.records.loop import Loop

LEAST = 2  # times that it was seen

DOC = ProbeDoc(
    code="LOP311",
    name="metric-over-wrong-axis",
    stage=Stage.WATCH,
    summary="The predicted class is taken along an axis that is not that of the classes.",
    why="The largest score is looked for among samples or positions, so the accuracy says nothing.",
    fix=(
        "Take the argmax along the axis of the classes: dim=1 for (samples, classes, ...), dim=-1 where they come last."
    ),
    judged_by="watch",
    before="predicted = outputs.argmax(0)",
    after="predicted = outputs.argmax(1)",
    consequences=("metric-loss-disagree",),
)


def watched(loop: Loop) -> Findings:
    """Along which axis the argmax of a model's output is taken, and where its classes lie."""
    for metric in loop.metrics:
        if metric.times >= LEAST:
            shape = ", ".join(str(size) for size in metric.shape)
            yield DOC.finding(
                "the argmax of outputs of shape ({shape}) is taken {along}; the classes lie along {classes}",
                where=metric.where,
                shape=shape,
                along="over all of them at once" if metric.dim is None else f"along dim {metric.dim}",
                dim=metric.dim,
                classes=metric.classes,
            )
            return ""
    return "no argmax along another axis than the classes was seen"
