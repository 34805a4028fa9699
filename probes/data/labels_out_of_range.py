"""A label that is none of the model's classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._labels import (
    as_given,
    attempted,
    class_call,
    declared_classes,
    ignored,
    labels_of,
    scores_one_class,
    uses_targets,
    width,
)

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import Attempt, LossCall

NO_LABEL = (-1, -100, 255)

DOC = ProbeDoc(
    code="DAT107",
    name="labels-out-of-range",
    stage=Stage.DATA,
    also=(Stage.SMOKE,),
    summary="Labels lie outside the classes of the model.",
    why=(
        "On the CPU the loss raises; on a GPU the process dies with a device-side assert that names neither "
        "label nor line."
    ),
    fix=(
        "Number the classes from 0 to C - 1, give the model as many outputs, and mark labels to skip with ignore_index."
    ),
    before="loss = F.cross_entropy(logits, labels)  # labels 1 to 10",
    after="loss = F.cross_entropy(logits, labels - 1)",
    references=("torch.nn.CrossEntropyLoss documentation",),
)


def run(ctx: Context) -> Findings:
    """Labels of every split, or those that the user's loss made of them, against the width of the logits."""
    attempt = attempted(ctx)
    call = class_call(attempt)
    if call is not None and scores_one_class(call):
        return "the model puts out a single score: see output-shape-mismatch"
    failure = attempt.failure if attempt is not None else None
    mine = failure is not None and failure.name == DOC.name
    classes = width(call) if call is not None else declared_classes(ctx)
    if classes is None or (call is None and ctx.facts.task not in {"classification", "segmentation"}):
        if mine and failure is not None:
            yield failure.finding(DOC)
            return ""
        raise Skip("neither the loss nor a declaration says how many classes there are")
    if call is None and not uses_targets(ctx):
        raise Skip("the loss is not known to use the labels")
    skipped = _skipped(ctx, attempt, call)
    found, facts = False, []
    for split, labels in _groups(ctx, attempt, call):
        wrong = [label for label in labels if label not in skipped and not 0 <= label < classes]
        if wrong:
            found = True
            yield DOC.finding(
                "{count} of {seen} {split} labels lie outside 0 to {last}: they range from {low} to {high}{hint}",
                where=call.where if call is not None else (),
                count=len(wrong),
                seen=len(labels),
                split=split,
                last=classes - 1,
                low=min(labels),
                high=max(labels),
                classes=classes,
                hint=_hint([label for label in labels if label != ignored(call)], wrong, classes),
            )
        elif counted := [label for label in labels if label != ignored(call)]:
            facts.append(f"{split} labels {min(counted)} to {max(counted)}")
    if mine and not found and failure is not None:
        yield failure.finding(DOC)
    return f"{classes} classes, " + ", ".join(facts)


def _skipped(ctx: Context, attempt: Attempt | None, call: LossCall | None) -> set[int]:
    """Labels that the loss never gets: left out by ignore_index, or taken out or renamed by the user's own loss before.
    Where no loss was reached, whatever the field uses for "no label"."""
    own = getattr(ctx.pipeline.loss, "ignore_index", None)
    if call is None:
        return {ignored(call), *NO_LABEL, *([int(own)] if own is not None else [])}
    target: Any = attempt.target if attempt is not None else None
    taken_out: set[int] = set()
    if hasattr(target, "flatten") and call.target.numel() <= target.numel():
        taken_out = set(target.flatten().tolist()) - set(call.target.flatten().tolist())
    return {ignored(call), *taken_out}


def _groups(ctx: Context, attempt: Attempt | None, call: LossCall | None) -> Iterator[tuple[str, Sequence[int]]]:
    if call is not None and not as_given(attempt, call):
        yield "first batch's", call.target.flatten().tolist()
        return
    scanned = False
    for split in ctx.facts.splits or ("train",):
        try:
            scan, _ = labels_of(ctx, split)
        except Skip:
            continue
        scanned = True
        yield split, scan.labels
    if call is not None and not scanned:
        yield "first batch's", call.target.flatten().tolist()


def _hint(labels: Sequence[int], wrong: Sequence[int], classes: int) -> str:
    if min(labels) == 1 and set(wrong) == {classes}:
        return "; off by one: they are numbered from 1"
    if set(wrong) == {classes}:
        return f"; off by one: the model lacks a class, or {classes} marks something else"
    if set(wrong) == {-1}:
        return "; -1 is skipped only with ignore_index=-1"
    if set(wrong) == {255}:
        return "; 255 is skipped only with ignore_index=255"
    return ""
