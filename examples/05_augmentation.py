"""Augmentation, with a data set of your own: each epoch sees every sample a little changed.

    diagnose train examples/05_augmentation.py:get_pipeline --out run-5

What it shows: a Dataset with __len__ and __getitem__, whose training copy shifts and turns the digits; validation
samples stay as they are. No flips: a mirrored 2 is no digit. What to look at:
run-5/figures/data_augmentation_demo.png (raw samples above augmented ones), and what augmentation costs per sample,
at the end of the report.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from diagnose import Pipeline


class Digits(Dataset[tuple[Tensor, int]]):
    """Handwritten digits (1, 8, 8) from 0 to 1, through ``transform`` where one is given."""

    def __init__(self, first: int, last: int, transform: v2.Transform | None = None) -> None:
        bunch = load_digits()
        self.images = torch.tensor(bunch.images[first:last] / 16.0, dtype=torch.float32).unsqueeze(1)
        self.labels = bunch.target[first:last].tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return (self.transform(image) if self.transform is not None else image), self.labels[index]


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 16, 10),
    )  # fmt: skip


def get_pipeline() -> Pipeline:
    model = small_cnn()
    changed = v2.Compose([v2.RandomCrop(8, padding=1), v2.RandomRotation(10)])
    return Pipeline(
        model=model,
        train=DataLoader(Digits(0, 1400, changed), batch_size=32, shuffle=True),
        val=DataLoader(Digits(1400, 1797), batch_size=64),
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        epochs=5,
    )
