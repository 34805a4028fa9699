"""Inputs hold NaN or infinity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.data._labels import attempted, listed
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

SHOWN = 5  # positions named in the message

DOC = ProbeDoc(
    code="DAT103",
    name="nonfinite-inputs",
    stage=Stage.DATA,
    summary="Some inputs hold NaN or infinity.",
    why="One such value makes the loss NaN, and the next update makes every parameter NaN.",
    fix="Find where the value comes from (a division by zero, a missing entry, a corrupt file), and fill or remove it.",
    before="x = (x - mean) / std",
    after="x = (x - mean) / std.clamp_min(1e-6)",
    consequences=("nonfinite-loss", "nonfinite-activations", "nonfinite-gradient"),
)


def run(ctx: Context) -> Findings:
    """Every sample of the scan; a model that copes with a missing value is only told of it."""
    facts = []
    for split in ctx.facts.splits or ("train",):
        scan = ctx.scan(split)
        if not scan.nonfinite:
            facts.append(f"{split} {scan.seen:,}")
            continue
        yield DOC.finding(
            "{count} of {seen} {split} samples hold NaN or infinity; positions {positions} in reading order",
            severity=Severity.NOTE if _harmless(ctx) else None,
            count=len(scan.nonfinite),
            seen=scan.seen,
            split=split,
            positions=listed(scan.nonfinite, SHOWN),
        )
    return f"all finite: {', '.join(facts)} samples"


def _harmless(ctx: Context) -> bool:
    """Whether the first batch holds such values and its loss is finite all the same."""
    attempt = attempted(ctx)
    if attempt is None or attempt.loss is None or not math.isfinite(attempt.loss):
        return False
    tensors = [x for x in attempt.inputs if hasattr(x, "isfinite") and x.is_floating_point()]
    return any(not bool(x.isfinite().all()) for x in tensors)
