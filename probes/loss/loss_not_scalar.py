"""The loss is not one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="LOS401",
    name="loss-not-scalar",
    stage=Stage.SMOKE,
    summary="The loss function does not return a single number.",
    why="backward() needs a scalar: training ends with an error at the first step.",
    fix='Average over the samples: reduction="mean", or loss.mean(); and do not forget the return.',
    before='nn.CrossEntropyLoss(reduction="none")',
    after="nn.CrossEntropyLoss()",
    references=("torch.Tensor.backward documentation",),
)


def run(ctx: Context) -> Findings:
    attempt = ctx.attempt()
    if attempt.loss is None and attempt.failure is not None:
        raise Skip(f"{attempt.failure.phase} raised {attempt.failure.type}")
    if attempt.loss is not None:
        return f"loss {attempt.loss:.4g}, a single number"
    if ctx.facts.custom_step:
        return "the pipeline's own step returns no loss, and need not"
    shape = attempt.loss_shape
    yield DOC.finding(
        "the loss is {what}",
        what=f"a {attempt.loss_type}" if shape is None else f"a tensor of shape {tuple(shape)}",
        where=attempt.loss_calls[-1].where if attempt.loss_calls else (),
    )
    return ""
