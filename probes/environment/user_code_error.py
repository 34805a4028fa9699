"""The user's code raised an exception."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from probes import catalogue
from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

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
        with contextlib.suppress(Skip):
            ctx.updates()  # a step of the optimizer that raises is met here
        return f"{type(pipeline.model).__name__} ran forward, loss and backward"
    if failure.name != DOC.name and catalogue.doc(failure.name).severity is Severity.ERROR:
        return f"{failure.phase} raised, for a known cause: {failure.name}"
    yield failure.finding(DOC)
    return ""
