"""The user's code raised an exception."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="ENV901",
    name="user-code-error",
    stage=Stage.SMOKE,
    summary="The user's code raised an exception.",
    why="Nothing after the failing line ran, so everything that depends on it is unknown.",
    fix="Look at the line of your code where the exception was raised; the exception says what it could not do.",
)


def run(ctx: Context) -> Findings:
    """Builds the pipeline, then tries it; a failure that no other name explains is this one."""
    pipeline = ctx.pipeline
    failure = ctx.attempt().failure
    if failure is None:
        return f"{type(pipeline.model).__name__} ran forward, loss and backward"
    if failure.name != DOC.name:
        return f"{failure.phase} raised, for a known cause: {failure.name}"
    yield failure.finding(DOC)
    return ""
