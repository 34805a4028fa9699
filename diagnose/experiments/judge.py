"""Whether a training learned: the share of the gap from chance to the floor that it closed, and its accuracy.

Chance is the best prediction that ignores the input (the entropy of the labels, the variance of a regression target),
so a bad start does not count as a gap and a good start does not hide one.
"""

from __future__ import annotations

from enum import StrEnum
from statistics import fmean
from typing import TYPE_CHECKING

from diagnose.training.metrics import binomial_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.records.trials import Point, Trace

LEARNS_SHARE = 0.05  # share of the gap: below, a run of a few hundred steps cannot be told from noise in the head bias
PLAINLY = 0.5  # share that is learning whatever the accuracy: among rare events guessing is right nearly always
STUCK_SHARE = 0.02
COME_FAR = 0.5  # of the way from guessing to the floor, by the end of the planned run
STOP_SHARE = 0.10  # a trial that closed this much, twice running, needs no further steps
MEMORISED_SHARE = 0.90
MEMORISED_SCORE = 0.99
MEMORISED_WITH_SCORE = 0.5  # share that suffices once every sample is right: the rest is confidence
LAST_LOOKS = 3  # in a row: one look may fall on a spike
FALLING_SHARE = 0.02  # of the gap, in the last third of a trial: it is still getting better


class Learning(StrEnum):
    LEARNS = "learns"
    SLOW = "slow"  # better than chance, but below LEARNS_SHARE
    STUCK = "stuck"
    NONFINITE = "nonfinite"
    UNKNOWN = "unknown"


def closed_share(trace: Trace, loss: float | None) -> float | None:
    """(chance - loss) / (chance - floor): 0 at chance, 1 at the floor, negative when worse than chance."""
    if loss is None or trace.constant is None or trace.floor is None:
        return None
    gap = trace.constant - trace.floor
    return (trace.constant - loss) / gap if gap > 1e-6 else None


def above_chance(trace: Trace, score: float | None, samples: int) -> bool | None:
    """Whether an accuracy lies above what guessing gives (99.9 % binomial interval); None if there is none."""
    if score is None or trace.chance is None or not samples:
        return None
    return score > binomial_interval(trace.chance, samples)[1]


def learned(trace: Trace, point: Point, share_wanted: float) -> bool | None:
    """On training samples, in eval mode. None where the task has neither a yardstick nor a score."""
    share = closed_share(trace, point.train_loss)
    above = above_chance(trace, point.train_score, trace.samples)
    if share is None:
        return above
    return share >= share_wanted and (above is not False or share >= PLAINLY)


def judge(trace: Trace) -> Learning:
    """What a trial came to, from its last look (and the training losses where there is no yardstick)."""
    if trace.stopped == "nonfinite":
        return Learning.NONFINITE
    if not trace.points:
        return Learning.UNKNOWN
    last = trace.points[-1]
    best = min(trace.points[1:] or trace.points, key=lambda point: point.train_loss)
    if learned(trace, last, LEARNS_SHARE) or (learned(trace, best, STOP_SHARE) and not _lost_again(trace)):
        return Learning.LEARNS
    share = closed_share(trace, last.train_loss)
    above = above_chance(trace, last.train_score, trace.samples)
    if share is None and above is None:
        return _by_losses(trace)
    if above or (share is not None and share >= STUCK_SHARE):
        return Learning.SLOW
    return Learning.STUCK


def _lost_again(trace: Trace) -> bool:
    """Whether it ended at chance, look after look, whatever it had learned before."""
    shares = [closed_share(trace, point.train_loss) for point in trace.points[-LAST_LOOKS:]]
    return len(trace.points) > LAST_LOOKS and all(share is not None and share < STUCK_SHARE for share in shares)


def _by_losses(trace: Trace) -> Learning:
    """A custom loss has no known chance level: it learns if the loss fell well beyond its own scatter."""
    n = len(trace.losses)
    if n < 20:
        return Learning.UNKNOWN
    part = n // 5
    head, tail = trace.losses[:part], trace.losses[-part:]
    scatter = fmean(abs(x - fmean(tail)) for x in tail)
    return Learning.LEARNS if fmean(head) - fmean(tail) > 2 * scatter / part**0.5 + 1e-12 else Learning.UNKNOWN


def stop_when_learned(trace: Trace) -> str:
    """Two looks in a row above STOP_SHARE, on validation samples above chance too: decided."""
    recent = trace.points[-2:]
    if len(trace.points) < 3 or not all(learned(trace, point, STOP_SHARE) for point in recent):
        return ""
    if above_chance(trace, recent[-1].val_score, trace.val_samples) is False:
        return ""  # what is learned may not carry over: go on until that is clear
    return "learned"


def repaired(trace: Trace) -> bool:
    """Whether a changed pipeline learned, and nothing shows that it only memorised what it was given."""
    return trace.outcome == Learning.LEARNS and trace.val_above_chance is not False


def stayed_at_chance(trace: Trace) -> bool:
    """Whether a judged trial failed: stuck, not finite, or hardly better than guessing by its loss."""
    slow = trace.outcome == Learning.SLOW and trace.share is not None and trace.share < STUCK_SHARE
    return slow or trace.outcome in {Learning.STUCK, Learning.NONFINITE}


def steps_to_learn(trace: Trace) -> int:
    """The step of the first look at which the trial had clearly learned; all its steps where it never did."""
    return next((point.step for point in trace.points if learned(trace, point, STOP_SHARE)), trace.steps)


def memorised(trace: Trace) -> bool | None:
    """For the overfit stage: judged on the training losses and accuracy of the last look."""
    last = trace.points[-1]
    share = closed_share(trace, last.train_loss)
    if share is None:
        return None if last.train_score is None else last.train_score >= MEMORISED_SCORE
    right = last.train_score is not None and last.train_score >= MEMORISED_SCORE
    return share >= MEMORISED_SHARE or (right and share >= MEMORISED_WITH_SCORE)


def falling(trace: Trace) -> bool:
    """Whether the loss still fell in the last third of the trial, beyond a fiftieth of what there is to gain; where a
    schedule ends at small rates, in the last third of what came before."""
    points = _at_large_rates(trace.points)
    last = points[-1].train_loss
    earlier = points[len(points) * 2 // 3].train_loss
    if trace.constant is not None and trace.floor is not None:
        gain = trace.constant - trace.floor
    else:
        gain = abs(trace.points[0].train_loss - last)
    return earlier - last > FALLING_SHARE * gain > 0


def _at_large_rates(points: Sequence[Point]) -> Sequence[Point]:
    """Without the looks at the end that a schedule takes at less than half of its highest rate: there a loss stands
    still whatever more steps would bring. All looks where that leaves less than half of them."""
    peak = max((point.lr for point in points if point.lr is not None), default=0.0)
    large = [place for place, point in enumerate(points) if point.lr is not None and point.lr >= peak / 2]
    return points[: large[-1] + 1] if large and 2 * (large[-1] + 1) >= len(points) else points


def stop_when_memorised(trace: Trace) -> str:
    return "memorised" if memorised(trace) else ""
