"""Tensors on different devices meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT119",
    name="device-mismatch",
    stage=Stage.SMOKE,
    summary="An operation was given tensors on different devices.",
    why=(
        "Inputs, parameters and tensors made in forward must be on one device; a tensor that is no buffer "
        "does not move."
    ),
    fix="Register constant tensors with register_buffer, and create tensors in forward on the device of the input.",
    before="mask = torch.ones(n)",
    after="mask = torch.ones(n, device=x.device)",
    references=("torch.nn.Module.register_buffer documentation",),
)


def run(ctx: Context) -> Findings:
    """Claims the failure of the first forward and loss, where it is this one."""
    attempt = ctx.attempt()
    if attempt.failure is not None:
        if attempt.failure.name != DOC.name:
            raise Skip(f"{attempt.failure.phase} raised, for another cause: {attempt.failure.name}")
        yield attempt.failure.finding(DOC)
    return f"model and batch on {ctx.facts.device}"
