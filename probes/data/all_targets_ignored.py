"""A batch whose targets are all ignored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.data._labels import as_given, class_call, ignored

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT122",
    name="all-targets-ignored",
    stage=Stage.SMOKE,
    summary="Every target of a batch is one that the loss ignores.",
    why="The mean over no targets is NaN, and one such batch makes every parameter NaN.",
    fix="Leave such samples out, or check how labels become ignore_index: a mask is often inverted.",
    before="labels[mask] = -100",
    after="labels[~mask] = -100",
    consequences=("nonfinite-loss", "nonfinite-gradient"),
    references=("torch.nn.CrossEntropyLoss documentation, ignore_index",),
)


def run(ctx: Context) -> Findings:
    """Targets of the first batch as the loss was given them, and of every batch read where they are the same values."""
    attempt = ctx.attempt()
    call = class_call(attempt)
    if call is None:
        raise Skip("the loss does not ignore targets")
    if call.options.get("reduction", "mean") != "mean":
        raise Skip("the loss is no mean over targets")
    if bool((call.target == ignored(call)).all()):
        yield DOC.finding(
            "all {count} targets of the first batch are {value}, which the loss ignores",
            where=call.where,
            count=call.target.numel(),
            value=ignored(call),
        )
        return ""
    batches = list(_batches(ctx)) if as_given(attempt, call) else []
    empty = [position for position, labels in enumerate(batches) if labels and set(labels) == {ignored(call)}]
    if empty:
        yield DOC.finding(
            "{count} of {batches} batches hold only targets {value}, which the loss ignores; the first is batch "
            "{first}",
            where=call.where,
            count=len(empty),
            batches=len(batches),
            value=ignored(call),
            first=empty[0],
        )
    return f"{max(1, len(batches))} batches hold targets that count"


def _batches(ctx: Context) -> Iterator[Sequence[int]]:
    """The labels of each batch, where every sample has as many."""
    scan = ctx.scan("train")
    each = math.prod(scan.target_shape[1:])
    start = 0
    for size in scan.batch_sizes if len(scan.labels) == scan.seen * each else ():
        yield scan.labels[start : start + size * each]
        start += size * each
