"""A step still holds the gradient of the step before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.loop._lines import goes_well, receiver
from probes.optimizer._own_step import last_places
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop

STALE_LOOKS = 2  # steps
STALE_SHARE = 0.5  # of the steps looked at

DOC = ProbeDoc(
    code="OPT607",
    name="gradients-not-cleared",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
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
            where=last_places(updates.events, "backward", "step"),
        )
    return f"each of {updates.steps} steps starts from cleared gradients"


def watched(loop: Loop) -> Findings:
    """Whether backward added to the gradient that the step before had used already."""
    for optimizer in loop.optimizers:
        known = [look for look in optimizer.looks if look.stale is not None]
        stale = [look for look in known if look.stale]
        if len(stale) < STALE_LOOKS or len(stale) < STALE_SHARE * len(known):
            continue
        line = next((e.where for e in stale[-1].events if e.kind == "backward" and e.touched), ())
        name = receiver(stale[-1].where, "step", "optimizer")
        text = line[0].text if line else ""
        yield DOC.finding(
            "in {stale} of {known} steps looked at, backward added to the gradient that the step before had used",
            severity=Severity.WARNING if goes_well(loop) else None,
            where=(*line, *stale[-1].where),
            stale=len(stale),
            known=len(known),
            before=text,
            after=f"{name}.zero_grad()\n{text}" if text else "",
        )
        return ""
    if not any(look.stale is not None for optimizer in loop.optimizers for look in optimizer.looks):
        raise Skip("no two steps in a row were looked at")
    return "each step looked at starts from cleared gradients"
