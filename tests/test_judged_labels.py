"""Labels that a data set has and the loss does not look at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from probing import context
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline

Loss = Callable[[nn.Module, list[Tensor]], Tensor]


def pipeline(width: int, loss: Loss, classes: int = 10, **fields: object) -> Pipeline:
    g = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.rand(64, 24, generator=g), torch.randint(0, classes, (64,), generator=g))
    model = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, width))
    optimizer = torch.optim.Adam(model.parameters())
    return Pipeline(model, train=DataLoader(data, 16), compute_loss=loss, optimizer=optimizer, **fields)  # type: ignore[arg-type]


def gives_back(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch[0]), batch[0], reduction="sum")


def contrasts(model: nn.Module, batch: list[Tensor]) -> Tensor:
    one, two = (F.normalize(model(batch[0] + 0.1 * torch.randn_like(batch[0])), dim=1) for _ in range(2))
    return F.cross_entropy(one @ two.T / 0.1, torch.arange(len(one)))


def pulls_together(model: nn.Module, batch: list[Tensor]) -> Tensor:
    out, alike = F.normalize(model(batch[0]), dim=1), batch[1][:, None] == batch[1][None]
    return -((out @ out.T / 0.5).log_softmax(1) * alike).sum(1).mean()


def focal(model: nn.Module, batch: list[Tensor]) -> Tensor:
    right = model(batch[0]).log_softmax(1).gather(1, batch[1][:, None])
    return -((1 - right.exp()) ** 2 * right).mean()


def one_hot(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]).softmax(1), F.one_hot(batch[1], 10).float())


def smoothed(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return F.kl_div(model(batch[0]).log_softmax(1), 0.9 * F.one_hot(batch[1], 10) + 0.01, reduction="batchmean")


def one_score(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch[0]).squeeze(1), batch[1].float())


def and_gives_back(model: nn.Module, batch: list[Tensor]) -> Tensor:
    out = model(batch[0])
    return F.cross_entropy(out, batch[1]) + F.mse_loss(out.mean(1), batch[0].mean(1))


def from_one(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1] % 10)


@pytest.mark.parametrize(("width", "loss"), [(24, gives_back), (8, contrasts), (64, contrasts), (64, pulls_together)])
def test_labels_that_the_loss_does_not_judge(width: int, loss: Loss) -> None:
    facts = context(lambda: pipeline(width, loss)).facts
    assert facts.task == "custom"
    assert any("does not judge these labels" in note for note in facts.notes)


@pytest.mark.parametrize(
    ("width", "loss", "classes"),
    [
        (10, focal, 10), (12, focal, 10), (10, one_hot, 10), (10, smoothed, 10), (1, one_score, 2),
        (10, and_gives_back, 10), (10, from_one, 10),
    ],
)  # fmt: skip
def test_labels_that_it_judges(width: int, loss: Loss, classes: int) -> None:
    assert context(lambda: pipeline(width, loss, classes)).facts.task == "classification"


def test_what_the_user_says_stands() -> None:
    assert context(lambda: pipeline(24, gives_back, task="classification")).facts.task == "classification"


def test_a_loss_that_fails_is_left_to_the_probes() -> None:
    def fails(model: nn.Module, batch: list[Tensor]) -> Tensor:
        raise ValueError("not yet written")

    made = context(lambda: pipeline(10, fails))
    assert made.facts.task == "classification"
    assert made.attempt().failure is not None
