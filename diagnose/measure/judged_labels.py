"""Whether a loss of the user's own judges the class labels that the batch holds, or something else.

A data set often has labels that the training does not use: an autoencoder gives back its inputs, a contrastive loss
tells the samples of a batch apart. Accuracy says nothing there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from probes.records.forward import Attempt

WIDER = 2  # times as many outputs as classes were seen: then they are no scores, but an embedding


def judges_labels(attempt: Attempt) -> bool:
    """For one class index per sample, of shape (N,). True where nothing speaks against it."""
    labels, output = attempt.target, attempt.output
    if not isinstance(labels, torch.Tensor) or labels.ndim != 1 or labels.is_floating_point() or output is None:
        return True
    if attempt.loss_calls:
        return any(_may_be(call.target, labels) for call in attempt.loss_calls)
    seen = int(labels.max()) + 1
    width = output.shape[1] if output.ndim == 2 else seen
    return width == 1 or seen <= width <= max(WIDER * seen, WIDER + 1)


def _may_be(target: Tensor, labels: Tensor) -> bool:
    """Whether a loss's target can have been made of the labels: themselves, or a distribution over classes for each."""
    target = target.detach().to(labels.device)
    size = len(labels)
    if not target.is_floating_point():
        numbers_samples = target.ndim == 1 and len(target) >= size and _is_order(target) and not _is_order(labels)
        return not numbers_samples
    if target.numel() == size:
        return bool((target.flatten() == labels).all()) or len(torch.unique(target)) <= len(torch.unique(labels))
    rows = target.flatten(1) if target.ndim > 1 and len(target) == size else None
    return rows is not None and torch.allclose(rows.sum(1), torch.ones(size, dtype=rows.dtype), atol=1e-4)


def _is_order(values: Tensor) -> bool:
    return torch.equal(values.sort().values, torch.arange(len(values), device=values.device))
