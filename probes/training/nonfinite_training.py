"""The loss became NaN or infinite in the course of the full training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Severity
from probes.training._curves import epoch_of, number, rows, series

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="TRN801",
    name="nonfinite-training",
    stage=Stage.TRAIN,
    summary="The loss became NaN or infinite in the course of the full training.",
    why="Once a gradient is NaN, so are the parameters after the next update, and nothing that follows can be used.",
    fix="Lower the learning rate or clip the gradient norm. Guard every log, division and square root against zero. "
    "Train in bf16 instead of fp16.",
    symptom=True,
    consequences=("diverging", "loss-spike", "below-expected-curve", "plateau"),
    references=("torch.autograd.detect_anomaly documentation",),
)


def run(ctx: Context) -> Findings:
    history = rows(ctx)
    train = [i for i, row in enumerate(history) if row.get("nonfinite_steps") or _is_lost(row.get("train_loss"))]
    if train:
        recovered = number(history[-1], "train_loss") is not None
        end = "Later epochs have finite losses again." if recovered else "It did not recover."
        yield DOC.finding(
            "The training loss was not finite in epoch {epoch} ({steps} steps). {end}",
            epoch=epoch_of(history, train[0]),
            steps=int(history[train[0]].get("nonfinite_steps") or 1),
            end=end,
            evidence=series(history, "train_loss", "val_loss"),
            severity=Severity.WARNING if recovered else None,
        )
        return ""
    val = [
        i for i, row in enumerate(history) if row.get("nonfinite_validation_batches") or _is_lost(row.get("val_loss"))
    ]
    if val:
        yield DOC.finding(
            "The validation loss was not finite in epoch {epoch} ({batches} batches), while the training loss was.",
            epoch=epoch_of(history, val[0]),
            batches=int(history[val[0]].get("nonfinite_validation_batches") or 1),
            evidence=series(history, "train_loss", "val_loss"),
            severity=Severity.WARNING,
        )
        return ""
    return f"the losses of all {len(history)} epochs are finite"


def _is_lost(value: object) -> bool:
    """Whether a history that was not made by this tool holds NaN or an infinity."""
    return isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))  # noqa: PLR0124
