"""On which values a step is made: whether the model is given the same inputs and targets again and again."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

ELEMENTS = 2**17  # of each tensor that are compared; those of a larger one in PIECES that lie apart
PIECES = 32
MOST_TENSORS = 4  # of the inputs of one call


class Material:
    """Of the looks: what the models are called with, and the targets of torch's losses, since the last step."""

    def __init__(self) -> None:
        self._inputs: list[tuple[bytes, ...]] = []
        self._targets: list[bytes] = []
        self._size = 0
        self._varied = [False, False]  # some input, some target holds more than one value
        self._unread = False

    def inputs(self, given: Any) -> None:
        """Positional arguments of a model's call with gradients on."""
        tensors = [value for value in given if isinstance(value, Tensor)][:MOST_TENSORS]
        if len(self._inputs) < MOST_TENSORS and tensors:
            self._inputs.append(tuple(self._known(tensor, 0) for tensor in tensors))

    def target(self, target: Any) -> None:
        if isinstance(target, Tensor) and target.ndim and len(self._targets) < MOST_TENSORS:
            self._targets.append(self._known(target, 1))
            self._size = max(self._size, len(target))

    def used(self) -> tuple[int | None, int]:
        """(a number for the values of this step, None where they were not seen, or are all alike, which a background or
        padding is in every batch; samples in it). Begins anew."""
        told = None
        if all(self._varied) and not self._unread:
            told = int.from_bytes(blake2b(repr((self._inputs, self._targets)).encode(), digest_size=6).digest())
        size, self._size = self._size, 0
        self._inputs, self._targets, self._varied, self._unread = [], [], [False, False], False
        return told, size

    def _known(self, tensor: Tensor, of: int) -> bytes:
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_nested:
            self._unread = True
            return b""
        values = _some(tensor.detach())
        self._varied[of] |= len(values) > 1 and bool((values != values[0]).any())
        kind = repr((tensor.dtype, tuple(tensor.shape))).encode()
        return blake2b(kind + values.numpy().tobytes(), digest_size=16).digest()


def _some(tensor: Tensor) -> Tensor:
    """Bytes of its elements on the CPU, (elements, bytes of each): all, or of a large one pieces that lie apart."""
    flat = tensor.reshape(-1)
    if len(flat) > ELEMENTS:
        size = ELEMENTS // PIECES
        starts = [i * (len(flat) - size) // (PIECES - 1) for i in range(PIECES)]
        flat = torch.cat([flat[start : start + size] for start in starts])
    flat = flat.resolve_conj().resolve_neg().cpu().contiguous()
    return flat.view(torch.uint8).reshape(len(flat), flat.element_size())
