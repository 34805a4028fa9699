"""Healthy: losses beyond cross-entropy; some are negative, some compare the samples of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders, table


def net(inputs: int, outputs: int, width: int = 48) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


def adam(model: nn.Module, lr: float = 3e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def sines(n: int = 1200) -> tuple[Tensor, Tensor]:
    """Four inputs; the target bends, and its noise grows with the first input."""
    g = torch.Generator().manual_seed(21)
    x = 2 * torch.rand(n, 4, generator=g) - 1
    mean = torch.sin(3 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]
    return x, mean + (0.1 + 0.2 * (x[:, :1] + 1)) * torch.randn(n, 1, generator=g)


def gaussian_likelihood() -> Pipeline:
    """Mean and log-variance; the loss goes below zero."""

    def nll(output: Tensor, target: Tensor) -> Tensor:
        mean, log_var = output.chunk(2, dim=1)
        return F.gaussian_nll_loss(mean, target, log_var.exp())

    model = net(4, 2)
    return Pipeline(model, *loaders(*sines(), 900), nll, adam(model), task="custom")


def quantiles() -> Pipeline:
    """Pinball loss at three levels: an output of three for a target of one, on purpose."""
    levels = torch.tensor([0.1, 0.5, 0.9])

    def pinball(output: Tensor, target: Tensor) -> Tensor:
        error = target - output
        return torch.maximum(levels * error, (levels - 1) * error).mean()

    model = net(4, 3)
    return Pipeline(model, *loaders(*sines(), 900), pinball, adam(model), task="custom")


class Coral(nn.Module):
    """Ordinal regression: one score, and a threshold for each step between the ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1, bias=False))
        self.thresholds = nn.Parameter(torch.linspace(1, -1, 4))

    def forward(self, x: Tensor) -> Any:
        return self.score(x) + self.thresholds


def ordinal_ranks() -> Pipeline:
    def coral(output: Tensor, rank: Tensor) -> Tensor:
        levels = (rank[:, None] > torch.arange(4)).float()
        return F.binary_cross_entropy_with_logits(output, levels)

    g = torch.Generator().manual_seed(22)
    x = torch.randn(1000, 6, generator=g)
    latent = x[:, 0] + x[:, 1].tanh() - 0.5 * x[:, 2] + 0.3 * torch.randn(1000, generator=g)
    rank = torch.bucketize(latent, torch.tensor([-1.5, -0.5, 0.5, 1.5]))
    model = Coral()
    return Pipeline(model, *loaders(x, rank, 800, 25), coral, adam(model, 1e-2), task="custom")


def multiclass_hinge() -> Pipeline:
    model = nn.Sequential(nn.Flatten(), net(64, 10))
    return Pipeline(model, *loaders(*digits(), 1400), nn.MultiMarginLoss(margin=1.0), adam(model), num_classes=10)


def poisson_counts() -> Pipeline:
    """Counts, with the log of their rate as the output."""
    g = torch.Generator().manual_seed(23)
    x = torch.randn(1200, 5, generator=g)
    rate = torch.exp(0.8 * x[:, 0] - 0.5 * x[:, 1] * (x[:, 2] > 0) + 0.7)
    counts = torch.poisson(rate, generator=g)
    model = nn.Sequential(net(5, 1), nn.Flatten(0))
    return Pipeline(model, *loaders(x, counts, 900), nn.PoissonNLLLoss(log_input=True), adam(model, 1e-3))


def prices_in_thousands() -> Pipeline:
    """An unscaled target; the bias of the head starts at its mean, and the head is scaled."""
    g = torch.Generator().manual_seed(24)
    area, rooms, age = (
        40 + 160 * torch.rand(900, generator=g),
        torch.randint(1, 7, (900,), generator=g),
        torch.rand(900, generator=g),
    )
    price = 1900 * area * (1.1 - 0.4 * age) + 9000 * rooms + 12000 * torch.randn(900, generator=g)
    x = torch.stack([(area - 120) / 46, (rooms - 3.5) / 1.7, (age - 0.5) / 0.29], 1)
    price = (price / 1000).unsqueeze(1)

    class Prices(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out = nn.Linear(3, 48), nn.Linear(48, 1)
            nn.init.constant_(self.out.bias, float(price[:700].mean()))

        def forward(self, x: Tensor) -> Any:
            return self.out(F.relu(self.hidden(x)))

    model = Prices()
    return Pipeline(model, *loaders(x, price, 700, 20), nn.HuberLoss(delta=25.0), adam(model, 0.03), task="regression")


def diabetes_progression() -> Pipeline:
    """Targets from 25 to 346, learned as they are at a rate that suits them."""
    x, y = table("diabetes")
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    train, val = loaders(x, y.float().unsqueeze(1), 340, 20)
    return Pipeline(model, train, val, nn.MSELoss(), adam(model, 0.02), task="regression")


def cosine_pairs() -> Pipeline:
    """nn.CosineEmbeddingLoss over pairs, one encoder for both."""
    x, y = digits()
    partner = torch.randint(0, 1797, (1797,), generator=torch.Generator().manual_seed(25))
    for i in range(0, 1797, 2):
        same = (y[:1400] == y[i]).nonzero().flatten() if i < 1400 else 1400 + (y[1400:] == y[i]).nonzero().flatten()
        partner[i] = same[i % len(same)]
    partner[:1400] = torch.where(partner[:1400] >= 1400, partner[:1400] - 1400, partner[:1400])
    partner[1400:] = torch.where(partner[1400:] < 1400, 1400 + partner[1400:] % 397, partner[1400:])
    sign = torch.where(y == y[partner], 1.0, -1.0)
    criterion = nn.CosineEmbeddingLoss(margin=0.2)

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        left, right, target = batch
        loss: Tensor = criterion(model(left), model(right), target)
        return loss

    model = nn.Sequential(nn.Flatten(), net(64, 24))
    train, val = (TensorDataset(x[s], x[partner[s]], sign[s]) for s in (slice(0, 1400), slice(1400, None)))
    return Pipeline(
        model, DataLoader(train, 40, shuffle=True), DataLoader(val, 100), compute_loss=compute_loss,
        optimizer=adam(model), task="custom",
    )  # fmt: skip


class Siamese(nn.Module):
    """Do two pictures show the same digit? One encoder, used twice; the distance goes through a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 32))
        self.out = nn.Linear(32, 1)

    def forward(self, a: Tensor, b: Tensor) -> Any:
        return self.out((self.encoder(a) - self.encoder(b)).abs()).squeeze(1)


def siamese_verification() -> Pipeline:
    x, y = digits()
    g = torch.Generator().manual_seed(26)

    def pairs(first: int, last: int) -> TensorDataset:
        a = torch.arange(first, last).repeat(3)
        b = first + torch.randint(0, last - first, (len(a),), generator=g)
        for i in range(0, len(a), 2):
            same = first + (y[first:last] == y[a[i]]).nonzero().flatten()
            b[i] = same[int(torch.randint(0, len(same), (1,), generator=g))]
        return TensorDataset(x[a], x[b], (y[a] == y[b]).float())

    model = Siamese()
    train, val = DataLoader(pairs(0, 1400), 32, shuffle=True), DataLoader(pairs(1400, 1797), 100)
    return Pipeline(model, train, val, nn.BCEWithLogitsLoss(), adam(model, 2e-3))


def triplets_from_the_dataset() -> Pipeline:
    """Batches of anchor, positive and negative; nn.TripletMarginLoss, which reaches zero."""
    x, y = digits()
    g = torch.Generator().manual_seed(27)

    def triplets(first: int, last: int) -> TensorDataset:
        rows = []
        for i in range(first, last):
            same = (y[first:last] == y[i]).nonzero().flatten() + first
            other = (y[first:last] != y[i]).nonzero().flatten() + first
            pick = [int(c[int(torch.randint(0, len(c), (1,), generator=g))]) for c in (same, other)]
            rows.append((i, *pick))
        index = torch.tensor(rows)
        return TensorDataset(x[index[:, 0]], x[index[:, 1]], x[index[:, 2]])

    criterion = nn.TripletMarginLoss(margin=0.5)

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        anchor, positive, negative = (F.normalize(model(part), dim=1) for part in batch)
        loss: Tensor = criterion(anchor, positive, negative)
        return loss

    model = nn.Sequential(nn.Flatten(), net(64, 16))
    train, val = DataLoader(triplets(0, 800), 32, shuffle=True), DataLoader(triplets(1400, 1600), 100)
    return Pipeline(model, train, val, compute_loss=compute_loss, optimizer=adam(model, 1e-3), task="custom")


class TwoTowers(nn.Module):
    """Upper and lower half of a picture; forward returns the similarities of all pairs in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.upper, self.lower = net(32, 24), net(32, 24)
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, upper: Tensor, lower: Tensor) -> Tensor:
        a, b = F.normalize(self.upper(upper.flatten(1)), dim=1), F.normalize(self.lower(lower.flatten(1)), dim=1)
        return self.log_scale.exp() * a @ b.t()


def image_pairs_as_in_clip() -> Pipeline:
    """Symmetric InfoNCE: the targets are the positions in the batch."""

    def compute_loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        logits = model(*batch)
        here = torch.arange(len(logits))
        return (F.cross_entropy(logits, here) + F.cross_entropy(logits.t(), here)) / 2, logits

    x, _ = digits()
    train = DataLoader(TensorDataset(x[:1400, :, :4], x[:1400, :, 4:]), batch_size=32, shuffle=True, drop_last=True)
    val = DataLoader(TensorDataset(x[1400:, :, :4], x[1400:, :, 4:]), batch_size=32, drop_last=True)
    model = TwoTowers()
    return Pipeline(model, train, val, compute_loss=compute_loss, optimizer=adam(model), task="custom")


def supervised_contrastive() -> Pipeline:
    """Embeddings alone; samples of one class in the batch attract each other."""

    def compute_loss(model: nn.Module, batch: Any) -> Any:
        x, y = batch
        z = F.normalize(model(x), dim=1)
        logits = (z @ z.t() / 0.2).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e4)
        same = (y[:, None] == y[None]).float().fill_diagonal_(0)
        return -(F.log_softmax(logits, 1) * same).sum() / same.sum().clamp_min(1)

    model = nn.Sequential(nn.Flatten(), net(64, 16))
    return Pipeline(
        model, *loaders(*digits(), 1400, 64), compute_loss=compute_loss, optimizer=adam(model), task="custom"
    )


CASES = cases_of(
    gaussian_likelihood, quantiles, ordinal_ranks, multiclass_hinge, poisson_counts, prices_in_thousands,
    diabetes_progression, cosine_pairs, siamese_verification, triplets_from_the_dataset, image_pairs_as_in_clip,
    supervised_contrastive,
)  # fmt: skip
