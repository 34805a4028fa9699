"""Stages, checks and findings made ready for reading."""

from __future__ import annotations

from collections.abc import Sequence

from probes.results import Finding, Result, RunResults, Severity, StageResult, Status, Table
from reports.causes import block_of, measured_tables, places, table_view
from reports.curves import arm_tables, is_measured
from reports.numbers import GAP, duration, one_line
from reports.shapes import CheckView, StageView, TableView
from reports.stage_facts import stage_fact
from reports.words import FOUND, OUTCOMES, STAGE_QUESTIONS, doc

MESSAGES = 3
"""How many of a probe's messages its line shows."""


def stage_views(results: RunResults) -> tuple[StageView, ...]:
    order = list(dict.fromkeys([*(s.name for s in results.stages), *(r.stage for r in results.results)]))
    known = {stage.name: stage for stage in results.stages}
    views = []
    for name in order:
        own = [result for result in results.results if result.stage == name]
        stage = known.get(name)
        clear = [result for result in own if result.status is Status.PASS and not result.findings]
        views.append(
            StageView(
                name=one_line(name),
                question=STAGE_QUESTIONS.get(name, ""),
                outcome=OUTCOMES[stage.status] if stage else "no verdict",
                fact=stage_fact(results, stage) if stage else "",
                time=_time(stage, own),
                checks=tuple(check_view(r) for r in own if r not in clear and r.status is not Status.SKIPPED),
                clear=tuple(check_view(r) for r in clear if r.reason),
                silent=tuple(one_line(r.name) for r in clear if not r.reason),
            )
        )
    return tuple(views)


def _time(stage: StageResult | None, own: Sequence[Result]) -> str:
    if stage and stage.status is Status.SKIPPED and not stage.seconds:
        return GAP
    return duration(stage.seconds if stage else sum(result.seconds for result in own))


def check_view(result: Result) -> CheckView:
    """One result in a line: what its findings say where it failed, else the reason."""
    messages = [one_line(finding.message) for finding in result.findings]
    if result.reason and (result.status not in (Status.FAIL, Status.CRASHED) or not messages):
        messages = [one_line(result.reason)]
    if len(messages) > MESSAGES:
        messages = [*messages[:MESSAGES], f"({len(messages) - MESSAGES} more)"]
    outcome = FOUND[result.status]
    if result.status in (Status.FAIL, Status.PASS) and result.findings:
        worst = min((finding.severity for finding in result.findings), key=list(Severity).index)
        outcome = outcome if worst is Severity.ERROR else worst.value
    lines = [where for finding in result.findings for where in finding.where]
    return CheckView(one_line(result.name), outcome, " ".join(messages), places(lines))


def stage_table(stages: Sequence[StageView]) -> TableView | None:
    if not stages:
        return None
    rows = tuple((stage.name, stage.question, stage.outcome, stage.fact, stage.time) for stage in stages)
    return TableView(("stage", "question", "outcome", "what was seen", "time"), rows)


def not_run(results: RunResults) -> str:
    ran = {stage.name for stage in results.stages}
    missing = [name for name in STAGE_QUESTIONS if name not in ran]
    return f"Not part of this run: {', '.join(missing)}." if missing and results.stages else ""


def finding_views(results: RunResults, severity: Severity, told: set[str]) -> tuple[CheckView, ...]:
    """The findings of one severity, but for those that the diagnosis tells already."""
    found: list[Finding] = [
        finding
        for result in results.results
        for finding in result.findings
        if finding.severity is severity and finding.name not in told
    ]
    return tuple(_finding(finding) for finding in found)


def _finding(finding: Finding) -> CheckView:
    known = doc(finding.name)
    tables = [table_view(e) for e in finding.evidence if isinstance(e, Table) and e.rows and not is_measured(e)]
    return CheckView(
        name=one_line(finding.name),
        outcome=finding.severity.value,
        fact=one_line(finding.message),
        places=places(finding.where),
        fix=one_line(known.fix) if known else "",
        tables=(*tables, *measured_tables(finding.evidence), *arm_tables(finding.evidence)),
        blocks=tuple(block for e in finding.evidence if (block := block_of(e))),
    )
