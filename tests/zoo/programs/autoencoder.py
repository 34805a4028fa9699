"""A variational autoencoder of the digits of scikit-learn; the loss is the negative ELBO per image."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline

Parts = tuple[Tensor, Tensor, Tensor]


@cache
def digits() -> Tensor:
    """(1797, 64) pixels from 0 to 16, in a mixed order."""
    from sklearn.datasets import load_digits

    pixels = torch.tensor(load_digits().data, dtype=torch.float32)
    return pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(4))]


def to_unit(pixels: Tensor) -> Tensor:
    return pixels / 16


class VAE(nn.Module):
    """64 pixels, 8 hidden variables; samples in training, takes the mean otherwise."""

    def __init__(self, latent: int = 8, hidden: int = 96) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder: Any = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 64))

    def sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        if not self.training:
            return mean
        return mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)

    def forward(self, pixels: Tensor) -> Parts:
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        return self.decoder(self.sample(mean, log_variance)), mean, log_variance


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def negative_elbo(model: nn.Module, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Reconstruction by cross-entropy of the pixels, plus the divergence from the prior."""
    (pixels,) = batch
    logits, mean, log_variance = model(pixels)
    reconstruction = F.binary_cross_entropy_with_logits(logits, pixels, reduction="sum") / len(pixels)
    return reconstruction + divergence(mean, log_variance), logits.sigmoid()


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=2e-3)


def build(
    model: Callable[[], nn.Module] = VAE,
    prepare: Callable[[Tensor], Tensor] = to_unit,
    dataset: Callable[[Tensor], Any] = TensorDataset,
    compute_loss: Callable[..., Any] = negative_elbo,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    **changes: Any,
) -> Pipeline:
    """1400 digits for training, the rest for validation; there are no labels."""
    pixels = prepare(digits())
    net = model()
    opt = optimizer(net)
    loader = {"batch_size": 40, "shuffle": True} | changes.pop("loader", {})
    fields: dict[str, Any] = {
        "train": DataLoader(dataset(pixels[:1400]), **loader),
        "val": DataLoader(TensorDataset(pixels[1400:]), batch_size=100),
        "compute_loss": compute_loss,
        "optimizer": opt,
        "scheduler": scheduler(opt) if scheduler else None,
        "task": "custom",
        "epochs": 10,
    }
    return Pipeline(net, **(fields | changes))
