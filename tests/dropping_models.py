"""Tiny models that drop, one way each, with what is to be found in them; and a pipeline around any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from probing import context
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.ops import StochasticDepth

from diagnose import Pipeline
from diagnose.context import MeasuringContext

CLASSES = 3


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Dropout(0.4), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Maps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout2d(0.3), nn.Flatten(), nn.Linear(64, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(x.flatten(1), 0.5, self.training))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return self.head(F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 8, num_layers=2, batch_first=True, dropout=0.25)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.flatten(2))[0][:, -1])


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.15, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.flatten(2)).mean(1))


class Path(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(3, 3, 1)
        self.drop = StochasticDepth(0.35, "row")
        self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.drop(self.branch(x))).flatten(1))


# model -> {site: (kind, p, group, a piece of the line)}
SITES: dict[type[nn.Module], dict[str, tuple[str, float, str, str]]] = {
    Head: {"net.2": ("Dropout", 0.4, "head", "nn.Dropout(0.4)")},
    Maps: {"net.1": ("Dropout2d", 0.3, "feature maps", "nn.Dropout2d(0.3)")},
    Functional: {"F.dropout": ("F.dropout", 0.5, "head", "F.dropout(x.flatten(1)")},
    Attention: {"sdpa": ("F.scaled_dot_product_attention", 0.2, "attention", "dropout_p=0.2")},
    Recurrent: {"lstm": ("LSTM", 0.25, "recurrent", "nn.LSTM(")},
    Heads: {"attention": ("MultiheadAttention", 0.15, "attention", "nn.MultiheadAttention(")},
    Encoder: {
        "layer.self_attn": ("MultiheadAttention", 0.1, "attention", "nn.TransformerEncoderLayer("),
        "layer.dropout": ("Dropout", 0.1, "sequence", "nn.TransformerEncoderLayer("),
        "layer.dropout1": ("Dropout", 0.1, "sequence", "nn.TransformerEncoderLayer("),
        "layer.dropout2": ("Dropout", 0.1, "sequence", "nn.TransformerEncoderLayer("),
    },
    Path: {"drop": ("StochasticDepth", 0.35, "drop-path", "StochasticDepth(0.35")},
}
MODELS = list(SITES)


def data() -> tuple[Tensor, Tensor]:
    """(96, 3, 4, 4) images of three classes that brightness tells apart."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(96) % CLASSES
    return torch.randn(96, 3, 4, 4, generator=generator) + y.view(-1, 1, 1, 1), y


def builder(model: type[nn.Module], lr: float = 1e-2, **options: Any) -> Callable[[], Pipeline]:
    def build() -> Pipeline:
        x, y = data()
        net = model()
        train = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
        optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        return Pipeline(
            net, train, DataLoader(TensorDataset(x, y), batch_size=16), nn.CrossEntropyLoss(), optimizer,
            num_classes=CLASSES, **options,
        )  # fmt: skip

    return build


def context_of(model: type[nn.Module], seed: int = 0, **options: Any) -> MeasuringContext:
    return context(builder(model, **options), seed=seed)
