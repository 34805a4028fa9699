"""Data, head and declaration disagree about the number of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

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
from probes.loss.wrong_loss_axis import swapped_call
from probes.results import Finding, Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.forward import Attempt, LossCall
    from probes.results import Where

OUTSIDE_SHARE = 0.2  # of the labels: so many beyond the head are classes, fewer may be wrong labels

DOC = ProbeDoc(
    code="DAT110",
    name="num-classes-mismatch",
    stage=Stage.DATA,
    also=(Stage.SMOKE,),
    summary="The data, the model's head and the declaration disagree about the number of classes.",
    why=(
        "A head that is too small makes the loss raise; one that is too large starts at a higher loss and "
        "wastes outputs."
    ),
    fix="Take the number of classes from the data set, and give it to the model.",
    before="model = Net(num_classes=10)",
    after="model = Net(num_classes=len(dataset.classes))",
    consequences=("labels-out-of-range", "output-shape-mismatch", "initial-loss-off", "device-assert"),
)


def run(ctx: Context) -> Findings:
    """Compares the width of the logits with the declaration, else with the labels."""
    if ctx.facts.task not in {"classification", "segmentation"}:
        raise Skip(f"judged for classification and segmentation only, not for {ctx.facts.task}")
    attempt = attempted(ctx)
    call = class_call(attempt)
    if attempt is not None and swapped_call(attempt) is not None:
        return "the classes are on the wrong axis: see wrong-loss-axis"
    if call is not None and scores_one_class(call):
        return "the model puts out a single score: see output-shape-mismatch"
    declared = ctx.facts.num_classes if call is not None else declared_classes(ctx)
    labels = _labels(ctx, attempt, call)
    if call is None:
        if declared is None or not labels or not uses_targets(ctx):
            raise Skip("the loss tells no number of classes")
        yield from _too_many(labels, declared, "declared", ())
        return f"{declared} classes declared, {len(set(labels))} in the data"
    head = width(call)
    if declared is not None and head != declared:
        yield DOC.finding(
            "the model tells {head} classes apart, {declared} are declared, and the data hold {present}",
            where=_head_at(ctx) or call.where,
            head=head,
            declared=declared,
            present=len(set(labels)),
        )
    else:
        found = False
        for finding in _too_many(labels, head, "in the model's head", _head_at(ctx) or call.where):
            found = True
            yield finding
        if not found and declared is None and labels and max(labels) + 1 < head:
            yield DOC.finding(
                "the model tells {head} classes apart, the labels seen end at {last}",
                severity=Severity.NOTE,
                where=_head_at(ctx) or call.where,
                head=head,
                last=max(labels),
            )
    present = f", {len(set(labels))} seen in the data" if labels else ""
    return f"{head} outputs{present}" + (f", {declared} declared" if declared is not None else "")


def _labels(ctx: Context, attempt: Attempt | None, call: LossCall | None) -> Sequence[int]:
    if call is not None and not as_given(attempt, call):
        return [label for label in call.target.flatten().tolist() if label != ignored(call)]
    try:
        return labels_of(ctx, "train", ignored(call))[1]
    except Skip:
        return ()


def _head_at(ctx: Context) -> Sequence[Where]:
    """Where the model's last layer was created."""
    head = ctx.attempt().head
    return ctx.created_at(head.path) if head is not None else ()


def _too_many(labels: Sequence[int], classes: int, basis: str, where: Sequence[Where]) -> Iterator[Finding]:
    """Many labels beyond the last class: the data have more classes, and not a few wrong labels."""
    beyond = [label for label in labels if label >= classes]
    if len(beyond) > OUTSIDE_SHARE * len(labels) and len(set(labels)) > classes:
        yield DOC.finding(
            "the data hold {present} classes (labels up to {last}), but {classes} are {basis}",
            where=where,
            present=len(set(labels)),
            last=max(labels),
            classes=classes,
            basis=basis,
        )
