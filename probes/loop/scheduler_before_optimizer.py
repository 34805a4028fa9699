"""The schedule runs one step ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="LOP303",
    name="scheduler-before-optimizer",
    stage=Stage.WATCH,
    summary="scheduler.step() is called before optimizer.step().",
    why="The first value of the schedule is skipped, and every later one comes a step too early.",
    fix="Call scheduler.step() after optimizer.step(): at the end of the epoch, or of the iteration.",
    severity=Severity.WARNING,
    judged_by="watch",
    before="for epoch in range(epochs):\n    scheduler.step()\n    train()",
    after="for epoch in range(epochs):\n    train()\n    scheduler.step()",
)


def watched(loop: Loop) -> Findings:
    """How many steps an optimizer had made when its scheduler was first stepped."""
    if not loop.schedulers:
        raise Skip("no scheduler was stepped")
    for scheduler in loop.schedulers:
        scaled = scheduler.optimizer >= 0 and loop.optimizers[scheduler.optimizer].scaled
        # Several calls in a row wind a schedule forward, as after a resume; a loss scaler may leave out first steps.
        if len(scheduler.at) >= 2 and scheduler.at[0] == 0 < scheduler.at[1] and not scaled:
            yield DOC.finding(
                "{kind} is stepped once before the first step of its optimizer, and then after every {every} steps",
                where=scheduler.where,
                kind=scheduler.kind,
                every=scheduler.at[1],
            )
            return ""
    return "every scheduler is stepped after its optimizer"
