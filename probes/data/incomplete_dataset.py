"""The data hold fewer classes or samples than they should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._labels import RARE, labels_of, listed, uses_targets
from probes.results import Finding, Severity

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.data import Scan

KNOWN = {"tiny-imagenet": (200, 100_000, 10_000)}  # folder name -> classes, train, val samples, as published
COMPLETE = 0.9  # of the published number of samples; a tenth may have been held out by the user

DOC = ProbeDoc(
    code="DAT117",
    name="incomplete-dataset",
    stage=Stage.DATA,
    summary="The data set holds fewer classes or samples than it is declared or known to have.",
    why="A download or an extraction that broke off trains without complaint, on a part of the data.",
    fix="Compare the folder with the published counts, and extract or download it again.",
    consequences=("missing-classes", "class-imbalance"),
)


def run(ctx: Context) -> Findings:
    """Declared classes that no split holds; names against the class count; published sizes."""
    declared, names = ctx.facts.num_classes, ctx.facts.class_names
    train = ctx.scan("train")
    found = list(_published(ctx, train))
    yield from found
    if declared is not None and names and len(names) < declared:
        yield DOC.finding(
            "{declared} classes are declared, but {names} have a name", declared=declared, names=len(names)
        )
    if ctx.facts.task == "classification" and declared is not None and train.complete and uses_targets(ctx):
        labels = _all_labels(ctx)
        absent = [label for label in range(declared) if label not in labels]
        if labels and absent and max(labels) < declared:
            chance = declared * (1 - 1 / declared) ** train.seen
            yield DOC.finding(
                "{absent} of {declared} declared classes have no sample: {names}",
                severity=None if chance < RARE else Severity.NOTE,
                absent=len(absent),
                declared=declared,
                names=listed([_name(names, label) for label in absent]),
            )
        return f"{declared - len(absent)} of {declared} classes present, {train.seen:,} training samples"
    return f"{train.total if train.total is not None else train.seen:,} training samples"


def _all_labels(ctx: Context) -> set[int]:
    found: set[int] = set()
    for split in ctx.facts.splits:
        try:
            found |= set(labels_of(ctx, split)[1])
        except Skip:
            continue
    return found


def _published(ctx: Context, train: Scan) -> Iterator[Finding]:
    known = next((size for folder, size in KNOWN.items() if folder in train.dataset.lower()), None)
    if known is None or train.dataset_size is None:
        return
    sizes = {"train": (train.dataset_size, known[1])}
    if "val" in ctx.facts.splits:
        val = ctx.scan("val")
        if val.dataset_size is not None and val.dataset != train.dataset:
            sizes["val"] = (val.dataset_size, known[2])
    for split, (size, expected) in sizes.items():
        if size < COMPLETE * expected:
            yield DOC.finding(
                "the {split} split has {size} samples; {expected} are published for this data set",
                split=split,
                size=size,
                expected=expected,
            )


def _name(names: Sequence[str], label: int) -> str:
    return f"{label} ({names[label]})" if label < len(names) else str(label)
