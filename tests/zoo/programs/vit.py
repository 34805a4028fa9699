"""A tiny vision transformer on the digits of scikit-learn, AdamW with warm-up and cosine at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline

CONFIG: dict[str, Any] = {
    "image": 8, "patch": 2, "dim": 32, "depth": 2, "heads": 4, "dropout": 0.0,
    "batch_size": 24, "epochs": 10, "lr": 2e-3, "weight_decay": 0.05, "warmup": 30, "train": 1200, "smoothing": 0.0,
}  # fmt: skip


@cache
def digits() -> tuple[Tensor, Tensor]:
    """1797 images of 8x8, from 0 to 16, and their classes, in a mixed order."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(2))
    return torch.tensor(data.images, dtype=torch.float32)[order].unsqueeze(1), torch.tensor(data.target)[order]


def scaled(images: Tensor) -> Tensor:
    return images / 8.0 - 1.0


class ViT(nn.Module):
    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        dim, tokens = cfg["dim"], (cfg["image"] // cfg["patch"]) ** 2
        self.patches = nn.Conv2d(1, dim, cfg["patch"], stride=cfg["patch"])
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, tokens + 1, dim) * 0.02)
        self.blocks: Any = nn.Sequential(*[self.layer(cfg) for _ in range(cfg["depth"])])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def layer(self, cfg: dict[str, Any]) -> nn.Module:
        return nn.TransformerEncoderLayer(
            cfg["dim"], cfg["heads"], 2 * cfg["dim"], cfg["dropout"], "gelu", batch_first=True, norm_first=True
        )

    def embed(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.positions

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.embed(images)))[:, 0])
        return logits


def adamw(model: nn.Module, cfg: dict[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=cfg["lr"], weight_decay=cfg["weight_decay"])


def warmup_cosine(optimizer: torch.optim.Optimizer, warmup: int, total: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear from 0 over ``warmup`` steps, then half a cosine until ``total``."""

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return 0.5 * (1 + math.cos(math.pi * done))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def schedule(optimizer: torch.optim.Optimizer, cfg: dict[str, Any], steps: int) -> Any:
    return warmup_cosine(optimizer, cfg["warmup"], cfg["epochs"] * steps)


def build(
    config: dict[str, Any] | None = None,
    model: Callable[[dict[str, Any]], nn.Module] = ViT,
    prepare: Callable[[Tensor], Tensor] = scaled,
    prepare_val: Callable[[Tensor], Tensor] | None = None,
    optimizer: Callable[[nn.Module, dict[str, Any]], torch.optim.Optimizer] = adamw,
    scheduler: Callable[[torch.optim.Optimizer, dict[str, Any], int], Any] = schedule,
    **fields: Any,
) -> Pipeline:
    """1200 digits for training, the rest for validation."""
    cfg = CONFIG | (config or {})
    images, labels = digits()
    n = cfg["train"]
    train = TensorDataset(prepare(images[:n]), labels[:n])
    val = TensorDataset((prepare_val or prepare)(images[n:]), labels[n:])
    net = model(cfg)
    opt = optimizer(net, cfg)
    loader = DataLoader(train, batch_size=cfg["batch_size"], shuffle=True)
    defaults: dict[str, Any] = {
        "train": loader,
        "val": DataLoader(val, batch_size=128),
        "loss": nn.CrossEntropyLoss(label_smoothing=cfg["smoothing"]),
        "optimizer": opt,
        "scheduler": scheduler(opt, cfg, len(loader)),
        "scheduler_interval": "step",
        "num_classes": 10,
        "epochs": cfg["epochs"],
    }
    return Pipeline(net, **(defaults | fields))
