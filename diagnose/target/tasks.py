"""What kind of task it is, and the loss that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diagnose.batches import first_tensor
from diagnose.pipeline import Task

_PICKS_ONE = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss", "cross_entropy", "nll_loss")
_PICKS_ANY = (
    "BCEWithLogitsLoss",
    "BCELoss",
    "MultiLabelSoftMarginLoss",
    "MultiLabelMarginLoss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
)
_MEASURES = (
    "MSELoss",
    "L1Loss",
    "SmoothL1Loss",
    "HuberLoss",
    "PoissonNLLLoss",
    "GaussianNLLLoss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
)
DEFAULT_LOSSES: dict[str, type[nn.Module]] = {
    "classification": nn.CrossEntropyLoss,
    "segmentation": nn.CrossEntropyLoss,
    "language-model": nn.CrossEntropyLoss,
    "multilabel": nn.BCEWithLogitsLoss,
    "regression": nn.MSELoss,
}


def default_loss(task: str | None) -> nn.Module | None:
    """The usual loss of ``task``; None for "custom"."""
    kind = DEFAULT_LOSSES.get(task or "custom")
    return kind() if kind else None


def infer_task(loss: Callable[..., Any] | None, target: Any, output_shape: Sequence[int] | None = None) -> Task:
    """The task, from the loss's type, the target of one batch and, where known, the shape of the model's output.

    Classification: (N,) indices, or (N, C) probabilities. Multilabel: (N, C) of zeros and ones. Segmentation: (N, H, W)
    indices. Language model: (N, T) indices. "custom" where nothing tells.
    """
    kind = _kind(loss)
    tensor = first_tensor(target) if isinstance(target, (Tensor, list, tuple)) else None
    if tensor is None:  # an empty loader, no target, or a nested one: only the loss can tell
        by_loss: dict[str, Task] = {"one": "classification", "any": "multilabel", "measure": "regression"}
        return by_loss.get(kind, "custom") if target is None else "custom"
    if isinstance(target, (list, tuple)) and not _is_list_of_scalars(target):
        return "custom"
    if kind == "measure":
        return "regression"
    if kind == "any":
        return "multilabel" if tensor.ndim <= 2 else "segmentation"
    if tensor.is_floating_point() or tensor.dtype is torch.bool:
        return _of_floats(kind, tensor.float())
    return _of_indices(tensor, output_shape)


def _is_list_of_scalars(target: Sequence[Any]) -> bool:
    return all(isinstance(item, Tensor) and item.ndim == 0 for item in target)


def _kind(loss: Callable[..., Any] | None) -> str:
    """ "one" class of several, "any" of several, a "measure" of distance, or "" where the loss does not tell."""
    names = [kind.__name__ for kind in type(loss).__mro__] if isinstance(loss, nn.Module) else []
    names.append(getattr(loss, "__name__", ""))
    for kind, known in (("one", _PICKS_ONE), ("any", _PICKS_ANY), ("measure", _MEASURES)):
        if any(name in known for name in names):
            return kind
    return ""


def _of_indices(target: Tensor, output_shape: Sequence[int] | None) -> Task:
    if target.ndim <= 1 or (target.ndim == 2 and target.shape[1] == 1):
        return "classification"
    if target.ndim > 2:
        return "segmentation"
    if output_shape is not None and len(output_shape) == 2:
        return "multilabel" if _is_zero_one(target) and not _rows_sum_to_one(target.float()) else "classification"
    if _is_zero_one(target):
        return "classification" if _rows_sum_to_one(target.float()) else "multilabel"
    return "language-model"


def _of_floats(kind: str, target: Tensor) -> Task:
    if kind == "one":
        return "classification" if target.ndim <= 2 else "segmentation"
    if target.ndim == 2 and target.shape[1] > 1 and _rows_sum_to_one(target) and bool((target >= 0).all()):
        return "classification"
    if target.ndim in (1, 2) and _is_zero_one(target):
        return "multilabel"
    return "regression"


def _is_zero_one(target: Tensor) -> bool:
    return target.numel() > 0 and bool(((target == 0) | (target == 1)).all())


def _rows_sum_to_one(target: Tensor) -> bool:
    return target.numel() > 0 and bool(torch.allclose(target.sum(1), torch.ones(len(target), device=target.device)))
