"""Gradients too small for float16."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="GRD509",
    name="fp16-underflow",
    stage=Stage.SMOKE,
    summary="Much of the gradient is below the smallest float16 number and becomes 0.",
    why="float16 ends at 6e-8. Gradients of deep layers and of mean losses are often smaller, and what is 0 does not "
    "train.",
    fix="Scale the loss with torch.amp.GradScaler, or use bfloat16, which has the range of float32.",
    before="loss.backward()",
    after="scaler.scale(loss).backward()\nscaler.step(optimizer)\nscaler.update()",
    consequences=("zero-gradient", "vanishing-gradient", "slow-to-learn", "stuck-at-chance", "cannot-overfit"),
    references=("torch.amp documentation: gradient scaling",),
)
VANISHED = 0.2  # share of the gradient's elements that are 0 in half precision only


def run(ctx: Context) -> Findings:
    """The same weights and batch in float32."""
    halves = ctx.half_gradients()
    if halves.dtype != "fp16":
        raise Skip("no float16 is used")
    if not halves.finite:
        raise Skip("the gradient is not finite in float16: see fp16-overflow")
    if ctx.facts.device.startswith("cuda") and ctx.pipeline.precision == "fp16":
        raise Skip("the loss is scaled there")
    if halves.vanished >= VANISHED:
        yield DOC.finding(
            "{share:.0%} of the gradient's elements are 0 in float16 and not in float32",
            share=halves.vanished,
            evidence=(Number("share of the gradient that vanishes", halves.vanished, f"below {VANISHED}"),),
        )
        return ""
    return f"{halves.vanished:.1%} of the gradient vanishes in float16"
