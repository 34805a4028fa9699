"""Inputs without content."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.data import Scan

MOST = 0.5  # share of samples: above it the data set, and not single samples, is broken
MANY = 0.1  # share of samples; a few blank pages or slices are usual
MIN_ELEMENTS = 16  # per sample; a short row of a table may well repeat one value

DOC = ProbeDoc(
    code="DAT104",
    name="constant-inputs",
    stage=Stage.DATA,
    summary="Samples consist of one single value, so they carry no information.",
    why=(
        "A model can learn nothing from an input that is the same everywhere; such samples only add noise to "
        "the labels."
    ),
    fix=(
        "Look at raw samples and at each step of the transform: an integer division, a wrong scale or a "
        "failed read blanks them."
    ),
    before="image = image.astype('uint8') // 255",
    after="image = image.astype('float32') / 255",
    consequences=(
        "repeated-samples",
        "duplicate-samples",
        "train-val-leakage",
        "cannot-overfit",
        "stuck-at-chance",
        "ignored-input",
    ),
)


def run(ctx: Context) -> Findings:
    """The share of samples with a single value, per split."""
    facts = []
    for split in ctx.facts.splits or ("train",):
        scan = ctx.scan(split)
        elements = math.prod(scan.input_shape[1:]) if len(scan.input_shape) > 1 else 0
        share = len(scan.constant) / scan.seen if scan.seen else 0.0
        if scan.one_token and scan.seen >= MIN_ELEMENTS and _embeds(ctx):
            yield DOC.finding(
                "all of {seen} {split} samples are one token that is repeated, and padding", seen=scan.seen, split=split
            )
            continue
        if (elements < MIN_ELEMENTS and not _all_alike(scan)) or share <= MANY:
            facts.append(f"{split} {_shape(scan)} {scan.input_dtype}, range {scan.input_min:g} to {scan.input_max:g}")
            continue
        yield DOC.finding(
            "{count} of {seen} {split} samples hold one single value ({share:.0%})",
            severity=None if share > MOST else Severity.WARNING,
            count=len(scan.constant),
            seen=scan.seen,
            split=split,
            share=share,
        )
    return "; ".join(facts)


def _embeds(ctx: Context) -> bool:
    """Whether whole numbers are tokens to this model; elsewhere they may count."""
    import torch

    return any(isinstance(m, (torch.nn.Embedding, torch.nn.EmbeddingBag)) for m in ctx.pipeline.model.modules())


def _all_alike(scan: Scan) -> bool:
    """Whether every sample holds the same single value: then even a short row tells nothing."""
    return scan.input_std == 0 and len(set(scan.hashes)) == 1 and scan.seen >= MIN_ELEMENTS


def _shape(scan: Scan) -> str:
    return " x ".join(str(size) for size in scan.input_shape[1:]) or "scalar"
