"""A pass that ends after its first batch."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.records.loop import LoaderSeen, Loop
    from probes.results import Finding, Where

LEAST_PASSES = 4
LEAST_STEPS = 20  # on a batch that was fetched once
LEAST_LOOKS = 8
LEAST_LATE = 2  # passes
FEW = 0.5  # of the batches of a loader

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
    elsewhere = any(p.forwards and not p.steps for loader in loop.loaders for p in loader.passes if not loader.steps)
    for loader in loop.loaders:
        if loader.late >= LEAST_LATE:
            yield DOC.finding(
                "a step is made after each pass over the loader, on the loss of its last batch alone; {batches} "
                "batches are read for each",
                where=(*_steps_at(loop), *loader.where),
                batches=max(p.batches for p in loader.passes),
            )
            return ""
    if found := _same_values(loop, elsewhere=elsewhere or bool(loop.bare_evaluations)):
        yield found
        return ""
    if not trained:
        if anew := next((loader for loader in loop.loaders if _begun_for_each_step(loader)), None):
            yield DOC.finding(
                "the loader is begun anew for each of {passed} steps, and gives the same first batch of {batches} each "
                "time",
                where=(*_steps_at(loop), *anew.where),
                passed=anew.passed,
                batches=anew.batches,
            )
            return ""
        raise Skip("no steps were made under a DataLoader")
    for loader in trained:
        if found := _same_few(loader, elsewhere=elsewhere or bool(loop.bare_evaluations)):
            yield found
            return ""
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


def _same_values(loop: Loop, *, elsewhere: bool) -> Finding | None:
    """One optimizer, whose every look was at the same inputs and targets, and a loader of more than these."""
    stepped = [optimizer for optimizer in loop.optimizers if optimizer.steps]
    if len(stepped) != 1 or stepped[0].steps < LEAST_STEPS:
        return None
    looks = stepped[0].looks
    values = {look.material for look in looks}
    if len(looks) < LEAST_LOOKS or len(values) != 1 or None in values:
        return None
    size = max(look.size for look in looks)
    for loader in loop.loaders:
        evaluated = any(p.forwards and not p.steps for p in loader.passes)
        read = bool(loader.steps) or (loader.passed > 0 and not evaluated)
        if not read or (loader.batches or 0) < 2 or loader.samples is None or loader.samples < 2 * size:
            continue
        return DOC.finding(
            "all {looks} steps looked at, of {steps}, were made on the same {size} inputs and targets; the loader has "
            "{batches} batches",
            where=(*looks[-1].where, *loader.where),
            severity=None if elsewhere else Severity.NOTE,
            looks=len(looks),
            steps=stepped[0].steps,
            size=size,
            batches=loader.batches,
        )
    return None


def _begun_for_each_step(loader: LoaderSeen) -> bool:
    """Whether one batch, and always the same, is drawn from it before each step by an iterator that is gone then."""
    passes = loader.passes
    one = all(p.batches == 1 and not p.by_loop and not p.steps for p in passes)
    apart = all(later.begun == earlier.begun + 1 for earlier, later in pairwise(passes))
    return one and apart and loader.same_first == loader.passed >= LEAST_STEPS and (loader.batches or 0) > 1


def _same_few(loader: LoaderSeen, *, elsewhere: bool) -> Finding | None:
    """Every pass is left after the same few batches, and they hold the same samples each time."""
    passes = [p for p in loader.passes if p.steps]
    lengths = {p.batches for p in passes}
    few = max(lengths, default=0)
    left = len(lengths) == 1 and few > 1 and not any(p.ended for p in passes)
    same = loader.shuffled is False and loader.same_first == loader.passed >= LEAST_PASSES
    if not left or not same or few > FEW * (loader.batches or 0):
        return None
    return DOC.finding(
        "each of {passed} passes is left after {few} of {batches} batches, the same ones each time",
        where=(*loader.steps_at, *loader.where),
        severity=None if elsewhere else Severity.NOTE,
        passed=loader.passed,
        few=few,
        batches=loader.batches,
    )


def _steps_at(loop: Loop) -> Sequence[Where]:
    return next((optimizer.step_at for optimizer in loop.optimizers if optimizer.steps), ())
