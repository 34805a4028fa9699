"""What the probes of a schedule share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.results import Series, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

POINTS = 200  # of a curve in a report


def lr_curve(lrs: Sequence[float]) -> Series:
    every = max(1, len(lrs) // POINTS)
    thinned = list(lrs[::every])
    return Series("learning rate", [float(i * every) for i in range(len(thinned))], thinned)


def severity_of_plan(ctx: Context) -> Severity | None:
    """A note where nobody said how long the run is: then the length, not the schedule, may be what is not meant."""
    return None if ctx.facts.epochs_stated else Severity.NOTE
