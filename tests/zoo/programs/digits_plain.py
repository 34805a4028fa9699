"""Handwritten digits with a small CNN, no BatchNorm, Adam: the first program one writes."""

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
MEAN, STD = 0.305, 0.376


@cache
def load() -> tuple[Array, Array]:
    """(1797, 8, 8) images from 0 to 16 and their classes, in a fixed random order."""
    data = load_digits()
    order = np.random.default_rng(7).permutation(len(data.images))
    return data.images[order], data.target[order]


def to_tensor(image: Array) -> Tensor:
    return torch.from_numpy(image / 16.0).float().unsqueeze(0)


def preprocess(image: Array) -> Tensor:
    return (to_tensor(image) - MEAN) / STD


class Digits(Dataset[tuple[Any, Any]]):
    def __init__(self, images: Array, labels: Array, transform: Callable[[Array], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform
        self.classes = [str(digit) for digit in range(10)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.transform(self.images[index]), int(self.labels[index])


def splits(images: Array, labels: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    return (images[:1000], labels[:1000]), (images[1300:1700], labels[1300:1700])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 10)

    def features(self, x: Tensor) -> Any:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        return x.flatten(1)

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.fc1(self.features(x)))
        return self.fc2(x)


def build(
    model: Callable[[], nn.Module] = Net,
    dataset: Callable[..., Any] = Digits,
    val_dataset: Callable[..., Any] = Digits,
    split: Callable[[Array, Array], Any] = splits,
    transform: Callable[[Array], Tensor] = preprocess,
    val_transform: Callable[[Array], Tensor] | None = None,
    criterion: Callable[..., Any] | None = None,
    optimizer: Callable[[nn.Module], Any] | None = None,
    scheduler: Callable[[Any], Any] | None = None,
    batch_size: int = 32,
    shuffle: bool = True,
    drop_last: bool = False,
    num_workers: int = 0,
    **fields: Any,
) -> Pipeline:
    """1000 digits for training, 400 for validation, 12 epochs of Adam."""
    (train_x, train_y), (val_x, val_y) = split(*load())
    train_data = dataset(train_x, train_y, transform)
    val_data = val_dataset(val_x, val_y, val_transform or transform)
    net = model()
    opt = optimizer(net) if optimizer else torch.optim.Adam(net.parameters(), lr=2e-3)
    options: dict[str, Any] = {"batch_size": batch_size, "drop_last": drop_last, "num_workers": num_workers}
    settings: dict[str, Any] = {"epochs": 12, "num_classes": 10, **fields}
    return Pipeline(
        model=net,
        train=DataLoader(train_data, shuffle=shuffle, **options),
        val=DataLoader(val_data, batch_size=100),
        loss=criterion or nn.CrossEntropyLoss(),
        optimizer=opt,
        scheduler=scheduler(opt) if scheduler else None,
        **settings,
    )
