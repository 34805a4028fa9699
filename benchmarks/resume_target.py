"""What ``benchmarks/resume.py`` trains: everything random that a training may hold, on the bundled digits."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline

EPOCHS, BATCH = 6, 32


class Digits(Dataset[tuple[Tensor, int]]):
    """``augmented``: noise of torch's, python's and a generator of its own. ``mark``: a file made when it is read."""

    def __init__(self, part: slice, *, augmented: bool, mark: str = "") -> None:
        bunch = load_digits()
        self.images = torch.tensor(bunch.images[part] / 16.0, dtype=torch.float32).unsqueeze(1)
        self.labels = bunch.target[part].tolist()
        self.augmented, self.mark = augmented, mark
        self.own = np.random.default_rng(5)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.mark:
            Path(self.mark).touch()
        image = self.images[index]
        if self.augmented:
            image = image + 0.1 * torch.randn_like(image) + 0.1 * random.random()
            if not torch.utils.data.get_worker_info():  # workers have copies of it that no checkpoint reaches
                image = image + 0.1 * float(self.own.standard_normal())
        return image, self.labels[index]


def get_pipeline() -> Pipeline:
    workers = int(os.environ.get("RESUME_WORKERS", "0"))
    train = Digits(slice(0, 1400), augmented=True)
    val = Digits(slice(1400, None), augmented=False, mark=os.environ.get("RESUME_MARK", ""))
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16 * 64, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    updates = math.ceil(math.ceil(len(train) / BATCH) / 2) * EPOCHS
    scheduler: Any = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=updates)
    return Pipeline(
        model,
        DataLoader(train, BATCH, shuffle=True, num_workers=workers),
        DataLoader(val, 64),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer,
        scheduler,
        "step",
        epochs=EPOCHS,
        accumulate=2,
        clip_grad_norm=1.0,
    )
