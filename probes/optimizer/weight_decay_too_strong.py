"""Weight decay that shrinks the weights faster than the gradient can grow them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from probes.api import Inconclusive, ProbeDoc, Skip, Stage
from probes.learning._curves import failed, learned_of, proof, shares
from probes.results import Finding, Grade

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="OPT623",
    name="weight-decay-too-strong",
    stage=Stage.SUBSET,
    experiment=True,
    summary="Weight decay is so strong that the model does not learn: with less of it the same pipeline does.",
    why=(
        "Weight decay pulls every weight to zero at every step. When its pull exceeds the gradient's, the "
        "outputs shrink to a constant and the loss stays at chance."
    ),
    fix="Use the mildest weight decay that learned; 1e-4 to 5e-4 with SGD and 0.01 to 0.1 with AdamW are usual.",
    consequences=(
        "stuck-at-chance",
        "predicts-one-class",
        "slow-to-learn",
        "cannot-overfit",
        "fails-on-reference-data",
    ),
    before="torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)",
    after="torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=5e-4)",
)


def run(ctx: Context) -> Iterator[Finding]:
    ablation = ctx.ablation("weight-decay")
    arm = ablation.repairing
    if not ablation.arms:
        raise Skip("the unchanged pipeline learns in a short training, so there is nothing to repair")
    if arm is None:
        if any("learns" in a.outcomes for a in ablation.arms):
            raise Inconclusive(f"only some seeds learn ({shares(ablation.arms)})")
        return f"it does not learn with other values either ({shares(ablation.arms)}; {ablation.steps} steps)"
    now = max(float(group.get("weight_decay") or 0.0) for group in ctx.pipeline.optimizer.param_groups)
    trace, control = arm.traces[0], ablation.control.traces[0]
    yield DOC.finding(
        "With weight decay {now:.3g}, as configured, {control_failed} of {control_seeds} seeds did not learn in {steps} "
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
        before=f"weight_decay={now:.3g}",
        after=f"weight_decay={now * arm.factors['weight_decay']:.3g}",
        where=ctx.optimizer_at(),
        evidence=proof(ablation),
    )
    return ""
