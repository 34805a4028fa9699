"""Labels of a type that the loss does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT108",
    name="label-dtype-mismatch",
    stage=Stage.SMOKE,
    summary="The labels have a type that the loss does not take.",
    why=(
        "Cross-entropy wants class indices as int64; binary cross-entropy and regression losses want floats "
        "like the output."
    ),
    fix="Convert the labels once, where the data set returns them.",
    before="F.cross_entropy(logits, labels.float())",
    after="F.cross_entropy(logits, labels.long())",
    references=("torch.nn.CrossEntropyLoss and torch.nn.BCEWithLogitsLoss documentation",),
)


def run(ctx: Context) -> Findings:
    """Claims the failure of the first forward and loss, where it is this one."""
    attempt = ctx.attempt()
    if attempt.failure is not None:
        if attempt.failure.name != DOC.name:
            raise Skip(f"{attempt.failure.phase} raised, for another cause: {attempt.failure.name}")
        yield attempt.failure.finding(DOC)
    dtype = str(getattr(attempt.target, "dtype", "")).removeprefix("torch.")
    return f"targets {dtype}" if dtype else "the loss took the targets"
