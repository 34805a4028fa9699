"""The signal grows from layer to layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import PICKS_ONE, calls, has_tied_head, mean_loss
from probes.model._weights import usual_weights
from probes.results import Grade, Series

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD216",
    name="exploding-initialisation",
    stage=Stage.SMOKE,
    grade=Grade.SUPPORTED,
    summary="The initial weights are too large: the signal grows with depth, and the first loss is far above chance.",
    why="The model starts out certain of wrong answers; the first steps only undo that, if they do not diverge.",
    fix="Use the layers' own initialisation, or one that fits the activation: kaiming_normal_ for ReLU.",
    consequences=(
        "initial-loss-off",
        "saturated-activations",
        "exploding-gradient",
        "diverging",
        "slow-to-learn",
        "cannot-overfit",
        "fails-on-reference-data",
    ),
    before="nn.init.normal_(layer.weight, std=1.0)",
    after='nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
    references=("He et al. 2015, Delving Deep into Rectifiers",),
)
LOSS_FACTOR = 3.0  # times ln C: certain and wrong, where the catalogue draws the line
GROWTH = 10.0  # of the standard deviation from the first layer's output to the last's; healthy ones shrink or stay
MIN_LAYERS = 2


def run(ctx: Context) -> Findings:
    import math

    call = calls(ctx, *PICKS_ONE)[0]
    loss, classes = mean_loss(call, weighted=False), call.input.shape[-1 if call.input.ndim < 2 else 1]
    layers = [layer for layer in ctx.inspection().layers if layer.output_std > 0]
    if has_tied_head(ctx):
        raise Skip("the head shares its weights with an embedding, and starts with its scale")
    if loss is None or classes < 2 or len(layers) < MIN_LAYERS:
        raise Skip("there is no finite loss, or only one layer")
    growth = layers[-1].output_std / layers[0].output_std
    if loss > LOSS_FACTOR * math.log(classes) and growth > GROWTH:
        if usual_weights(ctx, layers):
            raise Skip("the weights have their layers' usual size, so the architecture or the inputs are at fault")
        yield DOC.finding(
            "the signal grows {growth:.3g}-fold over {layers} layers, and the loss starts at {loss:.3g} (ln {classes} "
            "= "
            "{chance:.3g})",
            growth=growth,
            layers=len(layers),
            loss=loss,
            classes=classes,
            chance=math.log(classes),
            where=ctx.created_at(layers[0].path),
            evidence=(
                Series("spread between samples", range(len(layers)), [x.output_std for x in layers], "layer", "std"),
            ),
        )
        return ""
    return f"from the first layer's output to the last one's the spread changes {growth:.2g}-fold"
