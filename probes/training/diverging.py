"""The training loss rises for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.training._curves import column, epoch_of, falling_loss_expected, rows, scatter, series

if TYPE_CHECKING:
    from probes.measurements import Context

MIN_EPOCHS = 3
SUSTAINED = 2  # epochs at the end that all lie high: one alone is a spike
LOST_SHARE = 0.75  # of what was gained; a warm restart of the learning rate costs less than half as a rule
RISE_SHARE = 0.1  # above the first epoch's loss, of that loss: a run stuck at chance moves by a hundredth
GAINED_SHARE = 0.05  # of the first epoch's loss: a smaller gain can be lost by chance
NOISE = 4.0  # times the scatter of the curve

DOC = ProbeDoc(
    code="TRN802",
    name="diverging",
    stage=Stage.TRAIN,
    summary="The training loss rises and does not come back.",
    why="Updates that are too large throw the parameters out of the region where the gradient is a good guide.",
    fix="Lower the learning rate, warm it up, or clip the gradient norm. Take the best checkpoint, not the last.",
    symptom=True,
    requires=("nonfinite-training",),
    consequences=("loss-spike", "below-expected-curve", "overfitting"),
)


def run(ctx: Context) -> Findings:
    history = rows(ctx, MIN_EPOCHS)
    falling_loss_expected(ctx)
    losses = column(history, "train_loss")
    first, best, last = losses[0], min(losses), min(losses[-SUSTAINED:])
    at = losses.index(best)
    noise = NOISE * scatter(losses[: max(at, MIN_EPOCHS)])
    above_start = last - first > max(RISE_SHARE * abs(first), noise)
    lost = first - best > GAINED_SHARE * abs(first) and last - best > max(LOST_SHARE * (first - best), noise)
    if at < len(losses) - SUSTAINED and (above_start or lost):
        yield DOC.finding(
            "The training loss rose from {best:.4g} in epoch {best_epoch} to {last:.4g} in epoch {epoch}; it began at "
            "{first:.4g}.",
            best=best,
            best_epoch=epoch_of(history, at),
            last=losses[-1],
            epoch=epoch_of(history, -1),
            first=first,
            evidence=series(history, "train_loss", "val_loss"),
        )
    return f"training loss {first:.4g} to {losses[-1]:.4g}, lowest {best:.4g}"
