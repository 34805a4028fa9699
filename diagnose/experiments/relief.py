"""Does an unusual setting hold back a training that does learn?

A setting within its usual range is never asked about: what is merely faster convicts nobody. Nor is a setting whose
planned run is so long that it would get there at its own pace.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from diagnose.experiments.ablate import SEEDS
from diagnose.experiments.change import AS_CONFIGURED, Change, together
from diagnose.experiments.knobs import arms, rate_of_group, scaled_lr
from diagnose.experiments.known_good import known_good
from diagnose.experiments.parts import GOOD_BATCH, batches_of
from diagnose.experiments.trials import Wanted
from diagnose.experiments.usual import is_unusual, odd_group, starting_rate
from probes.api import Skip
from probes.records.trials import Arm, Point, Relief, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnose.context import MeasuringContext


class Gain(NamedTuple):
    """``score``: of validation accuracy; ``fall``: more of the fall of the loss, where there is no accuracy."""

    score: float
    fall: float


MUCH = Gain(0.05, 0.25)
VERY = Gain(0.30, 1.0)
COME_FAR = 0.5  # of the way from guessing to the floor
LONG_RUN = 3.0  # planned steps over those of a trial, from which on the pace is extrapolated
CAUGHT_UP = 0.5  # of what the relieved one reaches, that a proportional pace gets to in the planned run
HARDLY, MOSTLY = 1 / 3, 2 / 3  # of the way: a training that gets less far has failed where the other gets further
TWICE, APART = 2.0, 0.10  # times, and of the way: what must be left to learn beyond what a usual value leaves
LEAST_WAY = 1e-6  # of loss, between guessing and the floor
UNPLANNED = 10  # times the steps of a trial, that a run of unknown length is thought to take


def relief(ctx: MeasuringContext, knob: str, steps: int) -> Relief:
    """The pipeline as it is and with the knob at a usual value, over the seeds, all for ``steps`` steps.

    Raises Skip where the value is usual, or makes no large difference. Augmentation has no usual value: there the
    difference must be a very large one, in a training that has not come far.
    """
    usual = not is_unusual(ctx, knob)
    share = ctx.trainings.subset().share
    if usual and (knob != "augmentation" or share is None or share >= COME_FAR):
        raise Skip("it learns as configured, with a usual value")
    if knob == "augmentation" and is_unusual(ctx, "scheduler"):
        raise Skip("it learns as configured, and the schedule leaves it no time to learn more")
    change = usual_value(ctx, knob)
    wanted = VERY if knob == "augmentation" else MUCH
    pair = _lengths(ctx, knob, change, steps)
    change = pair[1].change
    ctx.trainings.ahead(_wanted(ctx, side, 0) for side in pair)
    if not _better(_ended(ctx, pair[0], 0), _ended(ctx, pair[1], 0), wanted):
        raise Skip(f"it learns as configured, and {change.label} makes no great difference")
    if knob == "width" and not _better(_ended(ctx, _all_else_good(ctx, steps), 0), _ended(ctx, pair[1], 0), wanted):
        raise Skip("it learns as configured, and as much as a wider copy with all its settings at usual values")
    seeds = range(SEEDS)
    ctx.trainings.ahead(_wanted(ctx, side, seed) for side in pair for seed in seeds)
    before, after = ([_ended(ctx, side, seed) for seed in seeds] for side in pair)
    if not all(_better(b, a, wanted) for b, a in zip(before, after, strict=True)):
        raise Skip(f"it learns as configured, and {change.label} does not help with every seed")
    longer = ctx.planned_steps() / pair[0].steps
    thought = longer if ctx.facts.epochs_stated else max(longer, UNPLANNED)
    decisive = leaves_more(before, after, thought) or (
        all(_fails(b, a) for b, a in zip(before, after, strict=True)) and not _will(before, after, thought)
    )
    if longer > LONG_RUN and not decisive and _catches_up(before, after, longer):
        raise Skip(f"it learns as configured, in a run {longer:.0f} times as long as the trials")
    return Relief(
        knob, arm_of(AS_CONFIGURED, before), arm_of(change, after), pair[0].steps, decisive=decisive,
        steps_after=None if pair[1].steps == pair[0].steps else pair[1].steps,
    )  # fmt: skip


class _Side(NamedTuple):
    change: Change
    steps: int


def _lengths(ctx: MeasuringContext, knob: str, change: Change, steps: int) -> tuple[_Side, _Side]:
    """Both for as many steps; but batches of another size for as many epochs, in no more than ``steps``."""
    if knob != "batch-size":
        return _Side(AS_CONFIGURED, steps), _Side(change, steps)
    epochs, samples = ctx.facts.epochs, ctx.scan("train").total or 0
    size = max(GOOD_BATCH, -(-samples * epochs // steps))
    change = batches_of(size, samples)
    each = ctx.trainings.material(replace(change.reading, whole=True)).steps_per_epoch
    return _Side(AS_CONFIGURED, ctx.planned_steps()), _Side(change, min(steps, each * epochs))


def _all_else_good(ctx: MeasuringContext, steps: int) -> _Side:
    """New layers are initialised anew, so that a wider copy may be better for that alone."""
    return _Side(together(list(known_good(ctx).values())), steps)


def _wanted(ctx: MeasuringContext, side: _Side, seed: int) -> Wanted:
    """On all of the data, as in the planned run: on a part, what is learned by heart hides what is learned."""
    change = replace(
        side.change, key=f"{side.change.key}, all data", label=f"{side.change.label}, all data",
        reading=replace(side.change.reading, whole=True),
    )  # fmt: skip
    return Wanted(change, ctx.seed + seed, side.steps, to_the_end=True)


def _ended(ctx: MeasuringContext, side: _Side, seed: int) -> Trace:
    wanted = _wanted(ctx, side, seed)
    return ctx.trainings.trial(wanted.change, wanted.seed, wanted.steps, to_the_end=True)


def usual_value(ctx: MeasuringContext, knob: str) -> Change:
    if knob == "lr":
        if (odd := odd_group(ctx)) is not None:
            return rate_of_group(odd)
        now = max(ctx.learning_rates(), default=0.0)
        if now <= 0:
            raise Skip("the learning rate is 0 throughout")
        return scaled_lr(starting_rate(ctx) / now)
    return arms(ctx, knob)[-1]


def _better(before: Trace, after: Trace, wanted: Gain) -> bool:
    b, a = before.points[-1], after.points[-1]
    if b.val_score is not None and a.val_score is not None:
        return a.val_score - b.val_score >= wanted.score
    return _fall(after) >= (1 + wanted.fall) * max(0.0, _fall(before)) and _fall(after) > 0


def _fall(trace: Trace) -> float:
    """Of the loss on validation samples, else on training samples, from the first look to the last."""
    first, last = trace.points[0], trace.points[-1]
    if first.val_loss is not None and last.val_loss is not None:
        return first.val_loss - last.val_loss
    return first.train_loss - last.train_loss


def _catches_up(before: Sequence[Trace], after: Sequence[Trace], longer: float) -> bool:
    return longer * mean(map(_fall, before)) >= CAUGHT_UP * mean(map(_fall, after))


def _fails(before: Trace, after: Trace) -> bool:
    """Whether the one gets hardly anywhere, and the other most of the way: to the floor, or to where the other gets."""
    if before.share is not None and after.share is not None:
        return before.share < HARDLY and after.share > MOSTLY
    return _fall(before) < HARDLY * _fall(after)


def _will(before: Sequence[Trace], after: Sequence[Trace], longer: float) -> bool:
    """Whether, at the pace of its last half, it gets to CAUGHT_UP of what the other reaches, in so many times the
    steps. A straight line: losses fall ever more slowly."""
    fall = mean(map(_fall, before))
    late = mean(trace.points[len(trace.points) // 2].train_loss - trace.points[-1].train_loss for trace in before)
    return fall + 2 * max(0.0, late) * max(0.0, longer - 1) >= CAUGHT_UP * mean(map(_fall, after))


def leaves_more(before: Sequence[Trace], after: Sequence[Trace], longer: float) -> bool:
    """Whether with every seed at least TWICE as much is left to learn, of the way from guessing to the best, and will
    be after ``longer`` times the steps too, at the pace of the last half."""
    lefts = [[_left(trace, trace.points[-1]) for trace in traces] for traces in (before, after)]
    halves = [_left(trace, trace.points[len(trace.points) // 2]) for trace in before]
    if any(left is None for left in (*lefts[0], *lefts[1], *halves)):
        return False
    was, then, half = ([left for left in found if left is not None] for found in (*lefts, halves))
    if not math.isfinite(sum(then)) or min(was) < max(TWICE * max(then), max(then) + APART):
        return False
    late = max(0.0, mean(half) - mean(was)) if math.isfinite(sum(half)) else 0.0
    return mean(was) - 2 * late * max(0.0, longer - 1) >= TWICE * mean(then)


def _left(trace: Trace, point: Point) -> float | None:
    """The share of the way that is still to go, by accuracy where there is one, on validation samples where there are
    some; infinite where it blew up, None where no way is known."""
    if trace.stopped == "nonfinite":
        return math.inf
    score = point.train_score if point.val_loss is None else point.val_score
    if score is not None and trace.chance is not None and trace.chance < 1:
        return (1 - score) / (1 - trace.chance)
    if trace.constant is None or trace.floor is None or trace.constant - trace.floor < LEAST_WAY:
        return None
    loss = point.train_loss if point.val_loss is None else point.val_loss
    return (loss - trace.floor) / (trace.constant - trace.floor) if math.isfinite(loss) else math.inf


def arm_of(change: Change, traces: Sequence[Trace]) -> Arm:
    return Arm(
        change.key, change.label, change.size, tuple(traces), tuple(t.outcome for t in traces),
        tuple(t.share for t in traces), change.factors, where=change.where,
    )  # fmt: skip
