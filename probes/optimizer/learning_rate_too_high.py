"""A learning rate at which the model does not learn, and a smaller one at which it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.learning._repairs import LEARNING_FAILURES, relieving, turned

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.loop import Loop
    from probes.records.trials import Arm

DOC = ProbeDoc(
    code="OPT621",
    name="learning-rate-too-high",
    stage=Stage.SUBSET,
    also=(Stage.WATCH,),
    experiment=True,
    hampers=True,
    summary="The learning rate is too high: with a smaller one the same pipeline learns.",
    why=(
        "Steps that are too long jump over the minimum, saturate units or blow up the weights, and the loss "
        "stays at chance or grows."
    ),
    fix="Use the largest learning rate that learned, and a warm-up if you need a higher one.",
    consequences=LEARNING_FAILURES,
    before="torch.optim.Adam(model.parameters(), lr=0.1)",
    after="torch.optim.Adam(model.parameters(), lr=1e-3)",
)


LEAST_STEPS = 50  # of a watched loop
FIRST = 8  # looks, and losses
REPLACED = 1.0  # size of an update over that of the weights, from which on a step replaces them
JUMP = 2.0  # of the loss over that at the start, in the first steps
UNLEARNED = 0.98  # of the loss at the start


def run(ctx: Context) -> Findings:
    ablation = ctx.ablation("lr")
    arm = ablation.repairing
    if ablation.arms and not any(tried.factors["lr"] < 1 for tried in ablation.arms):
        raise Skip("the measured updates are far from usual in the other direction, so no smaller rate was tried")
    if arm is not None and arm.factors["lr"] > 1 and not ablation.explained_by:
        return f"it learns with {arm.label}, so the rate is not too high"
    if not ablation.arms and (better := relieving(ctx, "lr")) is not None and better.factors["lr"] > 1:
        return "it learns better with a higher rate"

    def details(arm: Arm) -> dict[str, Any]:
        now = arm.factors.get("rate of group", max(ctx.learning_rates(), default=0.0))
        return {
            "now": now,
            "before": f"lr={now:.3g}",
            "after": f"lr={now * arm.factors['lr']:.3g}",
            "where": ctx.optimizer_at(),
        }

    return (yield from turned(ctx, DOC, "lr", "With learning rate {now:.3g}, ", details))


def watched(loop: Loop) -> Findings:
    """An early step replaces the weights, the loss jumps, and it never comes back below where it began."""
    stepped = [optimizer for optimizer in loop.optimizers if optimizer.steps >= LEAST_STEPS]
    if len(stepped) != 1 or sum(optimizer.steps > 0 for optimizer in loop.optimizers) != 1:
        raise Skip("judged for one optimizer, in a run that is not very short")
    optimizer = stepped[0]
    sizes = [look.update for look in optimizer.looks[:FIRST] if look.update is not None]
    losses = [value for _, value in loop.losses if value is not None]
    if not sizes or len(losses) < len(loop.losses) or len(losses) <= FIRST:
        raise Skip("the sizes of the updates, or the losses, are not known")
    size, jump, quarter = max(sizes), max(losses[1 : FIRST + 1]), losses[-len(losses) // 4 :]
    start, end = losses[0], sum(quarter) / len(quarter)
    if size >= REPLACED and min(losses) >= 0 and start > 0 and jump >= JUMP * start and end >= UNLEARNED * start:
        yield DOC.finding(
            "an early step changes the weights by {size:.3g} times their own size (lr {lr:.3g}); the loss jumps from "
            "{start:.4g} to {jump:.4g}, and is {end:.4g} at the end",
            where=(*optimizer.where, *optimizer.step_at),
            size=size,
            lr=max((lr for _, lr in optimizer.lrs), default=0.0),
            start=start,
            jump=jump,
            end=end,
        )
        return ""
    return f"the first steps change the weights by {size:.2g} of their size at most"
