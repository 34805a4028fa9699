"""Data of the healthy look-alikes, and what makes cases of their builders."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline
from zoo.cases import Case


def cases_of(*builds: Callable[[], Pipeline]) -> tuple[Case, ...]:
    """One healthy case for each builder, under the builder's name."""
    return tuple(Case("healthy", "", build, variant=build.__name__) for build in builds)


def loaders(x: Tensor, y: Tensor, cut: int, batch_size: int = 32) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """The first ``cut`` samples for training, shuffled; the rest for validation."""
    train, val = TensorDataset(x[:cut], y[:cut]), TensorDataset(x[cut:], y[cut:])
    return DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(val, batch_size=128)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """(1797, 1, 8, 8) images from 0 to 1 and their classes, in an order of our own."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(11))
    images = torch.tensor(data.images / 16.0, dtype=torch.float32).unsqueeze(1)
    return images[order], torch.tensor(data.target)[order]


@cache
def table(name: str) -> tuple[Tensor, Tensor]:
    """A data set of scikit-learn (wine, breast_cancer, iris, diabetes): standardised columns, rows permuted."""
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(5))
    x = torch.tensor(data.data, dtype=torch.float32)[order]
    return (x - x.mean(0)) / x.std(0), torch.tensor(data.target)[order]


@cache
def shapes(height: int = 16, width: int = 16, n: int = 1200) -> tuple[Tensor, Tensor]:
    """(n, 3, height, width) pictures of a disc, a square, a ring, a cross or stripes, from 0 to 1."""
    g = torch.Generator().manual_seed(height * 100 + width)
    y = torch.randint(0, 5, (n,), generator=g)
    radius = 3.5 + 2 * torch.rand(n, 1, 1, generator=g)
    cx = 4 + (width - 8) * torch.rand(n, 1, 1, generator=g)
    cy = 4 + (height - 8) * torch.rand(n, 1, 1, generator=g)
    dx, dy = torch.arange(width).view(1, 1, -1) - cx, torch.arange(height).view(1, -1, 1) - cy
    square, disc = torch.maximum(dx.abs(), dy.abs()) < radius, dx**2 + dy**2 < radius**2
    kinds = torch.stack(
        [
            disc,
            square,
            disc & (dx**2 + dy**2 > (0.55 * radius) ** 2),
            square & (torch.minimum(dx.abs(), dy.abs()) < 1.2),
            square & ((dx + dy) % 5 < 2.5),
        ],
        1,
    )
    mask = kinds[torch.arange(n), y].unsqueeze(1).float()
    colour = 0.5 + 0.5 * torch.rand(n, 3, 1, 1, generator=g)
    ground = 0.35 * torch.rand(n, 3, 1, 1, generator=g)
    noise = 0.06 * torch.randn(n, 3, height, width, generator=g)
    return (mask * colour + (1 - mask) * ground + noise).clamp(0, 1), y
