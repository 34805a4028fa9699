"""The training loss jumped up in one epoch and came back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Severity
from probes.training._curves import column, epoch_of, falling_loss_expected, number, rows, series

if TYPE_CHECKING:
    from probes.measurements import Context

MIN_EPOCHS = 5
JUMP_SHARE = 0.25  # of what the training had gained until then
RELATIVE = 0.20  # of the loss before the jump
NOISE = 6.0  # times the usual change from one epoch to the next

DOC = ProbeDoc(
    code="TRN807",
    name="loss-spike",
    stage=Stage.TRAIN,
    summary="The training loss jumped up from one epoch to the next.",
    why="A few far too large updates, often from a broken or rare batch, undid part of what had been learned.",
    fix="Clip the gradient norm. Look for broken samples. Lower the learning rate, or raise Adam's epsilon.",
    severity=Severity.WARNING,
    symptom=True,
    requires=("nonfinite-training", "diverging"),
)


def run(ctx: Context) -> Findings:
    history = rows(ctx, MIN_EPOCHS)
    falling_loss_expected(ctx)
    losses = column(history, "train_loss")
    rates = [number(row, "lr") or 0.0 for row in history]
    at = max(range(1, len(losses)), key=lambda i: losses[i] - losses[i - 1])
    if _is_spike(losses, at) and rates[at] <= rates[at - 1]:  # a restart of the learning rate is meant to jump
        came_back = min(losses[at:]) <= losses[at - 1]
        yield DOC.finding(
            "The training loss jumped from {before:.4g} to {after:.4g} in epoch {epoch}{end}.",
            before=losses[at - 1],
            after=losses[at],
            epoch=epoch_of(history, at),
            end=", and came back" if came_back else ", and has not come back",
            evidence=series(history, "train_loss", "val_loss"),
        )
    return f"largest rise from one epoch to the next: {max(0.0, losses[at] - losses[at - 1]):.3g}"


def _is_spike(losses: Sequence[float], at: int) -> bool:
    jump = losses[at] - losses[at - 1]
    gained = losses[0] - min(losses[:at])
    changes = [abs(b - a) for i, (a, b) in enumerate(pairwise(losses)) if i + 1 not in (at, at + 1)]
    usual = median(changes) if changes else 0.0
    return gained > 0 and jump > max(JUMP_SHARE * gained, RELATIVE * abs(losses[at - 1]), NOISE * usual)
