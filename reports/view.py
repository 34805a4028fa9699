"""Results made ready for reading: everything formatted and chosen, so that templates hold only loops and ifs."""

from __future__ import annotations

import re

from probes.results import RunResults, Severity, Verdict
from reports.appendix import appendix
from reports.causes import accused, cause_view, place
from reports.checks import finding_views, not_run, stage_table, stage_views
from reports.curves import progress_table
from reports.evaluation import evaluation_tables
from reports.headline import headline, measured, symptom_table, title
from reports.next_steps import next_steps
from reports.numbers import cleaned, duration, one_line
from reports.open_questions import not_checked, ruled_out
from reports.shapes import Pair, View
from reports.words import VERDICTS, doc

__all__ = ["build_view"]

_REPEATED = re.compile(r"^No (?:fault|error) was found in [^.]*\.\s*")


def build_view(results: RunResults) -> View:
    """Everything that a report says about a run, as frozen plain text."""
    results = accused(cleaned(results))
    diagnosis = results.diagnosis
    causes = tuple(cause_view(cause) for cause in diagnosis.causes)
    stages = stage_views(results)
    told = {n for cause in diagnosis.causes for n in (cause.name, *cause.consequences)} | set(diagnosis.symptoms)
    return View(
        title=title(results),
        origin=_origin(results),
        verdict="Measured" if measured(results) else VERDICTS[results.verdict],
        headline=headline(results),
        summary=_summary(results),
        symptoms=tuple(
            Pair(one_line(name), found.summary if (found := doc(name)) else "") for name in diagnosis.symptoms
        ),
        figures=symptom_table(results),
        stages=stages,
        stage_table=stage_table(stages),
        not_run=not_run(results),
        cause=causes[0] if causes else None,
        other_causes=causes[1:],
        progress=progress_table(results),
        evaluation=evaluation_tables(results),
        steps=next_steps(results),
        errors=finding_views(results, Severity.ERROR, told),
        warnings=finding_views(results, Severity.WARNING, told),
        notes=finding_views(results, Severity.NOTE, told),
        ruled_out=ruled_out(results),
        not_checked=not_checked(results),
        appendix=appendix(results),
    )


def _summary(results: RunResults) -> str:
    """The diagnosis in a sentence, without what stands in the headline already."""
    text = one_line(results.diagnosis.summary)
    for cause in results.diagnosis.causes[:1]:
        for where in cause.where[:1]:
            text = text.replace(f" ({place(where)})", "")
    if measured(results):
        return ""
    return _REPEATED.sub("", text) if results.verdict is Verdict.HEALTHY else text


def _origin(results: RunResults) -> str:
    total = sum(stage.seconds for stage in results.stages if stage.seconds == stage.seconds)  # nan is left out
    took = f"took {duration(total)}" if total else ""
    parts = [f"run {results.run_id}", results.created, f"torch-diagnose {results.tool_version}", took]
    return one_line(" · ".join(part for part in parts if part))
