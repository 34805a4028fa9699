"""JUnit XML, GitHub annotations and JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import samples
from junitparser import Error, Failure, JUnitXml, Skipped

from probes.results import Finding, Result, RunResults, Severity, Status, Where
from reports.ci import render_github, render_json, render_junit

ALL = [
    samples.stuck(),
    samples.healthy(),
    samples.inconclusive(),
    samples.crashed(),
    samples.hostile(),
    samples.empty(),
]


@pytest.mark.parametrize("results", ALL)
def test_junit_parses_back(results: RunResults) -> None:
    xml = JUnitXml.fromstring(render_junit(results).encode())
    cases = [case for suite in xml for case in suite]
    assert len(cases) == len(results.results) + len(results.stages)
    assert xml.tests == len(cases)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Status.FAIL, Failure),
        (Status.SKIPPED, Skipped),
        (Status.INCONCLUSIVE, Error),
        (Status.CRASHED, Error),
        (Status.INTERNAL, Error),
    ],
)
def test_only_a_pass_is_a_pass(status: Status, kind: type) -> None:
    results = replace(samples.empty(), results=(Result("X", "name", "smoke", status, "because"),))
    (case,) = next(iter(JUnitXml.fromstring(render_junit(results).encode())))
    (outcome,) = case.result
    assert isinstance(outcome, kind)
    assert outcome.message == "because"


def test_a_warning_does_not_fail_its_case() -> None:
    xml = JUnitXml.fromstring(render_junit(samples.stuck()).encode())
    case = next(case for suite in xml for case in suite if case.name == "slow-loader")
    assert case.is_passed
    assert "single-threaded-loader" in case.system_out


def test_github_escapes_message_and_properties() -> None:
    where = (Where("a,b:c%.py", 7),)
    finding = Finding("n", Severity.WARNING, "100 %\r\n::error::fake\nend", where=where)
    text = render_github(replace(samples.empty(), results=(Result("X", "n", "smoke", Status.FAIL, "", (finding,)),)))
    first, last = text.splitlines()
    assert first == "::warning file=a%2Cb%3Ac%25.py,line=7,title=n::100 %25%0A::error::fake%0Aend"
    assert last.startswith("::warning title=torch-diagnose::Inconclusive.")


@pytest.mark.parametrize("results", ALL)
def test_github_lines_are_commands_and_one_summary_ends_them(results: RunResults) -> None:
    lines = render_github(results).splitlines()
    assert all(re.match(r"::(error|warning|notice)( [^\n]+?)?::", line) for line in lines)
    assert sum("title=torch-diagnose::" in line for line in lines) == 1
    assert "title=torch-diagnose::" in lines[-1]


def test_github_tells_a_consequence_only_with_its_cause() -> None:
    text = render_github(samples.stuck())
    assert text.count("::error file=models.py,line=41") == 1
    assert "title=stuck-at-chance" not in text


@pytest.mark.parametrize("results", [*ALL, samples.not_finite()])
def test_json_has_no_nan_token(results: RunResults) -> None:
    data = json.loads(render_json(results), parse_constant=pytest.fail)
    assert data["schema_version"] == 1
