"""Layers on layers with no activation between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from torch import Tensor

    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD210",
    name="missing-nonlinearity",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="The whole network is an affine function of its input, in spite of its several layers.",
    why="Layers without an activation between them multiply out to a single linear layer, and can learn no more than "
    "it.",
    fix="Put an activation (ReLU, GELU, ...) between the layers.",
    consequences=("below-expected-curve", "plateau", "slow-to-learn"),
    before="nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 10))",
    after="nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))",
)
MIN_LAYERS = 2  # a single layer is meant to be linear
DEVIATION = 1e-4  # from the mean of two outputs, relative to how much outputs differ; float32 noise is about 1e-6
MIN_SPREAD = 1e-6  # of the outputs, relative to the largest: below, all samples get the same answer


def run(ctx: Context) -> Findings:
    import torch

    weighted = ctx.inspection().layers
    if len(weighted) < MIN_LAYERS:
        return f"{len(weighted)} layer with weights: there is nothing to separate by an activation"
    activations = ctx.inspection().activations
    if activations:
        return f"{len(activations)} activations between {len(weighted)} layers"
    inputs = ctx.attempt().inputs
    sizes = {len(x) for x in inputs if isinstance(x, torch.Tensor) and x.ndim}
    if not inputs or not all(isinstance(x, torch.Tensor) for x in inputs) or not any(map(_is_real, inputs)):
        raise Skip("judged for inputs of real numbers only")
    if len(sizes) != 1 or min(sizes) < MIN_LAYERS:
        raise Skip("the batch has a single sample, or its inputs differ in length")

    def mixed(of_other: float) -> Callable[[Sequence[Any]], list[Any]]:
        """Real inputs with those of the sample before; whole numbers (categories, masks) are those of one sample."""
        return lambda values: [
            (1 - of_other) * x + of_other * x.roll(1, 0) if _is_real(x) else x[:1].expand_as(x).clone() for x in values
        ]

    first, second, between = (ctx.evaluate(mixed(share)) for share in (0.0, 1.0, 0.5))
    spread = _size(first - second)
    if spread <= MIN_SPREAD * max(_size(first), 1e-30):
        raise Skip("the output does not depend on the input")
    deviation = _size(between - (first + second) / 2) / spread
    if deviation < DEVIATION:
        yield DOC.finding(
            "the output for the mean of two inputs is the mean of their outputs: {layers} layers act as one",
            layers=len(weighted),
            where=ctx.created_at(weighted[-1].path),
            evidence=(Number("deviation from an affine function, relative", deviation, "well above 0"),),
        )
        return ""
    return f"the output is not affine in the input (relative deviation {deviation:.2g})"


def _is_real(x: Any) -> bool:
    return bool(x.is_floating_point())


def _size(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0
