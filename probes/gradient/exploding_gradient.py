"""The gradient grows on its way to the first layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.gradient._depth import curve, first_to_last, profile
from probes.results import Grade

if TYPE_CHECKING:
    from probes.measurements import Context

RATIO = 1e6  # first third of the layers to the last; deep plain networks with BatchNorm reach 1e4 and still train

DOC = ProbeDoc(
    code="GRD506",
    name="exploding-gradient",
    stage=Stage.SMOKE,
    grade=Grade.SUPPORTED,
    summary="The gradient grows on its way back: the first layers get a far larger one than the last.",
    why="One learning rate cannot fit all layers: the first ones are thrown about, and the loss becomes NaN.",
    fix=(
        "Scale the initialisation to the width of the layers, add normalisation or residual connections, or "
        "clip the gradient."
    ),
    before="nn.init.normal_(layer.weight, std=1.0)",
    after="nn.init.kaiming_normal_(layer.weight)",
    consequences=("nonfinite-training", "diverging", "cannot-overfit", "stuck-at-chance"),
    references=(
        "He et al. 2015, Delving Deep into Rectifiers",
        "Yang et al. 2019, A Mean Field Theory of Batch Normalization",
    ),
)


def run(ctx: Context) -> Findings:
    """The ratio of the gradient in the first layers to that in the last."""
    found = profile(ctx)
    ratio = first_to_last(found)
    if ratio > RATIO:
        yield DOC.finding(
            "the gradient of the first layers is {ratio:.1e} times that of the last, over {layers} layers",
            where=ctx.created_at(next(iter(found)).rpartition(".")[0]),
            evidence=(curve(found),),
            ratio=ratio,
            layers=len(found),
        )
    return f"gradient of the first layers {ratio:.2g} times that of the last"
