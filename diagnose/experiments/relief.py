"""Does an unusual setting hold back a training that does learn?

A setting within its usual range is never asked about: what is merely faster convicts nobody. Nor is a setting whose
planned run is so long that it would get there at its own pace.
"""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from diagnose.experiments.ablate import SEEDS
from diagnose.experiments.change import AS_CONFIGURED, Change
from diagnose.experiments.knobs import arms, scaled_lr
from diagnose.experiments.trials import Wanted
from diagnose.experiments.usual import is_unusual, starting_rate
from probes.api import Skip
from probes.records.trials import Arm, Relief, Trace

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
    pair = (AS_CONFIGURED, change)
    ctx.trainings.ahead(Wanted(c, ctx.seed, steps, to_the_end=True) for c in pair)
    if not _better(_ended(ctx, AS_CONFIGURED, 0, steps), _ended(ctx, change, 0, steps), wanted):
        raise Skip(f"it learns as configured, and {change.label} makes no great difference")
    seeds = range(SEEDS)
    ctx.trainings.ahead(Wanted(c, ctx.seed + seed, steps, to_the_end=True) for c in pair for seed in seeds)
    before, after = ([_ended(ctx, c, seed, steps) for seed in seeds] for c in pair)
    if not all(_better(b, a, wanted) for b, a in zip(before, after, strict=True)):
        raise Skip(f"it learns as configured, and {change.label} does not help with every seed")
    longer = ctx.planned_steps() / steps
    if longer > LONG_RUN and _catches_up(before, after, longer):
        raise Skip(f"it learns as configured, in a run {longer:.0f} times as long as the trials")
    longer = longer if ctx.facts.epochs_stated else max(longer, UNPLANNED)
    decisive = all(_fails(b, a) for b, a in zip(before, after, strict=True)) and not _will(before, after, longer)
    return Relief(knob, arm_of(AS_CONFIGURED, before), arm_of(change, after), steps, decisive=decisive)


def usual_value(ctx: MeasuringContext, knob: str) -> Change:
    if knob == "lr":
        now = max(ctx.learning_rates(), default=0.0)
        if now <= 0:
            raise Skip("the learning rate is 0 throughout")
        return scaled_lr(starting_rate(ctx) / now)
    return arms(ctx, knob)[-1]


def _ended(ctx: MeasuringContext, change: Change, seed: int, steps: int) -> Trace:
    return ctx.trainings.trial(change, ctx.seed + seed, steps, to_the_end=True)


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


def arm_of(change: Change, traces: Sequence[Trace]) -> Arm:
    return Arm(
        change.key, change.label, change.size, tuple(traces), tuple(t.outcome for t in traces),
        tuple(t.share for t in traces), change.factors,
    )  # fmt: skip
