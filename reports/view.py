"""Results made ready for reading: everything formatted and chosen, so that templates hold only loops and ifs."""

from __future__ import annotations

from collections.abc import Sequence

from probes.results import Because, Finding, Result, RunResults, Severity, Status, Table, Verdict
from reports.appendix import appendix
from reports.causes import block_of, cause_view, measured_tables, places, table_view
from reports.curves import arm_tables, is_measured, progress_table
from reports.evaluation import evaluation_tables
from reports.headline import headline, symptom_table, title
from reports.numbers import cleaned, duration, one_line
from reports.shapes import CheckView, Group, Pair, StageView, Step, TableView, View
from reports.words import FOUND, OUTCOMES, STAGE_QUESTIONS, VERDICTS, doc

__all__ = ["build_view"]

MESSAGES = 3
"""How many of a probe's messages its line shows."""


def build_view(results: RunResults) -> View:
    """Everything that a report says about a run, as frozen plain text."""
    results = cleaned(results)
    diagnosis = results.diagnosis
    causes = tuple(cause_view(cause) for cause in diagnosis.causes)
    stages = _stages(results)
    named = {n for cause in diagnosis.causes for n in (cause.name, *cause.consequences)} | set(diagnosis.symptoms)
    return View(
        title=title(results),
        origin=_origin(results),
        verdict=VERDICTS[results.verdict],
        headline=headline(results),
        summary=one_line(diagnosis.summary),
        symptoms=tuple(Pair(name, found.summary if (found := doc(name)) else "") for name in diagnosis.symptoms),
        figures=symptom_table(results),
        stages=stages,
        stage_table=_stage_table(stages),
        not_run=_not_run(results),
        silent=tuple(name for stage in stages for name in stage.silent),
        cause=causes[0] if causes else None,
        other_causes=causes[1:],
        progress=progress_table(results),
        evaluation=evaluation_tables(results),
        steps=_steps(results),
        errors=_findings(results, Severity.ERROR, named),
        warnings=_findings(results, Severity.WARNING, named),
        notes=_findings(results, Severity.NOTE, named),
        ruled_out=_groups(diagnosis.ruled_out),
        not_checked=_groups([*diagnosis.not_checked, *_unchecked(results)]),
        appendix=appendix(results),
    )


def _origin(results: RunResults) -> str:
    parts = [f"run {results.run_id}", results.created, f"torch-diagnose {results.tool_version}"]
    return one_line(" · ".join(part for part in parts if part))


def _stages(results: RunResults) -> tuple[StageView, ...]:
    order = list(dict.fromkeys([*(s.name for s in results.stages), *(r.stage for r in results.results)]))
    known = {stage.name: stage for stage in results.stages}
    views = []
    for name in order:
        own = [result for result in results.results if result.stage == name]
        stage = known.get(name)
        views.append(
            StageView(
                name=name,
                question=STAGE_QUESTIONS.get(name, ""),
                outcome=OUTCOMES[stage.status] if stage else "no verdict",
                fact=one_line(stage.reason) if stage else "",
                time=duration(stage.seconds if stage else sum(r.seconds for r in own)),
                checks=tuple(check_view(r) for r in own if not is_silent(r) and r.status is not Status.SKIPPED),
                skipped=tuple(one_line(r.name) for r in own if r.status is Status.SKIPPED),
                silent=tuple(result.name for result in own if is_silent(result)),
            )
        )
    return tuple(views)


def is_silent(result: Result) -> bool:
    """Passed with nothing to tell."""
    return result.status is Status.PASS and not result.reason and not result.findings


def check_view(result: Result) -> CheckView:
    """One result in a line: what its findings say where it failed, else the reason."""
    messages = [one_line(finding.message) for finding in result.findings]
    if result.reason and (result.status not in (Status.FAIL, Status.CRASHED) or not messages):
        messages = [one_line(result.reason)]
    if len(messages) > MESSAGES:
        messages = [*messages[:MESSAGES], f"({len(messages) - MESSAGES} more)"]
    outcome = FOUND[result.status]
    if result.status is Status.FAIL and result.findings:
        worst = {finding.severity for finding in result.findings}
        outcome = outcome if Severity.ERROR in worst else Severity.WARNING.value
    lines = [where for finding in result.findings for where in finding.where]
    return CheckView(one_line(result.name), outcome, " ".join(messages), places(lines))


def _stage_table(stages: Sequence[StageView]) -> TableView | None:
    if not stages:
        return None
    rows = tuple((stage.name, stage.question, stage.outcome, stage.fact, stage.time) for stage in stages)
    return TableView(("stage", "question", "outcome", "what was seen", "time"), rows)


def _not_run(results: RunResults) -> str:
    ran = {stage.name for stage in results.stages}
    missing = [name for name in STAGE_QUESTIONS if name not in ran]
    return f"Not part of this run: {', '.join(missing)}." if missing and results.stages else ""


def _findings(results: RunResults, severity: Severity, causes: set[str]) -> tuple[CheckView, ...]:
    found: list[Finding] = [
        finding
        for result in results.results
        for finding in result.findings
        if finding.severity is severity and finding.name not in causes
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


def _unchecked(results: RunResults) -> list[Because]:
    """Probes that came to no verdict and that the diagnosis does not list already."""
    listed = {item.name for item in results.diagnosis.not_checked}
    open_states = (Status.SKIPPED, Status.INCONCLUSIVE, Status.INTERNAL)
    return [
        Because(result.name, f"{OUTCOMES[result.status]}: {result.reason or 'no reason was recorded'}")
        for result in results.results
        if result.status in open_states and result.name not in listed
    ]


def _groups(items: Sequence[Because]) -> tuple[Group, ...]:
    """Names by their reason, in order of first appearance."""
    grouped: dict[str, list[str]] = {}
    for item in items:
        grouped.setdefault(one_line(item.because), []).append(one_line(item.name))
    return tuple(Group(because, tuple(dict.fromkeys(names))) for because, names in grouped.items())


def _command(results: RunResults, command: str) -> str:
    """The command that made this run, with another first word; its flags are kept."""
    start = f"diagnose {results.command} "
    if results.command and results.reproduce.startswith(start):
        return f"diagnose {command} {results.reproduce.removeprefix(start)}"
    return f"diagnose {command} {results.target}".strip()


def _steps(results: RunResults) -> tuple[Step, ...]:
    return tuple(Step(one_line(step.text), one_line(step.command)) for step in _next(results))


def _next(results: RunResults) -> list[Step]:
    causes = results.diagnosis.causes
    steps: list[Step] = []
    if causes:
        rerun = results.reproduce or _command(results, "run")
        steps.append(Step("Make the change above, then rehearse again.", rerun))
        steps.append(Step("Put the new run beside this one.", f"diagnose compare {results.run_id} latest"))
        steps.append(Step(f"Read more about {causes[0].name}.", f"diagnose explain {causes[0].name}"))
    elif results.verdict is Verdict.FAULTY:
        failed = next((r.name for r in results.results if r.status in (Status.FAIL, Status.CRASHED)), None)
        if failed:
            steps.append(Step("Read about the first failed check.", f"diagnose explain {failed}"))
        steps.append(Step("Correct what failed, then run again.", results.reproduce or _command(results, "run")))
    elif results.verdict is Verdict.HEALTHY:
        ran = {stage.name for stage in results.stages if stage.status is Status.PASS}
        if ran and "train" not in ran:
            steps.append(Step("Nothing speaks against the full training. Start it.", _command(results, "train")))
        elif ran and "evaluate" not in ran:
            steps.append(Step("Look at what the trained model gets wrong.", _command(results, "evaluate")))
    else:
        open_states = (Status.SKIPPED, Status.INCONCLUSIVE)
        stage = next((s.name for s in results.stages if s.status in open_states and s.name in STAGE_QUESTIONS), None)
        if stage:
            steps.append(Step(f"Remove what stopped the stage {stage}, then run it.", _command(results, stage)))
        elif results.reproduce:
            steps.append(Step("Run it again, to its end.", results.reproduce))
    return steps
