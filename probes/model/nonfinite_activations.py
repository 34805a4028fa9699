"""NaN or infinity inside the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD213",
    name="nonfinite-activations",
    stage=Stage.SMOKE,
    summary="A layer puts out NaN or infinity in the first forward.",
    why="Whatever is computed from it is NaN too, and a single step then ruins every parameter.",
    fix="Look at the named layer: a division by zero, a log or root of something not positive, or weights that are too "
    "large.",
    requires=("nonfinite-inputs",),
    consequences=(
        "nonfinite-loss",
        "nonfinite-gradient",
        "nonfinite-training",
        "cannot-overfit",
        "fails-on-reference-data",
    ),
)


def run(ctx: Context) -> Findings:
    import torch

    attempt = ctx.attempt()
    if not attempt.modules:
        raise Skip("no module of the model ran")
    if any(isinstance(x, torch.Tensor) and x.is_floating_point() and not _finite(x) for x in attempt.inputs):
        return "the inputs themselves are not finite"
    bad = next((record for record in attempt.modules if not record.finite), None)
    if bad is not None:
        before = attempt.modules[: attempt.modules.index(bad)]
        yield DOC.finding(
            "{path} ({type}) is the first to put out NaN or infinity, after {before} modules with finite outputs",
            path=bad.path or "the model",
            type=bad.type,
            before=len(before),
            where=ctx.created_at(bad.path),
        )
        return ""
    # An output of -inf is meant, where a mask rules a class out.
    if attempt.output is not None and bool(torch.isnan(attempt.output).any()):
        yield DOC.finding("the output holds NaN although every module's output is finite: forward itself makes them")
        return ""
    return f"{len(attempt.modules)} modules, all outputs finite"


def _finite(x: object) -> bool:
    import torch

    return isinstance(x, torch.Tensor) and bool(torch.isfinite(x).all())
