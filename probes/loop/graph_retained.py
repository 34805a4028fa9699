"""Graphs of earlier iterations stay in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.records.loop import Loop

MARKED = 8  # losses that must have been followed
TOLD = 10.0  # MB of growth: what an allocator sways by stays below
LEAST = 5  # graphs, each of them several steps old: more than what a loop holds in passing

DOC = ProbeDoc(
    code="LOP310",
    name="graph-retained",
    stage=Stage.WATCH,
    summary="The graphs of earlier steps stay in memory.",
    why=(
        "Adding up or keeping a loss (or an output) with its graph keeps everything that led to it, so memory grows "
        "from step to step."
    ),
    fix=(
        "Keep numbers, not tensors with a graph: loss.item(), or loss.detach(). Memory then stays the same "
        "from step to step."
    ),
    judged_by="watch",
    before="total += loss",
    after="total += loss.item()",
    consequences=("killed-out-of-memory", "device-out-of-memory"),
)


def watched(loop: Loop) -> Findings:
    """Tokens in the graphs of early losses, many steps later."""
    if loop.marked < MARKED:
        raise Skip("too few losses were followed")
    if loop.retained >= LEAST:
        keeps = ": {keeper} keeps them" if loop.retained_by else ""
        measured = " ({megabytes:.0f} MB more meanwhile)" if loop.grown >= TOLD * 2**20 else ""
        yield DOC.finding(
            "the graphs of {retained} earlier losses were in memory at once, among the first {marked} of them"
            f"{keeps}; memory grows with every step{measured}",
            where=(*loop.kept_at, *loop.retained_at),
            retained=loop.retained,
            marked=loop.marked,
            keeper=loop.retained_by,
            megabytes=loop.grown / 2**20,
        )
        return ""
    return f"of {loop.marked} early losses, {loop.retained} at most were in memory later"
