"""What is measured of the first steps: the first forward and backward, the updates, the optimizer and its schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from diagnose.experiments.short_trainings import MOST_STEPS
from diagnose.measure import attempt, outputs, scan, updates
from diagnose.user_code import UserCodeError, user_code
from probes.api import Skip
from probes.records.forward import AsBuilt, Attempt
from probes.records.updates import Coverage, Updates

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline

UNKNOWN_LENGTH = 1_000  # batches per epoch that the schedule's dry run assumes of a loader that does not tell


class StepMeasurements:
    """Those of ``probes.measurements.Context`` that begin to train, or tell how the training is planned."""

    def __init__(self, ctx: MeasuringContext) -> None:
        self._ctx = ctx
        self._begun: tuple[Pipeline, float] | None = None  # with the gradients, and the loss, of the first batch

    def let_go(self) -> None:
        """Of the model that was kept; whoever needs one again gets a fresh one."""
        self._begun = None

    def attempt(self) -> Attempt:
        def measure() -> Attempt:
            with self._ctx.engine() as engine:
                found = attempt.attempt(engine, self._ctx.raws())
            reached = any(norm is not None for norm in found.gradients.values())
            if reached and found.loss is not None and updates.can_go_on(engine):
                self._begun = engine.pipeline, found.loss
            return found

        return self._ctx.once("attempt", "the first forward and backward", measure)

    def completed_attempt(self) -> Attempt:
        """The attempt, where it ran to its end; dependents of a failed one are skipped with its reason."""
        done = self.attempt()
        if done.failure is not None:
            raise Skip(f"{done.failure.phase} raised {done.failure.type}")
        if done.loss is None or not done.loss_has_graph:
            raise Skip("the loss cannot be differentiated")
        return done

    def updates(self) -> Updates:
        """The first of them is made with the gradients of the attempt, where that is a plain step."""

        def measure() -> Updates:
            self.completed_attempt()
            (kept, loss), self._begun = self._begun or (None, None), None
            with self._ctx.engine(kept=kept) as engine:
                return updates.updates(engine, self._ctx.raws(), begun=loss)

        return self._ctx.once("updates", "the first updates", measure)

    def as_built(self) -> Sequence[AsBuilt]:
        def measure() -> Sequence[AsBuilt]:
            with self._ctx.engine() as engine:
                if not engine.has_loss:
                    raise Skip("only the pipeline's own train_step computes the loss")
                engine.model.train()
                return [outputs.as_built(engine, raw) for raw in self._ctx.raws()]

        return self._ctx.once("as built", "the first batches without an update", measure)

    def coverage(self) -> Coverage:
        def measure() -> Coverage:
            made = self._ctx.pipeline
            seen = updates.coverage(made.model, made.optimizer, made.loss, made.compute_loss, made.train_step)
            return replace(seen, where=self._ctx.made_at(made.optimizer))

        return self._ctx.once("coverage", "comparing optimizer and model", measure)

    def learning_rates(self) -> Sequence[float]:
        def measure() -> Sequence[float]:
            made = self._ctx.pipeline
            with user_code("the scheduler's dry run"):
                fresh = made if made.scheduler is None else self._ctx.fresh(self._ctx.seed)
                return updates.dry_run(fresh, self._steps_per_epoch())

        return self._ctx.once("dry run", "the schedule's dry run", measure)

    def planned_steps(self) -> int:
        return self._ctx.pipeline.epochs * self._steps_per_epoch()

    def forward_operations(self) -> float:
        """Floating-point operations of the forward pass over the first batch, as far as torch can count them; inf where
        the loss lives in the user's own step, or the forward pass fails."""

        def count() -> float:
            from torch.utils.flop_counter import FlopCounterMode

            with self._ctx.engine() as engine:
                if not engine.has_loss:
                    return math.inf
                with torch.no_grad(), FlopCounterMode(display=False) as counted:
                    engine.loss(self._ctx.raws()[0])
            return float(counted.get_total_flops())

        try:
            return self._ctx.once("operations", "counting operations", count)
        except (UserCodeError, Skip):  # a probe of the forward pass tells it
            return math.inf

    def most_steps(self) -> dict[str, int]:
        """Training steps that each stage takes at most; without those whose length is not known."""
        known = scan.batch_count(self._ctx.pipeline.train) is not None
        return {**MOST_STEPS, **({"train": self.planned_steps()} if known else {})}

    def _steps_per_epoch(self) -> int:
        made = self._ctx.pipeline
        batches = scan.batch_count(made.train)
        return max(1, (UNKNOWN_LENGTH if batches is None else batches) // max(1, made.accumulate))
