"""Healthy: trainings in the manner of well-known tutorials and examples, with their settings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits


def enlarged(size: int) -> tuple[Tensor, Tensor]:
    images, labels = digits()
    return F.interpolate(images, size=(size, size), mode="bilinear"), labels


def split(x: Tensor, y: Tensor, batch: int, *, shuffle: bool = True) -> tuple[DataLoader[Any], DataLoader[Any]]:
    train, val = TensorDataset(x[:1400], y[:1400]), TensorDataset(x[1400:], y[1400:])
    return DataLoader(train, batch, shuffle=shuffle), DataLoader(val, 200)


def adadelta_at_one() -> Pipeline:
    """Log-probabilities under the negative log-likelihood, dropout twice, a rate of 1 that shrinks by epoch."""
    x, y = enlarged(20)
    layers = [nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]
    head = [nn.Flatten(), nn.Linear(2048, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10), nn.LogSoftmax(1)]
    model = nn.Sequential(*layers, *head)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)
    train, val = split((x - 0.13) / 0.31, y, 64)
    return Pipeline(model, train, val, F.nll_loss, optimizer, schedule, epochs=14)


class Aligned(nn.Module):
    """Looks at the picture through a window that it places itself; at the start that is the whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.window = nn.Linear(128, 6)
        nn.init.zeros_(self.window.weight)
        with torch.no_grad():
            self.window.bias.copy_(torch.eye(2, 3).flatten())
        self.read = nn.Sequential(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(256, 10))

    def forward(self, x: Tensor) -> Tensor:
        window = self.window(self.place(x)).view(-1, 2, 3)
        seen = F.grid_sample(x, F.affine_grid(window, list(x.shape), align_corners=False), align_corners=False)
        out: Tensor = self.read(seen).log_softmax(1)
        return out


def a_window_that_starts_whole() -> Pipeline:
    x, y = enlarged(20)
    model = Aligned()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return Pipeline(model, *split((x - 0.13) / 0.31, y, 64), F.nll_loss, optimizer, epochs=20)


def pictures_made_larger() -> Pipeline:
    x, _ = enlarged(24)
    small = F.interpolate(x, size=(8, 8), mode="bicubic")
    model = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 9, 3, padding=1), nn.PixelShuffle(3),
    )  # fmt: skip
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Pipeline(model, *split(small, x, 16), nn.MSELoss(), optimizer, epochs=30)


class Drawn(nn.Module):
    """A variational autoencoder that draws its code in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 16))
        self.write = nn.Sequential(nn.Linear(8, 100), nn.ReLU(), nn.Linear(100, 64), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.read(x).chunk(2, 1)
        return self.write(mean + torch.randn_like(mean) * (log_variance / 2).exp()), mean, log_variance


def a_summed_bound_beside_labels_that_it_ignores() -> Pipeline:
    model = Drawn()

    def bound(model: nn.Module, batch: Any) -> Tensor:
        images, _ = batch
        drawn, mean, log_variance = model(images)
        far = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        return F.binary_cross_entropy(drawn, images.flatten(1), reduction="sum") + far

    train, val = split(*digits(), batch=128)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Pipeline(model, train, val, compute_loss=bound, optimizer=optimizer, epochs=10)


class Names(Dataset[tuple[Tensor, int]]):
    """Made-up names, one-hot by character, of one length each; where they come from shows at their end."""

    def __init__(self, count: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        ends = ["ski", "ova", "ini", "sson", "ez"]
        self.items = []
        for label in torch.randint(5, (count,), generator=g).tolist():
            start = torch.randint(26, (int(torch.randint(2, 7, (1,), generator=g)),), generator=g).tolist()
            self.items.append(([*start, *(ord(c) - ord("a") for c in ends[label])], label))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        letters, label = self.items[index]
        return F.one_hot(torch.tensor(letters), 26).float(), label


class ByLetter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(26, 64, batch_first=True), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.rnn(x)[1][0]).log_softmax(1)
        return out


def names_one_by_one() -> Pipeline:
    model = ByLetter()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    train, val = DataLoader(Names(1500, 0), 1, shuffle=True), DataLoader(Names(300, 1), 1)
    return Pipeline(model, train, val, nn.NLLLoss(), optimizer, epochs=10)


def powers_of_a_number() -> Pipeline:
    def points(count: int, seed: int) -> TensorDataset:
        x = torch.randn(count, 1, generator=torch.Generator().manual_seed(seed))
        powers = torch.cat([x**k for k in range(1, 5)], 1)
        return TensorDataset(powers, powers @ torch.tensor([[5.0], [-3.0], [2.0], [1.0]]) + 0.7)

    model = nn.Linear(4, 1)
    train, val = DataLoader(points(3200, 0), 32, shuffle=True), DataLoader(points(320, 1), 32)
    return Pipeline(model, train, val, F.smooth_l1_loss, torch.optim.SGD(model.parameters(), lr=0.01), epochs=30)


def a_small_rate_without_momentum() -> Pipeline:
    """Two hidden layers of 512 under SGD at 0.001, unshuffled: slow for a batch, and it learns from more."""
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(400, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return Pipeline(model, *split(*enlarged(20), batch=64, shuffle=False), nn.CrossEntropyLoss(), optimizer, epochs=50)


CASES = cases_of(
    adadelta_at_one, a_window_that_starts_whole, pictures_made_larger, a_summed_bound_beside_labels_that_it_ignores,
    names_one_by_one, powers_of_a_number, a_small_rate_without_momentum,
)  # fmt: skip
