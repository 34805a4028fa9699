"""Scaled gradients are clipped as if they were not scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.loop._lines import receiver
from probes.optimizer._own_step import events, of_each_step

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="OPT611",
    name="clip-before-unscale",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    summary="Gradients are clipped while they are still multiplied by the loss scale.",
    why="The scale is some ten thousands, so a limit of 1 becomes one of about 1e-5, and every step is cut down "
    "to that.",
    fix="Call scaler.unscale_(optimizer) before clipping.",
    before="scaler.scale(loss).backward()\nclip_grad_norm_(model.parameters(), 1.0)\nscaler.step(optimizer)",
    after="scaler.scale(loss).backward()\nscaler.unscale_(optimizer)\nclip_grad_norm_(model.parameters(), 1.0)\n"
    "scaler.step(optimizer)",
    consequences=(
        "slow-to-learn", "stuck-at-chance", "cannot-overfit", "fails-on-reference-data", "learning-rate-too-low",
    ),
    references=("torch.amp documentation: working with scaled gradients",),
)  # fmt: skip


def run(ctx: Context) -> Findings:
    """The order of clip and unscale in the user's own train_step."""
    for group in of_each_step(events(ctx)):
        kinds = [event.kind for event in group]
        if "clip" in kinds and "unscale" in kinds and kinds.index("clip") < kinds.index("unscale"):
            yield DOC.finding(
                "gradients are clipped first and divided by the loss scale afterwards",
                where=group[kinds.index("clip")].where,
            )
            return ""
    return "no gradient is clipped while it is scaled"


def watched(loop: Loop) -> Findings:
    """The order of clip and unscale, where a GradScaler is used."""
    if not any(optimizer.scaled for optimizer in loop.optimizers):
        raise Skip("no loss is scaled")
    for optimizer in loop.optimizers:
        for look in optimizer.looks:
            kinds = [event.kind for event in look.events]
            if "clip" in kinds and "unscale" in kinds and kinds.index("clip") < kinds.index("unscale"):
                clip = look.events[kinds.index("clip")].where
                name = receiver(look.where, "step", "scaler")
                yield DOC.finding(
                    "gradients are clipped first and divided by the loss scale afterwards",
                    where=(*clip, *look.where),
                    before=clip[0].text if clip else "",
                    after=f"{name}.unscale_(optimizer)\n{clip[0].text}" if clip else "",
                )
                return ""
    return "no gradient is clipped while it is scaled"
