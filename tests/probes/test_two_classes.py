"""One yes or no per sample, as binary cross-entropy takes it, is judged as two classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from probing import context, judge
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline
from probes.results import Status


class TwoInputs(nn.Module):
    """Numbers and a category; ``bend`` is what stands between the layers."""

    def __init__(self, bend: nn.Module) -> None:
        super().__init__()
        self.plan = nn.Embedding(4, 3)
        self.body = nn.Sequential(nn.Linear(9, 24), bend, nn.Linear(24, 1))

    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        return self.body(torch.cat([numbers, self.plan(plan)], 1)).squeeze(1)


def leavers(
    *, bend: nn.Module | None = None, loss: Callable[..., Any] | None = None, rare: int = 1, ordered: bool = False,
    column: bool = False, task: Any = None, **fields: Any,
) -> Pipeline:  # fmt: skip
    """800 rows; of the second class one in ``rare`` is in training; ``ordered``: one class after the other."""
    g = torch.Generator().manual_seed(5)
    x, plan = torch.randn(800, 6, generator=g), torch.randint(0, 4, (800,), generator=g)
    y = (x[:, 0] + 0.5 * x[:, 1] + 0.3 * plan > 0.5).float()
    kept = torch.arange(600)
    kept = torch.cat([kept[y[:600] == 0], kept[y[:600] == 1][::rare]])
    kept = kept if ordered else kept[torch.randperm(len(kept), generator=g)]
    shaped = y.unsqueeze(1) if column else y
    model = TwoInputs(bend or nn.ReLU())
    return Pipeline(
        model,
        DataLoader(TensorDataset(x[kept], plan[kept], shaped[kept]), 40, shuffle=not ordered),
        DataLoader(TensorDataset(x[600:], plan[600:], shaped[600:]), 100),
        loss=loss or nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        task=task,
        **fields,
    )


def quantities() -> Pipeline:
    g = torch.Generator().manual_seed(6)
    x = torch.randn(400, 6, generator=g)
    y = x[:, :1].abs() * (torch.rand(400, 1, generator=g) < 0.5)  # many of them are 0, and none is a class
    model = nn.Linear(6, 1)
    data = DataLoader(TensorDataset(x, y), 40)
    return Pipeline(model, data, loss=nn.MSELoss(), optimizer=torch.optim.SGD(model.parameters(), lr=0.01))


def squared(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output, target)


def bce_of_a_column(output: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(output, target[:, 0])


FAULTY = [
    ("unshuffled-training-data", partial(leavers, ordered=True)),
    ("unshuffled-training-data", partial(leavers, ordered=True, column=True, loss=bce_of_a_column)),
    ("class-imbalance", partial(leavers, rare=60)),
    ("missing-nonlinearity", partial(leavers, bend=nn.Identity())),
    ("mse-for-classification", partial(leavers, loss=squared)),
    ("mse-for-classification", partial(leavers, loss=nn.MSELoss())),
]
HEALTHY = [
    ("unshuffled-training-data", leavers),
    ("unshuffled-training-data", quantities),
    ("class-imbalance", leavers),
    ("class-imbalance", partial(leavers, rare=25, loss=nn.BCEWithLogitsLoss(pos_weight=torch.tensor(25.0)))),
    ("missing-nonlinearity", leavers),
    ("mse-for-classification", leavers),
    ("mse-for-classification", quantities),
    ("mse-for-classification", partial(leavers, loss=nn.MSELoss(), task="regression")),
    ("labels-out-of-range", partial(leavers, task="classification", num_classes=1)),
    ("num-classes-mismatch", partial(leavers, task="classification", num_classes=1)),
]


@pytest.mark.parametrize(("name", "build"), FAULTY)
def test_finds_its_fault(name: str, build: Callable[[], Pipeline]) -> None:
    assert judge(name, build).names == [name]


@pytest.mark.parametrize(("name", "build"), HEALTHY)
def test_is_silent_on_the_twin(name: str, build: Callable[[], Pipeline]) -> None:
    judged = judge(name, build)
    assert judged.names == []
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result


def test_labels_are_those_of_two_classes_or_none() -> None:
    assert set(context(leavers).scan().labels) == {0, 1}
    assert context(quantities).scan().labels == ()
