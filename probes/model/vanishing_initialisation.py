"""The signal fades from layer to layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.model._weights import sizes, usual_weights
from probes.results import Grade, Series

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD217",
    name="vanishing-initialisation",
    stage=Stage.SMOKE,
    grade=Grade.SUPPORTED,
    summary="The initial weights are too small: hardly anything of the input is left at the last layer.",
    why="All samples look alike to the last layer, and the gradient fades the same way backwards: learning does not "
    "start.",
    fix="Use the layers' own initialisation, or one that fits the activation: kaiming_normal_ for ReLU.",
    consequences=(
        "vanishing-gradient", "zero-gradient", "ignored-input", "slow-to-learn", "cannot-overfit", "stuck-at-chance",
        "fails-on-reference-data", "predicts-one-class",
    ),
    before="nn.init.normal_(layer.weight, std=0.001)",
    after='nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
    references=("He et al. 2015, Delving Deep into Rectifiers",),
)  # fmt: skip
REMAINS = 1e-3  # of the difference between samples, at the input of the last layer
PER_LAYER = 0.25  # mean factor per layer; PyTorch's default in a plain ReLU network is 0.4 to 0.6
MIN_LAYERS = 3
TINY = 0.01  # of torch's own size, for every layer's weights: then it is they that leave exactly nothing


def run(ctx: Context) -> Findings:
    # The last layer is judged by what goes in: heads, and last layers of branches, may start at zero. A residual stream
    # keeps the input alive past such branches.
    layers = ctx.inspection().layers
    if len(layers) < MIN_LAYERS or layers[0].input_std <= 0:
        raise Skip("fewer than three weighted layers, or inputs that do not differ")
    remains = layers[-1].input_std / layers[0].input_std
    factor = remains ** (1 / (len(layers) - 1))
    tiny = max(sizes(ctx, layers).values(), default=1.0)
    if (remains > 0 or 0 < tiny < TINY) and remains < REMAINS and factor < PER_LAYER:
        if usual_weights(ctx, layers):
            raise Skip("the weights have their layers' usual size, so depth and activations are at fault")
        yield DOC.finding(
            "of the difference between samples, {remains:.2g} is left at the last of {layers} layers: {factor:.2g} per "
            "layer",
            remains=remains,
            layers=len(layers),
            factor=factor,
            where=ctx.created_at(layers[0].path),
            evidence=(
                Series("spread between samples", [*range(len(layers))], [x.input_std for x in layers], "layer", "std"),
            ),
        )
        return ""
    return f"what tells samples apart is {remains:.2g} times as large at the last layer as at the first"
