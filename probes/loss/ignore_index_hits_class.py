"""The loss leaves out a real class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import PICKS_ONE, calls
from probes.results import Number

if TYPE_CHECKING:
    from torch import Tensor

    from probes.measurements import Context

DOC = ProbeDoc(
    code="LOS414",
    name="ignore-index-hits-class",
    stage=Stage.SMOKE,
    summary="ignore_index is the number of a class that occurs in the labels: that class never counts.",
    why="Samples of that class add nothing to the loss, so the model never learns it and is wrong on all of them.",
    fix="Leave ignore_index at -100, or give the padding a number that no class has.",
    before="nn.CrossEntropyLoss(ignore_index=0)  # 0 is a class",
    after="nn.CrossEntropyLoss(ignore_index=-100)",
    consequences=("no-generalisation", "below-expected-curve", "initial-loss-off"),
    references=("torch.nn.CrossEntropyLoss documentation: ignore_index",),
)
INSIDE = 0.3  # share of the ignored places of a sequence that stand between others: padding stands at the ends
DENSE = 0.02  # share of a picture's pixels, above which it is no mere border


def run(ctx: Context) -> Findings:
    """Which labels does the loss pass over, and are they padding?"""
    call = calls(ctx, *PICKS_ONE)[0]
    ignored = int(call.options.get("ignore_index", -100))
    classes = int(call.input.shape[1] if call.input.ndim > 1 else call.input.shape[0])
    if not 0 <= ignored < classes:
        return f"ignore_index {ignored} is no class"
    target = call.target
    hit = target == ignored
    share = float(hit.float().mean()) if target.numel() else 0.0
    task = ctx.facts.task
    if task == "classification":
        counts = ctx.scan("train").labels
        share = sum(label == ignored for label in counts) / len(counts) if counts else share
        wrong = share > 0
    elif task == "segmentation":
        named = ctx.facts.class_names
        wrong = share > DENSE and bool(named) and len(named) == classes
        if not wrong and share > 0:
            raise Skip(f"whether number {ignored}, which the loss leaves out, is a class or a void is not known")
    else:
        wrong = share > 0 and _stands_inside(ctx.attempt().target, ignored)
    if wrong:
        yield DOC.finding(
            "ignore_index is {ignored}, one of {classes} classes: {share:.1%} of the labels are left out",
            ignored=ignored,
            classes=classes,
            share=share,
            where=call.where,
            evidence=(Number("share of labels that the loss leaves out", share, "0"),),
        )
        return ""
    return f"ignore_index {ignored} is padding only" if share else f"ignore_index {ignored} does not occur"


def _stands_inside(target: object, ignored: int) -> bool:
    """Whether many of the ignored places of (N, L) targets have others on both sides."""
    import torch

    if not isinstance(target, torch.Tensor) or target.ndim != 2:
        return False
    hit: Tensor = target == ignored
    other = ~hit
    inside = hit & (other.cumsum(1) > 0) & (other.flip(1).cumsum(1).flip(1) > 0)
    return bool(hit.any()) and float(inside.sum()) / float(hit.sum()) > INSIDE
