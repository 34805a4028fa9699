"""Steps that are made in eval mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.loop._modes import is_one_loader
from probes.results import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probes.records.loop import Loop, StepLook

LEAST = 2  # steps in eval mode
SHARE = 0.5  # of the steps looked at from the first of them on
SHOWN = 3  # modules named in the message

DOC = ProbeDoc(
    code="LOP301",
    name="eval-mode-in-training",
    stage=Stage.WATCH,
    summary="The model is in eval mode while it is trained.",
    why="Dropout does nothing, and batch norm normalises with its running statistics and no longer updates them.",
    fix="Call model.train() after every validation, in the middle of an epoch too: best at the end of what evaluates.",
    judged_by="watch",
    before="model.eval()\nvalidate(model)\nfor x, y in train_loader:",
    after="model.eval()\nvalidate(model)\nmodel.train()\nfor x, y in train_loader:",
    consequences=("overfitting", "batchnorm-statistics-lag", "plateau"),
)


def watched(loop: Loop) -> Findings:
    """In which mode the trained part was when backward reached it."""
    stepped = [optimizer for optimizer in loop.optimizers if optimizer.looks]
    if not stepped:
        raise Skip("no optimizer was stepped")
    for optimizer in stepped:
        looks = optimizer.looks
        asleep = [look for look in looks if look.asleep]
        if after := _after_evaluations(loop, looks):
            yield DOC.finding(
                "after each of {times} evaluations in the middle of an epoch training goes on in eval mode: {names} "
                "do not act as in training until train() is called again",
                where=(*optimizer.slept_at, *after[0].where),
                times=len(after),
                names=", ".join(after[0].asleep[:SHOWN]) + (", ..." if len(after[0].asleep) > SHOWN else ""),
            )
            return ""
        if len(asleep) < LEAST or is_one_loader(looks):
            continue
        since = [look for look in looks if look.step >= asleep[0].step]
        if len(asleep) < SHARE * len(since):
            continue
        first = asleep[0]
        begun = f"from step {first.step:,} on" if first.step > looks[0].step else "from the first step on"
        always = len(since) == len(looks)
        yield DOC.finding(
            "{begun} the model is in eval mode when it is trained ({asleep} of {looks} steps looked at): {names} do "
            "not act as in training",
            severity=Severity.WARNING if always and optimizer.pretrained else None,
            where=(*optimizer.slept_at, *first.where),
            begun=begun,
            asleep=len(asleep),
            looks=len(since),
            names=", ".join(first.asleep[:SHOWN]) + (", ..." if len(first.asleep) > SHOWN else ""),
        )
        return ""
    return "at every step looked at the trained part was in train mode"


def _after_evaluations(loop: Loop, looks: Sequence[StepLook]) -> list[StepLook]:
    """Steps in eval mode that follow at once upon an evaluation within a training pass; none where most are awake."""
    passes = [p for loader in loop.loaders for p in loader.passes]
    training = [(p.begun, p.begun + p.steps) for p in passes if p.steps]
    evaluated = {p.begun for p in passes if p.forwards and not p.steps}
    within = {step for step in evaluated if any(begun < step < end for begun, end in training)}
    followed = [look for look in looks if look.total in within]
    asleep = [look for look in followed if look.asleep]
    awake_before = any(not look.asleep for look in looks if look.step < asleep[0].step) if asleep else False
    return asleep if awake_before and LEAST <= len(asleep) >= SHARE * len(followed) else []
