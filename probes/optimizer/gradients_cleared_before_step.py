"""The gradient is cleared between backward and step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="OPT608",
    name="gradients-cleared-before-step",
    stage=Stage.SMOKE,
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
        )
    return f"each of {updates.steps} steps finds the gradient of its own backward"
