"""The learning-rate range test: one short training whose rate grows from far too small to far too large.

L. N. Smith, Cyclical Learning Rates for Training Neural Networks (2017).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diagnose.experiments.change import AS_CONFIGURED, Change
from diagnose.experiments.trial import number
from diagnose.measure.updates import largest_lr
from diagnose.rng import preserved, seed_all
from diagnose.training.step import Engine
from diagnose.user_code import UserCodeError
from probes.api import Inconclusive, Skip
from probes.records.trials import LearningRateRange

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext
    from diagnose.experiments.trial import StepProgress

LEAST, MOST = 1e-6, 10.0
STEPS = 210  # thirty to each power of ten
SMOOTHING = 0.9  # weight of the past in the running mean of the loss
DIVERGED = 4.0  # times the lowest smoothed loss, or the start, whichever is higher
FELL = 0.03  # of the starting loss: a smaller fall is noise
BELOW_LOWEST = 10.0  # the lowest loss is reached where the rate is already too large to hold


def range_test(ctx: MeasuringContext, progress: StepProgress, change: Change = AS_CONFIGURED) -> LearningRateRange:
    """Raises Skip where there is no optimizer, UserCodeError where the user's code fails at the first rates."""
    if ctx.pipeline.optimizer is None:
        raise Skip("there is no optimizer whose learning rate could be changed")
    setting, samples = ctx.trainings.on_subset(change)
    with preserved():
        pipeline = setting.build(ctx.seed)
        seed_all(ctx.seed + 1)
        pipeline.accumulate = 1
        now = max(ctx.learning_rates(), default=0.0) or largest_lr(pipeline.optimizer)
        with change.apply(pipeline):
            engine = Engine(pipeline, setting.device, channels_last=setting.channels_last)
            try:
                rates, losses = _climb(engine, samples.batches(ctx.seed), setting.deadline, progress)
            finally:
                engine.close()
    return judged(rates, losses, now)


def _climb(
    engine: Engine, batches: Any, deadline: float | None, progress: Callable[[int, int, float], None]
) -> tuple[list[float], list[float]]:
    groups = engine.pipeline.optimizer.param_groups  # type: ignore[union-attr]
    largest = max(float(group["lr"]) for group in groups) or 1.0
    shares = [float(group["lr"]) / largest or 1.0 for group in groups]
    rates: list[float] = []
    losses: list[float] = []
    engine.model.train()
    for step in range(STEPS):
        if deadline is not None and time.monotonic() > deadline:
            raise Inconclusive(f"the time budget ended after {step} of {STEPS} steps")
        rate = LEAST * (MOST / LEAST) ** (step / (STEPS - 1))
        for group, share in zip(groups, shares, strict=True):
            group["lr"] = rate * share
        try:
            value = engine.step(next(batches)).loss
        except UserCodeError:
            if rate <= LEAST * 10:
                raise
            break  # what a rate that blows up the weights makes of the user's code is no fault of theirs
        loss = number(value)
        rates.append(rate)
        losses.append(loss)
        progress(step + 1, STEPS, loss)
        if not math.isfinite(loss):
            break
    return rates, losses


def judged(rates: list[float], losses: list[float], now: float) -> LearningRateRange:
    """``suggested``, where the loss fell at all: halfway (in powers of ten) between the rate at which the smoothed loss
    fell fastest and a tenth of the one at which it was lowest. The first is cautious, the second bold."""
    smooth: list[float] = []
    for loss in losses:
        smooth.append(loss if not smooth else SMOOTHING * smooth[-1] + (1 - SMOOTHING) * loss)
    finite = [value for value in smooth if math.isfinite(value)]
    start = finite[min(len(finite), 20) - 1] if finite else math.nan
    lowest = min(range(len(finite)), key=finite.__getitem__, default=0)
    suggested = diverges = None
    if finite and start - finite[lowest] > FELL * abs(start):
        window = max(1, lowest // 10)
        falls = [finite[i] - finite[i + window] for i in range(lowest - window + 1)]
        steepest = rates[max(range(len(falls)), key=falls.__getitem__) + window // 2]
        suggested = math.sqrt(steepest * max(steepest, rates[lowest] / BELOW_LOWEST))
    limit = DIVERGED * max(abs(start), abs(finite[lowest])) if finite else math.inf
    for rate, value in zip(rates[lowest:], smooth[lowest:], strict=True):
        if not math.isfinite(value) or value > limit:
            diverges = rate
            break
    return LearningRateRange(tuple(rates), tuple(losses), tuple(smooth), now, suggested, diverges)
