"""Several labels at once from counts of words, SGD with Nesterov momentum."""

from __future__ import annotations

import torch
from sklearn.datasets import make_multilabel_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline


def get_model():
    return nn.Sequential(
        nn.BatchNorm1d(30),
        nn.Linear(30, 80),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(80, 80),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(80, 6),
    )


def get_loaders(batch_size=50):
    x, y = make_multilabel_classification(3000, 30, n_classes=6, n_labels=2, length=60, random_state=3)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    train = TensorDataset(x[:2400], y[:2400])
    val = TensorDataset(x[2400:], y[2400:])
    return DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(val, batch_size=200)


def build():
    model = get_model()
    train, val = get_loaders()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9),
        task="multilabel",
        epochs=12,
    )
