"""Which customers leave: a procedural table, two inputs (numbers and a category), one logit, AdamW."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline

Columns = tuple[Tensor, Tensor, Tensor]
"""numbers (N, 8), plan (N,) from 0 to 5, left (N,) of 0.0 and 1.0"""

TRAIN, TOTAL = 1200, 1600


@cache
def table() -> Columns:
    """Age, income, balance, months, calls, share late, visits and a score; plan; whether the customer left."""
    g = torch.Generator().manual_seed(21)
    z = torch.randn(TOTAL, 8, generator=g)
    plan = torch.randint(0, 6, (TOTAL,), generator=g)
    effect = torch.tensor([2.0, -2.0, 1.0, -1.0, 0.5, -0.5])[plan]
    logit = 2.5 * z[:, 0] * z[:, 1] + 1.5 * effect + 1.5 * (z[:, 2].abs() - 0.8) + z[:, 3]
    left = (logit + 0.4 * torch.randn(TOTAL, generator=g) > 0).float()
    mean = torch.tensor([45.0, 52000.0, 3100.0, 26.0, 4.0, 0.2, 11.0, 640.0])
    std = torch.tensor([12.0, 17000.0, 2600.0, 12.0, 2.0, 0.08, 4.0, 70.0])
    return z * std + mean, plan, left


def standardised(train: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = train.mean(0), train.std(0)
    return (train - mean) / std, (other - mean) / std


def prepare(numbers: Tensor, plan: Tensor, left: Tensor) -> tuple[Columns, Columns]:
    train, val = standardised(numbers[:TRAIN], numbers[TRAIN:])
    return (train, plan[:TRAIN], left[:TRAIN]), (val, plan[TRAIN:], left[TRAIN:])


class Churn(nn.Module):
    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.plan = nn.Embedding(6, 4)
        self.body = nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(width, 1)

    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        x = torch.cat([numbers, self.plan(plan)], dim=1)
        return self.head(self.body(x)).squeeze(1)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)


def loaders(train: Columns, val: Columns) -> tuple[Any, Any]:
    return (
        DataLoader(TensorDataset(*train), batch_size=40, shuffle=True),
        DataLoader(TensorDataset(*val), batch_size=100),
    )


def build(
    model: Callable[[], nn.Module] = Churn,
    data: Callable[..., tuple[Columns, Columns]] = prepare,
    make_loaders: Callable[..., tuple[Any, Any]] = loaders,
    criterion: Callable[..., Any] | None = None,
    optimizer: Callable[[nn.Module], Any] = adamw,
    scheduler: Callable[[Any], Any] | None = None,
    **fields: Any,
) -> Pipeline:
    """1200 rows for training and 400 for validation."""
    train, val = make_loaders(*data(*table()))
    net = model()
    opt = optimizer(net)
    settings: dict[str, Any] = {"epochs": 12, **fields}
    return Pipeline(
        net,
        train,
        val,
        loss=criterion or nn.BCEWithLogitsLoss(),
        optimizer=opt,
        scheduler=scheduler(opt) if scheduler else None,
        scheduler_interval="step",
        **settings,
    )
