"""Validation samples are in the training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._copies import fine_grained, oversampled, told_apart_by_a_mask
from probes.results import Finding

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.data import Scan

SHARE = 0.01  # of the split; well-kept image benchmarks hold fewer exact duplicates across splits
HALF = 0.5  # of the split: so many copies make a score on it worthless, whatever brought them there
SEVERAL = 3  # samples; one or two are coincidence in any collection
SEVERAL_NEAR = 8  # the same, where samples are only nearly equal
DUPLICATES = 2.0  # tolerated share in units of the share of training samples that have a twin within train

DOC = ProbeDoc(
    code="DAT114",
    name="train-val-leakage",
    stage=Stage.DATA,
    summary="Samples of the validation data are in the training data too.",
    why="The model has seen the answers: validation looks better than new data will, and overfitting stays hidden.",
    fix="Split once by index, remove duplicates before splitting, and keep samples of one source in one split.",
    before="train, val = dataset, Subset(dataset, range(1000))",
    after="train, val = random_split(dataset, [0.9, 0.1])",
    takeaways=("Validation data are worth only as much as they are unseen.",),
)


def run(ctx: Context) -> Findings:
    """By data set and index where that can be told, else by the content of each sample."""
    train = ctx.plain_scan()
    facts = []
    for split in ("val", "test"):
        if split not in ctx.facts.splits:
            continue
        other = ctx.scan(split)
        if told_apart_by_a_mask(ctx, split):
            facts.append(f"{split} is the one batch of train, with another mask")
            continue
        shared = ctx.shared_items() if split == "val" else None
        if shared is not None and shared[0] > SHARE * shared[1]:
            yield _finding(split, shared[0], shared[1], "by data set and index")
            continue
        first, second = _contents(train), _contents(other)
        if not first or not second or train.input_dtype != other.input_dtype:
            continue
        counts = Counter(first)
        twins = sum(count for count in counts.values() if count > 1) / len(first)
        overlap = sum(value in counts for value in second)
        part = 1.0 if train.complete or not train.total else min(1.0, train.seen / train.total)
        allowed = part * SHARE + DUPLICATES * twins
        if fine_grained(train) and fine_grained(other):  # equal samples are copies, however many there are
            allowed = min(allowed, part * (SHARE if oversampled(train) else HALF))
        if overlap >= SEVERAL and overlap / len(second) > allowed:
            yield _finding(split, overlap, len(second), "by content")
        else:
            yield from _nearly(ctx, split)
        repeat = ", as samples repeat within train" if twins else ""
        facts.append(f"{overlap} of {len(second):,} {split} samples also in train{repeat}")
    if not ctx.facts.splits[1:]:
        raise Skip("there is no split to compare with")
    return "; ".join(facts) or "samples cannot be compared by content, and none is shared by index"


def _nearly(ctx: Context, split: str) -> Iterator[Finding]:
    """Copies that differ by a little noise or rounding, more of them than within train."""
    try:
        found, within = ctx.near_copies(split), ctx.near_copies()
    except Skip:
        return
    twins = within.count / max(1, within.samples)
    if found.count >= SEVERAL_NEAR and found.count / found.samples > SHARE + DUPLICATES * twins:
        yield _finding(split, found.count, found.samples, f"all but for {found.distance:.1%} of the usual distance")


def _finding(split: str, overlap: int, seen: int, how: str) -> Finding:
    return DOC.finding(
        "{overlap} of {seen} {split} samples are in the training data too ({share:.1%}, {how})",
        overlap=overlap,
        seen=seen,
        split=split,
        share=overlap / seen,
        how=how,
    )


def _contents(scan: Scan) -> Sequence[int]:
    """Identities of the samples that have any content."""
    blank = set(scan.constant)
    return [value for position, value in enumerate(scan.hashes) if position not in blank]
