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

WIDER = 2  # times as many outputs as there are classes: then they are no scores, but an embedding


def judges_labels(attempt: Attempt, classes: int) -> bool:
    """For one class index per sample, of shape (N,), and ``classes`` of them. True where nothing speaks against it."""
    labels, output = attempt.target, attempt.output
    if not isinstance(labels, torch.Tensor) or labels.ndim != 1 or labels.is_floating_point() or output is None:
        return True
    width = output.shape[1] if output.ndim == 2 else classes
    if attempt.loss_calls:
        return any(_may_be(call.target, labels.to(call.target.device), width, classes) for call in attempt.loss_calls)
    return width == 1 or classes <= width <= max(WIDER * classes, WIDER + 1)


def _may_be(target: Tensor, labels: Tensor, width: int, classes: int) -> bool:
    """Whether a loss's target can have been made of the labels: themselves, or for each a row over the classes."""
    target, size = target.detach(), len(labels)
    if not target.is_floating_point():
        numbers_samples = target.ndim == 1 and len(target) >= size and _is_order(target) and not _is_order(labels)
        return not numbers_samples
    if target.numel() == size:
        between = classes == 2 and bool(((target >= 0) & (target <= 1)).all())
        return between or _follows(target.reshape(size, 1), labels)
    rows = target.flatten(1) if target.ndim > 1 and len(target) == size else None
    if rows is None:
        return False
    of_classes = rows.shape[1] == width == classes  # labels that were mixed, say
    sums_to_one = torch.allclose(rows.sum(1), torch.ones_like(rows[:, 0]), atol=1e-4)
    return of_classes or sums_to_one or _follows(rows, labels)


def _follows(rows: Tensor, labels: Tensor) -> bool:
    """Whether samples of one label have one row, and there are such samples."""
    seen, place = torch.unique(labels, return_inverse=True)
    first = torch.stack([rows[labels == label][0] for label in seen])
    return len(seen) < len(labels) and torch.equal(first[place], rows)


def _is_order(values: Tensor) -> bool:
    return torch.equal(values.sort().values, torch.arange(len(values), device=values.device))
