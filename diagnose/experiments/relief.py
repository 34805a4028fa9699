"""Does an unusual setting hold back a training that does learn?

A setting within its usual range is never asked about: what is merely faster convicts nobody. Nor is a setting whose
planned run is so long that it would get there at its own pace.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from diagnose.experiments.ablate import SEEDS
from diagnose.experiments.behind import MUCH, VERY, Gain, better, catches_up, fails_beside, far_behind
from diagnose.experiments.change import AS_CONFIGURED, Change, together
from diagnose.experiments.judge import COME_FAR
from diagnose.experiments.knobs import arms, rate_of_group, scaled_lr
from diagnose.experiments.known_good import known_good
from diagnose.experiments.longer import LONGER
from diagnose.experiments.parts import GOOD_BATCH, batches_of
from diagnose.experiments.trials import Wanted
from diagnose.experiments.usual import is_merely_slow, is_unusual, odd_group, starting_rate
from probes.api import Skip
from probes.records.trials import Arm, Relief, Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnose.context import MeasuringContext


LONG_RUN = 3.0  # planned steps over those of a trial, from which on the pace is extrapolated
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
    pair = _lengths(ctx, knob, change, steps)
    change = pair[1].change
    before, after = _compared(ctx, knob, pair, steps, VERY if knob == "augmentation" else MUCH)
    longer = ctx.planned_steps() / pair[0].steps
    if knob == "lr" and is_merely_slow(ctx):
        if catches_up(before, after, longer):
            raise Skip(f"it learns as configured, at a rate that {longer:.0f} times the steps of a trial make up for")
        return Relief(knob, arm_of(AS_CONFIGURED, before), arm_of(change, after), pair[0].steps, in_use=True)
    thought = longer if ctx.facts.epochs_stated else max(longer, UNPLANNED)
    if 1 < thought <= LONG_RUN and far_behind(before, after, 1.0) and not far_behind(before, after, thought):
        # A run that is little longer than a trial is better made than thought of.
        pair = _Side(AS_CONFIGURED, ctx.planned_steps()), _Side(change, ctx.planned_steps())
        before, after = (_over_seeds(ctx, pair, side) for side in pair)
        longer = thought = 1.0
    decisive = _decides(before, after, thought)
    caught_up = catches_up(before, after, longer)
    if thought > LONG_RUN and (decisive or not caught_up):
        # What has not begun within a trial may be well on its way in three.
        waited = [_ended(ctx, _Side(AS_CONFIGURED, LONGER * pair[0].steps), 0)]
        later = ctx.trainings.given_longer()
        # A loss lags behind what is learned: of one that is known to begin late, the accuracy must tell.
        judged = far_behind if later is not None and later.learns else _decides
        decisive = decisive and judged(waited, after, thought / LONGER)
        caught_up = catches_up(waited, after, longer / LONGER)
    if longer > LONG_RUN and not decisive and caught_up:
        raise Skip(f"it learns as configured, in a run {longer:.0f} times as long as the trials")
    return Relief(
        knob, arm_of(AS_CONFIGURED, before), arm_of(change, after), pair[0].steps, decisive=decisive,
        steps_after=None if pair[1].steps == pair[0].steps else pair[1].steps,
    )  # fmt: skip


def _compared(
    ctx: MeasuringContext, knob: str, pair: tuple[_Side, _Side], steps: int, wanted: Gain
) -> tuple[list[Trace], list[Trace]]:
    """Both sides over the seeds, one of which screens. Raises Skip where the usual value does not do much better."""
    label = pair[1].change.label
    ctx.trainings.ahead(_wanted(ctx, side, 0) for side in pair)
    if not better(_ended(ctx, pair[0], 0), _ended(ctx, pair[1], 0), wanted):
        raise Skip(f"it learns as configured, and {label} makes no great difference")
    if knob == "width" and not better(_ended(ctx, _all_else_good(ctx, steps), 0), _ended(ctx, pair[1], 0), wanted):
        raise Skip("it learns as configured, and as much as a wider copy with all its settings at usual values")
    before, after = (_over_seeds(ctx, pair, side) for side in pair)
    if not all(better(b, a, wanted) for b, a in zip(before, after, strict=True)):
        raise Skip(f"it learns as configured, and {label} does not help with every seed")
    return before, after


def _decides(before: Sequence[Trace], after: Sequence[Trace], longer: float) -> bool:
    return far_behind(before, after, longer) or fails_beside(before, after, longer)


def _over_seeds(ctx: MeasuringContext, pair: tuple[_Side, _Side], side: _Side) -> list[Trace]:
    ctx.trainings.ahead(_wanted(ctx, either, seed) for either in pair for seed in range(SEEDS))
    return [_ended(ctx, side, seed) for seed in range(SEEDS)]


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


def on_all_data(change: Change, seed: int, steps: int) -> Wanted:
    """To the end, as in the planned run: on a part of the data, what is learned by heart hides what is learned."""
    whole = replace(
        change, key=f"{change.key}, all data", label=f"{change.label}, all data",
        reading=replace(change.reading, whole=True),
    )  # fmt: skip
    return Wanted(whole, seed, steps, to_the_end=True)


def _wanted(ctx: MeasuringContext, side: _Side, seed: int) -> Wanted:
    return on_all_data(side.change, ctx.seed + seed, side.steps)


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


def arm_of(change: Change, traces: Sequence[Trace]) -> Arm:
    return Arm(
        change.key, change.label, change.size, tuple(traces), tuple(t.outcome for t in traces),
        tuple(t.share for t in traces), change.factors, where=change.where,
    )  # fmt: skip
