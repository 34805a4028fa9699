"""A loader yields no batch, or drops a large part of its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DROPPED_SHARE = 0.25  # of an epoch's samples; the last incomplete batch of a usual epoch is below 5 %

DOC = ProbeDoc(
    code="DAT101",
    name="empty-loader",
    stage=Stage.DATA,
    summary="A loader yields no batch, or drops a large part of its samples.",
    why=(
        "An epoch without batches trains nothing and raises nothing: the loop simply ends, and losses stay "
        "as they were."
    ),
    fix="Use drop_last=False or a smaller batch size, and check that the data set is not empty.",
    before="DataLoader(dataset, batch_size=64, drop_last=True)",
    after="DataLoader(dataset, batch_size=64)",
    references=("torch.utils.data.DataLoader documentation, drop_last",),
)


def run(ctx: Context) -> Findings:
    """Counts what each split yields against what its sampler planned."""
    facts = []
    for split in ctx.facts.splits or ("train",):
        scan = ctx.scan(split)
        if scan.failure is not None:
            continue
        if scan.batches == 0:
            yield DOC.finding(
                "the {split} loader yields no batch; its data set holds {total} samples",
                split=split,
                total="an unknown number of" if scan.total is None else scan.total,
            )
        elif scan.complete and scan.planned and scan.planned - scan.seen >= DROPPED_SHARE * scan.planned:
            yield DOC.finding(
                "the {split} loader yields {seen} of {planned} samples: an incomplete last batch is dropped",
                severity=Severity.WARNING,
                split=split,
                seen=scan.seen,
                planned=scan.planned,
            )
        else:
            facts.append(f"{split} {scan.seen if scan.complete or scan.total is None else scan.total:,}")
    return " / ".join(facts)
