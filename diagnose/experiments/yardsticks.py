"""Chance and floor of the samples that a trial looks at, from the loss calls that the first attempt saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from diagnose.batches import concatenable, first_tensor, understand
from diagnose.measure.recorder import plain
from diagnose.training.metrics import Yardsticks, prefix_floor, yardsticks

if TYPE_CHECKING:
    from probes.measurements import Facts
    from probes.records.forward import LossCall


def yardsticks_of(raws: Sequence[Any], facts: Facts, calls: Sequence[LossCall], ignore_index: int) -> Yardsticks:
    """Unknown (all None) where the targets cannot be put together; no floor where several losses are added up."""
    targets = [understand(raw).target for raw in raws]
    tensors = [plain(target) for target in targets if isinstance(target, torch.Tensor)]
    if not tensors or not concatenable(tensors):
        return Yardsticks()
    together = torch.cat(tensors)
    if len(calls) != 1:  # a sum of several losses has no floor that is known
        return yardsticks(together, facts.task, "", {}, facts.num_classes, 1)
    call, batch = calls[0], tensors[0].numel()
    found = yardsticks(together, facts.task, call.function, call.options, facts.num_classes, batch)
    tokens = [plain(x) for x in (first_tensor(understand(raw).inputs) for raw in raws) if x is not None]
    sequences = facts.task == "language-model" and found.floor == 0 and len(tokens) == len(tensors)
    if sequences and all(x.shape == y.shape and x.ndim == 2 for x, y in zip(tokens, tensors, strict=True)):
        return replace(found, floor=prefix_floor(torch.cat(tokens), together, ignore_index))
    return found
