"""Faults of learning: a healthy pipeline plus one change, with the name that must come first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lookalikes import digits, of_digits
from small_pipelines import cnn, digits_tensors
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline


def mlp(p: float = 0.0, depth: int = 2) -> nn.Sequential:
    hidden = [m for _ in range(depth) for m in (nn.Dropout(p), nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Dropout(p), nn.Linear(64, 10))


class FunctionalDropout(nn.Module):
    """Dropout by function, and too much of it."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.first(x.flatten(1))), self.p, self.training)
        x = F.dropout(F.relu(self.second(x)), self.p, self.training)
        out: Tensor = self.third(F.dropout(x, self.p, self.training))
        return out


def sgd(lr: float, **more: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda m: torch.optim.SGD(m.parameters(), lr=lr, **more)


def adam(lr: float, **more: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda m: torch.optim.Adam(m.parameters(), lr=lr, **more)


def dropout_in_modules() -> Pipeline:
    return of_digits(mlp(0.95, depth=3), adam(1e-3))


def dropout_by_function() -> Pipeline:
    return of_digits(FunctionalDropout(0.97), adam(1e-3))


def rate_too_high_for_adam() -> Pipeline:
    return of_digits(cnn(), adam(3.0))


def rate_too_high_for_sgd() -> Pipeline:
    return of_digits(mlp(depth=4), sgd(30.0, momentum=0.9))


def rate_too_low_for_adam() -> Pipeline:
    return of_digits(cnn(), adam(1e-7))


def rate_too_low_for_sgd() -> Pipeline:
    return of_digits(mlp(depth=4), sgd(1e-5))


def rate_too_high_under_a_schedule() -> Pipeline:
    pipeline = of_digits(mlp(depth=4), sgd(30.0, momentum=0.9), epochs=10)
    assert pipeline.optimizer is not None
    pipeline.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(pipeline.optimizer, T_max=10)
    return pipeline


def decay_too_strong_for_sgd() -> Pipeline:
    return of_digits(mlp(), sgd(0.1, weight_decay=2.0))


def decay_too_strong_for_adam() -> Pipeline:
    return of_digits(mlp(), adam(1e-3, weight_decay=5.0))


def labels_without_relation() -> Pipeline:
    x, y = digits_tensors()
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(3))]
    train = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=32, shuffle=True)
    return of_digits(cnn(True), loaders=(train, DataLoader(TensorDataset(x[1400:], y[1400:]), batch_size=64)))


def validation_labelled_differently() -> Pipeline:
    x, y = digits_tensors()
    other = (y[1400:] + 3) % 10
    return of_digits(cnn(True), loaders=(digits()[0], DataLoader(TensorDataset(x[1400:], other), batch_size=64)))


FAULTS: tuple[tuple[Callable[[], Pipeline], tuple[str, ...]], ...] = (
    (dropout_in_modules, ("dropout-too-strong",)),
    (dropout_by_function, ("dropout-too-strong",)),
    (rate_too_high_for_adam, ("learning-rate-too-high",)),
    (rate_too_high_for_sgd, ("learning-rate-too-high",)),
    (rate_too_high_under_a_schedule, ("learning-rate-too-high",)),
    (rate_too_low_for_adam, ("learning-rate-too-low",)),
    (rate_too_low_for_sgd, ("learning-rate-too-low",)),
    (decay_too_strong_for_sgd, ("weight-decay-too-strong",)),
    (decay_too_strong_for_adam, ("weight-decay-too-strong",)),
    (labels_without_relation, ("labels-unrelated-to-inputs",)),
    (validation_labelled_differently, ("label-map-differs-in-validation",)),
)
