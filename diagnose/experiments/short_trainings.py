"""The short trainings of one pipeline: overfit, subset, the trials of an ablation, reference data; each made once.

Not covered: the full training (``diagnose.training``), and how one trial runs (``diagnose.experiments.trial``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import understand
from diagnose.experiments import dropout, judge, reference, wider
from diagnose.experiments.ablate import compare
from diagnose.experiments.change import AS_CONFIGURED, Change, Reading
from diagnose.experiments.knobs import arms
from diagnose.experiments.longer import LONGER, Longer, given_longer
from diagnose.experiments.lr_range import range_test
from diagnose.experiments.material import Material
from diagnose.experiments.order import ON_PURPOSE
from diagnose.experiments.relief import on_all_data, relief
from diagnose.experiments.search import search
from diagnose.experiments.trial import Samples, Setting, StepProgress, gradient_agreement, run_trial
from diagnose.experiments.trials import Trials, Wanted
from diagnose.experiments.usual import is_unusual
from diagnose.experiments.yardsticks import yardsticks_of
from diagnose.training.metrics import IGNORE_INDEX
from diagnose.user_code import UserCodeError
from probes.api import Inconclusive, Skip

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline
    from probes.records.forward import LossCall
    from probes.records.trials import Ablation, LearningRateRange, Reference, Relief, Search, Trace

OVERFIT_SAMPLES = 16  # a smaller first batch is joined by the second
OVERFIT_LARGE = 512  # of a larger batch so many are taken
OVERFIT_STEPS = 300
OVERFIT_MORE = 700  # further steps for a pipeline that is still getting better
SUBSET_STEPS = 600
FEWEST_STEPS = 100  # a planned run that is shorter tells little
BY_HEART = 0.995  # training accuracy
MOST_STEPS = {
    "mnist": reference.STEPS,
    "overfit": OVERFIT_STEPS + 2 * (OVERFIT_STEPS + OVERFIT_MORE),  # once more, longer; then with regularisation
    "subset": SUBSET_STEPS,
}
MIN_CHANNELS_LAST_PIXELS = 256  # below, the layout makes no difference that is worth a conversion
PROGRESS_SECONDS = 0.3  # between two reports of one training


class ShortTrainings:
    """``has_proof``: an ablation has proved a cause, so that its rivals are given less room. ``thorough``: the search
    also looks how mild the repair may be."""

    def __init__(self, ctx: MeasuringContext) -> None:
        self._ctx = ctx
        self.has_proof = False
        self.thorough = False
        self._trials = Trials(ctx, self.on_subset, self.material, self._reported_trial)
        self._compared: dict[str, Ablation] = {}
        self._asked_for = ""

    @property
    def seed(self) -> int:
        """The run's seed; a trial's own lies a few above."""
        return self._ctx.seed

    def overfit(self) -> Trace:
        """One or two batches without dropout and weight decay, looked at in train mode."""
        return self._ctx.once("overfit", "overfitting a batch", self._overfit)

    def overfit_under(self, change: Change) -> Trace:
        """The same, with the batch read as ``change`` reads it."""
        if change.reading.plainly is None:
            return self.overfit()

        def memorise() -> Trace:
            material = self.material(change.reading)
            with change.apply(self._ctx.pipeline):
                raws = [next(material.batches(self.seed))]
            samples = Samples(lambda seed: _cycle(raws), raws, ())
            return run_trial(
                self._setting(raws), samples, UNREGULARISED, self.seed, OVERFIT_STEPS, look_mode="train",
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
        first = self._memorise(UNREGULARISED, OVERFIT_STEPS)
        most = OVERFIT_STEPS + OVERFIT_MORE
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
            self._setting(raws), samples, change, self.seed, steps, looks=max(12, steps // 25), look_mode="train",
            stop=judge.stop_when_memorised, progress=self._reported(f"overfit, {change.label}"),
        )  # fmt: skip

    def _few_samples(self) -> list[Any]:
        """A batch or two; of a large one that can be drawn anew a part: a whole data set is not learned by heart."""
        raws = self._ctx.raws()
        size = understand(raws[0]).size
        if size > OVERFIT_LARGE:
            try:
                return [next(self.material(Reading(batch_size=OVERFIT_LARGE)).batches(self.seed))]
            except Skip:  # the batches are not those of a plain loader
                pass
        return raws[:1] if size >= OVERFIT_SAMPLES else raws[:2]

    def learned_by_heart(self, share: float) -> Trace:
        """As configured on ``share`` of the data, until the samples are known by heart or for all of SUBSET_STEPS; for
        as many as it is known to need where it starts slowly."""

        def train() -> Trace:
            self._ctx.completed_attempt()
            later = self.given_longer()
            steps = later.trace.steps if later is not None and later.learns else SUBSET_STEPS
            material = Material(self._ctx.pipeline, share, exact=True)
            samples = Samples(
                material.batches, material.look_train, material.look_val, material.samples, material.steps_per_epoch
            )
            known = lambda trace: "learned" if (trace.points[-1].train_score or 0.0) >= BY_HEART else ""  # noqa: E731
            return run_trial(
                self._setting(material.look_train), samples, AS_CONFIGURED, self.seed, steps, stop=known,
                progress=self._reported(f"{share:.0%} of the data"),
            )  # fmt: skip

        return self._ctx.once(f"by heart {share}", "training on a share of the data", train)

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
            layers = [layer.path for layer in self._ctx.inspection().layers]
            change = wider.change(self._ctx.pipeline, layers, self._ctx.raws()[0], self._ctx.device)
            return self._memorise(change, self.overfit().steps)

        return self._ctx.once("widened overfit", "overfitting a wider copy", measure)

    def subset(self) -> Trace:
        """The unchanged pipeline on a part of the data."""
        return self.trial(AS_CONFIGURED, self.seed)

    def trial(self, change: Change, seed: int, steps: int = SUBSET_STEPS, *, to_the_end: bool = False) -> Trace:
        """A short training on the subset, remembered by change, seed and steps. ``to_the_end``: all the steps, though
        it has learned before."""
        return self._trials.trial(Wanted(change, seed, steps, to_the_end))

    def to_the_end(self, change: Change, place: int) -> Trace:
        """``steps_in_plan`` steps on all of the data, though it has learned before; the run's seed + ``place``."""
        return self._trials.trial(on_all_data(change, self.seed + place, self.steps_in_plan))

    @property
    def steps_in_plan(self) -> int:
        """Those of a trial, or of the planned run where that is shorter: later figures are none of its."""
        planned = self._ctx.planned_steps() if self._ctx.facts.epochs_stated else SUBSET_STEPS
        return planned if FEWEST_STEPS <= planned < SUBSET_STEPS else SUBSET_STEPS

    def ahead(self, trials: Iterable[Wanted]) -> None:
        """Makes trials that will be asked for, side by side where that is possible."""
        self._trials.ahead(trials)

    def finished(self, wanted: Wanted) -> Trace | None:
        return self._trials.finished(wanted)

    def learning_rate_range(self, change: Change = AS_CONFIGURED) -> LearningRateRange:
        """The range test, of the pipeline as it is or under a change."""
        return self._ctx.once(
            f"range {change.key}",
            "the learning-rate range test",
            lambda: range_test(self._ctx, self._reported("learning-rate range"), change),
        )

    def given_longer(self, steps: int = SUBSET_STEPS) -> Longer | None:
        """Whether it learns after all, given more of the steps that are planned than those of a trial."""
        key = f"given longer than {steps}"
        return self._ctx.once(key, "training for longer", lambda: given_longer(self._ctx, steps))

    def search(self) -> Search:
        """Every experiment that is needed to find what keeps the pipeline from learning."""
        return self._ctx.once("search", "the search for what repairs learning", lambda: search(self._ctx, SUBSET_STEPS))

    def ablation(self, knob: str) -> Ablation:
        """One knob turned, as the search found it. Raises Skip where there is nothing to turn, Inconclusive where the
        time budget ended before."""
        if knob in self._compared:
            if cut := self._compared[knob].cut:
                raise Inconclusive(cut)
            return self._compared[knob]
        found = self.search()
        if knob in found.ablations:
            return found.ablations[knob]
        if knob in found.skipped:
            raise Skip(found.skipped[knob])
        if found.cut:
            raise Inconclusive(found.cut)
        raise Skip("the search had no need of it")

    def relief(self, knob: str) -> Relief:
        """What a usual value brings where an unusual one learns. Raises Skip where it brings little."""
        if knob in (further := self.search().further):
            return further[knob]
        return self._ctx.once(
            f"relief {knob}", f"comparing {knob}", lambda: relief(self._ctx, knob, self.steps_in_plan)
        )

    @property
    def repaired_by(self) -> str | None:
        """The label of the first change under which it learned in the search, if that has been made."""
        arms = [ablation.repairing for ablation in self.search().ablations.values()]
        return next((arm.label for arm in arms if arm is not None), None)

    def comparison(self, knob: str, values: Sequence[str]) -> Ablation:
        """Every arm over every seed; it stands in for the ablation of that knob from then on."""
        values = values or ON_PURPOSE.get(knob, ())
        self._asked_for = knob
        found = self._ctx.once(
            f"comparison {knob} {' '.join(values)}",
            f"comparing values of {knob}",
            lambda: compare(self._ctx, knob, SUBSET_STEPS, values),
        )
        self._compared[knob] = found
        return found

    def last_comparison(self) -> Ablation:
        """Raises Skip where none was asked for, Inconclusive where it came to no end."""
        if not self._compared and self._asked_for:
            raise Inconclusive(f"the comparison of {self._asked_for} came to no end")
        if not self._compared:
            raise Skip("no comparison was asked for")
        return list(self._compared.values())[-1]

    def gradient_agreement(self, change: Change) -> float | None:
        """Cosine from -1 to 1 between the gradients of two passes over one batch; None where it cannot be taken."""
        setting, samples = self.on_subset()
        return self._ctx.once(
            f"agreement {change.key}",
            "comparing gradients",
            lambda: gradient_agreement(setting, samples, change, self.seed),
        )

    def reference(self) -> Reference:
        """The pipeline on reference data. Raises Skip where its model cannot take them."""
        return self._ctx.once(
            "reference", "training on reference data", lambda: reference.train_on_reference(self._ctx, self._reported)
        )

    def on_subset(self, change: Change = AS_CONFIGURED) -> tuple[Setting, Samples]:
        """What a trial on the part of the data needs."""
        if change.reading.samples is not None:
            samples = change.reading.samples()
            return self._setting(samples.look_train, change), samples
        material, each = self.material(change.reading), change.reading.each
        if each is None:
            train, val, batches = material.look_train, material.look_val, material.batches
        else:
            train, val = ([each(raw) for raw in raws] for raws in (material.look_train, material.look_val))
            batches = lambda seed: map(each, material.batches(seed))  # noqa: E731
        samples = Samples(batches, train, val, material.samples, material.steps_per_epoch)
        return self._setting(train, change), samples

    def material(self, reading: Reading) -> Material:
        """The part of the data, as a change reads it."""

        def choose() -> Material:
            self._ctx.need_data()
            wanted = self._ctx.fraction
            share = wanted if wanted is not None else 1.0 if reading.whole else 0.1
            return Material(
                self._ctx.pipeline, share, exact=wanted is not None, batch_size=reading.batch_size
            )  # fmt: skip

        def choose_plainly() -> Material:
            assert reading.plainly is not None
            reading.plainly(True)
            try:
                return choose()
            finally:
                reading.plainly(False)

        plain = reading.plainly is not None
        key = (
            f"material {'plain ' if plain else ''}{'whole ' if reading.whole else ''}{reading.batch_size or ''}".strip()
        )
        return self._ctx.once(key, "choosing samples", choose_plainly if plain else choose)

    def _setting(self, raws: Sequence[Any], change: Change = AS_CONFIGURED) -> Setting:
        """What the trials that look at ``raws`` share, with their yardsticks."""
        ctx = self._ctx
        return Setting(
            build=ctx.fresh,
            task=ctx.facts.task,
            device=ctx.device,
            channels_last=self.channels_last(),
            yardsticks=yardsticks_of(raws, ctx.facts, self._loss_calls(change), self.ignore_index()),
            learning_rates=ctx.learning_rates(),
            ignore_index=self.ignore_index(),
            shifted=self.shifts_targets(),
            deadline=ctx.deadline,
        )

    def _loss_calls(self, change: Change) -> list[LossCall]:
        """As the attempt saw them, or as they are under the change."""
        calls = self._ctx.attempt().loss_calls
        if change.loss_function:
            return [replace(call, function=change.loss_function, options=change.options) for call in calls[:1]]
        return [replace(call, options={**call.options, **change.options}) for call in calls]

    def ignore_index(self) -> int:
        """The target value that the pipeline's loss leaves out."""
        calls = self._ctx.attempt().loss_calls
        return int(calls[0].options.get("ignore_index", IGNORE_INDEX)) if calls else IGNORE_INDEX

    def shifts_targets(self) -> bool:
        """Whether the loss of a language model is given the targets of a batch moved by one place: where the labels are
        the very tokens that the model reads."""
        seen = self._ctx.attempt()
        if self._ctx.facts.task != "language-model" or len(seen.loss_calls) != 1:
            return False
        given, target = seen.loss_calls[0].target, seen.target
        if not isinstance(target, torch.Tensor) or target.ndim != 2 or target.shape[1] < 2:
            return False
        if given.numel() not in (target.numel(), target.numel() - len(target)):
            return False
        given, target = given.reshape(len(target), -1)[:, : target.shape[1] - 1].cpu(), target.cpu()
        return torch.equal(given, target[:, 1:]) and not torch.equal(given, target[:, :-1])

    def channels_last(self) -> bool:
        """Whether trainings may use the layout: a convolutional model on the CPU whose code accepts it."""
        return self._ctx.once("channels_last", "choosing the memory layout", self._takes_channels_last)

    def _takes_channels_last(self) -> bool:
        ctx, pipeline = self._ctx, self._ctx.pipeline
        image = next((x for x in ctx.batch().inputs if isinstance(x, torch.Tensor) and x.ndim == 4), None)
        convolutional = any(isinstance(m, torch.nn.Conv2d) for m in pipeline.model.modules())
        if ctx.device.type != "cpu" or not convolutional or image is None or pipeline.train_step:
            return False
        if image.shape[2] * image.shape[3] < MIN_CHANNELS_LAST_PIXELS or pipeline.compute_loss:
            return False
        with ctx.engine(channels_last=True) as engine:
            try:
                engine.step(ctx.raws()[0])
            except UserCodeError:  # the user's forward needs contiguous tensors (view): keep their layout
                return False
        return True

    def _reported(self, what: str) -> StepProgress:
        def report(step: int, steps: int, loss: float) -> None:
            self._ctx.progress(f"{what}: loss {loss:.3f}" if math.isfinite(loss) else what, step, steps)

        return _now_and_then(report)

    def _reported_trial(self, wanted: Wanted) -> StepProgress:
        on_step = self._ctx.kept.on_step
        if on_step is None:
            return self._reported(wanted.told)
        return _now_and_then(partial(on_step, wanted.change.label, wanted.seed))


def _now_and_then(report: StepProgress) -> StepProgress:
    """``report``, but no more often than anyone can read."""
    last = [0.0]

    def seldom(step: int, steps: int, loss: float) -> None:
        if time.monotonic() - last[0] > PROGRESS_SECONDS or step == steps:
            last[0] = time.monotonic()
            report(step, steps, loss)

    return seldom


def _unregularised(pipeline: Pipeline) -> Any:
    for group in pipeline.optimizer.param_groups if pipeline.optimizer else ():
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
    return dropout.off(pipeline)


UNREGULARISED = Change("unregularised", "no dropout, no weight decay", 0, _unregularised, ours=False)


def _cycle(raws: list[Any]) -> Iterator[Any]:
    while True:
        yield from raws
