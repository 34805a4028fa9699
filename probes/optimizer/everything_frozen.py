"""No parameter is trainable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="OPT603",
    name="everything-frozen",
    stage=Stage.SMOKE,
    summary="No parameter of the model is trainable.",
    why="Without a trainable parameter the loss has no gradient, and nothing can change.",
    fix="Leave at least the head trainable: replace it after freezing, or set requires_grad on it again.",
    before="for p in model.parameters():\n    p.requires_grad = False",
    after="for p in model.backbone.parameters():\n    p.requires_grad = False",
    consequences=(
        "loss-detached",
        "graph-cut",
        "parameters-not-updated",
        "cannot-overfit",
        "stuck-at-chance",
        "fails-on-reference-data",
    ),
)


def run(ctx: Context) -> Findings:
    """Counts parameters that require a gradient."""
    coverage = ctx.coverage()
    if not coverage.total:
        raise Skip("the model has no parameters")
    if not coverage.trainable:
        yield DOC.finding(
            "none of the {total} parameter tensors requires a gradient",
            where=ctx.created_at(""),
            total=coverage.total,
        )
    return f"{coverage.trainable} of {coverage.total} parameter tensors are trainable"
