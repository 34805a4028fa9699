"""The model cannot take a batch of this shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT120",
    name="forward-shape-mismatch",
    stage=Stage.SMOKE,
    summary="The model cannot take a batch of this shape.",
    why="A layer was built for another number of channels or features than it is given.",
    fix="Make the named layer fit what the layer before it puts out, or the data fit the first layer.",
    before="nn.Linear(64 * 4 * 4, 10)  # for 32 x 32 images",
    after="nn.Linear(64 * 8 * 8, 10)  # for 64 x 64 images; or nn.AdaptiveAvgPool2d(4) before it",
)


def run(ctx: Context) -> Findings:
    """Claims the failure of the first forward and loss, where it is this one."""
    attempt = ctx.attempt()
    if attempt.failure is not None:
        if attempt.failure.name != DOC.name:
            raise Skip(f"{attempt.failure.phase} raised, for another cause: {attempt.failure.name}")
        yield attempt.failure.finding(DOC)
    shapes = [str(tuple(x.shape)) for x in attempt.inputs if hasattr(x, "shape")]
    if attempt.output is None:
        return f"input {', '.join(shapes)}" if shapes else "the model took the batch"
    return f"input {', '.join(shapes) or 'by keyword'} -> output {tuple(attempt.output.shape)}"
