"""Batches of one sample, or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="OPT615",
    name="batch-size-extreme",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    summary="A batch holds a single sample, or the whole training split.",
    why="With one sample per step the gradient is mostly noise and the hardware idles; with all of them an epoch is a "
    "single step, and a run of a few epochs is a few steps.",
    fix="Choose a batch size between 16 and 256, or accumulate gradients where memory allows only one sample.",
    before="DataLoader(train_set, batch_size=len(train_set))",
    after="DataLoader(train_set, batch_size=64, shuffle=True)",
    consequences=("slow-to-learn", "too-few-epochs"),
)
ENOUGH = 64  # samples of the split, below which any batch size is reasonable
MANY = 256  # samples, above which a full batch wastes most of an epoch
FEW_STEPS = 100  # of the whole planned run
TASKS = frozenset({"classification", "multilabel", "regression"})  # others feed pictures or graphs of many targets each


def run(ctx: Context) -> Findings:
    """The size of a batch against the split, and the steps of the planned run."""
    scan, facts = ctx.scan("train"), ctx.facts
    if facts.task not in TASKS or facts.custom_step:
        raise Skip(f"judged for plain steps of {', '.join(sorted(TASKS))}")
    if scan.total is None or not scan.batch_sizes:
        raise Skip("the size of the training split is not known")
    size = scan.batch_sizes[0]
    steps = ctx.planned_steps()
    accumulated = size * max(1, ctx.pipeline.accumulate)
    if accumulated == 1 and scan.total >= ENOUGH and len(scan.shapes) == 1:
        yield DOC.finding(
            "batches of one sample, of {samples} that are all alike in shape",
            samples=scan.total,
            where=ctx.loader_at("train"),
        )
    elif size >= scan.total >= MANY and facts.epochs_stated and steps < FEW_STEPS:
        yield DOC.finding(
            "one batch holds all {samples} samples: {epochs} epochs are {steps} steps",
            where=ctx.loader_at("train"),
            samples=scan.total,
            epochs=facts.epochs,
            steps=steps,
        )
    return f"batches of {size}, {steps:,} steps in {facts.epochs} epochs"
