"""Evaluation: what the trained model gets wrong, and how sure it is of it.

    diagnose train examples/06_evaluation.py:get_pipeline --only --out run-6
    diagnose evaluate examples/06_evaluation.py:get_pipeline --checkpoint run-6/checkpoints/best_model.pth --split test

What it shows: a third split that neither the training nor the choice of the best epoch has seen. What to look at:
the table of classes in its report (precision, recall and F1, in words too), the pairs that are confused most,
predictions.csv, and in its figures confusion_matrix.png, confidence_analysis.png (is it right as often as it is
sure?) and error_samples.png.
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
        train=DataLoader(digits(0, 1100), batch_size=32, shuffle=True),
        val=DataLoader(digits(1100, 1400), batch_size=64),
        test=DataLoader(digits(1400, 1797), batch_size=64),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        class_names=["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
        epochs=4,
    )
