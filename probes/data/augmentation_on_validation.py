"""Validation data change from one reading to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT116",
    name="augmentation-on-validation",
    stage=Stage.DATA,
    summary="Validation samples differ each time they are read.",
    why="Scores move from epoch to epoch without any change of the model, and they measure distorted data.",
    fix="Give the validation data set its own transform, without anything random.",
    before="full = ImageFolder(root, transform=augment)\ntrain, val = random_split(full, [0.9, 0.1])",
    after=(
        "train = Subset(ImageFolder(root, transform=augment), first)\n"
        "val = Subset(ImageFolder(root, transform=plain), rest)"
    ),
)


def run(ctx: Context) -> Findings:
    """A few items of val, each read twice under different random states."""
    if "augmented-validation" in ctx.facts.intents:
        raise Skip("augmented validation is declared as meant")
    if ctx.scan("val").failure is not None:
        raise Skip("the val split cannot be read")
    items = ctx.reread("val")
    if items.changed:
        meant = items.corrupted == items.changed  # scores move a little; what is drawn is the task itself
        yield DOC.finding(
            "{changed} of {items} validation samples differ when read a second time"
            + (": what is to be restored is drawn anew" if meant else ""),
            severity=Severity.NOTE if meant else None,
            where=ctx.loader_at("val"),
            changed=items.changed,
            items=items.items,
        )
    return f"{items.items} validation samples are the same when read twice"
