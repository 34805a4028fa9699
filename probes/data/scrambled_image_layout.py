"""Pictures whose pixels were put in a new order by a reshape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number

if TYPE_CHECKING:
    from torch import Tensor

    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT126",
    name="scrambled-image-layout",
    stage=Stage.SMOKE,
    summary="Pictures were reshaped from (H, W, C) to (C, H, W) without moving their axes, which scrambles the pixels.",
    why="A view only renames the axes: neighbouring values are then colours of one pixel, and the picture falls apart "
    "into interleaved stripes.",
    fix="Move the axes: x.permute(2, 0, 1), or x.permute(0, 3, 1, 2) for a batch.",
    before="x = x.view(x.size(0), 3, 32, 32)  # x is (N, 32, 32, 3)",
    after="x = x.permute(0, 3, 1, 2)",
    consequences=("slow-to-learn", "cannot-overfit", "no-generalisation", "below-expected-curve"),
    references=("torch.Tensor.view documentation",),
)
SMOOTHER = 0.85  # roughness of the other reading over that of this one; noise has 1, pictures 1.3 and more
MIN_SIDE = 6  # pixels


def run(ctx: Context) -> Findings:
    """The first convolution's input read both ways: which one is smooth?"""
    image = ctx.inspection().image
    if image is None:
        raise Skip("the model has no two-dimensional convolution")
    n, c, h, w = image.shape
    if c not in (2, 3, 4) or min(h, w) < MIN_SIDE:
        raise Skip(f"inputs of {c} channels and {h} x {w} pixels cannot be mistaken for another layout")
    as_given = _roughness(image)
    other = _roughness(image.reshape(n, h, w, c).permute(0, 3, 1, 2))
    if as_given <= 0:
        raise Skip("the pictures are blank")
    ratio = other / as_given
    if ratio < SMOOTHER:
        yield DOC.finding(
            "read as (H, W, C) the pictures are {times:.2g} times smoother than as the (C, H, W) that the first "
            "convolution gets",
            times=1 / ratio,
            evidence=(Number("roughness as (H, W, C) over roughness as given", ratio, "above 1"),),
        )
        return ""
    return f"neighbouring pixels are alike (read the other way they differ {ratio:.2g} times as much)"


def _roughness(image: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels, down and across, over the standard deviation."""
    x = image.float()
    down, across = (x[:, :, 1:] - x[:, :, :-1]).abs().mean(), (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().mean()
    spread = float(x.std())
    return float(down + across) / spread if spread > 0 else 0.0
