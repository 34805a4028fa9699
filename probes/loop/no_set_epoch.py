"""The same order in every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.records.loop import Loop

LEAST = 2  # passes

DOC = ProbeDoc(
    code="LOP312",
    name="no-set-epoch",
    stage=Stage.WATCH,
    summary="The distributed sampler is never told the epoch, so every epoch has the same order.",
    why=(
        "It shuffles by a seed and the epoch's number: without set_epoch all epochs see the same batches in the same "
        "order."
    ),
    fix="Call sampler.set_epoch(epoch) at the beginning of every epoch.",
    severity=Severity.WARNING,
    judged_by="watch",
    before="for epoch in range(epochs):\n    for x, y in loader:",
    after="for epoch in range(epochs):\n    sampler.set_epoch(epoch)\n    for x, y in loader:",
)


def watched(loop: Loop) -> Findings:
    """The sampler's epoch at the beginning of each pass."""
    distributed = [loader for loader in loop.loaders if loader.distributed and loader.steps]
    if not distributed:
        raise Skip("no sampler that shuffles by epoch was trained under")
    for loader in distributed:
        if sum(p.steps > 0 for p in loader.passes) >= LEAST and loader.epochs_set == 1:
            yield DOC.finding(
                "{passes} passes were made with the same epoch of the sampler", where=loader.where, passes=loader.passed
            )
            return ""
    return "the sampler is told each epoch, or made one pass only"
