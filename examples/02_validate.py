"""Validation: figures of samples that the model was not trained on, after each epoch.

    diagnose train examples/02_validate.py:get_pipeline --only --out run-2

What it shows: few training samples and a long training; the training loss goes on falling while the validation loss
has long stopped. What to look at: run-2/history.csv and the gap between the curves in run-2/figures/curves.png; the
best epoch is kept in run-2/checkpoints/best_model.pth, whatever comes after it.
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
        train=DataLoader(digits(0, 200), batch_size=32, shuffle=True),
        val=DataLoader(digits(1400, 1797), batch_size=64),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        epochs=12,
    )
