"""Gradients are clipped when the step has been taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.optimizer._own_step import after_each_step, events, of_each_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.measurements import Context
    from probes.records.updates import StepEvent

DOC = ProbeDoc(
    code="OPT610",
    name="clip-after-step",
    stage=Stage.SMOKE,
    summary="Gradients are clipped after optimizer.step(), when it is too late.",
    why="The step has used the gradients as they were, so nothing is limited: a spike passes in full.",
    fix="Clip between backward and step.",
    before="optimizer.step()\nclip_grad_norm_(model.parameters(), 1.0)",
    after="clip_grad_norm_(model.parameters(), 1.0)\noptimizer.step()",
    consequences=("diverging", "loss-spike", "nonfinite-training"),
    references=("torch.nn.utils.clip_grad_norm_ documentation",),
)


def run(ctx: Context) -> Findings:
    """The order of clip and step in the user's own train_step."""
    found = events(ctx)
    late = [event for group in after_each_step(found) for event in group if event.kind == "clip"]
    in_time = any(_clips(group) for group in of_each_step(found))
    if late and not in_time:
        yield DOC.finding(
            "in {steps} of {steps} steps gradients are clipped after optimizer.step(), never before it",
            steps=len(after_each_step(found)),
            where=late[0].where,
        )
        return ""
    return "gradients are clipped between backward and step" if in_time else "train_step does not clip by torch's means"


def _clips(group: Sequence[StepEvent]) -> bool:
    """Whether a clip follows a backward before the step."""
    kinds = [event.kind for event in group]
    return "backward" in kinds and "clip" in kinds[kinds.index("backward") :]
