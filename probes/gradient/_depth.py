"""How the gradient changes from the first layers to the last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING

from probes.api import Inconclusive, Skip
from probes.results import Series

if TYPE_CHECKING:
    from probes.measurements import Context

MIN_WEIGHTS = 6  # weight tensors: with fewer there is no depth for a gradient to vanish or explode over


def profile(ctx: Context) -> Mapping[str, float]:
    """Root mean square of the gradient of each weight, in the order in which the modules run.

    Of a slightly disturbed model where a layer that starts at zero on purpose hides those before it.
    """
    gradients = ctx.gradients()
    parameters = {p.name: p for p in ctx.updates().parameters if len(p.shape) > 1}
    ran = [record.path for record in ctx.attempt().modules]
    ordered = [name for path in ran for name in parameters if name.rpartition(".")[0] == path]
    found = {}
    for name in ordered:
        norm = gradients.get(name)
        if norm:
            found[name] = norm / math.sqrt(math.prod(parameters[name].shape))
    if len(found) < MIN_WEIGHTS:
        raise Skip(f"too few layers with weights ({len(found)}) for a gradient to change over")
    if not all(math.isfinite(value) for value in found.values()):
        raise Inconclusive("the gradient is not finite")
    return found


def first_to_last(found: Mapping[str, float]) -> float:
    """Ratio of the median gradient of the first third of the layers to that of the last third."""
    values = list(found.values())
    third = max(1, len(values) // 3)
    return median(values[:third]) / median(values[-third:])


def curve(found: Mapping[str, float]) -> Series:
    depth = [float(position) for position in range(len(found))]
    return Series("gradient by layer", depth, list(found.values()), "layer, first to last", "root mean square")
