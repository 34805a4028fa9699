"""Gradients are clipped when the step has been taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.optimizer._own_step import after_each_step, events, of_each_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.measurements import Context
    from probes.records.loop import Loop, LoopEvent
    from probes.records.updates import StepEvent

LATE_LOOKS = 2  # steps of a watched loop

DOC = ProbeDoc(
    code="OPT610",
    name="clip-after-step",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
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


def watched(loop: Loop) -> Findings:
    """The order of backward, clip and step."""
    for optimizer in loop.optimizers:
        looks = [look.events for look in optimizer.looks if look.events]
        late = [events for events in looks if _clips_early(events)]
        if len(late) >= LATE_LOOKS and not any(_clips_in_time(events) for events in looks):
            clip = next(event for event in late[-1] if event.kind == "clip")
            yield DOC.finding(
                "in {late} of {looks} steps looked at gradients are clipped after optimizer.step(), never before it",
                where=(*clip.where, *optimizer.step_at),
                late=len(late),
                looks=len(looks),
            )
            return ""
    if not any(event.kind == "clip" for o in loop.optimizers for look in o.looks for event in look.events):
        return "no clipping by torch's means was seen"
    return "gradients are clipped between backward and step"


def _clips(group: Sequence[StepEvent]) -> bool:
    """Whether a clip follows a backward before the step."""
    kinds = [event.kind for event in group]
    return "backward" in kinds and "clip" in kinds[kinds.index("backward") :]


def _first_backward(events: Sequence[LoopEvent]) -> int:
    return next((i for i, event in enumerate(events) if event.kind == "backward" and event.touched), len(events))


def _clips_early(events: Sequence[LoopEvent]) -> bool:
    """Whether a clip of this optimizer's gradients comes after the step before, and before any backward."""
    return any(event.kind == "clip" for event in events[: _first_backward(events)])


def _clips_in_time(events: Sequence[LoopEvent]) -> bool:
    return any(event.kind == "clip" for event in events[_first_backward(events) :])
