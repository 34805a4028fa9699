"""Updates that are too small for the precision of the parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="GRD508",
    name="bf16-update-lost",
    stage=Stage.SMOKE,
    summary="Parameters are stored in half precision, and most updates are rounded away.",
    why="bfloat16 keeps about three digits. An update below half a percent of a weight leaves it exactly as it was, "
    "however many steps are made.",
    fix="Keep the parameters in float32 and compute in bfloat16 under torch.autocast.",
    before="model = model.to(torch.bfloat16)",
    after='with torch.autocast("cuda", dtype=torch.bfloat16):\n    loss = criterion(model(x), y)',
    consequences=(
        "parameters-not-updated", "slow-to-learn", "stuck-at-chance", "cannot-overfit", "learning-rate-too-low",
    ),
    references=("torch.amp documentation",),
)  # fmt: skip
LOST = 0.3  # share of a tensor's elements with a gradient that an update leaves as they were
HALF = frozenset({"bfloat16", "float16"})


def run(ctx: Context) -> Findings:
    """Elements with a gradient that the last of the first updates did not change."""
    updates = ctx.updates()
    half = [p for p in updates.parameters if p.dtype in HALF and p.optimized and p.requires_grad and len(p.shape) > 1]
    if not half:
        raise Skip("no parameters are stored in half precision")
    if not any(lr > 0 for lr in updates.lrs):
        raise Skip("the learning rate is 0 in the first updates")
    lost = sorted(p.lost_share for p in half)
    typical = lost[len(lost) // 2]
    if typical >= LOST:
        yield DOC.finding(
            "{lost:.0%} of the elements of a typical {dtype} weight are exactly as before after an update",
            lost=typical,
            dtype=half[0].dtype,
            evidence=(Number("share of elements that an update leaves as they were", typical, f"below {LOST}"),),
        )
        return ""
    return f"an update changes {1 - typical:.0%} of the elements of a typical {half[0].dtype} weight"
