"""Validation in train mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.records.loop import Loop

SHARE = 0.5  # of the evaluations under one loader
SHOWN = 3  # modules named in the message

DOC = ProbeDoc(
    code="LOP302",
    name="train-mode-in-validation",
    stage=Stage.WATCH,
    summary="The model is in train mode while it is evaluated.",
    why=(
        "Dropout goes on dropping and batch norm normalises with the statistics of each validation batch (and learns "
        "them), so the figures are wrong, commonly too low."
    ),
    fix="Call model.eval() before evaluating, and model.train() afterwards.",
    judged_by="watch",
    before="with torch.no_grad():\n    for x, y in val_loader:",
    after="model.eval()\nwith torch.no_grad():\n    for x, y in val_loader:",
    consequences=("nondeterministic-eval",),
)


def watched(loop: Loop) -> Findings:
    """In which mode models are while a loader is read under which nothing is trained."""
    evaluated = False
    for loader in loop.loaders:
        passes = [p for p in loader.passes if p.forwards and not p.steps]
        if not passes or loader.steps or loader.late:
            continue
        evaluated = True
        awake = [p for p in passes if p.awake]
        if len(awake) < SHARE * len(passes):
            continue
        named = f" ({loader.name})" if loader.name else ""
        yield DOC.finding(
            "in {awake} of {passes} evaluations{named} the model is in train mode: {names} act as in training",
            where=awake[0].where,
            awake=len(awake),
            passes=len(passes),
            named=named,
            names=", ".join(awake[0].awake[:SHOWN]) + (", ..." if len(awake[0].awake) > SHOWN else ""),
        )
        return ""
    if loop.bare_awake:
        yield DOC.finding(
            "the model is evaluated in train mode: {names} act as in training",
            where=loop.bare_at,
            names=", ".join(loop.bare_awake[:SHOWN]),
        )
        return ""
    if not evaluated and not loop.bare_evaluations:
        raise Skip("no evaluation was seen")
    return "in every evaluation looked at the models were in eval mode"
