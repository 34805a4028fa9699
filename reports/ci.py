"""What machines read: JUnit XML, GitHub annotations, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from probes.results import Finding, Grade, Result, RunResults, Severity, Status, Verdict, to_json
from reports.causes import accused, place
from reports.headline import headline
from reports.numbers import clean, one_line, plural
from reports.words import OUTCOMES, VERDICTS

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def render_json(results: RunResults) -> str:
    """``results.json`` as it is saved: no NaN tokens, keys in the order of the schema."""
    return json.dumps(to_json(results), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def render_junit(results: RunResults) -> str:
    """JUnit XML: a suite for each stage, a case for each probe; what came to no verdict is an error, never a pass.

    A finding below ``error`` does not fail its case; it stands in the case's ``system-out``.
    """
    from junitparser import JUnitXml, TestSuite

    xml: Any = JUnitXml(name="torch-diagnose")
    stages = list(dict.fromkeys([*(s.name for s in results.stages), *(r.stage for r in results.results)]))
    for name in stages:
        suite = TestSuite(one_line(name))
        for result in results.results:
            if result.stage == name:
                suite.add_testcase(_case(result))
        for stage in results.stages:
            if stage.name == name:
                rest = max(0.0, stage.seconds - sum(r.seconds for r in results.results if r.stage == name))
                suite.add_testcase(_case(Result("", f"stage {name}", name, stage.status, stage.reason, (), rest)))
        xml.add_testsuite(suite)
    xml.update_statistics()
    text: bytes = xml.tostring()
    return text.decode("utf-8")


def _case(result: Result) -> Any:
    from junitparser import Error, Failure, Skipped, TestCase

    case: Any = TestCase(
        one_line(result.name), classname=one_line(f"diagnose.{result.stage}"), time=result.seconds or 0.0
    )
    errors = [finding for finding in result.findings if finding.severity is Severity.ERROR]
    body = "\n".join(_with_place(finding) for finding in result.findings)
    message = one_line(errors[0].message if errors else result.reason) or OUTCOMES[result.status]
    if result.status is Status.SKIPPED:
        case.result = [Skipped(message)]
    elif result.status is Status.FAIL and (errors or not result.findings):
        case.result = [_entry(Failure(message, errors[0].name if errors else "fail"), body)]
    elif result.status in (Status.CRASHED, Status.INTERNAL, Status.INCONCLUSIVE):
        case.result = [_entry(Error(message, result.status.value), body)]
    elif body:
        case.system_out = body
    return case


def _entry(entry: Any, body: str) -> Any:
    entry.text = body
    return entry


def _with_place(finding: Finding) -> str:
    at = "".join(f"\n  {place(where)}  {one_line(where.text)}".rstrip() for where in finding.where)
    return f"{finding.severity.value}: {one_line(finding.name)}: {clean(finding.message)}{at}"


def render_github(results: RunResults) -> str:
    """GitHub workflow commands: one annotation for each cause, finding and undecided check, then one summary line.

    What follows from a cause is not annotated again.
    """
    lines = list(_annotations(results))
    level = {Verdict.FAULTY: "error", Verdict.HEALTHY: "notice"}.get(results.verdict, "warning")
    lines.append(_command(level, f"{VERDICTS[results.verdict]}. {headline(results)}", title="torch-diagnose"))
    return "\n".join(lines) + "\n"


def _annotations(results: RunResults) -> Iterator[str]:
    causes = accused(results).diagnosis.causes
    told = {name for cause in causes for name in (cause.name, *cause.consequences)}
    for rank, cause in enumerate(causes):
        where = cause.where[0] if cause.where else None
        counts = rank == 0 or cause.grade is not Grade.SUSPECTED
        level = "error" if counts and results.verdict is Verdict.FAULTY else "warning"
        fix = f" Fix: {cause.fix.text}" if cause.fix.text else ""
        more = f" ({plural(len(cause.where) - 1, 'more place')})" if len(cause.where) > 1 else ""
        message = f"{cause.summary}{more}{fix}"
        yield _at(level, f"{cause.name} ({cause.grade.value})", message, where.file if where else "", where)
    for result in results.results:
        for finding in result.findings:
            if finding.name not in told:
                first = finding.where[0] if finding.where else None
                level = _LEVELS[finding.severity]
                yield _at(level, finding.name, finding.message, first.file if first else "", first)
        if result.status is Status.FAIL and not result.findings:
            yield _command("error", result.reason or OUTCOMES[result.status], title=result.name)
        elif result.status in (Status.CRASHED, Status.INTERNAL, Status.INCONCLUSIVE) and not result.findings:
            level = "error" if result.status is Status.CRASHED else "warning"
            yield _command(level, f"{OUTCOMES[result.status]}: {result.reason}", title=result.name)


def _at(level: str, title: str, message: str, file: str, where: object) -> str:
    line = getattr(where, "line", 0)
    return _command(level, message, file=file, line=str(line) if file and line > 0 else "", title=title)


def _command(level: str, message: str, **properties: str) -> str:
    given = ",".join(f"{key}={_property(value)}" for key, value in properties.items() if value)
    return f"::{level} {given}::{_data(clean(message).strip())}" if given else f"::{level}::{_data(clean(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(one_line(text)).replace(":", "%3A").replace(",", "%2C")
