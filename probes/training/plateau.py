"""The training loss stopped falling early, far from the end of what there was to learn."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity
from probes.training._curves import column, epoch_of, rows, series, slope

if TYPE_CHECKING:
    from probes.measurements import Context

MIN_EPOCHS = 8
FLAT_SHARE = 0.5  # of the epochs, at the end
FLAT_FALL = 0.02  # of the whole fall, that the loss falls by over the flat part
SATURATED = 0.5  # training accuracy from which a flat loss may be all that can be learned
LEFT_CHANCE = 3.0  # times chance: below, the run is stuck at chance and has another name
ANNEALED = 0.2  # of the highest learning rate: below, the loss is flat because the steps are small

DOC = ProbeDoc(
    code="TRN806",
    name="plateau",
    stage=Stage.TRAIN,
    summary="The training loss fell at first, then stayed where it was, though most samples are still misclassified.",
    why="Steps of this size no longer lead down, or the model can express no more, or regularisation holds it back.",
    fix="Lower the learning rate when the loss stalls (ReduceLROnPlateau, or a cosine schedule). If that does not "
    "help, weaken the regularisation, or widen the model.",
    severity=Severity.WARNING,
    symptom=True,
    requires=("nonfinite-training", "diverging"),
)


def run(ctx: Context) -> Findings:
    history = rows(ctx, MIN_EPOCHS)
    if ctx.facts.task != "classification":
        raise Skip("only of a classification is it known how much there is left to learn")
    losses, accuracies = column(history, "train_loss"), column(history, "train_accuracy")
    chance = 1 / (ctx.facts.num_classes or 2)
    flat = round(FLAT_SHARE * len(losses))
    rate, error = slope(losses[-flat:])
    fall = losses[0] - min(losses)
    level = fmean(accuracies[-flat:])
    unfinished = min(LEFT_CHANCE * chance, SATURATED) < level < SATURATED
    if unfinished and not _annealed(ctx, flat) and -rate * flat < FLAT_FALL * fall and abs(rate) < 2 * error:
        yield DOC.finding(
            "From epoch {epoch} on the training loss stayed at {loss:.4g} with a training accuracy of {accuracy:.1%}.",
            epoch=epoch_of(history, len(losses) - flat),
            loss=fmean(losses[-flat:]),
            accuracy=level,
            evidence=series(history, "train_loss", "val_loss", "lr"),
        )
    return f"over the last {flat} epochs the training loss changed by {rate * flat:.3g}"


def _annealed(ctx: Context, flat: int) -> bool:
    rates = column(ctx.history(), "lr")
    return fmean(rates[-flat:]) < ANNEALED * max(rates)
