"""Healthy pipelines that look suspicious in training: what the rehearsal must not alarm on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from small_pipelines import Images, cnn, digits_tensors, shifted
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from diagnose.pipeline import Pipeline


def digits(batch_size: int = 32, transform: Callable[[Tensor], Tensor] | None = None) -> tuple[DataLoader[Any], Any]:
    x, y = digits_tensors()
    train, val = Images(x[:1400], y[:1400], transform), Images(x[1400:], y[1400:])
    return DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(val, batch_size=64)


def of_digits(
    model: nn.Module, optimizer: Any = None, loss: Any = None, *, loaders: Any = None, **more: Any
) -> Pipeline:
    train, val = loaders or digits()
    made = optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=3e-3)
    return Pipeline(model, train, val, loss or nn.CrossEntropyLoss(), made, num_classes=10, **more)


def sgd_with_momentum() -> Pipeline:
    return of_digits(cnn(True), lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9))


def warmup_from_zero() -> Pipeline:
    pipeline = of_digits(cnn(True))
    assert pipeline.optimizer is not None
    pipeline.scheduler = torch.optim.lr_scheduler.LambdaLR(pipeline.optimizer, lambda step: min(1.0, step / 100))
    pipeline.scheduler_interval = "step"
    return pipeline


def one_cycle() -> Pipeline:
    pipeline = of_digits(cnn(True), lambda m: torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9), epochs=5)
    assert pipeline.optimizer is not None
    pipeline.scheduler = torch.optim.lr_scheduler.OneCycleLR(pipeline.optimizer, max_lr=0.1, total_steps=5 * 44)
    pipeline.scheduler_interval = "step"
    return pipeline


def dropout_that_learns() -> Pipeline:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10),
    )  # fmt: skip
    return of_digits(model, lambda m: torch.optim.Adam(m.parameters(), lr=1e-3))


def tiny_clip_under_adam() -> Pipeline:
    return of_digits(cnn(), clip_grad_norm=1e-4)


def label_smoothing() -> Pipeline:
    return of_digits(cnn(True), loss=nn.CrossEntropyLoss(label_smoothing=0.1))


def batch_of_four() -> Pipeline:
    return of_digits(cnn(True), lambda m: torch.optim.Adam(m.parameters(), lr=1e-3), loaders=digits(batch_size=4))


def heavy_augmentation() -> Pipeline:
    def noisy(image: Tensor) -> Tensor:
        return shifted(image) + 0.3 * torch.randn_like(image)

    return of_digits(cnn(True), loaders=digits(transform=noisy))


def raw_pixels_into_batchnorm() -> Pipeline:
    x, y = digits_tensors()
    x = x * 255
    model = nn.Sequential(nn.BatchNorm2d(1), *cnn(True))
    train = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=32, shuffle=True)
    return of_digits(model, loaders=(train, DataLoader(TensorDataset(x[1400:], y[1400:]), batch_size=64)))


def imbalanced_but_learnable() -> Pipeline:
    x, y = digits_tensors()
    keep = (y < 2) & ((y == 0) | (torch.arange(len(y)) % 8 == 0))
    x, y = x[keep], y[keep]
    cut = int(0.8 * len(y))
    train = DataLoader(TensorDataset(x[:cut], y[:cut]), batch_size=16, shuffle=True)
    val = DataLoader(TensorDataset(x[cut:], y[cut:]), batch_size=64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    return Pipeline(
        model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3), num_classes=2
    )


def weighted_sampling() -> Pipeline:
    x, y = digits_tensors()
    weights = 1.0 / torch.bincount(y[:1400])[y[:1400]].double()
    sampler = WeightedRandomSampler(weights.tolist(), 1400)
    train = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=32, sampler=sampler)
    return of_digits(cnn(True), loaders=(train, digits()[1]))


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Samples without a length; endless if asked."""

    def __init__(self, endless: bool) -> None:
        self.endless = endless

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = digits_tensors()
        for index in itertools.count() if self.endless else range(1400):
            position = int(torch.randint(1400, (1,))) if self.endless else index
            yield x[position], y[position]


def stream_without_length() -> Pipeline:
    return of_digits(cnn(True), loaders=(DataLoader(Stream(endless=False), batch_size=32), digits()[1]))


def endless_stream() -> Pipeline:
    return of_digits(cnn(True), loaders=(DataLoader(Stream(endless=True), batch_size=32), digits()[1]))


def unscaled_but_learned_regression() -> Pipeline:
    x = torch.randn(800, 6, generator=torch.Generator().manual_seed(1))
    y = 100 * (x[:, :1] * x[:, 1:2] + x[:, 2:3].sin()) + 300
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    train = DataLoader(TensorDataset(x[:640], y[:640]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(x[640:], y[640:]), batch_size=64)
    return Pipeline(model, train, val, nn.MSELoss(), torch.optim.Adam(model.parameters(), lr=0.01))


def pretrained_start() -> Pipeline:
    """Weights that have learned already: the loss starts near its floor."""
    x, y = digits_tensors()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:1400]), y[:1400]).backward()
        optimizer.step()
    return of_digits(model, lambda m: torch.optim.Adam(m.parameters(), lr=1e-4), intents=("pretrained",))


def two_optimizers() -> Pipeline:
    """An actor-critic's manner: a body and a head, each with an optimizer of its own, in one step of the user's."""
    model = cnn(True)
    head = list(model)[-1]
    body = [p for module in list(model)[:-1] for p in module.parameters()]
    second = torch.optim.SGD(head.parameters(), lr=0.1)

    def train_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        second.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        second.step()
        return loss.detach()

    return of_digits(
        model, lambda _: torch.optim.Adam(body, lr=3e-3), train_step=train_step, intents=("multiple-optimizers",)
    )


class Generator(nn.Module):
    """A generator that keeps its critic beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64))
        self.critic = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.critic(x.flatten(1))
        return out


def adversarial() -> Pipeline:
    model = Generator()
    second = torch.optim.Adam(model.generator.parameters(), lr=1e-3)

    def train_step(model: Any, batch: Any, optimizer: torch.optim.Optimizer) -> Tensor:
        real = batch[0].flatten(1)
        fake = model.generator(torch.randn(len(real), 8))
        optimizer.zero_grad()
        loss = F.softplus(-model.critic(real)).mean() + F.softplus(model.critic(fake.detach())).mean()
        loss.backward()
        optimizer.step()
        second.zero_grad()
        F.softplus(-model.critic(fake)).mean().backward()
        second.step()
        return loss.detach()

    train, val = digits()
    return Pipeline(
        model, train, val, optimizer=torch.optim.Adam(model.critic.parameters(), lr=1e-3), train_step=train_step,
        task="custom", intents=("multiple-optimizers",),
    )  # fmt: skip


class Recogniser(nn.Module):
    """Letters in a strip, read by connectionist temporal classification."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.GRU(4, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0]).log_softmax(-1)


def ctc() -> Pipeline:
    generator = torch.Generator().manual_seed(2)
    y = torch.randint(1, 6, (320, 3), generator=generator)
    table = torch.randn(6, 4, generator=generator)
    x = table[y.repeat_interleave(4, 1)] + 0.05 * torch.randn(320, 12, 4, generator=generator)

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        lengths = torch.full((len(x),), x.shape[1]), torch.full((len(y),), y.shape[1])
        return F.ctc_loss(model(x).transpose(0, 1), y, *lengths)

    model = Recogniser()
    train, val = TensorDataset(x[:256], y[:256]), TensorDataset(x[256:], y[256:])
    return Pipeline(
        model, DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=32),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3), compute_loss=compute_loss, task="custom",
    )  # fmt: skip


def triplet() -> Pipeline:
    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        z = F.normalize(model(x), dim=1)
        same = y[:, None] == y[None, :]
        distance = torch.cdist(z, z)
        positive = (distance * same).max(1).values
        negative = (distance + 10.0 * same).min(1).values
        return F.relu(positive - negative + 0.2).mean()

    train, val = digits()
    model = cnn(True)
    return Pipeline(
        model, train, val, optimizer=torch.optim.Adam(model.parameters(), lr=1e-3), compute_loss=compute_loss,
        task="custom",
    )  # fmt: skip


def slow_batchnorm_momentum() -> Pipeline:
    model = cnn(True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.01
    return of_digits(model)


def strong_but_sane_decay() -> Pipeline:
    return of_digits(cnn(True), lambda m: torch.optim.AdamW(m.parameters(), lr=3e-3, weight_decay=0.1))


def small_batches_accumulated() -> Pipeline:
    return of_digits(cnn(True), loaders=digits(batch_size=4), accumulate=16)


def weighted_loss_of_its_own_classes() -> Pipeline:
    """A factory that takes a class count, with a loss that fits only its own: reference data cannot be asked."""
    x, y = digits_tensors()
    keep = y < 7
    x, y = x[keep], y[keep]
    train = DataLoader(TensorDataset(x[:900], y[:900]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(x[900:], y[900:]), batch_size=64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 7))
    return Pipeline(
        model, train, val, nn.CrossEntropyLoss(weight=torch.linspace(1, 2, 7)),
        torch.optim.Adam(model.parameters(), lr=3e-3), num_classes=7,
    )  # fmt: skip


def probabilities_into_bce() -> Pipeline:
    """Even or odd, as one probability."""
    x, y = digits_tensors()
    odd = (y % 2).float().unsqueeze(1)
    train = DataLoader(TensorDataset(x[:1400], odd[:1400]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(x[1400:], odd[1400:]), batch_size=64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
    return Pipeline(model, train, val, nn.BCELoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


class Normalising(nn.Module):
    """Normalises in place: its own batch, and nobody else's, may change."""

    def __init__(self) -> None:
        super().__init__()
        self.body = cnn(True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.mul_(2).sub_(0.5))
        return out


def preprocessing_in_place() -> Pipeline:
    return of_digits(Normalising())


LOOKALIKES = (
    small_batches_accumulated, weighted_loss_of_its_own_classes, probabilities_into_bce, preprocessing_in_place,
    sgd_with_momentum, warmup_from_zero, one_cycle, dropout_that_learns, tiny_clip_under_adam, label_smoothing,
    batch_of_four, heavy_augmentation, raw_pixels_into_batchnorm, imbalanced_but_learnable, weighted_sampling,
    stream_without_length, endless_stream, unscaled_but_learned_regression, pretrained_start, two_optimizers,
    adversarial, ctc, triplet, slow_batchnorm_momentum, strong_but_sane_decay,
)  # fmt: skip
