"""A checkpoint of the parameters alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage

if TYPE_CHECKING:
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="LOP308",
    name="buffers-not-saved",
    stage=Stage.WATCH,
    summary="What is saved lacks the model's buffers.",
    why=(
        "The running statistics of batch norm are no parameters: a model that is loaded from such a file evaluates "
        "with those of a fresh one."
    ),
    fix="Save model.state_dict(), which holds parameters and buffers.",
    judged_by="watch",
    before="torch.save(dict(model.named_parameters()), path)",
    after="torch.save(model.state_dict(), path)",
)


def watched(loop: Loop) -> Findings:
    """What was done with weights."""
    for seen in loop.weights:
        if seen.kind == "bare-save":
            yield DOC.finding(
                "all parameters are saved, and none of {count} buffers that training has changed: {names}",
                where=seen.where,
                count=len(seen.names),
                names=", ".join(seen.names[:3]),
            )
            return ""
    return "what was saved has its buffers"
