"""Faults in the variational autoencoder: its loss, its two halves, and training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from zoo.cases import Case, faulty
from zoo.programs.autoencoder import VAE, Parts, build, divergence, negative_elbo

Answer = tuple[Tensor, Tensor]


def weighted(model: nn.Module, batch: list[Tensor]) -> Answer:
    """Beta-VAE with a beta of 60."""
    (pixels,) = batch
    logits, mean, log_variance = model(pixels)
    reconstruction = F.binary_cross_entropy_with_logits(logits, pixels, reduction="sum") / len(pixels)
    return reconstruction + 60 * divergence(mean, log_variance), logits.sigmoid()


def averaged(model: nn.Module, batch: list[Tensor]) -> Answer:
    """The reconstruction is a mean over pixels, the divergence a sum over the batch."""
    (pixels,) = batch
    logits, mean, log_variance = model(pixels)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    return F.binary_cross_entropy_with_logits(logits, pixels) + divergence, logits.sigmoid()


def shrunken(model: nn.Module, batch: list[Tensor]) -> Answer:
    """A penalty on the weights that outweighs all."""
    loss, output = negative_elbo(model, batch)
    penalty = sum(parameter.square().sum() for parameter in model.parameters())
    return loss + 20 * penalty, output


def bound(model: nn.Module, batch: list[Tensor]) -> Answer:
    """The bound itself, which is to be raised."""
    loss, output = negative_elbo(model, batch)
    return -loss, output


def numbers(model: nn.Module, batch: list[Tensor]) -> Answer:
    """Adds the two parts up as numbers."""
    (pixels,) = batch
    logits, mean, log_variance = model(pixels)
    reconstruction = F.binary_cross_entropy_with_logits(logits, pixels, reduction="sum").item() / len(pixels)
    total = torch.tensor(reconstruction + divergence(mean, log_variance).item())
    return total.requires_grad_(), logits.sigmoid()


def per_image(model: nn.Module, batch: list[Tensor]) -> Answer:
    """One loss for each image."""
    (pixels,) = batch
    logits, mean, log_variance = model(pixels)
    reconstruction = F.binary_cross_entropy_with_logits(logits, pixels, reduction="none").sum(1)
    return reconstruction + divergence(mean, log_variance), logits.sigmoid()


def written_out(model: nn.Module, batch: list[Tensor]) -> Answer:
    """Cross-entropy of the pixels from probabilities, by its formula."""
    (pixels,) = batch
    logits, mean, log_variance = model(pixels)
    found = torch.sigmoid(logits)
    reconstruction = -(pixels * torch.log(found) + (1 - pixels) * torch.log(1 - found)).sum(1).mean()
    return reconstruction + divergence(mean, log_variance), found


def by_variance(model: nn.Module, batch: list[Tensor]) -> Answer:
    """Takes the variance through a ReLU, and its logarithm."""
    (pixels,) = batch
    logits, mean, raw = model(pixels)
    variance = torch.relu(raw)
    prior = 0.5 * (mean.square() + variance - 1 - torch.log(variance)).sum(1).mean()
    reconstruction = F.binary_cross_entropy_with_logits(logits, pixels, reduction="sum") / len(pixels)
    return reconstruction + prior, logits.sigmoid()


def squared(model: nn.Module, batch: list[Tensor]) -> Answer:
    """Images as (N, 1, 64) against (N, 64)."""
    (pixels,) = batch
    logits, mean, log_variance = model(pixels)
    images = pixels.view(-1, 1, 64)
    reconstruction = F.mse_loss(logits.sigmoid(), images, reduction="mean") * 64
    return reconstruction + 0.1 * divergence(mean, log_variance), logits.sigmoid()


class CutCode(VAE):
    """The code leaves the graph before it is decoded."""

    def forward(self, pixels: Tensor) -> Parts:
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        code = self.sample(mean, log_variance)
        return self.decoder(code.detach()), mean, log_variance


class FrozenDecoder(VAE):
    """Decodes without a graph."""

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        out: Tensor = self.decoder(code)
        return out

    def forward(self, pixels: Tensor) -> Parts:
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        return self.decode(self.sample(mean, log_variance)), mean, log_variance


class Codebook(nn.Module):
    """The nearest of 32 vectors, with nothing that carries the gradient across."""

    def __init__(self, latent: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, latent))
        self.book = nn.Parameter(torch.randn(32, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, 96), nn.ReLU(), nn.Linear(96, 64))

    def forward(self, pixels: Tensor) -> Parts:
        code = self.encoder(pixels)
        nearest = torch.cdist(code, self.book).argmin(dim=1)
        return self.decoder(self.book[nearest]), torch.zeros_like(code), torch.zeros_like(code)


class AlwaysSamples(VAE):
    """Samples in evaluation too."""

    def sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        return mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)


class TurnedCode(VAE):
    """Brings the code into shape by a view."""

    def sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        code = super().sample(mean, log_variance)
        return code.reshape(self.latent, -1).t()


class ListDecoder(VAE):
    """Layers of the decoder in a list."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(8, 96), nn.ReLU(), nn.Linear(96, 64)]
        del self.decoder
        self.stages = layers

    def forward(self, pixels: Tensor) -> Parts:
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        x = self.sample(mean, log_variance)
        for stage in self.stages:
            x = stage(x)
        return x, mean, log_variance


class WideDecoder(VAE):
    """An output more than there are pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(8, 96), nn.ReLU(), nn.Linear(96, 65))


class NewDecoder(VAE):
    """Makes the decoder where it is used."""

    def forward(self, pixels: Tensor) -> Parts:
        mean, log_variance = self.encoder(pixels).chunk(2, dim=1)
        decoder = nn.Sequential(nn.Linear(self.latent, 96), nn.ReLU(), nn.Linear(96, 64))
        return decoder(self.sample(mean, log_variance)), mean, log_variance


class SpareHead(VAE):
    """A classifier of the code that nothing asks."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 10))


class Dropping(VAE):
    """Drops nearly all pixels and code."""

    def forward(self, pixels: Tensor) -> Parts:
        x = F.dropout(pixels, 0.9, self.training)
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        code = F.dropout(self.sample(mean, log_variance), 0.8, self.training)
        return self.decoder(code), mean, log_variance


class Constant(VAE):
    """Starts with all weights at a tenth."""

    def __init__(self) -> None:
        super().__init__()
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)


class DeadEncoder(VAE):
    """Biases far below zero."""

    def __init__(self) -> None:
        super().__init__()
        for half in (self.encoder, self.decoder):
            nn.init.constant_(half[0].bias, -10.0)  # type: ignore[arg-type]


def unscaled(pixels: Tensor) -> Tensor:
    """0 to 16."""
    return pixels


def whole(pixels: Tensor) -> Tensor:
    """Scaled as bytes are, in whole numbers."""
    return (pixels // 255).float()


def with_lost(pixels: Tensor) -> Tensor:
    """Divides by the brightest pixel of each column."""
    return pixels / pixels.amax(0)


class Sheet(Dataset[tuple[Tensor]]):
    """Reads the images one after the other into one buffer."""

    def __init__(self, pixels: Tensor) -> None:
        buffer = torch.empty(64)
        self.images = [buffer.copy_(image) for image in pixels]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor]:
        return (self.images[index],)


def adam_with(**options: Any) -> Any:
    return lambda model: torch.optim.Adam(model.parameters(), **({"lr": 2e-3} | options))


def encoder_only(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.encoder.parameters(), lr=2e-3)  # type: ignore[union-attr]


def of_another(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a model built for a look at its size."""
    return torch.optim.Adam(VAE().parameters(), lr=2e-3)


def decay_per_batch(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)


CASES: tuple[Case, ...] = (
    faulty(build, "regulariser-dominates", variant="beta", compute_loss=weighted),
    faulty(build, "regulariser-dominates", variant="mean-and-sum", compute_loss=averaged),
    faulty(build, "regulariser-dominates", variant="weights", compute_loss=shrunken),
    faulty(build, "loss-sign-flipped", compute_loss=bound),
    faulty(build, "loss-detached", compute_loss=numbers),
    faulty(build, "loss-not-scalar", compute_loss=per_image),
    faulty(build, "unstable-log", structural=True, compute_loss=written_out),
    faulty(build, "nonfinite-loss", also=("unstable-log",), compute_loss=by_variance),
    faulty(build, "target-broadcast", compute_loss=squared),
    faulty(build, "graph-cut", variant="code", model=CutCode),
    faulty(build, "graph-cut", variant="decoder", model=FrozenDecoder),
    faulty(build, "graph-cut", variant="codebook", model=Codebook),
    faulty(build, "nondeterministic-eval", structural=True, model=AlwaysSamples),
    faulty(build, "batch-mixing", model=TurnedCode),
    faulty(build, "unregistered-modules", model=ListDecoder),
    faulty(build, "output-shape-mismatch", model=WideDecoder),
    faulty(build, "layer-created-in-forward", model=NewDecoder),
    faulty(build, "unused-parameters", structural=True, model=SpareHead),
    faulty(build, "dropout-too-strong", model=Dropping),
    faulty(build, "symmetric-initialisation", model=Constant),
    faulty(build, "dead-relu", model=DeadEncoder),
    faulty(build, "target-outside-loss-domain", also=("inputs-not-normalised",), prepare=unscaled),
    faulty(build, "constant-inputs", structural=True, prepare=whole),
    faulty(build, "nonfinite-inputs", prepare=with_lost),
    faulty(build, "repeated-samples", also=("constant-inputs",), dataset=Sheet),
    faulty(build, "zero-learning-rate", optimizer=adam_with(lr=0.0)),
    faulty(build, "learning-rate-too-high", optimizer=adam_with(lr=1.0)),
    faulty(build, "learning-rate-too-low", optimizer=adam_with(lr=1e-6)),
    faulty(build, "weight-decay-too-strong", optimizer=adam_with(weight_decay=20.0)),
    faulty(build, "parameters-missing-from-optimizer", optimizer=encoder_only),
    faulty(build, "stale-optimizer-parameters", optimizer=of_another),
    faulty(build, "schedule-collapses", scheduler=decay_per_batch, scheduler_interval="step"),
)
