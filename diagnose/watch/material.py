"""On which values a step is made: whether the model is given the same inputs and targets again and again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ELEMENTS = 16  # of each tensor that are compared
MOST_TENSORS = 4  # of the inputs of one call


class Material:
    """Of the looks: what the models are called with, and the targets of torch's losses, since the last step."""

    def __init__(self) -> None:
        self._inputs: list[Any] = []
        self._targets: list[Any] = []
        self._size = 0

    def inputs(self, given: Any) -> None:
        """Positional arguments of a model's call with gradients on."""
        tensors = [value for value in given if isinstance(value, Tensor)][:MOST_TENSORS]
        if len(self._inputs) < MOST_TENSORS and tensors:
            self._inputs.append(tuple(_some(tensor) for tensor in tensors))

    def target(self, target: Any) -> None:
        if isinstance(target, Tensor) and target.ndim and len(self._targets) < MOST_TENSORS:
            self._targets.append(_some(target))
            self._size = max(self._size, len(target))

    def used(self) -> tuple[int | None, int]:
        """(a number for the values of this step, None where they were not seen; samples in it). Begins anew."""
        known = bool(self._inputs) and bool(self._targets)
        told = hash((tuple(self._inputs), tuple(self._targets))) if known else None, self._size
        self._inputs, self._targets, self._size = [], [], 0
        return told


def _some(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.layout != torch.strided or tensor.is_meta:
        return (id(tensor),)
    flat = tensor.detach().reshape(-1)
    return tuple(tensor.shape), tuple(flat[:: max(1, flat.numel() // ELEMENTS)][:ELEMENTS].tolist())
