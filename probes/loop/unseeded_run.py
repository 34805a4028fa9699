"""No seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="LOP314",
    name="unseeded-run",
    stage=Stage.WATCH,
    summary="No seed was set.",
    why="Two runs of the script differ, so a change cannot be told from chance.",
    fix="Call torch.manual_seed(0), and seed numpy and random where they are used.",
    severity=Severity.NOTE,
    judged_by="watch",
    before="model = Net()",
    after="torch.manual_seed(0)\nmodel = Net()",
)


def watched(loop: Loop) -> Findings:
    """Whether torch.manual_seed was called."""
    if not loop.whole:
        raise Skip("only a part of the program was watched")
    if not loop.seeded:
        yield DOC.finding("torch.manual_seed was not called in {steps} steps", steps=loop.steps)
        return ""
    return "torch.manual_seed was called"
