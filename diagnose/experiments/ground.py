"""What the trials of one pipeline stand on: the samples that they draw from, and the setting in which they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from diagnose.experiments.change import AS_CONFIGURED, Change, Reading
from diagnose.experiments.material import Material
from diagnose.experiments.trial import LOOKS, Samples, Setting
from diagnose.experiments.yardsticks import yardsticks_of
from diagnose.training.metrics import IGNORE_INDEX
from diagnose.user_code import UserCodeError

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from probes.records.forward import LossCall

MIN_CHANNELS_LAST_PIXELS = 256  # below, the layout makes no difference that is worth a conversion


class Ground:
    def __init__(self, ctx: MeasuringContext) -> None:
        self._ctx = ctx

    def steps(self, evaluations: int) -> int:
        """How many steps take about so many evaluations of the loss: all, but for an optimizer such as LBFGS, which
        evaluates it up to ``max_iter`` times in each."""
        optimizer = self._ctx.pipeline.optimizer
        groups = optimizer.param_groups if optimizer is not None else []
        each = max((int(group.get("max_iter") or 1) for group in groups), default=1)
        return max(min(LOOKS, evaluations), evaluations // each)

    def on_subset(self, change: Change = AS_CONFIGURED) -> tuple[Setting, Samples]:
        """What a trial on the part of the data needs."""
        if change.reading.samples is not None:
            samples = change.reading.samples()
            return self.setting(samples.look_train, change), samples
        material, each = self.material(change.reading), change.reading.each
        if each is None:
            train, val, batches = material.look_train, material.look_val, material.batches
        else:
            train, val = ([each(raw) for raw in raws] for raws in (material.look_train, material.look_val))
            batches = lambda seed: map(each, material.batches(seed))  # noqa: E731
        samples = Samples(batches, train, val, material.samples, material.steps_per_epoch)
        return self.setting(train, change), samples

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

    def setting(self, raws: Sequence[Any], change: Change = AS_CONFIGURED) -> Setting:
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
