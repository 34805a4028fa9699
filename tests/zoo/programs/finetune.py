"""A backbone pretrained on some writers' digits; a new head for those of others, backbone frozen or not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline

Pair = tuple[Tensor, Tensor]
MEAN, STD = 4.88, 6.02


@cache
def digits() -> Pair:
    """(1797, 1, 8, 8) images from 0 to 16 and their classes, in the order of the data set (by writer)."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32).unsqueeze(1), torch.tensor(data.target)


def normalise(x: Tensor) -> Tensor:
    return (x - MEAN) / STD


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.stage = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.project = nn.Linear(96, 20)

    def forward(self, x: Tensor) -> Any:
        return torch.relu(self.project(self.stage(self.stem(x)).flatten(1)))


class Classifier(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.fc = nn.Linear(20, num_classes)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.backbone(x))


@cache
def checkpoint() -> dict[str, Tensor]:
    """The state of a classifier trained on the first 1000 digits."""
    x, y = digits()
    x, y = normalise(x[:1000]), y[:1000]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = Classifier()
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-3)
        for step in range(320):
            rows = torch.arange(step * 50, step * 50 + 50) % 1000
            loss = F.cross_entropy(net(x[rows]), y[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return {name: value.clone() for name, value in net.state_dict().items()}


def pretrained() -> Classifier:
    """The checkpoint with a new head on a frozen backbone."""
    net = Classifier()
    net.load_state_dict(checkpoint())
    for parameter in net.parameters():
        parameter.requires_grad = False
    net.fc = nn.Linear(20, 10)
    return net


def unfrozen() -> Classifier:
    """The checkpoint with a new head, everything trainable."""
    net = Classifier()
    net.load_state_dict(checkpoint())
    net.fc = nn.Linear(20, 10)
    return net


def head_only(net: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=5e-3)


def two_rates(net: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        [{"params": net.backbone.parameters(), "lr": 3e-4}, {"params": net.fc.parameters(), "lr": 5e-3}]
    )


def prepare(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    x = normalise(x)
    return (x[1000:1500], y[1000:1500]), (x[1500:], y[1500:])


def build(
    model: Callable[[], nn.Module] = pretrained,
    data: Callable[[Tensor, Tensor], tuple[Pair, Pair]] = prepare,
    loss: Callable[..., Any] | None = None,
    optimizer: Callable[[Any], Any] = head_only,
    parts: Callable[[], tuple[nn.Module, Any]] | None = None,
    **fields: Any,
) -> Pipeline:
    """500 digits for training, 297 for validation; ``parts`` makes model and optimizer in one."""
    train, val = data(*digits())
    if parts is not None:
        net, opt = parts()
    else:
        net = model()
        opt = optimizer(net)
    settings: dict[str, Any] = {"epochs": 15, "num_classes": 10, **fields}
    return Pipeline(
        model=net,
        train=DataLoader(TensorDataset(*train), batch_size=25, shuffle=True),
        val=DataLoader(TensorDataset(*val), batch_size=99),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=opt,
        **settings,
    )
