"""A learning rate at which the model does not learn, and a smaller one at which it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.learning._curves import proof
from probes.learning._repairs import LEARNING_FAILURES, SENTENCE, figures, nothing_repairs, repairing_arm

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="OPT621",
    name="learning-rate-too-high",
    stage=Stage.SUBSET,
    experiment=True,
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
    arm = repairing_arm(ablation)
    if not any(tried.factors["lr"] < 1 for tried in ablation.arms):
        raise Skip("the measured updates are far from usual in the other direction, so no smaller rate was tried")
    if arm is None:
        return nothing_repairs(ablation)
    if arm.factors["lr"] > 1:
        return f"it learns with {arm.label}, so the rate is not too high"
    now = max(ctx.learning_rates())
    yield DOC.finding(
        "With learning rate {now:.3g}, " + SENTENCE,
        now=now,
        before=f"lr={now:.3g}",
        after=f"lr={now * arm.factors['lr']:.3g}",
        where=ctx.optimizer_at(),
        evidence=proof(ablation),
        **figures(ablation, arm),
    )
    return ""
