"""The parent's side of a run: asks the worker for one step after another, keeps what comes, decides what is next.

The parent never imports torch nor the user's code. Whatever happens to a worker becomes a ``crashed`` result on the
probe that was running; the next step gets a fresh worker, which is told what not to try again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from diagnose.config import Config
from diagnose.death import Death, innermost
from diagnose.diagnosis import LEARNING_SYMPTOMS, diagnose, verdict
from diagnose.errors import UsageError
from diagnose.in_process import InProcessWorker
from diagnose.plan import DECISIVE, OUT_OF_TIME, QUESTIONS, Plan, barred
from diagnose.store import TRIALS, RunFolder
from diagnose.worker import Worker
from probes import catalogue
from probes.api import Stage
from probes.results import Finding, Result, RunResults, Severity, StageResult, Status, Text, Trace, Verdict, to_json
from reports.fold import fold
from reports.load import read_events
from reports.schema import validate

HANDLER = "diagnose.runner:handler"
SILENCE = 180.0  # seconds without a sign of life, after which user code counts as hung
LOAD_SILENCE = 300.0  # building a pipeline may read a whole data set before it says anything
FOREIGN = "EXT000"  # the code of a probe of another package that could not be loaded
GRACE = 10.0  # seconds past the budget, in which a worker that answers ends by itself
DEATHS = {"hung": "hung", "out-of-memory": "killed-out-of-memory"}
SLOW = "slow-to-learn"
ENGINE = "attempt"  # the measurement that runs the model for the first time
IN_WORDS = {
    ENGINE: "the first forward and backward pass",
    "building the pipeline": "the building of the pipeline",
    "first batches": "the reading of the first batches",
    "updates": "the first updates",
}
KEPT = frozenset(
    {"environment", "pipeline", "finding", "result", "stage", "epoch", "expected", "evaluation", "remark", "trial"}
)


class Display(Protocol):
    """Where progress is shown; it must not write to stdout."""

    def stage(self, stage: str, question: str) -> None: ...

    def probe(self, name: str) -> None: ...

    def progress(self, what: str, done: int, of: int) -> None: ...

    def result(self, result: Result) -> None: ...

    def stage_done(self, stage: StageResult) -> None: ...

    def output(self, line: str) -> None: ...

    def arms(self, labels: Sequence[str], seeds: int) -> None: ...

    def trial_step(self, arm: str, seed: int, done: int, of: int, loss: float | None) -> None: ...

    def trial(self, trace: dict[str, Any]) -> None: ...

    def alert(self, name: str, since: str, text: str, fix: str) -> None: ...

    def epoch(self, row: Mapping[str, Any]) -> None: ...


class Session:
    """One run in one folder."""

    def __init__(self, config: Config, folder: RunFolder, display: Display) -> None:
        self.config = config
        self.folder = folder
        self.display = display
        self.results: list[Result] = []
        self.stages: list[StageResult] = []
        self.extra: dict[str, Any] = {}
        self._job: dict[str, Any] = {
            "config": config.to_dict(), "folder": str(folder.path), "isolate": not config.in_process, "poisoned": {},
            "trials": _trials_of(folder),
        }  # fmt: skip
        if kept := len(self._job["trials"]):
            display.output(f"going on with {kept} finished trials of the earlier part of this run")
        self._measuring: list[str] = []
        self._measured: list[str] = []
        self._planned: Sequence[Stage] = ()
        self._findings: list[Finding] = []
        self._usage: list[str] = []
        self._deadline = None if config.budget is None else time.monotonic() + config.budget
        self._silence = config.hang_after or SILENCE
        self._ids = 0
        self._budget_cut = False
        self._loaded: dict[str, Any] | None = None
        self._load_failure = ""
        self._worker: Worker | InProcessWorker = (
            InProcessWorker(self._job, HANDLER)
            if config.in_process
            else Worker(self._job, HANDLER, folder.path, display.output if config.verbose else None)
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
        with suppress(OSError):  # what is still in it belongs to trials that were cut off
            (self.folder.path / TRIALS).rmdir()

    # -- stages -------------------------------------------------------------------------------------------------

    def load(self, stage: Stage) -> bool:
        """Builds the pipeline in the worker. False if the user's code failed; then the results say how."""
        death = self._ask({"do": "load", "stage": str(stage)}, self.config.hang_after or LOAD_SILENCE)
        if death is not None:
            self._died(death, "user-code-error", stage, 0.0)
        self._own_failure("user-code-error", stage)
        if self._loaded is None:
            crashed = self.results[-1] if self.results else None
            self._load_failure = (
                f"the pipeline could not be built ({crashed.name if crashed else 'no reason was given'})"
            )
        return self._loaded is not None

    @property
    def has_data(self) -> bool:
        return self._loaded is not None and bool(self._loaded["has_data"])

    def estimate(self, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Seconds per training step and sizes, for the plan; empty where the first step fails (a probe will say so).
        ``about``: the experiments that are to be told, see ``diagnose.experiments.outlook``."""
        death = self._ask({"do": "estimate", "stage": str(Stage.SMOKE), **(about or {})}, self._silence)
        if death is not None:
            self._died(death, "user-code-error", Stage.SMOKE, 0.0)
        found: dict[str, Any] = self.extra.pop("estimate", {})
        return found

    def run(self, plan: Plan) -> None:
        """Every stage in order, each a gate for the next. ``load`` comes first."""
        self._planned = plan.stages
        for name, reason in catalogue.broken().items():
            self._keep(Result(FOREIGN, name, str(plan.stages[0]), Status.SKIPPED, reason))
        loaded = self._loaded is not None
        stopped = "" if loaded else self._load_failure or "the pipeline was not loaded"
        if loaded and Stage.TRAIN in plan.stages and self.has_data:
            self._quietly({"do": "expected", "stage": str(Stage.TRAIN)}, Stage.TRAIN)
        for stage in plan.stages:
            if stopped and not (loaded and self.config.keep_going):
                self._stage_done(StageResult(str(stage), Status.SKIPPED, stopped))
                continue
            done = self.run_stage(stage, plan)
            if done.status in {Status.FAIL, Status.CRASHED} and stage is not Stage.MNIST:
                stopped = f"stage {stage} {'failed' if done.status is Status.FAIL else 'crashed'}"

    def run_stage(self, stage: Stage, plan: Plan) -> StageResult:
        """One stage, whatever came before it. ``load`` comes first."""
        started = time.monotonic()
        self.display.stage(str(stage), QUESTIONS[stage])
        assert self._loaded is not None
        if stage is not Stage.SMOKE and not self._loaded["has_data"]:
            return self._stage_done(StageResult(str(stage), Status.SKIPPED, "no data was given"))
        cut = self._work(stage)
        for name in plan.probes[stage]:
            # The estimate may have met its crash.
            if not any(r.name == name and r.stage == stage for r in self.results):
                self._probe(name, stage)
        for name in self._experiments(stage, plan):
            if not any(result.name == name for result in self.results):
                self._probe(name, stage)
        judged = self._judged(stage, self._of(stage), cut, time.monotonic() - started)
        if stage is Stage.MNIST and len(plan.requested) > 1:
            self._soften(stage)
        return self._stage_done(judged)

    def _soften(self, stage: Stage) -> None:
        """Who does not learn our data may well learn their own: in a run the reference only points, as a note."""
        for result in [r for r in self._of(stage) if r.status is Status.FAIL]:
            self.results.remove(result)
            softened = tuple(replace(finding, severity=Severity.NOTE) for finding in result.findings)
            told = replace(result, findings=softened)
            self.folder.append({"event": "result", "result": to_json(told)})
            self.results.append(told)

    def _work(self, stage: Stage) -> tuple[Status, str] | None:
        """What a stage does besides its probes. Returns how it was cut short, if it was."""
        if stage is Stage.DATA or (stage is Stage.TRAIN and Stage.DATA not in self._planned):
            self._quietly({"do": "pictures", "stage": str(stage)}, stage)
        if stage in {Stage.SUBSET, Stage.TRAIN, Stage.EVALUATE}:
            step = {"do": str(stage), "stage": str(stage), "resume": self.config.resume}
            started = time.monotonic()
            death = self._ask(step, self._silence)
            if death is not None:
                self._died(death, "worker-crashed", stage, time.monotonic() - started)
            self._own_failure("worker-crashed", stage)
        cut = self.extra.pop("cut-short", None)
        return None if cut is None else (Status(cut["status"]), str(cut["reason"]))

    def _quietly(self, step: dict[str, Any], stage: Stage) -> None:
        """A service that is no check: a death in it is told by the probes that meet the same cause."""
        self._ask(step, self._silence)
        self._own_failure("worker-crashed", stage)
        self._measuring.clear()

    def _of(self, stage: Stage) -> list[Result]:
        return [result for result in self.results if result.stage == stage]

    def _experiments(self, stage: Stage, plan: Plan) -> Sequence[str]:
        """All of them where learning failed; where it did not, those of settings that may hold it back."""
        if self._needs_experiments(stage):
            return plan.experiments
        clean = stage is Stage.SUBSET and not any(
            result.status is not Status.PASS for result in self._of(stage) if result.name == DECISIVE[stage]
        )
        return [name for name in plan.experiments if clean and catalogue.doc(name).hampers]

    def _needs_experiments(self, stage: Stage) -> bool:
        if stage not in {Stage.OVERFIT, Stage.SUBSET}:
            return False
        found = [f for r in self._of(stage) for f in r.findings]
        errors = [f for f in found if f.severity is Severity.ERROR]
        slow = any(f.name == SLOW for f in found)  # suspiciously slow is reason enough to look
        return (bool(errors) or slow) and all(f.name in LEARNING_SYMPTOMS for f in errors)

    def _judged(
        self, stage: Stage, results: Sequence[Result], cut: tuple[Status, str] | None, seconds: float,
        *, decided: bool = True,
    ) -> StageResult:  # fmt: skip
        """The outcome of a stage, and in one line why. ``decided``: the probe that answers its question was to run."""
        errors = [r for r in results if any(f.severity is Severity.ERROR for f in r.findings)]
        crashed = [r for r in results if r.status is Status.CRASHED]
        internal = [r for r in results if r.status is Status.INTERNAL]
        decisive = next((r for r in results if r.name == DECISIVE.get(stage)), None)
        if crashed:
            return StageResult(str(stage), Status.CRASHED, crashed[0].reason, seconds)
        if errors:
            return StageResult(str(stage), Status.FAIL, errors[0].reason, seconds)
        if cut is not None:
            return StageResult(str(stage), cut[0], cut[1], seconds)
        if internal:
            return StageResult(str(stage), Status.INCONCLUSIVE, f"{internal[0].name} failed inside the tool", seconds)
        if decisive is None and stage in DECISIVE and decided:
            return StageResult(str(stage), Status.SKIPPED, f"{DECISIVE[stage]} was deselected", seconds)
        if decisive is not None and decisive.status in {Status.SKIPPED, Status.INCONCLUSIVE}:
            return StageResult(str(stage), decisive.status, decisive.reason, seconds)
        late = next((r for r in results if r.status is Status.INCONCLUSIVE and "time budget" in r.reason), None)
        if late is not None:
            return StageResult(str(stage), Status.INCONCLUSIVE, late.reason, seconds)
        told = decisive.reason if decisive else next((f.message for r in results[:1] for f in r.findings), "")
        return StageResult(str(stage), Status.PASS, "" if decided and decisive is None else told, seconds)

    def _stage_done(self, stage: StageResult) -> StageResult:
        self.stages.append(stage)
        self.folder.append({"event": "stage", "stage": to_json(stage)})
        self.display.stage_done(stage)
        return stage

    def experiment(
        self, question: str, step: dict[str, Any], names: Sequence[str], arms: Sequence[str] = (), seeds: int = 0
    ) -> None:
        """An experiment that was asked for: ``step`` makes the worker measure; then the probes ``names`` judge it, the
        first of them whether the unchanged pipeline learns. ``arms`` and ``seeds``: what it will run, where known."""
        self.display.stage(str(step["do"]), question)
        self.display.arms(arms, seeds)
        started = time.monotonic()
        death = self._ask({**step, "stage": str(Stage.SUBSET)}, self._silence)
        if death is not None:
            self._died(death, names[0], Stage.SUBSET, time.monotonic() - started)
        self._own_failure(names[0], Stage.SUBSET)
        cut = self.extra.pop("cut-short", None)
        if cut is None or Status(cut["status"]) is Status.INCONCLUSIVE:  # what was decided before is judged
            for name in names:
                if not any(result.name == name for result in self.results):
                    self._probe(name, Stage.SUBSET, late=True)
        short = None if cut is None else (Status(cut["status"]), str(cut["reason"]))
        decided = DECISIVE[Stage.SUBSET] in names
        judged = self._judged(Stage.SUBSET, self._of(Stage.SUBSET), short, time.monotonic() - started, decided=decided)
        self._stage_done(judged)

    # -- probes and steps ---------------------------------------------------------------------------------------

    def _probe(self, name: str, stage: Stage, *, late: bool = False) -> None:
        """``late``: though the time is up, for what it judges has been measured."""
        if self._remaining() == 0 and not (late or catalogue.doc(name).experiment):
            doc = catalogue.doc(name)
            self._keep(Result(doc.code, name, str(stage), Status.INCONCLUSIVE, OUT_OF_TIME))
            return
        if reason := barred(name, self.results):
            self._keep(Result(catalogue.doc(name).code, name, str(stage), Status.SKIPPED, reason))
            return
        self.display.probe(name)
        started = time.monotonic()
        death = self._ask({"do": "probe", "name": name, "stage": str(stage)}, self._silence)
        if (
            death is not None
            and stage is Stage.DATA
            and self._culprit(death) == ENGINE
            and Stage.SMOKE in self._planned
        ):
            # The model died while the labels were compared with its outputs: smoke's finding, not that of the data.
            self._died(death, "user-code-error", Stage.SMOKE, time.monotonic() - started)
            self._probe(name, stage)
        elif death is not None:
            self._died(death, name, stage, time.monotonic() - started)
        else:
            self._own_failure(name, stage)

    def _own_failure(self, name: str, stage: Stage) -> None:
        """A step that failed inside the tool is told as such, under the probe that stands for it."""
        if (trouble := self.extra.pop("internal", None)) is not None:
            doc = catalogue.doc(name)
            self._keep(Result(doc.code, name, str(stage), Status.INTERNAL, trouble))

    def ask(self, step: dict[str, Any]) -> Death | None:
        """A step of a command that is no stage (``init --assertions``, ``ablate``); see ``extra`` for what it told."""
        return self._ask(step, self._silence)

    def _remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _ask(self, step: dict[str, Any], silence: float) -> Death | None:
        self._ids += 1
        self._findings = []
        self._measuring, self._measured = [], []
        remaining = self._remaining()
        timeout = silence if remaining is None else min(silence, remaining + GRACE)
        death = self._worker.run({**step, "id": self._ids, "seconds": remaining}, timeout, self._heard)
        self._budget_cut = death is not None and death.kind == "hung" and timeout < silence
        if self._usage:
            raise UsageError(*self._usage)
        return death

    def _heard(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind in KEPT:
            self.folder.append(event)
        if kind in {"progress", "alert", "trial", "trial-step"}:
            self._show(event)
        elif kind == "measuring":
            self._heard_of_measurement(event["key"], begins=event["begins"])
        elif kind == "finding":
            self._findings.append(validate(Finding, event["finding"]))
        elif kind == "result":
            self._take(validate(Result, event["result"]))
        elif kind == "usage-error":
            self._usage = list(event["problems"])
        elif kind == "loaded":
            self._loaded = event
        elif kind in {"cut-short", "assertions", "estimate", "lists", "met"}:
            self.extra[kind] = event
        elif kind == "epoch":
            self.extra.setdefault("epochs", []).append(event["row"])
            self.display.epoch(event["row"])
        elif kind == "step-failed":
            self.extra["internal"] = f"{event.get('type')}: {event.get('message')}\n{event.get('traceback', '')}"

    def _heard_of_measurement(self, key: str, *, begins: bool) -> None:
        if begins:
            self._measuring.append(key)
        elif key in self._measuring:
            self._measuring.remove(key)
            self._measured.append(key)

    def _show(self, event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            self.display.progress(event["what"], event["done"], event["of"])
        elif event["event"] == "trial-step":
            self.display.trial_step(event["arm"], event["seed"], event["done"], event["of"], event["loss"])
        elif event["event"] == "trial":
            self._job["trials"][event["of"]] = event["trace"]
            self.display.trial(event["trace"])
        else:
            self.display.alert(event["name"], event["since"], event["text"], event["fix"])

    def _keep(self, result: Result) -> None:
        self.folder.append({"event": "result", "result": to_json(result)})
        self._take(result)

    def _take(self, result: Result) -> None:
        self.results.append(result)
        self.display.result(result)

    def _died(self, death: Death, name: str, stage: Stage, seconds: float) -> None:
        """The death of a worker, as a crashed result of the probe that was running, with what it had found before."""
        if self._budget_cut:  # it may have been slow, not hung: a budget never makes a finding
            where = "".join(f", at {w.file}:{w.line}" for w in innermost(death.frames))
            probe, reason = catalogue.doc(name), f"the time budget ended while this was running{where}"
            self._keep(
                Result(probe.code, name, str(stage), Status.INCONCLUSIVE, reason, tuple(self._findings), seconds)
            )
            return
        cause = DEATHS.get(death.kind, "worker-crashed")
        doc = catalogue.doc(cause)
        culprit = self._culprit(death)
        during = f" during {IN_WORDS.get(culprit, f'the measurement {culprit!r}')}" if culprit else ""
        finding = doc.finding(
            "{summary}{during}",
            summary=death.summary.rstrip("."),
            during=during,
            exit_code=death.exit_code,
            signal=death.signal,
            where=innermost(death.frames),
            evidence=[
                Trace(death.signal or death.kind, death.summary, death.frames),
                *([Text("the last lines it printed", death.log_tail[-2000:])] if death.log_tail.strip() else []),
            ],
        )
        if culprit:
            self._job["poisoned"][culprit] = finding.message
        found = (*self._findings, finding)
        probe = catalogue.doc(name)
        self._keep(Result(probe.code, name, str(stage), Status.CRASHED, finding.message, found, seconds))

    def _culprit(self, death: Death) -> str:
        """The measurement that a worker died of; lost descriptors are noticed only at the end of the step."""
        keys = self._measuring or (self._measured if death.kind == "descriptors" else [])
        if not self._measuring and ENGINE in keys:  # several were taken; all that follow go through the first
            return ENGINE
        return keys[-1] if keys else ""

    # -- the end ------------------------------------------------------------------------------------------------

    def finish(
        self, requested: Sequence[str], *, interrupted: bool = False, advisory: Sequence[str] = ()
    ) -> RunResults:
        """Diagnosis and verdict from all results; writes results.json and returns it."""
        found = diagnose(self.results, self.stages)
        outcome = Verdict.INTERRUPTED if interrupted else verdict(
            found, self.results, self.stages, requested, advisory=advisory
        )  # fmt: skip
        self.folder.append({"event": "diagnosis", "diagnosis": to_json(found)})
        self.folder.append({"event": "verdict", "verdict": str(outcome)})
        results = fold(read_events(self.folder.path / "events.jsonl"))
        self.folder.write_results(results)
        return results


def _trials_of(folder: RunFolder) -> dict[str, Any]:
    """The finished trials of an earlier part of this run."""
    events = [] if folder.is_new else read_events(folder.path / "events.jsonl")
    return {event["of"]: event["trace"] for event in events if event.get("event") == "trial"}
