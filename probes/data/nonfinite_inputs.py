"""Inputs hold NaN or infinity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Stage
from probes.data._labels import attempted, listed
from probes.results import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.measurements import Context
    from probes.records.data import Scan

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
        found = sorted({*scan.nonfinite, *(i for shape in _given(ctx, scan) for i in scan.undefined[shape])})
        if not found:
            facts.append(f"{split} {scan.seen:,}")
            continue
        yield DOC.finding(
            "{count} of {seen} {split} samples hold NaN or infinity; positions {positions} in reading order",
            severity=Severity.NOTE if _harmless(ctx) else None,
            count=len(found),
            seen=scan.seen,
            split=split,
            positions=listed(found, SHOWN),
        )
    return f"all finite: {', '.join(facts)} samples"


def _given(ctx: Context, scan: Scan) -> Sequence[tuple[int, ...]]:
    """Of the further inputs that hold NaN those that the model is given: a label that is missing, or a column that
    nobody reads, is none of its inputs."""
    attempt = attempted(ctx) if scan.undefined else None
    if attempt is None:
        return ()
    batch = ctx.batch()
    tensors = [x for x in (*batch.inputs, *batch.kwargs.values()) if hasattr(x, "isnan")]
    alike = {shape: [x for x in tensors if x.ndim and tuple(x.shape[1:]) == shape] for shape in scan.undefined}
    return [shape for shape, those in alike.items() if those and all(_is_among(x, attempt.inputs) for x in those)]


def _is_among(x: Any, inputs: Sequence[Any]) -> bool:
    alike = [y for y in inputs if hasattr(y, "isnan") and y.shape == x.shape and y.dtype == x.dtype]
    return any(bool(((x == y.to(x.device)) | x.isnan() & y.to(x.device).isnan()).all()) for y in alike)


def _harmless(ctx: Context) -> bool:
    """Whether the first batch holds such values and its loss is finite all the same."""
    attempt = attempted(ctx)
    if attempt is None or attempt.loss is None or not math.isfinite(attempt.loss):
        return False
    tensors = [x for x in attempt.inputs if hasattr(x, "isfinite") and x.is_floating_point()]
    return any(not bool(x.isfinite().all()) for x in tensors)
