"""A GPU that is not used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Severity

if TYPE_CHECKING:
    from probes.records.loop import Loop

DOC = ProbeDoc(
    code="LOP315",
    name="cpu-only-training",
    stage=Stage.WATCH,
    summary="Training goes on on the CPU although there is a GPU.",
    why="It takes many times as long.",
    fix="Move the model and each batch to the device: model.to(device), x.to(device).",
    severity=Severity.NOTE,
    judged_by="watch",
    before="model = Net()",
    after="model = Net().to('cuda')",
)


def watched(loop: Loop) -> Findings:
    """The device of the optimised tensors."""
    if loop.gpu_idle:
        yield DOC.finding("torch sees a CUDA device, and all tensors of an optimizer are on the CPU")
        return ""
    return "the model is on the GPU" if loop.gpu_present else "there is no CUDA device"
