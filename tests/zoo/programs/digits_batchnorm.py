"""Tinted digits with a CNN with BatchNorm, SGD with momentum, a cosine schedule and augmentation; a config dict."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from diagnose.pipeline import Pipeline

Array = NDArray[Any]
MEAN, STD = (0.21, 0.20, 0.21), (0.28, 0.27, 0.28)
CONFIG: dict[str, Any] = {
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 48,
    "epochs": 15,
    "dropout": 0.1,
    "label_smoothing": 0.0,
    "num_workers": 0,
    "drop_last": True,
    "shuffle": True,
}


@cache
def load() -> tuple[Array, Array]:
    """(1797, 8, 8, 3) images of bytes, each with its own tint, and their classes."""
    data = load_digits()
    rng = np.random.default_rng(11)
    order = rng.permutation(len(data.images))
    tint = rng.uniform(0.4, 1.0, (len(order), 1, 1, 3))
    return (data.images[order][..., None] / 16 * tint * 255).astype(np.uint8), data.target[order]


class Compose:
    def __init__(self, *steps: Callable[[Any], Any]) -> None:
        self.steps = steps

    def __call__(self, image: Any) -> Any:
        for step in self.steps:
            image = step(image)
        return image


def random_shift(image: Array) -> Array:
    """A shift by one pixel at most, filled with black."""
    dy, dx = (int(v) for v in torch.randint(0, 3, (2,)))
    return np.pad(image, ((1, 1), (1, 1), (0, 0)))[dy : dy + 8, dx : dx + 8]


def to_tensor(image: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


class Normalise:
    def __init__(self, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> None:
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


def train_transform() -> Compose:
    return Compose(random_shift, to_tensor, Normalise())


def val_transform() -> Compose:
    return Compose(to_tensor, Normalise())


class ImageSet(Dataset[tuple[Any, int]]):
    def __init__(self, images: Array, labels: Array, transform: Callable[[Array], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def make_sets(images: Array, labels: Array, train: Any, val: Any) -> tuple[Any, Any]:
    return ImageSet(images[:961], labels[:961], train), ImageSet(images[1200:1600], labels[1200:1600], val)


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)
    )


class ConvNet(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.features = nn.Sequential(block(3, 12), block(12, 24))
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(96, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.dropout = nn.Dropout(config["dropout"])
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.dropout(self.neck(self.features(x))))


def sgd(net: nn.Module, config: dict[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        net.parameters(), lr=config["lr"], momentum=config["momentum"], weight_decay=config["weight_decay"]
    )


def cosine(optimizer: Any, config: dict[str, Any]) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config["epochs"])


def build(
    model: Callable[[dict[str, Any]], nn.Module] = ConvNet,
    sets: Callable[..., tuple[Any, Any]] = make_sets,
    train_tf: Callable[[], Any] = train_transform,
    val_tf: Callable[[], Any] = val_transform,
    criterion: Callable[..., Any] | None = None,
    optimizer: Callable[..., Any] = sgd,
    scheduler: Callable[..., Any] | None = cosine,
    worker_init_fn: Callable[[int], None] | None = None,
    config: dict[str, Any] | None = None,
    **fields: Any,
) -> Pipeline:
    """961 digits for training, 400 for validation; ``config`` replaces entries of ``CONFIG``."""
    settings = {**CONFIG, **(config or {})}
    train_set, val_set = sets(*load(), train_tf(), val_tf())
    net = model(settings)
    opt = optimizer(net, settings)
    train_loader = DataLoader(
        train_set,
        batch_size=settings["batch_size"],
        shuffle=settings["shuffle"],
        drop_last=settings["drop_last"],
        num_workers=settings["num_workers"],
        worker_init_fn=worker_init_fn,
    )
    rest: dict[str, Any] = {"epochs": settings["epochs"], "num_classes": 10, **fields}
    return Pipeline(
        model=net,
        train=train_loader,
        val=DataLoader(val_set, batch_size=100),
        loss=criterion or nn.CrossEntropyLoss(label_smoothing=settings["label_smoothing"]),
        optimizer=opt,
        scheduler=scheduler(opt, settings) if scheduler else None,
        **rest,
    )
