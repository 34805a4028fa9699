"""A step still holds the gradient of the step before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="OPT607",
    name="gradients-not-cleared",
    stage=Stage.SMOKE,
    summary="Gradients pile up: a step uses the gradient of earlier steps on top of its own.",
    why=(
        "backward adds to what is there, so the step grows from iteration to iteration and follows outdated directions."
    ),
    fix="Call optimizer.zero_grad() before each backward; where gradients are accumulated on purpose, after each step.",
    before="loss.backward()\noptimizer.step()",
    after="optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
    consequences=("learning-rate-too-high", "diverging", "loss-spike", "cannot-overfit"),
    references=("torch.optim.Optimizer.zero_grad documentation",),
)


def run(ctx: Context) -> Findings:
    """The gradient that each step finds, against what backward made since the step before."""
    if not ctx.facts.custom_step:
        raise Skip("there is no train_step: the tool itself clears the gradients")
    updates = ctx.updates()
    if updates.uncleared:
        yield DOC.finding(
            "{uncleared} of {steps} steps found the gradient of the step before on top of their own",
            uncleared=updates.uncleared,
            steps=updates.steps,
        )
    return f"each of {updates.steps} steps starts from cleared gradients"
