"""Training waits for data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Number, Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT135",
    name="slow-dataloader",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    grade=Grade.SUPPORTED,
    summary="Most of a training step is spent waiting for the loader.",
    why="The device idles while samples are read and prepared one after the other.",
    fix="Read in several processes (num_workers), decode and resize once and store the result, or move costly "
    "preparation out of __getitem__.",
    before="DataLoader(train_set, batch_size=64)",
    after="DataLoader(train_set, batch_size=64, num_workers=4, persistent_workers=True)",
    references=("torch.utils.data documentation: single- and multi-process data loading",),
)
WAIT = 0.8  # share of a step
NOTICEABLE = 0.025  # seconds per batch, below which nobody waits


def run(ctx: Context) -> Findings:
    """Time for a batch against time for a step, both measured here."""
    wait = ctx.scan("train").seconds_per_batch
    if wait is None:
        raise Skip("there are too few batches to tell")
    step = ctx.updates().seconds_per_batch
    share = wait / (wait + step) if wait + step > 0 else 0.0
    if wait >= NOTICEABLE and share >= WAIT:
        yield DOC.finding(
            "a batch takes {wait:.3g} s to read and {step:.3g} s to train on: {share:.0%} of the time is waiting",
            wait=wait,
            step=step,
            share=share,
            evidence=(Number("share of a step spent waiting", share, f"below {WAIT:.0%}"),),
        )
        return ""
    return "reading a batch takes less than the step" if wait < step else "reading a batch takes no noticeable time"
