"""Loader workers draw the same random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT128",
    name="duplicate-worker-randomness",
    stage=Stage.DATA,
    summary="The random augmentation repeats itself: all loader workers, or all epochs, draw the same numbers.",
    why="A generator that is made before the workers start is copied into each of them in the same state, and again at "
    "every epoch. The augmentation is then much poorer than it looks.",
    fix="Draw from torch's global generator, which the loader seeds anew for each worker and epoch, or seed your "
    "own in "
    "worker_init_fn from torch.initial_seed().",
    before="self.rng = np.random.default_rng(0)  # in __init__",
    after="def seed(_): get_worker_info().dataset.rng = np.random.default_rng(torch.initial_seed())\n"
    "DataLoader(..., worker_init_fn=seed)",
    consequences=("overfitting",),
    references=("torch.utils.data documentation: randomness in multi-process data loading",),
)


def run(ctx: Context) -> Findings:
    """The states of the generators that reading an item uses, in two workers and two epochs."""
    if ctx.scan("train").workers < 2:
        raise Skip("the loader has no two workers")
    seen = ctx.worker_draws()
    if not seen.used:
        raise Skip("reading a sample draws no random numbers")
    if seen.same_in_workers:
        yield DOC.finding(
            "{generators} is in the same state in every one of {workers} workers when it begins",
            generators=" and ".join(seen.same_in_workers),
            workers=seen.workers,
        )
    elif seen.same_in_epochs:
        yield DOC.finding(
            "{generators} begins every epoch in the same state", generators=" and ".join(seen.same_in_epochs)
        )
    return f"{' and '.join(seen.used)}: workers and epochs begin in states of their own"
