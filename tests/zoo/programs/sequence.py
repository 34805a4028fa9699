"""Gestures from a wrist sensor: three axes over time and how the sensor is worn; an LSTM with clipped gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline

GESTURES = ("wave", "push", "pull", "circle left", "circle right", "shake")
STEPS, AXES = 24, 3


class Recordings(NamedTuple):
    """Signals (N, steps, axes) in thousandths of g, how the sensor is worn (N, 2) and the gesture."""

    signal: Tensor
    worn: Tensor
    gesture: Tensor


@cache
def recordings() -> Recordings:
    """1500 recordings of random phase, strength and speed; worn the other way round, two axes change sign."""
    g = torch.Generator().manual_seed(21)
    n = 1500
    gesture = torch.arange(n)[torch.randperm(n, generator=g)] % len(GESTURES)
    flipped = torch.randint(0, 2, (n,), generator=g)
    t = torch.linspace(0, 1, STEPS)
    phase = 0.8 * torch.rand(n, 1, generator=g)
    speed = 1.5 + 0.5 * torch.rand(n, 1, generator=g)
    wave = 2 * torch.pi * (speed * t + phase)
    bump = torch.exp(-(((t - 0.3 - 0.4 * torch.rand(n, 1, generator=g)) / 0.12) ** 2))
    still = torch.zeros(n, STEPS)
    shapes = torch.stack(
        [
            torch.stack([torch.sin(wave), still, still], -1),
            torch.stack([still, bump, still], -1),
            torch.stack([still, -bump, still], -1),
            torch.stack([torch.sin(wave), still, torch.cos(wave)], -1),
            torch.stack([torch.sin(wave), still, -torch.cos(wave)], -1),
            torch.stack([torch.sin(2.5 * wave), still, still], -1),
        ]
    )
    signal = shapes[gesture, torch.arange(n)] * (0.7 + 0.6 * torch.rand(n, 1, 1, generator=g))
    signal[:, :, :2] *= 1 - 2 * flipped.view(-1, 1, 1)
    signal = signal + 0.25 * torch.randn(n, STEPS, AXES, generator=g)
    gravity = torch.tensor([0.0, 0.0, 1.0])
    return Recordings(1000 * (0.5 * signal + gravity), F.one_hot(flipped, 2).float(), gesture)


def normalised(signal: Tensor) -> Tensor:
    """By the mean and deviation per axis of the training recordings."""
    known = recordings().signal[:1100]
    return (signal - known.mean((0, 1))) / known.std((0, 1))


class GestureNet(nn.Module):
    """An LSTM over the signal and how the sensor is worn; the mean of its states decides."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.rnn: nn.Module = nn.LSTM(AXES + 2, hidden, batch_first=True)
        self.classify = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, len(GESTURES)))

    def forward(self, signal: Tensor, worn: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.features(signal, worn))
        return logits

    def features(self, signal: Tensor, worn: Tensor) -> Tensor:
        steps = torch.cat([signal, worn.unsqueeze(1).expand(-1, signal.shape[1], -1)], dim=2)
        states, _ = self.rnn(steps)
        mean: Tensor = states.mean(1)
        return mean


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=6e-3)


def build(
    model: Callable[[], nn.Module] = GestureNet,
    prepare: Callable[[Tensor], Tensor] = normalised,
    prepare_val: Callable[[Tensor], Tensor] | None = None,
    select: Callable[[Recordings], Recordings] = lambda r: r,
    loss: Callable[..., Any] | None = None,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    **changes: Any,
) -> Pipeline:
    """1100 recordings for training, 400 for validation; batches of (signal, worn, gesture)."""
    known = recordings()
    train = select(Recordings(known.signal[:1100], known.worn[:1100], known.gesture[:1100]))
    val = Recordings(known.signal[1100:], known.worn[1100:], known.gesture[1100:])
    net = model()
    opt = optimizer(net)
    loader = {"batch_size": 32, "shuffle": True} | changes.pop("loader", {})
    fields: dict[str, Any] = {
        "train": DataLoader(TensorDataset(prepare(train.signal), train.worn, train.gesture), **loader),
        "val": DataLoader(TensorDataset((prepare_val or prepare)(val.signal), val.worn, val.gesture), batch_size=100),
        "loss": loss or nn.CrossEntropyLoss(),
        "optimizer": opt,
        "scheduler": scheduler(opt) if scheduler else None,
        "clip_grad_norm": 1.0,
        "task": "classification",
        "num_classes": len(GESTURES),
        "class_names": GESTURES,
        "epochs": 12,
    }
    return Pipeline(net, **(fields | changes))
