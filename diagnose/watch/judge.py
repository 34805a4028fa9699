"""From the record of a loop to results. Needs neither torch nor the user's code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diagnose.config import Config
from diagnose.judging import run_probe
from diagnose.plan import matches
from probes import catalogue
from probes.api import Stage
from probes.records.loop import Loop
from probes.results import Finding, Result, Severity, StageResult, Status

NO_TRAINING = "no optimizer was stepped in the watched process"
LIMITED = "the script was stopped at the limit that was set"


def names(config: Config) -> list[str]:
    """Everything that can be told of a watched loop, without what was deselected."""
    found = []
    for name in catalogue.builtin_names():
        if not hasattr(catalogue.module(name), "watched"):
            continue
        doc = catalogue.doc(name)
        chosen = not config.select or any(matches(doc, wanted) for wanted in config.select)
        if chosen and not any(matches(doc, wanted) for wanted in config.ignore):
            found.append(name)
    return found


def judge(loop: Loop, config: Config) -> list[Result]:
    """A loop in which nothing was trained is not judged, nor one that was not recorded to its end by our own fault."""
    stage = str(Stage.WATCH)
    if loop.failure:
        first, *others = [(catalogue.doc(name).code, name) for name in names(config)]
        failed = Result(*first, stage, Status.INTERNAL, loop.failure)
        return [failed, *(Result(*other, stage, Status.SKIPPED, "the recording failed") for other in others)]
    if not loop.steps and not loop.backwards:
        return [Result(catalogue.doc(name).code, name, stage, Status.SKIPPED, NO_TRAINING) for name in names(config)]
    context: Any = loop
    return [run_probe(name, context, stage=stage, judge="watched") for name in names(config)]


def crashed(finding: Finding) -> Result:
    """An exception that ended the script."""
    doc = catalogue.doc(finding.name)
    return Result(doc.code, doc.name, str(Stage.WATCH), Status.CRASHED, finding.message, (finding,))


def stage(loop: Loop | None, results: list[Result], seconds: float, number: Callable[[int], str] = str) -> StageResult:
    """The outcome of watching, and in one line what was seen."""
    name = str(Stage.WATCH)
    died = next((r for r in results if r.status is Status.CRASHED), None)
    if died is not None:
        return StageResult(name, Status.CRASHED, died.reason, seconds)
    failed = next((r for r in results if any(f.severity is Severity.ERROR for f in r.findings)), None)
    if failed is not None:
        return StageResult(name, Status.FAIL, failed.reason, seconds)
    if loop is None:
        return StageResult(name, Status.INCONCLUSIVE, "the script ended before anything could be recorded", seconds)
    internal = next((r for r in results if r.status is Status.INTERNAL), None)
    if internal is not None:
        return StageResult(
            name, Status.INCONCLUSIVE, "the recording, or a check of it, failed inside the tool", seconds
        )
    if not loop.steps:
        return StageResult(name, Status.INCONCLUSIVE, NO_TRAINING, seconds)
    if loop.ended in {"cut", "interrupted"}:
        return StageResult(name, Status.INCONCLUSIVE, "the script was cut off before its end", seconds)
    looks = sum(len(o.looks) for o in loop.optimizers)
    end = f"; {LIMITED}" if loop.ended == "limit" else ""
    return StageResult(
        name, Status.PASS, f"{number(loop.steps)} optimizer steps, {looks} of them looked at closely{end}", seconds
    )
