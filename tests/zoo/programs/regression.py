"""Friedman's regression problem in percent: an MLP from nn.Sequential, SGD with momentum, a standardised target."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from sklearn.datasets import make_friedman1
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline

Pair = tuple[Tensor, Tensor]


@cache
def friedman() -> Pair:
    """(1200, 8) columns from 0 to 100, of which five matter, and a target of mean 14 and deviation 5."""
    x, y = make_friedman1(n_samples=1200, n_features=8, noise=0.5, random_state=3)
    return torch.tensor(x, dtype=torch.float32) * 100, torch.tensor(y, dtype=torch.float32).unsqueeze(1)


def scale(train: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = train.mean(0, keepdim=True), train.std(0, keepdim=True)
    return (train - mean) / std, (other - mean) / std


def prepare(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    train_x, val_x = scale(x[:900], x[900:])
    train_y, val_y = scale(y[:900], y[900:])
    return (train_x, train_y), (val_x, val_y)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 48),
        nn.ReLU(),
        nn.Linear(48, 48),
        nn.ReLU(),
        nn.Linear(48, 1),
    )


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)


def loaders(train: Pair, val: Pair) -> tuple[Any, Any]:
    return DataLoader(TensorDataset(*train), 30, shuffle=True), DataLoader(TensorDataset(*val), 100)


def build(
    model: Callable[[], nn.Module] = mlp,
    data: Callable[[Tensor, Tensor], tuple[Pair, Pair]] = prepare,
    make_loaders: Callable[..., tuple[Any, Any]] = loaders,
    loss: Callable[..., Any] | None = None,
    optimizer: Callable[[nn.Module], Any] = sgd,
    scheduler: Callable[[Any], Any] | None = None,
    **fields: Any,
) -> Pipeline:
    """900 rows for training and 300 for validation, 12 epochs."""
    train, val = make_loaders(*data(*friedman()))
    net = model()
    opt = optimizer(net)
    settings: dict[str, Any] = {"epochs": 12, "task": "regression", **fields}
    return Pipeline(
        model=net,
        train=train,
        val=val,
        loss=loss or nn.MSELoss(),
        optimizer=opt,
        scheduler=scheduler(opt) if scheduler else None,
        scheduler_interval="step",
        **settings,
    )
