"""A resume without the optimizer's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="LOP307",
    name="optimizer-state-not-restored",
    stage=Stage.WATCH,
    summary="Training goes on from a checkpoint, but the optimizer starts anew.",
    why="Momentum and Adam's averages are lost, so the first steps after each resume are wild and the loss jumps.",
    fix="Load the optimizer's state too, and that of the scheduler and the loss scaler.",
    severity=Severity.WARNING,
    judged_by="watch",
    before="model.load_state_dict(checkpoint['model'])",
    after="model.load_state_dict(checkpoint['model'])\noptimizer.load_state_dict(checkpoint['optimizer'])",
)


def watched(loop: Loop) -> Findings:
    """What was done with weights."""
    for seen in loop.weights:
        if seen.kind == "resume":
            yield DOC.finding(
                "the state of the scheduler was loaded, that of its optimizer was not, so its averages begin anew"
                if "scheduler" in seen.names
                else "the checkpoint holds the state of an optimizer with the same settings; the model's is loaded",
                where=seen.where,
            )
            return ""
    return "no resume without the optimizer's state was seen"
