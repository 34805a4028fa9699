"""An epsilon of Adam that outweighs the gradients, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="OPT612",
    name="adam-epsilon-out-of-range",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="Adam's epsilon is far larger than the gradients that it is added to, or too small for their precision.",
    why="Adam divides each step by the size of the gradient plus epsilon. A large epsilon takes over, and the steps "
    "shrink to gradient / epsilon; without one, a gradient of 0 is divided by 0.",
    fix="Leave eps at its default, 1e-8; values up to about 1e-4 are usual where gradients are large.",
    before="torch.optim.Adam(model.parameters(), lr=1e-3, eps=1.0)",
    after="torch.optim.Adam(model.parameters(), lr=1e-3)",
    # Weight decay is not divided by epsilon (AdamW): it outweighs the shortened steps.
    consequences=(
        "slow-to-learn", "stuck-at-chance", "cannot-overfit", "learning-rate-too-low", "weight-decay-too-strong",
        "parameters-not-updated",
    ),
    references=("torch.optim.Adam documentation", "Kingma and Ba 2015, Adam"),
)  # fmt: skip
DOMINATES = 10.0  # epsilon over the root mean square of a tensor's gradient: steps are less than a tenth of lr
USUAL = 1e-5  # epsilons up to here are in common use whatever the gradients
HALF_SMALLEST = {"float16": 6e-8}  # the smallest number above 0: an epsilon below it is 0


def run(ctx: Context) -> Findings:
    """Epsilon against the gradients of the first updates."""
    optimizer = ctx.pipeline.optimizer
    if optimizer is None or "adam" not in type(optimizer).__name__.lower():
        raise Skip("the optimizer is not of the Adam family")
    epsilons = [float(group["eps"]) for group in optimizer.param_groups if "eps" in group]
    if not epsilons:
        raise Skip("the optimizer has no epsilon")
    low, high = min(epsilons), max(epsilons)
    updates = ctx.updates()
    dtypes = {p.dtype for p in updates.parameters if p.optimized}
    if low <= max((HALF_SMALLEST.get(dtype, 0.0) for dtype in dtypes), default=0.0):
        yield DOC.finding(
            "eps is {epsilon:g}, which is 0 in the precision of the parameters ({dtypes})",
            epsilon=low,
            dtypes=", ".join(sorted(dtypes)),
            where=ctx.optimizer_at(),
        )
        return ""
    sizes = sorted(p.gradient_rms for p in updates.parameters if p.optimized and p.gradient_rms > 0)
    if not sizes or high <= USUAL:
        return f"eps {high:g}"
    typical = sizes[len(sizes) // 2]
    if high > DOMINATES * typical:
        yield DOC.finding(
            "eps is {epsilon:g}, {times:.3g} times a typical gradient ({typical:.1e}): the steps are that much shorter",
            epsilon=high,
            times=high / typical,
            typical=typical,
            where=ctx.optimizer_at(),
            evidence=(Number("eps over the typical gradient", high / typical, f"below {DOMINATES:g}"),),
        )
        return ""
    return f"eps {high:g}, a typical gradient {typical:.1e}"
