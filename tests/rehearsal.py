"""A whole rehearsal in this process, without workers and files: stages in order, experiments, diagnosis.

For tests of the answer; what isolates and saves is tested through the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from probing import context

from diagnose.config import Config
from diagnose.diagnosis import LEARNING_SYMPTOMS, diagnose, verdict
from diagnose.judging import run_probe
from diagnose.plan import DECISIVE, barred, make_plan
from probes import catalogue
from probes.api import Stage
from probes.results import Diagnosis, Result, Severity, StageResult, Status, Verdict

REHEARSED = (Stage.DATA, Stage.SMOKE, Stage.MNIST, Stage.OVERFIT, Stage.SUBSET)


@dataclass(frozen=True)
class Rehearsal:
    """What a run until ``subset`` came to."""

    diagnosis: Diagnosis
    verdict: Verdict
    results: Sequence[Result]
    stages: Sequence[StageResult]

    @property
    def answer(self) -> str:
        """The name of the first cause, or an empty string."""
        return self.diagnosis.causes[0].name if self.diagnosis.causes else ""

    @property
    def alarms(self) -> list[str]:
        """Names of all findings that are no notes."""
        return [f.name for r in self.results for f in r.findings if f.severity is not Severity.NOTE]


def rehearse(build: Callable[[], Any], seed: int = 0, stages: Sequence[Stage] = REHEARSED, **config: Any) -> Rehearsal:
    ctx = context(build, seed, **config)
    plan = make_plan("run", Config(target="tests:build"))
    results: list[Result] = []
    outcomes: list[StageResult] = []
    stopped = ""
    for stage in stages:
        if stopped:
            outcomes.append(StageResult(str(stage), Status.SKIPPED, stopped))
            continue
        found: list[Result] = []
        for name in plan.probes[stage]:
            if reason := barred(name, results + found):
                found.append(Result(catalogue.doc(name).code, name, str(stage), Status.SKIPPED, reason))
            else:
                found.append(run_probe(name, ctx, stage=str(stage)))
        errors = [f for r in found for f in r.findings if f.severity is Severity.ERROR]
        learning = stage in {Stage.OVERFIT, Stage.SUBSET}
        slow = any(f.name == "slow-to-learn" for r in found for f in r.findings)
        failed = (errors or slow) and all(f.name in LEARNING_SYMPTOMS for f in errors)
        if learning and (failed or (stage is Stage.SUBSET and not errors)):
            asked = {result.name for result in results + found}
            wanted = [name for name in plan.experiments if failed or catalogue.doc(name).hampers]
            found += [run_probe(name, ctx, stage=str(stage)) for name in wanted if name not in asked]
            errors = [f for r in found for f in r.findings if f.severity is Severity.ERROR]
        if stage is Stage.MNIST:  # as in diagnose.session: in a run the reference data only point
            found = [replace(r, findings=tuple(replace(f, severity=Severity.NOTE) for f in r.findings)) for r in found]
        results += found
        decisive = next((r for r in found if r.name == DECISIVE.get(stage)), None)
        if errors:
            outcomes.append(StageResult(str(stage), Status.FAIL, errors[0].message))
            stopped = "" if stage is Stage.MNIST else f"stage {stage} failed"
        elif decisive is not None and decisive.status is not Status.PASS:
            outcomes.append(StageResult(str(stage), decisive.status, decisive.reason))
        else:
            outcomes.append(StageResult(str(stage), Status.PASS))
    answer = diagnose(results, outcomes)
    judged = verdict(answer, results, outcomes, [str(stage) for stage in stages], advisory=[Stage.MNIST])
    return Rehearsal(answer, judged, results, outcomes)
