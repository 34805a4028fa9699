"""The gradient is cleared between backward and step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.optimizer._own_step import last_places

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop

CLEARED_LOOKS = 2  # steps
CLEARED_SHARE = 0.8  # of the steps looked at: some leave out a step whose gradient is not finite

DOC = ProbeDoc(
    code="OPT608",
    name="gradients-cleared-before-step",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    summary="The gradient is cleared after backward and before the step.",
    why="The step finds no gradient, so nothing is learned; with weight decay or momentum the weights still move.",
    fix="Call zero_grad before backward, not between backward and step.",
    before="loss.backward()\noptimizer.zero_grad()\noptimizer.step()",
    after="optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
    consequences=(
        "parameters-not-updated",
        "zero-gradient",
        "cannot-overfit",
        "stuck-at-chance",
        "fails-on-reference-data",
    ),
)


def run(ctx: Context) -> Findings:
    """The gradient that each step finds, against what backward made since the step before."""
    if not ctx.facts.custom_step:
        raise Skip("there is no train_step: the tool itself makes each step")
    updates = ctx.updates()
    if updates.cleared:
        yield DOC.finding(
            "in {cleared} of {steps} steps the gradient that backward had made was gone",
            cleared=updates.cleared,
            steps=updates.steps,
            where=last_places(updates.events, "step", "backward"),
        )
    return f"each of {updates.steps} steps finds the gradient of its own backward"


def watched(loop: Loop) -> Findings:
    """Whether steps find no gradient although backward has made one."""
    if not any(optimizer.looks for optimizer in loop.optimizers):
        raise Skip("no optimizer was stepped")
    for optimizer in loop.optimizers:
        whole = [look for look in optimizer.looks if look.events]
        emptied = [look for look in whole if look.emptied]
        if len(emptied) < CLEARED_LOOKS or len(emptied) < CLEARED_SHARE * len(whole):
            continue
        zero = next((e.where for e in reversed(emptied[-1].events) if e.kind == "zero"), ())
        yield DOC.finding(
            "in {cleared} of {steps} steps looked at, the gradient that backward had made was gone",
            where=(*zero, *emptied[-1].where),
            cleared=len(emptied),
            steps=len(whole),
        )
        return ""
    return "each step looked at finds the gradient of its own backward"
