"""Learning a batch or two by heart: without regularisation, as configured, under a change, in a wider copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diagnose.batches import understand
from diagnose.experiments import dropout, judge, wider
from diagnose.experiments.change import AS_CONFIGURED, Change, Reading
from diagnose.experiments.knobs import arms
from diagnose.experiments.longer import LONGER
from diagnose.experiments.trial import Samples, StepProgress, run_trial
from diagnose.experiments.usual import is_unusual
from probes.api import Skip

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.experiments.ground import Ground
    from diagnose.pipeline import Pipeline
    from probes.records.trials import Trace

OVERFIT_SAMPLES = 16  # a smaller first batch is joined by the second
OVERFIT_LARGE = 512  # of a larger batch so many are taken
OVERFIT_STEPS = 300
OVERFIT_MORE = 700  # further steps for a pipeline that is still getting better


class Memorising:
    """``reported(what)`` shows how far a training is."""

    def __init__(self, ctx: MeasuringContext, ground: Ground, reported: Callable[[str], StepProgress]) -> None:
        self._ctx, self._ground, self._reported = ctx, ground, reported

    def overfit(self) -> Trace:
        """One or two batches without dropout and weight decay, looked at in train mode."""
        return self._ctx.once("overfit", "overfitting a batch", self._overfit)

    def overfit_under(self, change: Change) -> Trace:
        """The same, with the batch read as ``change`` reads it."""
        if change.reading.plainly is None:
            return self.overfit()

        def memorise() -> Trace:
            material = self._ground.material(change.reading)
            with change.apply(self._ctx.pipeline):
                raws = [next(material.batches(self._ctx.seed))]
            samples = Samples(lambda seed: _cycle(raws), raws, ())
            steps = self._ground.steps(OVERFIT_STEPS)
            return run_trial(
                self._ground.setting(raws), samples, UNREGULARISED, self._ctx.seed, steps, look_mode="train",
                stop=judge.stop_when_memorised, progress=self._reported(f"overfit, {change.label}"),
            )  # fmt: skip

        return self._ctx.once(f"overfit {change.key}", f"overfitting a batch, {change.label}", memorise)

    def overfit_as_configured(self) -> Trace | None:
        """The same batch for as many steps with regularisation on, for comparison; None where there is none."""

        def compare() -> Trace | None:
            optimizer = self._ctx.pipeline.optimizer
            decays = any(group.get("weight_decay") for group in optimizer.param_groups) if optimizer else False
            if not decays and not self._ctx.dropout_sites():
                return None
            return self._memorise(AS_CONFIGURED, self.overfit().steps)

        return self._ctx.once("overfit as configured", "overfitting a batch as configured", compare)

    def _overfit(self) -> Trace:
        first = self._memorise(UNREGULARISED, self._ground.steps(OVERFIT_STEPS))
        most = self._ground.steps(OVERFIT_STEPS + OVERFIT_MORE)
        moves = any(point.train_loss != first.points[0].train_loss for point in first.points)
        slow_on_purpose = moves and self._ctx.planned_steps() >= LONGER * most
        if first.stopped != "steps" or not (first.falling or slow_on_purpose):
            return first
        return self._memorise(UNREGULARISED, most)

    def _memorise(self, change: Change, steps: int) -> Trace:
        self._ctx.need_data()
        self._ctx.completed_attempt()
        raws = self._few_samples()
        samples = Samples(lambda seed: _cycle(raws), raws, ())
        return run_trial(
            self._ground.setting(raws), samples, change, self._ctx.seed, steps, looks=max(12, steps // 25),
            look_mode="train", stop=judge.stop_when_memorised, progress=self._reported(f"overfit, {change.label}"),
        )  # fmt: skip

    def _few_samples(self) -> list[Any]:
        """A batch or two; of a large one that can be drawn anew a part: a whole data set is not learned by heart."""
        raws = self._ctx.raws()
        size = understand(raws[0]).size
        if size > OVERFIT_LARGE:
            try:
                return [next(self._ground.material(Reading(batch_size=OVERFIT_LARGE)).batches(self._ctx.seed))]
            except Skip:  # the batches are not those of a plain loader
                pass
        return raws[:1] if size >= OVERFIT_SAMPLES else raws[:2]

    def overfit_data_term(self) -> Trace:
        """The same batch without what the user adds to torch's losses. Raises Skip where there is nothing else."""

        def measure() -> Trace:
            alone = arms(self._ctx, "regulariser")[0]

            def both(pipeline: Pipeline) -> Any:
                alone.apply(pipeline)
                return _unregularised(pipeline)

            return self._memorise(replace(alone, apply=both), self.overfit().steps)

        return self._ctx.once("overfit data term", "overfitting without the extra term", measure)

    def widened_overfit(self) -> Trace:
        """The same batch with wider hidden layers. Raises Skip where that cannot be done from outside, and where a
        schedule that is over at once keeps a model of any width from getting far."""

        def measure() -> Trace:
            if is_unusual(self._ctx, "scheduler"):
                raise Skip("the schedule leaves no time to memorise a batch, whatever the width")
            change = wider.change(self._ctx.pipeline, self._ctx.raws()[0], self._ctx.device)
            return self._memorise(change, self.overfit().steps)

        return self._ctx.once("widened overfit", "overfitting a wider copy", measure)


def _unregularised(pipeline: Pipeline) -> Any:
    for group in pipeline.optimizer.param_groups if pipeline.optimizer else ():
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
    return dropout.off(pipeline)


UNREGULARISED = Change("unregularised", "no dropout, no weight decay", 0, _unregularised, ours=False)


def _cycle(raws: list[Any]) -> Iterator[Any]:
    while True:
        yield from raws
