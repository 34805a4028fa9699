"""The model's own weights, gradients and optimizer states will not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Grade, Number

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="ENV908",
    name="predicted-out-of-memory",
    stage=Stage.DATA,
    grade=Grade.SUPPORTED,
    summary="Training this model needs more memory than the device has.",
    why="Beside the weights, training keeps a gradient for each, and what the optimizer remembers (twice the weights "
    "for Adam); activations come on top.",
    fix="Use a smaller model, an optimizer without state, half precision, or a device with more memory.",
    consequences=("killed-out-of-memory", "device-out-of-memory"),
)
STATES = {"SGD": 0, "Adam": 2, "AdamW": 2, "RMSprop": 1, "Adagrad": 1}  # tensors that the optimizer keeps per weight


def run(ctx: Context) -> Findings:
    """Bytes of weights, gradients and states, against what is free."""
    import psutil
    import torch

    pipeline = ctx.pipeline
    weights = sum(p.numel() * p.element_size() for p in pipeline.model.parameters())
    trained = sum(p.numel() * p.element_size() for p in pipeline.model.parameters() if p.requires_grad)
    states = STATES.get(type(pipeline.optimizer).__name__, 1)
    needed = weights + trained * (1 + states)
    if ctx.facts.device.startswith("cuda"):
        free = torch.cuda.mem_get_info(ctx.facts.device)[0]
    else:
        free = psutil.virtual_memory().available + weights  # the weights of the first pipeline are there already
    if needed > free:
        yield DOC.finding(
            "weights, gradients and optimizer states take {needed:.1f} GB, and {free:.1f} GB are free on {device}",
            needed=needed / 1e9,
            free=free / 1e9,
            device=ctx.facts.device,
            evidence=(Number("GB needed, without activations", needed / 1e9, f"below {free / 1e9:.1f}"),),
        )
        return ""
    return f"weights, gradients and optimizer states take {needed / 1e9:.2g} GB of {free / 1e9:.1f} GB free"
