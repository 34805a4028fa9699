"""Every setting and part of a pipeline in the form that is known to work, but for its model, its width and its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnose.experiments.knobs import arms
from diagnose.experiments.usual import SCALES, is_unusual
from probes.api import Skip

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.experiments.change import Change

# In the order in which they are applied; settings of the optimizer go with it. Taken back in the same order, so that
# what says least about the cause goes first.
REPLACED = (
    "channel-order", "precision", "initialisation", "batchnorm", "frozen", "loop", "batch-size", "loss", "regulariser",
    "label-smoothing", "targets", "inputs", "augmentation", "dropout", "optimizer",
)  # fmt: skip


def known_good(ctx: MeasuringContext) -> dict[str, Change]:
    """Knob or part -> its strongest change; without those where there is nothing to turn."""
    found: dict[str, Change] = {}
    for knob in REPLACED:
        if knob in SCALES and not is_unusual(ctx, knob):
            continue
        try:
            changes = arms(ctx, knob)
        except Skip:
            continue
        found[knob] = max(changes, key=lambda change: change.size)
    return found
