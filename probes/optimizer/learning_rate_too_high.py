"""A learning rate at which the model does not learn, and a smaller one at which it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from probes.api import Inconclusive, ProbeDoc, Skip, Stage
from probes.learning._curves import failed, learned_of, proof, shares
from probes.results import Finding, Grade

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
    consequences=(
        "stuck-at-chance",
        "predicts-one-class",
        "slow-to-learn",
        "cannot-overfit",
        "fails-on-reference-data",
    ),
    before="torch.optim.Adam(model.parameters(), lr=0.1)",
    after="torch.optim.Adam(model.parameters(), lr=1e-3)",
)


def run(ctx: Context) -> Iterator[Finding]:
    ablation = ctx.ablation("lr")
    arm = ablation.repairing
    if not ablation.arms:
        raise Skip("the unchanged pipeline learns in a short training, so there is nothing to repair")
    if arm is None:
        if any("learns" in a.outcomes for a in ablation.arms):
            raise Inconclusive(f"only some seeds learn ({shares(ablation.arms)})")
        return f"it does not learn with other values either ({shares(ablation.arms)}; {ablation.steps} steps)"
    if arm.factors["lr"] > 1:
        return f"it learns with {arm.label}, so the rate is not too high"
    now = max(ctx.learning_rates())
    trace, control = arm.traces[0], ablation.control.traces[0]
    yield DOC.finding(
        "With learning rate {now:.3g}, as configured, {control_failed} of {control_seeds} seeds did not learn in {steps} "
        "steps; with {change} {learned} did.",
        now=now,
        change=arm.label,
        control_failed=failed(ablation.control),
        control_seeds=len(ablation.control.outcomes),
        steps=ablation.steps,
        learned=learned_of(arm),
        repaired_seeds=sum(outcome == "learns" for outcome in arm.outcomes),
        seeds=ablation.seeds,
        grade=str(Grade.PROVED if ablation.proved else Grade.SUSPECTED),
        loss_first=control.points[0].train_loss,
        loss_last=control.points[-1].train_loss,
        loss_repaired=trace.points[-1].train_loss,
        accuracy=control.points[-1].val_score,
        accuracy_repaired=trace.points[-1].val_score,
        chance=control.chance,
        before=f"lr={now:.3g}",
        after=f"lr={now * arm.factors['lr']:.3g}",
        where=ctx.optimizer_at(),
        evidence=proof(ablation),
    )
    return ""
