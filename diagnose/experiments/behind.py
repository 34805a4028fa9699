"""How far trainings under one setting are behind those under another, seed by seed, and whether that will stay so."""

from __future__ import annotations

import math
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.records.trials import Point, Trace


class Gain(NamedTuple):
    """``score``: of validation accuracy; ``fall``: more of the fall of the loss, where there is no accuracy."""

    score: float
    fall: float


MUCH = Gain(0.05, 0.25)
VERY = Gain(0.30, 1.0)
CAUGHT_UP = 0.5  # of what the relieved one reaches, that a proportional pace gets to in the planned run
HARDLY, MOSTLY = 1 / 3, 2 / 3  # of the way: a training that gets less far has failed where the other gets further
TWICE, APART = 2.0, 0.10  # times, and of the way: what must be left to learn beyond what a usual value leaves
LEAST_WAY = 1e-6  # of loss, between guessing and the floor


def better(before: Trace, after: Trace, wanted: Gain) -> bool:
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


def catches_up(before: Sequence[Trace], after: Sequence[Trace], longer: float) -> bool:
    return longer * mean(map(_fall, before)) >= CAUGHT_UP * mean(map(_fall, after))


def fails_beside(before: Sequence[Trace], after: Sequence[Trace], longer: float) -> bool:
    """Whether with every seed the one gets hardly anywhere, the other most of the way, and more steps will not do."""
    return all(map(_fails, before, after)) and not _will(before, after, longer)


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


def far_behind(before: Sequence[Trace], after: Sequence[Trace], longer: float) -> bool:
    """Whether with every seed TWICE as much is left to learn, of the way from guessing to the best, or hardly a third
    is learned of what the other learns; and whether that will be so after ``longer`` times the steps too, at the pace
    of the last half."""
    lefts = [[_left(trace, trace.points[-1]) for trace in traces] for traces in (before, after)]
    halves = [_left(trace, trace.points[len(trace.points) // 2]) for trace in before]
    if any(left is None for left in (*lefts[0], *lefts[1], *halves)):
        return False
    was, then, half = ([left for left in found if left is not None] for found in (*lefts, halves))
    if not math.isfinite(sum(then)) or min(was) < max(then) + APART:
        return False
    late = max(0.0, mean(half) - mean(was)) if math.isfinite(sum(half)) else 0.0
    end = mean(was) - 2 * late * max(0.0, longer - 1)
    twice = min(was) >= TWICE * max(then) and end >= TWICE * mean(then)
    third = 1 - min(was) <= HARDLY * (1 - max(then)) and 1 - end <= HARDLY * (1 - mean(then))
    return twice or third


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
