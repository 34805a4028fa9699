"""Checkpoints: a training that was stopped goes on where it was, as if nothing had happened.

    diagnose train examples/03_checkpoint_and_resume.py:get_pipeline --only --out run-3 --epochs 2
    diagnose train examples/03_checkpoint_and_resume.py:get_pipeline --only --out run-3 --resume

What it shows: two epochs, then the other four. Kill it at any moment instead (Ctrl-C, or kill -9): --resume goes on
from the last checkpoint, in the middle of an epoch too. What to look at: run-3/history.csv is the same, to the last
digit, as that of one run over six epochs; shuffling and dropout are random, but their states are saved.
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
    model = small_cnn()
    return Pipeline(
        model=model,
        train=DataLoader(digits(0, 1400), batch_size=32, shuffle=True),
        val=DataLoader(digits(1400, 1797), batch_size=64),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        epochs=6,
    )
