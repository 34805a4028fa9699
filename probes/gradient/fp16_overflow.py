"""Values too large for float16."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="GRD510",
    name="fp16-overflow",
    stage=Stage.SMOKE,
    summary="A value exceeds the range of float16 and becomes infinite.",
    why="float16 ends at 65,504. Summed losses, unnormalised inputs and large logits go beyond it, and everything that "
    "follows is infinite or NaN.",
    fix="Use bfloat16, which has the range of float32, or compute the loss and the large layers in float32.",
    before="with torch.autocast(device, dtype=torch.float16): ...",
    after="with torch.autocast(device, dtype=torch.bfloat16): ...",
    consequences=(
        "nonfinite-loss", "nonfinite-gradient", "nonfinite-activations", "nonfinite-training", "cannot-overfit",
        "stuck-at-chance",
    ),
    references=("torch.amp documentation",),
)  # fmt: skip


def run(ctx: Context) -> Findings:
    """The same weights and batch in float32."""
    halves = ctx.half_gradients()
    if halves.dtype != "fp16":
        raise Skip("no float16 is used")
    if halves.finite_in_full and not halves.finite:
        yield DOC.finding("loss or gradient are infinite or NaN in float16, and finite in float32")
        return ""
    return "loss and gradient are finite in float16"
