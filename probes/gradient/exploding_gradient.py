"""The gradient is far larger than the weights it is to change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, Inconclusive, ProbeDoc, Skip, Stage
from probes.gradient._depth import first_to_last, profile
from probes.results import Grade, Severity, Table

if TYPE_CHECKING:
    from probes.measurements import Context

RATIO = 1e4  # gradient norm / weight norm; at most 1 at a usual start, about 100 with pixels from 0 to 255 as input
BOUNDED = frozenset({"cross_entropy", "nll_loss", "binary_cross_entropy_with_logits"})  # slope at most 1 per target
GROWTH = 200.0  # of the gradient from the last third of the layers to the first; see docs/stages.md
GROWN = 100.0  # times the weight, below which a gradient that grew is harmless
WIDE = 10.0  # standard deviation of the inputs: gradients of the first layer are as much larger
SHOWN = 5  # layers in the table
# Root mean square that a weight is counted with at least: tokens and branches that start next to zero on purpose have
# less. A tenth of what narrow layers give themselves.
LEAST = 1e-3

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
    consequences=(
        "nonfinite-training",
        "diverging",
        "loss-spike",
        "cannot-overfit",
        "stuck-at-chance",
        "initial-loss-off",
        "capacity-too-small",
    ),
    references=(
        "Pascanu et al. 2013, On the difficulty of training recurrent neural networks",
        "He et al. 2015, Delving Deep into Rectifiers",
    ),
)


def run(ctx: Context) -> Findings:
    """The norm of each weight's gradient, before any clipping, over that of the weight; and its growth through the
    layers."""
    gradients = ctx.gradients()
    sizes = {
        name: max(size, LEAST * p.numel() ** 0.5) if (size := float(p.detach().norm())) else 0.0
        for name, p in ctx.pipeline.model.named_parameters()
        if p.ndim > 1
    }
    ratios = {
        name: norm / sizes[name]
        for name, norm in gradients.items()
        if norm is not None and math.isfinite(norm) and sizes.get(name)
    }
    if not ratios:
        raise Skip("no weight has a finite gradient")
    worst = max(ratios, key=lambda name: ratios[name])
    growth = _growth(ctx)
    scale = ctx.scan("train").input_std if ctx.facts.has_data else 1.0
    if scale > WIDE and (growth or 0.0) < GROWTH:
        raise Skip(f"the inputs have a standard deviation of {scale:.3g}, and gradients follow their scale")
    grown = growth is not None and growth > GROWTH and ratios[worst] > GROWN
    if grown or (ratios[worst] > RATIO and _sets_its_scale(ctx)):
        largest = sorted(ratios.items(), key=lambda item: -item[1])[:SHOWN]
        yield DOC.finding(
            "the gradient of {name} is {ratio:.1e} times as large as the weight itself{text}",
            severity=Severity.WARNING if ctx.pipeline.clip_grad_norm is not None else None,
            where=ctx.created_at(worst.rpartition(".")[0]),
            evidence=(Table(("weight", "gradient norm / weight norm"), largest, "Largest gradients"),),
            name=worst,
            ratio=ratios[worst],
            growth=growth,
            text=f"; from the last layers to the first it grows {growth:.0f}-fold" if grown else "",
        )
    return f"gradients are at most {ratios[worst]:.2g} times as large as their weights"


def _growth(ctx: Context) -> float | None:
    try:
        return first_to_last(profile(ctx))
    except (Skip, Inconclusive):
        return None


def _sets_its_scale(ctx: Context) -> bool:
    """Whether the loss is one mean cross-entropy: others may be of any size, and their gradients with them."""
    calls = ctx.attempt().loss_calls
    return len(calls) == 1 and calls[0].function in BOUNDED and calls[0].options.get("reduction", "mean") == "mean"
