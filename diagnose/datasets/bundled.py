"""Known-good data for the mnist stage: what a model, a loss and an optimizer must be able to learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diagnose.datasets.images import TensorImages
from diagnose.datasets.source import Splits, cifar10, digits, mnist
from diagnose.errors import UsageError

REFERENCES = ("mnist", "cifar10", "digits")


class ReferenceData(NamedTuple):
    """Images float32 (N, C, H, W) in [0, 1], labels int64 (N,). ``source`` says what the data are, and why."""

    images: Tensor
    labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    source: str


def reference_data(name: str = "mnist", *, download: bool = False, limit: int | None = None) -> ReferenceData:
    """MNIST or CIFAR-10 where they are on disk or ``download`` is given, else the bundled digits.

    ``limit``: at most so many images per split, drawn once and for all. Raises UsageError for an unknown name.
    """
    if name not in REFERENCES:
        raise UsageError(f"--reference: got {name!r}, expected {', '.join(REFERENCES)}.")
    loaders: dict[str, tuple[str, Callable[[bool], Splits]]] = {
        "mnist": ("MNIST", mnist),
        "cifar10": ("CIFAR-10", cifar10),
    }
    bundled = "bundled digits (scikit-learn, 8x8 pixels)"
    if name == "digits":
        return _tensors(digits(), bundled, limit)
    title, load = loaders[name]
    try:
        return _tensors(load(download), title, limit)
    except UsageError:
        why = "could not be downloaded" if download else "is not on disk; --download fetches it"
        return _tensors(digits(), f"{bundled}: {title} {why}", limit)


def _tensors(splits: Splits, source: str, limit: int | None) -> ReferenceData:
    images, labels = _drawn(splits.train, limit)
    val_images, val_labels = _drawn(splits.val, limit)
    return ReferenceData(images, labels, val_images, val_labels, source)


def _drawn(split: object, limit: int | None) -> tuple[Tensor, Tensor]:
    assert isinstance(split, TensorImages)
    chosen = torch.arange(len(split))
    if limit is not None and limit < len(split):
        chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:limit]
    return split.images[chosen].float() / 255.0, split.labels[chosen]
