"""A class is absent from one split."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._labels import RARE, listed, one_label_each, representative, uses_targets
from probes.results import Severity

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT111",
    name="missing-classes",
    stage=Stage.DATA,
    severity=Severity.WARNING,
    summary="A class is present in one split and absent from the other.",
    why="A class that is never trained cannot be predicted, and one that is never validated is not measured.",
    fix="Split by class, so that each split holds its share of every class.",
    before="train, val = data[:800], data[800:]",
    after="train, val = train_test_split(data, test_size=0.2, stratify=labels)",
    references=("sklearn.model_selection.train_test_split documentation, stratify",),
)


def run(ctx: Context) -> Findings:
    """Classes of train and val, where both scans show all of their split's classes."""
    train, train_labels = one_label_each(ctx, "train")
    val, val_labels = one_label_each(ctx, "val")
    if not representative(train) or not representative(val):
        raise Skip("a split was read in part and in order, so a class may come later")
    if not uses_targets(ctx):
        raise Skip("the loss is not known to use the labels")
    counts = (
        ("train", "val", Counter(train_labels), Counter(val_labels)),
        ("val", "train", Counter(val_labels), Counter(train_labels)),
    )
    for here, there, present, other in counts:
        absent = sorted(
            label for label, count in present.items() if label not in other and _expected(count, present, other)
        )
        if absent:
            yield DOC.finding(
                "of the {classes} classes of {here}, {count} are absent from {there}: {names}",
                count=len(absent),
                classes=len(present),
                here=here,
                there=there,
                names=listed([_name(ctx, label) for label in absent]),
            )
    return f"{len(set(train_labels))} classes in train, {len(set(val_labels))} in val"


def _expected(count: int, present: Counter[int], other: Counter[int]) -> bool:
    """Whether random splitting would hardly ever leave a class of this frequency out of the other split."""
    total = present.total() + other.total()
    return len(present) * (1 - count / total) ** other.total() < RARE


def _name(ctx: Context, label: int) -> str:
    names = ctx.facts.class_names
    return f"{label} ({names[label]})" if 0 <= label < len(names) else str(label)
