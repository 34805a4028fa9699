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
        self._lengths: set[int] = set()  # of the inputs that hold more than one value
        self._varied = False  # so does some target
        self._unread = False

    def inputs(self, given: Any) -> None:
        """Positional arguments of a model's call with gradients on."""
        tensors = [value for value in given if isinstance(value, Tensor)][:MOST_TENSORS]
        if len(self._inputs) < MOST_TENSORS and tensors:
            known = [(*self._known(tensor), tensor) for tensor in tensors]
            self._inputs.append(tuple(digest for digest, _, _ in known))
            self._lengths |= {len(tensor) for _, varied, tensor in known if varied and tensor.ndim}

    def target(self, target: Any) -> None:
        if isinstance(target, Tensor) and target.ndim and len(self._targets) < MOST_TENSORS:
            digest, varied = self._known(target)
            self._targets.append(digest)
            self._varied |= varied
            self._size = max(self._size, len(target))

    def used(self) -> tuple[int | None, int]:
        """(a number for the values of this step, None where they were not seen; samples in it). Begins anew.

        None too where they are all alike, as a background or padding is in every batch, and where the targets are not
        those of the inputs: a graph is the same at every step, the edges that are asked for are not.
        """
        told = None
        belong = any(self._size % length == 0 for length in self._lengths)
        if self._varied and belong and not self._unread:
            told = int.from_bytes(blake2b(repr((self._inputs, self._targets)).encode(), digest_size=6).digest())
        size, self._size = self._size, 0
        self._inputs, self._targets, self._lengths = [], [], set()
        self._varied = self._unread = False
        return told, size

    def _known(self, tensor: Tensor) -> tuple[bytes, bool]:
        """What its values are known by, and whether there is more than one among them."""
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_nested:
            self._unread = True
            return b"", False
        values = _some(tensor.detach())
        kind = repr((tensor.dtype, tuple(tensor.shape))).encode()
        varied = len(values) > 1 and bool((values != values[0]).any())
        return blake2b(kind + values.numpy().tobytes(), digest_size=16).digest(), varied


def _some(tensor: Tensor) -> Tensor:
    """Bytes of its elements on the CPU, (elements, bytes of each): all, or of a large one pieces that lie apart."""
    flat = tensor.reshape(-1)
    if len(flat) > ELEMENTS:
        size = ELEMENTS // PIECES
        starts = [i * (len(flat) - size) // (PIECES - 1) for i in range(PIECES)]
        flat = torch.cat([flat[start : start + size] for start in starts])
    flat = flat.resolve_conj().resolve_neg().cpu().contiguous()
    return flat.view(torch.uint8).reshape(len(flat), flat.element_size())
