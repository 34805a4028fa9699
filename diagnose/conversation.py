"""The parent's side of the talk with the worker: asks for one step, keeps what comes, and tells how a worker died.

The parent never imports torch nor the user's code. Whatever happens to a worker becomes a ``crashed`` result on the
probe that was running; the next step gets a fresh worker, which is told what not to try again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from diagnose.config import Config
from diagnose.errors import UsageError
from diagnose.store import TRIALS, RunFolder
from diagnose.worker.death import Death, innermost
from diagnose.worker.in_process import InProcessWorker
from diagnose.worker.process import Worker
from probes import catalogue
from probes.api import Stage
from probes.results import Finding, Result, StageResult, Status, Text, Trace, to_json
from reports.load import read_events
from reports.schema import validate

HANDLER = "diagnose.worker.runner:handler"
SILENCE = 180.0  # seconds without a sign of life, after which user code counts as hung
GRACE = 10.0  # seconds past the budget, in which a worker that answers ends by itself
DEATHS = {"hung": "hung", "out-of-memory": "killed-out-of-memory"}
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


class Conversation:
    """One run's talk with its worker. ``results`` and ``extra``: what it told so far; ``loaded``: what it said of the
    pipeline, once that is built."""

    def __init__(self, config: Config, folder: RunFolder, display: Display) -> None:
        self.folder = folder
        self.display = display
        self.results: list[Result] = []
        self.extra: dict[str, Any] = {}
        self.loaded: dict[str, Any] | None = None
        self.silence = config.hang_after or SILENCE
        self._job: dict[str, Any] = {
            "config": config.to_dict(), "folder": str(folder.path), "isolate": not config.in_process, "poisoned": {},
            "trials": _trials_of(folder),
        }  # fmt: skip
        if kept := len(self._job["trials"]):
            display.output(f"going on with {kept} finished trials of the earlier part of this run")
        self._measuring: list[str] = []
        self._measured: list[str] = []
        self._findings: list[Finding] = []
        self._usage: list[str] = []
        self._deadline = None if config.budget is None else time.monotonic() + config.budget
        self._ids = 0
        self._budget_cut = False
        self._worker: Worker | InProcessWorker = (
            InProcessWorker(self._job, HANDLER)
            if config.in_process
            else Worker(self._job, HANDLER, folder.path, display.output if config.verbose else None)
        )

    def close(self) -> None:
        self._worker.close()
        with suppress(OSError):  # what is still in it belongs to trials that were cut off
            (self.folder.path / TRIALS).rmdir()

    def perform(self, step: dict[str, Any], stands_for: str, stage: Stage, silence: float | None = None) -> None:
        """A step whose death, or failure inside the tool, is told under the probe that stands for it."""
        started = time.monotonic()
        death = self.ask({**step, "stage": str(stage)}, silence)
        if death is not None:
            self.died(death, stands_for, stage, time.monotonic() - started)
        self.own_failure(stands_for, stage)

    def ask(self, step: dict[str, Any], silence: float | None = None) -> Death | None:
        """``silence``: seconds without a sign of life, after which the step counts as hung."""
        silence = self.silence if silence is None else silence
        self._ids += 1
        self._findings = []
        self._measuring, self._measured = [], []
        remaining = self.remaining()
        timeout = silence if remaining is None else min(silence, remaining + GRACE)
        death = self._worker.run({**step, "id": self._ids, "seconds": remaining}, timeout, self._heard)
        self._budget_cut = death is not None and death.kind == "hung" and timeout < silence
        if self._usage:
            raise UsageError(*self._usage)
        return death

    def remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

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
            self.loaded = event
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

    def keep(self, result: Result) -> None:
        self.folder.append({"event": "result", "result": to_json(result)})
        self._take(result)

    def _take(self, result: Result) -> None:
        self.results.append(result)
        self.display.result(result)

    def own_failure(self, name: str, stage: Stage) -> None:
        """A step that failed inside the tool is told as such, under the probe that stands for it."""
        if (trouble := self.extra.pop("internal", None)) is not None:
            doc = catalogue.doc(name)
            self.keep(Result(doc.code, name, str(stage), Status.INTERNAL, trouble))

    def died(self, death: Death, name: str, stage: Stage, seconds: float) -> None:
        """The death of a worker, as a crashed result of the probe that was running, with what it had found before."""
        if self._budget_cut:  # it may have been slow, not hung: a budget never makes a finding
            where = "".join(f", at {w.file}:{w.line}" for w in innermost(death.frames))
            probe, reason = catalogue.doc(name), f"the time budget ended while this was running{where}"
            self.keep(Result(probe.code, name, str(stage), Status.INCONCLUSIVE, reason, tuple(self._findings), seconds))
            return
        cause = DEATHS.get(death.kind, "worker-crashed")
        doc = catalogue.doc(cause)
        culprit = self.culprit(death)
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
        self.keep(Result(probe.code, name, str(stage), Status.CRASHED, finding.message, found, seconds))

    def culprit(self, death: Death) -> str:
        """The measurement that a worker died of; lost descriptors are noticed only at the end of the step."""
        keys = self._measuring or (self._measured if death.kind == "descriptors" else [])
        if not self._measuring and ENGINE in keys:  # several were taken; all that follow go through the first
            return ENGINE
        return keys[-1] if keys else ""


def _trials_of(folder: RunFolder) -> dict[str, Any]:
    """The finished trials of an earlier part of this run."""
    events = [] if folder.is_new else read_events(folder.path / "events.jsonl")
    return {event["of"]: event["trace"] for event in events if event.get("event") == "trial"}
