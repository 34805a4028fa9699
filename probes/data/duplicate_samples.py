"""The training split holds many exact duplicates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._copies import fine_grained
from probes.results import Severity, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probes.measurements import Context
    from probes.results import Finding

SHARE = 0.1  # of the training samples; image collections scraped from the web hold a few per cent
MIN_SEEN = 100  # samples
MIN_ELEMENTS = 32  # per sample; short rows of discrete values repeat by nature
REPEATED = 0.05  # unique share below which the name is repeated-samples

DOC = ProbeDoc(
    code="DAT106",
    name="duplicate-samples",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    summary="Many training samples are duplicates of others, exactly or all but for a little noise.",
    why=(
        "Duplicates weigh some samples more than others, and they leak into validation when the data are "
        "split at random."
    ),
    fix="Remove duplicates before splitting; to weigh samples on purpose, use a sampler.",
)


def run(ctx: Context) -> Findings:
    """Only where the sampler takes each item once, so that a repetition is in the data."""
    if ctx.scan("train").replacement is not False:
        raise Skip("the loader does not say that it draws each sample once")
    scan = ctx.plain_scan()
    elements = math.prod(scan.input_shape[1:])
    if len(scan.hashes) < MIN_SEEN or (elements < MIN_ELEMENTS and not fine_grained(scan)):
        raise Skip("too few samples, or samples too small to be told apart by content")
    blank = set(scan.constant)
    hashes = [value for position, value in enumerate(scan.hashes) if position not in blank]
    unique = len(set(hashes))
    copies = len(hashes) - unique
    if unique > REPEATED * len(scan.hashes) and copies > SHARE * len(scan.hashes):
        yield DOC.finding(
            "{copies} of {seen} training samples repeat another one exactly ({share:.0%})",
            copies=copies,
            seen=len(scan.hashes),
            share=copies / len(scan.hashes),
        )
        return ""
    if unique > REPEATED * len(scan.hashes):
        yield from _nearly(ctx, copies / len(scan.hashes))
    return f"{copies:,} exact duplicates among {len(scan.hashes):,} samples"


def _nearly(ctx: Context, exact: float) -> Iterator[Finding]:
    """Copies that differ by a little noise or rounding count with the exact ones."""
    try:
        found = ctx.near_copies()
    except Skip:
        return
    share = found.count / max(1, found.samples)
    if exact + share > SHARE:
        yield DOC.finding(
            "{count} of {samples} training samples are all but equal to another one ({share:.0%}): they differ by "
            "{distance:.1%} of what unrelated samples differ by",
            count=found.count,
            samples=found.samples,
            share=share,
            distance=found.distance,
            evidence=(Table(("sample", "its copy"), [list(pair) for pair in found.pairs], "In the order seen"),),
        )
