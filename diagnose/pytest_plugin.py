"""The fixture ``diagnose`` for pytest: ``def test_pipeline(diagnose): diagnose.smoke("models:get_model")``.

A target given by its name runs as on the command line, in processes of its own; a pipeline or a function is checked
in the test's process. A test that is not healthy fails with the names, figures and fixes; the report is a section of
the test's report, and its path and verdict are properties in JUnit files.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

INTERRUPTED = 130
TOOL_FAILED = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("diagnose", "rehearsals of PyTorch trainings")
    group.addoption("--diagnose-fail-on", choices=("error", "warning"), default=None, help="error or warning (error).")
    group.addoption("--diagnose-budget", metavar="TIME", default=None, help="Time for each rehearsal: 90s, 2m.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "diagnose(fail_on='error', budget=None): how the fixture diagnose judges.")


@pytest.fixture
def diagnose(request: pytest.FixtureRequest, tmp_path: Path) -> Rehearse:
    """Rehearse a pipeline: ``diagnose.smoke(target)``, ``.data``, ``.overfit``, ``.gate``; ``.watch("train.py")``."""
    marker = request.node.get_closest_marker("diagnose")
    marked: Mapping[str, Any] = marker.kwargs if marker else {}
    options = {name: request.config.getoption(f"diagnose_{name}") or marked.get(name) for name in ("fail_on", "budget")}
    return Rehearse(request, tmp_path, options)


class Rehearse:
    """What the fixture gives. Each method returns the results as in results.json, or fails the test."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path, options: Mapping[str, Any]) -> None:
        self._request, self._folder, self._options = request, folder, options
        self._count = 0

    def data(self, target: Any, **settings: Any) -> Mapping[str, Any]:
        return self._stage("data", target, settings)

    def smoke(self, target: Any, **settings: Any) -> Mapping[str, Any]:
        """``settings``: options of the command line (``data="digits"``, ``set=["model.width=8"]``)."""
        return self._stage("smoke", target, settings)

    def overfit(self, target: Any, **settings: Any) -> Mapping[str, Any]:
        return self._stage("overfit", target, settings)

    def gate(self, target: str, **settings: Any) -> Mapping[str, Any]:
        return self._command("gate", [target], {**settings, **self._given("budget")})

    def watch(self, script: str, *arguments: str, **settings: Any) -> Mapping[str, Any]:
        """Run a script under ``diagnose watch``; ``settings``: ``steps=20`` and other options of that command."""
        return self._command("watch", [script, *arguments], settings)

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: self._options[name] for name in names if self._options[name]}

    def _stage(self, stage: str, target: Any, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        if isinstance(target, str):
            return self._command(stage, [target], {**settings, **self._given("budget")})
        from diagnose.checking import check
        from diagnose.plan import DEPENDS
        from probes.api import Stage
        from probes.results import to_json

        report = check(target, stages=[*DEPENDS[Stage(stage)], stage], **settings)
        results: Mapping[str, Any] = {
            "verdict": str(report.verdict), "diagnosis": to_json(report.diagnosis), "results": to_json(report.results),
            "stages": to_json(report.stages),
        }  # fmt: skip
        self._request.node.add_report_section("call", "diagnose", repr(report))
        return self._judged(results, stage)

    def _command(self, command: str, words: list[str], settings: Mapping[str, Any]) -> Mapping[str, Any]:
        self._count += 1
        out = self._folder / f"diagnose-{self._count}"
        given = {**settings, **self._given("fail_on"), "out": str(out)}
        line = [sys.executable, "-m", "diagnose", command, *_flags(given), *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=self._request.config.rootpath)
        path = out / "results.json"
        if not path.is_file() or done.returncode in {TOOL_FAILED, INTERRUPTED}:
            pytest.fail(f"diagnose {command} could not do its work:\n{done.stderr.strip()}", pytrace=False)
        results: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        report = out / "report.md"
        self._request.node.add_report_section("call", "diagnose", report.read_text(encoding="utf-8"))
        self._request.node.user_properties += [("diagnose", results["verdict"]), ("diagnose_report", str(report))]
        return self._judged(results, command)

    def _judged(self, results: Mapping[str, Any], what: str) -> Mapping[str, Any]:
        """Fails the test for a fault, and for what was asked for and could not be checked."""
        counting = {"error", "warning"} if self._options["fail_on"] == "warning" else {"error"}
        findings = [f for r in results["results"] for f in r["findings"] if f["severity"] in counting]
        if results["verdict"] == "faulty" or findings:
            pytest.fail("\n".join(_lines(results, findings, what)), pytrace=False)
        if results["verdict"] != "healthy":
            reasons = [f"  {s['name']}: {s['reason']}" for s in results["stages"] if s["status"] != "pass"]
            pytest.fail("\n".join([f"diagnose {what}: {results['verdict']}", *reasons]), pytrace=False)
        return results


def _flags(settings: Mapping[str, Any]) -> list[str]:
    """Keyword arguments as options of the command line."""
    flags: list[str] = []
    for name, value in settings.items():
        flag = "-m" if name == "module" else f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, (list, tuple)) else [value]:
            flags += [flag] if each is True else [] if each in (None, False) else [flag, str(each)]
    return flags


def _lines(results: Mapping[str, Any], findings: list[Any], what: str) -> list[str]:
    place: Callable[[Any], str] = lambda w: f"{w['file']}:{w['line']}  {w['text']}"  # noqa: E731
    lines = [f"diagnose {what}: {results['verdict']}"]
    for finding in findings:
        lines += [f"{finding['severity']}: {finding['name']}: {finding['message']}"]
        lines += [f"    {place(where)}" for where in finding["where"]]
    for cause in results["diagnosis"]["causes"][:1]:
        lines += [f"fix: {cause['fix']['text']}"]
        for mark, text in (("-", cause["fix"]["before"]), ("+", cause["fix"]["after"])):
            lines += [f"    {mark} {line}" for line in text.splitlines()]
    return lines
