"""Curves of the full training, as the probes of this group read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from probes.api import Skip
from probes.results import Series

if TYPE_CHECKING:
    from probes.measurements import Context

Row = Mapping[str, Any]
JUDGED_BY_LOSS = ("classification", "multilabel", "regression", "segmentation", "language-model")
"""Tasks whose training loss must fall. A custom loss (of an adversarial training, say) need not."""


def rows(ctx: Context, at_least: int = 1) -> Sequence[Row]:
    """The history. Raises Skip where fewer than ``at_least`` epochs ran."""
    history = ctx.history()
    if not history:
        raise Skip("the full training has not run")
    if len(history) < at_least:
        raise Skip(f"{len(history)} of the at least {at_least} epochs that this needs have run")
    return history


def falling_loss_expected(ctx: Context) -> None:
    """Raises Skip for a custom task."""
    if ctx.facts.task not in JUDGED_BY_LOSS:
        raise Skip("the loss of a custom task need not fall, so its course tells nothing")


def number(row: Row, key: str) -> float | None:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def column(history: Sequence[Row], key: str) -> list[float]:
    """The figures of one column. Raises Skip where an epoch has none."""
    found = [number(row, key) for row in history]
    if any(value is None for value in found):
        raise Skip(f"not every epoch has a {key.replace('_', ' ')}")
    return [value for value in found if value is not None]


def smoothed(values: Sequence[float], width: int = 3) -> list[float]:
    """Means over the last ``width`` values, from the first full window on."""
    return [fmean(values[i - width + 1 : i + 1]) for i in range(width - 1, len(values))]


def scatter(values: Sequence[float]) -> float:
    """How far single values lie from the straight line between their neighbours: noise, whatever the trend."""
    bends = [abs(b - (a + c) / 2) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return median(bends) if bends else 0.0


def slope(values: Sequence[float]) -> tuple[float, float]:
    """(change per epoch of the straight line through ``values``, its standard error); the error of two points is 0."""
    n = len(values)
    center, mean = (n - 1) / 2, fmean(values)
    spread = sum((i - center) ** 2 for i in range(n))
    rate = sum((i - center) * (value - mean) for i, value in enumerate(values)) / spread
    rest = sum((value - mean - rate * (i - center)) ** 2 for i, value in enumerate(values))
    return rate, math.sqrt(rest / max(1, n - 2) / spread)


def series(history: Sequence[Row], *keys: str) -> tuple[Series, ...]:
    """The columns as evidence, those that hold something."""
    return tuple(
        Series(
            key.replace("_", " "),
            [float(row.get("epoch", i + 1)) for i, row in enumerate(history)],
            [number(row, key) for row in history],
            "epoch",
            key.partition("_")[2].replace("_", " "),
        )
        for key in keys
        if any(number(row, key) is not None for row in history)
    )


def epoch_of(history: Sequence[Row], index: int) -> int:
    return int(history[index].get("epoch", index % len(history) + 1))
