"""Every loader worker yields all samples."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT127",
    name="iterable-dataset-not-sharded",
    stage=Stage.DATA,
    summary="Each worker of the loader goes through the whole IterableDataset, so every sample comes several times.",
    why="An epoch is as many times longer as there are workers, and its batches hold the same samples again.",
    fix="Share the samples out in __iter__ with torch.utils.data.get_worker_info().",
    before="def __iter__(self):\n    yield from self.samples",
    after="def __iter__(self):\n    info = get_worker_info()\n"
    "    yield from islice(self.samples, info.id if info else 0, None, info.num_workers if info else 1)",
    consequences=("repeated-samples", "duplicate-samples", "overfitting"),
    references=("torch.utils.data.IterableDataset documentation",),
)
SHARE = 0.9  # of the different samples that come as often as there are workers
UNIQUE = 0.9  # share of different samples among those of a single process: discrete data repeat by themselves


def run(ctx: Context) -> Findings:
    """How often each sample comes with the loader's workers, against a single process."""
    scan = ctx.scan("train")
    if not scan.iterable:
        raise Skip("the training data are no IterableDataset")
    if scan.workers < 2:
        raise Skip(f"{scan.workers} loader workers: nothing to share out")
    counts = Counter(scan.hashes)
    alone = ctx.single_process_hashes()
    if not counts or len(set(alone)) < UNIQUE * len(alone):
        raise Skip("samples repeat by themselves, so repetition by workers cannot be told")
    repeated = sum(count >= 2 for count in counts.values()) / len(counts)
    times = sum(counts.values()) / len(counts)
    if repeated >= SHARE and times > 1 + SHARE * (min(2, scan.workers) - 1):
        yield DOC.finding(
            "with {workers} workers, {seen} samples hold only {different} different ones: each comes about {times:.1f} "
            "times",
            workers=scan.workers,
            seen=len(scan.hashes),
            different=len(counts),
            times=times,
            evidence=(Number("times that a sample comes", times, "1"),),
        )
        return ""
    return f"{scan.workers} workers share {len(counts)} different samples out"
