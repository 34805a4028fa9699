"""Healthy: gradients that are not the function's, on purpose, or that are computed twice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders


class Codes(nn.Module):
    """A code of zeros and ones between two layers; its gradient is passed straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(64, 48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Any:
        soft = torch.sigmoid(self.down(x.flatten(1)))
        hard = (soft > 0.5).float()
        return self.up(soft + (hard - soft).detach())


def straight_through_codes() -> Pipeline:
    model = Codes()
    return Pipeline(
        model, *loaders(*digits(), 1400), nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=5e-3)
    )


class Reverse(torch.autograd.Function):
    """The identity, whose gradient is turned round on purpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return -ctx.strength * grads[0], None


class Adversary(nn.Module):
    """Learns the digit, and features from which the domain (bright or dark paper) cannot be told."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.label, self.domain = nn.Linear(64, 10), nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features(x)
        return self.label(h), self.domain(Reverse.apply(h, 0.2))


def domain_adversarial() -> Pipeline:
    x, y = digits()
    dark = torch.arange(len(y)) % 2
    x = x + 0.4 * dark.view(-1, 1, 1, 1)
    train, val = (TensorDataset(x[s], y[s], dark[s]) for s in (slice(0, 1400), slice(1400, None)))

    def compute_loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        images, digit, domain = batch
        logits, guess = model(images)
        return F.cross_entropy(logits, digit) + F.cross_entropy(guess, domain), logits

    model = Adversary()
    return Pipeline(
        model, DataLoader(train, 40, shuffle=True), DataLoader(val, 100), compute_loss=compute_loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3), task="custom",
    )  # fmt: skip


class Recomputed(nn.Module):
    """Activations are computed again in the backward pass, to save memory; a learnt class token is read."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 32, 2, stride=2)
        self.cls = nn.Parameter(torch.zeros(1, 1, 32))
        self.place = nn.Parameter(torch.randn(1, 17, 32) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True) for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Any:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.cls.expand(len(x), -1, -1), tokens], 1) + self.place
        for block in self.blocks:
            h = checkpoint(block, h, use_reentrant=False) if self.training else block(h)
        return self.head(self.norm(h[:, 0]))


def gradient_checkpointing() -> Pipeline:
    model = Recomputed()
    return Pipeline(
        model, *loaders(*digits(), 1400, 20), nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=3e-3),
        num_classes=10,
    )  # fmt: skip


CASES = cases_of(straight_through_codes, domain_adversarial, gradient_checkpointing)
