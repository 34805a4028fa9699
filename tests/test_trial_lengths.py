"""How long a trial is: counted in evaluations of the loss, where an optimizer makes many of them in a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from probing import context
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline


def wave(max_iter: int = 20) -> Pipeline:
    """A sine under LBFGS, all samples at once."""
    x = torch.linspace(-3, 3, 64)[:, None]
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=max_iter)

    def train_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> Tensor:
        inputs, wanted = batch

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), wanted)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        return optimizer.step(closure)  # type: ignore[no-any-return]

    return Pipeline(
        model=model, train=DataLoader(TensorDataset(x, x.sin()), batch_size=64), loss=nn.MSELoss(), optimizer=optimizer,
        train_step=train_step, epochs=15,
    )  # fmt: skip


@pytest.mark.parametrize(("max_iter", "steps"), [(1, 600), (20, 30), (1000, 12)])
def test_a_step_of_many_evaluations_counts_as_many(max_iter: int, steps: int) -> None:
    assert context(lambda: wave(max_iter)).trainings.steps == steps


def test_a_training_under_lbfgs_is_short_and_learns() -> None:
    ctx = context(wave)
    assert ctx.trainings.steps_in_plan == 15
    assert ctx.trainings.overfit().steps <= 50
    assert ctx.trainings.subset().outcome == "learns"
