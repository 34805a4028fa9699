"""Weight decay that shrinks the weights faster than the gradient can grow them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Stage
from probes.learning._repairs import LEARNING_FAILURES, turned

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Arm

DOC = ProbeDoc(
    code="OPT623",
    name="weight-decay-too-strong",
    stage=Stage.SUBSET,
    experiment=True,
    hampers=True,
    summary="Weight decay is so strong that the model does not learn: with less of it the same pipeline does.",
    why=(
        "Weight decay pulls every weight to zero at every step. When its pull exceeds the gradient's, the "
        "outputs shrink to a constant and the loss stays at chance."
    ),
    fix="Use the mildest weight decay that learned; 1e-4 to 5e-4 with SGD and 0.01 to 0.1 with AdamW are usual.",
    consequences=LEARNING_FAILURES,
    before="torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)",
    after="torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=5e-4)",
)


def run(ctx: Context) -> Findings:
    optimizer = ctx.pipeline.optimizer
    groups = optimizer.param_groups if optimizer is not None else []
    now = max((float(group.get("weight_decay") or 0.0) for group in groups), default=0.0)

    def details(arm: Arm) -> dict[str, Any]:
        return {
            "now": now,
            "before": f"weight_decay={now:.3g}",
            "after": f"weight_decay={now * arm.factors['weight_decay']:.3g}",
            "where": ctx.optimizer_at(),
        }

    return (yield from turned(ctx, DOC, "weight-decay", "With weight decay {now:.3g}, ", details))
