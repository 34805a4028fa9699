"""A learning rate at which hardly anything moves, and a larger one at which the model learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, Inconclusive, ProbeDoc, Skip, Stage
from probes.learning._repairs import LEARNING_FAILURES, relieving, turned

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Arm

DOC = ProbeDoc(
    code="OPT622",
    name="learning-rate-too-low",
    stage=Stage.SUBSET,
    experiment=True,
    hampers=True,
    summary="The learning rate is too low: with a larger one the same pipeline learns.",
    why="Each step moves the weights so little that the run would end before the model leaves chance.",
    fix="Use the learning rate that learned; a learning-rate range test finds the largest that is stable.",
    consequences=LEARNING_FAILURES,
    before="torch.optim.SGD(model.parameters(), lr=1e-6)",
    after="torch.optim.SGD(model.parameters(), lr=1e-2)",
)


def run(ctx: Context) -> Findings:
    ablation = ctx.ablation("lr")
    arm = ablation.repairing
    if ablation.arms and not any(tried.factors["lr"] > 1 for tried in ablation.arms):
        raise Skip("the measured updates are far from usual in the other direction, so no larger rate was tried")
    if arm is not None and arm.factors["lr"] < 1 and not ablation.explained_by:
        return f"it learns with {arm.label}, so the rate is not too low"
    needed = max((trace.steps for trace in arm.traces), default=0) if arm is not None else 0
    planned = ctx.planned_steps() / max(1, needed)
    if arm is not None and arm.factors["lr"] <= planned:  # progress goes with lr x steps: the full run may get there
        raise Inconclusive(
            f"it learns within {needed} steps at {arm.label}, and the planned run has {planned:.0f} times as "
            "many steps to get there at its own rate"
        )
    if not ablation.arms and (better := relieving(ctx, "lr")) is not None and better.factors["lr"] < 1:
        return "it learns better with a lower rate"

    def details(arm: Arm) -> dict[str, Any]:
        now = arm.factors.get("rate of group", max(ctx.learning_rates(), default=0.0))
        return {
            "now": now,
            "before": f"lr={now:.3g}",
            "after": f"lr={now * arm.factors['lr']:.3g}",
            "where": ctx.optimizer_at(),
        }

    return (yield from turned(ctx, DOC, "lr", "With learning rate {now:.3g}, ", details))
