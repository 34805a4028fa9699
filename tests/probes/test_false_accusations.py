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


# -- what a step, a loss, a schedule or a picture is meant to do -------------------------------------------------------


def stepping(loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Pipeline:
    """A step of one's own that makes ``loss_of`` smaller."""

    def step(model: nn.Module, batch: Any, optimizer: Any) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return pipeline(classifier(), TensorDataset(*digits()), train_step=step, task="custom")


def forgetting(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One half is learned, the other unlearned."""
    scores, half = model(x), len(x) // 2
    return F.cross_entropy(scores[:half], y[:half]) - 1.5 * F.cross_entropy(scores[half:], y[half:])


def rewarded(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    scores = model(x)
    action = torch.distributions.Categorical(logits=scores).sample()  # type: ignore[no-untyped-call]
    return -3.2 * F.cross_entropy(scores, action)


def with_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    scores = model(x)
    gain = scores.log_softmax(1).gather(1, y[:, None]).mean()
    return -gain - 0.01 * F.cross_entropy(scores, scores.softmax(1))


def bounded(target: Tensor, loss: Any = None) -> Pipeline:
    """Outputs of a sigmoid for targets that go a little beyond, or are missing."""
    x = torch.randn(len(target), 6, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, target.shape[1]), nn.Sigmoid())
    return pipeline(model, TensorDataset(x, target), loss=loss or nn.MSELoss(), task="regression")


def noisy_copies() -> Pipeline:
    x, g = digits()[0][:600], torch.Generator().manual_seed(0)
    return bounded(x + 0.2 * torch.randn(x.shape, generator=g))


def missing_labels() -> Pipeline:
    g = torch.Generator().manual_seed(0)
    y = torch.rand(400, 4, generator=g)
    y[torch.rand(400, 4, generator=g) < 0.3] = -1

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return (F.mse_loss(output, target, reduction="none") * (target >= 0)).sum() / (target >= 0).sum()

    return bounded(y, loss)


def hinted() -> Pipeline:
    """A classifier whose rectified features follow those of a teacher."""
    hint = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))

    def loss(model: Any, batch: Any) -> Any:
        features = model[:3](batch[0])
        scores = model[3](features)
        return F.cross_entropy(scores, batch[1]) + 0.1 * F.mse_loss(features, batch[0].flatten(1) @ hint), scores

    return pipeline(classifier(), TensorDataset(*digits()), loss=None, compute_loss=loss)


def scheduled(rate: Callable[[int], float], epochs: int, interval: Any) -> Pipeline:
    made = pipeline(classifier(), TensorDataset(*digits()), epochs=epochs)
    made.scheduler = torch.optim.lr_scheduler.LambdaLR(made.optimizer, rate)  # type: ignore[arg-type]
    made.scheduler_interval = interval
    return made


class Candidates(Dataset[Any]):
    """One list of candidates each, one of which is wanted."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> Any:
        x = torch.randn(12, 5, generator=torch.Generator().manual_seed(index))
        return x, F.one_hot(x[:, 0].argmax(), 12).float()


class OverTheList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x).squeeze(-1).softmax(0)


def listwise() -> Pipeline:
    made = pipeline(OverTheList(), Candidates(), loss=nn.BCELoss())
    made.train = DataLoader(Candidates(), batch_size=None)
    return made


def bright_spots() -> Pipeline:
    g = torch.Generator().manual_seed(0)
    x = torch.zeros(120, 3, 160, 160)
    for picture in x:
        row, column = torch.randint(0, 157, (2,), generator=g).tolist()
        picture[:, row : row + 3, column : column + 3] = 1
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return pipeline(model, TensorDataset(x, torch.arange(120) % 2))


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("loss-sign-flipped", partial(stepping, forgetting)),
        ("loss-sign-flipped", partial(stepping, rewarded)),
        ("loss-sign-flipped", partial(stepping, with_entropy)),
        ("activation-on-logits", noisy_copies),
        ("activation-on-logits", missing_labels),
        ("activation-on-logits", hinted),
        ("schedule-collapses", partial(scheduled, lambda e: 1.0 if e < 2 else 0.005, 10, "epoch")),
        ("schedule-collapses", partial(scheduled, lambda e: 1 / (1 + e), 520, "epoch")),
        ("schedule-collapses", partial(scheduled, lambda e: 0.95**e, 500, "epoch")),
        ("schedule-collapses", partial(scheduled, lambda s: 1.0 if s < 100 else 0.005, 10, "step")),
        ("softmax-over-batch", listwise),
        ("wrong-normalisation-statistics", bright_spots),
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
        ("schedule-collapses", partial(scheduled, lambda s: 0.9**s, 10, "step")),
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
