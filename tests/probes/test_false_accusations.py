"""Healthy pipelines whose numbers look like those of a fault, and the faults that must still be told beside them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from probing import judge
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

from diagnose.pipeline import Pipeline
from probes.results import Grade, Severity, Status


def pipeline(model: nn.Module, data: Dataset[Any], held: Dataset[Any] | None = None, **fields: Any) -> Pipeline:
    loaders = {"train": DataLoader(data, 32, shuffle=True), "val": DataLoader(held, 64) if held is not None else None}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Pipeline(model, optimizer=optimizer, **(loaders | {"loss": nn.CrossEntropyLoss()} | fields))


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)


def classifier() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


# -- the same inputs in both splits, and no copies --------------------------------------------------------------------


def doses() -> Pipeline:
    """Forty doses, each measured twenty times: a random split has all of them on both sides."""
    g = torch.Generator().manual_seed(0)
    x = torch.linspace(0, 1, 40).repeat(20)[:, None]
    y = (6 * x).sin() + 0.2 * torch.randn(x.shape, generator=g)
    order = torch.randperm(800, generator=g)
    x, y = x[order], y[order]
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    return pipeline(model, TensorDataset(x[:600], y[:600]), TensorDataset(x[600:], y[600:]), loss=nn.MSELoss())


def exclusive_or() -> Pipeline:
    x = torch.randint(0, 2, (800, 2), generator=torch.Generator().manual_seed(0)).float()
    y = (x[:, 0] != x[:, 1]).long()
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    return pipeline(model, TensorDataset(x[:600], y[:600]), TensorDataset(x[600:], y[600:]))


# -- the target goes into the model, and is no leak -------------------------------------------------------------------


class Continues(nn.Module):
    """Writes on from the past; while it is trained, the value before comes from the future that it is taught."""

    def __init__(self) -> None:
        super().__init__()
        self.reader, self.writer, self.out = (
            nn.GRU(1, 8, batch_first=True),
            nn.GRU(1, 8, batch_first=True),
            nn.Linear(8, 1),
        )

    def forward(self, past: Tensor, future: Tensor) -> Tensor:
        before = torch.cat([past[:, -1:], future[:, :-1]], 1)
        out: Tensor = self.out(self.writer(before, self.reader(past)[1])[0])
        return out.squeeze(-1)


class Series(Dataset[Any]):
    def __init__(self, named: bool) -> None:
        g = torch.Generator().manual_seed(0)
        turns = 6 * torch.rand(320, 1, generator=g) + 0.3 * torch.arange(24)
        self.rows, self.named = turns.sin() + 0.1 * torch.randn(320, 24, generator=g), named

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        row = self.rows[index]
        past, future = row[:16, None], row[16:, None]
        return {"past": past, "future": future, "labels": row[16:]} if self.named else (past, future, row[16:])


def taught(named: bool) -> Pipeline:
    return pipeline(Continues(), Series(named), loss=nn.MSELoss(), task="regression")


# -- steps, outputs ---------------------------------------------------------------------------------------------------


def step_tells_nothing() -> Pipeline:
    x, y = digits()
    loss = nn.CrossEntropyLoss()

    def train_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss(model(batch[0]), batch[1]).backward()
        optimizer.step()

    return pipeline(classifier(), TensorDataset(x, y), loss=loss, train_step=train_step)


class HandsOn(nn.Module):
    """Returns a mask that it uses for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(8, 3)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(x), mask


def mask_is_handed_on() -> Pipeline:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(320, 8, generator=g)
    mask = (torch.rand(320, 8, generator=g) > 0.5).float()
    data = TensorDataset(x, mask, x[:, :3].argmax(1))
    return pipeline(HandsOn(), data, loss=lambda out, y: F.cross_entropy(out[0], y), num_classes=3)


class Samples(nn.Module):
    """A variational autoencoder that draws its code in evaluation too, as many do; the reconstruction alone, or all."""

    def __init__(self, alone: bool) -> None:
        super().__init__()
        self.encode, self.decode, self.alone = nn.Linear(64, 8), nn.Linear(4, 64), alone

    def forward(self, x: Tensor) -> Any:
        mean, log_variance = self.encode(x).chunk(2, 1)
        drawn = self.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp()).sigmoid()
        return drawn if self.alone else (drawn, mean, log_variance)


def sampling(labels: bool, alone: bool) -> Pipeline:
    x, y = digits()

    def bound(output: Any, target: Tensor) -> Tensor:
        drawn, mean, log_variance = (output, torch.zeros(1), torch.zeros(1)) if alone else output
        far = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        return F.binary_cross_entropy(drawn, target, reduction="sum") + far

    fields = {"compute_loss": lambda model, batch: bound(model(batch[0]), batch[0])} if labels else {"loss": bound}
    return pipeline(Samples(alone), TensorDataset(x, y if labels else x), **fields)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x + 0.3 * torch.randn_like(x))


def noise_in_evaluation() -> Pipeline:
    x, y = digits()
    return pipeline(Noisy(), TensorDataset(x, y))


# -- labels -----------------------------------------------------------------------------------------------------------


def wrong_labels(how: str) -> Pipeline:
    """A fifth of the labels: those of the next class, or all of one class."""
    x, y = digits()
    wrong = torch.rand(len(y), generator=torch.Generator().manual_seed(0)) < 0.2
    y = torch.where(wrong, (y + 1) % 10 if how == "next" else torch.zeros_like(y), y)
    return pipeline(classifier(), TensorDataset(x, y))


# -- augmentation -----------------------------------------------------------------------------------------------------


class Pictures(Dataset[Any]):
    def __init__(self, part: slice, transform: Any) -> None:
        x, y = digits()
        self.x, self.y, self.transform = x[part].view(-1, 1, 8, 8), y[part], transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.x[index]), int(self.y[index])


def erased() -> Pipeline:
    strong = v2.Compose([v2.RandomCrop(8, padding=6), v2.RandomErasing(p=1.0, scale=(0.4, 0.8))])
    return pipeline(classifier(), Pictures(slice(1400), strong), Pictures(slice(1400, None), v2.Identity()))


def not_normalised() -> Pipeline:
    other = v2.Normalize([0.5], [0.1])
    return pipeline(classifier(), Pictures(slice(1400), other), Pictures(slice(1400, None), v2.Identity()))


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("train-val-leakage", doses),
        ("train-val-leakage", exclusive_or),
        ("target-leaked-into-input", partial(taught, named=False)),
        ("target-leaked-into-input", partial(taught, named=True)),
    ],
)
def test_is_silent(name: str, build: Callable[[], Pipeline]) -> None:
    judged = judge(name, build)
    assert judged.findings == (), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("noisy-labels", partial(wrong_labels, "next")),
        ("noisy-labels", partial(wrong_labels, "zero")),
        ("ignored-input", mask_is_handed_on),
        ("nondeterministic-eval", noise_in_evaluation),
    ],
)
def test_is_told(name: str, build: Callable[[], Pipeline]) -> None:
    judged = judge(name, build)
    assert judged.names == [name], judged.result


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_a_generative_model_that_samples_in_evaluation_is_only_noted(labels: bool, alone: bool) -> None:
    (finding,) = judge("nondeterministic-eval", partial(sampling, labels, alone)).findings
    assert finding.severity is Severity.NOTE


def test_augmentation_that_changes_the_samples_is_only_suspected_of_being_preprocessing() -> None:
    (strong,) = judge("train-val-preprocessing-mismatch", erased).findings
    assert (strong.severity, strong.values["grade"]) == (Severity.WARNING, str(Grade.SUSPECTED))
    (other,) = judge("train-val-preprocessing-mismatch", not_normalised).findings
    assert (other.severity, other.values["grade"]) == (Severity.ERROR, str(Grade.SUPPORTED))


def test_a_step_that_tells_no_loss_is_checked_all_the_same() -> None:
    for name in ("nonfinite-loss", "nonfinite-gradient"):
        assert judge(name, step_tells_nothing).status is Status.PASS
