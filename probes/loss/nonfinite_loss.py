"""The loss is NaN or infinite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import ran

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probes.measurements import Context
    from probes.results import Finding

DOC = ProbeDoc(
    code="LOS402",
    name="nonfinite-loss",
    stage=Stage.SMOKE,
    summary="The loss of a batch is NaN or infinite, before anything was learned.",
    why="The step on it writes NaN into every parameter; nothing can be learned after it.",
    fix="Look for a log, root or division in the loss whose argument can be 0, or for targets outside the loss's "
    "domain.",
    requires=("nonfinite-inputs", "nonfinite-activations"),
    consequences=("nonfinite-gradient", "nonfinite-training", "cannot-overfit", "fails-on-reference-data"),
    before="loss = -(y * torch.log(p)).sum(1).mean()",
    after="loss = F.cross_entropy(logits, y)   # or torch.log(p.clamp_min(1e-8))",
)


def run(ctx: Context) -> Findings:
    import torch

    attempt = ran(ctx)
    if attempt.loss is None:
        return ""
    if math.isfinite(attempt.loss):
        yield from _later(ctx)
        return f"loss {attempt.loss:.4g}"
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


def _later(ctx: Context) -> Iterator[Finding]:
    """A batch after the first whose loss is not finite, though no update has been made."""
    try:
        losses = ctx.updates().losses
        untold = ctx.pipeline.train_step is not None and all(map(math.isnan, losses))  # a step that returns none
        if untold or all(map(math.isfinite, losses)):
            return
        built = ctx.as_built()
    except Skip:  # what keeps the updates from being made is told by others
        return
    number, batch = next(((i, b) for i, b in enumerate(built, 1) if not math.isfinite(b.loss)), (0, None))
    if batch is None:
        raise Skip("the loss stops being finite after an update: the short trainings look for the cause")
    yield DOC.finding(
        "the loss of batch {number} is {loss} in the untrained model, that of the first is {first:.4g}; {samples}",
        number=number,
        loss=batch.loss,
        first=built[0].loss,
        samples=f"the outputs of {len(batch.bad)} of its {batch.size} samples are not finite, the first is sample "
        f"{batch.bad[0]}"
        if batch.bad
        else "its outputs are finite",
    )
