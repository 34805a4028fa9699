"""Steps that are made in eval mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.loop._modes import is_one_loader
from probes.results import Severity

if TYPE_CHECKING:
    from probes.records.loop import Loop

LEAST = 2  # steps in eval mode
SHARE = 0.5  # of the steps looked at from the first of them on
SHOWN = 3  # modules named in the message

DOC = ProbeDoc(
    code="LOP301",
    name="eval-mode-in-training",
    stage=Stage.WATCH,
    summary="The model is in eval mode while it is trained.",
    why="Dropout does nothing, and batch norm normalises with its running statistics and no longer updates them.",
    fix="Call model.train() at the beginning of every epoch, after each validation.",
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
