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
    """One item read again and again by two workers, over two epochs."""
    if ctx.scan("train").workers < 2:
        return "no two loader workers"
    if not ctx.reread("train").changed and not ctx.worker_draws().varies:
        return "nothing random in the reading of a sample"
    seen = ctx.worker_draws()
    if not seen.varies:
        raise Skip("the reading of a sample is not random in a worker")
    if seen.same_in_workers == seen.draws:
        yield DOC.finding(
            "two workers drew the same augmentation for all of {draws} readings", draws=seen.draws, workers=seen.workers
        )
    elif seen.same_in_epochs == 2 * seen.draws:
        yield DOC.finding(
            "in a second epoch all of {draws} readings were augmented just as in the first", draws=2 * seen.draws
        )
    return "workers and epochs draw different random numbers"
