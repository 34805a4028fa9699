"""Whether a schedule that is stepped with every batch was made for epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from probes.records.loop import Loop, OptimizerSeen

GONE = 0.01 * (1 + 1e-6)  # of the peak: two drops to a tenth, with what rounding leaves
SOON = 2  # passes over the loader within which a decay made for epochs is over when it is stepped per batch
MOST_IDLE = 2 / 3  # share of the run after such a decay
HALF_IDLE = 0.5  # share of the run after any decay per batch, from which on it is worth a warning
LEAST_BATCHES = 4  # in a pass: with fewer, stepping per batch and per epoch are much the same
SET_WITH_EACH = 0.5  # changes of the rate for each step, from which on it is set by the step where no passes are seen
OFTEN = 2  # scheduler steps per pass, on average, above which it is not stepped per epoch


def left_at(lrs: Sequence[tuple[int, float]]) -> int | None:
    """The step from which on the rate is at most a hundredth of its peak for good; None where it never is.

    ``lrs``: (step, rate from that step on).
    """
    peak = max((lr for _, lr in lrs), default=0.0)
    alive = [i for i, (_, lr) in enumerate(lrs) if lr > GONE * peak]
    return lrs[alive[-1] + 1][0] if alive and alive[-1] + 1 < len(lrs) else None


def steps_of_a_pass(loop: Loop) -> int:
    """Optimizer steps under one pass over the loader with most of them; 0 where none was seen."""
    trained = max((loader for loader in loop.loaders if loader.steps), key=lambda loader: loader.steps, default=None)
    return max((p.steps for p in trained.passes), default=0) if trained else 0


def per_batch(loop: Loop, index: int, until: int) -> bool:
    """Whether the rate of optimizer ``index`` is set more often than with each pass, in its first ``until`` steps."""
    optimizer, each = loop.optimizers[index], steps_of_a_pass(loop)
    if not each:
        return _by_hand(optimizer) and sum(step <= until for step, _ in optimizer.lrs) > SET_WITH_EACH * until
    if each < LEAST_BATCHES:
        return False
    calls = [scheduler.steps for scheduler in loop.schedulers if scheduler.optimizer == index]
    if calls:
        return max(calls) > OFTEN * max(1.0, optimizer.steps / each)
    return sum(step <= until for step, _ in optimizer.lrs) > OFTEN * max(1.0, until / each) + 1


def _by_hand(optimizer: OptimizerSeen) -> bool:
    """Whether its batches are drawn without a loader: the looks are at other samples each, not at the same ones."""
    seen = [look.material for look in optimizer.looks if look.material is not None]
    return len(seen) >= LEAST_BATCHES and len(set(seen)) == len(seen)


def in_units_of_epochs(loop: Loop, index: int, left: int) -> Literal["", "soon", "half"]:
    """What it is: "soon" where the rate, set per batch, is gone (after ``left`` steps) within two passes, with most to
    come; "half" where it is gone for half of the run."""
    steps = loop.optimizers[index].steps
    if not per_batch(loop, index, left):
        return ""
    idle = 1 - left / steps
    if left <= SOON * steps_of_a_pass(loop) and idle >= MOST_IDLE:
        return "soon"
    return "half" if idle >= HALF_IDLE else ""
