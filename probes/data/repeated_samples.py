"""The data set yields the same few samples again and again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.data import Scan

UNIQUE_SHARE = 0.05  # of the samples seen; drawing with replacement still leaves about 63 % unique
MIN_SEEN = 40  # samples: at the share above, two different ones
MIN_ELEMENTS = 16  # per sample; short rows of discrete values repeat by nature

DOC = ProbeDoc(
    code="DAT105",
    name="repeated-samples",
    stage=Stage.DATA,
    summary="The data set yields the same few samples again and again.",
    why="The model sees almost no data: it memorises these samples, or is given one input with many different labels.",
    fix="Use the index in __getitem__, and check that an iterator is not started anew for each batch.",
    before="def __getitem__(self, index):\n    return self.images[0], self.labels[index]",
    after="def __getitem__(self, index):\n    return self.images[index], self.labels[index]",
    consequences=("duplicate-samples", "train-val-leakage", "cannot-overfit", "stuck-at-chance", "no-generalisation"),
)


def run(ctx: Context) -> Findings:
    """Counts different samples of the scan; a sampler that draws few of many is not the data set's doing."""
    scan = ctx.scan("train")
    if not _few(scan) and _contradicts(ctx.plain_scan()):  # a random transform made many pictures of one
        scan = ctx.plain_scan()
    if len(scan.hashes) < MIN_SEEN:
        raise Skip(f"{len(scan.hashes)} samples can be told apart, too few to judge")
    unique = len(set(scan.hashes))
    if _few(scan) and not _drawn_so(ctx, scan):
        yield DOC.finding(
            "{seen} training samples are only {unique} different ones", seen=len(scan.hashes), unique=unique
        )
    return f"{unique:,} different samples among {len(scan.hashes):,}"


def _few(scan: Scan) -> bool:
    unique = len(set(scan.hashes))
    elements = math.prod(scan.input_shape[1:])
    return unique == 1 or (elements >= MIN_ELEMENTS and unique <= UNIQUE_SHARE * len(scan.hashes))


def _contradicts(scan: Scan) -> bool:
    """Whether a few inputs have several labels each. Many random crops of a few pictures are usual, and have one."""
    if not _few(scan) or len(scan.labels) != len(scan.hashes):
        return False
    return 2 * len(set(scan.hashes)) <= len(set(zip(scan.hashes, scan.labels, strict=True)))


def _drawn_so(ctx: Context, scan: Scan) -> bool:
    """Whether the data set's items differ although its loader yields few of them."""
    if scan.replacement is False:
        return False
    try:
        items = ctx.reread("train")
    except Skip:
        return False
    return items.distinct > items.items // 2
