"""The worker's side of a session: loads the user's pipeline and runs the steps that the parent asks for.

Every module of ours that a step may need is imported here, before the user's paths join: afterwards ``probes`` and
``reports`` may mean the user's own.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diagnose.config import Config
from diagnose.context import MeasuringContext
from diagnose.environment import describe_environment
from diagnose.errors import UsageError
from diagnose.experiments import outlook
from diagnose.experiments.side_by_side import processes
from diagnose.facts import guess_facts, pipeline_facts, short_history
from diagnose.judging import crash_finding, run_probe
from diagnose.measure.assertions import assertions
from diagnose.store import TRIALS
from diagnose.target.source import Source, load_source
from diagnose.training import evaluate as evaluation
from diagnose.training import loop, pictures
from diagnose.training.journal import Journal, arms_on_board
from diagnose.training.meeting import Meeting, RankLost
from diagnose.user_code import UserCodeError
from diagnose.worker import isolation
from probes import catalogue
from probes.api import Inconclusive, Skip
from probes.results import Finding, Result, Severity, Status, to_json

Emit = Callable[[dict[str, Any]], None]

BUILDING = "building the pipeline"

for _name in catalogue.names():
    catalogue.module(_name)


def handler(job: Mapping[str, Any], emit: Emit) -> Callable[[dict[str, Any]], None]:
    """``job``: {"config": ..., "folder": ..., "isolate": bool, "poisoned": {measurement: reason},
    "trials": {key: finished trial}}."""
    if job.get("isolate", True):
        isolation.hide_own_packages()
    return Runner(job, emit).run


class Runner:
    """Holds the pipeline and its measurements from step to step."""

    def __init__(self, job: Mapping[str, Any], emit: Emit) -> None:
        self.config = Config.from_dict(job["config"])
        self.folder = Path(job["folder"])
        self.emit = emit
        self.poisoned: Mapping[str, str] = job.get("poisoned", {})
        self.trials: Mapping[str, Mapping[str, Any]] = job.get("trials", {})
        self.isolated = bool(job.get("isolate", True))
        self._ctx: MeasuringContext | None = None

    def run(self, step: dict[str, Any]) -> None:
        """One step. A usage error is an event of its own; the user's failures are results."""
        do: Callable[[dict[str, Any]], None] = getattr(self, f"_do_{step['do']}")
        try:
            do(step)
        except UsageError as error:
            self.emit({"event": "usage-error", "problems": list(error.problems)})

    def context(self, step: Mapping[str, Any]) -> MeasuringContext:
        if self._ctx is None:
            self._measuring(BUILDING, True)
            device = choose_device(self.config.device)
            ctx = MeasuringContext(
                self._source(), seed=self.config.seed, device=device, fraction=self.config.fraction,
                reference=self.config.reference, download=self.config.download, full_scan=self.config.full_scan,
                progress=self._progress,
                measuring=self._measuring, poisoned=self.poisoned,
                trials=self.trials, keep=self._keep_trial,
                processes=processes(torch.device(device)) if self.isolated else 1,
            )  # fmt: skip
            ctx.kept.folder, ctx.kept.on_step = self.folder / TRIALS, self._trial_step
            self._ctx = ctx
            self._measuring(BUILDING, False)
        budget = step.get("seconds")
        self._ctx.deadline = None if budget is None else time.monotonic() + float(budget)
        return self._ctx

    def _source(self) -> Source:
        return load_source(self.config)

    def _keep_trial(self, key: str, trace: Mapping[str, Any]) -> None:
        self.emit({"event": "trial", "of": key, "trace": trace})

    def _measuring(self, key: str, begins: bool) -> None:
        self.emit({"event": "measuring", "key": key, "begins": begins})

    def _progress(self, what: str, done: int, of: int) -> None:
        self.emit({"event": "progress", "what": what, "done": done, "of": of})

    def _trial_step(self, arm: str, seed: int, done: int, of: int, loss: float) -> None:
        self.emit({
            "event": "trial-step", "arm": arm, "seed": seed, "done": done, "of": of,
            "loss": loss if math.isfinite(loss) else None,
        })  # fmt: skip

    # -- steps --------------------------------------------------------------------------------------------------

    def _do_load(self, step: dict[str, Any]) -> None:
        """Builds the pipeline and tells its facts; an exception of the user's code is the result of this step."""
        self.emit({"event": "environment", "environment": describe_environment(choose_device(self.config.device))})
        started = time.monotonic()
        try:
            ctx = self.context(step)
            facts = pipeline_facts(ctx)
        except UserCodeError as error:
            finding = crash_finding(error)
            doc = catalogue.doc(finding.name)
            result = Result(
                doc.code,
                doc.name,
                step["stage"],
                Status.CRASHED,
                finding.message,
                (finding,),
                time.monotonic() - started,
            )
            self.emit({"event": "result", "result": to_json(result)})
            self.emit({"event": "load-failed"})
            return
        self.emit({"event": "pipeline", "pipeline": to_json(facts)})
        self.emit({"event": "loaded", "has_data": ctx.source.has_data, "splits": list(ctx.known.splits)})

    def _do_probe(self, step: dict[str, Any]) -> None:
        name, stage = step["name"], step["stage"]
        ctx = self.context(step)
        result = run_probe(
            name,
            ctx,
            lambda finding: self.emit({"event": "finding", "probe": name, "stage": stage, "finding": to_json(finding)}),
            stage,
        )
        self.emit({"event": "result", "result": to_json(result)})

    def _do_ablate(self, step: dict[str, Any]) -> None:
        """``diagnose ablate``: a comparison on purpose, every arm over every seed."""
        ctx = self.context(step)
        self._guarded(step, lambda: arms_on_board(self.folder, ctx.trainings.comparison(step["knob"], step["values"])))

    def _do_bisect(self, step: dict[str, Any]) -> None:
        ctx = self.context(step)
        ctx.trainings.thorough = True
        self._guarded(step, ctx.search)

    def _do_lr(self, step: dict[str, Any]) -> None:
        ctx = self.context(step)
        self._guarded(step, ctx.learning_rate_range)

    def _do_lists(self, step: dict[str, Any]) -> None:
        """Which of the settings the user's functions take as lists."""
        source = self.context(step).source
        self.emit({"event": "lists", "settings": [text for text in step["settings"] if source.takes_list(text)]})

    def _do_estimate(self, step: dict[str, Any]) -> None:
        """What a training step costs here, from the first one; nothing where it fails, for a probe will say so.
        ``experiments``: what they would try as well."""
        ctx = self.context(step)
        with _advisory(self.emit, "estimate", ctx.retry):
            ctx.attempt()
            started = time.monotonic()
            updates = ctx.updates()
            seconds = (time.monotonic() - started) / max(1, updates.steps)
            told = {"event": "estimate", "seconds_per_step": seconds, "steps": ctx.most_steps()}
            with contextlib.suppress(Skip, Inconclusive, UserCodeError):  # whoever needs what is missing will meet it
                told["subset"] = outlook.of_subset(ctx, seconds)
            if step.get("experiments") == "search":
                told["search"] = outlook.of_search(ctx)
            elif step.get("experiments") == "comparison":
                told["comparison"] = outlook.of_comparison(ctx, step["knob"], step["values"])
            self.emit(told)

    def _do_pictures(self, step: dict[str, Any]) -> None:
        with _advisory(self.emit, "samples picture"):
            pictures.samples_picture(self.context(step), self.folder)
        with _advisory(self.emit, "augmentation picture"):
            if cost := pictures.augmentation_picture(self.context(step), self.folder):
                self.context(step).notes.append(cost)
                self._notes()

    def _do_expected(self, step: dict[str, Any]) -> None:
        """What the full training should reach, told before it runs: a report that ends earlier has it too."""
        if expected := [to_json(row) for row in self.context(step).expected()]:
            self.emit({"event": "expected", "expected": expected})
        self._guess(self.context(step))

    def _guess(self, ctx: MeasuringContext) -> None:
        """What the accuracies of a training are to be compared with."""
        with _advisory(self.emit, "accuracy of guessing"):
            if told := guess_facts(ctx):
                self.emit({"event": "pipeline", "pipeline": to_json(told)})

    def _do_train(self, step: dict[str, Any]) -> None:
        ctx = self.context(step)
        from_event = lambda row: self.emit({"event": "epoch", "row": to_json(row)})  # noqa: E731
        self._guarded(
            step,
            lambda: loop.train(
                ctx, self.folder, epochs=self.config.epochs, resume=bool(step.get("resume")),
                init_from=self.config.init_from, on_epoch=from_event, on_finding=self._alert,
                on_end=lambda found: self._monitored(found, step["stage"]), deadline=ctx.deadline,
            ),
        )  # fmt: skip

    def _alert(self, finding: Finding) -> None:
        doc = catalogue.doc(finding.name)
        since = finding.values.get("since_epoch")
        self.emit({
            "event": "alert", "name": finding.name, "text": finding.message, "fix": doc.fix,
            "since": f"since epoch {since}" if since else f"since step {finding.values.get('since_step')}",
        })  # fmt: skip

    def _monitored(self, findings: Sequence[Finding], stage: str) -> None:
        """What the monitors still hold at the end of the training, as results of this stage."""
        for finding in findings:
            doc = catalogue.doc(finding.name)
            status = Status.PASS if finding.severity is Severity.NOTE else Status.FAIL
            result = Result(doc.code, doc.name, stage, status, finding.message, (finding,))
            self.emit({"event": "result", "result": to_json(result)})

    def _do_subset(self, step: dict[str, Any]) -> None:
        """The short training, with its history; the probes of the stage judge it afterwards."""
        ctx = self.context(step)

        def measure() -> None:
            journal = Journal(self.folder, 0, run="subset")
            rows: list[dict[str, Any]] = []
            for row in short_history(ctx.subset()):
                rows.append(to_json(row))
                journal.row(rows)
                self.emit({"event": "epoch", "row": rows[-1]})
            journal.close()
            self._guess(ctx)

        self._guarded(step, measure)

    def _do_evaluate(self, step: dict[str, Any]) -> None:
        ctx = self.context(step)

        def measure() -> None:
            found = evaluation.evaluate(
                ctx, self.folder, checkpoint=self.config.checkpoint, split=self.config.split or "val"
            )
            self.emit({"event": "evaluation", "evaluation": to_json(found)})

        self._guarded(step, measure)

    def _do_meet(self, step: dict[str, Any]) -> None:
        """The end of a rank's run, for the others to know; with ``wait``, how that of rank 0 ended."""
        try:
            meeting = Meeting(self._progress)
            meeting.tell(step["ended"])
            self.emit({"event": "met", "ended": meeting.first_ended() if step["wait"] else None})
        except RankLost as lost:
            self.emit({"event": "remark", "text": str(lost)})

    def _do_assertions(self, step: dict[str, Any]) -> None:
        self.emit({"event": "assertions", "lines": assertions(self.context(step))})

    def _notes(self) -> None:
        """What was done otherwise than asked since the pipeline was loaded; results.json joins it to what it has."""
        if self._ctx is not None:
            facts = self._ctx.facts
            self.emit({"event": "pipeline", "pipeline": {"task": facts.task, "warnings": to_json(facts.notes)}})

    def _guarded(self, step: Mapping[str, Any], work: Callable[[], Any]) -> None:
        """A long piece of work that is no probe: its end becomes the outcome of the stage."""
        try:
            work()
        except UserCodeError as error:
            finding = crash_finding(error)
            doc = catalogue.doc(finding.name)
            result = Result(doc.code, doc.name, step["stage"], Status.CRASHED, finding.message, (finding,))
            self.emit({"event": "result", "result": to_json(result)})
        except RankLost as lost:
            doc = catalogue.doc("hung" if "timed out" in str(lost.__cause__).lower() else "worker-crashed")
            finding = doc.finding("{text}", text=str(lost))
            result = Result(doc.code, doc.name, step["stage"], Status.CRASHED, finding.message, (finding,))
            self.emit({"event": "result", "result": to_json(result)})
        except (Inconclusive, Skip) as reason:
            status = Status.INCONCLUSIVE if isinstance(reason, Inconclusive) else Status.SKIPPED
            self.emit({"event": "cut-short", "status": str(status), "reason": str(reason)})
        finally:
            self._notes()


class _advisory:
    """Pictures are a service: the user's failure in making one is a line in the log, never a finding."""

    def __init__(self, emit: Emit, what: str, forget: Callable[[], None] = lambda: None) -> None:
        self._emit, self._what, self._forget = emit, what, forget

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, (UserCodeError, Skip)):
            self._emit({"event": "remark", "text": f"no {self._what}: {error}"})
            self._forget()  # the probe that meets the same failure reports it
            return True
        return False


def choose_device(wanted: str) -> str:
    """Raises UsageError for a device that is not there."""
    if wanted == "auto":
        own = os.environ.get("LOCAL_RANK")  # of torchrun: each process its device
        return "cpu" if not torch.cuda.is_available() else "cuda" if own is None else f"cuda:{own}"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            f"--device {wanted}: torch sees no CUDA device here. Use --device cpu, or install a CUDA build."
        )
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UsageError(f"--device {wanted}: expected auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {wanted}: there are {torch.cuda.device_count()} CUDA devices, counted from 0.")
    return wanted
