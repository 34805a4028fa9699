"""A gradient that is NaN or infinite although the loss is finite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

HUGE = 1e8  # gradient norm
DIVERGED = 1e3  # times the first loss: the training diverges, and the overflow is its end
SHOWN = 5  # parameters named in the message

DOC = ProbeDoc(
    code="GRD504",
    name="nonfinite-gradient",
    stage=Stage.SMOKE,
    summary="The loss is finite, but its gradient is NaN or infinite.",
    why="The first update makes the parameters NaN, and every loss after it.",
    fix=(
        "Keep the named operation away from the point where its slope is infinite (sqrt, norm or a power at "
        "0, log, division)."
    ),
    before="torch.sqrt(x)",
    after="torch.sqrt(x + 1e-8)",
    consequences=("nonfinite-training", "cannot-overfit", "stuck-at-chance", "exploding-gradient"),
    references=("torch.autograd.detect_anomaly documentation",),
)


def run(ctx: Context) -> Findings:
    """The gradient norms of the first updates, up to the first loss that is not finite."""
    if ctx.pipeline.precision == "fp16":
        raise Skip("under fp16 the gradient scaler meets infinite gradients on purpose, and skips these steps")
    updates = ctx.updates()
    untold = ctx.pipeline.train_step is not None and all(map(math.isnan, updates.losses))  # a step that returns none
    for step, loss in enumerate(updates.losses):
        if not math.isfinite(loss) and not untold:
            return f"all gradients finite until the loss of update {step + 1} was not"
        bad = [p.name for p in updates.parameters if not math.isfinite(p.gradients[step] or 0.0)]
        if bad and step and abs(loss) > DIVERGED * max(abs(updates.losses[0]), 1.0):
            raise Skip(
                f"the loss grew from {updates.losses[0]:.3g} to {loss:.3g} in {step + 1} updates before the gradient "
                "overflowed: the short trainings look for the cause"
            )
        earlier = [p.gradients[before] or 0.0 for before in range(step) for p in updates.parameters]
        if bad and max(earlier, default=0.0) > HUGE:
            raise Skip(f"the gradient had grown to {max(earlier):.1e} before it overflowed: see exploding-gradient")
        if bad:
            operation = ctx.nonfinite_operation()
            yield DOC.finding(
                "at update {step} the loss is {loss:.4g}, but the gradient of {count} tensors is not finite: {names}"
                "{operation}",
                where=ctx.created_at(bad[-1].rpartition(".")[0]),
                step=step + 1,
                loss=loss,
                count=len(bad),
                names=", ".join(bad[:SHOWN]) + (f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""),
                operation=f"; backward of {operation} returned NaN first" if operation else "",
            )
            return ""
    return f"all gradients finite over {updates.steps} updates"
