"""Data that come by name: ``--data digits``, ``--data glyphs-200:32``, ``--data imagefolder:DIR``, ...

Spawned loader workers import this package, so it imports neither ``probes`` nor ``reports``; torchvision and
scikit-learn are imported only where they are needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from diagnose.datasets.augmented import Strengths, augmented
from diagnose.datasets.bundled import REFERENCES, ReferenceData, reference_data
from diagnose.datasets.source import Splits, cifar10, digits, fake, glyphs, image_folder, mnist, tiny_imagenet
from diagnose.errors import UsageError
from diagnose.near_miss import did_you_mean

__all__ = ["NAMES", "REFERENCES", "ReferenceData", "builtin_loaders", "is_builtin", "reference_data"]

NAMES = ("digits", "mnist", "cifar10", "glyphs-200", "tiny-imagenet", "imagefolder", "fake")
_ALONE = ("digits", "mnist", "cifar10")  # these take no arguments
_GLYPHS = re.compile(r"glyphs-(\d+)")


def is_builtin(name: str) -> bool:
    """Whether ``name`` is one of ours, and not ``module:attribute``."""
    head, _, rest = name.partition(":")
    if not rest:
        return True
    if head in _ALONE or (head == "fake" and rest.isidentifier()):  # a user's own mnist.py
        return False
    return head in NAMES or bool(_GLYPHS.fullmatch(head))


def builtin_loaders(
    name: str,
    *,
    batch_size: int = 64,
    num_workers: int = 0,
    seed: int = 0,
    download: bool = False,
    augment: Sequence[str] = (),
    strengths: Strengths | None = None,
) -> dict[str, Any]:
    """Loaders ``train`` (shuffled under ``seed``) and ``val``, with ``num_classes`` and ``class_names``.

    Batches are ``(images, labels)``: float32 (N, C, H, W) in [0, 1] and int64 (N,). Raises UsageError for a name that
    is not known, arguments that do not fit, or data that are not on disk. ``augment``: of the training images, see
    ``augmented.NAMES``.
    """
    import torch
    from torch.utils.data import DataLoader

    splits = _splits(name, download)
    train = augmented(splits.train, augment, strengths or Strengths())
    generator = torch.Generator().manual_seed(seed % 2**63)
    return {
        "train": DataLoader(
            train,
            batch_size=batch_size,
            shuffle=True,
            num_workers=num_workers,
            generator=generator,
        ),
        "val": DataLoader(splits.val, batch_size=batch_size, num_workers=num_workers),
        "num_classes": len(splits.class_names),
        "class_names": list(splits.class_names),
    }


def _splits(name: str, download: bool) -> Splits:
    head, _, rest = name.partition(":")
    if match := _GLYPHS.fullmatch(head):
        return glyphs(int(match[1]), *_numbers(name, rest))
    if head in _ALONE and rest:
        raise UsageError(f"--data: got {name!r}, expected {head} alone.")
    if head == "digits":
        return digits()
    if head in ("mnist", "cifar10"):
        return mnist(download) if head == "mnist" else cifar10(download)
    if head in ("imagefolder", "tiny-imagenet"):
        if not rest:
            raise UsageError(f"--data: got {name!r}, expected {head}:DIR with the folder of the images.")
        return image_folder(rest) if head == "imagefolder" else tiny_imagenet(rest)
    if head == "fake":
        return _fake(name, rest)
    raise UsageError(
        f"--data: got {name!r}, expected module:function or one of {', '.join(NAMES)}.{did_you_mean(head, NAMES)}"
    )


def _numbers(name: str, rest: str) -> list[int]:
    """SIZE and SAMPLES of glyphs."""
    parts = rest.split(":") if rest else []
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(
            f"--data: got {name!r}, expected glyphs-200[:SIZE[:SAMPLES]], for example glyphs-200:32:10000."
        )
    return [int(part) for part in parts]


def _fake(name: str, rest: str) -> Splits:
    match = re.fullmatch(r"([1-9]\d*(?:x[1-9]\d*)*):([1-9]\d*)", rest)
    if match is None:
        raise UsageError(f"--data: got {name!r}, expected fake:CxHxW:CLASSES, for example fake:3x32x32:10.")
    return fake(tuple(int(size) for size in match[1].split("x")), int(match[2]))
