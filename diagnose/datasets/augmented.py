"""Random augmentation of the built-in images, by name; never on validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from diagnose.errors import UsageError
from diagnose.near_miss import did_you_mean

NAMES = ("flip", "crop", "rotate", "jitter", "grey", "erase")
STANDARD = ("flip", "crop", "rotate", "erase")
_OF_COLOUR = ("grey",)


@dataclass(frozen=True)
class Strengths:
    """``flip``, ``grey``, ``erase``: probabilities. ``padding``: pixels on each side before a random crop of the old
    size. ``degrees``: largest rotation. ``jitter``: largest relative change of brightness, contrast and saturation."""

    flip: float = 0.5
    padding: int = 4
    degrees: float = 15.0
    jitter: float = 0.2
    grey: float = 0.1
    erase: float = 0.3


class Augmented(Dataset[tuple[Tensor, int]]):
    """``dataset`` with ``transform`` over its images, float32 (C, H, W)."""

    def __init__(self, dataset: Any, transform: Callable[[Tensor], Tensor]) -> None:
        self.dataset = dataset
        self.transform = transform
        self.classes = dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.dataset[index]
        return self.transform(image), label


class Chain:
    """One transform after the other; none at all is fine too."""

    def __init__(self, transforms: Sequence[Callable[[Tensor], Tensor]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Tensor) -> Tensor:
        for transform in self.transforms:
            image = transform(image)
        return image


def augmented(dataset: Any, names: Sequence[str], strengths: Strengths) -> Dataset[Any]:
    """``names`` of ``NAMES``, or "standard" for ``STANDARD``; none leaves the data as they are.

    Raises UsageError for an unknown name, and for images that one of them does not fit.
    """
    wanted = list(dict.fromkeys(part for name in names for part in (STANDARD if name == "standard" else (name,))))
    wanted = [name for name in wanted if name not in ("", "none")]
    for name in wanted:
        if name not in NAMES:
            choices = ("standard", *NAMES)
            raise UsageError(
                f"--set data.augment={name}: expected {', '.join(choices)}, or none.{did_you_mean(name, choices)}"
            )
    if not wanted:
        return dataset  # type: ignore[no-any-return]
    image = dataset[0][0]
    if image.ndim != 3:
        raise UsageError(f"--set data.augment: the samples are {tuple(image.shape)}, expected images (C, H, W).")
    if image.shape[0] != 3 and (odd := [name for name in wanted if name in _OF_COLOUR]):
        raise UsageError(f"--set data.augment={odd[0]}: the images have {image.shape[0]} channels, expected 3.")
    return Augmented(dataset, Chain([_made(name, strengths, image) for name in wanted]))


def _made(name: str, strengths: Strengths, image: Tensor) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    size, colour = tuple(image.shape[1:]), image.shape[0] == 3
    made: Callable[[Tensor], Tensor] = {
        "flip": lambda: v2.RandomHorizontalFlip(strengths.flip),
        "crop": lambda: v2.RandomCrop(size, padding=strengths.padding),
        "rotate": lambda: v2.RandomRotation(strengths.degrees),
        "jitter": lambda: v2.ColorJitter(strengths.jitter, strengths.jitter, strengths.jitter if colour else None),
        "grey": lambda: v2.RandomGrayscale(strengths.grey),
        "erase": lambda: v2.RandomErasing(strengths.erase),
    }[name]()
    return made
