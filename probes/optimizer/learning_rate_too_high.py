"""A learning rate at which the model does not learn, and a smaller one at which it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.learning._repairs import LEARNING_FAILURES, relieving, turned

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Arm

DOC = ProbeDoc(
    code="OPT621",
    name="learning-rate-too-high",
    stage=Stage.SUBSET,
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
