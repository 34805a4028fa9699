"""Training ended while the loss was still falling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Severity
from probes.training._curves import Row, column, falling_loss_expected, number, rows, scatter, series, slope

if TYPE_CHECKING:
    from probes.measurements import Context

MIN_EPOCHS = 3
END_SHARE = 0.15  # of the epochs, at least MIN_EPOCHS of them: what counts as the end
STILL_SHARE = 0.35  # of the mean fall per epoch, that the end still falls by; a converged curve is at a tenth or below
STANDARD_ERRORS = 3.0  # by which the fall at the end must differ from none
NOISE = 2.0  # times the scatter: how far above its lowest value the last one may lie

ANNEALED = 0.1  # of the highest learning rate: below at the end, the schedule has run its course

DOC = ProbeDoc(
    code="TRN804",
    name="too-few-epochs",
    stage=Stage.TRAIN,
    summary="The training ended while the validation loss was still falling.",
    why="The figures are those of a model on its way: more epochs alone would make it better.",
    fix="Go on with --resume and more --epochs; stretch a schedule that is planned by the number of epochs.",
    severity=Severity.WARNING,
    requires=("nonfinite-training", "diverging"),
)


def run(ctx: Context) -> Findings:
    history = rows(ctx, MIN_EPOCHS)
    falling_loss_expected(ctx)
    key = "val_loss" if number(history[-1], "val_loss") is not None else "train_loss"
    losses, train = column(history, key), column(history, "train_loss")
    end = max(MIN_EPOCHS, round(END_SHARE * len(losses)))
    mean = (losses[0] - losses[-1]) / (len(losses) - 1)
    rate, error = slope(losses[-end:])
    share = -rate / mean if mean > 0 else 0.0
    if _annealed(history):
        return "the learning rate was brought down by the end, as planned"
    if share > STILL_SHARE and -rate > STANDARD_ERRORS * error and _falls(train[-end:]) and _at_best(losses):
        yield DOC.finding(
            "After {epochs} epochs the {what} still fell by {rate:.3g} an epoch, {share:.0%} of its mean fall over the "
            "whole training.",
            epochs=len(losses),
            what=key.replace("_", " ").replace("val", "validation").replace("train", "training"),
            rate=-rate,
            share=share,
            evidence=series(history, "train_loss", "val_loss"),
        )
    return f"at the end the loss falls by {max(0.0, share):.0%} of its mean fall per epoch"


def _annealed(history: Sequence[Row]) -> bool:
    rates = [number(row, "lr") or 0.0 for row in history]
    return rates[-1] < ANNEALED * max(rates)


def _falls(losses: Sequence[float]) -> bool:
    return losses[-1] < losses[0]


def _at_best(losses: Sequence[float]) -> bool:
    return losses[-1] <= min(losses) + NOISE * scatter(losses)
