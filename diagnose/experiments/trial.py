"""One trial: a fresh pipeline, one change, one seed, a number of steps -> a learning curve."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from diagnose.experiments import judge
from diagnose.experiments.change import Change
from diagnose.measure.updates import MiniatureSchedule, largest_lr
from diagnose.rng import preserved, seed_all
from diagnose.training.meter import aligned
from diagnose.training.metrics import Yardsticks, class_targets, correct_and_count, threshold_by_loss
from diagnose.training.step import Engine, Forwarded
from diagnose.user_code import UserCodeError
from probes.api import Inconclusive
from probes.records.trials import Point, Trace

if TYPE_CHECKING:
    from diagnose.experiments.pieces import Pieces
    from diagnose.pipeline import Pipeline

LOOKS = 12  # looks per trial

StepProgress = Callable[[int, int, float], None]  # (steps done, of how many, the last loss)


@dataclass(frozen=True)
class Setting:
    """What all trials of an experiment share."""

    build: Callable[[int], Pipeline]
    task: str
    device: torch.device
    channels_last: bool
    yardsticks: Yardsticks
    learning_rates: Sequence[float]
    ignore_index: int = -100
    shifted: bool = False  # whether the loss moves the targets by a place, as language models may
    deadline: float | None = None  # time.monotonic()


@dataclass(frozen=True)
class Samples:
    """``batches(seed)`` is endless, over ``count`` samples in ``steps_per_epoch`` batches; looks are at fixed ones."""

    batches: Callable[[int], Iterator[Any]]
    look_train: Sequence[Any]
    look_val: Sequence[Any]
    count: int | None = None
    steps_per_epoch: int | None = None


def run_trial(
    setting: Setting,
    samples: Samples,
    change: Change,
    seed: int,
    steps: int,
    *,
    name: str = "",
    looks: int = LOOKS,
    look_mode: str = "eval",
    stop: Callable[[Trace], str] = judge.stop_when_learned,
    progress: StepProgress = lambda step, steps, loss: None,
    pieces: Pieces | None = None,
) -> Trace:
    """Trains for at most ``steps`` steps; ``stop(trace so far)`` ends it early with a reason. ``pieces``: where what
    is done is kept on the way, and taken up again.

    Raises Inconclusive when the deadline passes before it is decided, UserCodeError when the user's code fails.
    """
    started = time.monotonic()
    with preserved():
        pipeline = setting.build(seed)
        seed_all(seed + 1)
        pipeline.accumulate = 1  # steps are counted in updates
        # The planned schedule, whose height is the largest rate of all groups, is scaled with it.
        factor = change.factors.get("largest lr", change.factors.get("lr", 1.0))
        rates = () if change.constant_lr or change.scheduler else tuple(lr * factor for lr in setting.learning_rates)
        setting = replace(setting, learning_rates=rates)
        with change.apply(pipeline):
            engine = Engine(pipeline, setting.device, channels_last=setting.channels_last)
            predicted: list[int] = []
            val: tuple[list[int], list[int]] = ([], [])
            try:
                scheduler = None if change.scheduler is None else change.scheduler(pipeline.optimizer, steps)
                trace = _train(
                    setting, samples, engine, seed, steps, looks, look_mode, stop, progress, scheduler, pieces
                )
                predicted = _predictions(engine, samples.look_train, setting)[0]
                val = _predictions(engine, samples.look_val, setting)
                if not change.ours and look_mode == "eval":
                    trace = replace(trace, reestimated=_reestimated(engine, samples, setting, trace))
            except UserCodeError:
                if not change.ours:
                    raise
                # We changed the rate or the decay: what the user's code makes of that is no fault of theirs.
                trace = _trace(setting, samples, seed, [], [Point(0, math.nan, None)], "nonfinite")
            finally:
                engine.close()
    last = trace.points[-1]
    return replace(
        trace,
        name=name or change.label,
        seconds=time.monotonic() - started,
        share=judge.closed_share(trace, last.train_loss),
        outcome=str(judge.judge(trace)),
        falling=judge.falling(trace),
        above_chance=judge.above_chance(trace, last.train_score, trace.samples),
        val_above_chance=judge.above_chance(trace, last.val_score, trace.val_samples),
        predicted_share=max(Counter(predicted).values()) / len(predicted) if predicted else None,
        val_predicted=tuple(val[0]),
        val_labels=tuple(val[1]),
        trained_on=samples.count,
        steps_per_epoch=samples.steps_per_epoch,
    )


def _train(
    setting: Setting,
    samples: Samples,
    engine: Engine,
    seed: int,
    steps: int,
    looks: int,
    look_mode: str,
    stop: Callable[[Trace], str],
    progress: StepProgress,
    scheduler: Any,
    pieces: Pieces | None,
) -> Trace:
    every = _look_interval(steps, looks, samples.steps_per_epoch)
    started = time.monotonic()
    schedule = MiniatureSchedule(engine.pipeline.optimizer, setting.learning_rates, steps)
    batches = samples.batches(seed)
    begun = None if pieces is None else pieces.begin(engine, scheduler, batches)
    losses, points = begun or ([], [_look(setting, samples, engine, 0, look_mode)])
    trace = _trace(setting, samples, seed, losses, points, "steps")
    for step in range(len(losses), steps):
        if setting.deadline is not None and time.monotonic() > setting.deadline:
            raise Inconclusive(f"the time budget ended after {step} of {steps} steps")
        engine.model.train()
        schedule.set(step)
        loss = engine.step(next(batches)).loss
        losses.append(number(loss))
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(losses[-1])
        elif scheduler is not None:
            scheduler.step()
        progress(step + 1, steps, losses[-1])
        if not math.isfinite(losses[-1]):
            return _trace(setting, samples, seed, losses, points, "nonfinite")
        if (step + 1) % every == 0 or step + 1 == steps:
            point = _look(setting, samples, engine, step + 1, look_mode, losses[-every:])
            lr = largest_lr(engine.pipeline.optimizer)
            points.append(replace(point, lr=lr, seconds=time.monotonic() - started))
            trace = _trace(setting, samples, seed, losses, points, "steps")
            reason = stop(trace)
            if reason:
                return replace(trace, stopped=reason)
        if pieces is not None:
            pieces.step_done(steps, losses, points)
    return trace


def _look_interval(steps: int, looks: int, epoch: int | None) -> int:
    """At the end of each epoch where that comes about as often as wanted, else ``looks`` times."""
    every = max(1, steps // looks)
    return epoch if epoch is not None and every / 2 <= epoch <= every * 2 else every


def _trace(
    setting: Setting, samples: Samples, seed: int, losses: list[float], points: list[Point], stopped: str
) -> Trace:
    from diagnose.batches import understand

    yard = setting.yardsticks
    return Trace(
        name="",
        seed=seed,
        steps=len(losses),
        losses=tuple(losses),
        points=tuple(points),
        floor=yard.floor,
        constant=yard.constant,
        chance=yard.chance,
        samples=sum(understand(raw).size for raw in samples.look_train),
        val_samples=sum(understand(raw).size for raw in samples.look_val),
        classes=yard.classes,
        stopped=stopped,
        seconds=0.0,
    )


def _look(
    setting: Setting, samples: Samples, engine: Engine, step: int, mode: str, recent: Sequence[float] = ()
) -> Point:
    """``recent`` step losses stand in for the loss of a pipeline that defines it inside its own step only."""
    if not engine.has_loss:
        return Point(step, fmean(recent) if recent else math.nan, None)
    train_loss, train_score = evaluate(engine, samples.look_train, setting, mode)
    if not samples.look_val:
        return Point(step, train_loss, train_score)
    return Point(step, train_loss, train_score, *evaluate(engine, samples.look_val, setting))


def evaluate(engine: Engine, raws: Sequence[Any], setting: Setting, mode: str = "eval") -> tuple[float, float | None]:
    """(mean loss per sample, accuracy or None) in ``mode``, leaving the modules in the modes they were in."""
    model = engine.model
    modes = {module: module.training for module in model.modules()}
    model.train(mode == "train")
    loss_sum, count, right, judged = 0.0, 0, 0, 0
    threshold = threshold_by_loss(engine.pipeline.loss)
    try:
        with torch.no_grad(), preserved():
            for raw in raws:
                done = engine.loss(raw)
                size = done.batch.size
                loss_sum += number(done.loss) * size
                count += size
                pair = (
                    None
                    if done.main is None
                    else correct_and_count(*_judged(done, setting), setting.ignore_index, threshold)
                )
                if pair is not None:
                    right, judged = right + pair[0], judged + pair[1]
    finally:
        for module, training in modes.items():
            module.training = training
    return (loss_sum / count if count else math.nan), (right / judged if judged else None)


def _judged(done: Forwarded, setting: Setting) -> tuple[torch.Tensor, Any, str]:
    """(output, target, task), output and target place by place."""
    assert done.main is not None
    if not setting.shifted:
        return done.main, done.batch.target, setting.task
    return *aligned(done.main, done.batch.target, setting.task, shifted=True), setting.task


def gradient_agreement(setting: Setting, samples: Samples, change: Change, seed: int) -> float | None:
    """Cosine between the gradients of two passes over the same first batch: what dropout leaves of the signal."""
    with preserved():
        pipeline = setting.build(seed)
        if pipeline.train_step is not None:
            return None
        seed_all(seed + 1)
        with change.apply(pipeline):
            engine = Engine(pipeline, setting.device, channels_last=setting.channels_last)
            engine.model.train()
            raw = next(samples.batches(seed))
            gradients = []
            for _ in range(2):
                engine.model.zero_grad(set_to_none=True)
                engine.loss(raw).loss.backward()
                gradients.append(torch.cat([_flat_gradient(p) for p in engine.model.parameters()]).double())
            engine.close()
    return float(torch.nn.functional.cosine_similarity(gradients[0], gradients[1], dim=0))


def _flat_gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Zeros where a pass skipped the parameter (stochastic depth), dense where it is sparse (embeddings)."""
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros(parameter.numel(), device=parameter.device)
    return (gradient.to_dense() if gradient.is_sparse else gradient).detach().flatten().float()


def _predictions(engine: Engine, raws: Sequence[Any], setting: Setting) -> tuple[list[int], list[int]]:
    """(predicted classes, labels) in eval mode; empty for tasks without classes."""
    predicted: list[int] = []
    labels: list[int] = []
    if not engine.has_loss:
        return predicted, labels
    modes = {module: module.training for module in engine.model.modules()}
    threshold = threshold_by_loss(engine.pipeline.loss)
    engine.model.eval()
    try:
        with torch.no_grad(), preserved():
            for raw in raws:
                done = engine.loss(raw)
                pair = (
                    None
                    if done.main is None
                    else class_targets(*_judged(done, setting), setting.ignore_index, threshold)
                )
                if pair is None:
                    return [], []
                predicted += pair[0].tolist()
                labels += pair[1].tolist()
    finally:
        for module, training in modes.items():
            module.training = training
    return predicted, labels


def _reestimated(engine: Engine, samples: Samples, setting: Setting, trace: Trace) -> Point | None:
    """The last look again, with the statistics of every batch norm taken anew from the samples looked at. Uses the
    model up. None where no batch norm keeps statistics."""
    norms = [
        m for m in engine.model.modules()
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]  # fmt: skip
    if not norms or not engine.has_loss or not trace.steps:
        return None
    engine.model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    try:
        with torch.no_grad(), preserved():
            for raw in samples.look_train:
                engine.loss(raw)
    except UserCodeError:  # a batch of one sample, say
        return None
    loss, score = evaluate(engine, samples.look_train, setting)
    if not samples.look_val:
        return Point(trace.steps, loss, score)
    return Point(trace.steps, loss, score, *evaluate(engine, samples.look_val, setting))


def number(loss: Any) -> float:
    """Of a loss that a step returned; nan where it returned none."""
    return math.nan if loss is None else float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
