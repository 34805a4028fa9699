"""Cells that were run in another order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="LOP313",
    name="cells-out-of-order",
    stage=Stage.WATCH,
    summary="The cells of the notebook were last run in another order than they stand in.",
    why="What the notebook showed came from a state that running it from top to bottom does not give.",
    fix="Restart the kernel, run all cells from top to bottom, and save.",
    severity=Severity.WARNING,
    judged_by="watch",
)


def watched(loop: Loop) -> Findings:
    """The execution counts in the file."""
    if not loop.notebook:
        raise Skip("this is no notebook")
    if loop.cells_back:
        first, second = loop.cells_back[0]
        yield DOC.finding(
            "{count} times a cell has a lower execution count than the one above it: first [{second}] below [{first}]",
            count=len(loop.cells_back),
            first=first,
            second=second,
        )
        return ""
    return "the cells were run in their order"
