"""Several tags for one clip: a multi-label head over rows of features."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline

TAGS = ["drums", "piano", "vocals", "live", "fast"]


def clips(n=1500):
    rng = np.random.default_rng(6)
    X = rng.normal(0, 1, (n, 20)).astype(np.float32)
    W = rng.normal(0, 1, (20, len(TAGS)))
    score = X @ W + 0.8 * np.maximum(X[:, :5], 0) @ rng.normal(0, 1, (5, len(TAGS)))
    Y = (score + rng.normal(0, 1, score.shape) > 1.5).astype(np.float32)
    return X, Y


class Clips(Dataset):
    def __init__(self, X, Y):
        self.X = torch.from_numpy(X)
        self.Y = torch.from_numpy(Y)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return {"features": self.X[index], "labels": self.Y[index]}


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(20, 64)
        self.bn1 = nn.BatchNorm1d(64)
        self.fc2 = nn.Linear(64, 64)
        self.head = nn.Linear(64, len(TAGS))

    def forward(self, features):
        h = torch.relu(self.bn1(self.fc1(features)))
        h = torch.relu(self.fc2(h))
        return self.head(h)


criterion = nn.BCEWithLogitsLoss()


def compute_loss(model, batch):
    output = model(batch["features"])
    return criterion(output, batch["labels"]), output


def build():
    X, Y = clips()
    train_loader = DataLoader(Clips(X[:1200], Y[:1200]), batch_size=32, shuffle=True)
    val_loader = DataLoader(Clips(X[1200:], Y[1200:]), batch_size=50)
    model = Tagger()
    return Pipeline(
        model=model,
        train=train_loader,
        val=val_loader,
        compute_loss=compute_loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        task="multilabel",
        num_classes=len(TAGS),
        class_names=TAGS,
        epochs=10,
    )
