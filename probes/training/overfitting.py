"""The model does much better on the training samples than on others, or gets worse on others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity
from probes.training._curves import Row, column, epoch_of, rows, scatter, series, smoothed

if TYPE_CHECKING:
    from probes.measurements import Context

MIN_EPOCHS = 4
LAST = 3  # epochs that are averaged at the end
GAP = 0.10  # of accuracy between training and validation: the catalogue's figure
STANDARD_ERRORS = 2.0  # by which the gap must exceed it where the validation split is small
RISE_SHARE = 0.10  # of its lowest value, that the validation loss rose by
NOISE = 3.0  # times its scatter, that the validation loss rose by
STILL_BEST = 0.01  # of accuracy: within it, validation accuracy is as good as it ever was

DOC = ProbeDoc(
    code="TRN803",
    name="overfitting",
    stage=Stage.TRAIN,
    summary="The model learns the training samples by heart instead of what they have in common.",
    why="What is particular to the training samples does not help with others, and soon it harms.",
    fix="Stop at the epoch with the best validation figures (the best checkpoint holds it). Add data or augmentation, "
    "weight decay or some dropout, or take a smaller model.",
    severity=Severity.WARNING,
    requires=("nonfinite-training",),
    takeaways=("Compare training and validation figures each epoch; keep the best checkpoint, not the last.",),
)


def run(ctx: Context) -> Findings:
    history = rows(ctx, MIN_EPOCHS)
    train, val = column(history, "train_loss"), column(history, "val_loss")
    rise = _rise(train, val)
    gap, allowed = _gap(history), GAP + STANDARD_ERRORS * _standard_error(ctx, history)
    if gap is not None and gap > allowed and train[-1] < val[-1]:
        yield DOC.finding(
            "Accuracy is {train:.1%} on training samples and {val:.1%} on validation samples (means of the last {last} "
            "epochs): {gap:.1%} apart, more than {allowed:.1%}.",
            train=_mean(history, "train_accuracy"),
            val=_mean(history, "val_accuracy"),
            gap=gap,
            allowed=allowed,
            last=LAST,
            evidence=series(history, "train_accuracy", "val_accuracy", "train_loss", "val_loss"),
        )
    elif rise is not None:
        best, low, high = rise
        harmless = _still_best(history)
        end = " Its accuracy is as good as ever: the model is only too sure of its errors." if harmless else ""
        yield DOC.finding(
            "The validation loss rose from {low:.4g} around epoch {epoch} to {high:.4g}, while the training loss fell "
            "from {train_then:.4g} to {train_now:.4g}.{end}",
            low=low,
            high=high,
            epoch=epoch_of(history, best),
            train_then=train[best],
            train_now=train[-1],
            end=end,
            evidence=series(history, "train_loss", "val_loss", "val_accuracy"),
            severity=Severity.NOTE if harmless else None,
        )
    apart = "" if gap is None else f"; accuracies {abs(gap):.1%} apart"
    return f"validation loss {val[-1]:.4g}, lowest {min(val):.4g}{apart}"


def _rise(train: Sequence[float], val: Sequence[float]) -> tuple[int, float, float] | None:
    """(index of the best epoch, lowest and last smoothed validation loss), where it rose while training went on."""
    curve = smoothed(val, LAST)
    low, high = min(curve), curve[-1]
    best = curve.index(low) + LAST // 2
    if high - low <= max(RISE_SHARE * abs(low), NOISE * scatter(val)) or smoothed(train, LAST)[-1] >= train[best]:
        return None
    return best, low, high


def _mean(history: Sequence[Row], key: str) -> float:
    return fmean(column(history[-LAST:], key))


def _gap(history: Sequence[Row]) -> float | None:
    try:
        return _mean(history, "train_accuracy") - _mean(history, "val_accuracy")
    except Skip:  # a task without accuracy
        return None


def _standard_error(ctx: Context, history: Sequence[Row]) -> float:
    """Of the validation accuracy, by the size of the split where it is known."""
    samples = _samples(ctx.pipeline.val)
    if not samples:
        return 0.0
    share = min(max(_mean(history, "val_accuracy"), 0.0), 1.0) if _gap(history) is not None else 0.5
    return math.sqrt(share * (1 - share) / samples)


def _samples(loader: Any) -> int | None:
    dataset: Any = getattr(loader, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else None


def _still_best(history: Sequence[Row]) -> bool:
    try:
        accuracies = smoothed(column(history, "val_accuracy"), LAST)
    except Skip:
        return False
    return accuracies[-1] >= max(accuracies) - STILL_BEST
