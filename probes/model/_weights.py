"""Are weights of the size that their layers give themselves?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.inspection import LayerRecord

USUAL = 3.0  # factor; kaiming_normal_ (2.4) and xavier_ weights lie within it of torch's default


def sizes(ctx: Context, layers: Sequence[LayerRecord]) -> dict[str, float]:
    """Layer -> its typical weight, in units of that of torch's own initialisation, which draws uniformly from
    +-1/sqrt(fan in)."""
    modules = dict(ctx.pipeline.model.named_modules())
    found = {}
    for layer in layers:
        weight = getattr(modules.get(layer.path), "weight", None)
        if weight is not None and weight.ndim > 1:
            usual = 1 / math.sqrt(3 * math.prod(weight.shape[1:]))
            found[layer.path] = float(weight.detach().float().square().mean().sqrt()) / usual
    return found


def usual_weights(ctx: Context, layers: Sequence[LayerRecord]) -> bool:
    """Whether the typical weight of these layers is about as large as by torch's own initialisation."""
    found = sizes(ctx, layers)
    return bool(found) and 1 / USUAL <= median(found.values()) <= USUAL
