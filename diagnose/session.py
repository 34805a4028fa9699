"""The parent's side of a run: which stage and which probe comes next, and how a stage ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from diagnose.config import Config
from diagnose.conversation import ENGINE, Conversation, Display
from diagnose.diagnosis import LEARNING_SYMPTOMS, diagnose, verdict
from diagnose.plan import DECISIVE, OUT_OF_TIME, QUESTIONS, Plan, barred
from diagnose.store import RunFolder
from diagnose.worker.death import Death
from probes import catalogue
from probes.api import Stage
from probes.results import Result, RunResults, Severity, StageResult, Status, Verdict, to_json
from reports.fold import fold
from reports.load import read_events

LOAD_SILENCE = 300.0  # building a pipeline may read a whole data set before it says anything
FOREIGN = "EXT000"  # the code of a probe of another package that could not be loaded
SLOW = "slow-to-learn"


class Session:
    """One run in one folder."""

    def __init__(self, config: Config, folder: RunFolder, display: Display) -> None:
        self.config = config
        self.folder = folder
        self.display = display
        self.stages: list[StageResult] = []
        self.talk = Conversation(config, folder, display)
        self._planned: Sequence[Stage] = ()
        self._load_failure = ""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.talk.close()

    @property
    def results(self) -> list[Result]:
        return self.talk.results

    @property
    def extra(self) -> dict[str, Any]:
        """What steps that are no probe told, by the kind of event."""
        return self.talk.extra

    @property
    def has_data(self) -> bool:
        return self.talk.loaded is not None and bool(self.talk.loaded["has_data"])

    # -- stages -------------------------------------------------------------------------------------------------

    def load(self, stage: Stage) -> bool:
        """Builds the pipeline in the worker. False if the user's code failed; then the results say how."""
        waiting = self.config.hang_after or LOAD_SILENCE
        self.talk.perform({"do": "load"}, "user-code-error", stage, waiting)
        if self.talk.loaded is None:
            crashed = self.results[-1] if self.results else None
            self._load_failure = (
                f"the pipeline could not be built ({crashed.name if crashed else 'no reason was given'})"
            )
        return self.talk.loaded is not None

    def estimate(self, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Seconds per training step and sizes, for the plan; empty where the first step fails (a probe will say so).
        ``about``: the experiments that are to be told, see ``diagnose.experiments.outlook``."""
        self.talk.perform({"do": "estimate", **(about or {})}, "user-code-error", Stage.SMOKE)
        found: dict[str, Any] = self.extra.pop("estimate", {})
        return found

    def run(self, plan: Plan) -> None:
        """Every stage in order, each a gate for the next. ``load`` comes first."""
        self._planned = plan.stages
        for name, reason in catalogue.broken().items():
            self.talk.keep(Result(FOREIGN, name, str(plan.stages[0]), Status.SKIPPED, reason))
        loaded = self.talk.loaded is not None
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
        if stage is not Stage.SMOKE and not self.has_data:
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
            self.talk.perform({"do": str(stage), "resume": self.config.resume}, "worker-crashed", stage)
        cut = self.extra.pop("cut-short", None)
        return None if cut is None else (Status(cut["status"]), str(cut["reason"]))

    def _quietly(self, step: dict[str, Any], stage: Stage) -> None:
        """A service that is no check: a death in it is told by the probes that meet the same cause."""
        self.talk.ask(step)
        self.talk.own_failure("worker-crashed", stage)

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
        self.talk.perform(step, names[0], Stage.SUBSET)
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
        if self.talk.remaining() == 0 and not (late or catalogue.doc(name).experiment):
            doc = catalogue.doc(name)
            self.talk.keep(Result(doc.code, name, str(stage), Status.INCONCLUSIVE, OUT_OF_TIME))
            return
        if reason := barred(name, self.results):
            self.talk.keep(Result(catalogue.doc(name).code, name, str(stage), Status.SKIPPED, reason))
            return
        self.display.probe(name)
        started = time.monotonic()
        death = self.talk.ask({"do": "probe", "name": name, "stage": str(stage)})
        if (
            death is not None
            and stage is Stage.DATA
            and self.talk.culprit(death) == ENGINE
            and Stage.SMOKE in self._planned
        ):
            # The model died while the labels were compared with its outputs: smoke's finding, not that of the data.
            self.talk.died(death, "user-code-error", Stage.SMOKE, time.monotonic() - started)
            self._probe(name, stage)
        elif death is not None:
            self.talk.died(death, name, stage, time.monotonic() - started)
        else:
            self.talk.own_failure(name, stage)

    def ask(self, step: dict[str, Any]) -> Death | None:
        """A step of a command that is no stage (``init --assertions``, ``ablate``); see ``extra`` for what it told."""
        return self.talk.ask(step)

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
