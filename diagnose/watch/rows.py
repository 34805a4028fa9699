"""By what a sample is known again in a batch: by its values, where its data set does not tell.

Data sets of a program's own copy rows of tables and files as they like, and two of them may hold the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from diagnose.watch.samples import Key

VALUES = -1  # first part of such a key
MOST_TENSORS = 4  # of a batch
ELEMENTS = 2048  # of each sample; of a larger one as many that lie apart
MOST_DEPTH = 2


def row_keys(batch: Any) -> list[Key]:
    """A key for the values of each sample of ``batch``, inputs and targets together; empty where they are not told."""
    tensors = list(_tensors(batch))[:MOST_TENSORS]
    sizes = {len(t) for t in tensors}
    if len(sizes) != 1 or any(t.device.type != "cpu" or t.layout != torch.strided for t in tensors):
        return []
    parts = [_bytes(tensor.detach()) for tensor in tensors]
    return [
        (VALUES, int.from_bytes(blake2b(b"".join(row.tobytes() for row in sample), digest_size=8).digest()))
        for sample in zip(*parts, strict=True)
    ]


def _tensors(batch: Any, depth: int = 0) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        if batch.ndim and batch.numel():
            yield batch
    elif depth < MOST_DEPTH and isinstance(batch, (list, tuple, Mapping)):
        for item in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(item, depth + 1)


def _bytes(tensor: Tensor) -> Any:
    """(samples, bytes of each)."""
    rows = tensor.resolve_conj().resolve_neg().reshape(len(tensor), -1)
    apart = rows[:, :: max(1, rows.shape[1] // ELEMENTS)]
    return apart.contiguous().view(torch.uint8).numpy()
