"""The gradient fades on its way to the first layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.gradient._depth import curve, first_to_last, profile
from probes.results import Grade

if TYPE_CHECKING:
    from probes.measurements import Context

RATIO = 1e-4  # first third of the layers to the last; five sigmoids with torch's default initialisation reach it

DOC = ProbeDoc(
    code="GRD505",
    name="vanishing-gradient",
    stage=Stage.SMOKE,
    grade=Grade.SUPPORTED,
    summary="The gradient fades on its way back: the first layers hardly get any.",
    why="The first layers stay as they were initialised for many epochs, so the model learns slowly or not at all.",
    fix=(
        "Use ReLU or GELU in place of sigmoid and tanh, add normalisation or residual connections, and "
        "initialise to match."
    ),
    before="nn.Linear(64, 64), nn.Sigmoid()",
    after="nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU()",
    consequences=("slow-to-learn", "stuck-at-chance", "cannot-overfit", "fails-on-reference-data"),
    references=("Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks",),
)


def run(ctx: Context) -> Findings:
    """The ratio of the gradient in the first layers to that in the last."""
    found = profile(ctx)
    ratio = first_to_last(found)
    if ratio < RATIO:
        yield DOC.finding(
            "the gradient of the first layers is {ratio:.1e} times that of the last, over {layers} layers",
            where=ctx.created_at(next(iter(found)).rpartition(".")[0]),
            evidence=(curve(found),),
            ratio=ratio,
            layers=len(found),
        )
    return f"gradient of the first layers {ratio:.2g} times that of the last"
