"""Parameters do not move although there is something to move them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop

UNSTEPPED = 8  # backward calls of a watched loop without a step: more than are usually accumulated
UNMOVED = 3  # steps looked at

DOC = ProbeDoc(
    code="OPT605",
    name="parameters-not-updated",
    stage=Stage.SMOKE,
    also=(Stage.WATCH,),
    summary="No parameter moves although there are gradients and a learning rate.",
    why="The step is missing, or it finds no gradient: the loss stays where it started.",
    fix="Call zero_grad, backward and step, in this order, in every iteration.",
    before="loss.backward()\noptimizer.zero_grad()",
    after="optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
    requires=("nonfinite-activations",),
    consequences=("cannot-overfit", "stuck-at-chance", "fails-on-reference-data"),
)


def run(ctx: Context) -> Findings:
    """Relative size of the first updates."""
    if ctx.pipeline.precision == "fp16":
        raise Skip("loss scaling may leave out the first updates in half precision")
    updates = ctx.updates()
    held = [p for p in updates.parameters if p.requires_grad and p.optimized]
    if not held:
        raise Skip("the optimizer holds no trainable parameter of the model")
    if not any(lr > 0 for lr in updates.lrs):
        raise Skip("the learning rate is 0 in the first updates")
    moved = [p for p in held if any(update > 0 for update in p.updates)]
    gradients = any(norm for p in held for norm in p.gradients)
    if not moved and not gradients and not ctx.facts.custom_step:
        raise Skip("no gradient reaches the optimizer")
    if not moved and not any(update > 0 for p in updates.parameters for update in p.updates):
        yield DOC.finding(
            "none of {count} optimised tensors moved in {steps} steps; optimizer.step was called {stepped} times",
            where=ctx.optimizer_at(),
            count=len(held),
            steps=updates.steps,
            stepped=updates.stepped,
        )
    sizes = sorted(update for p in moved for update in p.updates if update > 0)
    typical = f"; a typical update is {sizes[len(sizes) // 2]:.1e} of the parameter" if sizes else ""
    return f"{len(moved)} of {len(held)} optimised tensors move{typical}"


def watched(loop: Loop) -> Findings:
    """Optimizers whose tensors get gradients but are never stepped, and steps that change nothing."""
    for optimizer in loop.optimizers:
        if not optimizer.steps and optimizer.reached >= UNSTEPPED:
            yield DOC.finding(
                "{count} backward calls gave gradients to the {held} tensors of {kind}; its step was never called",
                where=(*optimizer.where, *optimizer.fed_at),
                count=optimizer.backwards,
                held=optimizer.held,
                kind=optimizer.kind,
            )
            return ""
        known = [look.moved for look in optimizer.looks if look.moved is not None]
        if len(known) >= UNMOVED and not any(known):
            yield DOC.finding(
                "in {count} steps looked at, no tensor of {kind} changed although they had gradients",
                where=(*optimizer.step_at, *optimizer.where),
                count=len(known),
                kind=optimizer.kind,
            )
            return ""
    if not loop.steps:
        raise Skip("no optimizer was stepped")
    return "the optimised tensors move"
