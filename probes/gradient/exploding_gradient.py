"""The gradient is far larger than the weights it is to change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Severity, Table

if TYPE_CHECKING:
    from probes.measurements import Context

RATIO = 1e4  # gradient norm / weight norm; at most 1 at a usual start, about 100 with pixels from 0 to 255 as input
BOUNDED = frozenset({"cross_entropy", "nll_loss", "binary_cross_entropy_with_logits"})  # slope at most 1 per target
SHOWN = 5  # layers in the table

DOC = ProbeDoc(
    code="GRD506",
    name="exploding-gradient",
    stage=Stage.SMOKE,
    grade=Grade.SUPPORTED,
    summary="The gradient is thousands of times larger than the weights it is to change.",
    why="It grew from layer to layer on its way back. A step of usual size throws the weights far away, or to NaN.",
    fix="Scale the initial weights to the width of the layers, add normalisation or residual connections, or clip.",
    before="nn.init.normal_(layer.weight, std=1.0)",
    after="nn.init.kaiming_normal_(layer.weight)",
    consequences=("nonfinite-training", "diverging", "loss-spike", "cannot-overfit", "stuck-at-chance"),
    references=(
        "Pascanu et al. 2013, On the difficulty of training recurrent neural networks",
        "He et al. 2015, Delving Deep into Rectifiers",
    ),
)


def run(ctx: Context) -> Findings:
    """The norm of each weight's gradient, before any clipping, over that of the weight."""
    calls = ctx.attempt().loss_calls
    if len(calls) != 1 or calls[0].function not in BOUNDED or calls[0].options.get("reduction", "mean") != "mean":
        raise Skip("the loss sets no scale of its own: judged for one mean cross-entropy only")
    gradients = ctx.jittered_gradients()
    sizes = {name: float(p.detach().norm()) for name, p in ctx.pipeline.model.named_parameters() if p.ndim > 1}
    ratios = {
        name: norm / sizes[name]
        for name, norm in gradients.items()
        if norm is not None and math.isfinite(norm) and sizes.get(name)
    }
    if not ratios:
        raise Skip("no weight has a finite gradient")
    worst = max(ratios, key=lambda name: ratios[name])
    if ratios[worst] > RATIO:
        largest = sorted(ratios.items(), key=lambda item: -item[1])[:SHOWN]
        yield DOC.finding(
            "the gradient of {name} is {ratio:.1e} times as large as the weight itself",
            severity=Severity.WARNING if ctx.pipeline.clip_grad_norm is not None else None,
            where=ctx.created_at(worst.rpartition(".")[0]),
            evidence=(Table(("weight", "gradient norm / weight norm"), largest, "Largest gradients"),),
            name=worst,
            ratio=ratios[worst],
        )
    return f"gradients are at most {ratios[worst]:.2g} times as large as their weights"
