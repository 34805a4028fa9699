"""Images with channels in the last dimension meet a convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import Attempt

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
MIN_SIDE = 5  # pixels; a smaller side could be a number of channels

DOC = ProbeDoc(
    code="DAT121",
    name="channels-last-input",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="Images come as (N, H, W, C), but a convolution takes (N, C, H, W).",
    why="The convolution takes image rows for channels: it raises, or it mixes rows and learns poorly.",
    fix="Move the channels to the front where the data set returns the image.",
    before="torch.from_numpy(image)",
    after="torch.from_numpy(image).permute(2, 0, 1)",
    consequences=("forward-shape-mismatch",),
    references=("torch.nn.Conv2d documentation",),
)


def run(ctx: Context) -> Findings:
    """The shape of the batch, and what the first convolution makes of it."""
    attempt = ctx.attempt()
    image = next((x for x in attempt.inputs if getattr(x, "ndim", 0) == 4), None)
    if image is None:
        raise Skip("there are no image batches of four dimensions")
    _, first, second, last = image.shape
    if last not in CHANNELS or min(first, second) < MIN_SIDE:
        return f"images {tuple(image.shape[1:])}: channels first"
    taken = _in_channels(ctx, attempt, image)
    if taken is not None:
        yield DOC.finding(
            "a batch has shape {shape}, and the first convolution ({module}) was given it with {last} channels "
            "at the end",
            where=ctx.created_at(taken),
            shape=str(tuple(image.shape)),
            module=taken,
            last=last,
        )
    return f"images {tuple(image.shape[1:])}: the model moves the channels itself"


def _in_channels(ctx: Context, attempt: Attempt, image: Any) -> str | None:
    """The convolution that was given the image as it is, if one was."""
    modules = dict(ctx.pipeline.model.named_modules())
    failure = attempt.failure
    if failure is not None:
        given = failure.inputs[0] if failure.inputs else ""
        as_it_is = given.startswith(str(tuple(image.shape)))
        return failure.module if failure.module_type.startswith("Conv") and as_it_is else None
    first = next((record.path for record in attempt.modules if record.type == "Conv2d"), None)
    if first is None or modules[first].in_channels != image.shape[1]:
        return None
    return first
