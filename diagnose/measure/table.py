"""Samples of a split as rows of features beside their targets, for predictors that are no neural network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from probes.records.data import Rows

if TYPE_CHECKING:
    from torch import Tensor

MAX_ROWS = 2_000
MAX_FEATURES = 3_072  # 3 x 32 x 32; larger images are averaged down to that
SIDE = 32  # of an averaged image
BUCKETS = 512  # of a bag of tokens
MAX_TOKEN = 10**7


@dataclass
class RowCollector:
    """Collects up to MAX_ROWS samples of a scan; stops where inputs or targets are not one row each."""

    features: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    count: int = 0
    usable: bool = True
    bag: bool = False

    def add(self, inputs: Sequence[Tensor], target: Tensor | None, size: int) -> None:
        """``inputs``: all of a batch, each with the samples on its first axis."""
        if not self.usable or self.count >= MAX_ROWS:
            return
        if (
            not inputs
            or target is None
            or not target.ndim
            or len(target) != size
            or any(len(x) != size for x in inputs)
        ):
            self.usable = False
            return
        self.bag = is_tokens(inputs[0])
        taken = (
            inputs[:1] if self.bag else inputs
        )  # masks and positions of tokens change their shape from batch to batch
        rows, flat = torch.cat([as_features(x) for x in taken], 1)[:, :MAX_FEATURES], target.reshape(size, -1)
        alike = not self.features or (
            rows.shape[1] == self.features[0].shape[1] and flat.shape[1] == self.targets[0].shape[1]
        )
        if not alike or flat.shape[1] > MAX_FEATURES:
            self.usable = False
            return
        self.features.append(rows)
        self.targets.append(flat)
        self.count += size

    def rows(self) -> Rows | None:
        if not self.usable or not self.features:
            return None
        targets = torch.cat(self.targets)[:MAX_ROWS]
        flat = targets.squeeze(1) if targets.shape[1] == 1 else targets
        return Rows(torch.cat(self.features)[:MAX_ROWS], flat, self.bag)


def as_features(x: Tensor) -> Tensor:
    """(N, ...) as (N, F) of float32: images averaged down, whole numbers (tokens) as a bag, the rest flattened."""
    if is_tokens(x):
        return _bag(x)
    value = torch.nan_to_num(x.float(), 0.0, 0.0, 0.0)
    if value.ndim == 4 and value[0].numel() > MAX_FEATURES:
        height, width = (min(SIDE, extent) for extent in value.shape[-2:])
        value = F.adaptive_avg_pool2d(value, (height, width))
    flat = value.reshape(len(value), -1)
    return flat if flat.shape[1] <= MAX_FEATURES else F.adaptive_avg_pool1d(flat.unsqueeze(1), MAX_FEATURES).squeeze(1)


def is_tokens(x: Tensor) -> bool:
    """Whether (N, L) whole numbers are indices into a vocabulary rather than bytes or flags."""
    if x.is_floating_point() or x.dtype in (torch.bool, torch.uint8) or x.ndim != 2 or not x.numel():
        return False
    return int(x.max() - x.min()) > 1


def _bag(tokens: Tensor) -> Tensor:
    counts = torch.zeros(len(tokens), BUCKETS)
    buckets = tokens.long().clamp(-MAX_TOKEN, MAX_TOKEN).remainder(BUCKETS)
    return counts.scatter_add_(1, buckets, torch.ones_like(buckets, dtype=torch.float32))
