"""The rows of a training's history, one per epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from diagnose.training.meter import METRICS, Meter

Row = dict[str, Any]


def losses_and_metrics(task: str, train: Meter, val: Meter | None) -> Row:
    """``train_loss, val_loss, train_accuracy, val_accuracy`` or the task's metric, then the user's own; and how many
    batches were not finite, where some were. A figure that is not finite is None."""
    ours = ("loss", METRICS[task]) if task in METRICS else ("loss",)
    figures = {"train": train.figures(), "val": {} if val is None else val.figures()}
    row: Row = {}
    for name in dict.fromkeys((*ours, *figures["train"])):
        row |= {f"{split}_{name}": finite(figures[split].get(name)) for split in ("train", "val")}
    return row


def nonfinite_counts(train: Meter, val: Meter | None) -> Row:
    found = {"nonfinite_steps": train.nonfinite, "nonfinite_validation_batches": 0 if val is None else val.nonfinite}
    return {name: count for name, count in found.items() if count}


def best_epoch(history: Sequence[Row]) -> int | None:
    """The epoch with the best validation accuracy, else with the lowest validation, else training loss."""
    for key, sign in (("val_accuracy", -1), ("val_loss", 1), ("train_loss", 1)):
        rows = [row for row in history if row.get(key) is not None]
        if rows:
            best: int = min(rows, key=lambda row: (sign * row[key], row.get("val_loss") or 0.0))["epoch"]
            return best
    return None


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
