"""Inputs of a type that the model does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT118",
    name="input-dtype-mismatch",
    stage=Stage.SMOKE,
    summary="The inputs have a type that the model does not take.",
    why=(
        "A layer computes only in the type of its own weights, usually float32; numpy arrays are float64, images uint8."
    ),
    fix="Convert where the data set returns the sample.",
    before="torch.from_numpy(array)",
    after="torch.from_numpy(array).float()",
)


def run(ctx: Context) -> Findings:
    """Claims the failure of the first forward and loss, where it is this one."""
    attempt = ctx.attempt()
    if attempt.failure is not None:
        if attempt.failure.name != DOC.name:
            raise Skip(f"{attempt.failure.phase} raised, for another cause: {attempt.failure.name}")
        yield attempt.failure.finding(DOC)
    dtypes = [str(x.dtype).removeprefix("torch.") for x in attempt.inputs if hasattr(x, "dtype")]
    return f"inputs {', '.join(dtypes)}" if dtypes else "the model took the inputs"
