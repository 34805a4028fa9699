"""Discs and bars on a noisy background: a small U-Net, integer masks, the outline of each object is void (255)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from diagnose.pipeline import Pipeline

SIZE = 20
VOID = 255
NAMES = ("background", "disc", "bar")
MEAN, STD = 0.45, 0.22

Array = NDArray[Any]
Pair = tuple[Tensor, Tensor]


@cache
def scenes() -> tuple[Array, Array]:
    """600 RGB pictures (H, W, 3) and masks (H, W) as bytes."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pictures = np.empty((600, SIZE, SIZE, 3), dtype=np.uint8)
    masks = np.zeros((600, SIZE, SIZE), dtype=np.uint8)
    for picture, mask in zip(pictures, masks, strict=True):
        canvas = np.broadcast_to(rng.uniform(0.2, 0.6, 3), (SIZE, SIZE, 3)).copy()
        for kind in rng.permutation([1, 2]):
            y, x = rng.integers(5, SIZE - 5, 2)
            radius = rng.uniform(4, 6)
            wide, high = (radius * 1.3, radius * 0.6) if rng.random() < 0.5 else (radius * 0.6, radius * 1.3)
            disc = np.hypot(rows - y, columns - x) - radius
            bar = np.maximum(np.abs(rows - y) - high, np.abs(columns - x) - wide)
            distance = disc if kind == 1 else bar
            canvas[distance < 0] = rng.uniform(0.3, 0.9, 3)
            mask[np.abs(distance) < 0.5] = VOID
            mask[distance <= -0.5] = kind
        picture[:] = (255 * np.clip(canvas + rng.normal(0, 0.08, canvas.shape), 0, 1)).astype(np.uint8)
    return pictures, masks


def to_tensors(picture: Array, mask: Array) -> Pair:
    """Channels first, normalised; the mask as integers."""
    image = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    return (image - MEAN) / STD, torch.from_numpy(mask).long()


class Scenes(Dataset[Pair]):
    def __init__(self, pictures: Array, masks: Array, transform: Callable[[Array, Array], Pair]) -> None:
        self.pictures, self.masks, self.transform = pictures, masks, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Pair:
        return self.transform(self.pictures[index], self.masks[index])


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):
    """Two steps down, two up, with skip connections."""

    def __init__(
        self, classes: int = len(NAMES), width: int = 10, block: Callable[[int, int], nn.Module] = conv_block
    ) -> None:
        super().__init__()
        self.down1, self.down2 = block(3, width), block(width, 2 * width)
        self.bottom = nn.Sequential(block(2 * width, 4 * width), block(4 * width, 4 * width))
        self.up2, self.up1 = block(6 * width, 2 * width), block(3 * width, width)
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        a = self.down1(image)
        b = self.down2(self.pool(a))
        c = self.bottom(self.pool(b))
        b = self.up2(torch.cat([self.grow(c), b], dim=1))
        a = self.up1(torch.cat([self.grow(b), a], dim=1))
        logits: Tensor = self.head(a)
        return logits


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=5e-3)


def build(
    model: Callable[[], nn.Module] = UNet,
    transform: Callable[[Array, Array], Pair] = to_tensors,
    val_transform: Callable[[Array, Array], Pair] | None = None,
    loss: Callable[..., Any] | None = None,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    **changes: Any,
) -> Pipeline:
    """440 scenes for training, 160 for validation."""
    pictures, masks = scenes()
    net = model()
    opt = optimizer(net)
    loader = {"batch_size": 8, "shuffle": True} | changes.pop("loader", {})
    fields: dict[str, Any] = {
        "train": DataLoader(Scenes(pictures[:440], masks[:440], transform), **loader),
        "val": DataLoader(Scenes(pictures[440:], masks[440:], val_transform or to_tensors), batch_size=40),
        "loss": loss or nn.CrossEntropyLoss(ignore_index=VOID),
        "optimizer": opt,
        "scheduler": scheduler(opt) if scheduler else None,
        "task": "segmentation",
        "num_classes": len(NAMES),
        "class_names": NAMES,
        "epochs": 7,
    }
    return Pipeline(net, **(fields | changes))
