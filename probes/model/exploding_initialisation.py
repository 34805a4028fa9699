"""The signal grows from layer to layer."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import PICKS_ONE, calls, has_tied_head, mean_loss
from probes.model._weights import sizes, usual_weights
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
        "capacity-too-small",
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
SQUARE_FACTOR = 100.0  # times the targets' own square: the outputs are ten times as large as they should be
FAR = 1.5  # times a guess, where the weights of most layers are far too large
VERY_FAR = 20.0  # times a guess, where a single layer's are: some families of torchvision start at seven
LARGE = 5.0  # a layer's typical weight over that of torch's own initialisation
MIN_LAYERS = 2


def run(ctx: Context) -> Findings:
    layers = [layer for layer in ctx.inspection().layers if layer.output_std > 0]
    if has_tied_head(ctx):
        raise Skip("the head shares its weights with an embedding, and starts with its scale")
    if len(layers) < MIN_LAYERS:
        raise Skip("there is only one layer")
    loss, limit, chance = _start(ctx)
    growth = layers[-1].output_std / layers[0].output_std
    weights = sizes(ctx, layers)
    largest = max(weights, key=lambda path: weights[path], default=layers[0].path)
    told: dict[str, Any] = {"loss": loss, "guess": chance}
    spread = Series("spread between samples", [*range(len(layers))], [x.output_std for x in layers], "layer", "std")
    all_large = bool(weights) and median(weights.values()) > LARGE
    if loss > limit or (all_large and loss > FAR * chance):
        if growth > GROWTH and not usual_weights(ctx, layers):
            yield DOC.finding(
                "the signal grows {growth:.3g}-fold over {layers} layers, and the loss starts at {loss:.3g} (a "
                "guess has {guess:.3g})",
                growth=growth, layers=len(layers), where=ctx.created_at(layers[0].path), evidence=(spread,), **told,
            )  # fmt: skip
            return ""
        if all_large or (weights and weights[largest] > LARGE and loss > VERY_FAR * chance):
            yield DOC.finding(
                "the weights of {path} are {times:.3g} times as large as a layer of its size begins with, and the loss "
                "starts at {loss:.3g} (a guess has {guess:.3g})",
                path=largest, times=weights[largest], where=ctx.created_at(largest), evidence=(spread,), **told,
            )  # fmt: skip
            return ""
    return f"from the first layer's output to the last one's the spread changes {growth:.2g}-fold"


def _start(ctx: Context) -> tuple[float, float, float]:
    """(loss on the first batch, what it must exceed to be far off, the loss of a guess)."""
    import math

    found = calls(ctx, *PICKS_ONE, "mse_loss")
    call = found[0]
    loss = mean_loss(call, weighted=False)
    if loss is None:
        raise Skip("the first loss is not finite")
    if call.function == "mse_loss":
        spread = float(call.target.float().var()) if call.target.numel() > 1 else 0.0
        centre = float(call.target.float().square().mean())
        if spread <= 0:
            raise Skip("the targets of the first batch are all the same")
        return loss, SQUARE_FACTOR * max(spread, centre), spread
    classes = call.input.shape[-1 if call.input.ndim < 2 else 1]
    if classes < 2:
        raise Skip("there is a single class")
    return loss, LOSS_FACTOR * math.log(classes), math.log(classes)
