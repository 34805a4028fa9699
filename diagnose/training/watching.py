"""The monitors at work in our own loop: what they are fed, what becomes of their findings, when they end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from diagnose.measure.sensitivity import only_step
from diagnose.monitors.monitor import Monitor, Step
from diagnose.monitors.nonfinite import Origin, find_origin
from diagnose.user_code import UserCodeError
from probes.results import Finding

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.training.meter import Meter
    from diagnose.training.step import Engine, Forwarded

OnFinding = Callable[[Finding], None]


class Watching:
    """``stop``: the name of a finding that ends the training as was asked for, or empty."""

    def __init__(self, ctx: MeasuringContext, engine: Engine, on_finding: OnFinding) -> None:
        pipeline, facts = engine.pipeline, ctx.facts
        self._engine, self._on_finding = engine, on_finding
        self._stop_on = ctx.source.config.stop_on
        self.stop = ""
        self._raw: Any = None
        self._mark = time.perf_counter()
        self._waited = 0.0
        self.monitor = None if not ctx.source.training.monitors else Monitor(
            engine.model,
            pipeline.optimizer,
            task=facts.task,
            num_classes=facts.num_classes,
            expected=ctx.expected(),
            validation=pipeline.val,
            scaled=engine.scaler.is_enabled(),
            locate=self._locate,
        )  # fmt: skip

    def close(self) -> None:
        if self.monitor is not None:
            self.monitor.close()

    def _locate(self) -> Origin:
        engine = self._engine
        if only_step(engine.pipeline):
            return Origin("none")
        try:
            return find_origin(engine.model, lambda: engine.loss(self._raw).loss, self._raw)
        except UserCodeError:
            return Origin("unknown")

    def waiting(self) -> None:
        """From now on the loop waits for a batch."""
        self._mark = time.perf_counter()

    def step(self, raw: Any) -> AbstractContextManager[None]:
        """Surrounds the step on ``raw``, which has just come."""
        now = time.perf_counter()
        self._waited, self._mark = now - self._mark, now
        self._raw = raw
        return nullcontext() if self.monitor is None else self.monitor.watched()

    def stepped(self, done: Forwarded, loss: float | None, meter: Meter, lr: float) -> None:
        if self.monitor is None:
            return
        correct, judged = meter.last
        seconds = self._waited + time.perf_counter() - self._mark
        self._take(
            self.monitor.observe_step(
                Step(loss, correct, judged, lr, self._waited, seconds, done.main, done.batch.target)
            )
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        if self.monitor is not None:
            self._take(self.monitor.observe_epoch(row))

    def memory_growth(self) -> str:
        """At the end, a remark, or an empty text."""
        return "" if self.monitor is None else self.monitor.memory_growth()

    def figures(self) -> Mapping[str, float]:
        return {} if self.monitor is None else self.monitor.figures()

    def findings(self) -> Sequence[Finding]:
        """Those of steps that still stand."""
        return [] if self.monitor is None else list(self.monitor.findings.values())

    def state(self) -> Mapping[str, Any]:
        return {} if self.monitor is None else self.monitor.state()

    def restore(self, state: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.monitor is not None:
            self.monitor.restore(state or {}, rows)

    def _take(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self._on_finding(finding)
            if finding.name in self._stop_on:
                self.stop = self.stop or finding.name
