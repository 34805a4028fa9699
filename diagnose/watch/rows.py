"""By what a sample is known again in a batch: by its values, where its data set does not tell.

Data sets of a program's own copy rows of tables and files as they like, and two of them may hold the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diagnose.watch.samples import Key

VALUES = -1  # first part of such a key
MOST_TENSORS = 4  # of a batch
ELEMENTS = 512  # of each sample; of a larger one as many that lie apart
MOST_DEPTH = 2
KNOWN = (torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
         torch.bool, torch.complex64, torch.complex128)  # to numpy  # fmt: skip


def row_keys(batch: Any) -> list[Key]:
    """A key for the values of each sample of ``batch``, inputs and targets together; empty where they are not told.

    A sum of whole numbers, each times a number of its own: exact, so it does not depend on the size of the batch.
    """
    tensors = list(_tensors(batch))[:MOST_TENSORS]
    if any(t.is_nested or t.device.type != "cpu" or t.layout != torch.strided for t in tensors):
        return []
    sizes = {len(t) for t in tensors}
    if len(sizes) != 1:
        return []
    sums = [_sums(tensor.detach(), place) for place, tensor in enumerate(tensors)]
    return [(VALUES, key) for key in sum(sums[1:], sums[0]).tolist()]


def _tensors(batch: Any, depth: int = 0) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        if batch.ndim and batch.numel():
            yield batch
    elif depth < MOST_DEPTH and isinstance(batch, (list, tuple, Mapping)):
        for item in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _tensors(item, depth + 1)


def _sums(tensor: Tensor, place: int) -> Any:
    if tensor.is_complex() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if tensor.dtype not in KNOWN:
        tensor = tensor.reshape(len(tensor), -1).contiguous().view(torch.uint8)
    rows = tensor.numpy().reshape(len(tensor), -1)
    if rows.shape[1] > ELEMENTS:
        rows = rows[:, :: rows.shape[1] // ELEMENTS]
    whole = np.ascontiguousarray(rows).view(np.int32 if rows.itemsize >= 4 else np.uint8)
    return whole @ _factors(whole.shape[1], place)


@lru_cache(maxsize=64)
def _factors(count: int, place: int) -> Any:
    return np.random.default_rng(place).integers(2**62, size=count) * 2 + 1
