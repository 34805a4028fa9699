"""A pass that ends after its first batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.records.loop import Loop

LEAST_PASSES = 4
LEAST_STEPS = 20  # on a batch that was fetched once

DOC = ProbeDoc(
    code="LOP304",
    name="first-batch-only",
    stage=Stage.WATCH,
    summary="Training sees only the first batch of its loader.",
    why="A break, a return or a next(iter(loader)) in the wrong place: the rest of the data is never used.",
    fix="Iterate over the whole loader in every epoch; look for a break or return inside the loop.",
    judged_by="watch",
    before="for x, y in train_loader:\n    train_step(x, y)\n    break",
    after="for x, y in train_loader:\n    train_step(x, y)",
    consequences=("no-generalisation", "overfitting"),
)


def watched(loop: Loop) -> Findings:
    """Which samples the steps under each loader were made on."""
    trained = [loader for loader in loop.loaders if loader.steps]
    if not trained:
        raise Skip("no steps were made under a DataLoader")
    elsewhere = any(p.forwards and not p.steps for loader in loop.loaders for p in loader.passes if not loader.steps)
    for loader in trained:
        passes = [p for p in loader.passes if p.steps]
        if (loader.batches or 0) < 2 or not passes or any(p.batches != 1 for p in passes):
            continue
        same = loader.same_first == loader.passed and all(p.first is not None for p in passes)
        if loader.passed >= LEAST_PASSES and same:
            severity = None
        elif loader.passed >= LEAST_PASSES and all(p.by_loop for p in passes):
            severity = Severity.WARNING  # another batch each time: slow, but all data may be seen in the end
        elif loader.passed == 1 and loader.steps >= LEAST_STEPS:
            severity = None if elsewhere else Severity.NOTE  # without an evaluation: a test of memorising one batch
        else:
            continue
        yield DOC.finding(
            "{steps} steps were made on the first batch of {passed} passes; the loader has {batches} batches",
            where=(*loader.steps_at, *loader.where),
            severity=severity,
            steps=loader.steps,
            passed=loader.passed,
            batches=loader.batches,
        )
        return ""
    return "passes over the training data go beyond their first batch"
