"""How the loss went, for the report: a row for each pass over the loader, else for each part of the run.

Only where one optimizer is stepped at a time: the losses of a generator and its critic make no curve. Of trainings one
after the other (folds, a run that is resumed) the last one is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from diagnose.watch.validation import Evaluation

MOST_PARTS = 40  # of a training without passes

Row = dict[str, Any]


class Course:
    """``trainings``: how many there were, 0 where no loss is known or optimizers are stepped in turns."""

    def __init__(self) -> None:
        self._optimizers: list[int] = []
        self._mixed = False
        self._begin(0)

    def _begin(self, steps: int) -> None:
        self._begun = self._steps = steps
        self._first: float | None = None
        self._epochs: list[Row] = []
        self._parts: list[tuple[int, float, int]] = []  # (losses, their sum, steps at the end)
        self._each = 1

    @property
    def trainings(self) -> int:
        return 0 if self._mixed else len(self._optimizers)

    def add(self, loss: float, optimizer: int) -> None:
        """The loss of the next step, of the optimizer that is known by this number."""
        if not self._optimizers or optimizer != self._optimizers[-1]:
            self._mixed |= optimizer in self._optimizers
            if not self._mixed:
                self._optimizers.append(optimizer)
                self._begin(self._steps)
        if self._mixed:
            return
        self._first = loss if self._first is None else self._first
        self._steps += 1
        count, total, _ = self._parts.pop() if self._parts and self._parts[-1][0] < self._each else (0, 0.0, 0)
        self._parts.append((count + 1, total + loss, self._steps))
        if len(self._parts) > MOST_PARTS:
            self._each *= 2
            self._parts = [_joined(self._parts[i : i + 2]) for i in range(0, len(self._parts), 2)]

    def epoch(self, row: Row) -> None:
        """A pass ended. ``row``: as in ``training.history``, its step counted over all trainings."""
        self._epochs.append(row)

    def rows(self, evaluations: Sequence[Evaluation]) -> list[Row]:
        """As in ``training.history``; the first one is the loss of the first batch. Figures that are not finite are
        None."""
        if not self.trainings or self._first is None:
            return []
        by_epoch = len(self._epochs) > 1
        made = self._epochs if by_epoch else [{"step": end, "train_loss": total / n} for n, total, end in self._parts]
        first = [{"step": self._begun + 1, "train_loss": self._first}] if by_epoch or self._each > 1 else []
        rows: list[Row] = [*first, *(dict(row) for row in made)]
        for number, (before, row) in enumerate(zip([{"step": self._begun}, *rows], rows, strict=False)):
            if by_epoch:
                row["epoch"] = number
            found = [e for e in evaluations if before["step"] < e.step <= row["step"]]
            row.update({"val_loss": found[-1].loss, "val_accuracy": found[-1].accuracy} if found else {})
        return [_plain({**row, "step": row["step"] - self._begun}) for row in rows]


def told(rows: Sequence[Row], trainings: int) -> str:
    """The course in words: where the loss began and ended, and the accuracies at the end; "" where nothing is known."""
    losses = [row.get("train_loss") for row in rows]
    if len(losses) < 2 or losses[0] is None:
        return ""
    said = f"loss {losses[0]:.4g} to " + ("no finite number" if losses[-1] is None else f"{losses[-1]:.4g}")
    for key, name in (("train_accuracy", "training accuracy"), ("val_accuracy", "validation accuracy")):
        known = [row[key] for row in rows if row.get(key) is not None]
        said += f", {name} {known[-1]:.1%}" if known else ""
    return f"{said} (the last of {trainings} trainings)" if trainings > 1 else said


def _joined(parts: Sequence[tuple[int, float, int]]) -> tuple[int, float, int]:
    return sum(n for n, _, _ in parts), sum(total for _, total, _ in parts), parts[-1][2]


def _plain(row: Row) -> Row:
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
