"""Runs one probe and turns what it yields or raises into a result."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from diagnose.failures import device_is_absent, failure_name
from diagnose.user_code import UserCodeError, user_frames
from probes import catalogue
from probes.api import Inconclusive, ProbeDoc, Skip
from probes.results import Finding, Result, Severity, Status, Trace

if TYPE_CHECKING:
    from probes.measurements import Context


def run_probe(
    name: str,
    ctx: Context,
    emit: Callable[[Finding], None] = lambda finding: None,
    stage: str | None = None,
    judge: str = "run",
) -> Result:
    """``emit`` is given each finding as soon as it is made; ``stage``: what it counts for (its own by default);
    ``judge``: the function of the module that judges."""
    module = catalogue.module(name)
    doc: ProbeDoc = module.DOC
    started = time.monotonic()
    findings: list[Finding] = []
    status, reason = Status.PASS, ""
    try:
        probe = getattr(module, judge)(ctx)
        while True:
            try:
                finding = next(probe)
            except StopIteration as stop:
                reason = str(stop.value or "")
                break
            finding = _placed(finding, ctx)
            findings.append(finding)
            emit(finding)
    except Skip as skip:
        status, reason = Status.SKIPPED, str(skip)
    except Inconclusive as doubt:
        status, reason = Status.INCONCLUSIVE, str(doubt)
    except UserCodeError as error:
        finding = crash_finding(error)
        findings.append(finding)
        emit(finding)
        status, reason = Status.CRASHED, finding.message
    except Exception as error:
        origin = "" if name in catalogue.builtin_names() else f"the probe {name} of another package: "
        text = f"{origin}{type(error).__name__}: {error}"
        status, reason = Status.INTERNAL, f"{text}\n{traceback.format_exc(limit=-4)}"
    if status is Status.PASS and any(finding.severity is not Severity.NOTE for finding in findings):
        status = Status.CRASHED if doc.code.startswith("ENV") else Status.FAIL  # the user's code did not survive
        reason = findings[0].message
    return Result(doc.code, name, stage or doc.stage, status, reason, tuple(findings), time.monotonic() - started)


def _placed(finding: Finding, ctx: Context) -> Finding:
    """What is wrong with the data is looked for from the line on that makes their loader, and in the data set's own
    code; a loss that torch computes where the user made it, an optimizer likewise."""
    if finding.where:
        return finding
    code = catalogue.doc(finding.name).code
    if code.startswith("DAT"):
        return replace(finding, where=tuple(ctx.data_at(str(finding.values.get("split", "train")))))
    if code.startswith("LOS"):
        return replace(finding, where=tuple(ctx.loss_at()))
    return replace(finding, where=tuple(ctx.optimizer_at())) if code.startswith("OPT") else finding


def crash_finding(error: UserCodeError) -> Finding:
    """The user's exception as a finding, under the most exact name that its type and text allow."""
    original = error.original
    name = failure_name(original, error.what)
    frames = user_frames(original)
    text = str(original).strip().splitlines()
    doc = catalogue.doc(name)
    absent = " (this machine has no such device; torch.cuda.is_available() tells)" if device_is_absent(original) else ""
    return doc.finding(
        "{what} raised {type}: {text}{absent}",
        what=error.what,
        type=type(original).__name__,
        text=text[0] if text else "(no message)",
        absent=absent,
        where=frames[-1:],
        evidence=(Trace(type(original).__name__, str(original), frames),),
    )
