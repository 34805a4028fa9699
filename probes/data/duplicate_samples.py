"""The training split holds many exact duplicates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.data import Scan

SHARE = 0.1  # of the training samples; image collections scraped from the web hold a few per cent
MIN_SEEN = 100  # samples
FINE = 0.3  # different values of a column, per sample
MIN_ELEMENTS = 32  # per sample; short rows of discrete values repeat by nature
REPEATED = 0.05  # unique share below which the name is repeated-samples

DOC = ProbeDoc(
    code="DAT106",
    name="duplicate-samples",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    summary="Many training samples are exact duplicates of others.",
    why=(
        "Duplicates weigh some samples more than others, and they leak into validation when the data are "
        "split at random."
    ),
    fix="Remove exact duplicates before splitting; to weigh samples on purpose, use a sampler.",
)


def run(ctx: Context) -> Findings:
    """Only where the sampler takes each item once, so that a repetition is in the data."""
    if ctx.scan("train").replacement is not False:
        raise Skip("the loader does not say that it draws each sample once")
    scan = ctx.plain_scan()
    elements = math.prod(scan.input_shape[1:])
    if len(scan.hashes) < MIN_SEEN or (elements < MIN_ELEMENTS and not _fine_grained(scan)):
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
    return f"{copies:,} exact duplicates among {len(scan.hashes):,} samples"


def _fine_grained(scan: Scan) -> bool:
    """Whether a single column takes so many values that equal rows are no coincidence."""
    if scan.rows is None or scan.rows.bag or "float" not in scan.input_dtype:
        return False
    x = scan.rows.features
    return any(len(set(x[:, column].tolist())) > FINE * len(x) for column in range(x.shape[1]))
