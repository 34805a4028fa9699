"""The short trainings of one pipeline: overfit, subset, the trials of an ablation, reference data; each made once.

Not covered: the full training (``diagnose.training``), and how one trial runs (``diagnose.experiments.trial``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import understand
from diagnose.experiments import dropout, judge, reference, wider
from diagnose.experiments.ablate import ablate
from diagnose.experiments.knobs import arms
from diagnose.experiments.material import Material
from diagnose.experiments.trial import (
    AS_CONFIGURED,
    Change,
    Samples,
    Setting,
    StepProgress,
    gradient_agreement,
    run_trial,
)
from diagnose.experiments.yardsticks import yardsticks_of
from diagnose.training.metrics import IGNORE_INDEX
from diagnose.user_code import UserCodeError

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline
    from probes.records.forward import LossCall
    from probes.records.trials import Ablation, Reference, Trace

OVERFIT_SAMPLES = 16  # a smaller first batch is joined by the second
OVERFIT_STEPS = 300
OVERFIT_MORE = 700  # further steps for a pipeline that is still getting better
SUBSET_STEPS = 600
BY_HEART = 0.995  # training accuracy
MOST_STEPS = {
    "mnist": reference.STEPS,
    "overfit": OVERFIT_STEPS + 2 * (OVERFIT_STEPS + OVERFIT_MORE),  # once more, longer; then with regularisation
    "subset": SUBSET_STEPS,
}
MIN_CHANNELS_LAST_PIXELS = 256  # below, the layout makes no difference that is worth a conversion
PROGRESS_SECONDS = 0.3  # between two reports of one training


class ShortTrainings:
    """``has_proof``: an ablation has proved a cause, so that its rivals are given less room.
    ``repaired_by``: the label of the first change under which it learned."""

    def __init__(self, ctx: MeasuringContext) -> None:
        self._ctx = ctx
        self.has_proof = False
        self.repaired_by: str | None = None
        self._ablation_steps = SUBSET_STEPS

    @property
    def seed(self) -> int:
        """The run's seed; a trial's own lies a few above."""
        return self._ctx.seed

    def overfit(self) -> Trace:
        """One or two batches without dropout and weight decay, looked at in train mode."""
        return self._ctx.once("overfit", "overfitting a batch", self._overfit)

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
        if first.stopped != "steps" or not first.falling:
            return first
        return self._memorise(UNREGULARISED, OVERFIT_STEPS + OVERFIT_MORE)

    def _memorise(self, change: Change, steps: int) -> Trace:
        self._ctx.need_data()
        self._ctx.completed_attempt()
        raws = self._ctx.raws()
        enough = understand(raws[0]).size >= OVERFIT_SAMPLES
        raws = raws[:1] if enough else raws[:2]
        samples = Samples(lambda seed: _cycle(raws), raws, ())
        return run_trial(
            self._setting(raws), samples, change, self.seed, steps, looks=max(12, steps // 25), look_mode="train",
            stop=judge.stop_when_memorised, progress=self._reported(f"overfit, {change.label}"),
        )  # fmt: skip

    def learned_by_heart(self, share: float) -> Trace:
        """As configured on ``share`` of the data, for all of SUBSET_STEPS or until the samples are known by heart."""

        def train() -> Trace:
            self._ctx.completed_attempt()
            material = Material(self._ctx.pipeline, share, exact=True)
            samples = Samples(
                material.batches, material.look_train, material.look_val, material.samples, material.steps_per_epoch
            )
            known = lambda trace: "learned" if (trace.points[-1].train_score or 0.0) >= BY_HEART else ""  # noqa: E731
            return run_trial(
                self._setting(material.look_train), samples, AS_CONFIGURED, self.seed, SUBSET_STEPS, stop=known,
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
        """The same batch with wider hidden layers. Raises Skip where that cannot be done from outside."""

        def measure() -> Trace:
            layers = [layer.path for layer in self._ctx.inspection().layers]
            change = wider.change(self._ctx.pipeline, layers, self._ctx.raws()[0], self._ctx.device)
            return self._memorise(change, self.overfit().steps)

        return self._ctx.once("widened overfit", "overfitting a wider copy", measure)

    def subset(self) -> Trace:
        """The unchanged pipeline on a part of the data."""
        return self.trial(AS_CONFIGURED, self.seed)

    def trial(self, change: Change, seed: int, steps: int = SUBSET_STEPS) -> Trace:
        """A short training on the subset, remembered by change, seed and steps."""

        def train() -> Trace:
            self._ctx.completed_attempt()
            setting, samples = self.on_subset(options=change.options) if change.on is None else change.on()
            progress = self._reported(f"{change.label}, seed {seed}")
            return run_trial(setting, samples, change, seed, steps, progress=progress)

        return self._ctx.once(f"trial {change.key} {seed} {steps}", f"training {change.label}", train)

    def ablation(self, knob: str) -> Ablation:
        """One knob turned, from the mildest change; stops when it is decided. Raises Skip, UsageError."""

        def turn() -> Ablation:
            found = ablate(self._ctx, knob, self._ablation_steps)
            if found.repairing is not None and self.repaired_by is None:
                self.repaired_by = found.repairing.label
            if found.proved:  # the rivals get as many steps as the repair was given, not more
                self.has_proof = True
                self._ablation_steps = min(self._ablation_steps, found.steps)
            return found

        return self._ctx.once(f"ablation {knob}", f"the {knob} ablation", turn)

    def comparison(self, knob: str, values: Sequence[str]) -> Ablation:
        """Every arm over every seed; it stands in for the ablation of that knob from then on."""
        return self._ctx.once(
            f"ablation {knob}",
            f"comparing values of {knob}",
            lambda: ablate(self._ctx, knob, SUBSET_STEPS, values, every_arm=True),
        )

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

    def on_subset(
        self,
        change: Callable[[Any], Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        anew: bool = False,
    ) -> tuple[Setting, Samples]:
        """What a trial on the part of the data needs. ``change`` of each raw batch; ``options`` of the loss that differ
        from the user's; ``anew``: read again instead of as remembered."""
        material = self._material() if not anew else self._new_material()
        if change is None:
            train, val, batches = material.look_train, material.look_val, material.batches
        else:
            train, val = ([change(raw) for raw in raws] for raws in (material.look_train, material.look_val))
            batches = lambda seed: map(change, material.batches(seed))  # noqa: E731
        samples = Samples(batches, train, val, material.samples, material.steps_per_epoch)
        return self._setting(train, options or {}), samples

    def _material(self) -> Material:
        return self._ctx.once("material", "choosing samples", self._new_material)

    def _new_material(self) -> Material:
        self._ctx.need_data()
        wanted = self._ctx.fraction
        return Material(self._ctx.pipeline, 0.1 if wanted is None else wanted, exact=wanted is not None)

    def _setting(self, raws: Sequence[Any], options: Mapping[str, Any] | None = None) -> Setting:
        """What the trials that look at ``raws`` share, with their yardsticks."""
        ctx = self._ctx
        return Setting(
            build=ctx.fresh,
            task=ctx.facts.task,
            device=ctx.device,
            channels_last=self.channels_last(),
            yardsticks=yardsticks_of(raws, ctx.facts, self._loss_calls(options or {}), self.ignore_index()),
            learning_rates=ctx.learning_rates(),
            ignore_index=self.ignore_index(),
            deadline=ctx.deadline,
        )

    def _loss_calls(self, options: Mapping[str, Any]) -> list[LossCall]:
        calls = self._ctx.attempt().loss_calls
        return [replace(call, options={**call.options, **options}) for call in calls] if options else list(calls)

    def ignore_index(self) -> int:
        """The target value that the pipeline's loss leaves out."""
        calls = self._ctx.attempt().loss_calls
        return int(calls[0].options.get("ignore_index", IGNORE_INDEX)) if calls else IGNORE_INDEX

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
        last = [0.0]

        def report(step: int, steps: int, loss: float) -> None:
            if time.monotonic() - last[0] > PROGRESS_SECONDS or step == steps:
                last[0] = time.monotonic()
                self._ctx.progress(f"{what}: loss {loss:.3f}" if math.isfinite(loss) else what, step, steps)

        return report


def _unregularised(pipeline: Pipeline) -> Any:
    for group in pipeline.optimizer.param_groups if pipeline.optimizer else ():
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
    return dropout.off(pipeline)


UNREGULARISED = Change("unregularised", "no dropout, no weight decay", 0, _unregularised, ours=False)


def _cycle(raws: list[Any]) -> Iterator[Any]:
    while True:
        yield from raws
