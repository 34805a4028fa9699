"""Hand-drawn signs of twenty kinds on 24x20 RGB pictures, in folders by class; a small residual network with SGD."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from diagnose.pipeline import Pipeline

HEIGHT, WIDTH, KINDS = 24, 20, 20
MEAN, STD = (0.43, 0.43, 0.43), (0.24, 0.24, 0.24)

Array = NDArray[Any]


class File(NamedTuple):
    """One picture: the folder it lies in, and its bytes."""

    folder: str
    content: bytes


@cache
def files(split: str) -> tuple[File, ...]:
    """60 drawings of each sign for "train", 15 for "val", sorted by folder."""
    shapes = np.random.default_rng(7).uniform(0.12, 0.88, (KINDS, 4, 2))
    rng = np.random.default_rng(8 if split == "train" else 9)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    grid = np.stack([rows, columns], -1)[:, :, None]
    found = []
    for kind in range(KINDS):
        for _ in range(60 if split == "train" else 15):
            turn = rng.normal(0, 0.12)
            points = shapes[kind] - 0.5 + rng.normal(0, 0.03, (4, 2))
            points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            points = (points * rng.uniform(0.8, 1.1) + 0.5 + rng.normal(0, 0.04, 2)) * (HEIGHT, WIDTH)
            start, way = points[:-1], np.diff(points, axis=0)
            along = np.clip(((grid - start) * way).sum(-1) / ((way**2).sum(-1) + 1e-6), 0, 1)
            distance = np.linalg.norm(grid - start - along[..., None] * way, axis=-1).min(-1)
            ink = np.clip(2.0 - distance, 0, 1)[..., None]
            picture = (1 - ink) * rng.uniform(0.1, 0.6, 3) + ink * rng.uniform(0.5, 1, 3)
            picture = np.clip(picture + rng.normal(0, 0.06, picture.shape), 0, 1)
            found.append(File(f"sign_{kind}", (255 * picture).astype(np.uint8).tobytes()))
    return tuple(sorted(found, key=lambda file: file.folder))


def to_tensor(picture: Array) -> Tensor:
    """(H, W, 3) bytes to (3, H, W) from 0 to 1."""
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def normalise(image: Tensor) -> Tensor:
    return (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def jitter(image: Tensor) -> Tensor:
    """A shift by a pixel, and brightness."""
    dy, dx = (int(v) for v in torch.randint(0, 3, (2,)))
    moved = F.pad(image[None], (1, 1, 1, 1), mode="replicate")[0, :, dy : dy + HEIGHT, dx : dx + WIDTH]
    return moved * (0.9 + 0.2 * torch.rand(1))


def train_transform(picture: Array) -> Tensor:
    return normalise(jitter(to_tensor(picture)))


def val_transform(picture: Array) -> Tensor:
    return normalise(to_tensor(picture))


class Folder(Dataset[tuple[Tensor, int]]):
    """Pictures in folders, the folders in order are the classes."""

    def __init__(self, files: Sequence[File], transform: Callable[[Array], Tensor]) -> None:
        self.files, self.transform = list(files), transform
        self.classes = sorted({file.folder for file in files})
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.targets = [self.class_to_idx[file.folder] for file in files]

    def load(self, file: File) -> Array:
        return np.frombuffer(file.content, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3).copy()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.load(self.files[index])), self.targets[index]


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.short(x))


class ResNet(nn.Module):
    def __init__(self, classes: int = KINDS, width: int = 8, block: Callable[..., nn.Module] = Residual) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Sequential(block(width, width, 2), block(width, 2 * width, 2))
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.fc = nn.Linear(18 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(self.body(self.stem(x))).flatten(1))
        return logits


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def build(
    model: Callable[[], nn.Module] = ResNet,
    train: Callable[[Sequence[File]], Any] = lambda files: Folder(files, train_transform),
    val: Callable[[Sequence[File]], Any] = lambda files: Folder(files, val_transform),
    loss: Callable[..., Any] | None = None,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    make_step: Callable[[], Any] | None = None,
    **changes: Any,
) -> Pipeline:
    """1200 pictures for training, 300 for validation."""
    net = model()
    opt = optimizer(net)
    loader = {"batch_size": 24, "shuffle": True} | changes.pop("loader", {})
    fields: dict[str, Any] = {
        "train": DataLoader(train(files("train")), **loader),
        "val": DataLoader(val(files("val")), batch_size=100),
        "loss": loss or nn.CrossEntropyLoss(),
        "optimizer": opt,
        "scheduler": scheduler(opt) if scheduler else None,
        "train_step": make_step() if make_step else None,
        "task": "classification",
        "num_classes": KINDS,
        "class_names": sorted(f"sign_{kind}" for kind in range(KINDS)),
        "epochs": 10,
    }
    return Pipeline(net, **(fields | changes))
