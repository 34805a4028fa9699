"""The loss is NaN or infinite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.class_scores import ran

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="LOS402",
    name="nonfinite-loss",
    stage=Stage.SMOKE,
    summary="The loss of the very first batch is NaN or infinite.",
    why="The first step would write NaN into every parameter; nothing can be learned after it.",
    fix="Look for a log, root or division in the loss whose argument can be 0, or for targets outside the loss's "
    "domain.",
    requires=("nonfinite-inputs", "nonfinite-activations"),
    consequences=("nonfinite-gradient", "nonfinite-training", "cannot-overfit", "fails-on-reference-data"),
    before="loss = -(y * torch.log(p)).sum(1).mean()",
    after="loss = F.cross_entropy(logits, y)   # or torch.log(p.clamp_min(1e-8))",
)


def run(ctx: Context) -> Findings:
    import math

    import torch

    attempt = ran(ctx)
    if attempt.loss is None or math.isfinite(attempt.loss):
        return "" if attempt.loss is None else f"loss {attempt.loss:.4g}"
    if attempt.output is not None and not bool(torch.isfinite(attempt.output).all()):
        from_model = "; the model's output is not finite either"
    else:
        from_model = ", although the model's output is finite"
    yield DOC.finding(
        "the loss of the first batch is {loss}{from_model}",
        loss=attempt.loss,
        from_model=from_model,
        where=attempt.loss_calls[-1].where if attempt.loss_calls else (),
    )
    return ""
