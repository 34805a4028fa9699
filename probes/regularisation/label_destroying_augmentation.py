"""Augmentation that turns samples into those of another class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Grade, Table

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Trace

DOC = ProbeDoc(
    code="REG703",
    name="label-destroying-augmentation",
    stage=Stage.SUBSET,
    grade=Grade.SUPPORTED,
    summary="The augmentation turns samples of one class into samples of another, with their old label.",
    why="A 6 upside down is a 9, a mirrored arrow points the other way. The model is told that they are the same, and "
    "cannot tell these classes apart.",
    fix="Leave out the transform that changes what the label says (flips of digits and letters, large rotations).",
    consequences=(
        "no-generalisation", "below-expected-curve", "slow-to-learn", "stuck-at-chance", "augmentation-too-strong",
        "noisy-labels", "classes-overlap", "plateau",
    ),
    before="RandomVerticalFlip()  # of digits",
    after="RandomRotation(10)",
)  # fmt: skip


GAIN = 0.03  # val accuracy that a short training without augmentation is better by
CONFUSED = 0.03  # share of the val samples of the two classes that are taken for one another, beyond the same without


def run(ctx: Context) -> Findings:
    """What nearest neighbours among the plain samples take the augmented ones for, and whether it hurts."""
    swaps = ctx.augmentation_swaps()
    if not swaps:
        return "augmented samples still look like those of their own class"
    if ctx.subset().outcome in {"stuck", "nonfinite"}:
        raise Skip("nothing was learned yet, so no pair of classes is confused in particular")
    with_it, without = ctx.subset().points[-1].val_score, ctx.plain_subset().points[-1].val_score
    if with_it is None or without is None:
        raise Skip("the task has no accuracy to compare by")
    confused = {pair: _confusion(ctx.subset(), *pair) for pair in {(a, b) for a, b, _ in swaps}}
    plain = {pair: _confusion(ctx.plain_subset(), *pair) for pair in confused}
    hurt = [swap for swap in swaps if confused[swap[:2]] >= plain[swap[:2]] + CONFUSED]
    if without < with_it + GAIN or not hurt:
        first, second, share = swaps[0]
        return f"{share:.0%} of class {first} look like class {second} when augmented, but training does not suffer"
    first, second, share = hurt[0]
    yield DOC.finding(
        "{share:.0%} of the augmented samples of class {first} look like class {second}; val accuracy is {with_it:.1%} "
        "with the augmentation, {without:.1%} without",
        share=share,
        first=first,
        second=second,
        with_it=with_it,
        without=without,
        evidence=(Table(("class", "looks like", "share"), list(swaps[:10]), "Augmented samples"),),
    )
    return ""


def _confusion(trace: Trace, first: int, second: int) -> float:
    """Share of the val samples of two classes that the trained model takes for one another."""
    pairs = list(zip(trace.val_labels, trace.val_predicted, strict=True))
    mine = [pair for pair in pairs if pair[0] in (first, second)]
    return sum(pair in {(first, second), (second, first)} for pair in mine) / max(1, len(mine))
