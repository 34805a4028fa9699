"""The first loop: a model, data, a loss and an optimizer are all that a training needs.

    diagnose train examples/01_train.py:get_pipeline --only --out run-1

What it shows: five epochs of handwritten digits. What to look at: the lines of epoch 1 and 5 (the loss falls, the
accuracy rises), and run-1/figures/curves.png. There is no validation split, so a fifth of the samples is held out,
and it says so.
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
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        epochs=5,
    )
