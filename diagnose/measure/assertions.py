"""Assert lines for the shapes, dtypes and ranges that smoke saw, to paste into the user's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diagnose.context import MeasuringContext


def assertions(ctx: MeasuringContext) -> list[str]:
    """Python lines over ``x``, ``y``, ``output`` and ``loss`` of a batch; they allow any batch size."""
    seen = ctx.attempt()
    lines: list[str] = []
    tensors = [x for x in seen.inputs if isinstance(x, torch.Tensor)]
    for index, x in enumerate(tensors):
        lines += _of(x, "x" if len(tensors) == 1 else f"x{index + 1}")
    if isinstance(seen.target, torch.Tensor):
        lines += _of(seen.target, "y")
        if not seen.target.is_floating_point() and ctx.facts.num_classes:
            lines.append(f"assert 0 <= y.min() and y.max() < {ctx.facts.num_classes}, (y.min(), y.max())")
    if seen.output is not None:
        lines += _shape(seen.output, "output")
        lines.append("assert output.isfinite().all()")
    if seen.loss is not None:
        lines += ["assert loss.ndim == 0, loss.shape", "assert loss.isfinite(), loss", "assert loss.requires_grad"]
    return lines


def _of(x: torch.Tensor, name: str) -> list[str]:
    lines = [*_shape(x, name), f"assert {name}.dtype == {x.dtype}, {name}.dtype"]
    if x.is_floating_point() and x.numel():
        low, high = float(x.min()), float(x.max())
        margin = 0.5 * max(high - low, 1e-6)
        lines.append(f"assert {low - margin:.3g} <= {name}.min() and {name}.max() <= {high + margin:.3g}")
    return lines


def _shape(x: torch.Tensor, name: str) -> list[str]:
    if x.ndim < 2:
        return [f"assert {name}.ndim == {x.ndim}, {name}.shape"]
    sizes = ", ".join(str(size) for size in x.shape[1:])
    return [f"assert {name}.shape[1:] == ({sizes}{',' if x.ndim == 2 else ''}), {name}.shape"]
