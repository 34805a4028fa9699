"""Schedulers: the learning rate changes in the course of the training.

    diagnose train examples/04_schedulers.py:get_pipeline --only --out run-4
    diagnose train examples/04_schedulers.py:get_pipeline --only --out run-4b --scheduler plateau
    diagnose train examples/04_schedulers.py:get_pipeline --only --out run-4c --scheduler one-cycle

What it shows: half a cosine with a short warm-up, stepped after every batch; with --scheduler another takes its
place. What to look at: the column lr in history.csv, and `diagnose compare run-4 run-4c`. docs/training.md tells
which suits when.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline


def digits(first: int, last: int) -> TensorDataset:
    """Handwritten digits (1, 8, 8) from 0 to 1, with their classes."""
    bunch = load_digits()
    images = torch.tensor(bunch.images[first:last] / 16.0, dtype=torch.float32).unsqueeze(1)
    return TensorDataset(images, torch.tensor(bunch.target[first:last]))


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 16, 10),
    )  # fmt: skip


def get_pipeline() -> Pipeline:
    epochs, train = 5, DataLoader(digits(0, 1400), batch_size=32, shuffle=True)
    model = small_cnn()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    warmup, steps = 20, epochs * len(train)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=warmup),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup),
        ],
        [warmup],
    )
    return Pipeline(
        model=model,
        train=train,
        val=DataLoader(digits(1400, 1797), batch_size=64),
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=schedule,
        scheduler_interval="step",
        epochs=epochs,
    )
